package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"attachd/server/datadir"
)

// exists reports whether there is a data directory. A folder that other programs use is
// none, and is not examined further.
func (c *Case) exists() bool {
	info, err := os.Stat(c.Dir.Path())
	if err != nil || !info.IsDir() {
		return false
	}
	_, err = c.Dir.Look()
	return err == nil
}

func (c *Case) hasDatabase() bool {
	if c.shares() {
		return true
	}
	_, err := os.Stat(c.Dir.Join(datadir.DatabaseFile))
	return err == nil && c.exists()
}

// unusable returns the reason why this version cannot work with the data directory.
func (c *Case) unusable() error {
	if c.shares() {
		return nil
	}
	if c.Dir.IsRestoring() {
		return errors.New("a restore was begun and is not finished")
	}
	raw, err := os.ReadFile(c.Dir.Join(datadir.FormatFile))
	if err != nil {
		return err
	}
	return datadir.CheckFormat(c.Dir.Path(), raw)
}

func dataDirectory(_ context.Context, c *Case) []Finding {
	path := c.Dir.Path()
	info, err := os.Stat(path)
	switch {
	case c.Config.RequireExisting && !c.shares() && (err == nil && info.IsDir() || errors.Is(err, fs.ErrNotExist)) && !c.Dir.Installed():
		return notInstalled(c)
	case errors.Is(err, fs.ErrNotExist):
		return warning("Run `attachd serve`, or name another with --data-dir or data_dir.", "%s is not there yet: the first `attachd serve` makes it.", path)
	case errors.Is(err, fs.ErrPermission):
		return problem("Run this as the user that the server runs as.", "%s cannot be looked at: %v.", path, err)
	case err != nil:
		return problem("Look at the path and its disk.", "%s cannot be looked at: %v.", path, err)
	case !info.IsDir():
		return problem("Name a folder with data_dir.", "%s is not a folder.", path)
	case info.Mode()&fs.ModeSticky != 0 || path == filepath.Dir(path):
		return problem("Name a folder of its own with data_dir.", "%s is used by others too: the server does not start in it.", path)
	}
	open, err := c.Dir.Look()
	if err == nil {
		err = c.Dir.CheckKind(c.shares())
	}
	if err != nil {
		return problem("Do as it says, or name another folder with data_dir.", "The server does not start: %v.", err)
	}
	switch {
	case open != "":
		return warning("Give it to the user that the server runs as, unless a platform of containers made it.", "It is as it must be, but %s.", open)
	case othersMayEnter(info) && c.Dir.MayClose():
		return problem("chmod 700 "+path, "%s is open to other users of this machine (mode %04o).", path, info.Mode().Perm())
	}
	if _, err := os.ReadDir(path); err != nil {
		return problem("Run this as the user that the server runs as.", "%s cannot be read: %v.", path, err)
	}
	if c.shares() {
		return ok("The data directory is %s; nothing of value is in it.", path)
	}
	made, err := c.Dir.Made()
	if err != nil {
		return ok("The data directory is %s; nothing was stored in it yet.", path)
	}
	return ok("The data directory is %s, set up on %s: %s.", path, made.UTC().Format(time.RFC3339), ago(c.Now.Sub(made)))
}

// notInstalled returns the findings for a directory that should contain an
// installation, and does not.
func notInstalled(c *Case) []Finding {
	path := c.Dir.Path()
	if _, err := c.Dir.Look(); err != nil {
		return problem("Name the data directory with data_dir.", "The server does not start: %v.", err)
	}
	return problem("Mount the disk that it is on (findmnt --target "+path+"). Where a new installation is meant: attachd init --data-dir "+path,
		"%s is missing or empty, and require_existing is set: the server does not start.", path)
}

// ago formats an age in words.
func ago(age time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case age < 0:
		return "a time to come, says the clock"
	case age < time.Hour:
		return fmt.Sprintf("it is new, made %d minutes ago", int(age.Minutes()))
	case age < 2*day:
		return fmt.Sprintf("%d hours ago", int(age.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(age/day))
}

// othersMayEnter reports whether users other than the owner have permissions. On
// Windows, modes do not show that.
func othersMayEnter(info fs.FileInfo) bool {
	return runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0
}

func format(_ context.Context, c *Case) []Finding {
	if !c.exists() {
		return nil
	}
	if c.Dir.IsRestoring() {
		return problem("Run `attachd restore` again to finish it, or empty the folder to begin anew.", "A restore into %s was begun and is not finished.", c.Dir.Path())
	}
	raw, err := os.ReadFile(c.Dir.Join(datadir.FormatFile))
	if errors.Is(err, fs.ErrNotExist) && !c.hasDatabase() {
		return nil // nothing has been made yet
	}
	if err == nil {
		err = datadir.CheckFormat(c.Dir.Path(), raw)
	}
	if err != nil {
		return problem("Use the version of attachd that wrote it, or restore a backup into an empty folder.", "%v.", err)
	}
	return ok("The format of the data directory is %s, which this version knows.", strings.TrimSpace(string(raw)))
}

// owner checks that everything belongs to the owner of the directory: the server cannot
// open files that root has left behind.
func owner(_ context.Context, c *Case) []Finding {
	dir, err := os.Stat(c.Dir.Path())
	if err != nil || !c.exists() {
		return nil // the check of the directory reports it
	}
	id, name := ownerOf(dir)
	if !c.Dir.MayClose() { // a platform's directory, to which the service has access
		if file, err := os.Stat(c.Dir.Join(datadir.FormatFile)); err == nil {
			id, name = ownerOf(file)
		}
	}
	if name == "" {
		return nil
	}
	for _, folder := range []string{".", "blobs", "blobs/sha256", "snapshots", "thumbnails", "tmp", datadir.LogFolder} {
		entries, err := os.ReadDir(c.Dir.Join(folder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return problem("Run this as the user that the server runs as.", "%v.", err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				continue // it was removed meanwhile
			}
			if other, whose := ownerOf(info); other != id {
				return problem("chown -R "+name+" "+c.Dir.Path(), "%s belongs to %s, the data directory to %s.", filepath.Join(c.Dir.Join(folder), entry.Name()), whose, name)
			}
		}
	}
	return ok("Everything in the data directory belongs to %s.", name)
}

// secretFiles are the files that contain secrets.
var secretFiles = []string{datadir.SecretFile, "admin.key", "demo-keys.json", datadir.DatabaseFile, datadir.OlderLog}

func secrets(_ context.Context, c *Case) (found []Finding) {
	for _, name := range append(c.Dir.LogFiles(), secretFiles...) {
		path := c.Dir.Join(name)
		info, err := os.Stat(path)
		if err != nil {
			continue // missing, or the check of the directory reports it
		}
		if othersMayEnter(info) {
			found = append(found, problem("chmod 600 "+path, "%s can be read or written by other users of this machine (mode %04o).", path, info.Mode().Perm())...)
		}
	}
	if info, err := os.Stat(c.SecretConfig); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o004 != 0 {
		found = append(found, warning("Put the secret into a file of its own, which only the server's user may read, and name that in storage.s3_secret_key_file or metadata.dsn_file; or: chmod o-rwx "+c.SecretConfig,
			"%s contains storage.s3_secret_key or the password of metadata.dsn, and all users of this machine can read it (mode %04o).", c.SecretConfig, info.Mode().Perm())...)
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
