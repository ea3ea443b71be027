package content

import (
	"bytes"
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

// find shows the content to found in windows that overlap a little, until it has found what it looks for.
func (s *source) find(found func(window []byte) bool) bool {
	const overlap = 64 // bytes; what is looked for is shorter
	window := make([]byte, headBytes)
	for at := int64(0); at < s.size; at += int64(len(window)) - overlap {
		n, err := s.ReadAt(window, at)
		if found(window[:n]) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// lines says whether the start of the content has more than one line.
func (s *source) lines() bool {
	return bytes.IndexByte(bytes.TrimRight(s.bytes(0, headBytes), "\r\n"), '\n') >= 0
}
