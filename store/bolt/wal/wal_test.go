package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// replayed is a Target that records what is replayed.
type replayed []string

func (r *replayed) HasBucket(name []byte) bool { return len(name) > 0 }

func (r *replayed) Put(bucket, key, value []byte) error {
	*r = append(*r, fmt.Sprintf("put %s %s %s", bucket, key, value))
	return nil
}

func (r *replayed) Delete(bucket, key []byte) error {
	*r = append(*r, fmt.Sprintf("delete %s %s", bucket, key))
	return nil
}

func (r *replayed) SetSequence(bucket []byte, seq uint64) error {
	*r = append(*r, fmt.Sprintf("sequence %s %d", bucket, seq))
	return nil
}

const base = 7 // of all records here

// newLog makes a log whose epoch is stored.
func newLog(t *testing.T) *Log {
	t.Helper()
	l, err := Open(filepath.Join(t.TempDir(), "log"), nil, Options{Write: Append, Failed: func(err error) { t.Errorf("the log failed: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() })
	if l.Ready() {
		t.Fatal("it was ready before the epoch was stored")
	}
	if len(l.EpochToStore()) == 0 {
		t.Fatal("there is no epoch to store")
	}
	l.Committed()
	if !l.Ready() || l.EpochToStore() != nil {
		t.Fatal("it is not ready with the epoch stored")
	}
	return l
}

// recovered returns what a start replays that finds the database at base, and
// stored as its epoch.
func recovered(t *testing.T, path string, stored []byte, base int) ([]string, error) {
	t.Helper()
	l, err := Open(path, stored, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	var writes replayed
	err = l.Recover(base)
	return writes, errors.Join(err, l.Replay(&writes))
}

func TestWhatWasAddedIsReplayedForItsBaseOnly(t *testing.T) {
	l := newLog(t)
	stored := append(l.epoch[:], layout...)
	var want []string
	for i, long := range []int{1, 3000, 508*8 - headerSize, 20_000} {
		value := strings.Repeat("v", long)
		if !l.Add(base, Batch(nil).Put([]byte("b"), []byte("k"), []byte(value)).Delete([]byte("b"), []byte("d")).SetSequence([]byte("b"), uint64(i))) {
			t.Fatal("it was not added")
		}
		want = append(want, "put b k "+value, "delete b d", fmt.Sprintf("sequence b %d", i))
	}
	if got, err := recovered(t, l.path, stored, base); err != nil || !slices.Equal(got, want) {
		t.Errorf("%.80q, %v", got, err)
	}
	if got, err := recovered(t, l.path, stored, base+1); err != nil || len(got) > 0 {
		t.Errorf("for another base: %.80q, %v", got, err)
	}
	stored[0]++
	if got, err := recovered(t, l.path, stored, base); err != nil || len(got) > 0 {
		t.Errorf("for another epoch: %.80q, %v", got, err)
	}
	l.Committed()
	if l.Add(base+1, nil); l.end != blockSize {
		t.Errorf("after a commit, a record ends at %d", l.end)
	}
}

func TestAFullLogTakesNothingUntilACommit(t *testing.T) {
	l := newLog(t)
	batch := Batch(nil).Put([]byte("b"), []byte("k"), make([]byte, 200<<10))
	added := 0
	for l.Add(base, batch) {
		added++
	}
	if size := l.inBlocks(batch); added != usedSize/size {
		t.Errorf("%d records of %d bytes were taken", added, size)
	}
	l.Committed()
	if !l.Add(base+1, batch) {
		t.Error("nothing is taken after a commit")
	}
}

// Earlier versions of attachd wrote records without sectors. One that crashed left
// such a log, which the next start reads.
func TestALogWithoutSectorsIsRead(t *testing.T) {
	l := newLog(t)
	stored := bytes.Clone(l.epoch[:]) // without a layout
	flat := make([]byte, fileSize)
	at := 0
	var want []string
	for _, value := range []string{"one", "two", strings.Repeat("three", 2000)} {
		if !l.Add(base, Batch(nil).Put([]byte("b"), []byte("k"), []byte(value))) {
			t.Fatal("it was not added")
		}
		want = append(want, "put b k "+value)
		if binary.BigEndian.Uint32(l.buffer[4:]) != uint32(len(l.buffer)-headerSize) {
			t.Fatal("a record without its length")
		}
		at += (copy(flat[at:], l.buffer) + blockSize - 1) / blockSize * blockSize
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, flat, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := recovered(t, path, stored, base); err != nil || !slices.Equal(got, want) {
		t.Errorf("%.80q, %v", got, err)
	}
}

// A flipped bit in an acknowledged record is an error, and does not remove the
// record silently.
func TestADamagedRecordIsAnError(t *testing.T) {
	l := newLog(t)
	stored := append(l.epoch[:], layout...)
	for range 3 {
		l.Add(base, Batch(nil).Put([]byte("b"), []byte("k"), make([]byte, 600)))
	}
	whole, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	for bit := 0; bit < 8*(2*blockSize+2*sectorSize); bit += 997 {
		if bit/8%blockSize >= 2*sectorSize {
			continue // after the end of a record
		}
		whole[bit/8] ^= 1 << (bit % 8)
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := recovered(t, path, stored, base); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit %d: %d writes, %v", bit, len(got), err)
		}
		whole[bit/8] ^= 1 << (bit % 8)
	}
}
