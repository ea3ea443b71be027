//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// saying is the content of a file of this name, so that a file can be checked by
// its name.
func saying(name string) string {
	return name + "\n" + strings.Repeat(name[:len(name)-len(".txt")]+" ", 500)
}

// uploadAll uploads a file for each name.
func (p *process) uploadAll(names ...string) {
	for _, name := range names {
		p.upload(product, name, saying(name)).want(p.t, 201)
	}
}

// numbered returns n names.
func numbered(word string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s-%d.txt", word, i))
	}
	return names
}

// restored starts a server over what was restored from a backup, with the key of
// the server that was backed up, and returns the names of its files. Each must have
// the content that belongs to its name.
func restored(t *testing.T, backup, key string, words ...string) (dir string, names []string) {
	t.Helper()
	dir = dataDir(t)
	ok(t, append([]string{"restore", backup, "--data-dir", dir}, words...)...)
	if report := ok(t, "check", "--deep", "--data-dir", dir); !strings.Contains(report, "no faults") {
		t.Errorf("check says %s", report)
	}
	server := start(t, dir)
	server.key = key
	var files []attachment
	server.get(product+"/attachments").want(t, 200).into(t, &files)
	for _, f := range files {
		if got := server.get("/catalog/attachments/"+f.ID+"/download").want(t, 200); got.body != saying(f.FileName) {
			t.Errorf("%s came back as %.40q", f.FileName, got.body)
		}
		names = append(names, f.FileName)
	}
	server.stop()
	return dir, names
}

var madePoint = regexp.MustCompile(`(?m)^made restore point (\S+): (.*)$`)

// backedUp creates a restore point and returns its name and the output of the
// command.
func backedUp(t *testing.T, dir, to string, words ...string) (name, said string) {
	t.Helper()
	out := ok(t, append([]string{"backup", to, "--data-dir", dir}, words...)...)
	found := madePoint.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("backup says %s", out)
	}
	return found[1], found[2]
}

func TestABackupIsWholeWhilePeopleUploadAndDelete(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate, withoutTrash)
	there := numbered("there", 50)
	server.uploadAll(there...)
	var (
		people, begun sync.WaitGroup
		stop          atomic.Bool
	)
	for who := range 4 {
		begun.Add(1)
		people.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name := fmt.Sprintf("passing-%d-%d.txt", who, n)
				a := server.upload(product, name, saying(name)).want(t, 201)
				server.remove(a.download()).want(t, 200)
				if n == 0 {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	var points []string
	for range 5 {
		name, _ := backedUp(t, dir, to)
		points = append(points, name)
	}
	stop.Store(true)
	people.Wait()
	for _, point := range points {
		_, names := restored(t, to, server.key, "--point", point)
		for _, name := range there {
			if !slices.Contains(names, name) {
				t.Errorf("%s is not in %s", name, point)
			}
		}
	}
	if said := ok(t, "backup", "verify", to); !strings.HasPrefix(said, "5 restore points, ") || !strings.HasSuffix(said, ": no faults\n") {
		t.Errorf("verify says %s", said)
	}
	// Deleted contents that were kept for a backup have been removed since.
	eventually(t, "nothing is left that nobody refers to", func() bool {
		return strings.Contains(ok(t, "check", "--data-dir", dir), "50 attachments, 50 contents")
	})
}

func TestABackupIsTheSameWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
			server := start(t, dir, autoCreate)
			server.uploadAll("a.txt", "b.txt")
			server.upload(product, "a.txt", saying("a.txt")).want(t, 201)
			between := func(do func()) {
				if !running {
					server = start(t, dir, autoCreate)
				}
				do()
				if !running {
					server.stop()
				}
			}
			if !running {
				server.stop()
			}
			first, said := backedUp(t, dir, to)
			if said != "3 attachments, 2 contents, 2012 bytes, of which 2 contents, 2012 bytes, were new" {
				t.Errorf("the first backup says %s", said)
			}
			between(func() { server.uploadAll("c.txt") })
			second, said := backedUp(t, dir, to)
			if said != "4 attachments, 3 contents, 3018 bytes, of which 1 content, 1006 bytes, were new" {
				t.Errorf("the second backup says %s", said)
			}
			for _, private := range []string{"admin.key", "attachd.sock", "attachd.pid"} {
				walk(t, to, func(path string, info fs.FileInfo) {
					if filepath.Base(path) == private {
						t.Errorf("%s is in the backup", private)
					}
				})
			}
			list := ok(t, "backup", "list", to)
			if lines := strings.Split(list, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], first+" ") || !strings.HasPrefix(lines[2], second+" ") {
				t.Errorf("the list is\n%s", list)
			}
			_, names := restored(t, to, server.key, "--point", first)
			if !slices.Equal(names, []string{"a.txt", "b.txt", "a.txt"}) {
				t.Errorf("the first point has %q", names)
			}
			other, names := restored(t, to, server.key)
			if !slices.Equal(names, []string{"a.txt", "b.txt", "a.txt", "c.txt"}) {
				t.Errorf("the newest point has %q", names)
			}
			if read(t, filepath.Join(other, "secret.key")) != read(t, filepath.Join(dir, "secret.key")) {
				t.Error("links that were given out do not work any more")
			}
			if said := ok(t, "backup", to, "--keep", "2", "--data-dir", dir); !strings.HasSuffix(said, "removed 1 restore point, and no contents: other points have them too\n") {
				t.Errorf("it says %s", said)
			}
			ok(t, "backup", "verify", to)
			refused(t, 1, "backup", "verify", to, "--point", first)
		})
	}
}

// A backup that is killed at any moment leaves complete restore points only, and
// the next one continues.
func TestABackupMayBeKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.uploadAll(numbered("file", 60)...)
	for files := range 30 {
		killAt(t, func() bool { return tally(to) >= files*10 }, "backup", to, "--data-dir", dir)
		if _, err := os.Stat(filepath.Join(to, "FORMAT")); err != nil {
			continue
		}
		said := ok(t, "backup", "verify", to)
		if points := names(t, filepath.Join(to, "points")); !strings.Contains(said, "no faults") || tally(filepath.Join(to, "tmp")) > 0 {
			t.Errorf("after a kill at %d files: points %v, %s", files*10, points, said)
		}
	}
	backedUp(t, dir, to)
	_, names := restored(t, to, server.key)
	if !slices.Equal(names, numbered("file", 60)) {
		t.Errorf("restored %q", names)
	}
}

// tally counts the files in a folder.
func tally(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			n++
		}
		return nil // files that are removed meanwhile do not count
	})
	return n
}

// killAt kills a command as soon as a condition is true, unless it has ended.
func killAt(t *testing.T, so func() bool, words ...string) {
	t.Helper()
	cmd := command(t, words...)
	check(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // killed or not
	}()
	for !so() {
		select {
		case <-ended:
			return
		case <-time.After(100 * time.Microsecond):
		}
	}
	_ = cmd.Process.Kill() // it may have ended
	<-ended
}

// A restore that is killed at any moment leaves nothing that starts, and the next
// one continues.
func TestARestoreMayBeKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.uploadAll(numbered("file", 60)...)
	backedUp(t, dir, to)
	unfinished := 0
	other := dataDir(t)
	for files := 0; files < 34 || unfinished < 5; files++ {
		killAt(t, func() bool { return tally(other) >= files*10 }, "restore", to, "--data-dir", other)
		if slices.Contains(names(t, other), "RESTORING") {
			unfinished++
			said := refused(t, 1, "serve", "--data-dir", other, "--listen", "127.0.0.1:0")
			if !strings.Contains(said, "is being restored from a backup, or that was cut off. Run `attachd restore` again") {
				t.Errorf("serve says %s", said)
			}
			continue
		}
		if len(names(t, other)) == 0 {
			continue // the restore had not begun
		}
		if unfinished >= 5 {
			break
		}
		other, files = dataDir(t), 0 // it was completed before the kills, too often
	}
	if slices.Contains(names(t, other), "RESTORING") {
		ok(t, "restore", to, "--data-dir", other)
	}
	if said := ok(t, "check", "--deep", "--data-dir", other); !strings.HasPrefix(said, "60 attachments, 60 contents, ") {
		t.Errorf("check says %s", said)
	}
	if said := refused(t, 1, "restore", to, "--data-dir", other); !strings.Contains(said, "is not empty") {
		t.Errorf("a second restore says %s", said)
	}
}

func TestABackupWhoseServerStopsFailsAndGoesOnLater(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	const many = 2000 // more than are copied before the command is stopped
	server.uploadAll(numbered("file", many)...)
	var said *strings.Builder
	begin := func() (to string, cmd *exec.Cmd, copied []string) {
		to, said = filepath.Join(t.TempDir(), "backup"), &strings.Builder{}
		cmd = command(t, "backup", to, "--data-dir", dir)
		cmd.Stderr = said
		check(t, cmd.Start())
		look := func() bool {
			copied, _ = filepath.Glob(filepath.Join(to, "blobs", "sha256", "??", "*"))
			return len(copied) > 0
		}
		eventually(t, "the first contents are copied", look)
		check(t, cmd.Process.Signal(syscall.SIGSTOP))
		look()
		return to, cmd, copied
	}
	to, cmd, copied := begin()
	for len(copied) > many/2 { // too many were copied before the stop
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // reports that it was killed
		to, cmd, copied = begin()
	}
	server.stop()
	if strings.Contains(server.stderr(), "cut off what was still under way") {
		t.Error("the server waited for the command")
	}
	check(t, cmd.Process.Signal(syscall.SIGCONT))
	_ = cmd.Wait() // ProcessState has the result
	if code := cmd.ProcessState.ExitCode(); code != 1 || said.String() != "attachd: the server stopped. Run the command again: what was copied stays\n" {
		t.Errorf("exit code %d, %s", code, said)
	}
	_, again := backedUp(t, dir, to)
	var fresh int
	again = strings.Replace(again, "no contents", "0 contents", 1)
	if _, err := fmt.Sscanf(again[strings.Index(again, "of which ")+len("of which "):], "%d contents", &fresh); err != nil || fresh > many-len(copied) {
		t.Errorf("%d contents were copied before; %s", len(copied), again)
	}
	_, names := restored(t, to, server.key)
	if len(names) != many {
		t.Errorf("restored %d: %q", len(names), names)
	}
}

func TestBackupsAndRestoresThatAreRefused(t *testing.T) {
	t.Parallel()
	dir, elsewhere := dataDir(t), t.TempDir()
	server := start(t, dir, autoCreate)
	server.uploadAll("a.txt")
	to := filepath.Join(elsewhere, "backup")
	backedUp(t, dir, to)
	check(t, os.Symlink(dir, filepath.Join(elsewhere, "link")))
	check(t, os.Mkdir(filepath.Join(elsewhere, "empty"), 0o700))
	for _, c := range []struct {
		code        int
		typed, says string
	}{
		{2, "backup DATA", "is in the data directory"},
		{2, "backup DATA/backup", "is in the data directory"},
		{2, "backup HERE/link/backup", "is in the data directory"},
		{2, "restore HERE/backup --data-dir HERE/backup/data", "is in HERE/backup: a backup needs a place of its own"},
		{1, "backup HERE", "is neither empty nor a backup of attachd"},
		{1, "backup HERE/not/there", "no such file or directory"},
		{1, "backup HERE/new --data-dir HERE/nothing", "there is nothing to back up"},
		{1, "backup list HERE/empty", "holds no backup of attachd"},
		{1, "backup verify HERE/backup --point 2026-01-01T00-00-00Z", "there is no restore point 2026-01-01T00-00-00Z"},
		{1, "restore HERE/backup", "is not empty"},
		{1, "restore HERE/backup --point x --data-dir HERE/fresh", "there is no restore point x"},
		{1, "restore HERE/empty --data-dir HERE/fresh", "holds no backup of attachd"},
	} {
		words := strings.Fields(strings.NewReplacer("DATA", dir, "HERE", elsewhere).Replace(c.typed))
		if !slices.Contains(words, "--data-dir") {
			words = append(words, "--data-dir", dir)
		}
		if said := strings.ReplaceAll(refused(t, c.code, words...), elsewhere, "HERE"); !strings.Contains(said, c.says) {
			t.Errorf("attachd %s says %s", c.typed, said)
		}
	}
	if left := names(t, elsewhere); !slices.Equal(left, []string{"backup", "empty", "link"}) {
		t.Errorf("something was made: %q", left)
	}
	server.get("/users/me").want(t, 200)
}

func TestABackupOfADamagedHouseSavesTheRestAndSaysSo(t *testing.T) {
	t.Parallel()
	dir, to := spoiledDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate, filesAtOnce)
	lost := server.upload(product, "lost.txt", saying("lost.txt")).want(t, 201)
	server.uploadAll("kept.txt")
	remove(t, blobFile(dir, digest(lost)))
	r := attachd(t, "backup", to, "--data-dir", dir)
	if r.code != 3 || !strings.Contains(r.stdout, `("lost.txt"), blob `+digest(lost)+": The content is missing.\nmade restore point ") ||
		r.stderr != "attachd: 1 attachment could not be saved; everything else is\n" {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if said := refused(t, 3, "backup", "verify", to); said != "attachd: 1 fault found\n" {
		t.Errorf("verify says %s", said)
	}
	other := spoiledDir(t)
	if said := refused(t, 3, "restore", to, "--data-dir", other); !strings.Contains(said, "1 attachment had no content when the restore point was made; everything else is restored") {
		t.Errorf("restore says %s", said)
	}
	again := start(t, other)
	again.key = server.key
	again.get(product+"/attachments?limit=2").want(t, 200)
}

// An installation keeps its backup through restores and copies, and no other
// installation can use it.
func TestABackupBelongsToOneInstallation(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.uploadAll("a.txt")
	backedUp(t, dir, to, "--keep", "1")
	other := dataDir(t)
	start(t, other, autoCreate) // as where a disk is not mounted
	for range 2 {
		said := refused(t, 1, "backup", to, "--keep", "1", "--data-dir", other)
		if !strings.Contains(said, "it is the backup of another installation") || !strings.Contains(said, "has 1 attachments. Nothing was changed in it. Name another folder") {
			t.Errorf("it says %s", said)
		}
	}
	back, names := restored(t, to, server.key)
	if !slices.Equal(names, []string{"a.txt"}) {
		t.Errorf("restored %q", names)
	}
	backedUp(t, back, to)
	server.stop()
	copied := filepath.Join(t.TempDir(), "copied")
	check(t, os.CopyFS(copied, os.DirFS(dir)))
	check(t, errors.Join(os.Chmod(copied, 0o700), os.Chmod(filepath.Join(copied, "secret.key"), 0o600), os.Chmod(filepath.Join(copied, "admin.key"), 0o600)))
	backedUp(t, copied, to)
	list := strings.Split(strings.TrimSpace(ok(t, "backup", "list", to)), "\n")
	ids := map[string]bool{}
	for _, line := range list[1:] {
		fields := strings.Fields(line)
		ids[fields[len(fields)-1]] = true
	}
	if len(list) != 4 || len(ids) != 1 {
		t.Errorf("the list is %q", list)
	}
}

func TestRestorePointsAreRemovedByName(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate, withoutTrash)
	gone := server.upload(product, "gone.txt", saying("gone.txt")).want(t, 201)
	first, _ := backedUp(t, dir, to)
	server.remove(gone.download()).want(t, 200)
	server.uploadAll("stays.txt")
	second, _ := backedUp(t, dir, to)
	refused(t, 2, "backup", "remove", to)
	refused(t, 1, "backup", "remove", to, "2026-01-01T00-00-00Z")
	if said := ok(t, "backup", "remove", to, first); !strings.HasPrefix(said, "removed 1 restore point, and with them 1 content, ") {
		t.Errorf("it says %s", said)
	}
	if said := refused(t, 1, "backup", "remove", to, second); !strings.Contains(said, "no whole restore point would be left if "+second+" were removed; nothing was removed. Make a new one first, or run the command again with --even-last") {
		t.Errorf("the last one: %s", said)
	}
	ok(t, "backup", "verify", to)
	ok(t, "backup", "remove", "--even-last", to, second)
	backedUp(t, dir, to)
	if _, names := restored(t, to, server.key); !slices.Equal(names, []string{"stays.txt"}) {
		t.Errorf("restored %q", names)
	}
}

func TestADamagedBackupRestoresNothingThatStarts(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.uploadAll("kept.txt")
	hit := server.upload(product, "hit.txt", saying("hit.txt")).want(t, 201)
	backedUp(t, dir, to)
	write(t, blobFile(to, digest(hit)), strings.ToUpper(saying("hit.txt")))
	other := dataDir(t)
	r := attachd(t, "restore", to, "--data-dir", other)
	if r.code != 3 || !strings.Contains(r.stdout, `("hit.txt")`) || !strings.Contains(r.stderr, "the backup is damaged") || !strings.Contains(r.stderr, "--despite-damage") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	refused(t, 1, "serve", "--data-dir", other, "--listen", "127.0.0.1:0")
	if slices.Contains(names(t, other), "attachd.db") {
		t.Error("there is a database")
	}
	refused(t, 3, "backup", "verify", to)
	backedUp(t, dir, to) // copies it anew
	ok(t, "restore", to, "--data-dir", other)
	ok(t, "check", "--deep", "--data-dir", other)
}

func TestWhatThereIsOfADamagedBackupCanBeRestored(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate, filesAtOnce)
	server.uploadAll("kept.txt")
	hit := server.upload(product, "hit.txt", saying("hit.txt")).want(t, 201)
	point, _ := backedUp(t, dir, to)
	ofPoint := func(name string) string { return filepath.Join(to, "points", point, name) }
	write(t, blobFile(to, digest(hit)), strings.ToUpper(saying("hit.txt")))
	remove(t, ofPoint("secret.key"))
	write(t, ofPoint("FORMAT"), "9\n")
	other := spoiledDir(t)
	refused(t, 3, "restore", to, "--data-dir", other)
	r := attachd(t, "restore", to, "--data-dir", other, "--despite-damage")
	for _, says := range []string{"secret.key cannot be read", "FORMAT is damaged", `("hit.txt"), blob ` + digest(hit) + ": The content is missing.", "made a new secret.key", "restored restore point " + point} {
		if !strings.Contains(r.stdout, says) {
			t.Errorf("nothing says %q", says)
		}
	}
	if r.code != 3 || r.stderr != "attachd: 3 faults; everything else is restored\n" {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	again := start(t, other)
	again.key = server.key
	var files []attachment
	again.get(product+"/attachments").want(t, 200).into(t, &files)
	if len(files) != 2 {
		t.Fatalf("there are %v", files)
	}
	if got := again.get("/catalog/attachments/"+files[0].ID+"/download").want(t, 200); got.body != saying("kept.txt") {
		t.Errorf("it says %.40q", got.body)
	}
	again.get("/catalog/attachments/"+files[1].ID+"/download").want(t, 500)
	again.upload(product, "hit.txt", saying("hit.txt")).want(t, 201) // repairs it
	again.get("/catalog/attachments/"+files[1].ID+"/download").want(t, 200)

	write(t, ofPoint("attachd.db"), "no database")
	if said := refused(t, 3, "restore", to, "--data-dir", dataDir(t), "--despite-damage"); !strings.Contains(said, "nothing can be restored without the point's database. Name another restore point") {
		t.Errorf("without its database: %s", said)
	}
	write(t, ofPoint("point.json"), "no point")
	refused(t, 3, "restore", to, "--data-dir", dataDir(t))
}

// A backup to another disk needs no room on that of the data.
func TestABackupIsMadeWhileTheDiskIsFull(t *testing.T) {
	t.Parallel()
	const full = "ATTACHD_LIMITS_DISK_RESERVE=1000TB"
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.uploadAll("a.txt", "b.txt")
	server.stop()
	ok(t, full, "backup", to, "--data-dir", dir) // the command starts one itself
	key := server.key
	server = start(t, dir, full)
	server.key = key
	server.upload(product, "c.txt", "too much").want(t, 507)
	backedUp(t, dir, to)
	if line := server.logged("a snapshot is sent while it is read"); !strings.Contains(line, `"level":"WARN"`) {
		t.Errorf("the log says %s", line)
	}
	if said := ok(t, "backup", "verify", to); !strings.HasPrefix(said, "2 restore points, 2 contents, ") {
		t.Errorf("verify says %s", said)
	}
	if _, names := restored(t, to, key); !slices.Equal(names, []string{"a.txt", "b.txt"}) {
		t.Errorf("restored %q", names)
	}
}

// A newly formatted disk has a folder in it.
func TestAFreshDiskIsEmpty(t *testing.T) {
	t.Parallel()
	dir, to, other := dataDir(t), t.TempDir(), dataDir(t)
	server := start(t, dir, autoCreate)
	server.uploadAll("a.txt")
	for _, disk := range []string{to, other} {
		check(t, os.MkdirAll(filepath.Join(disk, "lost+found"), 0o700))
	}
	backedUp(t, dir, to)
	ok(t, "restore", to, "--data-dir", other)
	ok(t, "check", "--data-dir", other)
}

func TestRootLeavesBackupsAndWhatIsRestoredToTheOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can work for another user")
	}
	const uid, gid = 12345, 23456
	dir, other, to := dataDir(t), dataDir(t), filepath.Join(t.TempDir(), "backup")
	check(t, os.Chown(dir, uid, gid))
	check(t, os.Chown(other, uid, gid))
	server := start(t, dir, autoCreate)
	server.uploadAll("a.txt")
	backedUp(t, dir, to)
	ok(t, "backup", "verify", to)
	ok(t, "restore", to, "--data-dir", other)
	for _, made := range []string{to, other} {
		seen := map[string]bool{}
		walk(t, made, func(path string, info fs.FileInfo) {
			seen[filepath.Base(path)] = true
			if stat := info.Sys().(*syscall.Stat_t); stat.Uid != uid || stat.Gid != gid {
				t.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
			}
			want := fs.FileMode(0o600)
			if info.IsDir() {
				want = 0o700
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
		})
		if !seen["attachd.db"] || !seen["secret.key"] {
			t.Errorf("in %s there is only %v", made, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// The user of the service may put links where root's commands work.
func TestRootsCommandsFollowNoLinksOfTheService(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can be led astray")
	}
	const service = 12345
	for name, in := range map[string]string{
		"tmp": "data", "snapshots": "data", "attachd.pid": "data", "secret.key": "data", "ballast": "data", "blobs": "data", "wal": "data",
		"lock": "backup", "points": "backup", "FORMAT.new": "backup", "INSTALLATION.new": "backup", "blobs/damaged": "backup",
	} {
		t.Run(in+"/"+name, func(t *testing.T) {
			t.Parallel()
			here := t.TempDir()
			check(t, errors.Join(os.Chmod(filepath.Dir(here), 0o755), os.Chmod(here, 0o755)))
			dir, to := filepath.Join(here, "data"), filepath.Join(here, "backup")
			check(t, errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, service, service)))
			server := start(t, dir, autoCreate)
			server.uploadAll("a.txt")
			server.stop()
			backedUp(t, dir, to)
			secret, folder := filepath.Join(here, "secret"), filepath.Join(here, "folder")
			write(t, secret, strings.Repeat("5", 64)+"\n")
			check(t, os.Mkdir(folder, 0o700))
			planted := filepath.Join(here, in, name)
			leads := secret
			if info, err := os.Lstat(planted); name == "snapshots" || name == "wal" || err == nil && info.IsDir() {
				leads = folder
			}
			check(t, os.RemoveAll(planted))
			if name == "secret.key" { // a hard link looks like a plain file
				check(t, os.Link(leads, planted))
			} else {
				check(t, errors.Join(os.Symlink(leads, planted), os.Lchown(planted, service, service)))
			}
			for _, words := range []string{"backup BACKUP --keep 1", "check --deep", "gc", "compact", "user add Eve", "key rotate-signing", "backup verify BACKUP", "backup list BACKUP"} {
				_ = attachd(t, append(strings.Fields(strings.ReplaceAll(words, "BACKUP", to)), "--data-dir", dir)...) // the command may be refused
			}
			for _, path := range []string{secret, folder} {
				info, err := os.Lstat(path)
				check(t, err)
				if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 0 || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %v and belongs to %d", path, info.Mode(), stat.Uid)
				}
			}
			if raw := read(t, secret); raw != strings.Repeat("5", 64)+"\n" {
				t.Errorf("root's own says %q", raw)
			}
			if left := names(t, folder); len(left) > 0 {
				t.Errorf("in root's folder is %v", left)
			}
			walk(t, to, func(path string, info fs.FileInfo) {
				if info.Mode().IsRegular() && strings.Contains(read(t, path), "55555555555555555555") {
					t.Errorf("%s has what is root's own", path)
				}
			})
		})
	}
}
