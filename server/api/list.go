package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
)

const (
	// MaxLimit is how many items a client may ask for at once.
	MaxLimit = 1000
	// FetchBatch is how many records are read at once when everything is asked for.
	FetchBatch = 200
	// maxCursor is how many bytes a cursor may have: a full name of 500 characters,
	// by which a list is sorted, takes up to 2000.
	maxCursor = 2 << 10
)

// List is a collection that a client may page through: a page is a bare array, and a
// Link header leads to the next one.
type List[T any] struct {
	// Fetch returns at most n items after a key, in order; an empty key is the start.
	Fetch func(after []byte, n int) ([]T, error)
	Key   func(T) []byte
	// Keep filters items; nil keeps all.
	Keep func(T) bool
	// Filters are the query parameters that the list takes beside limit and cursor,
	// and Several those that may be given more than once. All others are refused.
	Filters, Several []string
	// Batch is how many items are fetched at once when everything is asked for, of a
	// list whose Fetch reads FetchBatch records at a time to find them; 0 for others.
	Batch int
	// Tag is an ETag of the collection in its current state; empty when there is none.
	Tag string
	// Row appends an item as JSON.
	Row func([]byte, T) ([]byte, error)
}

// Rendered returns a Row that encodes render's result with encoding/json.
func Rendered[T any](render func(T) any) func([]byte, T) ([]byte, error) {
	return func(out []byte, item T) ([]byte, error) {
		raw, err := Encode(render(item))
		return append(out, bytes.TrimSuffix(raw, []byte("\n"))...), err
	}
}

// sendAt is how many bytes of a list are buffered before they are sent.
const sendAt = 32 << 10

var listBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, sendAt+4<<10)) }}

// Answer sends the page that the query asks for, or streams everything.
func (l List[T]) Answer(w *Response, rq *Request) error {
	if err := rq.CheckQuery(slices.Concat(l.Filters, []string{"limit", "cursor"}), l.Several...); err != nil {
		return err
	}
	limit, after, err := pageOf(rq.URL.Query())
	if err != nil {
		return err
	}
	w.Header().Add("Vary", "Accept-Encoding")
	if l.Tag != "" && l.Tag != tagOfBody && rq.Unmodified(w, l.Tag) {
		return nil
	}
	if list := rq.corridor.lists.kept(rq, l.Tag); list != nil {
		return rq.sendList(w, list)
	}
	size, scanned := FetchBatch, 0
	if l.Batch > 0 {
		size, scanned = l.Batch, FetchBatch
	}
	rows := size
	if limit > 0 {
		rows = limit
	}
	if err := rq.Hold(int64(rows+scanned) * RowHolds); err != nil {
		return err
	}
	if limit > 0 {
		return l.answerPage(w, rq, after, limit)
	}
	return l.answerAll(w, rq, after, size)
}

// answerAll streams what comes after a key, size items at a time.
func (l List[T]) answerAll(w *Response, rq *Request, after []byte, size int) error {
	batch, err := l.Fetch(after, size)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	buffer := listBuffers.Get().(*[]byte)
	defer listBuffers.Put(buffer)
	out := append((*buffer)[:0], '[')
	defer func() { *buffer = out }()
	var to io.WriteCloser // where the list is written, once it is too long to be sent at once
	release := func() {}
	defer func() { release() }()
	first := true
	for {
		for _, item := range batch {
			if l.Keep != nil && !l.Keep(item) {
				continue
			}
			if !first {
				out = append(out, ',')
			}
			first = false
			if out, err = l.Row(out, item); err != nil {
				return err
			}
			if len(out) >= sendAt {
				if to == nil {
					to, release = rq.corridor.compressors.body(w, rq)
				}
				if _, err := to.Write(out); err != nil {
					return nil // the client is gone
				}
				out = out[:0]
			}
		}
		if len(batch) < size {
			break
		}
		if batch, err = l.Fetch(l.Key(batch[len(batch)-1]), size); err != nil {
			return err
		}
	}
	out = append(out, "]\n"...)
	if to == nil {
		if rq.unchanged(w, l.Tag, out) {
			return nil
		}
		return rq.sendList(w, rq.corridor.lists.keep(rq, l.Tag, out))
	}
	if _, err := to.Write(out); err == nil {
		_ = to.Close() // the client is gone, so nothing can be reported to it
	}
	return nil
}

func (l List[T]) answerPage(w *Response, rq *Request, after []byte, limit int) error {
	page := []byte{'['}
	var last []byte
	rows := 0
	for more := true; more; {
		batch, err := l.Fetch(after, limit+1)
		if err != nil {
			return err
		}
		more = len(batch) == limit+1
		for _, item := range batch {
			after = l.Key(item)
			if l.Keep != nil && !l.Keep(item) {
				continue
			}
			if rows == limit {
				w.Header().Set("Link", nextPage(rq, limit, last))
				return l.sendPage(w, rq, page)
			}
			if rows > 0 {
				page = append(page, ',')
			}
			if page, err = l.Row(page, item); err != nil {
				return err
			}
			last = after
			rows++
		}
	}
	return l.sendPage(w, rq, page)
}

// sendPage sends a page, which lacks its end.
func (l List[T]) sendPage(w *Response, rq *Request, page []byte) error {
	page = append(page, "]\n"...)
	if rq.unchanged(w, l.Tag, page) {
		return nil
	}
	return rq.sendList(w, &wholeList{body: page})
}

// AnswerList writes a list that has no pages.
func (rq *Request) AnswerList(w *Response, list any) error {
	raw, err := Encode(list)
	if err != nil {
		return err
	}
	w.Header().Add("Vary", "Accept-Encoding")
	return rq.sendList(w, &wholeList{body: raw})
}

// sendList sends a list: compressed, where it is long enough, the client accepts that and a
// compressor is free.
func (rq *Request) sendList(w *Response, list *wholeList) error {
	body := list.body
	if len(body) >= compressFrom && TakesGzip(rq.Header.Get("Accept-Encoding")) {
		if packed := list.compressed(rq.corridor.compressors); packed != nil {
			w.Header().Set("Content-Encoding", "gzip")
			body = packed
		}
	}
	return rq.Send(w, http.StatusOK, body)
}

// nextPage returns a Link header (RFC 8288) to the same list after the key.
func nextPage(rq *Request, limit int, key []byte) string {
	query := rq.URL.Query()
	query.Set("limit", strconv.Itoa(limit))
	query.Set("cursor", base64.RawURLEncoding.EncodeToString(key))
	return "<" + rq.corridor.basePath + rq.URL.EscapedPath() + "?" + query.Encode() + `>; rel="next"`
}

// CheckQuery refuses a query that has other parameters than those known, or one of
// them more than once that is not named in several.
func (rq *Request) CheckQuery(known []string, several ...string) error {
	query, err := url.ParseQuery(rq.URL.RawQuery)
	if err != nil {
		return InvalidRequest("The query of this address is malformed. Escape what is no letter or digit in a name or a value.")
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if len(known) == 0 {
			return InvalidRequest("There is no query parameter %.100q here. This address takes none.", name)
		}
		if !slices.Contains(known, name) {
			return InvalidRequest("There is no query parameter %.100q here. Those known are %s.", name, strings.Join(known, ", "))
		}
		if len(query[name]) > 1 && !slices.Contains(several, name) {
			return InvalidRequest("%s must not be given more than once.", name)
		}
	}
	return nil
}

// pageOf reads limit and cursor; limit 0 is everything.
func pageOf(query url.Values) (limit int, after []byte, err error) {
	if query.Has("limit") {
		limit, err = strconv.Atoi(query.Get("limit"))
		if err != nil || limit < 1 || limit > MaxLimit || query.Get("limit") != strconv.Itoa(limit) {
			return 0, nil, InvalidRequest("limit must be a number from 1 to %d.", MaxLimit)
		}
	}
	if query.Has("cursor") {
		after, err = base64.RawURLEncoding.DecodeString(query.Get("cursor"))
		if err != nil || len(after) == 0 || len(after) > maxCursor {
			return 0, nil, BadCursor()
		}
	}
	return limit, after, nil
}

// BadCursor is the answer to a cursor that is not from a Link header.
func BadCursor() error {
	return InvalidRequest("cursor must be one that a Link header of this list gave.")
}

// AfterID returns a Fetch for a list in the order of ids.
func AfterID[T any](rq *Request, list func(ctx context.Context, after uuid.UUID, n int) ([]T, error)) func([]byte, int) ([]T, error) {
	return func(after []byte, n int) ([]T, error) {
		var id uuid.UUID
		if len(after) > 0 {
			if len(after) != len(id) {
				return nil, BadCursor()
			}
			copy(id[:], after)
		}
		return list(rq.Context(), id, n)
	}
}
