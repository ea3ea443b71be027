package disk

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"golang.org/x/sync/errgroup"

	"attachd/blobs"
)

// together is how many syncs of files and folders KeepAll issues concurrently: a
// disk and its journal do more of them together than one after the other, up to
// some number. Files are created one after the other, since the kernel serializes
// creations in one folder.
const together = 8

// many is the number of contents from which KeepAll syncs the whole file system
// instead, once for the bytes and once for the names, where that is possible: with
// a hundred contents it takes a fifth of the time.
const many = 8

// batch is contents on their way to their final paths.
type batch struct {
	disk  *Store
	all   []batched
	open  []File // written, and neither synced nor closed yet
	whole bool   // the file system is to be synced as a whole
}

// batched is a content of a batch.
type batched struct {
	temp  string // its file; empty once that is the content
	ref   blobs.Ref
	size  int64
	moved bool
}

// KeepAll syncs each shard once, however many of the contents are in it. It keeps
// few files open, however many contents there are.
func (d *Store) KeepAll(ctx context.Context, contents iter.Seq2[blobs.Ref, []byte]) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// A sync of the file system reports a failure once, and not whose bytes were
	// lost. So no other may run meanwhile.
	d.syncing.Lock()
	defer d.syncing.Unlock()
	b := batch{disk: d}
	defer func() {
		if err = errors.Join(err, b.close()); err != nil && release != nil {
			release()
			release = nil
		}
	}()
	for ref, content := range contents {
		if err := b.write(ref, content); err != nil {
			return nil, d.outcome(err)
		}
	}
	if err := b.syncBytes(); err != nil {
		return nil, full(err)
	}
	release = d.locks.SharedAll(b.refs())
	return release, d.outcome(b.place())
}

// write writes a content to a temporary file. Of many it syncs some others, where
// each has to be synced by itself.
func (b *batch) write(ref blobs.Ref, content []byte) error {
	temp := tempDir + "/" + rand.Text()
	file, err := b.disk.files.Create(temp)
	if err != nil {
		return err
	}
	b.all = append(b.all, batched{temp: temp, ref: ref, size: int64(len(content))})
	b.open = append(b.open, file)
	if _, err := file.Write(content); err != nil {
		return err
	}
	if len(b.all) == many {
		b.whole = b.disk.files.SyncsAll()
	}
	if b.whole {
		return b.closeFiles()
	}
	if len(b.open) == together {
		return b.syncFiles()
	}
	return nil
}

// syncBytes puts the bytes of all files on stable storage. A sync that failed is not
// retried: the kernel may have dropped the bytes and would then report success.
func (b *batch) syncBytes() error {
	if b.whole {
		return b.disk.files.SyncAll()
	}
	return b.syncFiles()
}

func (b *batch) syncFiles() error {
	err := atOnce(len(b.open), func(i int) error { return b.open[i].Sync() })
	return errors.Join(err, b.closeFiles())
}

func (b *batch) closeFiles() (err error) {
	for _, file := range b.open {
		err = errors.Join(err, file.Close())
	}
	b.open = b.open[:0]
	return err
}

// close removes the temporary files that did not become contents.
func (b *batch) close() error {
	err := b.closeFiles()
	for _, g := range b.all {
		if g.temp == "" {
			continue
		}
		gone := b.disk.files.Remove(g.temp)
		if !errors.Is(gone, fs.ErrNotExist) { // else moved by a Rename that nevertheless failed
			err = errors.Join(err, full(gone))
		}
	}
	return err
}

func (b *batch) refs() []blobs.Ref {
	refs := make([]blobs.Ref, len(b.all))
	for i, g := range b.all {
		refs[i] = g.ref
	}
	return refs
}

// place is Store.place for a batch.
func (b *batch) place() error {
	shards := map[byte][]blobs.Ref{}
	for i := range b.all {
		g := &b.all[i]
		var err error
		if g.moved, err = b.disk.move(g.temp, g.ref, g.size); err != nil {
			return err
		}
		if g.moved {
			g.temp = ""
		}
		shards[g.ref[0]] = append(shards[g.ref[0]], g.ref)
	}
	if err := b.syncNames(shards); err != nil {
		return err
	}
	for _, g := range b.all {
		if err := b.disk.placed(g.ref, g.moved); err != nil {
			return err
		}
	}
	return nil
}

// syncNames is syncShard for a batch.
func (b *batch) syncNames(shards map[byte][]blobs.Ref) error {
	if !b.whole {
		firsts := slices.Collect(maps.Keys(shards))
		return atOnce(len(firsts), func(i int) error { return b.disk.syncShard(firsts[i], shards[firsts[i]]...) })
	}
	err := b.disk.files.SyncAll()
	if err != nil {
		for _, g := range b.all {
			b.disk.unsure.add(g.ref)
		}
	}
	return err
}

// atOnce calls do for 0 to n-1, some of them concurrently, and starts none after
// one has failed.
func atOnce(n int, do func(i int) error) error {
	group, failed := errgroup.WithContext(context.Background())
	group.SetLimit(together)
	errs := make([]error, n)
	for i := range n {
		group.Go(func() error {
			if failed.Err() == nil {
				errs[i] = do(i)
			}
			return errs[i]
		})
	}
	_ = group.Wait()            // the first error
	return errors.Join(errs...) // any of them may be that the disk is full
}
