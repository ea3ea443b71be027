package datadir

import (
	"errors"
	"fmt"
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
