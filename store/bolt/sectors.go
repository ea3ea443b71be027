package bolt

import (
	"encoding/binary"
	"hash/crc32"
)

// The log is written in sectors that each have a checksum of their own. A disk
// writes a sector whole or not at all, so a record of which the power cut took
// a part has old sectors among its new ones, and each of them is sound. A sector
// that is not was damaged later: the record that it is of may have been
// acknowledged, and must not pass for one that was being written.
//
//	data      508   zeros behind the last of it
//	crc         4   CRC-32C (Castagnoli) of the data
const (
	logSector     = 512 // bytes; the smallest that disks write as one
	logSectorData = logSector - 4
)

// inSectors appends data to out in sectors.
func inSectors(out, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), logSectorData)
		sector := len(out)
		out = append(out, data[:n]...)
		out = append(out, make([]byte, logSectorData-n)...)
		out = binary.BigEndian.AppendUint32(out, crc32.Checksum(out[sector:], logCRC))
		data = data[n:]
	}
	return out
}

// sectorsOf is how many bytes n bytes of data take up in sectors.
func sectorsOf(n int) int { return (n + logSectorData - 1) / logSectorData * logSector }

// outOfSectors is the data, n bytes of it at most, of the sectors that b begins
// with. A damaged one ends it; one that was never written is zeros.
func outOfSectors(b []byte, n int) (data []byte, damaged bool) {
	for ; len(data) < n && len(b) >= logSector; b = b[logSector:] {
		sector := b[:logSector]
		if crc32.Checksum(sector[:logSectorData], logCRC) != binary.BigEndian.Uint32(sector[logSectorData:]) && !isZero(sector) {
			return data, true
		}
		data = append(data, sector[:logSectorData]...)
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
