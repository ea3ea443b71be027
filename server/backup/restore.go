package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/durable"
	"attachd/server/transfer"
	"attachd/server/upkeep"
	"attachd/store/portable"
)

// Target is a data directory into which a restore point is restored. It is empty, or
// was left by an interrupted restore.
type Target struct {
	Dir string
	Own func(*os.File) error // called with every file and folder that is created
}

// Database is an empty database, with the storage of its contents, into which a restore point
// is restored. It may have contents that an interrupted restore has left.
type Database struct {
	Records interface {
		portable.Source
		portable.Target
	}
	Contents interface {
		transfer.Target
		blobs.Marker
	}
}

// RestoreOptions configure a restore.
type RestoreOptions struct {
	Point    Point
	Open     Open
	Progress upkeep.ProgressFunc
	// DespiteDamage restores what is intact of a damaged point, provided that its
	// database is.
	DespiteDamage bool
}

var (
	// ErrDamaged means that a restore point cannot be restored as it was.
	ErrDamaged = errors.New("the backup is damaged; what was restored stays unfinished, and no server starts with it")
	// ErrBeyondHope means that a point cannot be restored even in part. It is joined
	// with ErrDamaged.
	ErrBeyondHope = errors.New("nothing can be restored without the point's database")
)

// Restore restores a restore point into a data directory. Every content is hashed on
// the way. The database is written last, so that no server starts before everything
// else is there. When something is damaged that was not so when the point was made,
// Restore continues, to report all damage, and then fails with ErrDamaged: there is no
// database then. What the point records as missing is among the faults, and everything
// else is restored; with DespiteDamage, the same applies to whatever is damaged, except
// for the database itself. Damaged files of the point beside the database are not
// restored at all: FORMAT and the keys that sign links are made anew when the directory
// is opened.
//
// The report is about the restored data directory, with the faults of the point.
func (a *Archive) Restore(ctx context.Context, to Target, opts RestoreOptions) (upkeep.Report, error) {
	r := &restoration{Archive: a, RestoreOptions: opts}
	err := r.run(ctx, func(records Records) (err error) {
		files, err := disk.Open(to.Dir, disk.Options{Own: to.Own})
		if err != nil {
			return err
		}
		r.contents = files
		return errors.Join(r.fill(ctx, records), files.Close())
	})
	if err != nil {
		return r.Report, err
	}
	for _, name := range []string{secretFile, dataFormatFile, databaseFile} {
		if r.damaged[name] != "" {
			continue
		}
		if err := r.putFile(to, name); err != nil {
			return r.Report, err
		}
	}
	return r.Report, nil
}

// RestoreInto is Restore for a database: its records come last, all or none, and are compared
// with those of the point. The caller brings the keys that sign links, and lets servers start.
func (a *Archive) RestoreInto(ctx context.Context, to Database, opts RestoreOptions) (upkeep.Report, error) {
	r := &restoration{Archive: a, RestoreOptions: opts, contents: to.Contents}
	err := r.run(ctx, func(records Records) error {
		if err := r.fill(ctx, records); err != nil {
			return err
		}
		_, err := portable.Copy(ctx, records, to.Records, func(row portable.Row) bool {
			if note, is := row.(portable.Note); is {
				return !upkeep.StaysBehind(note.Name, false)
			}
			return !portable.IsOfCatalog(row)
		})
		if err != nil {
			return fmt.Errorf("restoring the records: %w", err)
		}
		return nil
	})
	return r.Report, err
}

type restoration struct {
	*Archive
	RestoreOptions
	upkeep.Report
	damaged  map[string]string // files of the point, with a sentence for each
	contents interface {
		transfer.Target
		blobs.Marker
	}
}

// run looks at the files of the point, and restores its contents and records with restore.
func (r *restoration) run(ctx context.Context, restore func(Records) error) (err error) {
	r.Faults = []upkeep.Fault{}
	if r.damaged, err = r.spoiled(ctx, r.Point); err != nil {
		return err
	}
	var spoiled []upkeep.Fault
	for _, name := range pointFiles {
		if what := r.damaged[name]; what != "" {
			spoiled = append(spoiled, upkeep.Fault{What: what})
		}
	}
	switch {
	case r.damaged[databaseFile] != "":
		err = fmt.Errorf("%w: %w", ErrDamaged, ErrBeyondHope)
	case len(spoiled) > 0 && !r.DespiteDamage:
		err = ErrDamaged
	default:
		err = r.withRecords(r.Open, r.Point, restore)
	}
	r.Faults = append(spoiled, r.Faults...)
	return err
}

// fill copies every content, and checks them against the records.
func (r *restoration) fill(ctx context.Context, records Records) error {
	wanted, _, err := transfer.Needs(ctx, records)
	if err != nil {
		return err
	}
	t := &transfer.Transfer{To: r.contents, Progress: r.Progress, Done: upkeep.Progress{AllBytes: r.Point.Bytes}, Open: r.saved}
	if err := t.Run(ctx, wanted); err != nil {
		return err
	}
	if r.Faults, err = transfer.Whose(ctx, records, t.Lost); err != nil {
		return err
	}
	if r.refused() {
		return ErrDamaged
	}
	if r.Report, err = upkeep.Check(ctx, records, r.contents, upkeep.CheckOptions{Marker: r.contents}); err != nil {
		return err
	}
	if r.refused() {
		return ErrDamaged
	}
	return nil
}

// refused reports whether there are faults that were not accepted: those that the point
// does not record.
func (r *restoration) refused() bool {
	if r.DespiteDamage {
		return false
	}
	for _, fault := range r.Faults {
		if fault.Blob == "" || !r.Point.remembers(fault.Blob) {
			return true
		}
	}
	return false
}

// saved opens a content of the archive, or returns why it cannot.
func (r *restoration) saved(ctx context.Context, n transfer.Need) (content io.ReadCloser, lost string, err error) {
	content, err = r.pool.Open(ctx, n.Ref, n.Size)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return nil, upkeep.Missing, nil
	case err != nil && ctx.Err() == nil:
		return nil, fmt.Sprintf("The content cannot be opened: %v.", err), nil
	}
	return content, "", err
}

// putFile copies a file of the point, under a temporary name until it is complete.
func (r *restoration) putFile(into Target, name string) (err error) {
	from, err := openRegular(r.root, pointsDir+"/"+r.Point.Name+"/"+name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close() // only read
	to, err := os.OpenRoot(into.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	temp := tempDir + "/" + name
	if err := durable.Removed(to.Remove(temp)); err != nil {
		return err
	}
	sum, _, err := createFile(to, temp, into.Own, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil {
		return err
	}
	if sum != r.Point.Files[name] {
		return fmt.Errorf("%s changed while it was restored", from.Name())
	}
	if err := to.Rename(temp, name); err != nil {
		return err
	}
	dir, err := to.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFolder(dir), dir.Close())
}
