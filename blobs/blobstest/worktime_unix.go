//go:build unix

package blobstest

import (
	"time"

	"golang.org/x/sys/unix"
)

// Worktime is how long processors have been busy with this process so far. A
// test that holds something to a time takes it from here: by the clock, what
// else the machine does counts too.
func Worktime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
