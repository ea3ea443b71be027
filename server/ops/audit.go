package ops

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/upkeep"
	"attachd/store"
)

// entryBody is an entry of the audit log, as the API answers it.
type entryBody struct {
	Seq       uint64       `json:"seq"`
	Time      string       `json:"time,omitempty"` // empty when the entry cannot be read
	Actor     actorBody    `json:"actor"`
	Action    string       `json:"action"`
	Resource  resourceBody `json:"resource"`
	Space     string       `json:"space,omitempty"`
	Address   string       `json:"address,omitempty"`
	RequestID string       `json:"request_id,omitempty"`
	Outcome   string       `json:"outcome"`
	Hash      string       `json:"hash"`
}

type actorBody struct {
	UserID   *uuid.UUID `json:"user_id,omitempty"`
	FullName string     `json:"full_name,omitempty"`
	KeyID    *uuid.UUID `json:"key_id,omitempty"`
	ActingID *uuid.UUID `json:"acting_id,omitempty"` // the superadmin who acted for the user
	Acting   string     `json:"acting_full_name,omitempty"`
	Operator bool       `json:"operator,omitempty"`
}

type resourceBody struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	// What follows is set in lists only, and is as it is now.
	FullName string     `json:"full_name,omitempty"` // of a user
	In       *placeBody `json:"in,omitempty"`        // the parent of an attachment
}

// placeBody is a product, ticket or meeting.
type placeBody struct {
	Kind  string    `json:"kind"`
	ID    uuid.UUID `json:"id"`
	Space string    `json:"space"`
	Name  string    `json:"name"`
}

// names caches the full names of the users in one answer.
type names map[uuid.UUID]string

// nameOf returns a user's full name: empty for the zero id, and for a user deleted
// since.
func (s *Service) nameOf(ctx context.Context, id uuid.UUID, known names) string {
	name, ok := known[id]
	if !ok && id != uuid.Nil {
		if user, err := s.Store.User(ctx, id); err == nil {
			name = user.FullName
		}
		known[id] = name
	}
	return name
}

func (s *Service) describeEntry(ctx context.Context, e store.Entry, known names) entryBody {
	if e.Damage != "" {
		return entryBody{
			Seq: e.Seq, Action: "audit.damage", Outcome: "damaged", Hash: hex.EncodeToString(e.Hash[:]),
			Resource: resourceBody{Kind: "entry", Name: fmt.Sprintf("entry %d %s", e.Seq, e.Damage)},
		}
	}
	return entryBody{
		Seq:  e.Seq,
		Time: e.Time.Format("2006-01-02T15:04:05.000Z"),
		Actor: actorBody{
			api.OptionalID(e.UserID), s.nameOf(ctx, e.UserID, known), api.OptionalID(e.KeyID),
			api.OptionalID(e.ActorID), s.nameOf(ctx, e.ActorID, known), e.Operator,
		},
		Action:    e.Action,
		Resource:  resourceBody{Kind: e.Resource, ID: e.ID, Name: e.Name},
		Space:     e.Space,
		Address:   e.Address,
		RequestID: e.RequestID,
		Outcome:   e.Outcome,
		Hash:      hex.EncodeToString(e.Hash[:]),
	}
}

// explain adds to an entry the names of its resource, as far as it still exists.
func (s *Service) explain(ctx context.Context, body entryBody, known names) entryBody {
	if _, owner, is := strings.Cut(body.Resource.Name, api.KeyOwner); is && body.Resource.Kind == "key" {
		if id, ok := api.ParseID(owner); ok {
			body.Resource.FullName = s.nameOf(ctx, id, known)
		}
		return body
	}
	id, ok := api.ParseID(body.Resource.ID)
	if !ok {
		return body
	}
	switch body.Resource.Kind {
	case "user":
		body.Resource.FullName = s.nameOf(ctx, id, known)
	case "attachment":
		a, err := s.Store.Attachment(ctx, id)
		if err != nil {
			break
		}
		if e, err := s.Store.Entity(ctx, a.Parent); err == nil {
			body.Resource.In = &placeBody{e.Kind.String(), e.ID, e.Space, e.Name}
		}
	}
	return body
}

// auditFilter is the filter that a query asks for.
type auditFilter struct {
	action, space, outcome string
	user                   uuid.UUID
	since, until           time.Time
}

// auditFilters are the query parameters of an auditFilter.
var auditFilters = []string{"action", "user", "space", "outcome", "since", "until"}

func readAuditFilter(rq *api.Request) (f auditFilter, err error) {
	query := rq.URL.Query()
	f.action, f.space, f.outcome = query.Get("action"), query.Get("space"), query.Get("outcome")
	if text := query.Get("user"); text != "" {
		var ok bool
		if f.user, ok = api.ParseID(text); !ok {
			return f, api.InvalidRequest("user must be a user's id (a UUID).")
		}
	}
	for name, at := range map[string]*time.Time{"since": &f.since, "until": &f.until} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, text); err != nil {
			return f, api.InvalidRequest("%s must be a time such as 2026-01-31T00:00:00Z.", name)
		}
	}
	return f, nil
}

// keep reports whether an entry passes the filter. Unreadable entries always do, since
// what they said is unknown.
func (f auditFilter) keep(e store.Entry) bool {
	return e.Damage != "" || (f.action == "" || e.Action == f.action || strings.HasPrefix(e.Action, f.action+".")) &&
		(f.space == "" || e.Space == f.space) &&
		(f.outcome == "" || e.Outcome == f.outcome) &&
		(f.user == uuid.Nil || e.UserID == f.user || e.ActorID == f.user) &&
		(f.until.IsZero() || e.Time.Before(f.until)) && !e.Time.Before(f.since)
}

// AuditLog lists entries, the newest first.
func (s *Service) AuditLog(w *api.Response, rq *api.Request, sc api.Scope) error {
	filter, err := readAuditFilter(rq)
	if err != nil {
		return err
	}
	var runs []store.AuditRun
	if !filter.since.IsZero() {
		if runs, err = s.Store.AuditRuns(rq.Context()); err != nil {
			return err
		}
	}
	known := names{}
	return api.List[store.Entry]{
		Fetch: func(before []byte, n int) ([]store.Entry, error) {
			var last uint64
			if len(before) > 0 {
				if len(before) != 8 {
					return nil, api.BadCursor()
				}
				last = max(binary.BigEndian.Uint64(before), 1)
			}
			return s.entriesSince(rq.Context(), last, filter.since, runs, n)
		},
		Key:     func(e store.Entry) []byte { return binary.BigEndian.AppendUint64(nil, e.Seq) },
		Keep:    filter.keep,
		Filters: auditFilters,
		Row: api.Rendered(func(e store.Entry) any {
			return s.explain(rq.Context(), s.describeEntry(rq.Context(), e, known), known)
		}),
	}.Answer(w, rq)
}

// entriesSince is store.EntriesBefore, but skips most entries older than since. Entries
// are in the order in which they were recorded, which is that of their times within a
// run only.
func (s *Service) entriesSince(ctx context.Context, before uint64, since time.Time, runs []store.AuditRun, n int) (list []store.Entry, err error) {
	for {
		batch, err := s.Store.EntriesBefore(ctx, before, n)
		if err != nil || since.IsZero() {
			return batch, err
		}
		more := len(batch) == n
		for _, e := range batch {
			before = e.Seq
			if e.Damage != "" || !e.Time.Before(since) {
				if list = append(list, e); len(list) == n {
					return list, nil
				}
				continue
			}
			if next := store.SkipOlder(runs, e, since); next < e.Seq {
				before, more = next, next > 1
				break
			}
		}
		if !more {
			return list, nil
		}
	}
}

// ExportAudit writes entries as lines of JSON, the oldest first.
func (s *Service) ExportAudit(w *api.Response, rq *api.Request, sc api.Scope) error {
	if err := rq.CheckQuery(auditFilters); err != nil {
		return err
	}
	filter, err := readAuditFilter(rq)
	if err != nil {
		return err
	}
	after, _, err := s.Store.AuditEnds(rq.Context())
	if err != nil {
		return err
	}
	if err := rq.Hold(api.MaxLimit * api.RowHolds); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out, known := bufio.NewWriterSize(w, 64<<10), names{}
	for {
		batch, err := s.Store.Entries(rq.Context(), after.Seq, api.MaxLimit)
		if err != nil {
			return err
		}
		for _, e := range batch {
			if !filter.keep(e) {
				continue
			}
			raw, err := api.Encode(s.describeEntry(rq.Context(), e, known))
			if err != nil {
				return err
			}
			if _, err := out.Write(raw); err != nil {
				return nil // the client is gone
			}
		}
		if len(batch) < api.MaxLimit {
			_ = out.Flush() // the client is gone, so nothing can be reported to it
			return nil
		}
		after.Seq = batch[len(batch)-1].Seq
	}
}

// VerifyAudit verifies the hash chain of the audit log.
func (s *Service) VerifyAudit(w *api.Response, rq *api.Request, sc api.Scope) error {
	var order struct {
		Head string `json:"head"`
	}
	if err := rq.ReadOptionalJSON(&order); err != nil {
		return err
	}
	known, err := ParseHead(order.Head)
	if err != nil {
		return api.InvalidRequest("head must be %v.", err)
	}
	return s.work(s.upkeep.running, func() {}, w, rq, func(ctx context.Context, _ upkeep.ProgressFunc) (any, error) {
		entries, head, faults, err := store.VerifyAudit(ctx, s.Store, known)
		if len(faults) > 0 {
			rq.Log().Error("the audit log has faults", "faults", len(faults), "first", faults[0])
		}
		if err != nil {
			return nil, err
		}
		runs, err := s.Store.AuditRuns(ctx)
		return AuditReport{entries, formatHead(head), append([]string{}, faults...), timeNotes(runs, s.Now())}, err
	})
}

// AuditReport is the result of verifying the audit log.
type AuditReport struct {
	Entries int64    `json:"entries"`
	Head    string   `json:"head"` // number and hash of the last entry
	Faults  []string `json:"faults"`
	Notes   []string `json:"notes,omitempty"` // where times run backwards or ahead
}

// maxTimeNotes is how many places with wrong times are reported at most.
const maxTimeNotes = 20

// timeNotes reports where the clock was wrong when entries were recorded.
func timeNotes(runs []store.AuditRun, now time.Time) (notes []string) {
	for i, run := range runs {
		if i > 0 && run.Ordered && runs[i-1].Ordered {
			notes = append(notes, fmt.Sprintf("Times run backwards at entry %d: before it they go up to %s. The clock was set back.", run.First, api.Timestamp(runs[i-1].Latest)))
		}
		if run.Ordered && run.Latest.After(now.Add(time.Minute)) {
			notes = append(notes, fmt.Sprintf("Entries from %d on have times up to %s, which is not yet: the clock was ahead, or is behind.", run.First, api.Timestamp(run.Latest)))
		}
	}
	if more := len(notes) - maxTimeNotes; more > 0 {
		notes = append(notes[:maxTimeNotes], fmt.Sprintf("There are %d more places like these.", more))
	}
	return notes
}

func formatHead(l store.ChainPos) string { return fmt.Sprintf("%d:%x", l.Seq, l.Hash) }

// ParseHead reads the head of an earlier report; nil for an empty text. Its
// error says what a head must be.
func ParseHead(text string) (*store.ChainPos, error) {
	if text == "" {
		return nil, nil
	}
	number, hash, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(hash)
	seq, notNumber := strconv.ParseUint(number, 10, 64)
	if err != nil || notNumber != nil || len(raw) != 32 {
		return nil, errors.New("a number, a colon and 64 hexadecimal digits, as verifying prints it")
	}
	return &store.ChainPos{Seq: seq, Hash: [32]byte(raw)}, nil
}

// PruneAudit removes entries of the audit log that have been there for longer than
// their retention.
func (s *Service) PruneAudit(ctx context.Context) error {
	const atATime = 5000 // entries per commit, so that changes wait only briefly
	keep := s.AuditRetention
	if keep == 0 {
		keep = math.MaxInt64 // removes nothing, but notes ages for a later retention
	}
	total := 0
	defer func() { s.notePruned(total) }()
	for {
		clock, err := s.Clock.Read(ctx)
		removed := 0
		if err == nil {
			removed, err = s.Store.PruneAudit(ctx, clock.Age, keep, atATime)
		}
		if err != nil {
			return fmt.Errorf("old entries of the audit log could not be removed: %w", err)
		}
		total += removed
		if removed < atATime {
			return nil
		}
	}
}

func (s *Service) notePruned(entries int) {
	if entries > 0 {
		s.Log.Info("removed old entries of the audit log", "entries", entries)
		s.Store.Record(store.Entry{Time: s.Now(), Operator: true, Action: "audit.prune", Resource: "entries", Name: strconv.Itoa(entries), Outcome: api.Done})
	}
}
