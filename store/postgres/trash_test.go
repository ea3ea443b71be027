package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
)

var monday = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// deletion is one by the user of a house, at a time after monday, for an hour.
func (h house) deletion(after time.Duration) store.Deletion {
	return store.Deletion{At: monday.Add(after), Until: monday.Add(after + time.Hour), ByID: h.ada.ID, By: h.ada.FullName}
}

// removeAll removes all that is left to Remove.
func removeAll(t testing.TB, s *postgres.Store) {
	t.Helper()
	for more := true; more; {
		var err error
		if _, more, err = s.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

// unless returns an error, but for refusals of these kinds.
func unless(err error, kinds ...error) error {
	for _, kind := range kinds {
		if errors.Is(err, kind) {
			return nil
		}
	}
	return err
}

// Whatever many clients at two replicas delete, restore, purge, put anew and upload at once, all
// is counted right, and what is left over goes away.
func TestTheTrashIsWholeHoweverManyProcessesChangeIt(t *testing.T) {
	t.Parallel()
	rounds := 60
	if *long {
		rounds = 2000
	}
	all, _ := replicas(t, 2)
	limited, free := fill(t, all[0], store.Space{Slug: "limited", QuotaFiles: 12}), fill(t, all[0], store.Space{Slug: "free"})
	houses := []house{limited, free}
	var lists [2][]uuid.UUID
	var mu sync.Mutex
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 7))
			for i := range rounds {
				s, which := all[(n+i)%2], random.IntN(2)
				h := houses[which]
				ctx := store.WithOutbox(store.WithEntry(t.Context(), &store.Entry{Time: monday, Action: "test", Outcome: "done"}), store.Origin{Time: monday, UserID: h.ada.ID})
				mu.Lock()
				var id uuid.UUID
				if list := lists[which]; len(list) > 0 {
					id = list[random.IntN(len(list))]
				}
				mu.Unlock()
				d := h.deletion(time.Duration(random.IntN(100)) * time.Minute)
				var err error
				switch what := random.IntN(40); {
				case what < 12:
					a := h.file(fmt.Sprint(i % 3))
					err = keep(s, a)
					if err == nil {
						space := ""
						if what < 3 {
							space = h.product.Space
						}
						err = unless(errors.Join(s.CreateAttachment(ctx, a, nil, space), s.Unhold(ctx, []blobs.Ref{a.SHA256})), store.ErrQuota, store.ErrNotFound)
					}
					mu.Lock()
					lists[which] = append(lists[which], a.ID)
					mu.Unlock()
				case what < 18:
					_, err = s.TrashAttachment(ctx, id, d)
				case what < 24:
					_, err = s.RestoreAttachment(ctx, id)
				case what < 26:
					_, err = s.PurgeAttachment(ctx, id)
				case what < 27:
					_, err = s.DeleteAttachment(ctx, id)
				case what < 29:
					err = s.TrashEntity(ctx, h.product.Parent, true, d)
				case what < 31:
					_, err = s.RestoreEntity(ctx, h.product.Parent)
				case what < 32:
					err = s.PurgeEntity(ctx, h.product.Parent)
				case what < 33:
					err = s.TrashSpace(ctx, h.product.Space, true, d)
				case what < 35:
					_, err = s.RestoreSpace(ctx, h.product.Space)
				case what < 36:
					_, err = s.Put(ctx, h.product)
				case what < 37:
					space := store.Space{Slug: h.product.Space}
					if which == 0 {
						space.QuotaFiles = 12
					}
					_, err = s.Put(ctx, space, h.product)
				case what < 38:
					_, _, _, err = s.PurgeUntil(ctx, monday.Add(time.Duration(60+random.IntN(100))*time.Minute), time.Time{}, 3)
				case what < 39:
					on := []store.Held{{Attachment: id}, {Parent: h.product.Parent}, {Space: h.product.Space}}[random.IntN(3)]
					hold := store.Hold{ID: uuid.Must(uuid.NewV7()), On: on, Reason: "case 4711", ByID: h.ada.ID}
					if _, err = s.SetHold(ctx, hold); err == nil {
						var there error
						if on.Attachment != uuid.Nil {
							_, there = s.Attachment(ctx, id)
						}
						if there != nil {
							t.Errorf("what is held is gone: %v", there)
						}
						_, err = s.LiftHold(ctx, hold.ID)
					}
				default:
					_, _, err = s.Remove(ctx)
				}
				if err = unless(err, store.ErrQuota, store.ErrNotFound, store.ErrConflict, store.ErrHeld); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	removeAll(t, all[0])
	whole(t, all[1])
	if _, _, more, err := all[1].PurgeUntil(t.Context(), monday.Add(240*time.Hour), time.Time{}, 100_000); err != nil || more {
		t.Errorf("after all was purged, more is %v: %v", more, err)
	}
	removeAll(t, all[1])
	if size, earliest, err := all[0].TrashSize(t.Context()); err != nil || size != (store.Usage{}) || !earliest.IsZero() {
		t.Errorf("after all was purged, there are %v until %v: %v", size, earliest, err)
	}
	whole(t, all[0])
}

// Of many that restore at once beside uploads, as many succeed as there is room for.
func TestAQuotaIsExactHoweverManyAreRestored(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2)
	h := fill(t, all[0], store.Space{Slug: "a", QuotaFiles: 20})
	var trash []store.Attachment
	for i := range 20 {
		a := h.file(fmt.Sprint(i % 3))
		if err := upload(all[0], a); err != nil {
			t.Fatal(err)
		}
		trash = append(trash, a)
	}
	for _, a := range trash {
		if _, err := all[1].TrashAttachment(t.Context(), a.ID, h.deletion(0)); err != nil {
			t.Fatal(err)
		}
	}
	other := h.product
	other.ID = uuid.New()
	if _, err := all[0].Put(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		a := h.file("below")
		a.Parent = other.Parent
		if err := upload(all[0], a); err != nil {
			t.Fatal(err)
		}
	}
	if err := all[0].TrashEntity(t.Context(), other.Parent, true, h.deletion(0)); err != nil {
		t.Fatal(err)
	}
	var back, whole8 atomic.Int64
	var clients sync.WaitGroup
	for i, a := range trash {
		for range 2 {
			clients.Go(func() {
				_, err := all[i%2].RestoreAttachment(t.Context(), a.ID)
				if err == nil {
					back.Add(1)
				} else if unless(err, store.ErrQuota, store.ErrNotFound) != nil {
					t.Error(err)
				}
			})
		}
		clients.Go(func() {
			err := upload(all[i%2], h.file("new"))
			if err == nil {
				back.Add(1)
			} else if unless(err, store.ErrQuota) != nil {
				t.Error(err)
			}
		})
	}
	clients.Go(func() {
		_, err := all[1].RestoreEntity(t.Context(), other.Parent)
		if err == nil {
			whole8.Add(8)
		} else if unless(err, store.ErrQuota) != nil {
			t.Error(err)
		}
	})
	clients.Wait()
	if used := usage(t, all[0], "a"); used.Files != 20 || back.Load()+whole8.Load() != 20 {
		t.Errorf("%d came or came back, and %d with their product; counted are %v", back.Load(), whole8.Load(), used)
	}
	whole(t, all[0])
}

// twoAtOnce begins two calls while another transaction holds what both want, the second once the
// first waits, and lets them go on.
func twoAtOnce(h *holder, first, second func()) {
	h.t.Helper()
	one, two := make(chan struct{}), make(chan struct{})
	go func() { defer close(one); first() }()
	h.waitFor(1, one)
	go func() { defer close(two); second() }()
	h.waitFor(2, two)
	h.letGo()
	<-one
	<-two
}

// What two calls do at once to the same thing in the trash is what one does after the other.
func TestTwoCallsForTheSameThingInTheTrash(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	all := [2]*postgres.Store{openAt(t, dsn), openAt(t, dsn)}
	h := fill(t, all[0], store.Space{Slug: "a", QuotaFiles: 100})
	ctx := t.Context()
	restore := func(id uuid.UUID) func(*postgres.Store) error {
		return func(s *postgres.Store) error { _, err := s.RestoreAttachment(ctx, id); return err }
	}
	for _, try := range []struct {
		name          string
		first, second func(a store.Attachment) func(*postgres.Store) error
		left          int // of the attachment where it was
	}{
		{"restore and restore", func(a store.Attachment) func(*postgres.Store) error { return restore(a.ID) },
			func(a store.Attachment) func(*postgres.Store) error { return restore(a.ID) }, 1},
		{"restore and purge", func(a store.Attachment) func(*postgres.Store) error { return restore(a.ID) },
			func(a store.Attachment) func(*postgres.Store) error {
				return func(s *postgres.Store) error { _, err := s.PurgeAttachment(ctx, a.ID); return err }
			}, 1},
		{"purge and restore", func(a store.Attachment) func(*postgres.Store) error {
			return func(s *postgres.Store) error { _, err := s.PurgeAttachment(ctx, a.ID); return err }
		}, func(a store.Attachment) func(*postgres.Store) error { return restore(a.ID) }, 0},
	} {
		a := h.file(try.name)
		ok(t, upload(all[0], a))
		_, err := all[0].TrashAttachment(ctx, a.ID, h.deletion(0))
		ok(t, err)
		row := holding(t, dsn, `select from attachd.trash where id = $1 for update`, a.ID)
		var failed [2]error
		first, second := try.first(a), try.second(a)
		twoAtOnce(row, func() { failed[0] = first(all[0]) }, func() { failed[1] = second(all[1]) })
		if failed[0] != nil || !errors.Is(failed[1], store.ErrNotFound) {
			t.Errorf("%s: the first one fails with %v, the second with %v", try.name, failed[0], failed[1])
		}
		if list, err := all[1].AttachmentsOf(ctx, a.Parent, uuid.Nil, 10); err != nil || len(list) != try.left {
			t.Errorf("%s: then there are %v, %v", try.name, list, err)
		}
		if _, err := all[0].DeleteAttachment(ctx, a.ID); unless(err, store.ErrNotFound) != nil {
			t.Error(err)
		}
		whole(t, all[1])
	}
}

// An upload or a restore that has found the parent is in the trash with it, and comes back.
func TestWhatComesMeanwhileGoesToTheTrashWithItsParent(t *testing.T) {
	t.Parallel()
	for name, comes := range map[string]func(s *postgres.Store, h house, a store.Attachment) (come func() error){
		"an upload": func(s *postgres.Store, _ house, a store.Attachment) func() error {
			return func() error { return upload(s, a) }
		},
		"a restore": func(s *postgres.Store, h house, a store.Attachment) func() error {
			err := upload(s, a)
			if err == nil {
				_, err = s.TrashAttachment(context.Background(), a.ID, h.deletion(0))
			}
			return func() error {
				_, failed := s.RestoreAttachment(context.Background(), a.ID)
				return errors.Join(err, failed)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := emptyDatabase(t)
			all := [2]*postgres.Store{openAt(t, dsn), openAt(t, dsn)}
			h := fill(t, all[0], store.Space{Slug: "a", QuotaFiles: 9})
			first, second := h.file("first"), h.file("second")
			ok(t, upload(all[0], first))
			come := comes(all[0], h, second)
			usageRow := holding(t, dsn, `select from attachd.usage where space = 'a' for update`)
			var came, went error
			twoAtOnce(usageRow, func() { came = come() }, func() { went = all[1].TrashEntity(t.Context(), h.product.Parent, true, h.deletion(0)) })
			ok(t, errors.Join(came, went))
			is, err := all[0].TrashedEntity(t.Context(), h.product.Parent)
			ok(t, err)
			if is.Files != (store.Usage{Bytes: 20, Files: 2}) || usage(t, all[0], "a") != (store.Usage{}) {
				t.Errorf("in the trash are %v, in the space %v", is.Files, usage(t, all[0], "a"))
			}
			_, err = all[1].RestoreEntity(t.Context(), h.product.Parent)
			ok(t, err)
			list, err := all[0].AttachmentsOf(t.Context(), h.product.Parent, uuid.Nil, 10)
			ok(t, err)
			if !slices.Equal(list, []store.Attachment{first, second}) || usage(t, all[0], "a").Files != 2 {
				t.Errorf("back are %v; %v are counted", list, usage(t, all[0], "a"))
			}
			whole(t, all[0])
		})
	}
}

// A restore that waits for a Put of the parent anew finds what that has left of it, and the
// other way round.
func TestAParentIsRestoredOrPutAnew(t *testing.T) {
	t.Parallel()
	for name, putFirst := range map[string]bool{"put first": true, "restore first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := emptyDatabase(t)
			all := [2]*postgres.Store{openAt(t, dsn), openAt(t, dsn)}
			h := fill(t, all[0], store.Space{Slug: "a"})
			a := h.file("a")
			ok(t, upload(all[0], a))
			ok(t, all[0].TrashEntity(t.Context(), h.product.Parent, true, h.deletion(0)))
			row := holding(t, dsn, `select from attachd.removals where parent = $1 for update`, h.product.ID)
			var put, restored error
			do := []func(){func() { _, put = all[0].Put(t.Context(), h.product) }, func() { _, restored = all[1].RestoreEntity(t.Context(), h.product.Parent) }}
			if !putFirst {
				slices.Reverse(do)
			}
			twoAtOnce(row, do[0], do[1])
			list, err := all[0].AttachmentsOf(t.Context(), a.Parent, uuid.Nil, 10)
			ok(t, err)
			trash, err := all[1].TrashOf(t.Context(), a.Parent, uuid.Nil, 10)
			ok(t, err)
			if put != nil || unless(restored, store.ErrNotFound) != nil || (restored == nil) != (len(list) == 1) || len(list)+len(trash) != 1 {
				t.Errorf("the Put says %v and the restore %v; there are %v, in the trash %v", put, restored, list, trash)
			}
			if !putFirst && restored != nil {
				t.Errorf("the restore, which came first, says %v", restored)
			}
			whole(t, all[1])
		})
	}
}

// A purge that goes for the last record of a content while that is uploaded again leaves it.
func TestAPurgeAndAnUploadOfTheSameContent(t *testing.T) {
	t.Parallel()
	s := open(t)
	h := fill(t, s, store.Space{Slug: "a"})
	for i := range 20 {
		a, b := h.file(fmt.Sprint(i)), h.file(fmt.Sprint(i))
		ok(t, upload(s, a))
		_, err := s.TrashAttachment(t.Context(), a.ID, h.deletion(0))
		ok(t, err)
		var both sync.WaitGroup
		both.Go(func() {
			_, err := s.PurgeAttachment(t.Context(), a.ID)
			left, failed := s.Referenced(t.Context(), a.SHA256)
			if err == nil && failed == nil && !left {
				_, err = s.Release(t.Context(), a.SHA256)
			}
			if err := errors.Join(err, failed); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := upload(s, b); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if _, err := s.Place(t.Context(), b.SHA256); err != nil {
			t.Errorf("the content of an attachment that is there: %v", err)
		}
	}
	whole(t, s)
}

// What is in the trash keeps its content, whoever removes contents.
func TestAContentInTheTrashIsNotReleased(t *testing.T) {
	t.Parallel()
	s := open(t)
	h := fill(t, s, store.Space{Slug: "a"})
	a := h.file("a")
	ok(t, upload(s, a))
	_, err := s.TrashAttachment(t.Context(), a.ID, h.deletion(0))
	ok(t, err)
	was, err := s.Release(t.Context(), a.SHA256)
	if was || err != nil {
		t.Errorf("it was released: %v, %v", was, err)
	}
	if err := s.CreateAttachment(t.Context(), a, nil, ""); !errors.Is(err, store.ErrConflict) {
		t.Errorf("an upload with its id says %v", err)
	}
	_, err = s.PurgeAttachment(t.Context(), a.ID)
	ok(t, err)
	if was, err = s.Release(t.Context(), a.SHA256); !was || err != nil {
		t.Errorf("after the purge, it was released: %v, %v", was, err)
	}
}

// Whichever begins first, a hold or a deletion, and wherever the second one waits for it: either
// the deletion is refused, or the hold.
func TestAHoldAndADeletionAtOnce(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	// Whatever isolation a database has as its default: deletions look again.
	all := [2]*postgres.Store{openAt(t, dsn), openAt(t, with(t, dsn, func(u *url.URL) {
		q := u.Query()
		q.Set("default_transaction_isolation", "repeatable read")
		u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20") // as libpq reads it
	}))}
	h := fill(t, all[0], store.Space{Slug: "a"})
	ctx := t.Context()
	d := h.deletion(time.Hour)
	deletions := map[string]func(s *postgres.Store, a store.Attachment) error{
		"delete the attachment": func(s *postgres.Store, a store.Attachment) error { _, err := s.DeleteAttachment(ctx, a.ID); return err },
		"trash the attachment": func(s *postgres.Store, a store.Attachment) error {
			_, err := s.TrashAttachment(ctx, a.ID, d)
			return err
		},
		"trash the product": func(s *postgres.Store, a store.Attachment) error { return s.TrashEntity(ctx, a.Parent, true, d) },
		"trash the space":   func(s *postgres.Store, a store.Attachment) error { return s.TrashSpace(ctx, "a", true, d) },
	}
	for name, remove := range deletions {
		for what, on := range map[string]func(a store.Attachment) store.Held{
			"the attachment": func(a store.Attachment) store.Held { return store.Held{Attachment: a.ID} },
			"the product":    func(a store.Attachment) store.Held { return store.Held{Parent: a.Parent} },
			"the space":      func(store.Attachment) store.Held { return store.Held{Space: "a"} },
		} {
			for _, holdFirst := range []bool{true, false} {
				a := h.file("held")
				must(t, keep(all[0], a))
				must(t, all[0].CreateAttachment(ctx, a, nil, ""))
				hold := store.Hold{ID: uuid.Must(uuid.NewV7()), On: on(a), Reason: "case 4711", ByID: h.ada.ID}
				var held, removed error
				calls := []func(){
					func() { _, held = all[0].SetHold(ctx, hold) },
					func() { removed = remove(all[1], a) },
				}
				if !holdFirst {
					slices.Reverse(calls)
				}
				// Each waits for the row of the attachment, or for what comes before it.
				holder := holding(t, dsn, `select from attachd.attachments where id = $1 for update`, a.ID)
				twoAtOnce(holder, calls[0], calls[1])
				_, err := all[0].Attachment(ctx, a.ID)
				switch {
				case held == nil && errors.Is(removed, store.ErrHeld) && err == nil:
				case held == nil && removed == nil && what == "the space" && name != "trash the space": // the hold is on what is left
				case held == nil && removed == nil && what == "the product" && (name == "delete the attachment" || name == "trash the attachment"): // likewise
				case errors.Is(held, store.ErrNotFound) && removed == nil && errors.Is(err, store.ErrNotFound):
				default:
					t.Errorf("%s, and a hold on %s, which begins first: %v: the deletion: %v; the hold: %v; then: %v", name, what, holdFirst, removed, held, err)
				}
				whole(t, all[0])
				if held == nil {
					_, err := all[0].LiftHold(ctx, hold.ID)
					must(t, err)
				}
				must(t, restoreAll(ctx, all[0], h))
			}
		}
	}
}

// A hold that was answered while something was being removed from the trash for good has kept it.
func TestAHoldAndAPurgeAtOnce(t *testing.T) {
	t.Parallel()
	dsn := emptyDatabase(t)
	all := [2]*postgres.Store{openAt(t, dsn), openAt(t, dsn)}
	h := fill(t, all[0], store.Space{Slug: "a"})
	ctx := t.Context()
	d := h.deletion(time.Hour)
	for name, c := range map[string]struct {
		entity bool   // the product is in the trash, not the attachment
		locks  string // what both orders wait for
		purge  func(a store.Attachment) error
	}{
		"an attachment": {false, `select from attachd.trash where id = $1 for update`,
			func(a store.Attachment) error { _, err := all[1].PurgeAttachment(ctx, a.ID); return err }},
		"a product": {true, `select from attachd.removals where parent = (select parent from attachd.attachments where id = $1) for update`,
			func(a store.Attachment) error { return all[1].PurgeEntity(ctx, a.Parent) }},
		"what is due": {false, `select from attachd.contents where sha256 = (select sha256 from attachd.trash where id = $1) for update`,
			func(store.Attachment) error {
				_, purged, _, err := all[1].PurgeUntil(ctx, d.Until, time.Time{}, 10)
				if err == nil && purged.Files == 0 {
					err = store.ErrHeld
				}
				return err
			}},
	} {
		for _, holdFirst := range []bool{true, false} {
			a := h.file("held")
			must(t, upload(all[0], a))
			if c.entity {
				must(t, all[0].TrashEntity(ctx, a.Parent, true, d))
			} else {
				_, err := all[0].TrashAttachment(ctx, a.ID, d)
				must(t, err)
			}
			var held, purged error
			hold := store.Hold{ID: uuid.Must(uuid.NewV7()), On: store.Held{Space: "a"}, Reason: "case 4711", ByID: h.ada.ID}
			calls := []func(){func() { _, held = all[0].SetHold(ctx, hold) }, func() { purged = c.purge(a) }}
			if !holdFirst {
				slices.Reverse(calls)
			}
			holder := holding(t, dsn, c.locks, a.ID)
			one, two := make(chan struct{}), make(chan struct{})
			go func() { defer close(one); calls[0]() }()
			holder.waitFor(1, one)
			waiting := 2
			if isClosed(one) {
				waiting = 1
			}
			go func() { defer close(two); calls[1]() }()
			holder.waitFor(waiting, two)
			answered := holdFirst && isClosed(one) || !holdFirst && isClosed(two)
			holder.letGo()
			<-one
			<-two
			must(t, held)
			kept := errors.Is(purged, store.ErrHeld)
			if !kept {
				must(t, purged)
			}
			if answered && !kept {
				t.Errorf("%s was removed for good although the hold on its space was answered before; the hold began first: %v", name, holdFirst)
			}
			whole(t, all[0])
			_, err := all[0].LiftHold(ctx, hold.ID)
			must(t, err)
			must(t, restoreAll(ctx, all[0], h))
			_, err = all[0].Put(ctx, h.product)
			must(t, err)
			removeAll(t, all[0])
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A replica that knows no holds would delete what is held.
func TestNoHoldIsSetWhileAnOlderReplicaLives(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 2)
	h := fill(t, all[0], store.Space{Slug: "a"})
	set := func() error {
		_, err := all[0].SetHold(t.Context(), store.Hold{ID: uuid.Must(uuid.NewV7()), On: store.Held{Space: "a"}, Reason: "case 4711", ByID: h.ada.ID})
		return err
	}
	for _, s := range all {
		_, err := s.Beat(t.Context(), "v1", nil)
		must(t, err)
	}
	must(t, set())
	older := uuid.NewString()
	exec(`insert into attachd.replicas (id, version, started, seen, shares) values ($1, 'v0', now(), now(), '')`, older) // as programs did that know no holds
	if err := set(); !errors.Is(err, store.ErrConflict) {
		t.Errorf("beside an older replica: %v", err)
	}
	exec(`update attachd.replicas set seen = now() - interval '16 seconds' where id = $1`, older)
	must(t, set())
	exec(`update attachd.replicas set seen = now(), departed = true where id = $1`, older)
	must(t, set())
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// restoreAll brings back the space and the product of a house, if they are in the trash.
func restoreAll(ctx context.Context, s *postgres.Store, h house) error {
	_, err := s.RestoreSpace(ctx, h.product.Space)
	_, second := s.RestoreEntity(ctx, h.product.Parent)
	return errors.Join(unless(err, store.ErrNotFound), unless(second, store.ErrNotFound))
}
