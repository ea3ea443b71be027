package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// attachmentBody is the attachment object of the API.
type attachmentBody struct {
	ID         uuid.UUID  `json:"id"`
	FileName   string     `json:"file_name"`
	FileSize   int64      `json:"file_size"`
	MimeType   string     `json:"mime_type"`
	UploadedBy personBody `json:"uploaded_by"`
	CreatedAt  string     `json:"created_at"`
}

type personBody struct {
	ID       uuid.UUID `json:"id"`
	FullName string    `json:"full_name"`
}

// ticketAttachmentBody is that of a ticket.
type ticketAttachmentBody struct {
	attachmentBody
	CommentID uuid.NullUUID `json:"comment_id"`
}

func renderAttachment(a store.Attachment) any {
	body := attachmentBody{
		ID:         a.ID,
		FileName:   a.FileName,
		FileSize:   a.Size,
		MimeType:   a.Type,
		UploadedBy: personBody{a.UploaderID, a.Uploader},
		CreatedAt:  timestamp(a.CreatedAt()),
	}
	if a.Parent.Kind == store.Ticket {
		return ticketAttachmentBody{body, a.CommentID}
	}
	return body
}

// appendAttachment appends what encoding/json makes of renderAttachment's
// result: a list has many of them.
func appendAttachment(out []byte, a store.Attachment) ([]byte, error) {
	var err error
	out = append(out, `{"id":`...)
	out = appendID(out, a.ID)
	out = append(out, `,"file_name":`...)
	if out, err = appendString(out, a.FileName); err != nil {
		return out, err
	}
	out = append(out, `,"file_size":`...)
	out = strconv.AppendInt(out, a.Size, 10)
	out = append(out, `,"mime_type":`...)
	if out, err = appendString(out, a.Type); err != nil {
		return out, err
	}
	out = append(out, `,"uploaded_by":{"id":`...)
	out = appendID(out, a.UploaderID)
	out = append(out, `,"full_name":`...)
	if out, err = appendString(out, a.Uploader); err != nil {
		return out, err
	}
	out = append(out, `},"created_at":"`...)
	out = a.CreatedAt().AppendFormat(out, timeLayout)
	out = append(out, '"')
	if a.Parent.Kind == store.Ticket {
		out = append(out, `,"comment_id":`...)
		if a.CommentID.Valid {
			out = appendID(out, a.CommentID.UUID)
		} else {
			out = append(out, "null"...)
		}
	}
	return append(out, '}'), nil
}

func appendID(out []byte, id uuid.UUID) []byte {
	out = append(out, '"')
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			out = append(out, '-')
		}
		out = hex.AppendEncode(out, part)
	}
	return append(out, '"')
}

// appendString leaves to encoding/json what is not plain ASCII.
func appendString(out []byte, s string) ([]byte, error) {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			raw, err := encode(s)
			return append(out, bytes.TrimSuffix(raw, []byte("\n"))...), err
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"'), nil
}

// timestamp writes a time as the API does: RFC 3339, UTC, whole seconds.
func timestamp(t time.Time) string { return t.UTC().Format(timeLayout) }

const timeLayout = "2006-01-02T15:04:05Z"

// optionalTime is a timestamp, or null for the zero time.
func optionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := timestamp(t)
	return &s
}

// downloadPath is where the bytes of an attachment are.
func downloadPath(a store.Attachment) string {
	switch a.Parent.Kind {
	case store.Ticket:
		return "/issues/attachments/" + a.ID.String()
	case store.Meeting:
		return "/meetings/" + a.Parent.ID.String() + "/attachments/" + a.ID.String()
	default:
		return "/catalog/attachments/" + a.ID.String() + "/download"
	}
}

func (s *Server) listAttachments(w *response, rq *request, sc scope) error {
	list := listing[store.Attachment]{
		fetch: afterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Attachment, error) {
			return s.Store.AttachmentsOf(ctx, sc.entity.Parent, after, n)
		}),
		key: func(a store.Attachment) []byte { return a.ID[:] },
		row: appendAttachment,
		tag: s.lists.tag(sc.entity.Parent),
	}
	if query := rq.URL.Query(); sc.entity.Kind == store.Ticket && query.Has("comment_id") {
		comment, ok := parseID(query.Get("comment_id"))
		if !ok {
			return invalidRequest("comment_id must be a UUID.")
		}
		list.keep = func(a store.Attachment) bool { return a.CommentID.Valid && a.CommentID.UUID == comment }
	}
	return list.answer(w, rq)
}

// afterID makes a fetch of a list that is in the order of ids.
func afterID[T any](rq *request, list func(ctx context.Context, after uuid.UUID, n int) ([]T, error)) func([]byte, int) ([]T, error) {
	return func(after []byte, n int) ([]T, error) {
		var id uuid.UUID
		if len(after) > 0 {
			if len(after) != len(id) {
				return nil, badCursor()
			}
			copy(id[:], after)
		}
		return list(rq.Context(), id, n)
	}
}

// deleteAttachment heeds If-Match: whoever sends it means that file and no other.
func (s *Server) deleteAttachment(w *response, rq *request, sc scope) error {
	if len(rq.Header.Values("If-Match")) > 0 && !rq.names("If-Match", etagOf(sc.attachment)) {
		return preconditionFailed()
	}
	gone, err := s.Store.DeleteAttachment(rq.Context(), sc.attachment.ID)
	if err != nil {
		return err
	}
	if err := rq.answer(w, http.StatusOK, messageBody{"Attachment deleted successfully"}); err != nil {
		return err
	}
	s.forget(w, rq, gone.SHA256)
	return nil
}

type messageBody struct {
	Message string `json:"message"`
}

// forget removes contents that may have lost their last record. The caller
// has the answer by then: what is left behind, because removing failed or the
// power went, only takes up room.
func (s *Server) forget(w *response, rq *request, freed ...[32]byte) {
	if len(freed) == 0 {
		return
	}
	w.outlastBody()
	_ = http.NewResponseController(w).Flush()
	// A client that left is no reason to keep the contents.
	s.contents.Forget(context.WithoutCancel(rq.Context()), rq.log, freed...)
}
