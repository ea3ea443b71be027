//go:build unix

// Package durability tests that the real process keeps what it acknowledges: it is
// killed, cut off from its disk, and run into a full one, while clients work; all
// acknowledged changes must be there afterwards.
package durability

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"attachd/server/e2e/build"

	"attachd/blobs/blobstest"
)

var long = flag.Bool("long", false, "run for as long as it takes to be sure, not for as long as a default run may take")

// binary returns the path of attachd, which it builds on the first call.
var binary func() string

func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestEachCommandThatIsPrintedRunsATest", "TestATornWriteLeavesSomeSectors")
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "attachd")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = build.Attachd(dir)
	return m.Run()
}

// patience is how long to wait for anything before it counts as hanging.
const patience = time.Minute

// process is a running `attachd serve`.
type process struct {
	client
	cmd   *exec.Cmd
	dir   string        // the data directory
	ready time.Duration // from its start until it logged its address
	ended chan struct{}
	log   saidSoFar
}

// saidSoFar is what a process has written to standard error.
type saidSoFar struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *saidSoFar) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(&s.text, line)
}

func (s *saidSoFar) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var listensAt = regexp.MustCompile(`https?://[^\s"]+:\d+`)

// ways are the settings by which small contents are stored, as environment
// variables. The server promises the same with each.
var ways = map[string]string{
	"contents wait": "ATTACHD_STORAGE_LOG_BELOW=64KB",
	"files at once": "ATTACHD_STORAGE_LOG_BELOW=0",
}

// inBothWays runs a test with each of the settings.
func inBothWays(t *testing.T, test func(t *testing.T, way string)) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) { test(t, way) })
	}
}

// serve runs `attachd serve` over dir, with automatic creation of parents, and
// waits until it logs its address. env has the form of os.Environ.
func serve(t *testing.T, dir string, env ...string) *process {
	t.Helper()
	return serveAs(t, dir, serving(dir), env...)
}

// serving is the command that serve runs.
func serving(dir string) *exec.Cmd {
	return exec.Command(binary(), "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
}

// serveAs is serve by another command, such as a tracer that runs attachd.
func serveAs(t *testing.T, dir string, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	p := launch(t, dir, cmd, env...)
	key, err := os.ReadFile(filepath.Join(dir, "admin.key"))
	must(t, err)
	p.key = strings.TrimSpace(string(key))
	return p
}

// launch is serveAs without a key.
func launch(t *testing.T, dir string, cmd *exec.Cmd, env ...string) *process {
	t.Helper()
	p := &process{cmd: cmd, dir: dir, ended: make(chan struct{})}
	cmd.Env = append(append(os.Environ(), "ATTACHD_DIRECTORY_AUTO_CREATE=true", "ATTACHD_LOG_LEVEL=warn", "ATTACHD_LIMITS_DISK_RESERVE=1MB"), env...)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	begun := time.Now()
	must(t, cmd.Start())
	listening := make(chan string, 1)
	go p.read(stderr, listening)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("the end of the log over %s:\n%s", dir, tail(p.log.String(), 4000))
		}
	})
	select {
	case p.url = <-listening:
	case <-p.ended:
		t.Fatalf("attachd ended with exit code %d\n%s", cmd.ProcessState.ExitCode(), &p.log)
	case <-time.After(patience):
		t.Fatal("attachd does not say where it listens")
	}
	p.ready = time.Since(begun)
	return p
}

func (p *process) read(stderr io.Reader, listening chan<- string) {
	defer close(p.ended)
	said := false
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		p.log.add(lines.Text())
		if url := listensAt.FindString(lines.Text()); url != "" && !said {
			listening <- url
			said = true
		}
	}
	_ = p.cmd.Wait() // ProcessState has the result
}

// kill ends the process at once, with SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// standStill stops the process, until SIGCONT, and waits until all of its threads
// have stopped: they finish the system call that they are in.
func (p *process) standStill() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return until(func() bool {
		return !slices.ContainsFunc(p.threads(), func(status string) bool { return !strings.Contains(status, "\nState:\tT") })
	})
}

// threads returns the status of each thread of the process, as Linux reports it.
func (p *process) threads() (all []string) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	for _, file := range files {
		if status, err := os.ReadFile(file); err == nil { // or the thread has ended
			all = append(all, string(status))
		}
	}
	return all
}

// until waits for a condition.
func until(is func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if is() {
			return nil
		}
	}
	return fmt.Errorf("nothing came of it in %s", patience)
}

// stop ends the process as a service manager does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Signal(os.Interrupt))
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatal("attachd does not end")
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("attachd ended with exit code %d\n%s", code, &p.log)
	}
}

// run runs an attachd command over dir to its end, and returns its output and exit
// code.
func run(t *testing.T, dir string, words ...string) (output string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary(), append(words, "--data-dir", dir)...).CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("attachd %s does not end\n%s", strings.Join(words, " "), tail(string(out), 4000))
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(out), code
}

// leftInTmp lists the temporary files that stay after the start of a server, which
// may be flushing contents to files.
func (p *process) leftInTmp(t *testing.T) (names []string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		names = nil
		left, err := os.ReadDir(filepath.Join(p.dir, "tmp"))
		must(t, err)
		for _, entry := range left {
			names = append(names, entry.Name())
		}
		if len(names) == 0 || time.Now().After(deadline) {
			return names
		}
	}
}

// wantSound runs `attachd check --deep`, which must find no fault.
func wantSound(t *testing.T, dir string) {
	t.Helper()
	if out, code := run(t, dir, "check", "--deep"); code != 0 {
		t.Errorf("attachd check --deep: exit code %d\n%s", code, out)
	}
}

// client calls a server. Its methods may be called by many goroutines; an error
// means that the outcome is unknown.
type client struct {
	url, key string
}

// product is created by the first upload to it, with everything else that it needs.
const product = "/catalog/spaces/proof/products/550e8400-e29b-41d4-a716-446655440000"

// answer is the answer to a request.
type answer struct {
	status int
	body   []byte
	header http.Header
}

// connections are kept open, even when many clients call at once. A server with TLS
// has a self-signed certificate.
var connections = &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// call returns the status even where the answer was cut off behind it.
func (c *client) call(method, path string, body []byte, headers ...string) (answer, error) {
	rq, err := http.NewRequest(method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	rq.Header.Set("Authorization", "Bearer "+c.key)
	for i := 0; i+1 < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	response, err := connections.Do(rq)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, raw, response.Header}, err
}

// upload sends a file to a product, ticket or meeting.
func (c *client) upload(parent, name string, content []byte) (answer, error) {
	head := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n"
	form := bytes.Join([][]byte{[]byte(head), content, []byte("\r\n--frontier--\r\n")}, nil)
	return c.call("POST", parent+"/attachments", form, "Content-Type", "multipart/form-data; boundary=frontier")
}

// id is the attachment's id in an answer.
func (a answer) id() string {
	var body struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(a.body, &body) // an answer without one has an empty id
	return body.ID
}

// download returns the bytes of a product's attachment.
func (c *client) download(id string) (answer, error) {
	return c.call("GET", "/catalog/attachments/"+id+"/download", nil)
}

// remove deletes a product's attachment.
func (c *client) remove(id string) (answer, error) {
	return c.call("DELETE", "/catalog/attachments/"+id, nil)
}

// restore brings a product's attachment back from the trash.
func (c *client) restore(id string) (answer, error) {
	return c.call("POST", "/catalog/attachments/"+id+"/restore", nil)
}

// purge removes a product's attachment for good.
func (c *client) purge(id string) (answer, error) {
	return c.call("DELETE", "/catalog/attachments/"+id+"?permanent=true", nil)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// sizeOf is the size of a file, or 0 when there is none.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// eventually waits until a condition is true.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
