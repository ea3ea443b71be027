// Package directory has the handlers for users and their keys, spaces and their
// members, and the objects to which files are attached.
package directory

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"attachd/server/access"
	"attachd/store"
)

// Store is the methods of a store that a Service uses.
type Store interface {
	store.Directory
	store.Keys
	store.Trash
	store.Holds
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
}

// Remover removes contents that nothing refers to any more.
type Remover interface {
	Forget(ctx context.Context, log func() *slog.Logger, sums ...[32]byte)
	WakeRemoval()
	// WakeTrash is to be called after something was put into the trash.
	WakeTrash()
	// Change calls do, which deletes attachments, unless none can be deleted now.
	Change(do func() error) error
}

// Service handles users, their keys, spaces, and the objects to which files are
// attached.
type Service struct {
	Guard    *access.Guard
	Store    Store
	Contents Remover
	IDs      *store.IDs
	Now      func() time.Time
	// TrashKeep is how long what was deleted can be restored; 0 removes it at once.
	TrashKeep time.Duration
	// TrashedUntil returns when what is deleted now is to be removed for good.
	TrashedUntil func(context.Context) time.Time
}
