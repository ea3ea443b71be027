package upkeep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"attachd/blobs"
	"attachd/store"
)

// Source is what restore points are made of.
type Source interface {
	// Snapshot writes a copy of the metadata as it is at one moment. From
	// before that moment until release, every content that the copy needs is
	// kept; should that end sooner, so does the context held, which ends with
	// ctx too.
	Snapshot(ctx context.Context, w io.Writer) (held context.Context, release func(), err error)
	// Content gives the bytes that are stored under ref, whatever they are.
	// blobs.ErrNotFound when there are none, blobs.ErrDamaged when they are
	// known to be wrong.
	Content(ctx context.Context, ref blobs.Ref) (io.ReadCloser, error)
}

// AddOptions say what a new restore point is made with.
type AddOptions struct {
	Now      time.Time
	Version  string // of attachd
	Secret   []byte // secret.key of the data directory
	Format   []byte // FORMAT of it
	Open     Open
	Progress Progress
}

// Added is a new restore point, and what it took.
type Added struct {
	Point
	NewContents int64 // that no earlier point had
	NewBytes    int64 // in them
}

// Add makes a restore point. Contents that the archive has, judging by their
// length, are not copied again; those that are copied are hashed. What cannot
// be had of the source's contents is among the point's faults. When Add fails
// or the process ends, there is no new point, and the contents that were
// copied stay for the next.
func (a *Archive) Add(ctx context.Context, from Source, opts AddOptions) (Added, error) {
	temp := a.path(tempDir, pointsDir)
	if err := a.makeFolder(temp); err != nil {
		return Added{}, err
	}
	n := &addition{Archive: a, AddOptions: opts, from: from, temp: temp}
	n.Point = Point{Made: opts.Now.UTC().Truncate(time.Second), Version: opts.Version, Files: map[string]string{}, Faults: []Fault{}}
	err := n.make(ctx)
	if err != nil {
		// Otherwise the next who opens the archive removes it.
		err = errors.Join(err, os.RemoveAll(temp))
	}
	return n.Added, err
}

// addition is a restore point that is being made.
type addition struct {
	*Archive
	AddOptions
	Added
	from Source
	temp string // its folder for now
	done int64  // bytes of contents that are seen to
}

func (n *addition) make(ctx context.Context) error {
	var held context.Context
	var release func()
	err := n.file(databaseFile, func(w io.Writer) (err error) {
		held, release, err = n.from.Snapshot(ctx, w)
		return err
	})
	if release != nil {
		defer release()
	}
	if err != nil {
		return fmt.Errorf("copying the metadata: %w", err)
	}
	if err := n.gather(held); err != nil {
		if held.Err() != nil {
			return context.Cause(held)
		}
		return err
	}
	return n.finish()
}

// file writes a file of the point.
func (n *addition) file(name string, fill func(io.Writer) error) (err error) {
	n.Files[name], err = n.create(n.path(tempDir, pointsDir, name), fill)
	return err
}

// gather copies the contents that the archive lacks.
func (n *addition) gather(ctx context.Context) error {
	records, err := n.Open(n.path(tempDir, pointsDir, databaseFile))
	if err != nil {
		return fmt.Errorf("opening the copy of the metadata: %w", err)
	}
	return errors.Join(n.gatherFor(ctx, records), records.Close())
}

func (n *addition) gatherFor(ctx context.Context, records store.Store) error {
	wanted, attachments, err := needs(ctx, records)
	if err != nil {
		return err
	}
	n.Attachments, n.Contents = attachments, int64(len(wanted))
	for _, need := range wanted {
		n.Bytes += need.size
	}
	lost := map[blobs.Ref]string{}
	for _, need := range wanted {
		why, err := n.have(ctx, records, need)
		if err != nil {
			return fmt.Errorf("copying blob %s: %w", need.ref, err)
		}
		if why != "" {
			lost[need.ref] = why
		}
	}
	faults, err := whose(ctx, records, lost)
	n.Faults = append(n.Faults, faults...)
	return err
}

// have sees to it that the archive has a content, or says why it cannot.
func (n *addition) have(ctx context.Context, records store.Store, need need) (lost string, err error) {
	begun := n.done
	defer func() {
		n.done = begun + need.size
		n.Progress.tell(n.done, n.Bytes)
	}()
	info, err := n.pool.Stat(ctx, need.ref)
	if err == nil && !info.Damaged && info.Size == need.size {
		return "", nil
	}
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return "", err
	}
	lost, err = n.fetch(ctx, records, need)
	var cut unreadable
	if errors.As(err, &cut) { // is it the content, or the way to it?
		n.done = begun
		lost, err = n.fetch(ctx, records, need)
	}
	if errors.As(err, &cut) {
		return cut.sentence(), nil
	}
	if err == nil && lost == "" {
		n.NewContents++
		n.NewBytes += need.size
	}
	return lost, err
}

func (n *addition) fetch(ctx context.Context, records store.Store, need need) (lost string, err error) {
	content, err := n.from.Content(ctx, need.ref)
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) {
		// What waited for its file when the copy was made may have gone with
		// its record before it had one.
		waiting, noneWaits := records.PendingContent(ctx, need.ref)
		switch {
		case noneWaits == nil:
			content, err = io.NopCloser(bytes.NewReader(waiting)), nil
		case !errors.Is(noneWaits, store.ErrNotFound):
			return "", noneWaits
		}
	}
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return "The content is missing.", nil
	case errors.Is(err, blobs.ErrDamaged):
		return "The content is damaged.", nil
	case err != nil:
		return "", err
	}
	defer content.Close() // only read
	return keepAs(ctx, n.pool, need, &counted{content, ctx, func(read int) {
		n.done += int64(read)
		n.Progress.tell(n.done, n.Bytes)
	}})
}

// finish writes what else belongs to the point and gives it its name.
func (n *addition) finish() error {
	for name, content := range map[string][]byte{secretFile: n.Secret, dataFormatFile: n.Format} {
		err := n.file(name, func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		})
		if err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(n.Point, "", "  ")
	if err != nil {
		return err
	}
	if err := n.write(n.path(tempDir, pointsDir, pointFile), append(raw, '\n')); err != nil {
		return err
	}
	if err := syncDir(n.temp); err != nil {
		return err
	}
	if n.Name, err = n.nextName(n.Made); err != nil {
		return err
	}
	if err := os.Rename(n.temp, n.path(pointsDir, n.Name)); err != nil {
		return err
	}
	return errors.Join(syncDir(n.path(pointsDir)), syncDir(n.path(tempDir)))
}

// Pruned is what Prune removed.
type Pruned struct {
	Points   int64
	Contents int64 // that only those points had
	Bytes    int64 // in them
}

// Prune removes all but the newest restore points, and the contents that no
// point needs any more. It removes nothing when a point that stays is damaged:
// an older one may be wanted then, and which contents are needed is in doubt.
func (a *Archive) Prune(ctx context.Context, keep int, open Open) (Pruned, error) {
	var done Pruned
	names, err := a.PointNames()
	if err != nil {
		return done, err
	}
	spare := names[:max(0, len(names)-keep)]
	needed, err := a.needed(ctx, names[len(spare):], open)
	if err != nil {
		return done, err
	}
	for _, name := range spare {
		if err := a.removePoint(name); err != nil {
			return done, err
		}
		done.Points++
	}
	for info, err := range a.pool.All(ctx, blobs.Ref{}) {
		if err != nil {
			return done, fmt.Errorf("listing contents: %w", err)
		}
		if _, wanted := needed[info.Ref]; wanted {
			continue
		}
		removed, err := a.pool.Remove(ctx, info.Ref, func() (bool, error) { return false, nil })
		if err != nil {
			return done, fmt.Errorf("removing blob %s: %w", info.Ref, err)
		}
		if removed {
			done.Contents++
			done.Bytes += info.Size
		}
	}
	return done, nil
}

// ErrDamagedPoint means that a restore point is not as it was written.
var ErrDamagedPoint = errors.New("a restore point is damaged")

// needed are all the contents that points need.
func (a *Archive) needed(ctx context.Context, names []string, open Open) (map[blobs.Ref]int64, error) {
	all := map[blobs.Ref]int64{}
	for _, name := range names {
		p, err := a.Find(name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamagedPoint, err)
		}
		faults, err := a.spoiled(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, what := range faults {
			return nil, fmt.Errorf("%w: %s", ErrDamagedPoint, what)
		}
		err = a.withRecords(open, p, func(records store.Store) error {
			return eachRecord(ctx, records, func(r store.Attachment) { all[r.SHA256] = r.Size })
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// removePoint takes the point's name away first, so that one with a name is
// whole.
func (a *Archive) removePoint(name string) error {
	gone := a.path(tempDir, name)
	if err := os.Rename(a.path(pointsDir, name), gone); err != nil {
		return err
	}
	if err := syncDir(a.path(pointsDir)); err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
