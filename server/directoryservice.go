package server

import (
	"context"
	"log/slog"
	"time"

	"attachd/server/api"
	"attachd/store"
)

// directoryRecords is what is needed of a store.
type directoryRecords interface {
	store.Directory
	store.Keys
}

// remover removes contents that nothing refers to any more.
type remover interface {
	Forget(ctx context.Context, log func() *slog.Logger, sums ...[32]byte)
	WakeRemoval()
}

// directoryService keeps users, their keys, spaces, and what files are attached to.
type directoryService struct {
	Corridor *api.Corridor
	Store    directoryRecords
	Contents remover
	IDs      *store.IDs
	Now      func() time.Time
}
