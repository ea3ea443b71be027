package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"attachd/blobs"
)

const (
	// missingPause is after how long an object that the store says it has not is asked for
	// again: some stores show a new object late.
	missingPause = 200 * time.Millisecond
	// readAhead is how many bytes are fetched at least for a ReadAt.
	readAhead = 256 << 10
	// resumes is how often a content continues after its connection was cut.
	resumes = 3
	// follows is how often a reader follows a content from one object to the next.
	follows = 10
	// runFactor is how many times as much as was read by a run of ReadAt, each of which
	// begins where the one before has ended, the next request asks for.
	runFactor = 4
)

// content is an open content. Bytes that are read one after the other come in one answer of
// the store, or in a few where it is not known how many are read.
type content struct {
	ctx   context.Context
	store *Store

	mu      sync.Mutex // guards all below
	place   blobs.Place
	at      int64         // position of the next Read
	want    int64         // up to where bytes are read next; 0 when that is not known
	body    io.ReadCloser // nil when none is open
	bodyAt  int64         // position of the next byte of body
	bodyEnd int64         // position after its last byte
	ahead   []byte        // bytes fetched for a ReadAt
	from    int64         // position of ahead
	run     int64         // bytes fetched one after the other for ReadAts
	held    bool          // its object is, until it is closed
	lost    bool          // the store says that it has no such object, or another one
	closed  bool
}

func newContent(ctx context.Context, s *Store, p blobs.Place) *content {
	s.hold(p.Object)
	return &content{ctx: ctx, store: s, place: p, held: true}
}

// found returns the object, and whether the store has lost it.
func (c *content) found() (o blobs.Object, lost bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place.Object, c.lost
}

// Read implements io.Reader.
func (c *content) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if here := c.at - c.from; here >= 0 && here < int64(len(c.ahead)) && !c.closed {
		n := copy(p, c.ahead[here:])
		c.at += int64(n)
		return n, nil
	}
	n, err := c.read(p, c.at, c.wanted(c.at))
	c.at += int64(n)
	return n, err
}

// Want implements blobs.Fetched.
func (c *content) Want(end int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.want = end
}

// wanted is up to where bytes are read next by a Read from a position on.
func (c *content) wanted(at int64) int64 {
	if c.want <= at {
		return c.place.Size
	}
	return min(c.want, c.place.Size)
}

// Seek implements io.Seeker.
func (c *content) Seek(offset int64, whence int) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += c.at
	case io.SeekEnd:
		offset += c.place.Size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek to %d: %w", offset, fs.ErrInvalid)
	}
	c.at = offset
	return offset, nil
}

// ReadAt implements io.ReaderAt. It fetches some bytes more than it is asked for, since
// whoever looks around in a file reads nearby parts next.
func (c *content) ReadAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, fs.ErrInvalid)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if n := min(int64(len(p)), c.place.Size-off); n > 0 && (off < c.from || off+n > c.from+int64(len(c.ahead))) {
		if got, err := c.fetch(off, n); got < n {
			return copy(p, c.ahead), err
		}
	}
	if off >= c.place.Size {
		return 0, io.EOF
	}
	n := copy(p, c.ahead[off-c.from:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fetch fills ahead with n bytes from a position on, or more, and returns how many are in it.
func (c *content) fetch(off, n int64) (got int64, err error) {
	if off != c.from+int64(len(c.ahead)) {
		c.run = 0
	}
	end := c.wanted(off)
	if c.want <= off {
		end = min(off+max(readAhead, runFactor*c.run), end)
	}
	end = max(end, off+n)
	c.ahead, c.from = make([]byte, max(n, min(readAhead, end-off))), off
	for got < int64(len(c.ahead)) && err == nil {
		var some int
		some, err = c.read(c.ahead[got:], off+got, end)
		got += int64(some)
	}
	c.ahead = c.ahead[:got]
	c.run += got
	return got, err // which is met again by whoever reads on
}

// read reads from a position on, where what is read next ends at end. A connection that is
// cut is made again.
func (c *content) read(p []byte, at, end int64) (int, error) {
	if c.closed {
		return 0, fs.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if at >= c.place.Size {
		return 0, io.EOF
	}
	for try := 0; ; try++ {
		if err := c.open(at, end); err != nil {
			return 0, err
		}
		n, err := c.body.Read(p[:min(int64(len(p)), c.bodyEnd-at)])
		c.bodyAt += int64(n)
		if n > 0 || err == nil {
			return n, nil
		}
		c.closeBody()
		if try == resumes || c.ctx.Err() != nil {
			return 0, fmt.Errorf("reading blob %s from the bucket, at byte %d of %d: %w", c.place.Ref, at, c.place.Size, noEOF(err))
		}
	}
}

// noEOF returns another error for an end that came too early.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// open opens the object at a position, up to end unless it is open there already.
func (c *content) open(at, end int64) error {
	if c.body != nil && c.bodyAt == at && at < c.bodyEnd {
		return nil
	}
	c.closeBody()
	err := c.get(at, end)
	for before, try := (blobs.Object{}), 0; errors.Is(err, blobs.ErrNotFound) && try < follows && before != c.place.Object; try++ {
		before = c.place.Object
		err = c.getLater(at, end)
	}
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) {
		err = c.store.certain(c.ctx, err)
		c.lost = errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged)
	}
	return err
}

// getLater asks again for an object that the store says it has not: the content may be in
// another one meanwhile, and some stores show a new one late.
func (c *content) getLater(at, end int64) error {
	before := c.place.Object
	if err := c.follow(); err != nil {
		return err
	}
	if c.place.Object == before {
		if wait(c.ctx, missingPause); c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if err := c.follow(); err != nil {
			return err
		}
	}
	return c.get(at, end)
}

// follow goes to where the content is now.
func (c *content) follow() error {
	p, err := c.store.Catalog.Place(c.ctx, c.place.Ref)
	if err != nil || p.Size != c.place.Size || p.Object == c.place.Object {
		return err
	}
	if c.held {
		c.store.hold(p.Object)
		c.store.letGo(c.place.Object)
	}
	c.place = p
	return nil
}

// get asks for bytes of the object. For all of them there is no need to say which.
func (c *content) get(at, end int64) error {
	last := end
	if end == c.place.Size {
		last = 0
	}
	return c.store.again(c.ctx, func() error {
		body, size, err := c.store.Bucket.Get(c.ctx, c.store.name(c.place.Object), at, last)
		var answer *StoreError
		if errors.As(err, &answer) && answer.Status == http.StatusRequestedRangeNotSatisfiable {
			return fmt.Errorf("%w: the object of %s ends before byte %d of %d: %w", blobs.ErrDamaged, c.place.Ref, at, c.place.Size, err)
		}
		if err != nil {
			return err
		}
		if size != c.place.Size {
			return errors.Join(fmt.Errorf("%w: the object of %s has %d bytes, not %d", blobs.ErrDamaged, c.place.Ref, size, c.place.Size), body.Close())
		}
		c.body, c.bodyAt, c.bodyEnd = body, at, end
		return nil
	})
}

func (c *content) closeBody() {
	if c.body != nil {
		_ = c.body.Close() // what was read was read
		c.body = nil
	}
}

// Close implements io.Closer.
func (c *content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeBody()
	if c.held {
		c.store.letGo(c.place.Object)
	}
	c.held, c.closed = false, true
	return nil
}
