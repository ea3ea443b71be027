package blobs

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
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
			if size > ChunkSize {
				want = binary.BigEndian.AppendUint32(want, crc32.ChecksumIEEE(content[:size]))
			}
			got := s.Sum()
			if !bytes.Equal(got, want) || size > ChunkSize && !got.Fit(int64(size)) {
				t.Errorf("%d bytes, %d at once: got %x, want %x", size, step, got, want)
			}
			if sum, known := got.CRC32(int64(size)); known != (size > ChunkSize) || known && sum != crc32.ChecksumIEEE(content[:size]) {
				t.Errorf("%d bytes, %d at once: the CRC-32 is %x, %v", size, step, sum, known)
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
	for _, sums := range []Checksums{make(Checksums, 16), make(Checksums, 20)} {
		for size, want := range map[int64]bool{0: false, ChunkSize: false, ChunkSize + 1: true, 2 * ChunkSize: true, 2*ChunkSize + 1: false} {
			if sums.Fit(size) != want || sums[:15].Fit(size) {
				t.Errorf("%d bytes of checksums fit %d bytes: %v", len(sums), size, sums.Fit(size))
			}
			if _, known := sums.CRC32(size); known != (want && len(sums) == 20) {
				t.Errorf("%d bytes of checksums have the CRC-32 of %d bytes: %v", len(sums), size, known)
			}
		}
	}
}

func TestChecksumsOfAnEarlierVersionLackNothingButTheCRC(t *testing.T) {
	whole := Checksums("chunk 01chunk 02 crc")
	for sums, want := range map[string]bool{"chunk 01chunk 02": true, "chunk 01chunk 03": false, "chunk 01": false, "chunk 01chunk 02 crc": false, "": false} {
		if got := Checksums(sums).Lacks(whole); got != want {
			t.Errorf("%q lacks the rest of %q: %v", sums, whole, got)
		}
	}
}
