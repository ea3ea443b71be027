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
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"attachd/server"
	"attachd/server/config"
	"attachd/server/content"
	"attachd/server/datadir"
	"attachd/server/jobs"
	"attachd/server/memory"
	"attachd/server/preview"
	"attachd/server/scan"
)

// How long a server that was told to stop waits for what is under way.
const shutdownTime = 30 * time.Second

// How long it waits for requests on connections that are open: those that have
// not said yet what they want, and those on which the next one is on its way.
const waitingTime = time.Second

// Serve is the command that runs the server.
func (a *App) Serve() *cobra.Command {
	var listen string
	var demo, requireExisting bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "run the server",
		Args:  exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := map[string]string{}
			if listen != "" {
				flags["listen"] = listen
			}
			if requireExisting {
				flags["require_existing"] = "true"
			}
			cfg, warnings, err := a.config(flags)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), cfg, warnings, demo)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "`address` to listen on, as host:port or unix:/path; port 0 picks a free one")
	cmd.Flags().BoolVar(&requireExisting, "require-existing", false, "refuse to begin anew where there is no installation, as while its disk is not mounted")
	cmd.Flags().BoolVar(&demo, "demo", false, "fill an empty data directory with something to look at")
	return cmd
}

func (a *App) serve(ctx context.Context, cfg config.Config, warnings []string, demo bool) (err error) {
	signals := catchSignals()
	defer signals.release()
	log, say, lines := a.logs(cfg)
	defer lines.close()
	connections, err := connectionsAllowed(cfg.Limits.MaxConnections, log)
	if err != nil {
		return err
	}
	cert, err := loadCertificate(cfg, log)
	if err != nil {
		return err
	}
	storage, err := a.openStorage(cfg, "attachd serve")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.close()) }()
	var demoKeys func() (map[string]string, error)
	if demo {
		demoKeys = func() (map[string]string, error) { return readDemoKeys(storage.Dir) }
	}
	srv, err := newServer(cfg, storage.Storage, log, lines.lost.Load, demoKeys)
	if err != nil {
		return err
	}
	logDamage(storage.Damage(), log)
	// Listening comes before anything is made, so that a start that fails
	// here leaves the directory as it was.
	listeners, err := listen(cfg.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for _, l := range listeners {
		defer l.Close() // closed before, unless something below fails
	}
	starting := context.WithoutCancel(ctx) // what is begun is finished, then ctx ends serving
	first, err := makeFirstAdmin(starting, storage.Storage)
	if err != nil {
		return fmt.Errorf("making the first superadmin: %w", err)
	}
	if err := srv.CompareSigningKeys(starting); err != nil {
		return fmt.Errorf("noting which keys sign links: %w", err)
	}
	if demo {
		leftOut, err := a.makeDemo(starting, cfg, storage.Storage, first)
		if err != nil {
			return fmt.Errorf("filling the demo: %w", err)
		}
		warnings = append(warnings, leftOut...)
	}
	// The socket is there before we say that we listen: whoever reads that may
	// run a command at once.
	socket, noSocket := storage.Dir.Listen()
	if first {
		say.Info("made the first superadmin: this is a new installation, without files", "key_file", storage.Dir.Join(adminKeyFile))
	}
	for _, l := range listeners {
		srv.Addresses = append(srv.Addresses, urlOf(l, cert != nil))
		say.Info("listening", "url", urlOf(l, cert != nil), "data_dir", storage.Dir.Path(), "installed", installed(storage.Dir))
	}
	for _, l := range listeners {
		if cert == nil && othersReach(l.Addr()) {
			log.Warn("speaking plain HTTP on an address that others reach: keys and files can be read on their way. Set tls.cert_file and tls.key_file, or listen on 127.0.0.1 behind a proxy that speaks TLS", "address", l.Addr().String())
		}
	}
	for _, warning := range append(warnings, storage.Dir.Warnings()...) {
		log.Warn(warning)
	}
	if demo {
		log.Info("demo", "keys", storage.Dir.Join(demoKeysFile))
	}
	follow := newConnections(func() int { return min(connections, srv.Memory().Connections) }, log).follow
	freezes := newFreezes(time.Now())
	var servers []*listening
	for _, l := range listeners {
		network := httpServer(freezes.thawing(srv), log)
		network.IdleTimeout = time.Duration(cfg.Limits.IdleTimeout)
		network.ConnState = follow
		if cert != nil && l.Addr().Network() != "unix" { // what is on this machine needs none
			network.TLSConfig = cert.config()
		}
		servers = append(servers, newListening(network, clients{l, freezes}))
	}
	if noSocket != nil {
		log.Warn("commands cannot reach this server", "error", noSocket)
	} else {
		servers = append(servers, newListening(httpServer(srv.Operator(), log), socket))
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reload := func() {}
	if cert != nil {
		reload = cert.reloadNow
	}
	beside := []jobs.Job{
		{Name: "notice freezes", Every: beatEvery, ThroughDrain: true, Run: freezes.beatNow},
		{Name: "follow signals", ThroughDrain: true, Run: jobs.Loop(func(ctx context.Context) { signals.follow(ctx, log, reload, stop) })},
	}
	if storage.Snapshotter != nil {
		snapshots := &snapshots{storage.Storage, a.openCopy, int64(cfg.Limits.DiskReserve), srv.ClockIsSettled, log}
		beside = append(beside, jobs.Job{Name: "snapshots", ThroughDrain: true, Run: jobs.Loop(snapshots.keep)})
	}
	if cert != nil {
		cert.announce()
		beside = append(beside, cert.job())
	}
	if limit := watchdogLimit(log); limit > 0 {
		beside = append(beside, jobs.Job{Name: "watchdog", Every: limit / 3, AtStart: true, ThroughDrain: true, Run: feedWatchdog(storage.Store, log)})
	}
	return serveUntil(ctx, srv, log, servers, beside)
}

// installed is when the data directory was set up, for the log.
func installed(dir *datadir.Dir) string {
	made, err := dir.Made()
	if err != nil {
		return "unknown"
	}
	return made.UTC().Format(time.RFC3339)
}

// faultsLogged is how many faults of the database a start logs one by one.
const faultsLogged = 10

func logDamage(faults []string, log *slog.Logger) {
	for _, what := range faults[:min(len(faults), faultsLogged)] {
		log.Error("the database has a fault", "what", what)
	}
	if more := len(faults) - faultsLogged; more > 0 {
		log.Error("the database has more faults, which attachd check lists", "faults", more)
	}
}

// othersReach says whether an address is more than a loopback one.
func othersReach(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// listening is an HTTP server with what it listens at.
type listening struct {
	*http.Server
	listener  net.Listener
	accepting sync.WaitGroup
	open      atomic.Int64 // connections
}

func newListening(server *http.Server, listener net.Listener) *listening {
	l := &listening{Server: server, listener: listener}
	follow := server.ConnState
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			l.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			l.open.Add(-1)
		}
		if follow != nil {
			follow(conn, state)
		}
	}
	return l
}

// finish stops listening and answers what came in before. Shutdown alone drops
// requests on connections that were accepted and not read from yet, and closes
// idle ones against requests on their way: they get a moment before. A server
// that drains says with each answer that it is the last of its connection.
func (l *listening) finish(ctx context.Context) error {
	if err := l.listener.Close(); err != nil {
		return err
	}
	l.accepting.Wait()
	// By its own steps, not by the clock: where the machine is busy, a second
	// may pass in which nothing could be read.
	const step = 5 * time.Millisecond
	for waited := time.Duration(0); l.open.Load() > 0 && waited < waitingTime; waited += step {
		time.Sleep(step)
	}
	return l.Shutdown(ctx)
}

func (l *listening) serve() error {
	if l.TLSConfig == nil {
		return l.Serve(l.listener)
	}
	return l.ServeTLS(l.listener, "", "") // the configuration has the certificate
}

// serveUntil serves until ctx ends, then finishes what is under way. Beside
// that it does other things, which end soon after their context.
func serveUntil(ctx context.Context, srv *server.Server, log *slog.Logger, servers []*listening, beside []jobs.Job) error {
	upkeep, stopUpkeep := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() { srv.Run(upkeep, beside...) })
	defer background.Wait() // the storage is closed next
	defer stopUpkeep()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		s.accepting.Go(func() { failed <- s.serve() })
	}
	notify(log, daemon.SdNotifyReady)
	var err error
	select {
	case <-ctx.Done():
		log.Info("stopping: finishing what is under way", "at_most", shutdownTime.String())
	case err = <-failed:
	}
	notify(log, daemon.SdNotifyStopping)
	srv.Drain()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	for _, s := range servers {
		if shutdown := s.finish(bounded); shutdown != nil {
			log.Warn("cut off what was still under way", "error", shutdown)
			err = errors.Join(err, s.Close())
		}
	}
	return err
}

// httpServer speaks HTTP/1.1, and over TLS HTTP/2 too.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h,
		// Of a connection whose other end takes nothing any more, or is gone.
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: 20 * time.Second, SendPingTimeout: time.Minute, PingTimeout: 15 * time.Second},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),

		// Its answer to OPTIONS * would be without our headers.
		DisableGeneralOptionsHandler: true,
	}
}

// newServer makes the server that a configuration asks for; linesLost, of the
// log, is optional, and demoKeys is for a demo only.
func newServer(cfg config.Config, storage Storage, log *slog.Logger, linesLost func() int64, demoKeys func() (map[string]string, error)) (*server.Server, error) {
	policy, err := content.NewPolicy(cfg.Content.Allowed, cfg.Content.AllowExecutables)
	if err != nil {
		return nil, fmt.Errorf("content.allowed: %w", err)
	}
	signingKeys, err := storage.Dir.SigningKeys()
	if err != nil {
		return nil, err
	}
	clamd, err := scanner(cfg)
	if err != nil {
		return nil, fmt.Errorf("scan.clamd: %w", err)
	}
	watch := memory.NewWatch()
	receiver, err := receiver(cfg)
	if err != nil {
		return nil, fmt.Errorf("webhooks.secret_file: %w", err)
	}
	return server.New(server.Config{
		Store:                      storage.Store,
		Blobs:                      storage.Blobs,
		Abilities:                  storage.Abilities,
		Ballast:                    storage.Ballast,
		Policy:                     policy,
		SigningKeys:                signingKeys,
		KeepSigningKeys:            storage.Dir.WriteSigningKeys,
		StorageTimes:               storage.Times,
		Scanner:                    clamd,
		AcceptUnscanned:            cfg.Scan.OnError == "accept",
		Now:                        time.Now,
		Log:                        log,
		LogLinesLost:               linesLost,
		Scratch:                    storage.Dir.Scratch,
		Thumbnails:                 preview.NewCache(storage.Dir.Join("thumbnails"), storage.Dir.Join("tmp"), storage.Dir.Own),
		Version:                    version(),
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
		DownloadByURL:              cfg.Downloads.Mode == "url",
		VerifyReads:                cfg.Downloads.Verify,
		AuditDownloads:             cfg.Audit.Downloads,
		AuditRetention:             time.Duration(cfg.Audit.Retention),
		ScrubRate:                  int64(cfg.Scrub.Rate),
		ScrubPeriod:                time.Duration(cfg.Scrub.Period),
		Webhooks:                   receiver,
		WebhookRetryFor:            time.Duration(cfg.Webhooks.RetryFor),
		AdminsMayDeleteFromTickets: cfg.Tickets.AdminsMayDelete,
		AutoCreate:                 cfg.Directory.AutoCreate,
		PublicMetrics:              cfg.Metrics.Public,
		DemoKeys:                   demoKeys,
	})
}

// scanner is what looks for malware; nil when nothing does.
func scanner(cfg config.Config) (server.Scanner, error) {
	if cfg.Scan.Clamd == "" {
		return nil, nil
	}
	return scan.New(cfg.Scan.Clamd, time.Duration(cfg.Scan.Timeout))
}

// logs gives the log as configured, one of the same form that says what a
// person waits for at start, whatever the level, and what both write to.
func (a *App) logs(cfg config.Config) (log, say *slog.Logger, lines *logWriter) {
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
	lines = newLogWriter(a.stderr, form)
	return slog.New(logHandler(form, lines, level)), slog.New(logHandler(form, lines, slog.LevelInfo)), lines
}

// logHandler writes lines with their times in UTC, so that those of several
// machines can be put together.
func logHandler(form string, w io.Writer, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if form == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}
