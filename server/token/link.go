package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
)

var (
	// ErrSignature means that a link was not made by this server, or was changed since.
	ErrSignature = errors.New("the signature does not fit the link")
	// ErrExpired means that the link is authentic, but has expired.
	ErrExpired = errors.New("the link has expired")
)

// MaxLinkTTL is the longest validity of a link.
const MaxLinkTTL = 7 * 24 * time.Hour

// Link is the grant of a signed URL: to GET one attachment, in one disposition, until
// it expires, on behalf of a user by means of a key.
type Link struct {
	Attachment uuid.UUID
	Key        uuid.UUID // the link is invalid once this key is
	User       uuid.UUID // whose permissions are checked at every use
	Inline     bool
	Expires    time.Time // in whole seconds
}

// Signer signs links and verifies its own. The zero value is not usable.
type Signer struct {
	keys []signingKey // the first signs
}

type signingKey struct {
	SigningKey
	id [4]byte
}

// NewSigner returns a Signer that signs with the first of keys, and accepts links that
// were signed with any of them.
func NewSigner(keys ...SigningKey) *Signer {
	s := &Signer{}
	for _, k := range keys {
		sum := sha256.Sum256(append([]byte("attachd signing key id\x00"), k.Secret...))
		s.keys = append(s.keys, signingKey{k, [4]byte(sum[:4])})
	}
	return s
}

// A signature is the base64url (RFC 4648, section 5) of
//
//	version 1 | id of the signing key 4 | inline 1 | key 16 | user 16 | HMAC-SHA256 32
//
// so that a link identifies both of its keys: that which signed it and the API key.
const (
	version       = 1
	headSize      = 1 + 4 + 1 + 16 + 16
	signatureSize = headSize + sha256.Size
)

// Sign returns the signature of a link.
func (s *Signer) Sign(l Link) string {
	key := s.keys[0]
	raw := make([]byte, 0, signatureSize)
	raw = append(raw, version)
	raw = append(raw, key.id[:]...)
	raw = append(raw, flag(l.Inline))
	raw = append(raw, l.Key[:]...)
	raw = append(raw, l.User[:]...)
	raw = append(raw, key.mac(raw, l.Attachment, l.Expires.Unix())...)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Verify returns the link that signature was made for, if it was made for this
// attachment and expiry (in Unix seconds) with a key that is still valid. The error is
// ErrSignature if not; ErrExpired if so, but now is not before its expiry.
func (s *Signer) Verify(attachment uuid.UUID, expires int64, signature string, now time.Time) (Link, error) {
	raw, ok := decode(signature)
	if !ok {
		return Link{}, ErrSignature
	}
	head, mac := raw[:headSize], raw[headSize:]
	if !slices.ContainsFunc(s.keys, func(k signingKey) bool {
		return k.id == [4]byte(head[1:5]) && k.goodAt(now) && hmac.Equal(mac, k.mac(head, attachment, expires))
	}) {
		return Link{}, ErrSignature
	}
	l := Link{
		Attachment: attachment,
		Inline:     head[5] == flag(true),
		Key:        uuid.UUID(head[6:22]),
		User:       uuid.UUID(head[22:38]),
		Expires:    time.Unix(expires, 0).UTC(),
	}
	if now.Unix() >= expires {
		return l, ErrExpired
	}
	return l, nil
}

// Knows reports whether one of the keys may have made a signature, or none ever has: what it
// does not know, a newer Signer may.
func (s *Signer) Knows(signature string) bool {
	raw, ok := decode(signature)
	return !ok || slices.ContainsFunc(s.keys, func(k signingKey) bool { return k.id == [4]byte(raw[1:5]) })
}

// decode returns the bytes of a signature. It accepts one spelling only: the decoder ignores
// line breaks and unused bits.
func decode(signature string) (raw []byte, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	return raw, err == nil && len(raw) == signatureSize && base64.RawURLEncoding.EncodeToString(raw) == signature
}

// mac covers each field preceded by its length, so that no byte can move from one field
// to its neighbour. A link is valid for GET, and so for HEAD, which is GET without the
// body (RFC 9110, section 9.3.2).
func (k signingKey) mac(head []byte, attachment uuid.UUID, expires int64) []byte {
	h := hmac.New(sha256.New, k.Secret)
	field := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		h.Write(b)
	}
	field([]byte("GET"))
	field(head)
	field(attachment[:])
	field(binary.BigEndian.AppendUint64(nil, uint64(expires)))
	return h.Sum(nil)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
