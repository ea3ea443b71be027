// Package s3 keeps contents in a bucket of an S3-compatible object store. A catalog in the
// metadata records in which object each content is.
//
// # Why no acknowledged content is lost
//
// An object is written once, under a name that was never used before and never will be
// again: PREFIX/blobs/sha256/ab/<digest>/<key>, with a random key for each PUT. So a PUT or
// a DELETE that the store carries out late, or twice, changes no object that the catalog
// names. The catalog intends an object before it is written, and settles it, which makes it
// the place of its content, once the store has confirmed it. An upload that crashes leaves
// an intent, and a removal leaves garbage; Sweep deletes both. The store is not asked what
// it has, nor trusted to refuse a second PUT. Only Compare lists it, to find what others have
// changed there.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"attachd/blobs"
)

const (
	// together is how many objects are written or deleted at once by one call.
	together = 16
	// pageBytes and pageContents limit how much of a batch is in memory at once.
	pageBytes    = 4 << 20
	pageContents = 256
	// sweepAtOnce is how many objects one commit of the catalog forgets.
	sweepAtOnce = 256
	// provenFor is how long a confirmed PUT counts as a probe, as long as the store answers.
	provenFor = 30 * time.Second
	// answeredFor is how long an answer shows that the store is there. With probeFor, a store
	// that is gone is found out in less than ten seconds by whoever asks each second.
	answeredFor = 3 * time.Second
	// probeFor is how long a probe may take, which is less than whoever asks for one waits.
	probeFor = 4 * time.Second
	// attempts is how often an upload begins anew with an object that was given up.
	attempts = 3
	// refusedFor is how long an object that the store has refused to delete is left alone.
	refusedFor = time.Hour
	// mostRefused is how many such objects there may be: with more, nothing else is deleted.
	mostRefused = 1024
	// mostDoubted is how many objects are remembered that could not be discarded; of more,
	// the next start takes care.
	mostDoubted = 1 << 14
	// unholdFor is how long a caller waits to end a hold that came to nothing.
	unholdFor = 5 * time.Second
	// givenUpAfter is the age at which what was intended in a shared store, and not settled,
	// is garbage: the process that intended it is gone, and so is each call that it made.
	givenUpAfter = 24 * time.Hour
	// mostMarked is how many marks there may be for one more content to be marked because its
	// object is missing. Somebody who has emptied the bucket may put all of it back, and each
	// mark takes a commit, and reading the content again.
	mostMarked = 1000
)

// Local is the local storage in which contents are spooled before they are sent.
type Local interface {
	Create(ctx context.Context) (blobs.Spool, error)
	Capacity(ctx context.Context) (blobs.Capacity, error)
	Probe(ctx context.Context) error
	Close() error
}

// Options configure a Store. All without a remark are required.
type Options struct {
	Bucket  Bucket
	Catalog blobs.Catalog
	Local   Local // belongs to the Store, which closes it
	// Prefix is that of all names; empty or with a slash at its end.
	Prefix string
	// Installation identifies the owner of the prefix.
	Installation func(ctx context.Context) (string, error)
	// Tenant tells the owner from copies of it, which have the same Installation; optional.
	Tenant func(ctx context.Context) (string, error)
	// MayDelete says whether the catalog is the latest one, so that Sweep may delete what is
	// garbage in it; optional.
	MayDelete func(ctx context.Context) (bool, error)
	// Epochs notes claims in the metadata, so that two copies of these, or an earlier one, are
	// told apart; optional.
	Epochs Epochs
	// Shared says that other processes have a store with the same Catalog and Epochs.
	Shared bool
	// KeepDeleted is how long an object stays after its content was removed.
	KeepDeleted time.Duration
	// Patience is how long a call that fails is repeated.
	Patience time.Duration
}

// Store is a blobs.Store of objects in a bucket.
type Store struct {
	Options
	locks    blobs.Locks
	proven   atomic.Int64 // when a PUT was confirmed, in unix nanoseconds; 0 since one failed
	answered atomic.Int64 // when the store answered a probe
	claimed  atomic.Bool  // the prefix is known to belong to this installation
	claiming singleflight.Group
	token    string          // of the claims of this process
	shared   atomic.Bool     // Sweep has reported ErrShared
	watched  atomic.Int64    // when watch has looked, in unix nanoseconds
	adopted  atomic.Bool     // Adopt has succeeded
	life     context.Context // ended by Close
	end      context.CancelFunc

	mu      sync.Mutex                 // guards all below
	open    map[blobs.Object]int       // how many contents are open that are read from it
	refused map[blobs.Object]time.Time // when the store refused to delete it
	doubted []blobs.Object             // that are to be discarded, and may be intended still
}

var _ interface {
	blobs.Store
	blobs.Batcher
	blobs.Marker
	blobs.Linker
	blobs.Sweeper
	blobs.Comparer
	blobs.Watched
} = (*Store)(nil)

// Open returns the store. Unless it is shared, one process at most may have it: it gives up
// what earlier processes intended. The object store need not be reachable.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if !opts.Shared {
		if err := opts.Catalog.Abandon(ctx, endOfTime); err != nil {
			return nil, fmt.Errorf("giving up unfinished uploads: %w", err)
		}
	}
	s := &Store{Options: opts, token: blobs.NewKey().String(), open: map[blobs.Object]int{}, refused: map[blobs.Object]time.Time{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// endOfTime is after the time of every intent, by a clock that was years ahead too.
var endOfTime = time.Unix(1<<40, 0)

// ErrForeign means that the prefix belongs to another installation.
var ErrForeign = errors.New("another installation of attachd keeps its files there")

// ErrEmptied means that the prefix belongs to nobody although contents should be there.
var ErrEmptied = errors.New("the bucket does not have the files that should be there: see that storage.s3_endpoint, s3_bucket and s3_prefix are those with which they were uploaded")

// markerName is the object that says whose prefix it is.
const markerName = "attachd.json"

type marker struct {
	Installation string `json:"installation"`
	Tenant       string `json:"tenant,omitempty"`
	Layout       int    `json:"layout"` // of the names of objects
	Epoch
	// Contested says that another process than the last one has claimed the prefix, too, and
	// is still at work.
	Contested bool `json:"contested,omitempty"`
}

const layout = 1

// Claim makes sure that the prefix belongs to this installation, and takes it where it
// belongs to nobody. ErrForeign when it is another's, or a copy's; ErrEmptied when contents
// should be there and it is nobody's. Callers that come at the same time share an attempt:
// with a store that does not answer, each would wait for the ones before it otherwise.
func (s *Store) Claim(ctx context.Context) error {
	if s.claimed.Load() {
		return nil
	}
	claimed := s.claiming.DoChan("", func() (any, error) { return nil, s.claim() })
	select {
	case result := <-claimed:
		return result.Err
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
}

// claim gives each call half of the patience at most: who comes when the store is back may
// have to wait for an attempt that began before.
func (s *Store) claim() error {
	ours, err := s.ours(s.life)
	if err != nil {
		return err
	}
	found, err := s.marker()
	if errors.Is(err, blobs.ErrNotFound) { // once more, since it would be overwritten
		wait(s.life, missingPause)
		found, err = s.marker()
	}
	nobodys := errors.Is(err, blobs.ErrNotFound)
	switch {
	case nobodys:
		err = s.mayTake(ours)
	case err != nil:
		err = fmt.Errorf("reading %s: %w", s.Prefix+markerName, err)
	default:
		err = s.judge(found, ours)
	}
	if err != nil {
		return unavailable(err)
	}
	if nobodys || s.Epochs != nil && found.Token != s.token {
		if ours.Epoch, err = s.raise(s.life, found); err != nil {
			return err
		}
		if err := s.take(ours, nobodys); err != nil {
			return unavailable(fmt.Errorf("writing %s: %w", s.Prefix+markerName, err))
		}
	}
	s.claimed.Store(true)
	return nil
}

// judge returns an error unless a marker that was found is ours.
func (s *Store) judge(found, ours marker) error {
	switch {
	case found.Layout > layout:
		return fmt.Errorf("%s in the bucket was written by a newer attachd: update this one", s.Prefix+markerName)
	case found.Installation != ours.Installation:
		return fmt.Errorf("%w: %s in the bucket says %s; this one is %s. Give this one another storage.s3_prefix, or restore the database that belongs to the bucket", ErrForeign, s.Prefix+markerName, found.Installation, ours.Installation)
	case found.Tenant != ours.Tenant:
		return fmt.Errorf("%w: %s in the bucket says that this one is a copy of it, restored from a backup. Give this one another storage.s3_prefix", ErrForeign, s.Prefix+markerName)
	}
	return nil
}

// unavailable says of an error that the storage cannot be used.
func unavailable(err error) error { return fmt.Errorf("%w: %w", blobs.ErrUnavailable, err) }

// inTime makes a call that takes half of the patience at most.
func (s *Store) inTime(call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(s.life, max(s.Patience/2, missingPause*2))
	defer cancel()
	return call(ctx)
}

// marker reads the marker.
func (s *Store) marker() (m marker, err error) {
	err = s.inTime(func(ctx context.Context) error {
		return s.again(ctx, func() error {
			m, err = readMarker(ctx, s.Bucket, s.Prefix)
			return err
		})
	})
	return m, err
}

// ours is the marker of this installation.
func (s *Store) ours(ctx context.Context) (m marker, err error) {
	m.Layout = layout
	if m.Installation, err = s.Installation(ctx); err == nil && s.Tenant != nil {
		m.Tenant, err = s.Tenant(ctx)
	}
	return m, err
}

// mayTake returns an error when contents should be there: then this is another prefix than
// theirs, or they were deleted.
func (s *Store) mayTake(m marker) error {
	for _, err := range s.Catalog.Places(s.life, blobs.Ref{}) {
		raw, bad := json.Marshal(m)
		return cmp.Or(err, bad, fmt.Errorf("%w. If they are there all the same, put %s back with this content: %s", ErrEmptied, s.Prefix+markerName, raw))
	}
	return nil
}

// take writes the marker. Where there was none, others may do so at the same time: it is read
// again once they have.
func (s *Store) take(m marker, nobodys bool) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	err = s.inTime(func(ctx context.Context) error {
		return s.Bucket.Put(ctx, s.Prefix+markerName, bytes.NewReader(raw), int64(len(raw)), blobs.RefOf(raw))
	})
	if err != nil || !nobodys {
		return err
	}
	wait(s.life, missingPause)
	found, err := s.marker()
	switch {
	case err != nil:
		return err
	case found.Epoch != m.Epoch && !s.Shared:
		return cmp.Or(s.judge(found, m), errors.New("another process has written it at the same time"))
	}
	return s.judge(found, m)
}

// certain returns the error of an object that is missing or another, if it is the store's
// answer. Where the marker is not ours, it is not: the bucket is then another one, or was
// emptied, or something else answers in place of the store.
func (s *Store) certain(ctx context.Context, err error) error {
	if _, other := s.stillOurs(ctx); other != nil {
		return fmt.Errorf("%w; so it may mean nothing that %v", other, err)
	}
	return err
}

// name is the name of an object.
func (s *Store) name(o blobs.Object) string {
	digest := o.Ref.String()
	return s.Prefix + "blobs/sha256/" + digest[:2] + "/" + digest + "/" + o.Key.String()
}

// object is the object of a name, if it is one of a content.
func (s *Store) object(name string) (o blobs.Object, is bool) {
	parts := strings.Split(strings.TrimPrefix(name, s.Prefix), "/")
	if len(parts) != 5 {
		return o, false
	}
	ref, err := blobs.ParseRef(parts[3])
	key, bad := blobs.ParseKey(parts[4])
	o = blobs.Object{Ref: ref, Key: key}
	return o, err == nil && bad == nil && s.name(o) == name
}

// Create opens an empty Spool on the local disk.
func (s *Store) Create(ctx context.Context) (blobs.Spool, error) {
	local, err := s.Local.Create(ctx)
	if err != nil {
		return nil, err
	}
	return &spool{Spool: local, store: s}, nil
}

// spool is a local spool whose content is kept in the bucket.
type spool struct {
	blobs.Spool
	store *Store
	err   error // why nothing more can be written or kept
}

var errUsedUp = errors.New("the spool was kept or closed before")

func (s *spool) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.Spool.Write(p)
	s.err = err
	return n, err
}

// Keep writes an object also where the content is stored already, and makes that the place
// of the content. So a content that is damaged or gone, known or not, is intact afterwards,
// and the time that Keep takes tells an uploader nothing.
func (s *spool) Keep(ctx context.Context) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, s.err
	}
	s.err = errUsedUp
	ref, size := s.Ref(), s.Size()
	return s.store.keep(ctx, []toKeep{{ref, size, func() io.Reader { return io.NewSectionReader(s.Spool, 0, size) }}})
}

func (s *spool) Close() error {
	s.err = errUsedUp
	return s.Spool.Close()
}

// toKeep is a content to be kept.
type toKeep struct {
	ref    blobs.Ref
	size   int64
	reader func() io.Reader
}

// keep writes contents, and holds them.
func (s *Store) keep(ctx context.Context, contents []toKeep) (release func(), err error) {
	for range attempts {
		var places []blobs.Place
		if places, err = s.write(ctx, contents); err != nil {
			return nil, err
		}
		if release, err = s.settle(ctx, places); !errors.Is(err, blobs.ErrAbandoned) {
			return release, err
		}
	}
	return nil, err
}

func objectsOf(places []blobs.Place) []blobs.Object {
	objects := make([]blobs.Object, len(places))
	for i, p := range places {
		objects[i] = p.Object
	}
	return objects
}

// write writes an object for each content.
func (s *Store) write(ctx context.Context, contents []toKeep) ([]blobs.Place, error) {
	if err := s.Claim(ctx); err != nil {
		return nil, err
	}
	objects := make([]blobs.Object, len(contents))
	places := make([]blobs.Place, len(contents))
	for i, c := range contents {
		objects[i] = blobs.NewObject(c.ref)
		places[i] = blobs.Place{Object: objects[i], Size: c.size, Stored: time.Now().Truncate(time.Second)}
	}
	err := s.Catalog.Intend(ctx, objects)
	if err == nil {
		err = s.putAll(ctx, objects, contents)
	}
	if err != nil {
		return nil, errors.Join(err, s.discard(ctx, objects))
	}
	return places, nil
}

func (s *Store) putAll(ctx context.Context, objects []blobs.Object, contents []toKeep) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for i, c := range contents {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err // of another content
			}
			return s.put(ctx, objects[i], c)
		})
	}
	return group.Wait()
}

// put writes one object. A PUT may be repeated: it writes the same bytes under a name that
// nothing else has.
func (s *Store) put(ctx context.Context, o blobs.Object, c toKeep) error {
	err := s.again(ctx, func() error { return s.Bucket.Put(ctx, s.name(o), c.reader(), c.size, c.ref) })
	if err != nil {
		if ctx.Err() == nil {
			s.proven.Store(0)
		}
		return unavailable(fmt.Errorf("writing blob %s into the bucket: %w", c.ref, err))
	}
	s.proven.Store(time.Now().UnixNano())
	return nil
}

// settle makes the objects that were written the places of their contents, and holds them.
func (s *Store) settle(ctx context.Context, places []blobs.Place) (release func(), err error) {
	refs := make([]blobs.Ref, len(places))
	for i, p := range places {
		refs[i] = p.Ref
	}
	unlock := s.locks.SharedAll(refs)
	if err := s.Catalog.Settle(ctx, places); err != nil {
		unlock()
		return nil, errors.Join(err, s.discard(ctx, objectsOf(places)))
	}
	holder, is := s.Catalog.(blobs.Holder)
	if !is {
		return unlock, nil
	}
	return sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(s.life, unholdFor)
		defer cancel()
		_ = holder.Unhold(ctx, refs) // what is still held then is held for an hour
		unlock()
	}), nil
}

// KeepAll implements blobs.Batcher.
func (s *Store) KeepAll(ctx context.Context, contents iter.Seq2[blobs.Ref, []byte]) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var written []blobs.Place
	var page []toKeep
	var bytesInPage int
	write := func() error {
		places, err := s.write(ctx, page)
		written = append(written, places...)
		page, bytesInPage = page[:0], 0
		return err
	}
	for ref, content := range contents {
		content = bytes.Clone(content)
		page = append(page, toKeep{ref, int64(len(content)), func() io.Reader { return bytes.NewReader(content) }})
		if bytesInPage += len(content); bytesInPage >= pageBytes || len(page) == pageContents {
			if err := write(); err != nil {
				return nil, errors.Join(err, s.discard(ctx, objectsOf(written)))
			}
		}
	}
	if len(page) > 0 {
		err = write()
	}
	if err == nil && len(written) == 0 {
		return func() {}, nil
	}
	if err != nil {
		return nil, errors.Join(err, s.discard(ctx, objectsOf(written)))
	}
	return s.settle(ctx, written)
}

// discard makes objects garbage that were not settled. Where that fails, Sweep tries it
// again.
func (s *Store) discard(ctx context.Context, objects []blobs.Object) error {
	if len(objects) == 0 {
		return nil
	}
	err := s.Catalog.Discard(context.WithoutCancel(ctx), objects)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.doubted = append(s.doubted, objects[:min(len(objects), max(0, mostDoubted-len(s.doubted)))]...)
	}
	return err
}

// discardDoubted discards what could not be discarded before.
func (s *Store) discardDoubted(ctx context.Context) error {
	s.mu.Lock()
	objects := s.doubted
	s.doubted = nil
	s.mu.Unlock()
	return s.discard(ctx, objects)
}

// Open opens a content. It asks the catalog; the bucket is asked by the first read.
func (s *Store) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	return s.opened(ctx, func() (blobs.Place, error) { return s.place(ctx, ref, size) })
}

// opened returns a content that is read from the place that find returns. The object stays
// until the content is closed: it is known not to be garbage yet at a time when Sweep knows
// already that it is read. Where the store is shared, another process may delete it all the
// same, KeepDeleted after the content was removed or went to another object.
func (s *Store) opened(ctx context.Context, find func() (blobs.Place, error)) (blobs.Content, error) {
	for {
		place, err := find()
		if err != nil {
			return nil, err
		}
		c := newContent(ctx, s, place)
		if s.Shared {
			return c, nil
		}
		again, err := find()
		if err == nil && again.Object == place.Object {
			return c, nil
		}
		if err := errors.Join(err, c.Close()); err != nil {
			return nil, err
		}
	}
}

// hold keeps an object from being deleted until as many calls of letGo.
func (s *Store) hold(o blobs.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[o]++
}

func (s *Store) letGo(o blobs.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[o]--; s.open[o] == 0 {
		delete(s.open, o)
	}
}

func (s *Store) place(ctx context.Context, ref blobs.Ref, size int64) (blobs.Place, error) {
	p, err := s.Catalog.Place(ctx, ref)
	switch {
	case err != nil:
		return p, err
	case p.Damaged:
		return p, fmt.Errorf("%w: %s is marked", blobs.ErrDamaged, ref)
	case p.Size != size:
		return p, fmt.Errorf("%w: %s has %d bytes, not %d", blobs.ErrDamaged, ref, p.Size, size)
	}
	return p, nil
}

// Link implements blobs.Linker.
func (s *Store) Link(ctx context.Context, ref blobs.Ref, size int64, how blobs.LinkOptions) (string, time.Time, error) {
	p, err := s.place(ctx, ref, size)
	if err != nil {
		return "", time.Time{}, err
	}
	return s.Bucket.Link(ctx, s.name(p.Object), how)
}

// Stat implements blobs.Store from the catalog.
func (s *Store) Stat(ctx context.Context, ref blobs.Ref) (blobs.Info, error) {
	if err := ctx.Err(); err != nil {
		return blobs.Info{}, err
	}
	p, err := s.Catalog.Place(ctx, ref)
	if err != nil {
		return blobs.Info{}, err
	}
	return describe(p), nil
}

func describe(p blobs.Place) blobs.Info {
	return blobs.Info{Ref: p.Ref, Size: p.Size, Modified: p.Stored, Damaged: p.Damaged}
}

// All implements blobs.Store from the catalog.
func (s *Store) All(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Info, error] {
	return func(yield func(blobs.Info, error) bool) {
		for p, err := range s.Catalog.Places(ctx, from) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(describe(p), err) || err != nil {
				return
			}
		}
	}
}

// Remove makes the content's object garbage.
func (s *Store) Remove(ctx context.Context, ref blobs.Ref, referenced func() (bool, error)) (removed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	release := s.locks.Exclusive(ref)
	defer release()
	if wanted, err := referenced(); err != nil || wanted {
		return false, err
	}
	return s.Catalog.Release(ctx, ref)
}

// Sweep deletes garbage from the bucket, except what is being read. What the store does not
// delete, as where a bucket keeps objects for a time, does not keep back the rest. While
// the catalog may not be the latest one, nothing is deleted, since a later one may have what
// is garbage in this; but what only the later one knows is adopted. Where the catalog has a clock
// of its own, that one counts if it is behind now.
func (s *Store) Sweep(ctx context.Context, now time.Time) error {
	if err := cmp.Or(s.discardDoubted(ctx), s.watch(ctx)); err != nil {
		return err
	}
	if by, is := s.Catalog.(blobs.Clocked); is {
		there, err := by.Now(ctx)
		if err != nil {
			return err
		}
		if there.Before(now) {
			now = there
		}
	}
	if s.Shared {
		if err := s.Catalog.Abandon(ctx, now.Add(-givenUpAfter)); err != nil {
			return err
		}
	}
	may, err := s.latest(ctx)
	sw := &sweep{Store: s, now: now, failed: map[blobs.Object]struct{}{}}
	for err == nil && may && ctx.Err() == nil {
		var due []blobs.Object
		if due, err = sw.due(ctx); err != nil || len(due) == 0 {
			break
		}
		if may, err = s.mayDelete(ctx); err != nil || !may {
			break
		}
		deleted, stopped := sw.delete(ctx, due)
		err = errors.Join(s.Catalog.Forget(ctx, deleted), stopped)
	}
	if sw.refusal != nil {
		err = errors.Join(err, fmt.Errorf("objects that the store refuses to delete are left alone for an hour, such as this one: %w", sw.refusal))
	}
	return errors.Join(err, sw.failure)
}

// latest says whether the catalog is the latest one. Where it may not be, it adopts what a
// later one knows.
func (s *Store) latest(ctx context.Context) (bool, error) {
	if s.MayDelete == nil {
		return true, nil
	}
	may, err := s.MayDelete(ctx)
	if err == nil && !may {
		err = s.adoptOnce(ctx)
	}
	return may, err
}

// sweep is a run of Sweep.
type sweep struct {
	*Store
	now              time.Time
	failed           map[blobs.Object]struct{} // that are left to the next sweep
	refusal, failure error                     // the first of each kind
	inARow           int                       // failures since the last success
}

// due returns some garbage that is to be deleted now.
func (s *sweep) due(ctx context.Context) (due []blobs.Object, err error) {
	now := time.Now()
	s.mu.Lock()
	maps.DeleteFunc(s.refused, func(_ blobs.Object, since time.Time) bool { return now.Sub(since) >= refusedFor })
	skipped, stuck := len(s.open)+len(s.refused)+len(s.failed), len(s.refused)+len(s.failed) >= mostRefused
	s.mu.Unlock()
	if stuck {
		return nil, nil
	}
	garbage, err := s.Catalog.Garbage(ctx, s.now.Add(-s.KeepDeleted), sweepAtOnce+skipped)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range garbage {
		_, refused := s.refused[o]
		_, failed := s.failed[o]
		if !refused && !failed && s.open[o] == 0 && len(due) < sweepAtOnce {
			due = append(due, o)
		}
	}
	return due, err
}

// delete deletes objects, and returns those that are gone. It stops when none can be deleted
// any more.
func (s *sweep) delete(ctx context.Context, objects []blobs.Object) (deleted []blobs.Object, stopped error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	for _, o := range objects {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err // it was stopped
			}
			err := s.Bucket.Delete(ctx, s.name(o))
			s.mu.Lock()
			defer s.mu.Unlock()
			switch {
			case err == nil:
				deleted, s.inARow = append(deleted, o), 0
				return nil
			case isRefusal(err):
				s.refused[o] = time.Now()
				s.refusal = cmp.Or(s.refusal, err)
				return nil
			}
			s.failed[o] = struct{}{}
			s.failure = cmp.Or(s.failure, fmt.Errorf("deleting %s: %w", s.name(o), err))
			if s.inARow++; s.inARow < together {
				return nil
			}
			return errors.New("the object store deletes nothing at present")
		})
	}
	stopped = group.Wait()
	return deleted, stopped
}

// Unswept implements blobs.Sweeper.
func (s *Store) Unswept() int64 {
	intended, garbage := s.Catalog.Waiting()
	return intended + garbage
}

// Capacity is that of the local disk, through which every upload goes: a bucket has no
// limit.
func (s *Store) Capacity(ctx context.Context) (blobs.Capacity, error) { return s.Local.Capacity(ctx) }

// Probe writes and deletes an object, unless one was written half a minute ago at most. Then
// it asks the store for the marker only, which costs less, and not more often than every few
// seconds.
func (s *Store) Probe(ctx context.Context) error {
	if err := s.Local.Probe(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	proven, answered := s.proven.Load(), s.answered.Load()
	if within(proven, provenFor) {
		if within(proven, answeredFor) || within(answered, answeredFor) {
			return nil
		}
		return s.ask(ctx)
	}
	if err := s.Claim(ctx); err != nil {
		return err
	}
	name, probe := s.Prefix+probeFolder+blobs.NewKey().String(), []byte("probe")
	err := s.Bucket.Put(ctx, name, bytes.NewReader(probe), int64(len(probe)), blobs.RefOf(probe))
	if err == nil {
		s.proven.Store(time.Now().UnixNano())
	}
	// It may be there after a failure too.
	if err = errors.Join(err, s.Bucket.Delete(ctx, name)); err != nil {
		return unavailable(fmt.Errorf("probing the bucket: %w", err))
	}
	return nil
}

// within says whether a time in unix nanoseconds was that long ago at most. One that is still
// to come was written before the clock was set back: how long ago it was is not known.
func within(since int64, most time.Duration) bool {
	age := time.Since(time.Unix(0, since))
	return age >= 0 && age < most
}

// ask asks the store for the marker.
func (s *Store) ask(ctx context.Context) error {
	if _, _, err := s.Bucket.Stat(ctx, s.Prefix+markerName); err != nil {
		return unavailable(fmt.Errorf("looking for %s in the bucket: %w", s.Prefix+markerName, err))
	}
	s.answered.Store(time.Now().UnixNano())
	return nil
}

// InPlace implements blobs.Watched for the local storage.
func (s *Store) InPlace() error {
	if watched, ok := s.Local.(blobs.Watched); ok {
		return watched.InPlace()
	}
	return nil
}

// Close implements blobs.Store.
func (s *Store) Close() error {
	s.end()
	_, _, _ = s.claiming.Do("", func() (any, error) { return nil, nil }) // waits for the one under way
	return s.Local.Close()
}

// MarkDamaged implements blobs.Marker.
func (s *Store) MarkDamaged(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	return s.mark(ctx, ref, read, true)
}

// Unmark implements blobs.Marker.
func (s *Store) Unmark(ctx context.Context, ref blobs.Ref, read blobs.Content) error {
	return s.mark(ctx, ref, read, false)
}

func (s *Store) mark(ctx context.Context, ref blobs.Ref, read blobs.Content, damaged bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	release := s.locks.Exclusive(ref)
	defer release()
	if c, ok := read.(*content); ok {
		object, lost := c.found()
		if n := s.Catalog.Damaged(); damaged && lost && n >= mostMarked {
			return fmt.Errorf("%w: %d are marked damaged already, and %s is not", blobs.ErrManyLost, n, ref)
		}
		return s.Catalog.Mark(ctx, object, damaged)
	}
	p, err := s.Catalog.Place(ctx, ref)
	if err != nil {
		return err
	}
	return s.Catalog.Mark(ctx, p.Object, damaged)
}

// OpenMarked implements blobs.Marker.
func (s *Store) OpenMarked(ctx context.Context, ref blobs.Ref) (blobs.Content, error) {
	return s.opened(ctx, func() (blobs.Place, error) { return s.Catalog.Place(ctx, ref) })
}

// Damaged implements blobs.Marker.
func (s *Store) Damaged() int { return s.Catalog.Damaged() }

// Marked implements blobs.Marker.
func (s *Store) Marked() []blobs.Ref { return s.Catalog.Marked() }

// again repeats a call as long as its error may pass, three times at most, and not once the
// caller has waited for half of the patience: the next try may take as long as the first.
func (s *Store) again(ctx context.Context, call func() error) error {
	began := time.Now()
	for try, pause := 1, 100*time.Millisecond; ; try, pause = try+1, 3*pause {
		err := call()
		if err == nil || try == 3 || !mayPass(err) || time.Since(began)+pause > s.Patience/2 {
			return err
		}
		if wait(ctx, pause); ctx.Err() != nil {
			return err
		}
	}
}

// wait waits for some time, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// mayPass says whether the same call may succeed a moment later.
func mayPass(err error) bool {
	if errors.Is(err, blobs.ErrNotFound) || errors.Is(err, blobs.ErrDamaged) || errors.Is(err, context.Canceled) || errors.Is(err, ErrStalled) {
		return false
	}
	return !isRefusal(err)
}

// isRefusal says whether the store will say the same to the same call again.
func isRefusal(err error) bool {
	var answer *StoreError
	if !errors.As(err, &answer) || answer.Status >= 500 || answer.Status == 429 {
		return false
	}
	switch answer.Code {
	case "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "OperationAborted": // on the way
		return false
	}
	return true
}
