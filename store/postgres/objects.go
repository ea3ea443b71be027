package postgres

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"attachd/blobs"
)

// objects is what a Store has in memory of the catalog of contents.
type objects struct {
	mu                sync.Mutex // guards all below
	intended, garbage int64
	marked            map[blobs.Ref]struct{}
	changes           int // that have begun or ended here
	holds             map[blobs.Ref]*hold
}

// hold is what this process holds of a content.
type hold struct {
	kept int         // calls of Settle of which Unhold is still to come
	keys []blobs.Key // of the rows of the database that are still to go, one for each at most
}

// counting makes a change, and counts what it has added.
func (o *objects) counting(change func() (intended, garbage int64, err error)) error {
	o.touch(0, 0)
	intended, garbage, err := change()
	if err != nil {
		intended, garbage = 0, 0 // where it was made all the same, the next count shows it
	}
	o.touch(intended, garbage)
	return err
}

func (o *objects) touch(intended, garbage int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes++
	o.intended += intended
	o.garbage += garbage
}

// settled notes the holds of a Settle, and that nothing it has settled is marked.
func (o *objects) settled(places []blobs.Place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes++
	for _, p := range places {
		delete(o.marked, p.Ref)
		of := o.holds[p.Ref]
		if of == nil {
			of = new(hold)
			o.holds[p.Ref] = of
		}
		of.kept++
		of.keys = append(of.keys, p.Key)
	}
}

func (o *objects) take(ref blobs.Ref) (key []byte, giveBack func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	of := o.holds[ref]
	if of == nil || len(of.keys) == 0 {
		return nil, func() {}
	}
	taken := of.keys[0]
	of.keys = of.keys[1:]
	return taken[:], func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		of.keys = append(of.keys, taken)
	}
}

// unhold ends a hold of each content, and returns those that nobody needs any more.
func (o *objects) unhold(refs []blobs.Ref) (left []blobs.Object) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, ref := range refs {
		of := o.holds[ref]
		if of == nil {
			continue
		}
		if of.kept--; len(of.keys) > of.kept {
			left = append(left, blobs.Object{Ref: ref, Key: of.keys[0]})
			of.keys = of.keys[1:]
		}
		if of.kept == 0 {
			delete(o.holds, ref)
		}
	}
	return left
}

func (o *objects) mark(ref blobs.Ref, damaged bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes++
	if damaged {
		o.marked[ref] = struct{}{}
	} else {
		delete(o.marked, ref)
	}
}

// Marked implements blobs.Catalog. What others have marked is in it a second later.
func (s *Store) Marked() []blobs.Ref {
	s.objects.mu.Lock()
	defer s.objects.mu.Unlock()
	return slices.Collect(maps.Keys(s.objects.marked))
}

// Damaged implements blobs.Catalog.
func (s *Store) Damaged() int {
	s.objects.mu.Lock()
	defer s.objects.mu.Unlock()
	return len(s.objects.marked)
}

// Waiting implements blobs.Catalog. What others do is counted a second later.
func (s *Store) Waiting() (intended, garbage int64) {
	s.objects.mu.Lock()
	defer s.objects.mu.Unlock()
	return s.objects.intended, s.objects.garbage
}

const (
	// countEach is how often objects are counted at most.
	countEach = time.Second
	// countShare is the part of the time, as one of so many, that counting may take.
	countShare = 20
	// countTries is how often objects are counted anew because something was changed here
	// meanwhile: whoever changes much cannot tell the difference.
	countTries = 3
)

// keepCounting counts objects now and then until Close.
func (s *Store) keepCounting() {
	failures := s.newFailures()
	for pause := countEach; ; {
		select {
		case <-s.life.Done():
			return
		case <-time.After(pause):
		}
		began := time.Now()
		failures.try("counting objects", s.countObjects)
		pause = max(countEach, countShare*time.Since(began))
	}
}

// countObjects brings what is in memory up to date.
func (s *Store) countObjects(ctx context.Context) error {
	for try := 1; ; try++ {
		s.objects.mu.Lock()
		changes := s.objects.changes
		s.objects.mu.Unlock()
		var intended, garbage int64
		var marked [][]byte
		err := s.row(ctx, `select
			(select count(*) from attachd.uploads where not settled),
			(select count(*) from attachd.garbage),
			array(select sha256 from attachd.contents where damaged)`).Scan(&intended, &garbage, &marked)
		if err != nil {
			return err
		}
		if s.objects.counted(intended, garbage, marked, changes, try == countTries) {
			return nil
		}
	}
}

// counted takes what the database has said, unless something was changed here since then.
func (o *objects) counted(intended, garbage int64, marked [][]byte, changes int, anyway bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.changes != changes && !anyway {
		return false
	}
	o.intended, o.garbage, o.marked = intended, garbage, make(map[blobs.Ref]struct{}, len(marked))
	for _, ref := range marked {
		o.marked[blobs.Ref(ref)] = struct{}{}
	}
	return true
}
