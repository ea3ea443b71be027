//go:build !linux

package disk

import (
	"io/fs"
	"os"

	"attachd/blobs"
)

// syncsAll returns false: files are synced one by one.
func syncsAll(string) bool { return false }

// syncAll is not called.
func syncAll(*os.File) error { return nil }

// hasVersions returns false: every file may have been changed at any time.
func hasVersions(string) bool { return false }

// version is not called.
func version(fs.FileInfo) blobs.Version { return blobs.Version{} }

// beginWriteback does nothing: the system decides when to write.
func beginWriteback(*os.File, int64, int64) {}
