package bolt

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// fault is something that is wrong with the file.
type fault struct {
	bucket   string // empty: of the file as a whole
	entry    bool   // of one entry; otherwise of how the pages of the bucket hang together
	keyHolds bool   // of an entry: its key is what it was
	what     string // a sentence
}

// damage is what is known to be wrong with an open database. Of a bucket whose
// pages do not hang together, nothing is read or written: bbolt may end in a
// loop there. Where a key is damaged, what is not found may be there all the
// same. Where pages are free and used at once, a change could destroy what is
// sound: none is made.
type damage struct {
	found atomic.Pointer[map[string]fault] // by sentence; nil while nothing is known
	worst atomic.Pointer[map[string]fault] // by bucket
	mu    sync.Mutex
	more  int // beyond maxFaults
}

func entryFault(bucket, key []byte, keyHolds bool) fault {
	// Strings, so that the names that callers verify need not be on the heap.
	return fault{bucket: string(bucket), entry: true, keyHolds: keyHolds,
		what: fmt.Sprintf("In the bucket %q, the entry %x is not what was written.", string(bucket), string(key))}
}

// add remembers a fault, and gives it as an error.
func (d *damage) add(f fault) error {
	d.remember(f)
	return &notAsWritten{f.what}
}

func (d *damage) remember(f fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found, worst := map[string]fault{}, map[string]fault{}
	if before := d.found.Load(); before != nil {
		if _, known := (*before)[f.what]; known {
			return
		}
		found, worst = maps.Clone(*before), maps.Clone(*d.worst.Load())
	}
	if len(found) < maxFaults {
		found[f.what] = f
	} else {
		d.more++
	}
	if was, is := worst[f.bucket]; !is || !f.entry || was.entry && was.keyHolds {
		worst[f.bucket] = f
	}
	d.worst.Store(&worst)
	d.found.Store(&found)
}

// forget is for a database that was made anew, and is sound.
func (d *damage) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.found.Store(nil)
	d.worst.Store(nil)
	d.more = 0
}

// sentences are the faults that are known.
func (d *damage) sentences() []string {
	if found := d.found.Load(); found != nil {
		return slices.Sorted(maps.Keys(*found))
	}
	return nil
}

// harms says whether a fault may cost an entry, or lead a change astray. Lost
// pages only take up room.
func (d *damage) harms() bool {
	worst := d.worst.Load()
	if worst == nil {
		return false
	}
	for bucket := range *worst {
		if bucket != string(bucketLost) {
			return true
		}
	}
	return false
}

// refuses says why a bucket must not be touched.
func (d *damage) refuses(bucket []byte) error {
	worst := d.worst.Load()
	if worst == nil {
		return nil
	}
	if f, is := (*worst)[string(bucket)]; is && !f.entry {
		return &notAsWritten{f.what}
	}
	return nil
}

// doubts says why nobody can tell what is not in a bucket.
func (d *damage) doubts(bucket []byte) error {
	worst := d.worst.Load()
	if worst == nil {
		return nil
	}
	if f, is := (*worst)[string(bucket)]; is && !(f.entry && f.keyHolds) {
		return &notAsWritten{f.what}
	}
	return nil
}
