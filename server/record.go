package server

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/server/limits"
	"attachd/store"
)

// auditRule says how a route appears in the audit log when it succeeds. Every
// route is recorded when it denies access.
type auditRule struct {
	action   string
	resource string // and the name of the parameter that has its id
	when     recording
}

// recording is when an entry is recorded.
type recording int

const (
	withChange  recording = iota // in the commit of the change
	whenDone                     // when it has been answered
	ifDownloads                  // the same, with audit.downloads only
)

// unrecorded is the rule of what changes nothing. A thumbnail is not recorded
// either: it shows little, and every look at a list asks for many.
var unrecorded auditRule

func inCommit(action, resource string) auditRule { return auditRule{action, resource, withChange} }

func answered(action, resource string) auditRule { return auditRule{action, resource, whenDone} }

// reading is the rule of what gives a file to somebody.
func reading(action, resource string) auditRule { return auditRule{action, resource, ifDownloads} }

// denials are the codes of refusals that somebody may have to answer for.
var denials = map[string]bool{
	"unauthorized": true, "forbidden": true, "invalid_signature": true, "link_expired": true,
	"rate_limited": true, "malware_found": true,
}

const done = "done"

// audit prepares a route's entry, if it has one. The handler may say more of
// what it does before it hands in its change.
func (rq *request) audit() {
	rule := rq.route.audit
	rq.entry = rq.newEntry(rule)
	if rule.action != "" && rule.when == withChange {
		ctx := store.WithEntry(rq.Context(), rq.entry)
		if with := rq.corridor.WithEvents; with != nil {
			ctx = with(ctx, rq.entry)
		}
		rq.Request = rq.WithContext(ctx)
	}
}

func (rq *request) newEntry(rule auditRule) *store.Entry {
	e := &store.Entry{
		Time:      rq.corridor.Now(),
		Action:    rule.action,
		Resource:  rule.resource,
		ID:        brief(rq.params.ByName(rule.resource)),
		Space:     brief(rq.params.ByName("space")),
		Address:   rq.corridor.clientAddress(rq.Request),
		RequestID: rq.id,
		Outcome:   done,
	}
	setActor(e, rq.scope.caller, isOperator(rq.Context()))
	if rq.scope.entity.Space != "" {
		e.Space = rq.scope.entity.Space
	}
	if rq.scope.attachment.ID != uuid.Nil {
		e.ID, e.Name = rq.scope.attachment.ID.String(), rq.scope.attachment.FileName
	}
	return e
}

// setActor says who did it.
func setActor(e *store.Entry, who caller, isOperator bool) {
	e.UserID, e.KeyID, e.Operator = who.user.ID, who.key, isOperator
	if who.actor.ID != who.user.ID {
		e.ActorID = who.actor.ID
	}
}

// brief bounds what a client wrote into an address.
func brief(s string) string {
	const most = 64
	return strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD")
}

// recordAnswer records what was answered, unless a change has taken its entry
// with it.
func (c *corridor) recordAnswer(w *response, rq *request) {
	rule := rq.route.audit
	switch {
	case denials[w.code]:
		if rule.action == "" {
			rule = auditRule{action: "read", resource: lastParam(rq)}
		}
		e := rq.newEntry(rule)
		if rq.entry != nil {
			e.Name = rq.entry.Name
		}
		e.Outcome = w.code
		who := uuid.Nil
		if rq.route.kind != linkedFile { // a link can be in anybody's hands
			who = rq.scope.caller.actor.ID
		}
		if more, ok := c.denied.allow(who, e.Time); ok {
			if more > 0 {
				e.Name = fmt.Sprintf("and %d more were denied that are not listed", more)
			}
			c.Records.Record(*e)
		}
	case rule.action == "" || rule.when == withChange || w.status < 200 || w.status > 299:
	case rule.when == ifDownloads && !c.AuditDownloads:
	default:
		c.Records.Record(*rq.newEntry(rule))
	}
}

func lastParam(rq *request) string {
	if n := len(rq.params); n > 0 {
		return rq.params[n-1].Key
	}
	return "server"
}

// What is listed of denials, so that nobody fills the disk with them: so many a
// minute, all of them at once too.
const (
	listedOfStrangers = 1200 // of all whom nobody knows together
	listedOfUser      = 300  // of each user
)

// deniedLimiter tells which denials are listed. Strangers have nothing to do
// with how many are of a user.
type deniedLimiter struct {
	strangers, users *limits.Rate[uuid.UUID]

	mu   sync.Mutex
	more map[uuid.UUID]int // not listed, by user
}

func newDeniedLimiter() *deniedLimiter {
	return &deniedLimiter{
		strangers: limits.NewRate[uuid.UUID](listedOfStrangers),
		users:     limits.NewRate[uuid.UUID](listedOfUser),
		more:      map[uuid.UUID]int{},
	}
}

// allow says whether a denial of this user, or of a stranger, is to be listed,
// and how many of theirs before it were not.
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
