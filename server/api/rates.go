package api

import (
	"net/http"
	"net/netip"
	"strconv"
)

// countRequest holds the caller to what one user may ask in a minute, with all
// their keys, and tells what is left of that. Who acts for others is counted
// alone.
func (c *Corridor) countRequest(rq *Request, who Caller) error {
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
func (c *Corridor) guessed(rq *Request, err error) error {
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

func tooManyRequests(wait int, detail string) *Refusal {
	return &Refusal{Status: http.StatusTooManyRequests, Code: "rate_limited", RetryAfter: wait, Detail: detail}
}

// Busy is 503 busy: the same request may work in a moment.
func Busy(detail string) error {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "busy", RetryAfter: 1, Detail: detail}
}

// SlotLost is the answer to an upload whose slot went to another user.
func SlotLost() error {
	return Busy("All upload slots are taken, and another user, who has fewer, got the one of this upload. Try again in a moment.")
}
