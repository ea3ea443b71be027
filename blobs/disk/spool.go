package disk

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash"
	"io/fs"

	"attachd/blobs"
)

// errUsedUp is the error of a spool that was kept or closed before.
var errUsedUp = errors.New("the spool was kept or closed before")

// spool is a blobs.Spool that writes to a temporary file.
type spool struct {
	disk   *Store
	file   File
	temp   string // the file's name; empty once the file is a content
	hash   hash.Hash
	size   int64
	err    error         // why nothing more can be written or kept
	closed bool          // whether the file is closed
	kept   blobs.Version // see Store.Kept
}

func newSpool(d *Store) (*spool, error) {
	temp := tempDir + "/" + rand.Text()
	file, err := d.files.Create(temp)
	if err != nil {
		return nil, d.outcome(err)
	}
	return &spool{disk: d, file: file, temp: temp, hash: sha256.New()}, nil
}

// Write appends. A spool that could not write everything accepts nothing more and
// is never kept, in case its user ignores the error.
func (s *spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.writeAndHash(p)
	s.size += int64(n)
	s.err = full(err)
	return n, s.err
}

// hashedAside is the size, in bytes, from which a content is hashed on another core
// while it is written. Small contents arrive many at once, which keeps all cores
// busy anyway.
const hashedAside = 4 << 20

// writeAndHash hashes all of p even when it cannot all be written: the hash is not
// used then.
func (s *spool) writeAndHash(p []byte) (n int, err error) {
	if s.size < hashedAside {
		s.hash.Write(p)
		return s.file.Write(p)
	}
	hashed := make(chan struct{})
	go func() {
		defer close(hashed)
		s.hash.Write(p)
	}()
	n, err = s.file.Write(p)
	<-hashed
	return n, err
}

func (s *spool) ReadAt(p []byte, off int64) (int, error) { return s.file.ReadAt(p, off) }

func (s *spool) Size() int64 { return s.size }

func (s *spool) Ref() blobs.Ref {
	var ref blobs.Ref
	s.hash.Sum(ref[:0])
	return ref
}

// Keep syncs before it checks whether the content is stored already: so the hold is
// short, and the time it takes reveals little to an uploader about which contents
// others have stored.
func (s *spool) Keep(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	s.err = errUsedUp
	if err := s.finish(); err != nil {
		return nil, full(err)
	}
	ref := s.Ref()
	release = s.disk.locks.Shared(ref)
	err = s.place(ref)
	if err := s.disk.outcome(err); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// place makes the file, which is synced, the content of ref, or leaves it where it is
// when an intact content is stored already. The caller has a hold on ref.
func (s *spool) place(ref blobs.Ref) error {
	d := s.disk
	moved, err := d.move(s.temp, ref, s.size)
	if moved {
		s.temp = ""
		s.kept = d.keptVersion(ref)
	}
	if err != nil {
		return err
	}
	if err := d.syncShard(ref[0], ref); err != nil {
		return err
	}
	return d.placed(ref, moved)
}

// finish puts the bytes on stable storage. A sync that failed is not retried: the
// kernel may have dropped the bytes and would then report success.
func (s *spool) finish() error {
	if err := s.file.Sync(); err != nil {
		return err
	}
	return s.closeFile()
}

// Close removes the temporary file unless it has become the content.
func (s *spool) Close() error {
	s.err = errUsedUp
	err := s.closeFile()
	if s.temp == "" {
		return err
	}
	gone := s.disk.files.Remove(s.temp)
	s.temp = ""
	if errors.Is(gone, fs.ErrNotExist) {
		gone = nil // moved by a Rename that nevertheless failed
	}
	return errors.Join(err, full(gone))
}

func (s *spool) closeFile() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return s.file.Close()
}
