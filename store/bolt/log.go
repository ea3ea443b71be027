package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"attachd/blobs/durable"
	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

const (
	// walTime is how long changes stay in the write-ahead log alone at most.
	walTime = 250 * time.Millisecond
	// walRetry is after how long a failed commit of those changes is retried.
	walRetry = time.Second
	// movedAtMost is how many bytes moveStaged may move beyond the size of the log: more
	// than an earlier version staged.
	movedAtMost = 64 << 20
)

// walKey is the key of the log's position in schema.Meta.
var walKey = []byte("log")

// ErrLogDamaged means that the write-ahead log was damaged after it was written.
var ErrLogDamaged = wal.ErrDamaged

// replayOlder commits the changes that the log of an earlier version has and the database
// lacks, and removes that log.
func (b *Store) replayOlder(opts Options) error {
	if opts.OlderLog == "" {
		return nil
	}
	base, stored, err := b.logPosition()
	if err != nil {
		return err
	}
	older, err := wal.OpenOlder(opts.OlderLog, stored, base)
	if older == nil || err != nil {
		return err
	}
	err = b.file.WithRoom(func() error {
		err := b.file.Update(func(tx *dbfile.Tx) error { return older.Replay(tx) })
		if durable.IsFull(err) {
			older.GiveBack()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("repeat what is in the log: %w", err)
	}
	return older.Remove()
}

// logPosition returns the number of the last commit, and what it stored of the log.
func (b *Store) logPosition() (base int, stored []byte, err error) {
	err = b.file.View(func(tx *dbfile.Tx) error {
		base, stored = tx.ID(), bytes.Clone(tx.Get(schema.Meta, walKey))
		return nil
	})
	return base, stored, err
}

// openLog opens the write-ahead log, and commits the changes that it has and the database
// lacks. A copy of a database has none, and nothing that is in one.
func (b *Store) openLog(opts Options) error {
	base, stored, err := b.logPosition()
	if err != nil {
		return err
	}
	if opts.Log == "" {
		if stored == nil {
			return nil
		}
		return b.file.Update(forgetLog)
	}
	above, err := b.lastSegment()
	if err != nil {
		return err
	}
	log, err := wal.Open(opts.Log, stored, above, wal.Options{Size: opts.LogSize, Room: opts.LogRoom, Own: opts.Own, Write: opts.Logged, Failed: opts.LogFailed})
	if err != nil {
		return err
	}
	b.log = log
	if err := log.Recover(base, stored); err != nil || !log.Unflushed() && !log.Others {
		return err
	}
	if log.Others {
		if err := b.setAside(opts.Log); err != nil {
			return err
		}
	}
	err = b.file.WithRoom(func() error {
		err := b.file.Update(func(tx *dbfile.Tx) error {
			return errors.Join(log.Replay(tx), tx.Put(schema.Meta, walKey, log.Position()))
		})
		if durable.IsFull(err) {
			log.GiveBack()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("repeat what is in the log: %w", err)
	}
	log.Committed()
	return nil
}

// setAside keeps the log of another database, or of a later state of this one: whoever
// went back to a copy may want to put that database back.
func (b *Store) setAside(log string) error {
	aside, err := b.log.SetAside()
	if err != nil {
		return fmt.Errorf("the log in %s has records that are not for this database, which is an older or another one, and it cannot be kept in %s: %w. Move the folder %s away together with the other database, and start again", log, aside, err, log)
	}
	b.doubts = fmt.Errorf("the log in %s has records that are not for this database, which is an older or another one. All its files are kept in %s too: when the other database is put back, copy them to %s before the start. If it is not needed any more, delete that folder", log, aside, log)
	return nil
}

// forgetLog makes a database a copy, to which no log belongs.
func forgetLog(tx *dbfile.Tx) error {
	if tx.HasBucket(schema.Staged) {
		err := errors.Join(tx.DeleteBucket(schema.Staged), makeBucket(tx, schema.Staged))
		if err != nil {
			return err
		}
	}
	return tx.Delete(schema.Meta, walKey)
}

func makeBucket(tx *dbfile.Tx, name []byte) error {
	_, err := tx.CreateBucket(name)
	return err
}

// lastSegment is the highest number of a segment that an entry names.
func (b *Store) lastSegment() (last uint64, err error) {
	err = b.file.View(func(tx *dbfile.Tx) error {
		if tx.Refused(schema.Staged) != nil || tx.Bucket(schema.Staged) == nil {
			return nil
		}
		entries := tx.Readable(schema.Staged)
		for key, value := entries.First(); key != nil; key, value = entries.Next() {
			if p, err := wal.DecodePlace(value); err == nil {
				last = max(last, p.Segment)
			}
		}
		return nil
	})
	return last, err
}

// moveStaged moves the contents that an earlier version staged in the database to the
// log. The database names them there in the commit that removes them here.
func (b *Store) moveStaged(opts Options) error {
	is, first := false, false
	err := b.file.View(func(tx *dbfile.Tx) error {
		is = tx.Refused(schema.Pending) == nil && tx.Tx.Bucket(schema.Pending) != nil
		first = tx.HasNone(schema.Staged)
		return nil
	})
	if err != nil || !is || opts.Log == "" {
		return err
	}
	if opts.TakeOver != nil {
		if err := opts.TakeOver(); err != nil {
			return err
		}
	}
	b.log.Size += movedAtMost
	b.log.Room = nil // the database gives back as much
	defer func() { b.log.Size, b.log.Room = b.log.Size-movedAtMost, opts.LogRoom }()
	err = b.file.WithRoom(func() error {
		if b.log.Reset(); first { // what is in the log is of a start that was killed, or of the try before
			if err := b.log.Free(false); err != nil {
				return err
			}
		}
		return b.file.Update(b.moveAll)
	})
	if err != nil {
		return fmt.Errorf("move small uploads to the log: %w", err)
	}
	b.log.Committed()
	return nil
}

func (b *Store) moveAll(tx *dbfile.Tx) error {
	var some []wal.Content
	size := 0
	move := func() error {
		places, err := b.addToLog(tx, some)
		for i, p := range places {
			err = errors.Join(err, tx.Put(schema.Staged, some[i].Key, p.Encode()))
		}
		some, size = some[:0], 0
		return err
	}
	entries := tx.Readable(schema.Pending)
	for id, content := entries.First(); id != nil; id, content = entries.Next() {
		if entries.Bad != nil {
			// Its place is nowhere.
			if err := tx.Put(schema.Staged, id, wal.Place{}.Encode()); err != nil {
				return err
			}
			continue
		}
		if !tx.Has(schema.AttachmentIDs, id) {
			continue
		}
		some = append(some, wal.Content{Bucket: schema.Staged, Key: id, Bytes: content})
		if size += len(content); size >= maxTogetherBytes {
			if err := move(); err != nil {
				return err
			}
		}
	}
	if err := move(); err != nil {
		return err
	}
	return errors.Join(tx.DeleteBucket(schema.Pending), tx.Put(schema.Meta, walKey, b.log.Position()))
}

// addToLog adds a record of contents only. The error has the cause, for WithRoom.
func (b *Store) addToLog(tx *dbfile.Tx, contents []wal.Content) ([]wal.Place, error) {
	if !b.log.Ready() {
		return nil, errors.Join(store.ErrNotStaged, b.log.Cause)
	}
	places, fits := b.log.Fit(nil, contents, false)
	if !fits || !b.log.Add(tx.ID()-1) {
		return nil, errors.Join(store.ErrNotStaged, b.log.Cause)
	}
	return places, nil
}
