// Package disktest lets a test of blobs/disk, or of the packages that use it,
// observe each of its calls to the file system and make it fail.
package disktest

import (
	"errors"
	"io/fs"

	"attachd/blobs"
	"attachd/blobs/disk"
)

// Faults intercepts the calls of a disk.Store to its files, sees every call and
// makes chosen ones fail. Its Wrap goes into disk.Options. The functions may be
// called by many goroutines at once; nil ones do nothing.
type Faults struct {
	// Before is called with each call, such as "sync tmp/X" or "rename tmp/X
	// blobs/sha256/ab/Y", before it is made. An error that it returns is the result
	// of the call, and nothing was done, except that a write wrote one half.
	Before func(call string) error
	// After is called when a call was made without an error. An error that it
	// returns is the result of the call although everything was done.
	After func(call string) error
}

// Wrap returns real with the faults in front of it.
func (f Faults) Wrap(real disk.FileSystem) disk.FileSystem {
	if f.Before == nil {
		f.Before = func(string) error { return nil }
	}
	if f.After == nil {
		f.After = func(string) error { return nil }
	}
	return &faultyFiles{f, real}
}

func (f Faults) around(call string, real func() error) error {
	if err := f.Before(call); err != nil {
		return err
	}
	if err := real(); err != nil {
		return err
	}
	return f.After(call)
}

type faultyFiles struct {
	faults Faults
	real   disk.FileSystem
}

func (f *faultyFiles) Create(name string) (disk.File, error) {
	return f.open("create "+name, name, f.real.Create)
}

func (f *faultyFiles) Open(name string) (disk.File, error) {
	return f.open("open "+name, name, f.real.Open)
}

func (f *faultyFiles) open(call, name string, real func(string) (disk.File, error)) (disk.File, error) {
	var file disk.File
	err := f.faults.around(call, func() (err error) {
		file, err = real(name)
		return err
	})
	if err == nil {
		return &faultyFile{file, f.faults, name}, nil
	}
	if file != nil {
		err = errors.Join(err, file.Close())
	}
	return nil, err
}

func (f *faultyFiles) Lstat(name string) (info fs.FileInfo, err error) {
	err = f.faults.around("lstat "+name, func() (err error) {
		info, err = f.real.Lstat(name)
		return err
	})
	return info, err
}

func (f *faultyFiles) List(name string) (infos []fs.FileInfo, err error) {
	err = f.faults.around("list "+name, func() (err error) {
		infos, err = f.real.List(name)
		return err
	})
	return infos, err
}

func (f *faultyFiles) Mkdir(name string) error {
	return f.faults.around("mkdir "+name, func() error { return f.real.Mkdir(name) })
}

func (f *faultyFiles) Rename(from, to string) error {
	return f.faults.around("rename "+from+" "+to, func() error { return f.real.Rename(from, to) })
}

func (f *faultyFiles) Remove(name string) error {
	return f.faults.around("remove "+name, func() error { return f.real.Remove(name) })
}

func (f *faultyFiles) SyncDir(name string) error {
	return f.faults.around("syncdir "+name, func() error { return f.real.SyncDir(name) })
}

func (f *faultyFiles) SyncsAll() bool { return f.real.SyncsAll() }

func (f *faultyFiles) SyncAll() error { return f.faults.around("syncall", f.real.SyncAll) }

func (f *faultyFiles) Capacity() (space blobs.Capacity, err error) {
	err = f.faults.around("space", func() (err error) {
		space, err = f.real.Capacity()
		return err
	})
	return space, err
}

func (f *faultyFiles) Close() error { return f.real.Close() }

type faultyFile struct {
	disk.File
	faults Faults
	name   string
}

func (f *faultyFile) Read(p []byte) (n int, err error) {
	err = f.faults.around("read "+f.name, func() (err error) {
		n, err = f.File.Read(p)
		return err
	})
	return n, err
}

func (f *faultyFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.faults.around("read "+f.name, func() (err error) {
		n, err = f.File.ReadAt(p, off)
		return err
	})
	return n, err
}

func (f *faultyFile) Write(p []byte) (n int, err error) {
	if err := f.faults.Before("write " + f.name); err != nil {
		n, real := f.File.Write(p[:len(p)/2])
		return n, errors.Join(err, real)
	}
	if n, err = f.File.Write(p); err != nil {
		return n, err
	}
	return n, f.faults.After("write " + f.name)
}

func (f *faultyFile) Stat() (info fs.FileInfo, err error) {
	err = f.faults.around("stat "+f.name, func() (err error) {
		info, err = f.File.Stat()
		return err
	})
	return info, err
}

func (f *faultyFile) Sync() error {
	return f.faults.around("sync "+f.name, f.File.Sync)
}

// Close closes in any case, as close(2) does, so that a test leaks no files.
func (f *faultyFile) Close() error {
	before := f.faults.Before("close " + f.name)
	if err := errors.Join(before, f.File.Close()); err != nil {
		return err
	}
	return f.faults.After("close " + f.name)
}
