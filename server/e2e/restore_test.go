//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"attachd/blobs/s3/s3test"
	"attachd/store/postgres/postgrestest"
)

// kinds are those of installations: with the embedded database and files on the disk or in a
// bucket, and with PostgreSQL and a bucket.
var kinds = []string{"disk", "s3", "postgres"}

// location is where an installation of a kind is, or can be.
type location struct{ dir, config string }

// newLocation is empty.
func newLocation(t *testing.T, g *s3test.Gateway, kind string) location {
	t.Helper()
	p := location{filepath.Join(spoiledDir(t), "data"), filepath.Join(t.TempDir(), "config.toml")}
	text := fmt.Sprintf("data_dir = %q\n[directory]\nauto_create = true\n", p.dir)
	if kind == "postgres" {
		text += fmt.Sprintf("[metadata]\nbackend = \"postgres\"\ndsn = %q\n", postgrestest.Database(t))
	}
	if kind != "disk" {
		text += bucketConfig(g, uuid.NewString()+"/")
	}
	write(t, p.config, text)
	return p
}

// run runs a command with the configuration of the location.
func (p location) run(t *testing.T, words ...string) string {
	t.Helper()
	return ok(t, append(words, "--config", p.config)...)
}

func (p location) serve(t *testing.T, words ...string) *process {
	t.Helper()
	env, rest := split(words)
	return start(t, p.dir, slices.Concat(env, []string{proxied, "--config", p.config}, rest)...)
}

// seen is what callers see of an installation: answers to requests by their paths, and the
// files, which they list.
func (p *process) seen() map[string]string {
	p.t.Helper()
	seen := map[string]string{}
	for list, file := range map[string]string{
		product: "/catalog/attachments/%s/download",
		"/issues/tickets/550e8400-e29b-41d4-a716-446655440001": "/issues/attachments/%s",
		"/meetings/550e8400-e29b-41d4-a716-446655440003":       "/meetings/550e8400-e29b-41d4-a716-446655440003/attachments/%s",
	} {
		list += "/attachments?limit=1000"
		a := p.get(list).want(p.t, 200)
		seen[list] = a.body
		var files []attachment
		a.into(p.t, &files)
		for _, f := range files {
			path := fmt.Sprintf(file, f.ID)
			seen[path] = p.get(path).want(p.t, 200).body
		}
	}
	for _, path := range []string{"/users/me", "/directory/users", "/directory/spaces", "/directory/spaces/analytics", "/directory/spaces/analytics/members",
		"/directory/spaces/analytics/products", "/directory/tickets", "/directory/tickets/550e8400-e29b-41d4-a716-446655440001/comments", "/directory/meetings"} {
		seen[path] = p.get(path).want(p.t, 200).body
	}
	return seen
}

// link makes a link that anybody can follow, and returns its path.
func (p *process) link(download string) string {
	p.t.Helper()
	var doc document
	check(p.t, json.Unmarshal([]byte(p.call(p.key, "POST", strings.TrimSuffix(download, "/download")+"/links", strings.NewReader("{}")).want(p.t, 201).body), &doc))
	return strings.TrimPrefix(doc.DownloadURL, p.url)
}

var auditHead = regexp.MustCompile(`(?m)^head (\S+)$`)

func TestABackupOfEachKindIsRestoredIntoEach(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	postgrestest.Database(t) // without PostgreSQL, it is skipped as a whole
	for _, from := range kinds {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			here, to := newLocation(t, g, from), filepath.Join(t.TempDir(), "backup")
			server := here.serve(t, "--demo")
			server.uploadAll(numbered("file", 10)...)
			server.upload(product, "large.txt", contentOf("large.txt")).want(t, 201)
			server.remove(server.upload(product, "gone.txt", saying("gone.txt")).want(t, 201).download()).want(t, 200)
			first := here.run(t, "backup", to)
			late := server.upload(product, "late.txt", saying("late.txt")).want(t, 201)
			link := server.link(late.download())
			seen, head := server.seen(), auditHead.FindStringSubmatch(here.run(t, "audit", "verify"))
			second := here.run(t, "backup", to, "--keep", "2")
			if !strings.Contains(first, " contents, ") || !strings.Contains(second, "of which 1 content, ") {
				t.Errorf("the backups say %s%s", first, second)
			}
			point := madePoint.FindStringSubmatch(second)[1]
			server.uploadAll("later.txt")
			if said := ok(t, "backup", "verify", to); !strings.HasPrefix(said, "2 restore points, ") || !strings.HasSuffix(said, ": no faults\n") {
				t.Errorf("verify says %s", said)
			}
			if stats := server.get("/stats").want(t, 200).body; strings.Contains(stats, `"last_backup":null`) {
				t.Errorf("no backup was noted: %s", stats)
			}
			server.stop()
			for _, into := range kinds {
				t.Run(into, func(t *testing.T) {
					there := newLocation(t, g, into)
					there.restore(t, into, to, "--point", point)
					if said := there.run(t, "check", "--deep"); !strings.Contains(said, "no faults") {
						t.Errorf("check says %s", said)
					}
					there.run(t, "audit", "verify", "--head", head[1])
					if said := refused(t, 1, "restore", to, "--config", there.config); !strings.Contains(said, "empty") {
						t.Errorf("once more, restore says %s", said)
					}
					again := there.serve(t)
					again.key = server.key
					if found := again.seen(); !maps.Equal(found, seen) {
						for path, body := range seen {
							if found[path] != body {
								t.Errorf("%s was\n%.2000s\nand is\n%.2000s", path, body, found[path])
							}
						}
						t.Errorf("%d answers were seen, and %d are", len(seen), len(found))
					}
					if a := anonymous(t).call("", "GET", again.url+link, nil).want(t, 200); a.body != saying("late.txt") {
						t.Errorf("the link leads to %.40q", a.body)
					}
					again.uploadAll("new.txt")
					there.run(t, "backup", to)
				})
			}
		})
	}
}

// restore restores a backup, as an operator does it who wants files in the location that the
// configuration names.
func (p location) restore(t *testing.T, kind, from string, words ...string) {
	t.Helper()
	said := p.run(t, append([]string{"restore", from}, words...)...)
	if kind != "s3" {
		return
	}
	if !strings.Contains(said, "`attachd migrate` moves them into a bucket") {
		t.Errorf("restore says %s", said)
	}
	ok(t, "migrate", "--to", p.config, "--data-dir", p.dir)
}

// What is deleted while a backup runs beside servers is in the backup, if it was there when
// the records were read, and goes away afterwards.
func TestABackupOfPostgreSQLIsWholeWhilePeopleUploadAndDelete(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	here, to := newLocation(t, g, "postgres"), filepath.Join(t.TempDir(), "backup")
	server := here.serve(t)
	server.uploadAll(numbered("there", 40)...)
	var people, begun sync.WaitGroup
	var stop atomic.Bool
	for who := range 3 {
		begun.Add(1)
		people.Go(func() {
			for n := 0; !stop.Load(); n++ {
				name := fmt.Sprintf("passing-%d-%d.txt", who, n)
				a := server.upload(product, name, saying(name)).want(t, 201)
				server.call(server.key, "DELETE", strings.TrimSuffix(a.download(), "/download")+"?permanent=true", nil).want(t, 200)
				if n == 0 {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	for range 3 {
		here.run(t, "backup", to)
	}
	stop.Store(true)
	people.Wait()
	if said := ok(t, "backup", "verify", to); !strings.HasPrefix(said, "3 restore points, ") || !strings.HasSuffix(said, ": no faults\n") {
		t.Errorf("verify says %s", said)
	}
	there := newLocation(t, g, "disk")
	there.run(t, "restore", to)
	if said := there.run(t, "check", "--deep"); !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
	here.run(t, "gc", "--min-age", "0s")
	if said := here.run(t, "check"); !strings.HasPrefix(said, "40 attachments, 40 contents, ") || !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
}

// A restore that was killed is continued, and nothing starts with what is unfinished.
func TestARestoreIntoPostgreSQLIsContinuedAfterAKill(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	here, there, to := newLocation(t, g, "disk"), newLocation(t, g, "postgres"), filepath.Join(t.TempDir(), "backup")
	server := here.serve(t)
	for _, name := range numbered("large", 60) {
		server.upload(product, name, strings.Repeat(saying(name), 400)).want(t, 201)
	}
	here.run(t, "backup", to)
	before := len(g.Objects())
	cmd := command(t, "restore", to, "--config", there.config)
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir()) // a killed command leaves a folder there
	check(t, cmd.Start())
	eventually(t, "some contents are in the bucket", func() bool { return len(g.Objects()) > before+3 })
	check(t, cmd.Process.Signal(syscall.SIGKILL))
	if err := cmd.Wait(); err == nil {
		t.Fatal("it was quicker than the kill")
	}
	for _, words := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"check"}, {"backup", filepath.Join(t.TempDir(), "other")}} {
		if said := refused(t, 1, append(words, "--config", there.config)...); !strings.Contains(said, "`attachd restore` again") {
			t.Errorf("%s says %s", words[0], said)
		}
	}
	there.run(t, "restore", to)
	if said := there.run(t, "check", "--deep"); !strings.HasPrefix(said, "60 attachments, 60 contents, ") || !strings.Contains(said, "no faults") || strings.Contains(said, "gc") {
		t.Errorf("check says %s", said)
	}
}

// What a backup has lost is not restored by halves, unless that is asked for.
func TestADamagedBackupComesIntoPostgreSQLOnlyDespiteTheDamage(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	here, there, to := newLocation(t, g, "disk"), newLocation(t, g, "postgres"), filepath.Join(t.TempDir(), "backup")
	server := here.serve(t, filesAtOnce)
	server.uploadAll("kept.txt")
	lost := server.upload(product, "lost.txt", saying("lost.txt")).want(t, 201)
	here.run(t, "backup", to)
	write(t, blobFile(to, digest(lost)), strings.ToUpper(saying("lost.txt")))
	secrets, err := filepath.Glob(filepath.Join(to, "points", "*", "secret.key"))
	check(t, err)
	check(t, os.Remove(secrets[0]))
	if said := refused(t, 3, "restore", to, "--config", there.config); !strings.Contains(said, "--despite-damage") {
		t.Errorf("restore says %s", said)
	}
	refused(t, 1, "check", "--config", there.config)
	r := attachd(t, "restore", to, "--config", there.config, "--despite-damage")
	if r.code != 3 || !strings.Contains(r.stdout, `("lost.txt")`) || !strings.Contains(r.stdout, "makes new keys that sign links") || !strings.Contains(r.stdout, "restored restore point ") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	again := there.serve(t)
	again.key = server.key
	var files []attachment
	again.get(product+"/attachments").want(t, 200).into(t, &files)
	if len(files) != 2 {
		t.Fatalf("there are %v", files)
	}
	for _, f := range files {
		status := map[string]int{"kept.txt": 200, "lost.txt": 500}[f.FileName]
		again.get("/catalog/attachments/"+f.ID+"/download").want(t, status)
	}
	again.upload(product, "lost.txt", saying("lost.txt")).want(t, 201) // repairs it
	for _, f := range files {
		again.get("/catalog/attachments/"+f.ID+"/download").want(t, 200)
	}
}
