package disk

import (
	"os"

	"golang.org/x/sys/windows"

	"attachd/blobs"
)

// openNoFollow opens through the Root also because that allows others to rename and
// remove the file meanwhile; os.Open does not.
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

// CapacityOf returns the size and the free room of the disk that a folder is on.
func CapacityOf(dir string) (blobs.Capacity, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return blobs.Capacity{}, err
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, nil); err != nil {
		return blobs.Capacity{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return blobs.Capacity{Free: int64(free), Total: int64(total)}, nil
}
