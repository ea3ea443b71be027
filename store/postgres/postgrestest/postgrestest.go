// Package postgrestest starts PostgreSQL servers for tests.
package postgrestest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Required is the environment variable with which tests fail that need a PostgreSQL server
// which is not installed; without it they are skipped.
const Required = "POSTGRES_REQUIRED"

// serverUser is who runs the server when the tests run as root, which PostgreSQL refuses.
const serverUser = 65534

// patience is how long a test waits for the server.
const patience = time.Minute

// Server is a PostgreSQL server on this machine, which trusts everybody.
type Server struct {
	Dir  string // of its data
	port string
	args []string
	cmd  *exec.Cmd
	said bytes.Buffer
}

// Programs is the environment variable that names the folder to take PostgreSQL's programs
// from, instead of PATH and the newest installation. A folder without them hides PostgreSQL.
const Programs = "POSTGRES_BIN"

// find returns the path of one of PostgreSQL's programs, which Debian keeps out of PATH.
func find(program string) (string, error) {
	among := "/usr/lib/postgresql/*/bin"
	if dir := os.Getenv(Programs); dir != "" {
		among = dir
	} else if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	paths, err := filepath.Glob(filepath.Join(among, program))
	if err != nil || len(paths) == 0 {
		return "", fmt.Errorf("needs %s, of a PostgreSQL server: apt-get install postgresql: %w", program, exec.ErrNotFound)
	}
	return slices.Max(paths), nil
}

// asServer runs a command as a user that PostgreSQL takes.
func asServer(cmd *exec.Cmd) *exec.Cmd {
	asUser(cmd)
	return cmd
}

// Start starts a server with an empty database in a folder of its own below dir. Settings
// are lines of postgresql.conf, such as "fsync=off". exec.ErrNotFound when PostgreSQL is not
// installed. Call Kill at the end.
func Start(dir string, settings ...string) (*Server, error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	s := &Server{Dir: filepath.Join(dir, "postgres")}
	if err := os.Mkdir(s.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := own(dir, s.Dir); err != nil {
		return nil, err
	}
	made := asServer(exec.Command(initdb, "--no-sync", "--auth=trust", "--username=attachd", "--encoding=UTF8", "--locale=C", s.Dir))
	if out, err := made.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	s.args = []string{"-D", s.Dir, "-h", "127.0.0.1", "-p", s.port, "-k", s.Dir}
	for _, setting := range settings {
		s.args = append(s.args, "-c", setting)
	}
	return s, s.Start()
}

// Standby makes a copy of the server in a folder of its own below dir, which follows it until
// it is promoted. exec.ErrNotFound when PostgreSQL's programs for that are not installed.
func (s *Server) Standby(dir string) (*Server, error) {
	copying, err := find("pg_basebackup")
	if err != nil {
		return nil, err
	}
	standby := &Server{Dir: filepath.Join(dir, "standby")}
	if err := os.Mkdir(standby.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := own(dir, standby.Dir); err != nil {
		return nil, err
	}
	copied := asServer(exec.Command(copying, "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "--pgdata="+standby.Dir, "--dbname="+s.DSN("")))
	if out, err := copied.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	if standby.port, err = freePort(); err != nil {
		return nil, err
	}
	standby.args = []string{"-D", standby.Dir, "-h", "127.0.0.1", "-p", standby.port, "-k", standby.Dir, "-c", "fsync=off"}
	return standby, standby.Start()
}

// Start starts the server again, after a Kill.
func (s *Server) Start() error {
	postgres, err := find("postgres")
	if err != nil {
		return err
	}
	s.said.Reset()
	s.cmd = asServer(exec.Command(postgres, s.args...))
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	if err := s.cmd.Start(); err != nil {
		return err
	}
	if err := awaitAnswer(s.DSN("postgres")); err != nil {
		s.Kill()
		return fmt.Errorf("PostgreSQL: %w: %s", err, &s.said)
	}
	return nil
}

// awaitAnswer waits until a server answers.
func awaitAnswer(dsn string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it does not answer: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freePort returns a port of this machine at which nothing listens.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port), listener.Close()
}

// Kill ends the server at once, as a crash does.
func (s *Server) Kill() {
	_ = s.cmd.Process.Signal(syscallQuit) // an immediate shutdown; it may have ended
	_ = s.cmd.Wait()                      // reports how it ended
}

// Port is the port at which the server listens on 127.0.0.1.
func (s *Server) Port() string { return s.port }

// DSN names a database of the server.
func (s *Server) DSN(database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("attachd"), Host: "127.0.0.1:" + s.port, Path: database, RawQuery: "sslmode=disable"}).String()
}

// Exec executes a statement in a database.
func (s *Server) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, s.DSN(database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// CreateDatabase makes an empty database, and returns its DSN.
func (s *Server) CreateDatabase(ctx context.Context, name string) (dsn string, err error) {
	conn, err := pgx.Connect(ctx, s.DSN("postgres"))
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "create database "+pgx.Identifier{name}.Sanitize())
	return s.DSN(name), errors.Join(err, conn.Close(ctx))
}

var shared struct {
	sync.Mutex
	*Server
	pooler  *pooler
	err     error
	poolErr error
	dir     string
	last    atomic.Int64
	free    []*reused
}

// server returns the server that the tests of a package share, which does not sync: it must
// not be killed. Main ends it.
func server(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.Server == nil && shared.err == nil {
		if shared.dir, shared.err = os.MkdirTemp("", "postgres"); shared.err == nil {
			shared.Server, shared.err = Start(shared.dir, "fsync=off", "full_page_writes=off", "max_connections=500", "autovacuum=off")
		}
	}
	need(t, shared.err)
	return shared.Server
}

// need skips the test where a program is missing, unless it is required, and fails it after
// another error.
func need(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv(Required) == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// Database returns the DSN of an empty database for one test, on a server that the tests of
// a package share.
func Database(t testing.TB) (dsn string) {
	t.Helper()
	dsn, err := server(t).CreateDatabase(t.Context(), "test"+strconv.FormatInt(shared.last.Add(1), 10))
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// Main runs the tests of a package, and ends the servers that they shared.
func Main(m *testing.M) {
	code := m.Run()
	if err := End(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}
