// Package migrate moves the contents of an installation to another storage while its server
// is in use. Their records stay where they are.
//
// Contents are copied first, in several passes, while people upload and delete. Then changes
// are refused for some seconds: what came last is copied, the new storage is compared with
// the records, and a note in the database says from then on where the contents are. Until
// that note is written, the old storage has everything, and afterwards the new one has. So a
// migration that ends at any moment can be begun again, and copies what is not there yet.
package migrate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"attachd/blobs"
	"attachd/server/contents"
	"attachd/server/transfer"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/portable"
)

const (
	// passes is how often at most contents are copied before changes are refused.
	passes = 5
	// fewContents and fewBytes are how much a pass may have copied if the rest is to be left
	// to the pause.
	fewContents = 200
	fewBytes    = 32 << 20
	// readers is how many small contents are read at the same time, for each batch: an object
	// store may take long to answer.
	readers = 4
	// pauseAtMost is how long changes are refused before the migration is given up.
	pauseAtMost = 2 * time.Minute
)

// Records is what a migration uses of a store.Store.
type Records interface {
	transfer.Records
	store.Notes
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
}

// Target is the storage to which contents are moved.
type Target struct {
	transfer.Target
	Home string // as in storage.backend
	// Before and After examine the storage before the first contents are copied and after the
	// last: they return which contents only seem to be there. Both are optional.
	Before, After Survey
	// OnDisk is whether contents take room on the disk of the data directory.
	OnDisk bool
	// Elsewhere is the database to which the records move, too; nil where they stay.
	Elsewhere *Elsewhere
}

// Close closes the storage.
func (t Target) Close() error {
	if t.Elsewhere != nil {
		return t.Elsewhere.Close()
	}
	return t.Target.Close()
}

// Elsewhere is a database to which records are moved.
type Elsewhere struct {
	Store interface {
		store.Notes
		portable.Source
		portable.Target
	}
	Where string // it is, for people
	// SameBucket is whether contents stay in the bucket where they are, and what is known of
	// it moves with the records. There is no Target.Target then.
	SameBucket bool
	// Whole is whether an earlier migration has moved all, and only did not say so.
	Whole bool
	// MoveSecrets moves what else belongs to the records.
	MoveSecrets func(ctx context.Context) error
	Close       func() error // of all that belongs to the new place
}

// Survey returns contents that are not in a storage, although it lists them.
type Survey func(ctx context.Context) (map[blobs.Ref]bool, error)

// Options configure a migration.
type Options struct {
	Records Records
	From    blobs.Store
	To      Target
	// RoomFor fails when the disk has no room for that many bytes more.
	RoomFor func(ctx context.Context, bytes int64) error
	// Pause waits until no attachment is being added or deleted, or ctx ends, and admits no
	// other change until end is called, which says why it stays so, if it does.
	Pause func(ctx context.Context) (end func(refuse error), err error)
	// Flush has everything that is staged in From, or fails. It is called during the pause.
	Flush func(ctx context.Context) error
	// DespiteDamage moves the others when some contents are missing or damaged.
	DespiteDamage bool
	Progress      upkeep.ProgressFunc
}

// Report is the result of a migration.
type Report struct {
	// Moved is whether the contents are at the new place now.
	Moved bool `json:"moved"`
	// Contents and Bytes are what the records need and what could be copied, Copied and
	// CopiedBytes what this run has copied of it.
	Contents    int64 `json:"contents"`
	Bytes       int64 `json:"bytes"`
	Copied      int64 `json:"copied"`
	CopiedBytes int64 `json:"copied_bytes"`
	// Attachments and Rows are how many records were moved to another database, and how many
	// rows in all; 0 where they stay.
	Attachments int64 `json:"attachments,omitempty"`
	Rows        int64 `json:"rows,omitempty"`
	// PausedSeconds is for how long changes were refused.
	PausedSeconds float64 `json:"paused_seconds"`
	// Faults are the attachments whose contents could not be copied; never nil.
	Faults []upkeep.Fault `json:"faults"`
}

// Run moves the contents. It changes nothing at the old place. Without DespiteDamage, it ends
// with the faults before anything is switched.
func Run(ctx context.Context, o Options) (Report, error) {
	m := &migration{Options: o, Report: Report{Faults: []upkeep.Fault{}}}
	if e := o.To.Elsewhere; e != nil && (e.SameBucket || e.Whole) {
		return m.Report, m.finish(ctx)
	}
	if err := m.pass(ctx, o.To.Before); err != nil {
		return m.Report, err
	}
	for n := 1; n < passes && (m.last.contents > fewContents || m.last.bytes > fewBytes); n++ {
		if err := m.pass(ctx, nil); err != nil {
			return m.Report, err
		}
	}
	if err := m.pass(ctx, o.To.After); err != nil {
		return m.Report, err
	}
	goOn, err := m.goesOn(ctx)
	if err == nil && goOn {
		err = m.finish(ctx)
	}
	return m.Report, err
}

type migration struct {
	Options
	Report
	wanted []transfer.Need // in order of Ref
	lost   map[blobs.Ref]string
	last   struct{ contents, bytes int64 } // copied by the last pass
}

// finish refuses changes, copies the rest, compares, and switches.
func (m *migration) finish(ctx context.Context) error {
	begun := time.Now()
	defer func() { m.PausedSeconds = time.Since(begun).Seconds() }()
	ctx, cancel := context.WithTimeoutCause(ctx, pauseAtMost, errPause)
	defer cancel()
	end, err := m.Pause(ctx)
	if err != nil {
		return fmt.Errorf("waiting for the uploads under way: %w", cmp.Or(context.Cause(ctx), err))
	}
	var refuse error
	defer func() { end(refuse) }()
	if m.To.Elsewhere != nil {
		refuse, err = m.finishElsewhere(ctx)
		return err
	}
	if goOn, err := m.finishContents(ctx); err != nil || !goOn {
		return err
	}
	err = upkeep.SetHome(context.WithoutCancel(ctx), m.Records, m.To.Home)
	switch {
	case err == nil:
		m.Moved, refuse = true, contents.ErrMoved
	case !errors.Is(err, store.ErrFull):
		// The note may be written, as the next start finds out. What came until then would be
		// at the old place.
		refuse = contents.ErrPerhapsMoved
		err = fmt.Errorf("%w: %w", refuse, err)
	}
	return err
}

// finishContents copies the contents that came last, and compares. goOn is whether the
// migration goes on.
func (m *migration) finishContents(ctx context.Context) (goOn bool, err error) {
	if err = m.pass(ctx, nil); err == nil {
		err = m.compare(ctx)
	}
	if err != nil {
		return false, errors.Join(err, context.Cause(ctx))
	}
	return m.goesOn(ctx)
}

var errPause = fmt.Errorf("uploads and deletions would have been refused for more than %s", pauseAtMost)

// goesOn lists the attachments whose contents could not be copied, and says whether the
// migration goes on nevertheless.
func (m *migration) goesOn(ctx context.Context) (bool, error) {
	faults, err := transfer.Whose(ctx, m.Records, m.lost)
	m.Faults = append([]upkeep.Fault{}, faults...)
	return err == nil && (len(faults) == 0 || m.DespiteDamage), err
}

// pass copies what records need and the new place does not have.
func (m *migration) pass(ctx context.Context, survey Survey) (err error) {
	if m.wanted, _, err = transfer.Needs(ctx, m.Records); err != nil {
		return err
	}
	slices.SortFunc(m.wanted, func(a, b transfer.Need) int { return bytes.Compare(a.Ref[:], b.Ref[:]) })
	missing, err := m.missing(ctx, survey)
	if err != nil {
		return err
	}
	m.Contents, m.Bytes = int64(len(m.wanted)), total(m.wanted)
	more := total(missing)
	if m.To.OnDisk {
		if err := m.RoomFor(ctx, more); err != nil {
			return err
		}
	}
	t := &transfer.Transfer{To: m.To, Open: m.open, Strict: true, Readers: readers, Progress: m.Progress,
		Done: upkeep.Progress{Bytes: m.Bytes - more, AllBytes: m.Bytes}}
	err = t.Run(ctx, missing)
	m.lost = t.Lost
	for _, n := range m.wanted {
		if _, is := m.lost[n.Ref]; is {
			m.Contents--
			m.Bytes -= n.Size
		}
	}
	m.last.contents, m.last.bytes = t.Contents, t.Bytes
	m.Copied += t.Contents
	m.CopiedBytes += t.Bytes
	return err
}

func total(list []transfer.Need) (bytes int64) {
	for _, n := range list {
		bytes += n.Size
	}
	return bytes
}

// missing returns what is wanted and not at the new place. It removes from there what is not
// wanted, and what only seems to be there.
func (m *migration) missing(ctx context.Context, survey Survey) (missing []transfer.Need, err error) {
	var gone map[blobs.Ref]bool
	if survey != nil {
		if gone, err = survey(ctx); err != nil {
			return nil, err
		}
	}
	there := make([]bool, len(m.wanted))
	for info, err := range m.To.All(ctx, blobs.Ref{}) {
		if err != nil {
			return nil, fmt.Errorf("listing what is at the new place: %w", err)
		}
		i, wanted := m.find(info.Ref)
		if wanted && m.isWhole(i, info) && !gone[info.Ref] {
			there[i] = true
			continue
		}
		_, err := m.To.Remove(ctx, info.Ref, func() (bool, error) {
			if wanted {
				return false, nil // it is copied again
			}
			return m.Records.Referenced(ctx, info.Ref)
		})
		if err != nil {
			return nil, fmt.Errorf("removing blob %s from the new place: %w", info.Ref, err)
		}
	}
	for i, n := range m.wanted {
		if !there[i] {
			missing = append(missing, n)
		}
	}
	return missing, nil
}

// find returns the position of a content in m.wanted.
func (m *migration) find(ref blobs.Ref) (i int, wanted bool) {
	return slices.BinarySearchFunc(m.wanted, ref, func(n transfer.Need, ref blobs.Ref) int { return bytes.Compare(n.Ref[:], ref[:]) })
}

func (m *migration) isWhole(i int, info blobs.Info) bool {
	return !info.Damaged && info.Size == m.wanted[i].Size
}

// open opens a content at the old place.
func (m *migration) open(ctx context.Context, n transfer.Need) (content io.ReadCloser, lost string, err error) {
	content, err = m.From.Open(ctx, n.Ref, n.Size)
	switch {
	case err == nil:
		return content, "", nil
	case errors.Is(err, blobs.ErrNotFound):
		return nil, upkeep.Missing, nil
	case errors.Is(err, blobs.ErrDamaged):
		return nil, transfer.DamagedContent, nil
	}
	return nil, "", transfer.Unreadable{Cause: err}
}

// compare fails unless the new place has exactly what the records need, except for what is
// lost.
func (m *migration) compare(ctx context.Context) error {
	var there, size int64
	for info, err := range m.To.All(ctx, blobs.Ref{}) {
		if err != nil {
			return fmt.Errorf("listing what is at the new place: %w", err)
		}
		if i, wanted := m.find(info.Ref); !wanted || !m.isWhole(i, info) {
			return fmt.Errorf("blob %s at the new place is not one that a record needs", info.Ref)
		}
		there++
		size += info.Size
	}
	if there != m.Contents || size != m.Bytes {
		return fmt.Errorf("the new place has %d contents of %d bytes, and should have %d of %d", there, size, m.Contents, m.Bytes)
	}
	return nil
}
