package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/julienschmidt/httprouter"

	"attachd/server/limits"
	"attachd/server/token"
	"attachd/store"
)

// Request is a request with what the corridor has determined of it before its handler
// runs.
type Request struct {
	*http.Request
	corridor *Corridor
	Writer   *Response
	id       string // X-Request-Id
	route    Route  // the one that matched; its pattern is empty if none has
	Params   httprouter.Params
	body     *countedBody
	conn     Conn // nil where Hold is not to be used

	scope    Scope        // for the log, the audit log and the limits; handlers get it as an argument
	Entry    *store.Entry // entry of the audit log in which a change is recorded
	Holds    Holder       // whom the request's memory is counted for
	held     int64        // bytes of memory counted
	refusing bool         // refused for lack of memory

	// Findings are what was asked at once about the request; nil where nothing was.
	Findings *store.Findings
	// HandsOver is set by a redirect that gives the file to the caller: nothing more of
	// that download reaches this server, so it is recorded as one.
	HandsOver bool
	// RecordsFiles is set by an answer with several files, of which each is recorded by
	// RecordFile.
	RecordsFiles bool
}

// Log returns the server's log with the request's id on each line. It is made at each
// call: most requests log nothing but the line of their end.
func (rq *Request) Log() *slog.Logger {
	return rq.corridor.Log.With(requestIDAttr(rq.id))
}

func requestIDAttr(id string) slog.Attr { return slog.String("request_id", id) }

// Response is a response writer that records the answer's status, and limits how long a
// client may take to read it.
type Response struct {
	http.ResponseWriter
	rq     *Request
	Status int
	Bytes  int64
	Code   string // of a refusal
	pace   limits.Progress
}

// WriteHeader implements http.ResponseWriter.
func (w *Response) WriteHeader(status int) {
	if status >= 200 {
		w.Status = status
		w.rq.corridor.lists.note(w.rq, status)
		if w.rq.corridor.Draining() {
			w.Header().Set("Connection", "close") // the next request must be sent to the next server
		}
	}
	w.move()
	w.ResponseWriter.WriteHeader(status)
	w.pace.Moved(time.Now(), 0)
}

// Write implements http.ResponseWriter.
func (w *Response) Write(p []byte) (int, error) {
	if w.Status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.move()
	n, err := w.write(p)
	w.pace.Moved(time.Now(), n)
	w.Bytes += int64(n)
	return n, err
}

// write sends p, and the header with it where p is the whole body, by one call:
// net/http alone sends its buffer first when that is full.
func (w *Response) write(p []byte) (int, error) {
	conn := w.rq.conn
	if conn == nil || len(p) < fitsBuffer || w.Bytes > 0 || w.Header().Get("Content-Length") != strconv.Itoa(len(p)) {
		return w.ResponseWriter.Write(p)
	}
	conn.Hold()
	n, err := w.ResponseWriter.Write(p)
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if failed := conn.Release(); err == nil {
		err = failed
	}
	return n, err
}

// fitsBuffer is how many bytes of an answer net/http surely sends together with the
// header.
const fitsBuffer = 2 << 10

// Conn is a connection that sends the first bytes of an answer together with those that
// follow.
type Conn interface {
	// Hold keeps what is written next until more is written, or until Release.
	Hold()
	// Release sends what is held.
	Release() error
}

type connKey struct{}

// WithConn returns a context for the requests of an HTTP/1 connection.
func WithConn(ctx context.Context, c Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// Unwrap is for http.ResponseController.
func (w *Response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *Response) move() {
	if deadline, move := w.pace.Begin(time.Now()); move {
		// Only a connection that cannot have deadlines (one in memory) returns an
		// error.
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(deadline)
	}
}

// SendFrom has to, the connection, copy from r, which the kernel does where it can. The
// deadline moves only once, so r must be short.
func (w *Response) SendFrom(to io.ReaderFrom, r io.Reader) (int64, error) {
	w.move()
	n, err := to.ReadFrom(r)
	w.pace.Moved(time.Now(), int(n))
	w.Bytes += n
	return n, err
}

// Deliver flushes the answer before work that the client need not wait for.
func (w *Response) Deliver() {
	w.outlastBody()
	_ = http.NewResponseController(w).Flush() // a client that is gone changes nothing
}

// outlastBody extends the write deadline for a short answer: net/http may read the rest
// of the body before it sends it.
func (w *Response) outlastBody() {
	if w.rq.body.ReadCloser != http.NoBody {
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.rq.corridor.sendStall + w.rq.corridor.takeStall))
	}
}

// countedBody counts the bytes that a handler has read.
type countedBody struct {
	io.ReadCloser
	read int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	return n, err
}

// Wrap returns the handler around next that every request passes through: request id,
// headers, panics, the log line, metrics. routes has all routes.
func (c *Corridor) Wrap(next http.Handler, routes *httprouter.Router) http.Handler {
	c.routes = routes
	return http.HandlerFunc(func(hw http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := requestID(r)
		if r.Body != http.NoBody {
			// For bodies that no handler reads: net/http waits for them before it
			// answers. A handler that reads the body sets its own deadline.
			_ = http.NewResponseController(hw).SetReadDeadline(began.Add(c.sendStall))
		}
		body := &countedBody{ReadCloser: r.Body}
		// A copy: net/http checks its own request's body to find whether a client still
		// waits for a 100 Continue.
		r = r.WithContext(r.Context())
		r.Body = body
		rq := &Request{Request: r, corridor: c, id: id, body: body}
		if r.ProtoMajor == 1 && body.ReadCloser == http.NoBody && r.Method != http.MethodHead {
			rq.conn, _ = r.Context().Value(connKey{}).(Conn)
		}
		w := &Response{ResponseWriter: hw, rq: rq, pace: limits.NewProgress(c.MinDownloadRate, c.takeStall)}
		// The deadline that the last answer on this connection left behind would
		// prevent a 100 Continue.
		_ = http.NewResponseController(hw).SetWriteDeadline(time.Time{})
		rq.Writer = w
		w.Header()["X-Request-Id"] = []string{id}
		setHeaders(w.Header(), Document)
		if r.TLS != nil {
			w.Header().Set("Strict-Transport-Security", "max-age=31536000") // RFC 6797; a year
		}
		if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
			// With a Content-Length beside chunks, or chunks in HTTP/1.0, a proxy in
			// front may have seen the end of this request elsewhere; what follows must
			// not be taken for the next request (RFC 9112, section 6.1). net/http
			// removes one header or the other, so that the two cases look alike: all
			// such connections are closed. HTTP/2 has neither.
			w.Header().Set("Connection", "close")
		}
		c.counts.inFlight.Inc()
		defer c.counts.inFlight.Dec()
		defer rq.letGo()
		defer c.holdings.inFlight.Add(-1)
		if c.holdings.inFlight.Add(1) > int64(2*c.Memory().Connections) {
			panic(http.ErrAbortHandler) // HTTP/2 streams of a client that does not even read refusals
		}
		defer func() {
			failure := recover()
			if failure != nil && failure != http.ErrAbortHandler {
				rq.Log().Error("panic", "error", failure, "stack", string(debug.Stack()))
				if w.Status == 0 {
					rq.Refuse(w, errors.New("panic"))
					failure = nil
				}
			}
			if w.Status == 0 {
				c.lists.note(rq, http.StatusInternalServerError) // it may have changed something all the same
			}
			w.outlastBody()
			c.report(w, rq, time.Since(began), failure != nil)
			if failure != nil {
				panic(http.ErrAbortHandler)
			}
		}()
		base := c.basePath
		if c.ForContentHost(r) {
			base = c.contentPath
		}
		if base != "" && !IsOperator(r.Context()) {
			r.URL.Path = c.withoutBase(r.URL.Path, base)
		}
		if forPeople(r) {
			c.traffic.begin()
			defer func() { c.traffic.end(c.Now()) }()
		}
		next.ServeHTTP(w, r)
	})
}

// withoutBase removes the path of public_url, which a proxy may or may not have
// removed. Where it has, the remaining path may itself begin like that path: behind
// https://example.com/files, a link to a file arrives as /files/{attachment_id}.
func (c *Corridor) withoutBase(path, base string) string {
	rest, below := strings.CutPrefix(path, base)
	if !below || !strings.HasPrefix(rest+"/", "/") {
		return path
	}
	rest = "/" + strings.TrimPrefix(rest, "/")
	if !c.isRoute(rest) && c.isRoute(path) {
		return path
	}
	return rest
}

// isRoute reports whether a path has a route.
func (c *Corridor) isRoute(path string) bool {
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		if handle, _, _ := c.routes.Lookup(method, path); handle != nil {
			return true
		}
	}
	return false
}

// adapt converts a route into an httprouter.Handle.
func (c *Corridor) adapt(rt Route) httprouter.Handle {
	return func(hw http.ResponseWriter, _ *http.Request, params httprouter.Params) {
		w := hw.(*Response)
		rq := w.rq
		rq.route, rq.Params = rt, params
		if rt.Kind.sendsFile() {
			setHeaders(w.Header(), rt.Kind)
		}
		sc, err := rt.Who(rq)
		rq.scope = sc
		if busy := c.charge(rq); busy != nil {
			err = busy
		}
		if err == nil {
			rq.audit()
			err = rt.Handle(w, rq, sc)
		}
		if err != nil {
			rq.refuseAndDrain(w, err)
		}
	}
}

// refuser returns a handler that answers every request with the same refusal.
func (c *Corridor) refuser(e *Refusal) http.Handler {
	return http.HandlerFunc(func(hw http.ResponseWriter, _ *http.Request) {
		w := hw.(*Response)
		if err := c.charge(w.rq); err != nil {
			w.rq.refuseAndDrain(w, err)
			return
		}
		w.rq.refuseAndDrain(w, e)
	})
}

// refuseAndDrain refuses a request that may still be sending: an HTTP client
// that writes its whole body before it reads would otherwise see a broken
// connection instead of the answer.
func (rq *Request) refuseAndDrain(w *Response, err error) {
	if rq.body.ReadCloser == http.NoBody {
		rq.Refuse(w, err)
		return
	}
	if rq.body.read == 0 && strings.EqualFold(rq.Header.Get("Expect"), "100-continue") {
		rq.Refuse(w, err) // the client waits for an answer before it sends the body
		return
	}
	control := http.NewResponseController(w)
	// Without full duplex, net/http closes the body when the answer begins. HTTP/2 and
	// connections in memory do not need it and return an error.
	_ = control.EnableFullDuplex()
	rq.Refuse(w, err)
	if w.Status == http.StatusRequestTimeout {
		_ = control.SetReadDeadline(time.Now()) // net/http would wait for the rest of the body
		return
	}
	if err := control.Flush(); err != nil {
		return
	}
	if err := control.SetReadDeadline(time.Now().Add(rq.corridor.drain)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	limit := rq.corridor.MaxFileSize + 1<<20
	if rq.body.read == 0 {
		limit += rq.corridor.MaxFileSize // as far as a client sends that is refused in the middle of its file
	}
	if _, err := io.CopyN(io.Discard, rq.body, limit); err != io.EOF {
		rq.Log().Debug("gave up reading what a refused client still sent", "error", err)
		// net/http might parse the rest of the body as another request.
		panic(http.ErrAbortHandler)
	}
	_ = control.SetReadDeadline(time.Time{})
}

// drainTime is how long a refused client may go on sending.
const drainTime = 10 * time.Second

// ResetHeaders sets again the headers that every response of the route has.
func (rq *Request) ResetHeaders() { setHeaders(rq.Writer.Header(), rq.route.Kind) }

// setHeaders sets the headers that every response of a route has, whatever its status.
// Files get the headers for untrusted content.
func setHeaders(h http.Header, k Kind) {
	maps.Copy(h, headersOf[k.sendsFile()])
	if k == LinkedFile {
		h.Set("Cross-Origin-Resource-Policy", "cross-origin") // a page of a host product may embed it
	}
}

// headersOf are the headers of files and of everything else. All responses share the
// values, which nothing changes: Set replaces them, and Add copies them.
var headersOf = map[bool]http.Header{
	false: {
		"X-Content-Type-Options":       {"nosniff"},
		"Referrer-Policy":              {"no-referrer"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Content-Security-Policy":      {"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"},
		"Cache-Control":                {"no-store"},
	},
	true: {
		"X-Content-Type-Options":       {"nosniff"},
		"Referrer-Policy":              {"no-referrer"},
		"Cross-Origin-Resource-Policy": {"same-origin"},
		"Content-Security-Policy":      {"default-src 'none'; sandbox"},
		"Cache-Control":                {"private, no-cache"},
	},
}

// report counts the request and logs its line: the pattern and the path, but not the
// query, which may hold a signature. The path stays encoded as sent, so that it cannot
// control a terminal.
func (c *Corridor) report(w *Response, rq *Request, took time.Duration, cut bool) {
	status := w.Status
	if status == 0 && !cut {
		status = http.StatusOK
	}
	c.counts.observe(rq, w, status, took)
	c.recordAnswer(w, rq)
	attrs := append(make([]slog.Attr, 0, 16),
		requestIDAttr(rq.id),
		slog.String("method", rq.Method),
		slog.String("route", rq.route.Pattern),
		slog.String("path", token.Redact(rq.URL.EscapedPath())), // people paste keys into the wrong place
		slog.Int("status", status),
		slog.Int64("bytes_in", rq.body.read),
		slog.Int64("bytes_out", w.Bytes),
		slog.Float64("ms", float64(took.Microseconds())/1000),
		slog.String("address", c.ClientAddress(rq.Request)),
	)
	if w.Code != "" {
		attrs = append(attrs, slog.String("code", w.Code))
	}
	if rq.scope.Caller.User.ID != uuid.Nil {
		attrs = append(attrs, slog.String("user", rq.scope.Caller.User.ID.String()))
	}
	switch actor := rq.scope.Caller.Actor; actor.ID {
	case rq.scope.Caller.User.ID:
	case Operator.ID:
		attrs = append(attrs, slog.String("acting", Operator.FullName))
	default:
		attrs = append(attrs, slog.String("acting", actor.ID.String()))
	}
	if rq.scope.Caller.Key != uuid.Nil {
		attrs = append(attrs, slog.String("key", rq.scope.Caller.Key.String()))
	}
	if cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	level := slog.LevelInfo
	if k := rq.route.Kind; k == Probe && status == http.StatusOK || k == FileList && status == http.StatusNotModified {
		level = slog.LevelDebug
	}
	c.Log.LogAttrs(context.WithoutCancel(rq.Context()), level, "request", attrs...)
}

// requestID returns the caller's id where it is harmless and no secret, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	harmless := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_.:/+=", c)
	}
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return !harmless(c) }) || token.Redact(id) != id {
		return uuid.NewString()
	}
	return id
}

// ClientAddress returns the caller's address: the connection's, or, where that is a
// trusted proxy's, the last one in X-Forwarded-For that is not.
func (c *Corridor) ClientAddress(r *http.Request) string {
	if IsOperator(r.Context()) {
		return "local" // a command, over its socket
	}
	address := peer(r)
	if !c.trusts(address) {
		return address
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := parseHop(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		address = hop.Unmap().String()
		if !c.trusts(address) {
			break
		}
	}
	return address
}

// parseHop parses an address as proxies write it, some with its port.
func parseHop(hop string) (netip.Addr, error) {
	if withPort, err := netip.ParseAddrPort(hop); err == nil {
		return withPort.Addr(), nil
	}
	return netip.ParseAddr(hop)
}

func (c *Corridor) trusts(address string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	for _, proxy := range c.TrustedProxies {
		if proxy.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// Origin returns the scheme and host under which the caller reached the server, with
// the path of public_url where that is set.
func (c *Corridor) Origin(r *http.Request) string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	// Each proxy of a chain appends the scheme of its own request; the first is the one
	// that the caller used.
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	if proto = strings.TrimSpace(proto); c.fromProxy(r) && (proto == "http" || proto == "https") {
		scheme = proto
	}
	return scheme + "://" + c.requestedHost(r)
}

// requestedHost returns the host, with its port, under which the caller reached the
// server.
func (c *Corridor) requestedHost(r *http.Request) string {
	forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Host"), ",")
	forwarded = strings.TrimSpace(forwarded)
	if c.fromProxy(r) && forwarded != "" && !strings.ContainsAny(forwarded, " ,/\\?#@") {
		return forwarded
	}
	if r.Host == "" { // HTTP/1.0 may omit it; the connection's local address will do
		if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
			return net.JoinHostPort(at.IP.String(), strconv.Itoa(at.Port))
		}
	}
	return r.Host
}

// fromProxy reports whether this request's X-Forwarded-* are trusted.
func (c *Corridor) fromProxy(r *http.Request) bool { return c.trusts(peer(r)) }

// peer returns the address of the other end of the connection. Over a unix socket, that
// is this machine.
func peer(r *http.Request) string {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "127.0.0.1"
	}
	return address
}
