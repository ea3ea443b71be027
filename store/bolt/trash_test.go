package bolt

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

var deletedAt = time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC)

// Whenever the power fails while a space goes to the trash, is put anew and its trash is
// purged, at the next start no attachment is lost before the purge, what was begun goes on,
// and none is left after it.
func TestTheTrashIsWholeAfterACrash(t *testing.T) {
	i := newImporting(t)
	objects := catalog(5)
	_, err := i.Put(t.Context(), objects...)
	slug, n := "", 0
	var last uuid.UUID
	for _, o := range objects {
		e, is := o.(store.Entity)
		if is && slug == "" {
			slug = e.Space
		}
		for range 3 {
			if is && e.Space == slug {
				last = uuid.Must(uuid.NewV7())
				n++
				err = errors.Join(err, i.CreateAttachment(t.Context(), store.Attachment{ID: last, Parent: e.Parent, UploaderID: objects[0].(store.User).ID, Size: 3, SHA256: sha256.Sum256(last[:])}, nil, ""))
			}
		}
	}
	if err := errors.Join(err, i.commitLog(t.Context())); err != nil {
		t.Fatal(err)
	}
	i.crashes = []string{i.copy(t)}
	d := store.Deletion{At: deletedAt, Until: deletedAt.AddDate(0, 0, 7), ByID: objects[0].(store.User).ID}
	_, err = i.TrashAttachment(t.Context(), last, d)
	err = errors.Join(err, i.TrashSpace(store.WithOutbox(t.Context(), tellingOrigin), slug, true, d))
	if err == nil {
		_, err = i.Put(t.Context(), store.Space{Slug: slug, Name: "anew"})
	}
	if err != nil {
		t.Fatal(err)
	}
	untilPurge := len(i.crashes)
	i.emptyTrash(t)
	if untilPurge < 8 || len(i.crashes) < untilPurge+3 {
		t.Errorf("%d crashes, the first %d before the purge", len(i.crashes), untilPurge)
	}
	for c, path := range i.crashes {
		if faults := faultsOfCopy(t, path); len(faults) > 0 {
			t.Errorf("crash %d: before it is gone on with: %v", c, faults)
		}
		b := OpenAt(t, path)
		b.removeAll(t)
		list, err := b.AllAttachments(t.Context(), uuid.Nil, 1000)
		if err != nil || c < untilPurge && len(list) != n {
			t.Errorf("crash %d: %d of %d attachments, %v", c, len(list), n, err)
		}
		b.emptyTrash(t)
		size, earliest, err := b.TrashSize(t.Context())
		if err != nil || size != (store.Usage{}) || !earliest.IsZero() {
			t.Errorf("crash %d: %+v is left in the trash until %v, %v", c, size, earliest, err)
		}
	}
}

// emptyTrash removes all that is in the trash for good.
func (b *Store) emptyTrash(t *testing.T) {
	t.Helper()
	for more := true; more; {
		var err error
		if _, _, more, err = b.PurgeUntil(t.Context(), deletedAt.AddDate(1, 0, 0), time.Time{}, 1000); err != nil {
			t.Fatal(err)
		}
	}
	b.removeAll(t)
}

// However much is in the trash, what removes what is due does not read the rest: here the
// records of the rest cannot be read.
func TestWhatIsNotDueInTheTrashIsNotRead(t *testing.T) {
	b := OpenTemp(t)
	file := house(t, b)
	a := file([]byte("due"))
	if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
		t.Fatal(err)
	}
	d := store.Deletion{At: deletedAt, Until: deletedAt.AddDate(0, 0, 7), ByID: a.UploaderID}
	if _, err := b.TrashAttachment(t.Context(), a.ID, d); err != nil {
		t.Fatal(err)
	}
	spoil := func(spoiled bool) {
		err := b.updateAlone(t.Context(), func(tx *writeTx) error {
			for n := range 3 {
				key := schema.SpaceRemoval(fmt.Sprint("resting-", n))
				if spoiled {
					tx.Put(schema.TrashObjects, key, []byte("{"))
					tx.Put(schema.TrashUntil, schema.UntilKey(d.Until.Add(time.Second), key), schema.Nothing)
				} else {
					tx.Delete(schema.TrashObjects, key)
					tx.Delete(schema.TrashUntil, schema.UntilKey(d.Until.Add(time.Second), key))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	spoil(true)
	if _, more, err := b.Remove(t.Context()); err != nil || more {
		t.Errorf("there is something to remove: %v, %v", more, err)
	}
	_, purged, more, err := b.PurgeUntil(t.Context(), d.Until, time.Time{}, 10)
	if err != nil || more || purged != a.Usage() {
		t.Errorf("purged %+v, more: %v, %v", purged, more, err)
	}
	if _, _, _, err := b.PurgeUntil(t.Context(), d.Until.Add(time.Second), time.Time{}, 10); err == nil {
		t.Error("the rest can be read: this shows nothing")
	}
	spoil(false)
}

// What is due is looked for before the transaction that removes it: a hold may be set in
// between, or lifted, and what is due restored.
func TestWhatIsDueIsLookedAtAgain(t *testing.T) {
	i := newImporting(t)
	ada := store.User{ID: uuid.New(), FullName: "Ada"}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a"}
	d := store.Deletion{At: deletedAt, Until: deletedAt.AddDate(0, 0, 7), ByID: ada.ID}
	_, err := i.Put(t.Context(), ada, store.Space{Slug: "a"}, product)
	var list [3]store.Attachment
	for n := range list {
		id := uuid.Must(uuid.NewV7())
		list[n] = store.Attachment{ID: id, Parent: product.Parent, UploaderID: ada.ID, Size: 3, SHA256: sha256.Sum256(id[:])}
		err = errors.Join(err, i.CreateAttachment(t.Context(), list[n], nil, ""))
		if err == nil {
			_, err = i.TrashAttachment(t.Context(), list[n].ID, d)
		}
	}
	find := func() (due, held [][]byte) {
		t.Helper()
		err := i.file.View(func(tx *dbfile.Tx) (err error) {
			due, held, _, err = dueUntil(t.Context(), tx, d.Until, true, 10)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return due, held
	}
	purge := func(due [][]byte) (purged store.Usage) {
		t.Helper()
		err := i.updateAlone(t.Context(), func(tx *writeTx) (err error) {
			_, purged, err = tx.purgeDue(due)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return purged
	}
	if err != nil {
		t.Fatal(err)
	}
	due, _ := find()
	hold, err := i.SetHold(t.Context(), store.Hold{ID: uuid.Must(uuid.NewV7()), On: store.Held{Space: "a"}, Reason: "case 4711", ByID: ada.ID})
	if err != nil {
		t.Fatal(err)
	}
	if purged := purge(due); len(due) != 3 || purged.Files != 0 {
		t.Errorf("of %d, %d were removed for good under a hold", len(due), purged.Files)
	}
	_, held := find()
	if _, err := i.LiftHold(t.Context(), hold.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := i.RestoreAttachment(t.Context(), list[0].ID); err != nil {
		t.Fatal(err)
	}
	err = i.updateAlone(t.Context(), func(tx *writeTx) error {
		for _, entry := range held {
			if err := tx.staysUntil(entry, d.Until.AddDate(0, 0, 1)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if purged := purge(due); purged.Files != 0 { // they are not due any more
		t.Errorf("%d were removed before their time", purged.Files)
	}
	d.Until = d.Until.AddDate(0, 0, 1)
	due, _ = find()
	if purged := purge(due); purged.Files != 2 {
		t.Errorf("%d were removed in the end", purged.Files)
	}
	if a, err := i.Attachment(t.Context(), list[0].ID); err != nil {
		t.Errorf("what was restored is %v, %v", a, err)
	}
	if faults, err := i.Check(t.Context(), nil); err != nil || len(faults) > 0 {
		t.Errorf("faults: %v, %v", faults, err)
	}
}
