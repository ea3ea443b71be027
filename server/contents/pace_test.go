package contents_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/contents"
	"attachd/store"
)

// device is a disk that takes perBatch for each batch and perContent for each content of it.
type device struct {
	perBatch, perContent time.Duration
	room                 int64 // bytes that may be staged
}

var ordinary = device{perBatch: 20 * time.Millisecond, perContent: 100 * time.Microsecond, room: 256 << 20}

// stage is a store and its blobs in memory, kept on such a device.
type stage struct {
	*testing.T
	store.Stager
	blobs.Store
	device
	all   *contents.Store
	began time.Time

	mu      sync.Mutex
	staged  []store.StagedContent // in order of id
	bytes   int64
	batches []flushed // without the empty ones
	failure error     // of each batch: of the metadata if it is a store.ErrUnavailable, else of the disk
	astray  bool      // see store.Staged
}

// flushed is one batch.
type flushed struct {
	from, to time.Duration // since the test began
	contents int
}

func newStage(t *testing.T, on device) *stage {
	s := &stage{T: t, device: on, began: time.Now()}
	s.all = contents.New(nil, s, contents.Options{Stager: s, Batcher: s, StageBelow: 64 << 10, Log: slog.New(slog.DiscardHandler)})
	return s
}

// pacing runs a test on a fake clock and an ordinary device; RunFlush goes on until the test ends.
func pacing(t *testing.T, test func(s *stage)) {
	pacingOn(t, ordinary, test)
}

func pacingOn(t *testing.T, on device, test func(s *stage)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, on)
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.all.RunFlush(ctx)
			if err := s.all.FlushLast(context.WithoutCancel(ctx)); err != nil {
				t.Error(err)
			}
		}()
		test(s)
		s.fail(nil)
		end()
		<-ended
		if len(s.staged) > 0 {
			t.Errorf("%d contents are staged after the end", len(s.staged))
		}
	})
}

func (s *stage) MayStage() bool { return true }

func (s *stage) Staged() store.Staged {
	s.mu.Lock()
	defer s.mu.Unlock()
	return store.Staged{Contents: int64(len(s.staged)), Bytes: s.bytes, Room: s.bytes, MaxRoom: s.room, Astray: s.astray}
}

func (s *stage) CreateStaged(_ context.Context, a store.Attachment, content, _ []byte, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.staged = append(s.staged, store.StagedContent{ID: a.ID, SHA256: a.SHA256, Size: a.Size, Content: bytes.Clone(content)})
	s.bytes += int64(len(content))
	return nil
}

func (s *stage) StagedAfter(_ context.Context, after uuid.UUID, limit int, maxBytes int64) (list []store.StagedContent, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.staged {
		if bytes.Compare(p.ID[:], after[:]) > 0 && len(list) < limit && maxBytes > 0 {
			list = append(list, p)
			maxBytes -= int64(len(p.Content))
		}
	}
	return list, nil
}

func (s *stage) Unstage(_ context.Context, ids []uuid.UUID) ([]uuid.UUID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.failure, store.ErrUnavailable) {
		return nil, s.failure
	}
	gone := map[uuid.UUID]bool{}
	for _, id := range ids {
		gone[id] = true
	}
	var left []store.StagedContent
	for _, p := range s.staged {
		if gone[p.ID] {
			s.bytes -= int64(len(p.Content))
		} else {
			left = append(left, p)
		}
	}
	s.staged = left
	return nil, nil
}

func (s *stage) Create(context.Context) (blobs.Spool, error) { return nil, errors.New("not staged") }
func (s *stage) Stat(context.Context, blobs.Ref) (blobs.Info, error) {
	return blobs.Info{}, blobs.ErrNotFound
}
func (s *stage) Capacity(context.Context) (blobs.Capacity, error) {
	return blobs.Capacity{Free: 1 << 40, Total: 1 << 40}, nil
}

func (s *stage) KeepAll(_ context.Context, contents iter.Seq2[blobs.Ref, []byte]) (release func(), err error) {
	batch := flushed{from: time.Since(s.began)}
	for range contents {
		batch.contents++
	}
	if batch.contents == 0 {
		return func() {}, nil
	}
	time.Sleep(s.perBatch + time.Duration(batch.contents)*s.perContent)
	batch.to = time.Since(s.began)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches = append(s.batches, batch)
	if errors.Is(s.failure, store.ErrUnavailable) {
		return func() {}, nil
	}
	return func() {}, s.failure
}

func (s *stage) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// upload stages contents of so many bytes, at that rate a second, for so long.
func (s *stage) upload(size, rate int, d time.Duration) {
	s.Helper()
	interval := time.Second / time.Duration(rate)
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(interval) {
		s.one(size)
	}
}

func (s *stage) one(size int) {
	s.Helper()
	id := uuid.Must(uuid.NewV7())
	spool := s.all.Spool(s.Context())
	defer spool.Close()
	if _, err := io.Copy(spool, io.MultiReader(bytes.NewReader(id[:]), bytes.NewReader(make([]byte, size-len(id))))); err != nil {
		s.Fatal(err)
	}
	a := store.Attachment{Size: spool.Size(), SHA256: spool.Ref()}
	err := spool.Record(s.Context(), func() *slog.Logger { return slog.New(slog.DiscardHandler) }, &a, "", func() uuid.UUID { return id })
	if err != nil {
		s.Fatal(err)
	}
}

// take returns the batches so far, and forgets them.
func (s *stage) take() []flushed {
	s.mu.Lock()
	defer s.mu.Unlock()
	batches := s.batches
	s.batches = nil
	return batches
}

func (s *stage) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.staged)
}

func TestContentsOfAQuietServerGetTheirFilesAtOnce(t *testing.T) {
	pacing(t, func(s *stage) {
		for _, rate := range []int{1, 20, 90} {
			for range 10 {
				s.upload(5000, rate, time.Second)
				if left := s.left(); left > rate {
					t.Errorf("with %d uploads a second, %d wait for their files", rate, left)
				}
			}
			time.Sleep(time.Second)
			if left := s.left(); left > 0 {
				t.Errorf("a second later %d wait for their files", left)
			}
		}
	})
}

func TestABurstPaysForNoFiles(t *testing.T) {
	pacing(t, func(s *stage) {
		s.one(5000)
		time.Sleep(time.Minute)
		s.take()
		s.upload(1000, 2000, 3*time.Second)
		if batches := s.take(); len(batches) > 0 {
			t.Errorf("during it there were the batches %v", batches)
		}
		time.Sleep(3 * time.Second)
		if left := s.left(); left > 0 {
			t.Errorf("three seconds later, %d contents have no files", left)
		}
		most := 0
		for _, b := range s.take() {
			most = max(most, b.contents)
		}
		if most < 2000 {
			t.Errorf("they were flushed by batches of at most %d", most)
		}
	})
}

// The fuller staging is, the shorter the pauses between batches are; and it never
// overflows as long as the disk can keep up.
func TestALongBurstIsFlushedFasterTheFullerStagingIs(t *testing.T) {
	for _, c := range []struct {
		rate           int     // uploads a second, of 10 KB
		busyAt, busyTo float64 // share of the time for which batches are under way
	}{{500, 0.02, 0.3}, {3000, 0.2, 0.8}, {6500, 0.6, 1}} {
		t.Run(fmt.Sprint(c.rate), func(t *testing.T) {
			pacingOn(t, device{perBatch: 5 * time.Millisecond, perContent: 120 * time.Microsecond, room: 16 << 20}, func(s *stage) {
				s.upload(10_000, c.rate, 4*time.Second)
				s.take()
				var most int64
				for range 4 {
					s.upload(10_000, c.rate, time.Second)
					most = max(most, s.Staged().Bytes)
				}
				var busy time.Duration
				for _, b := range s.take() {
					busy += b.to - b.from
				}
				if share := busy.Seconds() / 4; share < c.busyAt || share > c.busyTo {
					t.Errorf("batches took %.2f of the time", share)
				}
				if most > s.room {
					t.Errorf("%d bytes were staged", most)
				}
			})
		})
	}
}

// Contents so small that they never fill staging get their files too.
func TestNoContentIsWithoutItsFileForFifteenMinutes(t *testing.T) {
	pacing(t, func(s *stage) {
		s.one(1000)
		time.Sleep(time.Minute) // so that nothing is staged
		began := time.Now()
		for time.Since(began) < 25*time.Minute {
			s.upload(100, 110, 10*time.Second)
			s.mu.Lock()
			oldest := time.Unix(s.staged[0].ID.Time().UnixTime())
			s.mu.Unlock()
			if waited := time.Since(oldest); waited > 15*time.Minute {
				t.Fatalf("after %v, a content has waited for its file for %v", time.Since(began), waited)
			}
		}
		if n := len(s.take()); n > 200 {
			t.Errorf("they were flushed by %d batches", n)
		}
	})
}

func TestAFlushStepsBackWhenUploadsBeginAgain(t *testing.T) {
	slow := device{perContent: 2 * time.Millisecond, room: 256 << 20} // it needs four seconds for a batch
	pacingOn(t, slow, func(s *stage) {
		s.one(100)
		time.Sleep(time.Minute)
		s.take()
		s.upload(100, 3000, 4*time.Second)
		time.Sleep(2 * time.Second)
		s.upload(100, 1000, 8*time.Second)
		if batches := s.take(); len(batches) != 1 {
			t.Errorf("while uploads had begun again, the batches %v ended", batches)
		}
	})
}

// What would be lost with the process is not left for later.
func TestWhatIsInFilesThatWereRemovedIsFlushedDuringABurstToo(t *testing.T) {
	pacing(t, func(s *stage) {
		s.upload(1000, 1000, 2*time.Second)
		if s.take(); s.Staged().Contents < 1000 {
			t.Fatal("they are flushed before they need to be, so this test shows nothing")
		}
		s.mu.Lock()
		s.astray = true
		s.mu.Unlock()
		s.upload(1000, 1000, 2*time.Second)
		if left := s.Staged().Contents; left > 1000 {
			t.Errorf("%d contents are still staged", left)
		}
	})
}

func TestWhatIsDeletedBeforeItsFlushIsNeverWritten(t *testing.T) {
	pacing(t, func(s *stage) {
		s.upload(1000, 2000, time.Second)
		s.take()
		s.mu.Lock()
		s.staged, s.bytes = nil, 0
		s.mu.Unlock()
		time.Sleep(time.Minute)
		if batches := s.take(); len(batches) > 0 {
			t.Errorf("batches: %v", batches)
		}
	})
}

func TestAFlushThatFailsIsTriedAgainAndTold(t *testing.T) {
	pacing(t, func(s *stage) {
		s.fail(fmt.Errorf("no room: %w", blobs.ErrFull))
		began := time.Now()
		s.one(5000)
		time.Sleep(time.Minute)
		if since, err := s.all.Failing(); !errors.Is(err, blobs.ErrFull) || since.Sub(began) > 2*time.Second {
			t.Errorf("it is told as %v since %v", err, since.Sub(began))
		}
		if n := len(s.take()); n < 20 || n > 40 {
			t.Errorf("it was tried %d times in a minute", n)
		}
		s.fail(nil)
		time.Sleep(5 * time.Second)
		if _, err := s.all.Failing(); err != nil || s.left() > 0 {
			t.Errorf("%v, and %d have no files", err, s.left())
		}
	})
}

// A database that was moved away and put back is one that goes on; and while it is away,
// no files are written for it.
func TestAFlushGoesOnOnceTheDatabaseIsPutBack(t *testing.T) {
	pacing(t, func(s *stage) {
		s.fail(fmt.Errorf("attachd.db: %w", store.ErrReplaced))
		s.upload(5000, 20, time.Second)
		time.Sleep(time.Minute)
		if batches := s.take(); len(batches) != 1 {
			t.Errorf("while it was away, the batches %v were written", batches)
		}
		s.fail(nil)
		time.Sleep(5 * time.Second)
		if _, err := s.all.Failing(); err != nil || s.left() > 0 {
			t.Errorf("%v, and %d have no files", err, s.left())
		}
	})
}

// What waits until nothing is staged does not wait until nobody uploads.
func TestWhileFlushedBeginsThoughMoreIsUploadedThanTheDiskCanWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, ordinary)
		s.upload(1000, 12_000, time.Second)
		did := make(chan error, 1)
		go func() {
			did <- s.all.WhileFlushed(s.Context(), func(flushed error) error { return flushed })
		}()
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
			for range 12 {
				id := uuid.Must(uuid.NewV7())
				_ = s.CreateStaged(s.Context(), store.Attachment{ID: id, SHA256: sha256.Sum256(id[:]), Size: int64(len(id))}, id[:], nil, "")
			}
			select {
			case err := <-did:
				if err != nil {
					t.Error(err)
				}
				return
			default:
			}
		}
		t.Error("ten seconds later it waits")
		s.mu.Lock()
		s.staged, s.bytes = nil, 0
		s.mu.Unlock()
		<-did
	})
}
