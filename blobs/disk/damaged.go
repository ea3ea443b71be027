package disk

import (
	"errors"
	"io/fs"
	"sync"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// damaged is the set of damaged contents: an empty file for each, and a copy of
// their names in memory, so that a lookup reads no file.
type damaged struct {
	files    FileSystem
	changing sync.Mutex // held while the files change, which may take long
	known    refSet
}

func (d *damaged) load() error {
	infos, err := d.files.List(damagedDir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if ref, err := blobs.ParseRef(info.Name()); err == nil {
			d.known.add(ref)
		}
	}
	return nil
}

func (d *damaged) has(ref blobs.Ref) bool { return d.known.has(ref) }

// add takes effect at once, even if the mark cannot be written.
func (d *damaged) add(ref blobs.Ref) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	d.known.add(ref)
	if err := d.write(damagedName(ref)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.files.SyncDir(damagedDir)
}

func (d *damaged) write(name string) error {
	file, err := d.files.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// remove takes effect only when no power cut can bring the mark back.
func (d *damaged) remove(ref blobs.Ref) error {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := durable.Removed(d.files.Remove(damagedName(ref))); err != nil {
		return err
	}
	if err := d.files.SyncDir(damagedDir); err != nil {
		return err
	}
	d.known.remove(ref)
	return nil
}

func damagedName(ref blobs.Ref) string { return damagedDir + "/" + ref.String() }
