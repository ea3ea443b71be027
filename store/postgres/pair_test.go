package postgres_test

import (
	"context"
	"errors"
	"iter"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
)

// pair is two replicas behind a load balancer that sends each call to the other one: what one
// of them has acknowledged, the other knows.
type pair struct {
	stores [2]*postgres.Store
	turn   atomic.Int64
	t      *testing.T
}

var _ interface {
	store.Store
	blobs.Catalog
	blobs.Holder
} = (*pair)(nil)

func openPair(t *testing.T) *pair {
	t.Helper()
	dsn := emptyDatabase(t)
	return &pair{t: t, stores: [2]*postgres.Store{openAt(t, dsn), openAt(t, dsn)}}
}

func (b *pair) next() *postgres.Store { return b.stores[(b.turn.Add(1)-1)%2] }

// here is the store that takes the next call, too: for what a process may keep to itself for a
// while.
func (b *pair) here() *postgres.Store { return b.stores[b.turn.Load()%2] }

// home is the store that keeps a content and records it, which one process does.
func (b *pair) home(sha256 [32]byte) *postgres.Store { return b.stores[sha256[0]%2] }

// counted is a store that has counted what the other one has changed, which otherwise it does
// a second later.
func (b *pair) counted() *postgres.Store {
	if err := b.stores[0].CountNow(b.t.Context()); err != nil {
		b.t.Error(err)
	}
	return b.stores[0]
}

// Those of store.Store.
func (b *pair) Probe(ctx context.Context) error { return b.next().Probe(ctx) }
func (b *pair) Check(ctx context.Context, rest func(took time.Duration)) ([]string, error) {
	return b.next().Check(ctx, rest)
}
func (b *pair) Close() error { return errors.Join(b.stores[0].Close(), b.stores[1].Close()) }

// Those of store.Attachments.
func (b *pair) CreateAttachment(ctx context.Context, a store.Attachment, checksums []byte, autoCreate string) error {
	return b.home(a.SHA256).CreateAttachment(ctx, a, checksums, autoCreate)
}
func (b *pair) Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return b.next().Attachment(ctx, id)
}
func (b *pair) AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return b.next().AttachmentsOf(ctx, p, after, limit)
}
func (b *pair) AllAttachments(ctx context.Context, after uuid.UUID, limit int) ([]store.Attachment, error) {
	return b.next().AllAttachments(ctx, after, limit)
}
func (b *pair) DeleteAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return b.next().DeleteAttachment(ctx, id)
}
func (b *pair) Referenced(ctx context.Context, sha256 [32]byte) (bool, error) {
	return b.next().Referenced(ctx, sha256)
}
func (b *pair) AttachmentsWith(ctx context.Context, sha256 [32]byte, limit int) ([]store.Attachment, error) {
	return b.next().AttachmentsWith(ctx, sha256, limit)
}
func (b *pair) Checksums(ctx context.Context, sha256 [32]byte) ([]byte, error) {
	return b.next().Checksums(ctx, sha256)
}
func (b *pair) AddChecksums(ctx context.Context, checksums map[[32]byte][]byte) error {
	return b.next().AddChecksums(ctx, checksums)
}
func (b *pair) Totals(ctx context.Context, rest func(took time.Duration)) (store.Totals, error) {
	return b.next().Totals(ctx, rest)
}

// Those of store.Trash.
func (b *pair) TrashAttachment(ctx context.Context, id uuid.UUID, d store.Deletion) (store.Attachment, error) {
	return b.next().TrashAttachment(ctx, id, d)
}
func (b *pair) TrashEntity(ctx context.Context, p store.Parent, withAttachments bool, d store.Deletion) error {
	return b.next().TrashEntity(ctx, p, withAttachments, d)
}
func (b *pair) TrashSpace(ctx context.Context, slug string, withAttachments bool, d store.Deletion) error {
	return b.next().TrashSpace(ctx, slug, withAttachments, d)
}
func (b *pair) TrashedAttachment(ctx context.Context, id uuid.UUID) (store.Trashed, error) {
	return b.next().TrashedAttachment(ctx, id)
}
func (b *pair) TrashedEntity(ctx context.Context, p store.Parent) (store.Trashed, error) {
	return b.next().TrashedEntity(ctx, p)
}
func (b *pair) TrashedSpace(ctx context.Context, slug string) (store.Trashed, error) {
	return b.next().TrashedSpace(ctx, slug)
}
func (b *pair) TrashOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Trashed, error) {
	return b.next().TrashOf(ctx, p, after, limit)
}
func (b *pair) TrashIn(ctx context.Context, space string, after []byte, limit int) ([]store.Trashed, error) {
	return b.next().TrashIn(ctx, space, after, limit)
}
func (b *pair) RestoreAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return b.next().RestoreAttachment(ctx, id)
}
func (b *pair) RestoreEntity(ctx context.Context, p store.Parent) (store.Entity, error) {
	return b.next().RestoreEntity(ctx, p)
}
func (b *pair) RestoreSpace(ctx context.Context, slug string) (store.Space, error) {
	return b.next().RestoreSpace(ctx, slug)
}
func (b *pair) SetHold(ctx context.Context, h store.Hold) (store.Hold, error) {
	return b.next().SetHold(ctx, h)
}
func (b *pair) Hold(ctx context.Context, id uuid.UUID) (store.Hold, error) {
	return b.next().Hold(ctx, id)
}
func (b *pair) Holds(ctx context.Context, space string, after []byte, limit int) ([]store.Hold, error) {
	return b.next().Holds(ctx, space, after, limit)
}
func (b *pair) HeldInTrash(ctx context.Context) (store.Usage, error) {
	return b.next().HeldInTrash(ctx)
}
func (b *pair) LiftHold(ctx context.Context, id uuid.UUID) (store.Hold, error) {
	return b.next().LiftHold(ctx, id)
}
func (b *pair) PurgeAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return b.next().PurgeAttachment(ctx, id)
}
func (b *pair) PurgeEntity(ctx context.Context, p store.Parent) error {
	return b.next().PurgeEntity(ctx, p)
}
func (b *pair) PurgeSpace(ctx context.Context, slug string) error {
	return b.next().PurgeSpace(ctx, slug)
}
func (b *pair) PurgeUntil(ctx context.Context, until, held time.Time, limit int) ([][32]byte, store.Usage, bool, error) {
	return b.next().PurgeUntil(ctx, until, held, limit)
}
func (b *pair) TrashSize(ctx context.Context) (store.Usage, time.Time, error) {
	return b.next().TrashSize(ctx)
}

// Those of store.Directory.
func (b *pair) Put(ctx context.Context, objects ...store.Object) ([]bool, error) {
	return b.next().Put(ctx, objects...)
}
func (b *pair) User(ctx context.Context, id uuid.UUID) (store.User, error) {
	return b.next().User(ctx, id)
}
func (b *pair) Users(ctx context.Context, after uuid.UUID, limit int) ([]store.User, error) {
	return b.next().Users(ctx, after, limit)
}
func (b *pair) DeleteUser(ctx context.Context, id uuid.UUID) error {
	return b.next().DeleteUser(ctx, id)
}
func (b *pair) Space(ctx context.Context, slug string) (store.Space, store.Usage, error) {
	return b.next().Space(ctx, slug)
}
func (b *pair) Spaces(ctx context.Context, after string, limit int) ([]store.Space, error) {
	return b.next().Spaces(ctx, after, limit)
}
func (b *pair) DeleteSpace(ctx context.Context, slug string, withAttachments bool) ([][32]byte, error) {
	return b.next().DeleteSpace(ctx, slug, withAttachments)
}
func (b *pair) Role(ctx context.Context, slug string, user uuid.UUID) (store.Role, error) {
	return b.next().Role(ctx, slug, user)
}
func (b *pair) Members(ctx context.Context, slug string, after uuid.UUID, limit int) ([]store.Member, error) {
	return b.next().Members(ctx, slug, after, limit)
}
func (b *pair) Memberships(ctx context.Context, user uuid.UUID) ([]store.Member, error) {
	return b.next().Memberships(ctx, user)
}
func (b *pair) DeleteMember(ctx context.Context, slug string, user uuid.UUID) error {
	return b.next().DeleteMember(ctx, slug, user)
}
func (b *pair) Entity(ctx context.Context, p store.Parent) (store.Entity, error) {
	return b.next().Entity(ctx, p)
}
func (b *pair) Entities(ctx context.Context, slug string, kind store.Kind, after uuid.UUID, limit int) ([]store.Entity, error) {
	return b.next().Entities(ctx, slug, kind, after, limit)
}
func (b *pair) DeleteEntity(ctx context.Context, p store.Parent, withAttachments bool) ([][32]byte, error) {
	return b.next().DeleteEntity(ctx, p, withAttachments)
}
func (b *pair) Remove(ctx context.Context) ([][32]byte, bool, error) { return b.next().Remove(ctx) }
func (b *pair) Comment(ctx context.Context, ticket, id uuid.UUID) (store.Comment, error) {
	return b.next().Comment(ctx, ticket, id)
}
func (b *pair) Comments(ctx context.Context, ticket uuid.UUID, after uuid.UUID, limit int) ([]store.Comment, error) {
	return b.next().Comments(ctx, ticket, after, limit)
}
func (b *pair) DeleteComment(ctx context.Context, c store.Comment) error {
	return b.next().DeleteComment(ctx, c)
}

// Those of store.Keys.
func (b *pair) CreateKey(ctx context.Context, k store.Key) error { return b.next().CreateKey(ctx, k) }
func (b *pair) Key(ctx context.Context, id uuid.UUID) (store.Key, store.User, error) {
	return b.next().Key(ctx, id)
}
func (b *pair) KeyByHash(ctx context.Context, hash [32]byte) (store.Key, store.User, error) {
	return b.next().KeyByHash(ctx, hash)
}
func (b *pair) KeysOf(ctx context.Context, user uuid.UUID, after uuid.UUID, limit int) ([]store.Key, error) {
	return b.next().KeysOf(ctx, user, after, limit)
}
func (b *pair) TouchKey(id uuid.UUID, at time.Time)               { b.here().TouchKey(id, at) }
func (b *pair) DeleteKey(ctx context.Context, id uuid.UUID) error { return b.next().DeleteKey(ctx, id) }
func (b *pair) CreateSession(ctx context.Context, s store.Session, now time.Time) error {
	return b.next().CreateSession(ctx, s, now)
}
func (b *pair) Session(ctx context.Context, hash [32]byte) (store.Session, error) {
	return b.next().Session(ctx, hash)
}
func (b *pair) DeleteSession(ctx context.Context, hash [32]byte) error {
	return b.next().DeleteSession(ctx, hash)
}

// Those of store.Notes.
func (b *pair) Note(ctx context.Context, name string) ([]byte, error) {
	return b.next().Note(ctx, name)
}
func (b *pair) SetNote(ctx context.Context, name string, value []byte) error {
	return b.next().SetNote(ctx, name, value)
}

// Those of store.Audit.
func (b *pair) Record(e store.Entry) { b.here().Record(e) }
func (b *pair) EntriesBefore(ctx context.Context, before uint64, limit int) ([]store.Entry, error) {
	return b.next().EntriesBefore(ctx, before, limit)
}
func (b *pair) AuditRuns(ctx context.Context) ([]store.AuditRun, error) {
	return b.next().AuditRuns(ctx)
}
func (b *pair) PruneAudit(ctx context.Context, age, keep time.Duration, limit int) (int, error) {
	return b.next().PruneAudit(ctx, age, keep, limit)
}

// Those of store.AuditChain.
func (b *pair) Entries(ctx context.Context, after uint64, limit int) ([]store.Entry, error) {
	return b.next().Entries(ctx, after, limit)
}
func (b *pair) AuditEnds(ctx context.Context) (store.ChainPos, store.ChainPos, error) {
	return b.next().AuditEnds(ctx)
}

// Those of store.Outbox.
func (b *pair) Events(ctx context.Context, after uint64, limit int) ([]store.Event, error) {
	return b.next().Events(ctx, after, limit)
}
func (b *pair) AckEvents(ctx context.Context, delivered []uint64, dead ...store.DeadLetter) error {
	return b.next().AckEvents(ctx, delivered, dead...)
}
func (b *pair) DeadLetters(ctx context.Context, after uint64, limit int) ([]store.DeadLetter, error) {
	return b.next().DeadLetters(ctx, after, limit)
}
func (b *pair) Redeliver(ctx context.Context, now time.Time, limit int) (int, error) {
	return b.next().Redeliver(ctx, now, limit)
}
func (b *pair) PruneDeadLetters(ctx context.Context, age, keep time.Duration, limit int) (int, error) {
	return b.next().PruneDeadLetters(ctx, age, keep, limit)
}
func (b *pair) OutboxSize() (int64, int64) { return b.counted().OutboxSize() }
func (b *pair) NewEvents() <-chan struct{} { return b.counted().NewEvents() }

// Those of blobs.Catalog.
func (b *pair) Intend(ctx context.Context, objects []blobs.Object) error {
	return b.next().Intend(ctx, objects)
}
func (b *pair) Settle(ctx context.Context, places []blobs.Place) error {
	return b.home(places[0].Ref).Settle(ctx, places)
}
func (b *pair) Discard(ctx context.Context, objects []blobs.Object) error {
	return b.next().Discard(ctx, objects)
}
func (b *pair) Abandon(ctx context.Context, before time.Time) error {
	return b.next().Abandon(ctx, before)
}
func (b *pair) Place(ctx context.Context, ref blobs.Ref) (blobs.Place, error) {
	return b.next().Place(ctx, ref)
}
func (b *pair) Places(ctx context.Context, from blobs.Ref) iter.Seq2[blobs.Place, error] {
	return b.next().Places(ctx, from)
}
func (b *pair) Adopt(ctx context.Context, place blobs.Place) error { return b.next().Adopt(ctx, place) }
func (b *pair) Release(ctx context.Context, ref blobs.Ref) (bool, error) {
	return b.next().Release(ctx, ref)
}
func (b *pair) Mark(ctx context.Context, object blobs.Object, damaged bool) error {
	return b.next().Mark(ctx, object, damaged)
}
func (b *pair) Marked() []blobs.Ref { return b.counted().Marked() }
func (b *pair) Damaged() int        { return b.counted().Damaged() }

// Garbage is always that of one of them: the other does not list what this one has listed.
func (b *pair) Garbage(ctx context.Context, before time.Time, limit int) ([]blobs.Object, error) {
	return b.stores[0].Garbage(ctx, before, limit)
}
func (b *pair) Forget(ctx context.Context, objects []blobs.Object) error {
	return b.next().Forget(ctx, objects)
}
func (b *pair) Knows(ctx context.Context, object blobs.Object) (bool, error) {
	return b.next().Knows(ctx, object)
}
func (b *pair) Clear(ctx context.Context) error { return b.next().Clear(ctx) }
func (b *pair) Waiting() (int64, int64)         { return b.counted().Waiting() }

// Unhold is that of blobs.Holder, of whichever holds.
func (b *pair) Unhold(ctx context.Context, refs []blobs.Ref) error {
	return errors.Join(b.stores[0].Unhold(ctx, refs), b.stores[1].Unhold(ctx, refs))
}
