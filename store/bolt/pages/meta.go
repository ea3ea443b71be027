package pages

import (
	"encoding/binary"
	"hash/fnv"
)

// MetaSize is the size of a meta page without its header, in bytes. It contains, in
// this order: magic number, version, page size and flags, 16 bytes; the root of the
// tree of buckets, 16; the page with the list of free pages, 8; the number of
// pages, 8; the number of its commit, 8; and a checksum of all that, 8. The file
// has the meta pages of the last two commits.
const MetaSize = 64

// Meta is a meta page without its header.
type Meta []byte

// IsWhole verifies the checksum.
func (m Meta) IsWhole() bool {
	sum := fnv.New64a()
	_, _ = sum.Write(m[:MetaSize-8])
	return sum.Sum64() == binary.NativeEndian.Uint64(m[MetaSize-8:])
}

func (m Meta) list() uint64 { return binary.NativeEndian.Uint64(m[32:]) }

// Pages is the number of pages that the file has.
func (m Meta) Pages() uint64 { return binary.NativeEndian.Uint64(m[40:]) }

// Commit is the number of the commit.
func (m Meta) Commit() uint64 { return binary.NativeEndian.Uint64(m[48:]) }

// mend flips the one bit that makes a meta page valid, if there is one.
func (m Meta) mend() bool {
	for bit := range 8 * len(m) {
		m[bit/8] ^= 1 << (bit % 8)
		if m.IsWhole() {
			return true
		}
		m[bit/8] ^= 1 << (bit % 8)
	}
	return false
}
