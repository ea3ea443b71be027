package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/transfer"
)

// Pruned is the result of Prune or Remove.
type Pruned struct {
	Points   int64
	Contents int64 // removed, since no remaining point needs them
	Bytes    int64 // bytes of these
}

// Add adds another result to p.
func (p *Pruned) Add(other Pruned) {
	p.Points += other.Points
	p.Contents += other.Contents
	p.Bytes += other.Bytes
}

var (
	// ErrDamagedPoint means that a restore point is not as it was written.
	ErrDamagedPoint = errors.New("a restore point is damaged")
	// ErrLastPoint means that no whole point would remain.
	ErrLastPoint = errors.New("no whole restore point would be left")
)

// Prune removes old restore points of the archive's installation, and the contents that
// no remaining point needs. It keeps the newest points, until keep of them are whole,
// and the newest point without faults. It removes nothing when a point that remains is
// damaged: an older one may be needed then, and which contents are needed is uncertain.
func (a *Archive) Prune(ctx context.Context, keep int, open Open) (Pruned, error) {
	return a.prune(ctx, keep, open, false)
}

// prune is Prune. With makeRoom, used before an addition, it keeps the contents that no
// point refers to: an interrupted addition copied them, and the next one continues from
// there.
func (a *Archive) prune(ctx context.Context, keep int, open Open, makeRoom bool) (Pruned, error) {
	names, err := a.PointNames()
	if err != nil || makeRoom && len(names) <= keep {
		return Pruned{}, err
	}
	s, err := a.appraise(ctx, names, open)
	if err != nil {
		return Pruned{}, err
	}
	old, err := s.old(ctx, names, keep)
	if err != nil {
		return Pruned{}, err
	}
	if s.doubt != nil {
		return Pruned{}, s.doubt
	}
	if makeRoom {
		return s.remove(ctx, old, s.theirs(ctx, old))
	}
	return s.remove(ctx, old, func(blobs.Ref) bool { return true })
}

// Remove removes restore points by name, and the contents that no remaining point
// needs. It returns ErrLastPoint, and removes nothing, when an installation would be
// left without a whole point, unless evenLast. It returns ErrDamagedPoint when the
// points were removed, but not the contents, since another point is damaged.
func (a *Archive) Remove(ctx context.Context, names []string, evenLast bool, open Open) (Pruned, error) {
	all, err := a.PointNames()
	if err != nil {
		return Pruned{}, err
	}
	for _, name := range names {
		if !slices.Contains(all, name) {
			_, err := a.Find(name)
			return Pruned{}, err
		}
	}
	s, err := a.appraise(ctx, all, open)
	if err != nil {
		return Pruned{}, err
	}
	left, last := map[uuid.UUID]int{}, map[uuid.UUID]string{}
	for _, name := range all {
		v, err := s.point(ctx, name)
		if err != nil {
			return Pruned{}, err
		}
		goes := slices.Contains(names, name)
		switch {
		case goes && v.whole:
			last[v.Installation] = name
		case !goes && v.whole:
			left[v.Installation]++
		}
		if !goes {
			s.stays(v)
		}
	}
	for whose, name := range last {
		if left[whose] == 0 && !evenLast {
			return Pruned{}, fmt.Errorf("%w if %s were removed", ErrLastPoint, name)
		}
	}
	done, err := s.remove(ctx, names, func(blobs.Ref) bool { return s.doubt == nil })
	return done, errors.Join(err, s.doubt)
}

// appraisal determines which points of an archive are whole, and which contents are
// needed.
type appraisal struct {
	*Archive
	read   Open
	whose  uuid.UUID // the installation to which the archive belongs
	mixed  bool      // there are points of other installations
	stock  map[blobs.Ref]int64
	needed map[blobs.Ref]struct{} // by the points that remain
	doubt  error                  // why needed may be incomplete
}

// damagedSize stands for the size of a damaged content in an appraisal's stock.
const damagedSize = -1

func (a *Archive) appraise(ctx context.Context, names []string, open Open) (*appraisal, error) {
	s := &appraisal{Archive: a, read: open, stock: map[blobs.Ref]int64{}, needed: map[blobs.Ref]struct{}{}}
	var err error
	if s.whose, err = a.Installation(); err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := a.Find(name)
		s.mixed = s.mixed || err == nil && p.Installation != s.whose
	}
	for info, err := range a.pool.All(ctx, blobs.Ref{}) {
		if err != nil {
			return nil, fmt.Errorf("listing contents: %w", err)
		}
		s.stock[info.Ref] = info.Size
		if info.Damaged {
			s.stock[info.Ref] = damagedSize
		}
	}
	return s, nil
}

// verdict is the result of appraising a restore point.
type verdict struct {
	Point
	needs  []transfer.Need
	damage string // why its records cannot be read; empty when they can
	whole  bool   // all that was readable when it was made can be restored
}

// lacking reports whether contents were missing already when the point was made.
func (v verdict) lacking() bool { return len(v.Faults) > 0 }

// point appraises a restore point. Contents are not read: Verify does that, and marks
// damaged ones.
func (s *appraisal) point(ctx context.Context, name string) (verdict, error) {
	p, err := s.Find(name)
	v := verdict{Point: p}
	if err != nil {
		v.damage = err.Error()
		return v, nil
	}
	faults, err := s.spoiled(ctx, p)
	if err != nil {
		return v, err
	}
	for _, name := range pointFiles {
		if faults[name] != "" {
			v.damage = strings.TrimSuffix(faults[name], ".")
			return v, nil
		}
	}
	rotten := p.DatabaseFaults() > 0
	err = s.withRecords(s.read, p, func(records Records) (err error) {
		rotten = rotten || len(records.Damage()) > 0
		v.needs, _, err = transfer.Needs(ctx, records)
		return err
	})
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	if err != nil {
		v.damage = fmt.Sprintf("the records of %s cannot be read: %v", name, err)
		return v, nil
	}
	v.whole = !rotten && !slices.ContainsFunc(v.needs, func(n transfer.Need) bool {
		size, there := s.stock[n.Ref]
		return (!there || size != n.Size) && !p.remembers(n.Ref.String())
	})
	return v, nil
}

// stays marks the contents of a point that remains as needed.
func (s *appraisal) stays(v verdict) {
	for _, n := range v.needs {
		s.needed[n.Ref] = struct{}{}
	}
	if v.damage != "" && s.doubt == nil {
		s.doubt = fmt.Errorf("%w: %s: %s", ErrDamagedPoint, v.Name, v.damage)
	}
}

// ours reports whether a point may be removed because of its age. One that cannot be
// read may belong to any installation.
func (s *appraisal) ours(p Point, err error) bool {
	if err != nil {
		return !s.mixed
	}
	return p.Installation == s.whose
}

// old lists the points that can be removed while keep whole ones remain.
func (s *appraisal) old(ctx context.Context, names []string, keep int) (old []string, err error) {
	whole, perfect := 0, false
	for _, name := range slices.Backward(names) {
		p, unreadable := s.Find(name)
		ours := s.ours(p, unreadable)
		if ours && whole >= keep && perfect {
			old = append(old, name)
			continue
		}
		v, err := s.point(ctx, name)
		if err != nil {
			return nil, err
		}
		good := v.whole && ours
		if ours && whole >= keep && (!good || v.lacking()) {
			old = append(old, name)
			continue
		}
		if good {
			whole++
			perfect = perfect || !v.lacking()
		}
		s.stays(v)
	}
	return old, nil
}

// theirs returns a predicate for the contents that these points refer to.
func (s *appraisal) theirs(ctx context.Context, names []string) func(blobs.Ref) bool {
	set := map[blobs.Ref]struct{}{}
	for _, name := range names {
		v, err := s.point(ctx, name)
		if err != nil {
			break // time is short, and contents left out merely remain
		}
		for _, n := range v.needs {
			set[n.Ref] = struct{}{}
		}
	}
	return func(ref blobs.Ref) bool {
		_, is := set[ref]
		return is
	}
}

// remove removes points, and those contents for which some is true and that no
// remaining point needs.
func (s *appraisal) remove(ctx context.Context, names []string, some func(blobs.Ref) bool) (done Pruned, err error) {
	for _, name := range names {
		if err := s.removePoint(name); err != nil {
			return done, err
		}
		done.Points++
	}
	for ref, size := range s.stock {
		if _, needed := s.needed[ref]; needed || !some(ref) {
			continue
		}
		removed, err := s.pool.Remove(ctx, ref, func() (bool, error) { return false, nil })
		if err != nil {
			return done, fmt.Errorf("removing blob %s: %w", ref, err)
		}
		if removed {
			done.Contents++
			done.Bytes += max(0, size)
		}
	}
	return done, nil
}

// removePoint takes the point's name away first, so that a point with a name is always
// whole.
func (a *Archive) removePoint(name string) error {
	gone := tempDir + "/" + name
	if err := a.root.Rename(pointsDir+"/"+name, gone); err != nil {
		return err
	}
	if err := a.syncDir(pointsDir); err != nil {
		return err
	}
	return a.root.RemoveAll(gone)
}
