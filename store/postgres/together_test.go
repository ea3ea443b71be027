package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
)

// crowd is a space with a quota that is about to record many uploads at once.
type crowd struct {
	house
	t    *testing.T
	dsn  string
	s    *postgres.Store // which uploads
	slug string
}

// newCrowd makes the space through one store, and has another one know that it has a quota.
func newCrowd(t *testing.T, dsn string, direct, s *postgres.Store, space store.Space) crowd {
	t.Helper()
	c := crowd{fill(t, direct, space), t, dsn, s, space.Slug}
	if err := upload(s, c.file("first "+space.Slug)); err != nil {
		t.Fatal(err)
	}
	return c
}

// uploads records attachments while another transaction has the row of the space's usage: the
// first alone, the others after it, once all of them wait and meanwhile was called. It returns
// what has become of each.
func (c crowd) uploads(list []store.Attachment, meanwhile func()) []error {
	c.t.Helper()
	failed := make([]error, len(list))
	usageRow := holding(c.t, c.dsn, `select from attachd.usage where space = $1 for update`, c.slug)
	var all sync.WaitGroup
	create := func(i int) {
		a := list[i]
		ctx := store.WithEntry(store.WithOutbox(context.Background(), store.Origin{Time: time.Now()}), &store.Entry{Action: "attachment.upload", ID: a.ID.String(), Outcome: "done"})
		all.Go(func() { failed[i] = c.s.CreateAttachment(ctx, a, nil, "") })
	}
	create(0)
	usageRow.waitFor(1, nil)
	for i := range list[1:] {
		create(i + 1)
	}
	for until := time.Now().Add(15 * time.Second); c.s.WaitingFor(c.slug) < len(list)-1; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			c.t.Errorf("%d uploads wait, not %d", c.s.WaitingFor(c.slug), len(list)-1)
			break
		}
	}
	if meanwhile != nil {
		meanwhile()
	}
	usageRow.letGo()
	all.Wait()
	return failed
}

// files returns attachments whose contents are kept.
func (c crowd) files(n int) (list []store.Attachment) {
	c.t.Helper()
	for i := range n {
		a := c.file(fmt.Sprint(c.slug, i%5))
		if err := keep(c.s, a); err != nil {
			c.t.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

func TestUploadsThatComeAtOnceAreRecordedTogether(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	c := newCrowd(t, dsn, s, s, store.Space{Slug: "a", QuotaFiles: 1000})
	for _, err := range c.uploads(c.files(20), nil) {
		if err != nil {
			t.Error(err)
		}
	}
	var transactions int
	row := holding(t, dsn, `select`)
	if err := row.QueryRow(t.Context(), `select count(distinct xmin::text) from attachd.attachments`).Scan(&transactions); err != nil || transactions != 3 {
		t.Errorf("21 uploads were recorded in %d transactions, not 3: %v", transactions, err)
	}
	if used := usage(t, s, "a"); used != (store.Usage{Bytes: 210, Files: 21}) {
		t.Errorf("%v is counted", used)
	}
	whole(t, s)
}

func TestAnUploadThatIsRefusedRefusesNoOtherOfItsTransaction(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]struct {
		do   func(a *store.Attachment)
		want error
	}{
		"of nobody":                      {func(a *store.Attachment) { a.UploaderID = uuid.New() }, store.ErrNotFound},
		"to a comment that is not there": {func(a *store.Attachment) { a.CommentID = uuid.NullUUID{UUID: uuid.New(), Valid: true} }, store.ErrNotFound},
		"that is too large":              {func(a *store.Attachment) { a.Size = 5000 }, store.ErrQuota},
		"whose content is not there":     {func(a *store.Attachment) { a.SHA256 = blobs.RefOf([]byte("nowhere")) }, store.ErrNoContent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := emptyDatabase(t)
			s := openAt(t, dsn)
			c := newCrowd(t, dsn, s, s, store.Space{Slug: "a", QuotaBytes: 5000})
			list := c.files(12)
			if name == "to a comment that is not there" {
				list[4].Parent = ticketOf(t, s, c)
			}
			spoil.do(&list[4])
			for i, err := range c.uploads(list, nil) {
				if i == 4 && !errors.Is(err, spoil.want) || i != 4 && err != nil {
					t.Errorf("upload %d: %v", i, err)
				}
				if i != 4 {
					wantOnce(t, s, list[i], fmt.Sprint("upload ", i))
				}
			}
			if used := usage(t, s, "a"); used.Files != 12 {
				t.Errorf("%v is counted", used)
			}
			whole(t, s)
		})
	}
}

// ticketOf makes a ticket in the space, to which the store has uploaded.
func ticketOf(t *testing.T, s *postgres.Store, c crowd) store.Parent {
	t.Helper()
	ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: c.slug, OwnerID: c.ada.ID}
	if _, err := s.Put(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	a := c.file("of the ticket")
	a.Parent = ticket.Parent
	if err := upload(s, a); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteAttachment(t.Context(), a.ID); err != nil {
		t.Fatal(err)
	}
	return ticket.Parent
}

func TestAQuotaIsExactForUploadsThatAreRecordedTogether(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	c := newCrowd(t, dsn, s, s, store.Space{Slug: "a", QuotaFiles: 8})
	accepted := 0
	for i, err := range c.uploads(c.files(20), nil) {
		if err == nil {
			accepted++
		} else if !errors.Is(err, store.ErrQuota) {
			t.Errorf("upload %d: %v", i, err)
		}
	}
	if used := usage(t, s, "a"); accepted != 7 || used != (store.Usage{Bytes: 80, Files: 8}) {
		t.Errorf("%d were accepted, and %v is counted", accepted, used)
	}
	whole(t, s)
}

func TestUploadsThatAreRecordedTogetherAreRightWhereverTheirConnectionIsCut(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	through, direct, proxy := proxiedTo(t, dsn)
	for name, cut := range cuts {
		c := newCrowd(t, dsn, direct, through, store.Space{Slug: fmt.Sprint("cut-", cut), QuotaFiles: 1000})
		list := c.files(8)
		done := cutNth(proxy, 1<<20, cut)
		failed := c.uploads(list, func() { done = cutNth(proxy, 1, cut) })
		proxy.Plan(nil)
		if !done.Load() {
			t.Errorf("nothing was cut %s", name)
		}
		for i, err := range failed {
			if err != nil {
				t.Errorf("upload %d, cut %s: %v", i, name, err)
			}
			wantOnce(t, direct, list[i], fmt.Sprintf("upload %d, cut %s", i, name))
		}
		if used := usage(t, direct, c.slug); used.Files != 9 {
			t.Errorf("cut %s: %v is counted", name, used)
		}
	}
	whole(t, direct)
}

func TestAnUploadThatIsGivenUpWhileItWaitsIsNotRecorded(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	s := openAt(t, dsn)
	c := newCrowd(t, dsn, s, s, store.Space{Slug: "a", QuotaFiles: 1000})
	given := c.file("a0")
	var err error
	for i, failed := range c.uploads(c.files(3), func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err = s.CreateAttachment(ctx, given, nil, "")
	}) {
		if failed != nil {
			t.Errorf("upload %d: %v", i, failed)
		}
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if _, err := s.Attachment(t.Context(), given.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("what was given up: %v", err)
	}
}
