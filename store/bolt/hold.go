package bolt

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// keptBy lists where a hold keeps something from being deleted: on itself, on its parent, on
// its space.
func keptBy(on store.Held) []store.Held {
	all := []store.Held{{Space: on.Space}}
	if on.Parent != (store.Parent{}) {
		all = append(all, store.Held{Space: on.Space, Parent: on.Parent})
	}
	if on.Attachment != uuid.Nil {
		all = append(all, on)
	}
	return all
}

// refuseHeld refuses to delete what a hold is on, is in, or has below.
func refuseHeld(tx *dbfile.Tx, on store.Held) error {
	if tx.HasNone(schema.Held) {
		return nil
	}
	for _, above := range keptBy(on) {
		if tx.HasUnder(schema.Held, schema.HeldBy(above)) {
			return store.UnderHold(above)
		}
	}
	for rest := range tx.Under(schema.Held, schema.HeldBelow(on), nil) {
		below, err := schema.ParseHeld(schema.Join(schema.HeldBelow(on), rest))
		if err != nil {
			return err
		}
		return store.UnderHold(below.On)
	}
	return nil
}

// isHeld reports whether a hold keeps something in the trash, given by its key there.
func isHeld(tx *dbfile.Tx, key []byte) (bool, error) {
	if tx.HasNone(schema.Held) {
		return false, nil
	}
	var on store.Held
	if key[0] == schema.TrashesAttachment {
		t, err := trashedAt(tx, key)
		if err != nil {
			return false, err
		}
		on = heldAt(t.Space, t.Attachment)
	} else {
		t, err := loadTrashed(tx, key)
		if err == nil {
			on, err = heldObject(key, t.Space)
		}
		if err != nil {
			return false, err
		}
	}
	err := refuseHeld(tx, on)
	if errors.Is(err, store.ErrHeld) {
		return true, nil
	}
	return false, err
}

func heldAt(space string, a store.Attachment) store.Held {
	return store.Held{Space: space, Parent: a.Parent, Attachment: a.ID}
}

// heldObject is heldAt for a parent or space, given by the key of its removal.
func heldObject(key []byte, space string) (on store.Held, err error) {
	on.Space = space
	if key[0] == schema.RemovesParent {
		on.Parent, err = schema.ParseParent(key[1:])
	}
	return on, err
}

// SetHold implements store.Holds.
func (b *Store) SetHold(ctx context.Context, h store.Hold) (store.Hold, error) {
	set := h
	err := b.changeDirectory(ctx, func(tx *writeTx) (err error) {
		if set.On, err = b.toHold(tx, h.On); err != nil {
			return err
		}
		if h.ByID != uuid.Nil {
			if err := records.NeedUser(tx.Tx, h.ByID); err != nil {
				return err
			}
		}
		if tx.Has(schema.Holds, h.ID[:]) {
			return store.HoldTaken(h.ID)
		}
		n := 0
		for range tx.Under(schema.Held, schema.HeldBy(set.On), nil) {
			if n++; n >= store.MaxHolds {
				return store.TooManyHolds()
			}
		}
		if set.By, err = make(userNames).of(tx.Tx, &b.users, h.ByID); err != nil {
			return err
		}
		tx.save(schema.Holds, h.ID[:], schema.NewHoldRecord(set))
		tx.Put(schema.Held, set.Place(), schema.Nothing)
		return nil
	})
	if err != nil {
		return store.Hold{}, err
	}
	return set, nil
}

// toHold fills in where something is that a hold is to be on, or refuses what is not there.
func (b *Store) toHold(tx *writeTx, on store.Held) (store.Held, error) {
	if on.Attachment != uuid.Nil {
		a, space, err := b.doomed(tx, on.Attachment)
		return heldAt(space, a), err
	}
	if on.Parent != (store.Parent{}) {
		e, err := b.visibleEntity(tx.Tx, on.Parent)
		return store.Held{Space: e.Space, Parent: e.Parent}, err
	}
	return store.Held{Space: on.Space}, records.NeedSpace(tx.Tx, on.Space)
}

// Hold implements store.Holds.
func (b *Store) Hold(ctx context.Context, id uuid.UUID) (h store.Hold, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		h, err = b.hold(tx, make(userNames), id)
		return err
	})
	return h, err
}

func (b *Store) hold(tx *dbfile.Tx, names userNames, id uuid.UUID) (h store.Hold, err error) {
	record, err := dbfile.Load[schema.HoldRecord](tx, schema.Holds, id[:])
	if err == nil && record == nil {
		err = store.NoHold(id)
	}
	if err != nil {
		return h, err
	}
	h = record.Hold(id)
	h.By, err = names.of(tx, &b.users, h.ByID)
	return h, err
}

// Holds implements store.Holds.
func (b *Store) Holds(ctx context.Context, space string, after []byte, limit int) (list []store.Hold, err error) {
	var prefix []byte
	if space != "" {
		if !store.ValidSlug(space) { // anything else is no prefix
			return nil, ctx.Err()
		}
		prefix = schema.Slug0(space)
	}
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if tx.HasNone(schema.Held) {
			return nil
		}
		names := make(userNames)
		var behind []byte
		if len(after) >= len(prefix) {
			behind = after[len(prefix):]
		}
		for rest := range tx.Under(schema.Held, prefix, behind) {
			if len(list) >= limit {
				return nil
			}
			at, err := schema.ParseHeld(schema.Join(prefix, rest))
			if err != nil {
				return err
			}
			h, err := b.hold(tx, names, at.ID)
			if err != nil {
				return err
			}
			list = append(list, h)
		}
		return nil
	})
	return list, err
}

// LiftHold implements store.Holds.
func (b *Store) LiftHold(ctx context.Context, id uuid.UUID) (h store.Hold, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		if h, err = b.hold(tx.Tx, make(userNames), id); err != nil {
			return err
		}
		tx.Delete(schema.Holds, id[:])
		tx.Delete(schema.Held, h.Place())
		return nil
	})
	return h, err
}

// HeldInTrash implements store.Holds. The key of a hold on a space comes before those in it.
func (b *Store) HeldInTrash(ctx context.Context) (sum store.Usage, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		if tx.HasNone(schema.Held) || tx.HasNone(schema.TrashSpaces) {
			return nil
		}
		var counted store.Held
		for key := range tx.Under(schema.Held, nil, nil) {
			h, err := schema.ParseHeld(key)
			if err != nil {
				return err
			}
			within := store.Held{Space: h.On.Space}
			if h.On.Attachment != uuid.Nil || h.On == counted || within == counted {
				continue
			}
			counted = h.On
			if sum, err = addTrash(tx, sum, h.On); err != nil {
				return err
			}
		}
		return nil
	})
	return sum, err
}

// addTrash adds what is in the trash of a space or of a parent in it.
func addTrash(tx *dbfile.Tx, sum store.Usage, on store.Held) (store.Usage, error) {
	if on.Parent != (store.Parent{}) {
		for t, err := range trashOf(tx, on.Parent, on.Space, nil) {
			if err != nil {
				return sum, err
			}
			sum = sum.Plus(t.Usage())
		}
		return sum, nil
	}
	for place := range tx.Under(schema.TrashSpaces, schema.Slug0(on.Space), nil) {
		if len(place) < 8+2 {
			return sum, schema.ErrKey
		}
		key := place[8:]
		if key[0] == schema.TrashesAttachment {
			t, err := trashedAt(tx, key)
			if err != nil {
				return sum, err
			}
			sum = sum.Plus(t.Usage())
			continue
		}
		t, err := loadTrashed(tx, key)
		if err != nil {
			return sum, err
		}
		sum = sum.Plus(t.Files)
	}
	return sum, nil
}
