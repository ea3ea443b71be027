package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// CreateKey implements Keys.
func (b *Store) CreateKey(ctx context.Context, k store.Key) error {
	if k.ID == uuid.Nil {
		return errors.New("store: a key without an id")
	}
	err := b.update(ctx, b.createKey(k, func(*writeTx, uuid.UUID) error { return errFullOfKeys }))
	if errors.Is(err, errFullOfKeys) {
		err = b.updateAlone(ctx, b.createKey(k, b.removeKey))
	}
	return err
}

// errFullOfKeys makes a change run again alone, since it has to delete another key.
var errFullOfKeys = errors.New("another key has to make room")

func (b *Store) createKey(k store.Key, remove func(tx *writeTx, id uuid.UUID) error) func(tx *writeTx) error {
	return func(tx *writeTx) error {
		if err := records.NeedUser(tx.Tx, k.UserID); err != nil {
			return err
		}
		if tx.Has(schema.Keys, k.ID[:]) || tx.Has(schema.KeyHashes, k.Hash[:]) {
			return store.KeyTaken()
		}
		if err := makeRoomForKey(tx, k, remove); err != nil {
			return err
		}
		tx.save(schema.Keys, k.ID[:], schema.KeyRecord{
			UserID: k.UserID, Name: k.Name, Prefix: k.Prefix, Hash: k.Hash[:],
			CreatedAt: k.CreatedAt.UTC(), ExpiresAt: k.ExpiresAt.UTC(),
		})
		tx.Put(schema.KeyHashes, k.Hash[:], k.ID[:])
		tx.Put(schema.UserKeys, schema.Join(k.UserID[:], k.ID[:]), schema.Nothing)
		if !k.LastUsedAt.IsZero() {
			tx.Put(schema.Touched, k.ID[:], schema.EncodeSeconds(k.LastUsedAt.Unix()))
		}
		return nil
	}
}

// makeRoomForKey deletes the key of a user that expired first, when the user has
// MaxKeys already. It deletes no more than that one, since the clock may be wrong.
func makeRoomForKey(tx *writeTx, k store.Key, remove func(tx *writeTx, id uuid.UUID) error) error {
	keys := tx.RestsUnder(schema.UserKeys, k.UserID[:])
	if len(keys) < store.MaxKeys {
		return nil
	}
	var first uuid.UUID
	expired := k.CreatedAt
	for _, key := range keys {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		record, err := dbfile.Load[schema.KeyRecord](tx.Tx, schema.Keys, key)
		if err != nil {
			return err
		}
		if record != nil && !record.ExpiresAt.IsZero() && !record.ExpiresAt.After(expired) {
			first, expired = id, record.ExpiresAt
		}
	}
	if first == uuid.Nil {
		return store.TooManyKeys(len(keys))
	}
	return remove(tx, first)
}

// keyAndUser is a key with its user. The time of its last use is the stored one.
type keyAndUser struct {
	key  store.Key
	user store.User
}

// Key implements Keys.
func (b *Store) Key(ctx context.Context, id uuid.UUID) (store.Key, store.User, error) {
	found, err := latest(ctx, b, &b.keysByID, id, func(tx *dbfile.Tx) (keyAndUser, error) {
		return b.loadKeyAndUser(tx, id)
	})
	return b.touched.WithLastUse(found.key), found.user, err
}

// KeyByHash implements Keys.
func (b *Store) KeyByHash(ctx context.Context, hash [32]byte) (store.Key, store.User, error) {
	found, err := latest(ctx, b, &b.keysByHash, hash, func(tx *dbfile.Tx) (found keyAndUser, err error) {
		value := tx.Get(schema.KeyHashes, hash[:])
		if value == nil {
			return found, store.ErrNotFound
		}
		id, err := schema.ParseID(value)
		if err != nil {
			return found, err
		}
		return b.loadKeyAndUser(tx, id)
	})
	return b.touched.WithLastUse(found.key), found.user, err
}

func (b *Store) loadKeyAndUser(tx *dbfile.Tx, id uuid.UUID) (found keyAndUser, err error) {
	if found.key, err = b.loadKey(tx, id); err != nil {
		return keyAndUser{}, err
	}
	user, err := b.users.Load(tx, schema.Users, found.key.UserID[:])
	if err != nil {
		return keyAndUser{}, err
	}
	if user == nil || user.Deleted {
		return keyAndUser{}, fmt.Errorf("key %s belongs to a user who is not there", id)
	}
	found.user = user.User(found.key.UserID)
	return found, nil
}

// loadKey reads a key with the stored time of its last use: see backend.Touches.
func (b *Store) loadKey(tx *dbfile.Tx, id uuid.UUID) (store.Key, error) {
	record, err := b.keys.Load(tx, schema.Keys, id[:])
	if err != nil {
		return store.Key{}, err
	}
	if record == nil {
		return store.Key{}, store.NoKey(id)
	}
	k := store.Key{
		ID: id, UserID: record.UserID, Name: record.Name, Prefix: record.Prefix,
		CreatedAt: record.CreatedAt, ExpiresAt: record.ExpiresAt,
	}
	if copy(k.Hash[:], record.Hash) != len(record.Hash) || len(record.Hash) != len(k.Hash) {
		return store.Key{}, fmt.Errorf("damaged hash of key %s", id)
	}
	seconds, isWritten, err := records.Touched(tx, id)
	if isWritten {
		k.LastUsedAt = time.Unix(seconds, 0).UTC()
	}
	return k, err
}

// KeysOf implements Keys.
func (b *Store) KeysOf(ctx context.Context, user uuid.UUID, after uuid.UUID, limit int) (list []store.Key, err error) {
	err = b.viewAll(ctx, func(tx *dbfile.Tx) error {
		for rest := range tx.Under(schema.UserKeys, user[:], after[:]) {
			if len(list) >= limit {
				return nil
			}
			id, err := schema.ParseID(rest)
			if err != nil {
				return err
			}
			k, err := b.loadKey(tx, id)
			if err != nil {
				return fmt.Errorf("list keys of user %s: %s: %v", user, id, err)
			}
			list = append(list, b.touched.WithLastUse(k))
		}
		return nil
	})
	return list, err
}

// DeleteKey implements Keys.
func (b *Store) DeleteKey(ctx context.Context, id uuid.UUID) error {
	return b.updateAlone(ctx, func(tx *writeTx) error {
		return b.removeKey(tx, id)
	})
}

// removeKey deletes a key and its sessions.
func (b *Store) removeKey(tx *writeTx, id uuid.UUID) error {
	record, err := dbfile.Load[schema.KeyRecord](tx.Tx, schema.Keys, id[:])
	if err != nil {
		return err
	}
	if record == nil {
		return store.NoKey(id)
	}
	for _, hash := range tx.RestsUnder(schema.KeySessions, id[:]) {
		if err := tx.removeSession(hash); err != nil {
			return err
		}
	}
	tx.Delete(schema.Keys, id[:])
	tx.Delete(schema.KeyHashes, record.Hash)
	tx.Delete(schema.UserKeys, schema.Join(record.UserID[:], id[:]))
	tx.Delete(schema.Touched, id[:])
	b.touched.Drop(id)
	return nil
}

// TouchKey implements Keys.
func (b *Store) TouchKey(id uuid.UUID, at time.Time) { b.touched.Touch(id, at) }

// flushTouched stores the times when keys were used. Only the committer calls it.
func (cm *committer) flushTouched() error {
	noted := cm.store.touched.ToWrite()
	if len(noted) == 0 && cm.store.file.ReadOnly() {
		return nil
	}
	c := &change{alone: true, apply: func(tx *writeTx) error {
		for id, seconds := range noted {
			written, isWritten, err := records.Touched(tx.Tx, id)
			if err != nil {
				return err
			}
			// A key may have been deleted after its use was noted.
			if tx.Has(schema.Keys, id[:]) && (!isWritten || seconds > written) {
				tx.Put(schema.Touched, id[:], schema.EncodeSeconds(seconds))
			}
		}
		return nil
	}}
	if err := errors.Join(cm.transact([]*change{c}, nil, false), c.refusal); err != nil {
		return fmt.Errorf("write down when keys were used: %w", err)
	}
	cm.store.touched.Flushed(noted)
	return nil
}

// CreateSession implements Keys.
func (b *Store) CreateSession(ctx context.Context, s store.Session, now time.Time) error {
	return b.updateAlone(ctx, func(tx *writeTx) error {
		if !tx.Has(schema.Keys, s.KeyID[:]) {
			return store.NoKey(s.KeyID)
		}
		if tx.Has(schema.Sessions, s.Hash[:]) {
			return store.SessionTaken()
		}
		if err := tx.removeExpiredSessions(now); err != nil {
			return err
		}
		if err := tx.makeRoomForSession(s.KeyID); err != nil {
			return err
		}
		tx.save(schema.Sessions, s.Hash[:], schema.SessionRecord{KeyID: s.KeyID, ExpiresAt: s.ExpiresAt.UTC()})
		tx.Put(schema.KeySessions, schema.Join(s.KeyID[:], s.Hash[:]), schema.Nothing)
		tx.Put(schema.SessionExpiry, schema.Join(schema.TimeKey(s.ExpiresAt), s.Hash[:]), schema.Nothing)
		return nil
	})
}

// makeRoomForSession ends the session of a key's user that would expire first, when
// the user has MaxSessions already.
func (tx *writeTx) makeRoomForSession(key uuid.UUID) error {
	k, err := dbfile.Load[schema.KeyRecord](tx.Tx, schema.Keys, key[:])
	if err != nil || k == nil {
		return err
	}
	var hashes [][]byte
	for _, id := range tx.RestsUnder(schema.UserKeys, k.UserID[:]) {
		hashes = append(hashes, tx.RestsUnder(schema.KeySessions, id)...)
	}
	if len(hashes) < store.MaxSessions {
		return nil
	}
	var first []byte
	var expires time.Time
	for _, hash := range hashes {
		record, err := dbfile.Load[schema.SessionRecord](tx.Tx, schema.Sessions, hash)
		if err != nil {
			return err
		}
		if record != nil && (first == nil || record.ExpiresAt.Before(expires)) {
			first, expires = hash, record.ExpiresAt
		}
	}
	return tx.removeSession(first)
}

func (tx *writeTx) removeExpiredSessions(now time.Time) error {
	var expired [][]byte
	limit := schema.TimeKey(now)
	for key := range tx.Under(schema.SessionExpiry, nil, nil) {
		if bytes.Compare(key[:len(limit)], limit) >= 0 {
			break
		}
		expired = append(expired, bytes.Clone(key[len(limit):]))
	}
	for _, hash := range expired {
		if err := tx.removeSession(hash); err != nil {
			return err
		}
	}
	return nil
}

// Session implements Keys.
func (b *Store) Session(ctx context.Context, hash [32]byte) (s store.Session, err error) {
	err = b.viewCommitted(ctx, func(tx *dbfile.Tx) error {
		record, err := dbfile.Load[schema.SessionRecord](tx, schema.Sessions, hash[:])
		if err != nil {
			return err
		}
		if record == nil {
			return store.ErrNotFound
		}
		s = store.Session{Hash: hash, KeyID: record.KeyID, ExpiresAt: record.ExpiresAt}
		return nil
	})
	return s, err
}

// DeleteSession implements Keys.
func (b *Store) DeleteSession(ctx context.Context, hash [32]byte) error {
	return b.update(ctx, func(tx *writeTx) error {
		return tx.removeSession(hash[:])
	})
}

// removeSession deletes a session, which may not exist.
func (tx *writeTx) removeSession(hash []byte) error {
	record, err := dbfile.Load[schema.SessionRecord](tx.Tx, schema.Sessions, hash)
	if err != nil || record == nil {
		return err
	}
	tx.Delete(schema.Sessions, hash)
	tx.Delete(schema.KeySessions, schema.Join(record.KeyID[:], hash))
	tx.Delete(schema.SessionExpiry, schema.Join(schema.TimeKey(record.ExpiresAt), hash))
	return nil
}
