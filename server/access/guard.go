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

// Records are the methods of a store that a Guard uses.
type Records interface {
	store.Keys
	User(ctx context.Context, id uuid.UUID) (store.User, error)
	Space(ctx context.Context, slug string) (store.Space, store.Usage, error)
	Role(ctx context.Context, space string, user uuid.UUID) (store.Role, error)
	Memberships(ctx context.Context, user uuid.UUID) ([]store.Member, error)
	Entity(ctx context.Context, p store.Parent) (store.Entity, error)
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	TrashedEntity(ctx context.Context, p store.Parent) (store.Trashed, error)
	TrashedSpace(ctx context.Context, slug string) (store.Trashed, error)
	TrashedAttachment(ctx context.Context, id uuid.UUID) (store.Trashed, error)
}

// Options configure a Guard.
type Options struct {
	Corridor *api.Corridor
	Records  Records
	Inquirer store.Inquirer // optional
	Now      func() time.Time
	// TrustedNow returns the time, and whether the clock is trusted.
	TrustedNow func(ctx context.Context) (now time.Time, trusted bool)
	// Signer returns the current signer of links.
	Signer func() *token.Signer
	// LatestSigner returns the signer with the keys that replicas share, which another one
	// may have changed just now; optional.
	LatestSigner func(ctx context.Context) (*token.Signer, error)
	// Replicas returns how many replicas share the limits; optional.
	Replicas func() int

	RequestsPerMinute   int // per user; 0 is no limit
	FailedKeysPerMinute int // per address; 0 is no limit

	AdminsMayDeleteFromTickets bool
	AutoCreate                 bool
	PublicMetrics              bool
	DemoKeys                   func() (map[string]string, error) // nil where this is no demo
}

// Guard authenticates callers, by a key, a session or a signed link, and authorizes
// them.
type Guard struct {
	Options
	rates   *limits.Rate[uuid.UUID]    // by user
	guesses *limits.Rate[netip.Prefix] // wrong keys, sessions and sign-in links, by the network they come from
	link    signInLink
}

// New returns a Guard.
func New(o Options) *Guard {
	g := &Guard{Options: o, rates: limits.NewRate[uuid.UUID](o.RequestsPerMinute), guesses: limits.NewRate[netip.Prefix](o.FailedKeysPerMinute)}
	g.rates.Divide, g.guesses.Divide = o.Replicas, o.Replicas
	return g
}
