//go:build !linux

package postgres

import (
	"syscall"
	"time"
)

func endSilence(syscall.RawConn, time.Duration) error { return nil }
