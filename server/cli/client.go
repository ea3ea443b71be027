package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/remote"
)

// client is a client of the server's API that acts as the operator.
type client struct{ http.Client }

// reach returns a client of the running server, or, when none runs, of one that it
// starts for the duration of the command. Where servers share a database, it is always one
// of the command's own.
func (a *App) reach(ctx context.Context, on target) (c *client, done func() error, err error) {
	cfg, _, err := a.config(nil)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Metadata.Backend == "postgres" {
		return a.reachBeside(ctx, cfg, daemon.Opening{Beside: true, Existing: on == existing || cfg.RequireExisting, Moved: a.moving})
	}
	if _, err := becomeOwner(cfg.DataDir); err != nil {
		return nil, nil, err
	}
	dir, err := on.openDir(cfg)
	if err != nil {
		return nil, nil, err
	}
	if c, done, err := running(ctx, dir); err == nil {
		return c, done, nil
	}
	storage, err := a.openStorage(ctx, cfg, "an attachd command", daemon.Opening{Moved: a.moving})
	if err != nil {
		// A server that is starting has the storage before it answers.
		if c, done, none := running(ctx, dir); none == nil {
			return c, done, nil
		}
		return nil, nil, err
	}
	return a.clientOf(cfg, storage.Storage, storage.Close)
}

// reachBeside returns a client of a server of this command, beside those that run.
func (a *App) reachBeside(ctx context.Context, cfg config.Config, how daemon.Opening) (c *client, done func() error, err error) {
	storage, err := a.open(ctx, cfg, how)
	if err != nil {
		return nil, nil, noInstallation(err)
	}
	return a.clientOf(cfg, storage, storage.Close)
}

// clientOf returns a client of a server that it starts; done ends it, and closes its storage.
func (a *App) clientOf(cfg config.Config, storage daemon.Storage, closeStorage func() error) (c *client, done func() error, err error) {
	local, err := a.serveQuietly(cfg, storage)
	if err != nil {
		return nil, nil, errors.Join(err, closeStorage())
	}
	return local.client(), func() error { return errors.Join(local.Close(), closeStorage()) }, nil
}

// order is the part of a command that sends requests to the server.
type order func(ctx context.Context, c *client, args []string) error

// withServer makes a command of run, with a client of the server of an existing data
// directory: a mistyped one is not created.
func (a *App) withServer(run order) func(*cobra.Command, []string) error {
	return a.with(existing, run)
}

func (a *App) with(on target, run order) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		c, done, err := a.reach(cmd.Context(), on)
		if err != nil {
			return err
		}
		err = run(cmd.Context(), c, args)
		c.CloseIdleConnections()
		if closing := done(); err == nil {
			err = closing
		}
		return err
	}
}

// running returns a client of the server that holds dir, if there is one.
func running(ctx context.Context, dir *datadir.Dir) (c *client, done func() error, err error) {
	conn, err := dir.Dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	// A stopping server would wait for a request on this connection.
	if err := conn.Close(); err != nil {
		return nil, nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dir.Dial(ctx) }
	return newClient(dial), func() error { return nil }, nil
}

// inMemory is a server that is reached over connections in memory: the same HTTP as
// over a network, without one.
type inMemory struct {
	http.Server
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// serveQuietly serves the operator from memory. It logs errors only: the command itself
// reports what it did and what was refused, but not the cause of a failure of the
// server.
func (a *App) serveQuietly(cfg config.Config, storage daemon.Storage) (*inMemory, error) {
	log := slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: slog.LevelError}))
	srv, err := daemon.NewServer(cfg, storage, daemon.ServerOptions{Log: log, Version: version()})
	if err != nil {
		return nil, err
	}
	m := &inMemory{Server: http.Server{Handler: srv.Operator()}, conns: make(chan net.Conn), closed: make(chan struct{})}
	go m.Serve((*inMemoryListener)(m))
	return m, nil
}

// closingTime is how long Close waits for handlers.
const closingTime = 5 * time.Second

// Close ends the server once its handlers have returned: they may record something
// after their answer, and the storage is closed next.
func (m *inMemory) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closingTime)
	defer cancel()
	return errors.Join(m.Shutdown(ctx), m.Server.Close())
}

func (m *inMemory) client() *client {
	return newClient(func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case m.conns <- there:
			return here, nil
		case <-m.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
}

// inMemoryListener is the net.Listener of an inMemory server.
type inMemoryListener inMemory

func (l *inMemoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *inMemoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *inMemoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func newClient(dial func(ctx context.Context, network, address string) (net.Conn, error)) *client {
	return &client{http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true}}}
}

// send sends a request with a body: encoded as JSON, unless it is an io.Reader.
func (c *client) send(ctx context.Context, method, path string, body any, headers ...string) (*http.Response, error) {
	reader, isReader := body.(io.Reader)
	if !isReader && body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(raw)
	}
	rq, err := http.NewRequestWithContext(ctx, method, "http://attachd"+path, reader)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.Do(rq)
	var inRequest *url.Error
	if errors.As(err, &inRequest) {
		err = inRequest.Err // the URL in it is internal and means nothing to people
	}
	return response, cutOff(err)
}

// cutError is the error of a connection that ended before the answer was whole.
type cutError struct{ error }

func (cutError) Error() string {
	return "the server ended before its answer was whole: see in its log why, then run this again"
}

func (e cutError) Unwrap() error { return e.error }

// cutOff returns a cutError for an error by which a connection ends, and any other
// unchanged.
func cutOff(err error) error {
	var (
		inSocket *net.OpError
		inHeader textproto.ProtocolError // a line of it that is not whole
	)
	if errors.As(err, &inHeader) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &inSocket) && inSocket.Op != "dial" {
		return cutError{err}
	}
	return err
}

// call is send, and decodes the answer into answer, if that is not nil. A refusal is
// returned as a *refusal, with the server's own sentence.
func (c *client) call(ctx context.Context, method, path string, body, answer any, headers ...string) error {
	response, err := c.send(ctx, method, path, body, headers...)
	if err != nil {
		return err
	}
	defer response.Body.Close() // a failure shows when it is read to its end
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return cutOff(err)
	}
	if response.StatusCode >= 300 {
		return refused(response.Status, raw)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(raw, answer)
}

// refusal is a refusal by the server, for people and for programs.
type refusal struct{ says, code string }

func (r *refusal) Error() string { return r.says }

func refused(status string, raw []byte) error {
	var body struct {
		Detail string `json:"detail"`
		Code   string `json:"code"`
		Line   int    `json:"line"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.Detail == "" {
		return &refusal{fmt.Sprintf("the server answered %s", status), body.Code}
	}
	detail := strings.TrimSuffix(body.Detail, ".")
	if body.Line > 0 {
		detail = fmt.Sprintf("line %d: %s; nothing was changed", body.Line, detail)
	}
	return &refusal{detail, body.Code}
}

// codeOf returns the code of the server's refusal; empty for other errors.
func codeOf(err error) string {
	var r *refusal
	if errors.As(err, &r) {
		return r.code
	}
	var overNetwork *remote.Refusal
	if errors.As(err, &overNetwork) {
		return overNetwork.Code
	}
	return ""
}
