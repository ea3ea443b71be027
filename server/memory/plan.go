// Package memory divides the available memory among the parts of the server that may
// need much of it: answers to slow clients, connections, and the processes that decode
// pictures.
package memory

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Plan is a division of the available memory. All numbers are bytes, except Decoders
// and Connections.
type Plan struct {
	Available   int64 // in total
	Decoder     int64 // for a process that decodes a picture
	Decoders    int   // how many such processes may run at once
	Soft        int64 // soft limit of Go in this process, above which it collects garbage more often
	Answers     int64 // for requests in progress, including the answers that are being sent
	Connections int   // how many may be open at once, idle or not
}

const (
	// decoderMost is the most memory of a decoder, in bytes: it suffices for a picture
	// of 24 megapixels in a progressive JPEG, of 40 in a PNG and of 110 in a baseline
	// JPEG.
	decoderMost = 192 << 20
	// processLeast is how many bytes are reserved for everything else before a decoder
	// gets as much.
	processLeast = 48 << 20
	// connectionCost is how many bytes a connection takes in buffers and stacks.
	connectionCost = 32 << 10
	// softMost and answersMost, in bytes, are limits beyond which more memory is of no
	// use.
	softMost    = 2 << 30
	answersMost = 1 << 30
)

// PlanFor divides the available bytes; 0 means that there is no limit.
func PlanFor(available int64) Plan {
	if available <= 0 {
		available = 1 << 40
	}
	p := Plan{Available: available, Decoders: 1}
	p.Decoder = min(decoderMost, available/4*3, max(available/8*3, available-processLeast))
	if available >= 1<<30 {
		p.Decoders = 2
	}
	rest := available - int64(p.Decoders)*p.Decoder
	p.Soft = min(softMost, rest/4*3)
	p.Answers = min(answersMost, rest/8*3)
	p.Connections = int(min(math.MaxInt32, rest/6/connectionCost))
	return p
}

var limitFromEnvironment = os.Getenv("GOMEMLIMIT") != ""

// Watch is a cache of the plan that follows the available memory: a limit may be set or
// changed while the process runs.
type Watch struct {
	available func() int64
	mu        sync.Mutex
	read      time.Time // when available was read
	plan      Plan
}

// maxPlanAge is how long a plan is cached. A process may be put into a control group
// after its start, and decode a picture at once.
const maxPlanAge = 100 * time.Millisecond

// NewWatch also sets Go's soft memory limit, unless GOMEMLIMIT is set.
func NewWatch() *Watch {
	w := &Watch{available: Available}
	w.Plan()
	return w
}

// Plan is the current plan.
func (w *Watch) Plan() Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.read) > maxPlanAge {
		w.read = now
		if plan := PlanFor(w.available()); plan != w.plan {
			w.plan = plan
			if !limitFromEnvironment {
				debug.SetMemoryLimit(plan.Soft)
			}
		}
	}
	return w.plan
}
