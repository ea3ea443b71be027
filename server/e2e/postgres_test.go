//go:build unix

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// withPostgres writes a configuration with records in a PostgreSQL database at an address.
func withPostgres(t *testing.T, address string) (file string) {
	t.Helper()
	folder := t.TempDir()
	file = filepath.Join(folder, "postgres.toml")
	write(t, file, fmt.Sprintf("data_dir = %q\n[metadata]\nbackend = \"postgres\"\ndsn = \"postgres://attachd@%s/attachd\"\n[storage]\nbackend = \"s3\"\ns3_endpoint = \"http://127.0.0.1:1\"\ns3_bucket = \"bucket\"\n", filepath.Join(folder, "data"), address))
	return file
}

// A backup of a database that is away leaves nothing behind.
func TestNoBackupIsBegunWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	file, to := withPostgres(t, "127.0.0.1:1"), filepath.Join(t.TempDir(), "backup")
	if said := refused(t, 1, "backup", to, "--config", file); !strings.Contains(said, "the database is away") {
		t.Errorf("backup says %s", said)
	}
	if said := refused(t, 1, "restore", to, "--config", file); !strings.Contains(said, "no backup of attachd") {
		t.Errorf("restore says %s", said)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a folder was made")
	}
}

// As with a data directory, a mistyped name of a database must not become an installation.
func TestNoCommandBeginsAnInstallationInADatabaseThatMustHaveOne(t *testing.T) {
	t.Parallel()
	dsn := database(t)
	file := withPostgres(t, "127.0.0.1:1")
	write(t, file, "require_existing = true\n"+regexp.MustCompile(`(?m)^dsn = .*$`).ReplaceAllString(read(t, file), fmt.Sprintf("dsn = %q", dsn)))
	for _, words := range [][]string{{"user", "add", "Ada"}, {"user", "list"}, {"serve", "--listen", "127.0.0.1:0"}, {"check"}, {"backup", filepath.Join(t.TempDir(), "backup")}} {
		if said := refused(t, 1, append(words, "--config", file)...); !strings.Contains(said, "no installation") || !strings.Contains(said, "attachd init") {
			t.Errorf("%q says %s", words, said)
		}
	}
	for _, says := range []string{"prepared the database", "nothing was changed"} {
		if said := ok(t, "init", "--config", file); !strings.Contains(said, says) {
			t.Errorf("init does not say %q: %s", says, said)
		}
	}
	ok(t, "user", "add", "Ada", "--config", file)
}

func TestTheDoctorSaysThatADataDirectoryIsOfTheOtherKind(t *testing.T) {
	t.Parallel()
	file := withPostgres(t, "127.0.0.1:1")
	dir := filepath.Join(filepath.Dir(file), "data")
	ok(t, "init", "--data-dir", dir)
	for marker, c := range map[string]struct {
		says string
		more []string
	}{
		"attachd.db":   {"not in PostgreSQL", []string{"--config", file}},
		"attachd.lock": {"records are in PostgreSQL", nil},
	} {
		write(t, filepath.Join(dir, marker), "")
		said := attachd(t, append([]string{"doctor", "--data-dir", dir}, c.more...)...).stdout
		if !strings.Contains(said, "problem  data directory: The server does not start: ") || !strings.Contains(said, c.says) || strings.Contains(said, "attachd restore") {
			t.Errorf("beside %s it says %s", marker, said)
		}
		check(t, os.Remove(filepath.Join(dir, marker)))
	}
}

// ASVS 13.3.1
func TestTheFileWithTheNameOfADatabaseIsClosedToOthersAndItsPasswordInNoOutput(t *testing.T) {
	t.Parallel()
	file := withPostgres(t, "127.0.0.1:1")
	secret := filepath.Join(filepath.Dir(file), "dsn")
	write(t, secret, "host=127.0.0.1 port=1 user=attachd password='open sesame' connect_timeout=1\n")
	write(t, file, regexp.MustCompile(`(?m)^dsn = .*$`).ReplaceAllString(read(t, file), fmt.Sprintf("dsn_file = %q", secret)))
	check(t, os.Chmod(secret, 0o644))
	for _, words := range [][]string{{"serve"}, {"init"}, {"user", "list"}} {
		if said := refused(t, 1, append(words, "--config", file)...); !strings.Contains(said, "metadata.dsn_file: ") || !strings.Contains(said, "chmod") {
			t.Errorf("%q says %s", words, said)
		}
	}
	check(t, os.Chmod(secret, 0o600))
	for _, words := range [][]string{{"user", "list"}, {"check"}, {"init"}} {
		if said := refused(t, 1, append(words, "--config", file)...); !strings.Contains(said, "database is away") || strings.Contains(said, "sesame") {
			t.Errorf("%q says %s", words, said)
		}
	}
	if said := ok(t, "config", "show", "--config", file) + attachd(t, "doctor", "--config", file).stdout; strings.Contains(said, "sesame") {
		t.Errorf("the password is in %s", said)
	}
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
		file := withPostgres(t, address)
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
