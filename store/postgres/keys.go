package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// errNoKeyID refuses a key that no list could begin after.
var errNoKeyID = errors.New("store: a key without an id")

// nanos is the part of a time that a timestamptz has no room for. It is in a column of its
// own, so that a time is read as it was written.
func nanos(t time.Time) int16 { return int16(t.Nanosecond() % int(time.Microsecond)) }

// exactly is the time of a timestamptz and its nanoseconds.
func exactly(t *time.Time, nanos int16) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Add(time.Duration(nanos)).UTC()
}

// lockUser locks the row of a user, so that changes of what that user has are made one by
// one, whichever process makes them.
func (tx *change) lockUser(id uuid.UUID) error {
	err := tx.get(`select from attachd.users where id = $1 and not deleted for no key update`, id).Scan()
	if errors.Is(err, pgx.ErrNoRows) {
		return store.NoUser(id)
	}
	return err
}

// CreateKey implements store.Keys.
func (s *Store) CreateKey(ctx context.Context, k store.Key) error {
	if k.ID == uuid.Nil {
		return errNoKeyID
	}
	return s.change(ctx, func(tx *change) error {
		if err := tx.lockUser(k.UserID); err != nil {
			return err
		}
		var taken bool
		if err := tx.get(`select exists (select from attachd.keys where id = $1 or hash = $2)`, k.ID, k.Hash[:]).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return store.KeyTaken()
		}
		if err := tx.makeRoomForKey(k); err != nil {
			return err
		}
		var used *time.Time
		if !k.LastUsedAt.IsZero() {
			seconds := time.Unix(k.LastUsedAt.Unix(), 0)
			used = &seconds
		}
		n, err := tx.affected(`insert into attachd.keys (id, user_id, name, prefix, hash, created_at, created_ns, expires_at, expires_ns, used_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing`,
			k.ID, k.UserID, k.Name, k.Prefix, k.Hash[:], k.CreatedAt, nanos(k.CreatedAt), timeOrNull(k.ExpiresAt), nanos(k.ExpiresAt), used)
		if err == nil && n == 0 { // another user was given it meanwhile
			err = store.KeyTaken()
		}
		return err
	})
}

// makeRoomForKey deletes the key of a user that expired first, when the user has MaxKeys
// already. It deletes no more than that one, since the clock may be wrong.
func (tx *change) makeRoomForKey(k store.Key) error {
	var n int
	if err := tx.get(`select count(*) from attachd.keys where user_id = $1`, k.UserID).Scan(&n); err != nil || n < store.MaxKeys {
		return err
	}
	gone, err := tx.affected(`delete from attachd.keys where id in (
		select id from attachd.keys where user_id = $1 and (expires_at, expires_ns) <= ($2::timestamptz, $3::smallint)
		order by expires_at, expires_ns, id limit 1)`, k.UserID, k.CreatedAt, nanos(k.CreatedAt))
	if err == nil && gone == 0 {
		err = store.TooManyKeys(n)
	}
	return err
}

// keyColumns are those that a keyRow scans.
const keyColumns = `k.id, k.user_id, k.name, k.prefix, k.hash, k.created_at, k.created_ns, k.expires_at, k.expires_ns, k.used_at`

// keyRow is a row of keys.
type keyRow struct {
	store.Key
	hash                   []byte
	created, expires, used *time.Time
	createdNS, expiresNS   int16
}

func (r *keyRow) into() []any {
	return []any{&r.ID, &r.UserID, &r.Name, &r.Prefix, &r.hash, &r.created, &r.createdNS, &r.expires, &r.expiresNS, &r.used}
}

// key is the key of a row that was scanned.
func (r *keyRow) key(s *Store) (store.Key, error) {
	if len(r.hash) != len(r.Hash) {
		return store.Key{}, fmt.Errorf("%w: the hash of key %s", store.ErrDamaged, r.ID)
	}
	r.Hash = [32]byte(r.hash)
	r.CreatedAt, r.ExpiresAt, r.LastUsedAt = exactly(r.created, r.createdNS), exactly(r.expires, r.expiresNS), timeOf(r.used)
	return s.touched.WithLastUse(r.Key), nil
}

// keyWhere reads a key and its user.
func (s *Store) keyWhere(ctx context.Context, condition string, arg any) (store.Key, store.User, error) {
	var r keyRow
	var u store.User
	err := s.row(ctx, `select `+keyColumns+`, u.full_name, u.superadmin, u.records_manager from attachd.keys k join attachd.users u on u.id = k.user_id
		where not u.deleted and `+condition, arg).Scan(append(r.into(), &u.FullName, &u.IsSuperadmin, &u.IsRecordsManager)...)
	if err != nil {
		return store.Key{}, store.User{}, err
	}
	k, err := r.key(s)
	u.ID = k.UserID
	return k, u, err
}

// Key implements store.Keys.
func (s *Store) Key(ctx context.Context, id uuid.UUID) (store.Key, store.User, error) {
	k, u, err := s.keyWhere(ctx, `k.id = $1`, id)
	if errors.Is(err, store.ErrNotFound) {
		err = store.NoKey(id)
	}
	return k, u, err
}

// KeyByHash implements store.Keys.
func (s *Store) KeyByHash(ctx context.Context, hash [32]byte) (store.Key, store.User, error) {
	return s.keyWhere(ctx, `k.hash = $1`, hash[:])
}

// KeysOf implements store.Keys.
func (s *Store) KeysOf(ctx context.Context, user uuid.UUID, after uuid.UUID, limit int) ([]store.Key, error) {
	return rows(ctx, s, func(row pgx.CollectableRow) (store.Key, error) {
		var r keyRow
		if err := row.Scan(r.into()...); err != nil {
			return store.Key{}, err
		}
		return r.key(s)
	}, `select `+keyColumns+` from attachd.keys k where k.user_id = $1 and k.id > $2 order by k.id limit $3`, user, after, max(limit, 0))
}

// DeleteKey implements store.Keys.
func (s *Store) DeleteKey(ctx context.Context, id uuid.UUID) error {
	return s.change(ctx, func(tx *change) error {
		n, err := tx.affected(`delete from attachd.keys where id = $1`, id)
		if err == nil && n == 0 {
			err = store.NoKey(id)
		}
		if err == nil {
			s.touched.Drop(id)
		}
		return err
	})
}

// TouchKey implements store.Keys.
func (s *Store) TouchKey(id uuid.UUID, at time.Time) { s.touched.Touch(id, at) }

// flushTouched stores the times when keys were used. Another process may have stored later
// ones, and a key may have been deleted.
func (s *Store) flushTouched(ctx context.Context) error {
	noted := s.touched.ToWrite()
	if len(noted) > 0 {
		var ids []uuid.UUID
		var times []time.Time
		for id, seconds := range noted {
			ids, times = append(ids, id), append(times, time.Unix(seconds, 0))
		}
		// The rows are locked in one order, so that two processes do not wait for each other.
		err := s.change(ctx, func(tx *change) error {
			tx.lastly(`with later as (
					select k.id, used.at from attachd.keys k join unnest($1::uuid[], $2::timestamptz[]) as used (id, at) on used.id = k.id
					where k.used_at is null or k.used_at < used.at order by k.id for no key update of k)
				update attachd.keys k set used_at = greatest(k.used_at, later.at) from later where k.id = later.id`, ids, times)
			return nil
		})
		if err != nil {
			return fmt.Errorf("write down when keys were used: %w", err)
		}
	}
	s.touched.Flushed(noted)
	return nil
}

// CreateSession implements store.Keys.
func (s *Store) CreateSession(ctx context.Context, session store.Session, now time.Time) error {
	return s.change(ctx, func(tx *change) error {
		var user uuid.UUID
		err := tx.get(`select k.user_id from attachd.keys k join attachd.users u on u.id = k.user_id where k.id = $1
			for no key update of u for key share of k`, session.KeyID).Scan(&user)
		if errors.Is(err, pgx.ErrNoRows) {
			return store.NoKey(session.KeyID)
		}
		if err != nil {
			return err
		}
		var taken bool
		if err := tx.get(`select exists (select from attachd.sessions where hash = $1)`, session.Hash[:]).Scan(&taken); err != nil {
			return err
		}
		if taken {
			return store.SessionTaken()
		}
		if err := tx.endSessions(user, now); err != nil {
			return err
		}
		n, err := tx.affected(`insert into attachd.sessions (hash, key, expires_at, expires_ns) values ($1, $2, $3, $4) on conflict do nothing`,
			session.Hash[:], session.KeyID, session.ExpiresAt, nanos(session.ExpiresAt))
		if err == nil && n == 0 {
			err = store.SessionTaken()
		}
		return err
	})
}

// maxExpired is how many sessions that have expired one change deletes at most.
const maxExpired = 10_000

// endSessions deletes the sessions that have expired, and those of a user that would expire
// first, so that there is room for one more. Those that are locked are being deleted.
func (tx *change) endSessions(user uuid.UUID, now time.Time) error {
	err := tx.exec(`delete from attachd.sessions where hash in (
		select hash from attachd.sessions where (expires_at, expires_ns) < ($1::timestamptz, $2::smallint)
		order by expires_at limit $3 for update skip locked)`, now, nanos(now), maxExpired)
	if err != nil {
		return err
	}
	return tx.exec(`delete from attachd.sessions where hash in (
		select s.hash from attachd.sessions s join attachd.keys k on k.id = s.key where k.user_id = $1
		order by s.expires_at desc, s.expires_ns desc, s.hash desc offset $2)`, user, store.MaxSessions-1)
}

// Session implements store.Keys.
func (s *Store) Session(ctx context.Context, hash [32]byte) (store.Session, error) {
	found := store.Session{Hash: hash}
	var expires *time.Time
	var expiresNS int16
	err := s.row(ctx, `select key, expires_at, expires_ns from attachd.sessions where hash = $1`, hash[:]).Scan(&found.KeyID, &expires, &expiresNS)
	if err != nil {
		return store.Session{}, err
	}
	found.ExpiresAt = exactly(expires, expiresNS)
	return found, nil
}

// DeleteSession implements store.Keys.
func (s *Store) DeleteSession(ctx context.Context, hash [32]byte) error {
	return s.change(ctx, func(tx *change) error {
		tx.lastly(`delete from attachd.sessions where hash = $1`, hash[:])
		return nil
	})
}
