package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"attachd/server/jobs"
	"attachd/store"
)

// pins are contents.Leases that replicas share: while one of them makes a backup, none
// removes a content. What is postponed is left to a collection.
type pins struct {
	leases *jobs.Leases
	shared store.Shared
}

// pinPrefix begins the names of the leases of backups, which are numbered.
const pinPrefix = "backup "

// Begin implements contents.Leases.
func (p pins) Begin(ctx context.Context) (held context.Context, end func() [][32]byte, err error) {
	for n := 1; ; n++ {
		held, release, err := p.leases.Try(ctx, fmt.Sprint(pinPrefix, n))
		switch {
		case err == nil:
			return held, func() [][32]byte { release(); return nil }, nil
		case !errors.Is(err, jobs.ErrBusy):
			return nil, nil, err
		}
	}
}

// Postpone implements contents.Leases.
func (p pins) Postpone(ctx context.Context, _ [32]byte) (bool, error) { return p.Any(ctx) }

// Any implements contents.Leases.
func (p pins) Any(ctx context.Context) (bool, error) {
	held, err := p.shared.Leases(ctx)
	return slices.ContainsFunc(held, func(l store.Lease) bool { return strings.HasPrefix(l.Name, pinPrefix) }), err
}
