package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"attachd/blobs/disk"
	"attachd/blobs/durable"
	"attachd/server/transfer"
)

const (
	// maxShort bounds, in bytes, the size of FORMAT, INSTALLATION and secret.key of any
	// version.
	maxShort = 1 << 20
	// maxPointFile bounds, in bytes, the size of a point.json, which lists every
	// attachment whose content could not be copied.
	maxPointFile = 256 << 20
)

var (
	// errNotRegular means that a name is not that of a regular file, but of a link, a
	// folder, a FIFO or a device.
	errNotRegular = errors.New("it is not a regular file")
	errNoFolder   = errors.New("it is not a folder")
	errReplaced   = errors.New("it was replaced meanwhile")
)

// openRegular opens a regular file, and never waits for the other end of a FIFO. Links
// are not followed.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	return openAs(root, name, flag, fs.FileMode.IsRegular, errNotRegular)
}

// openFolder is openRegular for a folder.
func openFolder(root *os.Root, name string) (*os.File, error) {
	return openAs(root, name, os.O_RDONLY, fs.FileMode.IsDir, errNoFolder)
}

func openAs(root *os.Root, name string, flag int, is func(fs.FileMode) bool, not error) (*os.File, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !is(info.Mode()) {
		return nil, &fs.PathError{Op: "open", Path: filepath.Join(root.Name(), name), Err: not}
	}
	file, err := root.OpenFile(name, flag|openAtOnce, 0)
	if err != nil {
		return nil, err
	}
	if err := same(file, info); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// same refuses an open file or folder that is not the one examined before: it was
// replaced meanwhile.
func same(file *os.File, looked fs.FileInfo) error {
	is, err := file.Stat()
	if err == nil && !os.SameFile(is, looked) {
		err = &fs.PathError{Op: "open", Path: file.Name(), Err: errReplaced}
	}
	return err
}

// read reads a file whole, if it has at most most bytes.
func (a *Archive) read(name string, most int64) ([]byte, error) {
	file, err := openRegular(a.root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%s has more than %d bytes", a.path(name), most)
	}
	return content, err
}

// list returns the names in a folder, in order.
func (a *Archive) list(name string) ([]string, error) {
	dir, err := openFolder(a.root, name)
	if err != nil {
		return nil, err
	}
	defer dir.Close() // only read
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// hash returns the SHA-256 of a file of a point. A file of another length than it was
// written with is not read, since it may be of any length.
func (a *Archive) hash(ctx context.Context, p Point, name string) (sum string, err error) {
	file, err := openRegular(a.root, path.Join(pointsDir, p.Name, name), os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer file.Close() // only read
	info, err := file.Stat()
	if wrote := p.Sizes[name]; err != nil || wrote > 0 && info.Size() != wrote {
		return "", err
	}
	hashed := sha256.New()
	_, err = io.Copy(hashed, &transfer.Counted{Reader: file, Ctx: ctx, Tell: func(int) {}})
	return digest(hashed), err
}

func digest(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// create creates a file that only its owner can read, has fill write it, and syncs it;
// the caller syncs its name. It returns the SHA-256 and the length of what was written.
func (a *Archive) create(name string, fill func(io.Writer) error) (sum string, size int64, err error) {
	return createFile(a.root, name, a.own, fill)
}

func createFile(root *os.Root, name string, own func(*os.File) error, fill func(io.Writer) error) (sum string, size int64, err error) {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, err
	}
	hashed := sha256.New()
	err = durable.Fill(file, own, func(file *os.File) error {
		if err := fill(io.MultiWriter(file, hashed)); err != nil {
			return err
		}
		size, err = file.Seek(0, io.SeekCurrent)
		return err
	})
	return digest(hashed), size, err
}

func (a *Archive) write(name string, content []byte) error {
	_, _, err := a.create(name, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
	return err
}

func (a *Archive) makeFolder(name string) error {
	if err := a.root.Mkdir(name, 0o700); err != nil {
		return err
	}
	dir, err := openFolder(a.root, name)
	if err != nil {
		return err
	}
	return errors.Join(a.own(dir), dir.Close())
}

// syncDir syncs the names in a folder of the archive.
func (a *Archive) syncDir(name string) error {
	dir, err := openFolder(a.root, name)
	if err != nil {
		return err
	}
	return errors.Join(a.syncFolder(dir), dir.Close())
}

// syncFolder is durable.SyncFolder; tests simulate media that cannot sync folders.
var syncFolder = durable.SyncFolder

// syncFolder syncs a folder. Where its medium cannot do that, it succeeds and records
// that.
func (a *Archive) syncFolder(dir *os.File) error {
	err := syncFolder(dir)
	if !cannotSync(err) {
		return err
	}
	a.unsynced.CompareAndSwap(nil, &err)
	return nil
}

// Unsynced returns why the names of files in the archive may not be on stable storage,
// although everything was done that the medium supports; nil when they are. Some media,
// such as network shares of Windows, sync files only.
func (a *Archive) Unsynced() error {
	if err := a.unsynced.Load(); err != nil {
		return *err
	}
	return nil
}

// poolFiles is the file access of the archive's pool of contents: it opens only regular
// files, and syncs folders as the archive does.
type poolFiles struct {
	disk.FileSystem
	archive *Archive
}

func (f *poolFiles) Open(name string) (disk.File, error) {
	file, err := openRegular(f.archive.root, name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return file, nil
}

func (f *poolFiles) SyncDir(name string) error { return f.archive.syncDir(name) }
