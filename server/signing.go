package server

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"attachd/server/token"
)

// signing has the keys that sign links, which may be changed while links are
// made and followed.
type signing struct {
	signer   atomic.Pointer[token.Signer]
	changing sync.Mutex
	keys     []token.SigningKey
}

func (s *signing) use(keys []token.SigningKey) {
	s.keys = keys
	s.signer.Store(token.NewSigner(keys...))
}

type rotationBody struct {
	// When the last link that an earlier key signed ends, at the latest.
	PreviousUntil string `json:"previous_until"`
}

// rotateSigning has a new key sign links from now on. The new keys are on
// disk before the first link is signed with them.
func (s *Server) rotateSigning(w *response, rq *request) error {
	var order struct {
		Grace *int64 `json:"grace"`
	}
	if err := rq.readOptionalJSON(&order); err != nil {
		return err
	}
	grace := maxLinkTTL // no link ends before its time
	if order.Grace != nil {
		if *order.Grace < 0 || *order.Grace > int64(maxLinkTTL/time.Second) {
			return invalidRequest("grace must be a number of seconds from 0 to %d (7 days).", int64(maxLinkTTL/time.Second))
		}
		grace = time.Duration(*order.Grace) * time.Second
	}
	s.signing.changing.Lock()
	defer s.signing.changing.Unlock()
	now := s.Now()
	keys := token.Rotate(s.signing.keys, now, grace)
	if err := s.KeepSigningKeys(keys); err != nil {
		return err
	}
	s.signing.use(keys)
	until := timestamp(now.Add(grace))
	rq.log().Info("links are signed with a new key", "earlier_links_until", until)
	return rq.answer(w, http.StatusOK, rotationBody{until})
}
