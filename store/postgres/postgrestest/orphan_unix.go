//go:build unix && !linux

package postgrestest

import "syscall"

// endWithUs does nothing: only Linux tells a process that its parent has ended.
func endWithUs(*syscall.SysProcAttr) {}
