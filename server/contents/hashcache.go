package contents

import (
	"sync"
	"time"

	"attachd/blobs"
)

const (
	// verifiedFor is how long a hashed content is trusted, if its file is not changed.
	verifiedFor = time.Minute
	// maxVerified is how many contents a generation of the cache has; with two
	// generations, it takes 3 MB in all.
	maxVerified = 10_000
	// settleTime is the default of Options.SettleTime.
	settleTime = 2 * time.Second
)

// hashCache is a cache of the versions of files that were hashed recently, on their way
// in or out. When the young generation is full, it replaces the old one.
type hashCache struct {
	mu         sync.Mutex
	young, old map[blobs.Ref]verdict
}

// verdict records that a file had the right hash.
type verdict struct {
	version blobs.Version
	at      time.Time
}

// TrustRecent lets r skip verifying a content that was hashed within the last minute,
// unless its file was changed since, and caches what is now hashed in full.
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

// rememberKept caches the file that s has become, which was hashed while it was written.
func (s *Spool) rememberKept() {
	files := s.contents.Versioner
	if files == nil {
		return
	}
	if version := files.Kept(s.file); version != (blobs.Version{}) {
		s.contents.hashed.add(s.file.Ref(), version, s.began)
	}
}

// has reports whether this version of a content's file was hashed recently.
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

// add caches the version that a content's file had before it was hashed, and when
// hashing began.
func (c *hashCache) add(ref blobs.Ref, version blobs.Version, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= maxVerified {
		c.young, c.old = map[blobs.Ref]verdict{}, c.young
	}
	c.young[ref] = verdict{version, now}
}
