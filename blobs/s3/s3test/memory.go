// Package s3test has object stores for tests.
package s3test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// Memory is a bucket in memory, which checks digests as a real one does.
type Memory struct {
	URL string           // of a server whose handler is ServeLink; without one there are no links
	Now func() time.Time // optional: the clock of links

	mu      sync.Mutex
	objects map[string]object
	links   map[string]link // by the signature in their URL
}

// link is what a URL gives access to.
type link struct {
	name    string
	how     blobs.LinkOptions
	expires time.Time
}

type object struct {
	content  []byte
	modified time.Time
}

var _ s3.Bucket = (*Memory)(nil)

// Put implements s3.Bucket.
func (m *Memory) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	raw, err := io.ReadAll(content)
	switch {
	case err != nil:
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	case int64(len(raw)) != size || blobs.RefOf(raw) != sum:
		return &s3.StoreError{Status: 400, Code: "XAmzContentSHA256Mismatch"}
	}
	m.Change(name, raw)
	return nil
}

// Change puts an object there that nobody has checked.
func (m *Memory) Change(name string, content []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.objects == nil {
		m.objects = map[string]object{}
	}
	m.objects[name] = object{content, time.Now()}
}

func (m *Memory) object(name string) (object, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, found := m.objects[name]
	if !found {
		return o, fmt.Errorf("%w: the bucket has no %s", blobs.ErrNotFound, name)
	}
	return o, nil
}

// Get implements s3.Bucket.
func (m *Memory) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	o, err := m.object(name)
	if err != nil {
		return nil, 0, err
	}
	size := int64(len(o.content))
	if (from > 0 || end > 0) && from >= size {
		return nil, 0, &s3.StoreError{Status: 416, Code: "InvalidRange"}
	}
	if end == 0 || end > size {
		end = size
	}
	return io.NopCloser(bytes.NewReader(o.content[from:end])), size, nil
}

// Stat implements s3.Bucket.
func (m *Memory) Stat(_ context.Context, name string) (int64, blobs.Ref, error) {
	o, err := m.object(name)
	return int64(len(o.content)), blobs.RefOf(o.content), err
}

// Delete implements s3.Bucket.
func (m *Memory) Delete(ctx context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, name)
	return ctx.Err()
}

// pageObjects is how many objects a page of a listing has: few, so that there are several.
const pageObjects = 3

// List implements s3.Bucket.
func (m *Memory) List(_ context.Context, prefix, after string) (page []s3.Listed, next string, err error) {
	for _, o := range m.sorted() {
		switch {
		case !strings.HasPrefix(o.Name, prefix) || o.Name <= after:
		case len(page) == pageObjects:
			return page, page[len(page)-1].Name, nil
		default:
			page = append(page, o)
		}
	}
	return page, "", nil
}

func (m *Memory) sorted() (list []s3.Listed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, o := range m.objects {
		list = append(list, s3.Listed{Name: name, Size: int64(len(o.content)), Modified: o.modified})
	}
	slices.SortFunc(list, func(a, b s3.Listed) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Names lists the objects of contents.
func (m *Memory) Names() (names []string) {
	for _, o := range m.sorted() {
		if strings.Contains(o.Name, "blobs/") {
			names = append(names, o.Name)
		}
	}
	return names
}

// Left lists all objects.
func (m *Memory) Left() (names []string) {
	for _, o := range m.sorted() {
		names = append(names, o.Name)
	}
	return names
}

// Age has an object be older by some time.
func (m *Memory) Age(name string, by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.objects[name]
	o.modified = o.modified.Add(-by)
	m.objects[name] = o
}

// Link implements s3.Bucket. As a real one, it does not ask whether the object exists.
func (m *Memory) Link(_ context.Context, name string, how blobs.LinkOptions) (string, time.Time, error) {
	if m.URL == "" {
		return "", time.Time{}, errors.New("the bucket has no URL")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.links == nil {
		m.links = map[string]link{}
	}
	signature, expires := rand.Text(), m.now().Add(how.TTL)
	m.links[signature] = link{name, how, expires}
	return m.URL + "/" + name + "?signature=" + signature, expires, nil
}

func (m *Memory) now() time.Time {
	if m.Now == nil {
		return time.Now()
	}
	return m.Now()
}

// ServeLink answers the GET of a link.
func (m *Memory) ServeLink(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	l, known := m.links[r.URL.Query().Get("signature")]
	m.mu.Unlock()
	if !known || r.URL.Path != "/"+l.name || r.Method != http.MethodGet || !m.now().Before(l.expires) {
		http.Error(w, "AccessDenied", http.StatusForbidden)
		return
	}
	o, err := m.object(l.name)
	if err != nil {
		http.Error(w, "NoSuchKey", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", l.how.Type)
	w.Header().Set("Content-Disposition", l.how.Disposition)
	http.ServeContent(w, r, "", o.modified, bytes.NewReader(o.content))
}

// Content returns the bytes of an object, or nil.
func (m *Memory) Content(name string) []byte {
	o, _ := m.object(name)
	return o.content
}
