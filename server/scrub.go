package server

import (
	"context"
	"time"

	"attachd/blobs"
	"attachd/server/upkeep"
)

func (s *Server) newScrub() *upkeep.Scrub {
	return upkeep.NewScrub(s.Store, s.contents, upkeep.ScrubOptions{
		Rate:     s.ScrubRate,
		Period:   s.ScrubPeriod,
		Verifier: s.Verifier,
		Marker:   s.marker(),
		Now:      s.Now,
		Wait:     wait,
		Busy:     s.corridor.Busy,
		Log:      s.Log,
	})
}

// marker marks contents, also staged ones, where the storage can.
func (s *Server) marker() blobs.Marker {
	if s.Marker == nil {
		return nil
	}
	return s.contents
}

// wait waits so long, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
