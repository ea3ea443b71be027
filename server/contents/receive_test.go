package contents_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"mime/multipart"
	"testing"

	"attachd/blobs/disk"
	"attachd/server/contents"
	"attachd/server/formdata"
)

// BenchmarkReceive spools files of forms as they come in, without keeping them.
func BenchmarkReceive(b *testing.B) {
	files, err := disk.Open(b.TempDir(), disk.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer files.Close()
	all := contents.New(nil, files, contents.Options{})
	for _, size := range []int{1 << 20, 50 << 20} {
		b.Run(fmt.Sprintf("%d MB", size>>20), func(b *testing.B) {
			var body bytes.Buffer
			form := multipart.NewWriter(&body)
			part, err := form.CreateFormFile("file", "a.bin")
			if err != nil {
				b.Fatal(err)
			}
			noise := make([]byte, size)
			_, _ = rand.NewChaCha8([32]byte{}).Read(noise) // never fails
			if _, err := part.Write(noise); err != nil {
				b.Fatal(err)
			}
			if err := form.Close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				parts := formdata.NewReader(bytes.NewReader(body.Bytes()), form.Boundary())
				if _, err := parts.Next(); err != nil {
					b.Fatal(err)
				}
				spool := all.Spool(b.Context())
				if err := spool.Receive(parts, math.MaxInt64); err != nil {
					b.Fatal(err)
				}
				spool.Ref()
				parts.Close()
				if err := spool.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
