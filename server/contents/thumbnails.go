package contents

import (
	"context"
	"errors"
	"iter"

	"attachd/blobs"
)

// Thumbnails is a cache of pictures made from contents. A thumbnail is dropped before
// its content.
type Thumbnails interface {
	Put(ref blobs.Ref, thumbnail []byte) error
	Drop(ref blobs.Ref) error
	All() iter.Seq2[blobs.Ref, error]
}

// KeepThumbnail caches a thumbnail, unless the disk is nearly full, or the content has
// been removed: its removal may have found no thumbnail yet.
func (c *Store) KeepThumbnail(ctx context.Context, ref blobs.Ref, thumbnail []byte) error {
	if err := c.RoomFor(ctx, int64(len(thumbnail))); err != nil {
		return err
	}
	if err := c.Thumbnails.Put(ref, thumbnail); err != nil {
		return err
	}
	referenced, err := c.records.Referenced(context.WithoutCancel(ctx), ref)
	if err != nil || !referenced {
		err = errors.Join(err, c.Thumbnails.Drop(ref))
	}
	return err
}

// SweepThumbnails drops thumbnails of contents that nothing refers to, which a crash
// may have left.
func (c *Store) SweepThumbnails(ctx context.Context) {
	for ref, err := range c.Thumbnails.All() {
		referenced := true
		if err == nil {
			referenced, err = c.records.Referenced(ctx, ref)
		}
		if err == nil && !referenced {
			err = c.Thumbnails.Drop(ref)
		}
		if err != nil {
			if ctx.Err() == nil {
				c.Log.Warn("thumbnails that are not needed could not be removed", "error", err)
			}
			return
		}
	}
}
