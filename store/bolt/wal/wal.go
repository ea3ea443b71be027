// Package wal is the write-ahead log of a database: one file that makes batches
// of changes durable with one write and one sync each, before the database
// commits them. It knows of the database only that its states are numbered,
// and that it can put, delete and number keys.
//
// A commit of the database writes a dozen pages all over its file and syncs it
// twice; the log appends to a file that is allocated already. The transaction
// that made the changes stays open meanwhile, and is committed a moment later.
//
// A record is one batch: every key and value that it wrote, in order, so that to
// replay it is to write the same again. It is valid for one state of the
// database only, the base that its transaction began with: after a crash, the
// next start replays only the records of the state that it finds. After each
// commit, the log is overwritten from its beginning: its records are not needed any
// more.
//
//	crc       4   CRC-32C (Castagnoli) of all that follows
//	length    4   of the writes, in bytes
//	epoch    16   random, made with the file, and stored in the database:
//	              records of another epoch are not for it
//	base      8   the number of the last transaction in the database
//	number    8   from 1 on for each base
//	writes        see Batch
//
// The file exists while the database is open, and after a crash: a start or
// stop that needs it no more removes it.
//
// A record begins at a multiple of blockSize. So no write touches a block of a
// record that was acknowledged, and could damage it when the power fails. It is
// in sectors with a checksum each, so that a record that is damaged after it was
// acknowledged does not pass for one that was not acknowledged.
//
// Records fill half of the file. The other half is reserved for a full disk: it
// is given up when there is no room to commit what is in the log.
package wal

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"time"

	"attachd/blobs/durable"
	"attachd/store/bolt/inplace"
)

const (
	fileSize   = 4 << 20 // bytes, allocated when the file is created
	usedSize   = fileSize / 2
	blockSize  = 4 << 10 // bytes; what a disk writes at once, or a multiple of it
	headerSize = 4 + 4 + 16 + 8 + 8

	// retryAfter is after how long a log that failed is created anew.
	retryAfter = 10 * time.Second
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	// layout is stored behind the epoch in the database, and identifies the layout
	// of the records. An epoch without it is of a log without sectors.
	layout = []byte{2}
)

// ErrDamaged means that the log was damaged after it was written, so that not all
// records that the database lacks can be read.
var ErrDamaged = errors.New("the log of the database is damaged")

// Options configure a log.
type Options struct {
	// Own, when set, sets the owner of a new file.
	Own func(*os.File) error
	// Write makes a record durable: it is Append except in tests.
	Write func(file *os.File, record []byte, at int64) error
	// Failed is called when the file could not be created or written.
	Failed func(error)
}

// Log is the write-ahead log of an open database. The zero Log has no file and
// accepts no records. It is not safe for concurrent use.
type Log struct {
	path string // empty when there is to be no log
	Options

	file        *os.File     // nil until it is needed
	place       inplace.File // of file
	retryAt     time.Time    // when it may be created
	failed      bool         // no record is written to it any more
	halved      bool         // the reserved half was given up
	epoch       [16]byte
	epochStored bool    // the database has the epoch
	flat        bool    // it has no sectors: an earlier version of attachd wrote it, and crashed
	maybeTorn   bool    // it may have a record that was refused, until a commit
	end         int64   // offset of the next record
	unflushed   []Batch // the records that the database lacks

	buffer, sectors []byte // of the last record
}

// Append writes a record to the file, and syncs it.
func Append(file *os.File, record []byte, at int64) error {
	if _, err := file.WriteAt(record, at); err != nil {
		return err
	}
	return syncData(file)
}

// Open opens the log at path, which may not exist. stored is the value of
// EpochToStore that the database stored. With an empty path there is no log.
func Open(path string, stored []byte, opts Options) (*Log, error) {
	l := &Log{path: path, Options: opts}
	if path == "" {
		return l, nil
	}
	l.epochStored = copy(l.epoch[:], stored) == len(l.epoch)
	l.flat = len(stored) == len(l.epoch)
	var err error
	if l.file, err = os.OpenFile(path, os.O_RDWR, 0); errors.Is(err, os.ErrNotExist) {
		l.epochStored = false
		return l, nil
	}
	return l, err
}

// Recover reads the records of a base after a start; Unflushed says whether
// there are any.
func (l *Log) Recover(base int) error {
	if l.file == nil || !l.epochStored {
		return nil
	}
	return l.read(base)
}

// Ready says whether a batch can be written to the log. For the first batch, it
// creates the file and returns false: that batch is committed to the database, to
// store the epoch there.
func (l *Log) Ready() bool {
	if l.path == "" || l.failed {
		return false
	}
	if l.file == nil && time.Now().After(l.retryAt) {
		file, place, err := create(l.path, l.Own)
		if err != nil {
			l.retryAt = time.Now().Add(retryAfter)
			l.Failed(err)
			return false
		}
		*l = Log{path: l.path, Options: l.Options, buffer: l.buffer, sectors: l.sectors, file: file, place: place, epoch: newEpoch()}
	}
	return l.epochStored
}

func newEpoch() (epoch [16]byte) {
	_, _ = rand.Read(epoch[:]) // never fails
	return epoch
}

// create creates the file at its full size, so that a write changes nothing but the
// bytes.
func create(path string, own func(*os.File) error) (file *os.File, place inplace.File, err error) {
	file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, place, fmt.Errorf("make the log: %w", err)
	}
	place.Path = path
	if err = allocate(file, own); err == nil {
		place.Info, err = file.Stat()
	}
	if err != nil {
		return nil, place, fmt.Errorf("make the log: %w", errors.Join(err, file.Close(), os.Remove(path)))
	}
	return file, place, nil
}

func allocate(file *os.File, own func(*os.File) error) error {
	if own != nil {
		if err := own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	zeros := make([]byte, fileSize/8)
	for range 8 {
		if _, err := file.Write(zeros); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(file.Name()))
}

// Add makes a batch durable that was made in a transaction that began with base.
// When it returns false, the batch must be committed to the database at once. After
// a failure the file is not written again: its contents are unknown, and the next
// commit makes it void.
func (l *Log) Add(base int, batch Batch) bool {
	size := l.inBlocks(batch)
	if l.halved || l.end+int64(size) > usedSize {
		return false
	}
	record := append(l.buffer[:0], 0, 0, 0, 0)
	record = binary.BigEndian.AppendUint32(record, uint32(len(batch)))
	record = append(record, l.epoch[:]...)
	record = binary.BigEndian.AppendUint64(record, uint64(base))
	record = binary.BigEndian.AppendUint64(record, uint64(len(l.unflushed)+1))
	record = append(record, batch...)
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], castagnoli))
	l.sectors = inSectors(l.sectors[:0], record)
	l.buffer = record
	if err := errors.Join(l.Write(l.file, l.sectors, l.end), l.place.Check(l.end+int64(size))); err != nil {
		l.failed, l.maybeTorn = true, true
		l.Failed(err)
		return false
	}
	l.end += int64(size)
	l.unflushed = append(l.unflushed, bytes.Clone(batch))
	return true
}

// Unflushed says whether the log has records that the database lacks.
func (l *Log) Unflushed() bool { return len(l.unflushed) > 0 }

// NeedsCommit says whether a commit is due, even without other changes.
func (l *Log) NeedsCommit() bool { return l.Unflushed() || l.maybeTorn }

// EpochToStore is what the next commit must store, for Open; nil when it is stored.
func (l *Log) EpochToStore() []byte {
	if l.file == nil || l.epochStored && !l.maybeTorn {
		return nil
	}
	return append(bytes.Clone(l.epoch[:]), layout...)
}

// Committed is called after a commit that has all records of the log. A log that
// failed, or half of which was given up, is created anew after retryAfter.
func (l *Log) Committed() {
	l.epochStored, l.maybeTorn, l.end, l.unflushed = l.file != nil, false, 0, nil
	if l.halved || l.failed {
		// A file that cannot be removed only prevents the creation of another.
		_ = l.Remove()
		l.retryAt = time.Now().Add(retryAfter)
	}
}

// Remove is called when the database lacks nothing of the log.
func (l *Log) Remove() error {
	if l.file == nil {
		return nil
	}
	closed := l.file.Close() // Windows does not remove open files
	l.file, l.epochStored, l.halved, l.failed = nil, false, false, false
	err := os.Remove(l.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(closed, err)
}

// Disable makes this a log that accepts no records until the next start.
func (l *Log) Disable() { l.path = "" }

// Halve gives up the reserved half of the file for the commit of what is in the
// log, and says whether that freed room on the disk.
func (l *Log) Halve() bool {
	if !l.Unflushed() || l.halved {
		return false
	}
	l.halved = true
	return l.file.Truncate(usedSize) == nil
}

// Close closes the log, and removes the file unless the database lacks, or may
// lack, some of its records.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	if l.NeedsCommit() {
		return l.file.Close()
	}
	return l.Remove()
}

// Release closes the file and keeps it as it is.
func (l *Log) Release() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// Replay repeats the writes that are in the log only.
func (l *Log) Replay(to Target) error {
	for _, batch := range l.unflushed {
		if err := batch.replay(to); err != nil {
			return err
		}
	}
	return nil
}

// read reads the records of a base. A record with missing sectors was not
// acknowledged, and was the last to be begun: a damaged sector, or a record after
// it, proves that the file was damaged since.
func (l *Log) read(base int) error {
	all, err := io.ReadAll(io.LimitReader(l.file, fileSize))
	if err != nil {
		return err
	}
	at := 0
	for {
		number, batch, damaged := l.parse(all[at:], base)
		if damaged {
			return l.damagedAt(fmt.Sprintf("record %d cannot be read", len(l.unflushed)+1))
		}
		if number != len(l.unflushed)+1 {
			break
		}
		l.unflushed = append(l.unflushed, batch)
		at = min(len(all), at+l.inBlocks(batch))
	}
	for ; at < len(all); at += blockSize {
		if number, _, _ := l.parse(all[at:], base); number > len(l.unflushed) {
			return l.damagedAt(fmt.Sprintf("record %d cannot be read, and %d can", len(l.unflushed)+1, number))
		}
	}
	return nil
}

func (l *Log) damagedAt(how string) error {
	return fmt.Errorf("%w: in %s, %s. Move that file away to go on without it: small uploads of the moment before the crash, which are in it only, are lost then", ErrDamaged, l.path, how)
}

// inBlocks is the size of a record, in bytes.
func (l *Log) inBlocks(batch Batch) int {
	size := headerSize + len(batch)
	if !l.flat {
		size = sectorsOf(size)
	}
	return (size + blockSize - 1) / blockSize * blockSize
}

// data is the first n bytes of a record.
func (l *Log) data(b []byte, n int) (data []byte, damaged bool) {
	if l.flat {
		return b[:min(n, len(b))], false
	}
	return outOfSectors(b, n)
}

// parse parses the record at the beginning of b, and returns number 0 where there
// is no complete record of the epoch and the base. damaged means that one of the
// record's sectors is damaged, or the first sector where it is not known to be such
// a record.
func (l *Log) parse(b []byte, base int) (number int, batch Batch, damaged bool) {
	header, damaged := l.data(b, headerSize)
	if damaged || len(header) < headerSize || !bytes.Equal(header[8:24], l.epoch[:]) || binary.BigEndian.Uint64(header[24:]) != uint64(base) {
		return 0, nil, damaged
	}
	length := uint64(binary.BigEndian.Uint32(header[4:]))
	if length > uint64(len(b)-headerSize) {
		return 0, nil, false
	}
	record, damaged := l.data(b, headerSize+int(length))
	if damaged || len(record) < headerSize+int(length) || crc32.Checksum(record[4:], castagnoli) != binary.BigEndian.Uint32(record) {
		return 0, nil, damaged
	}
	return int(binary.BigEndian.Uint64(record[32:])), Batch(record[headerSize:]), false
}
