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
	// So many are remembered at most, and as many of before: 3 MB in all.
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

// look is called before a file is sent. It spares the file the hash that it had
// lately; else, remember is to be called when it was hashed.
func (v *verified) look(files blobs.Versioner, file *verifier, now time.Time) (remember func()) {
	if files == nil {
		return func() {}
	}
	version := files.Version(file.file)
	if v.has(file.want, version, now) {
		file.spared = func() bool { return files.Version(file.file) == version }
	}
	steady := version.OlderThan(v.steady)
	return func() {
		if steady {
			v.add(file.want, version, now)
		}
	}
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

// add takes down that the file of a content was hashed, how it was before, and
// when that began.
func (v *verified) add(ref blobs.Ref, version blobs.Version, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.young == nil || len(v.young) >= maxVerified {
		v.young, v.old = map[blobs.Ref]verdict{}, v.young
	}
	v.young[ref] = verdict{version, now}
}
