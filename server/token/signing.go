package token

import (
	"crypto/rand"
	"time"
)

// SigningKey is a secret that signs links.
type SigningKey struct {
	Secret []byte    // SigningKeySize random bytes
	Until  time.Time // when its links end, in whole seconds; zero for the key that signs
}

// SigningKeySize is the length of a key that signs links, in bytes.
const SigningKeySize = 32

// NewSigningKey makes a key of 256 random bits.
func NewSigningKey() SigningKey {
	secret := make([]byte, SigningKeySize)
	rand.Read(secret) // never fails (crypto/rand)
	return SigningKey{Secret: secret}
}

// Rotate returns the keys after a rotation at now: a new one signs, and links of the
// earlier ones stay valid for at most grace. No key is valid for longer than an earlier
// rotation allowed.
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
