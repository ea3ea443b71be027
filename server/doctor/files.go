package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"attachd/server/datadir"
)

// exists says whether the data directory is there.
func (c *Case) exists() bool {
	info, err := os.Stat(c.Dir.Path())
	return err == nil && info.IsDir()
}

func (c *Case) hasDatabase() bool {
	_, err := os.Stat(c.Dir.Join("attachd.db"))
	return err == nil
}

// unusable is why this version cannot work with the data directory.
func (c *Case) unusable() error {
	if _, err := os.Stat(c.Dir.RestoringFile()); err == nil {
		return errors.New("a restore was begun and is not finished")
	}
	raw, err := os.ReadFile(c.Dir.Join("FORMAT"))
	if err != nil {
		return err
	}
	return datadir.CheckFormat(c.Dir.Path(), raw)
}

func dataDirectory(_ context.Context, c *Case) []Finding {
	path := c.Dir.Path()
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return warning("Run `attachd serve`, or name another with --data-dir or data_dir.", "%s is not there yet: the first `attachd serve` makes it.", path)
	case errors.Is(err, fs.ErrPermission):
		return problem("Run this as the user that the server runs as.", "%s cannot be looked at: %v.", path, err)
	case err != nil:
		return problem("Look at the path and its disk.", "%s cannot be looked at: %v.", path, err)
	case !info.IsDir():
		return problem("Name a directory with data_dir.", "%s is not a directory.", path)
	case info.Mode()&fs.ModeSticky != 0 || path == filepath.Dir(path):
		return problem("Name a directory of its own with data_dir.", "%s is used by others too: the server does not start in it.", path)
	case othersMayEnter(info):
		return problem("chmod 700 "+path, "%s is open to other users of this machine (mode %04o).", path, info.Mode().Perm())
	}
	if _, err := os.ReadDir(path); err != nil {
		return problem("Run this as the user that the server runs as.", "%s cannot be read: %v.", path, err)
	}
	return ok("The data directory is %s.", path)
}

// othersMayEnter says whether others than the owner have rights. On Windows,
// modes say nothing of that.
func othersMayEnter(info fs.FileInfo) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
}

func format(_ context.Context, c *Case) []Finding {
	if !c.exists() {
		return nil
	}
	if _, err := os.Stat(c.Dir.RestoringFile()); err == nil {
		return problem("Run `attachd restore` again to finish it, or empty the directory to begin anew.", "A restore into %s was begun and is not finished.", c.Dir.Path())
	}
	raw, err := os.ReadFile(c.Dir.Join("FORMAT"))
	if errors.Is(err, fs.ErrNotExist) && !c.hasDatabase() {
		return nil // nothing has been made yet
	}
	if err == nil {
		err = datadir.CheckFormat(c.Dir.Path(), raw)
	}
	if err != nil {
		return problem("Use the version of attachd that wrote it, or restore a backup into an empty directory.", "%v.", err)
	}
	return ok("The format of the data directory is %s, which this version knows.", strings.TrimSpace(string(raw)))
}

// owner sees that everything belongs to whom the directory belongs to: what
// root has left behind, the server cannot open.
func owner(_ context.Context, c *Case) []Finding {
	dir, err := os.Stat(c.Dir.Path())
	if err != nil {
		return nil // the look at the directory tells
	}
	id, name := ownerOf(dir)
	if name == "" {
		return nil
	}
	for _, folder := range []string{".", "blobs", "blobs/sha256", "snapshots", "thumbnails", "tmp"} {
		entries, err := os.ReadDir(c.Dir.Join(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return problem("Run this as the user that the server runs as.", "%v.", err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				continue // it is gone by now
			}
			if other, whose := ownerOf(info); other != id {
				return problem("chown -R "+name+" "+c.Dir.Path(), "%s belongs to %s, the data directory to %s.", filepath.Join(c.Dir.Join(folder), entry.Name()), whose, name)
			}
		}
	}
	return ok("Everything in the data directory belongs to %s.", name)
}

// The files that hold secrets.
var secretFiles = []string{"secret.key", "admin.key", "demo-keys.json", "attachd.db", "attachd.wal"}

func secrets(_ context.Context, c *Case) (found []Finding) {
	for _, name := range secretFiles {
		path := c.Dir.Join(name)
		info, err := os.Stat(path)
		if err != nil {
			continue // missing, or the look at the directory tells
		}
		if othersMayEnter(info) {
			found = append(found, problem("chmod 600 "+path, "%s can be read or written by other users of this machine (mode %04o).", path, info.Mode().Perm())...)
		}
	}
	if len(found) == 0 && c.exists() {
		return ok("The files with secrets are closed to others.")
	}
	return found
}

func firstKeys(_ context.Context, c *Case) (found []Finding) {
	for _, name := range []string{"admin.key", "demo-keys.json"} {
		path := c.Dir.Join(name)
		if _, err := os.Stat(path); err == nil {
			found = append(found, warning("Put it where you keep passwords, then: rm "+path, "%s still lies there, with keys that work.", path)...)
		}
	}
	if len(found) == 0 && c.exists() {
		return ok("No keys of the first start lie there.")
	}
	return found
}
