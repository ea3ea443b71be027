package contents

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
)

// Spool receives one content, whose name is known only after its last byte: in memory
// below Options.StageBelow, and from that size on in a blobs.Spool. It must be used
// by one goroutine.
type Spool struct {
	contents *Store
	ctx      context.Context
	buffer   *[]byte     // the content so far; nil once there is a file
	file     blobs.Spool // nil while the content is in buffer
	sums     blobs.Summer
	ref      blobs.Ref // of the buffer, once computed; else zero
	used     bool      // kept or closed
	began    time.Time
}

var errUsedUp = errors.New("the spool was kept or closed before")

// firstBuffer is the size in bytes of a new buffer, into which most files fit. A buffer
// that grew for a larger content keeps its size in the pool.
const firstBuffer = 16 << 10

var spoolBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, firstBuffer)
	return &b
}}

// Spool returns an empty spool. It creates a file only when it has to, with ctx.
func (c *Store) Spool(ctx context.Context) *Spool {
	return &Spool{contents: c, ctx: ctx, buffer: spoolBuffers.Get().(*[]byte), began: time.Now()}
}

// Write appends to the content. It returns blobs.ErrFull when the disk has no room.
func (s *Spool) Write(p []byte) (int, error) {
	if s.used {
		return 0, errUsedUp
	}
	if s.file != nil {
		return s.toFileAndSums(p)
	}
	if s.Size()+int64(len(p)) < s.contents.StageBelow {
		*s.buffer = append(*s.buffer, p...)
		s.ref = blobs.Ref{}
		return len(p), nil
	}
	if err := s.toFile(s.ctx); err != nil {
		return 0, err
	}
	return s.toFileAndSums(p)
}

func (s *Spool) toFileAndSums(p []byte) (int, error) {
	_, _ = s.sums.Write(p) // never fails
	return s.file.Write(p)
}

// toFile moves the content to a file and continues there.
func (s *Spool) toFile(ctx context.Context) error {
	file, err := s.contents.Create(ctx)
	if err != nil {
		return err
	}
	if len(*s.buffer) > 0 {
		if _, err := file.Write(*s.buffer); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	_, _ = s.sums.Write(*s.buffer) // never fails
	s.file = file
	s.putBack()
	return nil
}

// ReadAt reads what was written so far.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case s.used:
		return 0, errUsedUp
	case s.file != nil:
		return s.file.ReadAt(p, off)
	case off < 0 || off > s.Size():
		return 0, io.EOF
	}
	n := copy(p, (*s.buffer)[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Size returns the number of bytes written so far.
func (s *Spool) Size() int64 {
	if s.file != nil {
		return s.file.Size()
	}
	return int64(len(*s.buffer))
}

// Ref returns the name of what was written so far.
func (s *Spool) Ref() blobs.Ref {
	if s.file != nil {
		return s.file.Ref()
	}
	if s.ref == (blobs.Ref{}) {
		s.ref = sha256.Sum256(*s.buffer)
	}
	return s.ref
}

// checksums returns those of what was written, valid until Close.
func (s *Spool) checksums() blobs.Checksums {
	if s.file == nil {
		var sums blobs.Summer
		_, _ = sums.Write(*s.buffer) // never fails
		return sums.Sum()
	}
	return s.sums.Sum()
}

// Record makes the spooled content durable, and then its record, which it completes
// with the id that newID returns in between; autoCreate is that of
// store.CreateAttachment. The content is held until the record is committed, so that
// nothing can remove it; a staged one is committed together with the record. What was
// begun is finished, even if ctx ends. A content whose record was refused is removed
// again, unless other records refer to it. After any other failure it is unknown
// whether the record exists, so the content stays. Nothing was done on an ErrPaused,
// ErrMoved or ErrPerhapsMoved.
func (s *Spool) Record(ctx context.Context, log func() *slog.Logger, a *store.Attachment, autoCreate string, newID func() uuid.UUID) error {
	ctx = context.WithoutCancel(ctx)
	if s.used {
		return errUsedUp
	}
	return s.contents.Change(func() error { return s.record(ctx, log, a, autoCreate, newID) })
}

func (s *Spool) record(ctx context.Context, log func() *slog.Logger, a *store.Attachment, autoCreate string, newID func() uuid.UUID) error {
	if staged, err := s.stage(ctx, a, autoCreate, newID); staged {
		return err
	}
	release, err := s.keep(ctx)
	if err != nil {
		return fmt.Errorf("keeping the content: %w", err)
	}
	defer release()
	a.ID = newID()
	err = s.contents.records.CreateAttachment(ctx, *a, s.checksums(), autoCreate)
	var refused *store.Error
	if errors.As(err, &refused) || errors.Is(err, store.ErrFull) {
		release()
		s.contents.Forget(ctx, log, a.SHA256)
	}
	return err
}

// stage commits the content together with its record, where it may be staged, and
// reports whether that is the outcome: otherwise the content is to be kept as a blob.
//
// Except for damaged contents, it does the same whether or not the content was there
// before, and so reveals nothing to an uploader; a damaged one is written to its blob
// at once, which repairs it.
func (s *Spool) stage(ctx context.Context, a *store.Attachment, autoCreate string, newID func() uuid.UUID) (staged bool, err error) {
	if s.file != nil || !s.contents.stagingGate.TryRLock() {
		return false, nil
	}
	defer s.contents.stagingGate.RUnlock()
	may, err := s.mayStage(ctx)
	if err != nil {
		return true, fmt.Errorf("keeping the content: %w", err)
	}
	if !may {
		return false, nil
	}
	a.ID = newID()
	err = s.contents.Stager.CreateStaged(ctx, *a, *s.buffer, s.checksums(), autoCreate)
	if errors.Is(err, store.ErrNotStaged) {
		return false, nil
	}
	s.used = true
	s.contents.committed()
	return true, err
}

func (s *Spool) mayStage(ctx context.Context) (bool, error) {
	c := s.contents
	if !c.Stager.MayStage() || c.isCorrupt(s.Ref()) {
		return false, nil
	}
	file, err := c.Store.Stat(ctx, s.Ref())
	if errors.Is(err, blobs.ErrNotFound) {
		return true, nil
	}
	return err == nil && !file.Damaged && file.Size == s.Size(), err
}

// keep keeps the content as a blob. Call release when the record was committed, or will
// not be.
func (s *Spool) keep(ctx context.Context) (release func(), err error) {
	if _, never := s.contents.Stager.(noStager); never && s.file == nil { // such as on its way to an object store
		s.used = true
		return s.contents.Batcher.KeepAll(ctx, func(yield func(blobs.Ref, []byte) bool) { yield(s.Ref(), *s.buffer) })
	}
	if s.file == nil {
		if err := s.toFile(ctx); err != nil {
			return nil, err
		}
	}
	s.used = true
	if release, err = s.file.Keep(ctx); err != nil {
		return nil, err
	}
	s.rememberKept()
	return release, nil
}

// Close discards what was not kept. It must always be called, once the record was
// committed or will not be.
func (s *Spool) Close() error {
	s.used = true
	s.putBack()
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

func (s *Spool) putBack() {
	if s.buffer == nil {
		return
	}
	*s.buffer = (*s.buffer)[:0]
	spoolBuffers.Put(s.buffer)
	s.buffer = nil
}
