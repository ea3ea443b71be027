package server

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

// What requests hold in memory, in bytes.
const (
	// requestHolds is what each does, with its buffers and stacks in net/http.
	requestHolds = 64 << 10
	// inRequest is how large an answer may be that needs no more than that.
	inRequest = 32 << 10
	// uploadHolds is for what comes in and what is looked for in it.
	uploadHolds = 160 << 10
	// rowHolds is for a record that is read and made a row of an answer.
	rowHolds = 3 << 10
	// previewHolds is for what is read of a table, a text or an archive. What is made of
	// it is counted when it is there, and as few make one as have turns.
	previewHolds = 1 << 20
	// metricsHold is for what the numbers of all routes are gathered in.
	metricsHold = 256 << 10
)

// holdPatience is how long a request waits for memory that others hold.
const holdPatience = 2 * time.Second

// maxRefusing is how many refusals for want of memory one caller may leave
// unread; then its requests are cut.
const maxRefusing = 256

// holder is who holds memory: a user, or an address that has not said who it
// is.
type holder struct {
	user    uuid.UUID
	network netip.Prefix
}

// holdings bounds what all requests hold in memory.
type holdings struct {
	*memory.Budget[holder]
	inFlight atomic.Int64
	mu       sync.Mutex
	refusing map[holder]int
}

func newHoldings(plan func() memory.Plan) *holdings {
	return &holdings{
		Budget:   memory.NewBudget[holder](func() int64 { return plan().Answers }, holdPatience),
		refusing: map[holder]int{},
	}
}

// holder is who a request is counted for.
func (rq *request) holder() holder {
	if isOperator(rq.Context()) {
		return holder{user: operator.ID}
	}
	if rq.scope.caller.actor.ID != uuid.Nil {
		return holder{user: rq.scope.caller.actor.ID}
	}
	return holder{network: network(rq.corridor.clientAddress(rq.Request))}
}

// charge counts a request whose caller is known. It is refused where the
// caller has no room for it, and cut where the caller takes not even refusals.
func (c *corridor) charge(rq *request) error {
	rq.holds = rq.holder()
	if strings.HasPrefix(rq.route.pattern, "/health") {
		return nil // whether the server lives has nothing to do with what others hold
	}
	err := c.holdings.Acquire(rq.Context(), rq.holds, requestHolds)
	if err == nil {
		rq.held = requestHolds
		return nil
	}
	c.holdings.mu.Lock()
	defer c.holdings.mu.Unlock()
	if c.holdings.refusing[rq.holds] >= maxRefusing {
		panic(http.ErrAbortHandler)
	}
	c.holdings.refusing[rq.holds]++
	rq.refusing = true
	return outOfMemory(err)
}

// hold sets the memory counted for a request to n bytes beyond requestHolds, and
// waits up to holdPatience if that is more than before. It never asks for more
// than half of what one caller may hold, which leaves room for the caller's other
// requests.
func (rq *request) hold(n int64) error {
	budget := rq.corridor.holdings
	n = min(n+requestHolds, budget.Most()/2)
	if n > rq.held {
		if err := budget.Acquire(rq.Context(), rq.holds, n-rq.held); err != nil {
			return outOfMemory(err)
		}
	} else {
		budget.Release(rq.holds, rq.held-n)
	}
	rq.held = n
	return nil
}

// holdAtOnce is hold without waiting.
func (rq *request) holdAtOnce(n int64) error {
	more := n + requestHolds - rq.held
	if more <= 0 {
		return nil
	}
	if !rq.corridor.holdings.TryAcquire(rq.holds, more) {
		return outOfMemory(memory.ErrBusy)
	}
	rq.held += more
	return nil
}

// letGo gives back all that a request holds.
func (rq *request) letGo() {
	holdings := rq.corridor.holdings
	holdings.Release(rq.holds, rq.held)
	rq.held = 0
	if !rq.refusing {
		return
	}
	holdings.mu.Lock()
	defer holdings.mu.Unlock()
	if holdings.refusing[rq.holds]--; holdings.refusing[rq.holds] == 0 {
		delete(holdings.refusing, rq.holds)
	}
}

func outOfMemory(err error) error {
	if errors.Is(err, memory.ErrBusy) {
		return busy("Too many answers of yours, or of everybody's, are being made or have not been read. Read those that you asked for, and try again in a moment.")
	}
	return err
}
