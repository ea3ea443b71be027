package dbfile

import "os"

// mapMetas maps nothing: Windows does not let another process truncate a file that
// bbolt has mapped, and refuses to let one overwrite it.
func mapMetas(*os.File, int) ([]byte, error) { return nil, nil }

func unmapMetas([]byte) error { return nil }
