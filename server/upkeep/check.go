// Package upkeep looks after the two stores together: what is recorded, and
// what is kept. It speaks no HTTP.
package upkeep

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// Report is what Check found.
type Report struct {
	Attachments int64 // records seen
	Contents    int64 // stored contents seen
	Bytes       int64 // in them

	Faults []Fault
	// Orphans are contents that no record has. They are no fault: a crash
	// between keeping a content and recording it leaves one.
	Orphans []blobs.Ref
}

// Fault is a record whose content is not what it should be.
type Fault struct {
	Attachment uuid.UUID
	Content    blobs.Ref
	What       string // a sentence
}

func (f Fault) String() string {
	return fmt.Sprintf("attachment %s, blob %s: %s", f.Attachment, f.Content, f.What)
}

// How many records are read in one go.
const batch = 1000

// Check sees that every record has its content, whole in length and not
// marked damaged. Contents are listed before records, so that one that is
// uploaded meanwhile is not taken for an orphan.
func Check(ctx context.Context, records store.Attachments, contents blobs.Store) (Report, error) {
	var report Report
	for info, err := range contents.All(ctx) {
		if err != nil {
			return report, fmt.Errorf("listing contents: %w", err)
		}
		report.Contents++
		report.Bytes += info.Size
		wanted, err := records.Referenced(ctx, info.Ref)
		if err != nil {
			return report, fmt.Errorf("looking up who has a content: %w", err)
		}
		if !wanted {
			report.Orphans = append(report.Orphans, info.Ref)
		}
	}
	var after uuid.UUID
	for {
		page, err := records.AllAttachments(ctx, after, batch)
		if err != nil {
			return report, fmt.Errorf("listing attachments: %w", err)
		}
		for _, a := range page {
			if err := report.checkOne(ctx, a, records, contents); err != nil {
				return report, err
			}
		}
		if len(page) < batch {
			return report, nil
		}
		after = page[len(page)-1].ID
	}
}

func (r *Report) checkOne(ctx context.Context, a store.Attachment, records store.Attachments, contents blobs.Store) error {
	r.Attachments++
	ref := blobs.Ref(a.SHA256)
	info, err := contents.Stat(ctx, ref)
	var what string
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		what = "The content is missing."
	case err != nil:
		return fmt.Errorf("looking at blob %s: %w", ref, err)
	case info.Size != a.Size:
		what = fmt.Sprintf("The content has %d bytes, not %d.", info.Size, a.Size)
	case info.Damaged:
		what = "The content is marked damaged."
	default:
		return nil
	}
	if _, err := records.Attachment(ctx, a.ID); errors.Is(err, store.ErrNotFound) {
		return nil // deleted since it was listed
	} else if err != nil {
		return fmt.Errorf("looking again at attachment %s: %w", a.ID, err)
	}
	r.Faults = append(r.Faults, Fault{a.ID, ref, what})
	return nil
}
