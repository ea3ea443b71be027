package disk

import (
	"os"
	"path/filepath"
	"time"

	"attachd/blobs"
)

// Version is that of the open file itself, wherever its name is now.
func (d *Store) Version(c blobs.Content) blobs.Version {
	file, ok := c.(File)
	if !ok || !d.versions {
		return blobs.Version{}
	}
	info, err := file.Stat()
	if err != nil {
		return blobs.Version{} // the reader will get this error
	}
	return version(info)
}

// Kept is the Version that a file had right after it was moved into place. Until then,
// its name was random and its folder private.
func (d *Store) Kept(s blobs.Spool) blobs.Version {
	if kept, ok := s.(*spool); ok {
		return kept.kept
	}
	return blobs.Version{}
}

func (d *Store) keptVersion(ref blobs.Ref) blobs.Version {
	if d.dir == "" {
		return blobs.Version{}
	}
	info, err := os.Lstat(filepath.Join(d.dir, filepath.FromSlash(blobName(ref))))
	if err != nil {
		return blobs.Version{} // whoever reads it will get this error
	}
	return version(info)
}

const (
	// lookedAt is how many changes of a file hasDistinctVersions compares.
	lookedAt = 64
	// fastEnough is how long they may take. A clock that moves on every millisecond, the
	// shortest step that Linux has, would need longer for as many times.
	fastEnough = lookedAt / 2 * time.Millisecond
)

// hasDistinctVersions says whether any two changes of a file in dir have different times
// when somebody has looked at the file between them, however short the time. Linux does
// that since 6.13 on some file systems; elsewhere, times are in steps of the clock.
func hasDistinctVersions(dir string) bool {
	file, err := os.CreateTemp(dir, "scratch-*") // a name that emptyTemp knows
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(file.Name()) }() // the next start tries again
	defer func() { _ = file.Close() }()           // it has nothing that is to last
	began := time.Now()
	last := blobs.Version{}
	for range lookedAt {
		if _, err := file.WriteAt([]byte{0}, 0); err != nil {
			return false
		}
		info, err := file.Stat()
		if err != nil || version(info) == last {
			return false
		}
		last = version(info)
	}
	return time.Since(began) < fastEnough
}
