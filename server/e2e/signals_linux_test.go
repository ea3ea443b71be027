package e2e

import (
	"os"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// newTerminal returns a terminal, and the end that a terminal emulator has.
func newTerminal(t *testing.T) (window, terminal *os.File) {
	t.Helper()
	window, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system gives no terminals: %v", err)
	}
	check(t, unix.IoctlSetPointerInt(int(window.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(window.Fd()), unix.TIOCGPTN)
	check(t, err)
	terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	check(t, err)
	return window, terminal
}

// A server whose terminal was closed could not be ended by its user any more, so
// closing it ends the server, after requests under way. A SIGHUP that another
// process sends does not.
func TestClosingTheTerminalEndsTheServer(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string][]string{
		"started by itself":  nil,
		"started by a shell": {"sh", "-c", `"$@"; exit $?`, "sh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			window, terminal := newTerminal(t)
			dir := dataDir(t)
			cmd := command(t, autoCreate, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
			if wrap != nil {
				cmd.Args = append(wrap, cmd.Args...)
				cmd.Path = "/bin/sh"
			}
			cmd.Stdin, cmd.Stdout = terminal, terminal
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			server := startCommand(t, dir, cmd)
			check(t, terminal.Close())
			if wrap == nil {
				server.signal(syscall.SIGHUP)
				server.logged("SIGHUP:")
			}
			slow := server.beginUpload(product, "slow.txt")
			slow.inTemp(t)
			check(t, window.Close())
			server.logged("the terminal was closed")
			slow.end().want(t, 201)
			if code := server.exitCode(); wrap == nil && code != 0 {
				t.Errorf("exit code %d", code)
			}
			if left := names(t, dir+"/tmp"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}
