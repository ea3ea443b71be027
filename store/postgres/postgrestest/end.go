package postgrestest

import (
	"errors"
	"io/fs"
	"os"
)

// End ends what the tests of a package shared, for packages whose TestMain does more than Main.
func End() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.pooler != nil {
		shared.pooler.kill()
	}
	if shared.Server != nil {
		shared.Kill()
	}
	if shared.dir == "" {
		return nil
	}
	err := os.RemoveAll(shared.dir)
	if errors.Is(err, fs.ErrNotExist) { // the server has removed a file meanwhile
		err = nil
	}
	return err
}
