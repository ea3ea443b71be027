package api

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"

	"attachd/store"
)

// listStripes is how many counters the parents share, of 8 bytes each. With more, it is
// rarer that a list seems to have changed when that of another parent did.
const listStripes = 4096

// listVersions are change counters by which ETags of lists are made without reading
// them. They see every change, since all changes come through this server: a process
// has the store for itself. Where others use it too, an ETag is made of what a list says.
type listVersions struct {
	ofBody  bool
	boot    string // identifies this server's run: the counters start anew with it
	seed    maphash.Seed
	all     atomic.Uint64 // counts changes that may affect any list, such as that of a name
	stripes [listStripes]atomic.Uint64

	mu     sync.RWMutex
	bodies map[string]*wholeList // by path and query
}

// wholeList is a list that is sent at once.
type wholeList struct {
	tag    string // the ETag that it has
	body   []byte
	packed atomic.Pointer[[]byte] // body compressed, once a client accepted that
}

// compressed returns the body compressed, or nil where no compressor is free.
func (l *wholeList) compressed(c *compressors) []byte {
	if packed := l.packed.Load(); packed != nil {
		return *packed
	}
	packed := c.compress(l.body)
	if packed != nil {
		l.packed.Store(&packed)
	}
	return packed
}

// keptLists is how many lists are kept, each of up to sendAt bytes and compressed besides.
const keptLists = 64

func newListVersions(shared bool) *listVersions {
	return &listVersions{ofBody: shared, boot: rand.Text(), seed: maphash.MakeSeed(), bodies: map[string]*wholeList{}}
}

// kept returns the list that a request asks for, if it was sent before and has the same
// tag; otherwise nil.
func (v *listVersions) kept(rq *Request, tag string) *wholeList {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if last := v.bodies[rq.URL.Path+"?"+rq.URL.RawQuery]; tag != "" && last != nil && last.tag == tag {
		return last
	}
	return nil
}

// keep returns a list that was read after its tag was made. If it has a tag, a copy of it is
// kept, in place of another one where there are many.
func (v *listVersions) keep(rq *Request, tag string, body []byte) *wholeList {
	if tag == "" || tag == tagOfBody {
		return &wholeList{body: body}
	}
	kept := &wholeList{tag: tag, body: bytes.Clone(body)}
	v.mu.Lock()
	defer v.mu.Unlock()
	list := rq.URL.Path + "?" + rq.URL.RawQuery
	for other := range v.bodies {
		if _, known := v.bodies[list]; known || len(v.bodies) < keptLists {
			break
		}
		delete(v.bodies, other)
	}
	v.bodies[list] = kept
	return kept
}

func (v *listVersions) stripe(p store.Parent) *atomic.Uint64 {
	return &v.stripes[maphash.Comparable(v.seed, p)%listStripes]
}

// tag returns an ETag of the list that a query asks for. It must be called before the
// list is read. It is weak, since a list may be compressed.
func (v *listVersions) tag(p store.Parent, query string) string {
	if v.ofBody {
		return tagOfBody
	}
	return fmt.Sprintf(`W/"%s.%d.%d.%x"`, v.boot, v.all.Load(), v.stripe(p).Load(), maphash.String(v.seed, query))
}

// tagOfBody stands for an ETag that is made of what a list says, once it is known. A list
// that is sent while it is read has none.
const tagOfBody = "body"

// unchanged sets the ETag of a list that has tagOfBody, and answers 304 where the client has
// the same.
func (rq *Request) unchanged(w *Response, tag string, body []byte) bool {
	if tag != tagOfBody {
		return false
	}
	sum := sha256.Sum256(body)
	return rq.Unmodified(w, `W/"`+hex.EncodeToString(sum[:16])+`"`)
}

// note counts what a request may have changed. It must run before the answer, so that
// nobody who has seen the answer finds the list unchanged, and after the change, so
// that no list without the change has the new tag.
func (v *listVersions) note(rq *Request, status int) {
	switch {
	case rq.Method == http.MethodGet, rq.Method == http.MethodHead, status >= 400 && status < 500:
	case rq.route.Kind == FileUpload && !rq.corridor.AutoCreate:
		v.stripe(rq.scope.Entity.Parent).Add(1)
	case rq.scope.Attachment.ID != uuid.Nil && (rq.Method == http.MethodDelete || strings.HasSuffix(rq.route.Pattern, "/restore")):
		v.stripe(rq.scope.Attachment.Parent).Add(1)
	case rq.route.Kind == FileUpload, strings.HasPrefix(rq.route.Pattern, "/directory/"):
		v.all.Add(1)
	}
}

// HasTag reports whether a header with conditions (RFC 9110, section 13.1) contains
// tag, weak or not, or "*". Clients may send the header on several lines.
func (rq *Request) HasTag(header, tag string) bool {
	return slices.ContainsFunc(rq.Header.Values(header), func(line string) bool {
		return strings.TrimSpace(line) == "*" || strings.Contains(line, tag)
	})
}

// Unmodified sets an ETag, and answers 304 where the client has the same version.
func (rq *Request) Unmodified(w *Response, tag string) bool {
	w.Header().Set("ETag", tag)
	if !rq.HasTag("If-None-Match", strings.TrimPrefix(tag, "W/")) {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}
