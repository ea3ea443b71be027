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
	// decoderMost suffices for a picture of 24 megapixels in a progressive
	// JPEG, of 40 in a PNG and of 110 in a baseline JPEG.
	decoderMost = 192 << 20
	// processLeast is for all else before a decoder gets as much.
	processLeast = 48 << 20
	// connectionCost is what a connection holds in buffers and stacks.
	connectionCost = 32 << 10
	// Beyond these more memory is of no use.
	softMost    = 2 << 30
	answersMost = 1 << 30
)

// PlanFor divides what is available; 0 is plenty.
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
	looked    time.Time
	plan      Plan
}

// lookEvery is how old a plan may be. A process may be put into a control group
// after its start, and a picture decoded at once.
const lookEvery = 100 * time.Millisecond

// NewWatch also tells Go its soft limit, unless GOMEMLIMIT has.
func NewWatch() *Watch {
	w := &Watch{available: Available}
	w.Plan()
	return w
}

// Plan is the one that holds now.
func (w *Watch) Plan() Plan {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); now.Sub(w.looked) > lookEvery {
		w.looked = now
		if plan := PlanFor(w.available()); plan != w.plan {
			w.plan = plan
			if !limitFromEnvironment {
				debug.SetMemoryLimit(plan.Soft)
			}
		}
	}
	return w.plan
}
