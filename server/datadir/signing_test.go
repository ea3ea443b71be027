package datadir_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"attachd/server/datadir"
	"attachd/server/token"
)

func signingKeys(t *testing.T, dir *datadir.Dir) []token.SigningKey {
	t.Helper()
	keys, err := dir.SigningKeys()
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestASigningKeyIsMadeOnce(t *testing.T) {
	dir := open(t, t.TempDir())
	first := signingKeys(t, dir)
	if len(first) != 1 || len(first[0].Secret) != 32 || !first[0].Until.IsZero() {
		t.Errorf("the first keys are %v", first)
	}
	if again := signingKeys(t, open(t, dir.Path())); !reflect.DeepEqual(again, first) {
		t.Errorf("%v, then %v", first, again)
	}
	if other := signingKeys(t, open(t, t.TempDir())); reflect.DeepEqual(other, first) {
		t.Error("two directories have the same key")
	}
}

func TestSigningKeysAreReadAsWritten(t *testing.T) {
	dir := open(t, t.TempDir())
	now := time.Date(2026, 1, 15, 10, 30, 0, 500, time.FixedZone("", 3600))
	keys := signingKeys(t, dir)
	for range 3 {
		keys = token.Rotate(keys, now, time.Hour)
		if err := dir.WriteSigningKeys(keys); err != nil {
			t.Fatal(err)
		}
		if got := signingKeys(t, dir); !reflect.DeepEqual(got, keys) {
			t.Errorf("%v, want %v", got, keys)
		}
	}
	lines := strings.Split(read(t, dir.Join("secret.key")), "\n")
	if len(lines) != 5 || len(lines[0]) != 64 || !strings.HasSuffix(lines[3], " 2026-01-15T10:30:00Z") || lines[4] != "" {
		t.Errorf("the file holds %q", lines)
	}
}

func TestSigningKeysOfAnEarlierVersionAreRead(t *testing.T) {
	dir := open(t, t.TempDir())
	write(t, dir.Join("secret.key"), strings.Repeat("0f", 32)+"\r\n")
	if keys := signingKeys(t, dir); len(keys) != 1 || string(keys[0].Secret) != strings.Repeat("\x0f", 32) {
		t.Errorf("%v", keys)
	}
}

func TestWhatAreNoSigningKeysIsRefused(t *testing.T) {
	const good = "0000000000000000000000000000000000000000000000000000000000000000"
	for content, says := range map[string]string{
		"":                                   "line 1 of",
		"secret":                             "line 1 of",
		good[2:]:                             "line 1 of",
		good + "00":                          "line 1 of",
		strings.Repeat("x", 64):              "line 1 of",
		good + " 2026-01-15T10:30:00Z\n":     "line 1 of", // the key that signs has no end
		good + "\n" + good + "\n":            "line 2 of",
		good + "\n" + good + " tomorrow\n":   "line 2 of",
		good + "\n\n" + good + " tomorrow\n": "line 2 of",
		good + "\nx 2026-01-15T10:30:00Z\n":  "line 2 of",
		good + "\n" + good + " 2026-01-15T10:30\n": "line 2 of",
	} {
		dir := open(t, t.TempDir())
		write(t, dir.Join("secret.key"), content)
		_, err := dir.SigningKeys()
		wants(t, err, says)
		wants(t, err, "does not hold 64 hexadecimal digits")
		wants(t, err, "Delete the file to have a new one made")
	}
}
