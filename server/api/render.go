package api

import (
	"bytes"
	"encoding/hex"
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
	UploadedBy PersonBody `json:"uploaded_by"`
	CreatedAt  string     `json:"created_at"`
}

// PersonBody is a user in an object of the API.
type PersonBody struct {
	ID       uuid.UUID `json:"id"`
	FullName string    `json:"full_name"`
}

// Person is who uploaded an attachment.
func Person(a store.Attachment) PersonBody { return PersonBody{a.UploaderID, a.Uploader} }

// ticketAttachmentBody is the attachment object for an attachment of a ticket.
type ticketAttachmentBody struct {
	attachmentBody
	CommentID uuid.NullUUID `json:"comment_id"`
}

// RenderAttachment returns the object with which the API answers an attachment.
func RenderAttachment(a store.Attachment) any {
	body := attachmentBody{
		ID:         a.ID,
		FileName:   a.FileName,
		FileSize:   a.Size,
		MimeType:   a.Type,
		UploadedBy: Person(a),
		CreatedAt:  Timestamp(a.CreatedAt()),
	}
	if a.Parent.Kind == store.Ticket {
		return ticketAttachmentBody{body, a.CommentID}
	}
	return body
}

// AppendAttachment appends RenderAttachment's result as encoding/json would encode it,
// but faster: a list has many of them.
func AppendAttachment(out []byte, a store.Attachment) ([]byte, error) {
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

// appendString appends a JSON string; those that are not plain ASCII are encoded by
// encoding/json.
func appendString(out []byte, s string) ([]byte, error) {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			raw, err := Encode(s)
			return append(out, bytes.TrimSuffix(raw, []byte("\n"))...), err
		}
	}
	out = append(out, '"')
	out = append(out, s...)
	return append(out, '"'), nil
}

// Timestamp formats a time as the API does: RFC 3339, UTC, whole seconds.
func Timestamp(t time.Time) string { return t.UTC().Format(timeLayout) }

const timeLayout = "2006-01-02T15:04:05Z"

// OptionalTime returns a timestamp, or null for the zero time.
func OptionalTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := Timestamp(t)
	return &s
}

// Message returns a body that has only a message.
func Message(text string) any {
	return struct {
		Message string `json:"message"`
	}{text}
}

// OptionalID returns an id, or null for the zero id.
func OptionalID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
