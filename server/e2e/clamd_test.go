//go:build unix

package e2e

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"attachd/server/e2e/nginx"
)

var withClamd = flag.Bool("clamd", false, "scan with a real clamd, which must be installed")

// marker is the text that the test signature detects. It is harmless.
const marker = "attachd: a harmless marker that only our tests look for"

// The limits of clamd as Debian sets them, and a file larger than these.
const (
	debianLimits = "MaxThreads 12\nMaxConnectionQueueLength 15\nMaxScanTime 120000\nMaxScanSize 100M\nMaxFileSize 25M\nStreamMaxLength 25M\n"
	raisedLimits = "MaxScanSize 400M\nMaxFileSize 100M\nStreamMaxLength 100M\nAlertExceedsMax yes\n"
	beyondDebian = 26 << 20
)

// startClamd starts a clamd, with a database of two lines, until the test ends.
func startClamd(t *testing.T, limits string) (unix, tcp string) {
	t.Helper()
	if !*withClamd {
		t.Skip("it needs clamd; run it with: go test ./server/e2e -run Clamd -clamd")
	}
	dir, err := os.MkdirTemp("/tmp", "clamd")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	database := filepath.Join(dir, "database")
	check(t, os.Mkdir(database, 0o700))
	eicar := []byte(`X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-` + `ANTIVIRUS-TEST-FILE!$H+H*`)
	sum := md5.Sum(eicar)
	write(t, filepath.Join(database, "test.hdb"), fmt.Sprintf("%s:%d:Eicar-Signature\n", hex.EncodeToString(sum[:]), len(eicar)))
	write(t, filepath.Join(database, "test.ndb"), "Marker:0:*:"+hex.EncodeToString([]byte(marker))+"\n")
	self, err := user.Current()
	check(t, err)
	port := nginx.FreePort(t)
	write(t, filepath.Join(dir, "clamd.conf"), fmt.Sprintf("Foreground true\nUser %s\nDatabaseDirectory %s\nTemporaryDirectory %s\nLocalSocket %s/s\nTCPSocket %s\nTCPAddr 127.0.0.1\n%s",
		self.Username, database, dir, dir, port, limits))

	var said bytes.Buffer
	cmd := exec.Command("clamd", "--config-file", filepath.Join(dir, "clamd.conf"))
	cmd.Stdout, cmd.Stderr = &said, &said
	check(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("clamd said\n%s", &said)
		}
	})
	eventually(t, "clamd listens", func() bool {
		conn, err := net.Dial("unix", filepath.Join(dir, "s"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "unix:" + dir + "/s", "tcp:127.0.0.1:" + port
}

// padded is text of n bytes, then the marker.
func padded(n int64) io.Reader {
	return io.MultiReader(&generated{left: n, line: "padding\n"}, strings.NewReader(marker))
}

// uploadFrom uploads the bytes of a reader.
func (c *client) uploadFrom(name string, content io.Reader) answer {
	c.t.Helper()
	return c.call(c.key, "POST", product+"/attachments", formOf(name, content), formHeaders...)
}

// scanned checks the answer to an upload.
func (p *process) scanned(name string, content io.Reader, status int, code string) {
	p.t.Helper()
	if a := p.uploadFrom(name, content).want(p.t, status); !strings.Contains(a.body, code) {
		p.t.Errorf("%s: answered %s", name, a)
	}
}

func TestClamdLooksAtUploads(t *testing.T) {
	t.Parallel()
	unix, tcp := startClamd(t, debianLimits)
	for _, address := range []string{unix, tcp} {
		dir := dataDir(t)
		server := start(t, dir, autoCreate, "ATTACHD_SCAN_CLAMD="+address)
		server.scanned("clean.txt", strings.NewReader("clean"), 201, "")
		server.scanned("marked.txt", strings.NewReader("it has "+marker+" in it"), 400, "malware_found")
		server.scanned("large.txt", padded(24<<20), 400, "malware_found")
		server.scanned("too-large.txt", padded(beyondDebian), 503, "scan_unavailable")
		server.get("/health/ready").want(t, 200)
		if found := server.logged("malware found"); !strings.Contains(found, `"signature":"Marker.UNOFFICIAL"`) {
			t.Errorf("the log has %s", found)
		}
		// More than clamd has threads and queue for.
		var uploads sync.WaitGroup
		for n := range 100 {
			uploads.Go(func() {
				a, err := server.try(server.key, "POST", product+"/attachments", formOf("a.txt", &generated{left: 1 << 20, line: fmt.Sprintln("upload", n)}), formHeaders...)
				if err != nil || a.status != 201 {
					t.Errorf("upload %d: %v %v", n, err, a)
				}
			})
		}
		uploads.Wait()
		eventually(t, "nothing is left in tmp", func() bool { return len(names(t, filepath.Join(dir, "tmp"))) == 0 })
		server.stop()
	}
}

func TestClamdWithRaisedLimitsLooksAtTheLargestFile(t *testing.T) {
	t.Parallel()
	unix, _ := startClamd(t, raisedLimits)
	dir := dataDir(t)
	server := start(t, dir, autoCreate, "ATTACHD_SCAN_CLAMD="+unix)
	largest := int64(50 << 20)
	server.scanned("marked.txt", padded(beyondDebian), 400, "malware_found")
	server.scanned("marked.txt", padded(largest-int64(len(marker))), 400, "malware_found")
	server.scanned("clean.txt", &generated{left: largest, line: "padding\n"}, 201, "")
}

// clamd reports files above its MaxFileSize as clean. Without AlertExceedsMax, only
// the doctor detects that.
func TestTheDoctorTellsWhatClamdLooksAt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits string
		upload int    // status of a large file with the marker
		says   string // the doctor's finding for 50 MB
	}{
		"as Debian has it":         {debianLimits, 503, "problem: clamd does not look at files as large as limits.max_file_size, which are refused therefore"},
		"a longer stream only":     {strings.Replace(debianLimits, "StreamMaxLength 25M", "StreamMaxLength 100M", 1), 201, "problem: clamd calls files as large as limits.max_file_size clean without looking at them"},
		"and an alert":             {strings.Replace(debianLimits, "StreamMaxLength 25M", "StreamMaxLength 100M\nAlertExceedsMax yes", 1), 503, "problem: clamd does not look at files as large as limits.max_file_size, which are refused therefore"},
		"a small scan":             {"StreamMaxLength 100M\nMaxFileSize 100M\nMaxScanSize 40M\n", 400, "problem: clamd calls files"},
		"a small scan, and alerts": {"StreamMaxLength 100M\nMaxFileSize 100M\nMaxScanSize 40M\nAlertExceedsMax yes\n", 400, "problem: clamd does not look at files"},
		"no archives":              {raisedLimits + "ScanArchive no\n", 400, "problem: clamd does not find the test file"},
		"raised":                   {raisedLimits, 400, "ok: clamd finds malware in files as large as limits.max_file_size, 50 MB."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unix, _ := startClamd(t, c.limits)
			dir := dataDir(t)
			server := start(t, dir, autoCreate, "ATTACHD_SCAN_CLAMD="+unix)
			server.scanned("marked.txt", padded(beyondDebian), c.upload, "")
			said := strings.Join(findings(t, attachd(t, "ATTACHD_SCAN_CLAMD="+unix, "doctor", "--json", "--data-dir", dir))["scanner"], "\n")
			if !strings.HasPrefix(said, c.says) {
				t.Errorf("the doctor says %q, want %q", said, c.says)
			}
		})
	}
}

func TestAClamdThatIsGoneStopsUploadsUntilItIsBack(t *testing.T) {
	t.Parallel()
	unix, _ := startClamd(t, raisedLimits)
	socket := strings.TrimPrefix(unix, "unix:")
	server := start(t, dataDir(t), autoCreate, "ATTACHD_SCAN_CLAMD="+unix)
	server.scanned("a.txt", strings.NewReader("a"), 201, "")
	check(t, os.Rename(socket, socket+".away"))
	server.scanned("b.txt", strings.NewReader("b"), 503, "scan_unavailable")
	server.get("/health/ready").want(t, 503)
	check(t, os.Rename(socket+".away", socket))
	server.scanned("b.txt", strings.NewReader("b"), 201, "")
}
