// Package container parses documents and archives: ZIP archives, the compound files of older documents, and the code in
// both. The caller decides what type of file the result means.
package container

import (
	"fmt"
	"io"
)

// Source is a reader of a content. It keeps the first real read error, so that a parser may treat every error as a
// damaged file, and its caller can still distinguish a failing disk from that.
type Source struct {
	Reader io.ReaderAt
	Size   int64 // bytes
	Err    error
}

// ReadAt reads up to the end of the content, which is an io.EOF and no error of the reader.
func (s *Source) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= s.Size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), s.Size-off)]
	n, err := s.Reader.ReadAt(want, off)
	if n < len(want) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if s.Err == nil {
			s.Err = fmt.Errorf("read content at byte %d: %w", off, err)
		}
		return n, s.Err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Bytes returns up to n bytes from offset off on, fewer where the content ends.
func (s *Source) Bytes(off, n int64) []byte {
	b := make([]byte, max(0, min(n, s.Size-off)))
	read, _ := s.ReadAt(b, off)
	return b[:read]
}

// Find calls found with overlapping windows of the content until it returns true.
func (s *Source) Find(found func(window []byte) bool) bool {
	const overlap = 64 // bytes; no search term is longer
	window := make([]byte, 64<<10)
	for at := int64(0); at < s.Size; at += int64(len(window)) - overlap {
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
