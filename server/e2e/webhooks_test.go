//go:build unix

package e2e

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// receiver accepts webhooks, or refuses them.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	down   bool
	asked  int      // number of requests
	events []string // their types and file names
	ids    []string
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, rq *http.Request) {
	raw, _ := io.ReadAll(rq.Body) // a truncated body is not JSON
	var event struct {
		Type string
		Data struct {
			Attachment struct {
				FileName string `json:"file_name"`
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if err := json.Unmarshal(raw, &event); err != nil || r.down {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	r.events = append(r.events, strings.TrimSpace(event.Type+" "+event.Data.Attachment.FileName))
	r.ids = append(r.ids, rq.Header.Get("webhook-id"))
}

func (r *receiver) set(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *receiver) times() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// wants waits until these were received, each at least once.
func (r *receiver) wants(events ...string) {
	r.t.Helper()
	eventually(r.t, "the receiver has "+strings.Join(events, ", "), func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		var once []string
		seen := map[string]bool{}
		for i, id := range r.ids {
			if !seen[id] {
				once = append(once, r.events[i])
			}
			seen[id] = true
		}
		return strings.Join(once, ", ") == strings.Join(events, ", ")
	})
}

// hooked is the environment of a server that sends webhooks to a receiver.
func hooked(t *testing.T, url string, more ...string) []string {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "webhooks.key")
	write(t, secret, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n")
	return append([]string{autoCreate, "ATTACHD_WEBHOOKS_URL=" + url, "ATTACHD_WEBHOOKS_SECRET_FILE=" + secret, "ATTACHD_LISTEN=127.0.0.1:0"}, more...)
}

const allowPrivate = "ATTACHD_WEBHOOKS_ALLOW_PRIVATE=true"

func TestAKillLosesNoEvent(t *testing.T) {
	t.Parallel()
	dir, there := dataDir(t), receive(t)
	there.set(true)
	env := hooked(t, there.URL, allowPrivate)
	server := start(t, dir, env...)
	kept := server.upload(product, "kept.txt", "kept").want(t, 201)
	gone := server.upload(product, "gone.txt", "gone").want(t, 201)
	server.remove(gone.download()).want(t, 200)
	server.logged("an event was not delivered")
	server.kill()

	// Changes by a command while no server runs are sent too.
	there.set(false)
	server = start(t, dir, env...)
	there.wants("attachment.created kept.txt", "attachment.created gone.txt", "attachment.deleted gone.txt")
	eventually(t, "the outbox is empty", func() bool { return strings.Contains(server.get("/webhooks").body, `"pending":0`) })
	server.stop()
	asked := there.times()
	server = start(t, dir, env...)
	server.remove(kept.download()).want(t, 200)
	there.wants("attachment.created kept.txt", "attachment.created gone.txt", "attachment.deleted gone.txt", "attachment.deleted kept.txt")
	if n := there.times() - asked; n != 1 {
		t.Errorf("after a stop the receiver was asked %d times, not once", n)
	}
}

func TestWebhookCommandsWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	dir, there := dataDir(t), receive(t)
	env := hooked(t, there.URL, allowPrivate)
	run := func(code int, line string) string {
		t.Helper()
		r := attachd(t, append(append([]string{}, env...), append(strings.Fields(line), "--data-dir", dir)...)...)
		if r.code != code {
			t.Errorf("attachd %s: exit code %d\n%s%s", line, r.code, r.stdout, r.stderr)
		}
		return r.stdout + r.stderr
	}
	server := start(t, dir, env...)
	server.upload(product, "a.txt", "a").want(t, 201)
	there.wants("attachment.created a.txt")
	eventually(t, "the outbox is empty", func() bool {
		return strings.Contains(run(0, "webhooks status"), "no events to deliver, no dead letters")
	})
	for _, running := range []bool{true, false} {
		if !running {
			server.stop()
		}
		if said := run(0, "webhooks status"); !strings.HasPrefix(said, "receiver: "+there.URL+"\n") || strings.Contains(said, "last delivered") != running {
			t.Errorf("status says %s", said)
		}
		if said := run(0, "webhooks redeliver"); said != "no events to send again\n" {
			t.Errorf("redeliver says %s", said)
		}
		there.set(false)
		if said := run(0, "webhooks ping"); !strings.HasPrefix(said, "the receiver took it in ") {
			t.Errorf("ping says %s", said)
		}
		there.set(true)
		if said := run(1, "webhooks ping"); said != "attachd: the receiver did not take it: the receiver answered 503 Service Unavailable\n" {
			t.Errorf("ping says %s", said)
		}
		if said := run(0, "webhooks status --json"); !strings.Contains(said, `"pending":0`) {
			t.Errorf("status says %s", said)
		}
		if said := run(0, "doctor"); !strings.Contains(said, "The receiver of webhooks can be reached") {
			t.Errorf("the doctor says %s", said)
		}
	}
	there.Close()
	if said := run(3, "doctor"); !strings.Contains(said, "The receiver of webhooks cannot be reached: ") {
		t.Errorf("the doctor says %s", said)
	}
	if said := refused(t, 1, "webhooks", "ping", "--data-dir", dir); said != "attachd: No receiver of webhooks is configured (webhooks.url)\n" {
		t.Errorf("without a receiver, ping says %s", said)
	}
}

// ASVS 1.3.6, 13.2.4, 13.2.5
func TestAReceiverInAPrivateNetworkIsNotToldUnlessThatIsAllowed(t *testing.T) {
	t.Parallel()
	dir, there := dataDir(t), receive(t)
	name := strings.Replace(there.URL, "http://127.0.0.1", "https://localhost", 1)
	env := hooked(t, name)
	server := start(t, dir, env...)
	server.upload(product, "a.txt", "a").want(t, 201)
	server.logged("which is not on the public internet; webhooks.allow_private allows it")
	if there.times() > 0 {
		t.Error("it was reached")
	}
	server.stop()
	start(t, dir, hooked(t, there.URL, allowPrivate)...)
	there.wants("attachment.created a.txt")
}

// ASVS 13.3.1, 13.3.4
func TestServeRefusesASecretOfWebhooksThatIsNone(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	env := hooked(t, "https://hooks.example")
	_, file, _ := strings.Cut(env[2], "=")
	serve := func() string {
		t.Helper()
		return strings.ReplaceAll(refused(t, 1, append(env, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")...), file, "FILE")
	}
	chmod(t, file, 0o644)
	if said := serve(); said != "attachd: webhooks.secret_file: FILE can be read by others (mode 0644). Close it: chmod 600 FILE\n" {
		t.Errorf("it says %s", said)
	}
	chmod(t, file, 0o600)
	write(t, file, "secret\n")
	if said := serve(); said != "attachd: webhooks.secret_file: line 1 of FILE does not hold a secret: whsec_ and 24 to 64 bytes in base64\n" {
		t.Errorf("it says %s", said)
	}
	remove(t, file)
	if said := serve(); !strings.HasPrefix(said, "attachd: webhooks.secret_file: ") {
		t.Errorf("it says %s", said)
	}
}
