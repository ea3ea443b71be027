package api

import (
	"errors"
	"fmt"
	"testing"

	"attachd/blobs"
	"attachd/store"
)

// What a service elsewhere cannot do now is no fault of the server's, and may be tried again.
func TestWhatIsAwayMayBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		fmt.Errorf("keeping the content: %w: connection refused", store.ErrAway),
		errors.Join(store.ErrAway, blobs.ErrUnavailable),
		fmt.Errorf("%w: foreign key", store.ErrNoContent),
		blobs.ErrUnavailable,
	} {
		if r := ToRefusal(err); r.Status != 503 || r.RetryAfter == 0 || r.Cause == nil {
			t.Errorf("%v is answered %d, %s, to be tried again after %d s", err, r.Status, r.Code, r.RetryAfter)
		}
	}
}
