package backup

import "os"

// SetSyncFolder has folders synced by sync, until undo.
func SetSyncFolder(sync func(*os.File) error) (undo func()) {
	was := syncFolder
	syncFolder = sync
	return func() { syncFolder = was }
}
