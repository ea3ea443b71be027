package disk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
)

// faultPlan makes one call of a FileSystem fail, or all calls from that one on.
type faultPlan struct {
	name      string
	err       error
	afterward bool // the call takes effect and fails nevertheless
	forever   bool // so do all calls that follow
}

var faultPlans = []faultPlan{
	{name: "EIO", err: syscall.EIO},
	{name: "ENOSPC", err: syscall.ENOSPC},
	{name: "short write", err: io.ErrShortWrite},
	{name: "EIO after the work is done", err: syscall.EIO, afterward: true},
	{name: "EIO from then on", err: syscall.EIO, forever: true},
}

// fault executes a plan: it counts calls and fails the chosen one.
type fault struct {
	faultPlan
	at     int // the call that fails; 0 is none
	count  int
	failed string // the first call that failed
}

// set makes the n-th call from now fail.
func (f *fault) set(n int) { f.at, f.count, f.failed = n, 0, "" }

func (f *fault) wrap(real disk.FileSystem) disk.FileSystem {
	return disktest.Faults{
		Before: func(call string) error {
			f.count++
			if f.afterward {
				return nil
			}
			return f.strike(call)
		},
		After: func(call string) error {
			if !f.afterward {
				return nil
			}
			return f.strike(call)
		},
	}.Wrap(unsynced{real})
}

func (f *fault) strike(call string) error {
	if f.at == 0 || f.count < f.at || f.count > f.at && !f.forever {
		return nil
	}
	if f.failed == "" {
		f.failed = call
	}
	return &os.PathError{Op: "injected", Path: call, Err: f.err}
}

// unsynced makes the calls that sync do nothing: power is not cut here, and the
// tests would spend most of their time waiting for the disk.
type unsynced struct{ disk.FileSystem }

func (u unsynced) SyncDir(string) error { return nil }

func (u unsynced) SyncsAll() bool { return true }

func (u unsynced) SyncAll() error { return nil }

func (u unsynced) Create(name string) (disk.File, error) {
	file, err := u.FileSystem.Create(name)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{file}, nil
}

type unsyncedFile struct{ disk.File }

func (unsyncedFile) Sync() error { return nil }

// TestEveryCallFails repeats the same story and makes a different call of it fail
// each time, until all calls have failed once: four contents are kept (one that is
// new, one that is stored already, one that lost bytes, one that is marked), one is
// marked and one is removed. Then the store is opened anew and checked.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	for _, plan := range faultPlans {
		t.Run(plan.name, func(t *testing.T) {
			t.Parallel()
			dir, fault := t.TempDir(), &fault{faultPlan: plan}
			d := openDiskWith(t, dir, disk.Options{Wrap: fault.wrap})
			bystander := []byte("nobody touches me")
			keep(t, d, bystander)
			for n := 1; ; n++ {
				story := begin(t, d, dir, n)
				fault.set(n)
				story.tell(d)
				failed, over := fault.failed, fault.count < n
				fault.set(0)
				if !plan.forever && !strings.Contains(failed, " tmp/") {
					wantNoTemp(t, dir)
				}
				d.Close()

				d = openDiskWith(t, dir, disk.Options{Wrap: fault.wrap})
				wantNoTemp(t, dir)
				story.check(t, d, plan)
				wantRead(t, d, bystander)
				story.again(t, d)
				if t.Failed() {
					t.Fatalf("when call %d, %q, fails", n, failed)
				}
				if over {
					if n < 30 {
						t.Errorf("the story has only %d calls", n-1)
					}
					return
				}
			}
		})
	}
}

// story is six contents and what is done with each.
type story struct {
	fresh, there, short, rotten chapter // to be kept
	doubted                     chapter // to be marked
	unwanted                    chapter // to be removed
}

type chapter struct {
	content []byte
	err     error
}

func (c *chapter) ref() blobs.Ref { return sha256.Sum256(c.content) }

// begin prepares the contents; n makes them differ from those before.
func begin(t *testing.T, d *disk.Store, dir string, n int) *story {
	t.Helper()
	text := func(of string) chapter {
		return chapter{content: bytes.Repeat(fmt.Appendf(nil, "%s %d ", of, n), 100)}
	}
	s := &story{text("fresh"), text("there"), text("short"), text("rotten"), text("doubted"), text("unwanted")}
	for _, c := range []chapter{s.there, s.short, s.rotten, s.doubted, s.unwanted} {
		keep(t, d, c.content)
	}
	if err := os.Truncate(blobPath(dir, s.short.ref()), 10); err != nil {
		t.Fatal(err)
	}
	for _, c := range []chapter{s.rotten, s.doubted} {
		wrong := bytes.Repeat([]byte{'x'}, len(c.content))
		if err := os.WriteFile(blobPath(dir, c.ref()), wrong, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mark(t, d, s.rotten.ref())
	return s
}

func (s *story) kept() []*chapter { return []*chapter{&s.fresh, &s.there, &s.short, &s.rotten} }

func (s *story) tell(d *disk.Store) {
	ctx := context.Background()
	for _, c := range s.kept() {
		var release func()
		if release, c.err = tryKeep(ctx, d, c.content); release != nil {
			release()
		}
	}
	s.doubted.err = d.MarkDamaged(ctx, s.doubted.ref(), nil)
	_, s.unwanted.err = d.Remove(ctx, s.unwanted.ref(), unwanted)
}

// check fails unless acknowledged calls took effect, and only complete contents can
// be read.
func (s *story) check(t *testing.T, d *disk.Store, plan faultPlan) {
	t.Helper()
	for _, c := range s.kept() {
		if c.err == nil {
			wantRead(t, d, c.content)
		}
		if errors.Is(c.err, syscall.ENOSPC) != errors.Is(c.err, blobs.ErrFull) {
			t.Errorf("Keep says: %v", c.err)
		}
	}
	for _, c := range append(s.kept(), &s.unwanted) {
		got, err := read(d, c.ref(), len(c.content))
		refused := errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged)
		if !refused && !bytes.Equal(got, c.content) {
			t.Errorf("%.20q...: read %.20q..., %v", c.content, got, err)
		}
	}
	wantRead(t, d, s.there.content)
	if _, err := read(d, s.doubted.ref(), len(s.doubted.content)); s.doubted.err == nil && !errors.Is(err, blobs.ErrDamaged) {
		t.Errorf("marked: %v", err)
	}
	if _, err := d.Stat(t.Context(), s.unwanted.ref()); s.unwanted.err == nil && !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("removed: %v", err)
	}
}

// again fails unless a second attempt succeeds.
func (s *story) again(t *testing.T, d *disk.Store) {
	t.Helper()
	mark(t, d, s.doubted.ref())
	for _, c := range append(s.kept(), &s.doubted) {
		keep(t, d, c.content)
		wantRead(t, d, c.content)
	}
}

func TestOpenThatFailedCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, plan := range faultPlans {
		t.Run(plan.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for n := 1; ; n++ {
				fault := &fault{faultPlan: plan, at: n}
				d, err := disk.Open(dir, disk.Options{Wrap: fault.wrap})
				if fault.count < n && err == nil {
					fault.set(0)
					keep(t, d, []byte("works"))
					d.Close()
					return
				}
				if err == nil {
					d.Close()
				}
				if fault.failed != "" && !errors.Is(err, plan.err) {
					t.Fatalf("call %d, %q, fails and Open says %v", n, fault.failed, err)
				}
			}
		})
	}
}

// TestOpenSyncsTheFoldersAboveAContent is about a first start that was ended by a
// power cut: at the next one the folders exist, but may not be on stable storage.
func TestOpenSyncsTheFoldersAboveAContent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, start := range []string{"first", "second"} {
		calls := &recorder{}
		openDiskWith(t, dir, disk.Options{Wrap: calls.wrap}).Close()
		made := 0
		for i, call := range calls.made {
			if strings.HasPrefix(call, "mkdir ") {
				made = i
			}
		}
		for _, call := range []string{"syncdir blobs/sha256", "syncdir blobs", "syncdir ."} {
			if !slices.Contains(calls.made[made:], call) {
				t.Errorf("the %s start made no call %q after the folders", start, call)
			}
		}
	}
}

func TestKeepOrder(t *testing.T) {
	t.Parallel()
	content := []byte("abc")
	writing := []string{"create TEMP", "write TEMP", "sync TEMP", "close TEMP", "lstat BLOB"}
	for _, c := range []struct {
		words  string
		before func(t *testing.T, d *disk.Store, dir string)
		then   []string
	}{
		{
			"a new content is synced, named, and its name is synced",
			func(*testing.T, *disk.Store, string) {},
			[]string{"rename TEMP BLOB", "syncdir SHARD"},
		},
		{
			"a known content gets its name synced all the same",
			func(t *testing.T, d *disk.Store, dir string) { keep(t, d, content) },
			[]string{"syncdir SHARD", "remove TEMP"},
		},
		{
			"a short content is replaced",
			func(t *testing.T, d *disk.Store, dir string) { writeFile(t, blobPath(dir, keep(t, d, content)), "a") },
			[]string{"rename TEMP BLOB", "syncdir SHARD"},
		},
		{
			"a mark goes after the good bytes are there to stay",
			func(t *testing.T, d *disk.Store, dir string) { mark(t, d, keep(t, d, content)) },
			[]string{"rename TEMP BLOB", "syncdir SHARD", "remove MARK", "syncdir MARKS"},
		},
	} {
		t.Run(c.words, func(t *testing.T) {
			t.Parallel()
			dir, calls := t.TempDir(), &recorder{}
			d := openDiskWith(t, dir, disk.Options{Wrap: calls.wrap})
			c.before(t, d, dir)
			calls.made = nil
			keep(t, d, content)
			if want := slices.Concat(writing, c.then); !slices.Equal(calls.made, want) {
				t.Errorf("the calls are\n%s\nand not\n%s", strings.Join(calls.made, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestAMarkGoesAfterTheRemovalIsThereToStay(t *testing.T) {
	t.Parallel()
	calls := &recorder{}
	d := openDiskWith(t, t.TempDir(), disk.Options{Wrap: calls.wrap})
	ref := keep(t, d, []byte("abc"))
	mark(t, d, ref)
	calls.made = nil
	if gone, err := d.Remove(t.Context(), ref, unwanted); !gone || err != nil {
		t.Fatalf("Remove: %v, %v", gone, err)
	}
	want := []string{"remove BLOB", "syncdir SHARD", "remove MARK", "syncdir MARKS"}
	if !slices.Equal(calls.made, want) {
		t.Errorf("%q", calls.made)
	}
}

// TestAFailedSyncIsNotTriedAgain is about a client that uploads again after an
// error: the kernel reports a failed sync once, so neither the file nor the name of
// the first attempt may be relied on.
func TestAFailedSyncIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"sync TEMP", "syncdir SHARD"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			calls := &recorder{}
			d := openDiskWith(t, t.TempDir(), disk.Options{Wrap: calls.wrap})
			calls.fail = failing
			if _, err := tryKeep(t.Context(), d, []byte("abc")); !errors.Is(err, syscall.EIO) {
				t.Fatalf("Keep: %v", err)
			}
			calls.made, calls.fail = nil, ""
			keep(t, d, []byte("abc"))
			for _, call := range []string{"sync TEMP", "rename TEMP BLOB", "syncdir SHARD"} {
				if !slices.Contains(calls.made, call) {
					t.Errorf("the second upload made no call %q: %q", call, calls.made)
				}
			}
			calls.made = nil
			keep(t, d, []byte("abc"))
			if slices.Contains(calls.made, "rename TEMP BLOB") {
				t.Error("the third upload still doubts")
			}
		})
	}
}

func TestASpoolThatFailedIsNotKept(t *testing.T) {
	t.Parallel()
	for _, failing := range []string{"write", "sync", "close"} {
		t.Run(failing, func(t *testing.T) {
			t.Parallel()
			dir, calls := t.TempDir(), &recorder{}
			d := openDiskWith(t, dir, disk.Options{Wrap: calls.wrap})
			spool, err := d.Create(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			calls.fail = failing
			_, err = spool.Write([]byte("abcdef"))
			if err == nil {
				_, err = spool.Keep(t.Context())
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("it says %v", err)
			}
			calls.fail, calls.made = "", nil
			if _, err := spool.Write([]byte("def")); err == nil {
				t.Error("it takes more")
			}
			if _, err := spool.Keep(t.Context()); err == nil {
				t.Error("it is kept at the second try")
			}
			if len(calls.made) != 0 {
				t.Errorf("it tries again: %q", calls.made)
			}
			if err := spool.Close(); err != nil {
				t.Error(err)
			}
			wantNoTemp(t, dir)
		})
	}
}

func TestAFullDiskIsErrFull(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		t.Run(cause.Error(), func(t *testing.T) {
			t.Parallel()
			dir, calls := t.TempDir(), &recorder{err: cause}
			d := openDiskWith(t, dir, disk.Options{Wrap: calls.wrap})
			wantFull := func(err error) {
				t.Helper()
				if !errors.Is(err, blobs.ErrFull) || !strings.Contains(err.Error(), cause.Error()) {
					t.Errorf("when %s fails: %v", calls.fail, err)
				}
				wantNoTemp(t, dir)
			}
			for _, calls.fail = range []string{"create", "write", "sync", "rename", "syncdir"} {
				_, err := tryKeep(t.Context(), d, []byte("abc"))
				wantFull(err)
			}
			for _, calls.fail = range []string{"create", "write", "sync", "rename", "syncdir"} {
				wantFull(d.Probe(t.Context()))
			}
			calls.fail = "create"
			keptBefore := blobs.Ref(sha256.Sum256([]byte("abc")))
			wantFull(d.MarkDamaged(t.Context(), keptBefore, nil))
		})
	}
}

// A server that reports that it is ready must be able to store contents in every
// shard.
func TestAProbeGoesTheWayOfAContentIntoEveryShard(t *testing.T) {
	t.Parallel()
	var shards []string
	calls := &recorder{}
	d := openDiskWith(t, t.TempDir(), disk.Options{Wrap: func(real disk.FileSystem) disk.FileSystem {
		return disktest.Faults{Before: func(call string) error {
			if shard, ok := strings.CutPrefix(call, "syncdir "); ok {
				shards = append(shards, shard)
			}
			return nil
		}}.Wrap(calls.wrap(unsynced{real}))
	}})
	calls.made, shards = nil, nil
	for range 256 {
		if err := d.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"create TEMP", "write TEMP", "sync TEMP", "close TEMP", "rename TEMP SHARD/probe", "syncdir SHARD", "lstat SHARD/probe", "remove SHARD/probe"}
	if got := calls.made[:min(len(want), len(calls.made))]; !slices.Equal(got, want) {
		t.Errorf("the calls are %q", got)
	}
	slices.Sort(shards)
	if n := len(slices.Compact(shards)); n != 256 {
		t.Errorf("256 probes looked into %d shards", n)
	}
}

func TestWhatAProbeThatWasKilledLeftIsRemovedAtStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openDiskWith(t, dir, disk.Options{}).Close()
	for _, shard := range []string{"00", "ab", "ff"} {
		writeFile(t, filepath.Join(dir, "blobs", "sha256", shard, "probe"), "probe")
	}
	d := openDiskWith(t, dir, disk.Options{})
	left, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	d.Close()
}

// recorder records the calls, and fails those that begin with given words.
type recorder struct {
	made []string
	fail string // such as "sync" or "syncdir SHARD"
	err  error  // EIO if nil
}

func (r *recorder) wrap(real disk.FileSystem) disk.FileSystem {
	return disktest.Faults{Before: func(call string) error {
		call = anonymous(call)
		r.made = append(r.made, call)
		if r.fail == "" || !strings.HasPrefix(call+" ", r.fail+" ") {
			return nil
		}
		if r.err != nil {
			return r.err
		}
		return syscall.EIO
	}}.Wrap(real)
}

// anonymous removes the names of contents and temporary files from a call.
func anonymous(call string) string {
	for _, name := range names {
		call = name.pattern.ReplaceAllString(call, name.word)
	}
	return call
}

var names = []struct {
	pattern *regexp.Regexp
	word    string
}{
	{regexp.MustCompile(`tmp/\w+`), "TEMP"},
	{regexp.MustCompile(`blobs/sha256/\w\w/\w{64}`), "BLOB"},
	{regexp.MustCompile(`blobs/sha256/\w\w\b`), "SHARD"},
	{regexp.MustCompile(`blobs/damaged/\w{64}`), "MARK"},
	{regexp.MustCompile(`blobs/damaged\b`), "MARKS"},
}

func wantRead(t *testing.T, d *disk.Store, content []byte) {
	t.Helper()
	got, err := read(d, sha256.Sum256(content), len(content))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%.20q...: read %d of %d bytes, %v", content, len(got), len(content), err)
	}
}
