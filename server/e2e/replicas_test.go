//go:build unix

package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"attachd/blobs/s3/s3test"
	"attachd/server/e2e/nginx"
	"attachd/store/postgres/postgrestest"
)

var withReplicas = flag.Bool("replicas", false, "run several servers over one PostgreSQL database and one bucket, behind nginx, also as docs/beyond-one-machine.md prints it; PostgreSQL, versitygw and nginx must be installed")

// cluster is what replicas share: a database and a bucket.
type cluster struct {
	t   *testing.T
	env []string
}

func newCluster(t *testing.T, more ...string) *cluster {
	t.Helper()
	if !*withReplicas {
		t.Skip("it needs PostgreSQL, versitygw and nginx; run it with: go test ./server/e2e -run Replicas -replicas")
	}
	g := s3test.Versitygw(t)
	return &cluster{t, slices.Concat(inBucket(g, "ATTACHD_METADATA_BACKEND=postgres", "ATTACHD_METADATA_DSN="+postgrestest.Database(t)), more)}
}

// start starts a replica at an address, with a data directory of its own.
func (c *cluster) start(dir, listen string) *process {
	c.t.Helper()
	return startCommand(c.t, dir, command(c.t, slices.Concat(c.env, []string{"serve", "--data-dir", dir, "--listen", listen})...))
}

// together starts replicas at the same time.
func (c *cluster) together(n int) []*process {
	c.t.Helper()
	all := make([]*process, n)
	var starting sync.WaitGroup
	for i := range all {
		dir := c.t.TempDir()
		starting.Go(func() { all[i] = c.start(dir, "127.0.0.1:0") })
	}
	starting.Wait()
	if slices.Contains(all, nil) {
		c.t.FailNow() // the one that did not start has said why
	}
	return all
}

func TestReplicasThatStartTogetherMakeOneInstallation(t *testing.T) {
	t.Parallel()
	all := newCluster(t).together(4)
	var keys []string
	for _, p := range all {
		if p.key != "" {
			keys = append(keys, p.key)
		}
	}
	if len(keys) != 1 {
		t.Fatalf("%d of 4 have made a file with the key of the first superadmin", len(keys))
	}
	var links []string
	for i, p := range all {
		p.key = keys[0]
		var users []struct{ ID string }
		p.get("/directory/users").into(t, &users)
		if len(users) != 1 {
			t.Errorf("there are %d users", len(users))
		}
		uploaded := p.upload(product, fmt.Sprintf("%d.txt", i), fmt.Sprintf("content %d", i)).want(t, 201)
		var doc document
		made := p.call(p.key, "POST", strings.TrimSuffix(uploaded.download(), "/download")+"/links", strings.NewReader("{}")).want(t, 201)
		check(t, json.Unmarshal([]byte(made.body), &doc))
		links = append(links, doc.DownloadURL[strings.Index(doc.DownloadURL, "/files/"):])
	}
	for _, p := range all {
		for _, link := range links { // each is signed with the same key
			if a := p.call("", "GET", link, nil); a.status != 200 {
				t.Errorf("a link that another replica has made: %s", a)
			}
		}
		p.stop()
	}
}

// A replica that was killed leaves its work to another.
func TestReplicasFollowOneThatWasKilled(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	first := c.start(t.TempDir(), "127.0.0.1:0")
	first.logged(`"work":"collect contents"`)
	second := c.start(t.TempDir(), "127.0.0.1:0")
	second.key = first.key
	holds := func(p *process) bool {
		return strings.Contains(p.get("/metrics").want(t, 200).body, `attachd_lease_held{work="collect contents"} 1`)
	}
	if !holds(first) || holds(second) {
		t.Errorf("the first holds the lease: %t, the second: %t", holds(first), holds(second))
	}
	first.kill()
	if said := attachd(t, append(c.env, "doctor")...).stdout; strings.Count(said, " and was seen ") < 1 || !strings.Contains(said, " does for all: ") {
		t.Errorf("the doctor says %s", said)
	}
	eventually(t, "the second takes over", func() bool { return holds(second) })
	second.logged(`"work":"collect contents"`)
	eventually(t, "the second knows that it is alone", func() bool {
		return strings.Contains(second.get("/metrics").body, "\nattachd_replicas 1\n")
	})
	if said := attachd(t, append(c.env, "doctor")...).stdout; strings.Count(said, " and was seen ") != 1 || !strings.Contains(said, " and has not said that it ends.") || !strings.Contains(said, "collect contents (for ") {
		t.Errorf("after one was killed the doctor says %s", said)
	}
	second.stop()
}

// startNginx starts nginx with servers, and returns a client of the one at an address.
func startNginx(t *testing.T, address, key, servers string) *client {
	nginx.Start(t, address, servers)
	return clientAt(t, address, key)
}

// clientAt returns a client of the server at an address.
func clientAt(t *testing.T, address, key string) *client {
	return &client{t: t, http: &http.Client{}, url: "http://" + address, key: key}
}

// Clients see one server: what one replica stored, the other lists, sends and deletes, and
// restarts in turn fail nothing that nginx may try again.
func TestReplicasBehindNginxAreOneServer(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	addresses := []string{"127.0.0.1:" + nginx.FreePort(t), "127.0.0.1:" + nginx.FreePort(t)}
	dirs := []string{t.TempDir(), t.TempDir()}
	all := []*process{c.start(dirs[0], addresses[0]), c.start(dirs[1], addresses[1])}
	key := all[0].key
	all[1].key = key
	through := clientAt(t, nginx.Before(t, addresses...), key)

	uploaded := all[0].upload(product, "a.txt", "by the first").want(t, 201)
	bytesOf := []string{"Accept", "application/octet-stream"}
	if a := all[1].call(key, "GET", uploaded.download(), nil, bytesOf...).want(t, 200); a.body != "by the first" {
		t.Errorf("the second sends %s", a)
	}
	if a := all[1].get(product+"/attachments").want(t, 200); !strings.Contains(a.body, "a.txt") {
		t.Errorf("the second lists %s", a)
	}
	all[1].remove(uploaded.download()).want(t, 200)
	all[0].call(key, "GET", uploaded.download(), nil, bytesOf...).want(t, 404)

	kept := through.upload(product, "kept.txt", "kept").want(t, 201).download()
	var ending atomic.Bool
	var asking sync.WaitGroup
	var mu sync.Mutex
	acknowledged := map[string]string{}
	for i := range 2 {
		asking.Go(func() {
			for n := 0; !ending.Load(); n++ {
				a, err := through.try(key, "GET", kept, nil, bytesOf...)
				if err != nil || a.status != 200 || a.body != "kept" {
					t.Errorf("a download during the restarts: %v, %s", err, a)
					return
				}
				content := fmt.Sprintf("%d of %d", n, i)
				a, err = through.try(key, "POST", product+"/attachments", formOf("b.txt", strings.NewReader(content)), formHeaders...)
				switch {
				case err == nil && a.status == 201:
					mu.Lock()
					acknowledged[a.download()] = content
					mu.Unlock()
				case err == nil && (a.status == 503 || a.status == 502): // nginx does not send an upload twice
				default:
					t.Errorf("an upload during the restarts: %v, %s", err, a)
					return
				}
			}
		})
	}
	for range 2 {
		for i := range all {
			all[i].signal(syscall.SIGTERM)
			if code := all[i].exitCode(); code != 0 {
				t.Errorf("stopped with exit code %d", code)
			}
			all[i] = c.start(dirs[i], addresses[i])
		}
	}
	ending.Store(true)
	asking.Wait()
	if len(acknowledged) == 0 {
		t.Error("no upload came through")
	}
	for path, content := range acknowledged {
		if a := through.call(key, "GET", path, nil, bytesOf...); a.status != 200 || a.body != content {
			t.Errorf("an upload that was acknowledged: %s", a)
		}
	}
	for _, p := range all {
		p.stop()
	}
}
