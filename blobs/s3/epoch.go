package s3

import (
	"context"
	"errors"
	"fmt"
	"time"
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
	// SetEpoch notes a claim. ErrRaised where several processes share the metadata, and
	// another has noted one with the same number or a higher one.
	SetEpoch(ctx context.Context, e Epoch) error
	// Outdated notes that the metadata are not the latest: until a person has confirmed them,
	// MayDelete says no.
	Outdated(ctx context.Context) error
}

// ErrRaised means that another process has raised the epoch meanwhile.
var ErrRaised = errors.New("another process has raised the epoch")

// ErrShared means that a copy of the metadata is in use with the same prefix, so that neither
// deletes anything.
var ErrShared = errors.New("two copies of this database, such as a machine and its clone, were started with the same bucket and prefix: neither deletes anything there. Stop the one that is not needed for good, restart the other one, then run `attachd gc` there")

// watchEvery is how often a process looks whether another one has claimed the prefix, beside
// each time that it deletes. A copy deletes nothing any more once that was seen.
const watchEvery = time.Minute

// raise notes an epoch above that of the marker, and that the metadata are not the latest
// where the marker is ahead of them, or two have claimed the prefix: a person has to say then
// which one it belongs to.
func (s *Store) raise(ctx context.Context, found marker) (Epoch, error) {
	if s.Epochs == nil {
		return Epoch{}, nil
	}
	known, err := s.Epochs.Epoch(ctx)
	if err != nil {
		return known, err
	}
	if found.ahead(known) || found.Contested {
		if err := s.Epochs.Outdated(ctx); err != nil {
			return known, err
		}
	} else if known.Token == s.token && known.Number > found.Number {
		return known, nil // by an attempt before this one
	}
	raised := Epoch{max(found.Number, known.Number) + 1, s.token}
	err = s.Epochs.SetEpoch(ctx, raised)
	if errors.Is(err, ErrRaised) {
		return s.raise(ctx, found)
	}
	return raised, err
}

// alone returns an error unless the last claim is that of this process, or of one that shares
// the metadata with it, and nobody has contested it. A process that meets the claim of another
// one contests it in the marker, so that the other one stops to delete, too. It may be the copy:
// which one is, neither knows. Until the next claim, nobody deletes anything.
func (s *Store) alone(ctx context.Context) error {
	if s.Epochs == nil {
		return nil
	}
	found, err := s.lastClaim(ctx)
	mine := found.Token == s.token
	if err == nil && s.Shared {
		mine, err = s.oneOfUs(ctx, found)
	}
	if err != nil || mine && !found.Contested {
		return err
	}
	err = fmt.Errorf("%w; %s there says so", ErrShared, s.Prefix+markerName)
	if found.Contested {
		return err
	}
	found.Contested = true
	if failed := s.take(found, false); failed != nil {
		err = fmt.Errorf("%w. The other one could not be told: %w", err, failed)
	}
	return err
}

// lastClaim reads the marker, which must be that of this installation.
func (s *Store) lastClaim(ctx context.Context) (found marker, err error) {
	err = s.again(ctx, func() error {
		found, err = s.stillOurs(ctx)
		return err
	})
	return found, err
}

// oneOfUs says whether a marker that was found is of a process that shares the metadata: each
// notes its claim there before it writes the marker. One that is behind was written late, and
// is written anew: a copy of the metadata must find it ahead of what it knows.
func (s *Store) oneOfUs(ctx context.Context, found marker) (bool, error) {
	known, err := s.Epochs.Epoch(ctx)
	if err != nil || found.ahead(known) {
		return false, err
	}
	if found.Epoch == known {
		return true, nil
	}
	found.Epoch = known
	if err := s.take(found, false); err != nil {
		return false, err
	}
	if found, err = s.lastClaim(ctx); err == nil {
		known, err = s.Epochs.Epoch(ctx)
	}
	return !found.ahead(known), err
}

// watch notices that another process has claimed the prefix while there is nothing to delete.
// That the store does not answer is noticed by others.
func (s *Store) watch(ctx context.Context) error {
	if s.Epochs == nil || !s.claimed.Load() || within(s.watched.Load(), watchEvery) {
		return nil
	}
	s.watched.Store(time.Now().UnixNano())
	if _, err := s.mayDelete(ctx); errors.Is(err, ErrShared) {
		return err
	}
	return nil
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
