package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// someCuts are those ways of cuts that hide most, or with -doors all: one test tries each at every
// thing that is sent.
func someCuts() map[string]postgrestest.Cut {
	const most = "before its answer"
	if !*everyDoor {
		return map[string]postgrestest.Cut{most: cuts[most]}
	}
	return cuts
}

var cuts = map[string]postgrestest.Cut{
	"before the server gets it": postgrestest.CutBefore, "while the server works": postgrestest.CutMeanwhile, "before its answer": postgrestest.CutAfter,
}

// proxied opens a database through a proxy, and once more directly.
func proxied(t *testing.T) (through, direct *postgres.Store, proxy *postgrestest.Proxy) {
	t.Helper()
	return proxiedTo(t, emptyDatabase(t))
}

// proxiedTo is proxied for a database that is there.
func proxiedTo(t *testing.T, dsn string) (through, direct *postgres.Store, proxy *postgrestest.Proxy) {
	t.Helper()
	proxy, via := postgrestest.NewProxy(t, dsn)
	open := func(dsn string) *postgres.Store {
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, MaxConnections: 4})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			proxy.Plan(nil)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	return open(via), open(dsn), proxy
}

// cutNth has the proxy cut the connection at the n-th thing that is sent from now on, and
// tells whether it has.
func cutNth(proxy *postgrestest.Proxy, n int64, cut postgrestest.Cut) (done *atomic.Bool) {
	done = new(atomic.Bool)
	var sent atomic.Int64
	proxy.Plan(func([]byte) postgrestest.Cut {
		if sent.Add(1) != n {
			return postgrestest.CutNot
		}
		done.Store(true)
		return cut
	})
	return done
}

func TestAnUploadIsRightWhereverItsConnectionIsCut(t *testing.T) {
	t.Parallel()
	through, direct, proxy := proxied(t)
	for name, cut := range someCuts() {
		for _, kind := range []string{"into a space with a quota", "into a space without", "that makes all that is missing"} {
			for n := int64(1); ; n++ {
				slug := fmt.Sprintf("%d-%d-%d", cut, len(kind), n)
				h := fill(t, direct, store.Space{Slug: slug, QuotaFiles: map[string]int64{"into a space with a quota": 1}[kind]})
				a := h.file(slug)
				autoCreate := ""
				if kind == "that makes all that is missing" {
					autoCreate = slug + "-new"
					a.Parent.ID = uuid.New()
				}
				if err := keep(through, a); err != nil {
					t.Fatal(err)
				}
				ctx := store.WithEntry(store.WithOutbox(t.Context(), store.Origin{Time: time.Now()}), &store.Entry{Action: "attachment.upload", ID: a.ID.String(), Outcome: "done"})
				done := cutNth(proxy, n, cut)
				err := through.CreateAttachment(ctx, a, nil, autoCreate)
				proxy.Plan(nil)
				if err != nil {
					t.Errorf("an upload %s, cut at %d %s: %v", kind, n, name, err)
				}
				if err := through.Unhold(t.Context(), []blobs.Ref{a.SHA256}); err != nil {
					t.Error(err)
				}
				wantOnce(t, direct, a, slug)
				if !done.Load() {
					break
				}
			}
		}
	}
	whole(t, direct)
}

// wantOnce fails unless the attachment is there, with one event and one entry.
func wantOnce(t *testing.T, s *postgres.Store, a store.Attachment, what string) {
	t.Helper()
	got, err := s.Attachment(t.Context(), a.ID)
	if err != nil || got != a {
		t.Errorf("%s: %v, %v", what, got, err)
	}
	events, entries := 0, 0
	list, err := s.Events(t.Context(), 0, 1000)
	for _, e := range list {
		if e.Attachment == a {
			events++
		}
	}
	logged, err2 := s.Entries(t.Context(), 0, 1000)
	for _, e := range logged {
		if e.Action == "attachment.upload" && e.ID == a.ID.String() {
			entries++
		}
	}
	if err := errors.Join(err, err2); err != nil || events != 1 || entries != 1 {
		t.Errorf("%s: %d events and %d entries, %v", what, events, entries, err)
	}
}

func TestAnUploadSaysWhenTheDatabaseStaysAway(t *testing.T) {
	t.Parallel()
	through, direct, proxy := proxied(t)
	through.SetAskFor(200 * time.Millisecond)
	h := fill(t, direct, store.Space{Slug: "a"})
	for name, cut := range cuts {
		a := h.file(name)
		if err := keep(through, a); err != nil {
			t.Fatal(err)
		}
		proxy.Plan(func([]byte) postgrestest.Cut { return cut })
		if err := through.CreateAttachment(t.Context(), a, nil, ""); !errors.Is(err, store.ErrAway) {
			t.Errorf("all cut %s: %v", name, err)
		}
		proxy.Plan(nil)
		if err := through.CreateAttachment(t.Context(), h.file(name), nil, ""); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	whole(t, direct)
}

func TestAnIdThatAnotherHasIsAConflictEvenWhenAConnectionIsCut(t *testing.T) {
	t.Parallel()
	through, direct, proxy := proxied(t)
	h := fill(t, direct, store.Space{Slug: "a"})
	a := h.file("one")
	if err := upload(direct, a); err != nil {
		t.Fatal(err)
	}
	other := h.file("another")
	other.ID = a.ID
	for name, cut := range cuts {
		if err := keep(through, other); err != nil {
			t.Fatal(err)
		}
		done := cutNth(proxy, 1, cut)
		if err := through.CreateAttachment(t.Context(), other, nil, ""); !errors.Is(err, store.ErrConflict) || !done.Load() {
			t.Errorf("cut %s: %v", name, err)
		}
	}
}

// TestEachCallIsRightWhereverItsConnectionIsCut cuts the connection at each thing that is sent
// in a life of an attachment. A call that fails says that the database is away; then its change
// was made or not, and the call works when it is made again.
func TestEachCallIsRightWhereverItsConnectionIsCut(t *testing.T) {
	t.Parallel()
	through, direct, proxy := proxied(t)
	for name, cut := range someCuts() {
		for n := int64(1); ; n++ {
			slug := fmt.Sprintf("%d-%d", cut, n)
			h := fill(t, direct, store.Space{Slug: slug, QuotaFiles: 2})
			done := cutNth(proxy, n, cut)
			away := life(t, through, h, slug)
			proxy.Plan(nil)
			if t.Failed() {
				t.Fatalf("at %d, cut %s", n, name)
			}
			if away > 1 {
				t.Errorf("at %d, cut %s: %d calls failed", n, name, away)
			}
			if used := usage(t, direct, slug); used != (store.Usage{}) {
				t.Errorf("at %d, cut %s: %v is used", n, name, used)
			}
			if !done.Load() {
				break
			}
		}
	}
	whole(t, direct)
}

// life uploads, reads and deletes an attachment, and repeats each call that says that the
// database is away. It returns how many did.
func life(t *testing.T, s *postgres.Store, h house, content string) (away int) {
	ctx := context.Background()
	a := h.file(content)
	repeat := func(what string, call func(again bool) error) {
		t.Helper()
		err := call(false)
		if errors.Is(err, store.ErrAway) {
			away++
			err = call(true)
		}
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	one := func(list []store.Attachment, err error) error {
		if err == nil && (len(list) != 1 || list[0] != a) {
			return fmt.Errorf("it lists %v", list)
		}
		return err
	}
	repeat("keep", func(bool) error { return keep(s, a) })
	repeat("create", func(bool) error { return s.CreateAttachment(ctx, a, []byte("sum"), "") })
	repeat("unhold", func(bool) error { return s.Unhold(ctx, []blobs.Ref{a.SHA256}) })
	repeat("read", func(bool) error {
		got, err := s.Attachment(ctx, a.ID)
		return one([]store.Attachment{got}, err)
	})
	repeat("list", func(bool) error { return one(s.AttachmentsOf(ctx, a.Parent, uuid.Nil, 10)) })
	repeat("list by content", func(bool) error { return one(s.AttachmentsWith(ctx, a.SHA256, 10)) })
	repeat("referenced", func(bool) error {
		is, err := s.Referenced(ctx, a.SHA256)
		if err == nil && !is {
			err = errors.New("it is not")
		}
		return err
	})
	repeat("add checksums", func(bool) error { return s.AddChecksums(ctx, map[[32]byte][]byte{a.SHA256: []byte("other")}) })
	repeat("checksums", func(bool) error {
		sums, err := s.Checksums(ctx, a.SHA256)
		if err == nil && string(sums) != "other" {
			err = fmt.Errorf("they are %q", sums)
		}
		return err
	})
	repeat("totals", func(bool) error {
		totals, err := s.Totals(ctx, func(time.Duration) {})
		if err == nil && (totals.Attachments.Files != 1 || totals.Contents.Files != 1) {
			err = fmt.Errorf("they are %v", totals)
		}
		return err
	})
	repeat("delete", func(again bool) error {
		_, err := s.DeleteAttachment(ctx, a.ID)
		if again && errors.Is(err, store.ErrNotFound) { // it was deleted the first time
			err = nil
		}
		return err
	})
	return away
}
