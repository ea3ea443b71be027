// Package remote is a client of an attachd server over the network, with a key: the
// commands for files are built on it. It uses the public API alone.
//
// Requests that fail because of a bad connection or a busy server are retried as far as
// that is safe; each method documents how it ensures that.
package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"attachd/server/backoff"
)

// Options are the settings of a Client.
type Options struct {
	Server string // its URL, including the path below which it serves, if any
	Key    string
	// Transport connects to a server that needs no key; optional.
	Transport http.RoundTripper
	// RetryFor is how long failing requests may be retried, counted from the first
	// failure since the last progress; 0 is never.
	RetryFor time.Duration
	// Retrying is called before each wait; optional.
	Retrying func(why error, in time.Duration)
}

// Client is a client of one server with one key. It may be used concurrently.
type Client struct {
	Options
	server string // without a slash at the end
	http   http.Client
}

// New validates the URL and the key; it does not connect. The errors are sentences for
// a person, without the key.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.Server)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not the URL of a server, which looks like https://files.example.org", o.Server)
	}
	if o.Key == "" && o.Transport == nil || strings.ContainsFunc(o.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("what is given as the key is none: a key is one word")
	}
	if o.Transport == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableCompression = true // a file must arrive as it is stored
		transport.ExpectContinueTimeout = time.Second
		o.Transport = withoutBadLocation{transport}
	}
	return &Client{Options: o, server: strings.TrimSuffix(u.String(), "/"), http: http.Client{
		Transport: o.Transport,
		// A redirect would lose the body of an upload, and would send the key to
		// another address. send follows those of downloads.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Refusal is an answer other than a success.
type Refusal struct {
	Status     int           `json:"-"`
	Code       string        `json:"code"`
	Detail     string        `json:"detail"` // a sentence for a person
	Line       int           `json:"line"`   // of what was sent, for which all of it was refused; 0 if it does not say
	RequestID  string        `json:"request_id"`
	RetryAfter time.Duration `json:"-"` // how long the server asks to wait; 0 if it does not say
}

func (r *Refusal) Error() string {
	if r.Detail == "" {
		return fmt.Sprintf("the server answered %d %s", r.Status, http.StatusText(r.Status))
	}
	detail := strings.TrimSuffix(Printable(r.Detail), ".")
	if r.Line > 0 {
		detail = fmt.Sprintf("line %d: %s; nothing was changed", r.Line, detail)
	}
	return detail
}

// lostError means that a connection failed: the server may or may not have executed the
// request.
type lostError struct {
	err    error
	unsent bool // there was no connection: the server received no request
}

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// IsLost reports whether an error is that of a connection, rather than an answer.
func IsLost(err error) bool {
	var lost *lostError
	return errors.As(err, &lost)
}

// stall is how long a connection may transfer nothing before it is given up.
const stall = time.Minute

var (
	errStalled = fmt.Errorf("nothing came or went for %v", stall)
	errCut     = errors.New("the connection was cut")
)

// call is one request.
type call struct {
	method, path string
	header       http.Header
	body         io.Reader
	length       int64 // of body, in bytes
	follow       bool  // redirects, without the key: the file may be on another host
}

// send sends a request once. An answer that it returns is a success, and reads of its
// body fail with a lostError; for any other answer the error is a *Refusal.
func (c *Client) send(ctx context.Context, rq call) (*http.Response, error) {
	within, cancel := context.WithCancelCause(ctx)
	w := &watch{ctx: ctx, within: within, cancel: cancel, timer: time.AfterFunc(stall, func() { cancel(errStalled) })}
	if rq.body != nil {
		rq.body = &watchedBody{Reader: rq.body, watch: w, outgoing: true}
	}
	r, err := http.NewRequestWithContext(within, rq.method, c.server+rq.path, rq.body)
	if err != nil {
		w.stop()
		return nil, err
	}
	if rq.header != nil {
		r.Header = rq.header
	}
	if c.Key != "" {
		r.Header.Set("Authorization", "Bearer "+c.Key)
	}
	r.Header.Set("User-Agent", "attachd")
	if rq.body != nil {
		r.ContentLength = rq.length
	}
	response, err := c.http.Do(r)
	for hops := 0; err == nil && rq.follow && hops < maxHops; hops++ {
		to := redirected(response)
		if to == nil {
			break
		}
		response.Body.Close() // an error does not matter any more
		next := r.Clone(within)
		next.URL, next.Host = to, ""
		next.Header.Del("Authorization")
		w.moved()
		response, err = c.http.Do(next)
	}
	if err != nil {
		err = w.failure(err)
		w.stop()
		return nil, err
	}
	w.moved()
	response.Body = &watchedBody{Reader: response.Body, Closer: response.Body, watch: w}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close() // an error does not matter any more
	return nil, refusal(response)
}

// maxHops is how many redirects a download follows: one to the host for files, one to
// the object store, and one that a proxy adds.
const maxHops = 3

// redirected returns where an answer says that the file is; nil if it says nothing of the
// kind. Another host with the same path is not followed: that is the server itself, which
// wants the key there.
func redirected(response *http.Response) *url.URL {
	if response.StatusCode != http.StatusFound && response.StatusCode != http.StatusTemporaryRedirect {
		return nil
	}
	to, err := response.Location()
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return nil
	}
	if from := response.Request; from.Header.Get("Authorization") != "" && to.Path == from.URL.Path {
		return nil
	}
	to.User = nil // it would be sent as a password
	return to
}

// withoutBadLocation removes a Location that is no URL: the error of net/http would
// print it, with a signature that it may have.
type withoutBadLocation struct{ *http.Transport }

func (t withoutBadLocation) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.Transport.RoundTrip(r)
	if err == nil {
		if _, bad := response.Location(); bad != nil {
			response.Header.Del("Location")
		}
	}
	return response, err
}

// where returns the address in a Location for a message: without its query, which may
// have a signature that gives access to a file.
func where(response *http.Response) string {
	to, err := response.Location()
	if err != nil {
		return "which is no URL"
	}
	return (&url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path}).String()
}

// wantsTLS matches how servers, of Go and nginx for instance, answer plain HTTP on a
// TLS port.
var wantsTLS = pattern(`(?i)HTTP request .{0,20}to (an )?HTTPS `)

// refusal parses the server's reason for a refusal. An answer that is no JSON comes
// from a proxy.
func refusal(response *http.Response) error {
	r := &Refusal{}
	raw, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil || json.Unmarshal(raw, r) != nil {
		r = &Refusal{}
	}
	r.Status = response.StatusCode
	switch {
	case r.Status/100 == 3:
		r.Detail = fmt.Sprintf("The server answered %d and names another address, %s: is that the server's URL?", r.Status, where(response))
	case r.Detail == "" && wantsTLS().Match(raw):
		r.Detail = "The server speaks TLS: its URL begins with https://."
	}
	r.RetryAfter = backoff.RetryAfter(response.Header.Get("Retry-After"), time.Now())
	return r
}

// json sends an idempotent request, with retries until it succeeds or cannot, and
// decodes the answer into answer.
func (c *Client) json(ctx context.Context, method, path string, body string, answer any) (header http.Header, err error) {
	err = c.retry(ctx, func() error {
		rq := call{method: method, path: path}
		if body != "" {
			rq.body, rq.length = strings.NewReader(body), int64(len(body))
			rq.header = http.Header{"Content-Type": {"application/json"}}
		}
		response, err := c.send(ctx, rq)
		if err != nil {
			return err
		}
		header = response.Header
		return readJSON(response, answer)
	})
	return header, err
}

// Call calls the API: it sends a body, encoded as JSON unless it is an io.Reader, and
// decodes the answer into answer, if that is not nil. GET, PUT and DELETE may be
// repeated and are retried; anything else is sent once.
func (c *Client) Call(ctx context.Context, method, path string, body, answer any) error {
	stream, isStream := body.(io.Reader)
	var raw []byte
	if !isStream && body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
		stream = bytes.NewReader(raw)
	}
	if answer == nil {
		answer = new(json.RawMessage)
	}
	switch {
	case method == "DELETE":
		return c.delete(ctx, path)
	case method != "POST":
		_, err := c.json(ctx, method, path, string(raw), answer)
		return err
	}
	rq := call{method: method, path: path, body: stream, length: -1}
	if !isStream {
		rq.length = int64(len(raw))
	}
	response, err := c.send(ctx, rq)
	if err == nil {
		err = readJSON(response, answer)
	}
	if unsure(err) {
		err = fmt.Errorf("%w; it may have been done all the same: look before you do it again", err)
	}
	return err
}

// maxJSON is more bytes than any answer in JSON has: that of a list of a million
// objects.
const maxJSON = 256 << 20

// readJSON decodes and closes an answer.
func readJSON(response *http.Response, answer any) error {
	defer response.Body.Close() // a failure shows when the body is read to its end
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxJSON))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("the answer is not attachd's (%w): is that the server's URL?", err)
	}
	return nil
}

// watch is a watchdog that cancels a request which transfers nothing.
type watch struct {
	ctx    context.Context // the caller's
	within context.Context // the request's
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (w *watch) moved() { w.timer.Reset(stall) }

func (w *watch) stop() {
	w.timer.Stop()
	w.cancel(context.Canceled)
}

// failure returns the error that describes how a connection failed.
func (w *watch) failure(err error) error {
	if w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	if cause := context.Cause(w.within); cause != nil {
		err = cause
	}
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err // the method and the address add nothing
	}
	if err := hopeless(err); err != nil {
		return err
	}
	var (
		name *net.DNSError
		conn *net.OpError
	)
	switch {
	case errors.Is(err, errStalled):
		return &lostError{err: err}
	case errors.As(err, &name):
		return &lostError{fmt.Errorf("the address of %s cannot be looked up at the moment: %s", name.Name, name.Err), true}
	case errors.As(err, &conn) && conn.Op == "dial":
		return &lostError{fmt.Errorf("no connection to %s: %w", conn.Addr, innermost(conn)), true}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), conn != nil:
		return &lostError{err: errCut}
	}
	return &lostError{err: fmt.Errorf("%w (%w)", errCut, err)}
}

// hopeless returns the error for a failure that a retry cannot fix, in words that say
// what to do; nil for any other failure.
func hopeless(err error) error {
	var (
		certificate *tls.CertificateVerificationError
		name        *net.DNSError
		ours        *localError
	)
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &certificate):
		return fmt.Errorf("the server's certificate is not trusted here: %w", certificate.Err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return errors.New("the server speaks plain HTTP: its URL begins with http://")
	case errors.As(err, &name) && name.IsNotFound:
		return fmt.Errorf("there is no host %s: is that the server's URL?", name.Name)
	}
	return nil
}

// innermost returns the system's error about a connection, without its addresses.
func innermost(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// localError means that a local file cannot be read.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// watchedBody is a body that reports progress to a watch.
type watchedBody struct {
	io.Reader
	io.Closer
	watch    *watch
	outgoing bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.watch.moved()
	if err != nil && err != io.EOF && !b.outgoing {
		err = b.watch.failure(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	if b.outgoing {
		return nil
	}
	b.watch.stop()
	return b.Closer.Close()
}

// Printable removes the characters that would control a terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
