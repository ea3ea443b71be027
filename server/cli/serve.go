package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"attachd/server"
	"attachd/server/config"
	"attachd/server/content"
)

// How long a server that was told to stop waits for what is under way.
const shutdownTime = 30 * time.Second

// How often a server removes what nothing refers to.
const collectInterval = time.Hour

// How often a server looks whether there is room for its ballast again.
const ballastInterval = 2 * time.Second

// Serve is the command that runs the server.
func (a *App) Serve() *cobra.Command {
	var listen string
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the server",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{}
			if listen != "" {
				flags["listen"] = listen
			}
			cfg, warnings, err := a.config(flags)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg, warnings, demo)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` to listen on, as host:port; port 0 picks a free one")
	cmd.Flags().BoolVar(&demo, "demo", false, "fill an empty data directory with something to look at")
	return cmd
}

func (a *App) serve(ctx context.Context, cfg config.Config, warnings []string, demo bool) (err error) {
	log, say := a.logs(cfg)
	storage, err := a.openStorage(cfg, "attachd serve")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.close()) }()
	srv, err := newServer(cfg, storage.Storage, log)
	if err != nil {
		return err
	}
	// Listening comes before anything is made, so that a start that fails
	// here leaves the directory as it was.
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	defer listener.Close()                 // closed before, unless something below fails
	starting := context.WithoutCancel(ctx) // what is begun is finished, then ctx ends serving
	first, err := makeFirstAdmin(starting, storage.Storage)
	if err != nil {
		return fmt.Errorf("making the first superadmin: %w", err)
	}
	if demo {
		if err := makeDemo(starting, cfg, storage.Storage, first); err != nil {
			return fmt.Errorf("filling the demo: %w", err)
		}
	}
	// The socket is there before we say that we listen: whoever reads that may
	// run a command at once.
	socket, noSocket := storage.Dir.Listen()
	if first {
		say.Info("made the first superadmin", "key_file", storage.Dir.Join(adminKeyFile))
	}
	say.Info("listening", "url", "http://"+listener.Addr().String(), "data_dir", storage.Dir.Path())
	for _, warning := range warnings {
		log.Warn(warning)
	}
	if demo {
		log.Info("demo", "keys", storage.Dir.Join(demoKeysFile))
	}
	servers := []*listening{{httpServer(srv, log), listener}}
	if noSocket != nil {
		log.Warn("commands cannot reach this server", "error", noSocket)
	} else {
		servers = append(servers, &listening{httpServer(srv.Operator(), log), socket})
	}
	snapshots := &snapshots{storage.Storage, a.openSnapshot, int64(cfg.Limits.DiskReserve), log}
	return serveUntil(ctx, srv, log, servers, snapshots.keep)
}

type listening struct {
	*http.Server
	listener net.Listener
}

// serveUntil serves until ctx ends, then finishes what is under way. Beside
// that it does something else, which ends soon after its context.
func serveUntil(ctx context.Context, srv *server.Server, log *slog.Logger, servers []*listening, beside func(context.Context)) error {
	upkeep, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { srv.CollectEvery(upkeep, collectInterval) })
	background.Go(func() { srv.KeepBallast(upkeep, ballastInterval) })
	background.Go(func() { srv.Scrub(upkeep) })
	background.Go(func() { srv.Settle(upkeep) })
	background.Go(func() { beside(upkeep) })
	defer background.Wait() // the storage is closed next
	defer stopUpkeep()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() { failed <- s.Serve(s.listener) }()
	}
	var err error
	select {
	case <-ctx.Done():
		log.Info("stopping: finishing what is under way", "at_most", shutdownTime.String())
	case err = <-failed:
	}
	srv.Drain()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	for _, s := range servers {
		if shutdown := s.Shutdown(bounded); shutdown != nil {
			log.Warn("cut off what was still under way", "error", shutdown)
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// newServer makes the server that a configuration asks for.
func newServer(cfg config.Config, storage Storage, log *slog.Logger) (*server.Server, error) {
	policy, err := content.NewPolicy(cfg.Content.Allowed, cfg.Content.AllowExecutables)
	if err != nil {
		return nil, fmt.Errorf("content.allowed: %w", err)
	}
	secret, err := storage.Dir.Secret()
	if err != nil {
		return nil, err
	}
	return server.New(server.Config{
		Store:                      storage.Store,
		Blobs:                      storage.Blobs,
		Ballast:                    storage.Ballast,
		Policy:                     policy,
		Secret:                     secret,
		Now:                        time.Now,
		Log:                        log,
		Scratch:                    storage.Dir.Scratch,
		Version:                    version(),
		PublicURL:                  cfg.PublicURL,
		CORSOrigins:                cfg.CORSOrigins,
		TrustedProxies:             cfg.TrustedProxies,
		MaxFileSize:                int64(cfg.Limits.MaxFileSize),
		LogBelow:                   int64(cfg.Storage.LogBelow),
		MaxConcurrentUploads:       cfg.Limits.MaxConcurrentUploads,
		RequestsPerMinute:          cfg.Limits.RequestsPerMinute,
		MinUploadRate:              int64(cfg.Limits.MinUploadRate),
		DiskReserve:                int64(cfg.Limits.DiskReserve),
		URLTTL:                     time.Duration(cfg.Downloads.URLTTL),
		DownloadByURL:              cfg.Downloads.Mode == "url",
		VerifyReads:                cfg.Downloads.Verify,
		ScrubRate:                  int64(cfg.Scrub.Rate),
		ScrubPeriod:                time.Duration(cfg.Scrub.Period),
		AdminsMayDeleteFromTickets: cfg.Tickets.AdminsMayDelete,
		AutoCreate:                 cfg.Directory.AutoCreate,
		PublicMetrics:              cfg.Metrics.Public,
	})
}

// logs gives the log as configured, and one of the same form that says what a
// person waits for at start, whatever the level.
func (a *App) logs(cfg config.Config) (log, say *slog.Logger) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		panic(err) // the configuration allows these four only
	}
	form := cfg.Log.Format
	if form == "auto" {
		form = "json"
		if f, ok := a.stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			form = "text"
		}
	}
	return slog.New(logHandler(form, a.stderr, level)), slog.New(logHandler(form, a.stderr, slog.LevelInfo))
}

func logHandler(form string, w io.Writer, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level}
	if form == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}
