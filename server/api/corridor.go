// Package api has what every request to the server passes through: headers, limits, the
// log, the audit log, JSON and lists, and the one place where an error becomes an
// answer. The packages above it authorize requests and have the handlers.
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

// Options configure a Corridor.
type Options struct {
	Audit  interface{ Record(e store.Entry) } // the audit log
	Now    func() time.Time
	Log    *slog.Logger
	Memory func() memory.Plan
	// InPlace fails when files of the storage were replaced.
	InPlace func() error
	// Shared says that other processes change what is stored, too.
	Shared bool
	// WithEvents returns a context in which a change sends events to the receiver of
	// webhooks, with the actor of its entry in the audit log; nil where there is no
	// receiver.
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

// Corridor is the middleware that every request passes through: it counts, logs and
// records the request, and turns every error into an answer.
type Corridor struct {
	Options
	basePath    string // path of PublicURL
	contentHost string // host name of ContentURL
	contentPath string // path of ContentURL
	draining    atomic.Bool
	sendStall   time.Duration // how long a client may stall while it sends
	takeStall   time.Duration // how long a client may stall while it is to take an answer
	drain       time.Duration // how long a refused client may go on sending
	counts      *counts
	holdings    *holdings
	denied      *deniedLimiter
	traffic     traffic
	compressors *compressors
	lists       *listVersions
	routes      *httprouter.Router
}

// New returns a Corridor. The URLs in its options must be valid.
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
		lists:       newListVersions(o.Shared),
	}, nil
}

// BasePath is the path of the public URL, without a trailing slash.
func (c *Corridor) BasePath() string { return c.basePath }

// Drain refuses new uploads from now on, and has clients close their connections.
func (c *Corridor) Drain() { c.draining.Store(true) }

// Draining reports whether the server is about to stop.
func (c *Corridor) Draining() bool { return c.draining.Load() }

// Busy reports whether people are being served now.
func (c *Corridor) Busy() bool { return c.traffic.busy(c.Now()) }

// HeldBytes is how many bytes of memory are counted for requests under way.
func (c *Corridor) HeldBytes() int64 { return c.holdings.Held() }

// ListTag returns an ETag of the list of a parent's attachments, as the request asks
// for it. It must be called before the list is read.
func (c *Corridor) ListTag(rq *Request, p store.Parent) string {
	return c.lists.tag(p, rq.URL.RawQuery)
}

// SetPatience sets how long the server waits for clients that stall while they send,
// even refused ones, and for those that do not take their answer. It is to be called
// before the first request.
func (c *Corridor) SetPatience(sending, taking time.Duration) {
	c.sendStall, c.drain, c.takeStall = sending, sending, taking
}

// Hostname returns a host without its port, in the form in which hosts are compared.
func Hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
}

// ForContentHost reports whether a request is for the host for files.
func (c *Corridor) ForContentHost(r *http.Request) bool {
	return c.contentHost != "" && Hostname(c.requestedHost(r)) == c.contentHost
}
