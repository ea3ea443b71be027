//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/blobs/s3/s3test"
)

// inBucket is the configuration of a server that keeps its files in an object store.
func inBucket(g *s3test.Gateway, more ...string) []string {
	return slices.Concat(s3test.Env(g.Host("127.0.0.1")), []string{autoCreate}, more)
}

// document is a URL document.
type document struct {
	DownloadURL string    `json:"download_url"`
	FileName    string    `json:"file_name"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// anonymous is a client without a key, which follows no redirect.
func anonymous(t *testing.T) *client {
	return &client{t: t, http: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// What a browser does with each of these names, the URL of the object store must bring about
// as the server itself does.
func TestADownloadIsASignedURLOfTheObjectStore(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	p := start(t, spoiledDir(t), inBucket(g, filesAtOnce, "ATTACHD_STORAGE_S3_PUBLIC_ENDPOINT=http://"+g.Host("localhost"))...)
	anyone := anonymous(t)
	for _, name := range []string{
		"report.txt", "two words  and more.txt", "Größe_и_размер_大きさ.txt", "👩‍👩‍👧 family 🎉.txt", "عقد.txt", "say %22hi%22.txt", "100%.txt",
		"a%20b%2Fc.txt", "a;b=c, d.txt", "q+a & (1).txt", "it's ~ [x] {y}!*.txt", "a=b?c#d.txt", "</script>.txt", "no extension", strings.Repeat("ü", 125) + ".txt",
	} {
		uploaded := p.upload(product, name, "content of "+name).want(t, 201)
		var made attachment
		check(t, json.Unmarshal([]byte(uploaded.body), &made))
		var doc document
		asked := time.Now()
		answer := p.get(uploaded.download())
		answer.into(t, &doc)
		if answer.header.Get("Cache-Control") != "no-store" || doc.FileName != made.FileName || !strings.HasPrefix(doc.DownloadURL, "http://"+g.Host("localhost")+"/bucket/attachd/blobs/sha256/") {
			t.Errorf("%q: %v %s", name, answer.header, answer.body)
		}
		if lives := doc.ExpiresAt.Sub(asked); lives > 5*time.Minute+time.Second || lives < 4*time.Minute {
			t.Errorf("the URL lives %v", lives)
		}
		file := anyone.call("", "GET", doc.DownloadURL, nil).want(t, 200)
		kind, params, err := mime.ParseMediaType(file.header.Get("Content-Disposition"))
		if err != nil || kind != "attachment" || params["filename"] != made.FileName {
			t.Errorf("%q: Content-Disposition is %q: %v", name, file.header.Get("Content-Disposition"), err)
		}
		proxied := p.call(p.key, "GET", uploaded.download(), nil, "Accept", "application/octet-stream").want(t, 200)
		for _, header := range []string{"Content-Type", "Content-Disposition", "Content-Length"} {
			if got, want := file.header.Get(header), proxied.header.Get(header); got != want {
				t.Errorf("%q: the store sends %s %q, the server %q", name, header, got, want)
			}
		}
		if file.body != "content of "+name || proxied.body != file.body || file.header.Get("Cache-Control") != "private, no-store" {
			t.Errorf("%q: %v %.80q", name, file.header, file.body)
		}
	}
}

func TestASignedURLOfTheObjectStoreGivesOneFileForAWhile(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	p := start(t, spoiledDir(t), inBucket(g, filesAtOnce, "ATTACHD_DOWNLOADS_URL_TTL=2s")...)
	anyone := anonymous(t)
	download := p.upload(product, "a.txt", "0123456789").want(t, 201).download()
	signed := func() string {
		var doc document
		p.get(download).into(t, &doc)
		return doc.DownloadURL
	}
	anyone.call("", "GET", signed(), nil, "Range", "bytes=2-4").want(t, 206)
	if a := anyone.call("", "GET", signed(), nil, "Range", "bytes=2-4"); a.body != "234" {
		t.Errorf("the range is %s", a)
	}
	for name, change := range map[string]func(query url.Values, u *url.URL){
		"type":        func(q url.Values, _ *url.URL) { q.Set("response-content-type", "text/html") },
		"disposition": func(q url.Values, _ *url.URL) { q.Set("response-content-disposition", "inline") },
		"expiry":      func(q url.Values, _ *url.URL) { q.Set("X-Amz-Expires", "604800") },
		"signature":   func(q url.Values, _ *url.URL) { q.Set("X-Amz-Signature", strings.Repeat("0", 64)) },
		"object":      func(_ url.Values, u *url.URL) { u.Path = "/bucket/attachd/attachd.json" },
	} {
		u, err := url.Parse(signed())
		check(t, err)
		q := u.Query()
		change(q, u)
		u.RawQuery = q.Encode()
		if a := anyone.call("", "GET", u.String(), nil); a.status != 403 {
			t.Errorf("another %s: %s", name, a)
		}
	}
	address := signed()
	eventually(t, "the URL expires", func() bool { return anyone.call("", "GET", address, nil).status == 403 })
	// Neither the log nor its most detailed level has it.
	if _, signature, _ := strings.Cut(address, "X-Amz-Signature="); signature == "" || strings.Contains(p.stderr(), signature) || strings.Contains(p.stderr(), "X-Amz-") {
		t.Error("the log has a signed URL")
	}
}

func TestALinkLeadsToTheObjectStore(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	p := start(t, spoiledDir(t), inBucket(g, filesAtOnce, "ATTACHD_LOG_LEVEL=debug")...)
	anyone := anonymous(t)
	download := p.upload(product, "a.txt", "0123456789").want(t, 201).download()
	links := strings.TrimSuffix(download, "/download") + "/links"
	var key struct {
		ID      string `json:"id"`
		FullKey string `json:"full_key"`
	}
	check(t, json.Unmarshal([]byte(p.call(p.key, "POST", "/api-keys", strings.NewReader(`{"name":"x"}`)).want(t, 201).body), &key))
	var doc document
	check(t, json.Unmarshal([]byte(p.call(key.FullKey, "POST", links, strings.NewReader(`{"expires_in":604800}`)).want(t, 201).body), &doc))
	if !strings.HasPrefix(doc.DownloadURL, p.url+"/files/") {
		t.Fatalf("the link is %s", doc.DownloadURL)
	}
	redirect := anyone.call("", "GET", doc.DownloadURL, nil).want(t, 302)
	address := redirect.header.Get("Location")
	u, err := url.Parse(address)
	check(t, err)
	if u.Host != g.Host("127.0.0.1") || u.Query().Get("X-Amz-Expires") != "60" || redirect.header.Get("Cache-Control") != "no-store" || strings.Contains(redirect.body, "X-Amz") {
		t.Errorf("it leads to %s: %v %s", address, redirect.header, redirect.body)
	}
	if a := anyone.call("", "GET", address, nil).want(t, 200); a.body != "0123456789" || !strings.HasPrefix(a.header.Get("Content-Disposition"), "attachment;") {
		t.Errorf("%v %s", a.header, a)
	}
	// Whoever follows redirects needs not know.
	if a := (&client{t: t, http: &http.Client{}}).call("", "GET", doc.DownloadURL, nil, "Range", "bytes=2-4").want(t, 206); a.body != "234" {
		t.Errorf("%s", a)
	}
	head := anyone.call("", "HEAD", doc.DownloadURL, nil).want(t, 200)
	if head.header.Get("Content-Length") != "10" || head.header.Get("Content-Type") != "text/plain" || head.header.Get("ETag") == "" {
		t.Errorf("HEAD has %v", head.header)
	}
	anyone.call("", "GET", doc.DownloadURL, nil, "If-None-Match", head.header.Get("ETag")).want(t, 304)
	if a := anyone.call("", "GET", doc.DownloadURL, nil, "Range", "bytes=2-4", "If-Range", head.header.Get("ETag")).want(t, 206); a.body != "234" {
		t.Errorf("%s", a)
	}
	p.call(p.key, "DELETE", "/api-keys/"+key.ID, nil).want(t, 200)
	anyone.call("", "GET", doc.DownloadURL, nil).want(t, 403)
	if audit := p.get("/audit-logs?action=attachment.download").want(t, 200).body; strings.Count(audit, `"attachment.download"`) < 3 || strings.Contains(audit, "X-Amz") {
		t.Errorf("the audit log has\n%s", audit)
	}
	if strings.Contains(p.stderr(), "X-Amz-") {
		t.Error("the log has a signed URL")
	}
}

func TestDownloadsOfAnObjectStoreMayStayWithTheServer(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	p := start(t, spoiledDir(t), inBucket(g, "ATTACHD_DOWNLOADS_MODE=content")...)
	content := strings.Repeat("a line of a file\n", 10_000)
	download := p.upload(product, "a.txt", content).want(t, 201).download()
	if a := p.get(download).want(t, 200); a.body != content || a.header.Get("ETag") == "" {
		t.Errorf("%v %.80q", a.header, a.body)
	}
	var doc document
	p.call(p.key, "GET", download, nil, "Accept", "application/json").into(t, &doc)
	if a := anonymous(t).call("", "GET", doc.DownloadURL, nil).want(t, 200); a.body != content || !strings.HasPrefix(doc.DownloadURL, p.url+"/files/") {
		t.Errorf("%s: %.80q", doc.DownloadURL, a.body)
	}
}

// The client commands need bytes, whatever the storage is.
func TestTheClientCommandsGetFilesOfAnObjectStore(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	p := start(t, spoiledDir(t), inBucket(g)...)
	for _, size := range []int{10, 200_000} { // one is staged
		content := strings.Repeat("x", size)
		download := p.upload(product, fmt.Sprint(size, ".txt"), content).want(t, 201).download()
		env := []string{"ATTACHD_SERVER=" + p.url, "ATTACHD_KEY=" + p.key}
		if got := ok(t, append(env, "get", download, "--output", "-")...); got != content {
			t.Errorf("get wrote %.80q", got)
		}
		link := strings.TrimSpace(ok(t, append(env, "link", download)...))
		if a := (&client{t: t, http: &http.Client{}}).call("", "GET", link, nil).want(t, 200); a.body != content {
			t.Errorf("%s leads to %.80q", link, a.body)
		}
	}
}

func TestABackupEndsWhereTheObjectStoreDoesNotAnswer(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	dir := spoiledDir(t)
	p := start(t, dir, inBucket(g, filesAtOnce, "ATTACHD_STORAGE_S3_TIMEOUT=1s")...)
	for i := range 12 {
		p.upload(product, fmt.Sprint(i, ".txt"), fmt.Sprint("file ", i)).want(t, 201)
	}
	g.Kill()
	to := filepath.Join(t.TempDir(), "backup")
	r := wantCode(t, 1, attachd(t, "backup", to, "--data-dir", dir))
	if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 || !strings.Contains(r.stderr, "no restore point was made, since the server's storage") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	if points := names(t, filepath.Join(to, "points")); len(points) > 0 {
		t.Errorf("there are points: %v", points)
	}
	g.Start()
	ok(t, "backup", to, "--data-dir", dir)
}

func TestAnObjectStoreThatIsDownOrHasLostAFile(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	dir := spoiledDir(t)
	p := start(t, dir, inBucket(g, filesAtOnce, "ATTACHD_DOWNLOADS_MODE=content", "ATTACHD_STORAGE_S3_TIMEOUT=1s")...)
	content := strings.Repeat("a line of a file\n", 10_000)
	download := p.upload(product, "a.txt", content).want(t, 201).download()
	g.Kill()
	if a := p.get(download).want(t, 503); !strings.Contains(a.body, "storage_unreadable") || a.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", a.header, a)
	}
	p.call(p.key, "HEAD", download, nil).want(t, 200)
	g.Start()
	if a := p.get(download).want(t, 200); a.body != content {
		t.Errorf("%.80q", a.body)
	}
	for _, name := range g.Objects() {
		remove(t, filepath.Join(g.Dir, "bucket", name))
	}
	if a := p.get(download).want(t, 500); !strings.Contains(a.body, `"damaged"`) {
		t.Errorf("%s", a)
	}
	if r := attachd(t, append(inBucket(g), "check", "--data-dir", dir)...); r.code != 3 || !strings.Contains(r.stdout+r.stderr, "a.txt") {
		t.Errorf("check: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	p.upload(product, "again.txt", content).want(t, 201)
	if a := p.get(download).want(t, 200); a.body != content {
		t.Errorf("%.80q", a.body)
	}
	if r := attachd(t, append(inBucket(g), "check", "--deep", "--data-dir", dir)...); r.code != 0 {
		t.Errorf("check: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}
