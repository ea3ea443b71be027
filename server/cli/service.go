package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"attachd/store"
)

// listen opens the address, or takes the socket that a service manager holds
// open for us, so that no connection is refused while the server restarts
// (systemd.socket(5)).
func listen(address string) (net.Listener, error) {
	held, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("taking the service manager's socket: %w", err)
	}
	var l net.Listener
	switch len(held) {
	case 0:
		if l, err = net.Listen("tcp", address); err != nil {
			return nil, err
		}
	case 1:
		l = held[0]
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("the service manager handed over %d sockets; it should be one that takes TCP connections", len(held))
	}
	return frank{tcp}, nil
}

// notify tells the service manager how we are, where there is one that wants
// to know (sd_notify(3)).
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("the service manager cannot be told", "state", state, "error", err)
	}
}

// keepWatchdog tells the service manager that the server lives, as often as
// it wants to hear, until ctx ends. A server whose records can no longer be
// read does not live.
func keepWatchdog(ctx context.Context, records store.Directory, log *slog.Logger) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog is not understood", "error", err)
	}
	if limit == 0 {
		return
	}
	ticker := time.NewTicker(limit / 3)
	defer ticker.Stop()
	for {
		if _, err := records.Spaces(ctx, "", 1); err == nil {
			notify(log, daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			log.Error("the records cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
