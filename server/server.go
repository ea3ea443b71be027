// Package server is attachd's HTTP API. Everything it depends on is handed in
// through Config; New starts nothing.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/rs/cors"

	"attachd/blobs"
	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/server/directory"
	"attachd/server/files"
	"attachd/server/jobs"
	"attachd/server/limits"
	"attachd/server/memory"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store"
)

// Config is what a Server is made of. All fields without a remark are required.
type Config struct {
	Store     store.Store
	Blobs     blobs.Store
	Abilities // of Store and Blobs, as AbilitiesOf finds them
	Ballast   ops.Ballast
	Policy    *content.Policy // which file types are accepted
	Now       func() time.Time
	// Elapsed returns the time since a fixed moment, independent of changes to the
	// system clock; optional: replaces the monotonic clock in tests.
	Elapsed func() time.Duration
	Log     *slog.Logger
	// Addresses are the URLs at which the server is reached; they are reported to
	// commands on this machine. They are set before the server serves.
	Addresses []string
	// SigningKeys sign links; the first signs new ones. KeepSigningKeys stores
	// replacements where the next start finds them.
	SigningKeys     []token.SigningKey
	KeepSigningKeys func([]token.SigningKey) error
	// Scratch creates a temporary file on the disk whose capacity Blobs reports. done
	// closes and removes it.
	Scratch    func() (file *os.File, done func() error, err error)
	Thumbnails *preview.Cache

	// MoveTo opens the storage to which contents are to be moved, by its settings; optional.
	MoveTo func(ctx context.Context, storage map[string]string) (migrate.Target, error)

	Storage      upkeep.StorageStatus // where Blobs keeps contents, for operators
	StorageTimes *ops.StorageTimes    // optional: collects commit and sync durations from Store and Blobs
	LogLinesLost func() int64         // optional: number of log lines that were lost

	Scanner         Scanner // optional: scans for malware
	AcceptUnscanned bool    // files that the scanner failed to scan are accepted, not refused

	Version        string
	PublicURL      string         // optional; without a trailing slash
	ContentURL     string         // optional: base URL of files; without a trailing slash
	CORSOrigins    []string       // optional: origins whose pages may call the API with a key
	TrustedProxies []netip.Prefix // optional: proxies whose X-Forwarded-* are believed

	MaxFileSize          int64 // bytes
	LogBelow             int64 // bytes; smaller contents may be staged; 0 stages none
	MaxConcurrentUploads int
	RequestsPerMinute    int   // per user; 0 is no limit
	FailedKeysPerMinute  int   // per address; 0 is no limit
	MinUploadRate        int64 // bytes a second; 0 is no limit
	MinDownloadRate      int64 // bytes a second; 0 is no limit
	DiskReserve          int64 // bytes that uploads leave free

	// Memory returns how much memory requests and the decoding of pictures may use;
	// optional.
	Memory func() memory.Plan
	// Decode makes a thumbnail, using at most memory bytes; optional: without it, as
	// in tests, pictures are decoded in this process.
	Decode func(ctx context.Context, content io.ReaderAt, size int64, mimeType string, memory int64) ([]byte, error)

	URLTTL        time.Duration // how long a link is valid by default
	StorageURLTTL time.Duration // how long a URL of the storage itself is valid; required with a Linker
	DownloadByURL bool          // downloads of products answer with a URL document unless the Accept header prefers the file
	VerifyReads   bool

	TrashKeep time.Duration // how long what was deleted can be restored; 0 removes it at once

	AuditDownloads bool
	AuditRetention time.Duration // how long entries of the audit log are kept; 0 is forever

	ScrubRate   int64         // bytes a second; 0 disables the scrub
	ScrubPeriod time.Duration // time in which the scrub reads all contents once

	Webhooks        *webhooks.Receiver // optional: where events about attachments are sent
	WebhookRetryFor time.Duration      // how long an event is retried before it is given up

	AdminsMayDeleteFromTickets bool
	AutoCreate                 bool
	PublicMetrics              bool

	// DemoKeys returns the keys of a demo's users by name; optional. With it, anyone at
	// this machine may sign in as one of them.
	DemoKeys func() (map[string]string, error)
}

// Scanner is a malware scanner; scan.Clamd is one.
type Scanner interface {
	// Scan returns the name of the signature that it found, empty for a clean content.
	// An error means that the result is unknown.
	Scan(ctx context.Context, content io.Reader) (signature string, err error)
	// Ping fails unless the scanner answers.
	Ping(ctx context.Context) error
}

// Server answers the API.
type Server struct {
	Config
	corridor  *api.Corridor
	guard     *access.Guard
	contents  *contents.Store
	leases    *jobs.Leases
	clock     *upkeep.Clock
	signing   *ops.Signing
	slots     *limits.Slots
	ids       store.IDs
	files     *files.Service
	directory *directory.Service
	ops       *ops.Service
	handler   http.Handler
}

// New checks the configuration and lays out the routes.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Store == nil, cfg.Blobs == nil, cfg.Ballast == nil, cfg.Policy == nil, cfg.Now == nil, cfg.Log == nil, cfg.Scratch == nil, cfg.Thumbnails == nil, cfg.KeepSigningKeys == nil:
		return nil, errors.New("server: a store, blobs, ballast, a policy, a clock, a log, scratch files, a place for thumbnails and one for signing keys are required")
	case len(cfg.SigningKeys) == 0, len(cfg.SigningKeys[0].Secret) < 16:
		return nil, errors.New("server: the signing key is missing or too short")
	case cfg.MaxFileSize < 1, cfg.LogBelow < 0, cfg.MaxConcurrentUploads < 1, cfg.URLTTL < time.Second:
		return nil, errors.New("server: file size, concurrent uploads and URL lifetime must be positive, and log_below not negative")
	case cfg.Linker != nil && cfg.StorageURLTTL < time.Second:
		return nil, errors.New("server: the lifetime of the storage's URLs must be positive")
	case cfg.TrashKeep < 0:
		return nil, errors.New("server: what is deleted cannot be kept for less than no time")
	case cfg.ScrubRate < 0, cfg.ScrubRate > 0 && cfg.ScrubPeriod <= 0:
		return nil, errors.New("server: a scrub needs a rate and a period that are positive")
	}
	s := &Server{Config: cfg, slots: limits.NewSlots(cfg.MaxConcurrentUploads)}
	s.setDefaults()
	s.leases = jobs.NewLeases(cfg.Shared, cfg.Log)
	s.signing = ops.NewSigning(cfg.SigningKeys, cfg.Shared)
	s.clock = upkeep.NewClock(s.Now, s.Elapsed, s.Store, s.Log)
	if err := CheckContentURL(cfg.PublicURL, "", cfg.ContentURL); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	var err error
	if s.corridor, err = api.New(s.corridorOptions()); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	s.guard = access.New(s.guardOptions())
	s.contents = contents.New(cfg.Store, cfg.Blobs, contents.Options{
		Leases: s.pins(),
		Stager: cfg.Stager, Batcher: cfg.Batcher, Versioner: cfg.Versioner, Marker: cfg.Marker,
		StageBelow: cfg.LogBelow, Thumbnails: cfg.Thumbnails, VerifyReads: cfg.VerifyReads, Log: cfg.Log,
		// Deletions need room for the ballast too.
		Reserve:       func(total int64) int64 { return cfg.DiskReserve + cfg.Ballast.Missing(total) },
		FreesRoom:     cfg.Sweeper == nil, // a bucket keeps objects for a while, and is no disk
		WithEvents:    s.withEvents(),
		OnPurgedEarly: func(purged store.Usage) { s.ops.PurgedEarly(purged) },
		OnDamaged:     func(ref blobs.Ref) { s.ops.FoundDamaged(ref) },
		OnUnreadable:  func() { s.ops.FoundUnreadable() },
	})
	s.directory = &directory.Service{Guard: s.guard, Store: s.Store, Contents: s.contents, IDs: &s.ids, Now: s.Now, TrashKeep: s.TrashKeep, TrashedUntil: s.trashedUntil}
	s.files = files.New(s.fileOptions())
	s.ops = ops.New(s.opsOptions(), s.signing)
	table := s.table()
	routes := s.corridor.Router(table)
	handler := s.byHost(routes, table)
	if len(cfg.CORSOrigins) > 0 {
		handler = cors.New(cors.Options{
			AllowedOrigins: cfg.CORSOrigins,
			AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "DELETE"},
			AllowedHeaders: []string{"*"}, // libraries add headers that have no effect here; and no cookies are accepted
			ExposedHeaders: []string{"Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Link", "Location", "Repr-Digest", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"},
			MaxAge:         600,
		}).Handler(handler)
	}
	s.handler = s.corridor.Wrap(handler, routes)
	return s, nil
}

// NewSignInLink returns the path and fragment, below the server's URL, of a link that
// signs in with a key: once, and only for some minutes. The secret is in the fragment,
// which the page takes and browsers send to nobody, so that loading the link ahead, as
// for a preview, does not use it up.
func (s *Server) NewSignInLink(key string) string { return "/#/enter/" + s.guard.NewSignInLink(key) }

// setDefaults sets the optional fields that are missing.
func (s *Server) setDefaults() {
	if s.Memory == nil {
		s.Memory = func() memory.Plan { return memory.PlanFor(0) }
	}
	if s.Decode == nil {
		s.Decode = func(ctx context.Context, content io.ReaderAt, size int64, mimeType string, _ int64) ([]byte, error) {
			return preview.Thumbnail(ctx, content, size, mimeType)
		}
	}
	if s.Elapsed == nil {
		started := time.Now()
		s.Elapsed = func() time.Duration { return time.Since(started) }
	}
}

// corridorOptions are the parts of the server that the corridor needs.
func (s *Server) corridorOptions() api.Options {
	o := api.Options{
		Audit: s.Store, Now: s.Now, Log: s.Log, Memory: s.Memory, InPlace: s.InPlace, Shared: s.Shared != nil,
		PublicURL: s.PublicURL, ContentURL: s.ContentURL, TrustedProxies: s.TrustedProxies, MaxFileSize: s.MaxFileSize,
		MinUploadRate: s.MinUploadRate, MinDownloadRate: s.MinDownloadRate, AutoCreate: s.AutoCreate, AuditDownloads: s.AuditDownloads,
	}
	if s.Webhooks != nil {
		o.WithEvents = ops.WithEvents
	}
	return o
}

// guardOptions are the parts of the server that the guard needs.
func (s *Server) guardOptions() access.Options {
	return access.Options{
		Corridor: s.corridor, Records: s.Store, Inquirer: s.Inquirer, Now: s.Now, TrustedNow: s.trustedNow, Signer: s.signing.Signer,
		LatestSigner: s.latestSigner(), Replicas: func() int { return s.ops.Replicas() },
		RequestsPerMinute: s.RequestsPerMinute, FailedKeysPerMinute: s.FailedKeysPerMinute,
		AdminsMayDeleteFromTickets: s.AdminsMayDeleteFromTickets, AutoCreate: s.AutoCreate, PublicMetrics: s.PublicMetrics,
		DemoKeys: s.DemoKeys,
	}
}

// pins are the leases of backups that replicas share; nil where there are none.
func (s *Server) pins() contents.Leases {
	if s.Shared == nil {
		return nil
	}
	return pins{s.leases, s.Shared}
}

// latestSigner returns what reads the keys that replicas share; nil where there are none.
func (s *Server) latestSigner() func(context.Context) (*token.Signer, error) {
	if s.Shared == nil {
		return nil
	}
	return s.signing.Latest
}

// withEvents returns what has changes that nobody asked for enqueue events; nil where there is
// no receiver.
func (s *Server) withEvents() func(context.Context) context.Context {
	if s.Webhooks == nil {
		return nil
	}
	return func(ctx context.Context) context.Context {
		return store.WithOutbox(ctx, store.Origin{Time: s.Now()})
	}
}

func (s *Server) trustedNow(ctx context.Context) (time.Time, bool) {
	clock, err := s.clock.Read(ctx)
	return clock.Trusted, err == nil && clock.Settled
}

// trashedUntil returns when what is deleted now is to be removed for good. While the system
// clock is behind, that is not by its time: once it is right again, that time is over at once.
func (s *Server) trashedUntil(ctx context.Context) time.Time {
	clock, err := s.clock.Read(store.WithEntry(ctx, nil)) // the deletion is recorded with its own commit
	if err != nil {
		clock.Latest = s.Now()
	}
	return clock.Latest.Add(s.TrashKeep)
}

// Run runs the server's background jobs, and more, until ctx ends. It returns when all
// of them have ended, and finished until last ends; the storage may be closed then.
func (s *Server) Run(ctx, last context.Context, more ...jobs.Job) {
	jobs.Run(ctx, s.ops.Running(), last, s.Log, s.leases, append(s.ops.Jobs(), more...)...)
}

// fileOptions are the parts of the server that the handlers of files need.
func (s *Server) fileOptions() files.Options {
	return files.Options{
		Corridor: s.corridor, Guard: s.guard, Store: s.Store, Contents: s.contents, Thumbnails: s.Thumbnails, Policy: s.Policy,
		Scanner: s.Scanner, Slots: s.slots, IDs: &s.ids, Now: s.Now, Memory: s.Memory, Decode: s.Decode, Signer: s.signing.Signer,
		OnUpload:    func(bytes int64) { s.ops.Uploaded(bytes) },
		OnDownload:  func(bytes int64) { s.ops.Downloaded(bytes) },
		MaxFileSize: s.MaxFileSize, LogBelow: s.LogBelow, URLTTL: s.URLTTL, ContentURL: s.ContentURL, TrashKeep: s.TrashKeep, TrashedUntil: s.trashedUntil,
		Linker: s.Linker, StorageURLTTL: s.StorageURLTTL,
		DownloadByURL: s.DownloadByURL, AcceptUnscanned: s.AcceptUnscanned,
	}
}

// opsOptions are the parts of the server that the handlers of operations, and the jobs,
// need.
func (s *Server) opsOptions() ops.Options {
	return ops.Options{
		Corridor: s.corridor, Guard: s.guard, Store: s.Store, Contents: s.contents, Clock: s.clock, Slots: s.slots, IDs: &s.ids,
		Ballast: s.Ballast, Scanner: s.Scanner, Now: s.Now, Log: s.Log, Memory: s.Memory, Scratch: s.Scratch,
		Addresses:   func() []string { return s.Addresses },
		Collectors:  append(s.corridor.Collectors(), s.files.Collectors()...),
		Snapshotter: s.Snapshotter, Compacter: s.Compacter, Verifier: s.Verifier, Shared: s.Shared, Leases: s.leases, Marker: s.Marker, Sweeper: s.Sweeper, Comparer: s.Comparer, Damage: s.Damage, InPlace: s.InPlace, MoveTo: s.MoveTo,
		Storage: s.Storage, StorageTimes: s.StorageTimes, LogLinesLost: s.LogLinesLost, KeepSigningKeys: s.KeepSigningKeys,
		AcceptUnscanned: s.AcceptUnscanned, AuditRetention: s.AuditRetention, TrashKeep: s.TrashKeep, ScrubRate: s.ScrubRate, ScrubPeriod: s.ScrubPeriod,
		Webhooks: s.Webhooks, WebhookRetryFor: s.WebhookRetryFor, Version: s.Version,
	}
}

// ConnContext is that of an http.Server whose connections may be an api.Conn.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if conn, ok := c.(api.Conn); ok {
		return api.WithConn(ctx, conn)
	}
	return ctx
}

// ServeHTTP answers a caller from the network, who authenticates with a key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Operator is the handler for commands, whose caller owns the data directory. Such a
// caller needs no key and has a superadmin's rights. It must be served only where file
// permissions restrict access.
func (s *Server) Operator() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r.WithContext(api.AsOperator(r.Context())))
	})
}

// CompareSigningKeys logs when the signing keys are not those used by the last start.
// It fails when the current ones cannot be noted for the next start.
func (s *Server) CompareSigningKeys(ctx context.Context) error { return s.ops.CompareSigningKeys(ctx) }

// ClockIsSettled reports whether the clock is trusted: no jump of it is being waited
// out.
func (s *Server) ClockIsSettled(ctx context.Context) bool {
	clock, err := s.clock.Read(ctx)
	return err == nil && clock.Settled
}

// WhileFlushed calls do while nothing is staged; see contents.Store.
func (s *Server) WhileFlushed(ctx context.Context, do func(flushed error) error) error {
	return s.contents.WhileFlushed(ctx, do)
}

// Drain makes the server refuse new uploads and end long work, before it stops.
func (s *Server) Drain() {
	s.corridor.Drain()
	s.ops.Drain()
}

// AwaitReadinessProbe waits until the readiness probe under way has ended, which may
// outlast the request that began it. After the last request it has to be called before
// the storage is closed. It fails when ctx ends first.
func (s *Server) AwaitReadinessProbe(ctx context.Context) error {
	return s.ops.AwaitReadinessProbe(ctx)
}
