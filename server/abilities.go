package server

import (
	"errors"

	"attachd/blobs"
	"attachd/store"
)

// Abilities are the optional features of a storage. One that the storage lacks is nil,
// and what needs it is refused with notWithThisStorage, or left out.
type Abilities struct {
	Stager      store.Stager      // stages small contents, whose files are written later, in batches; with a Batcher only
	Snapshotter store.Snapshotter // backups of the metadata
	Compacter   store.Compacter
	Verifier    store.Verifier // lets the scrub verify the metadata too
	Inquirer    store.Inquirer // spares questions one by one
	Shared      store.Shared   // other processes, the replicas of this server, use the store too
	Batcher     blobs.Batcher
	Versioner   blobs.Versioner                // spares a second hash of a file that was hashed just now
	Marker      blobs.Marker                   // remembers which contents are damaged
	Linker      blobs.Linker                   // downloads by URL of the storage itself
	Sweeper     blobs.Sweeper                  // deletes what was removed only later
	Comparer    blobs.Comparer                 // compares what is in an object store with what should be
	Watched     []interface{ InPlace() error } // store.Watched and blobs.Watched
}

// AbilitiesOf returns the optional features that these backends have.
func AbilitiesOf(records store.Store, contents blobs.Store) Abilities {
	var a Abilities
	a.Stager, _ = records.(store.Stager)
	a.Snapshotter, _ = records.(store.Snapshotter)
	a.Compacter, _ = records.(store.Compacter)
	a.Verifier, _ = records.(store.Verifier)
	a.Inquirer, _ = records.(store.Inquirer)
	a.Shared, _ = records.(store.Shared)
	a.Batcher, _ = contents.(blobs.Batcher)
	a.Versioner, _ = contents.(blobs.Versioner)
	a.Marker, _ = contents.(blobs.Marker)
	a.Linker, _ = contents.(blobs.Linker)
	a.Sweeper, _ = contents.(blobs.Sweeper)
	a.Comparer, _ = contents.(blobs.Comparer)
	if files, ok := records.(store.Watched); ok {
		a.Watched = append(a.Watched, files)
	}
	if files, ok := contents.(blobs.Watched); ok {
		a.Watched = append(a.Watched, files)
	}
	return a
}

// Damage returns the known faults of the metadata, a sentence for each.
func (a Abilities) Damage() []string {
	if a.Verifier == nil {
		return nil
	}
	return a.Verifier.Damage()
}

// InPlace fails when files of the backends were removed or replaced since they were
// opened.
func (a Abilities) InPlace() (err error) {
	for _, files := range a.Watched {
		err = errors.Join(err, files.InPlace())
	}
	return err
}
