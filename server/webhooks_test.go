package server_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
	"attachd/server/webhooks"
)

const hookSecret = "what both sides know, at least 24"

// listener is a receiver of webhooks: it accepts what is signed, unless it is told to
// answer otherwise.
type listener struct {
	*httptest.Server
	t      *testing.T
	clock  func() time.Time
	status atomic.Int64 // status of its answers; 0 is 204

	mu   sync.Mutex
	took []told
}

// told is an event as the listener decodes it.
type told struct {
	id        string
	Type      string
	Timestamp time.Time
	Data      struct {
		Attachment struct {
			ID         string
			FileName   string `json:"file_name"`
			FileSize   int64  `json:"file_size"`
			MimeType   string `json:"mime_type"`
			UploadedBy struct {
				ID       string
				FullName string `json:"full_name"`
			} `json:"uploaded_by"`
			CreatedAt string  `json:"created_at"`
			CommentID *string `json:"comment_id"`
		}
		Parent struct{ Kind, ID string }
		Space  string
		Actor  struct {
			UserID   *string `json:"user_id"`
			ActingID string  `json:"acting_id"`
			Operator bool
		}
	}
}

// listen sets up a listener for a new world.
func listen(t *testing.T) (l *listener, tell func(*server.Config)) {
	t.Helper()
	l = &listener{t: t}
	l.Server = httptest.NewServer(l)
	t.Cleanup(l.Close)
	return l, func(c *server.Config) {
		l.clock = c.Now
		c.Webhooks = &webhooks.Receiver{URL: l.URL, Secrets: [][]byte{[]byte(hookSecret)}, AllowPrivate: true, Timeout: 10 * time.Second}
		c.WebhookRetryFor = 72 * time.Hour
	}
}

func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	id, at := r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp")
	mac := hmac.New(sha256.New, []byte(hookSecret))
	io.WriteString(mac, id+"."+at+"."+string(body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); err != nil || r.Header.Get("webhook-signature") != want || at != fmt.Sprint(l.clock().Unix()) {
		l.t.Errorf("a message that is not signed as it should be: %v, %v", err, r.Header)
	}
	event := told{id: id}
	if err := json.Unmarshal(body, &event); err != nil {
		l.t.Errorf("the body: %v: %s", err, body)
	}
	if strings.Contains(string(body), "signature") || strings.Contains(string(body), "/files/") {
		l.t.Errorf("a link is told: %s", body)
	}
	if status := int(l.status.Load()); status != 0 {
		w.WriteHeader(status)
		return
	}
	l.mu.Lock()
	l.took = append(l.took, event)
	l.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// taken waits for n events.
func (l *listener) taken(n int) (events []told) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("%d events", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		events = slices.Clone(l.took)
		return len(events) >= n
	})
	return events
}

// deliver has the world deliver events until the test, or end, ends it. Where the
// courier would wait before a retry, the clock advances instead.
func (w *world) deliver(t *testing.T) (end func()) {
	w.server.SetWebhookWaits(func(d time.Duration) <-chan time.Time {
		if d >= time.Hour {
			return nil // there is nothing to do
		}
		w.clock.advance(d)
		fired := make(chan time.Time, 1)
		fired <- w.clock.Now()
		return fired
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.server.RunJob(ctx, "deliver webhooks", 0)
	}()
	end = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(end)
	return end
}

// outbox waits until there are this many events and dead letters.
func (w *world) outbox(t *testing.T, events, dead int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d events and %d dead letters", events, dead), func() bool {
		e, d := w.store.OutboxSize()
		return e == events && d == dead
	})
}

func TestASystemOfRecordIsToldOfEveryAttachment(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, tell)
	w.deliver(t)
	w.play(t, []step{
		{as: "root for editor", do: "POST {ticket}/attachments", form: parts{field("comment_id", "{comment}"), file("Plan.txt", "a plan")}, want: 201, save: "A"},
		{as: "owner", do: "DELETE /issues/attachments/{A}", want: 200},
		{as: "viewer", do: "POST {product}/attachments", form: parts{file("no.txt", "no")}, want: 403},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("no.exe", "MZ")}, want: 400},
	})
	events := l.taken(2)
	w.outbox(t, 0, 0)
	for i, e := range events {
		a := e.Data.Attachment
		if a.ID != w.names["A"] || a.FileName != "Plan.txt" || a.FileSize != 6 || a.MimeType != "text/plain" || a.UploadedBy.ID != w.names["editor"] ||
			a.UploadedBy.FullName != fullName("editor") || a.CommentID == nil || *a.CommentID != w.names["comment"] ||
			e.Data.Parent.Kind != "ticket" || e.Data.Parent.ID != w.names["ticket.id"] || e.Data.Space != "a" || e.Data.Actor.Operator {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	created, deleted := events[0], events[1]
	if created.Type != "attachment.created" || *created.Data.Actor.UserID != w.names["editor"] || created.Data.Actor.ActingID != w.names["root"] ||
		created.Timestamp.Format(time.RFC3339) != created.Data.Attachment.CreatedAt {
		t.Errorf("the creation is %+v", created)
	}
	if deleted.Type != "attachment.deleted" || *deleted.Data.Actor.UserID != w.names["owner"] || deleted.Data.Actor.ActingID != "" || !deleted.Timestamp.Equal(w.clock.Now()) {
		t.Errorf("the deletion is %+v", deleted)
	}
	if uuid.Validate(created.id) != nil || created.id == deleted.id || len(l.taken(2)) != 2 {
		t.Errorf("the ids are %s and %s", created.id, deleted.id)
	}
}

func TestEveryWayOfDeletingIsTold(t *testing.T) {
	t.Parallel()
	for way, s := range map[string]step{
		"itself, of a product": {as: "editor", do: "DELETE /catalog/attachments/{A}"},
		"itself, of a ticket":  {as: "owner", do: "DELETE /issues/attachments/{B}"},
		"itself, of a meeting": {as: "editor", do: "DELETE {meeting}/attachments/{C}"},
		"its product":          {as: "root", do: "DELETE /directory/spaces/a/products/{product.id}?attachments=delete"},
		"its ticket":           {as: "root", do: "DELETE /directory/tickets/{ticket.id}?attachments=delete"},
		"its meeting":          {as: "root", do: "DELETE /directory/meetings/{meeting.id}?attachments=delete"},
		"its space":            {as: "root", do: "DELETE /directory/spaces/a?attachments=delete"},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			l, tell := listen(t)
			w := newWorld(t, tell)
			w.deliver(t)
			w.play(t, []step{
				{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
				{as: "editor", do: "POST {ticket}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"},
				{as: "editor", do: "POST {meeting}/attachments", form: parts{file("c.txt", "c")}, want: 201, save: "C"},
			})
			s.want = 200
			w.do(t, s)
			want := map[bool]int{true: 3, false: 1}[way == "its space"]
			for _, e := range l.taken(3 + want)[3:] {
				if e.Type != "attachment.deleted" || e.Data.Space != "a" || *e.Data.Actor.UserID != w.names[s.as] || e.Data.Attachment.UploadedBy.FullName != fullName("editor") {
					t.Errorf("told of %+v", e)
				}
			}
			w.outbox(t, 0, 0)
		})
	}
}

// A receiver that was down gets its events when it is back; if it was down for too
// long, when an operator redelivers them.
func TestEventsAreTriedAgainThenGivenUpAndCanBeSentAgain(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, tell)
	l.status.Store(500)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 201, save: "B"})
	w.do(t, step{as: "root", do: "GET /webhooks", want: 200, like: `{"url": "` + l.URL + `", "pending": 2, "oldest": "2026-01-15T10:30:00Z", "dead": 0, "last_success": null, "last_failure": null, "last_error": ""}`})
	w.deliver(t)
	w.outbox(t, 0, 2)
	if took := w.clock.Now().Sub(startOfTime); took < 72*time.Hour || took > 74*time.Hour {
		t.Errorf("they were given up after %v", took)
	}
	state := w.do(t, step{as: "root", do: "GET /webhooks", want: 200}).object(t)
	if state["pending"] != 0.0 || state["dead"] != 2.0 || state["oldest"] != nil || state["last_success"] != nil || state["last_error"] != "the receiver answered 500 Internal Server Error" {
		t.Errorf("the state is %v", state)
	}

	var ids []string
	for next := "/webhooks/dead-letters?limit=1"; next != ""; {
		page := w.do(t, step{as: "root", do: "GET " + next, want: 200})
		for _, letter := range page.list(t) {
			event, _ := letter["event"].(map[string]any)
			if letter["reason"] != "the receiver answered 500 Internal Server Error" || event["type"] != "attachment.created" || letter["given_up"] == "" {
				t.Errorf("a dead letter is %v", letter)
			}
			ids = append(ids, letter["id"].(string))
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(page.header.Get("Link"), "<"), ">")
		next = link
	}
	if len(ids) != 2 {
		t.Fatalf("the dead letters are %v", ids)
	}
	w.do(t, step{as: "root", do: "GET /webhooks/dead-letters?cursor=AAAA", want: 400})

	l.status.Store(0)
	w.do(t, step{as: "root", do: "POST /webhooks/redeliver", want: 200, like: `{"events": 2}`})
	w.audit(t, "webhook.redeliver")
	for i, e := range l.taken(2) {
		if e.id != ids[i] || e.Data.Attachment.ID != w.names[[]string{"A", "B"}[i]] {
			t.Errorf("sent again was %+v, not %s", e, ids[i])
		}
	}
	w.outbox(t, 0, 0)
	w.do(t, step{as: "root", do: "POST /webhooks/redeliver", want: 200, like: `{"events": 0}`})
	metrics := string(w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body)
	for _, line := range []string{`attachd_webhook_deliveries_total{outcome="dead"} 2`, `attachd_webhook_deliveries_total{outcome="delivered"} 2`, "attachd_webhook_pending 0", "attachd_webhook_dead 0"} {
		if !strings.Contains(metrics, "\n"+line+"\n") {
			t.Errorf("the metrics have no %s", line)
		}
	}
}

// withReceiver are the routes for superadmins that need a receiver.
var withReceiver = []string{"POST /webhooks/redeliver", "POST /webhooks/ping"}

func TestWebhooksAreForSuperadmins(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	for _, name := range withReceiver {
		for _, who := range callers() {
			s := step{as: who.as, do: name, want: 403}
			switch who.rights {
			case "":
				s.want = 401
			case "root":
				s.want = 409 // there is no receiver
			}
			m.do(t, s)
		}
	}
}

func TestAPingSaysWhetherTheReceiverTakesIt(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, tell)
	if report := w.do(t, step{as: "root", do: "POST /webhooks/ping", want: 200}).object(t); report["delivered"] != true || report["error"] != "" {
		t.Errorf("the report is %v", report)
	}
	if events := l.taken(1); events[0].Type != "webhook.ping" {
		t.Errorf("it was sent %+v", events[0])
	}
	l.status.Store(404)
	if report := w.do(t, step{as: "root", do: "POST /webhooks/ping", want: 200}).object(t); report["delivered"] != false || report["error"] != "the receiver answered 404 Not Found" {
		t.Errorf("the report is %v", report)
	}
	if pings := w.auditLog(t, "?action=webhook.ping"); len(pings) != 2 {
		t.Errorf("the audit log has %v", pings)
	}
}

func TestWithoutAReceiverNothingIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "root", do: "GET /webhooks", want: 200, like: `{"url": "", "pending": 0, "oldest": null, "dead": 0, "last_success": null, "last_failure": null, "last_error": ""}`},
		{as: "root", do: "POST /webhooks/redeliver", want: 409},
		{as: "root", do: "POST /webhooks/ping", want: 409},
	})
	if w.server.HasJob("deliver webhooks") {
		t.Error("a job delivers nothing to nobody")
	}
	if metrics := string(w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body); strings.Contains(metrics, "attachd_webhook_") {
		t.Error("the metrics speak of webhooks")
	}
}

// The event is in the commit of the change: neither is there without the other.
func TestAChangeThatCannotBeCommittedIsNotTold(t *testing.T) {
	t.Parallel()
	l, tell := listen(t)
	w := newWorld(t, tell)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"})
	w.fault.Store(&fault{err: errors.New("the disk is gone"), at: 1, forever: true, only: "commit"})
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 503, code: "unavailable"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 503, code: "unavailable"})
	w.fault.Store(nil)
	w.restart()
	w.outbox(t, 1, 0)
	end := w.deliver(t)
	if events := l.taken(1); events[0].Type != "attachment.created" || events[0].Data.Attachment.ID != w.names["A"] {
		t.Errorf("told of %+v", events)
	}
	w.outbox(t, 0, 0)
	end()
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
	w.outbox(t, 1, 0)
}
