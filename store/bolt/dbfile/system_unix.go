//go:build !windows

package dbfile

import (
	"math"
)

// roomToGrow is how much of the address space is set apart for the file, in
// bytes: it costs nothing until it is used. A file that outgrows its part has
// to be mapped anew, and for that every change waits until no read is under
// way: while a snapshot is written, say.
const roomToGrow = math.MaxInt >> 27 // 64 GB; next to nothing on 32-bit systems, which have none to spare

// replacesOpen says whether a file that is open can be replaced by another.
const replacesOpen = true
