package upkeep

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"attachd/store"
)

// ErrElsewhere means that the contents are not where the configuration says.
var ErrElsewhere = errors.New("the files of this installation are elsewhere")

// CheckHome returns ErrElsewhere when the contents of a database are kept by another
// backend ("disk" or "s3") than this one. A database without attachments gets this one.
func CheckHome(ctx context.Context, records store.Store, backend string) error {
	home := "disk"
	note, err := records.Note(ctx, store.HomeNote)
	switch {
	case err == nil && len(note) > 0:
		home = string(note)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	}
	if home == backend {
		return nil
	}
	some, err := records.AllAttachments(ctx, uuid.Nil, 1)
	if err != nil {
		return err
	}
	if len(some) == 0 && home == "disk" {
		return SetHome(ctx, records, backend)
	}
	return fmt.Errorf("%w: they are in storage.backend = %q, and the configuration says %q. Set it back; `attachd migrate` moves them", ErrElsewhere, home, backend)
}

// SetHome notes which backend keeps the contents of a database.
func SetHome(ctx context.Context, records store.Notes, backend string) error {
	return records.SetNote(ctx, store.HomeNote, []byte(backend))
}
