//go:build unix

package blobstest

import (
	"time"

	"golang.org/x/sys/unix"
)

// Worktime is the processor time of this process so far. A test that asserts a
// maximum duration uses it rather than the clock, which also counts what else the
// machine does.
func Worktime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err) // the arguments are valid
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
