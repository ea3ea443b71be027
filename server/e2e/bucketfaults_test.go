//go:build unix

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/blobs/s3/s3test"
)

// What is promised of an object store that is away: uploads that need it are refused within
// refusedWithin, and taken again backWithin after it is back. With -long, they are held to
// that; a busy machine may need longer.
const (
	refusedWithin = 10 * time.Second
	backWithin    = 5 * time.Second
)

func wantWithin(t *testing.T, what string, began time.Time, bound time.Duration) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s after %v", what, took.Round(time.Millisecond))
	if *long && took > bound {
		t.Errorf("%s after %v, not %v", what, took, bound)
	}
}

// largeFile is a content that does not wait in the log.
func largeFile(name string) string { return strings.Repeat(name+" is large. ", 10_000) }

// While the object store is away in one way or another, whatever needs it is refused, soon
// and with a reason, and everything else goes on.
func TestWhileTheObjectStoreIsAwayAllElseGoesOn(t *testing.T) {
	t.Parallel()
	for name, manners := range map[string]s3test.Manners{
		"its connections are cut":  {Dead: true},
		"it does not answer":       {Hanging: true},
		"it has too much to do":    {SlowDown: 1},
		"no answer of it is found": {Lost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := s3test.Versitygw(t)
			proxy := s3test.NewProxy(t, gateway.Host("127.0.0.1"), 1)
			storeIsAway(t, proxy.Host(), func() { proxy.Set(manners) }, func() { proxy.Set(s3test.Manners{}) })
		})
	}
	t.Run("nobody listens there", func(t *testing.T) {
		t.Parallel()
		gateway := s3test.Versitygw(t)
		storeIsAway(t, gateway.Host("127.0.0.1"), gateway.Kill, gateway.Start)
	})
}

func storeIsAway(t *testing.T, host string, away, back func()) {
	dir := spoiledDir(t)
	env := append(s3test.Env(host), autoCreate, "ATTACHD_STORAGE_KEEP_DELETED=0s", "ATTACHD_DOWNLOADS_MODE=content")
	server := start(t, dir, env...)
	kept := server.upload(product, "kept.txt", largeFile("kept")).want(t, 201)
	gone := server.upload(product, "gone.txt", largeFile("gone")).want(t, 201)
	server.get("/health/ready").want(t, 200)

	away()
	began := time.Now()
	refused := server.upload(product, "large.txt", largeFile("large")).want(t, 503)
	wantWithin(t, "it was refused", began, refusedWithin)
	if refused.header.Get("Retry-After") == "" || !strings.Contains(refused.body, `"code":"storage_unavailable"`) || strings.Contains(refused.body, host) {
		t.Errorf("it was told %v %s", refused.header, refused.body)
	}
	small := server.upload(product, "small.txt", "small").want(t, 201)
	if got := server.get(small.download()).want(t, 200); got.body != "small" {
		t.Errorf("the small one is %q", got.body)
	}
	server.remove(gone.download()).want(t, 200)
	server.get(gone.download()).want(t, 404)
	if list := server.get(product+"/attachments").want(t, 200); !strings.Contains(list.body, "kept.txt") || !strings.Contains(list.body, "small.txt") {
		t.Errorf("the list is %s", list.body)
	}
	eventually(t, "readiness says why", func() bool {
		ready := server.get("/health/ready")
		return ready.status == 503 && strings.Contains(ready.body, "Files cannot be written into the object store.")
	})
	server.kill() // and a start goes without the store too
	server = start(t, dir, env...)
	server.upload(product, "second.txt", "second").want(t, 201)
	if list := server.get(product+"/attachments").want(t, 200); !strings.Contains(list.body, "kept.txt") {
		t.Errorf("after a restart, the list is %s", list.body)
	}

	back()
	began = time.Now()
	var large answer
	eventually(t, "large files are taken again", func() bool {
		large = server.upload(product, "large.txt", largeFile("large"))
		return large.status == 201
	})
	wantWithin(t, "they were taken", began, backWithin)
	eventually(t, "it is ready again", func() bool { return server.get("/health/ready").status == 200 })
	for file, content := range map[string]string{kept.download(): largeFile("kept"), large.download(): largeFile("large"), small.download(): "small"} {
		if got := server.call(server.key, "GET", file, nil, "Accept", "application/octet-stream").want(t, 200); got.body != content {
			t.Errorf("%s is %.40q", file, got.body)
		}
	}
	server.stop()
	ok(t, slices.Concat(env, []string{"check", "--deep", "--data-dir", dir})...)
}

// Small files are taken until the log is full; then they are refused like the large ones, and
// deletions go on. Once the store is back, all is there.
func TestSmallFilesAreTakenUntilTheLogIsFull(t *testing.T) {
	t.Parallel()
	gateway := s3test.Versitygw(t)
	dir := spoiledDir(t)
	env := append(s3test.Env(gateway.Host("127.0.0.1")), autoCreate, "ATTACHD_STORAGE_LOG_SIZE=16MB", "ATTACHD_DOWNLOADS_MODE=content")
	server := start(t, dir, env...)
	server.upload(product, "first.txt", largeFile("first")).want(t, 201)
	gateway.Kill()
	taken := map[string]string{} // content by download path
	content := func(i int) string { return strings.Repeat(fmt.Sprintf("file %d of many. ", i), 3000) }
	for i := 0; ; i++ {
		a := server.upload(product, fmt.Sprintf("%d.txt", i), content(i))
		if a.status == 503 && strings.Contains(a.body, "storage_unavailable") {
			break
		}
		a.want(t, 201)
		if taken[a.download()] = content(i); len(taken) > 1000 {
			t.Fatal("the log is never full")
		}
	}
	if len(taken) < 200 {
		t.Errorf("only %d were taken", len(taken))
	}
	for path := range taken {
		server.remove(path).want(t, 200)
		delete(taken, path)
		break
	}
	gateway.Start()
	eventually(t, "files are taken again", func() bool { return server.upload(product, "again.txt", largeFile("again")).status == 201 })
	eventually(t, "all are in the store", func() bool { return len(gateway.Objects()) >= len(taken)+2 })
	for path, content := range taken {
		if got := server.call(server.key, "GET", path, nil, "Accept", "application/octet-stream").want(t, 200); got.body != content {
			t.Errorf("%s is %.40q", path, got.body)
		}
	}
	server.stop()
	ok(t, slices.Concat(env, []string{"check", "--deep", "--data-dir", dir})...)
}
