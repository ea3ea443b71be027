package disk

import (
	"errors"
	"io/fs"
	"sync"

	"attachd/blobs"
	"attachd/blobs/durable"
)

// marks are the names of damaged contents: empty files, and a copy of their
// names in memory, so that asking costs nothing.
type marks struct {
	files    FileSystem
	changing sync.Mutex // held while the files change, which may take long
	known    refSet
}

func (m *marks) load() error {
	infos, err := m.files.List(marksDir)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if ref, err := blobs.ParseRef(info.Name()); err == nil {
			m.known.add(ref)
		}
	}
	return nil
}

func (m *marks) has(ref blobs.Ref) bool { return m.known.has(ref) }

// add counts at once, even if the mark cannot be written.
func (m *marks) add(ref blobs.Ref) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.known.add(ref)
	if err := m.write(markName(ref)); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return m.files.SyncDir(marksDir)
}

func (m *marks) write(name string) error {
	file, err := m.files.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// remove counts only when no power cut can bring the mark back.
func (m *marks) remove(ref blobs.Ref) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := durable.Removed(m.files.Remove(markName(ref))); err != nil {
		return err
	}
	if err := m.files.SyncDir(marksDir); err != nil {
		return err
	}
	m.known.remove(ref)
	return nil
}

func markName(ref blobs.Ref) string { return marksDir + "/" + ref.String() }
