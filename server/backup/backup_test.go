package backup_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/server/backup"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
	"attachd/store"
	"attachd/store/bolt"
)

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestEachRestorePointIsEverythingAsItWas", "TestOnlyASoundDatabaseIsRestored")
	blobstest.TempInMemory()
	os.Exit(m.Run())
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// home is a house with a folder for backups beside it. It is itself the Source.
type home struct {
	*upkeeptest.House
	to      string
	asking  sync.Mutex
	asked   []string // contents that were copied
	content func(ref blobs.Ref) error
}

func newHome(t *testing.T) *home {
	return &home{House: upkeeptest.New(t), to: filepath.Join(t.TempDir(), "backup"), content: func(blobs.Ref) error { return nil }}
}

func (h *home) Snapshot(ctx context.Context, w io.Writer) (context.Context, func(), error) {
	return ctx, func() {}, h.Records.Snapshot(ctx, w)
}

func (h *home) Content(ctx context.Context, ref blobs.Ref) (io.ReadCloser, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	h.asked = append(h.asked, ref.String())
	if err := h.content(ref); err != nil {
		return nil, err
	}
	info, err := h.Blobs.Stat(ctx, ref)
	if err != nil {
		return nil, err
	}
	return h.Blobs.Open(ctx, ref, info.Size)
}

func openSnapshot(path string) (backup.Records, error) {
	return bolt.Open(path, bolt.Options{ReadOnly: true})
}

func anybodys(*os.File) error { return nil }

// archive opens the backup and calls do.
func (h *home) archive(do func(a *backup.Archive)) {
	h.Helper()
	a, err := backup.MakeArchive(h.to, anybodys)
	h.OK(err)
	do(a)
	h.OK(a.Close())
}

func (h *home) options(at time.Time) backup.AddOptions {
	id, err := upkeep.Installation(h.Context(), h.Records)
	h.OK(err)
	return backup.AddOptions{Now: at, Version: "test", Secret: []byte("secret\n"), Format: []byte("1\n"), Open: openSnapshot, Installation: id}
}

// add makes a restore point.
func (h *home) add(at time.Time) (added backup.Added) {
	h.Helper()
	h.asked = nil
	h.archive(func(a *backup.Archive) {
		var err error
		added, err = a.Add(h.Context(), h, h.options(at))
		h.OK(err)
	})
	return added
}

func (h *home) verify(point string) backup.Verified {
	h.Helper()
	a, err := backup.OpenArchive(h.to)
	h.OK(err)
	verified, err := a.Verify(h.Context(), backup.VerifyOptions{Point: point, Open: openSnapshot})
	h.OK(errors.Join(err, a.Close()))
	return verified
}

func (h *home) wantSound(points int64) {
	h.Helper()
	if v := h.verify(""); len(v.Faults) > 0 || v.Points != points {
		h.Errorf("there should be %d whole restore points: %+v", points, v)
	}
}

func (h *home) find(name string) (p backup.Point) {
	h.Helper()
	a, err := backup.FindArchive(h.to)
	h.OK(err)
	p, err = a.Find(name)
	h.OK(err)
	return p
}

func (h *home) restore(name, to string) (upkeep.Report, error) {
	h.Helper()
	point := h.find(name)
	a, err := backup.OpenArchive(h.to)
	h.OK(err)
	restored, err := a.Restore(h.Context(), backup.Target{Dir: to, Own: anybodys}, backup.RestoreOptions{Point: point, Open: openSnapshot})
	return restored, errors.Join(err, a.Close())
}

// saved returns the path of a content in the backup.
func (h *home) saved(a store.Attachment) string {
	ref := blobs.Ref(a.SHA256).String()
	return filepath.Join(h.to, "blobs", "sha256", ref[:2], ref)
}

// wantRestored checks that a restored directory has exactly these attachments.
func (h *home) wantRestored(dir string, want ...string) {
	h.Helper()
	restored := &upkeeptest.House{T: h.T, Dir: dir}
	restored.Open()
	defer restored.Close()
	if r := restored.Check(true); len(r.Faults) > 0 || r.Attachments != int64(len(want)) {
		h.Errorf("restored: %+v", r)
	}
	list, err := restored.Records.AllAttachments(h.Context(), [16]byte{}, 1000)
	h.OK(err)
	var got []string
	for _, a := range list {
		raw, err := os.ReadFile(restored.Path(a))
		h.OK(err)
		got = append(got, string(raw))
	}
	if !slices.Equal(got, want) {
		h.Errorf("restored %q, not %q", got, want)
	}
	for name, content := range map[string]string{"secret.key": "secret\n", "FORMAT": "1\n"} {
		if raw, err := os.ReadFile(filepath.Join(dir, name)); string(raw) != content {
			h.Errorf("%s says %q, %v", name, raw, err)
		}
	}
}

func (h *home) remove(a store.Attachment) {
	h.Helper()
	_, err := h.Records.DeleteAttachment(h.Context(), a.ID)
	h.OK(err)
	_, err = h.Blobs.Remove(h.Context(), a.SHA256, func() (bool, error) { return h.Records.Referenced(h.Context(), a.SHA256) })
	h.OK(err)
}

func TestEachRestorePointIsEverythingAsItWas(t *testing.T) {
	h := newHome(t)
	one := h.Keep("one", true)
	h.Keep("two", true)
	h.Keep("two", true)
	h.Keep("nobody's", false)
	first := h.add(noon)
	if first.Name != "2026-11-23T12-00-00Z" || first.Attachments != 3 || first.Contents != 2 || first.Bytes != 6 || first.NewContents != 2 || first.NewBytes != 6 {
		t.Errorf("the first: %+v", first)
	}
	h.remove(one)
	h.Keep("three", true)
	second := h.add(noon.Add(time.Hour))
	if second.Attachments != 3 || second.Contents != 2 || second.NewContents != 1 || second.NewBytes != 5 || len(h.asked) != 1 {
		t.Errorf("the second: %+v, and %d contents were copied", second, len(h.asked))
	}
	h.wantSound(2)
	if v := h.verify(""); v.Contents != 3 || v.Bytes != 11 {
		t.Errorf("all in all: %+v", v)
	}
	old, newest := t.TempDir(), t.TempDir()
	_, err := h.restore(first.Name, old)
	h.OK(err)
	h.wantRestored(old, "one", "two", "two")
	_, err = h.restore("", newest)
	h.OK(err)
	h.wantRestored(newest, "two", "two", "three")
}

func TestBackupVerificationAndRestoreTellHowFarTheyAre(t *testing.T) {
	h := newHome(t)
	for _, content := range []string{"a", strings.Repeat("b", 1<<20), "ccc"} {
		h.Keep(content, true)
	}
	whole := upkeep.Progress{Bytes: 1<<20 + 4, AllBytes: 1<<20 + 4, Contents: 3, AllContents: 3}
	var told []upkeep.Progress
	tell := func(p upkeep.Progress) { told = append(told, p) }
	add := func(a *backup.Archive) error {
		opts := h.options(noon)
		opts.Progress = tell
		_, err := a.Add(t.Context(), h, opts)
		return err
	}
	for _, c := range []struct {
		what string
		do   func(*backup.Archive) error
	}{
		{"a backup", add},
		{"a backup of what is there", add},
		{"a verification", func(a *backup.Archive) error {
			_, err := a.Verify(t.Context(), backup.VerifyOptions{Open: openSnapshot, Progress: tell})
			return err
		}},
		{"a restore", func(a *backup.Archive) error {
			target := backup.Target{Dir: t.TempDir(), Own: anybodys}
			_, err := a.Restore(t.Context(), target, backup.RestoreOptions{Point: h.find(""), Open: openSnapshot, Progress: tell})
			return err
		}},
	} {
		told = nil
		h.archive(func(a *backup.Archive) { h.OK(c.do(a)) })
		seen := upkeep.Progress{}
		for _, p := range told {
			if p.AllBytes != whole.AllBytes || p.AllContents != whole.AllContents || p.Bytes > p.AllBytes || p.Contents < seen.Contents {
				t.Errorf("%s tells %+v after %+v", c.what, p, seen)
			}
			seen = p
		}
		if seen != whole {
			t.Errorf("%s ends with %+v, want %+v", c.what, seen, whole)
		}
	}
}

func TestANewerRestorePointSortsLastWhateverTheClockSays(t *testing.T) {
	h := newHome(t)
	for _, c := range []struct {
		at   time.Time
		name string
	}{
		{noon, "2026-11-23T12-00-00Z"},
		{noon, "2026-11-23T12-00-00Z-1"},
		{noon.Add(-time.Hour), "2026-11-23T12-00-00Z-2"},
		{noon.Add(time.Second), "2026-11-23T12-00-01Z"},
	} {
		if added := h.add(c.at); added.Name != c.name || h.find("").Name != c.name {
			t.Errorf("at %v: %s, and the newest is %s", c.at, added.Name, h.find("").Name)
		}
	}
	h.OK(os.Mkdir(filepath.Join(h.to, "points", "2026-11-23T12-00-09Z-x"), 0o700))
	h.wantSound(4)
}

func TestWhatTheSourceLacksIsAFaultOfThePoint(t *testing.T) {
	h := newHome(t)
	missing, short, wrong, marked := h.Keep("missing", true), h.Keep("short", true), h.Keep("wrong", true), h.Keep("marked", true)
	h.Keep("sound", true)
	known := h.Keep("known", true)
	h.add(noon)
	h.OK(os.RemoveAll(h.to)) // a new backup, which has only one of them
	for _, a := range []store.Attachment{missing, short, wrong, marked} {
		h.remove(a)
	}
	h.add(noon)
	missing, short, wrong, marked = h.Keep("missing", true), h.Keep("short", true), h.Keep("wrong", true), h.Keep("marked", true)
	h.OK(errors.Join(os.Remove(h.Path(missing)), os.Truncate(h.Path(short), 2), os.WriteFile(h.Path(wrong), []byte("wrung"), 0o600),
		h.Blobs.MarkDamaged(t.Context(), marked.SHA256, nil), os.Remove(h.Path(known))))
	added := h.add(noon.Add(time.Hour))
	what := map[string]string{}
	for _, f := range added.Faults {
		what[f.Attachment.UUID.String()] = f.What
	}
	if want := map[string]string{
		missing.ID.String(): "The content is missing.",
		short.ID.String():   "The content has 2 bytes, not 5.",
		wrong.ID.String():   "The content is damaged: its bytes are not those that were uploaded.",
		marked.ID.String():  "The content is damaged.",
	}; !maps.Equal(what, want) {
		t.Errorf("the faults are %q", what)
	}
	if p := h.find(added.Name); !slices.Equal(p.Faults, added.Faults) {
		t.Errorf("the point remembers %v", p.Faults)
	}
	if v := h.verify(added.Name); len(v.Faults) != 4 || !strings.HasSuffix(v.Faults[0].What, "The content is missing. It was so when the restore point was made.") {
		t.Errorf("verify: %v", v.Faults)
	}
	to := t.TempDir()
	restored, err := h.restore(added.Name, to)
	if err != nil || len(restored.Faults) != 4 || restored.Contents != 2 {
		t.Errorf("restored: %+v, %v", restored, err)
	}
	if _, err := os.Stat(filepath.Join(to, "attachd.db")); err != nil {
		t.Error(err)
	}
	// A content that is readable again is copied by the next backup, for the earlier
	// point too.
	h.OK(h.Blobs.MarkDamaged(t.Context(), wrong.SHA256, nil)) // as a download would
	for _, content := range []string{"missing", "short", "wrong", "marked"} {
		h.Keep(content, true)
	}
	if again := h.add(noon.Add(2 * time.Hour)); again.NewContents != 4 || len(again.Faults) > 0 {
		t.Errorf("after the repair: %+v", again)
	}
	h.wantSound(3)
}

// One file that cannot be read does not prevent a backup of all others, and is copied
// by the next one.
func TestARestorePointIsMadeBesideWhatCannotBeReadNow(t *testing.T) {
	h := newHome(t)
	h.Keep("one", true)
	lost := h.Keep("two", true)
	h.content = func(ref blobs.Ref) error {
		if ref == lost.SHA256 {
			return fmt.Errorf("%w: input/output error", backup.ErrUnreadable)
		}
		return nil
	}
	added := h.add(noon)
	if added.NewContents != 1 || len(added.Faults) != 1 || !strings.HasPrefix(added.Faults[0].What, "The content cannot be read: ") || added.Faults[0].Attachment.UUID != lost.ID {
		t.Errorf("%+v", added)
	}
	h.content = func(blobs.Ref) error { return nil }
	if added := h.add(noon.Add(time.Hour)); added.NewContents != 1 || len(added.Faults) > 0 || h.Blobs.Damaged() != 0 {
		t.Errorf("the next time: %+v", added)
	}
}

// Where nothing can be read, a point would be none; where some files cannot, however many
// of those that are left to copy, it is one.
func TestNoRestorePointIsMadeWhileTheStorageFails(t *testing.T) {
	h := newHome(t)
	const many = 30
	refused := map[blobs.Ref]bool{}
	h.content = func(ref blobs.Ref) error {
		if refused[ref] {
			return backup.ErrUnreadable
		}
		return nil
	}
	add := func() error {
		var err error
		h.asked = nil
		h.archive(func(a *backup.Archive) { _, err = a.Add(t.Context(), h, h.options(noon)) })
		return err
	}
	for i := range many {
		refused[h.Keep(fmt.Sprint("file ", i), true).SHA256] = true
	}
	if err := add(); !errors.Is(err, backup.ErrStorageFails) || strings.Contains(err.Error(), "\n") || len(h.asked) > 2*8 {
		t.Errorf("%d contents were asked for: %v", len(h.asked), err)
	}
	if points, err := os.ReadDir(filepath.Join(h.to, "points")); len(points) != 0 {
		t.Errorf("there are points: %v, %v", points, err)
	}

	h.content = func(blobs.Ref) error { return nil }
	h.add(noon)
	for i := range many {
		a := h.Keep(fmt.Sprint("new file ", i), true)
		refused[a.SHA256] = true
	}
	h.content = func(ref blobs.Ref) error {
		if refused[ref] {
			return backup.ErrUnreadable
		}
		return nil
	}
	if err := add(); !errors.Is(err, backup.ErrStorageFails) { // the ones copied before cannot be read either
		t.Errorf("a new storage that fails: %v", err)
	}
	h.content = func(ref blobs.Ref) error {
		if refused[ref] && !h.copied(ref) {
			return backup.ErrUnreadable
		}
		return nil
	}
	added := h.add(noon.Add(time.Hour))
	if len(added.Faults) != many || added.NewContents != 0 || added.Contents != 2*many {
		t.Errorf("%+v", added)
	}
	if what := added.Faults[0].What; strings.Count(what, "read") != 1 || strings.Contains(what, "..") {
		t.Errorf("a fault says %q", what)
	}
}

// copied reports whether the backup has a content.
func (h *home) copied(ref blobs.Ref) bool {
	_, err := os.Stat(h.saved(store.Attachment{SHA256: ref}))
	return err == nil
}

// A content that is marked damaged may have been repaired, or be marked wrongly.
func TestAVerificationTakesWrongMarksAway(t *testing.T) {
	h := newHome(t)
	wrong, right := h.Keep("whole", true), h.Keep("damaged", true)
	h.add(noon)
	h.OK(os.WriteFile(h.saved(right), []byte("DAMAGED"), 0o600))
	for _, a := range []store.Attachment{wrong, right} {
		h.OK(os.WriteFile(filepath.Join(h.to, "blobs", "damaged", blobs.Ref(a.SHA256).String()), nil, 0o600))
	}
	if v := h.verify(""); len(v.Faults) != 1 || v.Faults[0].Attachment.UUID != right.ID || !strings.HasPrefix(v.Faults[0].What, "The content is marked damaged.") {
		t.Errorf("%+v", v.Faults)
	}
	if again := h.add(noon.Add(time.Hour)); again.NewContents != 1 {
		t.Errorf("the next backup copied %d contents", again.NewContents)
	}
	h.wantSound(2)
}

// A content whose reading breaks off is requested again before it is given up.
func TestAContentThatCannotBeReadIsTriedTwice(t *testing.T) {
	h := newHome(t)
	h.Keep("a content", true)
	gone := errors.New("the way is gone")
	h.content = func(blobs.Ref) error {
		if len(h.asked) > 1 {
			return gone
		}
		return nil
	}
	h.archive(func(a *backup.Archive) {
		_, err := a.Add(t.Context(), breaking{h, 1}, h.options(noon))
		if !errors.Is(err, gone) {
			t.Errorf("the way there was gone: %v", err)
		}
	})
	h.asked, h.content = nil, func(blobs.Ref) error { return nil }
	h.archive(func(a *backup.Archive) {
		added, err := a.Add(t.Context(), breaking{h, 2}, h.options(noon))
		if err != nil || len(added.Faults) != 1 || added.Faults[0].What != "The content cannot be read: broken off." {
			t.Errorf("%+v, %v", added, err)
		}
	})
}

// breaking is a source whose first few contents break off.
type breaking struct {
	*home
	first int
}

func (b breaking) Content(ctx context.Context, ref blobs.Ref) (io.ReadCloser, error) {
	content, err := b.home.Content(ctx, ref)
	if err != nil || len(b.asked) > b.first {
		return content, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(content, 3), failing{}), content}, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off") }

// A point whose source stops keeping contents is not made.
func TestAPointIsNotMadeWhenItsContentsAreKeptNoLonger(t *testing.T) {
	h := newHome(t)
	for n := range 5 {
		h.Keep(fmt.Sprint("content ", n), true)
	}
	stopped := errors.New("the source stopped")
	h.archive(func(a *backup.Archive) {
		_, err := a.Add(t.Context(), stopping{h, stopped}, h.options(noon))
		if !errors.Is(err, stopped) {
			t.Errorf("%v", err)
		}
	})
	h.wantSound(0)
	if added := h.add(noon); added.NewContents != 2 {
		t.Errorf("what was copied should stay: %+v", added)
	}
	h.wantSound(1)
}

type stopping struct {
	*home
	why error
}

func (s stopping) Snapshot(ctx context.Context, w io.Writer) (context.Context, func(), error) {
	held, end := context.WithCancelCause(ctx)
	s.content = func(blobs.Ref) error {
		if len(s.asked) > 3 {
			end(s.why)
			return errors.New("no answer")
		}
		return nil
	}
	return held, func() { end(nil) }, s.Records.Snapshot(ctx, w)
}

// Whatever cannot be created, at whichever step, there is no partial point, and the
// next run makes a whole one.
func TestABackupThatFailsAtAnyStepLeavesOnlyWholePoints(t *testing.T) {
	h := newHome(t)
	for n := range 3 {
		h.Keep(fmt.Sprint("content ", n), true)
	}
	h.add(noon)
	whole := h.to
	h.Keep("new", true)
	steps := func(first int, begin func()) (failed int) {
		for step := first; ; step++ {
			h.to = filepath.Join(t.TempDir(), "backup")
			begin()
			err := h.failAt(step)
			if a, none := backup.FindArchive(h.to); none == nil {
				names, err := a.PointNames()
				h.OK(err)
				h.wantSound(int64(len(names)))
			}
			h.add(noon.Add(time.Hour))
			if err == nil {
				return failed
			}
			failed++
		}
	}
	if failed := steps(1, func() { h.OK(os.CopyFS(h.to, os.DirFS(whole))) }); failed < 6 {
		t.Errorf("with a point that was there before: only %d runs failed", failed)
	}
	if failed := steps(258, func() {}); failed < 10 { // creating the folders for contents comes first
		t.Errorf("only %d runs failed", failed)
	}
	for step := range 6 {
		h.to = filepath.Join(t.TempDir(), "backup")
		if h.failAt(step+1) == nil {
			t.Errorf("step %d does not fail", step+1)
		}
		h.add(noon)
		h.wantSound(1)
	}
	to := t.TempDir()
	_, err := h.restore("", to)
	h.OK(err)
	h.wantRestored(to, "content 0", "content 1", "content 2", "new")
}

// failAt makes a point while the n-th file or folder cannot be created.
func (h *home) failAt(n int) error {
	made := 0
	a, err := backup.MakeArchive(h.to, func(*os.File) error {
		if made++; made == n {
			return errors.New("the disk is gone")
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = a.Add(h.Context(), h, h.options(noon.Add(time.Hour)))
	return errors.Join(err, a.Close())
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *home, a store.Attachment, point string) error
		says  string
	}{
		"a flipped byte": {
			func(h *home, a store.Attachment, _ string) error {
				return os.WriteFile(h.saved(a), []byte("ane"), 0o600)
			},
			`("a.txt"), blob 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed: The content is damaged: its bytes are not those that were uploaded.`,
		},
		"a missing content": {
			func(h *home, a store.Attachment, _ string) error { return os.Remove(h.saved(a)) },
			`("a.txt"), blob 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed: The content is missing.`,
		},
		"a short content": {
			func(h *home, a store.Attachment, _ string) error { return os.Truncate(h.saved(a), 1) },
			"has 1 bytes, not 3",
		},
		"a cut database": {
			func(h *home, _ store.Attachment, point string) error {
				return os.Truncate(filepath.Join(point, "attachd.db"), 5000)
			},
			"attachd.db is damaged: its bytes are not those that were written.",
		},
		"no database": {
			func(h *home, _ store.Attachment, point string) error {
				return os.Remove(filepath.Join(point, "attachd.db"))
			},
			"attachd.db cannot be read",
		},
		"another secret": {
			func(h *home, _ store.Attachment, point string) error {
				return os.WriteFile(filepath.Join(point, "secret.key"), []byte("public\n"), 0o600)
			},
			"secret.key is damaged",
		},
		"nonsense instead of what is known": {
			func(h *home, _ store.Attachment, point string) error {
				return os.WriteFile(filepath.Join(point, "point.json"), []byte("{"), 0o600)
			},
			"point.json: unexpected end of JSON input.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			one := h.Keep("one", true)
			h.Keep("two", true)
			p := h.add(noon)
			h.OK(c.spoil(h, one, filepath.Join(h.to, "points", p.Name)))
			for range 2 {
				v := h.verify("")
				if len(v.Faults) != 1 || !strings.Contains(v.Faults[0].String(), c.says) && !strings.Contains(v.Faults[0].String(), "is marked") ||
					!strings.HasPrefix(v.Faults[0].String(), "restore point "+p.Name+": ") {
					t.Errorf("verify: %v", v.Faults)
				}
			}
			if !strings.Contains(name, "content") && name != "a flipped byte" {
				return
			}
			to := t.TempDir()
			restored, err := h.restore("", to)
			if !errors.Is(err, backup.ErrDamaged) || len(restored.Faults) != 1 {
				t.Errorf("restore: %v, %v", restored.Faults, err)
			}
			if _, err := os.Stat(filepath.Join(to, "attachd.db")); err == nil {
				t.Error("the restore that failed left a database")
			}
			// The next backup repairs it, and then the same restore continues.
			if added := h.add(noon.Add(time.Hour)); added.NewContents != 1 {
				t.Errorf("copied anew: %+v", added)
			}
			h.wantSound(2)
			_, err = h.restore(p.Name, to)
			h.OK(err)
			h.wantRestored(to, "one", "two")
		})
	}
}

func TestOnlyASoundDatabaseIsRestored(t *testing.T) {
	h := newHome(t)
	h.Keep("one", true)
	p := h.add(noon)
	h.OK(os.Truncate(filepath.Join(h.to, "points", p.Name, "attachd.db"), 5000))
	to := t.TempDir()
	restored, err := h.restore("", to)
	if !errors.Is(err, backup.ErrDamaged) || len(restored.Faults) != 1 {
		t.Errorf("%v, %v", restored.Faults, err)
	}
	if entries, err := os.ReadDir(to); len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// Whatever cannot be created, at whichever step: no database exists without all the
// rest, and the next run continues.
func TestARestoreThatFailsAtAnyStepLeavesNoDatabase(t *testing.T) {
	h := newHome(t)
	for n := range 3 {
		h.Keep(fmt.Sprint("content ", n), true)
	}
	h.add(noon)
	point := h.find("")
	for step := 255; ; step++ { // creating the folders comes first
		to := t.TempDir()
		made := 0
		a, err := backup.OpenArchive(h.to)
		h.OK(err)
		_, err = a.Restore(t.Context(), backup.Target{Dir: to, Own: func(*os.File) error {
			if made++; made == step {
				return errors.New("the disk is gone")
			}
			return nil
		}}, backup.RestoreOptions{Point: point, Open: openSnapshot})
		h.OK(a.Close())
		if _, missing := os.Stat(filepath.Join(to, "attachd.db")); (missing == nil) != (err == nil) {
			t.Errorf("step %d: %v, the database: %v", step, err, missing)
		}
		_, again := h.restore("", to)
		h.OK(again)
		h.wantRestored(to, "content 0", "content 1", "content 2")
		if err == nil {
			break
		}
	}
}

func TestPruneRemovesOldPointsAndWhatOnlyTheyHad(t *testing.T) {
	h := newHome(t)
	h.Keep("always", true)
	for n := range 4 {
		a := h.Keep(fmt.Sprint("only in ", n), true)
		h.add(noon.Add(time.Duration(n) * time.Hour))
		h.remove(a)
	}
	prune := func(keep int) (pruned backup.Pruned, err error) {
		h.archive(func(a *backup.Archive) { pruned, err = a.Prune(t.Context(), keep, openSnapshot) })
		return pruned, err
	}
	if pruned, err := prune(9); err != nil || pruned != (backup.Pruned{}) {
		t.Errorf("there are not so many: %+v, %v", pruned, err)
	}
	if pruned, err := prune(2); err != nil || pruned != (backup.Pruned{Points: 2, Contents: 2, Bytes: 18}) {
		t.Errorf("%+v, %v", pruned, err)
	}
	h.wantSound(2)
	to := t.TempDir()
	_, err := h.restore("2026-11-23T14-00-00Z", to)
	h.OK(err)
	h.wantRestored(to, "always", "only in 2")

	h.OK(os.Truncate(filepath.Join(h.to, "points", "2026-11-23T15-00-00Z", "attachd.db"), 5000))
	if pruned, err := prune(1); !errors.Is(err, backup.ErrDamagedPoint) || pruned != (backup.Pruned{}) {
		t.Errorf("the point that is to stay is damaged: %+v, %v", pruned, err)
	}
	if v := h.verify("2026-11-23T14-00-00Z"); len(v.Faults) > 0 {
		t.Errorf("the older one has suffered: %v", v.Faults)
	}
}

func TestOneCommandAtATimeWorksOnABackup(t *testing.T) {
	h := newHome(t)
	h.archive(func(*backup.Archive) {
		_, err := backup.MakeArchive(h.to, anybodys)
		if !errors.Is(err, backup.ErrBusy) {
			t.Errorf("another backup: %v", err)
		}
		if _, err := backup.OpenArchive(h.to); !errors.Is(err, backup.ErrBusy) {
			t.Errorf("a verify: %v", err)
		}
	})
	h.wantSound(0)
}

func TestABackupNeedsAFolderOfItsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		file, content, says string
	}{
		"other files":         {"photo.jpg", "x", "is neither empty nor a backup of attachd: there is photo.jpg in it"},
		"a data directory":    {"FORMAT", "1\n", "says something else"},
		"a newer format":      {"FORMAT", "attachd backup 2\n", "is a backup of format 2, which a newer attachd wrote"},
		"no number of format": {"FORMAT", "attachd backup one\n", "says something else"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := backup.MakeArchive(dir, anybodys)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v", err)
			}
			if entries, err := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("something was made: %v, %v", entries, err)
			}
			if _, err := backup.OpenArchive(dir); err == nil {
				t.Error("it is opened to read")
			}
		})
	}
	if _, err := backup.MakeArchive(filepath.Join(t.TempDir(), "not", "there"), anybodys); err == nil {
		t.Error("a folder was made in one that is not there")
	}
	if _, err := backup.OpenArchive(t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no backup") {
		t.Errorf("an empty folder is opened to read: %v", err)
	}
}
