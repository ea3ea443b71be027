package upkeep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// homeNote is the name of the note that says which backend keeps the contents, "disk" or
// "s3"; without one, it is the disk.
const homeNote = "contents"

// ErrElsewhere means that the contents are not where the configuration says.
var ErrElsewhere = errors.New("the files of this installation are elsewhere")

// CheckHome returns ErrElsewhere when the contents of a database are kept by another
// backend ("disk" or "s3") than this one. A database without attachments gets this one.
func CheckHome(ctx context.Context, records store.Store, backend string) error {
	home, err := homeOf(ctx, records)
	if err != nil || home == backend {
		return err
	}
	if where, moved := strings.CutPrefix(home, movedTo); moved {
		return fmt.Errorf("%w, and so are its records: they were moved to %s. Start the server with the configuration that they were moved to. If `attachd migrate` did not end, run it again as before", ErrElsewhere, where)
	}
	if home == arriving {
		return fmt.Errorf("%w: its records are being moved or restored here. Run `attachd migrate` or `attachd restore` again as before, which begins anew or goes on", ErrElsewhere)
	}
	some, err := records.AllAttachments(ctx, uuid.Nil, 1)
	if err != nil {
		return err
	}
	if len(some) == 0 && home == "disk" {
		return SetHome(ctx, records, backend)
	}
	return fmt.Errorf("%w: they are in storage.backend = %q, and the configuration says %q. Set it to %q; `attachd migrate` moves them", ErrElsewhere, home, backend, home)
}

const (
	// movedTo begins the note of a database whose records were moved to another one, which
	// it names.
	movedTo = "moved to "
	// arriving is the note of a database to which records are being moved or restored.
	arriving = "arriving"
)

// SetMoved notes in a database that its records were moved away, so that no server starts
// with it.
func SetMoved(ctx context.Context, records store.Notes, where string) error {
	return SetHome(ctx, records, movedTo+where)
}

// IsMoved reports whether the records of a database were moved away.
func IsMoved(ctx context.Context, records store.Notes) (bool, error) {
	home, err := homeOf(ctx, records)
	return strings.HasPrefix(home, movedTo), err
}

// ErrInUse means that records cannot be moved to a database, since it has others.
var ErrInUse = errors.New("the database has an installation already, and records are moved or restored to an empty one only")

// Arrival is a database to which records are moved or restored.
type Arrival interface {
	store.Store
	ClearRecords(ctx context.Context) error
}

// Arrive prepares a database for the records of another one. Of what an earlier attempt has
// left, only the contents stay. Where the other's records were moved away already, it is
// left as it is, and whole reports whether all of them have come here.
func Arrive(ctx context.Context, from store.Notes, to Arrival) (whole bool, err error) {
	moved, err := IsMoved(ctx, from)
	if err != nil {
		return false, err
	}
	id, err := Installation(ctx, from)
	if err != nil {
		return false, err
	}
	if !moved {
		return false, Prepare(ctx, to, id)
	}
	is, err := installationOf(ctx, to)
	if err == nil && is != id {
		err = errors.New("the records were moved away already, and not to this database")
	}
	return err == nil, err
}

// Prepare prepares a database for the records of an installation, whose id is zero where it
// has none: until SetHome, no server starts with it. Of what an earlier attempt has left, only
// the contents stay. ErrInUse where the database has records.
func Prepare(ctx context.Context, to Arrival, id uuid.UUID) error {
	is, err := installationOf(ctx, to)
	if err != nil {
		return err
	}
	home, err := homeOf(ctx, to)
	if err != nil {
		return err
	}
	users, err := to.Users(ctx, uuid.Nil, 1)
	if err != nil {
		return err
	}
	if fresh := len(users) == 0 && (is == uuid.Nil || is == id); !fresh && (home != arriving || is != id) {
		return ErrInUse
	}
	if err := SetHome(ctx, to, arriving); err != nil {
		return err
	}
	if id != uuid.Nil {
		err = KeepInstallation(ctx, to, id)
	}
	return errors.Join(err, to.ClearRecords(ctx))
}

// SigningNote is the name of the note with a hash of the keys that sign links, where these
// are in the data directory.
const SigningNote = "signing keys"

// StaysBehind reports whether a note is about the place of a database, its contents or its
// keys, and does not move with the records. What is about the bucket does where the bucket
// stays.
func StaysBehind(note string, sameBucket bool) bool {
	return note == homeNote || note == SigningNote || !sameBucket && (note == claimNote || note == tenantNote)
}

// homeOf returns the backend that keeps the contents of a database.
func homeOf(ctx context.Context, records store.Notes) (home string, err error) {
	note, err := records.Note(ctx, homeNote)
	switch {
	case err == nil && len(note) > 0:
		return string(note), nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return "", err
	}
	return "disk", nil
}

// HomeStatus is where a database says that its contents are.
type HomeStatus struct {
	// Backend is "disk" or "s3", and Fixed whether there are attachments: without any, the
	// next start may choose another.
	Backend string `json:"backend"`
	Fixed   bool   `json:"fixed,omitempty"`
	// Unknown is whether the server does not know where they are, since a switch failed;
	// ReadStatus leaves it out.
	Unknown bool `json:"unknown,omitempty"`
	// Tenant is the id by which the bucket knows the database; zero where no bucket has
	// been used.
	Tenant uuid.UUID `json:"tenant,omitzero"`
	// Objects is whether any content is in an object of the bucket.
	Objects bool `json:"objects,omitempty"`
}

// readHome reads a HomeStatus. Of a damaged database it reads what it can: its faults are
// told apart from this.
func readHome(ctx context.Context, records StatusRecords) (home HomeStatus, err error) {
	if home.Backend, err = homeOf(ctx, records); err != nil {
		return home, err
	}
	some, err := records.AllAttachments(ctx, uuid.Nil, 1)
	if home.Fixed = len(some) > 0 || errors.Is(err, store.ErrDamaged); err != nil && !home.Fixed {
		return home, err
	}
	if home.Tenant, err = idIn(ctx, records, tenantNote); err != nil {
		return home, err
	}
	if objects, is := records.(interface {
		HasObjects(ctx context.Context) (bool, error)
	}); is {
		if home.Objects, err = objects.HasObjects(ctx); errors.Is(err, store.ErrDamaged) {
			home.Objects, err = true, nil
		}
	}
	return home, err
}

// SetHome notes which backend keeps the contents of a database.
func SetHome(ctx context.Context, records store.Notes, backend string) error {
	return records.SetNote(ctx, homeNote, []byte(backend))
}

// tenantNote is the name of the note with the id of a database as the one whose objects are
// in a bucket, as text. Unlike the id of the installation, a restored backup does not have
// it: the database that it was copied from may be in use.
const tenantNote = "tenant of the bucket"

// Tenant returns the id by which the bucket knows a database, and makes one where there is
// none.
func Tenant(ctx context.Context, records store.Notes) (uuid.UUID, error) {
	return makeID(ctx, records, tenantNote)
}

// claimNote is the name of the note with the last claim of the bucket: its number and token.
const claimNote = "claim of the bucket"

// Claim returns the number and the token of a database's last claim of the bucket; zero where
// there was none.
func Claim(ctx context.Context, records store.Notes) (number int64, token string, err error) {
	note, err := records.Note(ctx, claimNote)
	if errors.Is(err, store.ErrNotFound) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("the note %q: %w", claimNote, err)
	}
	return parseClaim(note)
}

func parseClaim(note []byte) (number int64, token string, err error) {
	if len(note) == 0 {
		return 0, "", nil
	}
	if _, err = fmt.Sscan(string(note), &number, &token); err != nil {
		err = fmt.Errorf("the note %q: %w", claimNote, err)
	}
	return number, token, err
}

// ErrClaimed means that another process has noted a later claim.
var ErrClaimed = errors.New("another process has noted a later claim")

// NoteClaim notes a claim before it is made. ErrClaimed where several processes use the
// database, and one of them has noted a claim with the same number or a higher one.
func NoteClaim(ctx context.Context, records store.Notes, number int64, token string) error {
	value := fmt.Append(nil, number, " ", token)
	shared, is := records.(sharedNotes)
	if !is {
		return records.SetNote(ctx, claimNote, value)
	}
	return shared.ChangeNote(ctx, claimNote, func(note []byte) ([]byte, error) {
		latest, _, err := parseClaim(note)
		if err == nil && latest >= number {
			err = ErrClaimed
		}
		return value, err
	})
}

// sharedNotes are notes that several processes change.
type sharedNotes interface {
	// ChangeNote sets the value of a name to what replace returns for the present one,
	// which nobody else changes meanwhile; empty where there is none.
	ChangeNote(ctx context.Context, name string, replace func(value []byte) ([]byte, error)) error
}

// NoteOutdated notes that the bucket knows a later claim than the database, which is a copy
// then, of the time when that was found.
func NoteOutdated(ctx context.Context, records store.Notes) error {
	if is, err := IsCopy(ctx, records); err != nil || is {
		return err
	}
	return NoteCopy(ctx, records, time.Now())
}

// Objects is a database in which it is recorded in which objects of a bucket contents are.
type Objects interface {
	store.Notes
	// ForgetObjects forgets all objects, none of which is deleted.
	ForgetObjects(ctx context.Context) error
}

// LeaveBucket makes a database that was restored from a backup, and whose contents are on the disk, one that has
// nothing to do with the bucket of the database that it was copied from: it neither reads
// nor deletes objects there, and does not count as the bucket's tenant.
func LeaveBucket(ctx context.Context, records Objects) error {
	if err := records.ForgetObjects(ctx); err != nil {
		return err
	}
	if err := records.SetNote(ctx, tenantNote, nil); err != nil {
		return err
	}
	return SetHome(ctx, records, "disk")
}
