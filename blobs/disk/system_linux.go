package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// syncsWhole are the file systems of which syncfs(2) is known to write everything.
// Others, such as FUSE, may do nothing and report success.
var syncsWhole = []string{"ext4", "xfs", "btrfs", "f2fs", "tmpfs"}

// syncsAll reports whether syncAll can be relied on for what is in dir. Linux
// reports bytes that could not be written since 5.8 (syncfs(2)), and failures of
// the file system itself since 5.17.
func syncsAll(dir string) bool {
	var system unix.Utsname
	if unix.Uname(&system) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(system.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	name, err := durable.FileSystem(dir)
	return err == nil && (major > 5 || major == 5 && minor >= 17) && slices.Contains(syncsWhole, name)
}

// syncAll syncs the file system that a file is on. It fails when a write to that
// file system failed since the file was opened.
func syncAll(file *os.File) error {
	for {
		err := unix.Syncfs(int(file.Fd()))
		if err == nil || !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("syncfs", err)
		}
	}
}

// CapacityOf returns the size and the free room of the disk that a folder is on.
func CapacityOf(dir string) (blobs.Capacity, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return blobs.Capacity{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// Blocks are counted in fragments, which on FUSE and others differ from the
	// preferred size of reads.
	return blobs.Capacity{
		Free: int64(s.Bavail) * int64(s.Frsize), Total: int64(s.Blocks) * int64(s.Frsize),
		FreeFiles: int64(s.Ffree), Files: int64(s.Files),
	}, nil
}

// hasVersions says whether the file system of dir records the time of every change
// of a file, by its own clock. FUSE and the file systems of Windows may not;
// network file systems refresh it only now and then.
func hasVersions(dir string) bool {
	name, err := durable.FileSystem(dir)
	return err == nil && (name == "zfs" || slices.Contains(syncsWhole, name))
}

// version uses ctime, which no program can set.
func version(info fs.FileInfo) blobs.Version {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return blobs.Version{File: s.Ino, Changed: s.Ctim.Nano()}
	}
	return blobs.Version{}
}

// beginWriteback asks the kernel to start writing a part of a file, without waiting
// for it: only a sync reports whether it was written.
func beginWriteback(file *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(file.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}
