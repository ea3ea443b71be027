//go:build unix

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

const (
	megabyte = 1 << 20
	small    = 10 << 10
	medium   = 64 << 10
	big      = 1 << 20
	large    = 50 << 20
	listRows = 100
	listSize = 27_000 // bytes of a list of so many rows, about
)

// subject is an attachd that is measured: two processes, since one setting
// cannot be changed while one runs.
type subject struct {
	binary   string
	verified *instance
	trusting *instance // downloads.verify = false
	made     atomic.Uint64
}

// instance is one of them, with a data directory of its own.
type instance struct {
	*process
	dir, key string
	files    map[int][]file // what is stored to be downloaded, by size
	list     []byte         // a request for a list of listRows
}

// Where uploads go; the first makes it.
const target = "/catalog/spaces/load/products/550e8400-e29b-41d4-a716-446655440000/attachments"

func newSubject(binary, dir string) (s *subject, err error) {
	s = &subject{binary: binary}
	if s.verified, err = serve(binary, dir); err != nil {
		return nil, err
	}
	if s.trusting, err = serve(binary, dir+"-trusting", "ATTACHD_DOWNLOADS_VERIFY=false"); err != nil {
		return nil, errors.Join(err, s.verified.stop())
	}
	return s, nil
}

func (s *subject) close() error { return errors.Join(s.verified.stop(), s.trusting.stop()) }

// serve runs attachd over dir, which it makes, as it is configured by default.
func serve(binary, dir string, env ...string) (*instance, error) {
	cmd := exec.Command(binary, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	cmd.Env = append(append(os.Environ(), "ATTACHD_DIRECTORY_AUTO_CREATE=true", "LOAD_PROFILE="+profileFile(dir)), env...)
	p, err := start(cmd, dir+".log")
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return &instance{process: p, dir: dir, key: strings.TrimSpace(string(key)), files: map[int][]file{}}, nil
}

// blob is where the content of f is stored.
func (in *instance) blob(f file) string {
	name := hex.EncodeToString(f.sum[:])
	return filepath.Join(in.dir, "blobs", "sha256", name[:2], name)
}

const frontier = "------------------------d74496d66958873e"

// upload is a request that uploads a file as curl does, made up front. What
// distinguishes one content from the next is stamped into it.
type upload struct {
	request []byte
	content []byte // the part of request that is the file
}

// newUpload makes one of a PDF, as far as one can tell from its start, of
// random bytes.
func (s *subject) newUpload(in *instance, path string, size int) *upload {
	var form bytes.Buffer
	fmt.Fprintf(&form, "--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"quarterly report.pdf\"\r\nContent-Type: application/pdf\r\n\r\n", frontier)
	before := form.Len()
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte(binary.BigEndian.AppendUint64(make([]byte, 24), s.made.Add(1))))
	_, _ = source.Read(content) // never fails
	copy(content, "%PDF-1.7\n")
	form.Write(content)
	fmt.Fprintf(&form, "\r\n--%s--\r\n", frontier)
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: %d\r\nContent-Type: multipart/form-data; boundary=%s\r\n\r\n", path, in.key, form.Len(), frontier)
	request := append([]byte(head), form.Bytes()...)
	at := len(head) + before
	return &upload{request: request, content: request[at : at+size]}
}

// stamp makes it another content than any before.
func (u *upload) stamp(s *subject) {
	binary.BigEndian.PutUint64(u.content[16:], s.made.Add(1))
}

// send uploads and gives what then can be downloaded.
func (u *upload) send(c *client, in *instance) (f file, id string, err error) {
	answer, err := c.expect(201, u.request)
	if err != nil {
		return f, "", fmt.Errorf("uploading: %w", err)
	}
	var body struct {
		ID   uuid.UUID `json:"id"`
		Size int       `json:"file_size"`
		Type string    `json:"mime_type"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		return f, "", fmt.Errorf("uploading: %w", err)
	}
	if body.Size != len(u.content) || body.Type != "application/pdf" {
		return f, "", fmt.Errorf("an upload answered %s", answer)
	}
	id = body.ID.String()
	return file{request: request("GET", "/catalog/attachments/"+id+"/download", in.key), size: int64(body.Size)}, id, nil
}

// store uploads n contents of a size, many at a time.
func (s *subject) store(in *instance, path string, size, n int) (files []file, ids []string, err error) {
	var (
		mu      sync.Mutex
		workers = min(n, 16)
	)
	_, err = drive(workers, 0, (n+workers-1)/workers*workers, func(int) (worker, error) {
		c, err := dial(in.address)
		if err != nil {
			return worker{}, err
		}
		u := s.newUpload(in, path, size)
		return worker{close: c.close, step: func() error {
			u.stamp(s)
			f, id, err := u.send(c, in)
			f.sum = sha256.Sum256(u.content)
			mu.Lock()
			defer mu.Unlock()
			files, ids = append(files, f), append(ids, id)
			return err
		}}, nil
	})
	return files, ids, err
}

// stored gives contents of a size that are there to be downloaded.
func (s *subject) stored(in *instance, size int) ([]file, error) {
	if in.files[size] == nil {
		files, _, err := s.store(in, target, size, max(1, min(256, 4*megabyte/size)))
		if err != nil {
			return nil, err
		}
		in.files[size] = files
	}
	return in.files[size], nil
}

// listed gives a request for a list of listRows attachments.
func (s *subject) listed(in *instance) ([]byte, error) {
	if in.list != nil {
		return in.list, nil
	}
	path := "/catalog/spaces/load/products/" + uuid.NewString() + "/attachments"
	_, ids, err := s.store(in, path, 1<<10, 1)
	if err != nil {
		return nil, err
	}
	// One content for them all: a list does not look at contents.
	c, err := dial(in.address)
	if err != nil {
		return nil, err
	}
	u := s.newUpload(in, path, 1<<10)
	for range listRows - len(ids) {
		if _, _, err := u.send(c, in); err != nil {
			return nil, errors.Join(err, c.close())
		}
	}
	in.list = request("GET", path, in.key)
	return in.list, c.close()
}

// checkList says whether a list is one of listRows different attachments.
func checkList(raw []byte) error {
	var rows []struct {
		ID uuid.UUID `json:"id"`
	}
	if err := json.Unmarshal(raw, &rows); err != nil {
		return fmt.Errorf("a list: %w", err)
	}
	ids := map[uuid.UUID]bool{}
	for _, row := range rows {
		ids[row.ID] = true
	}
	if len(ids) != listRows || len(rows) != listRows {
		return fmt.Errorf("a list has %d rows with %d ids, not %d", len(rows), len(ids), listRows)
	}
	return nil
}
