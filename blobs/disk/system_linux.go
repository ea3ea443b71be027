package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"attachd/blobs"

	"golang.org/x/sys/unix"
)

// Of these it is known that syncfs(2) writes everything. Others, such as FUSE,
// may do nothing and say that all is well.
var syncsWhole = []int64{unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC}

// syncsAll says whether syncAll can be relied on for what is in dir. Linux
// tells of bytes that could not be written since 5.8 (syncfs(2)), and of what
// the file system itself could not do since 5.17.
func syncsAll(dir string) bool {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return (major > 5 || major == 5 && minor >= 17) && slices.Contains(syncsWhole, fileSystemOf(dir))
}

// syncAll syncs the file system that a file is on. It fails when a write to it
// failed since the file was opened.
func syncAll(file *os.File) error {
	for {
		err := unix.Syncfs(int(file.Fd()))
		if err == nil || !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("syncfs", err)
		}
	}
}

// CapacityOf gives the size and the free room of the disk that a folder is on.
func CapacityOf(dir string) (blobs.Capacity, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return blobs.Capacity{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// Blocks are counted in fragments, which FUSE and others tell apart from
	// the size that is good for reading.
	return blobs.Capacity{
		Free: int64(s.Bavail) * int64(s.Frsize), Total: int64(s.Blocks) * int64(s.Frsize),
		FreeFiles: int64(s.Ffree), Files: int64(s.Files),
	}, nil
}

// tellsVersions says whether the file system of dir notes the time of every
// change of a file, by a clock of its own. Some, such as FUSE and those of
// Windows, say what they like; those of a network look only now and then.
func tellsVersions(dir string) bool {
	kind := fileSystemOf(dir)
	return kind == zfsMagic || slices.Contains(syncsWhole, kind)
}

const zfsMagic = 0x2fc12fc1

// fileSystemOf gives the magic number of the file system that dir is on, 0 when
// that is not known.
func fileSystemOf(dir string) int64 {
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) != nil {
		return 0
	}
	return int64(stat.Type)
}

// version takes the time that nobody can set.
func version(info fs.FileInfo) blobs.Version {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return blobs.Version{File: s.Ino, Changed: s.Ctim.Nano()}
	}
	return blobs.Version{}
}

// beginWriteback has a part of a file written to the disk, and waits for
// nothing. Whether it came there is for a sync to say.
func beginWriteback(file *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(file.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}
