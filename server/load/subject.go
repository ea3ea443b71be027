//go:build unix

package main

import (
	"bytes"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
)

const (
	megabyte = 1 << 20
	small    = 10 << 10
	medium   = 64 << 10
	big      = 1 << 20
	large    = 50 << 20
	listRows = 100
	listSize = 27_000 // approximate bytes of a list of listRows rows
)

// subject is what is measured: an attachd, which is two processes, since one
// setting cannot be changed at run time, or a peer.
type subject struct {
	name               string    // for people
	verified, trusting *instance // trusting has downloads.verify = false; for a peer they are the same
	peer               bool
}

// instance is a running server and what is stored in it.
type instance struct {
	*process
	protocol
	binary, dir, key   string         // of attachd, with a separate data directory
	drop               func() error   // drops its database; nil: it has none
	folder, listFolder string         // where files are uploaded
	files              map[int][]file // stored files to be downloaded, by size
	listing            *listing
}

// listing is a request for a list of listRows files.
type listing struct {
	request []byte
	least   int64 // minimum size of the answer, in bytes
	check   func(answer []byte) error
}

func newSubject(binary, dir string, postgres *url.URL, env ...string) (s *subject, err error) {
	s = &subject{name: filepath.Base(binary)}
	if s.verified, err = serveOver(postgres, binary, dir, env...); err != nil {
		return nil, err
	}
	if s.trusting, err = serveOver(postgres, binary, dir+"-trusting", append(env, "ATTACHD_DOWNLOADS_VERIFY=false")...); err != nil {
		return nil, errors.Join(err, s.verified.stop())
	}
	return s, nil
}

func (s *subject) close() error { return errors.Join(s.verified.stop(), s.trusting.stop()) }

func newInstance(p *process) *instance {
	return &instance{process: p, folder: uuid.NewString(), listFolder: uuid.NewString(), files: map[int][]file{}}
}

// serveOver is serve with the metadata in a new database, if a server for it is given.
func serveOver(postgres *url.URL, binary, dir string, env ...string) (*instance, error) {
	if postgres == nil {
		return serve(binary, dir, env...)
	}
	dsn, drop, err := createDatabase(postgres)
	if err != nil {
		return nil, err
	}
	in, err := serve(binary, dir, slices.Concat(env, inPostgres(dsn))...)
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	in.drop = drop
	return in, nil
}

// stop ends the server, and drops its database.
func (in *instance) stop() error {
	err := in.process.stop()
	if in.drop != nil {
		err = errors.Join(err, in.drop())
	}
	return err
}

// serve runs attachd over dir, which it creates, with the default configuration and that of
// an environment; in a bucket, its prefix is its own.
func serve(binary, dir string, env ...string) (*instance, error) {
	cmd := exec.Command(binary, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	cmd.Env = append(append(os.Environ(), "ATTACHD_DIRECTORY_AUTO_CREATE=true", "LOAD_PROFILE="+profileFile(dir), "ATTACHD_STORAGE_S3_PREFIX="+uuid.NewString()), env...)
	p, err := start(cmd, dir+".log")
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	in := newInstance(p)
	in.binary, in.dir, in.key = binary, dir, strings.TrimSpace(string(key))
	in.protocol = attachd{in.key}
	return in, nil
}

// blob is the path at which the content of f is stored.
func (in *instance) blob(f file) string {
	name := hex.EncodeToString(f.sum[:])
	return filepath.Join(in.dir, "blobs", "sha256", name[:2], name)
}

// upload is a content and its destination, for one client to upload repeatedly. Its
// last bytes make it differ from those before, so that its hash is known without
// hashing all of it.
type upload struct {
	folder        string
	content       []byte
	stamped       uint64      // number of contents made so far
	named         int         // number of names made so far
	start         hash.Cloner // the hash of all but the stamp
	before, after []byte      // the constant parts of its request
}

const (
	magic     = "%PDF-1.7\n"
	stampSize = 8 // bytes
)

// newUpload returns an upload of random bytes that begin like a PDF.
func newUpload(folder string, size int) *upload {
	u := &upload{folder: folder, content: make([]byte, size)}
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // never fails
	_, _ = rand.NewChaCha8(seed).Read(u.content)
	copy(u.content, magic)
	start := sha256.New()
	start.Write(u.content[:size-stampSize])
	u.start = start.(hash.Cloner)
	return u
}

// stamp changes the content to one that was not used before.
func (u *upload) stamp() {
	u.stamped++
	binary.BigEndian.PutUint64(u.content[len(u.content)-stampSize:], u.stamped)
}

// sum is the SHA-256 of the content.
func (u *upload) sum() [sha256.Size]byte {
	h, err := u.start.Clone()
	if err != nil {
		panic(err) // a hash of the standard library can be cloned
	}
	h.Write(u.content[len(u.content)-stampSize:])
	return [sha256.Size]byte(h.Sum(nil))
}

// name returns a new file name, below its folder.
func (u *upload) name() string {
	u.named++
	return fmt.Sprintf("%s/%x-%d.pdf", u.folder, u.content[len(magic):][:8], u.named)
}

// file returns what can be downloaded once u was stored as id.
func (in *instance) file(c *client, u *upload, id string) (file, error) {
	get, err := in.get(c, id)
	return file{request: get, size: int64(len(u.content)), sum: u.sum()}, err
}

// store uploads n contents of a size, many concurrently unless they are large.
func (in *instance) store(folder string, size, n int) (files []file, ids []string, err error) {
	var (
		mu      sync.Mutex
		workers = max(1, min(n, 16, 64*megabyte/size))
	)
	_, err = drive(workers, 0, (n+workers-1)/workers*workers, func(int) (worker, error) {
		u := newUpload(folder, size)
		return connected(in, func(c *client) worker {
			return worker{step: func() error {
				u.stamp()
				id, err := in.put(c, u)
				if err != nil {
					return err
				}
				f, err := in.file(c, u, id)
				mu.Lock()
				defer mu.Unlock()
				files, ids = append(files, f), append(ids, id)
				return err
			}}
		})
	})
	return files, ids, err
}

// stored returns stored contents of a size to download: 256, or as many as make 4
// MB, but at least one for each of four readers.
func (in *instance) stored(size int) ([]file, error) {
	if in.files[size] == nil {
		files, _, err := in.store(in.folder, size, max(4, min(256, 4*megabyte/size)))
		if err != nil {
			return nil, err
		}
		in.files[size] = files
	}
	return in.files[size], nil
}

// listed returns a request for a list of listRows files.
func (in *instance) listed() (*listing, error) {
	if in.listing != nil {
		return in.listing, nil
	}
	c, err := dial(in.address)
	if err != nil {
		return nil, err
	}
	defer c.close() // an error of the close does not matter
	// One content for all files: a list does not depend on contents.
	u := newUpload(in.listFolder, 1<<10)
	var names [][]byte
	for range listRows {
		id, err := in.put(c, u)
		if err != nil {
			return nil, err
		}
		names = append(names, []byte(path.Base(id)))
	}
	rq, err := in.list(c, in.listFolder)
	if err != nil {
		return nil, err
	}
	in.listing = &listing{rq, int64(listRows * len(names[0])), func(answer []byte) error {
		for _, name := range names {
			if !bytes.Contains(answer, name) {
				return fmt.Errorf("a list does not have %s: %s", name, answer)
			}
		}
		return nil
	}}
	return in.listing, nil
}

// checkList returns an error unless a list is one of listRows different
// attachments.
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
