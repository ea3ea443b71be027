package dbfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"attachd/store"
	"attachd/store/bolt/pages"
)

// handle is an open bbolt file whose meta pages are checked before each
// transaction, so that bbolt does not read invalid ones: it would panic with locks
// held that it never releases.
type handle struct {
	*bbolt.DB
	file   *os.File                             // bbolt's own
	size   int                                  // of a page, in bytes
	last   atomic.Uint64                        // number of the last commit
	unsure atomic.Bool                          // a later commit failed, and readers may see it all the same
	mapped sync.RWMutex                         // held for reading while metas is read
	metas  []byte                               // the first two pages of the file, mapped; nil when closed, and where mapMetas does not map
	whole  atomic.Pointer[[pages.MetaSize]byte] // the last meta page that was verified
	filled int64                                // bytes of the file that have blocks of the disk
}

func newHandle(db *bbolt.DB, file *os.File) (*handle, error) {
	h := &handle{DB: db, file: file, size: db.Info().PageSize}
	err := WithoutPanic(func() (err error) {
		if h.metas, err = mapMetas(file, 2*h.size); err != nil || h.metas == nil {
			return err
		}
		newest := h.newest(0)
		if newest == nil {
			return bolterrors.ErrInvalid
		}
		h.last.Store(newest.Commit())
		return nil
	})
	return h, err
}

// Begin returns ErrOverwritten where bbolt's Begin would panic.
func (h *handle) Begin(writable bool) (*bbolt.Tx, error) {
	if _, err := h.written(); err != nil {
		return nil, err
	}
	return h.DB.Begin(writable)
}

// Close waits for transactions to end.
func (h *handle) Close() error { return errors.Join(h.DB.Close(), h.unmap()) }

func (h *handle) unmap() error {
	h.mapped.Lock()
	defer h.mapped.Unlock()
	metas := h.metas
	h.metas = nil
	return unmapMetas(metas)
}

// committed records the number of a successful commit.
func (h *handle) committed(id int) {
	h.last.Store(uint64(id))
	h.unsure.Store(false)
}

// fillHoles sets blocks apart for the pages by which bbolt has let the file grow: on a
// full disk, a deletion is written to pages that are free in the file, and fails in a
// hole. Where there is no room for them now, the next commit tries again.
func (h *handle) fillHoles() {
	if info, err := h.file.Stat(); err == nil && info.Size() > h.filled && allocate(h.file, info.Size()) == nil {
		h.filled = info.Size()
	}
}

// holds returns ErrOverwritten when the file lacks the last commit, as far as its
// length and its meta pages show.
func (h *handle) holds() error {
	want, err := h.written()
	if err != nil {
		return err
	}
	info, err := h.file.Stat()
	switch {
	case errors.Is(err, os.ErrClosed):
		return nil
	case err != nil:
		return fmt.Errorf("%w: %w", store.ErrOverwritten, err)
	case info.Size() < want:
		return fmt.Errorf("%w: %s has %d bytes, and should have %d at least", store.ErrOverwritten, h.file.Name(), info.Size(), want)
	}
	return nil
}

// written is the length in bytes that the last commit gives the file, or 0 where
// that is unknown. It returns ErrOverwritten when no meta page is of that commit.
// It reads mapped memory and makes no system call, since every request calls it.
func (h *handle) written() (length int64, err error) {
	for {
		last := h.last.Load()
		length, err = h.writtenBy(last)
		if h.last.Load() == last {
			return length, err
		}
		// If commits are made meanwhile, the second one overwrites the page of the
		// last one: what was read may be of neither.
	}
}

func (h *handle) writtenBy(last uint64) (length int64, err error) {
	err = WithoutPanic(func() error {
		h.mapped.RLock()
		defer h.mapped.RUnlock()
		if h.metas == nil {
			return nil
		}
		newest := h.newest(last)
		// While a commit is being made, its meta page may be written already.
		if newest == nil || newest.Commit() > last+1 {
			return fmt.Errorf("commit %d is not in it", last)
		}
		length = int64(newest.Pages()) * int64(h.size)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", store.ErrOverwritten, h.file.Name(), err)
	}
	return length, nil
}

// newest returns the newest of the valid meta pages from a commit on. It reads both
// pages, as bbolt does. The page of the last commit is never overwritten by the
// next, so a commit that is being made does not interfere.
func (h *handle) newest(from uint64) (newest pages.Meta) {
	for at := pages.HeaderSize; at < len(h.metas); at += h.size {
		m := pages.Meta(h.metas[at : at+pages.MetaSize])
		if m.Commit() >= from && h.isWhole(m) && (newest == nil || m.Commit() > newest.Commit()) {
			newest = m
		}
	}
	return newest
}

// isWhole verifies a meta page, unless it is the one that was verified last.
func (h *handle) isWhole(m pages.Meta) bool {
	if known := h.whole.Load(); known != nil && bytes.Equal(m, known[:]) {
		return true
	}
	copied := [pages.MetaSize]byte(m)
	if !pages.Meta(copied[:]).IsWhole() {
		return false
	}
	h.whole.Store(&copied)
	return true
}
