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
)

// content is an open content. Bytes that are read one after the other come in one answer of
// the store.
type content struct {
	ctx   context.Context
	store *Store

	mu     sync.Mutex // guards all below
	place  blobs.Place
	at     int64         // position of the next Read
	body   io.ReadCloser // nil when none is open
	bodyAt int64         // position of the next byte of body
	ahead  []byte        // bytes fetched for a ReadAt
	from   int64         // position of ahead
	held   bool          // its object is, until it is closed
	closed bool
}

func newContent(ctx context.Context, s *Store, p blobs.Place) *content {
	s.hold(p.Object)
	return &content{ctx: ctx, store: s, place: p, held: true}
}

func (c *content) object() blobs.Object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place.Object
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
	n, err := c.read(p, c.at)
	c.at += int64(n)
	return n, err
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
		c.ahead = make([]byte, min(max(n, readAhead), c.place.Size-off))
		c.from = off
		for got := 0; got < len(c.ahead); {
			n, err := c.read(c.ahead[got:], off+int64(got))
			got += n
			if err != nil {
				c.ahead = c.ahead[:got]
				if got >= len(p) {
					break // it is met again by whoever reads on
				}
				return copy(p, c.ahead), err
			}
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

// read reads from a position on. A connection that is cut is made again.
func (c *content) read(p []byte, at int64) (int, error) {
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
		if err := c.open(at); err != nil {
			return 0, err
		}
		n, err := c.body.Read(p[:min(int64(len(p)), c.place.Size-at)])
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

// open opens the object at a position.
func (c *content) open(at int64) error {
	if c.body != nil && c.bodyAt == at {
		return nil
	}
	c.closeBody()
	err := c.get(at)
	if errors.Is(err, blobs.ErrNotFound) {
		err = c.getLater(at)
	}
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) {
		return c.store.certain(c.ctx, err)
	}
	return err
}

// getLater asks again for an object that the store says it has not: some show a new one late,
// and the content may be in another one meanwhile.
func (c *content) getLater(at int64) error {
	if wait(c.ctx, missingPause); c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	p, gone := c.store.Catalog.Place(c.ctx, c.place.Ref)
	if gone != nil {
		return gone
	}
	if p.Size == c.place.Size {
		if c.held {
			c.store.hold(p.Object)
			c.store.letGo(c.place.Object)
		}
		c.place = p
	}
	return c.get(at)
}

func (c *content) get(at int64) error {
	return c.store.again(c.ctx, func() error {
		body, size, err := c.store.Bucket.Get(c.ctx, c.store.name(c.place.Object), at)
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
		c.body, c.bodyAt = body, at
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
