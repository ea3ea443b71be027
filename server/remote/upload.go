package remote

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
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

	reading sync.Mutex
	present map[string][]Attachment // by name, once they were read
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

// Upload sends a file with its SHA-256, which the server
// verifies. moved is called with the number of bytes sent; a negative number takes back
// those of an attempt that failed. Files are read twice and never held in memory.
//
// The file is sent again when the server cannot have received all of it, or said that
// it stored nothing. When all of it was sent and the answer was lost, the list of the
// place is searched: a new attachment by the same user with the same name and SHA-256
// is this upload. Only if it is not there after a few lookups is the file sent again.
func (u *Uploads) Upload(ctx context.Context, o Outgoing, moved func(bytes int64)) (Attachment, error) {
	for a := (attempts{client: u.client}); ; {
		made, sent, whole, err := u.post(ctx, o, moved)
		if err == nil {
			u.claim(made.ID)
			return made, o.asked(made)
		}
		for n := 1; ; n++ {
			if err := a.again(ctx, err); err != nil {
				return Attachment{}, after(err, sent, o.Size, whole)
			}
			if !whole || !unsure(err) {
				break
			}
			found, ok, looking := u.findLost(ctx, o)
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

// Outgoing is a file to upload. Only a superadmin may say whose it is and since when.
type Outgoing struct {
	File       *os.File
	Name       string
	Size       int64 // bytes
	Digest     [sha256.Size]byte
	UploadedBy string    // the id of the user who uploaded it elsewhere; empty: the caller
	CreatedAt  time.Time // when it was uploaded elsewhere; zero: now
}

// ErrNotImported means that a server does not know how to import files: it took one as
// the caller's own.
var ErrNotImported = errors.New("the server is too old to import files of others: it took this one as your own, uploaded now")

// asked returns ErrNotImported if an attachment has not the origin that was asked for.
func (o Outgoing) asked(made Attachment) error {
	if o.UploadedBy != "" && made.UploadedBy.ID != o.UploadedBy || !o.CreatedAt.IsZero() && made.CreatedAt != o.createdAt() {
		return ErrNotImported
	}
	return nil
}

func (o Outgoing) createdAt() string {
	return o.CreatedAt.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// Prepare reads a file that is to be uploaded under a name.
func Prepare(f *os.File, name string) (Outgoing, error) {
	info, err := f.Stat()
	if err != nil {
		return Outgoing{}, err
	}
	if !info.Mode().IsRegular() {
		return Outgoing{}, &fs.PathError{Op: "upload", Path: f.Name(), Err: errors.New("it is no regular file")}
	}
	hash := sha256.New()
	size, err := io.Copy(hash, io.NewSectionReader(f, 0, math.MaxInt64))
	if err != nil {
		return Outgoing{}, err
	}
	return Outgoing{File: f, Name: name, Size: size, Digest: [sha256.Size]byte(hash.Sum(nil))}, nil
}

// post sends a file once. After a failure it returns how many bytes of the file were
// sent, and whether the whole request may have been.
func (u *Uploads) post(ctx context.Context, o Outgoing, moved func(int64)) (made Attachment, sent int64, whole bool, err error) {
	head, tail, boundary := u.form(o)
	body := &sending{moved: moved}
	body.Reader = io.MultiReader(strings.NewReader(head), &counted{unchanging(o), body}, strings.NewReader(tail))
	header := http.Header{
		"Content-Type": {"multipart/form-data; boundary=" + boundary},
		"Repr-Digest":  {"sha-256=:" + base64.StdEncoding.EncodeToString(o.Digest[:]) + ":"},
		// A refusal then comes before the body is sent.
		"Expect": {"100-continue"},
	}
	if o.UploadedBy != "" {
		header.Set("X-Uploaded-By", o.UploadedBy)
	}
	if !o.CreatedAt.IsZero() {
		header.Set("X-Created-At", o.CreatedAt.UTC().Format(time.RFC3339Nano))
	}
	response, err := u.client.send(ctx, call{method: "POST", path: u.to.path(), body: body,
		length: int64(len(head)) + o.Size + int64(len(tail)), header: header})
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
func (u *Uploads) form(o Outgoing) (head, tail, boundary string) {
	boundary = rand.Text()
	if u.comment != "" {
		head = "--" + boundary + "\r\nContent-Disposition: form-data; name=\"comment_id\"\r\n\r\n" + u.comment + "\r\n"
	}
	head += "--" + boundary + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + inForm.Replace(o.Name) + "\"" + exactly(o.Name) + "\r\n" +
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
func unchanging(o Outgoing) io.Reader {
	return &full{Reader: io.NewSectionReader(o.File, 0, o.Size), left: o.Size}
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
func (u *Uploads) findLost(ctx context.Context, o Outgoing) (found Attachment, ok bool, err error) {
	var all []Attachment
	err = u.client.List(ctx, u.to, "", func(a Attachment) error {
		if a.UploadedBy.ID == cmp.Or(o.UploadedBy, u.me.ID) && (!o.CreatedAt.IsZero() || u.me.hasSeen(a.CreatedAt)) {
			all = append(all, a)
		}
		return nil
	})
	if err != nil {
		return found, false, err
	}
	return u.find(ctx, o, all)
}

// Present returns an attachment that was in the place when it was first called, and has
// the name, the content and the origin of a file. It returns each one once only: a
// place may have several alike.
func (u *Uploads) Present(ctx context.Context, o Outgoing) (found Attachment, ok bool, err error) {
	u.reading.Lock()
	if u.present == nil {
		present := map[string][]Attachment{}
		err = u.client.List(ctx, u.to, "", func(a Attachment) error {
			present[a.FileName] = append(present[a.FileName], a)
			return nil
		})
		if err == nil {
			u.present = present
		}
	}
	u.reading.Unlock()
	if err != nil {
		return found, false, err
	}
	among := u.present[serverName(o.Name)]
	if o.CreatedAt.IsZero() { // the newest first: older ones may be files whose time is given
		among = slices.Clone(among)
		slices.Reverse(among)
	}
	return u.find(ctx, o, among)
}

// find returns one of these attachments with the name, the content and the origin of a
// file, and the comment of these uploads, that is not yet known to be another file of these uploads.
func (u *Uploads) find(ctx context.Context, o Outgoing, among []Attachment) (found Attachment, ok bool, err error) {
	name := serverName(o.Name)
	for _, a := range among {
		if a.FileName != name || a.FileSize != o.Size || o.asked(a) != nil || a.CommentID != u.comment || u.isKnown(a.ID) {
			continue
		}
		about, err := u.client.Stat(ctx, u.to.attachment(a.ID))
		if err != nil {
			return found, false, err
		}
		if about.Digest == o.Digest && u.claim(a.ID) {
			return a, true, nil
		}
	}
	return found, false, nil
}

// serverName returns the name that the server makes of that of a file, empty if it
// refuses it.
func serverName(name string) string {
	if !utf8.ValidString(name) {
		name = content.FormName(inForm.Replace(name))
	}
	name, err := content.CleanName(name)
	if err != nil {
		return ""
	}
	return name
}

func (u *Uploads) isKnown(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.known[id]
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
