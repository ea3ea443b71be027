package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs/durable"
	"attachd/store/bolt/inplace"
)

const (
	// minSegment and maxSegment are the least and the most bytes of a segment.
	minSegment = 4 << 20
	maxSegment = 64 << 20
	// sizePart is how many segments of full size the log has at least.
	sizePart = 8
	// maxSpares is how many free segments are kept to be used again.
	maxSpares = 1
	// unfinished is the name of a segment that is being made.
	unfinished = "new"
)

var (
	// ErrGone means that the segment of a content is not there.
	ErrGone = errors.New("the segment of a content is not there")
	// ErrRotten means that the bytes of a content are damaged.
	ErrRotten = errors.New("the log was damaged where a content is")
	// ErrClosed means that the log was closed.
	ErrClosed = errors.New("the log is closed")
)

// segment is a file of the log.
type segment struct {
	number  uint64
	file    *os.File
	size    int64 // bytes
	place   inplace.File
	live    int          // how many contents the database names in it
	early   bool         // it was there at the start: it may have a second name (see SetAside), and is not used again
	astray  atomic.Bool  // the file is not in its place any more, and that was reported
	reading sync.RWMutex // held for reading by readers; nobody reads it when it is used again
}

// segments are the files of a log. A new one is made in a goroutine, at its full size,
// so that a write changes nothing but the bytes: the committer goes on meanwhile.
type segments struct {
	mu        sync.RWMutex
	used      map[uint64]*segment // by number: those with records
	closed    bool                // nothing can be read any more
	next      *segment            // follows the active one
	spares    []*segment          // free, to be used again
	preparing chan prepared       // yields the next one; nil when none is being made
	allocated int64               // bytes of all of them
	last      uint64              // the highest number that was used or named
	newest    uint64              // the highest number of a segment with records

	usedBytes atomic.Int64
	astray    atomic.Bool  // contents are in a file that has no name any more
	full      atomic.Bool  // the last record did not fit, and nothing was freed since
	notBefore atomic.Int64 // Unix nanoseconds: until then, no segment is made
	watched   time.Time    // when Watch last looked
}

type prepared struct {
	*segment
	size int64 // that was set apart for it
	err  error
}

// segmentName matches the names of segments.
var segmentName = regexp.MustCompile(`^[0-9a-f]{16}$`)

func nameOf(number uint64) string { return fmt.Sprintf("%016x", number) }

// openSegments opens what is in the folder, and removes what was not finished.
func (l *Log) openSegments() error {
	l.used = make(map[uint64]*segment)
	err := l.wantFolder()
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(l.dir, entry.Name())
		switch {
		case entry.Name() == unfinished:
			if err := os.Remove(path); err != nil {
				return err
			}
		case segmentName.MatchString(entry.Name()):
			if !entry.Type().IsRegular() {
				return fmt.Errorf("%s is not a plain file", path)
			}
			number, err := strconv.ParseUint(entry.Name(), 16, 64)
			if err != nil {
				return err
			}
			s, err := openSegment(path, number)
			if err != nil {
				return err
			}
			s.early = true
			l.used[number] = s
			l.allocated += s.size
			l.last = max(l.last, number)
		}
	}
	return nil
}

func openSegment(path string, number uint64) (*segment, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	s := &segment{number: number, file: file, place: inplace.File{Path: path}}
	if s.place.Info, err = file.Stat(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	s.size = s.place.Info.Size()
	return s, nil
}

// delay postpones the next segment after a failure.
func (l *Log) delay() { l.notBefore.Store(time.Now().Add(retryAfter).UnixNano()) }

// delayed says whether the next segment is postponed. A clock that was set back since
// postpones nothing.
func (l *Log) delayed() bool {
	left := l.notBefore.Load() - time.Now().UnixNano()
	return left > 0 && left <= int64(retryAfter)
}

// prepareEarly makes the next segment once the active one is half full.
func (l *Log) prepareEarly() {
	if l.end > l.active.size/2 {
		l.prepare()
	}
}

// prepare begins to make the next segment, if there is room for one.
func (l *Log) prepare() {
	if l.next != nil || l.preparing != nil || l.delayed() {
		return
	}
	var size int64
	var spare *segment
	if n := len(l.spares); n > 0 {
		spare, l.spares = l.spares[n-1], l.spares[:n-1]
		size = spare.size
	} else if size = l.nextSize(); size < minSegment {
		return
	} else {
		l.allocated += size
	}
	l.last++
	number, to := l.last, make(chan prepared, 1)
	l.preparing = to
	go func() {
		s, err := l.make(number, size, spare)
		to <- prepared{s, size, err}
	}()
}

// nextSize is the size of a new segment: as much as there is already, so that a log that
// is little used stays small, and no more than the disk has room for.
func (l *Log) nextSize() int64 {
	size := min(max(l.Size/sizePart, minSegment), maxSegment)
	if l.active == nil {
		size = minSegment // somebody waits for it
	}
	size = min(size, max(l.allocated, minSegment), l.Size-l.allocated)
	if size >= minSegment && l.Room != nil {
		size = min(size, l.Room()/2)
	}
	return size
}

// receive takes over the segment that is being made, if any, and waits for it if need be.
func (l *Log) receive(wait bool) {
	if l.preparing == nil {
		return
	}
	var p prepared
	if wait {
		p = <-l.preparing
	} else {
		select {
		case p = <-l.preparing:
		default:
			return
		}
	}
	l.preparing = nil
	if l.next = p.segment; p.err != nil {
		l.allocated -= p.size
		l.failedTo("make", p.err)
	}
}

// failedTo reports a failure, after which no segment is written for a while.
func (l *Log) failedTo(do string, err error) {
	l.delay()
	l.Cause = err
	l.Failed(fmt.Errorf("%s a segment of the log: %w. Small uploads are written to files at once; it is tried again in %s at the earliest", do, err, retryAfter))
}

// make makes a segment, of a spare if there is one. It is on stable storage, and its name
// too, before it is used.
func (l *Log) make(number uint64, size int64, spare *segment) (s *segment, err error) {
	path := filepath.Join(l.dir, nameOf(number))
	if spare != nil {
		err = spare.become(path)
	} else if err = l.makeFolder(); err == nil {
		err = l.fill(filepath.Join(l.dir, unfinished), path, size)
	}
	if err == nil {
		err = durable.SyncDir(l.dir)
	}
	if err != nil {
		return nil, err
	}
	return openSegment(path, number)
}

// become gives a segment its next name, without the beginning of its first record: it
// must not pass for one that another database wrote. What cannot be used again is removed.
func (s *segment) become(path string) (err error) {
	if _, err = s.file.WriteAt(make([]byte, blockSize), 0); err == nil {
		err = syncData(s.file)
	}
	if err = errors.Join(err, s.file.Close()); err == nil {
		err = os.Rename(s.place.Path, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(s.place.Path))
	}
	return nil
}

func (l *Log) makeFolder() error {
	err := os.Mkdir(l.dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return l.wantFolder()
	}
	if err == nil {
		err = l.own(l.dir)
	}
	if err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(l.dir))
}

// wantFolder returns an error unless there is a folder: where a link leads, other files
// may be.
func (l *Log) wantFolder() error {
	info, err := os.Lstat(l.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a folder", l.dir)
	}
	return err
}

func (l *Log) own(path string) error {
	if l.Own == nil {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(l.Own(file), file.Close())
}

// fill makes a file of zeros.
func (l *Log) fill(under, path string, size int64) (err error) {
	file, err := os.OpenFile(under, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(under))
		}
	}()
	if l.Own != nil {
		err = l.Own(file)
	}
	zeros := make([]byte, 256<<10)
	for at := int64(0); at < size && err == nil; at += int64(len(zeros)) {
		if _, err = file.Write(zeros[:min(int64(len(zeros)), size-at)]); err == nil && at > 0 && at%minSegment == 0 {
			err = syncData(file) // a little at a time: records are synced meanwhile
		}
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(under, path)
}

// rotate goes on in the next segment.
func (l *Log) rotate() {
	l.mu.Lock()
	l.used[l.next.number] = l.next
	l.mu.Unlock()
	l.active, l.next, l.end = l.next, nil, 0
	l.newest = l.active.number
	l.count()
}

// count sets how much the segments with records take.
func (l *Log) count() {
	var bytes int64
	for _, s := range l.used {
		if s == l.active {
			bytes += l.end
		} else {
			bytes += s.size
		}
	}
	l.usedBytes.Store(bytes)
}

// Used is how many bytes the records and contents take.
func (l *Log) Used() int64 { return l.usedBytes.Load() }

// Full says that the log can take no record at present.
func (l *Log) Full() bool {
	return l.dir == "" || l.full.Load() || l.delayed()
}

// Hold counts a content that the database names, and says whether its segment is there.
func (l *Log) Hold(p Place) bool {
	s := l.used[p.Segment]
	if s != nil {
		s.live++
	}
	return s != nil
}

// KeepAll holds every segment that is there, for a database that cannot tell which of
// them it names.
func (l *Log) KeepAll() {
	for _, s := range l.used {
		s.live++
	}
}

// Drop is called when the database names a content no more.
func (l *Log) Drop(p Place) {
	if s := l.used[p.Segment]; s != nil {
		s.live--
	}
}

// Free frees the segments that hold nothing: they are kept as spares, or removed. It must
// be called while the database has all records.
func (l *Log) Free(recycle bool) (err error) {
	for number, s := range l.used {
		if s == l.active || s.live > 0 {
			continue
		}
		l.mu.Lock()
		delete(l.used, number)
		l.mu.Unlock()
		s.reading.Lock() // no reader has it any more
		s.reading.Unlock()
		l.full.Store(false)
		if recycle && !s.early && len(l.spares) < maxSpares && s.size >= min(l.allocated/4, maxSegment/4) && s.place.Check(s.size) == nil {
			l.spares = append(l.spares, s)
			continue
		}
		err = errors.Join(err, l.remove(s))
	}
	l.count()
	return err
}

func (l *Log) remove(s *segment) error {
	l.allocated -= s.size
	err := errors.Join(s.file.Close(), os.Remove(s.place.Path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// giveBack removes the segments that have no records.
func (l *Log) giveBack() (err error) {
	for _, s := range append(l.spares, l.next) {
		if s != nil {
			err = errors.Join(err, l.remove(s))
		}
	}
	l.spares, l.next = nil, nil
	return err
}

// Release closes all files and keeps them as they are.
func (l *Log) Release() (err error) {
	l.receive(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.used {
		s.reading.Lock() // the last reader has ended
		s.reading.Unlock()
		err = errors.Join(err, s.file.Close())
	}
	for _, s := range append(l.spares, l.next) {
		if s != nil {
			err = errors.Join(err, s.file.Close())
		}
	}
	l.used, l.spares, l.next, l.active = nil, nil, nil, nil
	return err
}

// watchTime is how often Watch looks at the files of the log at most.
const watchTime = time.Second

// Watch reports segments with contents that were removed, replaced or cut short.
func (l *Log) Watch() {
	if time.Since(l.watched) < watchTime {
		return
	}
	l.watched = time.Now()
	astray := false
	for _, s := range l.used {
		is := s.live > 0 && l.hasStrayed(s, s.size)
		s.astray.Store(is)
		astray = astray || is
	}
	l.astray.Store(astray)
}

// hasStrayed says whether the file of a segment is not at its path, or is shorter than
// size, and reports that once. Its contents are read from the open file as long as the
// process runs.
func (l *Log) hasStrayed(s *segment, size int64) bool {
	err := s.place.Check(size)
	if err != nil && !s.astray.Swap(true) {
		l.astray.Store(true)
		l.Failed(fmt.Errorf("%w. Small uploads are in it that have no file in blobs yet: as far as they can still be read, they are written to their files now. Put that file back, or stop the server only once `attachd doctor` says that 0 small files are in the log", err))
	}
	return err != nil
}

// Astray says whether contents are in files that were removed, replaced or cut short, and
// will be lost with the process.
func (l *Log) Astray() bool { return l.astray.Load() }

// Read returns the bytes of a content, without hashing them.
func (l *Log) Read(p Place) ([]byte, error) {
	l.mu.RLock()
	s := l.used[p.Segment]
	if s == nil {
		defer l.mu.RUnlock()
		if l.closed {
			return nil, ErrClosed
		}
		return nil, ErrGone
	}
	s.reading.RLock()
	l.mu.RUnlock()
	defer s.reading.RUnlock()
	l.hasStrayed(s, 0)
	skip := int(p.At % sectorData)
	raw := make([]byte, sectorsOf(int64(skip)+int64(p.Length)))
	if _, err := s.file.ReadAt(raw, int64(p.Record)+int64(p.At/sectorData)*sectorSize); err == io.EOF {
		return nil, fmt.Errorf("%w: %s is too short", ErrRotten, s.place.Path)
	} else if err != nil {
		return nil, err
	}
	data, damaged := outOfSectors(raw[:0], raw, skip+int(p.Length))
	if damaged {
		return nil, fmt.Errorf("%w: %s, from byte %d on", ErrRotten, s.place.Path, p.Record)
	}
	return data[skip:], nil
}
