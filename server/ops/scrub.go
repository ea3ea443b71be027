package ops

import (
	"context"
	"time"

	"attachd/blobs"
	"attachd/server/upkeep"
)

func (s *Service) newScrub() *upkeep.Scrub {
	return upkeep.NewScrub(s.Store, s.Contents, upkeep.ScrubOptions{
		Rate:     s.ScrubRate,
		Period:   s.ScrubPeriod,
		Verifier: s.Verifier,
		Marker:   s.marker(),
		Now:      s.Now,
		Wait:     wait,
		Busy:     s.Corridor.Busy,
		Log:      s.Log,
	})
}

// marker returns what marks contents as damaged, staged ones too; nil where the storage
// cannot mark.
func (s *Service) marker() blobs.Marker {
	if s.Marker == nil {
		return nil
	}
	return s.Contents
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
