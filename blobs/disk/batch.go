package disk

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

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

// batched is a content of a batch, on its way to its final path.
type batched struct {
	spool *spool
	ref   blobs.Ref
	moved bool
}

// KeepAll syncs each shard once, however many of the contents are in it.
func (d *Store) KeepAll(ctx context.Context, contents [][]byte) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(contents) >= many {
		// A sync of the file system reports a failure once, and not whose bytes
		// were lost. So no other may run meanwhile.
		d.syncing.Lock()
		defer d.syncing.Unlock()
	}
	all := make([]batched, len(contents))
	defer func() {
		for _, g := range all {
			if g.spool != nil {
				err = errors.Join(err, g.spool.Close())
			}
		}
		if err != nil && release != nil {
			release()
			release = nil
		}
	}()
	for i, content := range contents {
		if err := d.write(&all[i], content); err != nil {
			return nil, full(err)
		}
	}
	if err := d.finishAll(all); err != nil {
		return nil, full(err)
	}
	held := d.lockAll(all)
	release = sync.OnceFunc(func() {
		for _, release := range held {
			release()
		}
	})
	return release, d.outcome(d.placeAll(all))
}

// write writes a content to a temporary file, without syncing it.
func (d *Store) write(g *batched, content []byte) (err error) {
	if g.spool, err = newSpool(d); err != nil {
		return err
	}
	if _, err := g.spool.Write(content); err != nil {
		return err
	}
	g.ref = g.spool.Ref()
	g.spool.err = errUsedUp
	return nil
}

// finishAll is finish for a batch.
func (d *Store) finishAll(all []batched) error {
	did, err := d.syncAll(len(all))
	if err != nil {
		return err
	}
	if !did {
		return atOnce(len(all), func(i int) error { return all[i].spool.finish() })
	}
	for _, g := range all {
		err = errors.Join(err, g.spool.closeFile())
	}
	return err
}

// syncAll syncs the whole file system if contents is large enough and the system
// supports it, and says whether it did.
func (d *Store) syncAll(contents int) (did bool, err error) {
	if contents < many {
		return false, nil
	}
	return d.files.SyncAll()
}

// lockAll locks each content once, in the same order for all callers: a Remove that
// waits for a content admits no new holder, so two callers that each want what the
// other holds would wait for each other.
func (d *Store) lockAll(all []batched) (held []func()) {
	refs := make([]blobs.Ref, len(all))
	for i, g := range all {
		refs[i] = g.ref
	}
	slices.SortFunc(refs, func(a, b blobs.Ref) int { return bytes.Compare(a[:], b[:]) })
	for _, ref := range slices.Compact(refs) {
		held = append(held, d.locks.shared(ref))
	}
	return held
}

// placeAll is place for a batch.
func (d *Store) placeAll(all []batched) error {
	shards := map[byte][]blobs.Ref{}
	for i := range all {
		g := &all[i]
		var err error
		if g.moved, err = d.move(g.spool.temp, g.ref, g.spool.size); err != nil {
			return err
		}
		if g.moved {
			g.spool.temp = ""
		}
		shards[g.ref[0]] = append(shards[g.ref[0]], g.ref)
	}
	if err := d.syncShards(shards, len(all)); err != nil {
		return err
	}
	for _, g := range all {
		if err := d.placed(g.ref, g.moved); err != nil {
			return err
		}
	}
	return nil
}

// syncShards is syncShard for many contents.
func (d *Store) syncShards(shards map[byte][]blobs.Ref, contents int) error {
	did, err := d.syncAll(contents)
	if err != nil {
		for _, refs := range shards {
			for _, ref := range refs {
				d.unsure.add(ref)
			}
		}
	}
	if did || err != nil {
		return err
	}
	firsts := slices.Collect(maps.Keys(shards))
	return atOnce(len(firsts), func(i int) error { return d.syncShard(firsts[i], shards[firsts[i]]...) })
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
