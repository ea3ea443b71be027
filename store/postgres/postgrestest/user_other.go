//go:build !unix

package postgrestest

import (
	"os/exec"
	"syscall"
)

const syscallQuit = syscall.SIGKILL

func asUser(*exec.Cmd) {}

func own(string, string) error { return nil }
