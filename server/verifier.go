package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"attachd/blobs"
	"attachd/store"
)

var (
	// errRotten means that bytes that were read in full are not what was uploaded.
	errRotten = fmt.Errorf("%w: its bytes are not those that were uploaded", blobs.ErrDamaged)
	// errShort means that a file ended too early. Whoever opens it next finds
	// that out again, so it needs no mark.
	errShort = fmt.Errorf("%w: it ended too early", blobs.ErrDamaged)
)

// verifier reads a content, by chunks, and gives no byte of a chunk that is not
// what was uploaded: the checksums of the chunks are kept since then. What is
// one chunk is hashed. A content from before there were checksums is hashed as
// a whole when the first byte of it is wanted, and has them from then on.
//
// Nothing is checked where the whole was checked lately, and nothing has
// touched the file since, or where nothing is to be.
//
// ReadAt may be called from many goroutines, and nothing else beside it.
type verifier struct {
	file  blobs.Content
	size  int64
	want  [sha256.Size]byte
	known func() (blobs.Checksums, error) // gives the checksums; called once

	sums   blobs.Checksums
	asked  bool  // known was called
	at     int64 // of the next Read
	fileAt int64 // the file's own position; -1 if that is not known

	mu     sync.Mutex
	buffer *[blobs.ChunkSize]byte // of Read and ReadAt
	loaded int64                  // the chunk in it, from 1 on; 0 is none
	length int                    // of that chunk

	sound  bool // all was sent, and right
	failed atomic.Pointer[error]

	spared  func() bool // set where it need not be checked: says whether that holds still
	touched bool        // it does not
}

// verifier is for the content of rq.attachment. It checks what downloads.verify
// wants checked, or everything.
func (s *Server) verifier(rq *request, file blobs.Content, everything bool) *verifier {
	a := rq.attachment
	v := &verifier{file: file, size: a.Size, want: a.SHA256, known: func() (blobs.Checksums, error) { return s.checksums(rq, file) }}
	if !s.VerifyReads && !everything {
		v.spared = func() bool { return true }
	}
	return v
}

// failure is why the content could not be read, if it could not. It may be
// called at any time.
func (v *verifier) failure() error {
	if failed := v.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// Seek takes the end to be where it should be: a file that is shorter now is
// found out by who reads it.
func (v *verifier) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekEnd:
		offset += v.size
	case io.SeekCurrent:
		offset += v.at
	}
	if _, err := v.file.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	v.at, v.fileAt = offset, offset
	return offset, nil
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.spared != nil {
		n, err := v.file.Read(p)
		if err != nil && err != io.EOF {
			v.fail(err)
		}
		return n, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	n, err := v.copy(p, v.at)
	v.at += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (v *verifier) ReadAt(p []byte, off int64) (n int, err error) {
	if v.spared != nil {
		n, err := v.file.ReadAt(p, off)
		if err != nil && err != io.EOF {
			v.fail(err)
		}
		return n, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for n < len(p) && err == nil {
		var some int
		some, err = v.copy(p[n:], off+int64(n))
		n += some
	}
	return n, err
}

// copy gives bytes of one chunk.
func (v *verifier) copy(p []byte, at int64) (int, error) {
	if at < 0 || at >= v.size {
		return 0, io.EOF
	}
	i := at / blobs.ChunkSize
	if v.buffer == nil {
		v.buffer = new([blobs.ChunkSize]byte)
	}
	if v.loaded != i+1 {
		v.loaded = 0
		chunk, err := v.load(i, v.buffer)
		if err != nil {
			return 0, err
		}
		v.loaded, v.length = i+1, len(chunk)
	}
	return copy(p, v.buffer[at-i*blobs.ChunkSize:v.length]), nil
}

// load reads the i-th chunk, and gives it if it is right.
func (v *verifier) load(i int64, buffer *[blobs.ChunkSize]byte) (chunk []byte, err error) {
	if !v.asked {
		v.asked, v.fileAt = true, -1
		if v.sums, err = v.known(); err != nil {
			return nil, v.fail(err)
		}
	}
	from := i * blobs.ChunkSize
	if v.fileAt != from {
		if _, err := v.file.Seek(from, io.SeekStart); err != nil {
			return nil, v.fail(err)
		}
	}
	chunk = buffer[:min(blobs.ChunkSize, v.size-from)]
	v.fileAt = -1
	if _, err := io.ReadFull(v.file, chunk); err != nil {
		return nil, v.fail(err)
	}
	v.fileAt = from + int64(len(chunk))
	if v.size <= blobs.ChunkSize && sha256.Sum256(chunk) != v.want || v.size > blobs.ChunkSize && !v.sums.Match(i, chunk) {
		return nil, v.fail(errRotten)
	}
	return chunk, nil
}

// fail remembers the first error of reading.
func (v *verifier) fail(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = errShort
	}
	v.failed.CompareAndSwap(nil, &err)
	return err
}

// sendTo writes n bytes to w, a chunk at a time, each when it was checked.
func (v *verifier) sendTo(w *sending, n int64) (sent int64, err error) {
	whole := n == v.size && v.at == 0
	switch {
	case v.spared != nil && whole:
		return v.sendSpared(w)
	case v.spared != nil:
		return w.sendFile(v.file, n)
	}
	buffer := portions.Get().(*[portion]byte)
	defer portions.Put(buffer)
	for sent < n {
		i := v.at / blobs.ChunkSize
		chunk, err := v.load(i, buffer)
		if err != nil {
			return sent, err
		}
		chunk = chunk[v.at-i*blobs.ChunkSize:]
		some, err := w.Write(chunk[:min(int64(len(chunk)), n-sent)])
		sent += int64(some)
		v.at += int64(some)
		if err != nil {
			return sent, err
		}
	}
	v.sound = whole
	return sent, nil
}

// sendSpared sends the whole file. The last portion waits for a last look at
// whether somebody has touched it.
func (v *verifier) sendSpared(w *sending) (sent int64, err error) {
	buffer := portions.Get().(*[portion]byte)
	defer portions.Put(buffer)
	last := buffer[:min(portion, v.size)]
	sent, err = w.sendFile(v.file, v.size-int64(len(last)))
	if err != nil {
		return sent, err
	}
	if _, err := io.ReadFull(v.file, last); err != nil {
		return sent, v.fail(err)
	}
	if !v.spared() {
		v.touched = true
		return sent, nil
	}
	some, err := w.Write(last)
	return sent + int64(some), err
}

// lookAt has look see the content of rq.attachment, checked as verifier does.
func (s *Server) lookAt(rq *request, everything bool, look func(content io.ReaderAt) error) error {
	file, done, err := s.openContent(rq)
	if err != nil {
		return err
	}
	defer done()
	checked := s.verifier(rq, file, everything)
	err = look(checked)
	if failed := checked.failure(); failed != nil {
		return s.readFailed(rq, file, failed)
	}
	return err
}

// checksums gives those of the content of rq.attachment, which is open. What
// lacks them is hashed, and has them from then on.
func (s *Server) checksums(rq *request, file blobs.Content) (blobs.Checksums, error) {
	a := rq.attachment
	if a.Size <= blobs.ChunkSize {
		return nil, nil // its hash will do
	}
	kept, err := s.Store.Checksums(rq.Context(), a.SHA256)
	if sums := blobs.Checksums(kept); err == nil && sums.Fit(a.Size) {
		return sums, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		rq.log().Warn("the checksums of a content cannot be read, and it is hashed", "blob", blobs.Ref(a.SHA256).String(), "error", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	ref, sums, err := blobs.Hash(&until{rq.Context(), file}, a.Size, make([]byte, blobs.ChunkSize))
	if err != nil {
		return nil, err
	}
	if ref != a.SHA256 {
		return nil, errRotten
	}
	ctx := context.WithoutCancel(rq.Context())
	if err := s.Store.AddChecksums(ctx, map[[32]byte][]byte{a.SHA256: sums}); err != nil {
		rq.log().Warn("the checksums of a content could not be kept", "blob", ref.String(), "error", err)
	}
	return sums, nil
}

// readFailed counts and logs why a content of rq.attachment could not be read,
// marks it where its bytes are known to be wrong, and gives the answer. read is
// what Open gave, if it gave anything.
func (s *Server) readFailed(rq *request, read blobs.Content, err error) error {
	ref := blobs.Ref(rq.attachment.SHA256)
	about := []any{"attachment", rq.attachment.ID.String(), "blob", ref.String(), "error", err}
	switch {
	case errors.Is(err, blobs.ErrDamaged), errors.Is(err, blobs.ErrNotFound):
		s.metrics.damaged.Inc()
		s.suspects.add(ref)
		rq.log().Error("a stored content is damaged", about...)
	case rq.Context().Err() != nil:
		return err
	default:
		s.metrics.unreadable.Inc()
		rq.log().Error("a stored content cannot be read at the moment", about...)
		return notReadable()
	}
	if errors.Is(err, errRotten) {
		if err := s.contents.MarkDamaged(context.WithoutCancel(rq.Context()), ref, read); err != nil {
			rq.log().Error("a damaged content could not be marked", "blob", ref.String(), "error", err)
		}
	}
	return err
}
