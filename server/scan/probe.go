package scan

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
)

// Probe reports whether clamd scans contents of size bytes: it sends a ZIP file of that
// length whose last entry is the EICAR test file, which scanners report as malware
// although it is harmless. seen is false when clamd calls that clean. Errors are those
// of Scan.
func (c *Clamd) Probe(ctx context.Context, size int64) (seen bool, err error) {
	var empty bytes.Buffer
	if err := writeTest(&empty, 0); err != nil {
		return false, err
	}
	content, w := io.Pipe()
	defer content.Close() // makes the writer end
	go func() { w.CloseWithError(writeTest(w, max(0, size-int64(empty.Len())))) }()
	signature, err := c.Scan(ctx, content)
	return signature != "", err
}

// The test file is split in two parts: a scanner would find it whole in this source
// file.
const (
	eicarBegin = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-`
	eicarEnd   = `ANTIVIRUS-TEST-FILE!$H+H*`
)

// writeTest writes an uncompressed ZIP file: zeros, then the test file.
func writeTest(w io.Writer, zeros int64) error {
	archive := zip.NewWriter(w)
	padding, err := archive.CreateHeader(&zip.FileHeader{Name: "zeros", Method: zip.Store})
	if err != nil {
		return err
	}
	if _, err := io.CopyN(padding, zeroReader{}, zeros); err != nil {
		return err
	}
	test, err := archive.CreateHeader(&zip.FileHeader{Name: "eicar.com", Method: zip.Store})
	if err != nil {
		return err
	}
	for _, part := range []string{eicarBegin, eicarEnd} {
		if _, err := io.WriteString(test, part); err != nil {
			return err
		}
	}
	return archive.Close()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
