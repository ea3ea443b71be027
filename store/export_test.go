package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// OpenTemp opens a database of the test's own.
func OpenTemp(t testing.TB) *Bolt {
	t.Helper()
	return OpenAt(t, filepath.Join(t.TempDir(), "attachd.db"))
}

// OpenAt opens a database that is looked over when the test is done, and
// closed. One that the test has closed itself is not looked over.
func OpenAt(t testing.TB, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, BoltOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, fault := range b.faults() {
			t.Errorf("fault in the database: %v", fault)
		}
		if err := b.Close(); err != nil && !errors.Is(err, ErrUnavailable) {
			t.Errorf("close: %v", err)
		}
	})
	return b
}

// faults finds what does not fit together: in the pages, and among the
// buckets.
func (b *Bolt) faults() (faults []error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return nil
	}
	err := b.db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			faults = append(faults, err)
		}
		f := finder{Tx: tx}
		f.attachments()
		f.directory()
		f.keys()
		faults = append(faults, f.faults...)
		return nil
	})
	if err != nil {
		faults = append(faults, err)
	}
	return faults
}

type finder struct {
	*bbolt.Tx
	faults []error
}

func (f *finder) want(ok bool, format string, args ...any) {
	if !ok {
		f.faults = append(f.faults, fmt.Errorf(format, args...))
	}
}

// each runs through a bucket.
func (f *finder) each(bucket []byte, visit func(key, value []byte) error) {
	for key, value := range under(f.Tx, bucket, nil, nil) {
		if err := visit(key, value); err != nil {
			f.want(false, "bucket %s, key %x: %v", bucket, key, err)
		}
	}
}

// sameSize holds buckets that mirror each other to that.
func (f *finder) sameSize(buckets ...[]byte) {
	for _, bucket := range buckets {
		got, want := f.Bucket(bucket).Stats().KeyN, f.Bucket(buckets[0]).Stats().KeyN
		f.want(got == want, "%s has %d keys, %s %d", bucket, got, buckets[0], want)
	}
}

func (f *finder) attachments() {
	used := make(map[string]Usage)
	f.each(bucketAttachments, func(key, value []byte) error {
		p, err := parseParent(key[:17])
		if err != nil {
			return err
		}
		a, err := decodeRecord(p, uuid.UUID(key[17:]), value)
		if err != nil {
			return err
		}
		f.want(string(f.Bucket(bucketAttachmentIDs).Get(a.ID[:])) == string(p.key()), "attachment %s: lost by id", a.ID)
		f.want(has(f.Tx, bucketContents, join(a.SHA256[:], a.ID[:])), "attachment %s: content not referenced", a.ID)
		f.want(has(f.Tx, bucketUsers, a.UploaderID[:]), "attachment %s: uploader unknown", a.ID)
		f.want(checkComment(f.Tx, a) == nil, "attachment %s: comment unknown", a.ID)
		e, err := loadEntity(f.Tx, p)
		if err != nil {
			return err
		}
		u := used[e.Space]
		used[e.Space] = Usage{Bytes: u.Bytes + a.Size, Files: u.Files + 1}
		return nil
	})
	f.sameSize(bucketAttachments, bucketAttachmentIDs, bucketContents)
	f.each(bucketUsage, func(slug, value []byte) error {
		u, err := decodeUsage(value)
		f.want(u == used[string(slug)], "usage of %s is %v, should be %v", slug, u, used[string(slug)])
		f.want(has(f.Tx, bucketSpaces, slug), "usage of %s, which is not there", slug)
		delete(used, string(slug))
		return err
	})
	f.want(len(used) == 0, "usage not counted: %v", used)
}

func (f *finder) directory() {
	f.each(bucketMemberships, func(key, role []byte) error {
		user, slug := uuid.UUID(key[:16]), string(key[16:])
		f.want(string(f.Bucket(bucketMembers).Get(join(slug0(slug), user[:]))) == string(role), "member %s of %s is not among members", user, slug)
		f.want(has(f.Tx, bucketSpaces, []byte(slug)), "member of %s, which is not there", slug)
		return needUser(f.Tx, user)
	})
	f.sameSize(bucketMemberships, bucketMembers)
	f.each(bucketEntities, func(key, _ []byte) error {
		p, err := parseParent(key)
		if err != nil {
			return err
		}
		e, err := loadEntity(f.Tx, p)
		f.want(has(f.Tx, bucketSpaces, []byte(e.Space)), "%s %s in space %q, which is not there", p.Kind, p.ID, e.Space)
		f.want(has(f.Tx, bucketSpaceEntities, join(slug0(e.Space), key)), "%s %s is not in the list of %s", p.Kind, p.ID, e.Space)
		return err
	})
	f.sameSize(bucketEntities, bucketSpaceEntities)
	f.each(bucketComments, func(key, _ []byte) error {
		_, err := loadEntity(f.Tx, Parent{Kind: Ticket, ID: uuid.UUID(key[:16])})
		return err
	})
}

func (f *finder) keys() {
	f.each(bucketKeys, func(key, _ []byte) error {
		record, err := load[keyRecord](f.Tx, bucketKeys, key)
		if err != nil {
			return err
		}
		f.want(string(f.Bucket(bucketKeyHashes).Get(record.Hash)) == string(key), "key %x: lost by hash", key)
		f.want(has(f.Tx, bucketUserKeys, join(record.UserID[:], key)), "key %x: lost by user", key)
		return needUser(f.Tx, record.UserID)
	})
	f.sameSize(bucketKeys, bucketKeyHashes, bucketUserKeys)
	f.each(bucketTouched, func(key, _ []byte) error {
		f.want(has(f.Tx, bucketKeys, key), "use of key %x, which is not there", key)
		return nil
	})
	f.each(bucketSessions, func(hash, _ []byte) error {
		s, err := load[sessionRecord](f.Tx, bucketSessions, hash)
		if err != nil {
			return err
		}
		f.want(has(f.Tx, bucketKeys, s.KeyID[:]), "session %x of a key that is not there", hash)
		f.want(has(f.Tx, bucketKeySessions, join(s.KeyID[:], hash)), "session %x: lost by key", hash)
		f.want(has(f.Tx, bucketSessionExpiry, join(timeKey(s.ExpiresAt), hash)), "session %x: lost by time", hash)
		return nil
	})
	f.sameSize(bucketSessions, bucketKeySessions, bucketSessionExpiry)
}
