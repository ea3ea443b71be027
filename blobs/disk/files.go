package disk

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// FileSystem is every call that a Store makes to its data directory. Names are
// relative to it, with slashes. It exists for tests, which wrap the real one by
// Options.Wrap to make calls fail.
type FileSystem interface {
	// Create creates a file that other users cannot read. It is an error when the
	// name is taken.
	Create(name string) (File, error)
	// Open opens a file for reading. It is an error when the name is that of a
	// symbolic link.
	Open(name string) (File, error)
	// Lstat describes a file, a folder, or a symbolic link itself.
	Lstat(name string) (fs.FileInfo, error)
	// List describes everything in a folder, in order of name.
	List(name string) ([]fs.FileInfo, error)
	// Mkdir creates a folder that other users cannot enter.
	Mkdir(name string) error
	// Rename moves a file, replacing what is not a folder.
	Rename(from, to string) error
	// Remove removes a file, a symbolic link itself, or an empty folder.
	Remove(name string) error
	// SyncDir puts the names in a folder on stable storage.
	SyncDir(name string) error
	// SyncsAll reports whether SyncAll can be used: the system supports it, and
	// would report a failure.
	SyncsAll() bool
	// SyncAll puts everything written before on stable storage.
	SyncAll() error
	// Capacity returns the size and the free room of the file system.
	Capacity() (blobs.Capacity, error)
	// Close releases the data directory.
	Close() error
}

// File is an open file of a FileSystem.
type File interface {
	blobs.Content
	io.Writer
	Stat() (fs.FileInfo, error)
	Sync() error
}

// files is the real FileSystem. Calls that change anything go through an os.Root,
// which lets no symbolic link lead out of the data directory. Calls that only read
// use the path, since a Root opens every folder on the way: that is most of the
// time it takes to open a small content.
type files struct {
	root   *os.Root
	whole  *os.File             // the data directory, for syncfs; nil where that cannot be relied on
	own    func(*os.File) error // nil leaves files to the user of the process
	synced func(took time.Duration)
}

// writtenFile is a file that reports the duration of its syncs.
type writtenFile struct {
	*os.File
	synced func(took time.Duration)
	size   int64 // bytes written
	begun  int64 // bytes of which the kernel was asked to begin the writeback
}

// writeback is after how many bytes the kernel is asked to start writing them to
// the disk, so that a sync has less to write.
const writeback = 4 << 20

func (f *writtenFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.size += int64(n)
	if f.size-f.begun >= writeback {
		beginWriteback(f.File, f.begun, f.size-f.begun)
		f.begun = f.size
	}
	return n, err
}

func (f *writtenFile) Sync() error {
	defer func(began time.Time) { f.synced(time.Since(began)) }(time.Now())
	return f.File.Sync()
}

func openFiles(dir string, opts Options) (FileSystem, error) {
	if opts.Synced == nil {
		opts.Synced = func(time.Duration) {}
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f := &files{root: root, own: opts.Own, synced: opts.Synced}
	if syncsAll(dir) {
		if f.whole, err = os.Open(dir); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return f, nil
}

func (f *files) Create(name string) (File, error) {
	file, err := f.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if f.own == nil {
		return &writtenFile{File: file, synced: f.synced}, nil
	}
	if err := f.own(file); err != nil {
		return nil, errors.Join(err, file.Close(), f.root.Remove(name))
	}
	return &writtenFile{File: file, synced: f.synced}, nil
}

func (f *files) Open(name string) (File, error) {
	file, err := openNoFollow(f.root, name)
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f *files) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(path(f.root, name)) }

// List opens the folder as an os.Root, so that describing an entry takes one step.
// An entry that is removed meanwhile is left out.
func (f *files) List(name string) ([]fs.FileInfo, error) {
	dir, err := f.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := namesIn(dir)
	if err != nil {
		return nil, err
	}
	infos := make([]fs.FileInfo, 0, len(names))
	for _, name := range names {
		info, err := dir.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func namesIn(dir *os.Root) ([]string, error) {
	file, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	names, err := file.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (f *files) Mkdir(name string) error {
	if err := f.root.Mkdir(name, 0o700); err != nil || f.own == nil {
		return err
	}
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	if err := f.own(dir); err != nil {
		return errors.Join(err, dir.Close(), f.root.Remove(name))
	}
	return dir.Close()
}

func (f *files) Rename(from, to string) error { return f.root.Rename(from, to) }

func (f *files) Remove(name string) error { return f.root.Remove(name) }

// SyncDir opens the folder anew each time: a sync that fails is reported once for
// each open handle, so with a shared one only the first caller would get the error.
func (f *files) SyncDir(name string) error {
	dir, err := os.Open(path(f.root, name))
	if err != nil {
		return err
	}
	began := time.Now()
	err = durable.SyncFolder(dir)
	f.synced(time.Since(began))
	return errors.Join(err, dir.Close())
}

func (f *files) SyncsAll() bool { return f.whole != nil }

// SyncAll syncs a folder too: after syncfs, ext4 without a journal has sent the
// last names to the disk, but has not flushed the disk's cache.
func (f *files) SyncAll() error {
	defer func(began time.Time) { f.synced(time.Since(began)) }(time.Now())
	if err := syncAll(f.whole); err != nil {
		return err
	}
	return durable.SyncFolder(f.whole)
}

func (f *files) Capacity() (blobs.Capacity, error) { return CapacityOf(path(f.root, topDir)) }

func (f *files) Close() error {
	if f.whole == nil {
		return f.root.Close()
	}
	return errors.Join(f.whole.Close(), f.root.Close())
}

func path(root *os.Root, name string) string {
	return filepath.Join(root.Name(), filepath.FromSlash(name))
}
