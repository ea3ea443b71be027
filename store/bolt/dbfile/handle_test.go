//go:build unix

package dbfile

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/store/bolt/schema"
)

// A page that becomes unreadable just after the file was checked leaves bbolt's
// locks held: Lost must be called before all other calls wait for them.
func TestWhereTheDatabaseKeepsItsLocksTheProcessIsToldToEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	var told error
	f, err := Open(path, Options{LockTimeout: time.Second, Lost: func(err error) { told = err }}) // never closed: that would block, too
	if err != nil {
		t.Fatal(err)
	}
	if err := f.current.Load().unmap(); err != nil { // as if the file were truncated after the check
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	err = f.View(func(*Tx) error { return nil })
	if told == nil || err == nil || !strings.Contains(told.Error(), "Start attachd again") {
		t.Errorf("told %v, and a read says %v", told, err)
	}
}

// A check reads both meta pages one after the other; between the two, any number of
// commits may be made.
func TestCommitsDuringALookAreNoOverwriting(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "attachd.db"), Options{LockTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stop := make(chan struct{})
	var looking sync.WaitGroup
	for range 4 {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.current.Load().written(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 400 {
		if err := f.Update(func(tx *Tx) error { return tx.Put(schema.Meta, []byte("probe"), schema.Nothing) }); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	looking.Wait()
}
