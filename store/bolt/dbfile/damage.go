package dbfile

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"attachd/store/bolt/pages"
)

// MaxFaults is how many faults are listed; more are counted. A database that is
// beyond hope has one in every record.
const MaxFaults = 1000

// Damage is what is known to be wrong with an open database. Of a bucket whose
// pages do not hang together, nothing is read or written: bbolt may end in a
// loop there. Where a key is damaged, what is not found may be there all the
// same. Where pages are free and used at once, a change could destroy what is
// sound: none is made.
type Damage struct {
	found atomic.Pointer[map[string]pages.Fault] // by sentence; nil while nothing is known
	worst atomic.Pointer[map[string]pages.Fault] // by bucket
	mu    sync.Mutex
	More  int // beyond MaxFaults
}

// add remembers a fault, and returns it as an error.
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
	if len(found) < MaxFaults {
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

// forget is for a database that was made anew, and is sound.
func (d *Damage) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found.Store(nil)
	d.worst.Store(nil)
	d.More = 0
}

// Sentences are the faults that are known.
func (d *Damage) Sentences() []string {
	if found := d.found.Load(); found != nil {
		return slices.Sorted(maps.Keys(*found))
	}
	return nil
}

// Harms says whether a fault may cost an entry, or lead a change astray. Lost
// pages only take up room.
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

// refuses says why a bucket must not be touched.
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

// doubts says why nobody can tell what is not in a bucket.
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
