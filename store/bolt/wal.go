package bolt

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
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs/durable"
	"attachd/store"

	"github.com/google/uuid"
)

// The log is a second file, in which small uploads are on stable storage
// sooner than in the database. A commit of bbolt writes a dozen pages all over
// its file and syncs it twice; the log takes all that came in meanwhile in one
// write and one sync, at a place that is there already. The transaction that
// made the changes stays open, takes more of them, and is committed a moment
// later, or with the first change that does not go into the log.
//
// A record is one batch of changes: every key and value that they wrote, in
// order, so that to repeat it is to write the same again. It is good for one
// state of the database only, the one that its transaction began with: after a
// crash, the next start repeats the records of just the state that it finds.
// Once a transaction is committed, the log begins at its start again, over
// records that nobody needs.
//
//	crc       4   CRC-32C (Castagnoli) of all that follows
//	length    4   of the writes, in bytes
//	epoch    16   made with the file, and told to the database: records of
//	              another one are not for it
//	base      8   the number of the last transaction in the database
//	number    8   from 1 on for each base
//	writes        for each: 'p' bucket key value, 'd' bucket key, or 's' bucket
//	              number (its sequence); names, keys and values with their
//	              lengths before them as varints
//
// The file is there while the database is open, and after a crash: a start or
// stop that needs it no more removes it.
//
// A record begins at a multiple of logBlock. So no write touches a block of a
// record that was acknowledged, and could take it along when the power goes. It
// is in sectors with a checksum each, so that one that rots after it was
// acknowledged does not pass for one that never was.
//
// Records fill half of the file. The other half is room on a full disk: it is
// given up when there is none to commit what is in the log.
const (
	logSize   = 4 << 20 // bytes of the file, which is made in full
	logUsed   = logSize / 2
	logBlock  = 4 << 10 // bytes; what a disk writes as one, or a multiple of it
	logHeader = 4 + 4 + 16 + 8 + 8

	// Changes stay in the log alone for so long at most,
	logTime = 250 * time.Millisecond
	// and, when their commit finds no room, for so long until it is tried again.
	logRetry = time.Second
	// A log that could not be made is not tried again for so long.
	logRest = 10 * time.Second
)

var (
	logCRC = crc32.MakeTable(crc32.Castagnoli)
	// In bucket meta: the epoch, and behind it how the records are laid out.
	// Behind that of a log without sectors there is nothing.
	logKey    = []byte("log")
	logLayout = []byte{2}
)

// ErrLogDamaged means that the log was damaged after it was written, so that
// what it has and the database lacks cannot all be read.
var ErrLogDamaged = errors.New("the log of the database is damaged")

// journal is the log of an open database. It belongs to the committer.
type journal struct {
	path  string // empty when there is to be none
	own   func(*os.File) error
	write func(file *os.File, record []byte, at int64) error
	tell  func(error) // that it could not be made or written

	file   *os.File  // nil until it is needed
	place  place     // of file
	rest   time.Time // when it may be tried to make it
	failed bool      // it is not used any more
	shrunk bool      // half of it was given up
	epoch  [16]byte
	known  bool   // the epoch is in the database
	flat   bool   // it has no sectors: an earlier version of attachd wrote it, and crashed
	doubt  bool   // it may have a record that was refused, until a commit
	end    int64  // where the next record goes
	writes []redo // of the records

	buffer, sectors []byte // of the last record
}

// appendLog is how a record gets on stable storage.
func appendLog(file *os.File, record []byte, at int64) error {
	if _, err := file.WriteAt(record, at); err != nil {
		return err
	}
	return syncData(file)
}

// ready says whether a batch could go into the log, and makes it when it is
// the first one that could: that one tells the database of it.
func (j *journal) ready() bool {
	if j.path == "" || j.failed {
		return false
	}
	if j.file == nil && time.Now().After(j.rest) {
		file, place, err := makeLog(j.path, j.own)
		if err != nil {
			j.rest = time.Now().Add(logRest)
			j.tell(err)
			return false
		}
		*j = journal{path: j.path, own: j.own, write: j.write, tell: j.tell, buffer: j.buffer, sectors: j.sectors, file: file, place: place, epoch: newEpoch()}
	}
	return j.known
}

func newEpoch() (epoch [16]byte) {
	_, _ = rand.Read(epoch[:]) // never fails
	return epoch
}

// makeLog makes the file with all its bytes, so that to write there again
// changes nothing but them.
func makeLog(path string, own func(*os.File) error) (file *os.File, at place, err error) {
	file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, at, fmt.Errorf("make the log: %w", err)
	}
	at.path = path
	if err = fillLog(file, own); err == nil {
		at.file, err = file.Stat()
	}
	if err != nil {
		return nil, at, fmt.Errorf("make the log: %w", errors.Join(err, file.Close(), os.Remove(path)))
	}
	return file, at, nil
}

func fillLog(file *os.File, own func(*os.File) error) error {
	if own != nil {
		if err := own(file); err != nil {
			return fmt.Errorf("hand over: %w", err)
		}
	}
	zeros := make([]byte, logSize/8)
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

// add puts a batch into the log, made in a transaction that began with base.
// When it says no, the batch is to be committed to the database at once. After
// a failure the file is not touched again: nobody knows what it holds, and the
// next commit sees to it that nobody asks.
func (j *journal) add(base int, writes redo) bool {
	size := j.inBlocks(writes)
	if j.shrunk || j.end+int64(size) > logUsed {
		return false
	}
	record := append(j.buffer[:0], 0, 0, 0, 0)
	record = binary.BigEndian.AppendUint32(record, uint32(len(writes)))
	record = append(record, j.epoch[:]...)
	record = binary.BigEndian.AppendUint64(record, uint64(base))
	record = binary.BigEndian.AppendUint64(record, uint64(len(j.writes)+1))
	record = append(record, writes...)
	binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], logCRC))
	j.sectors = inSectors(j.sectors[:0], record)
	j.buffer = record
	if err := errors.Join(j.write(j.file, j.sectors, j.end), j.place.holds(j.end+int64(size))); err != nil {
		j.failed, j.doubt = true, true
		j.tell(err)
		return false
	}
	j.end += int64(size)
	j.writes = append(j.writes, bytes.Clone(writes))
	return true
}

// isAhead says whether the log has what the database lacks.
func (j *journal) isAhead() bool { return len(j.writes) > 0 }

// wantsCommit says whether a commit is due, whatever else is to be changed.
func (j *journal) wantsCommit() bool { return j.isAhead() || j.doubt }

// note has the commit of tx say what the log's epoch is.
func (j *journal) note(tx *writeTx) {
	if j.file != nil && (!j.known || j.doubt) {
		tx.put(bucketMeta, logKey, join(j.epoch[:], logLayout))
	}
}

// committed is called when that commit has been made. A log that failed, or of
// which a half was given up, is made anew after a while.
func (j *journal) committed() {
	j.known, j.doubt, j.end, j.writes = j.file != nil, false, 0, nil
	if j.shrunk || j.failed {
		// One that cannot be removed is in the way of another, and no more.
		_ = j.remove()
		j.rest = time.Now().Add(logRest)
	}
}

// remove is called when the database lacks nothing of the log.
func (j *journal) remove() error {
	if j.file == nil {
		return nil
	}
	closed := j.file.Close() // Windows removes nothing that is open
	j.file, j.known, j.shrunk, j.failed = nil, false, false, false
	err := os.Remove(j.path)
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(closed, err)
}

// giveRoom says whether it has made room on the disk for what is in the log.
func (j *journal) giveRoom() bool {
	if !j.isAhead() || j.shrunk {
		return false
	}
	j.shrunk = true
	return j.file.Truncate(logUsed) == nil
}

// close keeps the file only for what the database lacks, or may.
func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	if j.wantsCommit() {
		return j.file.Close()
	}
	return j.remove()
}

// redo is what one batch of changes wrote.
type redo []byte

func (r redo) put(bucket, key, value []byte) redo {
	return appendBytes(appendBytes(appendBytes(append(r, 'p'), bucket), key), value)
}

func (r redo) delete(bucket, key []byte) redo {
	return appendBytes(appendBytes(append(r, 'd'), bucket), key)
}

func (r redo) sequence(bucket []byte, seq uint64) redo {
	return binary.AppendUvarint(appendBytes(append(r, 's'), bucket), seq)
}

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

var errRedo = errors.New("a record of the log that cannot be read")

// apply writes it again.
func (r redo) apply(tx *writeTx) error {
	in := bytes.NewReader(r)
	next := func() []byte {
		n, err := binary.ReadUvarint(in)
		if err != nil || n > uint64(in.Len()) {
			return nil
		}
		at := len(r) - in.Len()
		_, _ = in.Seek(int64(n), io.SeekCurrent) // never fails
		return r[at : at+int(n)]
	}
	for in.Len() > 0 {
		op, _ := in.ReadByte() // there is one
		bucket := next()
		if tx.Bucket(bucket) == nil {
			return errRedo
		}
		switch op {
		case 'p':
			key := next()
			tx.put(bucket, key, next())
		case 'd':
			tx.delete(bucket, next())
		case 's':
			seq, err := binary.ReadUvarint(in)
			if err != nil {
				return errRedo
			}
			if err := tx.Bucket(bucket).SetSequence(seq); err != nil {
				return err
			}
		default:
			return errRedo
		}
	}
	return tx.err
}

// openLog repeats what the log of db has and db lacks. Without a path, db is a
// copy, and what any log holds is nothing to it. makeRoom is called when the
// disk is full.
func (b *Store) openLog(db *handle, path string, makeRoom func() bool, tell func(error)) (*journal, error) {
	j := &journal{path: path, write: appendLog, tell: tell}
	base := 0
	err := b.viewIn(db, func(tx *dbTx) error {
		base = tx.ID()
		noted := tx.get(bucketMeta, logKey)
		j.known = copy(j.epoch[:], noted) == len(j.epoch)
		j.flat = len(noted) == len(j.epoch)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if path == "" {
		if j.known {
			err = b.updateIn(db, func(tx *dbTx) error { return tx.Bucket(bucketMeta).Delete(logKey) })
		}
		return &journal{}, err
	}
	if j.file, err = os.OpenFile(path, os.O_RDWR, 0); errors.Is(err, os.ErrNotExist) {
		j.known = false
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	if err := j.repeat(b, db, base, makeRoom); err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	if err := j.remove(); err != nil {
		j.path = "" // it works without
		tell(err)
	}
	return j, nil
}

// repeat commits what db lacks.
func (j *journal) repeat(b *Store, db *handle, base int, makeRoom func() bool) error {
	if !j.known {
		return nil
	}
	if err := j.read(base); err != nil || !j.isAhead() {
		return err
	}
	again := func(tx *dbTx) error { return j.apply(&writeTx{dbTx: tx}) }
	err := b.updateIn(db, again)
	for tries := 0; tries < fullTries && durable.IsFull(err); tries++ {
		_ = j.giveRoom()
		_ = makeRoom != nil && makeRoom()
		time.Sleep(fullPause)
		err = b.updateIn(db, again)
	}
	if err != nil {
		return fmt.Errorf("repeat what is in the log: %w", err)
	}
	j.committed()
	return nil
}

// apply makes anew what is in the log only.
func (j *journal) apply(tx *writeTx) error {
	for _, writes := range j.writes {
		if err := writes.apply(tx); err != nil {
			return err
		}
	}
	return nil
}

// read takes in the records for a base. A record of which sectors are missing
// was not acknowledged, and the last that was begun: a damaged sector, or a
// record after it, proves that the file was damaged since.
func (j *journal) read(base int) error {
	all, err := io.ReadAll(io.LimitReader(j.file, logSize))
	if err != nil {
		return err
	}
	at := 0
	for {
		number, writes, damaged := j.parse(all[at:], base)
		if damaged {
			return j.isDamaged(fmt.Sprintf("record %d cannot be read", len(j.writes)+1))
		}
		if number != len(j.writes)+1 {
			break
		}
		j.writes = append(j.writes, writes)
		at = min(len(all), at+j.inBlocks(writes))
	}
	for ; at < len(all); at += logBlock {
		if number, _, _ := j.parse(all[at:], base); number > len(j.writes) {
			return j.isDamaged(fmt.Sprintf("record %d cannot be read, and %d can", len(j.writes)+1, number))
		}
	}
	return nil
}

func (j *journal) isDamaged(how string) error {
	return fmt.Errorf("%w: in %s, %s. Move that file away to go on without it: small uploads of the moment before the crash, which are in it only, are lost then", ErrLogDamaged, j.path, how)
}

// inBlocks is how many bytes a record takes up.
func (j *journal) inBlocks(writes redo) int {
	size := logHeader + len(writes)
	if !j.flat {
		size = sectorsOf(size)
	}
	return (size + logBlock - 1) / logBlock * logBlock
}

// data is the first n bytes of a record.
func (j *journal) data(b []byte, n int) (data []byte, damaged bool) {
	if j.flat {
		return b[:min(n, len(b))], false
	}
	return outOfSectors(b, n)
}

// parse gives number 0 for what is no whole record of the epoch and the base.
// It is damaged where a sector of it, or the first sector of it or of anything
// else, is.
func (j *journal) parse(b []byte, base int) (number int, writes redo, damaged bool) {
	header, damaged := j.data(b, logHeader)
	if damaged || len(header) < logHeader || !bytes.Equal(header[8:24], j.epoch[:]) || binary.BigEndian.Uint64(header[24:]) != uint64(base) {
		return 0, nil, damaged
	}
	length := uint64(binary.BigEndian.Uint32(header[4:]))
	if length > uint64(len(b)-logHeader) {
		return 0, nil, false
	}
	record, damaged := j.data(b, logHeader+int(length))
	if damaged || len(record) < logHeader+int(length) || crc32.Checksum(record[4:], logCRC) != binary.BigEndian.Uint32(record) {
		return 0, nil, damaged
	}
	return int(binary.BigEndian.Uint64(record[32:])), redo(record[logHeader:]), false
}

// ahead is what of the log is not in the database yet, for readers: they see
// what was last committed, and must not miss what was acknowledged. Who looks
// here first, and in the database after that, misses nothing.
type ahead struct {
	some    atomic.Bool
	mu      sync.RWMutex
	ids     map[uuid.UUID]bool
	parents map[store.Parent]bool
	content map[[32]byte]bool
	usage   map[string]store.Usage // as it is now, by space
}

// created is an attachment that a transaction makes, and what its space holds
// with it.
type created struct {
	store.Attachment
	space string
	usage store.Usage
}

func (a *ahead) add(all []created) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids, a.parents, a.content, a.usage = map[uuid.UUID]bool{}, map[store.Parent]bool{}, map[[32]byte]bool{}, map[string]store.Usage{}
	}
	for _, c := range all {
		a.ids[c.ID], a.parents[c.Parent], a.content[c.SHA256], a.usage[c.space] = true, true, true, c.usage
	}
	a.some.Store(true)
}

func (a *ahead) clear() {
	if !a.some.Load() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.some.Store(false)
	a.ids, a.parents, a.content, a.usage = nil, nil, nil, nil
}

func (a *ahead) has(id uuid.UUID) bool { return a.says(func() bool { return a.ids[id] }) }

func (a *ahead) hasUnder(p store.Parent) bool { return a.says(func() bool { return a.parents[p] }) }

func (a *ahead) hasContent(sha256 [32]byte) bool {
	return a.says(func() bool { return a.content[sha256] })
}

func (a *ahead) usageOf(space string) (u store.Usage, known bool) {
	known = a.says(func() (is bool) {
		u, is = a.usage[space]
		return is
	})
	return u, known
}

// says answers a question. Most of the time nothing is ahead.
func (a *ahead) says(is func() bool) bool {
	if !a.some.Load() {
		return false
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	return is()
}
