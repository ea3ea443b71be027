package api

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// traffic knows whether people are being served.
type traffic struct {
	mu       sync.Mutex
	requests int       // being answered
	ended    time.Time // when one was last done
}

// Whoever made a request is likely to make another within so long.
const quietAfter = time.Second

func (t *traffic) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
}

func (t *traffic) end(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests--
	t.ended = now
}

func (t *traffic) busy(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.requests > 0 || now.Sub(t.ended) < quietAfter
}

// forPeople says whether anybody waits for the answer. Commands are the
// operator's own affair, and what watches the server never stops asking.
func forPeople(r *http.Request) bool {
	watching := r.URL.Path == "/metrics" || r.URL.Path == "/health" || strings.HasPrefix(r.URL.Path, "/health/")
	return !watching && !IsOperator(r.Context())
}
