package api

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"attachd/server/memory"
)

// How many bytes of memory requests are counted for.
const (
	// requestHolds is for any request, with its buffers and stacks in net/http.
	requestHolds = 64 << 10
	// inRequest is the largest answer that requestHolds covers.
	inRequest = 32 << 10
	// RowHolds is for a record that is read and made into a row of an answer.
	RowHolds = 3 << 10
)

// holdPatience is how long a request waits for memory that others hold.
const holdPatience = 2 * time.Second

// maxRefusing is how many refusals for lack of memory one caller may leave unread;
// beyond that, its requests are cut off.
const maxRefusing = 256

// Holder identifies whom memory is counted for: a user, or the address of a caller that
// is not authenticated.
type Holder struct {
	user    uuid.UUID
	network netip.Prefix
}

// holdings limits the memory that all requests hold.
type holdings struct {
	*memory.Budget[Holder]
	inFlight atomic.Int64
	mu       sync.Mutex
	refusing map[Holder]int
}

func newHoldings(plan func() memory.Plan) *holdings {
	return &holdings{
		Budget:   memory.NewBudget[Holder](func() int64 { return plan().Answers }, holdPatience),
		refusing: map[Holder]int{},
	}
}

// Holder returns whom the request is counted for.
func (rq *Request) Holder() Holder {
	if IsOperator(rq.Context()) {
		return Holder{user: Operator.ID}
	}
	if rq.scope.Caller.Actor.ID != uuid.Nil {
		return Holder{user: rq.scope.Caller.Actor.ID}
	}
	return Holder{network: Network(rq.corridor.ClientAddress(rq.Request))}
}

// charge counts a request whose caller is known. It is refused where the caller has no
// room for it, and cut off where the caller does not even read refusals.
func (c *Corridor) charge(rq *Request) error {
	rq.Holds = rq.Holder()
	if strings.HasPrefix(rq.route.Pattern, "/health") {
		return nil // health checks must be answered however much memory others hold
	}
	err := c.holdings.Acquire(rq.Context(), rq.Holds, requestHolds)
	if err == nil {
		rq.held = requestHolds
		return nil
	}
	c.holdings.mu.Lock()
	defer c.holdings.mu.Unlock()
	if c.holdings.refusing[rq.Holds] >= maxRefusing {
		panic(http.ErrAbortHandler)
	}
	c.holdings.refusing[rq.Holds]++
	rq.refusing = true
	return outOfMemory(err)
}

// Hold sets the memory counted for a request to n bytes beyond requestHolds, and
// waits up to holdPatience if that is more than before. It never asks for more
// than half of what one caller may hold, which leaves room for the caller's other
// requests.
func (rq *Request) Hold(n int64) error {
	budget := rq.corridor.holdings
	n = min(n+requestHolds, budget.Most()/2)
	if n > rq.held {
		if err := budget.Acquire(rq.Context(), rq.Holds, n-rq.held); err != nil {
			return outOfMemory(err)
		}
	} else {
		budget.Release(rq.Holds, rq.held-n)
	}
	rq.held = n
	return nil
}

// HoldAtOnce is Hold without waiting.
func (rq *Request) HoldAtOnce(n int64) error {
	more := n + requestHolds - rq.held
	if more <= 0 {
		return nil
	}
	if !rq.corridor.holdings.TryAcquire(rq.Holds, more) {
		return outOfMemory(memory.ErrBusy)
	}
	rq.held += more
	return nil
}

// letGo releases all memory that a request holds.
func (rq *Request) letGo() {
	holdings := rq.corridor.holdings
	holdings.Release(rq.Holds, rq.held)
	rq.held = 0
	if !rq.refusing {
		return
	}
	holdings.mu.Lock()
	defer holdings.mu.Unlock()
	if holdings.refusing[rq.Holds]--; holdings.refusing[rq.Holds] == 0 {
		delete(holdings.refusing, rq.Holds)
	}
}

func outOfMemory(err error) error {
	if errors.Is(err, memory.ErrBusy) {
		return Busy("Too many answers of yours, or of everybody's, are being made or have not been read. Read those that you asked for, and try again in a moment.")
	}
	return err
}

// Network returns the addresses that one caller can easily use: an IPv4 address, or the
// /64 of an IPv6 address.
func Network(address string) netip.Prefix {
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
