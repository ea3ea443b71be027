package upkeep

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"attachd/store"
)

// installationNote is the name of the note with the installation's id, as text. It is
// part of the database, and so of snapshots, restore points and copies.
const installationNote = "installation"

// makingID is a lock that keeps two callers from making an id for the same database.
var makingID sync.Mutex

// Installation returns the id of a database's installation, and makes one where there
// is none.
func Installation(ctx context.Context, records store.Notes) (uuid.UUID, error) {
	return makeID(ctx, records, installationNote)
}

// makeID returns the id in a note, and makes one where there is none.
func makeID(ctx context.Context, records store.Notes, note string) (uuid.UUID, error) {
	makingID.Lock()
	defer makingID.Unlock()
	id, err := idIn(ctx, records, note)
	if err != nil || id != uuid.Nil {
		return id, err
	}
	made, err := uuid.NewRandom()
	if err != nil {
		return uuid.Nil, err
	}
	shared, is := records.(sharedNotes)
	if !is {
		return made, records.SetNote(ctx, note, []byte(made.String()))
	}
	err = shared.ChangeNote(ctx, note, func(value []byte) ([]byte, error) {
		if id, err = parseID(note, value); id == uuid.Nil {
			id = made
		}
		return []byte(id.String()), err
	})
	return id, err
}

// KeepInstallation gives a database without an id this one.
func KeepInstallation(ctx context.Context, records store.Notes, id uuid.UUID) error {
	if has, err := installationOf(ctx, records); err != nil || has != uuid.Nil {
		return err
	}
	return records.SetNote(ctx, installationNote, []byte(id.String()))
}

// installationOf returns the installation's id; zero for a database of an earlier
// version.
func installationOf(ctx context.Context, records store.Notes) (uuid.UUID, error) {
	return idIn(ctx, records, installationNote)
}

// idIn returns the id in a note; zero where there is none.
func idIn(ctx context.Context, records store.Notes, note string) (uuid.UUID, error) {
	value, err := records.Note(ctx, note)
	if errors.Is(err, store.ErrNotFound) {
		return uuid.Nil, nil
	}
	if err != nil {
		return uuid.Nil, err
	}
	return parseID(note, value)
}

func parseID(note string, value []byte) (uuid.UUID, error) {
	if len(value) == 0 {
		return uuid.Nil, nil
	}
	id, err := uuid.ParseBytes(value)
	if err != nil {
		return uuid.Nil, fmt.Errorf("the note %q: %w", note, err)
	}
	return id, nil
}
