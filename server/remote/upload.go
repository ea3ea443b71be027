package remote

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"attachd/server/content"
)

// Uploads uploads files to one place.
type Uploads struct {
	client  *Client
	to      Place
	comment string
	me      caller

	mu    sync.Mutex
	known map[string]bool // ids of the uploaded attachments
}

// Uploads checks the key before anything is sent. The id of a comment may be empty.
func (c *Client) Uploads(ctx context.Context, to Place, comment string) (*Uploads, error) {
	me, err := c.me(ctx)
	if err != nil {
		return nil, err
	}
	return &Uploads{client: c, to: to, comment: comment, me: me, known: map[string]bool{}}, nil
}

// lookups is how often a list is read before an upload whose answer was lost counts as
// not made. The waits between them grow: almost 4 seconds in total.
const lookups = 4

// Upload sends the file at path under a name, with its SHA-256, which the server
// verifies. moved is called with the number of bytes sent; a negative number takes back
// those of an attempt that failed. Files are read twice and never held in memory.
//
// The file is sent again when the server cannot have received all of it, or said that
// it stored nothing. When all of it was sent and the answer was lost, the list of the
// place is searched: a new attachment by the same user with the same name and SHA-256
// is this upload. Only if it is not there after a few lookups is the file sent again.
func (u *Uploads) Upload(ctx context.Context, path, name string, moved func(bytes int64)) (Attachment, error) {
	f, err := os.Open(path)
	if err != nil {
		return Attachment{}, err
	}
	defer f.Close() // it is only read
	outgoing, err := u.prepare(f, name)
	if err != nil {
		return Attachment{}, err
	}
	for a := (attempts{client: u.client}); ; {
		made, sent, whole, err := u.post(ctx, outgoing, moved)
		if err == nil {
			u.claim(made.ID)
			return made, nil
		}
		for n := 1; ; n++ {
			if err := a.again(ctx, err); err != nil {
				return Attachment{}, after(err, sent, outgoing.size, whole)
			}
			if !whole || !unsure(err) {
				break
			}
			found, ok, looking := u.findLost(ctx, outgoing)
			if looking != nil {
				return Attachment{}, fmt.Errorf("it may have been uploaded: the answer was lost, and then %w", looking)
			}
			if ok {
				return found, nil
			}
			if n == lookups {
				break
			}
		}
	}
}

// after adds to the error of an interrupted upload what the server may have of it.
func after(err error, sent, size int64, whole bool) error {
	var lost *lostError
	switch {
	case whole && unsure(err):
		return fmt.Errorf("%w; it may have been uploaded all the same: look with attachd ls before you send it again", err)
	case errors.As(err, &lost) && sent > 0:
		return fmt.Errorf("%w with %d of %d bytes sent; the server keeps nothing of it: send it again", err, sent, size)
	}
	return err
}

// outgoing is a file to upload.
type outgoing struct {
	file   *os.File
	name   string
	size   int64
	digest [sha256.Size]byte
}

func (u *Uploads) prepare(f *os.File, name string) (outgoing, error) {
	info, err := f.Stat()
	if err != nil {
		return outgoing{}, err
	}
	if !info.Mode().IsRegular() {
		return outgoing{}, &fs.PathError{Op: "upload", Path: f.Name(), Err: errors.New("it is no regular file")}
	}
	hash := sha256.New()
	size, err := io.Copy(hash, f)
	if err != nil {
		return outgoing{}, err
	}
	return outgoing{f, name, size, [sha256.Size]byte(hash.Sum(nil))}, nil
}

// post sends a file once. After a failure it returns how many bytes of the file were
// sent, and whether the whole request may have been.
func (u *Uploads) post(ctx context.Context, o outgoing, moved func(int64)) (made Attachment, sent int64, whole bool, err error) {
	head, tail, boundary := u.form(o)
	body := &sending{moved: moved}
	body.Reader = io.MultiReader(strings.NewReader(head), &counted{unchanging(o), body}, strings.NewReader(tail))
	response, err := u.client.send(ctx, call{method: "POST", path: u.to.path(), body: body,
		length: int64(len(head)) + o.size + int64(len(tail)),
		header: http.Header{
			"Content-Type": {"multipart/form-data; boundary=" + boundary},
			"Repr-Digest":  {"sha-256=:" + base64.StdEncoding.EncodeToString(o.digest[:]) + ":"},
			// A refusal then comes before the body is sent.
			"Expect": {"100-continue"},
		}})
	if err == nil {
		err = readJSON(response, &made)
	}
	if err != nil {
		sent = body.takeBack()
	}
	return made, sent, body.ended.Load(), err
}

var inForm = strings.NewReplacer("\r", "%0D", "\n", "%0A", `"`, "%22") // WHATWG HTML, "Multipart form data"

// form returns the parts of the body before and after the bytes of a file.
func (u *Uploads) form(o outgoing) (head, tail, boundary string) {
	boundary = rand.Text()
	if u.comment != "" {
		head = "--" + boundary + "\r\nContent-Disposition: form-data; name=\"comment_id\"\r\n\r\n" + u.comment + "\r\n"
	}
	head += "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + inForm.Replace(o.name) + "\"" + exactly(o.name) + "\r\n" +
		"Content-Type: application/octet-stream\r\n\r\n"
	return head, "\r\n--" + boundary + "--\r\n", boundary
}

// exactly is the parameter filename* (RFC 8187), in which no part of a name can be
// taken for an escape. It can hold UTF-8 only.
func exactly(name string) string {
	if !utf8.ValidString(name) {
		return ""
	}
	return "; filename*=UTF-8''" + url.PathEscape(name)
}

// sending is the body of an upload, which counts the bytes sent.
type sending struct {
	io.Reader
	ended atomic.Bool // it was read to its end

	mu      sync.Mutex
	moved   func(int64)
	counted int64
}

func (s *sending) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err == io.EOF {
		s.ended.Store(true)
	}
	return n, err
}

func (s *sending) count(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counted += n
	s.moved(n)
}

// takeBack stops the counting, since net/http may still be reading, and returns what
// was counted.
func (s *sending) takeBack() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved(-s.counted)
	s.moved = func(int64) {}
	return s.counted
}

// counted is a reader of the file that counts its bytes.
type counted struct {
	io.Reader
	to *sending
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.to.count(int64(n))
	return n, err
}

// unchanging is a reader of a file that fails when the file has become shorter. Any
// other change is found by the server with the digest.
func unchanging(o outgoing) io.Reader {
	return &full{Reader: io.NewSectionReader(o.file, 0, o.size), left: o.size}
}

type full struct {
	io.Reader
	left int64
}

func (f *full) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	f.left -= int64(n)
	switch {
	case err == io.EOF && f.left > 0:
		err = &localError{errors.New("the file became shorter while it was sent")}
	case err != nil && err != io.EOF:
		err = &localError{err}
	}
	return n, err
}

// findLost searches for an upload whose answer was lost.
func (u *Uploads) findLost(ctx context.Context, o outgoing) (found Attachment, ok bool, err error) {
	name := o.name
	if !utf8.ValidString(name) {
		name = content.FormName(inForm.Replace(name))
	}
	name, err = content.CleanName(name) // as the server does
	if err != nil {
		return found, false, nil
	}
	var alike []Attachment
	err = u.client.List(ctx, u.to, "", func(a Attachment) error {
		if a.FileName == name && a.FileSize == o.size && a.UploadedBy.ID == u.me.ID && u.me.hasSeen(a.CreatedAt) {
			alike = append(alike, a)
		}
		return nil
	})
	if err != nil {
		return found, false, err
	}
	for _, a := range alike {
		about, err := u.client.Stat(ctx, u.to.attachment(a.ID))
		if err != nil {
			return found, false, err
		}
		if about.Digest == o.digest && u.claim(a.ID) {
			return a, true, nil
		}
	}
	return found, false, nil
}

// claim reports whether an attachment is not yet known to be another file of these
// uploads, and marks it as known.
func (u *Uploads) claim(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.known[id] {
		return false
	}
	u.known[id] = true
	return true
}
