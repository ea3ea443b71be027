package ops

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/store"
)

// EmptyTrash removes for good what was in the trash long enough, and while less than the
// reserve of the disk is free, the oldest there.
func (s *Service) EmptyTrash(ctx context.Context) error {
	clock, err := s.Clock.Read(ctx)
	if err != nil {
		return fmt.Errorf("how long something was in the trash is not known: %w", err)
	}
	purged, err := s.Contents.PurgeDue(ctx, clock.Trusted)
	s.purged("removed for good what had been in the trash long enough", purged)
	if err != nil {
		return err
	}
	if err := s.Contents.MakeRoom(ctx, 0); err != nil && !errors.Is(err, blobs.ErrFull) { // readiness tells of a full disk
		return err
	}
	return nil
}

// PurgedEarly reports what was removed from the trash to make room.
func (s *Service) PurgedEarly(purged store.Usage) {
	s.purged("removed the oldest in the trash for good, since the disk was full", purged)
}

// purged reports what nobody asked to remove.
func (s *Service) purged(sentence string, purged store.Usage) {
	if purged.Files > 0 {
		s.Log.Info(sentence, "attachments", purged.Files, "bytes", purged.Bytes)
		s.Store.Record(store.Entry{Time: s.Now(), Operator: true, Action: "trash.purge", Resource: "attachments", Name: strconv.FormatInt(purged.Files, 10), Outcome: api.Done})
	}
}
