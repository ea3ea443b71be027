package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/server"
	"attachd/server/ops"
	"attachd/store"
)

// entry is an entry of the audit log, as the API answers it.
type entry struct {
	Seq   uint64
	Time  time.Time
	Actor struct {
		UserID   string `json:"user_id"`
		FullName string `json:"full_name"`
		KeyID    string `json:"key_id"`
		ActingID string `json:"acting_id"`
		Acting   string `json:"acting_full_name"`
		Operator bool
	}
	Action    string
	Resource  struct{ Kind, ID, Name string }
	Space     string
	Address   string
	RequestID string `json:"request_id"`
	Outcome   string
}

// audit returns the newest entry with one of these actions.
func (w *world) audit(t *testing.T, action string) entry {
	t.Helper()
	for _, e := range w.auditLog(t, "?action="+action) {
		return e
	}
	t.Fatalf("there is no entry %s; there are %v", action, w.auditLog(t, ""))
	return entry{}
}

func (w *world) auditLog(t *testing.T, query string) (list []entry) {
	t.Helper()
	w.flush(t)
	a := w.do(t, step{as: "root", do: "GET /audit-logs" + query, want: 200})
	if err := json.Unmarshal(a.body, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// flush commits the entries that wait for a commit.
func (w *world) flush(t *testing.T) {
	t.Helper()
	if err := w.store.Probe(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Every change is recorded.
// ASVS 16.1.1, 16.2.1, 16.3.1
func TestEveryChangeIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withTrash)
	id := uuid.NewString()
	steps := []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 201, save: "C"},
		{as: "editor", do: "POST /catalog/attachments/{A}/links", want: 201},
		{as: "owner", do: "POST /issues/attachments/{B}/links", want: 403}, // no member
		{as: "viewer", do: "POST /issues/attachments/{B}/links", want: 201},
		{as: "viewer", do: "POST {meeting}/attachments/{C}/links", want: 201, save: "link"},
		{as: "viewer", do: "GET {A.at}", want: 200},
		{as: "viewer", do: "GET {B.at}", want: 200},
		{as: "viewer", do: "GET {C.at}", want: 200},
		{do: "GET {link}", want: 200},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("d.csv", "d")}, want: 201, save: "D"},
		{as: "viewer", do: "GET /catalog/attachments/{D}/preview", want: 200},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "owner", do: "DELETE /issues/attachments/{B}", want: 200},
		{as: "editor", do: "DELETE {meeting}/attachments/{C}", want: 200},
		{as: "editor", do: "POST /catalog/attachments/{A}/restore", want: 200},
		{as: "owner", do: "POST /issues/attachments/{B}/restore", want: 200},
		{as: "editor", do: "POST {meeting}/attachments/{C}/restore", want: 200},
		{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete", want: 200},
		{as: "root", do: "POST /directory/spaces/a/products/{product.id}/restore", want: 200},
		{as: "root", do: "DELETE /directory/tickets/{ticket.id}?attachments=delete", want: 200},
		{as: "root", do: "POST /directory/tickets/{ticket.id}/restore", want: 200},
		{as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete", want: 200},
		{as: "root", do: "POST /directory/meetings/{meeting.id}/restore", want: 200},
		{as: "root", do: "DELETE /directory/spaces/a?attachments=delete", want: 200},
		{as: "root", do: "POST /directory/spaces/a/restore", want: 200},
		{as: "root", do: "POST /holds", json: `{"on": {"kind": "attachment", "id": "{A}"}, "reason": "case 4711"}`, want: 201, save: "H"},
		{as: "root", do: "DELETE /holds/{H}", want: 200},
		{as: "editor", do: "POST /api-keys", json: `{"name": "k"}`, want: 201, save: "K"},
		{as: "editor", do: "DELETE /api-keys/{K}", want: 200},
		{as: "root", do: "POST /directory/users/{viewer}/api-keys", json: `{"name": "k"}`, want: 201, save: "L"},
		{as: "root", do: "DELETE /directory/users/{viewer}/api-keys/{L}", want: 200},
		{as: "root", do: "POST /directory/import", json: `{"kind":"space","slug":"new"}`, want: 200},
		{as: "root", do: "PUT /directory/users/" + id, json: `{"full_name": "New"}`, want: 201},
		{as: "root", do: "PUT /directory/spaces/new", json: `{}`, want: 200},
		{as: "root", do: "PUT /directory/spaces/new/members/" + id, json: `{"role": "viewer"}`, want: 201},
		{as: "root", do: "DELETE /directory/spaces/new/members/" + id, want: 200},
		{as: "root", do: "PUT /directory/spaces/new/products/" + id, json: `{}`, want: 201},
		{as: "root", do: "DELETE /directory/spaces/new/products/" + id, want: 200},
		{as: "root", do: "PUT /directory/tickets/" + id, json: `{"space": "new", "owner_id": "` + id + `"}`, want: 201},
		{as: "root", do: "PUT /directory/tickets/" + id + "/comments/" + id, json: `{}`, want: 201},
		{as: "root", do: "DELETE /directory/tickets/" + id + "/comments/" + id, want: 200},
		{as: "root", do: "DELETE /directory/tickets/" + id, want: 200},
		{as: "root", do: "PUT /directory/meetings/" + id, json: `{"space": "new"}`, want: 201},
		{as: "root", do: "DELETE /directory/meetings/" + id, want: 200},
		{as: "root", do: "DELETE /directory/spaces/new", want: 200},
		{as: "root", do: "DELETE /directory/users/" + id, want: 200},
		{as: "root", do: "POST /upkeep/check", want: 200},
		{as: "root", do: "POST /upkeep/gc", want: 200},
		{as: "root", do: "POST /upkeep/audit", want: 200},
		{as: "root", do: "GET /audit-logs", want: 200},
		{as: "root", do: "GET /audit-logs/export", want: 200},
	}
	recorded := map[string]bool{}
	inNoSpace := regexp.MustCompile(`^(user|key|upkeep|audit|directory)\.`)
	for _, s := range steps {
		before := w.head(t)
		w.do(t, s)
		var entries []store.Entry
		// What was read is recorded when the answer has been sent.
		eventually(t, fmt.Sprintf("an entry of %v", s), func() bool {
			w.flush(t)
			var err error
			if entries, err = w.store.Entries(context.Background(), before, 10); err != nil {
				t.Fatal(err)
			}
			return len(entries) > 0
		})
		if len(entries) != 1 {
			t.Errorf("%v left %d entries", s, len(entries))
			continue
		}
		e := entries[0]
		if denied := s.want == 403; denied != (e.Outcome == "forbidden") || !denied && e.Outcome != "done" {
			t.Errorf("%v ended as %q", s, e.Outcome)
		}
		if s.as != "" && e.UserID != personID(s.as) || e.UserID == uuid.Nil || e.KeyID == uuid.Nil || e.Address != "127.0.0.1" || e.RequestID == "" || e.Resource == "" {
			t.Errorf("%v left %+v", s, e)
		}
		if (e.Space == "") != inNoSpace.MatchString(e.Action) {
			t.Errorf("%v is recorded as %s in the space %q", s, e.Action, e.Space)
		}
		recorded[e.Action] = true
	}
	for _, route := range server.Routes() {
		action, changes := server.AuditAction(route.Method, route.Pattern)
		if action == "" && route.Method != "GET" {
			t.Errorf("%s %s changes something and leaves no entry", route.Method, route.Pattern)
		}
		elsewhere := strings.HasPrefix(action, "session.") || strings.HasPrefix(action, "webhook.") || action == "upkeep.backup" || action == "upkeep.compact" || action == "upkeep.migrate" || action == "signing_key.rotate"
		if action != "" && !recorded[action] && !elsewhere {
			t.Errorf("no step sees %s (in the commit of the change: %t)", action, changes)
		}
	}
}

func (w *world) head(t *testing.T) uint64 {
	t.Helper()
	w.flush(t)
	_, head, err := w.store.AuditEnds(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return head.Seq
}

// ASVS 16.1.1, 16.2.1, 16.3.1
func TestAnEntrySaysWhoDidWhatToWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(t, step{as: "root for editor", do: "POST {product}/attachments", form: parts{file("Plan.txt", "a")}, send: header{"X-Request-Id": "r-1"}, want: 201, save: "A"})
	e := w.audit(t, "attachment.upload")
	if e.Actor.UserID != w.names["editor"] || e.Actor.ActingID != w.names["root"] || e.Actor.FullName != fullName("editor") || e.Actor.Acting != fullName("root") || e.Actor.Operator ||
		e.Resource.Kind != "attachment" || e.Resource.ID != w.names["A"] || e.Resource.Name != "Plan.txt" ||
		e.Space != "a" || e.RequestID != "r-1" || e.Outcome != "done" || !e.Time.Equal(w.clock.Now().Truncate(time.Millisecond)) {
		t.Errorf("after %s the log has %+v", a.body, e)
	}
}

func TestAnUploadIsRecordedOnceWhereverItsContentIs(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*testing.T) func(*server.Config){
		"as by default":      func(*testing.T) func(*server.Config) { return func(*server.Config) {} },
		"in an object store": func(t *testing.T) func(*server.Config) { return inBucket(t, new(bucket)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, option(t))
			w.play(t, []step{
				{as: "editor", do: "POST {product}/attachments", form: parts{file("small.txt", "a")}, want: 201, save: "small"},
				{as: "editor", do: "POST {product}/attachments", form: parts{file("large.txt", strings.Repeat("a", 2<<20))}, want: 201, save: "large"},
				{as: "editor", do: "DELETE /catalog/attachments/{small}", want: 200},
				{as: "editor", do: "DELETE /catalog/attachments/{large}", want: 200},
			})
			for _, action := range []string{"attachment.upload", "attachment.delete"} {
				if list := w.auditLog(t, "?action="+action); len(list) != 2 {
					t.Errorf("of two files, the log has %d entries %s: %+v", len(list), action, list)
				}
			}
		})
	}
}

// ASVS 16.3.2
func TestWhatIsDeniedIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	for _, s := range []step{
		{do: "GET {A.at}", want: 401},
		{as: "stranger", do: "GET {A.at}", want: 403},
		{as: "viewer", do: "DELETE /catalog/attachments/{A}", want: 403},
		{as: "viewer", do: "GET /directory/users", want: 403},
		{as: "stranger", do: "GET /directory/tickets?space=a", want: 403},
		{do: "GET /files/{A}?expires=1&signature=x", want: 403, code: "invalid_signature"},
	} {
		w.do(t, s)
		newest := w.auditLog(t, "?limit=1")[0]
		if strings.Contains(s.do, "space=a") && newest.Space != "a" {
			t.Errorf("%s is recorded of the space %q", s.do, newest.Space)
		}
		code := s.code
		if code == "" {
			code = codes[s.want][0]
		}
		if newest.Outcome != code || s.as != "" && newest.Actor.UserID != w.names[s.as] {
			t.Errorf("after %v the log has %+v", s, newest)
		}
	}
}

// ASVS 16.2.5
func TestStrangersCannotFillTheAuditLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.head(t)
	for range 3000 {
		w.do(t, step{do: "GET {product}/attachments", want: 401})
	}
	if n := w.head(t) - before; n > 1300 {
		t.Errorf("3000 denials left %d entries", n)
	}
	// Nor can they keep what others are denied out of it.
	w.do(t, step{as: "viewer", do: "GET {product.ab}/attachments", want: 403})
	if e := w.audit(t, "read"); e.Actor.UserID != w.names["viewer"] || e.Outcome != "forbidden" || e.Resource.Name != "" {
		t.Errorf("the newest denial is %+v", e)
	}
	w.clock.advance(time.Minute)
	w.do(t, step{do: "GET {product}/attachments", want: 401})
	if e := w.audit(t, "read"); e.Resource.Name != "and 1800 more were denied that are not listed" {
		t.Errorf("the log does not say how many are not listed: %+v", e)
	}
}

// A user fills neither the log nor what is listed of others.
func TestAUsersDenialsAreListedAsFarAsTheyGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 400 {
		w.do(t, step{as: "viewer", do: "GET {product.ab}/attachments", want: 403})
	}
	w.do(t, step{as: "editor", do: "GET {product.ab}/attachments", want: 403})
	w.clock.advance(time.Minute)
	w.do(t, step{as: "viewer", do: "GET {product.ab}/attachments", want: 403})
	if n := len(w.auditLog(t, "?outcome=forbidden&user="+w.names["viewer"])); n != 301 {
		t.Errorf("401 denials left %d entries", n)
	}
	if list := w.auditLog(t, "?outcome=forbidden&limit=2"); list[0].Resource.Name != "and 100 more were denied that are not listed" || list[1].Actor.UserID != w.names["editor"] || list[1].Resource.Name != "" {
		t.Errorf("the newest are %+v", list)
	}
}

// Anybody may hold a link whose maker lost the right: its use counts nothing against
// its maker.
func TestDenialsOfALinkAreThoseOfStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
		{as: "root", do: "DELETE /directory/spaces/a/members/{viewer}", want: 200},
	})
	for range 400 {
		w.do(t, step{do: "GET {link}", want: 403, code: "invalid_signature"})
	}
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 403})
	if list := w.auditLog(t, "?outcome=forbidden&limit=1"); len(list) != 1 || list[0].Actor.UserID != w.names["viewer"] || list[0].Resource.Name != "a.txt" {
		t.Errorf("the newest is %+v", list)
	}
}

func TestARefusedChangeLeavesNoEntryAndItsNeighboursDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.head(t)
	var people sync.WaitGroup
	for i := range 40 {
		people.Go(func() {
			name := fmt.Sprintf("%d.txt", i)
			if i%2 == 0 {
				w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(name, name)}, want: 201})
			} else {
				refused, err := w.send(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{field("comment_id", uuid.NewString()), file(name, name)}})
				if err != nil || refused.status != 404 {
					t.Errorf("answered %d, %v", refused.status, err)
				}
			}
		})
	}
	people.Wait()
	w.flush(t)
	entries, err := w.store.Entries(context.Background(), before, 100)
	if err != nil || len(entries) != 20 {
		t.Errorf("20 uploads and 20 refused ones left %d entries, %v", len(entries), err)
	}
}

// ASVS 16.4.1, 16.4.2
func TestAThousandChangesAtOnceMakeOneChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.head(t)
	var people sync.WaitGroup
	for person := range 20 {
		people.Go(func() {
			for i := range 50 {
				w.do(t, step{as: "root", do: "PUT /directory/users/" + uuid.NewString(), json: fmt.Sprintf(`{"full_name": "%d %d"}`, person, i), want: 201})
			}
		})
	}
	people.Wait()
	entries, _, faults, err := store.VerifyAudit(context.Background(), w.store, nil)
	if err != nil || len(faults) > 0 || uint64(entries) != before+1000 {
		t.Errorf("%d entries after %d, faults %v, %v", entries, before, faults, err)
	}
}

func TestTheAuditLogIsPagedAndFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
		w.do(t, step{as: "stranger", do: "POST {product.ab}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
		w.clock.advance(time.Hour)
	}
	at := func(hours int) string { return startOfTime.Add(time.Duration(hours) * time.Hour).Format(time.RFC3339) }
	for query, want := range map[string][]string{
		"?action=attachment&space=a": {"4.txt", "3.txt", "2.txt", "1.txt", "0.txt"},
		"?action=attachment.upload&user=" + w.names["stranger"] + "&since=" + at(3): {"4.txt", "3.txt"},
		"?action=attachment.upload&space=ab&until=" + at(2):                         {"1.txt", "0.txt"},
		"?action=attachment&outcome=done&since=" + at(4):                            {"4.txt", "4.txt"},
		"?action=attachment&outcome=forbidden":                                      {},
		"?action=attachment.delete":                                                 {},
	} {
		got := []string{}
		for _, e := range w.auditLog(t, query) {
			got = append(got, e.Resource.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s gives %v, want %v", query, got, want)
		}
	}
	var paged []string
	for next := "/audit-logs?action=attachment&space=a&limit=2"; next != ""; {
		a := w.do(t, step{as: "root", do: "GET " + next, want: 200})
		var page []entry
		if err := json.Unmarshal(a.body, &page); err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			paged = append(paged, e.Resource.Name)
		}
		next, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
	}
	if want := []string{"4.txt", "3.txt", "2.txt", "1.txt", "0.txt"}; !slices.Equal(paged, want) {
		t.Errorf("page by page there is %v, want %v", paged, want)
	}
	for _, query := range []string{"user=x", "since=yesterday", "until=1", "limit=0", "cursor=AA"} {
		w.do(t, step{as: "root", do: "GET /audit-logs?" + query, want: 400})
	}
}

// An entry has the time at which its request began, and its place from its commit.
func TestALongUploadHidesNoNewerEntry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := step{as: "editor", do: "POST {product}/attachments", form: parts{file("slow.txt", text(2000))}, want: 201}
	body := slow.form.encode(t, w)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, slow, len(body)))
	io.WriteString(conn, body[:len(body)/2])
	eventually(t, "the upload to begin", func() bool { return w.server.Uploads() == 1 })
	w.clock.advance(2 * time.Hour)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("quick.txt", "a")}, want: 201})
	io.WriteString(conn, body[len(body)/2:])
	w.receive(t, conn, slow)
	since := startOfTime.Add(time.Hour).UTC().Format(time.RFC3339)
	w.do(t, step{as: "root", do: "GET /audit-logs?action=attachment.upload&since=" + since, want: 200, check: func(t *testing.T, a answer) {
		if !strings.Contains(string(a.body), "quick.txt") || strings.Contains(string(a.body), "slow.txt") {
			t.Errorf("listed is %s", a.body)
		}
	}})
}

func TestTheAuditLogIsExportedOldestFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 3 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
	}
	a := w.do(t, step{as: "root", do: "GET /audit-logs/export?action=attachment", want: 200, header: header{"Content-Type": "application/x-ndjson"}})
	lines := strings.Split(strings.TrimSpace(string(a.body)), "\n")
	for i, line := range lines {
		if !strings.Contains(line, fmt.Sprintf(`"name":"%d.txt"`, i)) {
			t.Errorf("line %d is %s", i, line)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d lines", len(lines))
	}
}

func TestDownloadsAreNotRecordedWhenTheConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.AuditDownloads = false })
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "viewer", do: "GET {A.at}", want: 200},
		{as: "stranger", do: "GET {A.at}", want: 403},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.csv", "b")}, want: 201, save: "B"},
		{as: "viewer", do: "GET /catalog/attachments/{B}/preview", want: 200},
	})
	for _, e := range w.auditLog(t, "?action=attachment") {
		if e.Outcome == "done" && e.Action != "attachment.upload" {
			t.Errorf("the log has %+v", e)
		}
	}
}

// pruneAtStart has the server prune the audit log, as it does at start, and restarts it
// after that.
func (w *world) pruneAtStart() {
	w.must(w.server.PruneAudit(context.Background()))
	w.restart()
	w.server.ClockIsSettled(context.Background()) // reads the clock
}

// uploadsListed counts the uploads in the audit log.
func (w *world) uploadsListed(t *testing.T) int {
	t.Helper()
	return len(w.auditLog(t, "?action=attachment.upload"))
}

// What is too old goes, and the chain still holds.
func TestOldEntriesAreRemovedAndTheRestIsStillAChain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.AuditRetention = 24 * time.Hour })
	upload := func() {
		for i := range 5 {
			w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
		}
	}
	upload()
	w.flush(t)
	_, head, err := w.store.AuditEnds(t.Context())
	w.must(err)
	old := fmt.Sprintf("%d:%x", head.Seq, head.Hash)
	w.pruneAtStart()
	w.clock.advance(25 * time.Hour)
	upload()
	w.pruneAtStart()
	if n := w.uploadsListed(t); n != 5 {
		t.Errorf("%d entries are kept", n)
	}
	if e := w.audit(t, "audit.prune"); !e.Actor.Operator {
		t.Errorf("removing them left %+v", e)
	}
	w.verify(t, "", 0)
	w.verify(t, old, 0) // the end of what was removed is the anchor
	ctx, stop := context.WithCancel(context.Background())
	var upkeep sync.WaitGroup
	upkeep.Go(func() { w.server.RunJob(ctx, "prune audit log", time.Millisecond) })
	eventually(t, "the rest to go", func() bool {
		w.clock.advance(20 * time.Minute)
		return w.uploadsListed(t) == 0
	})
	stop()
	upkeep.Wait()
	w.verify(t, "", 0)
}

// verify expects a number of faults and returns the head.
func (w *world) verify(t *testing.T, head string, faults int) string {
	t.Helper()
	var line struct{ Report ops.AuditReport }
	a := w.do(t, step{as: "root", do: "POST /upkeep/audit", json: fmt.Sprintf(`{"head": %q}`, head), want: http.StatusOK})
	if err := json.Unmarshal(a.result(), &line); err != nil {
		t.Fatal(err)
	}
	if len(line.Report.Faults) != faults {
		t.Errorf("verifying gives %s", a.body)
	}
	return line.Report.Head
}

func TestAHeadThatWasWrittenDownIsStillThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201})
	head := w.verify(t, "", 0)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201})
	w.verify(t, head, 0)
	seq, hash, _ := strings.Cut(head, ":")
	w.expectLog("the audit log has faults")
	w.verify(t, seq+":"+strings.Repeat("0", len(hash)), 1)
	w.verify(t, "99999:"+hash, 1)
	w.do(t, step{as: "root", do: "POST /upkeep/audit", json: `{"head": "x"}`, want: 400})
}

func TestSessionsAreRecordedWithWhoHasThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(t, step{do: "POST /session", json: fmt.Sprintf(`{"key": %q}`, w.keys["viewer"]), want: 200})
	if e := w.audit(t, "session.begin"); e.Actor.UserID != w.names["viewer"] {
		t.Errorf("beginning a session left %+v", e)
	}
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	w.do(t, step{do: "DELETE /session", send: header{"Cookie": cookie}, want: 200})
	if e := w.audit(t, "session.end"); e.Actor.UserID != w.names["viewer"] {
		t.Errorf("ending it left %+v", e)
	}
}

// editAudit changes the audit log behind the server's back.
func (w *world) editAudit(t *testing.T, edit func(entries *bbolt.Bucket) error) {
	t.Helper()
	w.must(w.store.Close())
	db, err := bbolt.Open(filepath.Join(w.dir, "attachd.db"), 0o600, nil)
	w.must(err)
	w.must(errors.Join(db.Update(func(tx *bbolt.Tx) error { return edit(tx.Bucket([]byte("audit"))) }), db.Close()))
	w.restart()
}

func TestADamagedEntryHidesNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
	}
	w.flush(t)
	third := binary.BigEndian.AppendUint64(nil, w.auditLog(t, "?action=attachment&limit=3")[2].Seq)
	var whole []byte
	w.editAudit(t, func(entries *bbolt.Bucket) error {
		whole = bytes.Clone(entries.Get(third))
		return entries.Put(third, whole[:40])
	})
	want := []string{"4.txtdone", "3.txtdone", fmt.Sprintf("entry %d cannot be readdamaged", binary.BigEndian.Uint64(third)), "1.txtdone", "0.txtdone"}
	for _, query := range []string{"?action=attachment", "?action=attachment&limit=2", "?action=attachment&since=" + startOfTime.UTC().Format(time.RFC3339)} {
		var got []string
		for next := "/audit-logs" + query; next != ""; {
			a := w.do(t, step{as: "root", do: "GET " + next, want: 200})
			var page []entry
			w.must(json.Unmarshal(a.body, &page))
			for _, e := range page {
				got = append(got, e.Resource.Name+e.Outcome)
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s gives %q, want %q", query, got, want)
		}
	}
	exported := w.do(t, step{as: "root", do: "GET /audit-logs/export?action=attachment", want: 200})
	if lines := strings.Split(strings.TrimSpace(string(exported.body)), "\n"); len(lines) != 5 || !strings.Contains(lines[2], `"outcome":"damaged"`) {
		t.Errorf("exported is %s", exported.body)
	}
	w.expectLog("the audit log has faults")
	w.verify(t, "", 1)
	w.editAudit(t, func(entries *bbolt.Bucket) error { return entries.Put(third, whole) })
}

// A gap in the log must not be taken for its end.
func TestAMissingEntryHidesNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201})
	}
	third := binary.BigEndian.AppendUint64(nil, w.auditLog(t, "?action=attachment&limit=3")[2].Seq)
	var whole []byte
	w.editAudit(t, func(entries *bbolt.Bucket) error {
		whole = bytes.Clone(entries.Get(third))
		return entries.Delete(third)
	})
	for _, query := range []string{"?action=attachment", "?action=attachment&limit=4"} {
		if list := w.auditLog(t, query); len(list) != 4 || list[3].Resource.Name != "0.txt" {
			t.Errorf("%s gives %+v", query, list)
		}
	}
	w.editAudit(t, func(entries *bbolt.Bucket) error { return entries.Put(third, whole) })
}

// said formats what entries record, oldest first: action, id, name and space of each.
func said(list []entry) (lines []string) {
	for _, e := range slices.Backward(list) {
		lines = append(lines, strings.Join([]string{e.Action, e.Resource.ID, e.Resource.Name, e.Space}, " | "))
	}
	return lines
}

// since returns the entries added after the given head, the newest first. They are of
// one request.
func (w *world) since(t *testing.T, head uint64) (list []entry) {
	t.Helper()
	for _, e := range w.auditLog(t, "") {
		if e.Seq > head && e.Action != "audit.read" {
			list = append(list, e)
		}
	}
	for _, e := range list {
		if e.RequestID != list[0].RequestID || e.Actor != list[0].Actor || !e.Time.Equal(list[0].Time) || e.Outcome != "done" {
			t.Errorf("not of one request: %+v", list)
		}
	}
	return list
}

func TestAttachmentsThatGoWithTheirParentHaveEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, parent := range []string{"{product}", "{product}", "{ticket}", "{meeting}"} {
		w.do(t, step{as: "editor", do: "POST " + parent + "/attachments", form: parts{file(fmt.Sprintf("%d.txt", i), "x")}, want: 201, save: fmt.Sprint("A", i)})
	}
	before := w.head(t)
	w.do(t, step{as: "root", do: "DELETE /directory/spaces/a", want: 409})
	w.do(t, step{as: "root", do: "DELETE /directory{product}", want: 404})
	if list := w.since(t, before); len(list) > 0 {
		t.Errorf("what was refused left %+v", list)
	}
	before = w.head(t)
	gone := func(n int) string {
		return strings.Join([]string{"attachment.delete", w.names[fmt.Sprint("A", n)], fmt.Sprintf("%d.txt", n), "a"}, " | ")
	}
	w.do(t, step{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete", want: 200})
	want := []string{gone(0), gone(1), "product.delete | " + w.names["product.id"] + " |  | a"}
	if got := said(w.since(t, before)); !slices.Equal(got, want) {
		t.Errorf("deleting the product left %q, want %q", got, want)
	}
	before = w.head(t)
	w.do(t, step{as: "root", do: "DELETE /directory/spaces/a?attachments=delete", want: 200})
	want = []string{gone(2), gone(3), "space.delete | a |  | a"}
	if got := said(w.since(t, before)); !slices.Equal(got, want) {
		t.Errorf("deleting the space left %q, want %q", got, want)
	}
}

func TestTheAuditLogSaysWhatWasGranted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := func(action, id, name, space string) string {
		return strings.Join([]string{action, id, name, space}, " | ")
	}
	viewer, editor := w.names["viewer"], w.names["editor"]
	for _, c := range []struct {
		do, json string
		want     []string
	}{
		{"PUT /directory/spaces/a/members/{viewer}", `{"role": "admin"}`, []string{line("member.put", viewer, "role admin", "a")}},
		{"PUT /directory/users/{viewer}", `{"full_name": "V", "is_superadmin": true}`, []string{line("user.put", viewer, "superadmin", "")}},
		{"PUT /directory/users/{viewer}", `{"full_name": "V", "is_superadmin": true, "is_records_manager": true}`, []string{line("user.put", viewer, "superadmin, records manager", "")}},
		{"PUT /directory/users/{viewer}", `{"full_name": "V", "is_records_manager": true}`, []string{line("user.put", viewer, "records manager", "")}},
		{"PUT /directory/users/{viewer}", `{"full_name": "V"}`, []string{line("user.put", viewer, "no superadmin", "")}},
		{"POST /directory/import", `{"kind":"user","id":"{viewer}","full_name":"V","is_superadmin":true}`, []string{
			line("user.put", viewer, "superadmin", ""),
			line("directory.import", "", "1 user", ""),
		}},
		// What is as it was needs no entry of its own.
		{"POST /directory/import", `{"kind":"member","space":"a","user_id":"{editor}","role":"editor"}
			{"kind":"user","id":"{viewer}","full_name":"V","is_superadmin":true}
			{"kind":"member","space":"new","user_id":"{editor}","role":"viewer"}
			{"kind":"member","space":"a","user_id":"{viewer}","role":"editor"}
			{"kind":"space","slug":"new"}`, []string{
			line("member.put", editor, "role viewer", "new"),
			line("member.put", viewer, "role editor", "a"),
			line("directory.import", "", "1 user, 1 space, 3 members", ""),
		}},
	} {
		before := w.head(t)
		s := step{as: "root", do: c.do, want: 200, body: w.fill(t, c.json), send: header{"Content-Type": "application/json"}}
		w.do(t, s)
		if got := said(w.since(t, before)); !slices.Equal(got, c.want) {
			t.Errorf("%v left %q, want %q", s, got, c.want)
		}
	}
	before := w.head(t)
	w.do(t, step{as: "root", do: "POST /directory/import", body: w.fill(t, `{"kind":"user","id":"{editor}","full_name":"E"}
		{"kind":"member","space":"none","user_id":"{editor}","role":"viewer"}`), want: 400})
	if got := said(w.since(t, before)); len(got) > 0 {
		t.Errorf("what was refused left %q", got)
	}
}

func TestWhatAutoCreateMakesHasEntries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, autoCreate)
	upload := step{as: "owner", do: "POST /catalog/spaces/fresh/products/" + newID + "/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"}
	before := w.head(t)
	w.do(t, upload)
	want := []string{
		"space.put | fresh | made by an upload | fresh",
		"product.put | " + newID + " | made by an upload | fresh",
		"member.put | " + w.names["owner"] + " | role admin, made by an upload | fresh",
		"attachment.upload | " + w.names["A"] + " | a.txt | fresh",
	}
	if got := said(w.since(t, before)); !slices.Equal(got, want) {
		t.Errorf("the upload left %q, want %q", got, want)
	}
	before = w.head(t)
	w.do(t, upload)
	if got := said(w.since(t, before)); len(got) != 1 {
		t.Errorf("the second left %q", got)
	}
}

// The page offers what is recorded, so that nobody needs to know the words.
func TestThePageKnowsAllActionsAndOutcomes(t *testing.T) {
	t.Parallel()
	script := pageFiles(t)["page/assets/audit.js"]
	for action := range server.AuditedActions() {
		kind, name, _ := strings.Cut(action, ".")
		_, line, found := strings.Cut(script, "\n  "+kind+": [")
		if line, _, _ = strings.Cut(line, "]"); !found || !strings.Contains(line, "'"+name+"'") {
			t.Errorf("the page does not offer %s", action)
		}
	}
	for outcome := range server.AuditedOutcomes() {
		if !strings.Contains(script, "'"+outcome+"'") {
			t.Errorf("the page does not offer %s", outcome)
		}
	}
}
