package bolt

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

var errRefused = errors.New("refused")

// mark is a change that writes a key into meta; marked says whether it is there.
func mark(name string) *change {
	return &change{done: make(chan error, 1), apply: func(tx *writeTx) error {
		tx.Put(schema.Meta, []byte(name), schema.Nothing)
		return nil
	}}
}

func (b *Store) marked(t *testing.T, name string) (found bool) {
	t.Helper()
	err := b.file.View(func(tx *dbfile.Tx) error {
		found = tx.Has(schema.Meta, []byte(name))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestRefusedChangeDoesNotDisturbItsNeighbours(t *testing.T) {
	b := OpenTemp(t)
	first, last := mark("first"), mark("last")
	refused := &change{done: make(chan error, 1), apply: func(*writeTx) error { return errRefused }}
	panicking := &change{done: make(chan error, 1), apply: func(*writeTx) error { panic("oops") }}
	b.committer.process([]*change{first, refused, panicking, last})
	if err := errors.Join(<-first.done, <-last.done); err != nil {
		t.Errorf("neighbours: %v", err)
	}
	if err := <-refused.done; err != errRefused {
		t.Errorf("refused: %v", err)
	}
	if err := <-panicking.done; err == nil || !strings.Contains(err.Error(), "oops") {
		t.Errorf("panicking: %v", err)
	}
	if !b.marked(t, "first") || !b.marked(t, "last") {
		t.Error("what neighbours wrote is not there")
	}
}

func TestFailedWriteIsNotCommitted(t *testing.T) {
	b := OpenTemp(t)
	neighbour, tooLong := mark("neighbour"), mark(strings.Repeat("x", bbolt.MaxKeySize+1))
	b.committer.process([]*change{neighbour, tooLong})
	for _, c := range []*change{neighbour, tooLong} {
		if err := <-c.done; err == nil || !strings.Contains(err.Error(), `"about"`) {
			t.Errorf("got %v", err)
		}
	}
	if b.marked(t, "neighbour") {
		t.Error("half a transaction was committed")
	}
	if err := b.Probe(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestChangeThatWroteAndWasRefusedIsNotCommitted(t *testing.T) {
	halfway := func(tx *writeTx) error {
		tx.Put(schema.Meta, []byte("half"), schema.Nothing)
		return errRefused
	}
	b := OpenTemp(t)
	if err := b.updateAlone(t.Context(), halfway); err != errRefused {
		t.Errorf("alone: %v", err)
	}
	neighbour := mark("neighbour")
	broken := &change{done: make(chan error, 1), apply: halfway}
	b.committer.process([]*change{neighbour, broken})
	for _, c := range []*change{neighbour, broken} {
		if err := <-c.done; err == nil || errors.Is(err, errRefused) {
			t.Errorf("together: %v", err)
		}
	}
	if b.marked(t, "half") || b.marked(t, "neighbour") {
		t.Error("half a change was committed")
	}
}

func TestOnlyChangesCost(t *testing.T) {
	b := OpenTemp(t)
	b.committer.opts.Commit = func(*bbolt.Tx) error { t.Error("committed nothing"); return nil }
	if err := b.DeleteUser(t.Context(), uuid.New()); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestAfterACommitOfUnknownOutcomeOnlyReadsGoOn(t *testing.T) {
	lost := errors.New("input/output error")
	for name, commit := range map[string]func(*bbolt.Tx) error{
		"failed":              func(*bbolt.Tx) error { return lost },
		"failed, yet visible": func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), lost) },
		"full, yet visible":   func(tx *bbolt.Tx) error { return errors.Join(tx.Commit(), lost, durable.FullErrors[0]) },
		"panicked":            func(*bbolt.Tx) error { panic(lost) },
	} {
		t.Run(name, func(t *testing.T) {
			b := OpenTemp(t)
			user := store.User{ID: uuid.New(), FullName: "Ada"}
			if _, err := b.Put(t.Context(), user); err != nil {
				t.Fatal(err)
			}

			b.committer.opts.Commit = commit
			first := b.Probe(t.Context())
			b.committer.opts.Commit = (*bbolt.Tx).Commit
			for _, err := range []error{first, b.Probe(t.Context()), b.DeleteUser(t.Context(), user.ID)} {
				if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), lost.Error()) {
					t.Errorf("got %v", err)
				}
			}
			if got, err := b.User(t.Context(), user.ID); err != nil || got != user {
				t.Errorf("read: %+v, %v", got, err)
			}
		})
	}
}

func TestFullDiskIsNotTheEnd(t *testing.T) {
	b := OpenTemp(t)
	b.committer.opts.Commit = func(*bbolt.Tx) error { return durable.FullErrors[0] }
	if err := b.update(t.Context(), mark("one").apply); !errors.Is(err, store.ErrFull) || !errors.Is(err, durable.FullErrors[0]) {
		t.Errorf("with a full disk: %v", err)
	}
	b.committer.opts.Commit = (*bbolt.Tx).Commit
	if b.marked(t, "one") {
		t.Error("refused and committed")
	}
	if err := b.update(t.Context(), mark("two").apply); err != nil || !b.marked(t, "two") {
		t.Errorf("with room again: %v", err)
	}
}

func TestWhatIsHandedInIsFinished(t *testing.T) {
	b := OpenTemp(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.committer.opts.Commit = func(tx *bbolt.Tx) error {
		cancel()
		return tx.Commit()
	}
	if err := b.update(ctx, mark("one").apply); err != nil || !b.marked(t, "one") {
		t.Errorf("context ended during the commit: %v", err)
	}
}

func TestWhatWaitsCanBeGivenUp(t *testing.T) {
	b := OpenTemp(t)
	busy, goOn := make(chan struct{}), make(chan struct{})
	first := mark("first")
	go b.handIn(t.Context(), &change{done: first.done, apply: func(tx *writeTx) error {
		close(busy)
		<-goOn
		return first.apply(tx)
	}})
	<-busy
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	if err := b.update(ctx, mark("given up").apply); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	close(goOn)
	if err := b.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	if !b.marked(t, "first") || b.marked(t, "given up") {
		t.Error("the wrong one was committed")
	}
}

func TestUseOfKeysIsWrittenDownWithinAMinute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	synctest.Test(t, func(t *testing.T) {
		b := OpenAt(t, path)
		key := newKey(t, b)
		at := time.Now()
		b.TouchKey(key.ID, at)
		b.TouchKey(uuid.New(), at) // of a key that does not exist, as after a revocation

		time.Sleep(touchInterval + time.Second)
		synctest.Wait()
		if seconds, found := b.written(t, key.ID); !found || seconds != at.Unix() {
			t.Errorf("after a minute: %v, %v", seconds, found)
		}
		if noted := b.touched.ToWrite(); len(noted) > 0 {
			t.Errorf("still to write: %v", noted)
		}

		time.Sleep(touchInterval)
		synctest.Wait()
		if k := b.touched.WithLastUse(store.Key{ID: key.ID}); !k.LastUsedAt.IsZero() {
			t.Errorf("still in memory: %v", k.LastUsedAt)
		}
	})
}

// writeTouched makes the committer store the times when keys were used, as it does
// each minute, and commits the log meanwhile, whenever that is due.
func (b *Store) writeTouched(t *testing.T) error {
	return b.handIn(t.Context(), &change{done: make(chan error, 1), instead: b.committer.flushTouched})
}

func TestUseThatCannotBeWrittenDownStays(t *testing.T) {
	b := OpenTemp(t)
	key := newKey(t, b)
	at := time.Now()
	b.TouchKey(key.ID, at)
	b.committer.opts.Commit = func(*bbolt.Tx) error { return durable.FullErrors[0] }
	if err := b.writeTouched(t); !errors.Is(err, store.ErrFull) {
		t.Errorf("with a full disk: %v", err)
	}
	b.committer.opts.Commit = (*bbolt.Tx).Commit
	if err := b.writeTouched(t); err != nil {
		t.Error(err)
	}
	if seconds, found := b.written(t, key.ID); !found || seconds != at.Unix() {
		t.Errorf("with room again: %v, %v", seconds, found)
	}
}

func TestUseDuringAFlushIsNotLost(t *testing.T) {
	b := OpenTemp(t)
	key := newKey(t, b)
	at := time.Unix(1e9, 0).UTC()
	b.TouchKey(key.ID, at)
	b.committer.opts.Commit = func(tx *bbolt.Tx) error {
		b.TouchKey(key.ID, at.Add(time.Second))
		return tx.Commit()
	}
	if err := b.writeTouched(t); err != nil {
		t.Fatal(err)
	}
	b.committer.opts.Commit = (*bbolt.Tx).Commit
	if err := b.writeTouched(t); err != nil {
		t.Fatal(err)
	}
	if seconds, _ := b.written(t, key.ID); seconds != at.Unix()+1 {
		t.Errorf("written: %d", seconds)
	}
}

func TestReaderFromBeforeAFlushSeesTheUse(t *testing.T) {
	b := OpenTemp(t)
	key := newKey(t, b)
	at := time.Unix(1e9, 0).UTC()
	b.TouchKey(key.ID, at)
	err := b.file.View(func(tx *dbfile.Tx) error {
		// As flushTouched does at its end. The times that it commits are not in tx.
		b.touched.Flushed(b.touched.ToWrite())
		if k, err := b.loadKey(tx, key.ID); err != nil || b.touched.WithLastUse(k).LastUsedAt != at {
			t.Errorf("last use: %+v, %v", b.touched.WithLastUse(k), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T, b *Store) store.Key {
	t.Helper()
	user := store.User{ID: uuid.New()}
	key := store.Key{ID: uuid.New(), UserID: user.ID, Hash: [32]byte{1}}
	_, err := b.Put(t.Context(), user)
	if err := errors.Join(err, b.CreateKey(t.Context(), key)); err != nil {
		t.Fatal(err)
	}
	return key
}

func (b *Store) written(t *testing.T, key uuid.UUID) (seconds int64, found bool) {
	t.Helper()
	err := b.file.View(func(tx *dbfile.Tx) (err error) {
		seconds, found, err = records.Touched(tx, key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seconds, found
}

func TestAChangeThatFindsTheDiskFullIsTriedOnceMoreWhenThereIsRoom(t *testing.T) {
	for _, room := range []bool{true, false} {
		b := OpenTemp(t)
		asked := 0
		b.committer.opts.MakeRoom = func() bool { asked++; return room }
		b.committer.opts.Commit = func(tx *bbolt.Tx) error {
			if asked > 0 && room {
				return tx.Commit()
			}
			return durable.FullErrors[0]
		}
		user := store.User{ID: uuid.New(), FullName: "Ada"}
		created, err := b.Put(t.Context(), user)
		if room && (err != nil || !created[0]) {
			t.Errorf("with room: %v, %v", created, err)
		}
		if !room && !errors.Is(err, store.ErrFull) {
			t.Errorf("without room: %v", err)
		}
		if asked != 1 {
			t.Errorf("asked for room %d times", asked)
		}
		b.committer.opts.Commit = (*bbolt.Tx).Commit
	}
}

// Comments that were put before they had numbers are in the order of their ids, and
// get numbers in this order when the next comment of the ticket is put.
func TestCommentsOfOlderDatabasesKeepTheirOrder(t *testing.T) {
	b := OpenTemp(t)
	user := store.User{ID: uuid.New(), FullName: "Ada"}
	ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: "a", OwnerID: user.ID}
	if _, err := b.Put(t.Context(), user, store.Space{Slug: "a"}, ticket); err != nil {
		t.Fatal(err)
	}
	ids := []uuid.UUID{{0: 2}, {0: 5}, {0: 9}}
	err := b.update(t.Context(), func(tx *writeTx) error {
		for _, id := range ids {
			tx.Put(schema.Comments, schema.Join(ticket.ID[:], id[:]), schema.Nothing)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	numbers := func() (list []int) {
		comments, err := b.Comments(t.Context(), ticket.ID, uuid.Nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range comments {
			list = append(list, c.Number)
		}
		return list
	}
	if got := numbers(); !slices.Equal(got, []int{0, 0, 0}) {
		t.Errorf("before another comes, the numbers are %v", got)
	}
	if _, err := b.Put(t.Context(), store.Comment{TicketID: ticket.ID, ID: ids[1]}, store.Comment{TicketID: ticket.ID, ID: uuid.UUID{0: 1}}); err != nil {
		t.Fatal(err)
	}
	if got := numbers(); !slices.Equal(got, []int{4, 1, 2, 3}) {
		t.Errorf("after another came first in the order of ids, the numbers are %v", got)
	}
	if faults, err := b.Check(t.Context(), nil); err != nil || len(faults) > 0 {
		t.Errorf("check: %v %v", faults, err)
	}
}
