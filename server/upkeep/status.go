package upkeep

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// Status is the state of the database, as far as it is recorded in it.
type Status struct {
	// Installation is the id of the installation.
	Installation uuid.UUID `json:"installation,omitzero"`
	// Addresses are the URLs at which the server is reached; ReadStatus leaves
	// them out.
	Addresses []string `json:"addresses,omitempty"`
	// LastBackup is when the last restore point was made that was noted; zero when
	// there is none.
	LastBackup time.Time `json:"last_backup,omitzero"`
	// LastCheck is when a check was last completed, whatever it found, and LastGC when
	// contents that nothing refers to were last removed; zero when unknown.
	LastCheck time.Time `json:"last_check,omitzero"`
	LastGC    time.Time `json:"last_gc,omitzero"`
	// LastFound is how many faults the last check found.
	LastFound int `json:"last_found,omitempty"`
	// Faulty is how many contents of attachments are known to be missing or damaged,
	// whoever found that; ReadStatus leaves it out.
	Faulty int `json:"faulty,omitempty"`
	// Trash is the attachments in the trash.
	Trash store.Usage `json:"trash,omitzero"`
	// Ahead is the time of an attachment that is newer than now; zero when
	// there is none.
	Ahead time.Time `json:"ahead,omitzero"`
	// ClockJump is the clock's last jump, and SinceJump how much time has passed since;
	// zero when there was none.
	ClockJump ClockJump     `json:"clock_jump,omitzero"`
	SinceJump time.Duration `json:"since_clock_jump,omitempty"`
	// Events is how many events wait to be delivered, the first since OldestEvent.
	Events      int64     `json:"events"`
	OldestEvent time.Time `json:"oldest_event,omitzero"`
	DeadLetters int64     `json:"dead_letters"`
	// Damage is the known faults of the database, a sentence for each; ReadStatus
	// leaves it out.
	Damage []string `json:"damage,omitempty"`
	// Home is where the database says that contents are kept.
	Home HomeStatus `json:"home,omitzero"`
	// Log is how full the write-ahead log is; ReadStatus leaves it out.
	Log LogStatus `json:"log,omitzero"`
	// Storage is where the running server keeps contents; ReadStatus leaves it out.
	Storage StorageStatus `json:"storage,omitzero"`
	// Database is the size of the database; ReadStatus leaves it out, since changes
	// wait while it is measured. Zero when it is unknown.
	Database store.Size `json:"database,omitzero"`
}

// StorageStatus is where contents are kept.
type StorageStatus struct {
	Backend  string `json:"backend"` // "disk" or "s3"
	Endpoint string `json:"endpoint,omitempty"`
	Bucket   string `json:"bucket,omitempty"`
	Prefix   string `json:"prefix,omitempty"`
	// Unswept is how many objects are yet to be deleted, or may have to be.
	Unswept int64 `json:"unswept,omitempty"`
}

// LogStatus is how full the write-ahead log is.
type LogStatus struct {
	Contents int64 `json:"contents"` // those that have no files of their own yet
	Bytes    int64 `json:"bytes"`    // of the log that are in use
	MaxBytes int64 `json:"max_bytes"`
	// FailingSince is since when contents cannot be written to files; zero when they can.
	FailingSince time.Time `json:"failing_since,omitzero"`
}

// StatusRecords is the methods of a store that ReadStatus uses.
type StatusRecords interface {
	store.Notes
	AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error)
	TrashSize(ctx context.Context) (size store.Usage, earliest time.Time, err error)
	OutboxSize() (events, dead int64)
	Events(ctx context.Context, after uint64, limit int) ([]store.Event, error)
}

// ReadStatus reads the status; now is the clock's time.
func ReadStatus(ctx context.Context, records StatusRecords, now time.Time) (status Status, err error) {
	if status.Installation, err = installationOf(ctx, records); err != nil {
		return status, err
	}
	if status.Home, err = readHome(ctx, records); err != nil {
		return status, err
	}
	for work, at := range map[Work]*time.Time{
		Backup: &status.LastBackup, Checking: &status.LastCheck, Collecting: &status.LastGC,
	} {
		if *at, err = LastDone(ctx, records, work); err != nil {
			return status, err
		}
	}
	found, err := ReadFound(ctx, records)
	if err != nil {
		return status, err
	}
	status.LastFound = found.Faults
	if status.Trash, _, err = records.TrashSize(ctx); err != nil {
		return status, err
	}
	ahead, err := records.AllAttachments(ctx, firstID(now.Add(clockSlack)), 1)
	if err == nil && len(ahead) > 0 {
		status.Ahead = ahead[0].CreatedAt()
	}
	if err != nil {
		return status, err
	}
	clock, err := readClock(ctx, records)
	if err != nil {
		return status, err
	}
	status.ClockJump, status.SinceJump = clock.Jump, clock.Age-clock.Jump.Age
	status.Events, status.DeadLetters = records.OutboxSize()
	first, err := records.Events(ctx, 0, 1)
	if len(first) > 0 {
		status.OldestEvent = first[0].Queued
	}
	return status, err
}

// Found is what the last check found.
type Found struct {
	Faults int `json:"faults"`
	// Contents are those of attachments that were missing or damaged; only some of them
	// where there are many.
	Contents []blobs.Ref `json:"contents,omitempty"`
}

// foundNote is the name of the note with a Found.
const foundNote = "found"

// ReadFound returns what the last check found; empty where no check has noted anything.
func ReadFound(ctx context.Context, records store.Notes) (found Found, err error) {
	note, err := records.Note(ctx, foundNote)
	if errors.Is(err, store.ErrNotFound) {
		return found, nil
	}
	if err == nil {
		err = json.Unmarshal(note, &found)
	}
	if err != nil {
		return Found{}, fmt.Errorf("the note of what the last check found: %w", err)
	}
	return found, nil
}

// NoteFound notes what a check has found, in place of an earlier one's result.
func NoteFound(ctx context.Context, records store.Notes, found Found) error {
	note, err := json.Marshal(found)
	if err != nil {
		return err
	}
	return records.SetNote(ctx, foundNote, note)
}

// firstID returns the least id that can have been made at a time or later: a UUID of
// version 7 begins with 48 bits of milliseconds (RFC 9562, section 5.7).
func firstID(at time.Time) (id uuid.UUID) {
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id
}

// Work is a kind of work whose completion is noted. The values are the names of the
// notes, which hold the time in RFC 3339.
type Work string

const (
	Backup     Work = "backup" // a restore point was made
	Checking   Work = "check"
	Collecting Work = "gc"
	Listing    Work = "list the bucket" // and compare it with the records
)

// LastDone returns when work was last done; zero when that is not known.
func LastDone(ctx context.Context, records store.Notes, work Work) (at time.Time, err error) {
	note, err := records.Note(ctx, string(work))
	if errors.Is(err, store.ErrNotFound) {
		return at, nil
	}
	if err == nil {
		err = at.UnmarshalText(note)
	}
	if err != nil {
		err = fmt.Errorf("the note of the last %s: %w", work, err)
	}
	return at, err
}

// NoteDone notes when work was done.
func NoteDone(ctx context.Context, records store.Notes, work Work, at time.Time) error {
	note, err := at.UTC().MarshalText()
	if err != nil {
		return err
	}
	return records.SetNote(ctx, string(work), note)
}
