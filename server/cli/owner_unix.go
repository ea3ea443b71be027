//go:build unix

package cli

import (
	"errors"
	"io/fs"
	"os"
	osuser "os/user"
	"strconv"
	"syscall"

	"attachd/server/datadir"
)

// becomeOwner has root act as the owner of a data directory until back is called: the
// user who runs the service can put links into its folders, and root would follow them
// to where the owner has no access. It does nothing for users other than root, and
// where the owner cannot reach the directory.
func becomeOwner(path string) (back func() error, err error) {
	stay := func() error { return nil }
	if os.Geteuid() != 0 {
		return stay, nil
	}
	uid, gid, err := datadir.Owner(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && uid == 0 {
		return stay, nil
	}
	if err != nil {
		return stay, err
	}
	group := os.Getegid()
	groups, err := syscall.Getgroups()
	if err != nil {
		return stay, err
	}
	back = func() error {
		return errors.Join(syscall.Seteuid(0), syscall.Setegid(group), syscall.Setgroups(groups))
	}
	err = become(uid, gid)
	if err == nil {
		_, err = os.ReadDir(path)
	}
	if errors.Is(err, fs.ErrPermission) { // root in a container may lack the right
		return stay, back()
	}
	if err != nil {
		return stay, errors.Join(err, back())
	}
	return back, nil
}

func become(uid, gid int) error {
	if err := syscall.Setgroups(groupsOf(uid, gid)); err != nil {
		return err
	}
	if err := syscall.Setegid(gid); err != nil {
		return err
	}
	return syscall.Seteuid(uid)
}

// groupsOf returns the groups of a user, as far as they are known: a secret may be
// readable to one of them.
func groupsOf(uid, gid int) []int {
	groups := []int{gid}
	u, err := osuser.LookupId(strconv.Itoa(uid))
	if err != nil {
		return groups
	}
	names, err := u.GroupIds()
	if err != nil {
		return groups
	}
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			groups = append(groups, id)
		}
	}
	return groups
}
