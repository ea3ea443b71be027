//go:build unix

package e2e

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"attachd/blobs/s3/s3test"
	"attachd/server/e2e/nginx"
)

// From one machine to two replicas behind nginx, one of which is killed meanwhile, and back to
// one machine, as an operator does it who types what is printed.
func TestTheManualMakesTwoReplicasOfOneServerAndBack(t *testing.T) {
	t.Parallel()
	if !*withReplicas {
		t.Skip("it needs PostgreSQL, versitygw and nginx; run it with: go test ./server/e2e -run Replicas -replicas")
	}
	g, dir := s3test.Versitygw(t), spoiledDir(t)
	check(t, os.Symlink(binary(), filepath.Join(dir, "attachd")))
	ports := map[string]string{"8080": nginx.FreePort(t), "8081": nginx.FreePort(t), "8082": nginx.FreePort(t), "5432": printedSuperuser(t)}
	here := []string{"127.0.0.1:7070", g.Host("127.0.0.1"), "ACCESS-KEY", s3test.GatewayKey, "SECRET-KEY", s3test.GatewaySecret, "in 8081 8082;", "in " + ports["8081"] + " " + ports["8082"] + ";"}
	for printed, port := range ports {
		here = append(here, "127.0.0.1:"+printed, "127.0.0.1:"+port)
	}
	page := filepath.Join(t.TempDir(), "page.md")
	write(t, page, adapted(t, read(t, "../../docs/beyond-one-machine.md"), here...))
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(read(t, page), -1)
	if len(blocks) != 6 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	t.Cleanup(func() { killNoted(t, dir) })
	run := func(n int) string {
		t.Helper()
		cmd := exec.Command("sh", "-ec", blocks[n][1])
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", blocks[n][1], err, out)
		}
		return string(out)
	}
	server := start(t, filepath.Join(dir, "data"), proxied, "--demo")
	key := server.key
	download := server.upload(product, "a.txt", saying("a.txt")).want(t, 201).download()
	run(0)
	if said := run(1); said != "The configuration is good.\n" {
		t.Errorf("config check says %s", said)
	}
	asPrinted(t, run(2), printed(t, page, "text"))
	server.stop()
	if said := run(3); strings.Count(said, `"ready"`) != 2 {
		t.Errorf("not both are ready: %s", said)
	}
	through := startNginx(t, "127.0.0.1:"+ports["8080"], key, printed(t, page, "nginx"))
	before := through.get(product + "/attachments").body
	if !strings.Contains(before, `"a.txt"`) {
		t.Errorf("the replicas list %s", before)
	}
	if said := run(4); !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
	if said := run(5); !strings.Contains(said, "moved the records of ") || !strings.Contains(said, "no faults") {
		t.Errorf("it says %s", said)
	}
	alone := start(t, filepath.Join(dir, "alone"), "--config", filepath.Join(dir, "alone.toml"))
	alone.key = key
	if a := alone.get(download).want(t, 200); a.body != saying("a.txt") {
		t.Errorf("the file is %.40q", a.body)
	}
	list := alone.get(product+"/attachments?limit=100").want(t, 200).body
	for n := 1; n <= 8; n++ {
		if name := strconv.Itoa(n) + ".txt"; strings.Count(list, `"`+name+`"`) != 1 {
			t.Errorf("%s is not there once: %s", name, list)
		}
	}
}

// printedSuperuser starts a database server with the superuser that documents name, and
// returns its port.
func printedSuperuser(t *testing.T) string {
	t.Helper()
	database := databaseServer(t)
	check(t, database.Exec(t.Context(), "postgres", "create role postgres superuser login"))
	at, err := url.Parse(database.DSN("postgres"))
	check(t, err)
	renamed, err := exec.Command("psql", "postgres://postgres@"+at.Host+"/postgres", "-c", "alter role attachd rename to first").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, renamed)
	}
	return at.Port()
}

// asPrinted checks that a command says what is printed, but for numbers and times.
func asPrinted(t *testing.T, said, printed string) {
	t.Helper()
	without := func(text string) string {
		return regexp.MustCompile(`[0-9][0-9.]*(ms|µs|s)?\b`).ReplaceAllString(text, "N")
	}
	if without(said) != without(printed) {
		t.Errorf("it says\n%sand the page\n%s", said, printed)
	}
}

// killNoted ends the processes whose ids were written to a folder.
func killNoted(t *testing.T, dir string) {
	noted, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	check(t, err)
	for _, file := range noted {
		id, err := strconv.Atoi(strings.TrimSpace(read(t, file)))
		check(t, err)
		_ = syscall.Kill(id, syscall.SIGKILL) // it has ended, unless the test failed
		if log, err := os.ReadFile(strings.TrimSuffix(file, ".pid") + ".log"); err == nil && t.Failed() {
			t.Logf("%s:\n%s", file, log)
		}
	}
}

var (
	variable      = regexp.MustCompile(`ATTACHD_[A-Z0-9_]+`)
	variableIsSet = regexp.MustCompile(`(?m)^ +(ATTACHD_[A-Z0-9_]+): "([^"]*)"(?: #.*)?$`)
)

// What the Compose file and the manifest set is a configuration of two replicas that attachd
// takes. Only the files that they mount are others here.
func TestTheConfigurationsOfContainersAreGood(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct{ document, mounted string }{
		{"../../packaging/compose.yml", "/run/secrets"},
		{"../../packaging/kubernetes.yml", "/etc/attachd/secrets"},
	} {
		text := read(t, c.document)
		env := []string{}
		for _, m := range variableIsSet.FindAllStringSubmatch(text, -1) {
			value := strings.Replace(m[2], c.mounted, dir, 1)
			if m[1] == "ATTACHD_STORAGE_S3_CA_FILE" {
				value = newCertificate(t, dir, "authority").cert
			}
			env = append(env, m[1]+"="+value)
		}
		if named := variable.FindAllString(text, -1); len(env) < 8 || len(named) != len(env) {
			t.Errorf("%s sets %d of the variables that it names: %v", c.document, len(env), named)
		}
		dsn := regexp.MustCompile(`postgres://[^" \n]+`).FindString(text)
		write(t, filepath.Join(dir, "dsn"), strings.ReplaceAll(dsn, "/etc/attachd/authorities/ca.pem", filepath.Join(dir, "authority.pem")))
		write(t, filepath.Join(dir, "s3-secret"), "SECRET-KEY")
		r := attachd(t, append(env, "config", "check")...)
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%s: %s%s", c.document, r.stdout, r.stderr)
		}
		if shown := ok(t, append(env, "config", "show")...); !strings.Contains(shown, "backend = 'postgres'") || !strings.Contains(shown, "backend = 's3'") {
			t.Errorf("%s configures\n%s", c.document, shown)
		}
	}
}
