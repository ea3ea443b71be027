package s3test

import (
	"bytes"
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Manners are what a Proxy does to requests. The shares are of all requests, between 0 and
// 1.
type Manners struct {
	LatePuts, LateDeletes float64       // shares of these that are cut off, and delivered LateBy later
	LateBy                time.Duration // at least, and three times as much at most
	Lost                  float64       // share of the answers that are lost after the work was done
	SlowDown              float64       // share answered with 503, and not delivered
	Delay                 time.Duration // before each request
	Dead                  bool          // every request is cut off
	Hanging               bool          // no request is answered
}

// Proxy stands between a client and an object store, and does to requests what networks and
// stores do to them. It keeps their Host, so that their signatures stay valid.
type Proxy struct {
	manners atomic.Pointer[Manners]
	server  *httptest.Server
	to      string
	client  http.Client
	late    atomic.Int64 // requests that are yet to be delivered
	ended   context.Context

	mu     sync.Mutex
	rand   *rand.Rand
	counts map[string]int
}

// NewProxy returns a proxy in front of the store at a host, until the end of the test. Its
// choices depend on the seed.
func NewProxy(t testing.TB, to string, seed uint64) *Proxy {
	ended, end := context.WithCancel(context.Background())
	p := &Proxy{to: to, rand: rand.New(rand.NewPCG(seed, 3<<32)), counts: map[string]int{}, ended: ended}
	p.client.Transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	p.Set(Manners{})
	p.server = httptest.NewServer(p)
	t.Cleanup(func() {
		end()
		p.server.CloseClientConnections()
		p.server.Close()
		p.Await()
		p.client.CloseIdleConnections()
	})
	return p
}

// Host is the proxy's address.
func (p *Proxy) Host() string { return p.server.Listener.Addr().(*net.TCPAddr).String() }

// Set changes the manners.
func (p *Proxy) Set(m Manners) { p.manners.Store(&m) }

// Await waits until what was late is delivered.
func (p *Proxy) Await() {
	for p.late.Load() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
}

// Counts says how often it did what.
func (p *Proxy) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.counts)
}

// choose decides what to do to a request.
func (p *Proxy) choose(method string) (what string, lateBy time.Duration) {
	m := p.manners.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	lateBy = m.LateBy + time.Duration(p.rand.Float64()*2*float64(m.LateBy))
	late := map[string]float64{http.MethodPut: m.LatePuts, http.MethodDelete: m.LateDeletes}[method]
	switch chance := p.rand.Float64(); {
	case m.Dead:
		what = "dead"
	case m.Hanging:
		what = "hanging"
	case chance < late:
		what = "late " + method
	case chance < late+m.Lost:
		what = "lost " + method
	case chance < late+m.Lost+m.SlowDown:
		what = "slow down"
	default:
		what = "passed " + method
	}
	p.counts[what]++
	return what, lateBy
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what, lateBy := p.choose(r.Method)
	switch what {
	case "dead":
		panic(http.ErrAbortHandler)
	case "hanging":
		_, _ = io.Copy(io.Discard, r.Body) // only then the server looks whether the client goes
		<-r.Context().Done()
		return
	case "slow down":
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if delay := p.manners.Load().Delay; delay > 0 {
		time.Sleep(delay)
	}
	switch what {
	case "late " + r.Method:
		p.late.Add(1)
		go func() {
			defer p.late.Add(-1)
			select {
			case <-time.After(lateBy):
			case <-p.ended.Done():
			}
			if response, err := p.pass(r, body); err == nil {
				response.Body.Close()
			}
		}()
		panic(http.ErrAbortHandler)
	case "lost " + r.Method:
		if response, err := p.pass(r, body); err == nil {
			response.Body.Close()
		}
		panic(http.ErrAbortHandler)
	}
	response, err := p.pass(r, body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer response.Body.Close()
	maps.Copy(w.Header(), response.Header)
	w.WriteHeader(response.StatusCode)
	if _, err := io.Copy(w, response.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// pass makes the request of the store.
func (p *Proxy) pass(r *http.Request, body []byte) (*http.Response, error) {
	request, err := http.NewRequest(r.Method, "http://"+p.to+r.RequestURI, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header, request.Host = r.Header.Clone(), r.Host
	return p.client.Do(request)
}
