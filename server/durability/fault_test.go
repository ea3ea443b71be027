//go:build unix

package durability

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Here the file is truncated while it is mapped, which raises the same signal as a
// failed disk; or another process writes to it.
func TestADatabaseThatIsNotWhatItWasIsRefusedUntilItIsAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, database string, whole []byte){
		"cut":         func(t *testing.T, database string, _ []byte) { must(t, os.Truncate(database, 0)) },
		"overwritten": func(t *testing.T, database string, whole []byte) { overwrite(t, database, 0, int64(len(whole))) },
	} {
		for when, putBack := range map[string]func(t *testing.T, p *process, database string, whole []byte) *process{
			"while it runs": func(t *testing.T, p *process, database string, whole []byte) *process {
				must(t, os.WriteFile(database, whole, 0o600))
				p.waitUntilReady(t)
				return p
			},
			"before the next start": func(t *testing.T, p *process, database string, whole []byte) *process {
				must(t, p.cmd.Process.Signal(syscall.SIGTERM))
				select {
				case <-p.ended:
				case <-time.After(patience):
					t.Fatal("it does not end when it is told to")
				}
				must(t, os.WriteFile(database, whole, 0o600))
				return serve(t, p.dir)
			},
		} {
			t.Run(name+", and put back "+when, func(t *testing.T) {
				t.Parallel()
				p, whole, uploads := damagedAtRest(t, do)
				database := filepath.Join(p.dir, "attachd.db")

				p = putBack(t, p, database, whole)
				for _, a := range uploads {
					if got, err := p.download(a.id()); err != nil || got.status != http.StatusOK {
						t.Errorf("with its bytes again: %d %s, %v", got.status, got.body, err)
					}
				}
				if got, err := p.upload(product, "c.txt", []byte("more")); err != nil || got.status != http.StatusCreated {
					t.Errorf("an upload then: %d %s, %v", got.status, got.body, err)
				}
				p.stop(t)
				wantSound(t, p.dir)
			})
		}
	}
}

// damagedAtRest returns a process whose database was damaged while the process
// wrote nothing to it, with the bytes of the intact database and the uploads that
// it has. A process that was stopped within a commit would complete it in the
// damaged file, and then the bytes from before are an older database: such a
// process is of no use here.
func damagedAtRest(t *testing.T, do func(t *testing.T, database string, whole []byte)) (p *process, whole []byte, uploads []answer) {
	t.Helper()
	for {
		p = serve(t, t.TempDir())
		database := filepath.Join(p.dir, "attachd.db")
		first, err := p.upload(product, "a.txt", []byte("first"))
		must(t, err)
		last, err := p.upload(product, "b.txt", []byte("last")) // may be in the log only
		must(t, err)

		must(t, p.standStill())
		whole, err = os.ReadFile(database)
		must(t, err)
		do(t, database, whole)
		damaged, err := os.ReadFile(database)
		must(t, err)
		must(t, p.cmd.Process.Signal(syscall.SIGCONT))
		_, _ = p.upload(product, "c.txt", []byte("refused")) // comes after a commit that was under way
		after, err := os.ReadFile(database)
		must(t, err)
		if bytes.Equal(after, damaged) {
			p.wantUnavailable(t, first.id())
			return p, whole, []answer{first, last}
		}
		p.kill()
	}
}

// wantUnavailable sends requests that need the database, which must fail. The log
// says what to do.
func (p *process) wantUnavailable(t *testing.T, id string) {
	t.Helper()
	for what, ask := range map[string]func() (answer, error){
		"a download": func() (answer, error) { return p.download(id) },
		"an upload":  func() (answer, error) { return p.upload(product, "refused.txt", []byte("refused")) },
		"a deletion": func() (answer, error) { return p.remove(id) },
		"readiness":  func() (answer, error) { return p.call("GET", "/health/ready", nil) },
	} {
		got, err := ask()
		if err != nil || got.status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s, %v", what, got.status, got.body, err)
		}
		if what == "readiness" && !strings.Contains(string(got.body), "The database was cut short or overwritten") {
			t.Errorf("it is not ready since: %s", got.body)
		}
	}
	eventually(t, "the log to say what to do", func() bool { return strings.Contains(p.log.String(), "attachd goes on; if it cannot, restart attachd") })
	if said := p.log.String(); strings.Contains(said, "goroutine ") {
		t.Errorf("it says: %s", said)
	}
}
