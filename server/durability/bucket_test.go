//go:build unix

package durability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3/s3test"
	"attachd/store/bolt"
)

// Clients upload few contents, the same ones again and again, on both sides of what waits in
// the log, and read and delete them. Meanwhile the process is killed, and between it and the
// object store requests arrive seconds after they were given up, and answers are lost. What
// was acknowledged must be there and right, and nothing left over in the catalog.
func TestABadLineToTheObjectStoreLosesNothing(t *testing.T) {
	n, seed := plannedKills(t, 2, 1000)
	gateway := s3test.Versitygw(t)
	proxy := s3test.NewProxy(t, gateway.Host("127.0.0.1"), seed)
	for _, variable := range append(s3test.Env(proxy.Host()), "ATTACHD_STORAGE_KEEP_DELETED=0s", "ATTACHD_STORAGE_LOG_BELOW=32KB", "ATTACHD_DOWNLOADS_MODE=content") {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value) // of commands too
	}
	k := &killing{T: t, dir: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 2<<32)), load: [2]time.Duration{1500 * time.Millisecond, 4500 * time.Millisecond},
		workers: crew(t, killWorkers, seed, habits{uploads: 45, deletions: 35, shares: 100, most: 6, contents: contentsOfBothKinds(seed), refused: true})}
	k.spoil = func(working bool) {
		m := s3test.Manners{LateDeletes: 0.06, LateBy: 2 * time.Second} // nobody waits for a DELETE
		if working {
			m.LatePuts, m.Lost, m.SlowDown, m.Delay = 0.06, 0.03, 0.01, time.Millisecond
		}
		proxy.Set(m)
	}
	k.start()
	for cycle := range n {
		k.cycle(cycle)
	}
	proxy.Set(s3test.Manners{})
	proxy.Await()
	for _, w := range k.workers {
		w.refused = false
	}
	k.everythingHolds()
	k.start()
	eventually(t, "nothing is left to be deleted", func() bool { return k.unswept(t) == 0 })
	k.stop(t)
	k.catalogFits(gateway)
	t.Logf("between the server and the store: %v", proxy.Counts())
	k.tell(n)
}

// contentsOfBothKinds are contents to share, half of which wait in the log.
func contentsOfBothKinds(seed uint64) (contents [][]byte) {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	for i := range 12 {
		contents = append(contents, text(r, []int{500, 10_000, 50_000, 200_000}[i%4]+i))
	}
	return contents
}

var unsweptObjects = regexp.MustCompile(`(?m)^attachd_object_store_unswept_objects (\d+)$`)

// unswept is how many objects may have to be deleted.
func (c *client) unswept(t *testing.T) int {
	t.Helper()
	a, err := c.call("GET", "/metrics", nil)
	must(t, err)
	m := unsweptObjects.FindSubmatch(a.body)
	if m == nil {
		t.Fatalf("the metrics do not say how many objects are to be deleted: %d", a.status)
	}
	n, err := strconv.Atoi(string(m[1]))
	must(t, err)
	return n
}

// catalogFits compares the catalog with the bucket. Only an object that was written after it
// had been given up and deleted may be left over.
func (k *killing) catalogFits(gateway *s3test.Gateway) {
	k.Helper()
	db, err := bolt.Open(filepath.Join(k.dir, "attachd.db"), bolt.Options{Log: filepath.Join(k.dir, "wal")})
	must(k.T, err)
	defer db.Close()
	catalog, err := db.Catalog(context.Background())
	must(k.T, err)
	if intended, garbage := catalog.Waiting(); intended != 0 || garbage != 0 {
		k.Errorf("%d objects are intended, and %d garbage", intended, garbage)
	}
	left, places := gateway.Objects(), 0
	for p, err := range catalog.Places(context.Background(), blobs.Ref{}) {
		must(k.T, err)
		places++
		name := fmt.Sprintf("attachd/blobs/sha256/%.2s/%s/%s", p.Ref, p.Ref, p.Key)
		if !slices.Contains(left, name) {
			k.Errorf("%s is not in the bucket", name)
		}
		left = slices.DeleteFunc(left, func(n string) bool { return n == name })
	}
	k.Logf("the bucket has %d objects of contents, and %d that nothing names", places, len(left))
}
