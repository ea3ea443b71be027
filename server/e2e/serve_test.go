//go:build unix

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ASVS 6.3.2, 13.2.3
func TestTheFirstServeMakesASuperadmin(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir)
	file := filepath.Join(dir, "admin.key")
	if mode := info(t, file).Mode(); mode != 0o600 {
		t.Errorf("admin.key has mode %v", mode)
	}
	if !strings.Contains(server.stderr(), file) {
		t.Error("the path of the key is not printed")
	}
	key := read(t, file)
	if strings.Contains(server.stderr(), strings.TrimSpace(key)) {
		t.Error("the key is printed")
	}
	if me := server.get("/users/me"); me.status != 200 || !strings.Contains(me.body, `"is_superadmin":true`) {
		t.Errorf("the key is not a superadmin's: %s", me)
	}

	server.stop()
	server = start(t, dir)
	if read(t, file) != key || strings.Contains(server.stderr(), "superadmin") {
		t.Error("the second start made another superadmin")
	}

	server.stop()
	remove(t, file)
	server = start(t, dir)
	if slices.Contains(names(t, dir), "admin.key") {
		t.Error("a key that was deleted is made again")
	}
	server.key = strings.TrimSpace(key)
	if me := server.get("/users/me"); me.status != 200 {
		t.Errorf("a key works without its file too: %s", me)
	}
}

// start fails unless the address is on the second line at the latest.
func TestTheAddressIsOnTheSecondLineAtTheLatest(t *testing.T) {
	t.Parallel()
	for _, words := range [][]string{
		{},
		{"--demo"},
		{"ATTACHD_LOG_LEVEL=error"},
		{"ATTACHD_LOG_LEVEL=error", "--demo"},
		{"ATTACHD_LOG_FORMAT=text"},
		{"ATTACHD_LIMITS_MAX_FILESIZE=1MB", "ATTACHD_NONSENSE=1", "ATTACHD_KEY=x", "--demo"},
	} {
		t.Run(strings.Join(words, " "), func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			start(t, dir, words...).stop()
			start(t, dir, words...).stop()
		})
	}
}

// An idle connection is closed, whether it has sent a request before or not, and so
// is one that does not complete its header.
// ASVS 13.1.2, 13.1.3, 13.2.6
func TestConnectionsThatSayNothingAreClosed(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LIMITS_IDLE_TIMEOUT=1s")
	for name, c := range map[string]struct {
		says    string
		answers []string
	}{
		"nothing":           {"", nil},
		"half a header":     {"GET /health HTTP/1.1\r\nHost: a\r\nX-Requ", []string{"400"}},
		"nothing any more":  {"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", []string{"200"}},
		"half a second one": {"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /hea", []string{"200", "400"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var said string
			for sent := time.Hour; sent > time.Second/2; { // otherwise the connection may have ended before
				said, sent = speakTimed(t, strings.TrimPrefix(server.url, "http://"), c.says)
			}
			var answers []string
			for _, m := range regexp.MustCompile(`HTTP/1\.1 (\d+) `).FindAllStringSubmatch(said, -1) {
				answers = append(answers, m[1])
			}
			if !slices.Equal(answers, c.answers) {
				t.Errorf("answered %q, want %q", answers, c.answers)
			}
		})
	}
}

// A server with only a few connections would be useless.
// ASVS 13.1.2, 13.1.3, 13.2.6
func TestServeRefusesALimitOfOpenFilesThatIsTooLow(t *testing.T) {
	t.Parallel()
	plain := command(t, "serve", "--data-dir", dataDir(t), "--listen", "127.0.0.1:0")
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `ulimit -n 64; exec "$@"`, "sh"}, plain.Args)...)
	cmd.Dir, cmd.Env = plain.Dir, plain.Env
	if r := finish(t, cmd); r.code != 1 || !strings.Contains(r.stderr, "lets this process open 64 files") || !strings.Contains(r.stderr, "LimitNOFILE") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

func TestServeWarnsOfUnknownVariables(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LIMITS_MAX_FILESIZE=1MB")
	eventually(t, "a warning that says what was meant", func() bool {
		return strings.Contains(server.stderr(), "ATTACHD_LIMITS_MAX_FILESIZE: unknown variable, did you mean ATTACHD_LIMITS_MAX_FILE_SIZE?")
	})
}

// command fails a test whose processes write anywhere else.
// ASVS 5.3.1, 16.2.3
func TestFilesAreForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	chmod(t, dir, 0o755)
	open := command(t, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--demo")
	// A umask of 0 shows the modes that attachd requests.
	open.Args = append([]string{"sh", "-c", `umask 000; exec "$0" "$@"`, open.Path}, open.Args[1:]...)
	open.Path = "/bin/sh"
	server := startCommand(t, dir, open)
	server.upload(product, "kept.txt", "kept").want(t, 201)
	gone := server.upload(product, "gone.txt", "gone")
	server.remove(gone.download()).want(t, 200)
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	slow := server.beginUpload(product, "slow.txt")
	slow.inTemp(t)
	files := 0
	walk(t, dir, func(path string, info fs.FileInfo) {
		files++
		want := fs.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	})
	if files < 256 {
		t.Errorf("only %d files and folders: what was looked at?", files)
	}
	slow.end()
}

// ASVS 6.5.2, 11.4.1, 11.4.3, 11.5.1
func TestNoKeyIsInTheDatabase(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, "--demo")
	secrets := []string{server.key, strings.TrimSpace(ok(t, "key", "create", "Mei Tanaka", "--data-dir", dir))}
	secrets = append(secrets, slices.Collect(maps.Values(demoKeys(t, dir)))...)
	for _, key := range secrets {
		server.key = key
		server.get("/users/me").want(t, 200)
	}
	server.stop()
	database := read(t, filepath.Join(dir, "attachd.db"))
	for _, key := range secrets {
		// The database has the first characters of a key, by which people recognise
		// it.
		if _, secret, _ := strings.Cut(key, "_"); strings.Contains(database, secret[8:]) {
			t.Errorf("%s is in attachd.db", key)
		}
	}
}

func TestASignalFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate)
			server.upload(product, "first.txt", "first").want(t, 201)
			slow := server.beginUpload(product, "slow.txt")
			slow.inTemp(t)

			server.signal(signal)
			eventually(t, "new connections are refused", func() bool {
				conn, err := net.Dial("tcp", strings.TrimPrefix(server.url, "http://"))
				if err != nil {
					return true
				}
				conn.Close()
				return false
			})
			late := server.overSocket().upload(product, "late.txt", "late").want(t, 503)
			if late.header.Get("Retry-After") == "" || !strings.Contains(late.body, "shutting") {
				t.Errorf("a late upload is told: %s", late)
			}
			saved := slow.end().want(t, 201)

			if code := server.exitCode(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			left := names(t, dir)
			if slices.Contains(left, "attachd.sock") || slices.Contains(left, "attachd.pid") || len(names(t, filepath.Join(dir, "tmp"))) > 0 {
				t.Errorf("left behind: %v, and in tmp: %v", left, names(t, filepath.Join(dir, "tmp")))
			}
			server = start(t, dir)
			if got := server.get(saved.download()).want(t, 200); got.body != slow.content {
				t.Errorf("the file that was in flight came back with %d bytes, not %d", len(got.body), len(slow.content))
			}
		})
	}
}

func TestAKillLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	var (
		acknowledged sync.Map // download path to content
		count        atomic.Int32
		uploaders    sync.WaitGroup
	)
	for who := range 8 {
		uploaders.Go(func() {
			for n := 0; ; n++ {
				content := fmt.Sprintf("upload %d of %d\n%s", n, who, strings.Repeat("x", 1000*n))
				a, err := server.try(server.key, "POST", product+"/attachments", formOf("a.txt", strings.NewReader(content)), formHeaders...)
				if err != nil || a.status != 201 {
					return // the process has ended
				}
				acknowledged.Store(a.download(), content)
				count.Add(1)
			}
		})
	}
	slow := server.beginUpload(product, "slow.txt")
	slow.inTemp(t)
	eventually(t, "fifty uploads are acknowledged", func() bool { return count.Load() >= 50 })
	server.kill()
	uploaders.Wait()
	slow.abandon()
	spools := names(t, filepath.Join(dir, "tmp"))
	if len(spools) == 0 {
		t.Error("the kill should have left something in tmp, or this test shows nothing")
	}

	server = start(t, dir) // it makes temporary files itself, for staged contents
	for _, left := range names(t, filepath.Join(dir, "tmp")) {
		if slices.Contains(spools, left) {
			t.Errorf("tmp still holds %s", left)
		}
	}
	acknowledged.Range(func(path, content any) bool {
		if got := server.get(path.(string)); got.status != 200 || got.body != content {
			t.Errorf("%s was acknowledged, now: %d with %d bytes", path, got.status, len(got.body))
		}
		return true
	})
}

// A kill leaves the socket and the file with the holder of the directory.
func TestWhatAKillLeavesIsNoObstacle(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	start(t, dir).kill()
	if left := names(t, dir); !slices.Contains(left, "attachd.sock") || !slices.Contains(left, "attachd.pid") {
		t.Fatalf("the kill should have left a socket and a note: %v", left)
	}
	halfWritten := []string{".ballast.123", ".secret.key.4", ".attachd.pid.56"}
	for _, name := range halfWritten {
		write(t, filepath.Join(dir, name), "half")
	}
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	for _, name := range names(t, dir) {
		if slices.Contains(halfWritten, name) {
			t.Errorf("%s is still there", name)
		}
	}
	start(t, dir).kill()
	server := start(t, dir)
	if list := ok(t, "user", "list", "--data-dir", dir); !strings.Contains(list, "Ada") {
		t.Errorf("the list of users is %q", list)
	}
	if !strings.Contains(server.logged("/directory/users"), `"address":"local"`) {
		t.Error("the command did not reach the server over its socket")
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir)
	said := refused(t, 1, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if want := fmt.Sprintf("attachd: %s is in use by attachd serve (process %d)\n", dir, server.cmd.Process.Pid); said != want {
		t.Errorf("it says %q, not %q", said, want)
	}
	server.get("/users/me").want(t, 200)
	ok(t, "user", "list", "--data-dir", dir)
}

// ASVS 13.3.1, 13.3.4
func TestServeRefusesADirectoryThatItCannotTrust(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		says  string
	}{
		"a database that is lost": {
			func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "attachd.db")) },
			"attachd.db is missing, but there are 7 stored files in DATA/blobs. Restore a backup with `attachd restore` into an empty data directory, or go back to the newest snapshot: copy DATA/snapshots/",
		},
		"a newer format": {
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "FORMAT"), "999\n") },
			"DATA has format 999, which a newer attachd wrote",
		},
		"no format number": {
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "FORMAT"), "one\n") },
			"DATA/FORMAT does not hold a format number. If a crash emptied it or its disk is failing, delete it",
		},
		"a secret that others can read": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "secret.key"), 0o644) },
			"DATA/secret.key can be read by others (mode 0644). Close it: chmod 600 DATA/secret.key",
		},
		"a key that others can read": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "admin.key"), 0o640) },
			"DATA/admin.key can be read by others (mode 0640). Close it: chmod 600 DATA/admin.key",
		},
		"keys of the demo that others can read": {
			func(t *testing.T, dir string) { chmod(t, filepath.Join(dir, "demo-keys.json"), 0o604) },
			"DATA/demo-keys.json can be read by others (mode 0604). Close it: chmod 600 DATA/demo-keys.json",
		},
		"a secret that is none": {
			func(t *testing.T, dir string) { write(t, filepath.Join(dir, "secret.key"), "secret\n") },
			"line 1 of DATA/secret.key does not hold 64 hexadecimal digits",
		},
		"a database that is none": {
			func(t *testing.T, dir string) {
				write(t, filepath.Join(dir, "attachd.db"), strings.Repeat("no database", 10_000))
			},
			"open database DATA/attachd.db: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := spoiledDir(t)
			start(t, dir, "--demo").stop()
			c.spoil(t, dir)
			before := tree(t, dir)
			for _, words := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"user", "list"}} {
				said := refused(t, 1, append(words, "--data-dir", dir)...)
				if said = strings.ReplaceAll(said, dir, "DATA"); !strings.Contains(said, c.says) || strings.Count(said, "\n") != 1 {
					t.Errorf("attachd %s says\n%s\nnot\n%s", words, said, c.says)
				}
			}
			if after := tree(t, dir); after != before {
				t.Errorf("the directory was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

func TestAStartThatFailsMakesNoSuperadmin(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	dir := dataDir(t)
	said := refused(t, 1, "serve", "--data-dir", dir, "--listen", taken.Addr().String())
	if !strings.Contains(said, "address already in use") {
		t.Errorf("it says %q", said)
	}
	if server := start(t, dir); !strings.Contains(server.stderr(), "admin.key") {
		t.Error("the next start does not say where the key is")
	}
}

func TestTheSocket(t *testing.T) {
	t.Parallel()
	for name, depth := range map[string]int{"an ordinary path": 0, "a path too long for a socket": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if depth > 0 && runtime.GOOS != "linux" {
				t.Skip("only Linux has a way round the length of a socket's path")
			}
			dir := filepath.Join(dataDir(t), strings.Repeat(strings.Repeat("d", 49)+"/", depth), "data")
			server := start(t, dir)
			socket := filepath.Join(dir, "attachd.sock")
			if mode := info(t, socket).Mode(); mode != fs.ModeSocket|0o600 {
				t.Errorf("the socket has mode %v", mode)
			}
			ok(t, "user", "add", "Ada", "--data-dir", dir)
			if line := server.logged("/directory/users/"); !strings.Contains(line, `"method":"PUT"`) {
				t.Errorf("the command did not reach the server: %q", line)
			}
			server.kill()
			server = start(t, dir)
			ok(t, "user", "list", "--data-dir", dir)
			server.stop()
			if _, err := os.Lstat(socket); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the socket is left behind: %v", err)
			}
			ok(t, "user", "list", "--data-dir", dir)
		})
	}
}

func TestCommandsGetOnWithAServerThatStarts(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	start(t, dir, "--demo").kill()
	for range 5 {
		meanwhile := command(t, "user", "list", "--data-dir", dir)
		var said bytes.Buffer
		meanwhile.Stderr = &said
		check(t, meanwhile.Start())
		server := start(t, dir)
		// A script that reads that attachd listens may run a command at once.
		ok(t, "user", "list", "--data-dir", dir)
		if err := meanwhile.Wait(); err != nil {
			t.Errorf("%v: %s", err, &said)
		}
		server.kill()
	}
}

func TestTheDiskReserve(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	saved := server.upload(product, "a.txt", "a").want(t, 201)
	server.get("/health/ready").want(t, 200)
	server.stop()

	server = start(t, dir, "ATTACHD_LIMITS_DISK_RESERVE=1000TB")
	if full := server.upload(product, "b.txt", "b").want(t, 507); !strings.Contains(full.body, `"code":"disk_full"`) {
		t.Errorf("the refusal is %s", full)
	}
	if ready := server.get("/health/ready").want(t, 503); !strings.Contains(ready.body, "disk is full") {
		t.Errorf("ready answers %s", ready)
	}
	server.get("/health").want(t, 200)
	server.get(saved.download()).want(t, 200)
	server.remove(saved.download()).want(t, 200)
}

// spoiledDir is an empty folder for a data directory that will be damaged. Its path
// is short enough for a socket on every system.
func spoiledDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if len(dir) < 80 {
		return dir
	}
	dir, err := os.MkdirTemp("/tmp", "attachd")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestTheServerScrubs(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate, "ATTACHD_SCRUB_RATE=0")
	upload := server.upload(product, "a.txt", "as it was").want(t, 201)
	server.stop()
	write(t, blobFile(dir, digest(upload)), "as it is.")

	server = start(t, dir, autoCreate, "ATTACHD_SCRUB_RATE=1GB", "ATTACHD_LOG_FORMAT=json")
	if line := server.logged("the scrub found a fault"); !strings.Contains(line, digest(upload)) || !strings.Contains(line, "a.txt") {
		t.Errorf("the log says %s", line)
	}
	eventually(t, "the metrics show it", func() bool {
		shown := server.get("/metrics").body
		return strings.Contains(shown, "\nattachd_damaged_contents 1\n") && strings.Contains(shown, "\nattachd_scrub_progress_ratio 1\n")
	})
	server.get(upload.download()).want(t, 500)
	server.upload(product, "again.txt", "as it was").want(t, 201)
	server.get(upload.download()).want(t, 200)
	server.stop()

	// Files that were read before are not read again.
	server = start(t, dir, autoCreate)
	eventually(t, "the scrub knows where it was", func() bool {
		return strings.Contains(server.get("/metrics").body, "\nattachd_scrub_progress_ratio 1\n")
	})
	if shown := server.get("/metrics").body; !strings.Contains(shown, "\nattachd_scrub_bytes_total 0\n") {
		t.Errorf("it read contents again")
	}
}
