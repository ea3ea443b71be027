//go:build unix

package durability

import (
	"flag"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

var operations = flag.Int("ops", 0, "how many uploads, deletions and downloads race with each other; 0 is 5,000, or 1,000,000 with -long")

const (
	raceWorkers  = 32
	raceContents = 20
)

// Many clients upload and delete the same few contents, most of which are
// referenced only briefly, while unreferenced contents are collected all the time,
// however young. No client may lose a file.
// ASVS 15.4.1 to 15.4.4
func TestUploadsDeletionsAndCollectionsOfTheSameContentsDoNotDisturbEachOther(t *testing.T) {
	inBothWays(t, doNotDisturbEachOther)
}

func doNotDisturbEachOther(t *testing.T, way string) {
	n := *operations
	if n == 0 {
		n = 5_000
		if *long {
			n = 1_000_000
		}
	}
	seed := chosenSeed()
	t.Logf("go test ./server/durability -run '%s' -v -timeout 0 -ops %d -seed %d", t.Name(), n, seed)
	p := serve(t, t.TempDir(), way)
	workers := crew(t, raceWorkers, seed, habits{uploads: 30, deletions: 25, restores: 5, purges: 35, shares: 100, most: 2, contents: someTexts(raceContents, seed)})
	for _, w := range workers {
		w.client, w.parents = &p.client, someProducts(0, 5)
	}

	c := collectAllTheTime(t, &p.client)
	begun := time.Now()
	together(workers, func(w *worker) {
		for i := 0; i < n/len(workers) && !t.Failed(); i++ {
			w.stepAndLookAgain()
		}
	})
	took := time.Since(begun)
	c.stop()

	together(workers, func(w *worker) { w.hold(w.there, w.gone) })
	wantExactly(t, p, workers)
	answers := tally(workers)
	t.Logf("%d steps in %v, %.0f in a second; answers, with those of looking again: %v", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), answers)
	t.Logf("meanwhile: %d collections removed %d contents, %d checks found no fault", c.collections, c.contents, c.checks)
	p.stop(t)
	wantSound(t, p.dir)
}

// stepAndLookAgain makes a step and, now and then, downloads the file that was
// deleted last.
func (w *worker) stepAndLookAgain() {
	err := w.step()
	if err == nil && len(w.gone) > 0 && w.rand.IntN(10) == 0 {
		err = w.wantGone(w.gone[len(w.gone)-1])
	}
	if err != nil {
		w.Errorf("%s: %v", w.name, err)
	}
}

// wantExactly collects once more; then the server must have the workers' files, and
// nothing else.
func wantExactly(t *testing.T, p *process, workers []*worker) {
	t.Helper()
	if _, err := p.collect(); err != nil {
		t.Errorf("the last collection: %v", err)
	}
	attachments, contents := 0, map[[32]byte]bool{}
	for _, w := range workers {
		attachments += len(w.there) + len(w.trash)
		for _, f := range slices.Concat(w.there, w.trash) {
			contents[f.sum] = true
		}
	}
	report := p.wantNoFaults(t)
	if report.Orphans != 0 || report.Attachments != attachments || report.Contents != len(contents) {
		t.Errorf("there are %d attachments with %d contents and %d that nothing refers to; there should be %d with %d",
			report.Attachments, report.Contents, report.Orphans, attachments, len(contents))
	}
	if ready, err := p.call(http.MethodGet, "/health/ready", nil); err != nil || ready.status != http.StatusOK {
		t.Errorf("at the end the server is not ready: %d %s, %v", ready.status, ready.body, err)
	}
}

// collector collects unreferenced contents, and runs checks in between, until it is
// stopped.
type collector struct {
	collections, contents, checks int
	end                           chan struct{}
	ended                         sync.WaitGroup
}

// collectionsPerCheck is how many collections run per check, which takes longer.
const collectionsPerCheck = 20

func collectAllTheTime(t *testing.T, server *client) *collector {
	c := &collector{end: make(chan struct{})}
	c.ended.Go(func() {
		for !t.Failed() {
			select {
			case <-c.end:
				return
			default:
			}
			removed, err := server.collect()
			if err != nil {
				t.Errorf("collection %d: %v", c.collections+1, err)
			}
			c.contents += removed
			if c.collections++; c.collections%collectionsPerCheck == 0 {
				server.wantNoFaults(t)
				c.checks++
			}
		}
	})
	return c
}

func (c *collector) stop() {
	close(c.end)
	c.ended.Wait()
}
