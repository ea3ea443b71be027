package disk_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"attachd/blobs/blobstest"
	"attachd/blobs/durable"
)

// A file has the blocks that its bytes need, however they were written: none that were
// allocated ahead stay behind.
func TestAContentTakesNoMoreRoomThanItsBytes(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "attachd-") // temporary files may be in memory
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if name, err := durable.FileSystem(dir); err != nil || name != "ext4" {
		t.Skipf("blocks are not allocated ahead on %s: %v", name, err)
	}
	d := openDisk(t, dir)
	roomOf := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Blocks * 512
	}
	const block, piece = 4 << 10, 128 << 10
	for n, pieces := range [][]int{{100}, {piece}, {piece, 1}, {piece, piece, 5000}, {700_000}, {piece, 1 << 20, 100}, {2 << 20}} {
		size := 0
		spool, err := d.Create(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer spool.Close()
		for _, length := range pieces {
			size += length
			if _, err := spool.Write(bytes.Repeat([]byte{byte(n + 1)}, length)); err != nil {
				t.Fatal(err)
			}
		}
		ref := spool.Ref()
		release, err := spool.Keep(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		release()
		path := filepath.Join(dir, "blobs", "sha256", ref.String()[:2], ref.String())
		if room := roomOf(path); room > int64(size+block) {
			t.Errorf("%v: %d bytes take %d", pieces, size, room)
		}
		if got, err := read(d, ref, size); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(n + 1)}, size)) {
			t.Errorf("%v: read %d bytes, %v", pieces, len(got), err)
		}
	}
	var batch [][]byte
	for n := range 10 {
		batch = append(batch, bytes.Repeat([]byte{byte(n + 100)}, 200_000))
	}
	release, err := d.KeepAll(context.Background(), blobstest.Named(batch...))
	if err != nil {
		t.Fatal(err)
	}
	release()
	for info, err := range d.All(context.Background(), [32]byte{}) {
		path := filepath.Join(dir, "blobs", "sha256", info.Ref.String()[:2], info.Ref.String())
		if room := roomOf(path); err != nil || room > info.Size+block {
			t.Errorf("%d bytes take %d: %v", info.Size, room, err)
		}
	}
}
