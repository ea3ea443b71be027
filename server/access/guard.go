package access

import (
	"context"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/limits"
	"attachd/server/token"
	"attachd/store"
)

// Records is what is needed of a store.
type Records interface {
	store.Keys
	User(ctx context.Context, id uuid.UUID) (store.User, error)
	Space(ctx context.Context, slug string) (store.Space, store.Usage, error)
	Role(ctx context.Context, space string, user uuid.UUID) (store.Role, error)
	Memberships(ctx context.Context, user uuid.UUID) ([]store.Member, error)
	Entity(ctx context.Context, p store.Parent) (store.Entity, error)
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
}

// Options are what a Guard is made of.
type Options struct {
	Corridor *api.Corridor
	Records  Records
	Now      func() time.Time
	// TrustedNow is the time where the clock is trusted.
	TrustedNow func(ctx context.Context) (now time.Time, trusted bool)
	// Signer has the keys that sign links now.
	Signer func() *token.Signer

	RequestsPerMinute   int // per user; 0 is no limit
	FailedKeysPerMinute int // per address; 0 is no limit

	AdminsMayDeleteFromTickets bool
	AutoCreate                 bool
	PublicMetrics              bool
	DemoKeys                   func() (map[string]string, error) // nil where this is no demo
}

// Guard finds out who calls, from a key, a session or a signed link, and what they
// may.
type Guard struct {
	Options
	rates   *limits.Rate[uuid.UUID]    // by user
	guesses *limits.Rate[netip.Prefix] // by where a wrong one comes from
}

// New makes one.
func New(o Options) *Guard {
	return &Guard{Options: o, rates: limits.NewRate[uuid.UUID](o.RequestsPerMinute), guesses: limits.NewRate[netip.Prefix](o.FailedKeysPerMinute)}
}
