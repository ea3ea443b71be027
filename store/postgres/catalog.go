package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/blobs"
	"attachd/store"
)

const (
	// placesAtOnce is how many places one query lists.
	placesAtOnce = 1000
	// claimedFor is how many seconds garbage is left to the process that has asked for it.
	claimedFor = 10
	// heldFor is how many seconds a settled upload holds its content whose process has ended
	// before it recorded the attachment.
	heldFor = 3600
	// soon has the commit of a statement wait for no disk: it is on stable storage with the
	// next change that waits. A crash before that takes it back with all that came after it.
	soon = `soon as (select set_config('synchronous_commit', 'off', true))`
)

// columns are objects as arrays, which statements unnest.
type columns struct{ refs, keys [][]byte }

func columnsOf(objects []blobs.Object) (c columns) {
	for _, o := range objects {
		c.add(o)
	}
	return c
}

func (c *columns) add(o blobs.Object) {
	c.refs, c.keys = append(c.refs, o.Ref[:]), append(c.keys, o.Key[:])
}

// Intend implements blobs.Catalog.
func (s *Store) Intend(ctx context.Context, objects []blobs.Object) error {
	c := columnsOf(objects)
	return s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(`with `+soon+`
				insert into attachd.uploads (sha256, key, begun)
				select o.sha256, o.key, now() from soon, unnest($1::bytea[], $2::bytea[]) as o (sha256, key) order by 1, 2`, c.refs, c.keys)
		})
		return int64(len(objects)), 0, err
	})
}

// settle makes uploads the places of their contents if all of them are intended. They are
// locked first, and contents in the order of their digests, so that two that settle many wait
// for each other at most. A row remembers the key that was replaced in it, since only the
// statement that replaces one knows it for certain.
const settle = `with ` + soon + `,
	intended as materialized (
		select u.sha256, u.key from attachd.uploads u join unnest($1::bytea[], $2::bytea[]) as o (sha256, key) using (sha256, key)
		where not u.settled order by 1, 2 for update of u),
	whole as (select count(*) = cardinality($1::bytea[]) as is_so from intended, soon),
	held as (
		update attachd.uploads u set settled = true, begun = now() from intended i, whole
		where is_so and u.sha256 = i.sha256 and u.key = i.key),
	put as (
		insert into attachd.contents as c (sha256, key, size, stored)
		select p.* from whole, unnest($3::bytea[], $4::bytea[], $5::bigint[], $6::timestamptz[]) as p (sha256, key, size, stored)
		where is_so order by 1
		on conflict (sha256) do update
		set replaced = c.key, key = excluded.key, size = excluded.size, stored = excluded.stored, damaged = false
		returning c.sha256, c.replaced),
	old as (
		insert into attachd.garbage (sha256, key, since)
		select sha256, replaced, now() from put where replaced is not null
		union all
		select o.sha256, o.key, now() from whole, unnest($7::bytea[], $8::bytea[]) as o (sha256, key) where is_so
		returning 1)
	select is_so, (select count(*) from old) from whole`

// Settle implements blobs.Catalog.
func (s *Store) Settle(ctx context.Context, places []blobs.Place) error {
	if len(places) == 0 {
		return nil
	}
	var given, last, older columns
	var sizes []int64
	var stored []time.Time
	inOrder := slices.Clone(places)
	slices.SortStableFunc(inOrder, func(a, b blobs.Place) int { return bytes.Compare(a.Ref[:], b.Ref[:]) })
	for i, p := range inOrder {
		given.add(p.Object)
		if i+1 < len(inOrder) && inOrder[i+1].Ref == p.Ref {
			older.add(p.Object)
			continue
		}
		last.add(p.Object)
		sizes, stored = append(sizes, p.Size), append(stored, p.Stored)
	}
	var whole bool
	err := s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(settle, given.refs, given.keys, last.refs, last.keys, sizes, stored, older.refs, older.keys).
				QueryRow(func(row pgx.Row) error { return row.Scan(&whole, &garbage) })
		})
		if whole {
			intended = -int64(len(places))
		}
		return intended, garbage, err
	})
	switch {
	case err != nil:
		return err
	case !whole:
		return fmt.Errorf("%w: one of %d", blobs.ErrAbandoned, len(places))
	}
	s.objects.settled(places)
	return nil
}

// Discard implements blobs.Catalog.
func (s *Store) Discard(ctx context.Context, objects []blobs.Object) error {
	c := columnsOf(objects)
	return s.giveUp(ctx, `
		select u.sha256, u.key from attachd.uploads u join unnest($1::bytea[], $2::bytea[]) as o (sha256, key) using (sha256, key)
		where not u.settled order by 1, 2 for update of u`, c.refs, c.keys)
}

// Abandon implements blobs.Catalog. It forgets the holds of that time, too.
func (s *Store) Abandon(ctx context.Context, before time.Time) error {
	return s.giveUp(ctx, `select sha256, key from attachd.uploads where begun < $1 order by 1, 2 for update skip locked`, before)
}

// giveUp makes uploads garbage that were not settled, and forgets the others.
func (s *Store) giveUp(ctx context.Context, which string, args ...any) error {
	return s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(`with
				due as materialized (`+which+`),
				gone as (
					delete from attachd.uploads u using due where u.sha256 = due.sha256 and u.key = due.key
					returning u.sha256, u.key, u.settled),
				old as (
					insert into attachd.garbage (sha256, key, since) select sha256, key, now() from gone where not settled
					returning 1)
				select count(*) from old`, args...).QueryRow(func(row pgx.Row) error { return row.Scan(&garbage) })
		})
		return -garbage, garbage, err
	})
}

// takeHold returns the key of the settled upload that the record of an attachment comes in
// place of, which is a row of attachd.uploads to be deleted with the same commit: until then
// nobody removes the content. It is nil when this process has kept none. Where the record is
// not committed, giveBack must be called.
func (s *Store) takeHold(ref blobs.Ref) (key []byte, giveBack func()) { return s.objects.take(ref) }

// Unhold implements blobs.Holder. It deletes the holds that came to nothing: those of
// attachments that were recorded have gone with that.
func (s *Store) Unhold(ctx context.Context, refs []blobs.Ref) error {
	left := columnsOf(s.objects.unhold(refs))
	if len(left.refs) == 0 {
		return nil
	}
	return s.atomic(ctx, func(b *pgx.Batch) {
		b.Queue(`with `+soon+`,
			gone as materialized (
				select u.sha256, u.key from attachd.uploads u join unnest($1::bytea[], $2::bytea[]) as o (sha256, key) using (sha256, key), soon
				where u.settled order by 1, 2 for update of u)
			delete from attachd.uploads u using gone where u.sha256 = gone.sha256 and u.key = gone.key`, left.refs, left.keys)
	})
}

// Now implements blobs.Clocked.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	err = s.row(ctx, `select clock_timestamp()`).Scan(&now)
	return now, err
}

const placeColumns = `sha256, key, size, stored, damaged`

func scanPlace(row pgx.CollectableRow) (p blobs.Place, err error) {
	var ref, key []byte
	var stored time.Time
	if err = row.Scan(&ref, &key, &p.Size, &stored, &p.Damaged); err != nil {
		return p, err
	}
	p.Stored = time.Unix(stored.Unix(), 0)
	p.Object, err = objectOf(ref, key)
	return p, err
}

func objectOf(ref, key []byte) (o blobs.Object, err error) {
	if len(ref) != len(o.Ref) || len(key) != len(o.Key) {
		return o, fmt.Errorf("%w: an object has a digest of %d bytes and a key of %d", store.ErrDamaged, len(ref), len(key))
	}
	return blobs.Object{Ref: blobs.Ref(ref), Key: blobs.Key(key)}, nil
}

// Place implements blobs.Catalog.
func (s *Store) Place(ctx context.Context, ref blobs.Ref) (blobs.Place, error) {
	found, err := rows(ctx, s, scanPlace, `select `+placeColumns+` from attachd.contents where sha256 = $1`, ref[:])
	switch {
	case err != nil:
		return blobs.Place{}, err
	case len(found) == 0:
		return blobs.Place{}, fmt.Errorf("%w: %s", blobs.ErrNotFound, ref)
	}
	return found[0], nil
}

// Places implements blobs.Catalog.
func (s *Store) Places(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Place, error] {
	return blobs.InPages(from, placesAtOnce, func(from []byte) ([]blobs.Place, error) {
		return rows(ctx, s, scanPlace, `select `+placeColumns+` from attachd.contents where sha256 >= $1 order by sha256 limit $2`, from, placesAtOnce)
	})
}

// Adopt implements blobs.Catalog. Another process may have done the same, and gone on from
// there: then the object is known, and stays what it is.
func (s *Store) Adopt(ctx context.Context, place blobs.Place) error {
	var done bool
	err := s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(lockContent, place.Ref[:])
			b.Queue(`with
				put as (
					update attachd.contents c set replaced = key, key = $2, size = $3, stored = $4, damaged = false
					where sha256 = $1 and key <> $2
						and not exists (select from attachd.uploads u where u.sha256 = $1 and u.key = $2)
						and not exists (select from attachd.garbage g where g.sha256 = $1 and g.key = $2)
					returning sha256, replaced),
				old as (insert into attachd.garbage (sha256, key, since) select sha256, replaced, now() from put returning 1)
				select count(*) from old`, place.Ref[:], place.Key[:], place.Size, place.Stored).
				QueryRow(func(row pgx.Row) error { return row.Scan(&garbage) })
		})
		done = garbage > 0
		return 0, garbage, err
	})
	if err == nil && done {
		s.objects.mark(place.Ref, false)
	}
	return err
}

// lockContent makes whoever records or settles the content wait, so that the next statement
// sees what they have done until now.
const lockContent = `select from attachd.contents where sha256 = $1 for update`

// Release implements blobs.Catalog. What a record names, or an upload holds, stays.
func (s *Store) Release(ctx context.Context, ref blobs.Ref) (was bool, err error) {
	err = s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(lockContent, ref[:])
			b.Queue(`with
				gone as (
					delete from attachd.contents where sha256 = $1
						and not exists (select from attachd.attachments a where a.sha256 = $1)
						and not exists (select from attachd.trash t where t.sha256 = $1)
						and not exists (select from attachd.uploads u where u.sha256 = $1 and u.settled and u.begun > now() - make_interval(secs => $2))
					returning sha256, key),
				sums as (delete from attachd.checksums where sha256 in (select sha256 from gone)),
				old as (insert into attachd.garbage (sha256, key, since) select sha256, key, now() from gone returning 1)
				select count(*) from old`, ref[:], float64(heldFor)).QueryRow(func(row pgx.Row) error { return row.Scan(&garbage) })
		})
		was = garbage > 0
		return 0, garbage, err
	})
	if err != nil {
		return false, err
	}
	if was {
		s.objects.mark(ref, false)
	}
	return was, nil
}

// Mark implements blobs.Catalog.
func (s *Store) Mark(ctx context.Context, object blobs.Object, damaged bool) error {
	var known, there bool
	err := s.atomic(ctx, func(b *pgx.Batch) {
		b.Queue(`with
			put as (update attachd.contents set damaged = $3 where sha256 = $1 and key = $2 returning 1)
			select exists (select from attachd.contents where sha256 = $1), exists (select from put)`, object.Ref[:], object.Key[:], damaged).
			QueryRow(func(row pgx.Row) error { return row.Scan(&known, &there) })
	})
	if err == nil && !known && !there {
		err = fmt.Errorf("%w: %s", blobs.ErrNotFound, object.Ref)
	}
	if err != nil || !there {
		return err
	}
	s.objects.mark(object.Ref, damaged)
	return nil
}

// Garbage implements blobs.Catalog. What it lists is left alone for some seconds by the other
// processes, which would delete it too. Its commit waits for the disk, and so for that of each
// earlier one: what is garbage here cannot be the place of a content again after a crash.
func (s *Store) Garbage(ctx context.Context, before time.Time, limit int) ([]blobs.Object, error) {
	type old struct {
		blobs.Object
		since time.Time
	}
	found, err := rows(ctx, s, func(row pgx.CollectableRow) (o old, err error) {
		var ref, key []byte
		if err = row.Scan(&ref, &key, &o.since); err == nil {
			o.Object, err = objectOf(ref, key)
		}
		return o, err
	}, `with due as materialized (
			select g.sha256, g.key from attachd.garbage g
			where g.since < $1 and (g.claimed_until is null or g.claimed_until < now() or g.claimed_by = $2)
				and not exists (select from attachd.contents c where c.sha256 = g.sha256 and c.key = g.key)
			order by g.since, g.sha256, g.key limit $3 for update skip locked)
		update attachd.garbage g set claimed_by = $2, claimed_until = now() + make_interval(secs => $4)
		from due where g.sha256 = due.sha256 and g.key = due.key
		returning g.sha256, g.key, g.since`, before, s.replica, limit, float64(claimedFor))
	slices.SortFunc(found, func(a, b old) int {
		return cmp.Or(a.since.Compare(b.since), bytes.Compare(a.Ref[:], b.Ref[:]), bytes.Compare(a.Key[:], b.Key[:]))
	})
	list := make([]blobs.Object, len(found))
	for i, o := range found {
		list[i] = o.Object
	}
	return list, err
}

// Forget implements blobs.Catalog.
func (s *Store) Forget(ctx context.Context, objects []blobs.Object) error {
	c := columnsOf(objects)
	return s.objects.counting(func() (intended, garbage int64, err error) {
		err = s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(`with
				due as materialized (
					select g.sha256, g.key from attachd.garbage g join unnest($1::bytea[], $2::bytea[]) as o (sha256, key) using (sha256, key)
					order by 1, 2 for update of g),
				gone as (delete from attachd.garbage g using due where g.sha256 = due.sha256 and g.key = due.key returning 1)
				select -count(*) from gone`, c.refs, c.keys).QueryRow(func(row pgx.Row) error { return row.Scan(&garbage) })
		})
		return 0, garbage, err
	})
}

// Knows implements blobs.Catalog.
func (s *Store) Knows(ctx context.Context, object blobs.Object) (known bool, err error) {
	err = s.row(ctx, `select
		exists (select from attachd.uploads where sha256 = $1 and key = $2 and not settled) or
		exists (select from attachd.contents where sha256 = $1 and key = $2) or
		exists (select from attachd.garbage where sha256 = $1 and key = $2)`, object.Ref[:], object.Key[:]).Scan(&known)
	return known, err
}

// Clear implements blobs.Catalog. It fails while a record names a content.
func (s *Store) Clear(ctx context.Context) error {
	err := s.atomic(ctx, func(b *pgx.Batch) {
		b.Queue(`delete from attachd.uploads`)
		b.Queue(`delete from attachd.contents`)
		b.Queue(`delete from attachd.garbage`)
	})
	return errors.Join(err, s.countObjects(ctx))
}

// HasObjects says whether any content is in an object.
func (s *Store) HasObjects(ctx context.Context) (has bool, err error) {
	err = s.row(ctx, `select exists (select from attachd.contents)`).Scan(&has)
	return has, err
}
