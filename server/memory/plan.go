// Package memory divides the memory that is really there among what may need
// much of it: answers that clients are slow to read, connections, and the
// processes that decode pictures.
package memory

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Plan says who may use how much. All numbers are bytes, but for Decoders and
// Connections.
type Plan struct {
	Available   int64 // in all
	Decoder     int64 // of a process that decodes a picture
	Decoders    int   // such processes at once
	Soft        int64 // of Go in this process, beyond which it collects garbage more often
	Answers     int64 // of requests under way, with what is to be sent to their clients
	Connections int   // at once, whether they do something or not
}

const (
	// decoderMost, in bytes, is the most that a decoder gets: it suffices for a picture of 24 megapixels in a progressive
	// JPEG, of 40 in a PNG and of 110 in a baseline JPEG.
	decoderMost = 192 << 20
	// processLeast, in bytes, is kept for all else before a decoder gets as much.
	processLeast = 48 << 20
	// connectionCost, in bytes, is what a connection takes in buffers and stacks.
	connectionCost = 32 << 10
	// softMost and answersMost, in bytes, bound what more memory is of no use for.
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

// Watch follows what is available: a limit may be set or changed while the
// process runs.
type Watch struct {
	available func() int64
	mu        sync.Mutex
	read      time.Time // when available was read
	plan      Plan
}

// maxPlanAge is how old a plan may be. A process may be put into a control group
// after its start, and decode a picture at once.
const maxPlanAge = 100 * time.Millisecond

// NewWatch also sets the soft limit of Go, unless GOMEMLIMIT does.
func NewWatch() *Watch {
	w := &Watch{available: Available}
	w.Plan()
	return w
}

// Plan is the current one.
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
