package command

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
)

// ManifestFile is the file of an export that says what is known of each file.
const ManifestFile = "manifest.ndjson"

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
