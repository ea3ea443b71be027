// Package disk keeps blobs as plain files in a data directory: each under the
// name of its SHA-256, put there whole by a rename and synced before anything
// refers to it.
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
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// The folders of a data directory. Every content is a file of plain bytes
// named by its Ref, in one of 256 folders named by its first two digits; a
// damaged one has an empty file of its name in the folder damaged.
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

// Store keeps contents as files in a data directory.
type Store struct {
	files   FileSystem
	places  places
	locks   locks
	damaged damaged

	// unsure are contents whose Keep failed when its folder was synced. The
	// name is there but may not survive a power cut, and the failure is
	// reported once only: a second sync would say yes without having written.
	// So their next Keep puts them in place anew.
	unsure refSet

	probes   atomic.Uint32 // made so far
	versions bool          // whether the file system notes each change of a file
	syncing  sync.Mutex    // held by a KeepAll that syncs everything
}

// Options say how a Store works. The zero value is good.
type Options struct {
	// Own is called with every file and folder that is made, before it is
	// used, so that a process of root can give it to another user.
	Own func(*os.File) error

	// ReadOnly is for contents on a medium that cannot be written: nothing is
	// made and nothing removed, and what is to change anything fails.
	ReadOnly bool

	// Shared says that others keep files in dir too: of what is in the folder
	// for temporary files, only what has the name of one of ours is removed.
	Shared bool

	// Synced, when set, is called with how long each sync of a file or folder
	// took, from many goroutines at once. It must be quick.
	Synced func(took time.Duration)

	// Wrap lets a test stand between the Store and its files.
	Wrap func(FileSystem) FileSystem
}

// Open opens the contents in the data directory dir, which exists. It
// makes the folders that are missing and empties the one for temporary files,
// so no other process may be using dir.
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

// makeFolders makes what is missing and syncs every folder that holds
// another, also where nothing was missing: the process that made them may
// have died in between. What a shard itself holds is synced by Keep.
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

// tempName is the name of a spool, and of what others of attachd keep in the
// folder for temporary files.
var tempName = regexp.MustCompile(`^([A-Z2-7]{26}|(thumbnail|scratch)-\d+)$`)

// emptyTemp removes what a killed process has left. A folder is nobody's whom we
// know, and stays with all that is in it. A symbolic link is removed, not what
// it points to.
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

// Version is of the open file itself, wherever it may be now.
func (d *Store) Version(c blobs.Content) blobs.Version {
	file, ok := c.(File)
	if !ok || !d.versions {
		return blobs.Version{}
	}
	info, err := file.Stat()
	if err != nil {
		return blobs.Version{} // who reads it will hear of that
	}
	return version(info)
}

// whyNotOpened looks again at what is there and could not be opened: is it no
// plain file, or gone meanwhile?
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

// Stat describes a stored content. Anything but a plain file, such as a
// symbolic link that somebody put there, is damaged.
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

// All lists one shard at a time and passes over files that no Keep could have
// put there. It ends with the first error.
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

// MarkDamaged makes an empty file of the content's name.
func (d *Store) MarkDamaged(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release := d.locks.exclusive(ref) // nobody repairs it between the check and the mark
	defer release()
	there, err := d.isThere(ref, read)
	if err != nil || !there {
		return err
	}
	return full(d.damaged.add(ref))
}

// isThere says whether what was read is what is stored under ref still. What
// is no file of ours is taken to be.
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

// OpenMarked opens a content's file, whatever is known of it.
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

// Unmark syncs what somebody has copied into place, who may not have done so.
func (d *Store) Unmark(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release := d.locks.exclusive(ref)
	defer release()
	there, err := d.isThere(ref, read)
	if err != nil || !there || !d.damaged.has(ref) {
		return err
	}
	if file, ok := read.(File); ok {
		// Windows syncs nothing that was opened to be read.
		if err := file.Sync(); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
	}
	if err := d.syncShard(ref[0], ref); err != nil {
		return err
	}
	return d.damaged.remove(ref)
}

// Marked gives the contents that are marked damaged, in no order.
func (d *Store) Marked() []blobs.Ref { return d.damaged.known.all() }

// Damaged is how many contents are marked.
func (d *Store) Damaged() int { return d.damaged.known.size() }

// Remove unlinks the content's file. A power cut may bring the file back, as
// a content that nobody refers to.
func (d *Store) Remove(ctx context.Context, ref blobs.Ref, referenced func() (bool, error)) (removed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	release := d.locks.exclusive(ref)
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

// forgetMark takes away the mark of a content that is gone, once no power cut
// can bring back the damaged bytes without it.
func (d *Store) forgetMark(ref blobs.Ref) error {
	if !d.damaged.has(ref) {
		return nil
	}
	if err := d.files.SyncDir(shard(ref[0])); err != nil {
		return err
	}
	return d.damaged.remove(ref)
}

// Capacity is that of the file system below the blobs, as far as a process
// without privileges may use it.
func (d *Store) Capacity(context.Context) (blobs.Capacity, error) {
	return d.files.Capacity()
}

// Probe goes the way of a content: into a temporary file, and from there into a
// shard, each time into the next one.
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

// removeProbe removes what a probe has left in a shard, also one that was
// killed.
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

// probeName is the name of no content.
func probeName(first byte) string { return shard(first) + "/probe" }

// Close lets go of the data directory.
func (d *Store) Close() error {
	return d.files.Close()
}

// place makes the synced file temp the content of ref, or leaves it where it
// is when a sound one is there. The caller has a hold on ref.
func (d *Store) place(temp string, ref blobs.Ref, size int64) (moved bool, err error) {
	moved, err = d.move(temp, ref, size)
	if err != nil {
		return false, err
	}
	if err := d.syncShard(ref[0], ref); err != nil {
		return moved, err
	}
	return moved, d.placed(ref, moved)
}

// move is the first part of place: the name is not on stable storage yet.
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

// syncShard puts the names of contents in a shard on stable storage, also those
// that were there before: a sound file may have been put there by somebody who
// has not come as far as this line.
func (d *Store) syncShard(first byte, refs ...blobs.Ref) error {
	err := d.files.SyncDir(shard(first))
	if err != nil {
		for _, ref := range refs {
			d.unsure.add(ref)
		}
	}
	return err
}

// placed is the last part of place: a content that was moved to its synced
// place is what it should be.
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

// sound says whether ref is stored in a way that needs no repair.
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

// missing makes an ErrNotFound of a content's file that is not there, as long as
// its folder is. A folder that has gone took all contents along, as a disk does
// that is not mounted any more, and may come back: nothing is known of them then.
func (d *Store) missing(ref blobs.Ref, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, gone := d.files.Lstat(shard(ref[0])); gone != nil {
		return fmt.Errorf("the folder of blob %s is not there: %w", ref, gone)
	}
	return fmt.Errorf("%w: %w", blobs.ErrNotFound, err)
}

// full makes an ErrFull of a file system that has no room.
func full(err error) error {
	if durable.IsFull(err) {
		return fmt.Errorf("%w: %w", blobs.ErrFull, err)
	}
	return err
}

// refSet is a set of names that many goroutines may use.
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
