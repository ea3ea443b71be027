package daemon

import (
	"fmt"
	"time"

	"attachd/server/config"
	"attachd/store/postgres"
)

// DatabaseWait is how long a starting server waits for a database that is not there yet. It
// is less than systemd gives a service to start (90 s), and as long as a database needs that
// starts with it.
const DatabaseWait = time.Minute

// DSN returns the name of the database of a configuration whose records are in PostgreSQL.
// It reads the file that the configuration names.
func DSN(cfg config.Config) (dsn string, err error) {
	dsn, key := cfg.Metadata.DSN, "metadata.dsn"
	if cfg.Metadata.DSNFile != "" {
		key = "metadata.dsn_file"
		if dsn, err = readSecret(cfg.Metadata.DSNFile); err == nil {
			dsn, err = config.ParseDSN(dsn)
		}
	}
	if err == nil && dsn == "" {
		err = fmt.Errorf("%s is empty", cfg.Metadata.DSNFile)
	}
	if err == nil {
		shown, _ := config.WithoutPasswords(dsn)
		err = postgres.CheckDSN(shown) // its text repeats the DSN
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	return dsn, nil
}
