//go:build unix

package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// ownerOf gives what hands a file to whoever owns path. Only root can, and
// only root must.
func ownerOf(path string) (func(*os.File) error, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 && owner.Gid == 0 {
		return func(*os.File) error { return nil }, nil
	}
	return func(f *os.File) error { return f.Chown(int(owner.Uid), int(owner.Gid)) }, nil
}

// isReadOnly says whether a directory is on a file system that takes no
// changes, from whomever.
func isReadOnly(path string) bool { return errors.Is(syscall.Access(path, mayWrite), syscall.EROFS) }

const mayWrite = 2 // W_OK of access(2)

// ownPath is Own for what cannot be opened, like a socket.
func (d *Dir) ownPath(name string) error {
	info, err := os.Stat(d.path)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(d.Join(name), int(owner.Uid), int(owner.Gid))
}

// Private refuses a secret that others on this machine may read. One of
// root's may be open to a group, as that is how we can read it at all.
func Private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	closed := fs.FileMode(0o077)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 && os.Geteuid() != 0 {
		closed = 0o037
	}
	if mode := info.Mode().Perm(); mode&closed != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o). Close it: chmod 600 %s", path, mode, path)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
