// Package wal is the write-ahead log of a database: files that make batches of
// changes durable with one write and one sync each, before the database commits
// them, and that hold the contents of small uploads until these have their own files.
// It knows of the database only that its states are numbered, and that it can put,
// delete and number keys.
//
// A commit of the database writes a dozen pages all over its file and syncs it
// twice; the log appends to a file that is allocated already. The transaction
// that made the changes stays open meanwhile, and is committed a moment later.
//
// A record is one batch: every key and value that it wrote, in order, so that to
// replay it is to write the same again, and the contents that came with it, of which
// the database gets the Place only. It is valid for one state of the database only, the
// base that its transaction began with: after a crash, the next start replays only the
// records of the state that it finds.
//
//	crc       4   CRC-32C (Castagnoli) of all that follows
//	length    4   of the writes, in bytes
//	epoch    16   random, made anew at each start, and stored in the database:
//	              records of another epoch are not for it
//	base      8   the number of the last transaction in the database
//	number    8   from 1 on for each base
//	writes        see Batch
//
// The log is a folder of segments, files that are named by ever increasing numbers, 16
// hexadecimal digits. Records follow one another, also across commits; one that does not
// fit into a segment is the first of the next. With each commit the database stores the
// position of its end, so that a start reads nothing before it. A segment is free when
// the database has all its records and names none of its contents any more. It becomes
// a later segment then, or is removed.
//
// A record begins at a multiple of blockSize. So no write touches a block of a
// record that was acknowledged, and could damage it when the power fails. It is
// in sectors with a checksum each, so that a record that is damaged after it was
// acknowledged does not pass for one that was not acknowledged.
//
// Some room is reserved for a full disk (see GiveBack): it is given up when there is no
// room to commit what is in the log.
package wal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"attachd/blobs/durable"
)

const (
	blockSize  = 4 << 10 // bytes; what a disk writes at once, or a multiple of it
	headerSize = 4 + 4 + 16 + 8 + 8

	// reserve is how many bytes the log can give back at any time.
	reserve = 2 << 20
	// retryAfter is after how long a log that failed is written again.
	retryAfter = 10 * time.Second
)

// DefaultSize is how many bytes all segments take at most, unless Options say so.
const DefaultSize = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrDamaged means that the log was damaged after it was written, so that not all
// records that the database lacks can be read.
var ErrDamaged = errors.New("the log of the database is damaged")

// Options configure a log.
type Options struct {
	// Size is how many bytes the segments take at most; DefaultSize when zero.
	Size int64
	// Room, when set, returns how many bytes of the disk may be taken now. A new segment
	// takes half of them at most, so that uploads into files have room, too.
	Room func() int64
	// Own, when set, sets the owner of what is made.
	Own func(*os.File) error
	// Write, when set, is called with the function that makes a record durable: it is
	// for tests.
	Write func(write func() error) error
	// Failed is called when a segment could not be made or written.
	Failed func(error)
}

// Log is the write-ahead log of an open database. The zero Log has no files and
// accepts no records. Only Read, Full and Used are safe for concurrent use.
type Log struct {
	dir string // empty when there is to be no log
	Options

	epoch       [16]byte
	epochStored bool     // the database has the epoch
	recovering  bool     // active and end are of an earlier epoch, whose records are not committed yet
	active      *segment // the one that is written; nil until it is needed
	end         int64    // offset of the next record in it
	failed      bool     // it takes no more records
	maybeTorn   bool     // it may have a record that was refused, until a commit
	renewed     bool     // the next commit stores the epoch
	Cause       error    // of the last failure to make or write a segment
	Others      bool     // at the start it had records of a later state of the database, or of another database
	records     []Batch  // that the database lacks, with the places of their contents

	segments
	writer sectorWriter
	fitted fitted
}

// fitted is the record that Fit found room for.
type fitted struct {
	batch    Batch
	contents []Content
	named    bool
	heads    Batch    // what precedes the bytes of each content
	parts    [][]byte // of the record, behind the header
	places   []Place  // of the contents
	length   int64    // of the record, in bytes
}

// position is where a database that has all records expects the next one.
type position struct {
	epoch   [16]byte
	segment uint64
	at      int64
}

// layout identifies the layout of the records, and of the position.
const layout = 3

func (p position) encode() []byte {
	out := append(p.epoch[:len(p.epoch):len(p.epoch)], layout)
	out = binary.BigEndian.AppendUint64(out, p.segment)
	return binary.BigEndian.AppendUint64(out, uint64(p.at))
}

// decodePosition reads what encode returned; none for anything else.
func decodePosition(raw []byte) (p position, is bool) {
	if len(raw) != 16+1+8+8 || raw[16] != layout {
		return p, false
	}
	copy(p.epoch[:], raw)
	p.segment, p.at = binary.BigEndian.Uint64(raw[17:]), int64(binary.BigEndian.Uint64(raw[25:]))
	return p, true
}

// Open opens the log in a folder, which may not exist. stored is the Position that the
// database stored, and above is the highest number of a segment that it names. With an
// empty name there is no log.
func Open(dir string, stored []byte, above uint64, opts Options) (*Log, error) {
	l := &Log{dir: dir, Options: opts}
	if dir == "" {
		return l, nil
	}
	if l.Size == 0 {
		l.Size = DefaultSize
	}
	_, _ = rand.Read(l.epoch[:]) // never fails
	if err := l.openSegments(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the log: %w", err), l.Release())
	}
	p, _ := decodePosition(stored)
	l.last = max(l.last, p.segment, above)
	l.newest = l.last
	return l, nil
}

// Ready says whether records can be added, and makes the first segment. Before the
// first record, a commit must store the Position.
func (l *Log) Ready() bool {
	if l.dir == "" || l.failed || l.maybeTorn || l.recovering {
		return false
	}
	if l.active == nil {
		l.prepare()
		l.receive(true)
		if l.next == nil {
			return false
		}
		l.rotate()
	}
	return true
}

// Fit says where the contents of a record will be, or that it cannot be added now. They
// must not change before Add. The places are valid until the next call. With named, the
// record names the contents; without, only the commit that follows does.
func (l *Log) Fit(batch Batch, contents []Content, named bool) (places []Place, fits bool) {
	f := &l.fitted
	*f = fitted{batch: batch, contents: contents, named: named, heads: f.heads[:0], parts: append(f.parts[:0], batch), places: f.places[:0], length: int64(headerSize + len(batch))}
	for _, c := range contents {
		before := len(f.heads)
		f.heads = c.head(f.heads, named)
		f.length += int64(len(f.heads) - before)
		f.parts = append(f.parts, f.heads[before:], c.Bytes)
		f.places = append(f.places, Place{At: uint32(f.length), Length: uint32(len(c.Bytes))})
		f.length += int64(len(c.Bytes))
	}
	if !l.makeRoom(inBlocks(sectorsOf(f.length))) {
		return nil, false
	}
	for i := range f.places {
		f.places[i].Segment, f.places[i].Record = l.active.number, uint32(l.end)
	}
	return f.places, true
}

// makeRoom says whether a record of a size fits, and goes on to the next segment where
// necessary.
func (l *Log) makeRoom(size int64) bool {
	l.receive(false)
	if !l.hasRoom(size) {
		l.prepare()
		l.receive(true)
	}
	if !l.hasRoom(size) && l.next != nil {
		l.rotate()
	}
	fits := l.hasRoom(size)
	l.full.Store(!fits)
	return fits
}

// hasRoom says whether a record of a size fits into the segment, with something left to
// give back.
func (l *Log) hasRoom(size int64) bool {
	left := l.active.size - l.end - size
	return left >= reserve || left >= 0 && l.next != nil
}

// Add makes the record durable that Fit found room for, of a transaction that began with
// base. When it returns false, the record may have been written: it must not be
// acknowledged, and a commit without it is due, which makes it void.
func (l *Log) Add(base int) bool {
	f := &l.fitted
	write := func() error { return l.write(base, len(l.records)+1) }
	if l.Write != nil {
		write = func() error { return l.Write(func() error { return l.write(base, len(l.records)+1) }) }
	}
	end := l.end + inBlocks(sectorsOf(f.length))
	if err := errors.Join(write(), l.active.place.Check(l.active.size)); err != nil {
		l.failed, l.maybeTorn = true, true
		l.failedTo("write to", err)
		return false
	}
	l.end = end
	record := bytes.Clone(f.batch)
	for i := 0; f.named && i < len(f.contents); i++ {
		c := f.contents[i]
		record = Batch(record).Put(c.Bucket, c.Key, f.places[i].Encode())
	}
	l.records = append(l.records, record)
	l.prepareEarly()
	l.count()
	return true
}

// write writes and syncs the record that Fit found room for. It goes through a small
// buffer: memory does not depend on the size of records.
func (l *Log) write(base, number int) error {
	f := &l.fitted
	var header [headerSize]byte
	binary.BigEndian.PutUint32(header[4:], uint32(f.length-headerSize))
	copy(header[8:], l.epoch[:])
	binary.BigEndian.PutUint64(header[24:], uint64(base))
	binary.BigEndian.PutUint64(header[32:], uint64(number))
	sum := crc32.Checksum(header[4:], castagnoli)
	for _, part := range f.parts {
		sum = crc32.Update(sum, castagnoli, part)
	}
	binary.BigEndian.PutUint32(header[:], sum)
	w := &l.writer
	w.begin(l.active.file, l.end)
	w.write(header[:])
	for _, part := range f.parts {
		w.write(part)
	}
	if err := w.end(); err != nil {
		return err
	}
	return syncData(l.active.file)
}

// inBlocks rounds a size up.
func inBlocks(size int64) int64 { return (size + blockSize - 1) / blockSize * blockSize }

// Unflushed says whether the log has records that the database lacks.
func (l *Log) Unflushed() bool { return len(l.records) > 0 }

// NeedsCommit says whether a commit is due, even without other changes.
func (l *Log) NeedsCommit() bool {
	return l.Unflushed() || l.maybeTorn || l.active != nil && !l.epochStored
}

// Stored says whether the database has the epoch of the records.
func (l *Log) Stored() bool { return l.epochStored }

// Position is what each commit must store, for the next Open; nil while the log has not
// been used. Behind a record that failed nothing is read: a sector of it may be damaged.
func (l *Log) Position() []byte {
	switch {
	case l.active != nil && !l.recovering && !l.failed:
		return position{l.epoch, l.active.number, l.end}.encode()
	case l.failed || l.renewed || l.epochStored:
		return position{l.epoch, l.newest + 1, 0}.encode()
	}
	return nil
}

// Committed is called after a commit that has all records of the log, and the Position.
// A log that failed goes on after retryAfter, in another segment.
func (l *Log) Committed() {
	l.epochStored = l.epochStored || l.renewed || l.active != nil
	l.records, l.maybeTorn, l.renewed = nil, false, false
	if l.recovering || l.failed {
		l.active, l.recovering, l.failed = nil, false, false
	}
}

// Reset gives up what was added since the last commit, of a transaction that was rolled
// back, so that it can be added again at once. The segments of it hold nothing.
func (l *Log) Reset() {
	l.receive(true)
	l.active, l.records, l.failed, l.maybeTorn, l.Cause = nil, nil, false, false, nil
	l.notBefore.Store(0)
}

// Forget begins a new epoch, for a database whose states are about to be numbered anew,
// and removes what holds no contents: it may hold deleted ones. The database must have
// all records. Nothing is left behind the Position that it has stored, so that no record
// of an earlier state passes for one of a new state with the same number.
func (l *Log) Forget() (err error) {
	l.receive(true)
	_, _ = rand.Read(l.epoch[:]) // never fails
	s := l.active
	l.active, l.epochStored, l.renewed = nil, false, l.allocated > 0
	if l.allocated == 0 {
		return nil
	}
	if s != nil {
		err = errors.Join(l.cut(s), s.file.Sync())
	}
	return errors.Join(err, l.giveBack(), l.Free(false), durable.SyncDir(l.dir))
}

// cut gives back what the active segment has behind its last record.
func (l *Log) cut(active *segment) error {
	if err := active.file.Truncate(l.end); err != nil {
		return err
	}
	l.allocated -= active.size - l.end
	active.size = l.end
	return nil
}

// PassOver has the next commit store a Position behind all segments. One that is put back
// later has contents, and no records that are repeated.
func (l *Log) PassOver() { l.renewed = true }

// Replay repeats the writes that are in the log only.
func (l *Log) Replay(to Target) error { return replayAll(l.records, to) }

func replayAll(records []Batch, to Target) error {
	for _, record := range records {
		if err := record.replay(to, Place{}); err != nil {
			return err
		}
	}
	return nil
}

// GiveBack gives up what the log has in reserve, for a commit on a full disk, and says
// whether that freed room.
func (l *Log) GiveBack() bool {
	if l.dir == "" {
		return false
	}
	l.receive(true)
	l.delay()
	if l.next != nil || len(l.spares) > 0 {
		_ = l.giveBack() // what cannot be removed is at the next start
		return true
	}
	if l.active == nil || !l.Unflushed() || l.failed || l.active.size-l.end < blockSize {
		return false
	}
	l.failed = true
	return l.cut(l.active) == nil
}

// Close removes the segments that are not needed, and closes the others. base is the last
// transaction of the database.
func (l *Log) Close(base int) error {
	if l.dir == "" {
		return nil
	}
	l.receive(true)
	var err error
	if !l.NeedsCommit() {
		s := l.active
		l.active = nil
		err = errors.Join(l.giveBack(), l.Free(false))
		if s != nil && l.used[s.number] != nil {
			l.active = s
			err = errors.Join(err, l.mark(base))
		}
	}
	err = errors.Join(err, l.Release())
	_ = os.Remove(l.dir) // unless something is in it
	return err
}

// mark writes that the database had a state, in a record with number 0, which is not
// replayed: an older copy of the database must take nothing from the log.
func (l *Log) mark(base int) error {
	if base == 0 || l.active.size-l.end < blockSize {
		return nil
	}
	l.fitted = fitted{length: headerSize}
	return l.write(base, 0)
}
