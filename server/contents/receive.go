package contents

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// bufferSize is how many bytes of a content are copied at once.
const bufferSize = 128 << 10

// buffers is a pool of buffers for copying contents to and from blobs.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Copy copies from from to its end.
func Copy(to io.Writer, from io.Reader) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buf[:])
	return err
}

// writtenAside is the size in bytes from which on a content is written in the
// background, while the next buffer is filled. Many smaller ones arrive at once, which
// keeps all cores busy anyway.
const writtenAside = 4 << 20

// ErrTooLarge means that a content has more bytes than it may have.
var ErrTooLarge = errors.New("the content is too large")

// Receive spools from to its end. It returns ErrTooLarge beyond max bytes,
// blobs.ErrFull when the disk has no room but its reserve, and an error of from
// unchanged.
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
	defer func() { _ = write.wait() }() // always, before the buffers return to the pool
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
			// Others upload at the same time, and not every upload announces its size.
			if err := s.contents.MakeRoom(s.ctx, int64(n)); err != nil {
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

// begin starts writing p, which must not be changed until wait: in a new goroutine if
// aside is set, since there is other work to do meanwhile.
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

// fill reads until buf is full or r ends or fails. (io.ReadFull would not distinguish
// the end of a part from an unexpected end of the body.)
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}
