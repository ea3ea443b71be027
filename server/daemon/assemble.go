package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"attachd/server"
	"attachd/server/config"
	"attachd/server/content"
	"attachd/server/datadir"
	"attachd/server/memory"
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/scan"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
)

// ServerOptions are the parts of a server beside its configuration and storage.
type ServerOptions struct {
	Log       *slog.Logger
	LinesLost func() int64                      // optional: lines of the log that were lost
	DemoKeys  func() (map[string]string, error) // for a demo only
	Version   string
}

// NewServer makes the server for a configuration.
func NewServer(cfg config.Config, storage Storage, o ServerOptions) (*server.Server, error) {
	policy, err := content.NewPolicy(cfg.Content.Allowed, cfg.Content.AllowExecutables)
	if err != nil {
		return nil, fmt.Errorf("content.allowed: %w", err)
	}
	signingKeys, err := signingKeys(storage)
	if err != nil {
		return nil, err
	}
	clamd, err := Scanner(cfg)
	if err != nil {
		return nil, fmt.Errorf("scan.clamd: %w", err)
	}
	abilities := storage.Abilities
	if cfg.Downloads.Mode == "content" {
		abilities.Linker = nil // clients may not reach the object store
	}
	watch := memory.NewWatch()
	receiver, err := Receiver(cfg)
	if err != nil {
		return nil, fmt.Errorf("webhooks.secret_file: %w", err)
	}
	return server.New(server.Config{
		Store:                      storage.Store,
		Blobs:                      storage.Blobs,
		Abilities:                  abilities,
		Ballast:                    storage.Ballast,
		Policy:                     policy,
		SigningKeys:                signingKeys,
		KeepSigningKeys:            storage.Dir.WriteSigningKeys,
		Storage:                    StorageOf(cfg),
		StorageTimes:               storage.Times,
		MoveTo:                     storage.MoveTo,
		Scanner:                    clamd,
		AcceptUnscanned:            cfg.Scan.OnError == "accept",
		Now:                        time.Now,
		Log:                        o.Log,
		LogLinesLost:               o.LinesLost,
		Scratch:                    storage.Dir.Scratch,
		Thumbnails:                 preview.NewCache(storage.Dir.Join("thumbnails"), storage.Dir.Join("tmp"), storage.Dir.Own),
		Version:                    o.Version,
		PublicURL:                  cfg.PublicURL,
		ContentURL:                 cfg.Downloads.ContentURL,
		CORSOrigins:                cfg.CORSOrigins,
		TrustedProxies:             cfg.TrustedProxies,
		MaxFileSize:                int64(cfg.Limits.MaxFileSize),
		LogBelow:                   int64(cfg.Storage.LogBelow),
		MaxConcurrentUploads:       cfg.Limits.MaxConcurrentUploads,
		RequestsPerMinute:          cfg.Limits.RequestsPerMinute,
		FailedKeysPerMinute:        cfg.Limits.FailedKeysPerMinute,
		MinUploadRate:              int64(cfg.Limits.MinUploadRate),
		MinDownloadRate:            int64(cfg.Limits.MinDownloadRate),
		DiskReserve:                int64(cfg.Limits.DiskReserve),
		Memory:                     watch.Plan,
		Decode:                     preview.DecodeInProcess,
		URLTTL:                     time.Duration(cfg.Downloads.URLTTL),
		StorageURLTTL:              time.Duration(min(cfg.Downloads.URLTTL, cfg.Downloads.StorageURLTTL)),
		DownloadByURL:              cfg.Downloads.Mode == "url" || cfg.Downloads.Mode == "auto" && abilities.Linker != nil,
		VerifyReads:                cfg.Downloads.Verify,
		TrashKeep:                  time.Duration(cfg.Trash.Keep),
		AuditDownloads:             cfg.Audit.Downloads,
		AuditRetention:             time.Duration(cfg.Audit.Retention),
		ScrubRate:                  int64(cfg.Scrub.Rate),
		ScrubPeriod:                time.Duration(cfg.Scrub.Period),
		Webhooks:                   receiver,
		WebhookRetryFor:            time.Duration(cfg.Webhooks.RetryFor),
		AdminsMayDeleteFromTickets: cfg.Tickets.AdminsMayDelete,
		AutoCreate:                 cfg.Directory.AutoCreate,
		PublicMetrics:              cfg.Metrics.Public,
		DemoKeys:                   o.DemoKeys,
	})
}

// signingKeys returns the keys that sign links: those of the data directory, or those that
// replicas share. The first of these takes the ones that its data directory has, if any, so
// that links which were given out go on working.
func signingKeys(storage Storage) ([]token.SigningKey, error) {
	if storage.Shared == nil {
		return storage.Dir.SigningKeys()
	}
	initial := []token.SigningKey{token.NewSigningKey()}
	if _, err := os.Stat(storage.Dir.Join(datadir.SecretFile)); err == nil {
		if initial, err = storage.Dir.SigningKeys(); err != nil {
			return nil, err
		}
	}
	keys, err := ops.SharedSigningKeys(context.Background(), storage.Shared, initial)
	if err != nil {
		err = fmt.Errorf("reading the keys that sign links: %w", err)
	}
	return keys, err
}

// StorageOf says where a configuration has contents kept.
func StorageOf(cfg config.Config) upkeep.StorageStatus {
	if c := cfg.Storage; c.Backend == "s3" {
		return upkeep.StorageStatus{Backend: c.Backend, Endpoint: c.S3Endpoint, Bucket: c.S3Bucket, Prefix: c.S3Prefix}
	}
	return upkeep.StorageStatus{Backend: cfg.Storage.Backend}
}

// Scanner returns the malware scanner; nil when none is configured.
func Scanner(cfg config.Config) (server.Scanner, error) {
	if cfg.Scan.Clamd == "" {
		return nil, nil
	}
	return scan.New(cfg.Scan.Clamd, time.Duration(cfg.Scan.Timeout))
}

// Receiver returns the receiver of webhooks; nil when none is configured.
func Receiver(cfg config.Config) (*webhooks.Receiver, error) {
	if cfg.Webhooks.URL == "" {
		return nil, nil
	}
	if err := datadir.Private(cfg.Webhooks.SecretFile); err != nil {
		return nil, err
	}
	secrets, err := webhooks.ReadSecrets(cfg.Webhooks.SecretFile)
	if err != nil {
		return nil, err
	}
	return &webhooks.Receiver{URL: cfg.Webhooks.URL, Secrets: secrets, AllowPrivate: cfg.Webhooks.AllowPrivate, Timeout: time.Duration(cfg.Webhooks.Timeout)}, nil
}
