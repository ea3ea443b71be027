package postgres

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

const (
	// mostTogether is how many uploads one transaction records at most.
	mostTogether = 32
	// mostLimited is of how many parents it is remembered that their space has a quota.
	mostLimited = 1 << 14
)

// together are the uploads into spaces with a quota, by space. While a transaction records some
// of them, those that come meanwhile wait for the next, since it would lock the same row. So a
// commit, for which that row is locked, is of many uploads where there are many.
type together struct {
	mu       sync.Mutex
	limited  map[store.Parent]string // the spaces of parents, of those that had a quota lately
	waiting  map[string][]*creation  // by space
	underway map[string]bool         // by space
}

func newTogether() together {
	return together{limited: map[store.Parent]string{}, waiting: map[string][]*creation{}, underway: map[string]bool{}}
}

// learn notes whether the space of a parent has a quota.
func (t *together) learn(p store.Parent, v verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !v.isLimited() {
		delete(t.limited, p)
		return
	}
	if len(t.limited) >= mostLimited {
		clear(t.limited) // it is learned again
	}
	t.limited[p] = v.space.Slug
}

// space returns the space of a parent, if it is known to have a quota.
func (t *together) space(p store.Parent) (slug string, limited bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slug, limited = t.limited[p]
	return slug, limited
}

// creation is a record that is created with others.
type creation struct {
	*newRecord
	ctx     context.Context
	tx      *change
	verdict verdict
	err     error
	done    chan struct{} // closed when the above is what has become of it
}

// errAlone has an upload be recorded in a transaction of its own.
const errAlone = instead("another upload of the same transaction has failed")

// createAtOnce creates a record in one round trip.
func (s *Store) createAtOnce(ctx context.Context, n *newRecord) error {
	for {
		space, limited := s.together.space(n.Parent)
		c := &creation{newRecord: n, ctx: ctx, done: make(chan struct{})}
		if limited && !n.alone {
			s.createNext(space, c)
		} else {
			s.createAll(ctx, []*creation{c}, limited)
		}
		switch c.err {
		case errLimited: // known by now
		case errAlone:
			n.alone = true
		default:
			return c.err
		}
	}
}

// createNext creates a record with the next transaction of a space.
func (s *Store) createNext(space string, c *creation) {
	t := &s.together
	t.mu.Lock()
	t.waiting[space] = append(t.waiting[space], c)
	if !t.underway[space] {
		t.underway[space] = true
		go s.createWaiting(space)
	}
	t.mu.Unlock()
	select {
	case <-c.done:
		return
	case <-c.ctx.Done():
	}
	if t.leave(space, c) {
		c.err = notSent{c.ctx.Err()}
		return
	}
	<-c.done
}

// leave takes a record back that is still waiting.
func (t *together) leave(space string, c *creation) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.Index(t.waiting[space], c)
	if at >= 0 {
		t.waiting[space] = slices.Delete(t.waiting[space], at, at+1)
	}
	return at >= 0
}

// next takes those that are waiting; none ends the work on the space.
func (t *together) next(space string) (list []*creation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting := t.waiting[space]
	n := min(len(waiting), mostTogether)
	list, t.waiting[space] = waiting[:n:n], waiting[n:]
	if n == 0 {
		delete(t.waiting, space)
		delete(t.underway, space)
	}
	return list
}

// createWaiting creates records of a space until none is waiting.
func (s *Store) createWaiting(space string) {
	for {
		list := s.together.next(space)
		if len(list) == 0 {
			return
		}
		until, _ := list[0].ctx.Deadline() // of the one that has waited longest
		// In the order of the contents, whose rows are locked, as everybody locks several.
		slices.SortStableFunc(list, func(a, b *creation) int { return bytes.Compare(a.SHA256[:], b.SHA256[:]) })
		ctx, cancel := context.WithDeadline(context.Background(), until)
		s.createAll(ctx, list, true)
		cancel()
		for _, c := range list {
			close(c.done)
		}
	}
}

// createAll creates records in one transaction and one round trip. What is refused refuses no
// other. After an error of the database, which rolls back all of several, each is errAlone;
// where the connection was lost, it is open what has become of any. uses says that their spaces
// may have quotas.
func (s *Store) createAll(ctx context.Context, list []*creation, uses bool) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		for _, c := range list {
			c.err = notSent{err}
		}
		return
	}
	defer release(conn)
	b := new(pgx.Batch)
	var ids []uuid.UUID
	for _, c := range list {
		c.prepare(s, b, uses)
		ids = append(ids, c.ID)
	}
	if uses {
		b.Queue(useSQL, ids)
	}
	err = s.withoutCancel(ctx, conn.Conn(), func(ctx context.Context) error { return conn.SendBatch(ctx, b).Close() })
	if failed := code(err); failed != "" && len(list) > 1 && (metAnother(err) || !isAway(failed)) {
		err = errAlone
	}
	for _, c := range list {
		c.conclude(s, err, uses)
	}
}

// prepare queues the statement of a record.
func (c *creation) prepare(s *Store, b *pgx.Batch, uses bool) {
	tx := s.newChange(c.ctx)
	tx.enqueue(store.AttachmentCreated, c.Attachment, "") // the space and the name are filled in there
	var event *string
	if len(tx.events) > 0 {
		var encoded []string
		if encoded, c.err = encodeEvents(tx.events); c.err == nil {
			event = &encoded[0]
			tx.outbox.events, tx.outbox.added = 1, 1
		}
	}
	c.tx = tx
	s.begins(tx)
	if c.err == nil {
		b.Queue(createSQL, c.arguments(tx.encodedEntries(), event, uses)...).QueryRow(c.verdict.scan)
	}
}

// conclude says what has become of a record.
func (c *creation) conclude(s *Store, err error, uses bool) {
	if err == nil && c.err == nil {
		c.tx.outbox.sum = c.verdict.event
		if c.verdict.space.Slug != "" {
			s.together.learn(c.Parent, c.verdict)
		}
		err = c.verdict.refusal(c.Attachment, c.autoCreate, uses)
	}
	if c.err == nil {
		c.err = err
	}
	s.ends(c.tx, c.err)
}
