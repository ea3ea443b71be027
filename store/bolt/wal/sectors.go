package wal

import (
	"encoding/binary"
	"hash/crc32"
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

// inSectors appends data to out in sectors.
func inSectors(out, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), sectorData)
		sector := len(out)
		out = append(out, data[:n]...)
		out = append(out, make([]byte, sectorData-n)...)
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out[sector:], castagnoli))
		data = data[n:]
	}
	return out
}

// sectorsOf is the size, in bytes, of n bytes of data in sectors.
func sectorsOf(n int) int { return (n + sectorData - 1) / sectorData * sectorSize }

// outOfSectors returns at most n bytes of the data in the sectors at the beginning
// of b, and stops at a damaged sector. One that was never written is zeros.
func outOfSectors(b []byte, n int) (data []byte, damaged bool) {
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
