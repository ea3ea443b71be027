// Package pages reads and verifies the file of a database below bbolt: its pages,
// its meta pages, and the checksum behind every value. bbolt trusts all of them,
// and would loop, crash or return wrong results on a damaged one.
package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"attachd/store/bolt/schema"
)

// The layout of a page of bbolt's file, in the byte order of the machine, which is
// the same on all that attachd is built for:
//
//	id 8, flags 2, count 2, overflow 4 (how many pages more it has), elements
//
// An element of a branch is the offset of its key from the element itself, 4, the
// length of the key, 4, and the id of a page, 8; of a leaf, flags, 4, the offset of
// the key, 4, and the lengths of the key and of the value behind it, 4 each. The
// keys and values follow the elements without a gap, in their order.
const (
	HeaderSize  = 16 // bytes at the beginning of every page
	pageElement = 16
	branchPage  = 0x01
	leafPage    = 0x02
	listPage    = 0x10 // of free pages

	bucketEntry  = 1  // flag of an element whose value is a bucket
	bucketHeader = 16 // root page, 8 (or 0: the page follows), and sequence, 8

	noFreeList = ^uint64(0)

	maxDepth   = 64  // levels of pages; each has at least twice as many as the one above
	maxBuckets = 200 // there are some twenty; each has a one-byte number
)

// walk reads the pages of a file as bbolt's own look-ups would, and trusts none: it
// checks that each page is reached once and is of the expected kind, that keys
// ascend and are in the range of the parent page, and that every entry matches its
// checksum. It reads the file rather than a mapping, so that a page that cannot be
// read is an error and not a signal.
type walk struct {
	Format
	ctx    context.Context
	file   *os.File
	top    uint64 // the root page of the tree of buckets
	list   uint64 // the first page of the list of free pages
	size   int    // of a page, in bytes
	pages  uint64 // number of pages of the file
	owner  []byte // by page: the number of its bucket, from 1, or 0
	number byte   // of the bucket that is being read
	bucket []byte
	above  bool   // read only the buckets' pages above the leaves
	whole  []byte // but all of this bucket
	report func(Fault)
	rest   func(took time.Duration) // may be nil
	began  time.Time
	names  []string          // by number
	roots  map[uint64]string // the root page of each bucket
	last   uint64            // the last number that a numbered bucket has assigned
}

// inRange is the range of keys that a page may have, from first (inclusive) to end
// (exclusive). nil is no bound.
type inRange struct{ first, end []byte }

type page struct {
	flags uint16
	count int
	raw   []byte // the whole page
}

// Options configure Verify.
type Options struct {
	// Rest, when set, is called now and then with the time worked since the last
	// call.
	Rest func(took time.Duration)
	// Above leaves out the leaves of the buckets, which are most of a large file.
	Above bool
	// Whole is the bucket whose leaves are read all the same.
	Whole []byte
	// Metas verifies both meta pages, too. Nothing may be written meanwhile.
	Metas bool
}

// Format is the format of a file, according to the names of its buckets.
type Format struct {
	Older bool // values have no checksums
	Mixed bool // some have: its takeover is not complete
}

// Verify reads all pages that a read transaction can reach of the database that is
// at path now, and calls report with each fault. It returns ErrOvertaken where
// commits were made too quickly.
func Verify(ctx context.Context, path string, tx *bbolt.Tx, opts Options, report func(Fault)) (Format, error) {
	file, err := os.Open(path)
	if err != nil {
		return Format{}, err
	}
	w := &walk{ctx: ctx, file: file, size: tx.DB().Info().PageSize, report: report, rest: opts.Rest, above: opts.Above, whole: opts.Whole, began: time.Now(), names: []string{""}, roots: make(map[uint64]string)}
	w.pages = uint64(tx.Size()) / uint64(w.size)
	w.owner = make([]byte, w.pages)
	w.top = uint64(tx.Cursor().Bucket().RootPage())
	if w.list, err = w.freeList(tx.ID()); err == nil && opts.Metas {
		err = w.metas(tx.ID())
	}
	if err == nil {
		err = w.root(w.top)
	}
	if err == nil {
		err = w.freePages()
	}
	return w.Format, errors.Join(err, file.Close())
}

func (w *walk) fault(format string, args ...any) { w.faultIn(string(w.bucket), format, args...) }

func (w *walk) faultIn(bucket, format string, args ...any) {
	place := "In the database, "
	if bucket != "" && bucket != string(Free) && bucket != string(Lost) {
		place = fmt.Sprintf("In the bucket %q, ", bucket)
	}
	w.report(Fault{Bucket: bucket, What: place + fmt.Sprintf(format, args...)})
}

// pause calls rest, and returns the context's error.
func (w *walk) pause() error {
	if w.rest != nil && time.Since(w.began) > 10*time.Millisecond {
		w.rest(time.Since(w.began))
		w.began = time.Now()
	}
	return w.ctx.Err()
}

// root reads the tree whose entries are the buckets, and each bucket.
func (w *walk) root(id uint64) error {
	type bucket struct{ name, value []byte }
	var buckets []bucket
	above := w.above
	w.above = false
	_, err := w.tree(id, inRange{}, 0, func(key, value []byte, flags uint32) {
		if flags != bucketEntry || len(value) < bucketHeader {
			w.fault("the entry %x is no bucket.", key)
			return
		}
		buckets = append(buckets, bucket{bytes.Clone(key), bytes.Clone(value)})
	})
	w.above = above
	if len(buckets) >= maxBuckets {
		w.fault("there are %d buckets.", len(buckets))
		return err
	}
	var names [][]byte
	for _, b := range buckets {
		names = append(names, b.name)
		w.Older = w.Older || bytes.Equal(b.name, schema.OldMeta)
		w.Mixed = w.Mixed || bytes.Equal(b.name, schema.Takeover)
	}
	w.wantNames(names)
	for _, b := range buckets {
		if err != nil {
			return err
		}
		w.names = append(w.names, string(b.name))
		w.bucket, w.number = b.name, byte(len(w.names)-1)
		w.above = above && !bytes.Equal(b.name, w.whole)
		err = w.inBucket(b.value)
	}
	w.bucket, w.number, w.above = nil, 0, above
	return err
}

// wantNames reports a bucket whose name was damaged: one whose name is unknown,
// while a known one is missing, which would be taken for empty.
func (w *walk) wantNames(there [][]byte) {
	among := func(list [][]byte, name []byte) bool {
		return slices.ContainsFunc(list, func(other []byte) bool { return bytes.Equal(other, name) })
	}
	known := slices.Concat(schema.Original, schema.Later)
	strange := slices.IndexFunc(there, func(name []byte) bool {
		return !among(known, name) && !among([][]byte{schema.OldMeta, schema.Takeover, schema.Pending}, name)
	})
	missing := slices.IndexFunc(known, func(name []byte) bool { return !among(there, name) })
	if strange >= 0 && missing >= 0 {
		w.fault("the bucket %q is missing, and there is one of the name %q.", known[missing], there[strange])
	}
}

func (w *walk) inBucket(value []byte) error {
	w.last = binary.NativeEndian.Uint64(value[8:])
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		w.roots[root] = string(w.bucket)
		if len(value) != bucketHeader {
			w.fault("its entry has %d bytes.", len(value))
		}
		_, err := w.tree(root, inRange{}, 0, w.entry)
		return err
	}
	p, ok := parsePage(value[bucketHeader:])
	if !ok || p.flags != leafPage {
		w.fault("its page within the entry is none.")
		return nil
	}
	end, err := w.leaf(0, p, inRange{}, w.entry)
	if err == nil && end != len(p.raw) {
		w.fault("its page within the entry has %d bytes, and should have %d.", len(p.raw), end)
	}
	return err
}

// entry verifies an entry of a bucket.
func (w *walk) entry(key, value []byte, flags uint32) {
	if flags != 0 {
		w.fault("the entry %x is a bucket.", key)
		return
	}
	numbered := bytes.Equal(w.bucket, schema.Outbox) || bytes.Equal(w.bucket, schema.Dead)
	if numbered && len(key) == 8 && binary.BigEndian.Uint64(key) > w.last {
		w.fault("the last number is %d, and the entry %x is there: the next one could take its place.", w.last, key)
	}
	if w.Older || w.Mixed {
		return
	}
	if _, sound, keyHolds := Unseal(w.bucket, key, value); !sound {
		w.report(EntryFault(w.bucket, key, keyHolds))
	}
}

// tree reads a page and those below it, and returns the number of levels below the
// page, or -1 where that is unknown.
func (w *walk) tree(id uint64, bounds inRange, depth int, visit func(key, value []byte, flags uint32)) (below int, err error) {
	if err := w.pause(); err != nil {
		return 0, err
	}
	if depth > maxDepth {
		w.fault("the pages are nested more than %d deep at page %d.", maxDepth, id)
		return -1, nil
	}
	p, ok := w.read(id)
	if !ok {
		return -1, nil
	}
	if p.flags == leafPage {
		if p.count == 0 && (depth > 0 || w.bucket != nil) {
			w.fault("page %d is empty.", id)
		}
		_, err := w.leaf(id, p, bounds, visit)
		return 0, err
	}
	return w.branch(id, p, bounds, depth, visit)
}

func (w *walk) branch(id uint64, p page, bounds inRange, depth int, visit func(key, value []byte, flags uint32)) (below int, err error) {
	if p.count == 0 {
		w.fault("page %d leads nowhere.", id)
	}
	keys, ids, ok := w.branchElements(id, p)
	if !ok || !w.ascend(id, keys, bounds) {
		return -1, nil
	}
	for i, key := range keys {
		of := inRange{key, bounds.end}
		if i+1 < len(keys) {
			of.end = keys[i+1]
		}
		if w.above && i > 0 && below == 0 { // all leaves are at the same depth
			w.take(ids[i], 0)
			continue
		}
		above := below
		if below, err = w.tree(ids[i], of, depth+1, visit); err != nil {
			return 0, err
		}
		if i > 0 && below != above { // it skips a level of pages, which lead to others
			if below >= 0 && above >= 0 {
				w.fault("what page %d leads to is not equally deep.", id)
			}
			below = -1
		}
	}
	if below < 0 {
		return -1, nil
	}
	return below + 1, nil
}

func (w *walk) branchElements(id uint64, p page) (keys [][]byte, ids []uint64, ok bool) {
	at := HeaderSize + p.count*pageElement
	for i := range p.count {
		begins := HeaderSize + i*pageElement
		element := p.raw[begins:]
		position, length := binary.NativeEndian.Uint32(element), binary.NativeEndian.Uint32(element[4:])
		if uint64(begins)+uint64(position) != uint64(at) || length == 0 || uint64(at)+uint64(length) > uint64(len(p.raw)) {
			w.fault("the entries of page %d are not where they should be.", id)
			return nil, nil, false
		}
		keys = append(keys, p.raw[at:at+int(length)])
		ids = append(ids, binary.NativeEndian.Uint64(element[8:]))
		at += int(length)
	}
	return keys, ids, true
}

// leaf returns where the last entry ends.
func (w *walk) leaf(id uint64, p page, bounds inRange, visit func(key, value []byte, flags uint32)) (end int, err error) {
	at := HeaderSize + p.count*pageElement
	keys := make([][]byte, 0, p.count)
	for i := range p.count {
		begins := HeaderSize + i*pageElement
		element := p.raw[begins:]
		flags, position := binary.NativeEndian.Uint32(element), binary.NativeEndian.Uint32(element[4:])
		length, value := uint64(binary.NativeEndian.Uint32(element[8:])), uint64(binary.NativeEndian.Uint32(element[12:]))
		behind := uint64(at) + length + value
		if uint64(begins)+uint64(position) != uint64(at) || length == 0 || behind > uint64(len(p.raw)) {
			w.fault("the entries of page %d are not where they should be.", id)
			return 0, nil
		}
		key := p.raw[at : at+int(length)]
		keys = append(keys, key)
		visit(key, p.raw[at+int(length):behind], flags)
		at = int(behind)
	}
	w.ascend(id, keys, bounds)
	return at, nil
}

// ascend reports keys that are out of order or out of the range of the parent page.
func (w *walk) ascend(id uint64, keys [][]byte, bounds inRange) bool {
	for i, key := range keys {
		early := i == 0 && bytes.Compare(key, bounds.first) < 0
		if early || i > 0 && bytes.Compare(key, keys[i-1]) <= 0 || bounds.end != nil && bytes.Compare(key, bounds.end) >= 0 {
			w.fault("the entry %x of page %d is not in its place.", key, id)
			return false
		}
	}
	return true
}

// take records that a page and its overflow pages were reached, and says whether
// nothing else reached them.
func (w *walk) take(id uint64, more uint32) bool {
	if id < 2 || id >= w.pages || uint64(more) >= w.pages-id {
		w.fault("something leads to page %d with %d more, of %d pages in all.", id, more, w.pages)
		return false
	}
	for at := id; at <= id+uint64(more); at++ {
		if by := w.owner[at]; by != 0 {
			w.fault("page %d is reached a second time.", at)
			if other := w.names[by-1]; other != string(w.bucket) {
				w.faultIn(other, "page %d belongs to another, too.", at)
			}
			return false
		}
		w.owner[at] = w.number + 1
	}
	return true
}

// read returns a branch or leaf page that was not reached before.
func (w *walk) read(id uint64) (p page, ok bool) {
	header := make([]byte, w.size)
	if id < 2 || id >= w.pages {
		return p, w.take(id, 0)
	}
	if !w.readAt(header, id) {
		return p, false
	}
	p, ok = parsePage(header)
	if binary.NativeEndian.Uint64(header) != id || p.flags != branchPage && p.flags != leafPage {
		w.fault("page %d is not what it should be.", id)
		return p, false
	}
	more := binary.NativeEndian.Uint32(header[12:])
	if !w.take(id, more) {
		return p, false
	}
	if more > 0 {
		p.raw = make([]byte, (1+int(more))*w.size)
		if !w.readAt(p.raw, id) {
			return p, false
		}
		p, ok = parsePage(p.raw)
	}
	if !ok {
		w.fault("page %d cannot have %d entries.", id, p.count)
	}
	return p, ok
}

func (w *walk) readAt(into []byte, id uint64) bool {
	if _, err := w.file.ReadAt(into, int64(id)*int64(w.size)); err != nil {
		w.fault("page %d cannot be read: %v.", id, err)
		return false
	}
	return true
}

// parsePage parses a page, and says whether its elements are within it.
func parsePage(raw []byte) (p page, ok bool) {
	if len(raw) < HeaderSize {
		return p, false
	}
	p = page{flags: binary.NativeEndian.Uint16(raw[8:]), count: int(binary.NativeEndian.Uint16(raw[10:])), raw: raw}
	return p, HeaderSize+p.count*pageElement <= len(raw)
}

// freePages reports pages that are neither in use nor free. It runs last.
func (w *walk) freePages() error {
	w.names = append(w.names, string(Free))
	w.bucket, w.number = Free, byte(len(w.names)-1)
	list := w.list
	if list == noFreeList {
		return nil
	}
	header := make([]byte, w.size)
	if list < 2 || list >= w.pages || !w.readAt(header, list) {
		w.fault("the list of free pages is not at page %d.", list)
		return nil
	}
	more := binary.NativeEndian.Uint32(header[12:])
	if binary.NativeEndian.Uint64(header) != list || binary.NativeEndian.Uint16(header[8:]) != listPage || !w.take(list, more) {
		w.fault("page %d is no list of free pages.", list)
		return nil
	}
	raw := make([]byte, (1+int(more))*w.size)
	if !w.readAt(raw, list) {
		return nil
	}
	count, at := uint64(binary.NativeEndian.Uint16(raw[10:])), HeaderSize
	if count == 0xffff { // the count does not fit into the field
		count, at = binary.NativeEndian.Uint64(raw[at:]), at+8
	}
	if count > uint64(len(raw)-at)/8 {
		w.fault("the list of free pages cannot have %d.", count)
		return nil
	}
	for i := range int(count) {
		w.addFree(binary.NativeEndian.Uint64(raw[at+8*i:]))
	}
	for id := uint64(2); id < w.pages && !w.above; id++ {
		if w.owner[id] == 0 {
			w.faultIn(string(Lost), "page %d is neither in use nor free: it takes up room, until `attachd compact`.", id)
			w.passedBy(id)
		}
	}
	return w.ctx.Err()
}

// passedBy examines a page that nothing refers to. Where it refers to the root page
// of a bucket, and to pages that nothing else refers to and that are not free
// either, it was the root, and those pages are lost to the bucket. A page of an
// earlier commit that is not in the list of free pages refers to pages that are
// free, or in use again.
func (w *walk) passedBy(id uint64) {
	raw := make([]byte, w.size)
	if !w.readAt(raw, id) {
		return
	}
	p, ok := parsePage(raw)
	if !ok || p.flags != branchPage || binary.NativeEndian.Uint64(raw) != id {
		return
	}
	bucket, lost := "", false
	for i := range p.count {
		to := binary.NativeEndian.Uint64(raw[HeaderSize+i*pageElement+8:])
		if of, is := w.roots[to]; is {
			bucket = of
		}
		lost = lost || to < w.pages && w.owner[to] == 0
	}
	if bucket != "" && lost {
		w.faultIn(bucket, "page %d leads to its first page, and is not in use.", id)
	}
}

// addFree records that a page is free. Where a page refers to it, that reference
// may be the damage, and the page then has what its bucket, or the tree of the
// buckets, had there in an earlier commit: entries with valid checksums, and not
// all of them. Only the root of the tree of buckets is referred to by nothing but a
// meta page.
func (w *walk) addFree(id uint64) {
	if id < 2 || id >= w.pages || w.owner[id] != 0 {
		w.fault("page %d is free, and cannot be.", id)
		if id < w.pages && id != w.top && w.owner[id] != 0 && w.owner[id] != freePage {
			w.faultIn(w.names[w.owner[id]-1], "page %d is in use and free.", id)
		}
		return
	}
	w.owner[id] = freePage
}

// freePage is the owner of free pages.
const freePage = 0xff

func (w *walk) meta(slot int64) (Meta, error) {
	raw := make([]byte, HeaderSize+MetaSize)
	_, err := w.file.ReadAt(raw, slot*int64(w.size))
	return raw[HeaderSize:], err
}

// freeList returns the page with the list of free pages of a commit.
func (w *walk) freeList(commit int) (uint64, error) {
	for slot := range int64(2) {
		m, err := w.meta(slot)
		if err != nil {
			return 0, err
		}
		if m.Commit() == uint64(commit) && m.IsWhole() {
			return m.list(), nil
		}
	}
	return 0, ErrOvertaken
}

// metas verifies both meta pages. bbolt silently goes back a commit where the newer
// one is damaged. Nothing may be written meanwhile.
func (w *walk) metas(commit int) error {
	for slot := range int64(2) {
		m, err := w.meta(slot)
		if err != nil {
			return err
		}
		switch {
		case m.IsWhole():
		case m.mend() && m.Commit() < uint64(commit):
			w.faultIn(string(Lost), "page %d, of the last commit but one, is not what was written.", slot)
		default:
			w.fault("page %d, of a commit, is not what was written: the last change may be lost.", slot)
		}
	}
	return nil
}

// ErrOvertaken means that two commits were made between the beginning of a
// transaction and the reading of the pages of its commit.
var ErrOvertaken = errors.New("the database has changed twice meanwhile")
