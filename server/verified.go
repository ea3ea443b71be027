package server

import (
	"sync"
	"time"

	"attachd/blobs"
)

const (
	// A content that was hashed is not hashed again for so long, as long as its
	// file is not touched.
	verifiedFor = time.Minute
	// So many are remembered at most, and as many of before: 2 MB in all.
	maxVerified = 10_000
	// A file that was changed less than this ago could be changed again without
	// looking so: file systems keep time in steps.
	steadyAfter = 2 * time.Second
)

// verified remembers which files were hashed lately, and how they were then.
// When the young ones are many they become the old ones, and the old ones are
// forgotten.
type verified struct {
	mu         sync.Mutex
	young, old map[blobs.Ref]verdict
	steady     time.Duration // how old the last change of a file must be
}

// verdict is that a file had the right hash.
type verdict struct {
	version blobs.Version
	at      time.Time
}

// has says whether the file of a content was hashed lately as it is now.
func (v *verified) has(ref blobs.Ref, version blobs.Version, now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, known := v.young[ref]
	if !known {
		last, known = v.old[ref]
	}
	past := now.Sub(last.at)
	return known && last.version == version && past >= 0 && past < verifiedFor
}

// add is called when the file of a content was hashed, with how it was before.
func (v *verified) add(ref blobs.Ref, version blobs.Version, now time.Time) {
	if !version.OlderThan(v.steady) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.young == nil || len(v.young) >= maxVerified {
		v.young, v.old = map[blobs.Ref]verdict{}, v.young
	}
	v.young[ref] = verdict{version, now}
}
