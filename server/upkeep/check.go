// Package upkeep maintains the two stores together: what is recorded, and
// what is kept. It speaks no HTTP.
package upkeep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// CheckOptions say how thorough a check is.
type CheckOptions struct {
	Deep     bool         // read every content and hash it
	Marker   blobs.Marker // marks those that are damaged; optional
	Progress ProgressFunc
}

// Progress is how far something is: what of contents has been seen to, of how
// much in all. What is not known, or not counted, is 0.
type Progress struct{ Bytes, AllBytes, Contents, AllContents int64 }

// ProgressFunc is told how far something is, often, and by one goroutine at a time. It
// may be nil.
type ProgressFunc func(Progress)

func (t ProgressFunc) Call(p Progress) {
	if t != nil {
		t(p)
	}
}

// Report is what Check found.
type Report struct {
	Attachments int64   `json:"attachments"` // records seen
	Contents    int64   `json:"contents"`    // stored contents seen
	Bytes       int64   `json:"bytes"`       // in them
	Faults      []Fault `json:"faults"`      // never nil
	// Orphans are contents that no record has. They are no fault: a crash
	// between keeping a content and recording it leaves one.
	Orphans     int64 `json:"orphans"`
	OrphanBytes int64 `json:"orphan_bytes"`
}

// Fault is something that is not as it should be.
type Fault struct {
	Attachment uuid.NullUUID `json:"attachment"` // whose content it is; null for what belongs to none
	FileName   string        `json:"file_name,omitempty"`
	Blob       string        `json:"blob,omitempty"`
	What       string        `json:"what"` // a sentence
	// Unreadable means that the storage did not give the content: nothing is
	// known of its bytes, and nothing was marked.
	Unreadable bool `json:"unreadable,omitempty"`
}

func (f Fault) String() string {
	switch {
	case f.Attachment.Valid:
		return fmt.Sprintf("attachment %s (%q), blob %s: %s", f.Attachment.UUID, f.FileName, f.Blob, f.What)
	case f.Blob != "":
		return fmt.Sprintf("blob %s: %s", f.Blob, f.What)
	}
	return f.What
}

// CheckRecords is what Check uses of a store.Store.
type CheckRecords interface {
	store.AuditChain
	ChecksumRecords
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error)
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
	Check(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
}

// Check sees that every record has its content, whole in length and not
// marked damaged, and that what the store keeps fits together. With Deep it
// reads every content once and marks those whose bytes are not what they
// should be, and takes the mark from those that are right. What cannot be read
// is tried again at the end, and is a fault then that says so. People may work meanwhile: contents are listed before records, and what looks wrong
// is looked at again before it is reported, so that what comes and goes is no
// fault.
//
// Where something cannot be looked at, that is a fault, and the rest is looked
// at all the same. It remembers orphans and faults, and nothing else.
func Check(ctx context.Context, records CheckRecords, contents blobs.Store, opts CheckOptions) (Report, error) {
	c := &check{ctx: ctx, records: records, contents: contents, CheckOptions: opts, lost: map[blobs.Ref]Loss{}, sums: checksums{records: records}}
	c.Faults = []Fault{}
	parts := []func() error{c.list, c.checkRecords, c.checkOrphans}
	if opts.Deep {
		parts = []func() error{c.list, c.read, c.checkRecords, c.checkOrphans}
	}
	for _, part := range parts {
		err := part()
		if ctx.Err() != nil {
			return c.Report, ctx.Err()
		}
		fault := Fault{What: fmt.Sprintf("Not everything could be looked at: %v.", err)}
		if err != nil && !slices.Contains(c.Faults, fault) {
			c.Faults = append(c.Faults, fault)
		}
	}
	return c.Report, c.checkStore()
}

type check struct {
	CheckOptions
	Report
	ctx      context.Context
	records  CheckRecords
	contents blobs.Store

	orphans []blobs.Info // perhaps: one may be recorded later
	lost    map[blobs.Ref]Loss
	sums    checksums
}

// list counts the contents and looks for those that no record has.
func (c *check) list() error {
	for info, err := range c.contents.All(c.ctx, blobs.Ref{}) {
		if err != nil {
			return fmt.Errorf("listing contents: %w", err)
		}
		c.Contents++
		c.Bytes += info.Size
		c.Progress.Call(Progress{Bytes: c.Bytes})
		wanted, err := c.records.Referenced(c.ctx, info.Ref)
		if err != nil {
			return fmt.Errorf("looking up who has blob %s: %w", info.Ref, err)
		}
		if !wanted {
			c.orphans = append(c.orphans, info)
		}
	}
	return nil
}

// read hashes all contents, and those again that could not be read.
func (c *check) read() error {
	var done int64
	var unread []blobs.Info
	for info, err := range c.contents.All(c.ctx, blobs.Ref{}) {
		if err != nil {
			return fmt.Errorf("listing contents: %w", err)
		}
		if err := c.verify(info, done); err != nil {
			return err
		}
		if c.lost[info.Ref].Unread {
			unread = append(unread, info)
		}
		done += info.Size
		c.Progress.Call(Progress{Bytes: done, AllBytes: c.Bytes})
	}
	for _, info := range unread {
		if err := c.verify(info, done-info.Size); err != nil {
			return err
		}
	}
	c.sums.keep(c.ctx)
	return nil
}

// verify notes what is wrong with a content.
func (c *check) verify(info blobs.Info, done int64) error {
	sums, lost, err := VerifyContent(c.ctx, c.contents, c.Marker, info, func(content io.Reader) io.Reader {
		return &watched{Reader: content, c: c, done: done}
	})
	c.sums.add(c.ctx, info.Ref, sums)
	delete(c.lost, info.Ref)
	if lost != nil {
		c.lost[info.Ref] = *lost
	}
	return err
}

// watched is a content that is read in small steps, each told of.
type watched struct {
	io.Reader
	c    *check
	done int64
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.Reader.Read(p)
	w.done += int64(n)
	w.c.Progress.Call(Progress{Bytes: w.done, AllBytes: w.c.Bytes})
	return n, err
}

// How many records are read in one go.
const batch = 1000

func (c *check) checkRecords() error {
	var after uuid.UUID
	for limit := batch; ; {
		page, err := c.records.AllAttachments(c.ctx, after, limit)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err != nil && limit > 1:
			limit = 1 // to come as close as possible to what cannot be read
			continue
		case err != nil:
			c.Faults = append(c.Faults, Fault{What: fmt.Sprintf("The attachments after %s cannot be listed, and were not looked at: %v.", after, err)})
			return nil
		}
		for _, a := range page {
			if err := c.checkRecord(a); err != nil {
				return err
			}
			after = a.ID
		}
		if len(page) < limit {
			return nil
		}
	}
}

// checkRecord looks twice at a content that is not as it should be: it may
// have been repaired, or gone together with its record.
func (c *check) checkRecord(a store.Attachment) error {
	c.Attachments++
	c.Progress.Call(Progress{Bytes: c.Bytes, AllBytes: c.Bytes})
	fault := Fault{Attachment: uuid.NullUUID{UUID: a.ID, Valid: true}, FileName: a.FileName, Blob: blobs.Ref(a.SHA256).String()}
	for range 2 {
		fault.What, fault.Unreadable = c.faultOf(a.SHA256, a.Size)
		if fault.What == "" || c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if _, err := c.records.Attachment(c.ctx, a.ID); errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil {
			return fmt.Errorf("looking again at attachment %s: %w", a.ID, err)
		}
	}
	c.Faults = append(c.Faults, fault)
	return nil
}

// faultOf says what is wrong with a content that should have size bytes, and
// whether that is only that nobody knows.
func (c *check) faultOf(ref blobs.Ref, size int64) (what string, unreadable bool) {
	info, err := c.contents.Stat(c.ctx, ref)
	lost, known := c.lost[ref]
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return Missing, false
	case err != nil:
		return fmt.Sprintf("The content cannot be looked at: %v.", err), true
	case info.Size != size:
		return WrongLength(info.Size, size), false
	case known && (info.Damaged || !lost.Marked):
		return lost.Why, lost.Unread && !info.Damaged
	case info.Damaged:
		return "The content is marked damaged.", false
	}
	return "", false
}

// checkOrphans looks again at contents that no record had: an upload keeps
// its content first. A damaged one is a fault, though nobody's.
func (c *check) checkOrphans() error {
	for _, info := range c.orphans {
		wanted, err := c.records.Referenced(c.ctx, info.Ref)
		if err != nil {
			return fmt.Errorf("looking up who has blob %s: %w", info.Ref, err)
		}
		if wanted {
			continue
		}
		what, unreadable := c.faultOf(info.Ref, info.Size)
		if _, err := c.contents.Stat(c.ctx, info.Ref); errors.Is(err, blobs.ErrNotFound) {
			continue
		}
		c.Orphans++
		c.OrphanBytes += info.Size
		if what != "" {
			c.Faults = append(c.Faults, Fault{Blob: info.Ref.String(), What: what, Unreadable: unreadable})
		}
	}
	return nil
}

func (c *check) checkStore() error {
	faults, err := c.records.Check(c.ctx, nil)
	if err != nil {
		return fmt.Errorf("checking the metadata: %w", err)
	}
	_, _, broken, err := store.VerifyAudit(c.ctx, c.records, nil)
	if errors.Is(err, store.ErrDamaged) {
		broken = append(broken, fmt.Sprintf("The audit log cannot be read to its end: %v.", err))
	} else if err != nil {
		return fmt.Errorf("checking the audit log: %w", err)
	}
	for _, what := range append(faults, broken...) {
		c.Faults = append(c.Faults, Fault{What: what})
	}
	return nil
}
