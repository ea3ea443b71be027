//go:build !linux

package wal

import "os"

// syncData puts a file on stable storage.
func syncData(file *os.File) error { return file.Sync() }
