package contents

import (
	"context"
	"errors"
	"iter"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// noStager stands in for a store.Stager where nothing is staged.
type noStager struct{ store.Stager }

func (noStager) StagedContent(context.Context, [32]byte) ([]byte, error) {
	return nil, store.ErrNotFound
}
func (noStager) StagedSizes(context.Context) (map[[32]byte]int64, error) { return nil, nil }
func (noStager) StagedAfter(context.Context, uuid.UUID, int, int64) ([]store.StagedContent, error) {
	return nil, nil
}
func (noStager) Staged() store.Staged { return store.Staged{} }
func (noStager) MayStage() bool       { return false }

// oneByOne stands in for a blobs.Batcher.
type oneByOne struct{ blobs.Store }

// KeepAll implements blobs.Batcher.
func (o oneByOne) KeepAll(ctx context.Context, contents iter.Seq2[blobs.Ref, []byte]) (release func(), err error) {
	var held []func()
	release = func() {
		for _, end := range held {
			end()
		}
	}
	for _, content := range contents {
		end, err := o.keep(ctx, content)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, end)
	}
	return release, nil
}

func (o oneByOne) keep(ctx context.Context, content []byte) (release func(), err error) {
	spool, err := o.Create(ctx)
	if err != nil {
		return nil, err
	}
	if _, err = spool.Write(content); err == nil {
		release, err = spool.Keep(ctx)
	}
	if err = errors.Join(err, spool.Close()); err != nil && release != nil {
		release()
	}
	return release, err
}

// noMarker stands in for a blobs.Marker where damage is not remembered. It is never
// called for a content that is marked.
type noMarker struct{ blobs.Marker }

func (noMarker) MarkDamaged(context.Context, blobs.Ref, blobs.Content) error { return nil }
func (noMarker) Damaged() int                                                { return 0 }
func (noMarker) Marked() []blobs.Ref                                         { return nil }

// noThumbnails stands in for Thumbnails where none are kept.
type noThumbnails struct{}

func (noThumbnails) Put(blobs.Ref, []byte) error      { return nil }
func (noThumbnails) Drop(blobs.Ref) error             { return nil }
func (noThumbnails) All() iter.Seq2[blobs.Ref, error] { return func(func(blobs.Ref, error) bool) {} }
