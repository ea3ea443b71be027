package postgrestest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
)

// Cut is what a Proxy does to a connection when something is sent over it.
type Cut int

const (
	// CutNot passes it on.
	CutNot Cut = iota
	// CutBefore ends the connection before the server gets it.
	CutBefore
	// CutMeanwhile ends the connection to the client while the server works on it.
	CutMeanwhile
	// CutAfter ends the connection when the server answers, before the client gets that.
	CutAfter
	// HangBefore leaves the connection open, and passes nothing on over it any more.
	HangBefore
	// HangAfter is that from when the server has got what is sent.
	HangAfter
)

// Proxy passes on connections to a server, and cuts those that it is told to, or has them hang.
type Proxy struct {
	to       string
	listener net.Listener
	plan     atomic.Pointer[func(sent []byte) Cut]
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool // nil once it is closed
}

// NewProxy starts a proxy to the server of a DSN, which ends with the test, and returns the
// DSN by which clients connect through it.
func NewProxy(t testing.TB, dsn string) (p *Proxy, through string) {
	t.Helper()
	at, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p = &Proxy{to: at.Host, open: map[net.Conn]bool{}}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	at.Host = p.listener.Addr().String()
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = p.listener.Close()
		p.CutAll()
		p.mu.Lock()
		open := p.open
		p.open = nil
		p.mu.Unlock()
		for conn := range open {
			_ = conn.Close()
		}
		p.running.Wait()
	})
	return p, at.String()
}

// Plan has the proxy ask what to do with each message or group of messages that a client
// sends. nil passes on all.
func (p *Proxy) Plan(plan func(sent []byte) Cut) {
	if plan == nil {
		p.plan.Store(nil)
		return
	}
	p.plan.Store(&plan)
}

// CutAll ends all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.open {
		_ = conn.Close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.add(client, server) {
			return
		}
		var answerless, hangs atomic.Bool
		p.running.Go(func() {
			p.passRequests(client, server, &answerless, &hangs)
			p.end(client, server)
		})
		p.running.Go(func() {
			passAnswers(client, server, &answerless, &hangs)
			p.end(client, server)
		})
	}
}

// add notes the connections, so that they end with the proxy.
func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.open == nil {
			_ = conn.Close()
			continue
		}
		p.open[conn] = true
	}
	return p.open != nil
}

func (p *Proxy) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.open, conn)
	}
}

// passRequests passes on what the client sends until the connection is cut. The other
// direction ends it when an answer is to be lost.
func (p *Proxy) passRequests(client, server net.Conn, answerless, hangs *atomic.Bool) {
	buffer := make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		cut := CutNot
		if plan := p.plan.Load(); plan != nil {
			cut = (*plan)(buffer[:n])
		}
		if cut == CutBefore {
			return
		}
		if cut == HangBefore {
			hangs.Store(true)
			_, _ = io.Copy(io.Discard, client) // until that gives up
			return
		}
		if cut != CutNot {
			hangs.Store(cut == HangAfter)
			answerless.Store(true)
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		switch cut {
		case CutMeanwhile:
			_ = client.Close() // the server notices nothing before it answers
			return
		case HangAfter:
			_, _ = io.Copy(io.Discard, client)
			return
		}
	}
}

func passAnswers(client, server net.Conn, answerless, hangs *atomic.Bool) {
	buffer := make([]byte, 1<<20)
	for {
		n, err := server.Read(buffer)
		if hangs.Load() {
			_, _ = io.Copy(io.Discard, server)
			return
		}
		if err != nil || answerless.Load() {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
