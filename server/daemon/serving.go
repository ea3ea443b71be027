package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"attachd/server"
)

const (
	// shutdownTime is how long a stopping server waits for requests that are being
	// answered.
	shutdownTime = 30 * time.Second
	// jobsTime is how long after the beginning of a stop background jobs may finish their
	// work: write what is staged to files and take a snapshot. The rest of stopTime is for
	// closing the storage.
	jobsTime = 35 * time.Second
	// stopTime is how long a whole stop may take. Then the process ends as it is. The
	// manual and the packages name it.
	stopTime = 40 * time.Second
	// waitingTime is how long it then waits for requests on open connections: the first
	// of a new connection, or the next one that is on its way.
	waitingTime = time.Second
)

// servers makes an HTTP server for each listener.
func (d *daemon) servers() (all []*listening) {
	most := func() int { return min(d.connections, d.srv.Memory().Connections) }
	follow := newConnections(most, d.log).follow
	for _, l := range d.listeners {
		network := httpServer(d.freezes.thawing(d.srv), d.log)
		network.IdleTimeout = time.Duration(d.Config.Limits.IdleTimeout)
		network.ConnState = follow
		network.ConnContext = server.ConnContext
		if d.cert != nil && l.Addr().Network() != "unix" { // a unix socket stays on this machine and needs no TLS
			network.TLSConfig = d.cert.config()
		}
		all = append(all, newListening(network, clients{l, d.freezes}))
	}
	if d.socket != nil {
		all = append(all, newListening(httpServer(d.srv.Operator(), d.log), d.socket))
	}
	return all
}

// listening is an HTTP server with its listener.
type listening struct {
	*http.Server
	listener  net.Listener
	accepting sync.WaitGroup
	open      atomic.Int64 // open connections
}

func newListening(s *http.Server, listener net.Listener) *listening {
	l := &listening{Server: s, listener: listener}
	follow := s.ConnState
	s.ConnState = func(conn net.Conn, state http.ConnState) {
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

// finish stops listening and answers what was received before. Shutdown alone drops
// requests on accepted connections that were not read yet, and closes idle connections
// while requests may be on their way, so finish waits a moment first. Each answer of a
// draining server closes its connection.
func (l *listening) finish(ctx context.Context) error {
	if err := l.listener.Close(); err != nil {
		return err
	}
	l.accepting.Wait()
	// Count steps rather than time: on a busy machine, a second may pass in which
	// nothing could be read.
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
	return l.ServeTLS(l.listener, "", "") // the certificate is in the TLS configuration
}

// httpServer returns a server for HTTP/1.1, and over TLS for HTTP/2 too.
func httpServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h,
		// For connections whose other end reads nothing any more, or is gone.
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: 20 * time.Second, SendPingTimeout: time.Minute, PingTimeout: 15 * time.Second},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),

		// The general handler of OPTIONS * would answer without the server's headers.
		DisableGeneralOptionsHandler: true,
	}
}
