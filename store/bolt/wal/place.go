package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Place is where the bytes of a content are.
type Place struct {
	Segment uint64 // its number
	Record  uint32 // offset of the record in the segment, in bytes
	At      uint32 // offset of the bytes in the data of the record
	Length  uint32 // of the content, in bytes
}

const placeSize = 8 + 4 + 4 + 4

var errPlace = errors.New("damaged place of a content")

// Encode returns the place as the database stores it.
func (p Place) Encode() []byte {
	out := binary.BigEndian.AppendUint64(make([]byte, 0, placeSize), p.Segment)
	out = binary.BigEndian.AppendUint32(out, p.Record)
	out = binary.BigEndian.AppendUint32(out, p.At)
	return binary.BigEndian.AppendUint32(out, p.Length)
}

// DecodePlace reads what Encode returned.
func DecodePlace(raw []byte) (p Place, err error) {
	if len(raw) != placeSize {
		return p, fmt.Errorf("%w: %d bytes", errPlace, len(raw))
	}
	return Place{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint32(raw[8:]), binary.BigEndian.Uint32(raw[12:]), binary.BigEndian.Uint32(raw[16:])}, nil
}

// inside is the place of some bytes behind p.
func (p Place) inside(offset, length int) Place {
	p.At, p.Length = p.At+uint32(offset), uint32(length)
	return p
}
