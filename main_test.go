//go:build unix

// These tests start the real process: they send it signals, kill it, look at
// the modes of its files, and run its commands beside it.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attachd/blobs/blobstest"
	"attachd/server/preview"
)

var long = flag.Bool("long", false, "measure the memory of a hundred uploads of 50 MB, 5 GB in all")

// beAttachd in the environment makes this test binary be attachd.
const beAttachd = "TEST_BINARY_IS_ATTACHD"

func TestMain(m *testing.M) {
	preview.DecodeIfAsked()
	if os.Getenv(beAttachd) != "" {
		main()
	}
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ATTACHD_") {
			os.Unsetenv(name)
		}
	}
	if signal.Ignored(syscall.SIGHUP) { // as under nohup, which servers would take for theirs
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	if os.Getenv("CI") != "" {
		// No test may need the port that a server has by default: something else may listen there.
		if taken, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
			afterTests = append(afterTests, func() { taken.Close() })
		}
	}
	blobstest.TempInMemory()
	code := m.Run()
	for _, do := range afterTests {
		do()
	}
	os.Exit(code)
}

// afterTests is what is left to do when all tests are through.
var afterTests []func()

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

// A connection that says nothing is closed, whether it has asked for something
// before or not, and one that does not come to the end of its header.
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
			for sent := time.Hour; sent > time.Second/2; { // or the connection may have ended before
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

// One with a few connections only would be no server.
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
	// A umask that takes nothing away shows the modes that attachd asks for.
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
		// The first characters stand there, by which people recognise it.
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
					return // the process is gone
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

	server = start(t, dir) // which has temporary files of its own, for contents that waited
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

// A kill leaves the socket and the note of who holds the directory.
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

func TestTheDemo(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, "--demo")
	if mode := info(t, filepath.Join(dir, "demo-keys.json")).Mode(); mode != 0o600 {
		t.Errorf("demo-keys.json has mode %v", mode)
	}
	keys := demoKeys(t, dir)
	for _, role := range []string{"admin", "editor", "viewer"} {
		me := server.call(keys[role], "GET", "/users/me", nil).want(t, 200)
		if want := `"spaces":[{"slug":"analytics","name":"Analytics","role":"` + role + `"}]`; !strings.Contains(me.body, want) {
			t.Errorf("the %s is %s", role, me.body)
		}
	}
	if len(keys) != 3 {
		t.Errorf("demo-keys.json holds %v", keys)
	}
	var people []struct{ Name string }
	server.call("", "GET", "/demo", nil).into(t, &people)
	if fmt.Sprint(people) != "[{admin} {editor} {operator} {viewer}]" {
		t.Errorf("the page offers %v", people)
	}
	session := strings.TrimSuffix(server.call("", "POST", "/session", strings.NewReader(`{"demo": "operator"}`), "Content-Type", "application/json").want(t, 200).header.Get("Set-Cookie"), ";")
	server.call("", "GET", "/stats", nil, "Cookie", session).want(t, 200)

	var tickets, comments, meetings []struct{ ID string }
	server.get("/directory/tickets?space=analytics").into(t, &tickets)
	server.get("/directory/meetings?space=analytics").into(t, &meetings)
	if len(tickets) != 1 || len(meetings) != 1 {
		t.Fatalf("%d tickets and %d meetings", len(tickets), len(meetings))
	}
	server.get("/directory/tickets/"+tickets[0].ID+"/comments").into(t, &comments)
	if len(comments) != 1 {
		t.Errorf("%d comments", len(comments))
	}
	total := 0
	for parent, file := range map[string]string{
		product:                            "/catalog/attachments/%s/download",
		"/issues/tickets/" + tickets[0].ID: "/issues/attachments/%s",
		"/meetings/" + meetings[0].ID:      "/meetings/" + meetings[0].ID + "/attachments/%s",
	} {
		var files []attachment
		server.call(keys["viewer"], "GET", parent+"/attachments", nil).into(t, &files)
		if len(files) == 0 {
			t.Errorf("no files in %s", parent)
		}
		for _, f := range files {
			total++
			got := server.call(keys["viewer"], "GET", fmt.Sprintf(file, f.ID), nil).want(t, 200)
			if f.FileSize == 0 || len(got.body) != f.FileSize || got.header.Get("Content-Type") != f.MimeType {
				t.Errorf("%+v came with %d bytes as %s", f, len(got.body), got.header.Get("Content-Type"))
			}
		}
	}
	if total < 6 {
		t.Errorf("only %d sample files", total)
	}
	server.call(keys["viewer"], "POST", product+"/attachments", formOf("a.txt", strings.NewReader("a")), formHeaders...).want(t, 403)
	server.call(keys["editor"], "POST", product+"/attachments", formOf("a.txt", strings.NewReader("a")), formHeaders...).want(t, 201)

	server.stop()
	server = start(t, dir, "--demo")
	var again []attachment
	server.call(keys["viewer"], "GET", product+"/attachments", nil).into(t, &again)
	if names := fmt.Sprint(again); strings.Count(names, "customers.csv") != 1 || !strings.Contains(names, "a.txt") {
		t.Errorf("after the second start the product has %v", again)
	}
}

func TestTheDemoGoesWithoutWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string][]string{
		"ATTACHD_CONTENT_ALLOWED=application/pdf": {"data_dictionary.pdf"},
		"ATTACHD_LIMITS_MAX_FILE_SIZE=1KB":        {"customers.csv", "regions.geojson", "lineage.svg"},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, setting, "--demo")
			if keys := demoKeys(t, dir); len(keys) != 3 {
				t.Errorf("demo-keys.json holds %v", keys)
			}
			var names []string
			for _, a := range server.in(product) {
				names = append(names, a.FileName)
			}
			if !slices.Equal(names, want) {
				t.Errorf("the product has %q, want %q", names, want)
			}
			eventually(t, "a warning of what was left out", func() bool {
				return strings.Contains(server.stderr(), "the demo goes without orders_per_month.png: ")
			})
			server.stop()
			start(t, dir, setting, "--demo").stop()
		})
	}
}

// ASVS 6.3.2, 13.2.3
func TestTheDemoIsForAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	start(t, dir).stop()
	before := tree(t, dir)
	said := refused(t, 1, "serve", "--demo", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if !strings.Contains(said, "the data directory is in use already; --demo fills an empty one") {
		t.Errorf("it says %q", said)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("the directory was\n%s\nand is\n%s", before, after)
	}
}

const (
	ada = "0190aaaa-0000-7000-8000-000000000001"
	bob = "0190aaaa-0000-7000-8000-000000000002"
)

const world = `{"kind":"space","slug":"lab","name":"Lab"}
{"kind":"member","space":"lab","user_id":"` + ada + `","role":"editor"}
{"kind":"product","space":"lab","id":"550e8400-e29b-41d4-a716-446655440099"}
`

// What is typed, and what comes: the same whether a server runs or not. What
// the API says is not repeated here.
const session = `
$ user add "Ada Lovelace" --id 0190AAAA-0000-7000-8000-000000000001
0190aaaa-0000-7000-8000-000000000001
$ user add Bob --superadmin --id 0190aaaa-0000-7000-8000-000000000002
0190aaaa-0000-7000-8000-000000000002
$ user add Robert --id 0190aaaa-0000-7000-8000-000000000002
attachd: there is a user 0190aaaa-0000-7000-8000-000000000002 already, "Bob"; ` + "`attachd directory import`" + ` changes users
exit code 1
$ user add Carol
<id>
$ user remove Carol
$ user remove Carol
attachd: there is no user "Carol"; ` + "`attachd user list`" + ` shows them
exit code 1
$ user list
ID                                    NAME           SUPERADMIN
0190aaaa-0000-7000-8000-000000000001  Ada Lovelace
0190aaaa-0000-7000-8000-000000000002  Bob            yes
<id>  Administrator  yes
$ user list --json
{"id":"0190aaaa-0000-7000-8000-000000000001","full_name":"Ada Lovelace","is_superadmin":false}
{"id":"0190aaaa-0000-7000-8000-000000000002","full_name":"Bob","is_superadmin":true}
{"id":"<id>","full_name":"Administrator","is_superadmin":true}
$ key create "Ada Lovelace" --name laptop --expires-in-days 30
<key>
$ key create 0190aaaa-0000-7000-8000-000000000002
<key>
$ key create Nobody
attachd: there is no user "Nobody"; ` + "`attachd user list`" + ` shows them
exit code 1
$ key create 0190aaaa-0000-7000-8000-00000000dead
attachd: <why>
exit code 1
$ key list 0190aaaa-0000-7000-8000-000000000001
ID                                    KEY              NAME    EXPIRES               LAST USED
<id>  <prefix>…  laptop  <time>  never
$ key list Bob
ID                                    KEY              NAME                      EXPIRES  LAST USED
<id>  <prefix>…  made on the command line  never    never
$ key list Bob --json
{"id":"<id>","name":"made on the command line","key_prefix":"<prefix>","created_at":"<time>","expires_at":null,"last_used_at":null}
$ directory import world.ndjson
3 lines: 3 created, 0 updated {"member":1,"product":1,"space":1}
$ directory import -
3 lines: 0 created, 3 updated {"member":1,"product":1,"space":1}
$ directory import broken.ndjson
attachd: line 2: <why>; nothing was changed
exit code 1
$ directory import missing.ndjson
attachd: open missing.ndjson: no such file or directory
exit code 1
$ directory import .
attachd: read .: is a directory
exit code 1
$ key revoke Bob <key of Bob>
$ key revoke Bob <key of Bob>
attachd: <why>
exit code 1
$ key create Bob
<key>
$ key revoke "Ada Lovelace" <beginning of the last key>
attachd: there is no such key; ` + "`attachd key list`" + ` shows a user's keys
exit code 1
$ key revoke <beginning of the last key>
$ key revoke <beginning of the last key>
attachd: there is no such key; ` + "`attachd key list`" + ` shows a user's keys
exit code 1
$ key create Bob
<key>
$ key revoke <last key>
$ key list Bob
ID  KEY  NAME  EXPIRES  LAST USED
$ key revoke Bob 17
attachd: "17" is neither the id of a key nor the beginning of one; ` + "`attachd key list`" + ` shows them
exit code 2
$ key rotate-signing
links given out so far end by <time>
$ key rotate-signing --grace 0
links given out so far end by <time>
$ key rotate-signing --grace 169h
attachd: --grace must be from 0 to 168h0m0s
exit code 2
$ user list
ID                                    NAME           SUPERADMIN
0190aaaa-0000-7000-8000-000000000001  Ada Lovelace
0190aaaa-0000-7000-8000-000000000002  Bob            yes
<id>  Administrator  yes
$ config check
The configuration is good.
$ version
attachd <version>
`

func TestCommandsDoTheSameWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir, files := dataDir(t), t.TempDir()
			write(t, filepath.Join(files, "world.ndjson"), world)
			write(t, filepath.Join(files, "broken.ndjson"), `{"kind":"space","slug":"other"}`+"\n"+`{"kind":"space","slug":"No Slug"}`+"\n")
			server := start(t, dir)
			if !running {
				server.stop()
			}
			typed := &typist{dir: dir, files: files}
			var got strings.Builder
			for line := range strings.Lines(session) {
				if typing, is := strings.CutPrefix(line, "$ "); is {
					got.WriteString(line + typed.run(t, strings.TrimSpace(typing)))
				}
			}
			want := regexp.QuoteMeta(strings.TrimPrefix(session, "\n"))
			if !regexp.MustCompile("^" + strings.ReplaceAll(want, "<why>", ".+") + "$").MatchString(got.String()) {
				t.Errorf("got\n%s\nwant%s", &got, session)
			}

			if shown := ok(t, "config", "show", "--data-dir", dir); !strings.Contains(shown, dir) {
				t.Errorf("config show prints\n%s", shown)
			}

			if !running {
				server = start(t, dir)
			}
			if len(typed.keys) != 4 {
				t.Fatalf("%d keys were made", len(typed.keys))
			}
			me := server.call(typed.keys[0], "GET", "/users/me", nil).want(t, 200)
			if !strings.Contains(me.body, ada) || !strings.Contains(me.body, `"slug":"lab"`) {
				t.Errorf("the key of Ada, who was made a member of the lab, is %s", me.body)
			}
			for _, revoked := range typed.keys[1:] {
				server.call(revoked, "GET", "/users/me", nil).want(t, 401)
			}
			server.get("/directory/spaces/other").want(t, 404) // of the broken file
			server.get("/directory/spaces/lab/products/550e8400-e29b-41d4-a716-446655440099").want(t, 200)
		})
	}
}

// typist types commands and tells what came, with words for what differs each
// time.
type typist struct {
	dir, files string
	keys       []string // that were made
	listed     string   // the id of the last key listed
}

var (
	typedWord = regexp.MustCompile(`"[^"]*"|<[^>]*>|\S+`)
	varying   = []struct {
		is   *regexp.Regexp
		word string
	}{
		{anyKey, "<key>"},
		{regexp.MustCompile(`attachd_[A-Za-z0-9_-]{6}…`), "<prefix>…"},
		{regexp.MustCompile(`"attachd_[A-Za-z0-9_-]{6}"`), `"<prefix>"`},
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
		{regexp.MustCompile(`(?m)^attachd devel.*`), "attachd <version>"},
		{regexp.MustCompile(` +(?m:$)`), ""},
	}
	anyID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keyOfBob = regexp.MustCompile(`(?m)^(\S+)  attachd_.*command line`)
)

func (typed *typist) run(t *testing.T, line string) string {
	t.Helper()
	words := typedWord.FindAllString(line, -1)
	for i, word := range words {
		words[i] = strings.Trim(word, `"`)
		switch word {
		case "<key of Bob>":
			words[i] = typed.listed
		case "<last key>":
			words[i] = typed.keys[len(typed.keys)-1]
		case "<beginning of the last key>":
			words[i] = typed.keys[len(typed.keys)-1][:len("attachd_")+6] + "…"
		}
	}
	cmd := command(t, append(words, "--data-dir", typed.dir)...)
	cmd.Dir = typed.files
	cmd.Stdin = strings.NewReader(world)
	r := finish(t, cmd)
	typed.keys = append(typed.keys, anyKey.FindAllString(r.stdout, -1)...)
	if found := keyOfBob.FindStringSubmatch(r.stdout); found != nil {
		typed.listed = found[1]
	}
	said := r.stdout + r.stderr
	for _, v := range varying {
		said = v.is.ReplaceAllString(said, v.word)
	}
	said = anyID.ReplaceAllStringFunc(said, func(id string) string {
		if strings.HasPrefix(id, "0190aaaa") {
			return id
		}
		return "<id>"
	})
	if r.code != 0 {
		said += fmt.Sprintf("exit code %d\n", r.code)
	}
	return said
}

// A digit that rots leaves a key that signs, and links that nobody can follow.
func TestSigningKeysThatRottedAreTold(t *testing.T) {
	t.Parallel()
	const says = "secret.key is not what it was"
	dir := dataDir(t)
	secret := filepath.Join(dir, "secret.key")
	start(t, dir).stop()
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	server := start(t, dir)
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	server.stop()
	server = start(t, dir)
	if strings.Contains(server.stderr(), says) {
		t.Errorf("after rotations by itself it says: %s", server.stderr())
	}
	server.stop()
	whole := read(t, secret)
	for what, rot := range map[string]int{"the key that signs": 5, "an earlier one": 70} {
		digit := whole[rot] ^ 1 // of 0 to f, another one, but for "a" and "f"
		if digit == '`' || digit == 'g' {
			digit = '0'
		}
		write(t, secret, whole[:rot]+string(digit)+whole[rot+1:])
		server = start(t, dir)
		if !strings.Contains(server.stderr(), says) {
			t.Errorf("%s: it says only: %s", what, server.stderr())
		}
		server.stop()
		write(t, secret, whole)
		start(t, dir).stop() // which takes it for replaced, and notes it
	}
}

// Links die with the key that signed them when its grace is over, in a server
// that runs and in the next one.
// ASVS 9.2.3, 13.3.1, 13.3.4
func TestLinksEndWithTheirSigningKey(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	saved := server.upload(product, "a.txt", "a").want(t, 201)
	link := func() string {
		var document struct {
			DownloadURL string `json:"download_url"`
		}
		server.call(server.key, "GET", saved.download(), nil, "Accept", "application/json").into(t, &document)
		_, path, _ := strings.Cut(document.DownloadURL, "/files/")
		return "/files/" + path
	}
	get := func(path string, status int) {
		t.Helper()
		server.call("", "GET", path, nil).want(t, status)
	}
	first := link()
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	second := link()
	get(first, 200)
	get(second, 200)
	server.stop()
	server = start(t, dir)
	get(first, 200)
	get(second, 200)
	ok(t, "key", "rotate-signing", "--grace", "0", "--data-dir", dir)
	third := link()
	get(first, 403)
	get(second, 403)
	get(third, 200)
	server.stop()
	ok(t, "key", "rotate-signing", "--grace", "0", "--data-dir", dir)
	server = start(t, dir)
	get(first, 403)
	get(third, 403)
	get(link(), 200)
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	good, bad := filepath.Join(files, "good.toml"), filepath.Join(files, "bad.toml")
	write(t, good, "listen = \"127.0.0.1:0\"\n")
	write(t, bad, "listen = \"127.0.0.1:0\"\n[limits]\nmax_filesize = \"1MB\"\n")
	file := filepath.Join(good, "no-directory")
	for _, c := range []struct {
		code  int
		typed string
		says  string // on standard output of what succeeds, on standard error of what fails
	}{
		{0, "", "Commands for the server on this machine:"},
		{0, "--help", "Commands for the server on this machine:"},
		{0, "serve --help", "--listen"},
		{0, "version", "attachd "},
		{0, "config check", "The configuration is good."},
		{0, "config check --config " + good, "The configuration is good."},
		{0, "config show --config " + good, "127.0.0.1:0"},
		{0, "ATTACHD_CONFIG=" + good + " config show", "127.0.0.1:0"},

		{1, "user list --data-dir " + file, "not a directory"},
		{1, "serve --data-dir " + file, "not a directory"},
		{1, "serve --config " + bad, "bad.toml"},
		{1, "config show --config " + bad, "bad.toml"},
		{1, "user list --config " + bad, "bad.toml"},
		{1, "check --data-dir " + file, "not a directory"},
		{1, "gc --config " + bad, "bad.toml"},

		{2, "sreve", `"sreve" is not a command of attachd. There are: audit, backup, check, compact, config, directory, doctor, gc, get, init, key, link, ls, put, restore, rm, serve, user, version, webhooks`},
		{2, "user", "say what to do: add, list, remove"},
		{2, "user ad", `"ad" is not a command of attachd user. There are: add, list, remove`},
		{2, "config", "say what to do: check, show"},
		{2, "webhooks", "say what to do: ping, redeliver, status"},
		{2, "webhooks ping twice", "attachd webhooks ping takes no arguments"},
		{2, "--nope", "unknown flag: --nope"},
		{2, "serve --nope", "unknown flag: --nope\nSee: attachd serve --help"},
		{2, "serve --listen", "flag needs an argument: --listen"},
		{2, "key create Ada --expires-in-days soon", "invalid argument \"soon\" for \"--expires-in-days\" flag: it takes a whole number\nSee"},
		{2, "key create Ada --expires-in-days 99999999999999999999", "flag: it takes a whole number\nSee"},
		{2, "key create Ada --expires-in-days 0", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --expires-in-days -5", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --expires-in-days 36501", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --name=", "--name must say what the key is for"},
		{2, "check --deep=deeply", "flag: it takes true or false\nSee"},
		{2, "serve now", "attachd serve takes no arguments"},
		{2, "version now", "attachd version takes no arguments"},
		{2, "check deep", "attachd check takes no arguments"},
		{2, "doctor now", "attachd doctor takes no arguments"},
		{2, "gc --dryrun", "unknown flag: --dryrun"},
		{2, "user add", "attachd user add takes a full name"},
		{2, "user add Ada Lovelace", "attachd user add takes a full name"},
		{2, "user remove", "attachd user remove takes a user's id or full name"},
		{2, "user add Ada --id 17", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id=", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id urn:uuid:0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id 0b5ab4f30b4f4c35a2c50a4f1a1c7d01", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id 00000000-0000-0000-0000-000000000000", "--id must be a UUID in its usual form"},
		{2, "key revoke", "attachd key revoke takes a key's id or beginning"},
		{2, "key revoke Ada", `"Ada" is neither the id of a key nor the beginning of one`},
		{2, "directory import", "attachd directory import takes a file"},
		{2, "backup", "attachd backup takes a folder"},
		{2, "backup one two", "attachd backup takes a folder"},
		{2, "backup here --keep 0", "--keep must be at least 1"},
		{2, "backup verify", "attachd backup verify takes a folder"},
		{2, "restore", "attachd restore takes a folder"},

		{3, "doctor --config " + bad, "bad.toml:3:1: limits.max_filesize: unknown key, did you mean limits.max_file_size?"},
		{3, "config check --config " + bad, "bad.toml:3:1: limits.max_filesize: unknown key, did you mean limits.max_file_size?"},
		{3, "config check --config " + filepath.Join(files, "missing.toml"), "missing.toml"},
		{3, "ATTACHD_LIMITS_MAX_FILE_SIZE=much config check", "ATTACHD_LIMITS_MAX_FILE_SIZE"},
		{3, "ATTACHD_DOWNLOADS_URL_TTL=60 config check", "ATTACHD_DOWNLOADS_URL_TTL"},
		{3, "ATTACHD_WEBHOOKS_URL=https://a.example config check", "ATTACHD_WEBHOOKS_URL: needs webhooks.secret_file too"},
		{3, "ATTACHD_WEBHOOKS_SECRET_FILE=s ATTACHD_WEBHOOKS_URL=http://a.example config check", "must begin with https"},
		{3, "ATTACHD_CONTENT_ALLOWED=application/x-no-such-type config check", "application/x-no-such-type"},
	} {
		r := attachd(t, strings.Fields(c.typed)...)
		said := r.stdout
		if c.code != 0 {
			said = r.stderr
		}
		if r.code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("attachd %s\nexit code %d, want %d\nstdout: %s\nstderr: %s\nwant: %s", c.typed, r.code, c.code, r.stdout, r.stderr, c.says)
		}
	}
}

func TestAUserNeedsAName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "  "} {
		said := refused(t, 2, "user", "add", name, "--data-dir", filepath.Join(t.TempDir(), "new"))
		if !strings.Contains(said, "a user needs a full name") {
			t.Errorf("it says %q", said)
		}
	}
}

// Whatever command is told to work in a folder of somebody else leaves it alone.
func TestAFolderOfSomebodyElseStaysAsItIs(t *testing.T) {
	t.Parallel()
	home, elsewhere := t.TempDir(), t.TempDir()
	check(t, os.MkdirAll(filepath.Join(home, "tmp", "deep"), 0o755))
	for _, name := range []string{"main.c", "tmp/thesis.txt", "tmp/deep/photo.jpg"} {
		write(t, filepath.Join(home, name), "precious")
	}
	chmod(t, home, 0o755)
	write(t, filepath.Join(elsewhere, "world.ndjson"), `{"kind":"space","slug":"lab"}`+"\n")
	data, to := dataDir(t), filepath.Join(elsewhere, "backup")
	start(t, data).stop()
	ok(t, "backup", to, "--data-dir", data)
	before := tree(t, home)
	for _, typed := range []string{"serve --listen 127.0.0.1:0", "serve --demo --listen 127.0.0.1:0", "init", "check", "check --deep", "gc", "compact", "backup " + filepath.Join(elsewhere, "other"),
		"restore " + to, "user add Ada", "user list", "key create Ada", "key list Ada", "audit verify", "directory import " + filepath.Join(elsewhere, "world.ndjson")} {
		said := refused(t, 1, append(strings.Fields(typed), "--data-dir", home)...)
		if !strings.Contains(said, home+" is no data directory") && !strings.Contains(said, home+" is not empty") || strings.Count(said, "\n") != 1 {
			t.Errorf("attachd %s says %q", typed, said)
		}
		if after := tree(t, home); after != before {
			t.Fatalf("attachd %s: there was\n%s\nand is\n%s", typed, before, after)
		}
	}
	if doctor := attachd(t, "doctor", "--data-dir", home); doctor.code != 3 || !strings.Contains(doctor.stdout, home+" is no data directory of attachd: there is \"main.c\" in it") {
		t.Errorf("the doctor says %s", doctor.stdout)
	}
	if said := refused(t, 1, "serve", "--data-dir", to); !strings.Contains(said, "but a backup of one") {
		t.Errorf("of a backup it says %s", said)
	}
	if after := tree(t, home); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
}

// The folder where a disk is mounted is empty while it is not, and would pass
// for a new data directory.
func TestAnInstallationThatIsWantedIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	const want = "ATTACHD_REQUIRE_EXISTING=true"
	mount := filepath.Join(t.TempDir(), "mount")
	check(t, os.Mkdir(mount, 0o755))
	dir, world := filepath.Join(mount, "attachd"), filepath.Join(t.TempDir(), "world.ndjson")
	write(t, world, `{"kind":"space","slug":"lab"}`+"\n")
	for _, path := range []string{mount, dir} { // empty, and missing
		for _, typed := range []string{want + " serve --listen 127.0.0.1:0", "serve --require-existing --listen 127.0.0.1:0", want + " user add Ada", want + " directory import " + world} {
			said := refused(t, 1, append(strings.Fields(typed), "--data-dir", path)...)
			if !strings.Contains(said, "Is the disk mounted") || !strings.Contains(said, "attachd init --data-dir "+path) {
				t.Errorf("attachd %s says %s", typed, said)
			}
		}
		doctor := attachd(t, want, "doctor", "--data-dir", path)
		if doctor.code != 3 || !strings.Contains(doctor.stdout, "is missing or empty, and require_existing is set") {
			t.Errorf("the doctor says %s", doctor.stdout)
		}
		if left := names(t, mount); len(left) > 0 {
			t.Fatalf("it made %v", left)
		}
	}
	if said := ok(t, "init", "--data-dir", dir); !strings.Contains(said, "prepared "+dir) {
		t.Errorf("init says %s", said)
	}
	server := start(t, dir, want, autoCreate)
	if !strings.Contains(server.stderr(), "this is a new installation") {
		t.Error("the log does not say that it is new")
	}
	server.upload(product, "a.txt", "a").want(t, 201)
	server.stop()
	before := tree(t, dir)
	if said := ok(t, "init", "--data-dir", dir); !strings.Contains(said, "nothing was changed") || tree(t, dir) != before {
		t.Errorf("init says %s", said)
	}
	if doctor := attachd(t, want, "doctor", "--data-dir", dir); !strings.Contains(doctor.stdout, "it is new, made 0 minutes ago") {
		t.Errorf("the doctor says %s", doctor.stdout)
	}
	server = start(t, dir, want)
	if strings.Contains(server.stderr(), "new installation") || !strings.Contains(server.stderr(), "installed") {
		t.Errorf("the log says %s", server.stderr())
	}
	server.stop()
	backup, next := filepath.Join(t.TempDir(), "backup"), dataDir(t)
	ok(t, "backup", backup, "--data-dir", dir)
	ok(t, "init", "--data-dir", next) // as the package does on another machine
	ok(t, "restore", backup, "--data-dir", next)
	if said := ok(t, "check", "--deep", "--data-dir", next); !strings.HasPrefix(said, "1 attachment, 1 content, ") {
		t.Errorf("restored into what init prepared, check says %s", said)
	}
	server = start(t, next, want)
	server.stop()
}

// A mistyped data directory is not made by a command that looks into it, or
// takes something out of it.
func TestCommandsThatMakeNothingWantADataDirectory(t *testing.T) {
	t.Parallel()
	id := "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01"
	files := t.TempDir()
	write(t, filepath.Join(files, "world.ndjson"), `{"kind":"space","slug":"lab"}`+"\n")
	for _, typed := range []string{"user list", "user remove Ada", "key list Ada", "key revoke " + id, "key rotate-signing", "check", "gc", "gc --dry-run",
		"audit verify", "audit export", "webhooks status", "webhooks redeliver", "webhooks ping", "backup " + t.TempDir()} {
		for _, dir := range []string{filepath.Join(files, "typo"), files} { // none, and somebody else's
			before := tree(t, files)
			said := refused(t, 1, append(strings.Fields(typed), "--data-dir", dir)...)
			if !strings.Contains(said, dir+" is no data directory") {
				t.Errorf("%s says %q", typed, said)
			}
			if after := tree(t, files); after != before {
				t.Errorf("%s: there was\n%s\nand is\n%s", typed, before, after)
			}
		}
	}
	for i, typed := range []string{"user add Ada", "directory import " + filepath.Join(files, "world.ndjson")} {
		dir := filepath.Join(files, fmt.Sprint("new", i))
		ok(t, append(strings.Fields(typed), "--data-dir", dir)...)
		ok(t, "user", "list", "--data-dir", dir)
	}
}

func TestConfigCheckWarnsOfUnknownVariables(t *testing.T) {
	t.Parallel()
	r := attachd(t, "ATTACHD_LISTN=:80", "config", "check")
	if r.code != 0 || r.stderr != "attachd: warning: ATTACHD_LISTN: unknown variable, did you mean ATTACHD_LISTEN?\n" {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
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
		// Whoever reads that attachd listens may run a command at once.
		ok(t, "user", "list", "--data-dir", dir)
		if err := meanwhile.Wait(); err != nil {
			t.Errorf("%v: %s", err, &said)
		}
		server.kill()
	}
}

func TestRootLeavesFilesToTheOwnerOfTheDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can work for another user")
	}
	const uid, gid = 12345, 23456
	everything := func(t *testing.T, dir string, some ...string) {
		t.Helper()
		var seen map[string]bool
		// A running server's temporary files come and go, and get their owner
		// a moment after they were made.
		eventually(t, "all that is in "+dir+" belongs to its owner", func() bool {
			seen = map[string]bool{}
			err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := entry.Info()
				if err != nil {
					return err
				}
				seen[entry.Name()] = true
				if stat := info.Sys().(*syscall.Stat_t); stat.Uid != uid || stat.Gid != gid {
					return fmt.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
				}
				return nil
			})
			if err != nil {
				t.Log(err)
			}
			return err == nil
		})
		for _, name := range some {
			if !seen[name] {
				t.Errorf("there is no %s in %s", name, dir)
			}
		}
	}
	owned := func(t *testing.T) string {
		dir := dataDir(t)
		check(t, os.Chown(dir, uid, gid))
		return dir
	}
	commands := func(t *testing.T, dir string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "world.ndjson")
		write(t, file, world)
		ok(t, "user", "add", "Ada", "--id", ada, "--data-dir", dir)
		everything(t, dir, "FORMAT", "attachd.db", "secret.key", "00", "ff")
		ok(t, "key", "create", "Ada", "--data-dir", dir)
		ok(t, "directory", "import", file, "--data-dir", dir)
		everything(t, dir)
	}
	t.Run("commands", func(t *testing.T) {
		t.Parallel()
		commands(t, owned(t))
	})
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		dir := owned(t)
		server := start(t, dir, "--demo")
		everything(t, dir, "admin.key", "demo-keys.json", "attachd.sock", "attachd.pid", "attachd.db")
		server.upload(product, "kept.txt", "kept").want(t, 201)
		server.remove(server.upload(product, "gone.txt", "gone").download()).want(t, 200)
		slow := server.beginUpload(product, "slow.txt")
		slow.inTemp(t)
		commands(t, dir)
		slow.end().want(t, 201)
		everything(t, dir)
		server.stop()
		everything(t, dir)
	})
}

// What only another part of the program knows to be impossible is refused like
// the rest: with the file, the line and the key.
func TestImpossibleValuesAreRefusedWithTheirLine(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"\n[scan]\nclamd = \"tcp:127.0.0.1:99999\"\n":                  "3:9: scan.clamd: expected the address of a clamd",
		"[downloads]\ncontent_url = \"http://127.0.0.1:8080/files\"\n": "2:15: downloads.content_url: must have another host name than the address that listen names",
	} {
		file := filepath.Join(t.TempDir(), "attachd.toml")
		write(t, file, text)
		for _, words := range [][]string{{"config", "check"}, {"serve", "--data-dir", dataDir(t), "--listen", "127.0.0.1:0"}} {
			r := attachd(t, append(words, "--config", file)...)
			if r.code == 0 || !strings.Contains(r.stderr, file+":"+says) {
				t.Errorf("%q: exit code %d, %q, want %q", words, r.code, r.stderr, says)
			}
		}
	}
}

// A flag wins over the environment, that over the file, and that over the
// default; what config show prints is what a server does.
func TestConfigurationPrecedence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "attachd.toml")
	write(t, file, "listen = \"127.0.0.1:1001\"\ndata_dir = \"from-file\"\n[limits]\nmax_file_size = \"1KB\"\n[log]\nlevel = \"error\"\n")
	shown := func(words ...string) string {
		return strings.ReplaceAll(ok(t, append(words, "config", "show")...), "'", `"`)
	}
	for _, c := range []struct{ words, line string }{
		{"", `data_dir = "data"`},
		{"--config " + file, `data_dir = "from-file"`},
		{"ATTACHD_CONFIG=" + file, `data_dir = "from-file"`},
		{"ATTACHD_DATA_DIR=from-env --config " + file, `data_dir = "from-env"`},
		{"ATTACHD_DATA_DIR=from-env --config " + file + " --data-dir from-flag", `data_dir = "from-flag"`},
		{"--config " + file, `listen = "127.0.0.1:1001"`},
		{"ATTACHD_LISTEN=127.0.0.1:1002 --config " + file, `listen = "127.0.0.1:1002"`},
		{"ATTACHD_LIMITS_MAX_FILE_SIZE=2KB --config " + file, `max_file_size = "2KB"`},
		{"ATTACHD_LOG_FORMAT=text --config " + file, `level = "error"`},
	} {
		if all := shown(strings.Fields(c.words)...); !strings.Contains(all, c.line+"\n") {
			t.Errorf("%s config show: no line %s in\n%s", c.words, c.line, all)
		}
	}

	// The flag --listen of start wins over the port in the file.
	dir := dataDir(t)
	server := start(t, dir, autoCreate, "--config", file)
	server.upload(product, "a.txt", strings.Repeat("a", 1024)).want(t, 201)
	server.upload(product, "a.txt", strings.Repeat("a", 1025)).want(t, 413)
	server.stop()
	server = start(t, dir, "ATTACHD_LIMITS_MAX_FILE_SIZE=2KB", "--config", file)
	server.upload(product, "b.txt", strings.Repeat("b", 2048)).want(t, 201)
	refusal := server.upload(product, "b.txt", strings.Repeat("b", 2049)).want(t, 413)
	if !strings.Contains(refusal.body, "2 KB (2048 bytes)") {
		t.Errorf("the refusal does not name the limit: %s", refusal.body)
	}
	server.stop()

	// Without a flag, the environment says where the data is and where to listen.
	dir = dataDir(t)
	startCommand(t, dir, command(t, "ATTACHD_DATA_DIR="+dir, "ATTACHD_LISTEN=127.0.0.1:0", "serve", "--config", file)).get("/users/me").want(t, 200)

	// What config show prints is a configuration file itself.
	copied := filepath.Join(t.TempDir(), "copy.toml")
	write(t, copied, shown("ATTACHD_LIMITS_MAX_FILE_SIZE=3KB", "ATTACHD_LISTEN=127.0.0.1:0", "--config", file, "--data-dir", t.TempDir()))
	if first, second := read(t, copied), shown("--config", copied); first != second {
		t.Errorf("config show of what it printed itself:\n%s\nnot\n%s", second, first)
	}

	// By default the data is in the working directory.
	cmd := command(t, "ATTACHD_LISTEN=127.0.0.1:0", "serve")
	cmd.Dir = dataDir(t)
	startCommand(t, filepath.Join(cmd.Dir, "data"), cmd).get("/users/me").want(t, 200)
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

// The rooms and what they may import of ours: their arrows point one way.
var arrows = map[string][]string{
	"attachd":                     {"blobs", "blobs/disk", "server", "server/cli", "server/config", "server/datadir", "server/memory", "server/preview", "store", "store/bolt"},
	"attachd/server/cli":          {"blobs", "blobs/durable", "server", "server/config", "server/content", "server/datadir", "server/doctor", "server/memory", "server/preview", "server/remote", "server/scan", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server":              {"blobs", "blobs/durable", "server/content", "server/contents", "server/formdata", "server/limits", "server/memory", "server/page", "server/preview", "server/scan", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server/formdata":     {"server/content"},
	"attachd/server/limits":       {},
	"attachd/server/memory":       {},
	"attachd/server/page":         {},
	"attachd/server/contents":     {"blobs", "store"},
	"attachd/server/upkeep":       {"blobs", "blobs/disk", "blobs/durable", "store"},
	"attachd/server/config":       {},
	"attachd/server/content":      {},
	"attachd/server/datadir":      {"blobs/durable", "server/token"},
	"attachd/server/doctor":       {"blobs", "blobs/disk", "server/config", "server/datadir", "server/scan", "server/upkeep", "server/webhooks", "store", "store/bolt"},
	"attachd/server/preview":      {"blobs", "server/content"},
	"attachd/server/scan":         {},
	"attachd/server/token":        {},
	"attachd/server/webhooks":     {"store"},
	"attachd/server/remote":       {"server/content"},
	"attachd/server/durability":   {},
	"attachd/server/load":         {"store", "store/bolt", "store/storetest"},
	"attachd/store/bolt":          {"blobs/durable", "store", "store/bolt/inplace", "store/bolt/wal"},
	"attachd/store/bolt/inplace":  {"store"},
	"attachd/store/bolt/wal":      {"blobs/durable", "store/bolt/inplace"},
	"attachd/store":               {},
	"attachd/blobs":               {},
	"attachd/blobs/disk":          {"blobs", "blobs/durable"},
	"attachd/blobs/disk/disktest": {"blobs", "blobs/disk"},
	"attachd/blobs/durable":       {},
	"attachd/store/storetest":     {"store"},
	"attachd/blobs/blobstest":     {"blobs"},
}

func TestArrowsPointOneWay(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(goList(t, runtime.GOOS, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")) {
		words := strings.Fields(line)
		from := words[0]
		allowed, drawn := arrows[from]
		if !drawn {
			t.Errorf("%s is a new room: draw its arrows here", from)
		}
		for _, to := range words[1:] {
			if room, ours := strings.CutPrefix(to, "attachd/"); ours && !slices.Contains(allowed, room) {
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
	for room, never := range map[string]string{
		"attachd/store":         "net/http",
		"attachd/store/bolt":    "net/http",
		"attachd/blobs":         "net/http",
		"attachd/blobs/disk":    "net/http",
		"attachd/server/upkeep": "net/http",
		"attachd/server/token":  "net/http",
		"attachd/server/config": "net/http",
		"attachd/server":        "go.etcd.io/bbolt", // a backend among others
	} {
		if slices.Contains(strings.Fields(goList(t, runtime.GOOS, "-deps", room)), never) {
			t.Errorf("%s has come to depend on %s", room, never)
		}
	}
}

// The modules in the binary, each with what it is for.
var modules = map[string]string{
	"attachd":                              "",
	"github.com/gabriel-vasile/mimetype":   "what type a content is",
	"github.com/google/uuid":               "ids",
	"github.com/inconshreveable/mousetrap": "cobra, on Windows",
	"github.com/julienschmidt/httprouter":  "routes",
	"github.com/pelletier/go-toml/v2":      "the configuration file",
	"github.com/prometheus/client_golang":  "metrics",
	"github.com/coreos/go-systemd/v22":     "sockets and readiness under systemd",
	"github.com/agnivade/levenshtein":      "did you mean",
	"github.com/beorn7/perks":              "client_golang",
	"github.com/cespare/xxhash/v2":         "client_golang",
	"github.com/munnerz/goautoneg":         "client_golang",
	"github.com/prometheus/client_model":   "client_golang",
	"github.com/prometheus/common":         "client_golang",
	"github.com/prometheus/procfs":         "client_golang",
	"google.golang.org/protobuf":           "client_golang",
	"github.com/rs/cors":                   "calls from pages of other origins",
	"github.com/spf13/cobra":               "the command line",
	"github.com/spf13/pflag":               "cobra",
	"go.etcd.io/bbolt":                     "the database",
	"golang.org/x/image":                   "thumbnails",
	"golang.org/x/sys":                     "bbolt, free space on a disk, locks on Windows, and what decoding a picture may use",
	"golang.org/x/term":                    "whether the log and progress go to a person, and how wide the terminal is",
	"golang.org/x/text":                    "file names in NFC, and how many columns they take",
	"golang.org/x/time":                    "requests a minute",
}

// A new dependency is a decision, to be written down here.
// ASVS 11.2.1, 11.2.3, 15.1.1, 15.1.2, 15.2.1
func TestTheBinaryHasOnlyTheseModules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, system := range []string{"linux", "darwin", "windows"} {
		list := goList(t, system, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")
		for _, module := range strings.Fields(list) {
			seen[module] = true
		}
	}
	for module := range seen {
		if _, decided := modules[module]; !decided {
			t.Errorf("the binary has %s: what for?", module)
		}
	}
	for module := range modules {
		if !seen[module] {
			t.Errorf("the binary has no %s any more", module)
		}
	}
}

// goList asks what is built for an operating system.
func goList(t *testing.T, system string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, &stderr)
	}
	return string(list)
}

// CVE-2026-3114, CVE-2026-55078, CVE-2026-55079
func TestMemoryOfLargeUploads(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it writes half a gigabyte")
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells the peak of a process's memory")
	}
	if build, _ := debug.ReadBuildInfo(); slices.Contains(build.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector takes memory of its own")
	}
	server := start(t, dataDir(t), autoCreate, "ATTACHD_LOG_LEVEL=error")
	server.get(server.upload(product, "small.txt", "small").want(t, 201).download()).want(t, 200)
	server.get(product+"/attachments").want(t, 200)
	idle := server.memory("VmRSS")

	server.resetPeak()
	server.uploadAtOnce(1, 50<<20)
	one := server.memory("VmHWM")
	t.Logf("idle %d KB, peak during an upload of 50 MB %d KB: %d KB more", idle, one, one-idle)
	if one-idle > 4<<10 {
		t.Errorf("an upload of 50 MB took %d KB", one-idle)
	}

	many, size := 100, int64(4<<20)
	if *long {
		size = 50 << 20
	}
	server.resetPeak()
	server.uploadAtOnce(many, size)
	all := server.memory("VmHWM")
	t.Logf("peak during %d uploads of %d MB at once %d KB: %d KB more than idle", many, size>>20, all, all-idle)
	if all > 128<<10 {
		t.Errorf("%d uploads at once took the process to %d KB", many, all)
	}
}

// uploadAtOnce uploads so many generated files, none of which ends before all
// have begun.
func (p *process) uploadAtOnce(n int, size int64) {
	p.t.Helper()
	var uploads, begun sync.WaitGroup
	begun.Add(n)
	all := make(chan struct{})
	go func() { begun.Wait(); close(all) }()
	for i := range n {
		uploads.Go(func() {
			lines := &generated{left: size, line: fmt.Sprintf("line of upload %d of %d bytes\n", i, size)}
			var once sync.Once
			body := readerFunc(func(b []byte) (int, error) {
				if lines.left <= size-1<<20 {
					once.Do(begun.Done)
					select {
					case <-all:
					case <-time.After(patience):
						return 0, errors.New("not all uploads began")
					}
				}
				return lines.Read(b)
			})
			a, err := p.try(p.key, "POST", product+"/attachments", formOf("large.txt", body), formHeaders...)
			if err != nil || a.status != 201 {
				p.t.Errorf("upload %d: %v %v", i, err, a)
			}
			once.Do(begun.Done)
		})
	}
	uploads.Wait()
}

// generated is a line over and over, without being held in memory.
type generated struct {
	left int64
	line string
	at   int
}

func (g *generated) Read(b []byte) (n int, err error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), g.left)]
	for n < len(b) {
		m := copy(b[n:], g.line[g.at:])
		g.at = (g.at + m) % len(g.line)
		n += m
	}
	g.left -= int64(n)
	return n, nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// memory is what Linux says of the process, in KB.
func (p *process) memory(what string) int {
	p.t.Helper()
	status := read(p.t, fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	found := regexp.MustCompile(what + `:\s+(\d+) kB`).FindStringSubmatch(status)
	if found == nil {
		p.t.Fatalf("no %s in\n%s", what, status)
	}
	kb, err := strconv.Atoi(found[1])
	check(p.t, err)
	return kb
}

// resetPeak makes VmHWM begin anew (proc_pid_clear_refs(5)).
func (p *process) resetPeak() {
	p.t.Helper()
	write(p.t, fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), "5")
}

// What follows starts processes, calls them, and looks at files.

// How long anything may take that is only waited for, on a busy machine too.
const patience = time.Minute

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// command is attachd, not started yet. As in a shell, words of the form
// NAME=value in front are its environment. It works in an empty folder, which
// is its home and its place for temporary files too, and must leave it so.
func command(t *testing.T, words ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	check(t, err)
	elsewhere := t.TempDir()
	t.Cleanup(func() {
		if written := names(t, elsewhere); len(written) > 0 {
			t.Errorf("attachd %q wrote outside its data directory: %v", words, written)
		}
	})
	env, args := split(words)
	cmd := exec.Command(self, args...)
	cmd.Dir = elsewhere
	cmd.Env = slices.Concat(os.Environ(), env, []string{
		beAttachd + "=1", "HOME=" + elsewhere, "TMPDIR=" + elsewhere,
		"GORACE=atexit_sleep_ms=0", // the race detector waits a second otherwise
	})
	return cmd
}

// split parts the environment from the rest.
func split(words []string) (env, rest []string) {
	for i, word := range words {
		if !strings.HasPrefix(word, "ATTACHD_") {
			return words[:i], words[i:]
		}
	}
	return words, nil
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// attachd runs a command to its end.
func attachd(t *testing.T, words ...string) result {
	t.Helper()
	return finish(t, command(t, words...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	check(t, cmd.Start())
	overdue := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer overdue.Stop()
	var failed *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// ok gives the standard output of a command that must succeed.
func ok(t *testing.T, words ...string) string {
	t.Helper()
	r := attachd(t, words...)
	if r.code != 0 {
		t.Fatalf("attachd %q: exit code %d\n%s", words, r.code, r.stderr)
	}
	return r.stdout
}

// refused gives the standard error of a command that must fail.
func refused(t *testing.T, code int, words ...string) string {
	t.Helper()
	r := attachd(t, words...)
	if r.code != code {
		t.Fatalf("attachd %q: exit code %d, want %d\n%s%s", words, r.code, code, r.stdout, r.stderr)
	}
	return r.stderr
}

// process is a running `attachd serve`.
type process struct {
	client
	cmd   *exec.Cmd
	dir   string // the data directory
	ended chan struct{}

	mu    sync.Mutex
	lines []string // of standard error
}

// start runs `attachd serve` over a data directory and waits until it says
// where it listens. Words of the form ATTACHD_NAME=value are its environment.
func start(t *testing.T, dir string, words ...string) *process {
	t.Helper()
	env, flags := split(words)
	return startCommand(t, dir, command(t, slices.Concat(env, []string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags)...))
}

var (
	listensAt = regexp.MustCompile(`https?://[^\s"]+:\d+`)
	anyKey    = regexp.MustCompile(`attachd_[A-Za-z0-9_-]{20,}`)
)

func startCommand(t *testing.T, dir string, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{client: client{t: t, http: &http.Client{}}, cmd: cmd, dir: dir, ended: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	check(t, err)
	check(t, cmd.Start())
	go p.listen(stderr)
	t.Cleanup(func() {
		p.kill()
		if anyKey.MatchString(p.stderr()) {
			t.Error("a key is in the log")
		}
		if t.Failed() {
			t.Logf("standard error over %s:\n%s", dir, p.stderr())
		}
	})
	eventually(t, "attachd says where it listens", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("attachd serve ended with exit code %d", cmd.ProcessState.ExitCode())
		default:
		}
		p.url = listensAt.FindString(p.stderr())
		return p.url != ""
	})
	if first, _, _ := strings.Cut(p.stderr(), p.url); strings.Count(first, "\n") > 1 {
		t.Fatal("the address is later than on the second line of standard error")
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "admin.key")); err == nil {
		p.key = strings.TrimSpace(string(raw))
	}
	return p
}

// listen keeps what comes on standard error until the process ends.
func (p *process) listen(stderr io.Reader) {
	defer close(p.ended)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // ProcessState says how
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// logged waits for a line of the log that holds text.
func (p *process) logged(text string) (line string) {
	p.t.Helper()
	eventually(p.t, "the log holds "+text, func() bool {
		for l := range strings.Lines(p.stderr()) {
			if strings.Contains(l, text) {
				line = l
				return true
			}
		}
		return false
	})
	return line
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	check(p.t, p.cmd.Process.Signal(s))
}

// exitCode waits for the end.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatal("attachd serve does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the process as a service manager does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != 0 {
		p.t.Fatalf("stopped with exit code %d", code)
	}
}

// kill ends the process as a power cut does, for all that it can tell.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// client calls a server with a key.
type client struct {
	t    *testing.T
	http *http.Client
	url  string
	key  string
}

// overSocket is a client that comes through the socket in the data directory.
func (p *process) overSocket() *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "attachd.sock"))
	}
	return &client{t: p.t, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, url: "http://attachd"}
}

const (
	autoCreate = "ATTACHD_DIRECTORY_AUTO_CREATE=true"
	// For tests that do something to the file of a content.
	filesAtOnce = "ATTACHD_STORAGE_LOG_BELOW=0"
	product     = "/catalog/spaces/analytics/products/550e8400-e29b-41d4-a716-446655440000"
)

type attachment struct {
	ID       string `json:"id"`
	FileName string `json:"file_name"`
	FileSize int    `json:"file_size"`
	MimeType string `json:"mime_type"`
}

func (c *client) get(path string) answer {
	c.t.Helper()
	return c.call(c.key, "GET", path, nil)
}

// upload sends a file to a product.
func (c *client) upload(parent, name, content string) answer {
	c.t.Helper()
	return c.call(c.key, "POST", parent+"/attachments", formOf(name, strings.NewReader(content)), formHeaders...)
}

// remove deletes what is downloaded from a path.
func (c *client) remove(download string) answer {
	c.t.Helper()
	return c.call(c.key, "DELETE", strings.TrimSuffix(download, "/download"), nil)
}

func (c *client) call(key, method, path string, body io.Reader, headers ...string) answer {
	c.t.Helper()
	a, err := c.try(key, method, path, body, headers...)
	check(c.t, err)
	return a
}

func (c *client) try(key, method, path string, body io.Reader, headers ...string) (answer, error) {
	rq, err := http.NewRequest(method, c.url+path, body)
	if err != nil {
		return answer{}, err
	}
	if key != "" {
		rq.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(rq)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(raw)}, err
}

// formOf is a form with one file, streamed.
func formOf(name string, content io.Reader) io.Reader {
	head := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n"
	return io.MultiReader(strings.NewReader(head), content, strings.NewReader("\r\n--frontier--\r\n"))
}

var formHeaders = []string{"Content-Type", "multipart/form-data; boundary=frontier"}

// slowUpload has sent half of its file, and goes on slowly, as fast as the
// server wants, until it is to end.
type slowUpload struct {
	dir     string
	content string
	rest    *io.PipeWriter
	hurry   chan struct{} // is closed when the rest is to come at once
	ended   chan answer
}

func (p *process) beginUpload(parent, name string) *slowUpload {
	reader, writer := io.Pipe()
	u := &slowUpload{dir: p.dir, content: strings.Repeat("a slow line\n", 100_000), rest: writer, hurry: make(chan struct{}), ended: make(chan answer, 1)}
	go func() {
		a, err := p.try(p.key, "POST", parent+"/attachments", formOf(name, reader), formHeaders...)
		if err != nil {
			a.body = err.Error()
		}
		u.ended <- a
	}()
	go u.send()
	return u
}

// send takes five minutes for the second half, unless it is to hurry.
func (u *slowUpload) send() {
	const piece = 2000
	half := len(u.content) / 2
	_, err := io.WriteString(u.rest, u.content[:half])
	for left := u.content[half:]; err == nil && len(left) > 0; {
		select {
		case <-u.hurry:
			_, err = io.WriteString(u.rest, left)
			left = ""
		case <-time.After(time.Second):
			_, err = io.WriteString(u.rest, left[:piece])
			left = left[piece:]
		}
	}
	u.rest.Close()
}

// inTemp waits until the half has come so far.
func (u *slowUpload) inTemp(t *testing.T) {
	t.Helper()
	eventually(t, "an upload is in tmp", func() bool {
		for _, name := range names(t, filepath.Join(u.dir, "tmp")) {
			if spool, err := os.Stat(filepath.Join(u.dir, "tmp", name)); err == nil && spool.Size() > int64(len(u.content)/4) {
				return true
			}
		}
		return false
	})
}

// end sends what is left.
func (u *slowUpload) end() answer {
	close(u.hurry)
	return <-u.ended
}

func (u *slowUpload) abandon() {
	u.rest.CloseWithError(errors.New("abandoned"))
	<-u.ended
}

// answer is what came of a request.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got %s, want %d", a, status)
	}
	return a
}

// into reads the JSON of a success.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	a.want(t, 200)
	check(t, json.Unmarshal([]byte(a.body), v))
}

// download is the path under which an upload is found.
func (a answer) download() string { return a.header.Get("Location") }

// dataDir is a folder for a data directory. Whatever a test does to it, when
// everything is over every record must have its content.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := spoiledDir(t)
	t.Cleanup(func() {
		if _, err := os.Stat(filepath.Join(dir, "attachd.db")); err != nil {
			return
		}
		if r := attachd(t, "check", "--deep", "--data-dir", dir); r.code != 0 {
			t.Errorf("attachd check: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
		}
	})
	return dir
}

// spoiledDir is an empty folder for a data directory that will not be whole.
// Its path leaves room for a socket on every system.
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

func demoKeys(t *testing.T, dir string) (keys map[string]string) {
	t.Helper()
	check(t, json.Unmarshal([]byte(read(t, filepath.Join(dir, "demo-keys.json"))), &keys))
	return keys
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	check(t, err)
	return string(raw)
}

func write(t *testing.T, path, content string) {
	t.Helper()
	check(t, os.WriteFile(path, []byte(content), 0o600))
}

func remove(t *testing.T, path string) {
	t.Helper()
	check(t, os.Remove(path))
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	check(t, os.Chmod(path, mode))
}

func info(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	check(t, err)
	return info
}

// names lists a folder.
func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

// walk visits a folder and everything in it.
func walk(t *testing.T, dir string, visit func(path string, info fs.FileInfo)) {
	t.Helper()
	check(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		check(t, err)
		visit(path, info(t, path))
		return nil
	}))
}

// tree tells everything that is in a folder, without times.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	walk(t, dir, func(path string, info fs.FileInfo) {
		fmt.Fprintf(&all, "%v %s", info.Mode(), path)
		if info.Mode().IsRegular() {
			fmt.Fprintf(&all, " %x", sha256.Sum256([]byte(read(t, path))))
		}
		all.WriteByte('\n')
	})
	return all.String()
}

// A check and a gc tell the same whether a server runs or not.
func TestCheckAndGCWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate, filesAtOnce)
			var uploads []answer
			for n := range 4 {
				uploads = append(uploads, server.upload(product, fmt.Sprintf("%d.txt", n), fmt.Sprint("file ", n)).want(t, 201))
			}
			if !running {
				server.stop()
			}
			typed := func(code int, line, says string) {
				t.Helper()
				r := attachd(t, append(strings.Fields(line), "--data-dir", dir)...)
				if said := r.stdout + r.stderr; r.code != code || !strings.Contains(said, says) {
					t.Errorf("attachd %s: exit code %d, want %d\n%snot\n%s", line, r.code, code, said, says)
				}
			}
			typed(0, "check", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "check --deep", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "gc", "nothing to remove\n")
			typed(0, "gc --dry-run", "nothing to remove\n")

			old, young := blobFile(dir, strings.Repeat("0", 64)), blobFile(dir, strings.Repeat("1", 64))
			write(t, old, "spare")
			write(t, young, "spare too")
			before := time.Now().Add(-2 * time.Hour)
			check(t, os.Chtimes(old, before, before))
			typed(0, "check", "4 attachments, 6 contents, 38 bytes: no faults\nnothing refers to 2 contents, 14 bytes; `attachd gc` removes what is older than an hour\n")
			typed(3, "gc --dry-run", "to remove: 1 content, 5 bytes\nattachd: nothing was removed: this was a dry run\n")
			typed(0, "gc", "removed 1 content, 5 bytes\n")
			typed(2, "gc --min-age=-1s", "--min-age must not be below 0")
			typed(0, "gc --min-age 2h", "nothing to remove\n")
			typed(3, "gc --dry-run --min-age 0s", "to remove: 1 content, 9 bytes\n")
			remove(t, young) // which has not the bytes of its name

			missing, short, other := digest(uploads[0]), digest(uploads[1]), digest(uploads[2])
			remove(t, blobFile(dir, missing))
			write(t, blobFile(dir, short), "file")
			write(t, blobFile(dir, other), "File 2")
			typed(3, "check", `("0.txt"), blob `+missing+": The content is missing.\n")
			typed(3, "check", `("1.txt"), blob `+short+": The content has 4 bytes, not 6.\n")
			typed(3, "check", "4 attachments, 3 contents, 16 bytes: 2 faults\nattachd: 2 faults found\n")
			typed(3, "check --deep", `("2.txt"), blob `+other+": The content is damaged: its bytes are not those that were uploaded.\n")
			typed(3, "check", `("2.txt"), blob `+other+": The content is marked damaged.\n")

			r := attachd(t, "check", "--json", "--data-dir", dir)
			var report struct {
				Attachments, Contents, Bytes int
				Faults                       []struct{ Attachment, Blob, What string }
			}
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 3 || len(report.Faults) != 3 || report.Attachments != 4 {
				t.Errorf("check --json: %v, exit code %d\n%s", err, r.code, r.stdout)
			}

			if !running {
				server = start(t, dir, autoCreate)
			}
			server.get(uploads[2].download()).want(t, 500)
			for n := range 3 {
				server.upload(product, "again.txt", fmt.Sprint("file ", n)).want(t, 201)
			}
			typed(0, "check --deep", "7 attachments, 4 contents, 24 bytes: no faults\n")
		})
	}
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

	// What was read before is not read again.
	server = start(t, dir, autoCreate)
	eventually(t, "the scrub knows where it was", func() bool {
		return strings.Contains(server.get("/metrics").body, "\nattachd_scrub_progress_ratio 1\n")
	})
	if shown := server.get("/metrics").body; !strings.Contains(shown, "\nattachd_scrub_bytes_total 0\n") {
		t.Errorf("it read contents again")
	}
}

// digest is the name of what was uploaded.
func digest(upload answer) string {
	var raw []byte
	encoded := strings.Trim(strings.TrimPrefix(upload.header.Get("Repr-Digest"), "sha-256="), ":")
	if err := json.Unmarshal([]byte(`"`+encoded+`"`), &raw); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", raw)
}

func blobFile(dir, name string) string {
	return filepath.Join(dir, "blobs", "sha256", name[:2], name)
}

// What is recorded when the answer is out belongs to it, also where the process
// ends right after that.
func TestACommandWithoutAServerIsRecordedBeforeItEnds(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	const times = 10
	for range times {
		cmd := command(t, "check", "--data-dir", dir)
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
		if r := finish(t, cmd); r.code != 0 {
			t.Fatalf("exit code %d: %s", r.code, r.stderr)
		}
	}
	if n := strings.Count(ok(t, "audit", "export", "--data-dir", dir), `"action":"upkeep.check"`); n != times {
		t.Errorf("%d of %d are recorded", n, times)
	}
}

func TestTheAuditLogWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	a := server.upload(product, "a.txt", "a").want(t, 201)
	server.remove(a.download()).want(t, 200)
	var heads []string
	look := func() {
		t.Helper()
		verified := ok(t, "audit", "verify", "--data-dir", dir)
		_, head, _ := strings.Cut(strings.TrimSpace(verified), "\nhead ")
		if !strings.Contains(verified, "no faults") || head == "" {
			t.Errorf("verify says %s", verified)
		}
		heads = append(heads, head)
		exported := ok(t, "audit", "export", "--since", "1h", "--data-dir", dir)
		for _, want := range []string{`"action":"attachment.upload"`, `"action":"attachment.delete"`, `"name":"a.txt"`, `"operator":true`} {
			if !strings.Contains(exported, want) {
				t.Errorf("the export has no %s:\n%s", want, exported)
			}
		}
		if anyKey.MatchString(exported) {
			t.Error("a key is in the export")
		}
	}
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	look()
	server.stop()
	look()
	ok(t, "audit", "verify", "--head", heads[0], "--data-dir", dir)
	seq, hash, _ := strings.Cut(heads[0], ":")
	if out := refused(t, 3, "audit", "verify", "--head", seq+":"+strings.Repeat("0", len(hash)), "--data-dir", dir); !strings.Contains(out, "1 fault found") {
		t.Errorf("another head: %s", out)
	}
	refused(t, 2, "audit", "export", "--since", "yesterday", "--data-dir", dir)
	for _, head := range []string{"zz", "7:zz", seq + ":" + hash[1:], "-1:" + hash} {
		if out := refused(t, 2, "audit", "verify", "--head", head, "--data-dir", dir); !strings.Contains(out, "64 hexadecimal digits") {
			t.Errorf("the head %s: %s", head, out)
		}
	}
}
