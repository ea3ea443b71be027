package dbfile

import (
	"context"
	"errors"
	"time"

	"attachd/store"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
)

// coldSize, in bytes, is the largest database that a start verifies completely, in
// about a tenth of a second. Of a larger one, the start verifies the pages above
// the leaves, and the small bucket that names what the log must keep; a goroutine
// verifies the rest once the server runs.
const coldSize = 64 << 20

// verifyPages verifies a database that is being opened. Damage that might make
// bbolt loop or crash is an error; other damage is recorded, and an error when it
// is read.
func (f *File) verifyPages() error {
	err := f.View(func(tx *Tx) error {
		f.large = tx.Size() > coldSize
		format, err := pages.Verify(context.Background(), f.path, tx.Tx, pages.Options{Metas: true, Above: f.large, Whole: schema.Staged}, f.known.remember)
		f.older, f.mixed = format.Older, format.Mixed
		return err
	})
	if err == nil && f.known.refuses(nil) != nil {
		err = damagedFile(f.known.Sentences())
	}
	return err
}

// Verify verifies the whole file as it was last committed, and records the faults.
// rest, when set, is called now and then with the time worked since the last call.
// The file must not be replaced with a copy meanwhile.
func (f *File) Verify(ctx context.Context, rest func(took time.Duration)) (faults *Damage, err error) {
	for range overtakenTries {
		faults = new(Damage)
		err = f.View(func(tx *Tx) error {
			_, err := pages.Verify(ctx, f.path, tx.Tx, pages.Options{Rest: rest}, func(found pages.Fault) {
				faults.remember(found)
				f.known.remember(found)
			})
			return err
		})
		if !errors.Is(err, pages.ErrOvertaken) {
			break
		}
	}
	return faults, err
}

// overtakenTries is how often a verification is restarted when commits overtake it.
const overtakenTries = 100

// Known returns the known damage.
func (f *File) Known() []string { return f.known.Sentences() }

// Refused returns the damage for which a bucket cannot be read, or nil.
func (f *File) Refused(bucket []byte) error { return f.known.refuses(bucket) }

// Unverified says whether the start left part of a large file to a later Verify.
func (f *File) Unverified() bool { return f.large }

func damagedFile(faults []string) error { return &store.DamagedError{Faults: faults} }
