// Package token makes and verifies secrets: API keys, sessions and signed links. It
// does no I/O; the time is a parameter.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
)

// KeyPrefix begins every API key. People and secret scanners recognize attachd's
// secrets by their prefixes.
const KeyPrefix = "attachd_"

const (
	sessionPrefix = "attachd-session_"
	signInPrefix  = "attachd-once_"
	shown         = len(KeyPrefix) + 6 // characters of a key that may be shown again
)

// NewKey makes an API key of 256 random bits, and returns with it the first characters,
// by which its owner can recognize it later.
func NewKey() (secret, prefix string) {
	secret = KeyPrefix + random()
	return secret, secret[:shown]
}

// NewSession makes the value of a session cookie, of 256 random bits.
func NewSession() string { return sessionPrefix + random() }

// NewSignIn makes the secret of a link that signs in once, of 256 random bits.
func NewSignIn() string { return signInPrefix + random() }

// Hash is the hash by which a secret is stored. A plain SHA-256 is enough for 256
// random bits, which cannot be guessed.
func Hash(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// secretForm matches any string with the prefix and the length of a secret. A session's
// is cut where a key's may be shown.
var secretForm = regexp.MustCompile(`(attachd(?:-session|-once)?_[\w-]{6})[\w-]{37}`)

// Redact shortens every secret in s, valid or not, to the part that may be shown again,
// followed by an ellipsis.
func Redact(s string) string {
	if !strings.Contains(s, "attachd") {
		return s // the common case
	}
	return secretForm.ReplaceAllString(s, "$1…")
}

func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}
