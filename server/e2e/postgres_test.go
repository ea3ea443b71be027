//go:build unix

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// withPostgres writes a configuration with records in a PostgreSQL database at an address, and
// returns it and its data directory.
func withPostgres(t *testing.T, address string) (file, dir string) {
	t.Helper()
	folder := t.TempDir()
	file, dir = filepath.Join(folder, "postgres.toml"), filepath.Join(folder, "data")
	write(t, file, fmt.Sprintf("data_dir = %q\n[metadata]\nbackend = \"postgres\"\ndsn = \"postgres://attachd@%s/attachd\"\n[storage]\nbackend = \"s3\"\ns3_endpoint = \"http://127.0.0.1:1\"\ns3_bucket = \"bucket\"\n", dir, address))
	return file, dir
}

// What is not possible with PostgreSQL is refused before anything is looked at, with what to do
// instead.
func TestBackupAndRestoreSayWhatToDoWhereTheRecordsAreInPostgreSQL(t *testing.T) {
	t.Parallel()
	file, _ := withPostgres(t, "127.0.0.1:1")
	for command, says := range map[string][]string{
		"backup":  {"point-in-time recovery", "storage.keep_deleted", "attachd docs backup"},
		"restore": {"into a data directory", "another data_dir", "`attachd migrate`"},
	} {
		said := refused(t, 1, command, filepath.Join(t.TempDir(), "backup"), "--config", file)
		for _, what := range says {
			if !strings.Contains(said, what) {
				t.Errorf("%s does not say %q: %s", command, what, said)
			}
		}
	}
}

func TestRecordsAreNotMovedWhereTheNewServerWouldHaveTheOldDataDirectory(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.txt", "a").want(t, 201)
	file, _ := withPostgres(t, "127.0.0.1:1")
	write(t, file, strings.Replace(read(t, file), "data_dir = ", fmt.Sprintf("data_dir = %q # ", server.dir+"/."), 1))
	if said := refused(t, 2, "migrate", "--to", file, "--data-dir", server.dir); !strings.Contains(said, "name another one there") {
		t.Errorf("it says %s", said)
	}
	server.upload(product, "b.txt", "b").want(t, 201)
}

// A service manager that stops a server which waits for its database is told of no failure,
// whether nothing listens or nothing answers.
func TestAServerThatWaitsForItsDatabaseEndsWhenItIsTold(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer silent.Close()
	called := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			called <- conn // open until the test ends
		}
	}()
	for _, address := range []string{"127.0.0.1:1", silent.Addr().String()} {
		file, _ := withPostgres(t, address)
		cmd := command(t, "serve", "--config", file, "--listen", "127.0.0.1:0")
		stderr, err := cmd.StderrPipe()
		check(t, err)
		check(t, cmd.Start())
		lines := bufio.NewScanner(stderr)
		if address == "127.0.0.1:1" {
			if lines.Scan(); !strings.Contains(lines.Text(), "waiting for it") {
				t.Errorf("its first line is %s", lines.Text())
			}
		} else {
			(<-called).Close() // the first connection; the next one hangs
			defer (<-called).Close()
		}
		check(t, cmd.Process.Signal(syscall.SIGTERM))
		said := ""
		for lines.Scan() {
			said += lines.Text() + "\n"
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(said, "stopped while the database was waited for") {
			t.Errorf("told to stop, it ends with %v and says %s", err, said)
		}
	}
}
