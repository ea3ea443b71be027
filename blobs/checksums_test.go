package blobs

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// However the bytes are split into writes, each chunk has the checksum of its
// bytes.
func TestEachChunkHasItsChecksum(t *testing.T) {
	content := make([]byte, 3*ChunkSize+1)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	for _, size := range []int{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2*ChunkSize - 1, 2 * ChunkSize, 3*ChunkSize + 1} {
		for _, step := range []int{1000, ChunkSize - 1, ChunkSize, ChunkSize + 1, len(content)} {
			var s Summer
			var want Checksums
			for rest := content[:size]; len(rest) > 0; rest = rest[min(len(rest), step):] {
				if n, err := s.Write(rest[:min(len(rest), step)]); n != min(len(rest), step) || err != nil {
					t.Fatal(n, err)
				}
				s.Sum() // changes nothing
			}
			for at := 0; at < size && size > ChunkSize; at += ChunkSize {
				want = binary.BigEndian.AppendUint64(want, xxhash.Sum64(content[at:min(at+ChunkSize, size)]))
			}
			got := s.Sum()
			if !bytes.Equal(got, want) || size > ChunkSize && !got.Fit(int64(size)) {
				t.Errorf("%d bytes, %d at once: got %x, want %x", size, step, got, want)
			}
			for i := range int64(len(got) / 8) {
				chunk := bytes.Clone(content[i*ChunkSize : min((i+1)*ChunkSize, int64(size))])
				if !got.Match(i, chunk) {
					t.Errorf("%d bytes: chunk %d does not match", size, i)
				}
				chunk[len(chunk)/2] ^= 1
				if got.Match(i, chunk) {
					t.Errorf("%d bytes: chunk %d matches with a bit changed", size, i)
				}
			}
		}
	}
}

func TestChecksumsFitOneSizeInChunks(t *testing.T) {
	sums := make(Checksums, 16)
	for size, want := range map[int64]bool{0: false, ChunkSize: false, ChunkSize + 1: true, 2 * ChunkSize: true, 2*ChunkSize + 1: false} {
		if sums.Fit(size) != want || sums[:15].Fit(size) {
			t.Errorf("two checksums fit %d bytes: %v", size, sums.Fit(size))
		}
	}
}
