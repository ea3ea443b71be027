//go:build unix

package cli_test

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a command into its own process group, so that endGroup reaches what `go
// run` starts.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func endGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
