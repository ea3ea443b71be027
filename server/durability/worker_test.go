//go:build unix

package durability

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 0, "of what clients choose to do, and when the process is killed; 0 takes another each time")

// chosenSeed is the seed to use. Concurrent clients do not repeat a run exactly,
// but closely.
func chosenSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(time.Now().UnixNano())
}

// file is an attachment as its owner knows it.
type file struct {
	id     string // empty until the server has assigned it
	name   string // unique
	parent string
	sum    [sha256.Size]byte
}

// habits are the probabilities of a worker's steps.
type habits struct {
	uploads, deletions int      // of a hundred steps; in the others it downloads
	restores, purges   int      // of these, too: from the trash, which is kept small by purges
	shares             int      // of a hundred uploads, how many are of a shared content
	most               int      // attachments that it has at once, at most; 0 is no limit
	size               int      // of the other contents, in bytes; 0 is different ones
	contents           [][]byte // the shared ones
	refused            bool     // the server may answer 503 for want of its storage, and cut downloads off
	away               bool     // the database may go away: after a 503 a change may be made or not
}

// worker is a client that remembers its attachments. No other client changes them,
// so it knows which must exist and which must not. It does one thing at a time:
// when the process is killed, there is at most one upload, deletion, restore or purge
// whose outcome it does not know.
type worker struct {
	*testing.T
	*client
	habits
	name    string
	rand    *rand.Rand
	parents []string // that it uploads to

	there    []file // acknowledged, and not deleted
	gone     []file // whose deletion was acknowledged
	trash    []file // those of them that were not purged
	purged   []file // the others
	restored []file // in the order of their restores
	sent     *file  // an upload without an answer yet
	doomed   *file  // a deletion without an answer yet
	back     *file  // a restore without one
	last     *file  // a purge without one
	maybe    []file // uploads without an answer, or with one that leaves it open
	perhaps  []file // such deletions
	backs    []file // such restores
	lasts    []file // such purges
	named    int    // number of files so far
	answers  map[string]int

	lost, undone int // acknowledged uploads, and deletions, that did not last
}

// crew makes n workers. Their choices depend only on the seed.
func crew(t *testing.T, n int, seed uint64, h habits) (workers []*worker) {
	for i := range n {
		workers = append(workers, &worker{T: t, habits: h, name: fmt.Sprint("worker", i),
			rand: rand.New(rand.NewPCG(seed, uint64(i))), answers: map[string]int{}})
	}
	return workers
}

// together makes all workers do something concurrently.
func together(workers []*worker, do func(*worker)) {
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() { do(w) })
	}
	all.Wait()
}

// mostTrash is how many attachments a worker that purges has in the trash before it purges some.
const mostTrash = 2

// step makes one request. An error means that there was no complete answer; a wrong
// answer is reported.
func (w *worker) step() error {
	choice := w.rand.IntN(100)
	full := w.most > 0 && len(w.there) >= w.most
	switch {
	case len(w.there) == 0, choice < w.uploads && !full:
		return w.uploadOne()
	case choice < w.uploads+w.deletions:
		return w.deleteOne()
	case w.purges > 0 && len(w.trash) > mostTrash, len(w.trash) > 0 && choice < w.uploads+w.deletions+w.purges:
		return w.purgeOne()
	case len(w.trash) > 0 && choice < w.uploads+w.deletions+w.purges+w.restores:
		return w.restoreOne()
	}
	return w.want(w.there[w.rand.IntN(len(w.there))])
}

func (w *worker) uploadOne() error {
	content := w.content()
	f := file{name: fmt.Sprintf("%s-%d.txt", w.name, w.named), parent: w.parents[w.rand.IntN(len(w.parents))], sum: sha256.Sum256(content)}
	w.named++
	w.sent = &f
	a, err := w.upload(f.parent, f.name, content)
	if a.status == 0 {
		return err
	}
	w.sent = nil
	w.answers[fmt.Sprint("upload ", a.status)]++
	if w.refused && a.status == http.StatusServiceUnavailable {
		if w.away {
			w.maybe = append(w.maybe, f)
		}
		return err
	}
	if a.status != http.StatusCreated {
		w.Errorf("%s to %s was answered %d: %s", f.name, f.parent, a.status, a.body)
		return err
	}
	f.id = path.Base(path.Dir(a.header.Get("Location"))) // it is there even when the body was cut off
	w.there = append(w.there, f)
	return err
}

func (w *worker) deleteOne() error {
	i := w.rand.IntN(len(w.there))
	f := w.there[i]
	w.there = slices.Delete(w.there, i, i+1)
	w.doomed = &f
	a, err := w.remove(f.id)
	if a.status == 0 {
		return err
	}
	w.doomed = nil
	w.answers[fmt.Sprint("delete ", a.status)]++
	if w.away && a.status == http.StatusServiceUnavailable {
		w.perhaps = append(w.perhaps, f)
		return err
	}
	if a.status != http.StatusOK {
		w.Errorf("the deletion of %s (%s) was answered %d: %s", f.name, f.id, a.status, a.body)
		return err
	}
	w.deleted(f)
	return err
}

// deleted notes that a file is in the trash.
func (w *worker) deleted(f file) { w.gone, w.trash = append(w.gone, f), append(w.trash, f) }

// goneIDs are the ids of what is gone, and goneSince is what is gone now and was not then: a
// restore takes from the middle of it.
func (w *worker) goneIDs() map[string]bool {
	ids := make(map[string]bool, len(w.gone))
	for _, f := range w.gone {
		ids[f.id] = true
	}
	return ids
}

func (w *worker) goneSince(before map[string]bool) []file {
	return slices.DeleteFunc(slices.Clone(w.gone), func(f file) bool { return before[f.id] })
}

// takeTrash takes one out of the trash.
func (w *worker) takeTrash() (f file) {
	i := w.rand.IntN(len(w.trash))
	f = w.trash[i]
	w.trash = slices.Delete(w.trash, i, i+1)
	w.gone = slices.DeleteFunc(w.gone, func(g file) bool { return g.id == f.id })
	return f
}

func (w *worker) restoreOne() error {
	f := w.takeTrash()
	w.back = &f
	a, err := w.restore(f.id)
	if a.status == 0 {
		return err
	}
	w.back = nil
	w.answers[fmt.Sprint("restore ", a.status)]++
	switch {
	case w.away && a.status == http.StatusServiceUnavailable:
		w.backs = append(w.backs, f)
	case a.status != http.StatusOK:
		w.Errorf("the restore of %s (%s) was answered %d: %s", f.name, f.id, a.status, a.body)
	default:
		w.there, w.restored = append(w.there, f), append(w.restored, f)
	}
	return err
}

func (w *worker) purgeOne() error {
	f := w.takeTrash()
	w.last = &f
	a, err := w.purge(f.id)
	if a.status == 0 {
		return err
	}
	w.last = nil
	w.answers[fmt.Sprint("purge ", a.status)]++
	switch {
	case w.away && a.status == http.StatusServiceUnavailable:
		w.lasts = append(w.lasts, f)
	case a.status != http.StatusOK:
		w.Errorf("the purge of %s (%s) was answered %d: %s", f.name, f.id, a.status, a.body)
	default:
		w.gone, w.purged = append(w.gone, f), append(w.purged, f)
	}
	return err
}

// want downloads a file that must exist, complete.
func (w *worker) want(f file) error {
	a, err := w.download(f.id)
	if w.refused && (a.status == http.StatusServiceUnavailable || a.status == http.StatusOK && err != nil) {
		w.answers["download refused or cut off"]++
		return nil
	}
	if err != nil {
		return err
	}
	w.answers[fmt.Sprint("download ", a.status)]++
	if a.status != http.StatusOK || sha256.Sum256(a.body) != f.sum {
		w.lost++
		w.Errorf("%s (%s, content %x) in %s is there: the download was answered %d with %d bytes: %.200q",
			f.name, f.id, f.sum, f.parent, a.status, len(a.body), a.body)
	}
	return nil
}

// wantGone requests a file that must not exist.
func (w *worker) wantGone(f file) error {
	a, err := w.download(f.id)
	if err != nil {
		return err
	}
	w.answers[fmt.Sprint("download of what was deleted ", a.status)]++
	if a.status != http.StatusNotFound {
		w.undone++
		w.Errorf("%s (%s, content %x) in %s was deleted: the download was answered %d with %d bytes: %.200q",
			f.name, f.id, f.sum, f.parent, a.status, len(a.body), a.body)
	}
	return nil
}

// hold checks that the files of there exist, and those of gone do not.
func (w *worker) hold(there, gone []file) {
	for _, f := range there {
		if err := w.want(f); err != nil {
			w.Errorf("downloading %s (%s): %v", f.name, f.id, err)
		}
	}
	for _, f := range gone {
		if err := w.wantGone(f); err != nil {
			w.Errorf("downloading %s (%s), which was deleted: %v", f.name, f.id, err)
		}
	}
}

// content returns a content to upload, a shared or a new one.
func (w *worker) content() []byte {
	if w.rand.IntN(100) < w.shares {
		return w.contents[w.rand.IntN(len(w.contents))]
	}
	if w.size > 0 {
		return text(w.rand, w.size)
	}
	return text(w.rand, w.rand.IntN(someSize(w.rand)))
}

// someSize is mostly small, and now and then a few hundred kilobytes.
func someSize(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 75:
		return 2 << 10
	case n < 95:
		return 64 << 10
	}
	return 400 << 10
}

// text returns a content that is detected as text, of about size bytes.
func text(r *rand.Rand, size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n"
	b := []byte("text: ")
	for range size {
		b = append(b, letters[r.Uint64()%uint64(len(letters))])
	}
	return b
}

// someTexts returns contents to share.
func someTexts(n int, seed uint64) (contents [][]byte) {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	for range n {
		contents = append(contents, text(r, 10+r.IntN(someSize(r))))
	}
	return contents
}

// someProducts returns n products, beginning with the first-th.
func someProducts(first, n int) (parents []string) {
	for i := range n {
		parents = append(parents, fmt.Sprintf("/catalog/spaces/proof/products/00000000-0000-4000-8000-%012x", first+i))
	}
	return parents
}

// list returns the ids of a product's attachments with their names; none for a
// product that does not exist.
func (c *client) list(parent string) (names map[string]string, err error) {
	a, err := c.call("GET", parent+"/attachments", nil)
	switch {
	case err != nil:
		return nil, err
	case a.status == http.StatusNotFound:
		return nil, nil
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("the list of %s was answered %d: %s", parent, a.status, a.body)
	}
	var list []struct {
		ID   string
		Name string `json:"file_name"`
	}
	err = json.Unmarshal(a.body, &list)
	names = make(map[string]string, len(list))
	for _, f := range list {
		names[f.ID] = f.Name
	}
	return names, err
}

// found is the report of a check.
type found struct {
	Attachments, Contents, Orphans int
	Faults                         []struct{ What, Blob, Attachment string }
}

func (c *client) check(deep bool) (report found, err error) {
	err = c.order("/upkeep/check", map[string]any{"deep": deep}, &report)
	return report, err
}

// collect collects unreferenced contents, however young, and counts them.
func (c *client) collect() (contents int, err error) {
	var collected struct{ Contents int }
	err = c.order("/upkeep/gc", map[string]any{"min_age": 0}, &collected)
	return collected.Contents, err
}

// order requests a long-running operation, and reads the report in the last line of
// the answer.
func (c *client) order(path string, order, report any) error {
	body, err := json.Marshal(order)
	if err != nil {
		return err
	}
	a, err := c.call("POST", path, body, "Content-Type", "application/json")
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(a.body), []byte("\n"))
	var last struct{ Report json.RawMessage }
	if err := json.Unmarshal(lines[len(lines)-1], &last); err != nil || last.Report == nil {
		return errors.Join(err, fmt.Errorf("%s was answered %d: %s", path, a.status, a.body))
	}
	return json.Unmarshal(last.Report, report)
}

// wantNoFaults makes the running server check everything while it works.
func (c *client) wantNoFaults(t *testing.T) found {
	t.Helper()
	report, err := c.check(true)
	if err != nil {
		t.Errorf("checking: %v", err)
	}
	for _, fault := range report.Faults {
		t.Errorf("a check found: %+v", fault)
	}
	return report
}

// tally counts the answers that all workers got.
func tally(workers []*worker) map[string]int {
	sum := map[string]int{}
	for _, w := range workers {
		for answer, n := range w.answers {
			sum[answer] += n
		}
	}
	return sum
}
