package server

import (
	"errors"

	"attachd/blobs"
	"attachd/store"
)

// Abilities are what a storage can do beyond the promises that every storage
// keeps. Those that it lacks are nil, and what needs them is refused with
// notWithThisStorage, or left out.
type Abilities struct {
	Stager      store.Stager      // small contents get their files later, in batches; with a Batcher only
	Snapshotter store.Snapshotter // backups of the metadata
	Compacter   store.Compacter
	Verifier    store.Verifier // the scrub looks at the metadata too
	Batcher     blobs.Batcher
	Versioner   blobs.Versioner                // a file that was hashed just now is not hashed again
	Marker      blobs.Marker                   // damage is remembered
	Watched     []interface{ InPlace() error } // store.Watched and blobs.Watched
}

// AbilitiesOf finds out what these backends can do.
func AbilitiesOf(records store.Store, contents blobs.Store) Abilities {
	var a Abilities
	a.Stager, _ = records.(store.Stager)
	a.Snapshotter, _ = records.(store.Snapshotter)
	a.Compacter, _ = records.(store.Compacter)
	a.Verifier, _ = records.(store.Verifier)
	a.Batcher, _ = contents.(blobs.Batcher)
	a.Versioner, _ = contents.(blobs.Versioner)
	a.Marker, _ = contents.(blobs.Marker)
	if files, ok := records.(store.Watched); ok {
		a.Watched = append(a.Watched, files)
	}
	if files, ok := contents.(blobs.Watched); ok {
		a.Watched = append(a.Watched, files)
	}
	return a
}

// Damage gives the faults of the metadata that are known, a sentence for each.
func (a Abilities) Damage() []string {
	if a.Verifier == nil {
		return nil
	}
	return a.Verifier.Damage()
}

// InPlace fails when files below the backends are not those that were opened.
func (a Abilities) InPlace() (err error) {
	for _, files := range a.Watched {
		err = errors.Join(err, files.InPlace())
	}
	return err
}
