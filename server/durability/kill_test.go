//go:build unix

package durability

import (
	"cmp"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var cycles = flag.Int("cycles", 0, "how often the process is killed; 0 is 5, or 200 with -long")

const (
	killWorkers     = 12
	productsOfCycle = 4
	longestLoad     = 500 * time.Millisecond // before a kill
	longestStart    = 30 * time.Millisecond  // before a kill while it starts
)

// startBound is how much processor time a start may use. At least half of all
// starts must keep to it.
const startBound = time.Second

// Clients upload and delete, and the process is killed meanwhile and restarted,
// many times. Acknowledged changes must be there; changes that were not
// acknowledged must be there completely or not at all.
func TestKillsLoseNothingThatWasAcknowledged(t *testing.T) {
	inBothWays(t, killsLoseNothing)
}

// plannedKills returns how often a test kills the process, by -cycles, or else usual, and
// many with -long, and with which seed. It logs how to repeat that.
func plannedKills(t *testing.T, usual, many int) (n int, seed uint64) {
	t.Helper()
	switch n = usual; {
	case *cycles != 0:
		n = *cycles
	case *long:
		n = many
	}
	seed = chosenSeed()
	t.Logf("go test ./server/durability -run '%s' -v -cycles %d -seed %d", t.Name(), n, seed)
	return n, seed
}

func killsLoseNothing(t *testing.T, way string) {
	n, seed := plannedKills(t, 5, 200)
	k := &killing{T: t, env: []string{way}, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 2<<32)),
		workers: crew(t, killWorkers, seed, habits{uploads: 45, deletions: 30, restores: 5, purges: 10, shares: 40, contents: someTexts(8, seed)})}
	k.start()
	for cycle := range n {
		k.cycle(cycle)
	}
	k.everythingHolds()
	k.tell(n)
}

// killing is a test that kills processes over one data directory.
type killing struct {
	*testing.T
	*process
	env     []string // of the process
	dir     string
	rand    *rand.Rand
	workers []*worker
	// meanwhile, when set, runs beside the clients' work until stop is closed,
	// which is just before the kill.
	meanwhile func(stop <-chan struct{})
	// spoil, when set, is called with whether clients work now, rather than what they know
	// is checked.
	spoil func(working bool)
	// load is how long the clients work before a kill, at least and at most; longestLoad at
	// most when zero.
	load    [2]time.Duration
	starts  []time.Duration // duration of each
	worked  []time.Duration // processor time of each
	unknown int             // requests whose answers were lost
	became  int             // the number of those that took effect
}

// start starts the process, which was killed or is new.
func (k *killing) start() {
	k.Helper()
	if k.spoil == nil {
		k.spoil = func(bool) {}
	}
	k.process = serve(k.T, k.dir, k.env...)
	for _, w := range k.workers {
		w.client = &k.process.client
	}
}

func (k *killing) cycle(n int) {
	parents := someProducts(n*productsOfCycle, productsOfCycle)
	before := map[*worker]map[string]bool{} // what is gone before this cycle
	for _, w := range k.workers {
		w.parents = parents
		before[w] = w.goneIDs()
	}
	least := 0
	if n%2 == 0 { // in the other cycles the kill may come before any answer
		least = 2 * killWorkers
	}
	k.spoil(true)
	k.loadAndKill(least)
	if n%3 == 2 {
		k.killWhileStarting()
	}
	k.start()
	k.spoil(false)
	k.starts, k.worked = append(k.starts, k.ready), append(k.worked, k.worktime(k.T))
	if left := k.leftInTmp(k.T); len(left) > 0 {
		k.Errorf("cycle %d: after the restart, tmp holds %v", n, left)
	}
	if left := k.copies(); len(left) > 0 {
		k.Errorf("cycle %d: after the restart, there are %v", n, left)
	}
	k.learn(parents)
	together(k.workers, func(w *worker) {
		newest := slices.DeleteFunc(slices.Clone(w.there), func(f file) bool { return !slices.Contains(parents, f.parent) })
		w.hold(newest, w.goneSince(before[w]))
	})
	k.wantNoFaults(k.T)
	if k.Failed() {
		k.FailNow() // reporting what this cycle found
	}
}

// loadAndKill kills the process at a random moment of work, after it has given at
// least that many answers.
func (k *killing) loadAndKill(answersAtLeast int) {
	var killed atomic.Bool
	answers := make(chan struct{})
	least, most := k.load[0], cmp.Or(k.load[1], longestLoad)
	moment := time.After(least + time.Duration(k.rand.Int64N(int64(most-least))))
	done, enough, stop := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var others sync.WaitGroup
	if k.meanwhile != nil {
		others.Go(func() { k.meanwhile(stop) })
	}
	go func() {
		defer close(done)
		together(k.workers, func(w *worker) {
			for {
				if err := w.step(); err != nil {
					if !killed.Load() {
						k.Errorf("%s, before the kill: %v", w.name, err)
					}
					return
				}
				select {
				case answers <- struct{}{}:
				case <-enough:
				}
			}
		})
	}()
	for range answersAtLeast {
		select {
		case <-answers:
		case <-done: // all have failed
		}
	}
	close(enough)
	<-moment
	killed.Store(true)
	close(stop)
	k.kill()
	<-done
	others.Wait()
}

// killWhileStarting kills a process that has just been started.
func (k *killing) killWhileStarting() {
	cmd := exec.Command(binary(), "serve", "--data-dir", k.dir, "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), k.env...)
	must(k.T, cmd.Start())
	<-time.After(time.Duration(k.rand.Int64N(int64(longestStart))))
	must(k.T, cmd.Process.Kill())
	_ = cmd.Wait() // reports that it was killed
}

// learn determines the outcome of requests without an answer, and checks that the
// products of this cycle have the files that their workers know, and no others.
func (k *killing) learn(parents []string) {
	listed := map[string]map[string]string{} // parent to id to name
	byName := map[string]string{}
	for _, parent := range parents {
		names, err := k.list(parent)
		must(k.T, err)
		listed[parent] = names
		for id, name := range names {
			byName[name] = id
		}
	}
	for _, w := range k.workers {
		k.learnOf(w, byName)
		for _, f := range w.there {
			names, ofThisCycle := listed[f.parent]
			if ofThisCycle && names[f.id] != f.name {
				w.lost++
				k.Errorf("%s (%s) is not in the list of %s", f.name, f.id, f.parent)
			}
			delete(names, f.id)
		}
	}
	for parent, names := range listed {
		for id, name := range names {
			k.Errorf("%s has %s (%s), which should not be there", parent, name, id)
		}
	}
}

// learnOf determines the outcome of a worker's last change, which is treated like any other
// afterwards.
func (k *killing) learnOf(w *worker, byName map[string]string) {
	if f := w.sent; f != nil {
		k.unknown++
		if f.id = byName[f.name]; f.id != "" {
			k.became++
			w.there = append(w.there, *f)
		}
	}
	if f := w.doomed; f != nil {
		k.unknown++
		a, err := w.download(f.id)
		must(k.T, err)
		if a.status == 404 {
			k.became++
			w.deleted(*f)
		} else {
			w.there = append(w.there, *f)
			must(k.T, w.want(*f)) // complete, even when it is of an earlier cycle
		}
	}
	if f := w.back; f != nil {
		k.unknown++
		a, err := w.download(f.id)
		must(k.T, err)
		if a.status == 404 {
			w.deleted(*f)
		} else {
			k.became++
			w.there, w.restored = append(w.there, *f), append(w.restored, *f)
			must(k.T, w.want(*f))
		}
	}
	if f := w.last; f != nil { // what is hidden does not show whether it is still in the trash
		k.unknown++
		a, err := w.purge(f.id)
		must(k.T, err)
		if a.status == 404 {
			k.became++
		} else if a.status != 200 {
			k.Errorf("the purge of %s (%s) was answered %d: %s", f.name, f.id, a.status, a.body)
		}
		w.gone, w.purged = append(w.gone, *f), append(w.purged, *f)
	}
	w.sent, w.doomed, w.back, w.last = nil, nil, nil, nil
}

// everythingHolds checks the files of all cycles again.
func (k *killing) everythingHolds() {
	together(k.workers, func(w *worker) { w.hold(w.there, w.gone) })
	before := k.wantNoFaults(k.T)
	collected, err := k.collect()
	must(k.T, err)
	after := k.wantNoFaults(k.T)
	if collected != before.Orphans || after.Orphans > 0 {
		k.Errorf("nothing referred to %d contents; %d were removed, %d are left", before.Orphans, collected, after.Orphans)
	}
	k.Logf("at the end: %d attachments, %d contents, and %d that the kills left and gc removed", after.Attachments, after.Contents, collected)
	k.stop(k.T)
	wantSound(k.T, k.dir)
	k.everythingIsRecorded()
}

// everythingIsRecorded fails unless the audit log has an entry for each upload and
// each deletion that took effect.
func (k *killing) everythingIsRecorded() {
	if out, code := run(k.T, k.dir, "audit", "verify"); code != 0 {
		k.Errorf("attachd audit verify: exit code %d\n%s", code, out)
	}
	out, code := run(k.T, k.dir, "audit", "export")
	if code != 0 {
		k.Fatalf("attachd audit export: exit code %d\n%s", code, tail(out, 4000))
	}
	recorded := map[string]bool{} // action and id
	for line := range strings.Lines(out) {
		var entry struct {
			Action, Outcome string
			Resource        struct{ ID string }
		}
		must(k.T, json.Unmarshal([]byte(line), &entry))
		if entry.Outcome == "done" {
			recorded[entry.Action+" "+entry.Resource.ID] = true
		}
	}
	missing := 0
	want := func(action string, f file) {
		if !recorded[action+" "+f.id] {
			missing++
			k.Errorf("the audit log has no %s of %s (%s)", action, f.id, f.name)
		}
	}
	for _, w := range k.workers {
		for _, f := range w.there {
			want("attachment.upload", f)
		}
		for _, f := range w.gone {
			want("attachment.upload", f)
			want("attachment.delete", f)
		}
		for _, f := range w.restored {
			want("attachment.restore", f)
		}
		for _, f := range w.purged {
			want("attachment.purge", f)
		}
	}
	k.Logf("the audit log has %d entries; missing: %d", len(recorded), missing)
}

func (k *killing) tell(cycles int) {
	answers := tally(k.workers)
	lost, undone := 0, 0
	for _, w := range k.workers {
		lost += w.lost
		undone += w.undone
	}
	slices.Sort(k.starts)
	slices.Sort(k.worked)
	worst, median := k.starts[len(k.starts)-1], k.starts[len(k.starts)/2]
	work := k.worked[len(k.worked)/2]
	k.Logf("%d cycles; acknowledged: %d uploads, %d deletions; lost: %d, undone: %d; without an answer: %d, of which %d were done; restarts: worst %v, median %v, median of the processors' time %v",
		cycles, answers["upload 201"], answers["delete 200"], lost, undone, k.unknown, k.became, worst, median, work)
	k.Logf("answers: %v", answers)
	if work > startBound {
		k.Errorf("half of the restarts kept processors busy for longer than %v", startBound)
	}
	if answers["upload 201"] == 0 || answers["delete 200"] == 0 {
		k.Error("nothing was acknowledged before the kills: this shows nothing")
	}
}
