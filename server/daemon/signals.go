package daemon

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// terminalFile is the controlling terminal of the process that opens it. Where
// there is none, or it was closed, it cannot be opened.
const terminalFile = "/dev/tty"

// terminalTime is how long a terminal may take to be gone after the SIGHUP that
// its end sends.
const terminalTime = time.Second

// signals are those whose default would end a server that should go on: SIGPIPE,
// which the runtime sends where standard output or error is a pipe that nobody
// reads any more, and SIGHUP.
type signals struct {
	hangups    chan os.Signal
	pipes      chan os.Signal // not read: the failed write says it
	onTerminal bool           // at the start
}

func catchSignals() *signals {
	s := &signals{hangups: make(chan os.Signal, 1), pipes: make(chan os.Signal, 1), onTerminal: hasTerminal()}
	signal.Notify(s.pipes, syscall.SIGPIPE)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup(1) wants it
		signal.Notify(s.hangups, syscall.SIGHUP)
	}
	return s
}

func (s *signals) release() {
	signal.Stop(s.hangups)
	signal.Stop(s.pipes)
}

// follow has the server reload at each SIGHUP until ctx ends, or stop where the
// terminal that it was started from is gone: nobody could end it there any more.
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

// terminalGoes waits for the terminal to be gone, for a moment.
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
