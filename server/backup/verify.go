package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"attachd/blobs"
	"attachd/server/transfer"
	"attachd/server/upkeep"
	"attachd/store"
)

// VerifyOptions configure Verify.
type VerifyOptions struct {
	Point    string // its name; empty for all
	Open     Open
	Progress upkeep.ProgressFunc
}

// Verified is the result of Verify.
type Verified struct {
	Points   int64
	Contents int64 // that the points need, each counted once
	Bytes    int64 // bytes of these
	Faults   []PointFault
}

// PointFault is a fault of a restore point.
type PointFault struct {
	Point string // its name
	upkeep.Fault
}

func (f PointFault) String() string { return "restore point " + f.Point + ": " + f.Fault.String() }

// Verify reads all that restore points consist of and compares it with what was
// written. A damaged content is marked where that is possible, so that the next backup
// copies it again.
func (a *Archive) Verify(ctx context.Context, opts VerifyOptions) (Verified, error) {
	v := &verification{Archive: a, VerifyOptions: opts, needed: map[blobs.Ref]int64{}, lost: map[blobs.Ref]string{}}
	names := []string{opts.Point}
	if opts.Point == "" {
		var err error
		if names, err = a.PointNames(); err != nil {
			return v.Verified, err
		}
	}
	for _, part := range []func() error{
		func() error { return v.openPoints(ctx, names) },
		func() error { return v.readContents(ctx) },
		func() error { return v.tellWhose(ctx) },
	} {
		if err := part(); err != nil {
			return v.Verified, err
		}
	}
	return v.Verified, nil
}

type verification struct {
	*Archive
	VerifyOptions
	Verified
	readable []Point // whose records can be read
	needed   map[blobs.Ref]int64
	lost     map[blobs.Ref]string
}

// openPoints verifies the points' own files, and collects the contents that they need.
func (v *verification) openPoints(ctx context.Context, names []string) error {
	for _, name := range names {
		p, err := v.Find(name)
		if err != nil && p.Name == "" {
			return err // there is none of that name
		}
		v.Points++
		if err != nil {
			v.Faults = append(v.Faults, PointFault{p.Name, upkeep.Fault{What: fmt.Sprintf("%v.", err)}})
			continue
		}
		if err := v.openPoint(ctx, p); err != nil {
			return err
		}
	}
	for _, size := range v.needed {
		v.Bytes += size
	}
	v.Contents = int64(len(v.needed))
	return nil
}

func (v *verification) openPoint(ctx context.Context, p Point) error {
	faults, err := v.spoiled(ctx, p)
	if err != nil {
		return err
	}
	for _, name := range pointFiles {
		if what := faults[name]; what != "" {
			v.Faults = append(v.Faults, PointFault{p.Name, upkeep.Fault{What: what}})
		}
	}
	if len(faults) > 0 {
		return nil
	}
	err = v.withRecords(v.Open, p, func(records Records) error {
		faults, err := records.Check(ctx, nil)
		if err != nil {
			return err
		}
		for _, what := range faults {
			v.Faults = append(v.Faults, PointFault{p.Name, upkeep.Fault{What: what}})
		}
		return transfer.EachRecord(ctx, records, func(r store.Attachment) { v.needed[r.SHA256] = r.Size })
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		v.Faults = append(v.Faults, PointFault{p.Name, upkeep.Fault{What: fmt.Sprintf("Its records cannot be read: %v.", err)}})
		return nil
	}
	v.readable = append(v.readable, p)
	return nil
}

func (v *verification) readContents(ctx context.Context) error {
	refs := slices.SortedFunc(maps.Keys(v.needed), func(one, other blobs.Ref) int { return bytes.Compare(one[:], other[:]) })
	done := upkeep.Progress{AllBytes: v.Bytes, AllContents: v.Contents}
	for _, ref := range refs {
		n := transfer.Need{Ref: ref, Size: v.needed[ref]}
		begun := done.Bytes
		lost, err := v.readContent(ctx, n, func(read int) {
			done.Bytes += int64(read)
			v.Progress.Call(done)
		})
		if err != nil {
			return err
		}
		if lost != "" {
			v.lost[ref] = lost
		}
		done.Bytes = begun + n.Size
		done.Contents++
		v.Progress.Call(done)
	}
	return nil
}

// readContent describes what is wrong with a content. One that is marked damaged may
// have been repaired, or marked wrongly; what cannot be read is not marked.
func (v *verification) readContent(ctx context.Context, n transfer.Need, tell func(int)) (lost string, err error) {
	info, err := v.pool.Stat(ctx, n.Ref)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, blobs.ErrNotFound):
		return upkeep.Missing, nil
	case err != nil:
		return fmt.Sprintf("The content cannot be looked at: %v.", err), nil
	}
	_, why, err := upkeep.VerifyContent(ctx, v.pool, v.pool, info, func(content io.Reader) io.Reader { return &transfer.Counted{Reader: content, Ctx: ctx, Tell: tell} })
	switch {
	case err != nil:
		return "", err
	case info.Size != n.Size:
		return upkeep.WrongLength(info.Size, n.Size), nil
	case why != nil:
		return why.Why, nil
	}
	return "", nil
}

// tellWhose lists the attachments of each point whose contents are lost.
func (v *verification) tellWhose(ctx context.Context) error {
	for _, p := range v.readable {
		err := v.withRecords(v.Open, p, func(records Records) error {
			faults, err := transfer.Whose(ctx, records, v.lost)
			for _, fault := range faults {
				if p.remembers(fault.Blob) {
					fault.What += " It was so when the restore point was made."
				}
				v.Faults = append(v.Faults, PointFault{p.Name, fault})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// remembers reports whether the point records that a content could not be copied.
func (p Point) remembers(blob string) bool {
	return slices.ContainsFunc(p.Faults, func(f upkeep.Fault) bool { return f.Blob == blob })
}
