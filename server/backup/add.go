package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/durable"
	"attachd/server/transfer"
	"attachd/server/upkeep"
)

// Source is an installation from which a restore point is made.
type Source interface {
	// Snapshot writes a consistent copy of the metadata. From before the copy until
	// release, the source keeps every content that the copy refers to; if it stops
	// doing so earlier, the context held ends, as it does when ctx ends.
	Snapshot(ctx context.Context, w io.Writer) (held context.Context, release func(), err error)
	// Content returns the stored bytes of ref, even if they are wrong. Errors:
	// blobs.ErrNotFound when there are none, blobs.ErrDamaged when they are known to be
	// wrong, ErrUnreadable when the storage cannot read them now.
	Content(ctx context.Context, ref blobs.Ref) (io.ReadCloser, error)
}

// ErrUnreadable means that a source cannot read the bytes of a content at the moment.
// The next backup tries again.
var ErrUnreadable = errors.New("the server's storage fails or does not answer. The next backup tries again")

// maxUnreadable is how many contents in a row that cannot be read at the moment end an
// addition: an object store that does not answer takes seconds to say so for each content,
// and a point without contents would be taken for a backup.
const maxUnreadable = 8

// ErrStorageFails means that no point was made, since the source's storage fails or does
// not answer.
var ErrStorageFails = errors.New("no restore point was made, since the server's storage fails or does not answer")

// AddOptions describe a new restore point.
type AddOptions struct {
	Now      time.Time
	Version  string // of attachd
	Secret   []byte // secret.key of the data directory
	Format   []byte // FORMAT of the data directory
	Open     Open
	Progress upkeep.ProgressFunc
	// Installation is the id of the installation; zero where its server is of an
	// earlier version. Add returns ErrForeign if the archive belongs to another.
	Installation uuid.UUID
	// Keep, unless it is 0, is how many restore points remain when Add first removes
	// old ones, as Prune does: the medium may have no room for another one.
	Keep int
}

// Added is the result of Add.
type Added struct {
	Point
	NewContents int64  // copied, since no earlier point had them
	NewBytes    int64  // bytes of these
	Pruned      Pruned // removed to make room
}

// Add makes a restore point. Contents that the archive has, judging by their length,
// are not copied again; those that are copied are hashed. Contents that the source
// cannot provide are recorded among the point's faults; where one after the other cannot
// be read, Add returns ErrStorageFails. When Add fails or the process
// ends, there is no new point, and the contents copied so far stay for the next.
func (a *Archive) Add(ctx context.Context, from Source, opts AddOptions) (Added, error) {
	bound, err := a.Installation()
	if err != nil {
		return Added{}, err
	}
	if bound != uuid.Nil && opts.Installation != uuid.Nil && bound != opts.Installation {
		return Added{}, a.foreign(bound, opts.Installation)
	}
	if err := a.makeFolder(newPoint); err != nil {
		return Added{}, err
	}
	n := &addition{Archive: a, AddOptions: opts, from: from, bound: bound}
	n.Point = Point{Made: opts.Now.UTC().Truncate(time.Second), Version: opts.Version, Installation: opts.Installation,
		Files: map[string]string{}, Sizes: map[string]int64{}, Faults: []upkeep.Fault{}}
	err = n.make(ctx)
	if err != nil {
		// Otherwise the next process that opens the archive removes it.
		err = errors.Join(err, a.root.RemoveAll(newPoint))
	}
	return n.Added, err
}

// newPoint is the folder of the point under construction.
const newPoint = tempDir + "/" + pointsDir

// addition is a restore point under construction.
type addition struct {
	*Archive
	AddOptions
	Added
	from  Source
	bound uuid.UUID // the installation to which the archive belongs
}

func (n *addition) make(ctx context.Context) error {
	if n.bound != uuid.Nil && n.bound == n.AddOptions.Installation {
		if err := n.makeRoom(ctx); err != nil {
			return err
		}
	}
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

// makeRoom removes the points beyond those to keep, and the contents that only they
// had. What an interrupted addition has copied stays. A damaged point is reported by
// the Prune after the addition.
func (n *addition) makeRoom(ctx context.Context) error {
	if n.Keep == 0 {
		return nil
	}
	removed, err := n.prune(ctx, n.Keep, n.Open, true)
	n.Pruned = removed
	if errors.Is(err, ErrDamagedPoint) {
		return nil
	}
	return err
}

// file writes a file of the point.
func (n *addition) file(name string, fill func(io.Writer) error) (err error) {
	n.Files[name], n.Sizes[name], err = n.create(newPoint+"/"+name, fill)
	return err
}

// gather copies the contents that the archive lacks.
func (n *addition) gather(ctx context.Context) error {
	records, err := n.Open(n.path(newPoint, databaseFile))
	if err != nil {
		return fmt.Errorf("opening the copy of the metadata: %w", err)
	}
	return errors.Join(n.gatherFor(ctx, records), records.Close())
}

func (n *addition) gatherFor(ctx context.Context, records Records) error {
	if n.bound == uuid.Nil || n.bound != n.AddOptions.Installation {
		if err := n.adopt(ctx, records); err != nil {
			return err
		}
	}
	wanted, attachments, err := transfer.Needs(ctx, records)
	if err != nil {
		return err
	}
	if err := n.checkRecords(ctx, records); err != nil {
		return err
	}
	n.Attachments, n.Contents = attachments, int64(len(wanted))
	for _, need := range wanted {
		n.Bytes += need.Size
	}
	t := &transfer.Transfer{To: n.pool, Progress: n.Progress, Done: upkeep.Progress{AllBytes: n.Bytes}, Open: n.fetch, GiveUp: maxUnreadable}
	err = t.Run(ctx, wanted)
	if errors.Is(err, transfer.ErrNothingReadable) {
		return fmt.Errorf("%w: %d contents in a row could not be read, so look whether the storage works, and run the command again: what was copied stays", ErrStorageFails, maxUnreadable)
	}
	if err != nil {
		return err
	}
	n.NewContents, n.NewBytes = t.Contents, t.Bytes
	faults, err := transfer.Whose(ctx, records, t.Lost)
	n.Faults = append(n.Faults, faults...)
	return err
}

// checkRecords verifies the database of the point, and records its faults in the point.
func (n *addition) checkRecords(ctx context.Context, records Records) error {
	faults, err := records.Check(ctx, nil)
	if err != nil {
		return fmt.Errorf("checking the copy of the metadata: %w", err)
	}
	for _, what := range faults {
		n.Faults = append(n.Faults, upkeep.Fault{What: what})
	}
	return nil
}

func (n *addition) fetch(ctx context.Context, need transfer.Need) (content io.ReadCloser, lost string, err error) {
	content, err = n.from.Content(ctx, need.Ref)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return nil, upkeep.Missing, nil
	case errors.Is(err, blobs.ErrDamaged):
		return nil, transfer.DamagedContent, nil
	case errors.Is(err, ErrUnreadable):
		return nil, "", transfer.Unreadable{Cause: err}
	}
	return content, "", err
}

// finish writes the other files of the point and gives it its name. The archive is
// bound to the installation before it has a point.
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
	if err := n.writePoint(newPoint+"/"+pointFile, n.Point); err != nil {
		return err
	}
	if err := n.syncDir(newPoint); err != nil {
		return err
	}
	if here := n.AddOptions.Installation; here != uuid.Nil {
		if err := n.bind(here); err != nil {
			return err
		}
	}
	var err error
	if n.Name, err = n.nextName(n.Made); err != nil {
		return err
	}
	if err := n.root.Rename(newPoint, pointsDir+"/"+n.Name); err != nil {
		return err
	}
	return errors.Join(n.syncDir(pointsDir), n.syncDir(tempDir))
}

func (a *Archive) writePoint(name string, p Point) error {
	raw, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return a.write(name, append(raw, '\n'))
}

// rewrite rewrites the description of a point.
func (a *Archive) rewrite(p Point) error {
	temp, folder := tempDir+"/"+pointFile, pointsDir+"/"+p.Name
	if err := errors.Join(durable.Removed(a.root.Remove(temp)), a.writePoint(temp, p)); err != nil {
		return err
	}
	if err := a.root.Rename(temp, folder+"/"+pointFile); err != nil {
		return err
	}
	return a.syncDir(folder)
}
