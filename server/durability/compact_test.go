//go:build unix

package durability

import (
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
)

// While clients work, the database is compacted repeatedly, and the process is
// killed meanwhile. All acknowledged changes must be there, and no partial copy may
// stay.
func TestKillsWhileTheDatabaseIsCompactedLoseNothing(t *testing.T) {
	n, seed := plannedKills(t, 4, 100)
	k := &killing{T: t, env: []string{ways["contents wait"]}, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 3<<32)),
		workers: crew(t, killWorkers, seed, habits{uploads: 50, deletions: 35, shares: 40, contents: someTexts(8, seed)})}
	whole, halves := 0, 0
	k.meanwhile = func(stop <-chan struct{}) {
		for {
			select {
			case <-stop:
				if len(k.copies()) > 0 {
					halves++
				}
				return
			default:
			}
			if exec.Command(binary(), "compact", "--data-dir", k.dir).Run() == nil { // or it was killed
				whole++
			}
		}
	}
	k.start()
	for cycle := range n {
		k.cycle(cycle)
	}
	if out, code := run(t, k.dir, "compact"); code != 0 {
		t.Errorf("attachd compact: exit code %d\n%s", code, out)
	}
	k.everythingHolds()
	k.tell(n)
	t.Logf("%d compactions came to their end; %d copies were left by a kill and gone after the next start", whole, halves)
}

// copies lists the files beside the database whose names begin with its name.
func (k *killing) copies() []string {
	k.Helper()
	left, err := filepath.Glob(filepath.Join(k.dir, "attachd.db?*"))
	must(k.T, err)
	return left
}
