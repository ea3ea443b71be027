package backup

import "os"

// SetSyncFolder replaces the function that syncs folders, until undo.
func SetSyncFolder(sync func(*os.File) error) (undo func()) {
	was := syncFolder
	syncFolder = sync
	return func() { syncFolder = was }
}
