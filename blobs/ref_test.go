package blobs_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"

	"attachd/blobs"
)

func TestParseRefReadsWhatStringWrites(t *testing.T) {
	ref := blobs.Ref(sha256.Sum256([]byte("abc")))
	got, err := blobs.ParseRef(ref.String())
	if err != nil || got != ref {
		t.Errorf("ParseRef(%q) = %s, %v", ref, got, err)
	}
}

// ASVS 5.3.2
func TestParseRefRefusesEverythingElse(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	for _, s := range []string{
		"",
		digits[1:],
		digits + "0",
		strings.ToUpper(digits),
		"A" + digits[1:],
		"g" + digits[1:],
		" " + digits[1:],
		"../" + digits[3:],
		"0x" + digits[2:],
		digits[1:] + "\n",
		digits[1:] + "\x00",
		digits[2:] + "é",
	} {
		if ref, err := blobs.ParseRef(s); err == nil || ref != (blobs.Ref{}) {
			t.Errorf("ParseRef(%q) = %s, %v", s, ref, err)
		}
	}
}

func TestARefIsTheSameInJSON(t *testing.T) {
	ref := blobs.Ref(sha256.Sum256([]byte("abc")))
	text, err := json.Marshal(ref)
	if want := `"` + ref.String() + `"`; err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	var got blobs.Ref
	if err := json.Unmarshal(text, &got); err != nil || got != ref {
		t.Errorf("%s, %v", got, err)
	}
	if err := json.Unmarshal([]byte(`"../abc"`), &got); err == nil {
		t.Errorf("a name that is none was read as %s", got)
	}
}
