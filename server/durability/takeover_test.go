//go:build linux

package durability

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
)

// The process is killed again and again while it takes over the data directory of an
// earlier version: nothing is lost, and the next start goes on.
func TestKillsWhileAnOlderFormatIsTakenOverLoseNothing(t *testing.T) {
	t.Parallel()
	n, seed := plannedKills(t, 3, 60)
	rand := rand.New(rand.NewPCG(seed, 5<<32))
	for format := 4; format <= 5; format++ {
		o := newOlder(t, format)
		took := o.takeOver(t, o.copied(t)).ready
		between := 0
		for range n {
			dir := o.copied(t)
			for _, begun := range []bool{false, true, false} {
				kill := exec.Command(binary(), "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
				must(t, kill.Start())
				if begun {
					must(t, until(func() bool { return o.formatOf(t, dir) != o.format }))
				}
				<-time.After(time.Duration(rand.Int64N(int64(took) / 2)))
				must(t, kill.Process.Kill())
				_ = kill.Wait() // reports that it was killed
			}
			if o.isBetween(t, dir) {
				between++
			}
			o.takeOver(t, dir)
		}
		t.Logf("format %d: taken over in %v; %d of %d times, it was left between the formats", format, took.Round(time.Millisecond), between, n)
	}
}

// The same with strace, which kills the process at a call that it counts.
func TestAKillAtAnySyscallOfATakeoverLosesNothing(t *testing.T) {
	needStrace(t)
	numbers := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 30, 40, 60, 100}
	for format, calls := range map[int][]string{
		4: {"openat", "pwrite64", "fdatasync", "fsync", "renameat", "mkdirat", "write"},
		5: {"openat", "pwrite64", "fdatasync", "fsync", "renameat"},
	} {
		o := newOlder(t, format)
		for _, call := range calls {
			t.Run(fmt.Sprintf("format %d, %s", format, call), func(t *testing.T) {
				t.Parallel()
				kills := 0
				for _, n := range numbers {
					dir := o.copied(t)
					if !killedAt(t, dir, call, n) {
						break
					}
					kills++
					o.takeOver(t, dir)
				}
				if kills == 0 {
					t.Error("there was no call to be killed at")
				}
				t.Logf("killed at %d calls", kills)
			})
		}
	}
}

// killedAt starts a server that is killed at its n-th call of a kind, and says whether it
// was, or has made fewer until it listens.
func killedAt(t *testing.T, dir, call string, n int) bool {
	t.Helper()
	words := []string{"-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), "-o", filepath.Join(t.TempDir(), "trace")}
	for _, path := range []string{"", "attachd.db", "FORMAT", "wal", "wal/new", "wal/0000000000000001", "tmp", "blobs", "blobs/sha256"} {
		words = append(words, "-P", filepath.Join(dir, path)) // the Go runtime opens files too
	}
	cmd := straced(dir, words...)
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // reports that it was killed
	}()
	killed := false
	err := until(func() bool {
		_, noSocket := os.Lstat(filepath.Join(dir, "attachd.sock"))
		select {
		case <-ended:
			killed = true
		default:
		}
		return killed || noSocket == nil
	})
	_ = cmd.Process.Kill() // it may have ended
	<-ended
	must(t, err)
	return killed
}

// older is a data directory as an earlier version left it when it was killed: with small
// contents in the database, or in the log in the case of format 5.
type older struct {
	format int
	data   image
	all    []waiting
}

// newOlder makes one out of what this version leaves.
func newOlder(t *testing.T, format int) *older {
	t.Helper()
	p := serve(t, t.TempDir())
	o := &older{format: format, all: p.burst(t, 80, 10_000)} // more than one record of the log
	run(t, p.dir, "check")                                   // and so the database has what is in the log
	p.kill()
	db, err := bbolt.Open(filepath.Join(p.dir, "attachd.db"), 0o600, nil)
	must(t, err)
	must(t, errors.Join(db.Update(o.putBack), db.Close()))
	must(t, os.WriteFile(filepath.Join(p.dir, "FORMAT"), fmt.Appendln(nil, format), 0o600))
	if format < 5 {
		must(t, os.RemoveAll(filepath.Join(p.dir, "wal")))
	}
	for _, name := range []string{"attachd.sock", "attachd.pid", "ballast", "snapshots"} {
		must(t, os.RemoveAll(filepath.Join(p.dir, name)))
	}
	o.data = imageOf(t, p.dir)
	return o
}

// putBack makes the database one of the format.
func (o *older) putBack(tx *bbolt.Tx) error {
	for _, name := range [][]byte{schema.Places, schema.Marks, schema.Intents, schema.Garbage, schema.GarbageObject, schema.Trash, schema.TrashObjects, schema.TrashUntil, schema.TrashSpaces, schema.Holds, schema.Held} {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
	}
	if o.format > 4 {
		return nil
	}
	pending, err := tx.CreateBucket(schema.Pending)
	for _, w := range o.all {
		id := uuid.MustParse(w.id)
		if err == nil {
			err = pending.Put(id[:], pages.Seal(schema.Pending, id[:], w.content))
		}
	}
	return errors.Join(err, tx.DeleteBucket(schema.Staged), tx.Bucket(schema.Meta).Delete([]byte("log")))
}

// copied returns a copy of the directory.
func (o *older) copied(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(inMemory(t), dataDir)
	o.data.writeTo(t, dir)
	return dir
}

// isBetween says whether a take-over was begun in a directory and is not done.
func (o *older) isBetween(t *testing.T, dir string) bool {
	t.Helper()
	done := false
	db, err := bbolt.Open(filepath.Join(dir, "attachd.db"), 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	must(t, errors.Join(db.View(func(tx *bbolt.Tx) error {
		done = tx.Bucket(schema.Pending) == nil && tx.Bucket(schema.Places) != nil
		return nil
	}), db.Close()))
	return o.formatOf(t, dir) != o.format && !done
}

func (o *older) formatOf(t *testing.T, dir string) (format int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "FORMAT"))
	must(t, err)
	_, err = fmt.Sscan(string(raw), &format)
	must(t, err)
	return format
}

// takeOver starts a server over a directory, which must have everything.
func (o *older) takeOver(t *testing.T, dir string) *process {
	t.Helper()
	p := serve(t, dir)
	defer p.kill()
	p.holds(t, o.all...)
	if out, code := run(t, dir, "check"); code != 0 {
		t.Errorf("attachd check: exit code %d\n%s", code, out)
	}
	return p
}
