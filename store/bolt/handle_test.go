//go:build unix

package bolt

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/pages"
)

// spoil makes do change the file while the committer is idle, and returns the bytes
// of the file before and after.
func (l *logged) spoil(do func(whole []byte) error) (whole, spoiled []byte) {
	l.t.Helper()
	c := &change{done: make(chan error, 1), readOpen: func(*dbfile.Tx) (err error) {
		if whole, err = os.ReadFile(l.path); err == nil {
			err = do(whole)
		}
		return err
	}}
	if err := l.handIn(l.t.Context(), c); err != nil {
		l.t.Fatal(err)
	}
	return whole, l.contents()
}

func (l *logged) contents() []byte {
	l.t.Helper()
	data, err := os.ReadFile(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	return data
}

// overwrite puts data at the beginning of the file, as cp and dd do.
func overwrite(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Close())
}

// When another process has overwritten the file of an open database, its bytes are
// neither read nor written. When the old bytes are back, the database works again,
// and has what was acknowledged before.
func TestAFileThatIsNotWhatWasCommittedIsNeitherReadNorWritten(t *testing.T) {
	t.Parallel()
	const pageShort = "a byte short"
	for name, do := range map[string]func(l *logged, whole []byte) error{
		"emptied":                   func(l *logged, _ []byte) error { return os.Truncate(l.path, 0) },
		"cut within its first page": func(l *logged, _ []byte) error { return os.Truncate(l.path, 100) },
		"cut behind its first page": func(l *logged, _ []byte) error { return os.Truncate(l.path, int64(os.Getpagesize())) },
		"cut behind its meta pages": func(l *logged, _ []byte) error { return os.Truncate(l.path, 2*int64(os.Getpagesize())) },
		pageShort:                   func(l *logged, _ []byte) error { return cutByOne(l) },
		"zeroed":                    func(l *logged, whole []byte) error { return overwrite(l.path, make([]byte, len(whole))) },
		"zeroed in its meta pages":  func(l *logged, _ []byte) error { return overwrite(l.path, make([]byte, 2*os.Getpagesize())) },
		"noise": func(l *logged, whole []byte) error {
			_, _ = rand.NewChaCha8([32]byte{1}).Read(whole) // never fails
			return overwrite(l.path, whole)
		},
		"another database":            func(l *logged, _ []byte) error { return overwrite(l.path, newDatabase(l.t)) },
		"of an earlier commit":        nil,
		"of an earlier commit in one": func(l *logged, whole []byte) error { return loseCommit(l, whole) },
	} {
		for when, putBack := range map[string]func(l *logged, whole []byte) *Store{
			"while it is open": func(l *logged, whole []byte) *Store {
				if err := overwrite(l.path, whole); err != nil {
					l.t.Fatal(err)
				}
				l.upload("four")
				return l.Store
			},
			"before the next start": func(l *logged, whole []byte) *Store {
				before, ahead := l.contents(), l.unflushed.some.Load()
				if err := l.Store.Close(); ahead && !errors.Is(err, store.ErrOverwritten) {
					l.t.Errorf("what is in the log only is not told to be there: %v", err)
				}
				if !bytes.Equal(before, l.contents()) {
					l.t.Error("something was written into the file when it was closed")
				}
				if err := overwrite(l.path, whole); err != nil {
					l.t.Fatal(err)
				}
				return OpenAt(l.t, l.path)
			},
		} {
			t.Run(name+", and put back "+when, func(t *testing.T) {
				t.Parallel()
				l := newLogged(t)
				earlier := l.contents()
				if err := l.Probe(t.Context()); err != nil {
					t.Fatal(err)
				}
				l.upload("one", "two")
				whole, spoiled := l.spoil(func(whole []byte) error {
					if do == nil {
						return overwrite(l.path, earlier)
					}
					return do(l, bytes.Clone(whole))
				})
				if l.wantRefused(); name != pageShort { // its other pages can be read
					l.wantUnread()
				}
				if !bytes.Equal(spoiled, l.contents()) {
					t.Error("something was written into the file")
				}
				l.wantAll(putBack(l, whole))
			})
		}
	}
}

// wantUnread reads what is in the database and what is in the log only, which must
// fail.
func (l *logged) wantUnread() {
	l.t.Helper()
	ctx := l.t.Context()
	for _, a := range l.made {
		if _, err := l.Attachment(ctx, a.ID); !errors.Is(err, store.ErrUnavailable) {
			l.t.Errorf("a read: %v", err)
		}
	}
	if _, err := l.User(ctx, l.made[0].UploaderID); !errors.Is(err, store.ErrUnavailable) {
		l.t.Errorf("a read of what is never in the log: %v", err)
	}
}

// wantRefused makes changes, which must fail.
func (l *logged) wantRefused() {
	l.t.Helper()
	ctx := l.t.Context()
	if err := l.Probe(ctx); !errors.Is(err, store.ErrUnavailable) {
		l.t.Errorf("a change: %v", err)
	}
	if err := l.create("refused"); !errors.Is(err, store.ErrUnavailable) {
		l.t.Errorf("an upload: %v", err)
	}
	if err := l.InPlace(); !errors.Is(err, store.ErrOverwritten) || !errors.Is(err, store.ErrReplaced) {
		l.t.Errorf("InPlace: %v", err)
	}
}

// lastMeta returns the meta page of the last commit, and the size of a page.
func lastMeta(whole []byte) (meta pages.Meta, size int) {
	size = os.Getpagesize()
	for at := pages.HeaderSize; at < 2*size; at += size {
		if m := pages.Meta(whole[at : at+pages.MetaSize]); meta == nil || m.Commit() > meta.Commit() {
			meta = m
		}
	}
	return meta, size
}

// cutByOne removes the last byte of the length that the last commit gives the file.
func cutByOne(l *logged) error {
	last, size := lastMeta(l.contents())
	return os.Truncate(l.path, int64(last.Pages())*int64(size)-1)
}

// loseCommit damages the newer meta page, so that bbolt would go back a commit.
func loseCommit(l *logged, whole []byte) error {
	last, _ := lastMeta(whole)
	last[20] ^= 1
	return overwrite(l.path, whole)
}

// newDatabase returns the file of another installation.
func newDatabase(t *testing.T) []byte {
	other := newLogged(t)
	if err := other.Store.Close(); err != nil {
		t.Fatal(err)
	}
	return other.contents()
}
