// Package backup keeps restore points of an installation in an archive, and
// restores them. It speaks no HTTP.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"attachd/blobs/disk"
	"attachd/blobs/durable"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/portable"
)

// Archive is a folder of restore points:
//
//	FORMAT                         what the folder is, and the number of its layout
//	INSTALLATION                   the id of the installation whose backup it is
//	blobs/sha256/ab/<64 digits>    contents, plain, each once for all points that need it
//	blobs/damaged/                 the names of contents that were found damaged
//	points/<time>/                 a restore point: its files and point.json
//	tmp/                           unfinished files; emptied when the archive is opened
//	lock                           locked by the process that works on the folder
//
// A restore point is made under tmp/ and gets its name when all that it needs is on
// stable storage: a point with a name is whole. Points share contents through one common
// folder, not through links, which many media do not support.
//
// Other users than the one who runs the command, often root, may be able to write to
// the folder: it is accessed only through an os.Root, only regular files are opened,
// and only files just created change owner.
type Archive struct {
	dir      string
	root     *os.Root // nil where the folder is missing
	own      func(*os.File) error
	lock     *os.File    // nil where the folder cannot be written
	pool     *disk.Store // nil when the archive was only found
	unsynced atomic.Pointer[error]
}

// archiveFormat is the number of the layout that this version writes.
const archiveFormat = 1

const (
	formatFile       = "FORMAT"
	installationFile = "INSTALLATION"
	lockName         = "lock"
	pointsDir        = "points"
	tempDir          = "tmp"
	pointFile        = "point.json"

	// The files of a point, named as in the data directory they come from.
	databaseFile   = "attachd.db"
	secretFile     = "secret.key"
	dataFormatFile = "FORMAT"
)

// ErrBusy means that another process works on an archive.
var ErrBusy = errors.New("another attachd command works on it")

// FindArchive returns an archive that can only list its points.
func FindArchive(dir string) (*Archive, error) {
	a := &Archive{dir: dir, own: nobodys}
	state, err := a.look()
	if err == nil && state != isArchive {
		err = fmt.Errorf("%s holds no backup of attachd", dir)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// OpenArchive opens an archive for reading. It returns ErrBusy while another process
// has it. A folder that cannot be written is not locked.
func OpenArchive(dir string) (*Archive, error) {
	a, err := FindArchive(dir)
	if err != nil {
		return nil, err
	}
	err = a.takeLock()
	readOnly := durable.IsReadOnly(err) || errors.Is(err, fs.ErrPermission)
	if err != nil && !readOnly {
		return nil, errors.Join(err, a.Close())
	}
	return a, a.openPool(readOnly)
}

// MakeArchive opens an archive for adding, and creates it in a folder that is missing
// or empty; the parent folder must exist. It returns ErrBusy while another process has
// it. own is called with every file and folder that is created.
func MakeArchive(dir string, own func(*os.File) error) (*Archive, error) {
	a := &Archive{dir: dir, own: where(own)}
	err := a.prepare()
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, a.openPool(false)
}

func (a *Archive) prepare() error {
	state, err := a.look()
	if err != nil {
		return err
	}
	if state == isMissing {
		if err := a.makeTop(); err != nil {
			return err
		}
	}
	if err := a.takeLock(); err != nil {
		return err
	}
	return a.complete()
}

// makeTop creates the archive's folder. One that another process has just created is
// left as it is.
func (a *Archive) makeTop() error {
	made := os.Mkdir(a.dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return made
	}
	root, err := os.OpenRoot(a.dir)
	if err != nil {
		return err
	}
	a.root = root
	if made != nil {
		return nil
	}
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	info, err := os.Lstat(a.dir) // detects a link that was put there
	if err == nil {
		err = same(dir, info)
	}
	if err == nil {
		err = a.own(dir)
	}
	return errors.Join(err, dir.Close())
}

// complete creates what a new archive lacks. It checks the folder again under the lock,
// since another process may have created the archive meanwhile.
func (a *Archive) complete() error {
	state, err := a.look()
	if err != nil || state == isArchive {
		return err
	}
	if err := a.makeFolder(pointsDir); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := a.replace(formatFile, []byte(fmt.Sprintf("attachd backup %d\n", archiveFormat))); err != nil {
		return err
	}
	above, err := os.Open(filepath.Dir(a.dir))
	if err != nil {
		return err
	}
	return errors.Join(a.syncFolder(above), above.Close())
}

// replace writes a file in the archive atomically.
func (a *Archive) replace(name string, content []byte) error {
	unfinished := name + ".new"
	if err := durable.Removed(a.root.Remove(unfinished)); err != nil {
		return err
	}
	if err := a.write(unfinished, content); err != nil {
		return err
	}
	if err := a.root.Rename(unfinished, name); err != nil {
		return err
	}
	return a.syncDir(path.Dir(name))
}

// state is what a folder contains, as far as archives are concerned.
type state int

const (
	isMissing state = iota
	isEmpty         // or left by a crash before the first restore point
	isArchive
)

// look determines the folder's state. It refuses folders that are neither empty nor an
// archive of a format that this version knows.
func (a *Archive) look() (state, error) {
	if a.root == nil {
		root, err := os.OpenRoot(a.dir)
		if errors.Is(err, fs.ErrNotExist) {
			return isMissing, nil
		}
		if err != nil {
			return isMissing, err
		}
		a.root = root
	}
	names, err := a.list(".")
	if err != nil {
		return isMissing, err
	}
	raw, err := a.read(formatFile, maxShort)
	if errors.Is(err, fs.ErrNotExist) {
		return isEmpty, a.refuseOthers(names)
	}
	if err != nil {
		return isEmpty, err
	}
	number, ours := strings.CutPrefix(strings.TrimSpace(string(raw)), "attachd backup ")
	format, err := strconv.Atoi(number)
	switch {
	case !ours || err != nil || format < 1:
		return isEmpty, fmt.Errorf("%s is no backup of attachd: %s says something else", a.dir, a.path(formatFile))
	case format > archiveFormat:
		return isEmpty, fmt.Errorf("%s is a backup of format %d, which a newer attachd wrote; this one knows formats up to %d", a.dir, format, archiveFormat)
	}
	return isArchive, nil
}

func (a *Archive) refuseOthers(names []string) error {
	for _, name := range names {
		if name == "lost+found" { // a new file system has it
			if info, err := a.root.Lstat(name); err == nil && info.IsDir() {
				continue
			}
		}
		if name != lockName && name != pointsDir && name != formatFile+".new" {
			return fmt.Errorf("%s is neither empty nor a backup of attachd: there is %s in it. Name a folder of its own", a.dir, name)
		}
	}
	return nil
}

// takeLock changes the owner of the lock file only when it has created it: an existing
// one may be a link to another user's file.
func (a *Archive) takeLock() (err error) {
	var made bool
	a.lock, made, err = lock(a.root, lockName)
	if err != nil {
		return err
	}
	if made {
		return a.own(a.lock)
	}
	return nil
}

// Lock creates a file if it is missing and locks it exclusively until it is closed or
// the process ends in any way. It returns ErrBusy when another process has the lock.
func Lock(path string) (*os.File, error) {
	root, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	file, _, err := lock(root, filepath.Base(path))
	return file, errors.Join(err, root.Close())
}

func lock(root *os.Root, name string) (file *os.File, made bool, err error) {
	file, err = openRegular(root, name, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		made = true
		file, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return nil, false, fmt.Errorf("%s: %w", root.Name(), ErrBusy) // the process that has just created it
		}
	}
	if err != nil {
		return nil, false, err
	}
	taken, err := durable.Lock(file)
	switch {
	case err != nil:
		return nil, false, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	case !taken:
		return nil, false, errors.Join(fmt.Errorf("%s: %w", root.Name(), ErrBusy), file.Close())
	}
	return file, made, nil
}

func (a *Archive) openPool(readOnly bool) (err error) {
	wrap := func(files disk.FileSystem) disk.FileSystem { return &poolFiles{files, a} }
	a.pool, err = disk.Open(a.dir, disk.Options{Own: a.own, ReadOnly: readOnly, Wrap: wrap})
	if err == nil && !readOnly {
		err = a.removeUnfinished()
	}
	if err != nil {
		return errors.Join(err, a.Close())
	}
	return nil
}

// removeUnfinished removes the points that a killed process was making or removing:
// opening the pool removes temporary files only, not folders.
func (a *Archive) removeUnfinished() error {
	names, err := a.list(tempDir)
	for _, name := range names {
		if at, _ := splitName(name); name == pointsDir || !at.IsZero() {
			err = errors.Join(err, a.root.RemoveAll(tempDir+"/"+name))
		}
	}
	return err
}

// Close closes the archive and releases its lock.
func (a *Archive) Close() error {
	var pool, lock, root error
	if a.pool != nil {
		pool = a.pool.Close()
	}
	if a.lock != nil {
		lock = a.lock.Close()
	}
	if a.root != nil {
		root = a.root.Close()
	}
	return errors.Join(pool, lock, root)
}

// path returns the path of a file in the archive, for messages.
func (a *Archive) path(names ...string) string {
	return filepath.Join(append([]string{a.dir}, names...)...)
}

// Point is the description of a restore point.
type Point struct {
	Name         string            `json:"-"`                     // of its folder: the time, and a number where several have the same
	Made         time.Time         `json:"made"`                  // it has everything as it was at this time
	Version      string            `json:"version"`               // of attachd
	Installation uuid.UUID         `json:"installation,omitzero"` // to which it belongs; zero in points of earlier versions
	Attachments  int64             `json:"attachments"`           // records
	Contents     int64             `json:"contents"`              // that the records need, each counted once
	Bytes        int64             `json:"bytes"`                 // of these contents
	Files        map[string]string `json:"files"`                 // SHA-256 of each file of the point, by name
	Sizes        map[string]int64  `json:"sizes,omitempty"`       // bytes of each; missing in points of earlier versions
	Faults       []upkeep.Fault    `json:"faults"`                // of the database, and contents that could not be copied when it was made
}

// DatabaseFaults returns how many faults the database had when the point was made.
func (p Point) DatabaseFaults() (n int) {
	for _, fault := range p.Faults {
		if fault.Blob == "" {
			n++
		}
	}
	return n
}

// FormatOf returns the FORMAT file of the data directory; nil where it is lost or
// damaged.
func (a *Archive) FormatOf(p Point) []byte { return a.whole(p, dataFormatFile) }

// SecretOf returns the file with the keys that sign links; nil where it is lost or damaged.
func (a *Archive) SecretOf(p Point) []byte { return a.whole(p, secretFile) }

// whole returns a short file of a point; nil where it is lost or damaged.
func (a *Archive) whole(p Point, name string) []byte {
	content, err := a.read(path.Join(pointsDir, p.Name, name), maxShort)
	sum := sha256.Sum256(content)
	if err != nil || p.Files[name] != hex.EncodeToString(sum[:]) {
		return nil
	}
	return content
}

const pointTime = "2006-01-02T15-04-05Z"

// PointNames lists the restore points, oldest first.
func (a *Archive) PointNames() ([]string, error) {
	names, err := a.list(pointsDir)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		at, _ := splitName(name)
		return at.IsZero()
	})
	slices.SortFunc(names, func(one, other string) int {
		first, n := splitName(one)
		second, m := splitName(other)
		if c := first.Compare(second); c != 0 {
			return c
		}
		return n - m
	})
	return names, nil
}

// splitName parses the name of a point; it returns the zero time for other names.
func splitName(name string) (at time.Time, n int) {
	end := min(len(pointTime), len(name))
	at, err := time.Parse(pointTime, name[:end])
	if err != nil || len(name) == end {
		return at, 0
	}
	number, dashed := strings.CutPrefix(name[end:], "-")
	n, err = strconv.Atoi(number)
	if !dashed || err != nil || n < 1 || strconv.Itoa(n) != number {
		return time.Time{}, 0
	}
	return at, n
}

// nextName returns the name for a new point. It sorts after those of all others, even
// when the clock was set back.
func (a *Archive) nextName(at time.Time) (string, error) {
	names, err := a.PointNames()
	if err != nil {
		return "", err
	}
	at = at.UTC().Truncate(time.Second)
	if len(names) == 0 {
		return at.Format(pointTime), nil
	}
	last, n := splitName(names[len(names)-1])
	if at.After(last) {
		return at.Format(pointTime), nil
	}
	return fmt.Sprintf("%s-%d", last.Format(pointTime), n+1), nil
}

// Find returns a restore point by its name, or the newest when name is empty.
func (a *Archive) Find(name string) (Point, error) {
	names, err := a.PointNames()
	if err != nil {
		return Point{}, err
	}
	switch {
	case name == "" && len(names) == 0:
		return Point{}, fmt.Errorf("there is no restore point in %s", a.dir)
	case name == "":
		name = names[len(names)-1]
	case !slices.Contains(names, name):
		return Point{}, fmt.Errorf("there is no restore point %s in %s; `attachd backup list` shows those there are", name, a.dir)
	}
	raw, err := a.read(path.Join(pointsDir, name, pointFile), maxPointFile)
	if err != nil {
		return Point{Name: name}, err
	}
	var p Point
	if err := json.Unmarshal(raw, &p); err != nil {
		return Point{Name: name}, fmt.Errorf("%s: %w", a.path(pointsDir, name, pointFile), err)
	}
	p.Name = name
	return p, nil
}

// pointFiles are the files that every point has, beside its description.
var pointFiles = []string{databaseFile, secretFile, dataFormatFile}

// spoiled describes in a sentence what is wrong with each damaged file of a point. A
// damaged database must not be opened: reading a truncated file may end the process.
func (a *Archive) spoiled(ctx context.Context, p Point) (faults map[string]string, err error) {
	faults = map[string]string{}
	for _, name := range pointFiles {
		sum, err := a.hash(ctx, p, name)
		at := a.path(pointsDir, p.Name, name)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			faults[name] = fmt.Sprintf("%s cannot be read: %v.", at, err)
		case sum != p.Files[name]:
			faults[name] = fmt.Sprintf("%s is damaged: its bytes are not those that were written.", at)
		}
	}
	return faults, nil
}

// Open opens the database of a restore point, read-only.
type Open func(path string) (Records, error)

// Records is the metadata of a restore point, read from its database.
type Records interface {
	upkeep.CheckRecords
	upkeep.StatusRecords
	portable.Source
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	Users(ctx context.Context, after uuid.UUID, limit int) ([]store.User, error)
	KeysOf(ctx context.Context, user uuid.UUID, after uuid.UUID, limit int) ([]store.Key, error)
	Key(ctx context.Context, id uuid.UUID) (store.Key, store.User, error)
	Size(ctx context.Context) (store.Size, error)
	Damage() (faults []string)
	// ForgetObjects is that of upkeep.Objects, for a copy that may be written.
	ForgetObjects(ctx context.Context) error
	Close() error
}

// withRecords calls do with a point's database open.
func (a *Archive) withRecords(open Open, p Point, do func(Records) error) error {
	records, err := open(a.path(pointsDir, p.Name, databaseFile))
	if err != nil {
		return err
	}
	return errors.Join(do(records), records.Close())
}

// recordsAtOnce is how many records or users are read with one call.
const recordsAtOnce = 1000

// where changes the owner of files on media that have owners. Others, such as many USB
// sticks, refuse that, and are readable to anybody who has them.
func where(own func(*os.File) error) func(*os.File) error {
	return func(file *os.File) error {
		err := own(file)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		return err
	}
}

func nobodys(*os.File) error { return nil }
