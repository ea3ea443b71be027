// Package build builds attachd for tests that drive the real process.
package build

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Attachd builds attachd into dir with these flags, and gives its path.
func Attachd(dir string, flags ...string) (path string, err error) {
	root, err := exec.Command("go", "list", "-f", "{{.Dir}}", "attachd").Output()
	if err != nil {
		return "", fmt.Errorf("finding attachd: %w", err)
	}
	if err := openFolders(strings.TrimSpace(string(root))); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "attachd")
	args := slices.Concat([]string{"build", "-buildvcs=false", "-o", path}, flags, []string{"attachd"})
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building attachd: %w\n%s", err, out)
	}
	return path, nil
}

// openFolders opens every folder of the sources. A test imports nothing of
// what it builds, so without this `go test` would repeat a result from its
// cache after a change of the program: it goes by the folders and files that a
// test opened.
func openFolders(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
}
