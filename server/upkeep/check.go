// Package upkeep checks and maintains the two stores together: records and contents. It
// speaks no HTTP.
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

// CheckOptions configure a check.
type CheckOptions struct {
	Deep     bool           // read every content and hash it
	Marker   blobs.Marker   // marks those that are damaged; optional
	Comparer blobs.Comparer // of contents in an object store; optional
	Progress ProgressFunc
}

// Progress is how much of the contents has been processed, of how much in all. What is
// not known, or not counted, is 0.
type Progress struct{ Bytes, AllBytes, Contents, AllContents int64 }

// ProgressFunc is called with the progress, often, and by one goroutine at a time. It
// may be nil.
type ProgressFunc func(Progress)

func (t ProgressFunc) Call(p Progress) {
	if t != nil {
		t(p)
	}
}

// Report is the result of Check.
type Report struct {
	Attachments int64   `json:"attachments"` // records checked
	Contents    int64   `json:"contents"`    // stored contents checked
	Bytes       int64   `json:"bytes"`       // in them
	Faults      []Fault `json:"faults"`      // never nil
	// Orphans counts contents that no record refers to. They are no fault: a crash
	// between keeping a content and recording it leaves one.
	Orphans     int64 `json:"orphans"`
	OrphanBytes int64 `json:"orphan_bytes"`
	// Strays counts objects in the object store that the server wrote more than a day ago
	// and that have no content, and Foreign those that it did not write, some of which
	// ForeignNames names. Neither are a fault.
	Strays       int64    `json:"strays,omitempty"`
	StrayBytes   int64    `json:"stray_bytes,omitempty"`
	Foreign      int64    `json:"foreign,omitempty"`
	ForeignNames []string `json:"foreign_names,omitempty"`
}

// Fault is an inconsistency or damage in either store.
type Fault struct {
	Attachment uuid.NullUUID `json:"attachment"` // whose content it is; null for a fault that concerns none
	FileName   string        `json:"file_name,omitempty"`
	Blob       string        `json:"blob,omitempty"`
	What       string        `json:"what"` // a sentence that describes it
	// Unreadable means that the storage could not read the content: whether its bytes
	// are right is unknown, and nothing was marked.
	Unreadable bool `json:"unreadable,omitempty"`
	// Storage means that it is a fault of the object store or of the way to it, and none of
	// the database, although it names no content.
	Storage bool `json:"storage,omitempty"`
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
	AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error)
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
	Check(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
}

// Check verifies that every record has its content, of the right length and not marked
// damaged, and that the store's own structures are consistent. With Deep it reads every
// content once, marks those whose bytes have the wrong hash, and removes the mark from
// those that are right. What cannot be read is tried again at the end, and is then
// reported as an unreadable fault. The server may be in use meanwhile: contents are
// listed before records, and what seems wrong is checked again before it is reported,
// so that concurrent changes are not reported as faults.
//
// With a Comparer, contents whose objects are missing or have another length are marked
// and reported, too.
//
// What cannot be checked is a fault, and the rest is checked all the same. Of all that
// it reads, Check keeps only orphans and faults in memory.
func Check(ctx context.Context, records CheckRecords, contents blobs.Store, opts CheckOptions) (Report, error) {
	c := &check{ctx: ctx, records: records, contents: contents, CheckOptions: opts, lost: map[blobs.Ref]Loss{}, sums: checksums{records: records}}
	c.Faults = []Fault{}
	parts := []func() error{c.list, c.compare, c.checkRecords, c.checkOrphans}
	if opts.Deep {
		parts = []func() error{c.list, c.read, c.compare, c.checkRecords, c.checkOrphans}
	}
	for _, part := range parts {
		err := part()
		if ctx.Err() != nil {
			return c.Report, ctx.Err()
		}
		fault := Fault{What: fmt.Sprintf("Not everything could be looked at: %v.", err), Storage: errors.Is(err, ErrNotCompared)}
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

	orphans []blobs.Info // candidates: one may be recorded later
	lost    map[blobs.Ref]Loss
	sums    checksums
}

// list counts the contents and collects those that no record refers to.
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

// read hashes all contents, and once more those that could not be read.
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

// verify records what is wrong with a content.
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

// watched is a reader of a content that reports progress at each read and ends with the
// context.
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

const (
	// maxForeign is how many objects of others are named.
	maxForeign = 10
	// maxLost is how many contents are named whose objects are missing or have another length.
	maxLost = 100_000
)

// compare compares an object store with what it should have. Nothing is marked before that
// has come to its end. Where the objects of many contents are missing at once, nothing is
// marked either: that may be another bucket than it should.
func (c *check) compare() error {
	if c.Comparer == nil {
		return nil
	}
	var lost []blobs.Difference
	var lostContents int64
	for d, err := range c.Comparer.Compare(c.ctx) {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotCompared, err)
		}
		switch {
		case d.Kind == blobs.Missing, d.Kind == blobs.WrongLength:
			if lostContents++; lostContents <= maxLost {
				lost = append(lost, d)
			}
		case d.Kind == blobs.Foreign:
			if c.Foreign++; len(c.ForeignNames) < maxForeign {
				c.ForeignNames = append(c.ForeignNames, d.Name)
			}
		case time.Since(d.Modified) >= StrayAge:
			c.Strays++
			c.StrayBytes += d.Size
		}
	}
	marker := c.Marker
	if isMany(int(lostContents), int(c.Contents)) {
		marker = nil
		c.Faults = append(c.Faults, Fault{Storage: true, What: fmt.Sprintf("The object store has lost %d of %d contents. None was marked damaged for that: see that storage.s3_bucket and storage.s3_prefix are right, and that nothing deletes objects there.", lostContents, c.Contents)})
	}
	for _, d := range lost {
		why := Missing
		if d.Kind == blobs.WrongLength {
			why = WrongLength(d.Size, d.Want)
		}
		found, err := mark(c.ctx, c.contents, marker, d.Ref, d.Lost, why)
		if err != nil {
			return err
		}
		if found != nil {
			c.lost[d.Ref] = *found
		}
	}
	return nil
}

// batch is how many records are read at once.
const batch = 1000

func (c *check) checkRecords() error {
	var after uuid.UUID
	for limit := batch; ; {
		page, err := c.records.AllAttachments(c.ctx, after, limit)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err != nil && limit > 1:
			limit = 1 // to come as close as possible to the record that cannot be read
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

// checkRecord checks a seemingly faulty content twice: it may have been repaired, or
// removed with its last record. A record in the trash is one.
func (c *check) checkRecord(a store.Attachment) error {
	c.Attachments++
	c.Progress.Call(Progress{Bytes: c.Bytes, AllBytes: c.Bytes})
	fault := Fault{Attachment: uuid.NullUUID{UUID: a.ID, Valid: true}, FileName: a.FileName, Blob: blobs.Ref(a.SHA256).String()}
	for range 2 {
		fault.What, fault.Unreadable = c.faultOf(a.SHA256, a.Size)
		if fault.What == "" || c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if wanted, err := c.records.Referenced(c.ctx, a.SHA256); err != nil {
			return fmt.Errorf("looking up again who has blob %s: %w", fault.Blob, err)
		} else if !wanted {
			return nil
		}
	}
	c.Faults = append(c.Faults, fault)
	return nil
}

// faultOf describes what is wrong with a content that should have size bytes, and
// reports whether it is only that it cannot be read.
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

// checkOrphans checks again the contents that no record referred to: an upload keeps
// its content before its record. A damaged one is a fault that concerns no attachment.
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
