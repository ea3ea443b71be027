package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"attachd/blobs"
)

const (
	// probeFolder is where the objects of Probe are, below the prefix.
	probeFolder = "probe/"
	// suspectsAtOnce is how many contents that a listing lacks are asked for together.
	suspectsAtOnce = 256
	// lately is how long ago an object was written that a store may show late.
	lately = time.Hour
)

// Compare implements blobs.Comparer. A listing only raises suspicions: that an object is
// missing, or has another length, is what the store says when it is asked for that object,
// and that nothing names one is what the catalog says. So a listing that is incomplete, out
// of order or old costs requests, but never makes a finding that is wrong.
func (s *Store) Compare(ctx context.Context) iter.Seq2[blobs.Difference, error] {
	return func(yield func(blobs.Difference, error) bool) {
		c := &comparison{Store: s, yield: func(d blobs.Difference) error {
			if !yield(d, nil) {
				return errEnough
			}
			return nil
		}}
		if err := c.run(ctx); err != nil && err != errEnough {
			yield(blobs.Difference{}, err)
		}
	}
}

// errEnough means that the caller wants no more.
var errEnough = errors.New("enough")

// comparison is one run of Compare.
type comparison struct {
	*Store
	yield func(blobs.Difference) error

	next     func() (blobs.Place, error, bool)
	place    blobs.Place // the catalog's, up to which the listing has come
	listed   bool        // the listing has its object
	more     bool        // place is one
	suspects []blobs.Place
}

func (c *comparison) run(ctx context.Context) error {
	if err := c.Claim(ctx); err != nil {
		return err
	}
	ours := func() error { _, err := c.stillOurs(ctx); return err }
	if err := c.again(ctx, ours); err != nil {
		return err
	}
	next, stop := iter.Pull2(c.Catalog.Places(ctx, blobs.Ref{}))
	defer stop()
	c.next = next
	if err := c.advance(ctx); err != nil {
		return err
	}
	for listed, err := range c.list(ctx) {
		if err != nil {
			return fmt.Errorf("listing the bucket: %w", err)
		}
		if err := c.look(ctx, listed); err != nil {
			return err
		}
	}
	for c.more {
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
	if err := c.confirm(ctx); err != nil {
		return err
	}
	return c.again(ctx, ours)
}

// stillOurs returns the marker, and an error unless it is that of this installation now. A
// proxy that answers 404 for everything, or a bucket that was emptied or is another one, says
// nothing of any content.
func (s *Store) stillOurs(ctx context.Context) (found marker, err error) {
	ours, err := s.ours(ctx)
	if err != nil {
		return found, err
	}
	found, err = readMarker(ctx, s.Bucket, s.Prefix)
	switch {
	case errors.Is(err, blobs.ErrNotFound):
		return found, fmt.Errorf("the bucket has no %s, which attachd wrote there: it was emptied or is another one, or something else answers in place of the object store", s.Prefix+markerName)
	case err != nil:
		return found, err
	}
	return found, s.judge(found, ours)
}

// readMarker reads the marker below a prefix.
func readMarker(ctx context.Context, bucket Bucket, prefix string) (found marker, err error) {
	body, size, err := bucket.Get(ctx, prefix+markerName, 0, 0)
	if err != nil {
		return found, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, min(size, 4096)))
	if err = errors.Join(err, body.Close()); err != nil {
		return found, err
	}
	if err := json.Unmarshal(raw, &found); err != nil {
		return found, fmt.Errorf("%s in the bucket is not what attachd wrote: %w", prefix+markerName, err)
	}
	return found, nil
}

// list lists all below the prefix, page by page. It fails where the store would have it go
// round in circles.
func (s *Store) list(ctx context.Context) iter.Seq2[Listed, error] {
	return func(yield func(Listed, error) bool) {
		seen := map[string]struct{}{}
		for after := ""; ; {
			var page []Listed
			var next string
			err := s.again(ctx, func() (err error) {
				page, next, err = s.Bucket.List(ctx, s.Prefix, after)
				return err
			})
			if _, again := seen[next]; err == nil && again {
				err = errors.New("the object store repeats a page of its list, and does not come to its end")
			}
			if err != nil {
				yield(Listed{}, err)
				return
			}
			for _, o := range page {
				if !yield(o, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			seen[next] = struct{}{}
			after = next
		}
	}
}

// look looks at an object that is listed.
func (c *comparison) look(ctx context.Context, listed Listed) error {
	o, is := c.object(listed.Name)
	if !is {
		return c.lookAtOther(listed)
	}
	for c.more && bytes.Compare(c.place.Ref[:], o.Ref[:]) < 0 {
		if err := c.pass(ctx); err != nil {
			return err
		}
	}
	place := c.place
	if !c.more || place.Object != o {
		var err error
		if place, err = c.Catalog.Place(ctx, o.Ref); err != nil && !errors.Is(err, blobs.ErrNotFound) {
			return err
		}
	}
	if place.Object == o {
		c.listed = c.listed || c.place.Object == o
		if listed.Size != place.Size {
			return c.suspect(ctx, place)
		}
		return nil
	}
	known, err := c.Catalog.Knows(ctx, o)
	if err != nil || known {
		return err
	}
	return c.yield(blobs.Difference{Kind: blobs.Stray, Name: listed.Name, Ref: o.Ref, Size: listed.Size, Modified: listed.Modified})
}

// lookAtOther looks at an object that has no content.
func (c *comparison) lookAtOther(listed Listed) error {
	kind := blobs.Foreign
	switch {
	case listed.Name == c.Prefix+markerName:
		return nil
	case c.isProbe(listed.Name):
		kind = blobs.Stray
	}
	return c.yield(blobs.Difference{Kind: kind, Name: listed.Name, Size: listed.Size, Modified: listed.Modified})
}

// isProbe says whether a name is that of an object that Probe writes.
func (s *Store) isProbe(name string) bool {
	key, is := strings.CutPrefix(name, s.Prefix+probeFolder)
	_, err := blobs.ParseKey(key)
	return is && err == nil
}

// pass leaves the content behind up to which the listing has come.
func (c *comparison) pass(ctx context.Context) error {
	if !c.listed {
		if err := c.suspect(ctx, c.place); err != nil {
			return err
		}
	}
	return c.advance(ctx)
}

func (c *comparison) advance(ctx context.Context) (err error) {
	c.place, err, c.more = c.next()
	c.listed = false
	if err != nil {
		return fmt.Errorf("listing contents: %w", err)
	}
	return ctx.Err()
}

func (c *comparison) suspect(ctx context.Context, place blobs.Place) error {
	c.suspects = append(c.suspects, place)
	if len(c.suspects) < suspectsAtOnce {
		return nil
	}
	return c.confirm(ctx)
}

// confirm asks the store for the objects of the suspects.
func (c *comparison) confirm(ctx context.Context) error {
	found := make([]*blobs.Difference, len(c.suspects))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i, place := range c.suspects {
		group.Go(func() (err error) {
			found[i], err = c.lost(groupCtx, place)
			return err
		})
	}
	c.suspects = c.suspects[:0]
	if err := group.Wait(); err != nil {
		return err
	}
	for _, d := range found {
		if d == nil {
			continue
		}
		if err := c.yield(*d); err != nil {
			return err
		}
	}
	return nil
}

// lost returns what is wrong with the object of a content; nil when nothing is, or when the
// content is elsewhere by now.
func (s *Store) lost(ctx context.Context, place blobs.Place) (*blobs.Difference, error) {
	size, err := s.length(ctx, place)
	missing := errors.Is(err, blobs.ErrNotFound)
	if err != nil && !missing {
		return nil, fmt.Errorf("looking for blob %s in the bucket: %w", place.Ref, err)
	}
	now, err := s.Catalog.Place(ctx, place.Ref)
	if err != nil && !errors.Is(err, blobs.ErrNotFound) {
		return nil, err
	}
	if now.Object != place.Object || !missing && size == place.Size {
		return nil, nil
	}
	kind := blobs.WrongLength
	if missing {
		kind = blobs.Missing
	}
	return &blobs.Difference{Kind: kind, Name: s.name(place.Object), Ref: place.Ref, Size: size, Want: place.Size, Lost: &content{ctx: ctx, store: s, place: place, lost: true}}, nil
}

// length returns the length of the object of a content.
func (s *Store) length(ctx context.Context, place blobs.Place) (size int64, err error) {
	stat := func() (err error) {
		size, _, err = s.Bucket.Stat(ctx, s.name(place.Object))
		return err
	}
	err = s.again(ctx, stat)
	if !errors.Is(err, blobs.ErrNotFound) || time.Since(place.Stored) > lately {
		return size, err
	}
	if wait(ctx, missingPause); ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return size, s.again(ctx, stat)
}

// RemoveStrays implements blobs.Comparer. What the catalog knows stays.
func (s *Store) RemoveStrays(ctx context.Context, strays []blobs.Difference) (removed []blobs.Difference, err error) {
	if err := s.Claim(ctx); err != nil {
		return nil, err
	}
	if err := s.alone(ctx); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for _, stray := range strays {
		group.Go(func() error {
			done, err := s.removeStray(ctx, stray.Name)
			if err == nil && done {
				mu.Lock()
				defer mu.Unlock()
				removed = append(removed, stray)
			}
			return err
		})
	}
	err = group.Wait()
	return removed, err
}

func (s *Store) removeStray(ctx context.Context, name string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if o, is := s.object(name); is {
		if known, err := s.Catalog.Knows(ctx, o); err != nil || known {
			return false, err
		}
	} else if !s.isProbe(name) {
		return false, fmt.Errorf("%s is no object of attachd", name)
	}
	if err := s.again(ctx, func() error { return s.Bucket.Delete(ctx, name) }); err != nil {
		return false, fmt.Errorf("deleting %s: %w", name, err)
	}
	return true, nil
}
