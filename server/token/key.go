// Package token is the arithmetic of secrets: API keys, sessions and signed
// links. It does no I/O; the clock is handed in.
package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"strings"
)

// KeyPrefix is how every API key begins. By their beginnings, people and secret
// scanners recognise our secrets.
const KeyPrefix = "attachd_"

const (
	sessionPrefix = "attachd-session_"
	shown         = len(KeyPrefix) + 6 // characters of a key that may be shown again
)

// NewKey makes an API key of 256 random bits, and the first characters of it
// by which its owner can recognise it later.
func NewKey() (secret, prefix string) {
	secret = KeyPrefix + random()
	return secret, secret[:shown]
}

// NewSession makes the value of a session cookie, of 256 random bits.
func NewSession() string { return sessionPrefix + random() }

// Hash is what is stored of a secret. A plain SHA-256 is enough for 256
// random bits: there is nothing to guess.
func Hash(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// What begins like one of our secrets and is as long. A session's is cut where
// a key's may be shown.
var secretForm = regexp.MustCompile(`(attachd(?:-session)?_[\w-]{6})[\w-]{37}`)

// Redact leaves of every secret in s, real or not, only as much as may be shown
// again, and an ellipsis.
func Redact(s string) string {
	if !strings.Contains(s, "attachd") {
		return s // as nearly all are
	}
	return secretForm.ReplaceAllString(s, "$1…")
}

func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}
