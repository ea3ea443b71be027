//go:build linux

package durability

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The objects of the requests to a server in which a call fails.
const (
	parentOfAll = "/catalog/spaces/proof/products/550e8400-e29b-41d4-a716-446655440000"
	userAfter   = usersPath + "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d99"
)

var (
	bystanderBytes = lines("a bystander", 3000)
	victimBytes    = lines("to be deleted", 3000)
	smallBytes     = lines("waits for its file", 3000)
	uploadBytes    = lines("under way when a call fails", 300<<10) // several writes
)

// deed is a request that a client makes while a call fails.
type deed struct {
	name    string
	calls   []string
	content []byte // the folder of this content is traced too
	way     string // how small contents are stored; empty: directly in a file
	late    bool   // the spool is open when the failures begin
	behind  bool   // the failures begin after the answer
	only    bool   // trace only that folder
	do      func(*fault) (answer, error)
	// after checks that a request that succeeded took effect, and that one that did
	// not took effect completely or not at all.
	after func(t *testing.T, f *fault, p *process, succeeded bool)
}

var deeds = []deed{
	{
		name: "upload", content: uploadBytes, late: true,
		calls: []string{"write", "fsync", "renameat", "pwrite64", "fdatasync"},
		do:    (*fault).upload, after: uploadedOrNot,
	},
	{
		name: "upload from its beginning", content: uploadBytes,
		calls: []string{"openat"},
		do:    (*fault).upload, after: uploadedOrNot,
	},
	{
		// The spool may be synced by another thread than its folder, and calls are
		// counted per thread.
		name: "upload with a folder that fails", content: uploadBytes, only: true,
		calls: []string{"fsync", "openat", "renameat"},
		do:    (*fault).upload, after: uploadedOrNot,
	},
	{
		name: "upload of what is there", content: bystanderBytes,
		calls: []string{"openat", "fsync", "unlinkat", "pwrite64", "fdatasync"},
		do:    (*fault).upload, after: uploadedOrNot,
	},
	{
		name: "upload of a content that waits", content: smallBytes, way: ways["contents wait"],
		calls: []string{"pwrite64", "fdatasync"},
		do:    (*fault).upload, after: uploadedOrNot,
	},
	{
		name: "settling", content: smallBytes, way: ways["contents wait"], behind: true,
		calls: []string{"openat", "fsync", "renameat", "pwrite64", "fdatasync"},
		do:    func(f *fault) (answer, error) { return f.uploadAndFlush(0) }, after: uploadedOrNot,
	},
	{
		name: "settling of many", content: smallBytes, way: ways["contents wait"], behind: true,
		calls: []string{"syncfs", "fsync", "renameat"},
		do:    func(f *fault) (answer, error) { return f.uploadAndFlush(9) },
		after: uploadedOrNot,
	},
	{
		name: "delete", content: victimBytes,
		calls: []string{"pwrite64", "fdatasync"},
		do:    func(f *fault) (answer, error) { return f.p.remove(f.base.victim) },
		after: deletedOrNot,
	},
	{
		name: "delete for good", content: victimBytes,
		calls: []string{"openat", "unlinkat", "pwrite64", "fdatasync"},
		do: func(f *fault) (answer, error) {
			a, err := f.p.remove(f.base.victim + "?permanent=true")
			// The content is removed after the answer. The next request on the same
			// connection waits for that.
			_, _ = f.p.call("GET", "/health", nil) // whatever the answer is
			return a, err
		},
		after: deletedOrNot,
	},
	{
		name:  "import",
		calls: []string{"pwrite64", "fdatasync", "ftruncate", "fsync"},
		do: func(f *fault) (answer, error) {
			return f.p.call("POST", "/directory/import", importOfMany())
		},
		after: importedOrNot,
	},
}

// A server runs over a copy of a small data directory. During a request, the N-th
// call of a kind fails in each of its threads, for N = 1, 2, 3 and so on until none
// fails any more.
// ASVS 2.3.3
func TestWhicheverSyscallFailsNothingIsHalfDoneAndNothingElseIsLost(t *testing.T) {
	needStrace(t)
	base := prepare(t)
	var cases, failures atomic.Int64
	t.Run("calls", func(t *testing.T) {
		for _, d := range deeds {
			for _, call := range d.calls {
				for _, errno := range []string{"EIO", "ENOSPC"} {
					t.Run(fmt.Sprintf("%s, %s fails with %s", d.name, call, errno), func(t *testing.T) {
						t.Parallel()
						n := 1
						for ; n < 40 && !t.Failed(); n++ {
							f := &fault{deed: d, base: base, call: call, errno: errno, nth: n}
							made := f.run(t)
							cases.Add(1)
							failures.Add(int64(made))
							if made == 0 {
								break
							}
						}
						if n == 1 && !t.Failed() {
							t.Error("there was no call that could fail")
						}
						t.Logf("%s: %s failed with %s for N up to %d", d.name, call, errno, n-1)
					})
				}
			}
		}
	})
	t.Logf("%d runs, %d failed calls", cases.Load(), failures.Load())
}

// On a slow disk a readiness probe outlasts its request. The process must not end
// before it does: its temporary file would be left.
func TestASlowSyscallOfAReadinessProbeIsAwaitedByAStop(t *testing.T) {
	needStrace(t)
	dir := t.TempDir() + "/data"
	const rename = "renameat,renameat2"
	p := serveAs(t, dir, straced(dir, "-P", dir+"/tmp", "-e", "trace="+rename, "-e", "inject="+rename+":delay_enter=2000000", "-o", dir+".trace"))
	client := http.Client{Timeout: 500 * time.Millisecond}
	if response, err := client.Get(p.url + "/health/ready"); err == nil {
		response.Body.Close()
		t.Fatalf("the readiness probe was answered with %d, so this test shows nothing", response.StatusCode)
	}
	p.stop(t)
	if left := p.leftInTmp(t); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

// The first start creates the directory, the database and the first key. When a
// call of it fails, it reports an error or works without; the next start continues
// from there, to a working server.
func TestWhicheverSyscallFailsInTheFirstStartTheNextOneWorks(t *testing.T) {
	needStrace(t)
	// Hundreds of folders are created, which are all alike.
	numbers := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 30, 50, 100, 200, 260}
	for _, call := range []string{"openat", "mkdirat", "write", "fsync", "renameat", "pwrite64", "fdatasync", "ftruncate", "linkat", "unlinkat"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			done := 0
			for _, n := range numbers {
				if !startFails(t, call, n) {
					break
				}
				done++
			}
			if done == 0 && !t.Failed() {
				t.Error("there was no call that could fail")
			}
			t.Logf("%s failed at %d places", call, done)
		})
	}
}

// startFails says whether there was a call to fail.
func startFails(t *testing.T, call string, n int) bool {
	t.Helper()
	home := inMemory(t)
	defer os.RemoveAll(home)
	f := fault{dir: filepath.Join(home, dataDir), trace: filepath.Join(home, "trace")}
	words := []string{"-xx", "-s", "100", "-e", "trace=" + call, "-e", fmt.Sprintf("inject=%s:error=EIO:when=%d", call, n), "-o", f.trace}
	if call == "openat" { // the Go runtime opens files too
		for _, path := range []string{"", "attachd.db", "FORMAT", "secret.key", "admin.key", "tmp", "blobs", "blobs/sha256", "blobs/damaged"} {
			words = append(words, "-P", filepath.Join(f.dir, path))
		}
	}
	cmd := straced(f.dir, words...)
	log, err := os.Create(filepath.Join(home, "log"))
	must(t, err)
	defer log.Close()
	cmd.Stderr = log
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // only what it left counts
	}()
	is := func() bool {
		said, _ := os.ReadFile(log.Name())
		_, noSocket := os.Lstat(filepath.Join(f.dir, "attachd.sock"))
		select {
		case <-ended:
			return true
		default:
			return noSocket == nil || listensAt.Match(said) // the call that reports the address may be the one that fails
		}
	}
	err = until(is)
	_ = cmd.Process.Kill() // it may have ended
	<-ended
	must(t, err)
	failed := f.failedCalls(t)

	p := serve(t, f.dir)
	defer p.kill()
	a, err := p.upload(product, "a.txt", []byte("works"))
	if err != nil || a.status != 201 {
		t.Errorf("%s number %d failed (%v); after the next start an upload is answered %d %s (%v)", call, n, failed, a.status, a.body, err)
	}
	p.stop(t)
	wantSound(t, f.dir)
	return len(failed) > 0
}

// base is a data directory that cases copy.
type base struct {
	data              image
	bystander, victim string // ids
}

func prepare(t *testing.T) base {
	t.Helper()
	var b base
	dir := filepath.Join(inMemory(t), dataDir)
	p := serve(t, dir)
	for content, id := range map[*[]byte]*string{&bystanderBytes: &b.bystander, &victimBytes: &b.victim} {
		a, err := p.upload(parentOfAll, "kept.txt", *content)
		must(t, err)
		*id = a.id()
	}
	p.stop(t)
	takeRoom(t, filepath.Join(dir, "attachd.db"))
	b.data = imageOf(t, dir)
	return b
}

// takeRoom truncates a database's file to the part in use, so that it has to grow
// soon.
func takeRoom(t *testing.T, path string) {
	t.Helper()
	must(t, os.Truncate(path, needs(t, path)))
}

// fault is one run in which a call fails.
type fault struct {
	deed
	base  base
	call  string
	errno string
	nth   int

	p      *process
	dir    string
	round  int // of uploads, until some contents are staged when the server is stopped
	trace  string
	tracer *exec.Cmd
}

// run makes the run, and returns how many calls failed.
func (f *fault) run(t *testing.T) int {
	t.Helper()
	home := inMemory(t)
	defer os.RemoveAll(home)
	f.dir, f.trace = filepath.Join(home, dataDir), filepath.Join(home, "trace")
	f.base.data.writeTo(t, f.dir)
	f.p = serve(t, f.dir, cmp.Or(f.way, ways["files at once"]))
	defer f.p.kill()
	if !f.late && !f.behind {
		must(t, f.attach())
	}
	a, err := f.do(f)
	must(t, f.detach())
	failed := f.failedCalls(t)
	defer func() {
		if t.Failed() {
			t.Logf("number %d: failed %v; the answer was %d %s (%v)", f.nth, failed, a.status, a.body, err)
		}
	}()
	succeeded := err == nil && a.status/100 == 2
	f.wantAlive(t, a, err, failed)
	f.after(t, f, f.p, succeeded)
	f.wantBystander(t, f.p)
	f.p.kill()

	p := serve(t, f.dir, cmp.Or(f.way, ways["files at once"]))
	defer p.kill()
	if left := p.leftInTmp(t); len(left) > 0 {
		t.Errorf("after the restart tmp holds %v", left)
	}
	wantSound(t, f.dir)
	f.wantBystander(t, p)
	f.after(t, f, p, succeeded)
	if a, err := p.call("PUT", userAfter, []byte(`{"full_name":"After the restart"}`)); err != nil || a.status/100 != 2 {
		t.Errorf("after the restart nothing can be changed: %d %s (%v)", a.status, a.body, err)
	}
	return len(failed)
}

// attach makes the calls fail from now on, those to the data directory only.
func (f *fault) attach() error {
	var watched []string
	for _, path := range []string{"", "attachd.db", "wal", "tmp", "blobs", "blobs/sha256", "blobs/damaged"} {
		watched = append(watched, filepath.Join(f.dir, path))
	}
	segments, err := filepath.Glob(filepath.Join(f.dir, "wal", "*"))
	if err != nil {
		return err
	}
	watched = append(watched, segments...)
	if f.content != nil {
		if f.only {
			watched = nil
		}
		watched = append(watched, filepath.Dir(f.blob()))
	}
	spools, err := filepath.Glob(filepath.Join(f.dir, "tmp", "*"))
	if err != nil {
		return err
	}
	f.tracer, err = f.p.failing(f.trace, f.call, fmt.Sprintf("error=%s:when=%d", f.errno, f.nth), append(watched, spools...)...)
	return err
}

// failing makes calls of the process fail, those to the paths only, until the tracer is
// detached.
func (p *process) failing(trace, calls, how string, paths ...string) (tracer *exec.Cmd, err error) {
	words := []string{"-f", "-q", "-y", "-xx", "-s", "100", "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + how,
		"-o", trace, "-p", fmt.Sprint(p.cmd.Process.Pid)}
	for _, path := range paths {
		words = append(words, "-P", path)
	}
	tracer = exec.Command("strace", words...)
	if err := tracer.Start(); err != nil {
		return nil, err
	}
	return tracer, until(p.isTraced)
}

// isTraced says whether every thread is traced.
func (p *process) isTraced() bool {
	threads := p.threads()
	return len(threads) > 0 && !slices.ContainsFunc(threads, func(status string) bool {
		return strings.Contains(status, "TracerPid:\t0\n")
	})
}

func (f *fault) detach() error {
	if f.tracer == nil {
		return nil // the client gave up before
	}
	return detach(f.tracer)
}

func detach(tracer *exec.Cmd) error {
	if err := tracer.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	_ = tracer.Wait() // it ends by the signal
	return nil
}

// failedCalls lists the calls that were made to fail.
func (f *fault) failedCalls(t *testing.T) []tracedCall {
	t.Helper()
	file, err := os.Open(f.trace)
	must(t, err)
	defer file.Close()
	calls, err := readTrace(file)
	must(t, err)
	return slices.DeleteFunc(calls, func(c tracedCall) bool { return !c.made })
}

// upload sends half of a file before calls begin to fail, if the deed is late, and
// then the rest.
func (f *fault) upload() (answer, error) {
	body, rest := io.Pipe()
	rq, err := http.NewRequest("POST", f.p.url+parentOfAll+"/attachments", body)
	if err != nil {
		return answer{}, err
	}
	rq.Header.Set("Authorization", "Bearer "+f.p.key)
	rq.Header.Set("Content-Type", "multipart/form-data; boundary=frontier")
	failed := make(chan error, 1)
	go func() {
		err := f.send(rest)
		_ = rest.CloseWithError(err) // never fails
		failed <- err
	}()
	response, err := http.DefaultClient.Do(rq)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	_ = body.Close() // the rest, which the server refused, is not sent
	<-failed
	return answer{response.StatusCode, raw, response.Header}, err
}

// uploadAndFlush makes calls fail from the answer on, until the content and a
// number of others are flushed to files or the log reports that they could not be.
func (f *fault) uploadAndFlush(others int) (answer, error) {
	a, err := f.uploadAndStop(others)
	if err != nil || a.status != http.StatusCreated {
		return a, err
	}
	if err := errors.Join(f.attach(), f.p.cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		return a, err
	}
	return a, until(func() bool {
		metrics, err := f.p.call("GET", "/metrics", nil)
		return err == nil && bytes.Contains(metrics.body, []byte("\nattachd_pending_bytes 0\n")) ||
			strings.Contains(f.p.log.String(), "staged contents could not all be written out of the write-ahead log")
	})
}

// uploadAndStop stops the server while contents are staged. On a slow machine some
// may have been flushed before that; then it uploads others.
func (f *fault) uploadAndStop(others int) (answer, error) {
	for {
		before, err := f.files()
		if err != nil {
			return answer{}, err
		}
		for n := range others {
			if a, err := f.p.upload(parentOfAll, "another.txt", fmt.Append(nil, "another ", n, " beside ", before)); err != nil || a.status != http.StatusCreated {
				return a, err
			}
		}
		a, err := f.upload()
		if err != nil || a.status != http.StatusCreated {
			return a, err
		}
		if err := f.p.standStill(); err != nil {
			return a, err
		}
		if now, err := f.files(); err != nil || now == before {
			return a, err
		}
		if err := f.p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			return a, err
		}
		f.content = append(slices.Clone(f.content), "once more\n"...)
		f.round++
	}
}

// files counts the files of contents, and temporary ones.
func (f *fault) files() (int, error) {
	blobs, err := filepath.Glob(filepath.Join(f.dir, "blobs", "sha256", "*", "*"))
	if err != nil {
		return 0, err
	}
	spools, err := filepath.Glob(filepath.Join(f.dir, "tmp", "*"))
	return len(blobs) + len(spools), err
}

// blob is the path of the content's file, which may not exist yet.
func (f *fault) blob() string {
	sum := sha256.Sum256(f.content)
	return filepath.Join(f.dir, "blobs", "sha256", hex.EncodeToString(sum[:1]), hex.EncodeToString(sum[:]))
}

// fileName is the name of the upload of this round.
func (f *fault) fileName() string { return fmt.Sprintf("new %d.txt", f.round) }

func (f *fault) send(to io.Writer) error {
	head := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + f.fileName() + "\"\r\n\r\n"
	form := slices.Concat([]byte(head), f.content, []byte("\r\n--frontier--\r\n"))
	if f.late {
		const half = 150 << 10 // more than the server buffers in memory before it creates a file
		if _, err := to.Write(form[:half]); err != nil {
			return err
		}
		form = form[half:]
		err := until(func() bool {
			spools, _ := filepath.Glob(filepath.Join(f.dir, "tmp", "*"))
			return len(spools) > 0
		})
		if err != nil {
			return err
		}
		if err := f.attach(); err != nil {
			return err
		}
	}
	_, err := to.Write(form)
	return err
}

// wantAlive checks the answer and what the server can do from then on.
func (f *fault) wantAlive(t *testing.T, a answer, err error, failed []tracedCall) {
	t.Helper()
	if err != nil {
		t.Errorf("there was no answer: %v", err)
		return
	}
	inCommit := slices.ContainsFunc(failed, func(c tracedCall) bool {
		path, _ := pathOf(c.args[0])
		return c.name != "openat" && path == filepath.Join(f.dir, "attachd.db")
	})
	later, err := f.p.call("PUT", userAfter, []byte(`{"full_name":"After the failure"}`))
	must(t, err)
	switch {
	case f.behind && a.status != http.StatusCreated:
		t.Errorf("before anything failed, the answer is %d", a.status)
	case f.behind && inCommit:
		// A full disk that is reported by a sync leaves open how far a commit came.
		if unknown := f.errno == "EIO"; unknown && later.status != http.StatusServiceUnavailable || later.status/100 != 2 && later.status != http.StatusServiceUnavailable {
			t.Errorf("the commit that settles failed, and later changes are answered %d %s", later.status, later.body)
		}
	case f.behind:
		if later.status/100 != 2 {
			t.Errorf("a content could not be settled, and later changes are answered %d %s", later.status, later.body)
		}
	case len(failed) == 0:
		if a.status/100 != 2 || later.status/100 != 2 {
			t.Errorf("although nothing failed: %d %s, and later %d %s", a.status, a.body, later.status, later.body)
		}
	case inCommit && f.errno == "EIO" && a.status == http.StatusCreated && f.way == ways["contents wait"]:
		// It was in the log when it was acknowledged, and is still there.
		if later.status != http.StatusServiceUnavailable {
			t.Errorf("the outcome of a commit is not known, and later changes are answered %d %s", later.status, later.body)
		}
		f.wantNotReady(t)
	case inCommit && f.errno == "EIO":
		if a.status != http.StatusServiceUnavailable || later.status != http.StatusServiceUnavailable {
			t.Errorf("the outcome of a commit is not known, and the answers are %d and later %d %s", a.status, later.status, later.body)
		}
		if bytes.Contains(a.body, []byte("othing was changed")) {
			t.Errorf("nobody knows that: %s", a.body)
		}
		f.wantNotReady(t)
	case inCommit && f.call == "pwrite64":
		// With the ballast given up, the commit is retried.
		if a.status/100 != 2 && a.status != http.StatusInsufficientStorage || later.status/100 != 2 {
			t.Errorf("the disk was full for a moment, and the answers are %d and later %d %s", a.status, later.status, later.body)
		}
	case inCommit:
		// With a full disk that is reported by a sync or a change of the file's
		// length, it may be unknown how far the commit came.
		if a.status/100 != 2 && a.status != http.StatusInsufficientStorage && a.status != http.StatusServiceUnavailable {
			t.Errorf("the disk was full, and the answer is %d", a.status)
		}
	default:
		full := f.errno == "ENOSPC" && a.status == http.StatusInsufficientStorage
		if a.status/100 != 2 && a.status != http.StatusInternalServerError && !full {
			t.Errorf("a file could not be written, and the answer is %d", a.status)
		}
		if later.status/100 != 2 {
			t.Errorf("one call failed, and later changes are answered %d %s", later.status, later.body)
		}
	}
}

func (f *fault) wantNotReady(t *testing.T) {
	t.Helper()
	a, err := f.p.call("GET", "/health/ready", nil)
	if err != nil || a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte("Metadata cannot be committed until a restart.")) {
		t.Errorf("nothing can be changed, and /health/ready says %d %s (%v)", a.status, a.body, err)
	}
}

func (f *fault) wantBystander(t *testing.T, p *process) {
	t.Helper()
	a, err := p.download(f.base.bystander)
	if err != nil || a.status != 200 || !bytes.Equal(a.body, bystanderBytes) {
		t.Errorf("a file that has nothing to do with it: %d, %d bytes (%v)", a.status, len(a.body), err)
	}
}

// uploadedOrNot downloads all listed files. An upload without a successful answer
// may have created a record; then it must be complete.
func uploadedOrNot(t *testing.T, f *fault, p *process, succeeded bool) {
	t.Helper()
	a, err := p.call("GET", parentOfAll+"/attachments", nil)
	must(t, err)
	uploaded := 0
	for _, item := range bytes.SplitAfter(a.body, []byte("},")) {
		item := answer{body: bytes.Trim(item, "[],\n")}
		if !bytes.Contains(item.body, []byte(f.fileName())) {
			continue
		}
		_, id, _ := strings.Cut(string(item.body), `"id":"`)
		got, err := p.download(id[:36])
		must(t, err)
		uploaded++
		if got.status != 200 || !bytes.Equal(got.body, f.content) {
			t.Errorf("what was uploaded is listed and not whole: %d, %d bytes", got.status, len(got.body))
		}
	}
	if uploaded > 1 || succeeded && uploaded == 0 {
		t.Errorf("the list has the file %d times", uploaded)
	}
}

func deletedOrNot(t *testing.T, f *fault, p *process, succeeded bool) {
	t.Helper()
	got, err := p.download(f.base.victim)
	must(t, err)
	whole := got.status == 200 && bytes.Equal(got.body, victimBytes)
	if got.status != 404 && (succeeded || !whole) {
		t.Errorf("the file to delete: %d, %d bytes", got.status, len(got.body))
	}
}

const many = 400 // enough for the database to grow

func importOfMany() []byte {
	var all bytes.Buffer
	for i := range many {
		fmt.Fprintf(&all, `{"kind":"user","id":"%s","full_name":"Imported %d %s"}`+"\n", importedUser(i), i, strings.Repeat("x", 100))
	}
	return all.Bytes()
}

func importedUser(i int) string { return fmt.Sprintf("0b5ab4f3-0b4f-4c35-a2c5-%012d", i) }

func importedOrNot(t *testing.T, _ *fault, p *process, succeeded bool) {
	t.Helper()
	there := 0
	for _, i := range []int{0, 1, many / 2, many - 1} {
		a, err := p.call("GET", usersPath+importedUser(i), nil)
		must(t, err)
		if a.status == 200 {
			there++
		}
	}
	if there != 4 && (there != 0 || succeeded) {
		t.Errorf("of 4 imported users there are %d", there)
	}
}
