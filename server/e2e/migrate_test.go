//go:build unix

package e2e

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"attachd/blobs/s3/s3test"
)

// proxied has the server send files itself, wherever they are.
const proxied = "ATTACHD_DOWNLOADS_MODE=content"

// move is an installation whose files are moved between the disk and a bucket.
type move struct {
	t       *testing.T
	store   *s3test.Gateway
	dir     string
	configs map[string]string // files with the storage to move to, by backend
	*process

	mu    sync.Mutex
	files map[string]string // download paths of the files that are there, by name

	done, refused atomic.Int64 // uploads and deletions
}

func newMove(t *testing.T) *move {
	m := &move{t: t, store: s3test.Versitygw(t), dir: spoiledDir(t), files: map[string]string{}}
	folder := t.TempDir()
	m.configs = map[string]string{"s3": filepath.Join(folder, "s3.toml"), "disk": filepath.Join(folder, "disk.toml")}
	write(t, m.configs["disk"], "[storage]\nbackend = \"disk\"\n")
	m.writeBucket("attachd/")
	m.serve("disk")
	return m
}

// writeBucket writes the configuration of the storage in a bucket.
func (m *move) writeBucket(prefix string) { write(m.t, m.configs["s3"], bucketConfig(m.store, prefix)) }

// bucketConfig is the configuration of the storage in a bucket.
func bucketConfig(g *s3test.Gateway, prefix string) string {
	return fmt.Sprintf("[storage]\nbackend = \"s3\"\ns3_endpoint = \"http://%s\"\ns3_bucket = \"bucket\"\ns3_prefix = %q\ns3_access_key = %q\ns3_secret_key = %q\nkeep_deleted = \"0s\"\n",
		g.Host("127.0.0.1"), prefix, s3test.GatewayKey, s3test.GatewaySecret)
}

// serve starts the server with the storage of a backend.
func (m *move) serve(backend string) {
	m.t.Helper()
	m.process = start(m.t, m.dir, autoCreate, proxied, withoutTrash, "--config", m.configs[backend])
}

// isElsewhere checks that no server starts with the storage of a backend.
func (m *move) isElsewhere(backend string) {
	m.t.Helper()
	if said := refused(m.t, 1, "serve", "--listen", "127.0.0.1:0", "--data-dir", m.dir, "--config", m.configs[backend]); !strings.Contains(said, "elsewhere") {
		m.t.Errorf("serve says %s", said)
	}
}

// examined has the doctor look at the installation with the storage of a backend.
func (m *move) examined(backend, says string) {
	m.t.Helper()
	r := attachd(m.t, "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--data-dir", m.dir, "--config", m.configs[backend])
	if r.code != 3 || !strings.Contains(r.stdout, says) {
		m.t.Errorf("the doctor ends with %d, and says\n%s", r.code, r.stdout)
	}
}

// contentOf is the content of a file of this name: of some, more than what is written to
// the log first.
func contentOf(name string) string {
	if strings.HasPrefix(name, "large") {
		return strings.Repeat(saying(name), 20)
	}
	return saying(name)
}

// tryPut uploads a file, and says whether that was possible: otherwise it must have been
// refused for the time of the pause.
func (m *move) tryPut(name string) bool {
	m.t.Helper()
	a := m.upload(product, name, contentOf(name))
	if !m.isDone(a, 201) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = a.download()
	return true
}

func (m *move) tryPutAll(names []string) {
	m.t.Helper()
	for _, name := range names {
		m.tryPut(name)
	}
}

// tryRemove deletes a file that one caller only knows.
func (m *move) tryRemove(name string) {
	m.t.Helper()
	m.mu.Lock()
	path := m.files[name]
	m.mu.Unlock()
	if m.isDone(m.remove(path), 200) {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.files, name)
	}
}

func (m *move) isDone(a answer, status int) bool {
	m.t.Helper()
	if a.status == 503 && a.header.Get("Retry-After") != "" && strings.Contains(a.body, "moved") {
		m.refused.Add(1)
		return false
	}
	a.want(m.t, status)
	m.done.Add(1)
	return true
}

// work has people upload, delete and read until stop.
func (m *move) work(round string) (stop func()) {
	var end atomic.Bool
	var people sync.WaitGroup
	for who := range 4 {
		people.Go(func() {
			for n := 0; !end.Load(); n++ {
				name := fmt.Sprintf("%s-%d-%d.txt", round, who, n)
				if who == 0 {
					name = "large-" + name
				}
				if !m.tryPut(name) {
					continue
				}
				m.mu.Lock()
				path := m.files[name]
				m.mu.Unlock()
				if a := m.get(path).want(m.t, 200); a.body != contentOf(name) {
					m.t.Errorf("%s is %.40q", name, a.body)
				}
				if n%2 == 0 {
					m.tryRemove(name)
				}
			}
		})
	}
	return func() {
		end.Store(true)
		people.Wait()
	}
}

// hasAll checks that exactly the files are there that were uploaded and not deleted.
func (m *move) hasAll(backend string) {
	m.t.Helper()
	var list []attachment
	m.get(product+"/attachments?limit=1000").into(m.t, &list)
	var got []string
	for _, f := range list {
		got = append(got, f.FileName)
	}
	for name, path := range m.files {
		if !slices.Contains(got, name) {
			m.t.Errorf("%s is not listed", name)
		}
		if a := m.get(path).want(m.t, 200); a.body != contentOf(name) {
			m.t.Errorf("%s is %.40q", name, a.body)
		}
	}
	if len(got) != len(m.files) {
		m.t.Errorf("%d files are listed, of %d", len(got), len(m.files))
	}
	n := len(m.files)
	if said := ok(m.t, "check", "--deep", "--data-dir", m.dir, "--config", m.configs[backend]); !strings.HasPrefix(said, fmt.Sprintf("%d attachments, %d contents, ", n, n)) || !strings.Contains(said, "no faults") {
		m.t.Errorf("check says %s", said)
	}
}

func (m *move) migrate(to string, words ...string) string {
	m.t.Helper()
	from := map[string]string{"disk": "s3", "s3": "disk"}[to]
	return ok(m.t, append([]string{"migrate", "--to", m.configs[to], "--data-dir", m.dir, "--config", m.configs[from]}, words...)...)
}

func TestFilesMoveIntoABucketAndBackWhilePeopleWork(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.tryPutAll(slices.Concat(numbered("there", 30), numbered("large", 5)))
	for _, to := range []string{"s3", "disk"} {
		from := map[string]string{"disk": "s3", "s3": "disk"}[to]
		stop := m.work("to-" + to)
		said := m.migrate(to)
		stop()
		t.Logf("%d uploads and deletions so far, %d refused; %s", m.done.Load(), m.refused.Load(), said)
		left := map[string]string{"s3": "find " + filepath.Join(m.dir, "blobs") + " -type f -delete", "disk": "delete attachd/attachd.json and everything below attachd/blobs/ there"}[to]
		if !strings.HasPrefix(said, "moved ") || !strings.Contains(said, "restart the server") || !strings.Contains(said, left) {
			t.Errorf("it says %s", said)
		}
		// What was there before is served on, and nothing is changed.
		for name, path := range m.files {
			if m.get(path).want(t, 200).body != contentOf(name) {
				t.Errorf("%s is not served from the old place", name)
			}
			m.remove(path).want(t, 503)
			m.upload(product, "late.txt", "late").want(t, 503)
			break
		}
		if ready := m.call("", "GET", "/health/ready", nil).want(t, 503); !strings.Contains(ready.body, "restart the server") {
			t.Errorf("it is not ready: %s", ready)
		}
		if again := refused(t, 1, "migrate", "--to", m.configs[to], "--data-dir", m.dir, "--config", m.configs[from]); !strings.Contains(again, "moved already") {
			t.Errorf("once more, it says %s", again)
		}
		m.examined(from, "problem  storage: The files were moved to storage.backend = \""+to)
		m.examined(to, "problem  storage: The files were moved to storage.backend = \""+to)
		m.stop()
		m.isElsewhere(from)
		m.examined(from, "problem  storage: The server does not start: the files are in storage.backend = \""+to)
		m.serve(to)
		m.hasAll(to)
		m.tryPut("after-" + to + ".txt")
		if to == "s3" {
			eventually(t, "the bucket has what records need, and nothing else", func() bool { return len(m.store.Objects()) == len(m.files) })
		}
	}
	m.hasAll("disk")
	if exported := ok(t, "audit", "export", "--data-dir", m.dir); strings.Count(exported, `"action":"upkeep.migrate"`) < 2 {
		t.Errorf("the audit log does not have both migrations: %s", exported)
	}
}

func TestAMigrationIsContinuedAfterAKill(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.tryPutAll(numbered("large", 300))
	cmd := command(t, "migrate", "--to", m.configs["s3"], "--data-dir", m.dir)
	ended := make(chan result)
	go func() { ended <- finish(t, cmd) }()
	// At most four batches of 4 MB are under way, which count as copied at their end only.
	eventually(t, "a batch is copied", func() bool { return len(m.store.Objects()) > 220 })
	m.kill()
	if r := <-ended; r.code == 0 {
		t.Log("it was quicker than the kill")
		m.isElsewhere("disk")
		m.serve("s3")
		m.hasAll("s3")
		return
	}
	m.serve("disk") // as if nothing had happened
	m.tryRemove("large-0.txt")
	m.tryRemove("large-99.txt")
	m.tryPut("meanwhile.txt")
	m.hasAll("disk")
	before := len(m.store.Objects())
	m.migrate("s3")
	m.kill()
	m.isElsewhere("disk")
	m.serve("s3")
	m.hasAll("s3")
	if now := len(m.store.Objects()); now >= before+len(m.files) {
		t.Errorf("%d objects became %d: all were copied again", before, now)
	}
}

func TestDamagedFilesStayBehindOnlyWhenThatIsWanted(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.tryPutAll(numbered("large", 4))
	m.stop()
	write(t, blobFile(m.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(contentOf("large-1.txt"))))), "damaged")
	words := []string{"migrate", "--to", m.configs["s3"], "--data-dir", m.dir}
	r := attachd(t, words...)
	if r.code != 3 || !strings.Contains(r.stdout, `("large-1.txt"), blob`) || !strings.Contains(r.stderr, "1 attachment cannot be moved, and so nothing was") {
		t.Errorf("%d %s%s", r.code, r.stdout, r.stderr)
	}
	m.isElsewhere("s3")
	r = attachd(t, append(words, "--despite-damage")...)
	if r.code != 3 || !strings.Contains(r.stdout, "moved 3 contents") || !strings.Contains(r.stderr, "1 attachment had no whole content") {
		t.Errorf("%d %s%s", r.code, r.stdout, r.stderr)
	}
	m.serve("s3")
	m.get(m.files["large-0.txt"]).want(t, 200)
	if a := m.get(m.files["large-1.txt"]).want(t, 500); !strings.Contains(a.body, `"damaged"`) {
		t.Errorf("the damaged one: %s", a)
	}
	m.isWholeButForOne()
	m.tryPut("large-1.txt") // which repairs it
	m.get(m.files["large-1.txt"]).want(t, 200)
}

// isWholeButForOne checks that a file without its content stops neither snapshots nor
// collections nor backups: nothing is wrong with the database.
func (m *move) isWholeButForOne() {
	t, snapshots := m.t, filepath.Join(m.dir, "snapshots")
	t.Helper()
	m.tryPut("large-4.txt")
	m.stop() // which takes a snapshot
	newest := slices.Max(names(t, snapshots))
	m.serve("s3")
	m.tryRemove("large-4.txt")
	m.stop()
	if later := slices.Max(names(t, snapshots)); later <= newest {
		t.Errorf("the last snapshot is %s, as it was before", later)
	}
	where := []string{"--data-dir", m.dir, "--config", m.configs["s3"]}
	if r := attachd(t, slices.Concat([]string{"check"}, where)...); r.code != 3 || !strings.Contains(r.stdout, ": 1 fault\n") || strings.Contains(r.stderr, "snapshot") {
		t.Errorf("check: %d %s%s", r.code, r.stdout, r.stderr)
	}
	ok(t, slices.Concat([]string{"gc", "--min-age", "0s"}, where)...)
	if r := attachd(t, slices.Concat([]string{"backup", filepath.Join(t.TempDir(), "backup")}, where)...); r.code != 3 || !strings.Contains(r.stderr, "1 attachment could not be saved; everything else is\n") {
		t.Errorf("backup: %d %s%s", r.code, r.stdout, r.stderr)
	}
	m.serve("s3")
}

// Whoever mistypes the prefix must be able to go on with the right one.
func TestAMigrationGoesOnInItsBucketAfterATryInAnother(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.tryPutAll(numbered("large", 4))
	m.stop()
	blob := blobFile(m.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(contentOf("large-1.txt")))))
	write(t, blob, "damaged") // and so it copies the others, and ends
	for _, prefix := range []string{"attachd/", "typo/"} {
		m.writeBucket(prefix)
		refused(t, 3, "migrate", "--to", m.configs["s3"], "--data-dir", m.dir)
	}
	if n := len(m.store.Objects()); n != 2*3 {
		t.Errorf("there are %d objects", n)
	}
	write(t, blob, contentOf("large-1.txt"))
	m.writeBucket("attachd/")
	m.migrate("s3")
	m.serve("s3")
	m.hasAll("s3")
}

// The installation that a backup comes from may be in use: what is restored must not touch
// its bucket.
func TestARestoredCopyOfAnInstallationInABucketIsApartFromIt(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.stop()
	ok(t, "migrate", "--to", m.configs["s3"], "--data-dir", m.dir)
	m.serve("s3")
	m.tryPutAll(slices.Concat(numbered("there", 5), numbered("large", 2)))
	to := filepath.Join(t.TempDir(), "backup")
	ok(t, "backup", to, "--data-dir", m.dir, "--config", m.configs["s3"])
	if said := ok(t, "backup", "verify", to); !strings.Contains(said, "no faults") {
		t.Errorf("verify says %s", said)
	}
	other := &move{t: t, store: m.store, dir: spoiledDir(t), configs: m.configs, files: m.files}
	said := ok(t, "restore", to, "--data-dir", other.dir, "--config", m.configs["s3"])
	if !strings.Contains(said, "storage.backend = \"disk\"") {
		t.Errorf("restore says %s", said)
	}
	other.isElsewhere("s3")
	other.serve("disk")
	other.key = m.key
	other.hasAll("disk")
	if said := refused(t, 1, "migrate", "--to", m.configs["s3"], "--data-dir", other.dir); !strings.Contains(said, "a copy of it, restored from a backup") {
		t.Errorf("migrate says %s", said)
	}
	other.writeBucket("other/")
	other.migrate("s3")
	other.stop()
	other.serve("s3")
	other.key = m.key
	other.hasAll("s3")
	for name := range other.files {
		other.tryRemove(name)
		break
	}
	eventually(t, "the object is deleted", func() bool { return len(m.store.Objects()) == 2*7-1 })
	other.stop()
	m.writeBucket("attachd/")
	if said := ok(t, "check", "--deep", "--data-dir", m.dir, "--config", m.configs["s3"]); !strings.HasPrefix(said, "7 attachments, 7 contents, ") || !strings.Contains(said, "no faults") {
		t.Errorf("check of the first says %s", said)
	}
}

// As an operator does it, with the files and the commands as printed.
func TestTheManualMovesTheFilesThereAndBack(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	dir := spoiledDir(t)
	check(t, os.Symlink(binary(), filepath.Join(dir, "attachd")))
	page := strings.NewReplacer("127.0.0.1:7070", g.Host("127.0.0.1"), "ACCESS-KEY", s3test.GatewayKey, "SECRET-KEY", s3test.GatewaySecret).
		Replace(read(t, filepath.Join("..", "..", "docs", "migrate.md")))
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1)
	if len(blocks) != 4 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	run := func(n int) string {
		cmd := exec.Command("sh", "-ec", blocks[n][1])
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", blocks[n][1], err, out)
		}
		return string(out)
	}
	data := filepath.Join(dir, "data")
	server := start(t, data, autoCreate, proxied, "--demo")
	download := server.upload(product, "a.txt", saying("a.txt")).want(t, 201).download()
	key := server.key
	restart := func(words ...string) {
		server.stop()
		server = start(t, data, slices.Concat([]string{autoCreate, proxied}, words)...)
		server.key = key
		if a := server.get(download).want(t, 200); a.body != saying("a.txt") {
			t.Errorf("with %v, the file is %.40q", words, a.body)
		}
	}
	moved := regexp.MustCompile(`(?s)^moved \d+ contents, \d+ bytes, of which \d+ contents? had to be copied now; uploads and deletions were refused for [0-9.a-zµ]+\nNow put the section \[storage\] of (bucket|disk)\.toml into the configuration, and restart the server: .*\n$`)
	if said := run(0); !moved.MatchString(said) || !strings.HasSuffix(said, "find data/blobs -type f -delete\n") {
		t.Errorf("it says %s", said)
	}
	restart("--config", filepath.Join(dir, "bucket.toml"))
	if said := run(1); !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
	restart("--config", filepath.Join(dir, "bucket.toml"))
	server.upload(product, "b.txt", saying("b.txt")).want(t, 201)
	if said := run(2); !moved.MatchString(said) {
		t.Errorf("it says %s", said)
	}
	restart()
	if said := run(3); !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
}

// The database that was put aside may be put back, too.
func TestASnapshotThatIsPutBackFindsItsFilesInTheBucketAndDeletesNone(t *testing.T) {
	t.Parallel()
	m := newMove(t)
	m.stop()
	ok(t, "migrate", "--to", m.configs["s3"], "--data-dir", m.dir)
	m.serve("s3")
	m.tryPut("large-again.txt")
	m.tryPut("large-stays.txt")
	m.tryPut("large-removed.txt")
	m.stop()
	snapshots := names(t, filepath.Join(m.dir, "snapshots"))
	snapshot := read(t, filepath.Join(m.dir, "snapshots", slices.Max(snapshots)))

	m.serve("s3")
	m.upload(product, "same.txt", contentOf("large-again.txt")).want(t, 201) // which is in another object now
	m.upload(product, "large-later.txt", contentOf("large-later.txt")).want(t, 201)
	m.stop()
	m.serve("s3") // a start sweeps
	eventually(t, "the former object is deleted", func() bool { return len(m.store.Objects()) == 4 })
	m.stop()

	write(t, filepath.Join(m.dir, "attachd.db"), snapshot)
	m.serve("s3")
	eventually(t, "the file is found in its later object", func() bool {
		a := m.get(m.files["large-again.txt"])
		return a.status == 200 && a.body == contentOf("large-again.txt")
	})
	m.hasAll("s3")
	m.tryRemove("large-removed.txt")
	m.stop()
	m.serve("s3")
	m.hasAll("s3")
	if n := len(m.store.Objects()); n != 4 {
		t.Errorf("there are %d objects", n)
	}
	ok(t, "gc", "--data-dir", m.dir, "--config", m.configs["s3"])
	m.stop()
	m.serve("s3")
	eventually(t, "the object of the file that was removed is deleted", func() bool { return len(m.store.Objects()) == 3 })
	m.hasAll("s3")
}
