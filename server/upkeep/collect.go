package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"attachd/blobs"
	"attachd/store"
)

// MinAge is how old a content should be before it is collected: older than the longest
// upload takes.
const MinAge = time.Hour

// StrayAge is how old an object without a content must be before it is deleted from an object
// store.
const StrayAge = 24 * time.Hour

// maxStrays is how many of them one collection deletes. The rest is left to the next one.
const maxStrays = 100_000

// ErrDoubt means that the store does not know for sure which contents are referenced.
var ErrDoubt = errors.New("the metadata has faults: nothing is removed until they are mended")

// ErrMany means that a large share would have been removed at once, and nothing was.
var ErrMany = errors.New("nothing refers to many of the contents: see that this is the right database, then run `attachd gc`")

// ErrNotCompared means that it is not known what is in the object store, so that nothing was
// removed.
var ErrNotCompared = errors.New("comparing the object store with the records")

// ErrCopy means that the database is a restored snapshot, and that `attachd gc` was not
// run since: contents that nothing refers to may be later than the snapshot.
var ErrCopy = errors.New("the database is a snapshot that was put back: contents that came after it stay until `attachd gc` is run")

// copyNote is the name of the note in a snapshot that marks it as one: the time at
// which it began.
const copyNote = "copy of the database"

// NoteCopy notes in a copy of a database that it is one, and when it began.
func NoteCopy(ctx context.Context, records store.Notes, begun time.Time) error {
	return records.SetNote(ctx, copyNote, begun.UTC().AppendFormat(nil, time.RFC3339))
}

// IsCopy reports whether the database is a restored snapshot that nobody has confirmed
// yet.
func IsCopy(ctx context.Context, records store.Notes) (bool, error) {
	note, err := records.Note(ctx, copyNote)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return len(note) > 0, err
}

// fewContents is how many contents a Wary collection removes whatever their share of
// all.
const fewContents = 10

// CollectOptions configure a collection.
type CollectOptions struct {
	DryRun bool          // only count
	MinAge time.Duration // younger contents are kept
	// Wary refuses to collect when the database is a restored snapshot, which does not
	// know later contents; and when more than fewContents would be removed and these
	// are more than a tenth of all, which may mean such a snapshot. A person has to
	// decide then.
	Wary bool
	Now  time.Time
	// Settled says that the clock was not set recently: a content dated after Now is
	// then an old one, from a time when the clock was ahead.
	Settled  bool
	Comparer blobs.Comparer // deletes strays from an object store, too; optional
	Progress ProgressFunc
}

// Collected is what Collect removed, or would remove in a dry run.
type Collected struct {
	Contents   int64 `json:"contents"`
	Bytes      int64 `json:"bytes"`
	Strays     int64 `json:"strays,omitempty"` // objects in an object store that have no content
	StrayBytes int64 `json:"stray_bytes,omitempty"`
}

// CollectRecords is the methods of a store that Collect uses.
type CollectRecords interface {
	store.Notes
	Referenced(ctx context.Context, sha256 [32]byte) (bool, error)
	Check(ctx context.Context, rest func(took time.Duration)) (faults []string, err error)
}

// Collect removes contents that no record refers to and that are old enough. It never
// removes on doubt: the last check whether a content is referenced is made while no
// upload of the same content can begin; the first error ends the collection; and before
// anything is removed, the store must have no faults, since an index that has lost an
// entry would release a content that is needed.
func Collect(ctx context.Context, records CollectRecords, contents blobs.Store, opts CollectOptions) (Collected, error) {
	var done Collected
	doomed, all, err := unwanted(ctx, records, contents, opts)
	if err != nil {
		return done, err
	}
	strays, err := unneededStrays(ctx, records, contents, all, opts)
	if err != nil {
		return done, err
	}
	putBack, err := IsCopy(ctx, records)
	if err != nil || len(doomed)+len(strays) == 0 && (opts.Wary || !putBack) {
		return done, err
	}
	if opts.Wary && putBack {
		return done, fmt.Errorf("%w: %d contents", ErrCopy, len(doomed))
	}
	for what, n := range map[string]int{"contents": len(doomed), "objects in the bucket": len(strays)} {
		if opts.Wary && isMany(n, all) {
			return done, fmt.Errorf("%w: %d %s, of %d contents", ErrMany, n, what, all)
		}
	}
	if opts.DryRun {
		for _, info := range doomed {
			done.add(info)
		}
		done.addStrays(strays)
		return done, nil
	}
	if err := done.remove(ctx, records, contents, doomed); err != nil {
		return done, err
	}
	if err := done.removeStrays(ctx, opts.Comparer, strays); err != nil {
		return done, err
	}
	if putBack { // and an operator, who runs without Wary, confirms that it is the right one
		if err := records.SetNote(ctx, copyNote, nil); err != nil {
			return done, fmt.Errorf("noting that the database is the right one: %w", err)
		}
	}
	return done, nil
}

// isMany says whether n contents are a large share of all.
func isMany(n, all int) bool { return n > fewContents && n > all/10 }

// remove removes contents, unless the metadata has faults.
func (c *Collected) remove(ctx context.Context, records CollectRecords, contents blobs.Store, doomed []blobs.Info) error {
	faults, err := records.Check(ctx, nil)
	if err != nil {
		return fmt.Errorf("checking the metadata: %w", err)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrDoubt, faults[0])
	}
	for _, info := range doomed {
		removed, err := contents.Remove(ctx, info.Ref, func() (bool, error) { return records.Referenced(ctx, info.Ref) })
		if removed {
			c.add(info)
		}
		if err != nil {
			return fmt.Errorf("removing blob %s: %w", info.Ref, err)
		}
	}
	return nil
}

// straysAtOnce is how many strays are deleted together.
const straysAtOnce = 256

func (c *Collected) removeStrays(ctx context.Context, comparer blobs.Comparer, strays []blobs.Difference) error {
	for some := range slices.Chunk(strays, straysAtOnce) {
		removed, err := comparer.RemoveStrays(ctx, some)
		c.addStrays(removed)
		if err != nil {
			return fmt.Errorf("deleting objects that have no content: %w", err)
		}
	}
	return nil
}

func (c *Collected) addStrays(strays []blobs.Difference) {
	for _, stray := range strays {
		c.Strays++
		c.StrayBytes += stray.Size
	}
}

// unneededStrays lists objects that may be deleted from an object store. One with the bytes
// of a content that a record refers to stays unless the content is intact as far as that is
// known: it might be all that is left of it. None may be deleted where the objects of many of
// all contents are missing: blobs.ErrManyLost.
func unneededStrays(ctx context.Context, records CollectRecords, contents blobs.Store, all int, opts CollectOptions) (list []blobs.Difference, err error) {
	if opts.Comparer == nil {
		return nil, nil
	}
	lost := map[blobs.Ref]bool{}
	for d, err := range opts.Comparer.Compare(ctx) {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotCompared, err)
		}
		switch {
		case d.Kind == blobs.Missing, d.Kind == blobs.WrongLength:
			lost[d.Ref] = true
			if n := len(lost); isMany(n, all) || n > maxLost {
				return nil, fmt.Errorf("%w, %d of %d at least: nothing is removed until they are back, or their attachments are deleted. `attachd check` lists them", blobs.ErrManyLost, n, all)
			}
		case d.Kind == blobs.Stray && opts.Now.Sub(d.Modified) >= max(StrayAge, opts.MinAge) && len(list) < maxStrays:
			list = append(list, d)
		}
	}
	needed := func(d blobs.Difference) bool {
		wanted, failed := records.Referenced(ctx, d.Ref)
		err = errors.Join(err, failed)
		info, away := contents.Stat(ctx, d.Ref)
		return wanted && (away != nil || info.Damaged || lost[d.Ref])
	}
	list = slices.DeleteFunc(list, needed)
	if err != nil {
		return nil, fmt.Errorf("looking up who has the contents of strays: %w", err)
	}
	return list, nil
}

func (c *Collected) add(info blobs.Info) {
	c.Contents++
	c.Bytes += info.Size
}

// unwanted lists what may be removed, as far as that is known without blocking uploads.
func unwanted(ctx context.Context, records CollectRecords, contents blobs.Store, opts CollectOptions) (list []blobs.Info, all int, err error) {
	var seen int64
	for info, err := range contents.All(ctx, blobs.Ref{}) {
		if err != nil {
			return nil, 0, fmt.Errorf("listing contents: %w", err)
		}
		all++
		seen += info.Size
		opts.Progress.Call(Progress{Bytes: seen})
		age := opts.Now.Sub(info.Modified)
		if age < opts.MinAge && !(opts.Settled && age < -clockSlack) {
			continue
		}
		wanted, err := records.Referenced(ctx, info.Ref)
		if err != nil {
			return nil, 0, fmt.Errorf("looking up who has blob %s: %w", info.Ref, err)
		}
		if !wanted {
			list = append(list, info)
		}
	}
	return list, all, nil
}
