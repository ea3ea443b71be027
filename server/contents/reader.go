package contents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"attachd/blobs"
	"attachd/store"
)

var (
	// ErrRotten means that the bytes, read in full, are not those that were uploaded.
	ErrRotten = fmt.Errorf("%w: its bytes are not those that were uploaded", blobs.ErrDamaged)
	// ErrShort means that a content ended too early. Every reader finds that out again,
	// so it needs no mark.
	ErrShort = fmt.Errorf("%w: it ended too early", blobs.ErrDamaged)
	// ErrUnreadable means that the storage cannot read a content now. Whether its bytes
	// are right is unknown.
	ErrUnreadable = errors.New("a stored content cannot be read at the moment")
)

// Reader reads the content of an attachment by chunks, and returns no byte of a chunk
// that differs from what was uploaded: it verifies each chunk with the checksum kept at
// the upload. A content of one chunk is verified with its hash. A content without
// checksums, from an earlier version, is hashed as a whole before its first byte is
// returned, and has checksums from then on.
//
// A trusted content is not verified. Without Options.VerifyReads, every content is
// trusted; otherwise one that was hashed as a whole recently, until its file changes
// (see TrustRecent).
//
// ReadAt may be called concurrently with itself, but with no other method.
type Reader struct {
	contents *Store
	ctx      context.Context
	log      func() *slog.Logger
	a        store.Attachment
	file     blobs.Content // nil when it could not be opened

	parts      []Part // that are to be read
	sums       blobs.Checksums
	loadedSums bool  // sums are set
	at         int64 // position of the next Read
	fileAt     int64 // the file's own position; -1 if unknown

	mu     sync.Mutex
	buffer *[blobs.ChunkSize]byte // of Read and ReadAt
	loaded int64                  // number of the chunk in buffer, from 1 on; 0 is none
	length int                    // of that chunk

	failed atomic.Pointer[error]

	trusted  func() bool // set for a trusted content: reports whether it still is
	remember func()      // called when all was sent, and verified; optional
}

// Reader opens the content of an attachment. With everything, it is verified even
// without Options.VerifyReads.
func (c *Store) Reader(ctx context.Context, log func() *slog.Logger, a store.Attachment, everything bool) (*Reader, error) {
	r := &Reader{contents: c, ctx: ctx, log: log, a: a}
	var err error
	if r.file, err = c.Open(ctx, a.SHA256, a.Size); err != nil {
		return nil, r.Report(fmt.Errorf("opening the content of attachment %s: %w", a.ID, err))
	}
	if !c.VerifyReads && !everything {
		r.trusted = func() bool { return true }
	}
	return r, nil
}

// Close closes the content.
func (r *Reader) Close() {
	if err := r.file.Close(); err != nil {
		r.log().Warn("closing a content", "error", err)
	}
}

// Err returns why the content could not be read, if it could not. It may be called at
// any time.
func (r *Reader) Err() error {
	if failed := r.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// Part is the bytes of a content from From up to End, which is not part of it.
type Part struct{ From, End int64 }

// Expect says which parts will be read, each after a Seek to its beginning, so that a storage
// elsewhere is asked for no more than that. Whatever is read, is right.
func (r *Reader) Expect(parts []Part) { r.parts = parts }

// want tells a storage elsewhere what is read from here on: to the end of the last chunk,
// since chunks are verified as a whole.
func (r *Reader) want() {
	file, is := r.file.(blobs.Fetched)
	if !is {
		return
	}
	end := r.a.Size
	for _, part := range r.parts {
		if part.From == r.at {
			end = (part.End + blobs.ChunkSize - 1) / blobs.ChunkSize * blobs.ChunkSize
		}
	}
	file.Want(end)
}

// Seek takes the end from the record: that a file is shorter is found when it is read.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekEnd:
		offset += r.a.Size
	case io.SeekCurrent:
		offset += r.at
	}
	if _, err := r.file.Seek(offset, io.SeekStart); err != nil {
		return 0, err
	}
	r.at, r.fileAt = offset, offset
	r.want()
	return offset, nil
}

func (r *Reader) Read(p []byte) (int, error) {
	if r.trusted != nil {
		n, err := r.file.Read(p)
		if err != nil && err != io.EOF {
			r.fail(err)
		}
		return n, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.copy(p, r.at)
	r.at += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, off int64) (n int, err error) {
	if r.trusted != nil {
		n, err := r.file.ReadAt(p, off)
		if err != nil && err != io.EOF {
			r.fail(err)
		}
		return n, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && err == nil {
		var some int
		some, err = r.copy(p[n:], off+int64(n))
		n += some
	}
	return n, err
}

// copy copies bytes of one chunk into p.
func (r *Reader) copy(p []byte, at int64) (int, error) {
	if at < 0 || at >= r.a.Size {
		return 0, io.EOF
	}
	i := at / blobs.ChunkSize
	if r.buffer == nil {
		r.buffer = new([blobs.ChunkSize]byte)
	}
	if r.loaded != i+1 {
		r.loaded = 0
		chunk, err := r.load(i, r.buffer)
		if err != nil {
			return 0, err
		}
		r.loaded, r.length = i+1, len(chunk)
	}
	return copy(p, r.buffer[at-i*blobs.ChunkSize:r.length]), nil
}

// load reads the i-th chunk, and returns it if it is right.
func (r *Reader) load(i int64, buffer *[blobs.ChunkSize]byte) (chunk []byte, err error) {
	if !r.loadedSums {
		r.loadedSums, r.fileAt = true, -1
		if r.sums, err = r.checksums(); err != nil {
			return nil, r.fail(err)
		}
	}
	from := i * blobs.ChunkSize
	chunk = buffer[:min(blobs.ChunkSize, r.a.Size-from)]
	err = r.readChunk(chunk, from)
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) {
		// A storage elsewhere finds only now that it has lost the content. Another upload
		// may have staged it anew.
		if copied, notStaged := r.contents.staged(r.ctx, r.a.SHA256); notStaged == nil && int64(len(copied)) == r.a.Size {
			r.Close()
			r.file, r.fileAt = staged{bytes.NewReader(copied)}, -1
			err = r.readChunk(chunk, from)
		}
	}
	if err != nil {
		return nil, r.fail(err)
	}
	if r.a.Size <= blobs.ChunkSize && sha256.Sum256(chunk) != r.a.SHA256 || r.a.Size > blobs.ChunkSize && !r.sums.Match(i, chunk) {
		return nil, r.fail(ErrRotten)
	}
	return chunk, nil
}

// readChunk fills chunk with the bytes of the content from a position on.
func (r *Reader) readChunk(chunk []byte, from int64) error {
	if r.fileAt != from {
		if _, err := r.file.Seek(from, io.SeekStart); err != nil {
			return err
		}
	}
	r.fileAt = -1
	_, err := io.ReadFull(r.file, chunk)
	if err == nil {
		r.fileAt = from + int64(len(chunk))
	}
	return err
}

// fail records the first error of reading.
func (r *Reader) fail(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = ErrShort
	}
	r.failed.CompareAndSwap(nil, &err)
	return err
}

// Sink is the writer to which SendTo sends.
type Sink interface {
	io.Writer
	// SendFile sends n bytes of a content from its current position, unverified.
	SendFile(content blobs.Content, n int64) (sent int64, err error)
}

// ErrTouched means that the file of a trusted content was changed while it was sent.
// Its last bytes were not sent then.
var ErrTouched = errors.New("a file was changed while it was sent")

// chunks is a pool of buffers for SendTo.
var chunks = sync.Pool{New: func() any { return new([blobs.ChunkSize]byte) }}

// SendTo writes n bytes to w, one chunk at a time, each after it was verified.
func (r *Reader) SendTo(w Sink, n int64) (sent int64, err error) {
	whole := n == r.a.Size && r.at == 0
	switch {
	case r.trusted != nil && whole:
		return r.sendTrusted(w)
	case r.trusted != nil:
		return w.SendFile(r.file, n)
	}
	buffer := chunks.Get().(*[blobs.ChunkSize]byte)
	defer chunks.Put(buffer)
	for sent < n {
		i := r.at / blobs.ChunkSize
		chunk, err := r.load(i, buffer)
		if err != nil {
			return sent, err
		}
		chunk = chunk[r.at-i*blobs.ChunkSize:]
		some, err := w.Write(chunk[:min(int64(len(chunk)), n-sent)])
		sent += int64(some)
		r.at += int64(some)
		if err != nil {
			return sent, err
		}
	}
	if whole && r.remember != nil {
		r.remember()
	}
	return sent, nil
}

// sendTrusted sends the whole file. Before the last chunk it checks whether the file is
// still trusted.
func (r *Reader) sendTrusted(w Sink) (sent int64, err error) {
	buffer := chunks.Get().(*[blobs.ChunkSize]byte)
	defer chunks.Put(buffer)
	last := buffer[:min(blobs.ChunkSize, r.a.Size)]
	sent, err = w.SendFile(r.file, r.a.Size-int64(len(last)))
	if err != nil {
		return sent, err
	}
	if _, err := io.ReadFull(r.file, last); err != nil {
		return sent, r.fail(err)
	}
	if !r.trusted() {
		return sent, r.fail(ErrTouched)
	}
	some, err := w.Write(last)
	return sent + int64(some), err
}

// Inspect calls see with the content of an attachment, opened as by Reader.
func (c *Store) Inspect(ctx context.Context, log func() *slog.Logger, a store.Attachment, everything bool, see func(content io.ReaderAt) error) error {
	r, err := c.Reader(ctx, log, a, everything)
	if err != nil {
		return err
	}
	defer r.Close()
	err = see(r)
	if failed := r.Err(); failed != nil {
		return r.Report(failed)
	}
	return err
}

// checksums returns those of the content. A content that lacks them is hashed, and has
// them from then on.
func (r *Reader) checksums() (blobs.Checksums, error) {
	if r.a.Size <= blobs.ChunkSize {
		return nil, nil // the hash is enough
	}
	ref, records := blobs.Ref(r.a.SHA256), r.contents.records
	kept, err := records.Checksums(r.ctx, ref)
	if sums := blobs.Checksums(kept); err == nil && sums.Fit(r.a.Size) {
		return sums, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		r.log().Warn("the checksums of a content cannot be read, and it is hashed", "blob", ref.String(), "error", err)
	}
	if _, err := r.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	hashed, sums, err := blobs.Hash(&until{r.ctx, r.file}, r.a.Size, make([]byte, blobs.ChunkSize))
	if err != nil {
		return nil, err
	}
	if hashed != ref {
		return nil, ErrRotten
	}
	if err := records.AddChecksums(context.WithoutCancel(r.ctx), map[[32]byte][]byte{ref: sums}); err != nil {
		r.log().Warn("the checksums of a content could not be kept", "blob", ref.String(), "error", err)
	}
	return sums, nil
}

// until is a reader that fails once its context has ended.
type until struct {
	ctx context.Context
	io.Reader
}

func (u *until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Reader.Read(p)
}

// Report logs and counts why the content could not be read, marks it where it is known
// to be wrong, and returns the error for the caller: ErrUnreadable where nothing is known
// of it.
func (r *Reader) Report(err error) error {
	ref := blobs.Ref(r.a.SHA256)
	if r.file == nil || errors.Is(err, blobs.ErrNotFound) {
		if _, gone := r.contents.records.Attachment(r.ctx, r.a.ID); errors.Is(gone, store.ErrNotFound) {
			return gone // the attachment was deleted since the lookup
		}
	}
	about := []any{"attachment", r.a.ID.String(), "blob", ref.String(), "error", err}
	switch {
	case errors.Is(err, ErrTouched):
		r.log().Warn("a file was changed while it was sent", about[:4]...)
		return err
	case errors.Is(err, blobs.ErrDamaged), errors.Is(err, blobs.ErrNotFound):
		r.contents.OnDamaged(ref)
		r.log().Error("a stored content is damaged", about...)
	case r.ctx.Err() != nil:
		return err
	default:
		r.contents.OnUnreadable()
		r.log().Error(ErrUnreadable.Error(), about...)
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	// A content that cannot even be opened, and one that ends too early, is found out
	// again by every reader before it has cost anything.
	if r.file != nil && !errors.Is(err, ErrShort) {
		if err := r.contents.MarkDamaged(context.WithoutCancel(r.ctx), ref, r.file); err != nil && !errors.Is(err, blobs.ErrManyLost) {
			r.log().Error("a damaged content could not be marked", "blob", ref.String(), "error", err)
		}
	}
	return err
}
