package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"attachd/server/config"
	"attachd/store"
)

// listen opens the address, or takes over the sockets that a service manager keeps
// open, so that no connection is refused while the server restarts (systemd.socket(5)).
func listen(address string) (all []net.Listener, err error) {
	held, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking the service manager's sockets: %w", err)
	}
	for i, l := range held {
		switch l := l.(type) {
		case *net.TCPListener:
			all = append(all, l)
		case *net.UnixListener:
			l.SetUnlinkOnClose(false) // it belongs to the service manager
			all = append(all, l)
		default:
			return nil, fmt.Errorf("of the %d sockets that the service manager handed over, number %d is none that takes TCP connections or those of a unix socket: see ListenStream= in its unit", len(held), i+1)
		}
	}
	if len(held) > 0 {
		return all, nil
	}
	if path, ok := strings.CutPrefix(address, config.UnixPrefix); ok {
		l, err := listenUnix(path)
		return []net.Listener{l}, err
	}
	l, err := net.Listen("tcp", address)
	return []net.Listener{l}, err
}

// socketMode lets only the server's user and group connect: a proxy should be in that
// group.
const socketMode = 0o660

// listenUnix creates a socket, and replaces one on which no process listens any more.
func listenUnix(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is there, and is no socket: name another path", path)
	case err == nil:
		conn, err := net.Dial("unix", path)
		if err == nil {
			return nil, errors.Join(fmt.Errorf("%s: another process listens there", path), conn.Close())
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// urlOf returns the URL at which a listener is reached.
func urlOf(l net.Listener, secure bool) string {
	switch {
	case l.Addr().Network() == "unix":
		return config.UnixPrefix + l.Addr().String()
	case secure:
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// notify reports a state to the service manager, if one has asked for that
// (sd_notify(3)).
func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be notified", "state", state, "error", err)
	}
}

// watchdogLimit is how long the service manager's watchdog waits for a
// notification before it restarts the server; 0 for no watchdog.
func watchdogLimit(log *slog.Logger) time.Duration {
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood", "error", err)
	}
	return limit
}

// feedWatchdog returns a job that reports to the service manager that the server works.
// It reports nothing while the records cannot be read.
func feedWatchdog(records store.Directory, log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := records.Spaces(ctx, "", 1); err != nil {
			return fmt.Errorf("the records cannot be read: %w", err)
		}
		notify(log, sd.SdNotifyWatchdog)
		return nil
	}
}
