package wal

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// The log is written in sectors, each with a checksum. A disk writes a sector
// completely or not at all, so a record that a power cut left incomplete has old
// sectors among its new ones, and each of them is valid. A sector that is not valid
// was damaged later: its record may have been acknowledged, and must not pass for
// one that was being written.
//
//	data      508   padded with zeros
//	crc         4   CRC-32C (Castagnoli) of the data
const (
	sectorSize = 512 // bytes; the smallest unit that a disk writes whole
	sectorData = sectorSize - 4
)

// sectorWriter writes data to a file in sectors, in pieces of its buffer, and fills
// the last block with zeros: to write a part of one, the system would have to read the
// rest of it first.
type sectorWriter struct {
	to     io.WriterAt
	at     int64 // in the file, of the buffer
	n      int   // bytes of the buffer that are filled
	in     int   // bytes of data in the last sector
	err    error // of the first write that failed
	buffer [256 << 10]byte
}

func (w *sectorWriter) begin(to io.WriterAt, at int64) {
	w.to, w.at, w.n, w.in, w.err = to, at, 0, 0, nil
}

func (w *sectorWriter) write(data []byte) {
	for len(data) > 0 {
		n := copy(w.buffer[w.n+w.in:w.n+sectorData], data)
		data = data[n:]
		if w.in += n; w.in == sectorData {
			w.endSector()
		}
	}
}

func (w *sectorWriter) endSector() {
	sector := w.buffer[w.n : w.n+sectorData]
	clear(sector[w.in:])
	binary.BigEndian.PutUint32(w.buffer[w.n+sectorData:], crc32.Checksum(sector, castagnoli))
	w.n, w.in = w.n+sectorSize, 0
	if w.n == len(w.buffer) {
		w.flush()
	}
}

func (w *sectorWriter) flush() {
	if w.err == nil && w.n > 0 {
		_, w.err = w.to.WriteAt(w.buffer[:w.n], w.at)
	}
	w.at, w.n = w.at+int64(w.n), 0
}

// end writes what is left, and returns the first error.
func (w *sectorWriter) end() error {
	if w.in > 0 {
		w.endSector()
	}
	if rest := w.n % blockSize; rest > 0 {
		clear(w.buffer[w.n : w.n+blockSize-rest])
		w.n += blockSize - rest
	}
	w.flush()
	return w.err
}

// sectorsOf is the size, in bytes, of n bytes of data in sectors.
func sectorsOf(n int64) int64 { return (n + sectorData - 1) / sectorData * sectorSize }

// outOfSectors appends at most n bytes of the data in the sectors at the beginning of b
// to data, which may begin where b does, and stops at a damaged sector. One that was
// never written is zeros.
func outOfSectors(data, b []byte, n int) (_ []byte, damaged bool) {
	for ; len(data) < n && len(b) >= sectorSize; b = b[sectorSize:] {
		sector := b[:sectorSize]
		if crc32.Checksum(sector[:sectorData], castagnoli) != binary.BigEndian.Uint32(sector[sectorData:]) && !isZero(sector) {
			return data, true
		}
		data = append(data, sector[:sectorData]...)
	}
	return data[:min(n, len(data))], false
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
