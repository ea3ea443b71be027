//go:build !windows

package dbfile

import (
	"math"
)

// roomToGrow is how much address space is reserved for the file, in bytes: it costs
// nothing until it is used. A file that outgrows it has to be mapped anew, and for
// that every change waits until no read is under way: while a snapshot is written,
// say.
const roomToGrow = math.MaxInt >> 27 // 64 GB; almost nothing on 32-bit systems, whose address space is small

// replacesOpen says whether a file can be replaced while it is open.
const replacesOpen = true
