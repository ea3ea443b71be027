package blobs

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// openNoFollow opens through the Root also because that lets others rename
// and remove the file meanwhile; os.Open does not.
func openNoFollow(root *os.Root, name string) (*os.File, error) {
	info, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrInvalid}
	}
	return root.Open(name)
}

// syncDir does nothing: Windows syncs no folders, and NTFS keeps a journal of
// their changes.
func syncDir(*os.File) error { return nil }

// IsReadOnly says whether an error is that of a disk that takes no changes.
func IsReadOnly(err error) bool { return errors.Is(err, windows.ERROR_WRITE_PROTECT) }

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// DiskSpace tells of the disk that a folder is on.
func DiskSpace(dir string) (Space, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Space{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, nil); err != nil {
		return Space{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return Space{Free: int64(free), Total: int64(total)}, nil
}
