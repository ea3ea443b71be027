package contents

import (
	"sync"
	"time"

	"attachd/blobs"
)

const (
	// verifiedFor is how long a content that was hashed is trusted, as long as its
	// file is not touched.
	verifiedFor = time.Minute
	// maxVerified is how many contents are remembered, and as many of before: 3 MB
	// in all.
	maxVerified = 10_000
	// settleTime is the default of Options.SettleTime.
	settleTime = 2 * time.Second
)

// hashCache is the versions of the files that were hashed lately. When the young
// ones are many they become the old ones, and the old ones are forgotten.
type hashCache struct {
	mu         sync.Mutex
	young, old map[blobs.Ref]verdict
}

// verdict is that a file had the right hash.
type verdict struct {
	version blobs.Version
	at      time.Time
}

// TrustRecent spares r the hash of what was hashed within the last minute, unless
// its file was touched since, and remembers what is hashed in full now.
func (r *Reader) TrustRecent(now time.Time) {
	c, files, ref := &r.contents.hashed, r.contents.Versioner, blobs.Ref(r.a.SHA256)
	if files == nil {
		return
	}
	version := files.Version(r.file)
	if c.has(ref, version, now) {
		r.trusted = func() bool { return files.Version(r.file) == version }
	}
	if version.OlderThan(r.contents.SettleTime) {
		r.remember = func() { c.add(ref, version, now) }
	}
}

// has says whether the file of a content was hashed lately as it is now.
func (c *hashCache) has(ref blobs.Ref, version blobs.Version, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.young[ref]
	if !known {
		last, known = c.old[ref]
	}
	past := now.Sub(last.at)
	return known && last.version == version && past >= 0 && past < verifiedFor
}

// add remembers the version that the file of a content had before it was hashed,
// and when that began.
func (c *hashCache) add(ref blobs.Ref, version blobs.Version, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxVerified {
		c.young, c.old = map[blobs.Ref]verdict{}, c.young
	}
	c.young[ref] = verdict{version, now}
}
