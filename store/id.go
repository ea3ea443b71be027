package store

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// idSlack is by how many steps of 1/4096 ms (one second in all) the clock may be
// behind the newest id while ids still keep their order. Where it is further
// behind, it was set back, and ids follow it: the time in them is the one that
// people read.
const idSlack = 1000 << 12

// IDs generates ids of version 7 (RFC 9562, section 5.7). They sort in the order in
// which they are made, as long as the clock is not set back, and are unique in any
// case, by 62 random bits.
type IDs struct {
	last atomic.Int64 // the time in the newest id, in 1/4096 ms since 1970
}

// New returns an id for an object created at the given time.
func (g *IDs) New(at time.Time) (id uuid.UUID) {
	steps := max(0, at.UnixMilli()<<12+int64(at.Nanosecond()%1e6)<<12/1e6)
	for {
		last, next := g.last.Load(), steps
		if next <= last && last-next < idSlack {
			next = last + 1
		}
		if g.last.CompareAndSwap(last, next) {
			steps = next
			break
		}
	}
	_, _ = rand.Read(id[8:]) // never fails
	binary.BigEndian.PutUint64(id[:8], uint64(steps)>>12<<16|0x7000|uint64(steps)&0xfff)
	id[8] = id[8]&0x3f | 0x80
	return id
}
