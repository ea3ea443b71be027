package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"attachd/server/limits"
	"attachd/server/memory"
	"attachd/server/token"
	"attachd/store"
)

// Records is what the corridor needs of a store.
type records interface {
	store.Keys
	User(ctx context.Context, id uuid.UUID) (store.User, error)
	Space(ctx context.Context, slug string) (store.Space, store.Usage, error)
	Role(ctx context.Context, space string, user uuid.UUID) (store.Role, error)
	Memberships(ctx context.Context, user uuid.UUID) ([]store.Member, error)
	Entity(ctx context.Context, p store.Parent) (store.Entity, error)
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	Record(e store.Entry)
}

// options are what a corridor is made of.
type options struct {
	Records records
	Now     func() time.Time
	// TrustedNow is the time where the clock is trusted.
	TrustedNow func(ctx context.Context) (now time.Time, trusted bool)
	Log        *slog.Logger
	Memory     func() memory.Plan
	// Signer has the keys that sign links now.
	Signer func() *token.Signer
	// InPlace fails when files of the storage were replaced.
	InPlace func() error
	// WithEvents has a change tell the receiver of webhooks on behalf of whom its
	// entry in the audit log says; nil where there is none.
	WithEvents func(ctx context.Context, e *store.Entry) context.Context

	PublicURL      string
	ContentURL     string
	TrustedProxies []netip.Prefix

	MaxFileSize         int64
	RequestsPerMinute   int
	FailedKeysPerMinute int
	MinUploadRate       int64
	MinDownloadRate     int64

	AdminsMayDeleteFromTickets bool
	AutoCreate                 bool
	PublicMetrics              bool
	AuditDownloads             bool
	DemoKeys                   func() (map[string]string, error)
}

// corridor is what every request passes: it finds out who calls and what they may,
// counts and records the request, and makes an answer of every failure.
type corridor struct {
	options
	basePath    string // path of PublicURL
	contentHost string // host name of ContentURL
	contentPath string // path of ContentURL
	draining    atomic.Bool
	sendStall   time.Duration // that a client may stand still while it sends
	takeStall   time.Duration // and while it is to take an answer
	drain       time.Duration // that a refused client may go on sending
	counts      *counts
	holdings    *holdings
	rates       *limits.Rate[uuid.UUID]    // by user
	guesses     *limits.Rate[netip.Prefix] // by where a wrong one comes from
	denied      *deniedLimiter
	traffic     traffic
	compressors *compressors
	lists       *listVersions
	routes      *httprouter.Router
}

// newCorridor makes one. Its URLs must be right.
func newCorridor(o options) (*corridor, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	files, err := url.Parse(o.ContentURL)
	if err != nil {
		return nil, fmt.Errorf("content URL: %w", err)
	}
	return &corridor{
		options:     o,
		basePath:    strings.TrimSuffix(public.Path, "/"),
		contentHost: hostname(files.Host),
		contentPath: strings.TrimSuffix(files.Path, "/"),
		sendStall:   clientStall,
		takeStall:   clientStall,
		drain:       drainTime,
		counts:      newCounts(),
		holdings:    newHoldings(o.Memory),
		rates:       limits.NewRate[uuid.UUID](o.RequestsPerMinute),
		guesses:     limits.NewRate[netip.Prefix](o.FailedKeysPerMinute),
		denied:      newDeniedLimiter(),
		compressors: newCompressors(),
		lists:       newListVersions(),
	}, nil
}

// BasePath is the path of the public URL, without a slash at its end.
func (c *corridor) BasePath() string { return c.basePath }

// Drain refuses new uploads from now on, and asks clients to use other
// connections.
func (c *corridor) Drain() { c.draining.Store(true) }

// Draining says whether the server is about to stop.
func (c *corridor) Draining() bool { return c.draining.Load() }

// Busy says whether people are being served now.
func (c *corridor) Busy() bool { return c.traffic.busy(c.Now()) }

// HeldBytes are what requests under way are counted for in memory.
func (c *corridor) HeldBytes() int64 { return c.holdings.Held() }

// ListTag is an ETag of the list of a parent's attachments, which is to be read
// after it was asked for.
func (c *corridor) ListTag(p store.Parent) string { return c.lists.tag(p) }

// SetPatience sets how long the server waits for clients that stand still while
// they send, refused ones too, and for those that do not take their answer. It is
// to be called before the first request.
func (c *corridor) SetPatience(sending, taking time.Duration) {
	c.sendStall, c.drain, c.takeStall = sending, sending, taking
}

// hostname is a host without its port, as it is compared.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// forContentHost says whether a request came to the host for files.
func (c *corridor) forContentHost(r *http.Request) bool {
	return c.contentHost != "" && hostname(c.requestedHost(r)) == c.contentHost
}
