//go:build unix

package e2e

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"attachd/blobs/s3/s3test"
)

// The database is lost while people upload, and its synchronous standby is promoted.
func TestReplicasFollowTheDatabaseToItsSynchronousStandby(t *testing.T) {
	t.Parallel()
	if !*withReplicas {
		t.Skip("it needs PostgreSQL and versitygw; run it with: go test ./server/e2e -run Replicas -replicas")
	}
	g, first := s3test.Versitygw(t), databaseServer(t)
	_, err := first.CreateDatabase(t.Context(), "attachd")
	check(t, err)
	dir, err := os.MkdirTemp("", "attachd") // short enough for a socket
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	standby, err := first.Standby(dir)
	check(t, err)
	t.Cleanup(standby.Kill)
	for _, sql := range []string{"alter system set synchronous_standby_names = '*'", "select pg_reload_conf()"} {
		check(t, first.Exec(t.Context(), "postgres", sql))
	}
	eventually(t, "commits wait for the standby", func() bool {
		return first.Exec(t.Context(), "postgres", "do 'begin assert exists (select from pg_stat_replication where sync_state = ''sync''); end'") == nil
	})
	hosts := fmt.Sprintf("127.0.0.1:%s,127.0.0.1:%s", standby.Port(), first.Port()) // the one that takes no changes first
	c := &cluster{t, inBucket(g, "ATTACHD_METADATA_BACKEND=postgres", "ATTACHD_METADATA_DSN=postgres://attachd@"+hosts+"/attachd?sslmode=disable")}
	all := c.together(2)
	key := all[0].key + all[1].key // of which one is empty

	var ending atomic.Bool
	var count atomic.Int64
	var acknowledged sync.Map
	var uploading sync.WaitGroup
	for i, p := range all {
		uploading.Go(func() {
			for n := 0; !ending.Load(); n++ {
				content := fmt.Sprintf("%d of %d", n, i)
				a, err := p.try(key, "POST", product+"/attachments", formOf("a.txt", strings.NewReader(content)), formHeaders...)
				switch {
				case err == nil && a.status == 201:
					acknowledged.Store(a.download(), content)
					count.Add(1)
				case err == nil && a.status == 503 && a.header.Get("Retry-After") != "":
				default:
					t.Errorf("an upload: %v, %s", err, a)
					return
				}
			}
		})
	}
	more := func(what string) {
		t.Helper()
		until := count.Load() + 50
		eventually(t, what, func() bool { return count.Load() >= until || t.Failed() })
	}
	more("files are uploaded")
	first.Kill()
	check(t, standby.Exec(t.Context(), "postgres", "select pg_promote()"))
	more("files are uploaded again")
	ending.Store(true)
	uploading.Wait()
	acknowledged.Range(func(path, content any) bool {
		if a := all[0].call(key, "GET", path.(string), nil, "Accept", "application/octet-stream"); a.status != 200 || a.body != content {
			t.Errorf("an upload that was acknowledged: %s", a)
		}
		return true
	})
	if said := ok(t, append(c.env, "check", "--deep")...); !strings.Contains(said, "no faults") {
		t.Errorf("check says %s", said)
	}
	t.Logf("%d uploads were acknowledged", count.Load())
}
