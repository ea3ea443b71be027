package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// folders are the folders of a data directory. A folder of one of these names may be
// another program's as long as there is no file in it: nothing can be lost.
var folders = []string{"blobs", "snapshots", "thumbnails", "tmp", LogFolder}

// The files of a data directory, and incomplete copies of them.
var (
	fileNames   = []string{FormatFile, DatabaseFile, OlderLog, "attachd.sock", "attachd.pid", LockFile, "ballast", SecretFile, "admin.key", "demo-keys.json", restoring}
	unfinished  = regexp.MustCompile(`^(\.(FORMAT|ballast|secret\.key|admin\.key|demo-keys\.json|attachd\.pid|RESTORING|doctor)\.\d+|attachd\.db\.new\d+)$`)
	setAside    = regexp.MustCompile(`^wal\.aside-[-0-9TZ.]+$`)     // logs of databases that another took the place of
	formatFirst = regexp.MustCompile(`^\.(FORMAT|RESTORING)\.\d+$`) // left by a first start, or a restore, that was killed
)

// occupant says which program uses a directory that attachd is to work in. Finding out
// only reads: a folder of another program stays unchanged.
type occupant struct {
	ours      bool
	stranger  string // the first name that is not attachd's; empty if there is none
	isArchive bool   // it contains a backup
}

// examine examines a directory, which may be missing. It is attachd's if it contains
// two of the entries that only attachd makes, or one and nothing of another program.
func examine(path string) (o occupant, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return o, nil
	case err != nil:
		return o, explain(err)
	case !info.IsDir():
		return o, nil // making the directory reports that error
	}
	if info.Mode()&fs.ModeSticky != 0 || path == filepath.Dir(path) {
		return o, fmt.Errorf("%s cannot be a data directory, since others use it too; name one of its own in it", path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return o, explain(err)
	}
	evidence := o.evidence(path)
	for _, entry := range entries {
		if o.stranger == "" && !belongs(path, entry, evidence > 0) {
			o.stranger = entry.Name()
		}
	}
	o.ours = evidence > 1 || evidence == 1 && o.stranger == ""
	return o, nil
}

// evidence counts entries that only attachd makes.
func (o *occupant) evidence(path string) (n int) {
	if raw, err := readNote(filepath.Join(path, FormatFile)); err == nil {
		o.isArchive = strings.HasPrefix(string(raw), "attachd backup ")
		if _, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			n++
		}
	}
	if info, err := os.Lstat(filepath.Join(path, DatabaseFile)); err == nil && info.Mode().IsRegular() {
		n++
	}
	first, noFirst := os.Lstat(filepath.Join(path, "blobs", "sha256", "00"))
	last, noLast := os.Lstat(filepath.Join(path, "blobs", "sha256", "ff"))
	if noFirst == nil && noLast == nil && first.IsDir() && last.IsDir() {
		n++
	}
	if begun, err := isRestoring(path); err == nil && begun {
		n += 2
	}
	return n
}

// belongs reports whether an entry may be in a data directory; used means that attachd
// has worked in it.
func belongs(path string, entry fs.DirEntry, used bool) bool {
	name := entry.Name()
	switch {
	case ofTheDisk(entry), formatFirst.MatchString(name):
		return true
	case slices.Contains(folders, name):
		return used || isEmpty(filepath.Join(path, name), deepest)
	}
	return used && (slices.Contains(fileNames, name) || unfinished.MatchString(name) || setAside.MatchString(name))
}

// ofSystems matches names that operating systems, network disks and version control
// leave in a folder that people regard as empty.
var ofSystems = regexp.MustCompile(`^(lost\+found|\.git(keep|ignore)|\.keep|\.DS_Store|\.Trash(es|-\d+)|\.fseventsd|\.Spotlight-V100|\.TemporaryItems|\.snapshots?|\.zfs|\.nfs[0-9a-f]+|[aA]?quota\.(user|group)|System Volume Information|\$RECYCLE\.BIN|[dD]esktop\.ini|Thumbs\.db|@eaDir|#recycle)$`)

// ofTheDisk reports whether an entry belongs to the disk that is mounted there, or to
// the system: a fresh disk counts as empty all the same.
func ofTheDisk(entry fs.DirEntry) bool { return ofSystems.MatchString(entry.Name()) }

// deepest is how many levels of folders isEmpty searches.
const deepest = 3

// isEmpty reports whether there is no file in a folder, nor in those below it.
func isEmpty(folder string, depth int) bool {
	if info, err := os.Lstat(folder); err != nil || !info.IsDir() || depth < 0 {
		return false
	}
	entries, err := os.ReadDir(folder)
	return err == nil && !slices.ContainsFunc(entries, func(entry fs.DirEntry) bool {
		return !ofTheDisk(entry) && !isEmpty(filepath.Join(folder, entry.Name()), depth-1)
	})
}

// refusal returns the reason why attachd does not work in the directory of another
// program.
func (o occupant) refusal(path string) error {
	switch {
	case o.ours || o.stranger == "":
		return nil
	case o.isArchive:
		return fmt.Errorf("%s is no data directory of attachd, but a backup of one. Name the data directory with --data-dir or data_dir; `attachd restore %s` makes one of the backup", path, path)
	}
	return fmt.Errorf("%s is no data directory of attachd: there is %q in it, which is not attachd's, and nothing of it was touched. Name a new or empty folder with --data-dir or data_dir, such as %s",
		path, o.stranger, filepath.Join(path, "attachd"))
}

// ErrNoInstallation means that there is no installation where one is required.
var ErrNoInstallation = errors.New("no data directory of attachd")
