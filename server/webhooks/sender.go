// Package webhooks reports changes of attachments: it sends the events of the outbox as
// webhooks, signed and framed according to Standard Webhooks
// (https://www.standardwebhooks.com, version 1.0.0), and retries until they are
// accepted or too old.
package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"attachd/server/backoff"
)

// Receiver is the receiver of webhooks and how it is reached.
type Receiver struct {
	URL string
	// Secrets sign: each makes a separate signature, so that a receiver can change from
	// one to the next at any moment.
	Secrets [][]byte
	// AllowPrivate allows a receiver in a private network, and one without TLS.
	AllowPrivate bool
	Timeout      time.Duration // of one attempt
}

// CheckURL returns what is wrong with a receiver's URL.
func CheckURL(address string, allowPrivate bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf(`expected an address like "https://example.com/hooks", found %.60q`, address)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("%.60q must have no user, query or fragment: the signature says who sends", address)
	case u.Scheme == "http" && !allowPrivate:
		return errors.New("must begin with https, unless webhooks.allow_private is true: names of files would cross the network for everyone to read")
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && !allowPrivate && !isPublic(a) {
		return fmt.Errorf("%s is not on the public internet; webhooks.allow_private allows it", a)
	}
	return nil
}

// ReadSecrets reads the file with the secrets, one per line: "whsec_" and 24 to 64
// bytes in base64.
func ReadSecrets(path string) (secrets [][]byte, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	number := 0
	for line := range strings.Lines(string(raw)) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		encoded, named := strings.CutPrefix(line, "whsec_")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !named || len(secret) < 24 || len(secret) > 64 {
			return nil, fmt.Errorf("line %d of %s does not hold a secret: whsec_ and 24 to 64 bytes in base64", number, path)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%s holds no secret", path)
	}
	return secrets, nil
}

// Message is a webhook to send.
type Message struct {
	ID   string // the same in every attempt
	Body []byte
}

// Sender is a client of one receiver.
type Sender struct {
	receiver Receiver
	now      func() time.Time
	agent    string
	client   http.Client
}

// NewSender returns a Sender; now is the clock for signatures, and agent the
// User-Agent.
func NewSender(r Receiver, now func() time.Time, agent string) *Sender {
	dialer := &net.Dialer{Control: refusePrivate}
	if r.AllowPrivate {
		dialer.Control = nil
	}
	return &Sender{receiver: r, now: now, agent: agent, client: http.Client{
		// A redirect could lead to any address, and most lose the body.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		// No proxy, not even from the environment: it would resolve the name, and the
		// address could not be checked.
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableCompression: true, MaxIdleConns: 1,
			IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10},
	}}
}

// Answer is the error for a receiver's answer that refuses a message.
type Answer struct {
	Status     int
	RetryAfter time.Duration // that it asks for; 0 is none
}

func (a *Answer) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the receiver answered %d %s", a.Status, http.StatusText(a.Status)))
}

// Send sends a message once. If the receiver refuses it, the error is an *Answer; any
// other error means that the receiver was not reached, or did not answer in time.
func (s *Sender) Send(ctx context.Context, m Message) error {
	at := s.now()
	status, header, err := s.do(ctx, http.MethodPost, m.Body, map[string]string{
		"Content-Type":      "application/json",
		"Webhook-Id":        m.ID,
		"Webhook-Timestamp": strconv.FormatInt(at.Unix(), 10),
		"Webhook-Signature": s.sign(m, at),
	})
	if err != nil || status >= 200 && status <= 299 {
		return err
	}
	return &Answer{Status: status, RetryAfter: backoff.RetryAfter(header.Get("Retry-After"), at)}
}

// Reach returns an error unless a server answers at the receiver's address.
func (s *Sender) Reach(ctx context.Context) error {
	_, _, err := s.do(ctx, http.MethodOptions, nil, nil)
	return err
}

// Close closes the idle connections.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

func (s *Sender) do(ctx context.Context, method string, body []byte, headers map[string]string) (status int, header http.Header, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.receiver.Timeout, fmt.Errorf("the receiver did not answer within %v", s.receiver.Timeout))
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, method, s.receiver.URL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	rq.Header.Set("User-Agent", s.agent)
	for name, value := range headers {
		rq.Header.Set(name, value)
	}
	response, err := s.client.Do(rq)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil, context.Cause(ctx)
		}
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // the caller knows the address
		}
		return 0, nil, err
	}
	defer response.Body.Close() // it is only read
	// Reading the answer lets the connection be reused; its content is ignored.
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	return response.StatusCode, response.Header, nil
}

// maxAnswer is how many bytes of an answer are read.
const maxAnswer = 16 << 10

// sign returns a signature for each secret, separated by spaces.
func (s *Sender) sign(m Message, at time.Time) string {
	var all []string
	for _, secret := range s.receiver.Secrets {
		mac := hmac.New(sha256.New, secret)
		fmt.Fprintf(mac, "%s.%d.%s", m.ID, at.Unix(), m.Body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}
