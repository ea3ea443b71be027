package files

import (
	"archive/zip"
	"context"
	"io"
	"testing"

	"github.com/google/uuid"

	"attachd/store"
)

// zeroArchive reads an archive of files that have only zeros.
type zeroArchive struct{ *archive }

func (a zeroArchive) ReadAt(p []byte, off int64) (int, error) {
	var part buffer
	out := &window{to: &part, from: off, end: off + int64(len(p)), ctx: context.Background()}
	err := a.write(out, func(w io.Writer, i int) (uint32, error) { return 0, skip(w, a.files[i].Size) })
	if err != nil && err != errWindowEnds {
		return 0, err
	}
	if n := copy(p, part); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

type buffer []byte

func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// Beyond 4 GiB, an archive needs the fields of ZIP64.
func TestAnArchiveOfMoreThanFourGigabytes(t *testing.T) {
	t.Parallel()
	var list []store.Attachment
	sizes := []int64{1, 5 << 30, 1<<32 - 1, 3}
	for _, size := range sizes {
		list = append(list, store.Attachment{ID: uuid.Must(uuid.NewV7()), FileName: "a.bin", Size: size})
	}
	a := newArchive(nil, nil, list)
	z, err := zip.NewReader(zeroArchive{a}, a.size)
	if err != nil {
		t.Fatal(err)
	}
	if len(z.File) != len(sizes)+1 {
		t.Fatalf("%d files", len(z.File))
	}
	for i, size := range sizes {
		if got := z.File[i].UncompressedSize64; got != uint64(size) {
			t.Errorf("%s has %d bytes, not %d", z.File[i].Name, got, size)
		}
	}
	last, err := z.File[len(sizes)].Open()
	if err != nil {
		t.Fatal(err)
	}
	if sums, err := io.ReadAll(last); err != nil || string(sums) != a.sums {
		t.Errorf("%q: %v", sums, err)
	}
}
