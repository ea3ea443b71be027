package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server"
)

const alphabet = "abcdefghijklmnopqrstuvwxyz"

// withFile is a world with a file A in the product of space a.
func withFile(t *testing.T, content string, options ...func(*server.Config)) *world {
	w := newWorld(t, options...)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", content)}, want: 201, save: "A"})
	return w
}

func etag(w *world, t *testing.T) string {
	return w.do(t, step{as: "viewer", do: "HEAD {A.at}", want: 200}).header.Get("ETag")
}

// ASVS 1.4.2
func TestRanges(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	for _, c := range []struct {
		ranges string
		want   int
		is     string
		at     string // Content-Range
	}{
		{"bytes=0-0", 206, "a", "bytes 0-0/26"},
		{"bytes=0-25", 206, alphabet, "bytes 0-25/26"},
		{"bytes=0-99", 206, alphabet, "bytes 0-25/26"},
		{"bytes=3-5", 206, "def", "bytes 3-5/26"},
		{"bytes=24-", 206, "yz", "bytes 24-25/26"},
		{"bytes=-2", 206, "yz", "bytes 24-25/26"},
		{"bytes=-99", 206, alphabet, "bytes 0-25/26"},
		{"bytes=26-", 416, "", "bytes */26"},
		{"bytes=26-30", 416, "", "bytes */26"},
		{"bytes=9223372036854775807-", 416, "", "bytes */26"},
		{"bytes=-0", 416, "", "bytes */26"},
		{"bytes=30-40,-0", 416, "", "bytes */26"},
		{"bytes=30-40, 24-", 206, "yz", "bytes 24-25/26"},
		{"bytes=0-18446744073709551615", 206, alphabet, "bytes 0-25/26"},
		{"bytes=18446744073709551615-", 416, "", "bytes */26"},
		{"bytes=-18446744073709551615", 206, alphabet, "bytes 0-25/26"},
		// What is no range of bytes is ignored.
		{"bytes=5-3", 200, alphabet, ""},
		{"bytes=nonsense", 200, alphabet, ""},
		{"bytes=1-2-3", 200, alphabet, ""},
		{"bytes=--1", 200, alphabet, ""},
		{"bytes=-", 200, alphabet, ""},
		{"bytes=", 200, alphabet, ""},
		{"bytes 0-1", 200, alphabet, ""},
		{"items=0-1", 200, alphabet, ""},
	} {
		t.Run(c.ranges, func(t *testing.T) {
			a := w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Range": c.ranges}, want: c.want, is: c.is})
			if c.at != "" && a.header.Get("Content-Range") != c.at {
				t.Errorf("Content-Range is %q, want %q", a.header.Get("Content-Range"), c.at)
			}
		})
	}
}

func TestSeveralRanges(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	a := w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-2,-3"}, want: 206})
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" {
		t.Fatalf("Content-Type is %q: %v", a.header.Get("Content-Type"), err)
	}
	reader := multipart.NewReader(bytes.NewReader(a.body), params["boundary"])
	for _, want := range []struct{ at, is string }{{"bytes 0-2/26", "abc"}, {"bytes 23-25/26", "xyz"}} {
		part, err := reader.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(part)
		if string(body) != want.is || part.Header.Get("Content-Range") != want.at || part.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("part %v: %s", part.Header, body)
		}
	}
	// More than the file altogether is the file.
	many := strings.TrimSuffix(strings.Repeat("0-20,", 1000), ",")
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=" + many}, want: 200, is: alphabet})
}

func TestConditions(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	whole := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
	tag, modified := whole.header.Get("ETag"), whole.header.Get("Last-Modified")
	const before, after = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2100 00:00:00 GMT"
	for _, c := range []struct {
		name string
		send header
		want int
		is   string
	}{
		{"If-None-Match: the tag", header{"If-None-Match": tag}, 304, ""},
		{"If-None-Match: the tag among others", header{"If-None-Match": `"x", ` + tag}, 304, ""},
		{"If-None-Match: the tag on its second line", header{"If-None-Match": "\"x\"\n" + tag}, 304, ""},
		{"If-Match: the tag on its second line", header{"If-Match": "\"x\"\n" + tag}, 200, alphabet},
		{"If-None-Match: the tag, weak", header{"If-None-Match": "W/" + tag}, 304, ""},
		{"If-None-Match: any", header{"If-None-Match": "*"}, 304, ""},
		{"If-None-Match: another tag", header{"If-None-Match": `"x"`}, 200, alphabet},
		{"If-None-Match wins over If-Modified-Since", header{"If-None-Match": `"x"`, "If-Modified-Since": after}, 200, alphabet},
		{"If-Modified-Since: the time", header{"If-Modified-Since": modified}, 304, ""},
		{"If-Modified-Since: later", header{"If-Modified-Since": after}, 304, ""},
		{"If-Modified-Since: earlier", header{"If-Modified-Since": before}, 200, alphabet},
		{"If-Match: the tag", header{"If-Match": tag}, 200, alphabet},
		{"If-Match: another tag", header{"If-Match": `"x"`}, 412, ""},
		{"If-Unmodified-Since: earlier", header{"If-Unmodified-Since": before}, 412, ""},
		{"If-Range: the tag", header{"Range": "bytes=0-2", "If-Range": tag}, 206, "abc"},
		{"If-Range: another tag", header{"Range": "bytes=0-2", "If-Range": `"x"`}, 200, alphabet},
		{"If-Range: the time", header{"Range": "bytes=0-2", "If-Range": modified}, 206, "abc"},
		{"If-Range: another time", header{"Range": "bytes=0-2", "If-Range": before}, 200, alphabet},
		{"If-None-Match with a range", header{"Range": "bytes=0-2", "If-None-Match": tag}, 304, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.do(t, step{as: "viewer", do: "GET {A.at}", send: c.send, want: c.want, is: c.is})
			if c.want == 304 && (len(a.body) > 0 || a.header.Get("ETag") != tag) {
				t.Errorf("a 304 with ETag %q and the body %q", a.header.Get("ETag"), a.body)
			}
		})
	}
}

// The headers of every download, and those that depend on the status.
// ASVS 3.2.1, 3.4.4 to 3.4.6, 3.5.8
func TestTheHeadersOfADownloadAreExactlyThese(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	always := []string{"Cache-Control", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Date", "Referrer-Policy", "X-Content-Type-Options", "X-Request-Id"}
	ofFile := []string{"Accept-Ranges", "Content-Disposition", "Content-Length", "Content-Type", "Etag", "Last-Modified", "Repr-Digest", "Vary"}
	ofRefusal := []string{"Content-Length", "Content-Type"}
	tag := etag(w, t)
	for _, c := range []struct {
		step step
		want []string
	}{
		{step{as: "viewer", do: "GET {A.at}", want: 200}, ofFile},
		{step{as: "viewer", do: "HEAD {A.at}", want: 200}, ofFile},
		{step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=1-2"}, want: 206}, append([]string{"Content-Range"}, ofFile...)},
		{step{as: "viewer", do: "GET {A.at}", send: header{"If-None-Match": tag}, want: 304}, nil},
		{step{do: "GET {A.at}", want: 401}, append([]string{"Www-Authenticate"}, ofRefusal...)},
		{step{as: "stranger", do: "GET {A.at}", want: 403}, ofRefusal},
		{step{as: "viewer", do: "GET /catalog/attachments/{viewer}/download", want: 404}, ofRefusal},
		{step{as: "viewer", do: "GET {A.at}", send: header{"If-Match": `"x"`}, want: 412}, append([]string{"Vary"}, ofRefusal...)},
		{step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=99-"}, want: 416}, append([]string{"Content-Range", "Vary"}, ofRefusal...)},
	} {
		t.Run(fmt.Sprint(c.step.do[:4], c.step.want), func(t *testing.T) {
			c.step.header = header{
				"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, no-cache", "Cross-Origin-Resource-Policy": "same-origin"}
			got := headerNames(w.do(t, c.step).header)
			want := slices.Concat(always, c.want)
			if c.step.want == 304 {
				// A 304 may name what a cache should keep, but no more of the file.
				got = slices.DeleteFunc(got, func(name string) bool {
					return slices.Contains([]string{"Etag", "Vary", "Accept-Ranges", "Content-Disposition", "Repr-Digest", "Last-Modified"}, name)
				})
			}
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("the headers are %q, want %q", got, want)
			}
		})
	}
	whole := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, header: header{
		"Content-Length": "26", "Accept-Ranges": "bytes", "Vary": "Accept", "Content-Type": "text/plain",
		"Content-Disposition": `attachment; filename="a.txt"; filename*=UTF-8''a.txt`,
		"Repr-Digest":         digest(alphabet),
		"ETag":                `"71c480df93d6ae2f1efad1447c66c9525e316218cf51fc8d9ed832f2daf18b73"`,
	}})
	if _, err := http.ParseTime(whole.header.Get("Last-Modified")); err != nil {
		t.Error(err)
	}
}

func TestHeadAnswersAsGetWithoutTheBody(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	link := step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"}
	w.play(t, []step{link,
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("t.txt", alphabet)}, want: 201, save: "T"},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("m.txt", alphabet)}, want: 201, save: "M"},
	})
	for _, path := range []string{"{A.at}", "{T.at}", "{M.at}", "{link}"} {
		for _, c := range []struct {
			send header
			want int
		}{
			{nil, 200},
			{header{"Range": "bytes=3-7"}, 206},
			{header{"Range": "bytes=99-"}, 416},
			{header{"If-None-Match": "*"}, 304},
			{header{"Accept": "application/json"}, 200},
		} {
			get := w.do(t, step{as: "viewer", do: "GET " + path, send: c.send, want: c.want})
			head := w.do(t, step{as: "viewer", do: "HEAD " + path, send: c.send, want: c.want})
			if len(head.body) > 0 {
				t.Errorf("HEAD %s answered %q", path, head.body)
			}
			for name := range get.header {
				g, h := get.header.Get(name), head.header.Get(name)
				if name != "X-Request-Id" && name != "Date" && g != h {
					t.Errorf("%s with %v: %s is %q for GET and %q for HEAD", path, c.send, name, g, h)
				}
			}
		}
	}
}

func TestTheDownloadOfAProductIsBytesOrAURL(t *testing.T) {
	t.Parallel()
	byURL := func(c *server.Config) { c.DownloadByURL = true }
	content, url := withFile(t, alphabet), withFile(t, alphabet, byURL)
	for _, c := range []struct {
		accept  string
		content string // what a server of bytes answers
		url     string // what one of URLs answers
	}{
		{"", "bytes", "url"},
		{"*/*", "bytes", "url"},
		{"text/html,application/xhtml+xml,*/*;q=0.8", "bytes", "url"},
		{"application/json", "url", "url"},
		{"APPLICATION/JSON; charset=utf-8", "url", "url"},
		{"application/json, text/plain", "url", "url"},
		{"application/json, */*", "bytes", "url"},
		{"application/json;q=0", "bytes", "url"},
		{"application/jsonlines", "bytes", "url"},
		{"application/json, application/octet-stream;q=0.5", "url", "url"},
		{"application/json;q=0.1, application/octet-stream", "bytes", "bytes"},
		{"application/json, application/octet-stream", "bytes", "url"},
		{"application/octet-stream", "bytes", "bytes"},
		{"application/octet-stream, */*", "bytes", "bytes"},
		{"text/plain", "bytes", "url"},
	} {
		t.Run("Accept: "+c.accept, func(t *testing.T) {
			for _, mode := range []struct {
				w    *world
				want string
			}{{content, c.content}, {url, c.url}} {
				s := step{as: "viewer", do: "GET {A.at}", want: 200, header: header{"Vary": "Accept", "Cache-Control": "private, no-cache"}}
				if mode.want == "url" {
					s.header["Cache-Control"] = "no-store"
				}
				if c.accept != "" {
					s.send = header{"Accept": c.accept}
				}
				a := mode.w.do(t, s)
				if mode.want == "bytes" && string(a.body) != alphabet {
					t.Errorf("answered %s, want the file", a.body)
				}
				if mode.want == "url" {
					checkURLDocument(t, mode.w, a, "a.txt")
				}
			}
		})
	}
	// Only route 3 has a choice.
	w := url
	w.play(t, []step{
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("t.txt", alphabet)}, want: 201, save: "T"},
		{as: "viewer", do: "GET {T.at}", send: header{"Accept": "application/json"}, want: 200, is: alphabet},
		{as: "editor", do: "POST {meeting}/attachments", form: parts{file("m.txt", alphabet)}, want: 201, save: "M"},
		{as: "viewer", do: "GET {M.at}", send: header{"Accept": "application/json"}, want: 200, is: alphabet},
	})
}

// checkURLDocument checks that a document has its members, and that its URL works
// without a key.
func checkURLDocument(t *testing.T, w *world, a answer, fileName string) {
	t.Helper()
	object := a.object(t)
	address, _ := object["download_url"].(string)
	if len(object) != 3 || object["file_name"] != fileName || object["expires_at"] != "2026-01-15T11:30:00Z" || !strings.HasPrefix(address, w.url+"/files/") {
		t.Errorf("the URL document is %s", a.body)
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("a URL document of type %q", a.header.Get("Content-Type"))
	}
	w.do(t, step{do: "GET " + pathOf(t, address), want: 200, is: alphabet})
}

// ASVS 5.4.1
func TestNothingInTheQueryChangesNameOrType(t *testing.T) {
	t.Parallel()
	w := withFile(t, "<b>not HTML</b>")
	plain := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200})
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
	const query = "filename=evil.html&file_name=evil.html&disposition=inline&inline=1&content_type=text/html&response-content-type=text/html&response-content-disposition=inline"
	for _, path := range []string{"{A.at}?" + query, "{link}&" + query} {
		w.do(t, step{as: "viewer", do: "GET " + path, want: 200, is: "<b>not HTML</b>", header: header{
			"Content-Type":        plain.header.Get("Content-Type"),
			"Content-Disposition": plain.header.Get("Content-Disposition"),
		}})
	}
}

// damage changes a byte in the middle of a stored content.
func (w *world) damage(t *testing.T, name string) {
	t.Helper()
	path := w.blobFile(t, name)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 0x20
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// getOnce makes a GET on a new connection, which no client retries.
func (w *world) getOnce(t *testing.T, path string) (answer, error) {
	t.Helper()
	r := w.request(t, step{as: "viewer", do: "GET " + path})
	r.Close = true
	response, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(response), nil
}

// wantCut makes a GET whose answer must be cut off.
func (w *world) wantCut(t *testing.T, path string) {
	t.Helper()
	if a, err := w.getOnce(t, path); err == nil && a.cut == nil {
		t.Errorf("%d bytes came to a clean end: %.40q", len(a.body), a.body)
	}
}

func TestADamagedFileNeverEndsCleanlyAndIsRepairedByUploadingItAgain(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 5, 32 << 10, 64 << 10, 64<<10 + 1, 128 << 10, 128<<10 + 1, 192<<10 + 1, 1 << 20} {
		t.Run(fmt.Sprint(size, " bytes"), func(t *testing.T) {
			t.Parallel()
			content := text(size)
			w := withFile(t, content)
			w.expectLog("a stored content is damaged")
			w.expectLog(`"code":"damaged"`)
			w.damage(t, "{A}")
			a, err := w.getOnce(t, "{A.at}")
			if err == nil && a.cut == nil || len(a.body) >= size {
				t.Errorf("%d bytes of %d came, %v, %v", len(a.body), size, err, a.cut)
			}
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
				{as: "viewer", do: "HEAD {A.at}", want: 500},
				{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-0"}, want: 500, code: "damaged"},
				{as: "viewer", do: "GET {product}/attachments", want: 200},
				{as: "root", do: "GET /metrics", want: 200, check: func(t *testing.T, a answer) {
					if bytes.Contains(a.body, []byte("attachd_damaged_reads_total 0\n")) {
						t.Error("the damage was not counted")
					}
				}},
				{as: "stranger", do: "POST {product.ab}/attachments", form: parts{file("again.txt", content)}, want: 201},
				{as: "viewer", do: "GET {A.at}", want: 200, is: content},
			})
		})
	}
}

func TestAShortOrMissingContentIsDamagedUntilItIsUploadedAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(path string) error{
		"short":   func(path string) error { return os.Truncate(path, 10) },
		"empty":   func(path string) error { return os.Truncate(path, 0) },
		"longer":  func(path string) error { return os.WriteFile(path, []byte(alphabet+"!"), 0o600) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet)
			w.expectLog("a stored content is damaged")
			if err := spoil(w.blobFile(t, "{A}")); err != nil {
				t.Fatal(err)
			}
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
				{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-0"}, want: 500, code: "damaged"},
				{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
				{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
			})
		})
	}
}

func TestADamagedFileCanBeDeleted(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.expectLog("a stored content is damaged")
	if err := os.Truncate(w.blobFile(t, "{A}"), 3); err != nil {
		t.Fatal(err)
	}
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "viewer", do: "GET {A.at}", want: 404},
	})
}

// What is said of downloads.verify, to the letter.
func TestAFileThatIsNotTouchedIsHashedOnceAMinute(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.server.SetSteady(0)
	needVersions(t, w, w.blobFile(t, "{A}"))
	w.expectLog("a stored content is damaged")
	capitals := strings.ToUpper(alphabet)
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
	w.disk.rots.Store(true)
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: capitals})
	w.clock.advance(time.Minute - time.Second)
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: capitals})
	w.clock.advance(time.Second)
	w.wantCut(t, "{A.at}")
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
}

// A range verifies nothing of the rest, nor does a download that its client aborted.
func TestOnlyAWholeDownloadSparesTheNextTheHash(t *testing.T) {
	t.Parallel()
	content := text(16 << 20)
	w := withFile(t, content)
	w.server.SetSteady(0)
	w.flushContents()
	w.expectLog("a stored content is damaged")
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-16777214"}, want: 206},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=1-16777215"}, want: 206},
		{as: "viewer", do: "HEAD {A.at}", want: 200},
	})
	ended := make(chan struct{})
	var reads atomic.Int32
	wait := func() {
		if reads.Add(1) > 1 { // the answer begins with the bytes of the first read
			<-ended
		}
	}
	w.disk.asks.Store(&wait)
	response, err := w.client.Do(w.request(t, step{as: "viewer", do: "GET {A.at}"}))
	w.must(err)
	w.must(response.Body.Close())
	close(ended)
	w.disk.rots.Store(true)
	w.wantCut(t, "{A.at}")
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
}

func TestAFileThatIsTouchedIsHashedAgain(t *testing.T) {
	t.Parallel()
	for name, touch := range map[string]func(path string, content []byte) error{
		"written to, and dated back": func(path string, content []byte) error {
			info, err := os.Stat(path)
			return errors.Join(err, os.WriteFile(path, content, 0o600), os.Chtimes(path, info.ModTime(), info.ModTime()))
		},
		"replaced": func(path string, content []byte) error {
			return errors.Join(os.WriteFile(path+".new", content, 0o600), os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet)
			w.server.SetSteady(0)
			path := w.blobFile(t, "{A}")
			needVersions(t, w, path)
			w.expectLog("a stored content is damaged")
			w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
			before := w.versionOf(t, path)
			eventually(t, "the file system's clock to move on", func() bool {
				if err := touch(path, []byte(strings.ToUpper(alphabet))); err != nil {
					t.Fatal(err)
				}
				return w.versionOf(t, path) != before
			})
			w.wantCut(t, "{A.at}")
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
		})
	}
}

func TestAFileThatIsTouchedWhileItIsSentDoesNotEndCleanly(t *testing.T) {
	t.Parallel()
	content := text(1 << 20)
	w := withFile(t, content)
	w.server.SetSteady(0)
	w.expectLog("a file was changed while it was sent")
	path := w.blobFile(t, "{A}")
	needVersions(t, w, path)
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: content})
	before := w.versionOf(t, path)
	touch := sync.OnceFunc(func() {
		eventually(t, "the file system's clock to move on", func() bool {
			w.must(os.Chtimes(path, time.Now(), time.Now()))
			return w.versionOf(t, path) != before
		})
	})
	w.disk.asks.Store(&touch)
	w.wantCut(t, "{A.at}")
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: content})
}

// Two changes within one step of the file system's time look like one.
func TestAFileThatWasJustChangedIsHashedAgain(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.server.SetSteady(time.Hour)
	w.flushContents()
	w.expectLog("a stored content is damaged")
	w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet})
	w.disk.rots.Store(true)
	w.wantCut(t, "{A.at}")
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
}

// needVersions skips a test on systems where changes of a file cannot be detected, and
// every download is hashed.
func needVersions(t *testing.T, w *world, path string) {
	t.Helper()
	if w.versionOf(t, path) == (blobs.Version{}) {
		t.Skip("the system, or the file system of temporary files, does not tell whether a file was touched")
	}
}

func (w *world) versionOf(t *testing.T, path string) blobs.Version {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return w.blobs.Version(file)
}

func TestWithoutVerificationADamagedFileIsSentAsItIs(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, func(c *server.Config) { c.VerifyReads = false })
	w.damage(t, "{A}")
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 200, is: "abcdefghijklmNopqrstuvwxyz"},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=12-14"}, want: 206, is: "mNo"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
}

func TestAFileDeletedWhileItIsDownloadedArrivesWhole(t *testing.T) {
	t.Parallel()
	content := text(8 << 20)
	w := withFile(t, content)
	response, err := w.client.Do(w.request(t, step{as: "viewer", do: "GET {A.at}"}))
	if err != nil {
		t.Fatal(err)
	}
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
	if a := readAnswer(response); a.cut != nil || string(a.body) != content {
		t.Errorf("%d bytes came, %v", len(a.body), a.cut)
	}
}
