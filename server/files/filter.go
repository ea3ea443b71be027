package files

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/norm"

	"attachd/server/api"
	"attachd/store"
)

// sortedBatch is how many attachments of a sorted list one pass over the whole list
// finds, when everything is asked for.
const sortedBatch = 4000

// attachmentFilters are the query parameters of a list of attachments.
var attachmentFilters = []string{"name", "mime_type", "uploaded_by", "since", "sort"}

// filtersOf are those of the attachments of a kind of parent.
func filtersOf(kind store.Kind) []string {
	if kind == store.Ticket {
		return append([]string{"comment_id"}, attachmentFilters...)
	}
	return slices.Clone(attachmentFilters)
}

// sorts are the sort keys of a list of attachments. Values are compared as text. Ids
// are in the order of created_at, and so are attachments with the same value.
var sorts = map[string]func(store.Attachment) string{
	"created_at":  func(store.Attachment) string { return "" },
	"file_name":   func(a store.Attachment) string { return fold(a.FileName) },
	"file_size":   func(a store.Attachment) string { return string(binary.BigEndian.AppendUint64(nil, uint64(a.Size))) },
	"mime_type":   func(a store.Attachment) string { return a.Type },
	"uploaded_by": func(a store.Attachment) string { return fold(a.Uploader) },
}

// sortFields are aliases of sort fields: the filter for a file's name is called name.
var sortFields = map[string]string{"name": "file_name", "size": "file_size"}

// fold normalizes case, so that texts that differ only in case are equal.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// attachmentQuery is a parsed query for a list of attachments.
type attachmentQuery struct {
	name              string // folded
	types             []string
	uploader, comment uuid.UUID
	since             time.Time
	first             uuid.UUID // greatest id before those of since
	sort              string    // as given, with its "-"; empty for the order of ids
	value             func(store.Attachment) string
	descending        bool
}

// filtered reports whether attachments may be left out.
func (q attachmentQuery) filtered() bool {
	return q.name != "" || q.types != nil || q.uploader != uuid.Nil || q.comment != uuid.Nil || !q.since.IsZero()
}

func (q attachmentQuery) keeps(a store.Attachment) bool {
	return (q.uploader == uuid.Nil || a.UploaderID == q.uploader) &&
		(q.comment == uuid.Nil || a.CommentID.Valid && a.CommentID.UUID == q.comment) &&
		!a.CreatedAt().Before(q.since) &&
		(q.types == nil || slices.ContainsFunc(q.types, func(t string) bool {
			return a.Type == t || strings.HasSuffix(t, "/*") && strings.HasPrefix(a.Type, t[:len(t)-1])
		})) &&
		(q.name == "" || strings.Contains(fold(a.FileName), q.name))
}

// readAttachmentQuery parses those of the filters that a list supports.
func readAttachmentQuery(query url.Values, filters []string) (q attachmentQuery, err error) {
	for _, name := range filters {
		for _, text := range query[name] {
			if text == "" {
				return q, api.InvalidRequest("%s must not be empty. Leave it out to have all.", name)
			}
			if err := q.set(name, text); err != nil {
				return q, err
			}
		}
	}
	return q, nil
}

func (q *attachmentQuery) set(name, text string) (err error) {
	ok := true
	switch name {
	case "name":
		q.name = fold(norm.NFC.String(text))
	case "mime_type":
		kind, subtype, _ := strings.Cut(text, "/")
		if kind == "" || subtype == "" || strings.Contains(kind, "*") || strings.Contains(subtype, "*") && subtype != "*" {
			return api.InvalidRequest("mime_type must be a type such as text/csv or all of a kind such as image/*.")
		}
		q.types = append(q.types, strings.ToLower(text))
	case "uploaded_by":
		if q.uploader, ok = api.ParseID(text); !ok {
			return api.InvalidRequest("uploaded_by must be a user's id (a UUID).")
		}
	case "comment_id":
		if q.comment, ok = api.ParseID(text); !ok {
			return api.InvalidRequest("comment_id must be a UUID.")
		}
	case "since":
		if q.since, err = time.Parse(time.RFC3339, text); err != nil {
			return api.InvalidRequest("since must be a time such as 2026-01-31T00:00:00Z.")
		}
		if ms := q.since.Unix() * 1000; ms > 0 { // ids begin with 48 bits of milliseconds
			copy(q.first[:], binary.BigEndian.AppendUint64(nil, uint64(ms))[2:])
		}
	case "sort":
		by, descending := strings.CutPrefix(text, "-")
		if q.value = sorts[cmp.Or(sortFields[by], by)]; q.value == nil {
			return api.InvalidRequest("sort must be created_at, file_name, file_size, mime_type or uploaded_by, or one of these with - before it for the other way round.")
		}
		q.sort, q.descending = text, descending
	}
	return nil
}

// place is the position of an attachment in a sorted list: by value, then by id.
type place struct {
	value string
	id    uuid.UUID
}

func (q attachmentQuery) compare(a, b place) int {
	order := cmp.Or(strings.Compare(a.value, b.value), bytes.Compare(a.id[:], b.id[:]))
	if q.descending {
		return -order
	}
	return order
}

// ranked is an attachment with its place.
type ranked struct {
	place
	store.Attachment
}

// next is a heap (container/heap) of the attachments that come next in a sorted list,
// with the last of them on top.
type next struct {
	list    []*ranked
	compare func(a, b place) int
}

func (h *next) Len() int           { return len(h.list) }
func (h *next) Less(i, j int) bool { return h.compare(h.list[i].place, h.list[j].place) > 0 }
func (h *next) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *next) Push(x any)         { h.list = append(h.list, x.(*ranked)) }
func (h *next) Pop() any           { panic("only the top is replaced") }

// cursor encodes the place of an attachment in a sorted list: sort, NUL, value, id.
func (q attachmentQuery) cursor(a store.Attachment) []byte {
	return append([]byte(q.sort+"\x00"+q.value(a)), a.ID[:]...)
}

// parseCursor parses a cursor of the same sort; it refuses those of others.
func (q attachmentQuery) parseCursor(cursor []byte) (last place, err error) {
	rest, ours := bytes.CutPrefix(cursor, []byte(q.sort+"\x00"))
	at := len(rest) - len(last.id)
	if !ours || at < 0 {
		return last, api.BadCursor()
	}
	last.value, last.id = string(rest[:at]), uuid.UUID(rest[at:])
	return last, nil
}

// visit calls each with the attachments of a parent that come after an id and match the
// query, oldest first, as long as each returns true.
func (s *Service) visit(ctx context.Context, p store.Parent, q attachmentQuery, after uuid.UUID, each func(store.Attachment) bool) error {
	if bytes.Compare(after[:], q.first[:]) < 0 {
		after = q.first
	}
	for {
		batch, err := s.Store.AttachmentsOf(ctx, p, after, api.FetchBatch)
		if err != nil {
			return err
		}
		for _, a := range batch {
			if q.keeps(a) && !each(a) {
				return nil
			}
		}
		if len(batch) < api.FetchBatch {
			return nil
		}
		after = batch[len(batch)-1].ID
	}
}

// filtered lists at most n attachments after an id, oldest first.
func (s *Service) filtered(ctx context.Context, p store.Parent, q attachmentQuery, after uuid.UUID, n int) (list []store.Attachment, err error) {
	err = s.visit(ctx, p, q, after, func(a store.Attachment) bool {
		list = append(list, a)
		return len(list) < n
	})
	return list, err
}

// sorted lists at most n attachments after a cursor. It reads all, and keeps no more
// than n in memory.
func (s *Service) sorted(ctx context.Context, p store.Parent, q attachmentQuery, cursor []byte, n int) ([]store.Attachment, error) {
	var last place
	if len(cursor) > 0 {
		var err error
		if last, err = q.parseCursor(cursor); err != nil {
			return nil, err
		}
	}
	found := &next{compare: q.compare}
	err := s.visit(ctx, p, q, uuid.Nil, func(a store.Attachment) bool {
		switch at := (place{q.value(a), a.ID}); {
		case len(cursor) > 0 && q.compare(at, last) <= 0:
		case len(found.list) < n:
			heap.Push(found, &ranked{at, a})
		case q.compare(at, found.list[0].place) < 0:
			*found.list[0] = ranked{at, a}
			heap.Fix(found, 0)
		}
		return true
	})
	slices.SortFunc(found.list, func(a, b *ranked) int { return q.compare(a.place, b.place) })
	list := make([]store.Attachment, len(found.list))
	for i, r := range found.list {
		list[i] = r.Attachment
	}
	return list, err
}
