package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// terminalFile is the controlling terminal of the process that opens it. It cannot be
// opened where there is none, or it was closed.
const terminalFile = "/dev/tty"

// terminalTime is how long a terminal may take to close after the SIGHUP that its end
// sends.
const terminalTime = time.Second

// signals handles the signals that would by default end a server that should continue:
// SIGPIPE, which the runtime raises where standard output or error is a pipe without a
// reader, and SIGHUP.
type signals struct {
	hangups    chan os.Signal
	pipes      chan os.Signal // not read: the failed write reports the error
	onTerminal bool           // started from a terminal
}

func catchSignals() *signals {
	s := &signals{hangups: make(chan os.Signal, 1), pipes: make(chan os.Signal, 1), onTerminal: hasTerminal()}
	signal.Notify(s.pipes, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // nohup(1) ignores it
		signal.Notify(s.hangups, syscall.SIGHUP)
	}
	return s
}

func (s *signals) release() {
	signal.Stop(s.hangups)
	signal.Stop(s.pipes)
}

// follow reloads the server at each SIGHUP until ctx ends, or stops it when the
// terminal from which it was started is gone: it could not be stopped from there any
// more.
func (s *signals) follow(ctx context.Context, log *slog.Logger, reload, stop func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hangups:
		}
		if s.onTerminal && terminalGoes(ctx) {
			log.Info("the terminal was closed")
			stop()
			return
		}
		log.Info("SIGHUP: certificates are looked at now. The log goes to standard error, so there is no file to open again; other settings are read at a start")
		reload()
	}
}

// terminalGoes waits up to terminalTime for the terminal to close.
func terminalGoes(ctx context.Context) bool {
	for deadline := time.Now().Add(terminalTime); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if !hasTerminal() {
			return true
		}
	}
	return false
}

func hasTerminal() bool {
	terminal, err := os.OpenFile(terminalFile, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = terminal.Close() // nothing was written
	return true
}
