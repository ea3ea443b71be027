package server

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"attachd/store"
)

// health says that the process is alive.
func (s *Server) health(w *response, rq *request) error {
	return rq.answer(w, http.StatusOK, healthBody{Status: "ok"})
}

type healthBody struct {
	Status  string   `json:"status"`
	Reasons []string `json:"reasons,omitempty"`
}

// readiness remembers the last look for a moment: looking writes to the disk,
// and anybody may ask.
type readiness struct {
	mu      sync.Mutex
	at      time.Time
	reasons []string
	pinged  time.Time // when the scanner was
	scanner error     // what came of that
}

// How long an answer of /health/ready stands.
const readyFor = time.Second

// healthReady says whether uploads would work now, and if not, why.
func (s *Server) healthReady(w *response, rq *request) error {
	if reasons := s.notReady(rq.Context(), rq.log, readyFor); len(reasons) > 0 {
		w.Header().Set("Retry-After", "5")
		return rq.answer(w, http.StatusServiceUnavailable, healthBody{Status: "unavailable", Reasons: reasons})
	}
	return rq.answer(w, http.StatusOK, healthBody{Status: "ready"})
}

// notReady gives the reasons why uploads would not work, by a look that is not
// older than asked for.
func (s *Server) notReady(ctx context.Context, log *slog.Logger, age time.Duration) (reasons []string) {
	s.ready.mu.Lock()
	if now := s.Now(); now.Sub(s.ready.at) >= age {
		s.ready.reasons = s.lookWhetherReady(ctx, log)
		s.ready.at = now
	}
	reasons = s.ready.reasons
	s.ready.mu.Unlock()
	if s.draining.Load() {
		return append([]string{"The server is shutting down."}, reasons...)
	}
	return reasons
}

func (s *Server) lookWhetherReady(ctx context.Context, log *slog.Logger) (reasons []string) {
	ctx = context.WithoutCancel(ctx) // others get the answer too
	failed := func(sentence string, err error) {
		log.Error("not ready", "reason", sentence, "error", err)
		reasons = append(reasons, sentence)
	}
	if err := s.Store.Probe(ctx); errors.Is(err, store.ErrUnavailable) {
		failed("Metadata cannot be committed until a restart.", err)
	} else if err != nil {
		failed("Metadata cannot be committed.", err)
	}
	if err := s.contents.Probe(ctx); err != nil {
		failed("Files cannot be written.", err)
	}
	room, err := s.contents.Space(ctx)
	if err != nil {
		failed("The free space on the disk is not known.", err)
	} else if reserve := s.reserve(room); room.Free < reserve {
		failed("The disk is full: less than the reserve is free.", fmt.Errorf("%d bytes are free, the reserve is %d", room.Free, reserve))
	}
	if s.Scanner != nil && !s.AcceptUnscanned {
		if err := s.pingScanner(ctx); err != nil {
			failed("Files cannot be scanned for malware.", err)
		}
	}
	return reasons
}

//go:embed openapi.json
var openAPIDocument []byte

func (s *Server) openAPI(w *response, _ *request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := w.Write(openAPIDocument)
	return err
}
