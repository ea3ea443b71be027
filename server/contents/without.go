package contents

import (
	"context"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// noStager is in place of a store.Stager where nothing is staged.
type noStager struct{ store.Stager }

func (noStager) StagedContent(context.Context, [32]byte) ([]byte, error) {
	return nil, store.ErrNotFound
}
func (noStager) StagedSizes(context.Context) (map[[32]byte]int64, error) { return nil, nil }
func (noStager) StagedAfter(context.Context, uuid.UUID, int, int64) ([]store.StagedContent, error) {
	return nil, nil
}
func (noStager) StagedBytes() int64 { return 0 }
func (noStager) MayStage() bool     { return false }

// noMarker is in place of a blobs.Marker where damage is not remembered. It is
// never asked for a content that is marked.
type noMarker struct{ blobs.Marker }

func (noMarker) MarkDamaged(context.Context, blobs.Ref, blobs.Content) error { return nil }
func (noMarker) Damaged() int                                                { return 0 }
func (noMarker) Marked() []blobs.Ref                                         { return nil }
