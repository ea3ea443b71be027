// Package build builds attachd for tests that drive the real process.
package build

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Attachd returns a function that builds attachd into dir with these flags on its
// first call, and returns its path. Call it from tests, not before they run: `go
// test` checks its cache against the files that tests open.
func Attachd(dir string, flags ...string) func() string {
	return sync.OnceValue(func() string {
		root, err := exec.Command("go", "list", "-f", "{{.Dir}}", "attachd").Output()
		if err != nil {
			panic(fmt.Errorf("finding attachd: %w", err))
		}
		if err := openFolders(strings.TrimSpace(string(root))); err != nil {
			panic(err)
		}
		path := filepath.Join(dir, "attachd")
		args := slices.Concat([]string{"build", "-buildvcs=false", "-o", path}, flags, []string{"attachd"})
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			panic(fmt.Errorf("building attachd: %w\n%s", err, out))
		}
		return path
	})
}

// openFolders opens every folder of the sources. The tests do not import what they
// build, so without this `go test` would repeat a cached result after a change of
// the program.
func openFolders(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		return err
	})
}
