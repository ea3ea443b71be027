package server

import (
	"context"
	"time"
)

// removalRest is how long a removal that failed rests.
const removalRest = time.Minute

// RemoveDeleted removes what went with products, tickets, meetings and spaces
// that were deleted, until ctx ends or the server drains. It begins with what an
// earlier process has left. It may be called once.
func (s *Server) RemoveDeleted(ctx context.Context) {
	ctx, cancel := s.untilDrained(ctx)
	defer cancel()
	for ctx.Err() == nil {
		more, err := s.removeSome(ctx)
		rest := time.After(removalRest)
		switch {
		case more:
			continue
		case err != nil && ctx.Err() == nil:
			s.Log.Error("what was deleted with a product, ticket, meeting or space could not be removed; it is tried again in a minute", "error", err)
		case err == nil:
			rest = nil
		}
		select {
		case <-ctx.Done():
		case <-s.deleted:
		case <-rest:
		}
	}
}

// removeSome removes a part of it, and says whether there may be more.
func (s *Server) removeSome(ctx context.Context) (more bool, err error) {
	freed, more, err := s.Store.Remove(ctx)
	for _, sum := range freed {
		if err := s.spare(context.WithoutCancel(ctx), sum); err != nil {
			return more, err // the others are left for a collection
		}
	}
	return more && err == nil, err
}

// removeRest has RemoveDeleted go on.
func (s *Server) removeRest() {
	select {
	case s.deleted <- struct{}{}:
	default: // it has been told
	}
}
