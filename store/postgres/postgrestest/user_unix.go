//go:build unix

package postgrestest

import (
	"os"
	"os/exec"
	"syscall"
)

const syscallQuit = syscall.SIGQUIT

func asUser(cmd *exec.Cmd) {
	cmd.SysProcAttr = new(syscall.SysProcAttr)
	endWithUs(cmd.SysProcAttr)
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: serverUser, Gid: serverUser}
	}
}

// own gives a folder to the server, and lets it pass through the one above.
func own(above, dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	if err := os.Chmod(above, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, serverUser, serverUser)
}
