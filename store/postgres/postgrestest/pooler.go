package postgrestest

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// pooler is a pgbouncer before a server.
type pooler struct {
	port string
	cmd  *exec.Cmd
	said bytes.Buffer
}

// poolerConfig has pgbouncer hand out a connection for a transaction, of few, so that each
// client gets those of others. It is told the port to listen at, and that of the server.
const poolerConfig = `[databases]
* = host=127.0.0.1 port=%[2]s user=attachd
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %[1]s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 1000
`

// startPooler starts a pgbouncer with its files below dir.
func startPooler(dir, serverPort string) (*pooler, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer" // which may not be in the PATH
		if _, err := os.Stat(program); err != nil {
			return nil, fmt.Errorf("needs pgbouncer: apt-get install pgbouncer: %w", exec.ErrNotFound)
		}
	}
	p := &pooler{}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	folder := filepath.Join(dir, "pgbouncer")
	file := filepath.Join(folder, "pgbouncer.ini")
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, fmt.Appendf(nil, poolerConfig, p.port, serverPort), 0o644); err != nil {
		return nil, err
	}
	if err := own(dir, folder); err != nil {
		return nil, err
	}
	p.cmd = asServer(exec.Command(program, file))
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := awaitAnswer(p.through(fmt.Sprintf("postgres://attachd@127.0.0.1:%s/postgres?sslmode=disable&default_query_exec_mode=exec", serverPort))); err != nil {
		p.kill()
		return nil, fmt.Errorf("pgbouncer: %w: %s", err, &p.said)
	}
	return p, nil
}

// kill ends the pooler.
func (p *pooler) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // reports how it ended
}

// through returns a DSN with the pooler between.
func (p *pooler) through(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic(err) // it is one of ours
	}
	u.Host = "127.0.0.1:" + p.port
	return u.String()
}

// Pooled returns the DSN of a database with a pgbouncer in transaction mode between, which
// the tests of a package share.
func Pooled(t testing.TB, dsn string) string {
	t.Helper()
	port := server(t).Port()
	shared.Lock()
	defer shared.Unlock()
	if shared.pooler == nil && shared.poolErr == nil {
		shared.pooler, shared.poolErr = startPooler(shared.dir, port)
	}
	need(t, shared.poolErr)
	return shared.pooler.through(dsn)
}
