package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shutdownTime is how long a server that was told to stop waits for requests
	// that are being answered.
	shutdownTime = 30 * time.Second
	// waitingTime is how long it then waits for requests on open connections: those
	// whose first is still to come, and those on which the next one is on its way.
	waitingTime = time.Second
)

// servers are the HTTP servers of all listeners.
func (d *daemon) servers() (all []*listening) {
	most := func() int { return min(d.connections, d.srv.Memory().Connections) }
	follow := newConnections(most, d.log).follow
	for _, l := range d.listeners {
		network := httpServer(d.freezes.thawing(d.srv), d.log)
		network.IdleTimeout = time.Duration(d.Config.Limits.IdleTimeout)
		network.ConnState = follow
		if d.cert != nil && l.Addr().Network() != "unix" { // what is on this machine needs none
			network.TLSConfig = d.cert.config()
		}
		all = append(all, newListening(network, clients{l, d.freezes}))
	}
	if d.socket != nil {
		all = append(all, newListening(httpServer(d.srv.Operator(), d.log), d.socket))
	}
	return all
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
