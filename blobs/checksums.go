package blobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/cespare/xxhash/v2"
)

// ChunkSize is how many bytes of a content share a checksum; the last chunk of a
// content may be shorter. To send any part of a chunk, all of it is read and
// verified first. At 64 KiB this takes some ten microseconds where the file is
// cached in memory, and half of what Linux reads ahead by itself where it is not;
// and a download needs a buffer of this size. The checksums of 50 MiB are 6.4 kB.
const ChunkSize = 64 << 10

// Checksums are the checksums of a content's chunks, in order: XXH64 with seed 0, 8
// bytes each, big-endian. They detect accidental changes of the bytes at a tenth of
// the cost of SHA-256; they prove nothing against an attacker who can choose the
// bytes. After them comes the CRC-32 of the whole content, 4 bytes, big-endian, which
// those from earlier versions lack. A content of at most one chunk needs none: its Ref
// serves as well.
type Checksums []byte

// Fit says whether there is a checksum for each chunk of a content of size bytes.
func (c Checksums) Fit(size int64) bool {
	chunks := (size + ChunkSize - 1) / ChunkSize * 8
	return int64(len(c)) == chunks || int64(len(c)) == chunks+crc32.Size
}

// CRC32 returns the CRC-32 (of IEEE 802.3, as in ZIP archives) of a content of size
// bytes, where it is known.
func (c Checksums) CRC32(size int64) (sum uint32, known bool) {
	at := len(c) - crc32.Size
	if !c.Fit(size) || at%8 != 0 {
		return 0, false
	}
	return binary.BigEndian.Uint32(c[at:]), true
}

// Lacks says whether c is of an earlier version, and without the CRC-32 that whole has.
func (c Checksums) Lacks(whole Checksums) bool {
	return len(c) > 0 && len(c)+crc32.Size == len(whole) && bytes.HasPrefix(whole, c)
}

// Match says whether chunk has the checksum of the i-th chunk.
func (c Checksums) Match(i int64, chunk []byte) bool {
	return binary.BigEndian.Uint64(c[i*8:]) == xxhash.Sum64(chunk)
}

// Summer computes the Checksums of what is written to it.
type Summer struct {
	done  Checksums
	chunk xxhash.Digest
	crc   uint32
	size  int64 // bytes written so far
}

// Write never fails.
func (s *Summer) Write(p []byte) (int, error) {
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	for rest := p; len(rest) > 0; {
		at := s.size % ChunkSize
		if at == 0 {
			s.chunk.Reset()
		}
		part := rest[:min(int64(len(rest)), ChunkSize-at)]
		_, _ = s.chunk.Write(part) // never fails
		s.size += int64(len(part))
		if s.size%ChunkSize == 0 {
			s.done = s.chunk.Sum(s.done)
		}
		rest = rest[len(part):]
	}
	return len(p), nil
}

// Sum returns the Checksums of what was written so far, or nil for a content that
// needs none.
func (s *Summer) Sum() Checksums {
	if s.size <= ChunkSize {
		return nil
	}
	sums := s.done[:len(s.done):len(s.done)]
	if s.size%ChunkSize != 0 {
		sums = s.chunk.Sum(sums)
	}
	return binary.BigEndian.AppendUint32(sums, s.crc)
}

// Hash reads a content of size bytes to its end, as much at once as buffer holds,
// and returns the Ref and the Checksums of the bytes read. A content that ends
// before or after size bytes is a read error.
func Hash(content io.Reader, size int64, buffer []byte) (Ref, Checksums, error) {
	hash := sha256.New()
	var sums Summer
	n, err := io.CopyBuffer(io.MultiWriter(hash, &sums), struct{ io.Reader }{content}, buffer)
	if err == nil && n != size {
		err = fmt.Errorf("%w: it ended after %d of %d bytes", io.ErrUnexpectedEOF, n, size)
	}
	return Ref(hash.Sum(nil)), sums.Sum(), err
}
