package server

import (
	"net/http"
	"net/netip"
	"strconv"
)

// countRequest holds the caller to what one user may ask in a minute, with all
// their keys, and tells what is left of that. Who acts for others is counted
// alone.
func (c *corridor) countRequest(rq *request, who caller) error {
	a := c.rates.Allow(who.actor.ID, c.Now())
	if c.RequestsPerMinute > 0 {
		h := rq.writer.Header()
		h.Set("X-RateLimit-Limit", strconv.Itoa(c.RequestsPerMinute))
		h.Set("X-RateLimit-Remaining", strconv.Itoa(a.Remaining))
		h.Set("X-RateLimit-Reset", strconv.Itoa(a.Reset))
	}
	if a.OK {
		return nil
	}
	return tooManyRequests(a.Wait, "Too many requests of this user. Wait as long as Retry-After says.")
}

// guessed is the answer to a wrong key or session: err, until its
// address has sent too many of them. By then it has been looked up like any
// other, so the answer comes no sooner; and a right one always works, since
// others may share the address.
func (c *corridor) guessed(rq *request, err error) error {
	if a := c.guesses.Allow(network(c.clientAddress(rq.Request)), c.Now()); !a.OK {
		return tooManyRequests(a.Wait, "Too many wrong keys from this address. Wait as long as Retry-After says.")
	}
	return err
}

// network is what one caller can have for the asking: an IPv4 address, or the
// /64 of an IPv6 address.
func network(address string) netip.Prefix {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // always in range
	return p
}

func tooManyRequests(wait int, detail string) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: "rate_limited", retryAfter: wait, detail: detail}
}

func busy(detail string) error {
	return &refusal{status: http.StatusServiceUnavailable, code: "busy", retryAfter: 1, detail: detail}
}

func slotLost() error {
	return busy("All upload slots are taken, and another user, who has fewer, got the one of this upload. Try again in a moment.")
}
