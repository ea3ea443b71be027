// Package datadir is the ground that everything stands on: the data
// directory, its format, its secrets, and who owns its files.
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Format is the number of the layout that this version writes:
//
//	FORMAT        this number
//	attachd.db    metadata
//	attachd.wal   the newest small uploads, until they are in attachd.db
//	blobs/        contents
//	tmp/          uploads under way, emptied at start
//	ballast       room on the disk, given up when it is full
//	snapshots/    copies of the database, a few
//	thumbnails/   small pictures, made anew when they are missing
//	secret.key    signs links; its form is told at SigningKeys
//	admin.key     the key of the first superadmin; may be deleted
//	attachd.sock  the way in for commands while the server runs
//	attachd.pid   who holds the directory, to be named to others
//	RESTORING     there until a restore is finished
//
// In format 3, the entries of the database had no checksums. In format 2, there
// was no log. In format 1, no content was in the database
// either, which had no audit log and no outbox, and secret.key held one key.
const Format = 4

const databaseFile = "attachd.db"

// Dir is a data directory that this version can work with.
type Dir struct {
	path  string
	own   func(*os.File) error
	older bool // of an earlier format, so far
}

// Open makes the directory where it is missing, and refuses one of a newer
// format, or with keys in it that others can read.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makeAll(path); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if isReadOnly(path) {
		return nil, fmt.Errorf("%s is on a disk that is mounted read-only: attachd has to write there, also for a check. Mount it for writing, or copy it to where there is room and name the copy with --data-dir", path)
	}
	if err := closeToOthers(path); err != nil {
		return nil, err
	}
	if err := refuseUnfinished(path); err != nil {
		return nil, err
	}
	d := &Dir{path: path}
	for _, secret := range []string{"secret.key", "admin.key", "demo-keys.json"} {
		if err := Private(d.Join(secret)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if d.own, err = ownerOf(path); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(d.Join("FORMAT"))
	if errors.Is(err, fs.ErrNotExist) {
		return d, d.writeFormat()
	}
	if err != nil {
		return nil, err
	}
	d.older = strings.TrimSpace(string(raw)) != strconv.Itoa(Format)
	return d, CheckFormat(path, raw)
}

// OpenExisting is Open for a directory that has been one before: nothing is made
// where there is none.
func OpenExisting(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"FORMAT", databaseFile, "blobs", restoring} {
		if _, err := os.Lstat(filepath.Join(path, name)); !errors.Is(err, fs.ErrNotExist) {
			return Open(path) // which says what is wrong with it, if anything is
		}
	}
	return nil, fmt.Errorf("%s is no data directory of attachd", path)
}

// Settle removes what a killed process has left half written, and notes the
// format that this version writes, so that an earlier one, which would not find
// everything, refuses the directory from now on. The database must be open: its
// lock says that nobody else works here, or is only about to.
func (d *Dir) Settle() error {
	for _, name := range []string{"ballast", "secret.key", "admin.key", "demo-keys.json", "attachd.pid"} {
		left, err := filepath.Glob(filepath.Join(escapeGlob(d.path), "."+name+".*"))
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	if !d.older {
		return nil
	}
	return d.writeFormat()
}

func (d *Dir) writeFormat() error { return d.WriteFile("FORMAT", []byte(strconv.Itoa(Format)+"\n")) }

// Find is the directory as it is, there or not, for who only looks.
func Find(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	return &Dir{path: path, own: func(*os.File) error { return nil }}, err
}

// CheckFormat refuses what the file FORMAT in path says when this version
// does not know that format.
func CheckFormat(path string, raw []byte) error {
	format, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	switch {
	case err != nil || format < 1:
		return fmt.Errorf("%s does not hold a format number", filepath.Join(path, "FORMAT"))
	case format > Format:
		return fmt.Errorf("%s has format %d, which a newer attachd wrote; this one knows formats up to %d. Use the newer version, or restore a backup made by this one", path, format, Format)
	}
	return nil
}

// makeAll is os.MkdirAll with every new name on stable storage: what is kept
// in a directory is lost with its name.
func makeAll(path string) error {
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: path, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := makeAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// closeToOthers takes a directory for attachd alone, unless it plainly is
// everybody's.
func closeToOthers(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSticky != 0 || path == filepath.Dir(path) {
		return fmt.Errorf("%s cannot be a data directory, since others use it too; name one of its own in it", path)
	}
	if info.Mode().Perm() == 0o700 {
		return nil
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("closing the data directory to others: %w", err)
	}
	return nil
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Join is the path of a file in the directory.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

// Own hands a new file to the directory's owner, where that is not who runs
// us: root would otherwise leave files that the service cannot open.
func (d *Dir) Own(f *os.File) error { return d.own(f) }

// WriteFile writes a file for its owner's eyes only, whole or not at all:
// when it returns without an error, the file and its name are on stable
// storage.
func (d *Dir) WriteFile(name string, content []byte) (err error) {
	f, err := os.CreateTemp(d.path, "."+name+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("writing %s: %w", d.Join(name), err), os.Remove(f.Name()))
		}
	}()
	if err := d.own(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.Join(name)); err != nil {
		return err
	}
	return syncDir(d.path)
}

// CheckDatabase refuses to begin with an empty database over contents that
// an earlier one knew: they would all look spare.
func (d *Dir) CheckDatabase() error {
	if _, err := os.Stat(d.Join(databaseFile)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found, err := filepath.Glob(filepath.Join(escapeGlob(d.path), "blobs", "sha256", "??", "*"))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%s is missing, but there are %d stored files in %s. %s. To begin anew, move the blobs directory away",
			d.Join(databaseFile), len(found), d.Join("blobs"), d.Rescue())
	}
	return nil
}

func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // the escape character there; such names cannot hold a * or ?
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Hold leaves a note for others of who has the directory, until release.
func (d *Dir) Hold(who string) (release func() error, err error) {
	note := fmt.Sprintf("%s (process %d)\n", who, os.Getpid())
	if err := d.WriteFile("attachd.pid", []byte(note)); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(d.Join("attachd.pid")) }, nil
}

// Holder is the note that Hold left.
func (d *Dir) Holder() string {
	note, err := os.ReadFile(d.Join("attachd.pid"))
	if err != nil {
		return "another process"
	}
	return strings.TrimSpace(string(note))
}
