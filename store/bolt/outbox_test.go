package bolt

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt/schema"
)

var tellingOrigin = store.Origin{Time: time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC)}

// posting returns a function that creates attachments with events.
func posting(t *testing.T, b *Store) (tell func(n int) []uuid.UUID, space string) {
	t.Helper()
	user, product := uuid.New(), store.Parent{Kind: store.Product, ID: uuid.New()}
	_, err := b.Put(t.Context(), store.User{ID: user, FullName: "Ada"}, store.Space{Slug: "a"}, store.Entity{Parent: product, Space: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := store.WithOutbox(t.Context(), tellingOrigin)
	return func(n int) (ids []uuid.UUID) {
		for range n {
			a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: product, FileName: "a.txt", Size: 1, Type: "text/plain", UploaderID: user}
			if err := b.CreateAttachment(ctx, a, nil, ""); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID)
		}
		return ids
	}, "a"
}

func wantPosted(t *testing.T, b *Store, events []uuid.UUID, dead ...uuid.UUID) {
	t.Helper()
	list, err := b.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	letters, err := b.DeadLetters(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var gotEvents, gotDead []uuid.UUID
	for _, e := range list {
		gotEvents = append(gotEvents, e.Attachment.ID)
	}
	for _, l := range letters {
		gotDead = append(gotDead, l.Event.Attachment.ID)
		if l.Reason != store.ReasonOutboxFull {
			t.Errorf("the reason is %q", l.Reason)
		}
	}
	if fmt.Sprint(gotEvents) != fmt.Sprint(events) || fmt.Sprint(gotDead) != fmt.Sprint(dead) {
		t.Errorf("the outbox has %v and %v, want %v and %v", gotEvents, gotDead, events, dead)
	}
	if e, d := b.OutboxSize(); int(e) != len(events) || int(d) != len(dead) {
		t.Errorf("counted are %d and %d", e, d)
	}
}

// A receiver may be down for a month.
func TestTheOutboxIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	b.outbox.max = 3
	tell, _ := posting(t, b)
	first := tell(5)
	wantPosted(t, b, first[2:], first[:2]...)
	second := tell(4)
	wantPosted(t, b, second[1:], append(first[3:], second[0])...)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = OpenAt(t, path)
	wantPosted(t, b, second[1:], append(first[3:], second[0])...)
}

// Each commit of ten thousand deletions with events allocates a bounded amount of
// memory.
// It is not parallel: what is allocated is counted for the whole process.
func TestManyDeletionsAreToldInBoundedCommits(t *testing.T) {
	const n, room = 10_000, 40 << 20
	b := OpenTemp(t)
	tell, space := posting(t, b)
	like := b.mustAttachment(t, tell(1)[0])
	for made := 1; made < n; {
		err := b.updateAlone(t.Context(), func(tx *writeTx) error {
			for ; made < n; made++ {
				a := like
				a.ID = uuid.Must(uuid.NewV7())
				if err := createAttachment(tx, a, ""); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	for parts, more := 0, true; more; parts++ {
		runtime.ReadMemStats(&before)
		var err error
		if parts == 0 {
			_, err = b.DeleteSpace(store.WithOutbox(t.Context(), tellingOrigin), space, true)
		} else {
			_, more, err = b.Remove(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > room {
			t.Errorf("part %d: %d MB were allocated", parts, used>>20)
		}
	}
	if events, _ := b.OutboxSize(); events != n+1 {
		t.Errorf("%d events", events)
	}
}

func (b *Store) mustAttachment(t *testing.T, id uuid.UUID) store.Attachment {
	t.Helper()
	a, err := b.Attachment(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAFailedCommitTellsNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	failing := false
	b, err := Open(path, Options{Commit: func(tx *bbolt.Tx) error {
		if failing {
			return context.DeadlineExceeded
		}
		return tx.Commit()
	}})
	if err != nil {
		t.Fatal(err)
	}
	tell, _ := posting(t, b)
	ids := tell(1)
	failing = true
	if _, err := b.DeleteAttachment(store.WithOutbox(t.Context(), tellingOrigin), ids[0]); err == nil {
		t.Error("the deletion was taken")
	}
	wantPosted(t, b, ids)
	if err := b.Close(); err != nil {
		t.Log(err) // a store that has failed returns an error
	}
	b = OpenAt(t, path)
	wantPosted(t, b, ids)
	b.mustAttachment(t, ids[0])
}

func TestCheckFindsDamagedEvents(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "attachd.db")
	b := open(t, path)
	for _, bucket := range [][]byte{schema.Outbox, schema.Dead} {
		err := b.updateAlone(t.Context(), func(tx *writeTx) error {
			tx.Put(bucket, binary.BigEndian.AppendUint64(nil, 7), []byte(`{"event":{}}`))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	faults, err := b.Check(t.Context(), nil)
	if err != nil || len(faults) != 2 {
		t.Errorf("%v, %q", err, faults)
	}
	if _, err := b.Events(t.Context(), 0, 1); err == nil {
		t.Error("a damaged event was read")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
