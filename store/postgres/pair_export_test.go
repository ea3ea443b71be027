package postgres

import (
	"context"
	"errors"
	"time"
)

// CountNow counts what others have changed, which otherwise happens now and then.
func (s *Store) CountNow(ctx context.Context) error {
	s.outbox.mu.Lock()
	s.outbox.resting = time.Time{}
	s.outbox.mu.Unlock()
	return errors.Join(s.countOutbox(ctx), s.countObjects(ctx))
}
