package token

import (
	"crypto/rand"
	"time"
)

// SigningKey is a secret that signs links.
type SigningKey struct {
	Secret []byte    // SigningKeySize random bytes
	Until  time.Time // its links end then, in whole seconds; zero for the key that signs
}

// SigningKeySize is the length of a secret that signs links, in bytes.
const SigningKeySize = 32

// NewSigningKey makes a key of 256 random bits.
func NewSigningKey() SigningKey {
	secret := make([]byte, SigningKeySize)
	rand.Read(secret) // never fails (crypto/rand)
	return SigningKey{Secret: secret}
}

// Rotate gives the keys as they are after a change at now: a new one signs,
// and links of the earlier ones are good for grace longer at most. No key
// lives longer than an earlier change gave it.
func Rotate(keys []SigningKey, now time.Time, grace time.Duration) []SigningKey {
	end := now.Add(grace).UTC().Truncate(time.Second)
	rotated := []SigningKey{NewSigningKey()}
	for _, k := range keys {
		if k.Until.IsZero() || k.Until.After(end) {
			k.Until = end
		}
		if k.goodAt(now) {
			rotated = append(rotated, k)
		}
	}
	return rotated
}

func (k SigningKey) goodAt(now time.Time) bool { return k.Until.IsZero() || now.Before(k.Until) }
