package blobs

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Key distinguishes the objects that have had the bytes of one content. It is random: no
// two objects have the same name, whatever happened to the first. So a deletion that an
// object store carries out late, or twice, can only meet an object that nothing names any
// more.
type Key [8]byte

// NewKey returns a key that no object has.
func NewKey() (k Key) {
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// String writes k in 16 hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// ParseKey reads what String writes.
func ParseKey(s string) (k Key, err error) {
	if len(s) != 2*len(k) {
		return Key{}, fmt.Errorf("the key of an object has %d hexadecimal digits, not %d characters", 2*len(k), len(s))
	}
	if _, err := hex.Decode(k[:], []byte(s)); err != nil || k.String() != s {
		return Key{}, errors.New("the key of an object has hexadecimal digits in lower case")
	}
	return k, nil
}

// Object identifies an object of an object store.
type Object struct {
	Ref Ref
	Key Key
}

// NewObject returns an object for a content that does not exist yet.
func NewObject(ref Ref) Object { return Object{ref, NewKey()} }

// Place is the object in which a content is.
type Place struct {
	Object
	Size    int64     // bytes of the content
	Stored  time.Time // when the object was written, in whole seconds
	Damaged bool      // see Marker
}

// ErrAbandoned means that an object became garbage before it was settled.
var ErrAbandoned = errors.New("the object was given up before it was settled")

// Clocked is a Catalog with a clock of its own, by which it notes when objects were intended and
// became garbage: the clocks of those who share it may be ahead of it.
type Clocked interface {
	// Now returns the time of that clock.
	Now(ctx context.Context) (time.Time, error)
}

// Catalog records in which object each content is, for a backend that keeps contents in
// an object store. An object is
//
//	intended  from before it is written, so that none can exist that is not recorded
//	settled   while it is the place of its content
//	garbage   until it is deleted
//
// and then forgotten. A content has one place at most. All methods may be called from many
// goroutines at once. When one that changes something returns without an error, the change
// is on stable storage.
type Catalog interface {
	// Intend records objects that may be written from now on.
	Intend(ctx context.Context, objects []Object) error
	// Settle makes intended objects, which have been written, the places of their
	// contents. An object in whose place another comes is garbage from then on, and a
	// mark of damage goes with it. All or none: ErrAbandoned when one is not intended any
	// more.
	Settle(ctx context.Context, places []Place) error
	// Discard makes intended objects garbage.
	Discard(ctx context.Context, objects []Object) error
	// Abandon makes all garbage that was intended before the given time.
	Abandon(ctx context.Context, before time.Time) error

	// Place returns where a content is, or ErrNotFound.
	Place(ctx context.Context, ref Ref) (Place, error)
	// Places lists where contents are, in order of Ref, beginning with from.
	Places(ctx context.Context, from Ref) iter.Seq2[Place, error]
	// Adopt makes an object that is not known the place of its content, if that has one. The
	// object in whose place it comes is garbage from then on. An object that is known stays
	// what it is.
	Adopt(ctx context.Context, place Place) error
	// Release makes the place of a content garbage, and says whether it had one.
	Release(ctx context.Context, ref Ref) (bool, error)

	// Mark records whether a content is damaged, across restarts. Where it is in another
	// object meanwhile, nothing changes. ErrNotFound when it is nowhere.
	Mark(ctx context.Context, object Object, damaged bool) error
	// Marked lists the contents that are marked damaged, and Damaged returns how many they
	// are, in O(1).
	Marked() []Ref
	Damaged() int

	// Garbage lists at most limit objects that became garbage before the given time,
	// the first ones first.
	Garbage(ctx context.Context, before time.Time, limit int) ([]Object, error)
	// Forget removes garbage that was deleted from the object store.
	Forget(ctx context.Context, objects []Object) error
	// Knows says whether an object is intended, settled or garbage.
	Knows(ctx context.Context, object Object) (bool, error)
	// Clear forgets all objects, none of which is deleted.
	Clear(ctx context.Context) error
	// Waiting returns how many objects are intended, and how many are garbage. It is O(1).
	Waiting() (intended, garbage int64)
}

// Holder is a Catalog that other processes use, too. Settle holds each content for its
// caller: Release changes nothing until a record of the content has been made in place of
// that hold, or Unhold is called, or the process has ended an hour ago. Nor does it as long as
// a record names the content.
type Holder interface {
	// Unhold ends a hold of each content, once for each time that it is named.
	Unhold(ctx context.Context, refs []Ref) error
}

// InPages lists places for Catalog.Places, each page of which list reads: at most limit places,
// in order, beginning with the bytes of a Ref or with what comes after one. Places that come
// with an error are listed before it.
func InPages(from Ref, limit int, list func(from []byte) ([]Place, error)) iter.Seq2[Place, error] {
	return func(yield func(Place, error) bool) {
		for next := from[:]; ; {
			page, err := list(next)
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
			}
			switch {
			case err != nil:
				yield(Place{}, err)
				return
			case len(page) < limit:
				return
			}
			last := page[len(page)-1].Ref
			next = append(last[:], 0)
		}
	}
}
