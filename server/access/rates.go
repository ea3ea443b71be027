package access

import (
	"net/http"
	"strconv"

	"attachd/server/api"
)

// countRequest limits the requests per minute of one user, with all their keys, and
// reports in headers how many are left. With X-On-Behalf-Of, the superadmin's are
// counted, not those of the user acted for. Of several replicas, each allows its part.
func (g *Guard) countRequest(rq *api.Request, who api.Caller) error {
	a := g.rates.Allow(who.Actor.ID, g.Now())
	if g.RequestsPerMinute > 0 {
		h := rq.Writer.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(a.Limit))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(a.Remaining))
		h.Set("X-RateLimit-Reset", strconv.Itoa(a.Reset))
	}
	if a.OK {
		return nil
	}
	return tooManyRequests(a.Wait, "Too many requests of this user. Wait as long as Retry-After says.")
}

// guessed returns the answer to a wrong key or session: err, until its address has sent
// too many of them. By then the secret has been looked up like any other, so the answer
// comes no sooner; and a right one always works, since others may share the address.
func (g *Guard) guessed(rq *api.Request, err error) error {
	if a := g.guesses.Allow(api.Network(g.Corridor.ClientAddress(rq.Request)), g.Now()); !a.OK {
		return tooManyRequests(a.Wait, "Too many wrong keys from this address. Wait as long as Retry-After says.")
	}
	return err
}

func tooManyRequests(wait int, detail string) *api.Refusal {
	return &api.Refusal{Status: http.StatusTooManyRequests, Code: "rate_limited", RetryAfter: wait, Detail: detail}
}
