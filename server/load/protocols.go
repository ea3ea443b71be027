//go:build unix

package main

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
)

// protocol is how one kind of server stores and delivers files. It returns
// errors.ErrUnsupported for a request that the server does not have.
type protocol interface {
	// put uploads u as a new file, whose name is id.
	put(c *client, u *upload) (id string, err error)
	// get returns the request for the content of a file.
	get(c *client, id string) (request []byte, err error)
	// list returns the request for a list of a folder, which contains the last part
	// of each file's id.
	list(c *client, folder string) (request []byte, err error)
	// remove returns the request to delete a file.
	remove(id string) (request []byte, err error)
}

// attachd is the protocol of attachd: a folder is a product, an id an attachment's.
type attachd struct{ key string }

const frontier = "------------------------d74496d66958873e"

// put sends the form that curl sends.
func (a attachd) put(c *client, u *upload) (id string, err error) {
	if u.before == nil {
		form := fmt.Sprintf("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"quarterly report.pdf\"\r\nContent-Type: application/pdf\r\n\r\n", frontier)
		u.after = fmt.Appendf(nil, "\r\n--%s--\r\n", frontier)
		u.before = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nAuthorization: Bearer %s\r\n"+
			"Content-Length: %d\r\nContent-Type: multipart/form-data; boundary=%s\r\n\r\n%s",
			attachmentsOf(u.folder), a.key, len(form)+len(u.content)+len(u.after), frontier, form)
	}
	answer, err := c.expect(201, u.before, u.content, u.after)
	if err != nil {
		return "", fmt.Errorf("uploading: %w", err)
	}
	var body struct {
		ID   uuid.UUID `json:"id"`
		Size int       `json:"file_size"`
		Type string    `json:"mime_type"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		return "", fmt.Errorf("uploading: %w", err)
	}
	if body.Size != len(u.content) || body.Type != "application/pdf" {
		return "", fmt.Errorf("an upload answered %s", answer)
	}
	return body.ID.String(), nil
}

func (a attachd) get(_ *client, id string) ([]byte, error) {
	return bytes.Replace(request("GET", "/catalog/attachments/"+id+"/download", a.key), []byte("Accept: */*"), []byte(acceptBytes), 1), nil
}

// acceptBytes asks for a file rather than for a URL, also where it is in a bucket.
const acceptBytes = "Accept: application/octet-stream"

func (a attachd) list(_ *client, folder string) ([]byte, error) {
	return request("GET", attachmentsOf(folder), a.key), nil
}

func (a attachd) remove(id string) ([]byte, error) {
	return request("DELETE", "/catalog/attachments/"+id, a.key), nil
}

// attachmentsOf is the path to which the files of a folder are uploaded, a product of the
// space "load" or "SPACE/PRODUCT"; the first upload creates it.
func attachmentsOf(folder string) string {
	space, product, named := strings.Cut(folder, "/")
	if !named {
		space, product = "load", folder
	}
	return "/catalog/spaces/" + space + "/products/" + product + "/attachments"
}

// site is the address of a peer, and the headers of each request to it.
type site struct {
	host, path string // the path ends with a slash
	headers    string
}

// newSite returns the site of u, whose user and password, if any, are sent with
// each request.
func newSite(u *url.URL) site {
	s := site{host: u.Host, path: strings.TrimSuffix(u.EscapedPath(), "/") + "/"}
	if u.User != nil {
		password, _ := u.User.Password()
		s.headers = "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)) + "\r\n"
	}
	return s
}

// head returns the head of a request with a body of size bytes.
func (s site) head(method, target string, size int, headers string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n%s%sContent-Length: %d\r\n\r\n",
		method, target, s.host, s.headers, headers, size)
}

// request returns a request without a body.
func (s site) request(method, target string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n%s\r\n", method, target, s.host, s.headers)
}

// webdav is the protocol of servers that accept PUT, such as nginx. Where there is
// no PROPFIND, a folder is listed with GET.
type webdav struct{ site }

// newWebdav creates the folders, if the server requires that.
func newWebdav(c *client, u *url.URL, folders ...string) (protocol, error) {
	w := webdav{newSite(u)}
	for _, folder := range folders {
		if _, _, err := c.do(nil, w.head("MKCOL", w.path+folder+"/", 0, "")); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w webdav) put(c *client, u *upload) (id string, err error) {
	id = u.name()
	_, err = c.succeed(w.head("PUT", w.path+id, len(u.content), "Content-Type: application/pdf\r\n"), u.content)
	return id, err
}

func (w webdav) get(_ *client, id string) ([]byte, error) { return w.request("GET", w.path+id), nil }

func (w webdav) list(c *client, folder string) ([]byte, error) {
	find := w.head("PROPFIND", w.path+folder+"/", 0, "Depth: 1\r\n")
	if status, _, err := c.do(nil, find); err != nil || status == 207 {
		return find, err
	}
	get := w.request("GET", w.path+folder+"/")
	status, _, err := c.do(nil, get)
	if err == nil && status != 200 {
		err = fmt.Errorf("a folder answered %d: %w", status, errors.ErrUnsupported)
	}
	return get, err
}

func (w webdav) remove(id string) ([]byte, error) { return w.request("DELETE", w.path+id), nil }

// filebrowser is the protocol of File Browser.
type filebrowser struct{ site }

// newFilebrowser logs in; the session is valid for two hours.
func newFilebrowser(c *client, u *url.URL, _ ...string) (protocol, error) {
	f := filebrowser{newSite(u)}
	password, _ := u.User.Password()
	login, err := json.Marshal(map[string]string{"username": u.User.Username(), "password": password})
	if err != nil {
		return nil, err
	}
	f.headers = ""
	token, err := c.succeed(f.head("POST", f.path+"api/login", len(login), ""), login)
	f.headers = fmt.Sprintf("X-Auth: %s\r\n", token)
	return f, err
}

func (f filebrowser) put(c *client, u *upload) (id string, err error) {
	id = u.name()
	_, err = c.succeed(f.head("POST", f.path+"api/resources/"+id, len(u.content), "Content-Type: application/pdf\r\n"), u.content)
	return id, err
}

func (f filebrowser) get(_ *client, id string) ([]byte, error) {
	return f.request("GET", f.path+"api/raw/"+id), nil
}

func (f filebrowser) list(_ *client, folder string) ([]byte, error) {
	return f.request("GET", f.path+"api/resources/"+folder+"/"), nil
}

func (f filebrowser) remove(id string) ([]byte, error) {
	return f.request("DELETE", f.path+"api/resources/"+id), nil
}

// tusd is the protocol of tusd, with creation and upload in one request.
type tusd struct{ site }

func newTusd(_ *client, u *url.URL, _ ...string) (protocol, error) {
	t := tusd{newSite(u)}
	t.headers += "Tus-Resumable: 1.0.0\r\n"
	return t, nil
}

func (t tusd) put(c *client, u *upload) (id string, err error) {
	headers := fmt.Sprintf("Content-Type: application/offset+octet-stream\r\nUpload-Length: %d\r\n", len(u.content))
	if _, err := c.succeed(t.head("POST", t.path, len(u.content), headers), u.content); err != nil {
		return "", err
	}
	return pathOf(c.location)
}

func (t tusd) get(_ *client, id string) ([]byte, error) { return t.request("GET", id), nil }

func (t tusd) list(*client, string) ([]byte, error) { return nil, errors.ErrUnsupported }

func (t tusd) remove(id string) ([]byte, error) { return t.request("DELETE", id), nil }

// pathOf returns the path and query of an address. Its host may be another name of
// the peer, or a wrong one.
func pathOf(address string) (string, error) {
	u, err := url.Parse(address)
	if err == nil && u.Path == "" {
		err = fmt.Errorf("%q has no path", address)
	}
	if err != nil {
		return "", fmt.Errorf("the answer says where the file is: %w", err)
	}
	return u.RequestURI(), nil
}

// lfs is the protocol of Git LFS. An upload is a batch of one object and the
// object; a content that the server has is not sent again.
type lfs struct{ site }

func newLFS(_ *client, u *url.URL, _ ...string) (protocol, error) { return lfs{newSite(u)}, nil }

const lfsType = "application/vnd.git-lfs+json"

// lfsAction is how an object is to be uploaded or downloaded.
type lfsAction struct {
	Href   string            `json:"href"`
	Header map[string]string `json:"header"`
}

// batch requests how an object is to be uploaded or downloaded; nil means not at
// all. An id is its hash and its size.
func (l lfs) batch(c *client, operation, id string) (*lfsAction, error) {
	oid, size, _ := strings.Cut(id, "/")
	body := fmt.Appendf(nil, `{"operation":%q,"transfers":["basic"],"objects":[{"oid":%q,"size":%s}]}`, operation, oid, size)
	head := fmt.Appendf(nil, "POST %sobjects/batch HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: %s\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n",
		l.path, l.host, lfsType, lfsType, l.headers, len(body))
	answer, err := c.succeed(head, body)
	if err != nil {
		return nil, err
	}
	var found struct {
		Objects []struct {
			Actions map[string]*lfsAction `json:"actions"`
			Error   json.RawMessage       `json:"error"`
		} `json:"objects"`
	}
	if err := json.Unmarshal(answer, &found); err != nil {
		return nil, err
	}
	if len(found.Objects) != 1 || found.Objects[0].Error != nil {
		return nil, fmt.Errorf("a batch answered %s", answer)
	}
	return found.Objects[0].Actions[operation], nil
}

// follow returns the head of the request that an action describes.
func (l lfs) follow(method string, a *lfsAction, size int) ([]byte, error) {
	target, err := pathOf(a.Href)
	if err != nil {
		return nil, err
	}
	head := fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\n", method, target, l.host)
	if a.Header["Authorization"] == "" {
		head = append(head, l.headers...)
	}
	for name, value := range a.Header {
		head = fmt.Appendf(head, "%s: %s\r\n", name, value)
	}
	if method == "PUT" {
		head = fmt.Appendf(head, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", size)
	}
	return append(head, "\r\n"...), nil
}

func (l lfs) put(c *client, u *upload) (id string, err error) {
	id = fmt.Sprintf("%x/%d", u.sum(), len(u.content))
	action, err := l.batch(c, "upload", id)
	if err != nil {
		return "", err
	}
	if action == nil {
		return "", fmt.Errorf("a content that the server has is not sent: %w", errors.ErrUnsupported)
	}
	head, err := l.follow("PUT", action, len(u.content))
	if err != nil {
		return "", err
	}
	_, err = c.succeed(head, u.content)
	return id, err
}

func (l lfs) get(c *client, id string) ([]byte, error) {
	action, err := l.batch(c, "download", id)
	if err != nil {
		return nil, err
	}
	if action == nil {
		return nil, fmt.Errorf("the server does not say how to download %s", id)
	}
	return l.follow("GET", action, 0)
}

func (l lfs) list(*client, string) ([]byte, error) { return nil, errors.ErrUnsupported }

func (l lfs) remove(string) ([]byte, error) { return nil, errors.ErrUnsupported }

// s3 is the protocol of S3. Requests are presigned, for a week, but for uploads: these
// carry the SHA-256 of the body as attachd and other clients send it, so that the store
// checks it.
type s3 struct {
	site
	access, secret, region string
	date                   string // of presigned requests
	expires                string // seconds
}

const amzDate = "20060102T150405Z" // of Signature Version 4

// newS3 takes the bucket from the path of u, and creates it if it does not exist.
func newS3(c *client, u *url.URL, _ ...string) (protocol, error) {
	secret, _ := u.User.Password()
	s := s3{site: newSite(u), access: u.User.Username(), secret: secret, region: cmp.Or(u.Query().Get("region"), "us-east-1"),
		date: time.Now().UTC().Format(amzDate), expires: "604800"}
	s.headers = ""
	if s.path == "/" || strings.Count(s.path, "/") != 2 {
		return nil, errors.New("the path of the address must be that of a bucket")
	}
	var said bytes.Buffer
	status, _, err := c.do(&said, s.head("PUT", s.sign("PUT", s.path, nil), 0, ""))
	if err == nil && status != 200 && status != 409 { // 409: it exists
		err = fmt.Errorf("making the bucket answered %d: %s", status, &said)
	}
	return s, err
}

// s3Key derives the key that signs in a scope from a secret.
func s3Key(secret, scope string) []byte {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}

// sign returns the target of a presigned request.
func (s s3) sign(method, target string, query url.Values) string {
	all := url.Values{"X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {s.access + "/" + s.scope()}, "X-Amz-Date": {s.date},
		"X-Amz-Expires": {s.expires}, "X-Amz-SignedHeaders": {"host"}}
	for name, values := range query {
		all[name] = values
	}
	encoded := all.Encode()
	signature := s.signature(fmt.Sprintf("%s\n%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD", method, target, encoded, s.host))
	return fmt.Sprintf("%s?%s&X-Amz-Signature=%s", target, encoded, signature)
}

// scope is what the key of a signature is good for.
func (s s3) scope() string { return s.date[:len("20060102")] + "/" + s.region + "/s3/aws4_request" }

// signature signs a request in its canonical form.
func (s s3) signature(canonical string) string {
	asked := sha256.Sum256([]byte(canonical))
	return hex.EncodeToString(mac(s3Key(s.secret, s.scope()), fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", s.date, s.scope(), asked)))
}

func (s s3) put(c *client, u *upload) (id string, err error) {
	id = u.name()
	_, err = c.succeed(s.head("PUT", s.path+id, len(u.content), s.signed("PUT", s.path+id, u.sum(), time.Now())+"Content-Type: application/pdf\r\n"), u.content)
	return id, err
}

// signed returns the headers that sign a request with the digest of its body, for some
// minutes from at on.
func (s s3) signed(method, target string, digest [sha256.Size]byte, at time.Time) string {
	const names = "host;x-amz-checksum-sha256;x-amz-content-sha256;x-amz-date"
	s.date = at.UTC().Format(amzDate)
	checksum := base64.StdEncoding.EncodeToString(digest[:])
	signature := s.signature(fmt.Sprintf("%s\n%s\n\nhost:%s\nx-amz-checksum-sha256:%s\nx-amz-content-sha256:%x\nx-amz-date:%s\n\n%s\n%[5]x",
		method, target, s.host, checksum, digest, s.date, names))
	return fmt.Sprintf("Authorization: AWS4-HMAC-SHA256 Credential=%s,SignedHeaders=%s,Signature=%s\r\nX-Amz-Checksum-Sha256: %s\r\nX-Amz-Content-Sha256: %x\r\nX-Amz-Date: %s\r\n",
		s.access+"/"+s.scope(), names, signature, checksum, digest, s.date)
}

func (s s3) get(_ *client, id string) ([]byte, error) {
	return s.request("GET", s.sign("GET", s.path+id, nil)), nil
}

func (s s3) list(_ *client, folder string) ([]byte, error) {
	return s.request("GET", s.sign("GET", s.path, url.Values{"list-type": {"2"}, "prefix": {folder + "/"}})), nil
}

func (s s3) remove(id string) ([]byte, error) {
	return s.request("DELETE", s.sign("DELETE", s.path+id, nil)), nil
}
