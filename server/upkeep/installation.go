package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"attachd/store"
)

// installationNote holds the id of the installation, as text. It goes wherever
// the database goes: into snapshots, restore points and copies.
const installationNote = "installation"

// makingInstallation keeps two from making an id for the same database.
var makingInstallation sync.Mutex

// Installation gives the id of the installation that a database is of, and
// makes one where there is none.
func Installation(ctx context.Context, records store.Notes) (uuid.UUID, error) {
	makingInstallation.Lock()
	defer makingInstallation.Unlock()
	id, err := installationOf(ctx, records)
	if err != nil || id != uuid.Nil {
		return id, err
	}
	if id, err = uuid.NewRandom(); err != nil {
		return uuid.Nil, err
	}
	return id, records.SetNote(ctx, installationNote, []byte(id.String()))
}

// KeepInstallation gives a database that has no id this one.
func KeepInstallation(ctx context.Context, records store.Notes, id uuid.UUID) error {
	if has, err := installationOf(ctx, records); err != nil || has != uuid.Nil {
		return err
	}
	return records.SetNote(ctx, installationNote, []byte(id.String()))
}

// installationOf is zero for a database of an earlier version.
func installationOf(ctx context.Context, records store.Notes) (uuid.UUID, error) {
	note, err := records.Note(ctx, installationNote)
	if errors.Is(err, store.ErrNotFound) {
		return uuid.Nil, nil
	}
	if err != nil {
		return uuid.Nil, err
	}
	id, err := uuid.ParseBytes(note)
	if err != nil {
		return uuid.Nil, fmt.Errorf("the note of the installation's id: %w", err)
	}
	return id, nil
}
