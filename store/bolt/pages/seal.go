package pages

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// checksumLength is the size, in bytes, of the checksum behind every value. It
// covers bucket, key and value: a record or an index entry is refused when any bit
// of it has changed. The first half covers bucket and key alone. When it matches,
// the entry is at its place in a list, and only this entry is damaged; when neither
// half matches, the key may be another one, and the entry be missing elsewhere. It
// is no protection against someone who can write to the file.
const checksumLength = 8

// Seal returns a value as it is stored in the database, with its checksum.
func Seal(bucket, key, value []byte) []byte {
	out := make([]byte, len(value), len(value)+checksumLength)
	copy(out, value)
	return binary.BigEndian.AppendUint64(out, checksum(bucket, key, value))
}

func checksum(bucket, key, value []byte) uint64 {
	var room [128]byte // large enough for all keys, on the stack
	named := append(append(append(room[:0], bucket...), 0), key...)
	of := xxhash.Sum64(named)
	both := (xxhash.Sum64(value) ^ of) * 0x9e3779b185ebca87
	return of&^0xffffffff | both>>32
}

// Unseal returns the value that was passed to Seal, and whether it is intact. Of a
// damaged entry, keyHolds says whether at least the key is intact.
func Unseal(bucket, key, sealed []byte) (value []byte, sound, keyHolds bool) {
	at := len(sealed) - checksumLength
	if at < 0 {
		return nil, false, false
	}
	value = sealed[:at:at]
	want, got := binary.BigEndian.Uint64(sealed[at:]), checksum(bucket, key, value)
	return value, want == got, uint32(want>>32) == uint32(got>>32) || uint32(want) == uint32(got)
}
