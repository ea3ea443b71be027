package api

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/server/limits"
	"attachd/store"
)

// AuditRule says how a route is recorded in the audit log when it succeeds. Every route
// is recorded when it denies access.
type AuditRule struct {
	Action   string
	Resource string // kind of the resource, and name of the path parameter with its id
	When     Recording
}

// Recording is when an entry is recorded.
type Recording int

// The times at which an entry may be recorded.
const (
	WithChange  Recording = iota // in the commit of the change
	whenDone                     // after the answer
	IfDownloads                  // after the answer, with audit.downloads only
)

// Unrecorded is the rule of routes that change nothing. A thumbnail is not recorded
// either: it shows little, and displaying a list requests many.
var Unrecorded AuditRule

// InCommit is the rule of a change: it is recorded in its commit.
func InCommit(action, resource string) AuditRule { return AuditRule{action, resource, WithChange} }

// Answered is the rule of what is recorded after the answer.
func Answered(action, resource string) AuditRule { return AuditRule{action, resource, whenDone} }

// Reading is the rule of what gives a file to the caller.
func Reading(action, resource string) AuditRule { return AuditRule{action, resource, IfDownloads} }

// Denials are the codes of refusals that denied access and are recorded.
var Denials = map[string]bool{
	"unauthorized": true, "forbidden": true, "invalid_signature": true, "link_expired": true,
	"rate_limited": true, "malware_found": true,
}

// Done is the outcome in the entry of a request that succeeded.
const Done = "done"

// KeyOwner stands in the entry of a created key, between the key's name and the id of
// its user.
const KeyOwner = ", of user "

// audit prepares the entry of a change. The handler may add to it before it makes the
// change.
func (rq *Request) audit() {
	rule := rq.route.Audit
	if rule.Action == "" || rule.When != WithChange {
		return
	}
	rq.Entry = rq.newEntry(rule)
	ctx := store.WithEntry(rq.Context(), rq.Entry)
	if with := rq.corridor.WithEvents; with != nil {
		ctx = with(ctx, rq.Entry)
	}
	rq.Request = rq.WithContext(ctx)
}

func (rq *Request) newEntry(rule AuditRule) *store.Entry {
	e := &store.Entry{
		Time:      rq.corridor.Now(),
		Action:    rule.Action,
		Resource:  rule.Resource,
		ID:        brief(rq.Params.ByName(rule.Resource)),
		Space:     brief(rq.Params.ByName("space")),
		Address:   rq.corridor.ClientAddress(rq.Request),
		RequestID: rq.id,
		Outcome:   Done,
	}
	SetActor(e, rq.scope.Caller, IsOperator(rq.Context()))
	if rq.scope.Entity.Space != "" {
		e.Space = rq.scope.Entity.Space
	}
	if rq.scope.Attachment.ID != uuid.Nil {
		e.ID, e.Name = rq.scope.Attachment.ID.String(), rq.scope.Attachment.FileName
	}
	return e
}

// SetScope sets the scope when a handler looks up more than its route named: the log
// and the audit log name it.
func (rq *Request) SetScope(sc Scope) { rq.scope = sc }

// SetCaller sets the caller when it has authenticated only in the handler: the log and
// the audit log name it.
func (rq *Request) SetCaller(who Caller) {
	rq.scope.Caller = who
	SetActor(rq.Entry, who, false)
}

// SetActor sets the actor of an entry.
func SetActor(e *store.Entry, who Caller, isOperator bool) {
	e.UserID, e.KeyID, e.Operator = who.User.ID, who.Key, isOperator
	if who.Actor.ID != who.User.ID {
		e.ActorID = who.Actor.ID
	}
}

// brief truncates what a client wrote into an address.
func brief(s string) string {
	const most = 64
	return strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
}

// recordAnswer records the request after its answer, unless its entry was committed
// with a change.
func (c *Corridor) recordAnswer(w *Response, rq *Request) {
	rule := rq.route.Audit
	switch {
	case Denials[w.Code]:
		if rule.Action == "" {
			rule = AuditRule{Action: "read", Resource: lastParam(rq)}
		}
		e := rq.newEntry(rule)
		if rq.Entry != nil {
			e.Name = rq.Entry.Name
		}
		e.Outcome = w.Code
		who := uuid.Nil
		if rq.route.Kind != LinkedFile { // anybody may hold a link
			who = rq.scope.Caller.Actor.ID
		}
		if more, ok := c.denied.allow(who, e.Time); ok {
			if more > 0 {
				e.Name = fmt.Sprintf("and %d more were denied that are not listed", more)
			}
			c.Audit.Record(*e)
		}
	case rule.Action == "" || rule.When == WithChange || w.Status < 200 || w.Status > 299 && !rq.HandsOver:
	case rule.When == IfDownloads && !c.AuditDownloads:
	case rq.RecordsFiles:
	default:
		c.Audit.Record(*rq.newEntry(rule))
	}
}

// RecordFile records that an answer with several files gives one to the caller.
func (rq *Request) RecordFile(a store.Attachment) {
	if rule := rq.route.Audit; rule.When == IfDownloads && rq.corridor.AuditDownloads {
		rq.scope.Attachment = a
		rq.corridor.Audit.Record(*rq.newEntry(rule))
		rq.scope.Attachment = store.Attachment{}
	}
}

func lastParam(rq *Request) string {
	if n := len(rq.Params); n > 0 {
		return rq.Params[n-1].Key
	}
	return "server"
}

// How many denials are recorded per minute, and at most in one burst, so that nobody
// can fill the disk with them.
const (
	listedOfStrangers = 1200 // of all callers without a known user together
	listedOfUser      = 300  // of each user
)

// deniedLimiter is a rate limiter that decides which denials are recorded. Denials of
// unknown callers do not count against those of users.
type deniedLimiter struct {
	strangers, users *limits.Rate[uuid.UUID]

	mu   sync.Mutex
	more map[uuid.UUID]int // denials not recorded, by user
}

func newDeniedLimiter() *deniedLimiter {
	return &deniedLimiter{
		strangers: limits.NewRate[uuid.UUID](listedOfStrangers),
		users:     limits.NewRate[uuid.UUID](listedOfUser),
		more:      map[uuid.UUID]int{},
	}
}

// allow reports whether a denial of this user, or of an unknown caller, is to be
// recorded, and how many of theirs before it were not.
func (d *deniedLimiter) allow(user uuid.UUID, now time.Time) (more int, ok bool) {
	limiter := d.users
	if user == uuid.Nil {
		limiter = d.strangers
	}
	ok = limiter.Allow(user, now).OK
	d.mu.Lock()
	defer d.mu.Unlock()
	if ok {
		more = d.more[user]
		delete(d.more, user)
		return more, true
	}
	if _, known := d.more[user]; known || len(d.more) < limits.MaxKeys {
		d.more[user]++
	}
	return 0, false
}
