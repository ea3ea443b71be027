package backends

import (
	"context"
	"errors"

	"attachd/blobs/s3"
	"attachd/server/upkeep"
	"attachd/store"
)

// epochs notes claims of a bucket in the database.
type epochs struct{ db store.Notes }

func (e epochs) Epoch(ctx context.Context) (epoch s3.Epoch, err error) {
	epoch.Number, epoch.Token, err = upkeep.Claim(ctx, e.db)
	return epoch, err
}

func (e epochs) SetEpoch(ctx context.Context, epoch s3.Epoch) error {
	err := upkeep.NoteClaim(ctx, e.db, epoch.Number, epoch.Token)
	if errors.Is(err, upkeep.ErrClaimed) {
		return s3.ErrRaised
	}
	return err
}

func (e epochs) Outdated(ctx context.Context) error { return upkeep.NoteOutdated(ctx, e.db) }
