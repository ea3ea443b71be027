//go:build unix

package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// ownerOf returns a function that gives a file to the owner of a data directory. Only
// root can do that, and only root has to.
func ownerOf(path string) (func(*os.File) error, error) {
	uid, gid, err := Owner(path)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 || uid == 0 && gid == 0 {
		return func(*os.File) error { return nil }, nil
	}
	return func(f *os.File) error { return f.Chown(uid, gid) }, nil
}

// Owner returns the owner of a data directory: that of the directory, or, where a
// platform gives a user access to a directory of root, that of the files in it.
func Owner(path string) (uid, gid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return os.Geteuid(), os.Getegid(), nil
	}
	if s.Uid == 0 {
		if info, err := os.Lstat(filepath.Join(path, FormatFile)); err == nil && info.Mode().IsRegular() {
			if file, ok := info.Sys().(*syscall.Stat_t); ok && file.Uid != 0 {
				s = file
			}
		}
	}
	return int(s.Uid), int(s.Gid), nil
}

// MayClose reports whether the process may close the directory to others: root may not
// where the service has access only because the directory is open.
func (d *Dir) MayClose() bool {
	info, err := os.Stat(d.path)
	if err != nil {
		return false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return !ok || int(s.Uid) == os.Geteuid()
	}
	uid, _, err := Owner(d.path)
	return err == nil && uid == int(s.Uid)
}

// isReadOnly reports whether a directory is on a file system that is read-only for all
// users.
func isReadOnly(path string) bool { return errors.Is(syscall.Access(path, mayWrite), syscall.EROFS) }

// R_OK, W_OK and X_OK of access(2).
const (
	mayRead  = 4
	mayWrite = 2
	mayEnter = 1
)

// ownPath is Own for files that cannot be opened, like a socket.
func (d *Dir) ownPath(name string) error {
	uid, gid, err := Owner(d.path)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	return os.Lchown(d.Join(name), uid, gid)
}

// explain adds to a permission error the owner of the file, the user that the process
// runs as, and the command to type.
func explain(err error) error {
	var at *fs.PathError
	if !errors.As(err, &at) {
		return err
	}
	switch {
	case errors.Is(err, syscall.EROFS):
		return readOnly(at.Path)
	case !errors.Is(err, fs.ErrPermission):
		return err
	}
	path, info, there := nearest(at.Path)
	if !there {
		return err
	}
	return fmt.Errorf("%w: %s", err, notOurs(path, info))
}

// nearest returns a path, or the nearest ancestor of it that exists and is accessible.
func nearest(path string) (string, fs.FileInfo, bool) {
	for {
		info, err := os.Stat(path)
		if err == nil || path == filepath.Dir(path) {
			return path, info, err == nil
		}
		path = filepath.Dir(path)
	}
}

// notOurs returns the error for a file that belongs to another user.
func notOurs(path string, info fs.FileInfo) error {
	uid, gid := os.Geteuid(), os.Getegid()
	owner := "another user"
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		owner = userName(int(s.Uid))
	}
	return fmt.Errorf("%s belongs to %s (mode %04o), and attachd runs as %s. Give it to that user: chown %d:%d %s. A folder that a container mounts is given on the host, by its path there; Kubernetes does it with securityContext.fsGroup: %d",
		path, owner, info.Mode().Perm(), userName(uid), uid, gid, path, gid)
}

// userName is a user's number, with the name if the system has one.
func userName(id int) string {
	number := strconv.Itoa(id)
	if u, err := user.LookupId(number); err == nil {
		return fmt.Sprintf("%s (%s)", u.Username, number)
	}
	return "user " + number
}

// readOnly returns the reason why nothing can be written: a read-only disk, or a
// systemd unit that lets its service write nowhere else.
func readOnly(path string) error {
	if os.Getenv("INVOCATION_ID") != "" {
		return fmt.Errorf("%s cannot be written by this service: its unit lets it write to its own folders only (ProtectSystem=strict), or the disk is mounted read-only. For the unit, run `systemctl edit attachd` and put there [Service] and ReadWritePaths=%s", path, path)
	}
	return fmt.Errorf("%s is on a disk that is mounted read-only: attachd has to write there, also for a check. Mount it for writing, or copy it to where there is room and name the copy with --data-dir", path)
}

// bearOpen decides whether to use a directory that cannot be closed since it belongs to
// another user: container platforms make such volumes, for one process.
func bearOpen(path string, info fs.FileInfo) (warning string, err error) {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return "", noModes(path, info)
	}
	const nobody = 65534 // root, as seen from a container with a user namespace
	mode, mount := info.Mode().Perm(), isMount(path)
	switch {
	case syscall.Access(path, mayWrite|mayEnter) != nil, owner.Uid != 0 && owner.Uid != nobody && !mount:
		return "", notOurs(path, info)
	case mode&0o007 == 0:
		return "", nil // open only to a group, which is the process's
	case mode&0o002 == 0, mount:
		return fmt.Sprintf("the data directory %s belongs to %s and is open to every user of this machine (mode %04o), which attachd cannot change. In a container of its own nobody else is there; elsewhere: chown %d:%d %s",
			path, userName(int(owner.Uid)), mode, os.Geteuid(), os.Getegid(), path), nil
	}
	return "", notOurs(path, info)
}

// keepsModes refuses a file system that ignores modes: one on which a directory stays
// open to others after it was closed to them.
func keepsModes(path string, info fs.FileInfo) error {
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	return noModes(path, info)
}

func noModes(path string, info fs.FileInfo) error {
	uid, gid := os.Geteuid(), os.Getegid()
	return fmt.Errorf("the disk of %s keeps no modes: its files stay open to others (mode %04o), the keys among them. Use a disk with a file system such as ext4 or XFS (in Docker on Windows, a named volume), or mount this one for attachd alone: with the options uid=%d,gid=%d,umask=077, or for SMB uid=%d,gid=%d,file_mode=0600,dir_mode=0700",
		path, info.Mode().Perm(), uid, gid, uid, gid)
}

// closeToGroup closes a file of the process's user that a platform has opened for
// reading and writing to the group of its volumes (fsGroup of Kubernetes, at each
// mount). Root does so for the owner of the data directory.
func (d *Dir) closeToGroup(name string) (err error) {
	f, err := os.OpenFile(d.Join(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return explain(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	uid, _, err := Owner(d.path)
	if err != nil {
		return err
	}
	file, known := info.Sys().(*syscall.Stat_t)
	ours := known && (int(file.Uid) == os.Geteuid() || os.Geteuid() == 0 && int(file.Uid) == uid)
	if !ours || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0o060 || file.Nlink != 1 {
		return nil
	}
	return f.Chmod(0o600)
}

// Private refuses a secret that other users of this machine may read. A file of root
// may be open to a group, since the process may have access only by that, and to
// everybody as container platforms mount secrets for one process.
func Private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return explain(err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	ours := !ok || int(owner.Uid) == os.Geteuid()
	if !ours && syscall.Access(path, mayRead) != nil {
		return fmt.Errorf("%w: %s belongs to %s (mode %04o), and attachd runs as %s. Give it to that user: chown %d:%d %s. Of a secret of Docker or Kubernetes, set mode: 0440 and the group %d",
			fs.ErrPermission, path, userName(int(owner.Uid)), info.Mode().Perm(), userName(os.Geteuid()), os.Geteuid(), os.Getegid(), path, os.Getegid())
	}
	if handedOver(path, info) {
		return nil
	}
	err = private(path, info)
	if err != nil && !ours {
		return fmt.Errorf("%w. Of a secret of Docker or Kubernetes, set mode: 0440", err)
	}
	return err
}

func private(path string, info fs.FileInfo) error {
	closed := fs.FileMode(0o077)
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid == 0 && os.Geteuid() != 0 {
		closed = 0o037
	}
	if mode := info.Mode().Perm(); mode&closed != 0 {
		return fmt.Errorf("%s can be read by others (mode %04o). Close it: chmod 600 %s", path, mode, path)
	}
	return nil
}

// handedOver reports whether a file has the form in which Docker, Podman and Kubernetes
// mount secrets: nobody can change it, since its mount is read-only, or since it
// belongs to root and has no write permission.
func handedOver(path string, info fs.FileInfo) bool {
	owner, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	if !ok || !info.Mode().IsRegular() || mode&0o033 != 0 {
		return false
	}
	return mountedReadOnly(path) || owner.Uid == 0 && mode&0o222 == 0
}

// Exposed reports whether every user of this machine may read a secret that Private
// accepts, on a disk on which its mode could be changed.
func Exposed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0 && !mountedReadOnly(path)
}

// onOneDisk refuses a data directory with parts on other disks: files are put in place
// by a rename, which does not work between mounts. Snapshots may be elsewhere.
func onOneDisk(path string) error {
	home, err := os.Stat(path)
	if err != nil {
		return err
	}
	names := []string{"tmp", "thumbnails", "blobs", "blobs/damaged", "blobs/sha256"}
	for shard := range 256 {
		names = append(names, fmt.Sprintf("blobs/sha256/%02x", shard))
	}
	for _, name := range names {
		folder := filepath.Join(path, name)
		info, err := os.Lstat(folder)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return explain(err)
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link; everything in a data directory but the snapshots has to be on one disk. Move the whole folder there, and name it with data_dir", folder)
		}
		if info.IsDir() && (isMount(folder) || device(info) != device(home)) {
			return fmt.Errorf("%s is on another disk than %s, or a mount of its own; everything in a data directory but the snapshots has to be on one disk. Mount the disk at %s, or name a folder on it with data_dir", folder, path, path)
		}
	}
	return nil
}

func device(info fs.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Dev)
	}
	return 0
}
