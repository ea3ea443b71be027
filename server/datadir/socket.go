package datadir

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"attachd/blobs/durable"
)

// longestSocketPath is in bytes: a socket's path has room for 104 on macOS and 108 on
// Linux, including a NUL.
const longestSocketPath = 103

// Listen opens the socket for commands to the running server. Only the directory's
// owner and root can connect. The caller must hold the database's lock, so an existing
// socket is a leftover.
func (d *Dir) Listen() (net.Listener, error) {
	if err := durable.Removed(os.Remove(d.Join("attachd.sock"))); err != nil {
		return nil, err
	}
	path, done, err := d.socketPath()
	if err != nil {
		return nil, err
	}
	defer done()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false) // it would use path, which is valid only now
	// Until then, the mode of the directory keeps other users out.
	if err := errors.Join(os.Chmod(d.Join("attachd.sock"), 0o600), d.ownPath("attachd.sock")); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &socket{listener, d.Join("attachd.sock")}, nil
}

// socket is a listener that removes its file when it is closed.
type socket struct {
	*net.UnixListener
	path string
}

func (s *socket) Close() error {
	// A leftover would be removed at the next start.
	_ = os.Remove(s.path)
	return s.UnixListener.Close()
}

// Dial connects to the running server, or fails because there is none.
func (d *Dir) Dial(ctx context.Context) (net.Conn, error) {
	path, done, err := d.socketPath()
	if err != nil {
		return nil, err
	}
	defer done()
	return (&net.Dialer{}).DialContext(ctx, "unix", path)
}

// socketPath returns a path to the socket that is short enough: the full one, one
// relative to the working directory, or, on Linux, one through an open file.
func (d *Dir) socketPath() (path string, done func(), err error) {
	nothing := func() {}
	path = d.Join("attachd.sock")
	if len(path) <= longestSocketPath {
		return path, nothing, nil
	}
	if wd, err := os.Getwd(); err == nil {
		if short, err := filepath.Rel(wd, path); err == nil && len(short) <= longestSocketPath {
			return short, nothing, nil
		}
	}
	if runtime.GOOS != "linux" {
		return "", nil, errors.New("the path of the data directory is too long for a socket on this system; start from a folder close to it, or use a shorter one")
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return "", nil, err
	}
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/attachd.sock", func() { _ = dir.Close() }, nil
}
