// Package daemon serves a configuration's data directory over the network until it is
// told to stop: listeners, TLS, connections, signals, the service manager, the log, and
// a graceful shutdown. Package server answers the requests.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"attachd/server"
	"attachd/server/backup"
	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/jobs"
	"attachd/store"
)

// Options configure Serve.
type Options struct {
	Config   config.Config
	Warnings []string // about the configuration, to be logged
	Storage  func(ctx context.Context, log *slog.Logger, waiting func(why error)) (Held, error)
	OpenCopy backup.Open // opens a copy of the database that may be written
	Stderr   io.Writer   // where the log is written
	Version  string
	Demo     *Demo // optional
}

// Demo is the initial content of an installation for demonstration.
type Demo struct {
	KeysFile string // in the data directory
	// Keys returns the keys of its users by name.
	Keys func(*datadir.Dir) (map[string]string, error)
	// Fill creates it where the data directory was empty, and returns what was left out
	// because of this configuration.
	Fill func(ctx context.Context, storage Storage, wasEmpty bool) (leftOut []string, err error)
}

// daemon is the state of a serving process.
type daemon struct {
	Options
	log, say    *slog.Logger // say logs what a person waits for at start, whatever the level
	lines       *logWriter
	signals     *signals
	connections int          // the maximum, as far as open files allow
	cert        *certificate // nil without TLS
	storage     Storage
	srv         *server.Server
	listeners   []net.Listener
	socket      net.Listener // for commands; nil where there is none
	noSocket    error        // why there is no socket
	freezes     *freezes
	overdue     chan struct{} // closed when a stop has taken stopTime
}

var (
	errJobsTime = fmt.Errorf("the server stops, and %s of that are over", jobsTime)
	errStopTime = fmt.Errorf("the stop took longer than %s, so the server ended before all was done. All that it acknowledged is on stable storage", stopTime)
)

// Serve serves until ctx ends, and then finishes the requests under way. Something that
// hangs, such as a disk or a database, does not keep it from returning stopTime later;
// the process has to end then, since the storage is in use.
func Serve(ctx context.Context, o Options) error {
	d := &daemon{Options: o, signals: catchSignals(), overdue: make(chan struct{})}
	defer d.signals.release()
	d.log, d.say, d.lines = logs(o.Config, o.Stderr)
	defer d.lines.close()
	served := make(chan error, 1)
	go func() { served <- d.run(ctx) }()
	select {
	case err := <-served:
		return err
	case <-d.overdue:
		return errStopTime
	}
}

// run opens the storage and serves it.
func (d *daemon) run(ctx context.Context) (err error) {
	o := d.Options
	if d.connections, err = connectionsAllowed(o.Config.Limits.MaxConnections, d.log); err != nil {
		return err
	}
	if d.cert, err = loadCertificate(o.Config, d.log); err != nil {
		return err
	}
	held, err := o.Storage(ctx, d.log, d.awaitDatabase)
	if ctx.Err() != nil && (errors.Is(err, store.ErrAway) || errors.Is(err, context.Canceled)) {
		d.say.Info("stopped while the database was waited for")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	d.storage = held.Storage
	if err := d.assemble(); err != nil {
		return err
	}
	// Listen before anything is created, so that a start that fails here leaves the
	// directory as it was.
	if d.listeners, err = listen(o.Config.Listen); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	for _, l := range d.listeners {
		defer l.Close() // no effect unless something below fails
	}
	first, err := d.prepare(context.WithoutCancel(ctx)) // finished once begun; an ended ctx then ends serving
	if err != nil {
		return err
	}
	// The socket is there before the log says that the server listens: a reader of that
	// line may run a command at once.
	d.socket, d.noSocket = d.storage.Dir.Listen()
	d.announce(first)
	return d.serve(ctx)
}

// awaitDatabase logs that the database is waited for, and that it has come.
func (d *daemon) awaitDatabase(why error) {
	if why == nil {
		d.say.Info("the database is there now")
		return
	}
	d.say.Warn("the database is not there yet: waiting for it", "at_most", DatabaseWait.String(), "error", why)
}

// assemble makes the server and logs the faults of its database.
func (d *daemon) assemble() (err error) {
	var demoKeys func() (map[string]string, error)
	if d.Demo != nil {
		demoKeys = func() (map[string]string, error) { return d.Demo.Keys(d.storage.Dir) }
	}
	d.srv, err = NewServer(d.Config, d.storage, ServerOptions{Log: d.log, LinesLost: d.lines.lost.Load, DemoKeys: demoKeys, Version: d.Version})
	if err == nil {
		logDamage(d.storage.Damage(), d.log)
	}
	return err
}

// prepare creates what a new installation needs, and reports whether it is one.
func (d *daemon) prepare(ctx context.Context) (first bool, err error) {
	if first, err = makeFirstAdmin(ctx, d.storage); err != nil {
		return first, fmt.Errorf("making the first superadmin: %w", err)
	}
	if err := d.srv.CompareSigningKeys(ctx); err != nil {
		return first, fmt.Errorf("noting which keys sign links: %w", err)
	}
	if d.Demo == nil {
		return first, nil
	}
	leftOut, err := d.Demo.Fill(ctx, d.storage, first)
	if err != nil {
		return first, fmt.Errorf("filling the demo: %w", err)
	}
	d.Warnings = append(d.Warnings, leftOut...)
	return first, nil
}

// announce tells a person at a terminal, or the log, where the server listens, and logs
// what the operator should attend to.
func (d *daemon) announce(first bool) {
	for _, l := range d.listeners {
		d.srv.Addresses = append(d.srv.Addresses, urlOf(l, d.cert != nil))
	}
	if d.attended() {
		d.greet(first)
	} else {
		d.logStart(first)
	}
	for _, l := range d.listeners {
		if d.cert == nil && othersReach(l.Addr()) {
			d.log.Warn("speaking plain HTTP on an address that others reach: keys and files can be read on their way. Set tls.cert_file and tls.key_file, or listen on 127.0.0.1 behind a proxy that speaks TLS", "address", l.Addr().String())
		}
	}
	for _, warning := range append(d.Warnings, d.storage.Dir.Warnings()...) {
		d.log.Warn(warning)
	}
	if d.cert != nil {
		d.cert.announce()
	}
	if d.noSocket != nil {
		d.log.Warn("commands cannot reach this server", "error", d.noSocket)
	}
}

// logStart logs where the server listens, whatever the level.
func (d *daemon) logStart(first bool) {
	if first {
		d.say.Info("made the first superadmin: this is a new installation, without files", "key_file", d.storage.Dir.Join(AdminKeyFile))
	}
	for _, url := range d.srv.Addresses {
		d.say.Info("listening", "url", url, "data_dir", d.storage.Dir.Path(), "installed", installed(d.storage.Dir))
	}
	if d.Demo != nil {
		d.log.Info("demo", "keys", d.storage.Dir.Join(d.Demo.KeysFile))
	}
}

// serve serves until ctx ends or a listener fails, and runs the background jobs. When
// it returns, all of them have ended.
func (d *daemon) serve(ctx context.Context) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.freezes = newFreezes(time.Now())
	running, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	last, endLast := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endLast(nil)
	var background sync.WaitGroup
	background.Go(func() { d.srv.Run(running, last, d.jobs(stop)...) })
	background.Go(func() { d.tryBucket(running) })
	defer background.Wait() // before the storage is closed
	defer stopJobs()
	servers := d.servers()
	failed := make(chan error, len(servers))
	for _, s := range servers {
		s.accepting.Go(func() { failed <- s.serve() })
	}
	notify(d.log, sd.SdNotifyReady)
	select {
	case <-ctx.Done():
		d.log.Info("stopping: finishing what is under way", "at_most", stopTime.String())
	case err = <-failed:
	}
	time.AfterFunc(jobsTime, func() { endLast(errJobsTime) })
	time.AfterFunc(stopTime, func() { close(d.overdue) })
	notify(d.log, sd.SdNotifyStopping)
	d.srv.Drain()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	for _, s := range servers {
		if shutdown := s.finish(bounded); shutdown != nil {
			d.log.Warn("cut off what was still under way", "error", shutdown)
			err = errors.Join(err, s.Close())
		}
	}
	if probe := d.srv.AwaitReadinessProbe(bounded); probe != nil {
		d.log.Warn("cut off what was still under way", "error", probe)
	}
	return err
}

// jobs are the background jobs of the process, beside the server's own. All are needed
// as long as requests are answered.
func (d *daemon) jobs(stop func()) []jobs.Job {
	reload := func() {}
	all := []jobs.Job{{Name: "notice freezes", Every: beatEvery, Run: d.freezes.beatNow}}
	if d.storage.Snapshotter != nil {
		s := &snapshots{d.storage, d.OpenCopy, int64(d.Config.Limits.DiskReserve), d.srv.ClockIsSettled, d.srv.WhileFlushed, d.log}
		all = append(all, jobs.Job{Name: "take snapshots", Run: jobs.Loop(s.keep), Finish: s.takeLast})
	}
	if d.cert != nil {
		reload = d.cert.reloadNow
		all = append(all, d.cert.job())
	}
	if limit := watchdogLimit(d.log); limit > 0 {
		all = append(all, jobs.Job{Name: "feed watchdog", Every: limit / 3, AtStart: true, Run: feedWatchdog(d.storage.Store, d.log)})
	}
	all = append(all, jobs.Job{Name: "follow signals", Run: jobs.Loop(func(ctx context.Context) { d.signals.follow(ctx, d.log, reload, stop) })})
	for i := range all {
		all[i].ThroughDrain = true
	}
	return all
}

// installed returns when the data directory was set up, for the log.
func installed(dir *datadir.Dir) string {
	made, err := dir.Made()
	if err != nil {
		return "unknown"
	}
	return made.UTC().Format(time.RFC3339)
}

// faultsLogged is how many faults of the database are logged one by one at start.
const faultsLogged = 10

func logDamage(faults []string, log *slog.Logger) {
	for _, what := range faults[:min(len(faults), faultsLogged)] {
		log.Error("the database has a fault", "what", what)
	}
	if more := len(faults) - faultsLogged; more > 0 {
		log.Error("the database has more faults, which attachd check lists", "faults", more)
	}
}

// othersReach reports whether other machines can reach an address: it is not a loopback
// address.
func othersReach(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}
