//go:build unix

package datadir_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"attachd/server/datadir"
)

// ASVS 13.3.1, 13.3.4
func TestSecretOfOthersIsRefused(t *testing.T) {
	for _, name := range []string{"secret.key", "admin.key", "demo-keys.json"} {
		for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o666} {
			dir := open(t, t.TempDir())
			if err := dir.WriteFile(name, []byte("secret")); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir.Join(name), mode); err != nil {
				t.Fatal(err)
			}
			_, err := datadir.Open(dir.Path())
			wants(t, err, fmt.Sprintf("can be read by others (mode %04o). Close it: chmod 600 %s", mode, dir.Join(name)))
		}
	}
}

func TestTheDirectoryIsClosedToOthers(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := open(t, path)
	if err := dir.WriteFile("note", nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"": fs.ModeDir | 0o700, "FORMAT": 0o600, "note": 0o600} {
		if info, err := os.Stat(dir.Join(name)); err != nil || info.Mode() != want {
			t.Errorf("%q has mode %v (%v)", name, info.Mode(), err)
		}
	}
}

func TestSocketReachesWhoListens(t *testing.T) {
	for _, name := range []string{"near", strings.Repeat(strings.Repeat("d", 49)+"/", 5)} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			if len(name) > 100 && runtime.GOOS != "linux" {
				t.Skip("only Linux has a way round the length of a socket's path")
			}
			dir := open(t, filepath.Join(shortTemp(t), name))
			if _, err := dir.Dial(t.Context()); err == nil {
				t.Error("a call was taken where nobody listens")
			}
			for range 2 { // the second time over a leftover
				listener := listen(t, dir)
				if info, err := os.Lstat(dir.Join("attachd.sock")); err != nil || info.Mode() != fs.ModeSocket|0o600 {
					t.Errorf("the socket has mode %v (%v)", info.Mode(), err)
				}
				if err := hello(t.Context(), dir, listener); err != nil {
					t.Error(err)
				}
				if err := listener.Close(); err != nil {
					t.Error(err)
				}
				if left := names(t, dir.Path()); strings.Join(left, " ") != "FORMAT" {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

// A process that is killed leaves its socket file.
func TestListenTakesTheNameOfALeftOver(t *testing.T) {
	dir := open(t, shortTemp(t))
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir.Join("attachd.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Dial(t.Context()); err == nil {
		t.Error("a call was taken where nobody listens any more")
	}
	if err := hello(t.Context(), dir, listen(t, dir)); err != nil {
		t.Error(err)
	}
}

// Relative to a nearby working directory, a long path is short enough on every system.
func TestSocketFromNearby(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat(strings.Repeat("d", 49)+"/", 3), "data")
	dir := open(t, path)
	t.Chdir(filepath.Dir(path))
	if err := hello(t.Context(), dir, listen(t, dir)); err != nil {
		t.Error(err)
	}
}

func listen(t *testing.T, dir *datadir.Dir) net.Listener {
	t.Helper()
	listener, err := dir.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // it may be closed already
	return listener
}

// hello sends a word from one end to the other.
func hello(ctx context.Context, dir *datadir.Dir, listener net.Listener) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	caller, err := dir.Dial(ctx)
	if err != nil {
		return err
	}
	defer caller.Close()
	if _, err := caller.Write([]byte("hello")); err != nil {
		return err
	}
	called, err := listener.Accept()
	if err != nil {
		return err
	}
	defer called.Close()
	heard := make([]byte, 5)
	if _, err := io.ReadFull(called, heard); err != nil {
		return err
	}
	if string(heard) != "hello" {
		return fmt.Errorf("what was heard is %q", heard)
	}
	return nil
}

// shortTemp is a temporary folder whose path is short enough for a socket on every
// system.
func shortTemp(t *testing.T) string {
	t.Helper()
	path := t.TempDir()
	if len(path) < 80 {
		return path
	}
	path, err := os.MkdirTemp("/tmp", "attachd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	return path
}
