package backends

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attachd/server/daemon"
	"attachd/server/datadir"
)

// A data directory is of a server with an embedded database or of one with PostgreSQL. Whoever
// takes the configuration of the other kind must not find an empty installation.
func TestADataDirectoryOfAnotherKindOfDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	postgres := map[string]string{"metadata.backend": "postgres", "metadata.dsn": "postgres://attachd@127.0.0.1:1/attachd", "storage.backend": "s3", "storage.s3_endpoint": "http://127.0.0.1:1", "storage.s3_bucket": "bucket"}
	for _, c := range []struct {
		file     string // that is there
		settings map[string]string
		says     []string
	}{
		{datadir.DatabaseFile, postgres, []string{"not in PostgreSQL", "Name another data_dir", "Where `attachd migrate` has moved them into PostgreSQL, that is all", "attachd migrate --to FILE"}},
		{datadir.LockFile, nil, []string{"records are in PostgreSQL", `Set it to "postgres"`, "another data_dir", "To begin a new installation here, delete "}},
	} {
		dir := t.TempDir()
		if _, err := datadir.Open(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		settings := map[string]string{"data_dir": dir}
		for key, value := range c.settings {
			settings[key] = value
		}
		storage, err := Opener{}.Open(t.Context(), loaded(t, settings), daemon.Opening{})
		if err == nil {
			t.Errorf("with %s, the directory is taken: %v", c.file, storage.Close())
			continue
		}
		for _, says := range append(c.says, dir) {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("with %s, it is refused without %q: %v", c.file, says, err)
			}
		}
	}
}
