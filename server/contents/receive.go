package contents

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// bufferSize is how many bytes of a content are copied at once.
const bufferSize = 128 << 10

// buffers are those through which contents pass on their way to and from blobs.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Copy copies all that from gives.
func Copy(to io.Writer, from io.Reader) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:])
	return err
}

// writtenAside is the size in bytes of a content from which on one buffer is
// filled while the other is written. Smaller ones come in many at once, and keep
// all cores busy so.
const writtenAside = 4 << 20

// ErrTooLarge means that a content has more bytes than it may have.
var ErrTooLarge = errors.New("the content is too large")

// Receive spools what from gives until it ends: ErrTooLarge beyond max bytes,
// blobs.ErrFull when the disk has no room but its reserve. An error of from comes
// back as it is.
func (s *Spool) Receive(from io.Reader, max int64) error {
	var both [2]*[bufferSize]byte
	defer func() {
		for _, b := range both {
			if b != nil {
				buffers.Put(b)
			}
		}
	}()
	size := s.Size()
	write := writing{to: s}
	defer func() { _ = write.wait() }() // before the buffers go back, whatever happens
	for i := 0; ; {
		if both[i] == nil {
			both[i] = buffers.Get().(*[bufferSize]byte)
		}
		n, err := fill(from, both[i][:])
		if err := write.wait(); err != nil {
			return err
		}
		if size += int64(n); size > max {
			return ErrTooLarge
		}
		if n > 0 {
			// Others upload too, and not everyone says how much.
			if err := s.contents.RoomFor(s.ctx, int64(n)); err != nil {
				return err
			}
			aside := err == nil && size > writtenAside
			write.begin(both[i][:n], aside)
			if aside {
				i = 1 - i
			}
		}
		if err == io.EOF {
			return write.wait()
		}
		if err != nil {
			return err
		}
	}
}

// writing is a write that may be under way.
type writing struct {
	to   *Spool
	done chan error // nil when none is
}

// begin writes p, which belongs to it until wait: in a goroutine of its own if
// there will be something else to do meanwhile.
func (w *writing) begin(p []byte, aside bool) {
	w.done = make(chan error, 1)
	write := func() {
		_, err := w.to.Write(p)
		w.done <- err
	}
	if aside {
		go write()
	} else {
		write()
	}
}

func (w *writing) wait() error {
	if w.done == nil {
		return nil
	}
	err := <-w.done
	w.done = nil
	if err != nil {
		return fmt.Errorf("spooling: %w", err)
	}
	return nil
}

// fill reads until buf is full or r ends or fails. (io.ReadFull would not
// tell the end of a part from the end of the body.)
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}
