package datadir

import (
	"os"
	"testing"
)

func TestBallast(t *testing.T) {
	const mb = 1 << 20
	dir, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Each line is an operation on the ballast of a disk of 200 MB.
	for _, line := range []struct {
		words string
		do    func(t *testing.T, b *Ballast)
		size  int64 // of the file; 0 if there is none
	}{
		{"there is none at first", func(t *testing.T, b *Ballast) {
			if b.GiveUp() {
				t.Error("gave up what was not there")
			}
		}, 0},
		{"it is one part in a hundred", func(t *testing.T, b *Ballast) { refill(t, b, 200*mb) }, 2 * mb},
		{"it is refilled once", func(t *testing.T, b *Ballast) { refill(t, b, 200*mb) }, 2 * mb},
		{"it grows with the disk, to eight megabytes", func(t *testing.T, b *Ballast) { refill(t, b, 1<<40) }, 8 * mb},
		{"it is given up once", func(t *testing.T, b *Ballast) {
			if !b.GiveUp() || b.GiveUp() {
				t.Error("given up not at all, or twice")
			}
			if missing := b.Missing(200 * mb); missing != 2*mb {
				t.Errorf("%d bytes are missing then", missing)
			}
		}, 0},
		{"it comes back", func(t *testing.T, b *Ballast) { refill(t, b, 200*mb) }, 2 * mb},
		{"a part of it is completed", func(t *testing.T, b *Ballast) {
			if err := os.Truncate(dir.Join("ballast"), mb); err != nil {
				t.Fatal(err)
			}
			b, err := dir.Ballast() // what a start after a crash finds
			if err != nil {
				t.Fatal(err)
			}
			refill(t, b, 200*mb)
		}, 2 * mb},
		{"one that somebody removed is no help", func(t *testing.T, b *Ballast) {
			if err := os.Remove(dir.Join("ballast")); err != nil {
				t.Fatal(err)
			}
			if b.GiveUp() {
				t.Error("gave up what was not there")
			}
			refill(t, b, 200*mb)
		}, 2 * mb},
	} {
		t.Run(line.words, func(t *testing.T) {
			b, err := dir.Ballast()
			if err != nil {
				t.Fatal(err)
			}
			line.do(t, b)
			var size int64
			if info, err := os.Stat(dir.Join("ballast")); err == nil {
				size = info.Size()
			}
			if size != line.size {
				t.Errorf("there are %d bytes, not %d", size, line.size)
			}
		})
	}
}

func refill(t *testing.T, b *Ballast, total int64) {
	t.Helper()
	if err := b.Refill(total); err != nil {
		t.Error(err)
	}
	if missing := b.Missing(total); missing != 0 {
		t.Errorf("refilled, and %d bytes are missing", missing)
	}
}
