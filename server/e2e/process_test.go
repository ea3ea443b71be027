//go:build unix

// Package e2e drives the real process, as its users do: it starts servers and runs
// commands beside them, sends signals, kills, and checks the output and the files.
// It also has the tests of rules for the sources and documents.
package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"attachd/blobs/blobstest"
	"attachd/server/e2e/build"
	"attachd/store/postgres/postgrestest"
)

// binary returns the path of attachd, which it builds on the first call.
var binary func() string

// parallel is how many tests run concurrently without -parallel: more than there
// are processors, since most wait for processes and disks.
const parallel = "6"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", parallel); err != nil {
		panic(err) // the flag exists
	}
	flag.Parse() // may override it
	blobstest.Short("TestFilesByTheirDownloadPath", "TestTheFirstServeMakesASuperadmin", "TestTheTestsThatSecurityNamesExist")
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "attachd")
	if err = cmp.Or(err, os.Chmod(dir, 0o755)); err != nil { // other users run it too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	defer func() {
		if err := postgrestest.End(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	binary = build.Attachd(dir, raceDetector()...)
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ATTACHD_") {
			os.Unsetenv(name)
		}
	}
	if signal.Ignored(syscall.SIGHUP) { // under nohup, the servers would inherit that
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	if os.Getenv("CI") != "" {
		// No test may need the default port: another process may listen there.
		if taken, err := net.Listen("tcp", "127.0.0.1:8080"); err == nil {
			defer taken.Close()
		}
	}
	blobstest.TempInMemory()
	return m.Run()
}

// raceDetector returns the flag that builds with the race detector, if these tests
// were built with it.
func raceDetector() []string {
	info, _ := debug.ReadBuildInfo()
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return []string{"-race"}
	}
	return nil
}

// patience is how long to wait for anything, including on a busy machine.
const patience = time.Minute

// eventually waits until a condition is true.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// command returns attachd, not started yet. As in a shell, words of the form
// NAME=value in front are its environment. It works in an empty folder, which is
// also its home and its folder for temporary files, and must leave it empty.
func command(t *testing.T, words ...string) *exec.Cmd {
	t.Helper()
	elsewhere := t.TempDir()
	t.Cleanup(func() {
		if written := names(t, elsewhere); len(written) > 0 {
			t.Errorf("attachd %q wrote outside its data directory: %v", words, written)
		}
	})
	env, args := split(words)
	cmd := exec.Command(binary(), args...)
	cmd.Dir = elsewhere
	cmd.Env = slices.Concat(os.Environ(), env, []string{
		"HOME=" + elsewhere, "TMPDIR=" + elsewhere,
		"GORACE=atexit_sleep_ms=0", // the race detector waits a second otherwise
	})
	return cmd
}

// split separates the environment, attachd's own and Go's, from the other words.
func split(words []string) (env, rest []string) {
	for i, word := range words {
		if !strings.HasPrefix(word, "ATTACHD_") && !strings.HasPrefix(word, "GODEBUG=") {
			return words[:i], words[i:]
		}
	}
	return words, nil
}

// result is the result of a command.
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

// ok returns the standard output of a command that must succeed.
func ok(t *testing.T, words ...string) string {
	t.Helper()
	r := attachd(t, words...)
	if r.code != 0 {
		t.Fatalf("attachd %q: exit code %d\n%s", words, r.code, r.stderr)
	}
	return r.stdout
}

// refused returns the standard error of a command that must fail.
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

// start runs `attachd serve` over a data directory and waits until it logs its
// address. Words of the form ATTACHD_NAME=value are its environment.
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

// listen records the lines of standard error until the process ends.
func (p *process) listen(stderr io.Reader) {
	defer close(p.ended)
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, lines.Text())
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // ProcessState has the result
}

func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// logged waits for a line of the log that contains text.
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

// kill ends the process without a signal that it can handle, like a power cut.
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

// overSocket is a client that connects to the socket in the data directory.
func (p *process) overSocket() *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "attachd.sock"))
	}
	return &client{t: p.t, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, url: "http://attachd"}
}

const (
	autoCreate = "ATTACHD_DIRECTORY_AUTO_CREATE=true"
	// For tests in which what is deleted is to be gone.
	withoutTrash = "ATTACHD_TRASH_KEEP=0s"
	// For tests that change the file of a content.
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

// remove deletes the attachment whose download path this is.
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

// formOf is a form with one file, which is streamed.
func formOf(name string, content io.Reader) io.Reader {
	head := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n"
	return io.MultiReader(strings.NewReader(head), content, strings.NewReader("\r\n--frontier--\r\n"))
}

var formHeaders = []string{"Content-Type", "multipart/form-data; boundary=frontier"}

// slowUpload has sent half of its file, and sends the rest slowly, as fast as the
// server requires, until end.
type slowUpload struct {
	dir     string
	content string
	rest    *io.PipeWriter
	hurry   chan struct{} // closed when the rest is to be sent at once
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

// send takes five minutes for the second half, unless hurry is closed.
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

// inTemp waits until the first half is in the temporary file.
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

// end sends the rest.
func (u *slowUpload) end() answer {
	close(u.hurry)
	return <-u.ended
}

func (u *slowUpload) abandon() {
	u.rest.CloseWithError(errors.New("abandoned"))
	<-u.ended
}

// answer is the answer to a request.
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

// into decodes the JSON of a successful answer.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	a.want(t, 200)
	check(t, json.Unmarshal([]byte(a.body), v))
}

// download is the download path of an upload.
func (a answer) download() string { return a.header.Get("Location") }

// dataDir is a folder for a data directory. At the end of the test every record
// must have its content, whatever the test has done.
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

// tree describes everything in a folder, without times.
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

// digest is the SHA-256 of an upload.
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
