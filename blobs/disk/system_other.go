//go:build !linux

package disk

import (
	"io/fs"
	"os"

	"attachd/blobs"
)

// syncsAll says that files are to be synced one by one.
func syncsAll(string) bool { return false }

// syncAll is not called.
func syncAll(*os.File) error { return nil }

// hasVersions says that every file may have been changed at any time.
func hasVersions(string) bool { return false }

// version is not called.
func version(fs.FileInfo) blobs.Version { return blobs.Version{} }

// beginWriteback leaves it to the system.
func beginWriteback(*os.File, int64, int64) {}
