// Package disk stores blobs as plain files in a data directory: each under the name
// of its SHA-256, moved there by a rename when it is complete, and synced before
// anything refers to it.
package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// The folders of a data directory. Every content is a file of plain bytes named by
// its Ref, in one of 256 folders (shards) named by its first two digits; a damaged
// one also has an empty file of its name in the folder damaged.
const (
	tempDir    = "tmp"
	topDir     = "blobs"
	blobsDir   = topDir + "/sha256"
	damagedDir = topDir + "/damaged"
)

var _ interface {
	blobs.Store
	blobs.Batcher
	blobs.Versioner
	blobs.Marker
	blobs.Watched
} = (*Store)(nil)

// Store is a blobs.Store of files in a data directory.
type Store struct {
	files   FileSystem
	places  places
	locks   blobs.Locks
	damaged damaged

	// unsure are contents whose Keep failed when its folder was synced. The name
	// exists but may not survive a power cut, and the failure is reported once
	// only: a second sync would succeed without having written. So their next Keep
	// moves them into place anew.
	unsure refSet

	probes   atomic.Uint32 // number made so far, which selects the shard of the next
	versions bool          // whether the file system records each change of a file
	dir      string        // the data directory, where Kept is certain; else empty
	syncing  sync.Mutex    // held by a KeepAll that syncs the whole file system
}

// Options configure a Store. The zero value is valid.
type Options struct {
	// Own is called with every file and folder that is created, before it is used,
	// so that a process running as root can give it to another user.
	Own func(*os.File) error

	// ReadOnly is for contents on a medium that cannot be written: nothing is
	// created or removed, and calls that would change something fail.
	ReadOnly bool

	// Shared means that other processes keep files in dir too: of the folder for
	// temporary files, only files named like those of attachd are removed.
	Shared bool

	// Synced, when set, is called with the duration of each sync of a file or
	// folder, from many goroutines at once. It must be quick.
	Synced func(took time.Duration)

	// Wrap lets a test intercept the Store's calls to the file system.
	Wrap func(FileSystem) FileSystem
}

// Open opens the contents in the data directory dir, which must exist. It creates
// the folders that are missing and empties the one for temporary files, so no other
// process may be using dir.
func Open(dir string, opts Options) (*Store, error) {
	files, err := openFiles(dir, opts)
	if err != nil {
		return nil, err
	}
	if opts.Wrap != nil {
		files = opts.Wrap(files)
	}
	d := &Store{files: files, damaged: damaged{files: files}, versions: hasVersions(dir)}
	if err := d.prepare(opts); err != nil {
		return nil, errors.Join(full(err), files.Close())
	}
	if !opts.ReadOnly {
		if d.versions && hasDistinctVersions(filepath.Join(dir, tempDir)) {
			d.dir = dir
		}
		if d.places, err = findPlaces(dir); err != nil {
			return nil, errors.Join(err, files.Close())
		}
	}
	return d, nil
}

func (d *Store) prepare(opts Options) error {
	if opts.ReadOnly {
		return d.damaged.load()
	}
	if err := d.makeFolders(); err != nil {
		return err
	}
	if err := d.emptyTemp(opts.Shared); err != nil {
		return err
	}
	return d.damaged.load()
}

// makeFolders creates missing folders and syncs every folder that holds another,
// also where nothing was missing: the process that created them may have died
// before its sync. What a shard itself holds is synced by Keep.
func (d *Store) makeFolders() error {
	for _, name := range []string{tempDir, topDir, blobsDir, damagedDir} {
		if err := d.makeFolder(name); err != nil {
			return err
		}
	}
	for first := range math.MaxUint8 + 1 {
		if err := d.makeFolder(shard(byte(first))); err != nil {
			return err
		}
		if err := d.removeProbe(byte(first)); err != nil {
			return err
		}
	}
	for _, name := range []string{blobsDir, topDir, "."} {
		if err := d.files.SyncDir(name); err != nil {
			return err
		}
	}
	return nil
}

func (d *Store) makeFolder(name string) error {
	info, err := d.files.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.files.Mkdir(name)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s in the data directory is not a folder", name)
	}
	return nil
}

// tempName matches the names of a spool, and of the other files that attachd puts
// into the folder for temporary files.
var tempName = regexp.MustCompile(`^([A-Z2-7]{26}|(thumbnail|scratch)-\d+)$`)

// emptyTemp removes what a killed process has left. Attachd creates no folders
// there, so a folder stays with all that is in it. A symbolic link is removed, not
// its target.
func (d *Store) emptyTemp(shared bool) error {
	infos, err := d.files.List(tempDir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.IsDir() || shared && !(info.Mode().IsRegular() && tempName.MatchString(info.Name())) {
			continue
		}
		if err := d.files.Remove(tempDir + "/" + info.Name()); err != nil {
			return err
		}
	}
	return nil
}

// Create opens an empty Spool in a temporary file.
func (d *Store) Create(ctx context.Context) (blobs.Spool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return newSpool(d)
}

// Open opens a content's file.
func (d *Store) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := d.files.Open(blobName(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, d.missing(ref, err)
	}
	if err != nil {
		return nil, d.whyNotOpened(ctx, ref, size, err)
	}
	info, err := file.Stat()
	if err == nil {
		err = readable(d.describe(ref, info), size)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// whyNotOpened examines a content that could not be opened: it may not be a plain
// file, or have been removed meanwhile.
func (d *Store) whyNotOpened(ctx context.Context, ref blobs.Ref, size int64, err error) error {
	info, gone := d.Stat(ctx, ref)
	if gone != nil {
		return gone
	}
	if damaged := readable(info, size); damaged != nil {
		return damaged
	}
	return err
}

// Stat describes a stored content. Anything but a plain file, such as a symbolic
// link put there by hand, is damaged.
func (d *Store) Stat(ctx context.Context, ref blobs.Ref) (blobs.Info, error) {
	if err := ctx.Err(); err != nil {
		return blobs.Info{}, err
	}
	info, err := d.files.Lstat(blobName(ref))
	if err != nil {
		return blobs.Info{}, d.missing(ref, err)
	}
	return d.describe(ref, info), nil
}

func (d *Store) describe(ref blobs.Ref, info fs.FileInfo) blobs.Info {
	return blobs.Info{
		Ref:      ref,
		Size:     info.Size(),
		Modified: info.ModTime(),
		Damaged:  !info.Mode().IsRegular() || d.damaged.has(ref),
	}
}

// readable says whether the content may be read as one of size bytes.
func readable(info blobs.Info, size int64) error {
	if info.Damaged {
		return fmt.Errorf("%w: %s is marked or no plain file", blobs.ErrDamaged, info.Ref)
	}
	if info.Size != size {
		return fmt.Errorf("%w: %s has %d bytes, not %d", blobs.ErrDamaged, info.Ref, info.Size, size)
	}
	return nil
}

// All lists one shard at a time and skips files that no Keep could have created. It
// ends with the first error.
func (d *Store) All(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Info, error] {
	return func(yield func(blobs.Info, error) bool) {
		for first := int(from[0]); first <= math.MaxUint8; first++ {
			if !d.listShard(ctx, byte(first), from, yield) {
				return
			}
		}
	}
}

func (d *Store) listShard(ctx context.Context, first byte, from blobs.Ref, yield func(blobs.Info, error) bool) (more bool) {
	if err := ctx.Err(); err != nil {
		yield(blobs.Info{}, err)
		return false
	}
	infos, err := d.files.List(shard(first))
	if err != nil {
		yield(blobs.Info{}, err)
		return false
	}
	for _, info := range infos {
		ref, err := blobs.ParseRef(info.Name())
		if err != nil || ref[0] != first || bytes.Compare(ref[:], from[:]) < 0 {
			continue
		}
		if !yield(d.describe(ref, info), nil) {
			return false
		}
	}
	return true
}

// MarkDamaged creates an empty file of the content's name.
func (d *Store) MarkDamaged(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release := d.locks.Exclusive(ref) // so that it is not repaired between the check and the mark
	defer release()
	there, err := d.isThere(ref, read)
	if err != nil || !there {
		return err
	}
	return full(d.damaged.add(ref))
}

// isThere says whether read is still the file stored under ref. A read that is not
// a File, such as nil, counts as the stored one.
func (d *Store) isThere(ref blobs.Ref, read blobs.Content) (bool, error) {
	now, err := d.files.Lstat(blobName(ref))
	if err != nil {
		return false, d.missing(ref, err)
	}
	file, ok := read.(File)
	if !ok {
		return true, nil
	}
	then, err := file.Stat()
	return err == nil && os.SameFile(then, now), err
}

// OpenMarked opens a content's file, marked damaged or not.
func (d *Store) OpenMarked(ctx context.Context, ref blobs.Ref) (blobs.Content, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	info, err := d.files.Lstat(blobName(ref))
	switch {
	case err != nil:
		return nil, d.missing(ref, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is no plain file", blobs.ErrDamaged, ref)
	}
	file, err := d.files.Open(blobName(ref))
	if err != nil {
		return nil, d.missing(ref, err)
	}
	return file, nil
}

// Unmark syncs the file, since whoever copied it into place may not have done so.
func (d *Store) Unmark(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release := d.locks.Exclusive(ref)
	defer release()
	there, err := d.isThere(ref, read)
	if err != nil || !there || !d.damaged.has(ref) {
		return err
	}
	if file, ok := read.(File); ok {
		// Windows does not sync files that were opened for reading.
		if err := file.Sync(); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := d.syncShard(ref[0], ref); err != nil {
		return err
	}
	return d.damaged.remove(ref)
}

// Marked returns the contents that are marked damaged, in no order.
func (d *Store) Marked() []blobs.Ref { return d.damaged.known.all() }

// Damaged returns the number of contents that are marked damaged.
func (d *Store) Damaged() int { return d.damaged.known.size() }

// Remove unlinks the content's file. A power cut may bring the file back, as an
// unreferenced content.
func (d *Store) Remove(ctx context.Context, ref blobs.Ref, referenced func() (bool, error)) (removed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	release := d.locks.Exclusive(ref)
	defer release()
	if wanted, err := referenced(); err != nil || wanted {
		return false, err
	}
	err = d.files.Remove(blobName(ref))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return err == nil, d.forgetMark(ref)
}

// forgetMark removes the mark of a content that was removed, once no power cut can
// bring back the damaged bytes without it.
func (d *Store) forgetMark(ref blobs.Ref) error {
	if !d.damaged.has(ref) {
		return nil
	}
	if err := d.files.SyncDir(shard(ref[0])); err != nil {
		return err
	}
	return d.damaged.remove(ref)
}

// Capacity is that of the file system of the blobs, as far as an unprivileged
// process may use it.
func (d *Store) Capacity(context.Context) (blobs.Capacity, error) {
	return d.files.Capacity()
}

// Probe takes the same steps as a content: to a temporary file, and from there to a
// shard, each time to the next one.
func (d *Store) Probe(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := newSpool(d)
	if err != nil {
		return err
	}
	if _, err = s.Write([]byte("probe")); err == nil {
		err = d.outcome(d.probeShard(s, byte(d.probes.Add(1))))
	}
	return errors.Join(err, s.Close())
}

func (d *Store) probeShard(s *spool, first byte) error {
	if err := s.finish(); err != nil {
		return err
	}
	if err := d.files.Rename(s.temp, probeName(first)); err != nil {
		return err
	}
	s.temp = ""
	return errors.Join(d.files.SyncDir(shard(first)), d.removeProbe(first))
}

// removeProbe removes the file that a probe has left in a shard, including one that
// was killed.
func (d *Store) removeProbe(first byte) error {
	_, err := d.files.Lstat(probeName(first))
	if err == nil {
		err = d.files.Remove(probeName(first))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// probeName returns a path that is not the name of any content.
func probeName(first byte) string { return shard(first) + "/probe" }

// Close releases the data directory.
func (d *Store) Close() error {
	return d.files.Close()
}

// move is the first part of place: the new name is not on stable storage yet.
func (d *Store) move(temp string, ref blobs.Ref, size int64) (moved bool, err error) {
	sound, err := d.sound(ref, size)
	if err != nil || sound {
		return false, err
	}
	if err := d.files.Rename(temp, blobName(ref)); err != nil {
		return false, err
	}
	return true, nil
}

// syncShard puts the names of contents in a shard on stable storage, including
// those that existed before: an intact file may have been moved there by a caller
// that has not synced the shard yet.
func (d *Store) syncShard(first byte, refs ...blobs.Ref) error {
	err := d.files.SyncDir(shard(first))
	if err != nil {
		for _, ref := range refs {
			d.unsure.add(ref)
		}
	}
	return err
}

// placed is the last part of place: a content that was moved to its shard, which is
// synced, is no longer damaged or unsure.
func (d *Store) placed(ref blobs.Ref, moved bool) error {
	if !moved {
		return nil
	}
	d.unsure.remove(ref)
	if !d.damaged.has(ref) {
		return nil
	}
	return d.damaged.remove(ref)
}

// sound says whether ref is stored and needs no repair.
func (d *Store) sound(ref blobs.Ref, size int64) (bool, error) {
	info, err := d.files.Lstat(blobName(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return readable(d.describe(ref, info), size) == nil && !d.unsure.has(ref), nil
}

const hexDigits = "0123456789abcdef"

// shard is the folder of the contents whose first byte is first.
func shard(first byte) string {
	return blobsDir + "/" + string([]byte{hexDigits[first>>4], hexDigits[first&15]})
}

func blobName(ref blobs.Ref) string {
	return shard(ref[0]) + "/" + ref.String()
}

// missing turns the error of a missing content file into ErrNotFound, as long as
// its folder exists. Without the folder all contents are missing, as when a disk is
// not mounted any more, and they may come back: then nothing is known about them.
func (d *Store) missing(ref blobs.Ref, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, gone := d.files.Lstat(shard(ref[0])); gone != nil {
		return fmt.Errorf("the folder of blob %s is not there: %w", ref, gone)
	}
	return fmt.Errorf("%w: %w", blobs.ErrNotFound, err)
}

// full turns the error of a file system without room into ErrFull.
func full(err error) error {
	if durable.IsFull(err) {
		return fmt.Errorf("%w: %w", blobs.ErrFull, err)
	}
	return err
}

// refSet is a set of names that is safe for concurrent use.
type refSet struct {
	mu   sync.RWMutex
	refs map[blobs.Ref]struct{}
}

func (s *refSet) has(ref blobs.Ref) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.refs[ref]
	return ok
}

func (s *refSet) all() []blobs.Ref {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.refs))
}

func (s *refSet) size() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.refs)
}

func (s *refSet) add(ref blobs.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == nil {
		s.refs = make(map[blobs.Ref]struct{})
	}
	s.refs[ref] = struct{}{}
}

func (s *refSet) remove(ref blobs.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refs, ref)
}
