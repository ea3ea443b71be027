package api

import (
	"net/http"
	"strings"
	"sync"
	"time"
)

// traffic tracks whether people are being served.
type traffic struct {
	mu       sync.Mutex
	requests int       // being answered
	ended    time.Time // when the last one ended
}

// quietAfter is how long after the last request the server still counts as busy: the
// client is likely to send another within that time.
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

// forPeople reports whether a person waits for the answer. The operator's commands and
// monitoring, which never stops, do not count.
func forPeople(r *http.Request) bool {
	watching := r.URL.Path == "/metrics" || r.URL.Path == "/health" || strings.HasPrefix(r.URL.Path, "/health/")
	return !watching && !IsOperator(r.Context())
}
