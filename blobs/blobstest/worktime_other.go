//go:build !unix

package blobstest

import "time"

var begun = time.Now()

// Worktime is the time since this process began: its processor time is not known on
// this system.
func Worktime() time.Duration { return time.Since(begun) }
