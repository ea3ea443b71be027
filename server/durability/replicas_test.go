//go:build unix

package durability

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3/s3test"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

const (
	// replicaLoad is how long clients work between two looks at everything.
	replicaLoad = 5 * time.Second
	// killsOfLoad is how many processes are killed in that time.
	killsOfLoad = 8
	// looksAt is after how many such times all is checked.
	looksAt = 5
)

// Clients upload, read, delete, restore and purge few contents at two servers that share a database and an
// object store, each request at either. Meanwhile a server is killed now and then, the
// connections to the database are cut, the database crashes, the object store is killed, and
// requests to it arrive seconds after they were given up, or their answers are lost. What was
// acknowledged must be there and right at both, no quota may drift, the chain of the audit log
// must be whole, and nothing be left over in the catalog.
func TestReplicasLoseNothingThatWasAcknowledged(t *testing.T) {
	n, seed := plannedKills(t, 1, 500)
	r := newReplicas(t, seed)
	for cycle := range n {
		r.cycle(cycle)
	}
	r.end()
	r.killing.tell(n)
	t.Logf("kills of a server %d, cuts of all connections %d, crashes of the database %d, kills of the object store %d; between the servers and the store: %v",
		r.kills, r.cuts, r.crashes, r.storeKills, r.proxy.Counts())
}

// replicas are two servers with a common database and object store.
type replicas struct {
	*killing
	database *postgrestest.Server
	dsn      string
	gateway  *s3test.Gateway
	proxy    *s3test.Proxy
	dirs     [2]string
	running  [2]*process
	at       [2]atomic.Pointer[client]

	kills, cuts, crashes, storeKills int
}

func newReplicas(t *testing.T, seed uint64) *replicas {
	t.Helper()
	r := &replicas{gateway: s3test.Versitygw(t)}
	r.proxy = s3test.NewProxy(t, r.gateway.Host("127.0.0.1"), seed)
	r.startDatabase(t)
	for _, variable := range append(s3test.Env(r.proxy.Host()), "ATTACHD_METADATA_BACKEND=postgres", "ATTACHD_METADATA_DSN="+r.dsn, "ATTACHD_STORAGE_KEEP_DELETED=0s", "ATTACHD_DOWNLOADS_MODE=content") {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value) // of commands too
	}
	r.killing = &killing{T: t, rand: rand.New(rand.NewPCG(seed, 2<<32)),
		workers: crew(t, killWorkers, seed, habits{uploads: 40, deletions: 25, restores: 10, purges: 15, shares: 100, most: 6, contents: contentsOfBothKinds(seed), refused: true, away: true})}
	for i := range r.dirs {
		r.dirs[i] = t.TempDir()
		r.startReplica(i)
	}
	a, err := r.running[0].call("PUT", "/directory/spaces/proof", []byte(`{"name":"Proof","quota_files":1000000}`))
	if err != nil || a.status/100 != 2 {
		t.Fatalf("the space was answered %d: %s, %v", a.status, a.body, err)
	}
	return r
}

func (r *replicas) startDatabase(t *testing.T) {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgres") // not below a folder that only the test's user can enter
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	r.database, err = postgrestest.Start(dir)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv(postgrestest.Required) == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(r.database.Kill)
	r.dsn, err = r.database.CreateDatabase(t.Context(), "attachd")
	must(t, err)
}

// startReplica starts a server, which was killed or is new. The first one of all has made the
// first key.
func (r *replicas) startReplica(i int) {
	r.Helper()
	p := launch(r.T, r.dirs[i], serving(r.dirs[i]))
	key, err := os.ReadFile(filepath.Join(r.dirs[0], "admin.key"))
	must(r.T, err)
	p.key = strings.TrimSpace(string(key))
	r.running[i] = p
	r.at[i].Store(&p.client)
	r.starts, r.worked = append(r.starts, p.ready), append(r.worked, p.worktime(r.T))
}

// cycle has the clients work for a while, beside what goes wrong, and looks at what came of it.
func (r *replicas) cycle(n int) {
	parents := someProducts(n*productsOfCycle, productsOfCycle)
	before := map[*worker]map[string]bool{}
	for _, w := range r.workers {
		w.parents = parents
		before[w] = w.goneIDs()
	}
	r.proxy.Set(s3test.Manners{LatePuts: 0.06, LateDeletes: 0.06, LateBy: 2 * time.Second, Lost: 0.03, SlowDown: 0.01, Delay: time.Millisecond})
	over := make(chan struct{})
	var clients sync.WaitGroup
	for _, w := range r.workers {
		clients.Go(func() { r.work(w, over) })
	}
	r.spoil(n, time.Now().Add(replicaLoad))
	close(over)
	clients.Wait()
	r.proxy.Set(s3test.Manners{LateDeletes: 0.06, LateBy: 2 * time.Second})
	r.awaitBoth()
	r.learnAll(parents)
	for i := range r.running {
		together(r.workers, func(w *worker) {
			w.client = &r.running[i].client
			newest := slices.DeleteFunc(slices.Clone(w.there), func(f file) bool { return !slices.Contains(parents, f.parent) })
			w.hold(newest, w.goneSince(before[w]))
		})
	}
	if n%looksAt == looksAt-1 {
		r.process = r.running[n%2]
		r.wantNoFaults(r.T)
	}
	if r.Failed() {
		r.FailNow() // reporting what this cycle found
	}
}

// work makes requests at either server. What has no answer is left to be learnt.
func (r *replicas) work(w *worker, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		w.client = r.at[w.rand.IntN(len(r.at))].Load()
		if err := w.step(); err == nil {
			continue
		}
		if w.sent != nil {
			w.maybe = append(w.maybe, *w.sent)
		}
		if w.doomed != nil {
			w.perhaps = append(w.perhaps, *w.doomed)
		}
		if w.back != nil {
			w.backs = append(w.backs, *w.back)
		}
		if w.last != nil {
			w.lasts = append(w.lasts, *w.last)
		}
		w.sent, w.doomed, w.back, w.last = nil, nil, nil, nil
		time.Sleep(20 * time.Millisecond) // nobody may listen there
	}
}

// spoil kills servers until a time, and does something else to what they stand on.
func (r *replicas) spoil(n int, until time.Time) {
	pause := func() { time.Sleep(time.Duration(r.rand.Int64N(int64(replicaLoad / (killsOfLoad + 1))))) }
	other := []func(){r.cut, r.crash, r.killStore, r.cut, func() {}}[n%5]
	for kill := range killsOfLoad {
		pause()
		if kill == 0 {
			other()
			pause()
		}
		i := r.rand.IntN(len(r.running))
		r.running[i].kill()
		r.kills++
		r.startReplica(i)
	}
	time.Sleep(time.Until(until))
}

// cut cuts all connections to the database.
func (r *replicas) cut() {
	r.cuts++
	must(r.T, r.database.Exec(r.Context(), "attachd", `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`))
}

// crash crashes the database, and starts it again.
func (r *replicas) crash() {
	r.crashes++
	r.database.Kill()
	must(r.T, r.database.Start())
}

// killStore kills the object store, and starts it again.
func (r *replicas) killStore() {
	r.storeKills++
	r.gateway.Kill()
	r.gateway.Start()
}

// awaitBoth waits until both servers are ready.
func (r *replicas) awaitBoth() {
	r.Helper()
	for _, p := range r.running {
		eventually(r.T, p.dir+" is ready", func() bool {
			a, err := p.call("GET", "/health/ready", nil)
			return err == nil && a.status == 200
		})
	}
}

// learnAll determines the outcome of all requests without an answer, at either server.
func (r *replicas) learnAll(parents []string) {
	r.process = r.running[r.rand.IntN(len(r.running))]
	for _, w := range r.workers {
		w.client = &r.process.client
	}
	byName := map[string]string{}
	for _, parent := range parents {
		names, err := r.list(parent)
		must(r.T, err)
		for id, name := range names {
			byName[name] = id
		}
	}
	for _, w := range r.workers {
		for _, f := range w.maybe {
			w.sent = &f
			r.learnOf(w, byName)
		}
		for _, f := range w.perhaps {
			w.doomed = &f
			r.learnOf(w, byName)
		}
		for _, f := range w.backs {
			w.back = &f
			r.learnOf(w, byName)
		}
		for _, f := range w.lasts {
			w.last = &f
			r.learnOf(w, byName)
		}
		w.maybe, w.perhaps, w.backs, w.lasts = nil, nil, nil, nil
	}
	r.learn(parents)
}

// end looks at everything once nothing goes wrong any more, and a day has passed.
func (r *replicas) end() {
	r.proxy.Set(s3test.Manners{})
	r.proxy.Await()
	for _, w := range r.workers {
		w.refused, w.away = false, false
		w.client = &r.running[0].client
	}
	together(r.workers, func(w *worker) { // what is in the trash is whole, too
		for range len(w.trash) / 2 {
			if err := w.restoreOne(); err != nil {
				r.Errorf("restoring at the end: %v", err)
			}
		}
	})
	for _, p := range r.running {
		together(r.workers, func(w *worker) {
			w.client = &p.client
			w.hold(w.there, w.gone)
		})
	}
	must(r.T, r.database.Exec(r.Context(), "attachd", `update attachd.uploads set begun = begun - interval '25 hours'`))
	r.process = r.running[0]
	before := r.wantNoFaults(r.T)
	collected, err := r.collect()
	must(r.T, err)
	after := r.wantNoFaults(r.T)
	if after.Orphans > 0 {
		r.Errorf("nothing referred to %d contents; %d were removed, %d are left", before.Orphans, collected, after.Orphans)
	}
	r.Logf("at the end: %d attachments, %d contents, and %d that the kills left and gc removed", after.Attachments, after.Contents, collected)
	for _, p := range r.running {
		eventually(r.T, "nothing is left to be deleted", func() bool { return p.unswept(r.T) == 0 })
	}
	for _, p := range r.running {
		p.stop(r.T)
	}
	wantSound(r.T, r.dirs[0])
	r.dir = r.dirs[1]
	r.everythingIsRecorded()
	r.catalogFits()
}

// catalogFits compares the catalog with the bucket. Only an object that was written after it
// had been given up and deleted may be left over, or one whose intent a crash of the database
// took back.
func (r *replicas) catalogFits() {
	r.Helper()
	db, err := postgres.Open(context.Background(), postgres.Options{DSN: r.dsn})
	must(r.T, err)
	defer db.Close()
	if intended, garbage := db.Waiting(); intended != 0 || garbage != 0 {
		r.Errorf("%d objects are intended, and %d garbage", intended, garbage)
	}
	left, places := r.gateway.Objects(), 0
	for p, err := range db.Places(context.Background(), blobs.Ref{}) {
		must(r.T, err)
		places++
		name := fmt.Sprintf("attachd/blobs/sha256/%.2s/%s/%s", p.Ref, p.Ref, p.Key)
		if !slices.Contains(left, name) {
			r.Errorf("%s is not in the bucket", name)
		}
		left = slices.DeleteFunc(left, func(n string) bool { return n == name })
	}
	faults, err := db.Check(context.Background(), nil)
	must(r.T, err)
	for _, fault := range faults {
		r.Error(fault)
	}
	r.Logf("the bucket has %d objects of contents, and %d that nothing names", places, len(left))
}
