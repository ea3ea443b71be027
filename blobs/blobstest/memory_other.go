//go:build !linux

package blobstest

// TempInMemory does nothing: no file system in memory is known on this system.
func TempInMemory() {}
