package server_test

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"attachd/server"
)

// holder is an api.Conn that only notes what it is asked to do.
type holder struct {
	net.Conn
	mu    *sync.Mutex
	calls *[]string
}

func (h holder) note(call string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.calls = append(*h.calls, call)
}

func (h holder) Hold() { h.note("hold") }

func (h holder) Release() error {
	h.note("release")
	return nil
}

func (h holder) Write(p []byte) (int, error) {
	h.note("write")
	return h.Conn.Write(p)
}

type holders struct {
	net.Listener
	mu    sync.Mutex
	calls []string
}

func (l *holders) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return holder{conn, &l.mu, &l.calls}, err
}

// take returns the calls since the last take.
func (l *holders) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := strings.Join(l.calls, " ")
	l.calls = nil
	return calls
}

// A file or a list that is sent by one call goes out whole, header and all, while the
// connection holds. Nothing is held of what takes its time, or has no body.
func TestASmallAnswerIsSentTogetherWithItsHeader(t *testing.T) {
	t.Parallel()
	w := withFile(t, strings.Repeat("0123456789", 2000))
	for range 20 {
		w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("a.txt", "a")}, want: 201})
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	listener := &holders{Listener: tcp}
	idle := make(chan bool, 1)
	s := &http.Server{Handler: w.server, ConnContext: server.ConnContext, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateIdle { // the request is over, and not only answered
			idle <- true
		}
	}}
	go func() { _ = s.Serve(listener) }()
	defer s.Close()
	w.url = "http://" + tcp.Addr().String()
	const whole = "hold write write release"
	for _, c := range []struct {
		step
		want string
	}{
		{step{as: "viewer", do: "GET {A.at}", want: 200}, whole}, // hashed
		{step{as: "viewer", do: "GET {A.at}", want: 200}, whole},
		{step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-9999"}, want: 206}, whole},
		{step{as: "viewer", do: "GET {ticket}/attachments", want: 200}, whole},
		{step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-2047"}, want: 206}, "hold write release"},
		{step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-99"}, want: 206}, "write"},
		{step{as: "viewer", do: "HEAD {A.at}", want: 200}, "write"},
		{step{as: "viewer", do: "GET {product}/attachments", want: 200}, "write"},
		{step{do: "GET {A.at}", want: 401}, "write"},
	} {
		listener.take()
		w.do(t, c.step)
		<-idle
		if got := listener.take(); got != c.want {
			t.Errorf("%s %v: the connection is asked to %s, not to %s", c.do, c.send, got, c.want)
		}
	}
}
