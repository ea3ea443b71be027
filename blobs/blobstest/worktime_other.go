//go:build !unix

package blobstest

import "time"

var begun = time.Now()

// Worktime is the time since this process began: it is not known here how much
// of it processors were busy with it.
func Worktime() time.Duration { return time.Since(begun) }
