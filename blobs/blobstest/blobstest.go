// Package blobstest tests whether a blobs.Store keeps the contract of its
// documentation.
package blobstest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
)

// promise is a part of the contract of backends of one kind, as a sentence and as a
// test.
type promise[S blobs.Store] struct {
	words string
	test  func(t *testing.T, s S)
}

// required is what every backend must do; abilities.go has what is optional.
var required = []promise[blobs.Store]{
	{"a content is named by the SHA-256 of its bytes", namedByHash},
	{"a content is read whole, from any place, and by several at once", readAnyWay},
	{"nothing at all is a content", emptyContent},
	{"a content may come in pieces of any size", pieces},
	{"a spool can be read before it is kept", readSpool},
	{"a spool that is thrown away leaves nothing", thrownAway},
	{"a spool is kept once, and takes nothing afterwards", keptOnce},
	{"closing a spool does nothing to what was kept", closedAfterKeep},
	{"a spool of a cancelled upload keeps nothing", cancelled},
	{"the same content is stored once", storedOnce},
	{"many may keep the same content at once", keptAtOnce},
	{"what is not there is not found", notFound},
	{"a content of another length is damaged", otherLength},
	{"Remove takes away what nobody wants", removed},
	{"Remove leaves what is referenced", referenced},
	{"Remove leaves what may be referenced", perhapsReferenced},
	{"Remove waits until holds are released", removeWaits},
	{"no hold begins while Remove looks", noHoldMeanwhile},
	{"a hold stands in the way of its own content only", holdsApart},
	{"what was kept and recorded is never gone", neverGone},
	{"an open content outlives its removal", outlives},
	{"All lists everything once, in order", listed},
	{"All begins where it is told to", listedFrom},
	{"All stops when it is told to, and when it is cancelled", listStops},
	{"Capacity is some of the total", spaceLeft},
	{"Probe leaves nothing", probed},
}

// Run tests the stores that open returns, including the optional abilities that
// they have. Each test gets an empty store, which open closes by t.Cleanup. The
// tests run concurrently.
func Run(t *testing.T, open func(t *testing.T) blobs.Store) {
	hold(t, open, required)
	hold(t, open, batching)
	hold(t, open, marking)
}

func hold[S blobs.Store](t *testing.T, open func(t *testing.T) blobs.Store, promises []promise[S]) {
	for _, p := range promises {
		t.Run(p.words, func(t *testing.T) {
			t.Parallel()
			s, able := open(t).(S)
			if !able {
				t.Skipf("optional: this backend is no %v", reflect.TypeFor[S]())
			}
			p.test(t, s)
		})
	}
}

func namedByHash(t *testing.T, s blobs.Store) {
	spool := create(t, s)
	write(t, spool, []byte("ab"))
	write(t, spool, []byte("c"))
	// FIPS 180-4 gives this one as an example.
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if got := spool.Ref().String(); got != abc {
		t.Errorf("Ref of abc is %s", got)
	}
	if got := spool.Size(); got != 3 {
		t.Errorf("Size of abc is %d", got)
	}
	keepSpool(t, spool)
	wantContent(t, s, []byte("abc"))
}

func readAnyWay(t *testing.T, s blobs.Store) {
	text := []byte("0123456789")
	ref := keep(t, s, text)
	one, other := open(t, s, ref, 10), open(t, s, ref, 10)
	if _, err := one.Seek(-3, io.SeekEnd); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(one); err != nil || string(got) != "789" {
		t.Errorf("after Seek: %q, %v", got, err)
	}
	if got, err := io.ReadAll(other); err != nil || !bytes.Equal(got, text) {
		t.Errorf("the other reader: %q, %v", got, err)
	}
	middle := make([]byte, 4)
	if _, err := one.ReadAt(middle, 2); err != nil || string(middle) != "2345" {
		t.Errorf("ReadAt: %q, %v", middle, err)
	}
	if n, err := one.ReadAt(nil, 3); n != 0 || err != nil {
		t.Errorf("ReadAt of nothing: %d, %v", n, err)
	}
	if n, err := one.ReadAt(middle, 8); n != 2 || err != io.EOF {
		t.Errorf("ReadAt over the end: %d, %v", n, err)
	}
}

func emptyContent(t *testing.T, s blobs.Store) {
	keep(t, s, nil)
	wantContent(t, s, nil)
}

func pieces(t *testing.T, s blobs.Store) {
	random := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 5<<20+7)
	for i := range content {
		content[i] = byte(random.Uint32())
	}
	spool := create(t, s)
	for rest := content; len(rest) > 0; {
		n := min(random.IntN(200_000), len(rest))
		write(t, spool, rest[:n])
		rest = rest[n:]
	}
	keepSpool(t, spool)
	wantContent(t, s, content)
}

func readSpool(t *testing.T, s blobs.Store) {
	spool := create(t, s)
	write(t, spool, []byte("head and "))
	head := make([]byte, 4)
	if _, err := spool.ReadAt(head, 0); err != nil || string(head) != "head" {
		t.Errorf("the head: %q, %v", head, err)
	}
	write(t, spool, []byte("tail"))
	tail := make([]byte, 10)
	if n, err := spool.ReadAt(tail, 9); string(tail[:n]) != "tail" || err != io.EOF {
		t.Errorf("the tail: %q, %v", tail[:n], err)
	}
	keepSpool(t, spool)
	wantContent(t, s, []byte("head and tail"))
}

func thrownAway(t *testing.T, s blobs.Store) {
	spool := create(t, s)
	write(t, spool, []byte("refused"))
	closeSpool(t, spool)
	wantNothing(t, s)
	if _, err := spool.Write([]byte("more")); err == nil {
		t.Error("a closed spool can be written")
	}
	if _, err := spool.Keep(t.Context()); err == nil {
		t.Error("a closed spool can be kept")
	}
	wantNothing(t, s)
}

func keptOnce(t *testing.T, s blobs.Store) {
	spool := create(t, s)
	write(t, spool, []byte("once"))
	keepSpool(t, spool)
	if _, err := spool.Keep(t.Context()); err == nil {
		t.Error("a spool can be kept twice")
	}
	if _, err := spool.Write([]byte("more")); err == nil {
		t.Error("a kept spool can be written")
	}
	wantContent(t, s, []byte("once"))
}

func closedAfterKeep(t *testing.T, s blobs.Store) {
	for range 2 { // the second finds the content there
		spool := create(t, s)
		write(t, spool, []byte("kept"))
		keepSpool(t, spool)
		closeSpool(t, spool)
		wantContent(t, s, []byte("kept"))
	}
}

func cancelled(t *testing.T, s blobs.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	spool, err := s.Create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	write(t, spool, []byte("too late"))
	cancel()
	if _, err := spool.Keep(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Keep of a cancelled upload: %v", err)
	}
	closeSpool(t, spool)
	wantNothing(t, s)
}

func storedOnce(t *testing.T, s blobs.Store) {
	first, second := keep(t, s, []byte("twin")), keep(t, s, []byte("twin"))
	if first != second {
		t.Errorf("two names: %s and %s", first, second)
	}
	if got := all(t, s); len(got) != 1 {
		t.Errorf("stored: %v", got)
	}
}

func keptAtOnce(t *testing.T, s blobs.Store) {
	content := bytes.Repeat([]byte("crowd"), 1000)
	var crowd sync.WaitGroup
	for range 16 {
		crowd.Go(func() {
			release, err := tryKeep(t.Context(), s, content)
			if err != nil {
				t.Error(err)
				return
			}
			release()
		})
	}
	crowd.Wait()
	if got := all(t, s); len(got) != 1 {
		t.Errorf("stored: %v", got)
	}
	wantContent(t, s, content)
}

func notFound(t *testing.T, s blobs.Store) {
	ref := blobs.Ref(sha256.Sum256([]byte("never seen")))
	if _, err := s.Open(t.Context(), ref, 10); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if _, err := s.Stat(t.Context(), ref); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("Stat: %v", err)
	}
	if gone, err := s.Remove(t.Context(), ref, unwanted); gone || err != nil {
		t.Errorf("Remove: %v, %v", gone, err)
	}
	wantNothing(t, s)
}

func otherLength(t *testing.T, s blobs.Store) {
	ref := keep(t, s, []byte("four"))
	for _, size := range []int64{0, 3, 5} {
		if _, err := s.Open(t.Context(), ref, size); !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("Open of 4 bytes as %d: %v", size, err)
		}
	}
	wantContent(t, s, []byte("four"))
}

func removed(t *testing.T, s blobs.Store) {
	keep(t, s, []byte("stays"))
	ref := keep(t, s, []byte("goes"))
	remove(t, s, ref)
	if _, err := s.Open(t.Context(), ref, 4); !errors.Is(err, blobs.ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if got := all(t, s); len(got) != 1 {
		t.Errorf("stored: %v", got)
	}
	wantContent(t, s, []byte("stays"))
	keep(t, s, []byte("goes"))
	wantContent(t, s, []byte("goes"))
}

func referenced(t *testing.T, s blobs.Store) {
	ref := keep(t, s, []byte("wanted"))
	gone, err := s.Remove(t.Context(), ref, func() (bool, error) { return true, nil })
	if gone || err != nil {
		t.Errorf("Remove: %v, %v", gone, err)
	}
	wantContent(t, s, []byte("wanted"))
}

func perhapsReferenced(t *testing.T, s blobs.Store) {
	ref := keep(t, s, []byte("perhaps"))
	doubt := errors.New("cannot tell")
	gone, err := s.Remove(t.Context(), ref, func() (bool, error) { return false, doubt })
	if gone || !errors.Is(err, doubt) {
		t.Errorf("Remove: %v, %v", gone, err)
	}
	wantContent(t, s, []byte("perhaps"))
}

func removeWaits(t *testing.T, s blobs.Store) {
	content := []byte("held")
	var holders [3]func()
	for i := range holders {
		holders[i] = mustKeep(t, s, content)
	}
	var released atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		gone, err := s.Remove(t.Context(), blobs.Ref(sha256.Sum256(content)), func() (bool, error) {
			if n := released.Load(); n != 3 {
				t.Errorf("Remove waited for %d of 3 holds", n)
			}
			return true, nil
		})
		if gone || err != nil {
			t.Errorf("Remove: %v, %v", gone, err)
		}
	}()
	for _, release := range holders {
		giveWay()
		wantContent(t, s, content)
		released.Add(1)
		release()
	}
	<-done
}

func noHoldMeanwhile(t *testing.T, s blobs.Store) {
	content := []byte("comes back")
	ref := keep(t, s, content)
	var looking atomic.Bool
	done := make(chan struct{})
	gone, err := s.Remove(t.Context(), ref, func() (bool, error) {
		looking.Store(true)
		go func() {
			defer close(done)
			release, err := tryKeep(t.Context(), s, content)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			if looking.Load() {
				t.Error("a hold began while Remove looked")
			}
		}()
		giveWay()
		looking.Store(false)
		return false, nil
	})
	if !gone || err != nil {
		t.Errorf("Remove: %v, %v", gone, err)
	}
	<-done
	wantContent(t, s, content)
}

func holdsApart(t *testing.T, s blobs.Store) {
	mine, neighbour := []byte("mine"), sameFirstByte([]byte("mine"))
	release := mustKeep(t, s, mine)
	done := make(chan struct{})
	go func() {
		defer close(done)
		remove(t, s, blobs.Ref(sha256.Sum256(mine)))
	}()
	giveWay()
	mustKeep(t, s, neighbour)()
	remove(t, s, blobs.Ref(sha256.Sum256(neighbour)))
	release()
	<-done
}

// neverGone runs uploaders that store a content, record a reference, check the
// content and drop the reference, and sweepers that remove what is not recorded,
// concurrently on the same few contents.
func neverGone(t *testing.T, s blobs.Store) {
	contents := [][]byte{[]byte("one"), []byte("two"), []byte("three")}
	var records recordSet
	var uploads, sweeps sync.WaitGroup
	for uploader := range 6 {
		uploads.Go(func() {
			for round := range 30 {
				content := contents[(uploader+round)%len(contents)]
				if err := upload(t.Context(), s, &records, content); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var over atomic.Bool
	for range 2 {
		sweeps.Go(func() {
			for !over.Load() {
				if err := sweep(t.Context(), s, &records, contents); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	uploads.Wait()
	over.Store(true)
	sweeps.Wait()
	if err := sweep(t.Context(), s, &records, contents); err != nil {
		t.Error(err)
	}
	wantNothing(t, s)
}

func upload(ctx context.Context, s blobs.Store, records *recordSet, content []byte) error {
	ref := blobs.Ref(sha256.Sum256(content))
	release, err := tryKeep(ctx, s, content)
	if err != nil {
		return err
	}
	records.add(ref, 1)
	release()
	err = checkContent(ctx, s, content)
	records.add(ref, -1)
	return err
}

func sweep(ctx context.Context, s blobs.Store, records *recordSet, contents [][]byte) error {
	for _, content := range contents {
		ref := blobs.Ref(sha256.Sum256(content))
		_, err := s.Remove(ctx, ref, func() (bool, error) { return records.has(ref), nil })
		if err != nil {
			return err
		}
	}
	return nil
}

// recordSet counts the references to each content, as a database would.
type recordSet struct {
	mu     sync.Mutex
	counts map[blobs.Ref]int
}

func (r *recordSet) add(ref blobs.Ref, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[blobs.Ref]int)
	}
	r.counts[ref] += n
}

func (r *recordSet) has(ref blobs.Ref) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[ref] > 0
}

func outlives(t *testing.T, s blobs.Store) {
	text := bytes.Repeat([]byte("long download "), 100_000)
	ref := keep(t, s, text)
	content := open(t, s, ref, int64(len(text)))
	head := make([]byte, 1000)
	if _, err := io.ReadFull(content, head); err != nil {
		t.Fatal(err)
	}
	remove(t, s, ref)
	rest, err := io.ReadAll(content)
	if err != nil || !bytes.Equal(append(head, rest...), text) {
		t.Errorf("read %d of %d bytes: %v", len(head)+len(rest), len(text), err)
	}
}

func listed(t *testing.T, s blobs.Store) {
	before := time.Now().Add(-time.Minute)
	want := map[blobs.Ref]int64{}
	for n := range 40 {
		content := fmt.Appendf(nil, "content %d", n)
		want[keep(t, s, content)] = int64(len(content))
	}
	unkept := create(t, s)
	write(t, unkept, []byte("not kept"))
	got := all(t, s)
	if len(got) != len(want) {
		t.Errorf("All lists %d of %d", len(got), len(want))
	}
	if !slices.IsSortedFunc(got, func(a, b blobs.Info) int { return bytes.Compare(a.Ref[:], b.Ref[:]) }) {
		t.Errorf("not in order: %v", got)
	}
	for _, info := range got {
		if size, ok := want[info.Ref]; !ok || info.Size != size || info.Damaged {
			t.Errorf("%+v; its size is %d", info, size)
		}
		if info.Modified.Before(before) || info.Modified.After(time.Now().Add(time.Minute)) {
			t.Errorf("modified %v", info.Modified)
		}
		if one := stat(t, s, info.Ref); one.Size != info.Size || !one.Modified.Equal(info.Modified) {
			t.Errorf("All says %+v and Stat says %+v", info, one)
		}
	}
}

func listStops(t *testing.T, s blobs.Store) {
	for n := range 10 {
		keep(t, s, fmt.Appendf(nil, "content %d", n))
	}
	for _, err := range s.All(t.Context(), blobs.Ref{}) {
		if err != nil {
			t.Fatal(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range s.All(ctx, blobs.Ref{}) {
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("a cancelled All ends with %v", last)
	}
}

// listedFrom lists from every content, and from just before and just after it.
func listedFrom(t *testing.T, s blobs.Store) {
	for n := range 40 {
		keep(t, s, fmt.Appendf(nil, "content %d", n))
	}
	whole := all(t, s)
	places := []blobs.Ref{{}, blobs.Ref(bytes.Repeat([]byte{0xff}, sha256.Size))}
	for _, info := range whole {
		before, after := info.Ref, info.Ref
		before[sha256.Size-1]--
		after[sha256.Size-1]++
		places = append(places, before, info.Ref, after)
	}
	for _, from := range places {
		want := slices.DeleteFunc(slices.Clone(whole), func(i blobs.Info) bool { return bytes.Compare(i.Ref[:], from[:]) < 0 })
		if got := allFrom(t, s, from); !slices.Equal(got, want) {
			t.Errorf("from %s on: %v, not %v", from, got, want)
		}
	}
}

func spaceLeft(t *testing.T, s blobs.Store) {
	space, err := s.Capacity(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if space.Free <= 0 || space.Free > space.Total {
		t.Errorf("%d of %d bytes are free", space.Free, space.Total)
	}
}

func probed(t *testing.T, s blobs.Store) {
	if err := s.Probe(t.Context()); err != nil {
		t.Error(err)
	}
	wantNothing(t, s)
}

// unwanted is a referenced for Remove: nothing refers to the content.
func unwanted() (bool, error) { return false, nil }

// giveWay lets other goroutines run. A store that does not wait where it must is
// caught if they get far enough; one that does always passes.
func giveWay() {
	for range 1000 {
		runtime.Gosched()
	}
}

// sameFirstByte returns a content whose name has the same first byte as that of
// content.
func sameFirstByte(content []byte) []byte {
	first := sha256.Sum256(content)[0]
	for n := 0; ; n++ {
		other := fmt.Appendf(nil, "neighbour %d", n)
		if sha256.Sum256(other)[0] == first {
			return other
		}
	}
}

func create(t *testing.T, s blobs.Store) blobs.Spool {
	t.Helper()
	spool, err := s.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSpool(t, spool) })
	return spool
}

func write(t *testing.T, spool blobs.Spool, p []byte) {
	t.Helper()
	if n, err := spool.Write(p); n != len(p) || err != nil {
		t.Fatalf("wrote %d of %d bytes: %v", n, len(p), err)
	}
}

func closeSpool(t *testing.T, spool blobs.Spool) {
	t.Helper()
	if err := spool.Close(); err != nil {
		t.Errorf("Close of a spool: %v", err)
	}
}

func keepSpool(t *testing.T, spool blobs.Spool) {
	t.Helper()
	release, err := spool.Keep(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// keep stores a content and releases the hold.
func keep(t *testing.T, s blobs.Store, content []byte) blobs.Ref {
	t.Helper()
	mustKeep(t, s, content)()
	return sha256.Sum256(content)
}

func mustKeep(t *testing.T, s blobs.Store, content []byte) (release func()) {
	t.Helper()
	release, err := tryKeep(t.Context(), s, content)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func tryKeep(ctx context.Context, s blobs.Store, content []byte) (release func(), err error) {
	spool, err := s.Create(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := spool.Write(content); err != nil {
		return nil, errors.Join(err, spool.Close())
	}
	release, err = spool.Keep(ctx)
	return release, errors.Join(err, spool.Close())
}

func open(t *testing.T, s blobs.Store, ref blobs.Ref, size int64) blobs.Content {
	t.Helper()
	content, err := s.Open(t.Context(), ref, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { content.Close() })
	return content
}

func stat(t *testing.T, s blobs.Store, ref blobs.Ref) blobs.Info {
	t.Helper()
	info, err := s.Stat(t.Context(), ref)
	if err != nil || info.Ref != ref {
		t.Fatalf("Stat of %s: %+v, %v", ref, info, err)
	}
	return info
}

func remove(t *testing.T, s blobs.Store, ref blobs.Ref) {
	t.Helper()
	if gone, err := s.Remove(t.Context(), ref, unwanted); !gone || err != nil {
		t.Errorf("Remove: %v, %v", gone, err)
	}
}

func all(t *testing.T, s blobs.Store) []blobs.Info {
	t.Helper()
	return allFrom(t, s, blobs.Ref{})
}

func allFrom(t *testing.T, s blobs.Store, from blobs.Ref) []blobs.Info {
	t.Helper()
	var infos []blobs.Info
	for info, err := range s.All(t.Context(), from) {
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	return infos
}

func wantNothing(t *testing.T, s blobs.Store) {
	t.Helper()
	if got := all(t, s); len(got) != 0 {
		t.Errorf("stored: %v", got)
	}
}

// wantContent fails unless a content is stored whole and intact.
func wantContent(t *testing.T, s blobs.Store, content []byte) {
	t.Helper()
	if info := stat(t, s, sha256.Sum256(content)); info.Damaged || info.Size != int64(len(content)) {
		t.Errorf("Stat: %+v", info)
	}
	if err := checkContent(t.Context(), s, content); err != nil {
		t.Error(err)
	}
}

func checkContent(ctx context.Context, s blobs.Store, content []byte) error {
	stored, err := s.Open(ctx, sha256.Sum256(content), int64(len(content)))
	if err != nil {
		return err
	}
	got, err := io.ReadAll(stored)
	if !bytes.Equal(got, content) {
		err = errors.Join(err, fmt.Errorf("read %d bytes that are not the %d stored", len(got), len(content)))
	}
	return errors.Join(err, stored.Close())
}
