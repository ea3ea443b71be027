//go:build unix

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"attachd/store/postgres/postgrestest"
)

// databaseServer returns a PostgreSQL server for one test.
func databaseServer(t *testing.T) *postgrestest.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "attachd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	server, err := postgrestest.Start(dir, "fsync=off", "full_page_writes=off")
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv(postgrestest.Required) == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

// database returns the DSN of an empty PostgreSQL database on a server of its own.
func database(t *testing.T) string {
	t.Helper()
	dsn, err := databaseServer(t).CreateDatabase(t.Context(), "attachd")
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// moveRecords is a move whose installations are in data directories of their own: "disk" and
// "s3" with the embedded database, "postgres" with PostgreSQL and a bucket.
type moveRecords struct {
	*move
	dirs map[string]string
}

func newMoveRecords(t *testing.T) *moveRecords {
	m := &moveRecords{newMove(t), map[string]string{}}
	m.dirs["disk"] = m.dir
	folder := t.TempDir()
	bucket := read(t, m.configs["s3"])
	for name, text := range map[string]string{
		"postgres": fmt.Sprintf("[metadata]\nbackend = \"postgres\"\ndsn = %q\n%s", database(t), bucket),
		"s3":       bucket,
		"back":     "[storage]\nbackend = \"disk\"\n",
	} {
		m.dirs[name] = filepath.Join(spoiledDir(t), name)
		m.configs[name] = filepath.Join(folder, name+".toml")
		write(t, m.configs[name], fmt.Sprintf("data_dir = %q\n%s", m.dirs[name], text))
	}
	return m
}

// to moves everything, while people work or not, and goes on there.
func (m *moveRecords) to(from, to string, peopleWork bool) {
	m.t.Helper()
	stop := func() {}
	if peopleWork {
		stop = m.work("to-" + to)
	}
	migrate := []string{"migrate", "--to", m.configs[to], "--data-dir", m.dirs[from], "--config", m.configs[from]}
	said := ok(m.t, migrate...)
	stop()
	m.t.Logf("%d uploads and deletions so far, %d refused; %s", m.done.Load(), m.refused.Load(), said)
	if !strings.HasPrefix(said, "moved the records of ") {
		m.t.Errorf("it says %s", said)
	}
	for name, path := range m.files { // reads go on, and changes do not
		if m.get(path).want(m.t, 200).body != contentOf(name) {
			m.t.Errorf("%s is not served from the old place", name)
		}
		m.upload(product, "late.txt", "late").want(m.t, 503)
		m.call(m.key, "PUT", "/directory/users/550e8400-e29b-41d4-a716-446655440099", strings.NewReader(`{"full_name":"Late"}`)).want(m.t, 503)
		break
	}
	m.stop()
	m.dir = m.dirs[from]
	m.isElsewhere(from)
	if again := ok(m.t, migrate...); !strings.HasPrefix(again, "everything has been moved") { // as after a kill at the end
		m.t.Errorf("once more, it says %s", again)
	}
	m.dir = m.dirs[to]
	m.goOn(to)
}

// goOn starts the installation to which everything was moved.
func (m *moveRecords) goOn(to string) {
	m.t.Helper()
	key := m.key
	m.serve(to)
	m.key = key // which is in the old data directory
	m.hasAll(to)
	m.tryPut("after-" + to + ".txt")
}

func TestEverythingMovesFromTheDiskIntoPostgreSQLAndBackWhilePeopleWork(t *testing.T) {
	t.Parallel()
	m := newMoveRecords(t)
	m.tryPutAll(append(numbered("there", 30), numbered("large", 5)...))
	m.tryPut("held.txt")
	held := m.files["held.txt"]
	id := strings.Split(strings.TrimPrefix(held, "/catalog/attachments/"), "/")[0]
	var hold struct{ ID string }
	set := m.call(m.key, "POST", "/holds", strings.NewReader(fmt.Sprintf(`{"on":{"kind":"attachment","id":%q},"reason":"Case 4711"}`, id))).want(t, 201)
	check(t, json.Unmarshal([]byte(set.body), &hold))
	for _, way := range [][2]string{{"disk", "postgres"}, {"postgres", "back"}} {
		m.to(way[0], way[1], true)
		m.remove(held).want(t, 409)
	}
	m.call(m.key, "DELETE", "/holds/"+hold.ID, nil).want(t, 200)
	m.remove(held).want(t, 200)
}

func TestRecordsMoveIntoPostgreSQLAndBackWhileFilesStayInTheirBucket(t *testing.T) {
	t.Parallel()
	m := newMoveRecords(t)
	m.stop()
	m.dir = m.dirs["s3"]
	m.serve("s3")
	m.tryPutAll(append(numbered("there", 30), numbered("large", 5)...))
	m.to("s3", "postgres", false)
	m.dirs["s3"] += "-again"
	write(t, m.configs["s3"], strings.Replace(read(t, m.configs["s3"]), "/s3\"", "/s3-again\"", 1))
	m.to("postgres", "s3", false)
	eventually(t, "the bucket has what records need, and nothing else", func() bool { return len(m.store.Objects()) == len(m.files) })
}

// A migration out of PostgreSQL whose process was killed leaves the servers refusing changes,
// until it is given up.
func TestAKilledMigrationOutOfPostgreSQLIsGivenUp(t *testing.T) {
	t.Parallel()
	m := newMoveRecords(t)
	m.stop()
	m.dir = m.dirs["postgres"]
	m.serve("postgres")
	m.tryPutAll(numbered("there", 5))
	lock, err := pgx.Connect(t.Context(), dsnIn(t, m.configs["postgres"]))
	check(t, err)
	defer lock.Close(t.Context())
	begun, err := lock.Begin(t.Context())
	check(t, err)
	_, err = begun.Exec(t.Context(), "lock table attachd.holds in access exclusive mode") // the last table that is frozen
	check(t, err)
	giveUp := []string{"migrate", "--give-up", "--config", m.configs["postgres"]}
	cmd := command(t, "migrate", "--to", m.configs["back"], "--config", m.configs["postgres"])
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()) // a killed command leaves a folder there
	check(t, cmd.Start())
	n := 0
	eventually(t, "changes are refused", func() bool { n++; return !m.tryPut(fmt.Sprintf("meanwhile-%d.txt", n)) })
	if said := refused(t, 1, giveUp...); !strings.Contains(said, "A migration is under way") {
		t.Errorf("while it runs, giving up says %s", said)
	}
	check(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	check(t, begun.Rollback(t.Context()))
	m.upload(product, "late.txt", "late").want(t, 503)
	m.examined("postgres", "problem  database: All changes are refused")
	eventually(t, "it is given up", func() bool { return attachd(t, giveUp...).code == 0 })
	if !m.tryPut("late.txt") {
		t.Error("an upload is refused after that")
	}
	m.call(m.key, "PUT", "/directory/users/550e8400-e29b-41d4-a716-446655440099", strings.NewReader(`{"full_name":"Late"}`)).want(t, 201)
	ok(t, giveUp...) // changes nothing
	m.remove(m.upload(product, "later.txt", "later").want(t, 201).download()).want(t, 200)
	if said := refused(t, 1, "serve", "--listen", "127.0.0.1:0", "--config", m.configs["back"]); !strings.Contains(said, "elsewhere") {
		t.Errorf("a server over the new place says %s", said)
	}
	m.to("postgres", "back", false) // another time
	if said := refused(t, 1, giveUp...); !strings.Contains(said, "elsewhere") {
		t.Errorf("after the move, giving up says %s", said)
	}
}

// dsnIn is the DSN of a configuration.
func dsnIn(t *testing.T, config string) string {
	t.Helper()
	return regexp.MustCompile(`(?m)^dsn = "(.*)"$`).FindStringSubmatch(read(t, config))[1]
}
