package webhooks

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// to makes a sender to a test receiver.
func to(t *testing.T, address string, options ...func(*Receiver)) *Sender {
	t.Helper()
	r := Receiver{URL: address, Secrets: [][]byte{[]byte("a secret of twenty-four b")}, AllowPrivate: true, Timeout: 10 * time.Second}
	for _, option := range options {
		option(&r)
	}
	s := NewSender(r, func() time.Time { return noon }, "attachd/test")
	t.Cleanup(s.Close)
	return s
}

// receive is a server that answers with handle.
func receive(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

// The example of the reference libraries of Standard Webhooks.
func TestSignaturesAreThoseOfStandardWebhooks(t *testing.T) {
	t.Parallel()
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	m := Message{ID: "msg_p5jXN8AQM9LWM0D4loKWxJek", Body: []byte(`{"test": 2432232314}`)}
	s := to(t, "http://receiver", func(r *Receiver) { r.Secrets = [][]byte{secret, []byte("another")} })
	got := s.sign(m, time.Unix(1614265330, 0))
	if first, second, _ := strings.Cut(got, " "); first != want || !strings.HasPrefix(second, "v1,") || second == want {
		t.Errorf("got %s, want %s and another", got, want)
	}
}

func TestWhatTheReceiverAnswersDecides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		after  string
		wait   time.Duration
	}{
		"200":                     {status: 200},
		"204":                     {status: 204},
		"301":                     {status: 301},
		"410":                     {status: 410},
		"429 with seconds":        {status: 429, after: "120", wait: 2 * time.Minute},
		"503 with a time":         {status: 503, after: "Thu, 15 Jan 2026 12:01:00 GMT", wait: time.Minute},
		"503 with a time gone by": {status: 503, after: "Thu, 15 Jan 2026 11:01:00 GMT"},
		"500 with nonsense":       {status: 500, after: "-5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requests := make(chan *http.Request, 10)
			there := receive(t, func(w http.ResponseWriter, r *http.Request) {
				requests <- r
				w.Header().Set("Retry-After", c.after)
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(c.status)
			})
			err := to(t, there.URL+"/hook/").Send(t.Context(), Message{ID: "7", Body: []byte("{}")})
			var answer *Answer
			errors.As(err, &answer)
			switch {
			case c.status < 300 && err != nil:
				t.Error(err)
			case c.status >= 300 && (answer == nil || answer.Status != c.status || answer.RetryAfter != c.wait):
				t.Errorf("got %v, %+v", err, answer)
			}
			r := <-requests
			if len(requests) > 0 {
				t.Error("a redirect was followed")
			}
			if r.Method != "POST" || r.URL.Path != "/hook/" || r.Header.Get("webhook-id") != "7" || r.Header.Get("webhook-timestamp") != "1768478400" ||
				r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") != "attachd/test" {
				t.Errorf("it was sent %s %s %v", r.Method, r.URL, r.Header)
			}
		})
	}
}

// ASVS 1.3.6, 13.2.4, 13.2.5
func TestPrivateAddressesAreNotConnectedTo(t *testing.T) {
	t.Parallel()
	there := receive(t, func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
	byName := strings.Replace(there.URL, "127.0.0.1", "localhost", 1)
	for _, address := range []string{there.URL, byName} {
		s := to(t, address, func(r *Receiver) { r.AllowPrivate = false })
		for what, err := range map[string]error{"sending": s.Send(t.Context(), Message{}), "reaching": s.Reach(t.Context())} {
			if err == nil || !strings.Contains(err.Error(), "which is not on the public internet; webhooks.allow_private allows it") {
				t.Errorf("%s to %s: %v", what, address, err)
			}
		}
	}
	if transport, ok := to(t, byName).client.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Error("a proxy would be asked")
	}
}

func TestWhatIsPublic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"8.8.8.8": true, "1.1.1.1": true, "172.32.0.1": true, "100.128.0.1": true, "2606:4700::1111": true, "::ffff:8.8.8.8": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.168.1.1": false, "169.254.169.254": false, "100.64.0.1": false, "198.18.0.1": false, "224.0.0.1": false, "255.255.255.255": false,
		"192.0.0.170": false, "203.0.113.5": false, "240.0.0.1": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "fe80::1%eth0": false, "fc00::1": false, "fd12::1": false,
		"fec0::1": false, "ff02::1": false, "64:ff9b::7f00:1": false, "2002:7f00:1::": false, "2001::1": false, "2001:db8::1": false, "3fff::1": false,
	} {
		if got := isPublic(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %t", text, got)
		}
	}
	if isPublic(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestAReceiverThatDoesNotAnswerIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	there := receive(t, func(http.ResponseWriter, *http.Request) { <-end })
	t.Cleanup(func() { close(end) })
	err := to(t, there.URL, func(r *Receiver) { r.Timeout = 50 * time.Millisecond }).Send(t.Context(), Message{})
	if err == nil || !strings.Contains(err.Error(), "did not answer within 50ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := to(t, there.URL).Send(ctx, Message{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// An endless answer is not read to its end.
func TestAnEndlessAnswerIsNotRead(t *testing.T) {
	t.Parallel()
	there := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
				return
			}
		}
	})
	if err := to(t, there.URL).Send(t.Context(), Message{}); err != nil {
		t.Error(err)
	}
}

// ASVS 12.3.1, 12.3.2
func TestTheReceiverMustProveWhoItIs(t *testing.T) {
	t.Parallel()
	there := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	there.Config.ErrorLog = log.New(io.Discard, "", 0)
	there.StartTLS()
	t.Cleanup(there.Close)
	if err := to(t, there.URL).Send(t.Context(), Message{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
}

// ASVS 12.3.1
func TestURLsOfReceivers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url     string
		private bool
		says    string
	}{
		{"https://example.com/hooks", false, ""},
		{"https://example.com:8443/hooks/", false, ""},
		{"http://10.0.0.1/hooks", true, ""},
		{"http://example.com", false, "must begin with https"},
		{"https://127.0.0.1/", false, "not on the public internet"},
		{"https://[::1]:8443/", false, "not on the public internet"},
		{"https://user:pass@example.com/", false, "no user, query or fragment"},
		{"https://example.com/?token=x", false, "no user, query or fragment"},
		{"https://example.com/#x", false, "no user, query or fragment"},
		{"ftp://example.com", true, "expected an address like"},
		{"example.com/hooks", true, "expected an address like"},
		{"https:///hooks", true, "expected an address like"},
	} {
		err := CheckURL(c.url, c.private)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.url, err, c.says)
		}
	}
}

func TestSecretsAreReadLineByLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secrets")
	good := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for text, want := range map[string]int{
		good: 1, good + "\n": 1, good + "\r\n\n" + good + "\n": 2,
		"": 0, "\n": 0, "secret": 0, strings.TrimPrefix(good, "whsec_"): 0, good + "\nwhsec_c2hvcnQ=": 0, good + good: 0,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		secrets, err := ReadSecrets(path)
		if len(secrets) != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d secrets, %v", text, len(secrets), err)
		}
		if err != nil && strings.Contains(err.Error(), "whsec_c2") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
}
