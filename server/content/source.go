package content

import (
	"fmt"
	"io"
)

// source is the content to look at. It remembers the first real read error, so that the code that takes a format
// apart may treat every error as a damaged file and Decide can still tell a failing disk from one.
type source struct {
	r    io.ReaderAt
	size int64 // bytes
	err  error
}

// ReadAt reads up to the end of the content, which is an io.EOF and no fault of the reader's.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), s.size-off)]
	n, err := s.r.ReadAt(want, off)
	if n < len(want) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if s.err == nil {
			s.err = fmt.Errorf("read content at byte %d: %w", off, err)
		}
		return n, s.err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// bytes are up to n bytes from offset off on, fewer where the content ends.
func (s *source) bytes(off, n int64) []byte {
	b := make([]byte, max(0, min(n, s.size-off)))
	read, _ := s.ReadAt(b, off)
	return b[:read]
}
