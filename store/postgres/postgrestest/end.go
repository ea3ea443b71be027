package postgrestest

import "os"

// End ends the server that the tests of a package shared, for packages whose TestMain does
// more than Main.
func End() {
	shared.Lock()
	defer shared.Unlock()
	if shared.Server != nil {
		shared.Kill()
	}
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir) // in a folder for temporary files
	}
}
