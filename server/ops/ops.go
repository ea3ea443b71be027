// Package ops has the handlers for operators: health, metrics, statistics, the audit
// log, webhooks, backups and checks, and the jobs in the background.
package ops

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"attachd/blobs"
	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/contents"
	"attachd/server/jobs"
	"attachd/server/limits"
	"attachd/server/memory"
	"attachd/server/migrate"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store"
)

// Ballast is a file that reserves room on the disk and is given up when a change finds
// the disk full. Sizes are in bytes; total is that of the disk.
type Ballast interface {
	// Missing returns how many bytes the ballast lacks of its full size.
	Missing(total int64) int64
	// Refill restores the ballast to its full size.
	Refill(total int64) error
}

// Pinger is a malware scanner whose availability can be checked.
type Pinger interface {
	// Ping fails unless the scanner answers.
	Ping(ctx context.Context) error
}

// Options configure a Service.
type Options struct {
	Corridor *api.Corridor
	Guard    *access.Guard
	Store    store.Store
	Contents *contents.Store
	Leases   *jobs.Leases
	Clock    *upkeep.Clock
	Slots    *limits.Slots // of uploads
	IDs      *store.IDs
	Ballast  Ballast
	Scanner  Pinger // nil where there is none
	Now      func() time.Time
	Log      *slog.Logger
	Memory   func() memory.Plan
	Scratch  func() (file *os.File, done func() error, err error)
	// Addresses are the URLs at which the server is reached.
	Addresses func() []string
	// Storage is where contents are kept.
	Storage upkeep.StorageStatus
	// Collectors are the metrics of other packages.
	Collectors []prometheus.Collector

	// What follows are the optional features of the storage; nil where it lacks them.
	Snapshotter store.Snapshotter
	Compacter   store.Compacter
	Verifier    store.Verifier
	Shared      store.Shared // other processes use the store too
	Marker      blobs.Marker
	Sweeper     blobs.Sweeper
	Comparer    blobs.Comparer
	Damage      func() []string // the known faults of the metadata
	InPlace     func() error    // fails when files of the storage were replaced
	// MoveTo opens the storage to which contents are to be moved, by its settings.
	MoveTo func(ctx context.Context, storage map[string]string) (migrate.Target, error)

	StorageTimes *StorageTimes
	LogLinesLost func() int64

	KeepSigningKeys func([]token.SigningKey) error
	AcceptUnscanned bool
	AuditRetention  time.Duration
	TrashKeep       time.Duration // how long what was deleted can be restored; 0 removes it at once
	ScrubRate       int64
	ScrubPeriod     time.Duration
	Webhooks        *webhooks.Receiver
	WebhookRetryFor time.Duration
	Version         string
}

// Service reports the server's state, and does what its operator asks for and the work
// in the background.
type Service struct {
	Options
	signing  *Signing
	metrics  *metrics
	ready    readiness
	upkeep   upkeeping
	scrub    *upkeep.Scrub // nil when there is none
	webhooks *hooks        // nil when there is no receiver
	began    time.Time
	hours    hours
	totals   totals
	replicas replicas
	suspects suspects
}

// New makes the service.
func New(o Options, keys *Signing) *Service {
	s := &Service{Options: o, signing: keys, began: o.Now(), totals: newTotals(), ready: readiness{patience: probePatience, stuck: stuckFor}}
	s.upkeep.running, s.upkeep.end = context.WithCancel(context.Background())
	if o.ScrubRate > 0 {
		s.scrub = s.newScrub()
	}
	if o.Webhooks != nil {
		s.webhooks = s.newHooks(*o.Webhooks)
	}
	s.metrics = newMetrics(s)
	return s
}

// Uploaded counts an uploaded file.
func (s *Service) Uploaded(bytes int64) {
	s.ready.acknowledged.Add(1)
	s.hours.uploaded(s.Now(), bytes)
}

// Downloaded counts a downloaded file, or a part of one.
func (s *Service) Downloaded(bytes int64) { s.hours.downloaded(s.Now(), bytes) }

// FoundDamaged adds a content that a read found missing or damaged to the suspects.
func (s *Service) FoundDamaged(ref blobs.Ref) {
	s.metrics.damaged.Inc()
	s.suspects.add(ref)
}

// FoundUnreadable counts a read at which the storage failed.
func (s *Service) FoundUnreadable() { s.metrics.unreadable.Inc() }

// Drain ends long work, before the server stops.
func (s *Service) Drain() { s.upkeep.end() }

// Running returns a context that ends when the server drains.
func (s *Service) Running() context.Context { return s.upkeep.running }

// SetReadiness sets how long a readiness probe may last, and how long flushes of
// staged contents may fail. It is to be called before the first request.
func (s *Service) SetReadiness(patience, stuck time.Duration) {
	s.ready.patience, s.ready.stuck = patience, stuck
}

// SetWebhookWaits replaces the timer of the courier by after, and its waits by the
// longest ones. It is to be called before its job runs.
func (s *Service) SetWebhookWaits(after func(time.Duration) <-chan time.Time) {
	s.webhooks.courier.After = after
	s.webhooks.courier.Jitter = func(d time.Duration) time.Duration { return d }
}
