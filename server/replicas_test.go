package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server"
	"attachd/server/content"
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// replica is one of several servers that share a database and a bucket. Its jobs run.
type replica struct {
	url   string
	local string // where its operator's commands go
	store *postgres.Store
	job   func(ctx context.Context, name string, every time.Duration)
	dir   string
	log   *logBuffer
	asked *atomic.Int64 // statements of the database
	end   func()        // as a shutdown does
}

// replicas starts servers with the people and places of a world in their database, and
// returns the keys of these.
func replicas(t *testing.T, n int, options ...func(*server.Config)) (all []*replica, keys map[string]string) {
	t.Helper()
	dsn, bucket := postgrestest.Database(t), new(s3test.Memory)
	for range n {
		all = append(all, newReplica(t, dsn, bucket, options...))
	}
	made := made{keys: map[string]string{}}
	if err := made.populate(all[0].store); err != nil {
		t.Fatal(err)
	}
	return all, made.keys
}

func newReplica(t *testing.T, dsn string, bucket *s3test.Memory, options ...func(*server.Config)) *replica {
	t.Helper()
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, log, asked := t.TempDir(), &logBuffer{}, new(atomic.Int64)
	records, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, MaxConnections: 10, Called: func(operation, _ string, _ time.Duration) {
		if operation == "statement" {
			asked.Add(1)
		}
	}})
	fail(err)
	local, err := disk.Open(dir, disk.Options{})
	fail(err)
	contents, err := s3.Open(t.Context(), s3.Options{
		Bucket: bucket, Catalog: records, Local: local, Shared: true, KeepDeleted: time.Hour, Patience: patience,
		Installation: func(context.Context) (string, error) { return "here", nil },
	})
	fail(err)
	keys, err := ops.SharedSigningKeys(t.Context(), records, []token.SigningKey{token.NewSigningKey()})
	fail(err)
	policy, err := content.NewPolicy(nil, false)
	fail(err)
	cfg := server.Config{
		Storage: upkeep.StorageStatus{Backend: "s3"}, Store: records, Blobs: contents, Abilities: server.AbilitiesOf(records, contents),
		Ballast: new(ballast), Policy: policy, SigningKeys: keys, KeepSigningKeys: func([]token.SigningKey) error { return errors.New("on the disk") },
		Now: time.Now, Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
		Scratch: func() (*os.File, func() error, error) {
			file, err := os.CreateTemp(dir, "")
			return file, func() error { return errors.Join(file.Close(), os.Remove(file.Name())) }, err
		},
		Thumbnails: preview.NewCache(filepath.Join(dir, "thumbnails"), filepath.Join(dir, "tmp"), func(*os.File) error { return nil }),
		Version:    "test", MaxFileSize: 1 << 20, MaxConcurrentUploads: 8, URLTTL: time.Hour, StorageURLTTL: time.Minute, AuditDownloads: true, VerifyReads: true,
	}
	cfg.Linker = nil // downloads are what the replicas send
	for _, option := range options {
		option(&cfg)
	}
	s, err := server.New(cfg)
	fail(err)
	front, operator := httptest.NewServer(s), httptest.NewServer(s.Operator())
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, context.WithoutCancel(ctx)) })
	r := &replica{url: front.URL, local: operator.URL, store: records, dir: dir, log: log, asked: asked}
	r.job = s.RunJob
	r.end = sync.OnceFunc(func() {
		s.Drain()
		front.Close()
		operator.Close()
		stop()
		running.Wait()
		if err := errors.Join(contents.Close(), records.Close()); err != nil {
			t.Error(err)
		}
		for _, line := range log.lines() {
			if strings.Contains(line, `"level":"ERROR"`) {
				t.Errorf("a replica has logged %s", line)
			}
		}
	})
	t.Cleanup(r.end)
	return r
}

// operator is the replica for those who run it.
func (r *replica) operator() *replica { return &replica{url: r.local} }

// ask sends a request with a key, or with a cookie where that is none.
func (r *replica) ask(t *testing.T, key, method, path, body string, headers ...string) answer {
	t.Helper()
	rq, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		rq.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(headers); i += 2 {
		rq.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(response)
}

// want fails the test unless a has a status.
func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("answered %d, not %d: %s", a.status, status, a.body)
	}
	return a
}

// upload uploads a text to the product of the space a, and returns its id.
func (r *replica) upload(t *testing.T, key, text string) (id string) {
	t.Helper()
	body := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n" + text + "\r\n--x--\r\n"
	a := r.ask(t, key, "POST", productPath, body, "Content-Type", "multipart/form-data; boundary=x").want(t, 201)
	return a.object(t)["id"].(string)
}

var productPath = fmt.Sprintf("/catalog/spaces/a/products/%s/attachments", productOf["a"].ID)

func filePath(id string) string { return "/catalog/attachments/" + id }

// Nothing that a replica knows of keys, sessions, roles, spaces or lists outlives a request.
func TestWhatOneReplicaChangesTheOtherKnowsAtItsNextRequest(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	one, two := all[0], all[1]
	root, editor, viewer := keys["root"], keys["editor"], keys["viewer"]

	id := one.upload(t, editor, "by the first")
	list := two.ask(t, viewer, "GET", productPath, "").want(t, 200)
	if got := list.strings(t, "id"); len(got) != 1 || got[0] != id {
		t.Fatalf("the other lists %s", list.body)
	}
	tag := list.header.Get("ETag")
	two.ask(t, viewer, "GET", productPath, "", "If-None-Match", tag).want(t, 304)
	if a := one.ask(t, viewer, "GET", productPath, "", "If-None-Match", tag).want(t, 304); a.header.Get("ETag") != tag {
		t.Errorf("the same list has the ETags %s and %s", tag, a.header.Get("ETag"))
	}
	second := one.upload(t, editor, "by the first again")
	if got := two.ask(t, viewer, "GET", productPath, "", "If-None-Match", tag).want(t, 200).list(t); len(got) != 2 {
		t.Errorf("the other lists %v", got)
	}
	page := two.ask(t, viewer, "GET", productPath+"?limit=1", "").want(t, 200).header.Get("ETag")
	two.ask(t, viewer, "GET", productPath+"?limit=1", "", "If-None-Match", page).want(t, 304)
	one.ask(t, root, "PUT", "/directory/users/"+personID("editor").String(), `{"full_name": "Renamed Person"}`).want(t, 200)
	if a := two.ask(t, viewer, "GET", productPath+"?limit=1", "", "If-None-Match", page).want(t, 200); !strings.Contains(string(a.body), "Renamed Person") {
		t.Errorf("the other lists %s", a.body)
	}
	if a := two.ask(t, viewer, "GET", filePath(id)+"/download", "").want(t, 200); string(a.body) != "by the first" {
		t.Errorf("the other sends %q", a.body)
	}
	two.ask(t, editor, "DELETE", filePath(id), "").want(t, 200)
	one.ask(t, viewer, "GET", filePath(id)+"/download", "").want(t, 404)

	link := one.ask(t, viewer, "POST", filePath(second)+"/links", "{}").want(t, 201).object(t)["download_url"].(string)
	link = link[strings.Index(link, "/files/"):]
	two.ask(t, "", "GET", link, "").want(t, 200)

	session := one.ask(t, "", "POST", "/session", `{"key": "`+viewer+`"}`).want(t, 200).header.Get("Set-Cookie")
	two.ask(t, "", "GET", "/users/me", "", "Cookie", session).want(t, 200)
	two.ask(t, "", "DELETE", "/session", "", "Cookie", session).want(t, 200)
	one.ask(t, "", "GET", "/users/me", "", "Cookie", session).want(t, 401)
	session = two.ask(t, "", "POST", "/session", `{"key": "`+viewer+`"}`).want(t, 200).header.Get("Set-Cookie")

	member := "/directory/spaces/a/members/" + personID("viewer").String()
	one.ask(t, root, "DELETE", member, "").want(t, 200)
	two.ask(t, viewer, "GET", productPath, "").want(t, 403)
	two.ask(t, "", "GET", link, "").want(t, 403)
	two.ask(t, root, "PUT", member, `{"role": "editor"}`).want(t, 201)
	one.upload(t, viewer, "with a new role")

	made := one.ask(t, root, "POST", "/directory/users/"+personID("viewer").String()+"/api-keys", `{"name": "second"}`).want(t, 201).object(t)
	two.ask(t, made["full_key"].(string), "GET", "/users/me", "").want(t, 200)
	one.ask(t, root, "DELETE", "/directory/users/"+personID("viewer").String()+"/api-keys/"+made["id"].(string), "").want(t, 200)
	two.ask(t, made["full_key"].(string), "GET", "/users/me", "").want(t, 401)

	one.ask(t, root, "DELETE", "/directory/users/"+personID("viewer").String(), "").want(t, 200)
	two.ask(t, viewer, "GET", "/users/me", "").want(t, 401)
	one.ask(t, "", "GET", "/users/me", "", "Cookie", session).want(t, 401)
	two.ask(t, "", "GET", link, "").want(t, 403)

	two.ask(t, root, "DELETE", "/directory/spaces/a?attachments=delete", "").want(t, 200)
	one.ask(t, editor, "GET", filePath(second)+"/download", "").want(t, 404)
}

// Each statement is a round trip. The jobs of the replica have some of their own: the least of
// several requests has none of these.
func TestAReplicaAsksTheDatabaseSeldom(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 1)
	r, editor := all[0], keys["editor"]
	id := r.upload(t, editor, "a file")
	link := r.ask(t, editor, "POST", filePath(id)+"/links", "{}").want(t, 201).object(t)["download_url"].(string)
	link = link[strings.Index(link, "/files/"):]
	cookie := r.ask(t, "", "POST", "/session", `{"key": "`+editor+`"}`).want(t, 200).header.Get("Set-Cookie")
	const rights, content, records, session = 1, 1, 1, 1
	const intent, settled, record = 1, 1, 1
	for _, c := range []struct {
		what string
		ask  func()
		want int64
	}{
		{"an upload", func() { r.upload(t, editor, "another file") }, rights + intent + rights + settled + record},
		{"a download", func() { r.ask(t, editor, "GET", filePath(id)+"/download", "").want(t, 200) }, rights + content},
		{"a download by a link", func() { r.ask(t, "", "GET", link, "").want(t, 200) }, rights + content},
		{"a download with a session", func() { r.ask(t, "", "GET", filePath(id)+"/download", "", "Cookie", cookie).want(t, 200) }, session + rights + content},
		{"a list", func() { r.ask(t, editor, "GET", productPath, "").want(t, 200) }, rights + records},
	} {
		least := int64(1000)
		for range 20 {
			before := r.asked.Load()
			c.ask()
			least = min(least, r.asked.Load()-before)
		}
		if least != c.want {
			t.Errorf("%s took %d statements, not %d", c.what, least, c.want)
		}
	}
}

func TestReplicasSignLinksWithTheSameKeys(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	one, two := all[0], all[1]
	id := one.upload(t, keys["editor"], "a file")
	linkFrom := func(r *replica) string {
		link := r.ask(t, keys["viewer"], "POST", filePath(id)+"/links", "{}").want(t, 201).object(t)["download_url"].(string)
		return link[strings.Index(link, "/files/"):]
	}
	before := linkFrom(one)
	for i, rotating := range []*replica{one, two, one} {
		other := all[1-i%2]
		rotating.operator().ask(t, "", "POST", "/upkeep/signing-key", "").want(t, 200)
		other.ask(t, "", "GET", linkFrom(rotating), "").want(t, 200) // signed with a key that it does not know yet
		rotating.ask(t, "", "GET", linkFrom(other), "").want(t, 200)
		other.ask(t, "", "GET", before, "").want(t, 200)
	}
	one.operator().ask(t, "", "POST", "/upkeep/signing-key", `{"grace": 0}`).want(t, 200)
	one.ask(t, "", "GET", before, "").want(t, 403)
	eventually(t, "the other refuses links of earlier keys too", func() bool { return two.ask(t, "", "GET", before, "").status == 403 })
	two.ask(t, "", "GET", linkFrom(one), "").want(t, 200)
}

// Every replica allows its part of a limit, and the dashboard shows all of them together.
func TestReplicasCountTogether(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2, func(c *server.Config) { c.RequestsPerMinute, c.FailedKeysPerMinute = 100_000, 20 })
	one, two := all[0], all[1]
	for _, r := range all {
		eventually(t, "half of the limit", func() bool {
			return r.ask(t, keys["viewer"], "GET", "/users/me", "").header.Get("X-RateLimit-Limit") == "50000"
		})
		guesses := 0
		for ; guesses < 30 && r.ask(t, "attachd_wrong", "GET", "/users/me", "").status == 401; guesses++ {
		}
		if guesses > 12 { // a few come back while the test runs
			t.Errorf("%d of 20 wrong keys are let through", guesses)
		}
	}
	one.upload(t, keys["editor"], "1")
	two.upload(t, keys["editor"], "22")
	for _, r := range all {
		eventually(t, "the uploads of both", func() bool {
			var stats struct {
				Attachments struct{ Files, Bytes int64 }
				Hours       []struct {
					Uploads     int64
					UploadBytes int64 `json:"upload_bytes"`
				}
			}
			if err := json.Unmarshal(r.ask(t, keys["root"], "GET", "/stats", "").want(t, 200).body, &stats); err != nil {
				t.Fatal(err)
			}
			var sum [2]int64
			for _, hour := range stats.Hours {
				sum[0] += hour.Uploads
				sum[1] += hour.UploadBytes
			}
			return sum == [2]int64{2, 3}
		})
	}
	two.end()
	eventually(t, "the whole limit", func() bool {
		return one.ask(t, keys["viewer"], "GET", "/users/me", "").header.Get("X-RateLimit-Limit") == "100000"
	})
}

func TestOneReplicaAtATimeChecksOrCollects(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	for path, work := range map[string]string{"/upkeep/check": "checking", "/upkeep/gc": "collecting"} {
		if got, err := all[1].store.TakeLeases(t.Context(), work); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		a := all[0].ask(t, keys["root"], "POST", path, "").want(t, 409)
		if !strings.Contains(string(a.body), "already") {
			t.Errorf("%s answers %s", path, a.body)
		}
		if err := all[1].store.GiveBack(t.Context(), work); err != nil {
			t.Fatal(err)
		}
		all[0].ask(t, keys["root"], "POST", path, "").want(t, 200)
	}
	response, err := http.Post(all[0].local+"/upkeep/compact", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if a := readAnswer(response); a.status != 409 || !strings.Contains(string(a.body), "autovacuum") {
		t.Errorf("compact answers %d %s", a.status, a.body)
	}
}

// Who moves the records away runs a command, and the replicas find that out: a load balancer
// must not send them any more uploads.
func TestReplicasWhoseRecordsWereMovedAreNotReady(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	if err := upkeep.SetMoved(t.Context(), all[1].store, "elsewhere"); err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		eventually(t, "a replica is not ready", func() bool { return r.ask(t, "", "GET", "/health/ready", "").status == 503 })
		if a := r.ask(t, keys["root"], "GET", "/health/ready?details=true", ""); !strings.Contains(string(a.body), "moved to another storage") {
			t.Errorf("it says %s", a.body)
		}
	}
}

// Each event is sent once, by whichever replica has the lease, wherever it came from.
func TestReplicasSendEachEventOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got := map[string]int{}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		got[r.Header.Get("Webhook-Id")]++
	}))
	defer receiver.Close()
	all, keys := replicas(t, 2, func(c *server.Config) {
		c.Webhooks = &webhooks.Receiver{URL: receiver.URL, Secrets: [][]byte{[]byte(hookSecret)}, AllowPrivate: true, Timeout: 10 * time.Second}
		c.WebhookRetryFor = time.Hour
	})
	for range 5 {
		for _, r := range all {
			r.upload(t, keys["editor"], uuid.NewString())
		}
	}
	arrived := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) >= n
		}
	}
	eventually(t, "all events", arrived(10))
	for _, r := range all {
		held, err := r.store.Leases(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range held {
			if l.Name == "deliver webhooks" && l.Holder == r.store.Replica() {
				r.end() // and the other goes on
				other := all[0]
				if r == other {
					other = all[1]
				}
				other.upload(t, keys["editor"], uuid.NewString())
				eventually(t, "an event after the sender has ended", arrived(11))
				return
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for id, n := range got {
		if n != 1 {
			t.Errorf("the event %s was sent %d times", id, n)
		}
	}
}

// What a backup that one replica makes may need, no other removes.
func TestReplicasRemoveNothingWhileOneMakesABackup(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	one, two := all[0], all[1]
	stored := func(text string) bool {
		_, err := one.store.Place(t.Context(), blobs.RefOf([]byte(text)))
		return err == nil
	}
	if got, err := two.store.TakeLeases(t.Context(), "backup 1"); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	one.ask(t, keys["editor"], "DELETE", filePath(one.upload(t, keys["editor"], "during a backup")), "").want(t, 200)
	one.ask(t, keys["root"], "POST", "/upkeep/gc", `{"min_age": 0}`).want(t, 200)
	if !stored("during a backup") {
		t.Error("a content was removed that a backup may need")
	}
	if err := two.store.GiveBack(t.Context(), "backup 1"); err != nil {
		t.Fatal(err)
	}
	one.ask(t, keys["editor"], "DELETE", filePath(one.upload(t, keys["editor"], "afterwards")), "").want(t, 200)
	eventually(t, "the content is removed afterwards", func() bool { return !stored("afterwards") })
	one.ask(t, keys["root"], "POST", "/upkeep/gc", `{"min_age": 0}`).want(t, 200)
	if stored("during a backup") {
		t.Error("a collection has not made up for it")
	}
}

// A replica has thumbnails of its own, and the picture may be removed by another.
func TestEachReplicaSweepsItsThumbnails(t *testing.T) {
	t.Parallel()
	all, keys := replicas(t, 2)
	body := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\r\n" + string(pngOf(t, 30, 30)) + "\r\n--x--\r\n"
	id := all[0].ask(t, keys["editor"], "POST", productPath, body, "Content-Type", "multipart/form-data; boundary=x").want(t, 201).object(t)["id"].(string)
	for _, r := range all {
		r.ask(t, keys["viewer"], "GET", filePath(id)+"/thumbnail", "").want(t, 200)
		if n := len(r.thumbnails(t)); n != 1 {
			t.Fatalf("a replica has %d thumbnails", n)
		}
	}
	all[0].ask(t, keys["editor"], "DELETE", filePath(id), "").want(t, 200)
	eventually(t, "the content is removed", func() bool {
		_, err := all[0].store.Place(t.Context(), blobs.RefOf(pngOf(t, 30, 30)))
		return errors.Is(err, blobs.ErrNotFound)
	})
	for _, r := range all {
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.job(ctx, "sweep thumbnails", time.Millisecond)
		}()
		eventually(t, "a replica has no thumbnail of it", func() bool { return len(r.thumbnails(t)) == 0 })
		end()
		<-ended
	}
}

// thumbnails lists the files of the replica's thumbnails.
func (r *replica) thumbnails(t *testing.T) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(r.dir, "thumbnails"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}
