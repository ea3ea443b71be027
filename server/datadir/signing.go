package datadir

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"attachd/server/token"
)

// SigningKeys reads the keys that sign links; the first key is made if there is none.
// The file has a line for each: 64 hexadecimal digits, and, for all but the first, a
// space and the time at which its links end (RFC 3339, UTC).
func (d *Dir) SigningKeys() ([]token.SigningKey, error) {
	path := d.Join(SecretFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		keys := []token.SigningKey{token.NewSigningKey()}
		return keys, d.WriteSigningKeys(keys)
	}
	if err != nil {
		return nil, err
	}
	var keys []token.SigningKey
	for i, line := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		key, ok := parseSigningKey(strings.TrimSpace(line), i == 0)
		if !ok {
			return nil, fmt.Errorf("line %d of %s does not hold 64 hexadecimal digits%s. Delete the file to have a new one made: links given out so far end with it",
				i+1, path, map[bool]string{false: " and a time"}[i == 0])
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseSigningKey(line string, signs bool) (key token.SigningKey, ok bool) {
	digits, until, ended := strings.Cut(line, " ")
	secret, err := hex.DecodeString(digits)
	if err != nil || len(secret) != token.SigningKeySize || ended == signs {
		return key, false
	}
	key.Secret = secret
	if ended {
		key.Until, err = time.Parse(time.RFC3339, until)
	}
	return key, err == nil
}

// WriteSigningKeys replaces the keys that sign links.
func (d *Dir) WriteSigningKeys(keys []token.SigningKey) error {
	var b strings.Builder
	for _, key := range keys {
		b.WriteString(hex.EncodeToString(key.Secret))
		if !key.Until.IsZero() {
			b.WriteString(" " + key.Until.UTC().Format(time.RFC3339))
		}
		b.WriteString("\n")
	}
	return d.WriteFile(SecretFile, []byte(b.String()))
}
