package s3

import (
	"context"
	"errors"
	"fmt"
)

// Epoch identifies a claim of a prefix, in the marker and in the metadata. A claim raises it
// in the metadata first, then in the marker. So a marker is ahead only of metadata that are
// not the latest: an earlier copy was put back, or two copies of them are in use.
type Epoch struct {
	Number int64  `json:"epoch,omitempty"` // 0 before there were any
	Token  string `json:"token,omitempty"` // random, of the process that made the claim
}

// ahead says whether metadata with a known epoch are not the latest.
func (e Epoch) ahead(known Epoch) bool {
	return e.Number > known.Number || e.Number == known.Number && e.Token != known.Token
}

// Epochs is the metadata in which claims are noted.
type Epochs interface {
	Epoch(ctx context.Context) (Epoch, error)
	SetEpoch(ctx context.Context, e Epoch) error
	// Outdated notes that the metadata are not the latest: until a person has confirmed them,
	// MayDelete says no.
	Outdated(ctx context.Context) error
}

// ErrShared means that a copy of the metadata is in use with the same prefix, so that nothing
// is deleted.
var ErrShared = errors.New("a copy of this database, such as a clone of the machine, was started with the same bucket and prefix: nothing is deleted there. Stop the copy for good, restart this attachd, then run `attachd gc`")

// raise notes an epoch above that of the marker, and that the metadata are not the latest
// where the marker is ahead of them.
func (s *Store) raise(ctx context.Context, found Epoch) (Epoch, error) {
	if s.Epochs == nil {
		return Epoch{}, nil
	}
	known, err := s.Epochs.Epoch(ctx)
	if err != nil {
		return known, err
	}
	if found.ahead(known) {
		if err := s.Epochs.Outdated(ctx); err != nil {
			return known, err
		}
	} else if known.Token == s.token && known.Number > found.Number {
		return known, nil // by an attempt before this one
	}
	raised := Epoch{max(found.Number, known.Number) + 1, s.token}
	return raised, s.Epochs.SetEpoch(ctx, raised)
}

// alone returns an error unless the last claim is that of this process.
func (s *Store) alone(ctx context.Context) error {
	if s.Epochs == nil {
		return nil
	}
	var found marker
	err := s.again(ctx, func() (err error) {
		found, err = s.stillOurs(ctx)
		return err
	})
	if err == nil && found.Token != s.token {
		err = fmt.Errorf("%w; %s there says so", ErrShared, s.Prefix+markerName)
	}
	return err
}

// mayDelete says whether garbage may be deleted now. Only the first of a row of ErrShared is
// returned.
func (s *Store) mayDelete(ctx context.Context) (bool, error) {
	if err := s.Claim(ctx); err != nil {
		return false, err
	}
	err := s.alone(ctx)
	shared := errors.Is(err, ErrShared)
	if s.shared.Swap(shared) && shared {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return s.latest(ctx)
}
