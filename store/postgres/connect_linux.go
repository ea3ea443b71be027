package postgres

import (
	"errors"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endSilence has the system break a connection whose other end has not confirmed what was
// sent to it: probes of idle connections are not made meanwhile.
func endSilence(conn syscall.RawConn, after time.Duration) (err error) {
	return errors.Join(conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	}), err)
}
