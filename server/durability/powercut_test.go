//go:build linux

package durability

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// The story is a sequence of requests to a server under strace. The trace shows
// what a power cut could have left at each moment. For each of these moments,
// several possible states are created, and attachd is started over each: all
// acknowledged changes must be there.
func TestAPowerCutAtAnyMomentTakesNothingThatWasAcknowledged(t *testing.T) {
	needStrace(t)
	inBothWays(t, aPowerCutTakesNothing)
}

func aPowerCutTakesNothing(t *testing.T, way string) {
	story, calls := tellTraced(t, way)
	next, stop := iter.Pull(story.cuts(t, calls))
	defer stop()
	var drawing sync.Mutex
	draw := func() (cut, bool) { // one by one: an image is of the whole disk
		drawing.Lock()
		defer drawing.Unlock()
		return next()
	}
	var lost, looks atomic.Int64
	t.Run("images", func(t *testing.T) {
		for worker := range 2 {
			t.Run(fmt.Sprint("worker ", worker), func(t *testing.T) {
				t.Parallel()
				for c, more := draw(); more; c, more = draw() {
					wrong := story.wrongAfter(t, c)
					for _, w := range wrong {
						t.Errorf("the power went %s; %d operations were acknowledged: %s", c.when, c.answered, w)
					}
					lost.Add(int64(len(wrong)))
					looks.Add(1)
				}
			})
		}
	})
	t.Logf("%d system calls, %d acknowledged operations, %d images of the disk looked at, %d faults or losses",
		len(calls), len(story.steps), looks.Load(), lost.Load())
}

// If attachd left out a sync, the images must show it.
func TestAPowerCutOnAServerThatDoesNotSyncIsNoticed(t *testing.T) {
	needStrace(t)
	inBothWays(t, noticesThatNothingIsSynced)
}

func noticesThatNothingIsSynced(t *testing.T, way string) {
	story, calls := tellTraced(t, way)
	unsynced := []string{`fsync\(.*/tmp/`, `fsync\(.*/blobs/sha256/..\)`, `fdatasync\(.*/attachd\.db\)`}
	if way == ways["contents wait"] {
		for i := range unsynced {
			unsynced[i] += `|syncfs\(` // which would replace it
		}
		// Many contents that are staged at the same time, as those at the end are
		// unless the machine is slow.
		if all := `syncfs\(`; slices.ContainsFunc(calls, func(c tracedCall) bool { return c.name == "syncfs" }) {
			unsynced = append(unsynced, all)
		} else {
			t.Logf("there is no %s to leave out", all)
		}
	}
	for _, of := range unsynced {
		d := newDisk(story.home)
		for _, c := range without(calls, regexp.MustCompile(of)) {
			_, err := d.apply(c)
			must(t, err)
		}
		if wrong := story.wrongAfter(t, cut{"at the end", len(story.steps), d.after(noneArrive), true}); len(wrong) == 0 {
			t.Errorf("without %s nothing was lost", of)
		}
	}
}

// This checks directly what must be on the disk when an answer is sent, whatever
// bbolt would make of the rest.
func TestNothingThatAnAnswerDependsOnIsUnsyncedForAPowerCut(t *testing.T) {
	needStrace(t)
	story, calls := tellTraced(t, ways["files at once"])
	for _, broken := range story.brokenPromises(t, calls) {
		t.Error(broken)
	}
	for what, of := range map[string]string{
		"the bytes of a content": `fsync\(.*/tmp/`,
		"the name of a content":  `fsync\(.*/blobs/sha256/..\)`,
		"the names of folders":   `fsync\(.*/blobs/sha256\)`,
		"the name of the data":   `fsync\(` + regexp.QuoteMeta(story.home) + `\)`,
		"the first key":          `fsync\(.*/\.admin\.key`,
		"the database":           `fdatasync\(.*/attachd\.db\)`,
		"the names in data":      `fsync\(.*/` + dataDir + `\)`,
	} {
		if len(story.brokenPromises(t, without(calls, regexp.MustCompile(of)))) == 0 {
			t.Errorf("had attachd not synced %s, nobody would have noticed", what)
		}
	}
}

// A staged content is as durable as the log that it is in, and is removed from it only
// when it is durable elsewhere.
func TestAContentThatWaitsIsSureBeforeAPowerCutFromItsAnswerOn(t *testing.T) {
	needStrace(t)
	story, calls := tellTraced(t, ways["contents wait"])
	unsure := story.unsureContents(t, calls)
	for _, u := range unsure {
		t.Error(u)
	}
	if len(story.unsureContents(t, without(calls, regexp.MustCompile(`fdatasync\(.*/wal/[0-9a-f]{16}\)`)))) == 0 {
		t.Error("had attachd not synced the log, nobody would have noticed")
	}
}

// unsureContents lists contents that could be lost when they were acknowledged, or
// at any time after that before they were deleted.
func (s *story) unsureContents(t *testing.T, calls []tracedCall) (all []string) {
	t.Helper()
	d := newDisk(s.home)
	answered := 0
	for _, m := range s.moments(calls) {
		if m.answered >= 0 {
			answered = m.answered + 1
		} else {
			_, err := d.apply(m.call)
			must(t, err)
			if m.call.name != "fdatasync" && m.call.name != "syncfs" && m.call.name != "renameat" {
				continue
			}
		}
		left := d.after(noneArrive)
		for _, step := range s.steps[:answered] {
			name, err := filepath.Rel(s.home, s.contentPath(step))
			must(t, err)
			inLog := false
			for path, segment := range left {
				inLog = inLog || strings.HasPrefix(path, dataDir+"/wal/") && bytes.Contains(withoutChecksums(segment), step.content)
			}
			wanted := step.content != nil && answered < len(s.steps) && s.has(answered-1, step) && s.has(answered, step)
			if wanted && !bytes.Equal(left[name], step.content) && !inLog {
				all = append(all, fmt.Sprintf("line %d: after %d answers the content of %q is not sure to be there", m.call.ended, answered, step.name))
			}
		}
	}
	return all
}

// inLog returns what is in the segments of the log.
func inLog(left image) (data []byte) {
	for _, name := range slices.Sorted(maps.Keys(left)) {
		if strings.HasPrefix(name, dataDir+"/wal/") {
			data = append(data, withoutChecksums(left[name])...)
		}
	}
	return data
}

// withoutChecksums returns the log without the checksums at the end of its sectors.
func withoutChecksums(log []byte) (data []byte) {
	for s := range slices.Chunk(log, sector) {
		data = append(data, s[:max(0, len(s)-4)]...)
	}
	return data
}

// has says whether the content of an upload can be downloaded after the n-th step.
func (s *story) has(n int, upload step) bool {
	for q, r := range s.steps[n].world {
		if strings.Contains(q.path, "/attachments/") && r.status == http.StatusOK && r.body == string(upload.content) {
			return true
		}
	}
	return false
}

func without(calls []tracedCall, some *regexp.Regexp) []tracedCall {
	return slices.DeleteFunc(slices.Clone(calls), func(c tracedCall) bool { return some.MatchString(c.String()) })
}

// brokenPromises lists what was acknowledged too early.
func (s *story) brokenPromises(t *testing.T, calls []tracedCall) (all []string) {
	t.Helper()
	d := newDisk(s.home)
	answers := 0
	var committed []byte
	for _, m := range s.moments(calls) {
		if m.answered < 0 {
			all = append(all, s.recordsTooEarly(d, m.call)...)
			_, err := d.apply(m.call)
			must(t, err)
			continue
		}
		answers++
		step := s.steps[m.answered]
		for _, what := range d.unsynced() {
			if matters(what) {
				all = append(all, fmt.Sprintf("when %q is answered, not synced: %s", step.name, what))
			}
		}
		commit := append(inLog(d.after(noneArrive)), lastCommit(d.find(filepath.Join(s.dir, "attachd.db")))...)
		if bytes.Equal(commit, committed) {
			all = append(all, fmt.Sprintf("when %q is answered, no commit for it is sure to be there", step.name))
		}
		committed = commit
		if step.content != nil && !d.isSure(s.contentPath(step), step.content) {
			all = append(all, fmt.Sprintf("when %q is answered, its content is not sure to be there", step.name))
		}
	}
	if answers != len(s.steps) {
		t.Fatalf("%d answers are in the trace, %d were given", answers, len(s.steps))
	}
	return all
}

// lastCommit returns the durable bytes of bbolt's two meta pages, one of which each
// commit writes and syncs when all its other pages are synced.
func lastCommit(db *inode) []byte { return db.bytes[:min(len(db.bytes), 2*os.Getpagesize())] }

// matters says whether an unsynced change is a fault when an answer is sent. Files
// in tmp are discarded at start; a content that comes back without a record only
// takes up room, and so does a ballast that is being written. Unsynced changes of
// the database were made after the last durable commit, and belong to the next one:
// the server makes changes of its own, too.
func matters(what string) bool {
	what = strings.TrimPrefix(what, dataDir+"/")
	removed := strings.HasPrefix(what, "blobs/sha256/") && strings.HasSuffix(what, "that it is gone")
	nextCommit := strings.HasPrefix(what, "attachd.db: ") && what != "attachd.db: its name"
	return !strings.HasPrefix(what, "tmp/") && !strings.HasPrefix(what, ".ballast.") && !nextCommit && !removed
}

// isSure says whether a content is durable.
func (d *tracedDisk) isSure(path string, want []byte) bool {
	got := d.after(noneArrive)
	name, err := filepath.Rel(d.root, path)
	return err == nil && bytes.Equal(got[name], want)
}

// recordsTooEarly lists the records that a call writes too early: a content must be
// durable before a record that names it is written to the database or its log.
func (s *story) recordsTooEarly(d *tracedDisk, c tracedCall) (all []string) {
	if c.name != "pwrite64" || c.failed {
		return nil
	}
	path, _ := pathOf(c.args[0])
	log := filepath.Dir(path) == filepath.Join(s.dir, "wal")
	if path != filepath.Join(s.dir, "attachd.db") && !log {
		return nil
	}
	pages, err := stringOf(c.args[1])
	if err != nil {
		return []string{err.Error()}
	}
	if log {
		pages = string(withoutChecksums([]byte(pages)))
	}
	for _, step := range s.steps {
		digest := sha256.Sum256(step.content)
		if step.content != nil && strings.Contains(pages, string(digest[:])) && !d.isSure(s.contentPath(step), step.content) {
			all = append(all, fmt.Sprintf("line %d: a record of %q is written while its content may still be lost", c.ended, step.name))
		}
	}
	return all
}

// dataDir is created by attachd, in a folder that exists.
const dataDir = "data"

// story is the requests to the server and the expected state after each answer.
type story struct {
	home  string // the folder of the data directory
	dir   string
	p     *process
	steps []step
	world world // the present state
}

type step struct {
	name    string
	content []byte // of an upload
	world   world  // once it is acknowledged
}

// world is the expected state: what the server must answer to each question.
type world map[question]reply

type question struct{ path, key string } // an empty key is the superadmin's

type reply struct {
	status int
	body   string // the whole of a file; a part of a JSON answer
}

func tellTraced(t *testing.T, way string) (*story, []tracedCall) {
	t.Helper()
	home, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	trace := filepath.Join(t.TempDir(), "trace")
	s := &story{home: home, dir: filepath.Join(home, dataDir), world: world{}}
	s.p = serveAs(t, s.dir, straced(s.dir, "-xx", "-s", "4194304", "-e", "trace="+changingCalls, "-o", trace), way)
	s.tell(t)
	s.p.stop(t)
	file, err := os.Open(trace)
	must(t, err)
	defer file.Close()
	calls, err := readTrace(file)
	must(t, err)
	return s, slices.DeleteFunc(calls, isForABadDay)
}

// Files that the server writes now and then for its own use, and whose durability
// it does not promise.
var forABadDay = regexp.MustCompile(`/(ballast|snapshots)($|/)`)

func isForABadDay(c tracedCall) bool {
	return slices.ContainsFunc(c.args, func(arg string) bool {
		path, _ := pathOf(arg)
		name, err := stringOf(arg)
		return forABadDay.MatchString(path) || err == nil && forABadDay.MatchString(name)
	})
}

const (
	ada      = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01"
	engine   = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d02"
	numbers  = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d03"
	remark   = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d04"
	thursday = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d05"
	grace    = "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d06"

	usersPath    = "/directory/users/"
	spacePath    = "/directory/spaces/research"
	memberPath   = spacePath + "/members/" + ada
	productPath  = spacePath + "/products/" + engine
	ticketPath   = "/directory/tickets/" + numbers
	commentPath  = ticketPath + "/comments/" + remark
	meetingPath  = "/directory/meetings/" + thursday
	ofProduct    = "/catalog/spaces/research/products/" + engine
	ofTicket     = "/issues/tickets/" + numbers
	ofMeeting    = "/meetings/" + thursday
	importedPath = "/directory/spaces/imported"
)

const imported = `{"kind":"user","id":"` + grace + `","full_name":"Grace Hopper"}
{"kind":"space","slug":"imported","name":"Imported"}
{"kind":"member","space":"imported","user_id":"` + grace + `","role":"editor"}
{"kind":"product","space":"imported","id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d12","name":"Compiler"}
{"kind":"ticket","space":"imported","id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d13","owner_id":"` + grace + `","title":"A moth"}
{"kind":"comment","ticket_id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d13","id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d14"}
{"kind":"meeting","space":"imported","id":"0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d15","title":"Friday"}
`

// hold puts a hold on the ticket, and returns its path.
func (s *story) hold(t *testing.T) (path string) {
	s.do(t, "set a hold", "POST", "/holds", `{"on":{"kind":"ticket","id":"`+numbers+`"},"reason":"Case 4711"}`, func(a answer) {
		var hold struct{ ID string }
		must(t, json.Unmarshal(a.body, &hold))
		path = "/holds/" + hold.ID
		s.world[question{path, ""}] = reply{200, "Case 4711"}
	})
	return path
}

func (s *story) tell(t *testing.T) {
	t.Helper()
	s.put(t, usersPath+ada, `{"full_name":"Ada Lovelace"}`)
	s.put(t, spacePath, `{"name":"Research"}`)
	s.put(t, memberPath, `{"role":"editor"}`)
	s.put(t, productPath, `{"name":"Engine"}`)
	s.put(t, ticketPath, `{"space":"research","owner_id":"`+ada+`","title":"Bernoulli numbers"}`)
	s.put(t, commentPath, `{}`)
	s.put(t, meetingPath, `{"space":"research","title":"Thursday"}`)

	twice := lines("kept under two names", 300<<10) // several writes
	first := s.upload(t, ofProduct, "first.txt", twice)
	s.upload(t, ofTicket, "ticket.txt", lines("of a ticket", 1000))
	minutes := s.upload(t, ofMeeting, "minutes.txt", lines("of a meeting", 5000))
	second := s.upload(t, ofProduct, "second.txt", twice)
	s.remove(t, first)
	s.remove(t, second)
	again := s.upload(t, ofProduct, "again.txt", twice)
	s.trash(t, again)
	s.restore(t, again)
	s.trash(t, again)
	s.trashMeeting(t, minutes)

	held := s.hold(t)
	s.do(t, "make a key", "POST", usersPath+ada+"/api-keys", `{"name":"laptop"}`, func(a answer) {
		var key struct {
			ID   string
			Full string `json:"full_key"`
		}
		must(t, json.Unmarshal(a.body, &key))
		s.world[question{"/users/me", key.Full}] = reply{200, `"full_name":"Ada Lovelace"`}
		s.world[question{usersPath + ada + "/api-keys", ""}] = reply{200, key.ID}
	})
	s.do(t, "import", "POST", "/directory/import", imported, func(answer) {
		s.world[question{usersPath + grace, ""}] = reply{200, "Grace Hopper"}
		s.world[question{importedPath, ""}] = reply{200, "Imported"}
		s.world[question{importedPath + "/members/" + grace, ""}] = reply{200, "editor"}
		s.world[question{importedPath + "/products", ""}] = reply{200, "Compiler"}
		s.world[question{"/directory/tickets?space=imported", ""}] = reply{200, "A moth"}
		s.world[question{"/directory/meetings?space=imported", ""}] = reply{200, "Friday"}
	})
	s.put(t, productPath, `{"name":"Difference"}`)
	s.revokeKey(t)
	s.delete(t, "lift the hold", held, held)
	s.delete(t, "delete a comment", commentPath, commentPath)
	s.delete(t, "delete a meeting with its file", meetingPath+"?attachments=delete&permanent=true", meetingPath, minutes)
	s.purge(t, again)
	s.delete(t, "delete a member", memberPath, memberPath)
	if out, code := run(t, s.dir, "compact"); code != 0 {
		t.Fatalf("attachd compact: exit code %d\n%s", code, out)
	}
	s.upload(t, ofProduct, "last.txt", lines("the last", 70_000))
	for n := range 12 { // flushed to files together
		s.upload(t, ofProduct, fmt.Sprintf("small %d.txt", n), lines(fmt.Sprint("small ", n), 500))
	}
}

// do sends a request that changes something; its answer determines the expected
// state.
func (s *story) do(t *testing.T, name, method, path, body string, then func(answer), headers ...string) answer {
	t.Helper()
	a, err := s.p.call(method, path, []byte(body), append(headers, "X-Request-Id", stepID(len(s.steps)))...)
	must(t, err)
	if a.status/100 != 2 {
		t.Fatalf("%s: %d %s", name, a.status, a.body)
	}
	then(a)
	s.steps = append(s.steps, step{name: name, world: maps.Clone(s.world)})
	return a
}

// stepID is in an answer, so that it can be found in the trace.
func stepID(n int) string { return fmt.Sprintf("step-%d.", n) }

func (s *story) put(t *testing.T, path, body string) {
	t.Helper()
	s.do(t, "put "+path, "PUT", path, body, func(a answer) {
		if i := bytes.IndexByte(a.body, '"'); i > 0 { // the answer to a GET may have more fields after it
			s.world[question{path, ""}] = reply{200, strings.TrimRight(string(a.body[i:]), "}\n")}
		}
	})
}

func (s *story) upload(t *testing.T, parent, name string, content []byte) (path string) {
	t.Helper()
	form := "--frontier\r\nContent-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\n\r\n" + string(content) + "\r\n--frontier--\r\n"
	s.do(t, "upload "+name, "POST", parent+"/attachments", form, func(a answer) {
		path = a.header.Get("Location")
		s.world[question{path, ""}] = reply{200, string(content)}
	}, "Content-Type", "multipart/form-data; boundary=frontier")
	s.steps[len(s.steps)-1].content = content
	return path
}

// remove deletes a file for good.
func (s *story) remove(t *testing.T, path string) {
	t.Helper()
	s.delete(t, "delete "+path, strings.TrimSuffix(path, "/download")+"?permanent=true", path)
}

// trashOfProduct asks for the trash of the product.
var trashOfProduct = question{ofProduct + "/trash", ""}

// trash deletes a file of the product into the trash.
func (s *story) trash(t *testing.T, path string) {
	t.Helper()
	at := strings.TrimSuffix(path, "/download")
	s.do(t, "trash "+path, "DELETE", at, "", func(answer) {
		s.world[question{path, ""}] = reply{status: 404}
		s.world[trashOfProduct] = reply{200, at[strings.LastIndexByte(at, '/')+1:]}
	})
}

// restore brings it back.
func (s *story) restore(t *testing.T, path string) {
	t.Helper()
	var content string
	for _, step := range s.steps {
		if r := step.world[question{path, ""}]; r.status == 200 {
			content = r.body
		}
	}
	s.do(t, "restore "+path, "POST", strings.TrimSuffix(path, "/download")+"/restore", "", func(answer) {
		s.world[question{path, ""}] = reply{200, content}
		s.world[trashOfProduct] = reply{200, "[]"}
	})
}

// purge removes it from the trash.
func (s *story) purge(t *testing.T, path string) {
	t.Helper()
	s.do(t, "purge "+path, "DELETE", strings.TrimSuffix(path, "/download")+"?permanent=true", "", func(answer) {
		s.world[trashOfProduct] = reply{200, "[]"}
	})
}

// trashMeeting deletes the meeting with its file into the trash, and brings it back.
func (s *story) trashMeeting(t *testing.T, file string) {
	t.Helper()
	before := maps.Clone(s.world)
	s.delete(t, "trash a meeting with its file", meetingPath+"?attachments=delete", meetingPath, file)
	s.do(t, "restore a meeting with its file", "POST", meetingPath+"/restore", "", func(answer) {
		for _, path := range []string{meetingPath, file} {
			s.world[question{path, ""}] = before[question{path, ""}]
		}
	})
}

// delete deletes the objects at these paths.
func (s *story) delete(t *testing.T, name, at string, gone ...string) {
	t.Helper()
	s.do(t, name, "DELETE", at, "", func(answer) {
		for _, path := range gone {
			s.world[question{path, ""}] = reply{status: 404}
		}
	})
}

func (s *story) revokeKey(t *testing.T) {
	t.Helper()
	keys := usersPath + ada + "/api-keys"
	s.do(t, "revoke the key", "DELETE", keys+"/"+s.world[question{keys, ""}].body, "", func(answer) {
		delete(s.world, question{keys, ""})
		for q := range s.world {
			if q.key != "" {
				s.world[q] = reply{status: 401}
			}
		}
	})
}

// lines is a text of about size bytes.
func lines(line string, size int) []byte {
	return bytes.Repeat([]byte(line+"\n"), size/(len(line)+1)+1)
}

func (s *story) contentPath(u step) string {
	sum := sha256.Sum256(u.content)
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.dir, "blobs", "sha256", name[:2], name)
}

// moment is a system call, or the beginning of the answer to a step.
type moment struct {
	call     tracedCall
	answered int // the step's number; negative for other calls
}

// moments places the answers where they were sent: a sync that ended while an
// answer was being written came too late for it.
func (s *story) moments(calls []tracedCall) (all []moment) {
	var leaving []tracedCall
	for _, c := range calls {
		if s.stepAnswered(c) >= 0 {
			leaving = append(leaving, c)
		}
	}
	for _, c := range calls {
		for len(leaving) > 0 && leaving[0].began <= c.ended {
			all = append(all, moment{answered: s.stepAnswered(leaving[0])})
			leaving = leaving[1:]
		}
		all = append(all, moment{call: c, answered: -1})
	}
	return all
}

func (s *story) stepAnswered(c tracedCall) int {
	if c.name != "write" || c.failed {
		return -1
	}
	text, err := stringOf(c.args[1])
	if err != nil || !strings.HasPrefix(text, "HTTP/1.1 2") {
		return -1
	}
	return slices.IndexFunc(slices.Collect(func(yield func(string) bool) {
		for i := range s.steps {
			if !yield(stepID(i)) {
				return
			}
		}
	}), func(id string) bool { return strings.Contains(text, "\r\nX-Request-Id: "+id+"\r\n") })
}

// cut is a power cut at some moment.
type cut struct {
	when     string
	answered int // number of steps that were answered
	left     image
	checked  bool // by attachd check, which costs as much as a start
}

// selections is how many random selections of what was not synced may arrive after each
// moment, beside nothing and everything.
const selections = 1

// cuts yields the states that power cuts at all moments may leave, without
// duplicates.
func (s *story) cuts(t *testing.T, calls []tracedCall) iter.Seq[cut] {
	return func(yield func(cut) bool) {
		d := newDisk(s.home)
		answered := 0
		type looked struct {
			answered int
			checked  bool
		}
		seen := map[[32]byte]looked{}
		folders := 0
		for i, m := range s.moments(calls) {
			when := fmt.Sprintf("after line %d: %s", m.call.ended, m.call)
			if m.answered >= 0 {
				answered++
				when = fmt.Sprintf("when %q was answered", s.steps[m.answered].name)
			} else {
				changed, err := d.apply(m.call)
				if err != nil {
					t.Error(err)
					return
				}
				if !changed {
					continue
				}
				if m.call.name == "mkdirat" {
					if folders++; folders > 6 && folders%64 != 0 {
						continue // one of 256 shards, which are all alike
					}
				}
			}
			for n := range 2 + selections {
				what, arrive := fmt.Sprintf("selection %d", n-2), someArrive(uint64(i), uint64(n-2))
				switch n {
				case 0:
					what, arrive = "nothing else", noneArrive
				case 1:
					what, arrive = "everything", allArrive
				}
				left := d.after(arrive)
				sum, now := left.sum(), looked{answered: answered, checked: n < 2}
				// The same image is tested again when more was acknowledged, or to be checked.
				if before, is := seen[sum]; is && before.answered >= now.answered && (before.checked || !now.checked) {
					continue
				}
				seen[sum] = now
				if !yield(cut{when + ", " + what + " arrived", answered, left, now.checked}) {
					return
				}
			}
		}
	}
}

func noneArrive([]change) []change       { return nil }
func allArrive(unsure []change) []change { return unsure }

const sector = 512

// someArrive picks half of the changes at random, and of half of the writes
// half of their sectors.
func someArrive(seed1, seed2 uint64) func([]change) []change {
	random := rand.New(rand.NewPCG(seed1, seed2))
	maybe := func() bool { return random.IntN(2) == 0 }
	return func(unsure []change) (arrived []change) {
		for _, c := range unsure {
			switch {
			case !maybe():
			case c.kind != write || maybe():
				arrived = append(arrived, c)
			default:
				for from := 0; from < len(c.data); from += sector {
					if maybe() {
						part := c
						part.offset += int64(from)
						part.data = c.data[from:min(from+sector, len(c.data))]
						arrived = append(arrived, part)
					}
				}
			}
		}
		return arrived
	}
}

// sum identifies an image.
func (left image) sum() (sum [32]byte) {
	h := sha256.New()
	for _, path := range slices.Sorted(maps.Keys(left)) {
		fmt.Fprintf(h, "%q %t %d\n", path, left[path] == nil, len(left[path]))
		h.Write(left[path])
	}
	return [32]byte(h.Sum(nil))
}

func imageOf(t *testing.T, dir string) image {
	t.Helper()
	all := image{}
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil && !entry.IsDir() {
			all[name], err = os.ReadFile(path)
		} else {
			all[name] = nil
		}
		return err
	}))
	return all
}

func (left image) writeTo(t *testing.T, dir string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(left)) {
		if bytes := left[path]; bytes != nil {
			must(t, os.WriteFile(filepath.Join(dir, path), bytes, 0o600))
		} else {
			must(t, os.MkdirAll(filepath.Join(dir, path), 0o700))
		}
	}
}

// wrongAfter starts attachd over what a power cut left, and lists what is damaged,
// or lost although it was acknowledged.
func (s *story) wrongAfter(t *testing.T, c cut) (wrong []string) {
	t.Helper()
	home := inMemory(t)
	defer os.RemoveAll(home)
	c.left.writeTo(t, home)
	dir := filepath.Join(home, dataDir)
	if _, made := c.left[filepath.Join(dataDir, "FORMAT")]; made && c.checked { // before that, check reports that there is no installation
		if out, code := run(t, dir, "check", "--deep", "--json"); code != 0 {
			wrong = append(wrong, fmt.Sprintf("check --deep ends with exit code %d: %s", code, out))
		}
	}
	p := serve(t, dir)
	defer p.kill()
	if left := p.leftInTmp(t); len(left) > 0 {
		wrong = append(wrong, fmt.Sprintf("after the start tmp holds %v", left))
	}
	return append(wrong, s.lostIn(t, p, c.answered)...)
}

// inMemory returns a folder in memory where there is one: the test is about what
// the images hold, and not how they are stored meanwhile.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "attachd")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// lostIn compares the answers of the server with the state after the last
// acknowledged step. The step that was under way may have taken effect, but then
// completely.
func (s *story) lostIn(t *testing.T, p *process, answered int) []string {
	t.Helper()
	if me, err := p.call("GET", "/users/me", nil); err != nil || me.status != 200 {
		return []string{fmt.Sprintf("the first superadmin's key: %d %s %v", me.status, me.body, err)}
	}
	var known world
	if answered > 0 {
		known = s.steps[answered-1].world
	}
	next := known
	if answered < len(s.steps) {
		next = s.steps[answered].world
	}
	wrong := append(p.differences(t, known), p.begun(t, known, next)...)
	if len(wrong) > 0 && len(p.differences(t, next)) == 0 {
		return nil
	}
	return wrong
}

// differences lists the answers of the server that differ from want.
func (p *process) differences(t *testing.T, want world) (wrong []string) {
	t.Helper()
	for q, r := range want {
		if got := p.ask(t, q); !r.is(q, got) {
			wrong = append(wrong, fmt.Sprintf("GET %s: %d %.100s, not %d %.100s", q.path, got.status, got.body, r.status, r.body))
		}
	}
	return wrong
}

// begun lists the answers that are as expected after the step under way, and are
// not in known.
func (p *process) begun(t *testing.T, known, next world) (some []string) {
	t.Helper()
	for q, r := range next {
		if _, before := known[q]; before {
			continue
		}
		if got := p.ask(t, q); r.is(q, got) {
			some = append(some, fmt.Sprintf("GET %s: %d %.100s, of an operation that was not done", q.path, got.status, got.body))
		}
	}
	return some
}

func (p *process) ask(t *testing.T, q question) answer {
	t.Helper()
	asker := p.client
	if q.key != "" {
		asker.key = q.key
	}
	got, err := asker.call("GET", q.path, nil)
	must(t, err)
	return got
}

// is says whether got matches the reply.
func (r reply) is(q question, got answer) bool {
	switch {
	case got.status != r.status:
		return false
	case r.status != http.StatusOK:
		return true
	case strings.Contains(q.path, "/attachments/"):
		return string(got.body) == r.body
	}
	return strings.Contains(string(got.body), r.body)
}
