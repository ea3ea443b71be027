// Package directory keeps users and their keys, spaces and their members, and what
// files are attached to.
package directory

import (
	"context"
	"log/slog"
	"time"

	"attachd/server/access"
	"attachd/store"
)

// Store is what is needed of a store.
type Store interface {
	store.Directory
	store.Keys
}

// Remover removes contents that nothing refers to any more.
type Remover interface {
	Forget(ctx context.Context, log func() *slog.Logger, sums ...[32]byte)
	WakeRemoval()
}

// Service keeps users, their keys, spaces, and what files are attached to.
type Service struct {
	Guard    *access.Guard
	Store    Store
	Contents Remover
	IDs      *store.IDs
	Now      func() time.Time
}
