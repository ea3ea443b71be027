package bolt

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

var errTrash = errors.New("trash: not implemented yet")

// TrashAttachment implements store.Trash.
func (b *Store) TrashAttachment(ctx context.Context, id uuid.UUID, d store.Deletion) (store.Attachment, error) {
	return store.Attachment{}, errTrash
}

// TrashEntity implements store.Trash.
func (b *Store) TrashEntity(ctx context.Context, p store.Parent, withAttachments bool, d store.Deletion) error {
	return errTrash
}

// TrashSpace implements store.Trash.
func (b *Store) TrashSpace(ctx context.Context, slug string, withAttachments bool, d store.Deletion) error {
	return errTrash
}

// TrashedAttachment implements store.Trash.
func (b *Store) TrashedAttachment(ctx context.Context, id uuid.UUID) (store.Trashed, error) {
	return store.Trashed{}, errTrash
}

// TrashedEntity implements store.Trash.
func (b *Store) TrashedEntity(ctx context.Context, p store.Parent) (store.Trashed, error) {
	return store.Trashed{}, errTrash
}

// TrashedSpace implements store.Trash.
func (b *Store) TrashedSpace(ctx context.Context, slug string) (store.Trashed, error) {
	return store.Trashed{}, errTrash
}

// TrashOf implements store.Trash.
func (b *Store) TrashOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Trashed, error) {
	return nil, errTrash
}

// TrashIn implements store.Trash.
func (b *Store) TrashIn(ctx context.Context, space string, after []byte, limit int) ([]store.Trashed, error) {
	return nil, errTrash
}

// RestoreAttachment implements store.Trash.
func (b *Store) RestoreAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return store.Attachment{}, errTrash
}

// RestoreEntity implements store.Trash.
func (b *Store) RestoreEntity(ctx context.Context, p store.Parent) (store.Entity, error) {
	return store.Entity{}, errTrash
}

// RestoreSpace implements store.Trash.
func (b *Store) RestoreSpace(ctx context.Context, slug string) (store.Space, error) {
	return store.Space{}, errTrash
}

// PurgeAttachment implements store.Trash.
func (b *Store) PurgeAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	return store.Attachment{}, errTrash
}

// PurgeEntity implements store.Trash.
func (b *Store) PurgeEntity(ctx context.Context, p store.Parent) error {
	return errTrash
}

// PurgeSpace implements store.Trash.
func (b *Store) PurgeSpace(ctx context.Context, slug string) error {
	return errTrash
}

// PurgeUntil implements store.Trash.
func (b *Store) PurgeUntil(ctx context.Context, until time.Time, limit int) (freed [][32]byte, purged store.Usage, more bool, err error) {
	return nil, store.Usage{}, false, errTrash
}

// TrashSize implements store.Trash.
func (b *Store) TrashSize(ctx context.Context) (size store.Usage, earliest time.Time, err error) {
	return store.Usage{}, time.Time{}, errTrash
}
