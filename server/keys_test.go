package server_test

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/server"
	"attachd/store"
)

func TestTheLifeOfAKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, as, path string }{
		{"one's own", "viewer", "/api-keys"},
		{"by a superadmin", "root", "/directory/users/{viewer}/api-keys"},
		{"on behalf", "root for viewer", "/api-keys"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			described := `"id": "{K}", "name": "CI", "key_prefix": "{K.prefix}", "created_at": "2026-01-15T10:30:00Z", "expires_at": "2026-01-25T10:30:00Z"`
			w.play(t, []step{
				{as: c.as, do: "POST " + c.path, json: `{"name": " CI ", "expires_in_days": 10}`, want: 201, save: "K", check: func(t *testing.T, a answer) {
					object := a.object(t)
					secret, prefix := object["full_key"].(string), object["key_prefix"].(string)
					w.names["K.prefix"] = prefix
					random, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, "attachd_"))
					if !strings.HasPrefix(secret, "attachd_") || err != nil || len(random) != 32 {
						t.Errorf("the key %q does not hold 256 bits: %v", secret, err)
					}
					if !strings.HasPrefix(secret, prefix) || len(prefix) > 20 {
						t.Errorf("key_prefix is %q", prefix)
					}
					delete(object, "full_key")
				}},
				{as: c.as, do: "GET " + c.path, want: 200, check: func(t *testing.T, a answer) {
					if strings.Contains(string(a.body), w.keys["K"]) || strings.Contains(string(a.body), "hash") {
						t.Errorf("the list shows a secret: %s", a.body)
					}
					for _, key := range a.list(t) {
						if key["id"] == w.names["K"] && key["last_used_at"] != nil {
							t.Errorf("used before its first use: %v", key)
						}
					}
				}},
				{as: "K", do: "GET /users/me", want: 200, like: `{"id": "{viewer}", "full_name": "Viewer Person", "is_superadmin": false, "spaces": [{"slug": "a", "name": "The space a", "role": "viewer"}]}`},
				{as: c.as, do: "GET " + c.path, want: 200, check: func(t *testing.T, a answer) {
					if list := a.list(t); len(list) != 2 {
						t.Errorf("%d keys are listed", len(list))
					}
					sameJSON(t, step{do: "the listed key"}, lastOf(a.body), w.fill(t, `{`+described+`, "last_used_at": "2026-01-15T10:30:00Z"}`))
				}},
				{as: c.as, do: "DELETE " + c.path + "/{K}", want: 200},
				{as: "K", do: "GET /users/me", want: 401},
				{as: c.as, do: "DELETE " + c.path + "/{K}", want: 404},
				{as: c.as, do: "DELETE " + c.path + "/nonsense", want: 404},
			})
		})
	}
}

// lastOf is the last object of a list of flat ones.
func lastOf(list []byte) []byte {
	s := strings.TrimSpace(string(list))
	return []byte(strings.TrimSuffix(s[strings.LastIndex(s, "{"):], "]"))
}

// ASVS 6.5.2, 11.4.1, 11.4.3, 11.5.1
func TestAKeyIsStoredAsAHashOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(t, step{as: "viewer", do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "K"})
	database, err := os.ReadFile(filepath.Join(w.dir, "attachd.db"))
	if err != nil {
		t.Fatal(err)
	}
	secret := w.keys["K"]
	for _, part := range []string{secret, secret[len(secret)-20:]} {
		if strings.Contains(string(database), part) {
			t.Error("the database holds the secret")
		}
	}
}

func TestAKeyExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "viewer", do: "POST /api-keys", json: `{"name": "x", "expires_in_days": 1}`, want: 201, save: "K"},
		{as: "viewer", do: "POST /api-keys", json: `{"name": "for ever"}`, want: 201, save: "L", check: func(t *testing.T, a answer) {
			if at, has := a.object(t)["expires_at"]; !has || at != nil {
				t.Errorf("expires_at is %v", at)
			}
		}},
		{do: "POST /session", json: `{"key": "nonsense"}`, want: 401},
	})
	w.clock.advance(24*time.Hour - time.Second)
	w.do(t, step{as: "K", do: "GET /users/me", want: 200})
	w.clock.advance(time.Second)
	w.play(t, []step{
		{as: "K", do: "GET /users/me", want: 401},
		{as: "K", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 401},
		{do: "POST /session", json: `{"key": "` + w.keys["K"] + `"}`, want: 401},
	})
	w.clock.advance(100 * 365 * 24 * time.Hour)
	w.do(t, step{as: "L", do: "GET /users/me", want: 200})
}

func TestABadKeyIsNotMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, body := range []string{``, `{}`, `[]`, `{"name": ""}`, `{"name": " "}`, `{"name": 1}`, `{"name": "a\nb"}`, `{"name": "x", "expires_in_days": 0}`,
		`{"name": "x", "expires_in_days": -1}`, `{"name": "x", "expires_in_days": 1000000000}`, `{"name": "x", "expires_in_days": "1"}`, `{"name": "x", "expires_in_days": 0.5}`} {
		w.do(t, step{as: "viewer", do: "POST /api-keys", json: body, want: 400, code: "invalid_request"})
		w.do(t, step{as: "root", do: "POST /directory/users/{viewer}/api-keys", json: body, want: 400, code: "invalid_request"})
	}
	if list := w.do(t, step{as: "viewer", do: "GET /api-keys", want: 200}).list(t); len(list) != 1 {
		t.Errorf("%d keys are listed", len(list))
	}
}

func TestAKeyIsNotForOthersToRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "viewer", do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "K"},
		{as: "editor", do: "DELETE /api-keys/{K}", want: 404},
		{as: "admin", do: "DELETE /api-keys/{K}", want: 404},
		{as: "root", do: "DELETE /api-keys/{K}", want: 404},
		{as: "root", do: "DELETE /directory/users/{editor}/api-keys/{K}", want: 404},
		{as: "K", do: "GET /users/me", want: 200},
	})
}

// signIn exchanges a key for a session and returns its cookie.
func (w *world) signIn(t *testing.T, as string, send header) *http.Cookie {
	t.Helper()
	a := w.do(t, step{do: "POST /session", send: send, json: `{"key": "` + w.keys[as] + `"}`, want: 200})
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 1 || strings.Contains(string(a.body), cookies[0].Value) {
		t.Fatalf("the cookies are %v", cookies)
	}
	return cookies[0]
}

// ASVS 3.4.2, 3.5.1 to 3.5.3
func TestAKeyIsTradedForASession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cookie := w.signIn(t, "viewer", nil)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Secure || cookie.Domain != "" {
		t.Errorf("the cookie is %s", cookie.Raw)
	}
	if strings.Contains(cookie.Value, w.keys["viewer"]) {
		t.Error("the cookie holds the key")
	}
	session := header{"Cookie": cookie.Name + "=" + cookie.Value}
	with := func(more header) header {
		all := header{"Cookie": session["Cookie"]}
		for name, value := range more {
			all[name] = value
		}
		return all
	}
	w.play(t, []step{
		{do: "GET /users/me", send: session, want: 200, like: `{"id": "{viewer}", "full_name": "Viewer Person", "is_superadmin": false, "spaces": [{"slug": "a", "name": "The space a", "role": "viewer"}]}`},
		{do: "GET {product}/attachments", send: with(header{"Sec-Fetch-Site": "same-origin"}), want: 200},
		{do: "GET {product}/attachments", send: with(header{"Sec-Fetch-Site": "same-origin", "Origin": "https://files.example.org"}), want: 200}, // behind a proxy that keeps Host to itself
		{do: "GET {product}/attachments", send: with(header{"Sec-Fetch-Site": "none"}), want: 200},
		{do: "GET {product}/attachments", send: with(header{"Origin": w.url}), want: 200},
		{do: "GET {product}/attachments", send: with(header{"Sec-Fetch-Site": "cross-site"}), want: 403},
		{do: "GET {product}/attachments", send: with(header{"Sec-Fetch-Site": "same-site"}), want: 403},
		{do: "GET {product}/attachments", send: with(header{"Origin": "https://evil.example"}), want: 403},
		{do: "GET {product}/attachments", send: with(header{"Origin": "null"}), want: 403},
		{do: "POST {product}/attachments", send: with(header{"Origin": "https://evil.example"}), form: parts{file("a.txt", "a")}, want: 403},
		{do: "POST {product}/attachments", send: session, form: parts{file("a.txt", "a")}, want: 403}, // a viewer, after all
		{do: "GET /users/me", send: header{"Cookie": session["Cookie"] + "x"}, want: 401},
		{do: "GET /users/me", send: header{"Authorization": "Bearer " + cookie.Value}, want: 401},
		{do: "GET /users/me", send: header{"Cookie": cookie.Name + "=" + w.keys["viewer"]}, want: 401},
		{do: "GET /users/me", send: with(header{"Authorization": "Bearer nonsense"}), want: 401},
	})
	signedOut := w.do(t, step{do: "DELETE /session", send: session, want: 200})
	if got := signedOut.header.Get("Set-Cookie"); !strings.Contains(got, cookie.Name+"=;") || !strings.Contains(got, "Max-Age=0") {
		t.Errorf("signing out sets %q", got)
	}
	w.play(t, []step{
		{do: "GET /users/me", send: session, want: 401},
		{do: "DELETE /session", send: session, want: 200},
		{do: "DELETE /session", want: 200},
	})
}

// ASVS 3.4.2, 3.5.1 to 3.5.3
func TestASessionIsNotMadeFromAnotherOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := `{"key": "` + w.keys["viewer"] + `"}`
	for _, send := range []header{{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}} {
		a := w.do(t, step{do: "POST /session", send: send, json: body, want: 403})
		if a.header.Get("Set-Cookie") != "" {
			t.Error("a refusal with a cookie")
		}
	}
	cookie := w.signIn(t, "viewer", nil)
	w.do(t, step{do: "DELETE /session", send: header{"Origin": "https://evil.example", "Cookie": cookie.Name + "=" + cookie.Value}, want: 403})
	w.do(t, step{do: "GET /users/me", send: header{"Cookie": cookie.Name + "=" + cookie.Value}, want: 200})
}

// ASVS 7.2.3, 7.4.1, 7.4.2, 8.3.2
func TestASessionEndsWithItsKeyItsUserOrItsTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		end  func(w *world, t *testing.T)
	}{
		{"the key is revoked", func(w *world, t *testing.T) {
			w.do(t, step{as: "K", do: "DELETE /api-keys/{K}", want: 200})
		}},
		{"the user is deleted", func(w *world, t *testing.T) {
			w.do(t, step{as: "root", do: "DELETE /directory/users/{viewer}", want: 200})
		}},
		{"the key expires", func(w *world, t *testing.T) { w.clock.advance(24 * time.Hour) }},
		{"the session expires", func(w *world, t *testing.T) { w.clock.advance(30 * 24 * time.Hour) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.do(t, step{as: "viewer", do: "POST /api-keys", json: `{"name": "x", "expires_in_days": 1}`, want: 201, save: "K"})
			cookie := w.signIn(t, "K", nil)
			session := header{"Cookie": cookie.Name + "=" + cookie.Value}
			w.do(t, step{do: "GET /users/me", send: session, want: 200})
			c.end(w, t)
			w.do(t, step{do: "GET /users/me", send: session, want: 401})
		})
	}
}

func TestTheCookieIsForTheAddressOfTheServer(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]struct{ path, name, cookiePath string }{
		"http://example.org":  {"", "attachd_session", "/"},
		"https://example.org": {"", "__Host-attachd_session", "/"},
		"https://example.net": {"/attachd", "__Secure-attachd_session", "/attachd/"},
	} {
		t.Run(want.name, func(t *testing.T) {
			w := newWorld(t, publicURL(origin+want.path))
			cookie := w.signIn(t, "viewer", header{"Origin": origin})
			secure := want.name != "attachd_session"
			if cookie.Name != want.name || cookie.Path != want.cookiePath || cookie.Secure != secure || cookie.Domain != "" {
				t.Errorf("the cookie is %s", cookie.Raw)
			}
			w.do(t, step{do: "GET /users/me", send: header{"Cookie": want.name + "=" + cookie.Value}, want: 200})
			if secure { // anybody on plain HTTP, or on a neighbouring host, could have set it
				w.do(t, step{do: "GET /users/me", send: header{"Cookie": "attachd_session=" + cookie.Value}, want: 401})
			}
		})
	}
}

func TestSigningInAgainEndsTheSessionBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.signIn(t, "viewer", nil)
	before := header{"Cookie": first.Name + "=" + first.Value}
	second := w.signIn(t, "editor", before)
	w.play(t, []step{
		{do: "GET /users/me", send: before, want: 401},
		{do: "GET /users/me", send: header{"Cookie": second.Name + "=" + second.Value}, want: 200},
	})
}

func TestOneUserAtMostIsActedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := step{as: "root", do: "GET /users/me", want: 400}
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, s, 0, "X-On-Behalf-Of: "+w.names["viewer"], "X-On-Behalf-Of: "+w.names["editor"]))
	w.receive(t, conn, s)
}

func TestASuperadminActsOnBehalfOfAUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root for editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, send: header{"X-Request-Id": "behalf"}, want: 201, save: "A",
			check: func(t *testing.T, a answer) {
				if by := a.object(t)["uploaded_by"].(map[string]any); by["id"] != w.names["editor"] || by["full_name"] != "Editor Person" {
					t.Errorf("uploaded_by is %v", by)
				}
			}},
		{as: "root for viewer", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 403},
		{as: "root for viewer", do: "GET /users/me", want: 200, like: `{"id": "{viewer}", "full_name": "Viewer Person", "is_superadmin": false, "spaces": [{"slug": "a", "name": "The space a", "role": "viewer"}]}`},
		{as: "root for viewer", do: "GET /directory/users", want: 403},
		{as: "root for root", do: "GET /directory/users", want: 200},
		{as: "admin for viewer", do: "GET /users/me", want: 403},
		{as: "viewer for viewer", do: "GET /users/me", want: 403},
		{as: "viewer for root", do: "GET /users/me", want: 403},
		{as: "root", do: "GET /users/me", send: header{"X-On-Behalf-Of": "nonsense"}, want: 400},
		{as: "root", do: "GET /users/me", send: header{"X-On-Behalf-Of": ""}, want: 400}, // not with the rights of root
		{as: "root", do: "GET /users/me", send: header{"X-On-Behalf-Of": newID}, want: 403},
		{do: "GET /users/me", send: header{"X-On-Behalf-Of": newID}, want: 401},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
	line := w.log.request(t, "behalf")
	if line["user"] != w.names["editor"] || line["acting"] != w.names["root"] {
		t.Errorf("the log names %v for %v", line["acting"], line["user"])
	}
}

func TestMeNamesAllSpaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/ab/members/{viewer}", json: `{"role": "editor"}`, want: 201},
		{as: "viewer", do: "GET /users/me", want: 200, like: `{"id": "{viewer}", "full_name": "Viewer Person", "is_superadmin": false, "spaces": [
			{"slug": "a", "name": "The space a", "role": "viewer"}, {"slug": "ab", "name": "The space ab", "role": "editor"}]}`},
		{as: "root", do: "GET /users/me", want: 200, like: `{"id": "{root}", "full_name": "Root Person", "is_superadmin": true, "spaces": []}`},
		{do: "GET /users/me", want: 401},
	})
}

func TestWhoeverHoldsTheDataDirectoryNeedsNoKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serve(w.server.Operator())
	upload := step{do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 403}
	behalf := upload
	behalf.send, behalf.want = header{"X-On-Behalf-Of": personID("editor").String()}, 201
	w.play(t, []step{
		{do: "GET /directory/users", want: 200},
		{do: "POST /directory/users/{viewer}/api-keys", json: `{"name": "made by hand"}`, want: 201},
		{do: "GET {product}/attachments", want: 200},
		upload, // nobody to name as its uploader
		behalf,
	})
}

// ASVS 7.2.3, 7.4.1, 7.4.2, 8.3.2
func TestRevokingIsSeenByTheNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.DownloadByURL = true })
	for range 20 {
		w.play(t, []step{
			{as: "viewer", do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "K"},
			{as: "K", do: "GET /users/me", want: 200},
			{as: "viewer", do: "DELETE /api-keys/{K}", want: 200},
			{as: "K", do: "GET /users/me", want: 401},
		})
	}
}

// A slow upload may last for hours.
// ASVS 7.2.3, 7.4.1, 7.4.2, 8.3.2
func TestWhatIsRevokedDuringAnUploadCountsForIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   []step
		want int
	}{
		{"nothing happened", nil, 201},
		{"for another: nothing happened", nil, 201},
		{"for another: the actor is no superadmin any more", []step{{as: "root", do: "PUT /directory/users/{stranger}", json: `{"full_name": "Stranger", "is_superadmin": false}`, want: 200}}, 403},
		{"for another: the actor was deleted", []step{{as: "root", do: "DELETE /directory/users/{stranger}", want: 200}}, 401},
		{"for another: the user was deleted", []step{{as: "root", do: "DELETE /directory/users/{editor}", want: 200}}, 403},
		{"for another: the user left the space", []step{{as: "root", do: "DELETE /directory/spaces/a/members/{editor}", want: 200}}, 403},
		{"the key was revoked", []step{{as: "root", do: "DELETE /directory/users/{editor}/api-keys/{K}", want: 200}}, 401},
		{"the user was deleted", []step{{as: "root", do: "DELETE /directory/users/{editor}", want: 200}}, 401},
		{"the user left the space", []step{{as: "root", do: "DELETE /directory/spaces/a/members/{editor}", want: 200}}, 403},
		{"the user became a viewer", []step{{as: "root", do: "PUT /directory/spaces/a/members/{editor}", json: `{"role": "viewer"}`, want: 200}}, 403},
		{"the product was deleted", []step{{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}", want: 200}}, 404},
		{"the product is in another space now", []step{
			{as: "root", do: "DELETE /directory/spaces/a/products/{product.id}", want: 200},
			{as: "root", do: "PUT /directory/spaces/ab/products/{product.id}", json: `{}`, want: 201},
		}, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := step{as: "K", do: "POST {product}/attachments", form: parts{file("a.txt", text(2000))}, want: c.want}
			by := "editor"
			var headers []string
			if strings.HasPrefix(c.name, "for another") {
				by, headers = "stranger", []string{w.fill(t, "X-On-Behalf-Of: {editor}")}
				w.do(t, step{as: "root", do: "PUT /directory/users/{stranger}", json: `{"full_name": "Stranger", "is_superadmin": true}`, want: 200})
			}
			w.do(t, step{as: by, do: "POST /api-keys", json: `{"name": "x"}`, want: 201, save: "K"})
			body := s.form.encode(t, w)
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, s, len(body), headers...))
			io.WriteString(conn, body[:len(body)/2])
			eventually(t, "the upload to begin", func() bool { return w.server.Uploads() == 1 })
			w.play(t, c.do)
			io.WriteString(conn, body[len(body)/2:])
			w.receive(t, conn, s)
		})
	}
}

func TestAUserHasSoManyKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var creating sync.WaitGroup
	for n := range store.MaxKeys - 1 { // the user has one
		creating.Go(func() {
			k := store.Key{ID: uuid.New(), UserID: personID("stranger"), Hash: [32]byte{1, byte(n), byte(n >> 8)}}
			if err := w.store.CreateKey(context.Background(), k); err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	const full = "This user has 200 API keys, and may not have more. Revoke one that is not needed, or use one that is there."
	w.play(t, []step{
		{as: "stranger", do: "POST /api-keys", json: `{"name": "one too many"}`, want: 409, code: "conflict", says: full},
		{as: "root", do: "POST /directory/users/{stranger}/api-keys", json: `{"name": "one too many"}`, want: 409, code: "conflict", says: full},
		{as: "root", do: "POST /directory/users/{viewer}/api-keys", json: `{"name": "of another"}`, want: 201},
	})
}
