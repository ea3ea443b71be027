//go:build unix

package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
)

// standIn stores files in memory, as a stand-in for a peer.
type standIn struct {
	mu      sync.Mutex
	files   map[string][]byte
	taken   int
	deleted int
	byURL   int                                    // downloads of what attachd has kept, by a signed URL
	right   func(name string, content []byte) bool // optional: which uploads are accepted
	spoil   bool                                   // delivers other bytes than were uploaded
	hide    bool                                   // leaves a file out of a list
}

// serveFile implements the requests for one file that all protocols have.
func (s *standIn) serveFile(w http.ResponseWriter, r *http.Request, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r.Method {
	case "PUT", "POST":
		content, err := io.ReadAll(r.Body)
		if err != nil || s.files[name] != nil || s.right != nil && !s.right(name, content) {
			http.Error(w, "it is there, did not come, or is not what it should be", http.StatusConflict)
			return
		}
		if s.spoil {
			content[0]++
		}
		s.files[name] = content
		s.taken++
		if s.taken%3 == 0 {
			w.Header().Set("Connection", "close")
		}
		w.WriteHeader(http.StatusCreated)
	case "DELETE":
		if s.files[name] == nil {
			http.NotFound(w, r)
			return
		}
		delete(s.files, name)
		s.deleted++
		w.WriteHeader(http.StatusNoContent)
	default:
		if s.files[name] == nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, name, time.Now(), bytes.NewReader(s.files[name]))
	}
}

func (s *standIn) serveList(w http.ResponseWriter, folder string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name := range s.files {
		if path.Dir(name) == path.Clean(folder) {
			names = append(names, path.Base(name))
		}
	}
	if s.hide {
		names = names[1:]
	}
	_ = json.NewEncoder(w).Encode(names)
}

func (s *standIn) webdav(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == "MKCOL" || r.Method == "PROPFIND":
		w.WriteHeader(http.StatusMethodNotAllowed)
	case strings.HasSuffix(r.URL.Path, "/"):
		s.serveList(w, r.URL.Path)
	default:
		s.serveFile(w, r, r.URL.Path)
	}
}

// webdavFound is a WebDAV server that can create and list folders.
func (s *standIn) webdavFound(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case "MKCOL":
		w.WriteHeader(http.StatusCreated)
	case "PROPFIND":
		w.WriteHeader(http.StatusMultiStatus)
		s.serveList(w, r.URL.Path)
	default:
		s.serveFile(w, r, r.URL.Path)
	}
}

func (s *standIn) filebrowser(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/login" {
		var login struct{ Username, Password string }
		if json.NewDecoder(r.Body).Decode(&login) != nil || login.Username != "user" || login.Password != "secret" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, "a.token.of-it")
		return
	}
	resource, isResource := strings.CutPrefix(r.URL.Path, "/api/resources/")
	raw, isRaw := strings.CutPrefix(r.URL.Path, "/api/raw/")
	switch {
	case r.Header.Get("X-Auth") != "a.token.of-it":
		w.WriteHeader(http.StatusUnauthorized)
	case isResource && r.Method == "GET":
		s.serveList(w, resource)
	case isResource:
		s.serveFile(w, r, resource)
	case isRaw && r.Method == "GET":
		s.serveFile(w, r, raw)
	default:
		http.NotFound(w, r)
	}
}

func (s *standIn) tusd(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Tus-Resumable") != "1.0.0" {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	name := path.Base(r.URL.Path)
	if r.Method == "POST" {
		if r.Header.Get("Upload-Length") != fmt.Sprint(r.ContentLength) || r.Header.Get("Content-Type") != "application/offset+octet-stream" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		name = rand.Text()
		w.Header().Set("Location", "http://elsewhere.example/files/"+name)
	}
	s.serveFile(w, r, name)
}

func (s *standIn) lfs(w http.ResponseWriter, r *http.Request) {
	oid := path.Base(r.URL.Path)
	if user, password, _ := r.BasicAuth(); user != "user" || password != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if oid != "batch" {
		if r.Header.Get("Accept") != "application/vnd.git-lfs" {
			w.WriteHeader(http.StatusNotAcceptable)
			return
		}
		s.serveFile(w, r, oid)
		return
	}
	var asked struct {
		Operation string
		Objects   []struct{ OID string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || len(asked.Objects) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	oid = asked.Objects[0].OID
	s.mu.Lock()
	there := s.files[oid] != nil
	s.mu.Unlock()
	actions := "{}"
	if there == (asked.Operation == "download") {
		actions = fmt.Sprintf(`{%q:{"href":"http://elsewhere.example/objects/%s","header":{"Accept":"application/vnd.git-lfs"}}}`, asked.Operation, oid)
	}
	fmt.Fprintf(w, `{"objects":[{"oid":%q,"actions":%s}]}`, oid, actions)
}

func (s *standIn) s3(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	switch {
	case strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=user/"): // attachd's
		s.serveFile(created{w}, r, r.URL.Path)
	case len(query.Get("X-Amz-Signature")) != 64 || !strings.HasPrefix(query.Get("X-Amz-Credential"), "user/"):
		w.WriteHeader(http.StatusForbidden)
	case r.URL.Path == "/bucket/" && r.Method == "PUT":
		w.WriteHeader(http.StatusConflict)
	case r.URL.Path == "/bucket/" && query.Get("list-type") == "2":
		s.serveList(w, "/bucket/"+query.Get("prefix"))
	default:
		if strings.Contains(r.URL.Path, "/blobs/") {
			s.mu.Lock()
			s.byURL++
			s.mu.Unlock()
		}
		s.serveFile(w, r, r.URL.Path)
	}
}

// created answers 200 to an upload, as object stores do, instead of 201.
type created struct{ http.ResponseWriter }

func (c created) WriteHeader(status int) {
	if status == http.StatusCreated {
		status = http.StatusOK
	}
	c.ResponseWriter.WriteHeader(status)
}

// serve runs a stand-in and returns the value of -peer for it.
func (s *standIn) serve(t *testing.T, name, path string, handler http.HandlerFunc) string {
	t.Helper()
	s.files = map[string][]byte{}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return name + "=http://user:secret@" + server.Listener.Addr().String() + path
}

func TestEveryProtocolIsSpoken(t *testing.T) {
	t.Parallel()
	standIns := make([]standIn, 6)
	standIns[4].right = func(name string, content []byte) bool { return fmt.Sprintf("%x", sha256.Sum256(content)) == name }
	args := []string{"-rounds", "1", "-time", "1ms", "-dir", t.TempDir(), "-attachd", built(),
		"-only", "upload 10 KB, 1 client|same 1 MB|download 10 KB, 16|list"}
	for _, arg := range []string{
		standIns[0].serve(t, "webdav", "/dav", standIns[0].webdav),
		standIns[1].serve(t, "webdav:found", "", standIns[1].webdavFound),
		standIns[2].serve(t, "filebrowser", "", standIns[2].filebrowser),
		standIns[3].serve(t, "tusd", "/files/", standIns[3].tusd),
		standIns[4].serve(t, "lfs", "", standIns[4].lfs),
		standIns[5].serve(t, "s3:versitygw", "/bucket", standIns[5].s3),
	} {
		args = append(args, "-peer", arg)
	}
	o, _, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	o.rest = 0
	var table, said bytes.Buffer
	if err := run(o, &table, &said); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	const able = ` [\d.]+ (?:MB)?/s \([\d.]+\) \|`
	for _, row := range []string{
		`\| rate, .* \| attachd \| webdav \| found \| filebrowser \| tusd \| lfs \| versitygw \|`,
		`\| upload 10 KB, 1 client \| [\d.]+ /s \|(?:` + able + `){6}`,
		`\| upload the same 1 MB, 8 clients \| [\d.]+ MB/s \|(?:` + able + `){4} — \|` + able,
		`\| download 10 KB, 16 clients \| [\d.]+ /s \|(?:` + able + `){6}`,
		`\| list 100, 8 clients \| [\d.]+ /s \|(?:` + able + `){3} — \| — \|` + able,
	} {
		if !regexp.MustCompile(`(?m)^` + row + `$`).Match(table.Bytes()) {
			t.Errorf("the table has no row like %s:\n%s", row, &table)
		}
	}
	for i := range standIns {
		if lfs := i == 4; (standIns[i].deleted > 0) == lfs {
			t.Errorf("of stand-in %d, %d files were deleted", i, standIns[i].deleted)
		}
	}
}

func TestAPeerThatAnswersWronglyFailsTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		peer *standIn
		only string
		says string
	}{
		{&standIn{spoil: true}, "upload 10 KB, 1 client", "other bytes"},
		{&standIn{hide: true}, "list", "a list does not have"},
	} {
		p, err := parsePeer(c.peer.serve(t, "webdav", "", c.peer.webdav))
		if err != nil {
			t.Fatal(err)
		}
		s, err := newPeer(p)
		if err != nil {
			t.Fatal(err)
		}
		o := brief(t)
		o.only = regexp.MustCompile(c.only)
		if _, err := workloads(o)[0].run(s, o); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.only, err)
		}
	}
}

func TestAPeerIsNamedWithItsProtocol(t *testing.T) {
	t.Parallel()
	p, err := parsePeer("s3:store=http://key:secret@127.0.0.1:7070/bucket?region=here")
	if err != nil || p.protocol != "s3" || p.name != "store" || p.url.Query().Get("region") != "here" {
		t.Errorf("%+v, %v", p, err)
	}
	for arg, says := range map[string]string{
		"http://127.0.0.1:80":         "a peer is",
		"ftp=http://127.0.0.1:80":     `protocol "ftp" is not known, but filebrowser, lfs, s3, tusd, webdav`,
		"webdav=https://127.0.0.1:80": "begins with http://",
		"webdav=http://127.0.0.1":     "has a port",
	} {
		if _, err := parsePeer(arg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

// The example is from the documentation of Signature Version 4.
func TestAnS3RequestIsSignedAsTheProtocolSays(t *testing.T) {
	t.Parallel()
	s := s3{site: site{host: "examplebucket.s3.amazonaws.com"}, access: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		region: "us-east-1", date: "20130524T000000Z", expires: "86400"}
	signed, err := url.Parse(s.sign("GET", "/test.txt", nil))
	if err != nil {
		t.Fatal(err)
	}
	const want = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	if got := signed.Query().Get("X-Amz-Signature"); got != want {
		t.Errorf("the signature is %s, not %s", got, want)
	}
}

func TestAnS3UploadIsSignedAsAnotherClientDoes(t *testing.T) {
	t.Parallel()
	digest := sha256.Sum256([]byte("content"))
	there, err := http.NewRequest("PUT", "http://127.0.0.1:7070/bucket/a%20b", nil)
	if err != nil {
		t.Fatal(err)
	}
	there.Header.Set("X-Amz-Content-Sha256", hex.EncodeToString(digest[:]))
	there.Header.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(digest[:]))
	there = signer.SignV4(*there, "user", "password", "", "here")
	at, err := time.Parse(amzDate, there.Header.Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	s := s3{site: site{host: "127.0.0.1:7070"}, access: "user", secret: "password", region: "here"}
	signature := regexp.MustCompile("Signature=[0-9a-f]{64}")
	got, want := signature.FindString(s.signed("PUT", "/bucket/a%20b", digest, at)), signature.FindString(there.Header.Get("Authorization"))
	if got == "" || got != want {
		t.Errorf("signed with %q, not %q", got, want)
	}
}

func TestTheProcessOfAPeerIsFound(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says which process listens")
	}
	server := httptest.NewServer(nil)
	defer server.Close()
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	pids, err := listening(port)
	if err != nil || !slices.Contains(pids, os.Getpid()) {
		t.Errorf("%v, which are not %d: %v", pids, os.Getpid(), err)
	}
}
