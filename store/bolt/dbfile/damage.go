package dbfile

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"attachd/store/backend"
	"attachd/store/bolt/pages"
)

// Damage is the known damage of an open database. A bucket whose pages are not a
// valid tree is neither read nor written: bbolt may end in a loop there. Where a
// key is damaged, an entry that is not found may exist all the same. Where pages
// are both free and in use, a change could destroy intact data: none is made.
type Damage struct {
	found atomic.Pointer[map[string]pages.Fault] // by sentence; nil while none is known
	worst atomic.Pointer[map[string]pages.Fault] // by bucket
	mu    sync.Mutex
	More  int // beyond backend.MaxFaults
}

// add records a fault, and returns it as an error.
func (d *Damage) add(f pages.Fault) error {
	d.remember(f)
	return &DamageError{f.What}
}

func (d *Damage) remember(f pages.Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, worst := map[string]pages.Fault{}, map[string]pages.Fault{}
	if before := d.found.Load(); before != nil {
		if _, known := (*before)[f.What]; known {
			return
		}
		found, worst = maps.Clone(*before), maps.Clone(*d.worst.Load())
	}
	if len(found) < backend.MaxFaults {
		found[f.What] = f
	} else {
		d.More++
	}
	if was, is := worst[f.Bucket]; !is || !f.Entry || was.Entry && was.KeyHolds {
		worst[f.Bucket] = f
	}
	d.worst.Store(&worst)
	d.found.Store(&found)
}

// forget clears all faults, for a database that was rewritten, and is intact.
func (d *Damage) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found.Store(nil)
	d.worst.Store(nil)
	d.More = 0
}

// Sentences returns the known faults.
func (d *Damage) Sentences() []string {
	if found := d.found.Load(); found != nil {
		return slices.Sorted(maps.Keys(*found))
	}
	return nil
}

// Harms says whether a fault may hide an entry, or misdirect a change. Lost pages
// only take up room.
func (d *Damage) Harms() bool {
	worst := d.worst.Load()
	if worst == nil {
		return false
	}
	for bucket := range *worst {
		if bucket != string(pages.Lost) {
			return true
		}
	}
	return false
}

// refuses returns the fault for which a bucket must not be read or written, or nil.
func (d *Damage) refuses(bucket []byte) error {
	worst := d.worst.Load()
	if worst == nil {
		return nil
	}
	if f, is := (*worst)[string(bucket)]; is && !f.Entry {
		return &DamageError{f.What}
	}
	return nil
}

// doubts returns the fault for which an entry that is not found in a bucket may
// exist, or nil.
func (d *Damage) doubts(bucket []byte) error {
	worst := d.worst.Load()
	if worst == nil {
		return nil
	}
	if f, is := (*worst)[string(bucket)]; is && !(f.Entry && f.KeyHolds) {
		return &DamageError{f.What}
	}
	return nil
}
