// Package api is what every request to the server passes: headers, limits, the log,
// the audit log, JSON and lists, and the one place where an error becomes an answer.
// The rooms above it decide who may, and have the handlers.
package api

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

	"github.com/julienschmidt/httprouter"

	"attachd/server/memory"
	"attachd/store"
)

// Options are what a corridor is made of.
type Options struct {
	Audit  interface{ Record(e store.Entry) } // where the audit log is kept
	Now    func() time.Time
	Log    *slog.Logger
	Memory func() memory.Plan
	// InPlace fails when files of the storage were replaced.
	InPlace func() error
	// WithEvents has a change tell the receiver of webhooks on behalf of whom its
	// entry in the audit log says; nil where there is none.
	WithEvents func(ctx context.Context, e *store.Entry) context.Context

	PublicURL      string
	ContentURL     string
	TrustedProxies []netip.Prefix

	MaxFileSize     int64
	MinUploadRate   int64
	MinDownloadRate int64

	AutoCreate     bool
	AuditDownloads bool
}

// Corridor is what every request passes: it counts and records the request, and
// makes an answer of every failure.
type Corridor struct {
	Options
	basePath    string // path of PublicURL
	contentHost string // host name of ContentURL
	contentPath string // path of ContentURL
	draining    atomic.Bool
	sendStall   time.Duration // that a client may stand still while it sends
	takeStall   time.Duration // and while it is to take an answer
	drain       time.Duration // that a refused client may go on sending
	counts      *counts
	holdings    *holdings
	denied      *deniedLimiter
	traffic     traffic
	compressors *compressors
	lists       *listVersions
	routes      *httprouter.Router
}

// New makes one. Its URLs must be right.
func New(o Options) (*Corridor, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, fmt.Errorf("public URL: %w", err)
	}
	files, err := url.Parse(o.ContentURL)
	if err != nil {
		return nil, fmt.Errorf("content URL: %w", err)
	}
	return &Corridor{
		Options:     o,
		basePath:    strings.TrimSuffix(public.Path, "/"),
		contentHost: Hostname(files.Host),
		contentPath: strings.TrimSuffix(files.Path, "/"),
		sendStall:   clientStall,
		takeStall:   clientStall,
		drain:       drainTime,
		counts:      newCounts(),
		holdings:    newHoldings(o.Memory),
		denied:      newDeniedLimiter(),
		compressors: newCompressors(),
		lists:       newListVersions(),
	}, nil
}

// BasePath is the path of the public URL, without a slash at its end.
func (c *Corridor) BasePath() string { return c.basePath }

// Drain refuses new uploads from now on, and asks clients to use other
// connections.
func (c *Corridor) Drain() { c.draining.Store(true) }

// Draining says whether the server is about to stop.
func (c *Corridor) Draining() bool { return c.draining.Load() }

// Busy says whether people are being served now.
func (c *Corridor) Busy() bool { return c.traffic.busy(c.Now()) }

// HeldBytes are what requests under way are counted for in memory.
func (c *Corridor) HeldBytes() int64 { return c.holdings.Held() }

// ListTag is an ETag of what a request asks of the list of a parent's attachments,
// which is to be read after it was asked for.
func (c *Corridor) ListTag(rq *Request, p store.Parent) string {
	return c.lists.tag(p, rq.URL.Query())
}

// SetPatience sets how long the server waits for clients that stand still while
// they send, refused ones too, and for those that do not take their answer. It is
// to be called before the first request.
func (c *Corridor) SetPatience(sending, taking time.Duration) {
	c.sendStall, c.drain, c.takeStall = sending, sending, taking
}

// Hostname is a host without its port, as it is compared.
func Hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// ForContentHost says whether a request came to the host for files.
func (c *Corridor) ForContentHost(r *http.Request) bool {
	return c.contentHost != "" && Hostname(c.requestedHost(r)) == c.contentHost
}
