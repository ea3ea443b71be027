//go:build darwin || freebsd

package doctor

import "golang.org/x/sys/unix"

// Where macOS and FreeBSD have another name for a file system.
var otherNames = map[string]string{"msdos": "vfat", "macfuse": "fuse", "osxfuse": "fuse", "fusefs": "fuse", "msdosfs": "vfat", "smbfs": "smb"}

// fileSystemOf names the file system of a path.
func fileSystemOf(path string) (string, error) {
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
