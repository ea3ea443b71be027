package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"attachd/blobs/durable"
)

// Lock keeps other processes out of the directory until release, or until the process ends
// in any way. It is for a directory without a database, which has a lock of its own.
func (d *Dir) Lock() (release func() error, err error) {
	file, err := os.OpenFile(d.Join(LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, d.Explain(err)
	}
	if err = d.own(file); err == nil {
		var taken bool
		if taken, err = durable.Lock(file); err == nil && !taken {
			err = fmt.Errorf("%s is in use by %s. Each server has a data directory of its own, also where they share a database", d.path, d.Holder())
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file.Close, nil
}

// CheckKind refuses a directory of the other kind of server: the records of one are in the
// directory, those of the other in PostgreSQL, and it would find an empty installation.
func (d *Dir) CheckKind(inPostgres bool) error {
	for _, file := range []string{DatabaseFile, LockFile} {
		_, err := os.Lstat(d.Join(file))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return d.Explain(err)
		case inPostgres == (file == LockFile):
			return nil
		case inPostgres:
			return fmt.Errorf("%s has the records of an installation that is not in PostgreSQL (%s), and metadata.backend is \"postgres\". Name another data_dir, an empty one. Where `attachd migrate` has moved them into PostgreSQL, that is all. Otherwise it moves them: set metadata.backend to \"bolt\", start the server, and then `attachd migrate --to FILE`, where FILE names the other data_dir and the database",
				d.path, DatabaseFile)
		}
		return fmt.Errorf("%s is of a server whose records are in PostgreSQL, and metadata.backend is \"bolt\". Set it to \"postgres\", with metadata.dsn, or name another data_dir. To begin a new installation here, delete %s",
			d.path, d.Join(LockFile))
	}
	return nil
}
