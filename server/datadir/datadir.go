// Package datadir manages the data directory: its layout and format, its secrets, its
// snapshots, and the ownership of its files.
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
	"time"

	"attachd/blobs/durable"
)

// Format is the number of the layout that this version writes:
//
//	FORMAT        this number
//	attachd.db    metadata
//	wal/          write-ahead log: small uploads until each has its file in blobs/
//	wal.aside-*/  copies of that log, which belonged to another database; may be deleted
//	blobs/        contents
//	tmp/          uploads under way, emptied at start
//	ballast       reserved disk space, freed when the disk is full
//	snapshots/    copies of the database, a few
//	thumbnails/   small pictures, regenerated when they are missing
//	secret.key    signs links; its form is described at SigningKeys
//	admin.key     the key of the first superadmin; may be deleted
//	attachd.sock  socket for commands to the running server
//	attachd.pid   the process that uses the directory, for messages
//	attachd.lock  where the records are in PostgreSQL: locked by the process that uses the
//	              directory, in which nothing is of value then
//	RESTORING     exists until a restore is finished
//
// In format 7, there were no legal holds. In format 6, there was no trash. In format 5, all
// contents were in blobs. In format 4, the database held small uploads until each had its
// file, and the log was one file, attachd.wal. In format 3, the entries of the database had
// no checksums. In format 2, there was no write-ahead log. In format 1, the database also had
// no contents, no audit log and no outbox, and secret.key held one key.
const Format = 8

// Names of files in a data directory.
const (
	FormatFile   = "FORMAT"
	DatabaseFile = "attachd.db"
	LogFolder    = "wal"
	OlderLog     = "attachd.wal" // of format 4 and before
	SecretFile   = "secret.key"
	LockFile     = "attachd.lock"
)

// Dir is a data directory that this version can work with.
type Dir struct {
	path   string
	own    func(*os.File) error
	older  bool // of an earlier format so far, or without its file FORMAT
	fresh  bool // nothing of attachd was in it when it was opened
	shared bool // it contains files of other programs too
	warns  []string
}

// Open opens a data directory, and makes it where it is missing. It refuses a directory
// that other programs use, one of a newer format, and one with keys that other users
// can read, and leaves it unchanged.
func Open(path string) (*Dir, error) { return open(path, true) }

// OpenExisting is Open for an existing data directory: nothing is made where there is
// none, and the error is ErrNoInstallation.
func OpenExisting(path string) (*Dir, error) { return open(path, false) }

func open(path string, mayMake bool) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	found, err := examine(path)
	if err != nil {
		return nil, err
	}
	if err := found.refusal(path); err != nil {
		return nil, err
	}
	if !found.ours && !mayMake {
		return nil, fmt.Errorf("%s is %w", path, ErrNoInstallation)
	}
	d := &Dir{path: path, fresh: !found.ours, shared: found.stranger != ""}
	if err := d.prepare(); err != nil {
		return nil, err
	}
	if d.fresh {
		return d, d.writeFormat()
	}
	return d, d.readFormat()
}

// prepare checks that attachd can work in the directory, alone and safely.
func (d *Dir) prepare() (err error) {
	if err := makeAll(d.path); err != nil {
		return fmt.Errorf("making the data directory: %w", explain(err))
	}
	if isReadOnly(d.path) {
		return readOnly(d.path)
	}
	if err := onOneDisk(d.path); err != nil {
		return err
	}
	if err := refuseUnfinished(d.path); err != nil {
		return err
	}
	if err := d.closeToOthers(); err != nil {
		return err
	}
	for _, file := range append(d.LogFiles(), DatabaseFile, OlderLog, SecretFile, "admin.key", "demo-keys.json") {
		if err := d.closeToGroup(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, secret := range []string{SecretFile, "admin.key", "demo-keys.json"} {
		info, err := os.Lstat(d.Join(secret))
		if err == nil {
			err = private(d.Join(secret), info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	d.own, err = ownerOf(d.path)
	return err
}

func (d *Dir) readFormat() error {
	raw, err := os.ReadFile(d.Join(FormatFile))
	if errors.Is(err, fs.ErrNotExist) {
		d.older = true // CleanUp rewrites it, once the rest is known to be usable
		return nil
	}
	if err != nil {
		return explain(err)
	}
	d.older = strings.TrimSpace(string(raw)) != strconv.Itoa(Format)
	return CheckFormat(d.path, raw)
}

// LogFiles are the names of the files of the write-ahead log, which contain contents.
func (d *Dir) LogFiles() (names []string) {
	entries, _ := os.ReadDir(d.Join(LogFolder)) // the log says what is wrong with its folder
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			names = append(names, filepath.Join(LogFolder, entry.Name()))
		}
	}
	return names
}

// Fresh reports whether nothing of attachd was in the directory when it was opened.
func (d *Dir) Fresh() bool { return d.fresh }

// Shared reports whether the directory contains files of other programs too, which an
// earlier version allowed.
func (d *Dir) Shared() bool { return d.shared }

// Warnings are sentences about what is less safe than it could be.
func (d *Dir) Warnings() []string { return d.warns }

// Look returns what Open would refuse the directory for, or warn of, except what Open
// can repair. It changes nothing.
func (d *Dir) Look() (warning string, err error) {
	found, err := examine(d.path)
	if err == nil {
		err = found.refusal(d.path)
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return "", nil
	}
	if err == nil {
		err = onOneDisk(d.path)
	}
	if err != nil || info.Mode().Perm()&0o077 == 0 || d.MayClose() {
		return "", err
	}
	return bearOpen(d.path, info)
}

// Installed reports whether attachd has worked in the directory, or `attachd init` has
// prepared it.
func (d *Dir) Installed() bool {
	found, err := examine(d.path)
	return err == nil && found.ours
}

// Made is when the directory was set up on this disk, by a first start or a restore:
// the modification time of the folder of contents, which has not changed since then.
func (d *Dir) Made() (time.Time, error) {
	info, err := os.Stat(d.Join("blobs/sha256"))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// CleanUp removes the temporary files of a process that was killed, and takes the
// directory over. The database must be open: its lock keeps other processes out.
func (d *Dir) CleanUp() error {
	for _, name := range []string{"ballast", SecretFile, "admin.key", "demo-keys.json", "attachd.pid"} {
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
	return d.TakeOver()
}

// TakeOver writes the format of this version, so that an earlier version, which would not
// find everything, refuses the directory from now on.
func (d *Dir) TakeOver() error {
	if !d.older {
		return nil
	}
	err := d.writeFormat()
	d.older = err != nil
	return err
}

func (d *Dir) writeFormat() error { return d.WriteFile(FormatFile, []byte(strconv.Itoa(Format)+"\n")) }

// Find returns the directory as it is, existing or not, for reading only.
func Find(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	return &Dir{path: path, own: func(*os.File) error { return nil }}, err
}

// CheckFormat returns an error when this version does not support the format in raw,
// the content of the file FORMAT in path.
func CheckFormat(path string, raw []byte) error {
	format, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	switch {
	case err != nil || format < 1:
		return fmt.Errorf("%s does not hold a format number. If a crash emptied it or its disk is failing, delete it: the next start writes it anew, and refuses a database that it cannot use", filepath.Join(path, FormatFile))
	case format > Format:
		return fmt.Errorf("%s has format %d, which a newer attachd wrote; this one knows formats up to %d. Use the newer version, or restore a backup made by this one", path, format, Format)
	}
	return nil
}

// makeAll is os.MkdirAll with every new name synced to the disk: without its name, a
// directory is lost with all that it contains.
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
	return durable.SyncDir(parent)
}

// closeToOthers denies other users access to the directory.
func (d *Dir) closeToOthers() error {
	info, err := os.Stat(d.path)
	if err != nil || info.Mode().Perm() == 0o700 {
		return err
	}
	if os.Geteuid() == 0 && !d.MayClose() {
		return nil // the service needs the access
	}
	if err := os.Chmod(d.path, 0o700); errors.Is(err, fs.ErrPermission) {
		warning, err := bearOpen(d.path, info)
		if warning != "" {
			d.warns = append(d.warns, warning)
		}
		return err
	} else if err != nil {
		return fmt.Errorf("closing the data directory to others: %w", err)
	}
	if info, err = os.Stat(d.path); err != nil {
		return err
	}
	return keepsModes(d.path, info)
}

// Explain adds to a permission error in the directory who owns the file and which
// command to type.
func (d *Dir) Explain(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) && !filepath.IsAbs(at.Path) {
		at.Path = d.Join(at.Path)
	}
	return explain(err)
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Join is the path of a file in the directory.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

// Own gives a new file to the directory's owner, if the process runs as another user:
// root would otherwise leave files that the service cannot open.
func (d *Dir) Own(f *os.File) error { return d.own(f) }

// WriteFile writes a file that only its owner can read, atomically: when it returns
// without an error, the file and its name are synced to the disk.
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
	own := func(f *os.File) error {
		info, err := f.Stat()
		if err == nil {
			err = keepsModes(d.path, info)
		}
		if err != nil {
			return err
		}
		return d.own(f)
	}
	err = durable.Fill(f, own, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
	if err != nil {
		return err
	}
	return durable.Rename(f.Name(), d.Join(name))
}

// CheckDatabase refuses to start with an empty database when there are contents of an
// earlier one, in files of their own or in the log: none of them would seem to be
// referenced.
func (d *Dir) CheckDatabase() error {
	if _, err := os.Stat(d.Join(DatabaseFile)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, in := range [][2]string{{"blobs", filepath.Join("sha256", "??", "*")}, {LogFolder, "*"}} {
		found, err := filepath.Glob(filepath.Join(escapeGlob(d.path), in[0], in[1]))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("%s is missing, but there are %d stored files in %s. %s. To begin anew, move the folders blobs and %s away",
				d.Join(DatabaseFile), len(found), d.Join(in[0]), d.Rescue(), LogFolder)
		}
	}
	return nil
}

func escapeGlob(path string) string {
	if filepath.Separator == '\\' {
		return path // it is the escape character on Windows; such names cannot contain a * or ?
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// Announce writes attachd.pid, which names the process that uses the directory; release
// removes it.
func (d *Dir) Announce(who string) (release func() error, err error) {
	note := fmt.Sprintf("%s (process %d)\n", who, os.Getpid())
	if err := d.WriteFile("attachd.pid", []byte(note)); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(d.Join("attachd.pid")) }, nil
}

// Holder is the text that Announce wrote, in any process.
func (d *Dir) Holder() string {
	note, err := os.ReadFile(d.Join("attachd.pid"))
	if err != nil {
		return "another process"
	}
	return strings.TrimSpace(string(note))
}
