package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/backend"
)

// Entries of the audit log are committed with their change to the table audit_waiting. They
// get their places in the chain afterwards, by whichever process seals next: a chain that each
// change continued would let only one commit at a time.
//
// An entry may become visible after a later one, so its id says nothing about whether it was
// sealed. That is why sealed entries move to another table.

// sealBatch is how many entries one transaction seals at most. Others that seal wait for it.
const sealBatch = 5000

// Record implements store.Audit.
func (s *Store) Record(e store.Entry) { s.entries.Add(e) }

// encodedEntries are the queued entries and those of the change, as they are stored.
func (tx *change) encodedEntries() [][]byte {
	entries := slices.Concat(tx.queued, tx.entries)
	if tx.entry != nil {
		entries = append(entries, *tx.entry)
	}
	encoded := make([][]byte, len(entries))
	for i, e := range entries {
		e.Seq = 0
		encoded[i] = e.Encode()
	}
	return encoded
}

// saveEntries has the queued entries and those of the change added to the audit log with its
// commit.
func (tx *change) saveEntries() {
	if encoded := tx.encodedEntries(); len(encoded) > 0 {
		tx.lastly(`insert into attachd.audit_waiting (entry) select entry from unnest($1::bytea[]) with ordinality as e (entry, n) order by n`, encoded)
	}
}

// flushEntries commits the queue when no change does it.
func (s *Store) flushEntries(ctx context.Context) error {
	if s.entries.Empty() {
		return nil
	}
	return s.change(ctx, func(*change) error { return nil })
}

// seal chains all entries that were committed before it was called.
func (s *Store) seal(ctx context.Context) error {
	for {
		// Most calls find nothing, and wait for nobody.
		var waiting int64
		if err := s.row(ctx, `select count(*) from attachd.audit_waiting`).Scan(&waiting); err != nil {
			return err
		}
		if s.unchained.Store(waiting); waiting == 0 {
			return nil
		}
		sealed := 0
		// It takes no queued entries along, which a frozen database refuses.
		err := s.again(ctx, func() error {
			return s.changeOnce(&change{ctx: ctx}, func(tx *change) (err error) {
				sealed, err = tx.sealSome()
				return err
			})
		})
		if err != nil || sealed < sealBatch {
			return err
		}
	}
}

// chainEnds is the row of audit_ends.
type chainEnds struct {
	anchor, head store.ChainPos
	runs         []store.AuditRun
}

// readEnds reads the row of audit_ends, and locks it when it is to be changed.
func readEnds(ctx context.Context, from interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, lock bool) (ends chainEnds, err error) {
	var anchorSeq, headSeq int64
	var anchorHash, headHash, runs []byte
	sql := `select anchor_seq, anchor_hash, head_seq, head_hash, runs from attachd.audit_ends`
	if lock {
		sql += ` for no key update`
	}
	err = from.QueryRow(ctx, sql).Scan(&anchorSeq, &anchorHash, &headSeq, &headHash, &runs)
	if err != nil {
		return ends, err
	}
	ends.anchor, ends.head = chainPos(anchorSeq, anchorHash), chainPos(headSeq, headHash)
	if ends.runs, err = backend.DecodeRuns(runs, ends.head.Seq); err != nil {
		err = fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return ends, err
}

func chainPos(seq int64, hash []byte) (pos store.ChainPos) {
	pos.Seq = uint64(seq)
	copy(pos.Hash[:], hash)
	return pos
}

// sealSome chains the next entries, at most sealBatch, and returns how many. The lock of the
// row of audit_ends makes it the only one: what another has sealed is gone from audit_waiting
// when it has the lock.
func (tx *change) sealSome() (sealed int, err error) {
	ends, err := readEnds(tx.ctx, tx, true)
	if err != nil {
		return 0, err
	}
	found, err := tx.Query(tx.ctx, `with taken as (
			delete from attachd.audit_waiting where id in (select id from attachd.audit_waiting order by id limit $1) returning id, entry)
		select entry from taken order by id`, sealBatch)
	if err != nil {
		return 0, err
	}
	entries, err := pgx.CollectRows(found, pgx.RowTo[[]byte])
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	first := ends.head.Seq + 1
	hashes := make([][]byte, len(entries))
	for i, entry := range entries {
		seq := first + uint64(i)
		var at time.Time
		ends.head.Hash, at = link(ends.head.Hash, seq, entry)
		ends.head.Seq = seq
		ends.runs = backend.AddToRuns(ends.runs, seq, at)
		hashes[i] = slices.Clone(ends.head.Hash[:])
	}
	tx.lastly(`insert into attachd.audit (seq, entry, hash)
		select $1 + n - 1, entry, hash from unnest($2::bytea[], $3::bytea[]) with ordinality as e (entry, hash, n) order by n`, int64(first), entries, hashes)
	tx.lastly(`update attachd.audit_ends set head_seq = $1, head_hash = $2, runs = $3`,
		int64(ends.head.Seq), ends.head.Hash[:], backend.EncodeRuns(ends.head.Seq, ends.runs, ends.anchor.Seq))
	return len(entries), nil
}

// link is the hash of an entry as the next of the chain, and the time of the entry. One that
// cannot be read is chained as it is, so that none after it has to wait.
func link(previous [32]byte, seq uint64, encoded []byte) (hash [32]byte, at time.Time) {
	e, err := store.DecodeEntry(encoded)
	if err != nil {
		sum := sha256.New()
		sum.Write(previous[:])
		sum.Write(binary.BigEndian.AppendUint64(nil, seq))
		sum.Write(encoded)
		return [32]byte(sum.Sum(nil)), time.Time{}
	}
	e.Seq, e.Previous = seq, previous
	return e.Sum(), e.Time
}

// storedEntry is a row of audit.
type storedEntry struct {
	seq         int64
	entry, hash []byte
}

func scanEntry(row pgx.CollectableRow) (e storedEntry, err error) {
	err = row.Scan(&e.seq, &e.entry, &e.hash)
	return e, err
}

// decode reads the entry. One that cannot be read has Damage set.
func (e storedEntry) decode() store.Entry {
	read, err := store.DecodeEntry(e.entry)
	if err != nil || len(e.hash) != len(read.Hash) {
		read = store.Entry{Damage: "cannot be read"}
	}
	read.Seq = uint64(e.seq)
	copy(read.Hash[:], e.hash)
	return read
}

// Entries implements store.AuditChain.
func (s *Store) Entries(ctx context.Context, after uint64, limit int) ([]store.Entry, error) {
	if after >= math.MaxInt64 || limit <= 0 {
		return nil, ctx.Err()
	}
	if err := s.seal(ctx); err != nil {
		return nil, err
	}
	// The one before them has the hash to which the first is chained.
	list, err := rows(ctx, s, scanEntry, `(select seq, entry, hash from attachd.audit where seq <= $1 order by seq desc limit 1)
		union all (select seq, entry, hash from attachd.audit where seq > $1 order by seq limit $2) order by seq`, int64(after), limit)
	if err != nil {
		return nil, err
	}
	return s.chained(ctx, list, func(seq uint64) bool { return seq > after })
}

// EntriesBefore implements store.Audit.
func (s *Store) EntriesBefore(ctx context.Context, before uint64, limit int) ([]store.Entry, error) {
	if limit <= 0 {
		return nil, ctx.Err()
	}
	if err := s.seal(ctx); err != nil {
		return nil, err
	}
	if before == 0 || before > math.MaxInt64 {
		before = math.MaxInt64
	}
	list, err := rows(ctx, s, scanEntry, `select seq, entry, hash from attachd.audit where seq < $1 order by seq desc limit $2`, int64(before), int64(limit)+1)
	if err != nil {
		return nil, err
	}
	slices.Reverse(list)
	from := uint64(0)
	if len(list) > limit {
		from = uint64(list[1].seq)
	}
	entries, err := s.chained(ctx, list, func(seq uint64) bool { return seq >= from })
	slices.Reverse(entries)
	return entries, err
}

// chained returns the wanted ones of entries that are in order, each with the hash of the one
// before, which is that of the anchor where there is none.
func (s *Store) chained(ctx context.Context, list []storedEntry, wanted func(seq uint64) bool) (entries []store.Entry, err error) {
	if len(list) == 0 {
		return nil, nil
	}
	var previous [32]byte
	if wanted(uint64(list[0].seq)) {
		ends, err := readEnds(ctx, s.pool, false)
		if err != nil {
			return nil, explain(err)
		}
		previous = ends.anchor.Hash
	}
	for _, stored := range list {
		e := stored.decode()
		e.Previous, previous = previous, e.Hash
		if wanted(e.Seq) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// AuditEnds implements store.AuditChain.
func (s *Store) AuditEnds(ctx context.Context) (anchor, head store.ChainPos, err error) {
	if err := s.seal(ctx); err != nil {
		return anchor, head, err
	}
	ends, err := readEnds(ctx, s.pool, false)
	return ends.anchor, ends.head, explain(err)
}

// AuditRuns implements store.Audit.
func (s *Store) AuditRuns(ctx context.Context) ([]store.AuditRun, error) {
	if err := s.seal(ctx); err != nil {
		return nil, err
	}
	ends, err := readEnds(ctx, s.pool, false)
	return ends.runs, explain(err)
}

// PruneAudit implements store.Audit.
func (s *Store) PruneAudit(ctx context.Context, age, keep time.Duration, limit int) (removed int, err error) {
	if err := s.seal(ctx); err != nil {
		return 0, err
	}
	err = s.change(ctx, func(tx *change) error {
		removed = 0
		ends, err := readEnds(ctx, tx, true)
		if err != nil {
			return err
		}
		through, err := tx.ripe(agesOfAudit, ends.head.Seq, age, keep)
		if err != nil || through <= ends.anchor.Seq {
			return err
		}
		var seq int64
		var hash []byte
		err = tx.get(`with old as (
				delete from attachd.audit where seq in (select seq from attachd.audit where seq <= $1 order by seq limit $2) returning seq, hash)
			select count(*) over (), seq, hash from old order by seq desc limit 1`, int64(through), max(limit, 0)).Scan(&removed, &seq, &hash)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		tx.lastly(`update attachd.audit_ends set anchor_seq = $1, anchor_hash = $2`, seq, hash)
		return nil
	})
	return removed, err
}
