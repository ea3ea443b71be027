package s3

import (
	"context"
	"time"

	"attachd/blobs"
)

// Adopt finds contents whose objects are gone, while the bucket has others with the same
// bytes that the catalog does not know, and makes these their places; it returns how many.
// That is so after an earlier copy of the database was put back: what was uploaded again
// since then is in other objects, and the former ones were deleted.
func (s *Store) Adopt(ctx context.Context) (found int, err error) {
	lost := map[blobs.Ref]int64{} // sizes
	strays := map[blobs.Ref][]blobs.Difference{}
	for d, err := range s.Compare(ctx) {
		switch {
		case err != nil:
			return 0, err
		case d.Kind == blobs.Missing, d.Kind == blobs.WrongLength:
			lost[d.Ref] = d.Want
		case d.Kind == blobs.Stray:
			strays[d.Ref] = append(strays[d.Ref], d)
		}
	}
	for ref, size := range lost {
		for _, d := range strays[ref] {
			if d.Size != size {
				continue
			}
			if err := s.adopt(ctx, d); err != nil {
				return found, err
			}
			found++
			break
		}
	}
	return found, nil
}

// adopt makes an object the place of its content. The store has checked its bytes when it
// was written.
func (s *Store) adopt(ctx context.Context, d blobs.Difference) error {
	o, is := s.object(d.Name)
	if !is {
		return nil // a probe
	}
	release := s.locks.Shared(o.Ref)
	defer release()
	return s.Catalog.Adopt(ctx, blobs.Place{Object: o, Size: d.Size, Stored: d.Modified.Truncate(time.Second)})
}

// adoptOnce is Adopt until it has succeeded.
func (s *Store) adoptOnce(ctx context.Context) error {
	if s.adopted.Load() {
		return nil
	}
	_, err := s.Adopt(ctx)
	s.adopted.Store(err == nil)
	return err
}
