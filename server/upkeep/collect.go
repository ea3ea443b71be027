package upkeep

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attachd/blobs"
	"attachd/store"
)

// MinAge is how old a content should be before it is collected: older than the longest
// upload takes.
const MinAge = time.Hour

// ErrDoubt means that the store does not know for sure which contents are referenced.
var ErrDoubt = errors.New("the metadata has faults: nothing is removed until they are mended")

// ErrMany means that a large share would have been removed at once, and nothing was.
var ErrMany = errors.New("nothing refers to many of the contents: see that this is the right database, then run `attachd gc`")

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

// isCopy reports whether the database is a restored snapshot that nobody has confirmed
// yet.
func isCopy(ctx context.Context, records store.Notes) (bool, error) {
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
	Progress ProgressFunc
}

// Collected is what Collect removed, or would remove in a dry run.
type Collected struct {
	Contents int64 `json:"contents"`
	Bytes    int64 `json:"bytes"`
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
	if err != nil || len(doomed) == 0 {
		return done, err
	}
	putBack, err := isCopy(ctx, records)
	if err != nil {
		return done, err
	}
	if opts.Wary && putBack {
		return done, fmt.Errorf("%w: %d contents", ErrCopy, len(doomed))
	}
	if opts.Wary && len(doomed) > fewContents && len(doomed) > all/10 {
		return done, fmt.Errorf("%w: %d of %d contents", ErrMany, len(doomed), all)
	}
	if opts.DryRun {
		for _, info := range doomed {
			done.add(info)
		}
		return done, nil
	}
	faults, err := records.Check(ctx, nil)
	if err != nil {
		return done, fmt.Errorf("checking the metadata: %w", err)
	}
	if len(faults) > 0 {
		return done, fmt.Errorf("%w: %s", ErrDoubt, faults[0])
	}
	for _, info := range doomed {
		removed, err := contents.Remove(ctx, info.Ref, func() (bool, error) { return records.Referenced(ctx, info.Ref) })
		if removed {
			done.add(info)
		}
		if err != nil {
			return done, fmt.Errorf("removing blob %s: %w", info.Ref, err)
		}
	}
	if putBack { // and an operator, who runs without Wary, confirms that it is the right one
		if err := records.SetNote(ctx, copyNote, nil); err != nil {
			return done, fmt.Errorf("noting that the database is the right one: %w", err)
		}
	}
	return done, nil
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
