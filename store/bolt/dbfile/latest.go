package dbfile

import "sync"

// Version is a state of the database: a commit in an open file.
type Version struct {
	db     *handle
	commit uint64
}

// VersionOf returns the state of the open file after a commit.
func (f *File) VersionOf(commit int) Version { return Version{f.current.Load(), uint64(commit)} }

// version returns what transactions read that begin now, and whether that is known and
// the database is whole, as far as is known.
func (f *File) version() (v Version, whole bool) {
	db := f.current.Load()
	v = Version{db, db.last.Load()}
	if f.known.found.Load() != nil || db.unsure.Load() {
		return v, false
	}
	_, err := db.written()
	return v, err == nil
}

// Latest is a cache of what was read since the last commit, of those kinds that nearly
// every request reads. Each commit empties it, so that nobody is served what was
// revoked; while the database is known to be damaged, or it is not known whether a change
// was committed, it is not used.
type Latest[K comparable, V any] struct {
	mu     sync.RWMutex
	of     Version
	values map[K]V
}

// Get returns what Put was given since the last commit.
func (l *Latest[K, V]) Get(f *File, key K) (value V, found bool) {
	now, whole := f.version()
	if !whole {
		return value, false
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.of != now {
		return value, false
	}
	value, found = l.values[key]
	return value, found
}

// Put caches what was read in tx.
func (l *Latest[K, V]) Put(f *File, tx *Tx, key K, value V) {
	now, whole := f.version()
	if !whole || tx.version != now {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of != now || len(l.values) >= cachedRecords {
		l.of, l.values = now, make(map[K]V)
	}
	l.values[key] = value
}
