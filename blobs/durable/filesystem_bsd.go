//go:build darwin || freebsd

package durable

import "golang.org/x/sys/unix"

// otherNames maps file system names of macOS and FreeBSD to those of Linux.
var otherNames = map[string]string{"msdos": "vfat", "macfuse": "fuse", "osxfuse": "fuse", "fusefs": "fuse", "msdosfs": "vfat", "smbfs": "smb"}

// FileSystem names the file system of a path, as mount(8) does; "" when it is
// unknown.
func FileSystem(path string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return "", err
	}
	name := unix.ByteSliceToString(s.Fstypename[:])
	if other, has := otherNames[name]; has {
		return other, nil
	}
	return name, nil
}
