package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

const (
	maxRecorded    = 50_000          // entries that wait to be kept
	manyRecorded   = maxRecorded / 2 // so many do not wait for the second to pass
	recordInterval = time.Second
)

// recorded are entries that wait for a commit.
type recorded struct {
	mu      sync.Mutex
	waiting []Entry
	skipped int // for which there was no room
	last    time.Time
	many    chan struct{} // told when they should not wait any longer
}

// Record implements Audit.
func (b *Bolt) Record(e Entry) {
	r := &b.recorded
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = e.Time
	if len(r.waiting) >= maxRecorded {
		r.skipped++
		return
	}
	r.waiting = append(r.waiting, e)
	if len(r.waiting) == manyRecorded {
		select {
		case r.many <- struct{}{}:
		default: // the committer has been told
		}
	}
}

// take gives what waits, to be kept or given back.
func (r *recorded) take() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	taken := r.waiting
	r.waiting = nil
	if r.skipped > 0 {
		taken = append(taken, Entry{Time: r.last, Action: "audit.skip", Resource: "entries", Name: strconv.Itoa(r.skipped), Outcome: "done"})
		r.skipped = 0
	}
	return taken
}

func (r *recorded) giveBack(taken []Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(taken, r.waiting...)
}

// flushRecorded keeps what waits, when there is no change that it could go with.
func (b *Bolt) flushRecorded() error {
	b.recorded.mu.Lock()
	none := len(b.recorded.waiting) == 0 && b.recorded.skipped == 0
	b.recorded.mu.Unlock()
	if none {
		return nil
	}
	c := &change{apply: func(*writeTx) error { return nil }, done: make(chan error, 1)}
	b.finish(c)
	return <-c.done
}

// record adds entries to the chain.
func (tx *writeTx) record(entries ...Entry) {
	if len(entries) == 0 || tx.err != nil {
		return
	}
	head, err := tx.head()
	if err != nil {
		tx.err = err
		return
	}
	bucket := tx.Bucket(bucketAudit)
	bucket.FillPercent = 1 // keys only ever come at the end
	for _, e := range entries {
		e.Seq, e.Previous = head.Seq+1, head.Hash
		e.Time = e.Time.UTC().Truncate(time.Millisecond)
		e.Hash = e.Sum()
		tx.put(bucketAudit, binary.BigEndian.AppendUint64(nil, e.Seq), join(e.Hash[:], e.encode()))
		head = Link{e.Seq, e.Hash}
	}
}

// head is the end of the chain. It is looked up once in a transaction.
func (tx *writeTx) head() (Link, error) {
	_, head, err := auditEnds(tx.Tx)
	return head, err
}

// AuditEnds implements Audit.
func (b *Bolt) AuditEnds(ctx context.Context) (anchor, head Link, err error) {
	err = b.view(ctx, func(tx *bbolt.Tx) error {
		anchor, head, err = auditEnds(tx)
		return err
	})
	return anchor, head, err
}

func auditEnds(tx *bbolt.Tx) (anchor, head Link, err error) {
	if raw := tx.Bucket(bucketMeta).Get(auditAnchor); raw != nil {
		if len(raw) != 8+32 {
			return anchor, head, fmt.Errorf("the audit log's anchor has %d bytes", len(raw))
		}
		anchor = Link{Seq: binary.BigEndian.Uint64(raw), Hash: [32]byte(raw[8:])}
	}
	bucket := tx.Bucket(bucketAudit)
	if bucket == nil { // a copy from before there was an audit log
		return anchor, anchor, nil
	}
	key, value := bucket.Cursor().Last()
	if key == nil {
		return anchor, anchor, nil
	}
	if len(key) != 8 || len(value) < 32 {
		return anchor, head, errEntry
	}
	return anchor, Link{Seq: binary.BigEndian.Uint64(key), Hash: [32]byte(value)}, nil
}

var auditAnchor = []byte("audit anchor")

// Entries implements Audit.
func (b *Bolt) Entries(ctx context.Context, after uint64, limit int) (list []Entry, err error) {
	err = b.view(ctx, func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketAudit)
		if bucket == nil || after+1 == 0 {
			return nil
		}
		anchor, _, err := auditEnds(tx)
		if err != nil {
			return err
		}
		cursor := bucket.Cursor()
		previous := anchor.Hash
		key, value := cursor.Seek(binary.BigEndian.AppendUint64(nil, after+1))
		if key != nil {
			if _, before := cursor.Prev(); len(before) >= 32 {
				previous = [32]byte(before)
			}
			key, value = cursor.Seek(key)
		}
		for ; key != nil && len(list) < limit; key, value = cursor.Next() {
			if len(key) != 8 || len(value) < 32 {
				return errEntry
			}
			e, err := decodeEntry(value[32:])
			if err != nil {
				return fmt.Errorf("entry %d: %w", binary.BigEndian.Uint64(key), err)
			}
			e.Previous, e.Hash = previous, [32]byte(value)
			if e.Seq != binary.BigEndian.Uint64(key) {
				return fmt.Errorf("entry %d says that it is %d: %w", binary.BigEndian.Uint64(key), e.Seq, errEntry)
			}
			previous = e.Hash
			list = append(list, e)
		}
		return nil
	})
	return list, err
}

// PruneAudit implements Audit.
func (b *Bolt) PruneAudit(ctx context.Context, before time.Time, limit int) (removed int, err error) {
	err = b.update(ctx, func(tx *writeTx) error {
		removed = 0
		var keys [][]byte
		var last Link
		cursor := tx.Bucket(bucketAudit).Cursor()
		for key, value := cursor.First(); key != nil && len(keys) < limit; key, value = cursor.Next() {
			if len(value) < 32 {
				return errEntry
			}
			e, err := decodeEntry(value[32:])
			if err != nil {
				return err
			}
			if !e.Time.Before(before) {
				break
			}
			keys, last = append(keys, bytes.Clone(key)), Link{e.Seq, [32]byte(value)}
		}
		if len(keys) == 0 {
			return nil
		}
		for _, key := range keys {
			tx.delete(bucketAudit, key)
		}
		tx.put(bucketMeta, auditAnchor, join(binary.BigEndian.AppendUint64(nil, last.Seq), last.Hash[:]))
		removed = len(keys)
		return nil
	})
	return removed, err
}

// VerifyAudit walks the chain and gives a sentence for each place where it is
// broken, and how many entries there are. With known, it must hold that link,
// or have begun after it. It reads a part at a time: what is added meanwhile
// is looked at too.
func VerifyAudit(ctx context.Context, a Audit, known *Link) (entries int64, head Link, faults []string, err error) {
	const atATime = 5000
	anchor, end, err := a.AuditEnds(ctx)
	if err != nil {
		return 0, Link{}, nil, err
	}
	head = anchor
	found := known == nil || known.Seq == anchor.Seq && known.Hash == anchor.Hash
	for {
		list, err := a.Entries(ctx, head.Seq, atATime)
		if errors.Is(err, errEntry) {
			return entries, head, append(faults, "After entry "+strconv.FormatUint(head.Seq, 10)+": "+err.Error()+"."), nil
		}
		if err != nil {
			return entries, head, faults, err
		}
		for _, e := range list {
			if e.Seq != head.Seq+1 {
				// The oldest may have been removed as is proper meanwhile.
				if now, _, err := a.AuditEnds(ctx); err == nil && now.Seq > head.Seq && now.Seq+1 == e.Seq {
					head = now
				} else {
					faults = append(faults, fmt.Sprintf("Entry %d is followed by entry %d: those between are missing.", head.Seq, e.Seq))
				}
			}
			e.Previous = head.Hash
			if e.Sum() != e.Hash {
				faults = append(faults, fmt.Sprintf("Entry %d is not what was written, or not what followed entry %d.", e.Seq, head.Seq))
			}
			head = Link{e.Seq, e.Hash}
			found = found || known.Seq == head.Seq && known.Hash == head.Hash
			entries++
		}
		if len(list) < atATime {
			break
		}
	}
	if head.Seq < end.Seq {
		faults = append(faults, fmt.Sprintf("The log ends at entry %d and not at %d.", head.Seq, end.Seq))
	}
	if !found {
		switch {
		case known.Seq < anchor.Seq:
			faults = append(faults, fmt.Sprintf("Entry %d was removed as too old: it cannot be compared.", known.Seq))
		default:
			faults = append(faults, fmt.Sprintf("The log does not hold entry %d with that hash: it was cut off or rewritten.", known.Seq))
		}
	}
	return entries, head, faults, nil
}
