package blobs

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Ref names a content: the SHA-256 (FIPS 180-4) of its bytes. Only ParseRef and a
// finished hash make a Ref, so it can be joined to a path without being checked.
type Ref [sha256.Size]byte

// RefOf returns the name of a content.
func RefOf(content []byte) Ref { return sha256.Sum256(content) }

// ParseRef reads the 64 lower-case hexadecimal digits that String writes.
// Anything else is an error.
func ParseRef(s string) (Ref, error) {
	var r Ref
	if len(s) != 2*len(r) {
		return Ref{}, fmt.Errorf("a blob name has %d hexadecimal digits, not %d characters", 2*len(r), len(s))
	}
	if _, err := hex.Decode(r[:], []byte(s)); err != nil {
		return Ref{}, fmt.Errorf("a blob name is hexadecimal: %w", err)
	}
	if r.String() != s {
		return Ref{}, fmt.Errorf("a blob name is in lower case")
	}
	return r, nil
}

// String is the name of the blob's file.
func (r Ref) String() string { return hex.EncodeToString(r[:]) }

// MarshalText writes r as String does.
func (r Ref) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what ParseRef reads.
func (r *Ref) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRef(string(text))
	return err
}
