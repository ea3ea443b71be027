//go:build unix

package durability

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Pages that cannot be read are made here by cutting the file off under the
// mapping, which raises the same signal as a disk that is gone.
func TestADatabaseThatCannotBeReadForAMomentEndsTheProcessAndLosesNothing(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(p *process, id string){
		"while somebody reads":   func(p *process, id string) { _, _ = p.download(id) },
		"while somebody uploads": func(p *process, _ string) { _, _ = p.upload(product, "b.txt", []byte("more")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			database := filepath.Join(dir, "attachd.db")
			p := serve(t, dir)
			a, err := p.upload(product, "a.txt", []byte("kept"))
			must(t, err)

			must(t, p.cmd.Process.Signal(syscall.SIGSTOP)) // so that it does not write between the two
			whole, err := os.ReadFile(database)
			must(t, err)
			must(t, os.Truncate(database, 0))
			must(t, p.cmd.Process.Signal(syscall.SIGCONT))
			ask(p, a.id())
			select {
			case <-p.ended:
			case <-time.After(patience):
				t.Fatal("attachd goes on")
			}
			if code := p.cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit code %d, for which a service manager does not start it anew", code)
			}
			if said := p.log.String(); !strings.Contains(said, "cannot be read") || !strings.Contains(said, "Start attachd again") || strings.Contains(said, "goroutine ") {
				t.Errorf("it says: %s", said)
			}

			must(t, os.WriteFile(database, whole, 0o600))
			p = serve(t, dir)
			if got, err := p.download(a.id()); err != nil || string(got.body) != "kept" {
				t.Errorf("after the restart: %d %s, %v", got.status, got.body, err)
			}
			p.stop(t)
			wantSound(t, dir)
		})
	}
}
