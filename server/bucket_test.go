package server_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server"
	"attachd/store/bolt"
)

// bucket is an object store in memory that fails as a test wants.
type bucket struct {
	*s3test.Memory
	get atomic.Pointer[getter] // nil: as ever
	// marks is how many contents more the catalog says are marked than there are.
	marks atomic.Int64
}

// marked is a catalog with more marks than there are.
type marked struct {
	blobs.Catalog
	*bucket
}

func (m marked) Damaged() int { return m.Catalog.Damaged() + int(m.marks.Load()) }

// getter answers the GET of the object of a content.
type getter func(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error)

func (b *bucket) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	if get := b.get.Load(); get != nil && strings.Contains(name, "/blobs/") {
		return (*get)(ctx, name, from, end)
	}
	return b.Memory.Get(ctx, name, from, end)
}

// answers sets what the store answers from now on; nil is what it has.
func (b *bucket) answers(get getter) {
	if get == nil {
		b.get.Store(nil)
		return
	}
	b.get.Store(&get)
}

// sends is an answer of these bytes, of an object of a size.
func sends(size int, content string) getter {
	return func(_ context.Context, _ string, from, _ int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(content[from:])), int64(size), nil
	}
}

// fails is an answer that is an error.
func fails(err error) getter {
	return func(context.Context, string, int64, int64) (io.ReadCloser, int64, error) { return nil, 0, err }
}

// inBucket keeps the contents of a world in an object store.
func inBucket(t *testing.T, b *bucket) func(*server.Config) {
	return func(c *server.Config) {
		if *withVersitygw || *withPostgres {
			t.Skip("has an object store of its own")
		}
		b.Memory = new(s3test.Memory)
		clients := httptest.NewServer(http.HandlerFunc(b.ServeLink))
		t.Cleanup(clients.Close)
		b.URL, b.Now = clients.URL, c.Now
		catalog, err := c.Store.(*bolt.Store).Catalog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		contents, err := s3.Open(t.Context(), s3.Options{
			Bucket: b, Catalog: marked{catalog, b}, Local: c.Blobs.(*disk.Store), Prefix: "p/", Patience: 10 * time.Millisecond, KeepDeleted: time.Hour,
			Installation: func(context.Context) (string, error) { return "this one", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Blobs, c.Abilities = contents, server.AbilitiesOf(c.Store, contents)
		c.DownloadByURL, c.StorageURLTTL = true, 5*time.Minute
	}
}

// bytesOf asks for the file itself.
var bytesOf = header{"Accept": "application/octet-stream"}

// fetch is what anybody gets at an address of the object store.
func fetch(t *testing.T, address string) answer {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	return readAnswer(response)
}

func TestADownloadIsAURLOfTheObjectStore(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	for _, c := range []struct {
		accept string
		url    bool
	}{
		{"*/*", true},
		{"application/json", true},
		{"text/html,application/xhtml+xml,*/*;q=0.8", true},
		{"application/octet-stream", false},
		{"application/json;q=0.1, application/octet-stream", false},
	} {
		s := step{as: "viewer", do: "GET {A.at}", send: header{"Accept": c.accept}, want: 200, header: header{"Vary": "Accept"}}
		if !c.url {
			s.is = alphabet
			w.do(t, s)
			continue
		}
		s.header["Cache-Control"] = "no-store"
		document := w.do(t, s).object(t)
		address, _ := document["download_url"].(string)
		if len(document) != 3 || document["file_name"] != "a.txt" || document["expires_at"] != "2026-01-15T10:35:00Z" || !strings.HasPrefix(address, b.URL+"/p/blobs/") {
			t.Errorf("the URL document is %v", document)
		}
		file := fetch(t, address)
		if file.status != 200 || string(file.body) != alphabet || file.header.Get("Content-Type") != "text/plain" || file.header.Get("Content-Disposition") != `attachment; filename="a.txt"; filename*=UTF-8''a.txt` {
			t.Errorf("the store answers %d %v %s", file.status, file.header, file.body)
		}
	}
	// Only route 3 has a choice, and previews come from this server.
	w.play(t, []step{
		{as: "owner", do: "POST {ticket}/attachments", form: parts{file("t.txt", alphabet)}, want: 201, save: "T"},
		{as: "viewer", do: "GET {T.at}", want: 200, is: alphabet},
		{as: "viewer", do: "GET /issues/attachments/{T}/preview", want: 200, like: `{"kind": "text", "text": "` + alphabet + `", "truncated": false}`},
	})
	w.serve(w.server.Operator()) // whose commands have no key for a link
	w.do(t, step{do: "GET {A.at}", want: 200, is: alphabet})
}

func TestAURLDocumentHasALinkWhereTheObjectStoreHasNoURL(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		option func(*server.Config)
		spoil  func(w *world, b *bucket)
		want   int
	}{
		"staged": {func(*server.Config) {}, func(*world, *bucket) {}, 200},
		"damaged": {filesAtOnce, func(w *world, b *bucket) {
			w.expectLog("a stored content is damaged")
			b.answers(sends(25, alphabet[1:]))
			w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 500, code: "damaged"})
			b.answers(nil)
		}, 500},
		"no credentials": {filesAtOnce, func(_ *world, b *bucket) { b.URL = "" }, 200},
		"proxied only":   {func(c *server.Config) { c.Linker, c.StorageURLTTL = nil, time.Hour }, func(*world, *bucket) {}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bucket
			w := withFile(t, alphabet, inBucket(t, &b), c.option)
			c.spoil(w, &b)
			document := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, save: "link"}).object(t)
			if !strings.HasPrefix(fmt.Sprint(document["download_url"]), w.url+"/files/") || name != "proxied only" && document["expires_at"] != "2026-01-15T10:35:00Z" {
				t.Errorf("the URL document is %v", document)
			}
			s := step{do: "GET {link}", want: c.want, code: map[int]string{500: "damaged"}[c.want]}
			if c.want == 200 {
				s.is = alphabet
			}
			w.do(t, s)
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
		})
	}
}

// ASVS 7.2.3, 7.4.1, 7.4.2, 8.3.2, 16.2.5
func TestALinkRedirectsToTheObjectStore(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	w.play(t, []step{
		{as: "viewer", do: "POST /api-keys", json: `{"name": "temporary"}`, want: 201, save: "temp"},
		{as: "temp", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 604800}`, want: 201, save: "link"},
		{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"disposition": "inline"}`, want: 201, save: "inline"},
	})
	a := w.do(t, step{do: "GET {link}", want: 302, header: header{"Cache-Control": "no-store", "Content-Type": "application/json", "ETag": "", "Content-Disposition": ""}})
	address := a.header.Get("Location")
	_, signature, _ := strings.Cut(address, "signature=")
	if !strings.HasPrefix(address, b.URL+"/p/blobs/") || signature == "" || bytes.Contains(a.body, []byte(signature)) {
		t.Errorf("it leads to %q: %s", address, a.body)
	}
	if file := fetch(t, address); file.status != 200 || string(file.body) != alphabet || !strings.HasPrefix(file.header.Get("Content-Disposition"), "attachment;") {
		t.Errorf("there is %d %v %s", file.status, file.header, file.body)
	}
	w.log.request(t, a.header.Get("X-Request-Id")) // it is recorded by then
	if list := w.auditLog(t, "?action=attachment.download"); len(list) != 1 || list[0].Resource.ID != w.names["A"] || list[0].Outcome != "done" {
		t.Errorf("the audit log has %+v", list)
	}
	tag := `"` + blobs.RefOf([]byte(alphabet)).String() + `"`
	w.play(t, []step{
		{do: "GET {link}", send: header{"Range": "bytes=1-2"}, want: 302},
		{do: "HEAD {link}", want: 200, header: header{"Content-Length": "26", "Content-Type": "text/plain", "ETag": tag, "Location": ""}},
		// A condition speaks of what this server calls the file.
		{do: "GET {link}", send: header{"If-None-Match": tag}, want: 304},
		{do: "GET {link}", send: header{"If-Match": tag}, want: 200, is: alphabet},
		{do: "GET {link}", send: header{"If-Match": `"x"`}, want: 412},
		{do: "GET {link}", send: header{"Range": "bytes=1-2", "If-Range": tag}, want: 206, is: "bc"},
		{do: "GET {link}", send: header{"If-Modified-Since": "Fri, 31 Dec 2100 00:00:00 GMT"}, want: 304},
		{do: "GET {inline}", want: 200, is: alphabet, header: header{"Content-Disposition": `inline; filename="a.txt"; filename*=UTF-8''a.txt`}},
		{as: "root", do: "GET /metrics", want: 200, check: func(t *testing.T, a answer) {
			if !bytes.Contains(a.body, []byte("\nattachd_storage_urls_total 2\n")) {
				t.Error("the signed URLs were not counted")
			}
		}},
	})
	w.clock.advance(time.Minute)
	if file := fetch(t, address); file.status != 403 {
		t.Errorf("after a minute there is %d", file.status)
	}
	w.play(t, []step{
		{do: "GET {link}", want: 302},
		{as: "viewer", do: "DELETE /api-keys/{temp}", want: 200},
		{do: "GET {link}", want: 403, code: "invalid_signature"},
	})
	for _, line := range w.log.lines() {
		if strings.Contains(line, signature) {
			t.Errorf("the log shows a signature: %s", line)
		}
	}
}

// The store is a host of its own for files already.
func TestALinkOfTheHostForFilesRedirectsToTheObjectStoreToo(t *testing.T) {
	t.Parallel()
	var b bucket
	w := newWorld(t, filesAtOnce, inBucket(t, &b), contentElsewhere)
	w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: parts{file("t.txt", alphabet)}, want: 201, save: "T"})
	a := w.do(t, step{as: "viewer", do: "POST {T.at}/links", want: 201})
	w.names["link"] = pathOf(t, a.object(t)["download_url"].(string))
	there := w.do(t, onContentHost(step{do: "GET {link}", want: 302}))
	here := w.do(t, step{do: "GET " + strings.TrimPrefix(w.fill(t, "{link}"), "/c"), want: 302})
	for _, a := range []answer{there, here} {
		if file := fetch(t, a.header.Get("Location")); string(file.body) != alphabet {
			t.Errorf("%s leads to %d %s", a.header.Get("Location"), file.status, file.body)
		}
	}
	w.do(t, onContentHost(step{do: "HEAD {link}", want: 200, header: header{"Content-Length": "26"}}))
}

// A program asks attachd for the bytes, and follows no redirects. A browser with a session is
// sent to the host for files.
func TestWhoBringsAKeyGetsTheBytesOfAnObjectWithoutARedirect(t *testing.T) {
	t.Parallel()
	var b bucket
	w := newWorld(t, filesAtOnce, inBucket(t, &b), contentElsewhere)
	w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: parts{file("t.txt", alphabet)}, want: 201, save: "T"})
	w.do(t, step{as: "editor", do: "POST {meeting}/attachments", form: parts{file("m.txt", alphabet)}, want: 201, save: "M"})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("p.txt", alphabet)}, want: 201, save: "P"})
	session := w.signIn(t, "viewer", nil)
	for _, at := range []string{"{T.at}", "{M.at}", "{P.at}"} {
		w.play(t, []step{
			{as: "viewer", do: "GET " + at, send: bytesOf, want: 200, is: alphabet},
			{as: "viewer", do: "GET " + at, send: header{"Accept": bytesOf["Accept"], "Range": "bytes=1-2"}, want: 206, is: "bc"},
			{do: "GET " + at, send: header{"Accept": bytesOf["Accept"], "Cookie": session.String()}, want: 307},
			{as: "stranger", do: "GET " + at, send: bytesOf, want: 403},
		})
	}
}

// Chunks are verified as a whole, so that at most one more is asked for than is wanted.
func TestARangeIsAllThatTheObjectStoreIsAskedFor(t *testing.T) {
	t.Parallel()
	content := text(600_000)
	for _, verify := range []bool{true, false} {
		var b bucket
		w := withFile(t, content, inBucket(t, &b), func(c *server.Config) { c.VerifyReads = verify })
		for _, c := range []struct {
			ranged               string
			verified, unverified []string
			has                  string
		}{
			{"bytes=0-9", []string{"0-65536"}, []string{"0-65536"}, content[:10]},
			{"bytes=65536-131071", []string{"65536-131072"}, []string{"65536-131072"}, content[65536:131072]},
			{"bytes=70000-140000", []string{"65536-196608"}, []string{"70000-196608"}, content[70_000:140_001]},
			{"bytes=-10", []string{"589824-0"}, []string{"599990-0"}, content[599_990:]},
			{"bytes=590000-9999999", []string{"589824-0"}, []string{"590000-0"}, content[590_000:]},
			{"bytes=0-9,300000-300009", []string{"0-65536", "262144-327680"}, []string{"0-65536", "300000-327680"}, content[300_000:300_010]},
			{"bytes=0-", []string{"0-0"}, []string{"0-0"}, content},
		} {
			var mu sync.Mutex
			var asked []string
			b.answers(func(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
				mu.Lock()
				defer mu.Unlock()
				asked = append(asked, fmt.Sprintf("%d-%d", from, end))
				return b.Memory.Get(ctx, name, from, end)
			})
			a := w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Accept": bytesOf["Accept"], "Range": c.ranged}, want: 206})
			want := c.unverified
			if verify {
				want = c.verified
			}
			mu.Lock()
			if !slices.Equal(asked, want) || !strings.Contains(string(a.body), c.has) {
				t.Errorf("%s, verify is %v: the store was asked for %q, not %q; %d bytes came", c.ranged, verify, asked, want, len(a.body))
			}
			mu.Unlock()
		}
	}
}

func TestADownloadIsOneRequestToTheObjectStore(t *testing.T) {
	t.Parallel()
	content := text(600_000)
	for _, verify := range []bool{true, false} {
		var b bucket
		w := withFile(t, content, inBucket(t, &b), func(c *server.Config) { c.VerifyReads = verify })
		var asked atomic.Int32
		b.answers(func(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
			asked.Add(1)
			return b.Memory.Get(ctx, name, from, end)
		})
		w.do(t, step{as: "viewer", do: "HEAD {A.at}", send: bytesOf, want: 200, header: header{"Content-Length": "600000"}})
		w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: content})
		if n := asked.Load(); n != 1 {
			t.Errorf("verify is %v, and the store was asked %d times", verify, n)
		}
	}
}

// A store that has lost or changed a content says so at once, as the disk does; one that
// answers nothing says nothing of the content.
func TestFaultsOfTheObjectStore(t *testing.T) {
	t.Parallel()
	content := text(300_000)
	gone := fmt.Errorf("%w: lost", blobs.ErrNotFound)
	for name, c := range map[string]struct {
		answers getter
		ranged  string // what is asked for
		want    int    // 0: the answer is cut
		damaged bool
	}{
		"lost":               {fails(gone), "", 500, true},
		"shorter":            {sends(len(content)-1, content[1:]), "", 500, true},
		"longer":             {sends(len(content)+1, content+"!"), "", 500, true},
		"ends before":        {fails(&s3.StoreError{Status: 416, Code: "InvalidRange"}), "bytes=200000-", 500, true},
		"other bytes":        {sends(len(content), strings.ToUpper(content)), "", 0, true},
		"other bytes, part":  {sends(len(content), strings.ToUpper(content)), "bytes=0-9", 500, true},
		"other bytes, later": {sends(len(content), content[:200_000]+strings.ToUpper(content[200_000:])), "", 0, true},
		"down":               {fails(errors.New("connection refused")), "", 503, false},
		"refuses":            {fails(&s3.StoreError{Status: 403, Code: "AccessDenied"}), "", 503, false},
		"another bucket":     {fails(&s3.StoreError{Status: 404, Code: "NoSuchBucket"}), "", 503, false},
		"busy":               {fails(&s3.StoreError{Status: 503, Code: "SlowDown"}), "bytes=0-9", 503, false},
		"cut at once":        {sends(len(content), ""), "", 503, false},
		"cut later":          {cutAt(content, 200_000), "", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bucket
			w := withFile(t, content, inBucket(t, &b))
			w.expectLog("a stored content is damaged")
			w.expectLog("a stored content cannot be read at the moment")
			b.answers(c.answers)
			if c.want == 0 {
				r := w.request(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf})
				response, err := http.DefaultClient.Do(r)
				if err == nil {
					if a := readAnswer(response); a.cut == nil {
						t.Errorf("%d bytes came to a clean end", len(a.body))
					}
				}
			} else {
				send := header{"Accept": bytesOf["Accept"]}
				if c.ranged != "" {
					send["Range"] = c.ranged
				}
				w.do(t, step{as: "viewer", do: "GET {A.at}", send: send, want: c.want, code: map[int]string{500: "damaged", 503: "storage_unreadable"}[c.want]})
			}
			b.answers(nil)
			if marked := w.server.Marker.Damaged(); marked != map[bool]int{true: 1}[c.damaged] {
				t.Errorf("%d contents are marked", marked)
			}
			if c.damaged {
				w.play(t, []step{
					{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 500, code: "damaged"},
					{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", content)}, want: 201},
				})
			}
			w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: content})
		})
	}
}

// cutAt is an answer whose connection is always cut at the same byte.
func cutAt(content string, end int64) getter {
	return func(_ context.Context, _ string, from, _ int64) (io.ReadCloser, int64, error) {
		return io.NopCloser(strings.NewReader(content[min(from, end):end])), int64(len(content)), nil
	}
}

func TestAnObjectThatTheStoreShowsLateIsNotLost(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	var asked atomic.Int32
	b.answers(func(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
		if asked.Add(1) == 1 {
			return nil, 0, fmt.Errorf("%w: not yet", blobs.ErrNotFound)
		}
		return b.Memory.Get(ctx, name, from, end)
	})
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: alphabet})
}

// Where the store has lost all, or the bucket is another one, no file is called damaged: that
// would outlast the mistake.
func TestAnotherBucketDamagesNothing(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	w.expectLog("a stored content cannot be read at the moment")
	ours := map[string][]byte{}
	all, _, err := b.List(t.Context(), "", "")
	w.must(err)
	for _, o := range all {
		raw, _, err := b.Get(t.Context(), o.Name, 0, 0)
		w.must(err)
		ours[o.Name], err = io.ReadAll(raw)
		w.must(errors.Join(err, b.Delete(t.Context(), o.Name)))
	}
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 503, code: "storage_unreadable"})
	for name, content := range ours {
		b.Change(name, content)
	}
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: alphabet})
	if marked := w.server.Marker.Damaged(); marked != 0 {
		t.Errorf("%d contents are marked", marked)
	}
}

// Somebody may empty the bucket, and put all of it back once that is noticed.
func TestOfManyFilesThatAreLostNotEachIsMarked(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "another")}, want: 201, save: "B"})
	w.expectLog("a stored content is damaged")
	const once = "are not marked damaged any more"
	w.expectLog(once)
	lost := b.Memory
	b.Memory = new(s3test.Memory)
	ours, _, err := lost.Get(t.Context(), "p/attachd.json", 0, 0)
	w.must(err)
	marker, err := io.ReadAll(ours)
	w.must(err)
	b.Change("p/attachd.json", marker)
	b.marks.Store(1000)
	for range 2 {
		for _, name := range []string{"A", "B"} {
			w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{" + name + "}/download", send: bytesOf, want: 500, code: "damaged"})
		}
	}
	if marked := w.server.Damaged() - 1000; marked != 0 {
		t.Errorf("%d contents are marked", marked)
	}
	if told := strings.Count(strings.Join(w.log.lines(), "\n"), once); told != 1 {
		t.Errorf("the log says so %d times", told)
	}
	b.Memory = lost
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: alphabet})
	b.answers(sends(len(alphabet), strings.ToUpper(alphabet)))
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Accept": bytesOf["Accept"], "Range": "bytes=0-9"}, want: 500, code: "damaged"})
	if marked := w.server.Damaged() - 1000; marked != 1 {
		t.Errorf("%d contents are marked whose bytes are wrong", marked)
	}
	b.answers(nil)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201})
}

// A small file that is uploaded again is staged, as what the store has lost is not known yet.
func TestALostObjectIsReadFromTheLogOnceItWasUploadedAgain(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, inBucket(t, &b))
	w.flushContents()
	for _, name := range b.Names() {
		w.must(b.Delete(t.Context(), name))
	}
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", alphabet)}, want: 201},
		{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: alphabet},
	})
	w.flushContents()
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 200, is: alphabet})
}

// What was deleted while somebody read it is not damaged.
func TestAFileDeletedWhileItIsReadFromTheObjectStore(t *testing.T) {
	t.Parallel()
	var b bucket
	w := withFile(t, alphabet, filesAtOnce, inBucket(t, &b))
	b.answers(func(ctx context.Context, name string, _, _ int64) (io.ReadCloser, int64, error) {
		if _, _, err := b.Memory.Stat(ctx, name); err == nil {
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
			w.must(b.Delete(ctx, name))
		}
		return nil, 0, fmt.Errorf("%w: deleted", blobs.ErrNotFound)
	})
	w.do(t, step{as: "viewer", do: "GET {A.at}", send: bytesOf, want: 404})
}

func TestPageDownloadsFromTheObjectStore(t *testing.T) {
	var b bucket
	w := pageWorld(t, filesAtOnce, inBucket(t, &b))
	const name = "q+a & größe (1).txt"
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(name, alphabet)}, want: 201})
	tab := newTab(t, w)
	tab.expect("asked another host: " + b.URL + "/p/blobs/")
	dir := tab.downloads()
	tab.signIn("editor", productPage)
	tab.click(".rows .size", "")
	tab.click(".actions button", "Download")
	tab.eventually("the download", func() bool {
		got, err := os.ReadFile(filepath.Join(dir, name))
		return err == nil && string(got) == alphabet
	})
	tab.shows("h1", "A product") // the page stays
	if n := len(w.auditLog(t, "?action=attachment.download")); n != 1 {
		t.Errorf("the download is %d in the audit log", n)
	}
}

// Previews read a file here and there.
func TestPreviewsOfFilesInTheObjectStore(t *testing.T) {
	t.Parallel()
	var b bucket
	w := newWorld(t, filesAtOnce, inBucket(t, &b))
	var zipped bytes.Buffer
	archive := zip.NewWriter(&zipped)
	for i := range 3 { // more than is fetched at once
		f, err := archive.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i, ".txt"), Method: zip.Store})
		w.must(err)
		_, err = io.WriteString(f, text(200_000))
		w.must(err)
	}
	w.must(archive.Close())
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.zip", zipped.String())}, want: 201, save: "A"},
		{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 200, check: func(t *testing.T, a answer) {
			if !bytes.Contains(a.body, []byte(`"entries_total":3`)) {
				t.Errorf("the preview is %s", a.body)
			}
		}},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.png", small(t, "png"))}, want: 201, save: "P"},
		{as: "viewer", do: "GET /catalog/attachments/{P}/thumbnail", want: 200},
	})
}
