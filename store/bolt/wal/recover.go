package wal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"attachd/blobs/durable"
)

// recovery reads the records of one state of a database.
type recovery struct {
	epoch   []byte
	base    uint64
	flat    bool // the records are in no sectors
	records []Batch
	later   bool // there are records of a later state: the database is an older one
}

// Recover reads the records of a base after a start; Unflushed says whether there are
// any. stored is the Position that the database stored. A record with missing sectors
// was not acknowledged, and was the last to be begun: a damaged sector, or a record after
// it, proves that the log was damaged since.
func (l *Log) Recover(base int, stored []byte) error {
	if l.dir == "" {
		return nil
	}
	p, is := decodePosition(stored)
	if err := l.lookForOthers(p, is, uint64(base)); err != nil || !is {
		return err
	}
	r := &recovery{epoch: p.epoch[:], base: uint64(base)}
	var list []*segment
	for _, number := range slices.Sorted(maps.Keys(l.used)) {
		if number >= p.segment {
			list = append(list, l.used[number])
		}
	}
	at := p.at
	if len(list) > 0 && list[0].number != p.segment {
		at = 0
	}
	if len(list) > 0 && list[0].size < at {
		return damagedAt(list[0].place.Path, fmt.Sprintf("there are %d bytes of %d at least", list[0].size, at))
	}
	last, end, err := r.readAll(list, at)
	if r.later {
		l.Others = true
		return nil
	}
	if err == nil && len(r.records) > 0 {
		l.records, l.active, l.end, l.recovering, l.renewed = r.records, last, end, true, true
	}
	return err
}

// lookForOthers sets Others where a segment behind the position of the database begins
// with a record of another epoch, or any segment with a record that is not of a move which
// did not end: that has contents only, and is tried again in the same state.
func (l *Log) lookForOthers(p position, is bool, base uint64) error {
	r := new(recovery)
	for number, s := range l.used {
		if number < p.segment {
			continue
		}
		head, damaged, err := r.data(s.file, 0, s.size, headerSize+1)
		if err != nil {
			return err
		}
		switch {
		case damaged:
		case len(head) <= headerSize || isZero(head):
			continue
		case is && bytes.Equal(head[8:24], p.epoch[:]):
			continue
		case !is && binary.BigEndian.Uint64(head[24:]) == base && head[headerSize] == 'k':
			continue
		}
		l.Others = true
	}
	return nil
}

// SetAside gives all segments a second name in a folder beside that of the log, where
// nobody changes them, and returns its path. The next commit must store the Position: what
// is there now is of the past then.
func (l *Log) SetAside() (to string, err error) {
	l.renewed = true
	to = l.dir + ".aside-" + time.Now().UTC().Format("2006-01-02T15-04-05.000Z")
	if err = os.Mkdir(to, 0o700); err == nil {
		err = l.own(to)
	}
	for _, s := range l.used {
		if err == nil {
			err = os.Link(s.place.Path, filepath.Join(to, filepath.Base(s.place.Path)))
		}
	}
	if err == nil {
		err = errors.Join(durable.SyncDir(to), durable.SyncDir(filepath.Dir(to)))
	}
	return to, err
}

// readAll reads the records in segments, the first from an offset on, and returns where
// they end.
func (r *recovery) readAll(list []*segment, at int64) (last *segment, end int64, err error) {
	for i, s := range list {
		end, err = r.read(s, at)
		next := false
		if err == nil && i+1 < len(list) {
			next, err = r.continues(list[i+1])
		}
		if last, at = s, 0; next {
			continue
		}
		return last, end, cmp.Or(err, r.wantNoMore(s, end, list[i+1:]))
	}
	return last, end, nil
}

// read reads the records in a segment from an offset on, and returns where they end.
func (r *recovery) read(s *segment, at int64) (end int64, err error) {
	for {
		found, err := r.parse(s.file, at, s.size)
		if err != nil {
			return at, err
		}
		if found.damaged {
			return at, damagedAt(s.place.Path, fmt.Sprintf("record %d cannot be read", len(r.records)+1))
		}
		if found.number != len(r.records)+1 {
			return at, nil
		}
		kept := new(record)
		if err := found.writes.replay(kept, Place{Segment: s.number, Record: uint32(at), At: headerSize}); err != nil {
			return at, damagedAt(s.place.Path, err.Error())
		}
		r.records = append(r.records, kept.Batch)
		at += found.size
	}
}

// continues says whether the records go on at the beginning of a segment.
func (r *recovery) continues(s *segment) (bool, error) {
	found, err := r.parse(s.file, 0, s.size)
	if err == nil && found.damaged {
		err = damagedAt(s.place.Path, fmt.Sprintf("record %d cannot be read", len(r.records)+1))
	}
	return found.number == len(r.records)+1, err
}

// wantNoMore returns an error when a record follows the last, unless there is one of a
// later state.
func (r *recovery) wantNoMore(s *segment, at int64, later []*segment) (more error) {
	for _, s := range append([]*segment{s}, later...) {
		for ; at < s.size; at += blockSize {
			found, err := r.parse(s.file, at, s.size)
			if err != nil {
				return err
			}
			if found.number > len(r.records) && more == nil {
				more = damagedAt(s.place.Path, fmt.Sprintf("record %d cannot be read, and %d can", len(r.records)+1, found.number))
			}
		}
		at = 0
	}
	return more
}

func damagedAt(path, how string) error {
	return fmt.Errorf("%w: in %s, %s. Move that file away to go on without it: uploads of the moment before the crash are lost then as far as they are in it only. Where the next start says that small uploads are missing, put the file back after that start, and restart attachd: they are read from it again", ErrDamaged, path, how)
}

// found is what parse found.
type found struct {
	number  int // 0 where there is no complete record of the epoch and the base
	writes  Batch
	size    int64 // in the file
	damaged bool  // one of its sectors is, or the first where it is not known to be such a record
}

// parse parses what may be a record at an offset of a file of a size.
func (r *recovery) parse(file io.ReaderAt, at, size int64) (f found, err error) {
	header, damaged, err := r.data(file, at, size, headerSize)
	if err != nil || damaged || len(header) < headerSize || !bytes.Equal(header[8:24], r.epoch) {
		return found{damaged: damaged}, err
	}
	if base := binary.BigEndian.Uint64(header[24:]); base != r.base {
		r.later = r.later || base > r.base
		return found{}, nil
	}
	length := headerSize + int64(binary.BigEndian.Uint32(header[4:]))
	if length > size-at {
		return found{damaged: !r.flat}, nil // the file was cut short since: it had its whole length before
	}
	data, damaged, err := r.data(file, at, size, length)
	if err != nil || damaged || int64(len(data)) < length || crc32.Checksum(data[4:], castagnoli) != binary.BigEndian.Uint32(data) {
		return found{damaged: damaged}, err
	}
	return found{int(binary.BigEndian.Uint64(data[32:])), Batch(data[headerSize:]), inBlocks(r.inFile(length)), false}, nil
}

func (r *recovery) inFile(n int64) int64 {
	if r.flat {
		return n
	}
	return sectorsOf(n)
}

// data reads the first n bytes of the data at an offset.
func (r *recovery) data(file io.ReaderAt, at, size, n int64) (data []byte, damaged bool, err error) {
	raw := make([]byte, max(0, min(r.inFile(n), size-at)))
	if read, err := file.ReadAt(raw, at); err == io.EOF {
		raw = raw[:read]
	} else if err != nil {
		return nil, false, err
	}
	if r.flat {
		return raw[:min(n, int64(len(raw)))], false, nil
	}
	data, damaged = outOfSectors(raw[:0], raw, int(n))
	return data, damaged, nil
}

// Older is the log of an earlier version, which crashed: one file, which contains no
// contents, or those of the database.
type Older struct {
	path    string
	records []Batch
}

// OpenOlder reads the records of a base from the file of an earlier version; nil when
// there is none. stored is what that version stored in the database: its epoch, and a
// byte behind it unless it wrote records without sectors.
func OpenOlder(path string, stored []byte, base int) (*Older, error) {
	file, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	o := &Older{path: path}
	if len(stored) != 16 && len(stored) != 17 {
		return o, nil
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	r := &recovery{epoch: stored[:16], base: uint64(base), flat: len(stored) == 16}
	s := &segment{file: file, size: info.Size()}
	s.place.Path = path
	end, err := r.read(s, 0)
	if err == nil {
		err = r.wantNoMore(s, end, nil)
	}
	o.records = r.records
	return o, err
}

// Replay repeats the writes that are in the log only.
func (o *Older) Replay(to Target) error { return replayAll(o.records, to) }

// GiveBack gives up the part of the file that never had records, on a full disk.
func (o *Older) GiveBack() { _ = os.Truncate(o.path, 2<<20) }

// Remove removes the file, once the database lacks nothing of it.
func (o *Older) Remove() error { return os.Remove(o.path) }
