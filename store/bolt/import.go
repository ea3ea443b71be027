package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// bbolt keeps what a transaction writes in sorted arrays, one for each existing
// page, and splits them when it commits: n keys in random order that all fall into
// one page move each other n*n/4 times. So the objects of a Put are planned first,
// and their entries are written in the order of the keys, which moves nothing.
//
// A transaction also keeps everything it writes in memory, and all other changes
// wait for it. A Put of many objects therefore is an import of several
// transactions, which is all or nothing nevertheless:
//
//	plan     what is to be written, or the refusal, in a read transaction.
//	         From here to the end, other changes of the directory wait.
//	stage    the plan, in the bucket "import", in batches. A failure or crash
//	         leaves entries without a mark, which are removed.
//	decide   one commit sets the mark. From here on the import is made,
//	         whatever happens; a start after a crash goes on with it.
//	move     the entries from the bucket to their own, in batches. The spaces
//	         come last, and nothing in a space is visible before its space.
//	end      the entries of the audit log follow; the last commit writes the
//	         import's own entry and deletes the mark.
const (
	// batchSize is how many objects a Put writes in one transaction at most, and
	// how many entries a transaction of an import writes.
	batchSize = 4096
	// fullWait is how long an import that is decided waits between attempts on a
	// full disk.
	fullWait = time.Second
	// resumeTime is how long a start waits for the end of an import.
	resumeTime = time.Minute
)

// plan is what a Put is to write. Its reads see these writes before the database,
// so that objects may refer to those before them.
type plan struct {
	tx     *dbfile.Tx
	writes map[string][]byte // by staged key
	notes  []schema.Note
	each   bool // whether notes are recorded
	// replaces are the keys of removals of what is in the trash and would be put anew.
	replaces [][]byte
}

func newPlan(tx *dbfile.Tx, each bool) *plan {
	return &plan{tx: tx, writes: map[string][]byte{}, each: each}
}

// putAll plans to write all objects, or returns a *PutError for the one that is
// refused.
func (p *plan) putAll(objects []store.Object) (created []bool, err error) {
	created = make([]bool, len(objects))
	for i, o := range objects {
		if created[i], err = p.putObject(o); err != nil {
			return nil, &store.PutError{Index: i, Err: err}
		}
	}
	if len(p.replaces) > 0 { // only now, since a Put that is refused changes nothing
		return nil, &replaces{p.replaces}
	}
	return created, nil
}

func (p *plan) get(bucket, key []byte) []byte {
	if value, planned := p.writes[string(schema.StagedKey(bucket, key))]; planned {
		return value
	}
	return p.tx.Get(bucket, key)
}

func (p *plan) has(bucket, key []byte) bool { return p.get(bucket, key) != nil }

// planned is Load for records that a plan may have written.
func planned[Record any](p *plan, bucket, key []byte) (*Record, error) {
	data := p.get(bucket, key)
	if data == nil {
		return nil, nil
	}
	return schema.Decode[Record](bucket, data)
}

func (p *plan) put(bucket, key, value []byte) {
	p.writes[string(schema.StagedKey(bucket, key))] = value
}

func (p *plan) save(bucket, key []byte, record any) error {
	data, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode for bucket %q: %w", bucket, err)
	}
	p.put(bucket, key, data)
	return nil
}

// note plans an audit entry for a user or member, for a change that is recorded in
// detail.
func (p *plan) note(o store.Object, action string, user uuid.UUID, space string) {
	if p.each {
		p.notes = append(p.notes, schema.Note{Action: action, User: user.String(), Name: store.Granted(o), Space: space})
	}
}

// sorted returns the staged keys in order.
func (p *plan) sorted() []string { return slices.Sorted(maps.Keys(p.writes)) }

// write writes the planned entries, and records the notes.
func (p *plan) write(tx *writeTx) {
	for _, key := range p.sorted() {
		tx.Put(schema.ImportBuckets[key[0]-1], []byte(key[1:]), p.writes[key])
	}
	for _, n := range p.notes {
		tx.note(n.Action, "user", n.User, n.Name, n.Space)
	}
}

// importLock blocks other changes of the directory while an import is under way:
// the plan must stay valid until it is written.
type importLock struct {
	mu   sync.Mutex
	ends chan struct{} // closed when the import ends; nil while there is none
}

// importing is the error that other changes of the directory get meanwhile.
type importing struct{ ends <-chan struct{} }

func (*importing) Error() string { return "an import is under way" }

// free returns an importing error while there is an import.
func (l *importLock) free() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends != nil {
		return &importing{l.ends}
	}
	return nil
}

func (l *importLock) acquire() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends != nil {
		return &importing{l.ends}
	}
	l.ends = make(chan struct{})
	return nil
}

func (l *importLock) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.ends)
	l.ends = nil
}

// whenFree calls do, and retries it while an import blocks it, or the removal of an
// object that it would bring back. What it would put anew is taken out of the trash first.
func (b *Store) whenFree(ctx context.Context, do func() error) error {
	for {
		err := do()
		var busy *importing
		var anew *replaces
		switch {
		case errors.As(err, &anew):
			for _, key := range anew.keys {
				if err := b.startReplacing(ctx, key); err != nil {
					return err
				}
			}
		case errors.Is(err, errRemoving):
			if err := b.continueRemoval(ctx); err != nil {
				return err
			}
		case errors.As(err, &busy):
			select {
			case <-busy.ends:
			case <-ctx.Done():
				return ctx.Err()
			}
		default:
			return err
		}
	}
}

// changeDirectory is update, for changes that could invalidate the plan of an
// import.
func (b *Store) changeDirectory(ctx context.Context, apply func(*writeTx) error) error {
	return b.changeDirectoryWith(ctx, b.update, apply)
}

// changeDirectoryAlone is updateAlone for such changes.
func (b *Store) changeDirectoryAlone(ctx context.Context, apply func(*writeTx) error) error {
	return b.changeDirectoryWith(ctx, b.updateAlone, apply)
}

func (b *Store) changeDirectoryWith(ctx context.Context, update func(context.Context, func(*writeTx) error) error, apply func(*writeTx) error) error {
	return b.whenFree(ctx, func() error {
		return update(ctx, func(tx *writeTx) error {
			if err := b.imports.free(); err != nil {
				return err
			}
			return apply(tx)
		})
	})
}

// Put implements Directory.
func (b *Store) Put(ctx context.Context, objects ...store.Object) (created []bool, err error) {
	each := store.EachOf(ctx)
	if len(objects) > b.batch {
		return b.putMany(ctx, objects, each)
	}
	err = b.changeDirectory(ctx, func(tx *writeTx) (err error) {
		p := newPlan(tx.Tx, each)
		if created, err = p.putAll(objects); err == nil {
			p.write(tx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

// putMany is Put by an import.
func (b *Store) putMany(ctx context.Context, objects []store.Object, each bool) (created []bool, err error) {
	if err := b.whenFree(ctx, b.imports.acquire); err != nil {
		return nil, err
	}
	defer b.imports.release()
	if err := b.resumeImport(); err != nil {
		return nil, err
	}
	// What is in the write-ahead log is committed by this change.
	if err := b.update(ctx, func(*writeTx) error { return nil }); err != nil {
		return nil, err
	}
	var p *plan
	err = b.whenFree(ctx, func() error {
		return b.viewAll(ctx, func(tx *dbfile.Tx) (err error) {
			p = newPlan(tx, each)
			created, err = p.putAll(objects)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if err := b.stageImport(ctx, p); err != nil {
		return nil, errors.Join(err, b.clearImport())
	}
	return created, b.finishImport()
}

// stageImport stages the entries that an import is to write, and then sets the mark
// that decides it. Its context must have the import's entry.
func (b *Store) stageImport(ctx context.Context, p *plan) error {
	background := context.Background() // the audit entry belongs to the last commit
	for keys := range slices.Chunk(p.sorted(), b.batch) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := b.update(background, func(tx *writeTx) error {
			tx.Bucket(schema.Import).FillPercent = 1 // keys are added in ascending order
			for _, key := range keys {
				tx.Put(schema.Import, []byte(key), p.writes[key])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	seq := uint64(0)
	for notes := range slices.Chunk(p.notes, b.batch) {
		first := seq
		err := b.update(background, func(tx *writeTx) error {
			tx.Bucket(schema.Import).FillPercent = 1
			for i, n := range notes {
				tx.save(schema.Import, binary.BigEndian.AppendUint64([]byte{schema.ImportNotes}, first+uint64(i)), n)
			}
			return nil
		})
		if err != nil {
			return err
		}
		seq += uint64(len(notes))
	}
	entry := []byte{}
	if e := store.EntryOf(ctx); e != nil {
		entry = e.Encode()
	}
	return b.update(background, func(tx *writeTx) error {
		tx.Put(schema.Import, schema.ImportMark, entry)
		return nil
	})
}

// clearImport removes the staged entries of an import that was not decided.
func (b *Store) clearImport() error {
	for more := true; more; {
		err := b.update(context.Background(), func(tx *writeTx) error {
			more = false
			for _, e := range tx.FirstEntries(schema.Import, nil, b.batch) {
				tx.Delete(schema.Import, e.Key)
				more = true
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("remove what is staged of an import: %w", err)
		}
	}
	return nil
}

// finishImport completes an import that is decided. On a full disk it waits for
// room: the import cannot be undone any more.
func (b *Store) finishImport() error {
	for {
		more := false
		err := b.update(context.Background(), func(tx *writeTx) (err error) {
			more, err = tx.moveImported(b.batch)
			return err
		})
		switch {
		case errors.Is(err, store.ErrFull):
			select {
			case <-time.After(fullWait):
			case <-b.committer.stopped:
				return errClosed
			}
		case err != nil:
			return fmt.Errorf("go on with an import: %w", err)
		case !more:
			return nil
		}
	}
}

// moveImported moves at most limit entries of an import, and says whether there are
// more.
func (tx *writeTx) moveImported(limit int) (more bool, err error) {
	mark := bytes.Clone(tx.Get(schema.Import, schema.ImportMark))
	var entry *store.Entry
	if len(mark) > 0 {
		e, err := store.DecodeEntry(mark)
		if err != nil {
			return false, fmt.Errorf("the mark of an import: %w", err)
		}
		entry = &e
	}
	entries := tx.FirstEntries(schema.Import, []byte{1}, limit)
	notes := make([]schema.Note, len(entries))
	for i, e := range entries {
		switch {
		case e.Key[0] == schema.ImportNotes:
			n, err := schema.Decode[schema.Note](schema.Import, e.Value)
			if err != nil {
				return false, err
			}
			notes[i] = *n
		case int(e.Key[0]) > len(schema.ImportBuckets):
			return false, fmt.Errorf("what is staged of an import: %w", schema.ErrKey)
		}
	}
	for i, e := range entries {
		tx.Delete(schema.Import, e.Key)
		if e.Key[0] != schema.ImportNotes {
			tx.Put(schema.ImportBuckets[e.Key[0]-1], e.Key[1:], e.Value)
		} else if entry != nil {
			tx.noteFor(*entry, notes[i].Action, "user", notes[i].User, notes[i].Name, notes[i].Space)
		}
	}
	if len(entries) == limit {
		return true, nil
	}
	tx.Delete(schema.Import, schema.ImportMark)
	if entry != nil {
		tx.record(*entry)
	}
	return false, nil
}

// resumeImport ends an import that a crash or failure has interrupted: it completes
// one that was decided, and undoes one that was not.
func (b *Store) resumeImport() error {
	some, decided := false, false
	err := b.viewCommitted(context.Background(), func(tx *dbfile.Tx) error {
		some, decided = tx.HasUnder(schema.Import, nil), tx.Has(schema.Import, schema.ImportMark)
		return nil
	})
	switch {
	case err != nil || !some:
		return err
	case decided:
		return b.finishImport()
	}
	return b.clearImport()
}

// resumeAtStart is resumeImport for a database that is being opened. A full disk
// does not prevent the start: the import goes on when there is room.
func (b *Store) resumeAtStart() error {
	if err := b.imports.acquire(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		err := b.resumeImport()
		b.imports.release()
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(resumeTime):
		return nil
	}
}
