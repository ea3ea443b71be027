package durable

import "golang.org/x/sys/unix"

// fileSystems are the names of file systems by their numbers in statfs(2).
var fileSystems = map[int64]string{
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.SMB_SUPER_MAGIC:       "smb",
	unix.AFS_SUPER_MAGIC:       "afs",
	unix.V9FS_MAGIC:            "9p",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.MSDOS_SUPER_MAGIC:     "vfat",
	unix.EXFAT_SUPER_MAGIC:     "exfat",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	0x2fc12fc1:                 "zfs", // unix has no name for it
}

// FileSystem names the file system of a path, as mount(8) does; "" when it is
// unknown.
func FileSystem(path string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return "", err
	}
	// The number has 32 bits, which are signed where int has 32 bits.
	return fileSystems[int64(uint32(s.Type))], nil
}
