// Package server is attachd's HTTP API. Everything it depends on is handed in
// through Config; New starts nothing.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store"
)

// Config is what a Server is made of. All fields without a remark are
// required.
type Config struct {
	Store     store.Store
	Blobs     blobs.Store
	Abilities // of Store and Blobs, as AbilitiesOf finds them
	Ballast   ops.Ballast
	Policy    *content.Policy // which types are taken
	Now       func() time.Time
	// Elapsed is how much time has passed since any moment, whatever Now is set
	// to meanwhile; optional: in place of the monotonic clock, for tests.
	Elapsed func() time.Duration
	Log     *slog.Logger
	// Addresses are the URLs at which the server is reached, for those who ask on
	// this machine. They are set before it serves.
	Addresses []string
	// SigningKeys sign links; the first signs new ones. KeepSigningKeys
	// replaces them where the next start finds them.
	SigningKeys     []token.SigningKey
	KeepSigningKeys func([]token.SigningKey) error
	// Scratch makes a file for what is needed for a moment only, on the disk
	// that Blobs tells the space of. done closes and removes it.
	Scratch    func() (file *os.File, done func() error, err error)
	Thumbnails *preview.Cache

	StorageTimes *ops.StorageTimes // optional: collects commit and sync durations from Store and Blobs
	LogLinesLost func() int64      // optional: lines of the log that nobody took

	Scanner         Scanner // optional: looks for malware
	AcceptUnscanned bool    // what the scanner failed to look at is taken, not refused

	Version        string
	PublicURL      string         // optional; without a trailing slash
	ContentURL     string         // optional: where files come from; without a trailing slash
	CORSOrigins    []string       // optional: origins whose pages may call with a key
	TrustedProxies []netip.Prefix // optional: whose X-Forwarded-* are believed

	MaxFileSize          int64 // bytes
	LogBelow             int64 // bytes; smaller contents may get their files later, 0 lets none
	MaxConcurrentUploads int
	RequestsPerMinute    int   // per user; 0 is no limit
	FailedKeysPerMinute  int   // per address; 0 is no limit
	MinUploadRate        int64 // bytes a second; 0 is no limit
	MinDownloadRate      int64 // bytes a second; 0 is no limit
	DiskReserve          int64 // bytes that uploads leave free

	// Memory says what requests and the decoding of pictures may use; optional.
	Memory func() memory.Plan
	// Decode makes a thumbnail within a bound of memory, in bytes; optional: it
	// is done in this process where nothing else is said, for tests.
	Decode func(ctx context.Context, content io.ReaderAt, size int64, mimeType string, memory int64) ([]byte, error)

	URLTTL        time.Duration // how long a download URL lives when nobody says
	DownloadByURL bool          // downloads of products answer with a URL document when the caller asks for neither
	VerifyReads   bool

	AuditDownloads bool
	AuditRetention time.Duration // how long entries of the audit log are kept; 0 is for ever

	ScrubRate   int64         // bytes a second; 0 is no scrub
	ScrubPeriod time.Duration // within which all contents are to be read

	Webhooks        *webhooks.Receiver // optional: who is told what happened to attachments
	WebhookRetryFor time.Duration      // after which an event is given up

	AdminsMayDeleteFromTickets bool
	AutoCreate                 bool
	PublicMetrics              bool

	// DemoKeys gives the keys of a demo's users by name; optional. Where it is
	// set, anyone at this machine may sign in as one of them.
	DemoKeys func() (map[string]string, error)
}

// Scanner looks for malware; scan.Clamd is one.
type Scanner interface {
	// Scan gives the name of what it found, empty for a clean content. An
	// error means that nobody knows.
	Scan(ctx context.Context, content io.Reader) (signature string, err error)
	// Ping fails unless the scanner is there.
	Ping(ctx context.Context) error
}

// Server answers the API.
type Server struct {
	Config
	corridor  *api.Corridor
	guard     *access.Guard
	contents  *contents.Store
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
	case cfg.ScrubRate < 0, cfg.ScrubRate > 0 && cfg.ScrubPeriod <= 0:
		return nil, errors.New("server: a scrub needs a rate and a period that are positive")
	}
	s := &Server{Config: cfg, slots: limits.NewSlots(cfg.MaxConcurrentUploads)}
	s.setDefaults()
	s.signing = ops.NewSigning(cfg.SigningKeys)
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
		Stager: cfg.Stager, Batcher: cfg.Batcher, Versioner: cfg.Versioner, Marker: cfg.Marker,
		StageBelow: cfg.LogBelow, Thumbnails: cfg.Thumbnails, VerifyReads: cfg.VerifyReads, Log: cfg.Log,
		// The ballast too: deleting needs it.
		Reserve:      func(total int64) int64 { return cfg.DiskReserve + cfg.Ballast.Missing(total) },
		OnDamaged:    func(ref blobs.Ref) { s.ops.FoundDamaged(ref) },
		OnUnreadable: func() { s.ops.FoundUnreadable() },
	})
	s.directory = &directory.Service{Guard: s.guard, Store: s.Store, Contents: s.contents, IDs: &s.ids, Now: s.Now}
	s.files = files.New(s.fileOptions())
	s.ops = ops.New(s.opsOptions(), s.signing)
	table := s.table()
	routes := s.corridor.Router(table)
	handler := s.byHost(routes, table)
	if len(cfg.CORSOrigins) > 0 {
		handler = cors.New(cors.Options{
			AllowedOrigins: cfg.CORSOrigins,
			AllowedMethods: []string{"GET", "HEAD", "POST", "PUT", "DELETE"},
			AllowedHeaders: []string{"*"}, // libraries add their own, which do nothing here; and no cookies are taken
			ExposedHeaders: []string{"Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Link", "Location", "Repr-Digest", "Retry-After", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-Request-Id"},
			MaxAge:         600,
		}).Handler(handler)
	}
	s.handler = s.corridor.Wrap(handler, routes)
	return s, nil
}

// setDefaults sets what may be left out.
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

// corridorOptions are what the corridor gets of all that the server has.
func (s *Server) corridorOptions() api.Options {
	o := api.Options{
		Audit: s.Store, Now: s.Now, Log: s.Log, Memory: s.Memory, InPlace: s.InPlace,
		PublicURL: s.PublicURL, ContentURL: s.ContentURL, TrustedProxies: s.TrustedProxies, MaxFileSize: s.MaxFileSize,
		MinUploadRate: s.MinUploadRate, MinDownloadRate: s.MinDownloadRate, AutoCreate: s.AutoCreate, AuditDownloads: s.AuditDownloads,
	}
	if s.Webhooks != nil {
		o.WithEvents = ops.WithEvents
	}
	return o
}

// guardOptions are what the guard gets.
func (s *Server) guardOptions() access.Options {
	return access.Options{
		Corridor: s.corridor, Records: s.Store, Now: s.Now, TrustedNow: s.trustedNow, Signer: s.signing.Signer,
		RequestsPerMinute: s.RequestsPerMinute, FailedKeysPerMinute: s.FailedKeysPerMinute,
		AdminsMayDeleteFromTickets: s.AdminsMayDeleteFromTickets, AutoCreate: s.AutoCreate, PublicMetrics: s.PublicMetrics,
		DemoKeys: s.DemoKeys,
	}
}

func (s *Server) trustedNow(ctx context.Context) (time.Time, bool) {
	clock, err := s.clock.Read(ctx)
	return clock.Trusted, err == nil && clock.Settled
}

// Run does in the background what the server itself does there, and more, until
// ctx ends. It returns when all of that has ended; the storage may be closed then.
func (s *Server) Run(ctx context.Context, more ...jobs.Job) {
	jobs.Run(ctx, s.ops.Running(), s.Log, append(s.ops.Jobs(), more...)...)
}

// fileOptions are what the handlers of files get.
func (s *Server) fileOptions() files.Options {
	return files.Options{
		Corridor: s.corridor, Guard: s.guard, Store: s.Store, Contents: s.contents, Thumbnails: s.Thumbnails, Policy: s.Policy,
		Scanner: s.Scanner, Slots: s.slots, IDs: &s.ids, Now: s.Now, Memory: s.Memory, Decode: s.Decode, Signer: s.signing.Signer,
		OnUpload:    func(bytes int64) { s.ops.Uploaded(bytes) },
		OnDownload:  func(bytes int64) { s.ops.Downloaded(bytes) },
		MaxFileSize: s.MaxFileSize, LogBelow: s.LogBelow, URLTTL: s.URLTTL, ContentURL: s.ContentURL,
		DownloadByURL: s.DownloadByURL, AcceptUnscanned: s.AcceptUnscanned,
	}
}

// opsOptions are what the handlers of operations, and the jobs, get.
func (s *Server) opsOptions() ops.Options {
	return ops.Options{
		Corridor: s.corridor, Guard: s.guard, Store: s.Store, Contents: s.contents, Clock: s.clock, Slots: s.slots, IDs: &s.ids,
		Ballast: s.Ballast, Scanner: s.Scanner, Now: s.Now, Log: s.Log, Memory: s.Memory, Scratch: s.Scratch,
		Addresses:   func() []string { return s.Addresses },
		Collectors:  append(s.corridor.Collectors(), s.files.Collectors()...),
		Snapshotter: s.Snapshotter, Compacter: s.Compacter, Verifier: s.Verifier, Marker: s.Marker, Damage: s.Damage, InPlace: s.InPlace,
		StorageTimes: s.StorageTimes, LogLinesLost: s.LogLinesLost, KeepSigningKeys: s.KeepSigningKeys,
		AcceptUnscanned: s.AcceptUnscanned, AuditRetention: s.AuditRetention, ScrubRate: s.ScrubRate, ScrubPeriod: s.ScrubPeriod,
		Webhooks: s.Webhooks, WebhookRetryFor: s.WebhookRetryFor, Version: s.Version,
	}
}

// ServeHTTP answers a caller from the network, who shows a key.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Operator answers whoever holds the data directory: the commands. Such a
// caller needs no key and has a superadmin's rights. It must be served only
// where file permissions guard the way in.
func (s *Server) Operator() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handler.ServeHTTP(w, r.WithContext(api.AsOperator(r.Context())))
	})
}

// CompareSigningKeys says in the log when the signing keys are not those that
// were used last. It fails when that cannot be noted for the next time.
func (s *Server) CompareSigningKeys(ctx context.Context) error { return s.ops.CompareSigningKeys(ctx) }

// ClockIsSettled says whether the clock says what it should: no jump of it is
// being waited out.
func (s *Server) ClockIsSettled(ctx context.Context) bool {
	clock, err := s.clock.Read(ctx)
	return err == nil && clock.Settled
}

// Drain makes the server refuse new uploads and end long work, because it is
// about to stop.
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
