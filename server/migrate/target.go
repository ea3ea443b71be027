package migrate

import (
	"context"
	"errors"
	"fmt"

	"attachd/blobs"
	"attachd/server/transfer"
)

// hashAtOnce is how many bytes of a content are read at once.
const hashAtOnce = 256 << 10

// OnDisk is the target of a migration to the disk.
func OnDisk(files transfer.Target) Target {
	return Target{Target: files, Home: "disk", OnDisk: true, Before: func(ctx context.Context) (map[blobs.Ref]bool, error) { return wrong(ctx, files) }}
}

// wrong hashes the contents that are on the disk already, perhaps since before they were
// moved away from it, and returns those that have other bytes.
func wrong(ctx context.Context, files blobs.Store) (map[blobs.Ref]bool, error) {
	list := map[blobs.Ref]bool{}
	for info, err := range files.All(ctx, blobs.Ref{}) {
		if err != nil {
			return nil, err
		}
		right, err := isRight(ctx, files, info)
		if err != nil {
			return nil, fmt.Errorf("reading blob %s, which is on the disk already: %w", info.Ref, err)
		}
		if !right {
			list[info.Ref] = true
		}
	}
	return list, nil
}

func isRight(ctx context.Context, files blobs.Store, info blobs.Info) (bool, error) {
	content, err := files.Open(ctx, info.Ref, info.Size)
	if errors.Is(err, blobs.ErrDamaged) || errors.Is(err, blobs.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ref, _, err := blobs.Hash(&transfer.Counted{Reader: content, Ctx: ctx, Tell: func(int) {}}, info.Size, make([]byte, hashAtOnce))
	return ref == info.Ref, errors.Join(err, content.Close())
}

// Bucket is an object store that can be compared with what it should have.
type Bucket interface {
	transfer.Target
	blobs.Comparer
}

// InBucket is the target of a migration to an object store.
func InBucket(bucket Bucket) Target {
	lost := func(ctx context.Context) (map[blobs.Ref]bool, error) {
		list := map[blobs.Ref]bool{}
		for d, err := range bucket.Compare(ctx) {
			if err != nil {
				return nil, fmt.Errorf("comparing the object store with what it should have: %w", err)
			}
			if d.Kind == blobs.Missing || d.Kind == blobs.WrongLength {
				list[d.Ref] = true
			}
		}
		return list, nil
	}
	return Target{Target: bucket, Home: "s3", Before: lost, After: lost}
}
