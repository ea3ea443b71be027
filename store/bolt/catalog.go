package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// placesAtOnce is how many places one transaction lists, or how many entries it deletes.
const placesAtOnce = 1000

// Catalog is a blobs.Catalog in the database of a Store.
type Catalog struct {
	*Store
	now func() time.Time

	mu                sync.Mutex
	marked            map[blobs.Ref]struct{}
	intended, garbage int64
}

var _ blobs.Catalog = (*Catalog)(nil)

// Catalog returns the catalog of the contents that the database's attachments have in an
// object store. Each has counters and marks of its own, which do not see what another one
// of the same Store changes later.
func (b *Store) Catalog(ctx context.Context) (*Catalog, error) {
	c := &Catalog{Store: b, now: time.Now, marked: map[blobs.Ref]struct{}{}}
	err := b.viewAll(ctx, func(tx *dbfile.Tx) error {
		c.intended, c.garbage = tx.Count(schema.Intents), tx.Count(schema.Garbage)
		for key := range tx.Under(schema.Marks, nil, nil) {
			c.marked[blobs.Ref(key)] = struct{}{}
		}
		return nil
	})
	return c, err
}

// update is Store.update for a change that has no entry in the audit log. It may be made for
// another change, such as an upload, whose entry the context has.
func (c *Catalog) update(ctx context.Context, apply func(*writeTx) error) error {
	return c.Store.update(store.WithEntry(ctx, nil), apply)
}

// updateSoon is Store.updateSoon as update is Store.update.
func (c *Catalog) updateSoon(ctx context.Context, apply func(*writeTx) error) error {
	return c.Store.updateSoon(store.WithEntry(ctx, nil), nil, apply)
}

// Intend implements blobs.Catalog.
func (c *Catalog) Intend(ctx context.Context, objects []blobs.Object) error {
	since := schema.EncodeSeconds(c.now().Unix())
	err := c.updateSoon(ctx, func(tx *writeTx) error {
		for _, o := range objects {
			tx.Put(schema.Intents, schema.ObjectKey(o), since)
		}
		return nil
	})
	return c.counted(err, len(objects), 0)
}

// counted counts what a change that succeeded has added.
func (c *Catalog) counted(err error, intended, garbage int) error {
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.intended += int64(intended)
		c.garbage += int64(garbage)
	}
	return err
}

// Settle implements blobs.Catalog.
func (c *Catalog) Settle(ctx context.Context, places []blobs.Place) error {
	since := schema.EncodeSeconds(c.now().Unix())
	var replaced int
	err := c.updateSoon(ctx, func(tx *writeTx) error {
		old := map[blobs.Ref]blobs.Object{}
		for _, p := range places {
			if !tx.Has(schema.Intents, schema.ObjectKey(p.Object)) {
				return fmt.Errorf("%w: %s of %s", blobs.ErrAbandoned, p.Key, p.Ref)
			}
			if err := placeOf(tx.Tx, p.Ref, func(was blobs.Place) { old[p.Ref] = was.Object }); err != nil {
				return err
			}
		}
		replaced = 0
		for _, p := range places {
			tx.Delete(schema.Intents, schema.ObjectKey(p.Object))
			if was, there := old[p.Ref]; there {
				tx.discard(was, since)
				replaced++
			}
			old[p.Ref] = p.Object
			tx.Put(schema.Places, p.Ref[:], schema.EncodePlace(p))
			tx.settled = append(tx.settled, p)
		}
		return nil
	})
	if err == nil {
		for _, p := range places {
			c.noteMark(p.Ref, false)
		}
	}
	return c.counted(err, -len(places), replaced)
}

// placeOf calls do with the place of a content, if it has one.
func placeOf(tx *dbfile.Tx, ref blobs.Ref, do func(blobs.Place)) error {
	value := tx.Get(schema.Places, ref[:])
	if value == nil {
		return nil
	}
	p, err := schema.DecodePlace(ref, value)
	if err != nil {
		return err
	}
	p.Damaged = tx.Has(schema.Marks, ref[:])
	do(p)
	return nil
}

// discard makes the place of a content garbage, and removes its mark.
func (tx *writeTx) discard(o blobs.Object, since []byte) {
	tx.discardObject(schema.ObjectKey(o), since)
	if tx.Has(schema.Marks, o.Ref[:]) {
		tx.Delete(schema.Marks, o.Ref[:])
	}
}

func (tx *writeTx) discardObject(object, since []byte) {
	tx.Put(schema.Garbage, schema.GarbageKey(since, object), schema.Nothing)
	tx.Put(schema.GarbageObject, object, since)
}

// noteMark notes for Marked what the database says of a content.
func (c *Catalog) noteMark(ref blobs.Ref, damaged bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if damaged {
		c.marked[ref] = struct{}{}
	} else {
		delete(c.marked, ref)
	}
}

// Discard implements blobs.Catalog.
func (c *Catalog) Discard(ctx context.Context, objects []blobs.Object) error {
	return c.discardIntents(ctx, func(*writeTx) ([]blobs.Object, error) { return objects, nil })
}

// Abandon implements blobs.Catalog.
func (c *Catalog) Abandon(ctx context.Context, before time.Time) error {
	return c.discardIntents(ctx, func(tx *writeTx) (list []blobs.Object, err error) {
		for key, value := range tx.Under(schema.Intents, nil, nil) {
			o, wrong := schema.ParseObject(key)
			since, old := schema.DecodeSeconds(value)
			if err = errors.Join(err, wrong, old); err == nil && since.Before(before) {
				list = append(list, o)
			}
		}
		return list, err
	})
}

// discardIntents makes those of some objects garbage that are intended.
func (c *Catalog) discardIntents(ctx context.Context, which func(*writeTx) ([]blobs.Object, error)) error {
	since := schema.EncodeSeconds(c.now().Unix())
	var n int
	err := c.update(ctx, func(tx *writeTx) error {
		n = 0
		objects, err := which(tx)
		if err != nil {
			return err
		}
		for _, o := range objects {
			key := schema.ObjectKey(o)
			if tx.Has(schema.Intents, key) {
				tx.Delete(schema.Intents, key)
				tx.discardObject(key, since)
				n++
			}
		}
		return nil
	})
	return c.counted(err, -n, n)
}

// Place implements blobs.Catalog.
func (c *Catalog) Place(ctx context.Context, ref blobs.Ref) (place blobs.Place, err error) {
	there := false
	look := func(u *unflushed) *blobs.Place {
		if p, is := u.places[ref]; is {
			return &p
		}
		return nil
	}
	err = viewWith(ctx, c.Store, look, func(tx *dbfile.Tx, ahead *blobs.Place) error {
		if there = ahead != nil; there {
			place = *ahead
			return nil
		}
		return placeOf(tx, ref, func(p blobs.Place) { place, there = p, true })
	})
	if err == nil && !there {
		err = fmt.Errorf("%w: %s", blobs.ErrNotFound, ref)
	}
	return place, err
}

// Places implements blobs.Catalog.
func (c *Catalog) Places(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Place, error] {
	return blobs.InPages(from, placesAtOnce, func(from []byte) ([]blobs.Place, error) { return c.somePlaces(ctx, from) })
}

func (c *Catalog) somePlaces(ctx context.Context, from []byte) (list []blobs.Place, err error) {
	err = c.viewAll(ctx, func(tx *dbfile.Tx) error {
		for _, e := range tx.FirstEntries(schema.Places, from, placesAtOnce) {
			if len(e.Key) != len(blobs.Ref{}) {
				return schema.ErrKey
			}
			p, err := schema.DecodePlace(blobs.Ref(e.Key), e.Value)
			if err != nil {
				return err
			}
			p.Damaged = tx.Has(schema.Marks, e.Key)
			list = append(list, p)
		}
		return nil
	})
	return list, err
}

// Adopt implements blobs.Catalog.
func (c *Catalog) Adopt(ctx context.Context, place blobs.Place) error {
	since := schema.EncodeSeconds(c.now().Unix())
	var replaced int
	err := c.update(ctx, func(tx *writeTx) error {
		replaced = 0
		key := schema.ObjectKey(place.Object)
		known := tx.Has(schema.Intents, key) || tx.Has(schema.GarbageObject, key)
		return placeOf(tx.Tx, place.Ref, func(was blobs.Place) {
			if known || was.Object == place.Object {
				return
			}
			replaced = 1
			tx.discard(was.Object, since)
			tx.Put(schema.Places, place.Ref[:], schema.EncodePlace(place))
		})
	})
	if err == nil && replaced > 0 {
		c.noteMark(place.Ref, false)
	}
	return c.counted(err, 0, replaced)
}

// Release implements blobs.Catalog.
func (c *Catalog) Release(ctx context.Context, ref blobs.Ref) (was bool, err error) {
	since := schema.EncodeSeconds(c.now().Unix())
	err = c.update(ctx, func(tx *writeTx) error {
		was = false
		return placeOf(tx.Tx, ref, func(p blobs.Place) {
			was = true
			tx.Delete(schema.Places, ref[:])
			tx.discard(p.Object, since)
		})
	})
	if err != nil || !was {
		return false, err
	}
	c.noteMark(ref, false)
	return true, c.counted(nil, 0, 1)
}

// Mark implements blobs.Catalog.
func (c *Catalog) Mark(ctx context.Context, object blobs.Object, damaged bool) error {
	var known, there bool
	err := c.update(ctx, func(tx *writeTx) error {
		known, there = false, false
		return placeOf(tx.Tx, object.Ref, func(p blobs.Place) {
			known, there = true, p.Key == object.Key
			switch {
			case there && damaged && !p.Damaged:
				tx.Put(schema.Marks, object.Ref[:], object.Key[:])
			case there && !damaged && p.Damaged:
				tx.Delete(schema.Marks, object.Ref[:])
			}
		})
	})
	if err == nil && !known {
		err = fmt.Errorf("%w: %s", blobs.ErrNotFound, object.Ref)
	}
	if err != nil || !there {
		return err
	}
	c.noteMark(object.Ref, damaged)
	return nil
}

// Marked implements blobs.Catalog.
func (c *Catalog) Marked() []blobs.Ref {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.marked))
}

// Damaged implements blobs.Catalog.
func (c *Catalog) Damaged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.marked)
}

// Garbage implements blobs.Catalog.
func (c *Catalog) Garbage(ctx context.Context, before time.Time, limit int) (list []blobs.Object, err error) {
	err = c.viewAll(ctx, func(tx *dbfile.Tx) error {
		for _, e := range tx.FirstEntries(schema.Garbage, nil, limit) {
			since, o, err := schema.ParseGarbage(e.Key)
			if err != nil {
				return err
			}
			if !since.Before(before) {
				return nil
			}
			list = append(list, o)
		}
		return nil
	})
	return list, err
}

// Forget implements blobs.Catalog.
func (c *Catalog) Forget(ctx context.Context, objects []blobs.Object) error {
	var n int
	err := c.update(ctx, func(tx *writeTx) error {
		n = 0
		for _, o := range objects {
			key := schema.ObjectKey(o)
			since := bytes.Clone(tx.Get(schema.GarbageObject, key))
			if since == nil {
				continue
			}
			tx.Delete(schema.GarbageObject, key)
			tx.Delete(schema.Garbage, schema.GarbageKey(since, key))
			n++
		}
		return nil
	})
	return c.counted(err, 0, -n)
}

// Knows implements blobs.Catalog.
func (c *Catalog) Knows(ctx context.Context, object blobs.Object) (known bool, err error) {
	err = c.viewAll(ctx, func(tx *dbfile.Tx) error {
		key := schema.ObjectKey(object)
		known = tx.Has(schema.Intents, key) || tx.Has(schema.GarbageObject, key)
		return placeOf(tx, object.Ref, func(p blobs.Place) { known = known || p.Key == object.Key })
	})
	return known, err
}

// Clear implements blobs.Catalog.
func (c *Catalog) Clear(ctx context.Context) error {
	err := c.ForgetObjects(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.intended, c.garbage, c.marked = 0, 0, map[blobs.Ref]struct{}{}
	}
	return err
}

// HasObjects reports whether any content is in an object.
func (b *Store) HasObjects(ctx context.Context) (has bool, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		has = !tx.HasNone(schema.Places)
		return nil
	})
	return has, err
}

// ForgetObjects empties the catalog of a database of which no Catalog is in use, in parts,
// so that other changes need not wait for all of it.
func (b *Store) ForgetObjects(ctx context.Context) error {
	for _, bucket := range [][]byte{schema.Marks, schema.Places, schema.Intents, schema.Garbage, schema.GarbageObject} {
		for more := true; more; {
			err := b.update(ctx, func(tx *writeTx) error {
				some := tx.FirstEntries(bucket, nil, placesAtOnce)
				for _, e := range some {
					tx.Delete(bucket, e.Key)
				}
				more = len(some) == placesAtOnce
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Waiting implements blobs.Catalog.
func (c *Catalog) Waiting() (intended, garbage int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.intended, c.garbage
}
