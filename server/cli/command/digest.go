package command

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// Files that an export has beside what it exports.
const (
	ManifestFile = "manifest.ndjson" // what is known of each file
	SumsFile     = "SHA256SUMS"
)

// SHA256Of returns the SHA-256 of a file in hexadecimal.
func SHA256Of(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // only read
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	return hex.EncodeToString(sum.Sum(nil)), err
}
