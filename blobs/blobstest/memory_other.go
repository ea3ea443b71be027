//go:build !linux

package blobstest

// TempInMemory has this process keep its temporary files in memory where the
// system has a place for that: none is known here.
func TempInMemory() {}
