package token

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

var now = time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC)

var aKey = SigningKey{Secret: []byte("a secret")}

func aLink() Link {
	return Link{
		Attachment: uuid.MustParse("019bc0f5-1111-7000-8000-000000000001"),
		Key:        uuid.MustParse("019bc0f5-2222-7000-8000-000000000002"),
		User:       uuid.MustParse("019bc0f5-3333-7000-8000-000000000003"),
		Expires:    now.Add(time.Hour),
	}
}

// ASVS 6.5.2, 11.4.1, 11.4.3, 11.5.1
func TestKeysAreLongDistinctAndRecognisable(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		secret, prefix := NewKey()
		if seen[secret] {
			t.Fatal("a key was made twice")
		}
		seen[secret] = true
		if !strings.HasPrefix(secret, "attachd_") || !strings.HasPrefix(secret, prefix) {
			t.Fatalf("key %q, prefix %q", secret, prefix)
		}
		if random := strings.TrimPrefix(secret, "attachd_"); len(random) != 43 {
			t.Fatalf("%d characters are not 256 bits", len(random))
		}
		if hidden := len(secret) - len(prefix); hidden < 32 {
			t.Fatalf("the prefix leaves only %d characters hidden", hidden)
		}
	}
}

func TestASecretIsRedactedWhereverItStands(t *testing.T) {
	key, shown := NewKey()
	session := NewSession()
	for text, want := range map[string]string{
		"/catalog/" + key:               "/catalog/" + shown + "…",
		key + "/" + key:                 shown + "…/" + shown + "…",
		"x" + key + "x":                 "x" + shown + "…x",
		session:                         session[:len("attachd-session_")+6] + "…",
		"/attachd_demo/" + key[:50]:     "/attachd_demo/" + key[:50],
		"/attachd.db/" + shown + "/a_b": "/attachd.db/" + shown + "/a_b",
		"":                              "",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestALinkComesBackAsItWasSigned(t *testing.T) {
	s := NewSigner(aKey)
	for _, inline := range []bool{false, true} {
		want := aLink()
		want.Inline = inline
		got, err := s.Verify(want.Attachment, want.Expires.Unix(), s.Sign(want), now)
		if err != nil || got != want {
			t.Errorf("inline %v: got %+v, %v; want %+v", inline, got, err, want)
		}
	}
}

// ASVS 9.1.1, 9.1.2, 9.2.1, 9.2.2
func TestALinkExpiresOnTheSecond(t *testing.T) {
	s, l := NewSigner(aKey), aLink()
	for _, c := range []struct {
		at   time.Time
		want error
	}{
		{l.Expires.Add(-time.Nanosecond), nil},
		{l.Expires, ErrExpired},
		{l.Expires.Add(time.Second), ErrExpired},
	} {
		if _, err := s.Verify(l.Attachment, l.Expires.Unix(), s.Sign(l), c.at); !errors.Is(err, c.want) {
			t.Errorf("at %v: %v, want %v", c.at, err, c.want)
		}
	}
}

// ASVS 9.1.1, 9.1.2, 9.2.1, 9.2.2
func TestNoChangedLinkIsAccepted(t *testing.T) {
	s, l := NewSigner(aKey), aLink()
	good := s.Sign(l)
	refused := func(what string, attachment uuid.UUID, expires int64, signature string) {
		t.Helper()
		if _, err := s.Verify(attachment, expires, signature, now); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", what, err)
		}
	}
	raw, _ := base64.RawURLEncoding.DecodeString(good)
	for bit := range len(raw) * 8 {
		flipped := append([]byte(nil), raw...)
		flipped[bit/8] ^= 1 << (bit % 8)
		refused("a bit of the signature flipped", l.Attachment, l.Expires.Unix(), base64.RawURLEncoding.EncodeToString(flipped))
	}
	for bit := range 128 {
		other := l.Attachment
		other[bit/8] ^= 1 << (bit % 8)
		refused("another attachment", other, l.Expires.Unix(), good)
	}
	for bit := range 64 {
		refused("another expiry", l.Attachment, l.Expires.Unix()^(1<<bit), good)
	}
	for _, signature := range []string{"", "=", good + "A", good + "=", good[1:], good[:len(good)-1], strings.ToUpper(good), good + "\n"} {
		refused("a misshapen signature", l.Attachment, l.Expires.Unix(), signature)
	}
	refused("another secret", l.Attachment, l.Expires.Unix(), NewSigner(NewSigningKey()).Sign(l))
}

// After a rotation, links expire when their key's grace has passed, and not before.
// ASVS 9.2.3
func TestALinkOutlivesARotationByItsGrace(t *testing.T) {
	first, l := []SigningKey{aKey}, aLink()
	l.Expires = now.Add(24 * time.Hour)
	old := NewSigner(first...).Sign(l)
	verify := func(keys []SigningKey, signature string, at time.Time) error {
		_, err := NewSigner(keys...).Verify(l.Attachment, l.Expires.Unix(), signature, at)
		return err
	}
	second := Rotate(first, now, time.Hour)
	for _, c := range []struct {
		after time.Duration
		want  error
	}{{0, nil}, {time.Hour - time.Second, nil}, {time.Hour, ErrSignature}, {2 * time.Hour, ErrSignature}} {
		if err := verify(second, old, now.Add(c.after)); !errors.Is(err, c.want) {
			t.Errorf("%v after the rotation: %v, want %v", c.after, err, c.want)
		}
		if err := verify(second, NewSigner(second...).Sign(l), now.Add(c.after)); err != nil {
			t.Errorf("a link of the new key, %v after the rotation: %v", c.after, err)
		}
	}
	if err := verify(first, NewSigner(second...).Sign(l), now); !errors.Is(err, ErrSignature) {
		t.Errorf("a link of a key that is not known: %v", err)
	}
}

func TestARotationGivesNoKeyMoreTimeAndForgetsThoseThatEnded(t *testing.T) {
	day := 24 * time.Hour
	keys := Rotate([]SigningKey{aKey}, now, time.Hour)
	for _, c := range []struct {
		at    time.Time
		grace time.Duration
		ends  []time.Time // of the keys after the new one
	}{
		{now, 0, nil},
		{now, time.Nanosecond, nil},
		{now, -time.Hour, nil},
		{now, time.Minute, []time.Time{now.Add(time.Minute), now.Add(time.Minute)}},
		{now, day, []time.Time{now.Add(day), now.Add(time.Hour)}},
		{now.Add(time.Hour), day, []time.Time{now.Add(time.Hour + day)}},
	} {
		rotated := Rotate(keys, c.at, c.grace)
		if len(rotated) != 1+len(c.ends) || !rotated[0].Until.IsZero() || len(rotated[0].Secret) != SigningKeySize {
			t.Fatalf("%+v: %+v", c, rotated)
		}
		for i, want := range c.ends {
			if got := rotated[i+1]; !got.Until.Equal(want) || string(got.Secret) != string(keys[i].Secret) {
				t.Errorf("%+v: key %d ends at %v", c, i+1, got.Until)
			}
		}
	}
}

// ASVS 9.1.1, 9.1.2, 9.2.1, 9.2.2
func FuzzOnlySignedLinksAreAccepted(f *testing.F) {
	s, l := NewSigner(aKey), aLink()
	good := s.Sign(l)
	f.Add(l.Attachment[:], l.Expires.Unix(), good)
	f.Add(make([]byte, 16), int64(0), "")
	f.Fuzz(func(t *testing.T, attachment []byte, expires int64, signature string) {
		id, err := uuid.FromBytes(attachment)
		if err != nil {
			return
		}
		_, err = s.Verify(id, expires, signature, now)
		same := id == l.Attachment && expires == l.Expires.Unix() && signature == good
		if (err == nil) != same {
			t.Fatalf("%v for %v %d %q", err, id, expires, signature)
		}
	})
}
