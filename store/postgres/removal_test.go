package postgres_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// holder holds what other changes want, in a transaction.
type holder struct {
	*pgx.Conn
	t *testing.T
}

// holding begins a transaction with a statement.
func holding(t *testing.T, dsn, sql string, args ...any) *holder {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // it may have been closed by the test
		_, err = conn.Exec(t.Context(), "begin")
	}
	if err == nil {
		_, err = conn.Exec(t.Context(), sql, args...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &holder{conn, t}
}

// waitFor waits until as many others as that wait for a lock, or ended is closed.
func (h *holder) waitFor(n int, ended <-chan struct{}) {
	h.t.Helper()
	for until := time.Now().Add(15 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		var waiting int
		if _, err := h.Exec(h.t.Context(), `select pg_stat_clear_snapshot()`); err != nil {
			h.t.Fatal(err)
		}
		if err := h.QueryRow(h.t.Context(), `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`).Scan(&waiting); err != nil {
			h.t.Fatal(err)
		}
		select {
		case <-ended:
			return
		default:
		}
		if waiting >= n {
			return
		}
	}
	h.t.Fatalf("%d others do not wait", n)
}

func (h *holder) letGo() {
	h.t.Helper()
	if _, err := h.Exec(h.t.Context(), "rollback"); err != nil {
		h.t.Fatal(err)
	}
}

// TestOneOfTwoDeletionsFreesAContent deletes the last two records of a content at once, one
// with its parent: the removal has looked for others already, and is not committed, when the
// other record goes.
func TestOneOfTwoDeletionsFreesAContent(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	limited, other := fill(t, s, store.Space{Slug: "limited", QuotaFiles: 9}), fill(t, s, store.Space{Slug: "other"})
	a, b := limited.file("the same"), other.file("the same")
	if err := errors.Join(upload(s, a), upload(s, b)); err != nil {
		t.Fatal(err)
	}
	usageRow := holding(t, dsn, `select from attachd.usage where space = 'limited' for update`)

	var freed [][32]byte
	removed, deleted := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(removed)
		var err error
		if freed, err = s.DeleteEntity(t.Context(), a.Parent, true); err != nil {
			t.Error(err)
		}
	}()
	usageRow.waitFor(1, removed)
	var left bool
	go func() {
		defer close(deleted)
		if _, err := s.DeleteAttachment(t.Context(), b.ID); err != nil {
			t.Error(err)
			return
		}
		var err error
		if left, err = s.Referenced(t.Context(), b.SHA256); err != nil {
			t.Error(err)
		}
	}()
	usageRow.waitFor(2, deleted)
	usageRow.letGo()
	<-removed
	<-deleted
	if !slices.Contains(freed, a.SHA256) && left {
		t.Error("neither deletion has found the content free")
	}
	whole(t, s)
}
