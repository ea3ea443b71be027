package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// The database crashes before it has written what it need not have: an upload that was not
// recorded is undone then, but not one by which an object became garbage that is deleted.
func TestACrashTakesNoGarbageBack(t *testing.T) {
	needsOwnServer(t)
	t.Parallel()
	server := ownServer(t, "wal_writer_delay=10s", "autovacuum=off")
	dsn, err := server.CreateDatabase(t.Context(), "crash")
	ok(t, err)
	ref := blobs.RefOf([]byte("uploaded twice"))
	first, second := blobs.NewObject(ref), blobs.NewObject(ref)
	for _, c := range []struct {
		upload blobs.Object
		listed bool
		place  blobs.Object
	}{
		{upload: first, place: first},
		{upload: second, place: first},
		{upload: second, listed: true, place: second},
	} {
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
		ok(t, err)
		ok(t, s.Intend(t.Context(), []blobs.Object{c.upload}))
		ok(t, s.Settle(t.Context(), []blobs.Place{{Object: c.upload, Size: 7, Stored: time.Unix(1_700_000_000, 0)}}))
		if c.upload == c.place && !c.listed {
			ok(t, s.SetNote(t.Context(), "a change that waits for the disk", nil))
		}
		if c.listed {
			garbage, err := s.Garbage(t.Context(), time.Now().Add(time.Minute), 10)
			if err != nil || !slices.Equal(garbage, []blobs.Object{first}) {
				t.Errorf("garbage is %v, %v", garbage, err)
			}
		}
		server.Kill()
		ok(t, s.Close())
		ok(t, server.Start())
		s, err = postgres.Open(t.Context(), postgres.Options{DSN: dsn})
		ok(t, err)
		if p, err := s.Place(t.Context(), ref); err != nil || p.Object != c.place {
			t.Errorf("after %+v the place is %v, %v", c, p.Object, err)
		}
		ok(t, s.Close())
	}
}

// ownServer starts a server that the test may kill.
func ownServer(t *testing.T, settings ...string) *postgrestest.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgres") // not below a folder that only the test's user can enter
	ok(t, err)
	t.Cleanup(func() { ok(t, os.RemoveAll(dir)) })
	server, err := postgrestest.Start(dir, settings...)
	if errors.Is(err, exec.ErrNotFound) && os.Getenv(postgrestest.Required) == "" {
		t.Skip(err)
	}
	ok(t, err)
	t.Cleanup(server.Kill)
	return server
}

// panicNow is the environment variable with which this program starts a server and panics.
const panicNow = "POSTGRESTEST_PANIC"

func TestATestThatPanicsLeavesNoServer(t *testing.T) {
	t.Parallel()
	if os.Getenv(panicNow) != "" {
		server := ownServer(t, "fsync=off")
		fmt.Printf("listens at %s.\n", server.Port())
		go panic("as a test may")
		select {}
	}
	needsOwnServer(t)
	if runtime.GOOS != "linux" {
		t.Skip("a server that lost its parent goes on there")
	}
	dir, err := os.MkdirTemp("", "postgres")
	ok(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // the server may be about to remove the same
	ok(t, os.Chmod(dir, 0o755))
	cmd := exec.Command(os.Args[0], "-test.run=^TestATestThatPanicsLeavesNoServer$")
	cmd.Env = append(os.Environ(), panicNow+"=yes", "TMPDIR="+dir)
	said, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		t.Skipf("there is no server: %s", said)
	case cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 2:
		t.Fatalf("it ends with %v: %s", err, said)
	}
	found := regexp.MustCompile(`listens at ([0-9]+)`).FindSubmatch(said)
	if found == nil {
		t.Fatalf("it says %s", said)
	}
	for until := time.Now().Add(15 * time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("tcp", "127.0.0.1:"+string(found[1]))
		if err != nil {
			return
		}
		ok(t, conn.Close())
		if time.Now().After(until) {
			t.Fatal("its server listens still")
		}
	}
}
