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

// chosenSeed is the seed to use. What many clients do at once is not the same
// a second time, but it is alike.
func chosenSeed() uint64 {
	if *seed != 0 {
		return *seed
	}
	return uint64(time.Now().UnixNano())
}

// file is an attachment as its owner knows it.
type file struct {
	id     string // empty until the server names it
	name   string // no other has it
	parent string
	sum    [sha256.Size]byte
}

// habits are how a worker spends its time.
type habits struct {
	uploads, deletions int      // of a hundred steps; in the others it downloads
	shares             int      // of a hundred uploads, how many are of a shared content
	most               int      // attachments that it has at once; 0 is no limit
	contents           [][]byte // the shared ones
}

// worker is a client with a memory. Nobody else touches its attachments, so it
// knows what must be there and what must not. It does one thing at a time:
// when the process is killed, there is one upload or one deletion at most
// whose outcome it does not know.
type worker struct {
	*testing.T
	*client
	habits
	name    string
	rand    *rand.Rand
	parents []string // that it uploads to

	there   []file // acknowledged, and not deleted
	gone    []file // of which the deletion was acknowledged
	sent    *file  // an upload without an answer yet
	doomed  *file  // a deletion without an answer yet
	named   int    // files so far
	answers map[string]int

	lost, undone int // acknowledged uploads, and deletions, that did not last
}

// crew makes n workers. Their choices depend on the seed and nothing else.
func crew(t *testing.T, n int, seed uint64, h habits) (workers []*worker) {
	for i := range n {
		workers = append(workers, &worker{T: t, habits: h, name: fmt.Sprint("worker", i),
			rand: rand.New(rand.NewPCG(seed, uint64(i))), answers: map[string]int{}})
	}
	return workers
}

// together has all workers do something at once.
func together(workers []*worker, do func(*worker)) {
	var all sync.WaitGroup
	for _, w := range workers {
		all.Go(func() { do(w) })
	}
	all.Wait()
}

// step does something. An error means that there was no whole answer; an
// answer that should not have been is reported.
func (w *worker) step() error {
	choice := w.rand.IntN(100)
	full := w.most > 0 && len(w.there) >= w.most
	switch {
	case len(w.there) == 0, choice < w.uploads && !full:
		return w.uploadOne()
	case choice < w.uploads+w.deletions:
		return w.deleteOne()
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
	if a.status != http.StatusCreated {
		w.Errorf("%s to %s was answered %d: %s", f.name, f.parent, a.status, a.body)
		return err
	}
	f.id = path.Base(path.Dir(a.header.Get("Location"))) // which is there also when the body was cut off
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
	if a.status != http.StatusOK {
		w.Errorf("the deletion of %s (%s) was answered %d: %s", f.name, f.id, a.status, a.body)
		return err
	}
	w.gone = append(w.gone, f)
	return err
}

// want downloads a file that must be there, whole.
func (w *worker) want(f file) error {
	a, err := w.download(f.id)
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

// wantGone downloads a file that must not be there.
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

// hold holds the server to these files.
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

// content is something to upload, a shared content or one of its own.
func (w *worker) content() []byte {
	if w.rand.IntN(100) < w.shares {
		return w.contents[w.rand.IntN(len(w.contents))]
	}
	return text(w.rand, w.rand.IntN(someSize(w.rand)))
}

// someSize is small mostly, and a few hundred kilobytes now and then.
func someSize(r *rand.Rand) int {
	switch n := r.IntN(100); {
	case n < 75:
		return 2 << 10
	case n < 95:
		return 64 << 10
	}
	return 400 << 10
}

// text is a content that is taken for text, of so many bytes and a few.
func text(r *rand.Rand, size int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n"
	b := []byte("text: ")
	for range size {
		b = append(b, letters[r.Uint64()%uint64(len(letters))])
	}
	return b
}

// someTexts are contents to share.
func someTexts(n int, seed uint64) (contents [][]byte) {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	for range n {
		contents = append(contents, text(r, 10+r.IntN(someSize(r))))
	}
	return contents
}

// someProducts are n products, beginning with the first-th.
func someProducts(first, n int) (parents []string) {
	for i := range n {
		parents = append(parents, fmt.Sprintf("/catalog/spaces/proof/products/00000000-0000-4000-8000-%012x", first+i))
	}
	return parents
}

// list gives the ids of a product's attachments with their names; a product
// that is not there has none.
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

// found is what a check says.
type found struct {
	Attachments, Contents, Orphans int
	Faults                         []struct{ What, Blob, Attachment string }
}

func (c *client) check(deep bool) (report found, err error) {
	err = c.order("/upkeep/check", map[string]any{"deep": deep}, &report)
	return report, err
}

// collect removes what nothing refers to, however young, and counts it.
func (c *client) collect() (contents int, err error) {
	var collected struct{ Contents int }
	err = c.order("/upkeep/gc", map[string]any{"min_age": 0}, &collected)
	return collected.Contents, err
}

// order has something long done, and reads the report in the last line of the
// answer.
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

// wantNoFaults has the running server check everything, while it works.
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

// tally adds up the answers that all workers had.
func tally(workers []*worker) map[string]int {
	sum := map[string]int{}
	for _, w := range workers {
		for answer, n := range w.answers {
			sum[answer] += n
		}
	}
	return sum
}
