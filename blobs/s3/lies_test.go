package s3_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
)

// store is an object store behind HTTP, with manners that a test gives it.
type store struct {
	s3test.Server
	// instead, when set, answers a request and returns true, or leaves it to the store.
	instead atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]

	mu       sync.Mutex
	requests []*http.Request
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	s.mu.Unlock()
	if instead := s.instead.Load(); instead != nil && (*instead)(w, r) {
		return
	}
	s.Server.ServeHTTP(w, r)
}

// answers lets the store answer requests otherwise.
func (s *store) answers(otherwise func(w http.ResponseWriter, r *http.Request) bool) {
	s.instead.Store(&otherwise)
}

// seen returns the requests since it was called last.
func (s *store) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}

// once returns true the first time that it is called.
func once() func() bool {
	var done atomic.Bool
	return func() bool { return done.CompareAndSwap(false, true) }
}

func connect(t *testing.T, endpoint string, timeout time.Duration) s3.Bucket {
	t.Helper()
	bucket, err := s3.Connect(s3.Account{Endpoint: endpoint, Bucket: "bucket", AccessKey: "key", SecretKey: "secret", PathStyle: "true", Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// overHTTP returns a Store whose objects are in a store behind HTTP.
func overHTTP(t *testing.T, timeout time.Duration) (*store, opened) {
	t.Helper()
	far := new(store)
	server := httptest.NewServer(far)
	t.Cleanup(server.Close)
	s := open(t, func(o *s3.Options) { o.Bucket = connect(t, server.URL, timeout) })
	return far, s
}

func TestPromisesOverHTTP(t *testing.T) {
	far, s := overHTTP(t, time.Minute)
	content := bytes.Repeat([]byte("over HTTP. "), 50_000)
	ref := keep(t, s.Store, content)
	wantContent(t, s.Store, content)
	c, err := s.Open(t.Context(), ref, int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 1000)
	if _, err := c.ReadAt(part, 300_000); err != nil || !bytes.Equal(part, content[300_000:301_000]) {
		t.Errorf("a part: %v", err)
	}
	if err := errors.Join(c.Close(), s.Probe(t.Context())); err != nil {
		t.Error(err)
	}
	keep(t, s.Store, []byte("a second one")) // so that the listing has several pages
	for d, err := range s.Compare(t.Context()) {
		t.Errorf("the bucket and the catalog differ: %+v, %v", d, err)
	}
	names := far.Names()
	if size, sum, err := connect(t, "http://"+far.seen()[0].Host, time.Minute).Stat(t.Context(), names[0]); err != nil || size != int64(len(content)) || sum != ref {
		t.Errorf("Stat: %d, %v, %v", size, sum, err)
	}
}

// A store may take a body in chunks with a signature of each for the content itself, or
// multipart uploads not at all: what every store takes is one plain PUT.
func TestAPutIsOneRequestWithBothDigests(t *testing.T) {
	far, s := overHTTP(t, time.Minute)
	if err := s.Claim(t.Context()); err != nil {
		t.Fatal(err)
	}
	far.seen()
	content := []byte("plain")
	ref := keep(t, s.Store, content)
	requests := far.seen()
	if len(requests) != 1 {
		t.Fatalf("%d requests", len(requests))
	}
	r := requests[0]
	for header, want := range map[string]string{
		"Content-Encoding":      "",
		"X-Amz-Content-Sha256":  ref.String(),
		"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(ref[:]),
		"X-Amz-Trailer":         "",
	} {
		if got := r.Header.Get(header); got != want && want != "" || want == "" && got != "" {
			t.Errorf("%s is %q, not %q", header, got, want)
		}
	}
	if r.Method != "PUT" || r.ContentLength != int64(len(content)) || len(r.TransferEncoding) > 0 || r.URL.RawQuery != "" {
		t.Errorf("%s with %d bytes, %v, %q", r.Method, r.ContentLength, r.TransferEncoding, r.URL.RawQuery)
	}
}

// Whether a call may be repeated is for the backend to decide, and for nobody below it.
func TestACallIsOneRequest(t *testing.T) {
	far, _ := overHTTP(t, time.Minute)
	server := httptest.NewServer(far)
	t.Cleanup(server.Close)
	bucket := connect(t, server.URL, time.Minute)
	for _, status := range []int{500, 503, 429, 400, 403, 301, 307} {
		far.answers(func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("X-Amz-Bucket-Region", "elsewhere-1")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code><Region>elsewhere-1</Region></Error>")
			return true
		})
		for call, do := range map[string]func() error{
			"Put": func() error {
				return bucket.Put(t.Context(), "a", strings.NewReader("a"), 1, blobs.RefOf([]byte("a")))
			},
			"Get":    func() error { _, _, err := bucket.Get(t.Context(), "a", 0, 0); return err },
			"Stat":   func() error { _, _, err := bucket.Stat(t.Context(), "a"); return err },
			"Delete": func() error { return bucket.Delete(t.Context(), "a") },
			"List":   func() error { _, _, err := bucket.List(t.Context(), "", ""); return err },
		} {
			far.seen()
			err := do()
			var answer *s3.StoreError
			if n := len(far.seen()); n != 1 || !errors.As(err, &answer) || answer.Status != status {
				t.Errorf("%s answered with %d: %d requests, %v", call, status, n, err)
			}
		}
	}
}

// ways of a store to lie, or to be late, about an object that it has. Reads are right all
// the same, or fail without saying that the content is damaged.
func TestAStoreMayLieOnce(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 60_000)
	get := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "blobs") }
	for name, lie := range map[string]func(w http.ResponseWriter, r *http.Request){
		"it does not know a new object yet": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
		},
		"it is not found, by somebody who speaks another protocol": func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
		"it has too much to do": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
		},
		"it fails":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"it is cut off at once": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"its body is cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:123_456])
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, s := overHTTP(t, time.Minute)
			keep(t, s.Store, content)
			first := once()
			far.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if !get(r) || !first() {
					return false
				}
				lie(w, r)
				return true
			})
			wantContent(t, s.Store, content)
		})
	}
}

func TestWhatAStoreSaysOfAPutIsBelievedOnlyWhereItIsRight(t *testing.T) {
	for name, lie := range map[string]func(w http.ResponseWriter, r *http.Request){
		"it has too much to do": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
		},
		"the bytes were changed on the way": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>")
		},
		"its answer is lost": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			far, s := overHTTP(t, time.Minute)
			if err := s.Claim(t.Context()); err != nil {
				t.Fatal(err)
			}
			first := once()
			far.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut || !first() {
					return false
				}
				lie(w, r)
				return true
			})
			keep(t, s.Store, []byte("after all"))
			wantContent(t, s.Store, []byte("after all"))
		})
	}
}

func TestAnObjectOfAnotherLengthIsDamaged(t *testing.T) {
	far, s := overHTTP(t, time.Minute)
	content := []byte("as long as this")
	keep(t, s.Store, content)
	for _, other := range []string{"", "short", "as long as this and longer"} {
		far.Change(far.Names()[0], []byte(other))
		if got, err := tryRead(t, s.Store, content); !errors.Is(err, blobs.ErrDamaged) {
			t.Errorf("%q is read as %q, %v", other, got, err)
		}
	}
}

// What answers in place of the store, such as a proxy under maintenance, says nothing of a
// content.
func TestAnAnswerThatIsNotTheStoresIsNoDamage(t *testing.T) {
	for name, marker := range map[string]string{"a page for everything": "", "another installation's bucket": `{"installation":"another one","layout":1}`} {
		t.Run(name, func(t *testing.T) {
			far, s := overHTTP(t, time.Minute)
			content := []byte("as long as this")
			keep(t, s.Store, content)
			far.answers(func(w http.ResponseWriter, r *http.Request) bool {
				body := "<html>We are back soon.</html>"
				if marker != "" && strings.HasSuffix(r.URL.Path, "attachd.json") {
					body = marker
				}
				http.ServeContent(w, r, "", time.Now(), strings.NewReader(body))
				return true
			})
			if got, err := tryRead(t, s.Store, content); err == nil || errors.Is(err, blobs.ErrDamaged) || errors.Is(err, blobs.ErrNotFound) {
				t.Errorf("it is read as %q, %v", got, err)
			}
		})
	}
}

// Another part than the one that was asked for is not taken for it.
func TestAnotherPartIsNotTaken(t *testing.T) {
	far, s := overHTTP(t, time.Minute)
	content := bytes.Repeat([]byte("0123456789abcdef"), 60_000)
	ref := keep(t, s.Store, content)
	for name, header := range map[string]string{
		"from the start": "bytes 0-959999/960000", "from elsewhere": "bytes 17-959999/960000", "of none": "", "of nonsense": "bytes */*",
	} {
		t.Run(name, func(t *testing.T) {
			far.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") == "" {
					return false
				}
				if header != "" {
					w.Header().Set("Content-Range", header)
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(content)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(content)
				return true
			})
			c, err := s.Open(t.Context(), ref, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			part := make([]byte, 20)
			if _, err := c.ReadAt(part, 500_001); err == nil || errors.Is(err, blobs.ErrDamaged) || errors.Is(err, blobs.ErrNotFound) {
				t.Errorf("read as %q, %v", part, err)
			}
		})
	}
}

// A store that takes connections and says nothing is given up, and nobody says that the
// caller has gone.
func TestAStoreThatDoesNotAnswerIsGivenUp(t *testing.T) {
	far, s := overHTTP(t, 100*time.Millisecond)
	content := bytes.Repeat([]byte("0123456789"), 60_000)
	keep(t, s.Store, content)
	gone, end := context.WithCancel(t.Context())
	t.Cleanup(end)
	half := once()
	far.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && half() {
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content[:300_000])
			w.(http.Flusher).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-gone.Done():
		}
		return true
	})
	if err := tryKeep(t, s.Store, []byte("new")); !errors.Is(err, blobs.ErrUnavailable) || errors.Is(err, context.Canceled) {
		t.Errorf("Keep: %v", err)
	}
	if got, err := tryRead(t, s.Store, content); err == nil || errors.Is(err, context.Canceled) || errors.Is(err, blobs.ErrDamaged) || !bytes.HasPrefix(content, got) {
		t.Errorf("a read of %d bytes: %v", len(got), err)
	}
	if err := s.Probe(t.Context()); !errors.Is(err, blobs.ErrUnavailable) {
		t.Errorf("Probe: %v", err)
	}
	far.answers(func(http.ResponseWriter, *http.Request) bool { return false })
	wantContent(t, s.Store, content)
	keep(t, s.Store, []byte("new"))
}
