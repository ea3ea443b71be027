package api

import (
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// Permanent parses ?permanent=true, which has a deletion leave out the trash.
func (rq *Request) Permanent() (bool, error) {
	switch values := rq.URL.Query()["permanent"]; {
	case len(values) == 0:
		return false, nil
	case len(values) == 1 && values[0] == "true":
		return true, nil
	}
	return false, InvalidRequest("permanent can only be \"true\".")
}

// Deletion is one into the trash by the caller, which can be undone until a time, or for a
// second if that is earlier.
func (sc Scope) Deletion(now, until time.Time) store.Deletion {
	at := now.UTC().Truncate(time.Second)
	until = until.UTC().Round(time.Second)
	if !until.After(at) {
		until = at.Add(time.Second)
	}
	return store.Deletion{At: at, Until: until, ByID: sc.Caller.User.ID, By: sc.Caller.User.FullName}
}

// deletionBody is what an object in the trash has besides its own members.
type deletionBody struct {
	DeletedAt string      `json:"deleted_at"`
	DeletedBy *PersonBody `json:"deleted_by"` // null for the operator
	ExpiresAt string      `json:"expires_at"`
}

func renderDeletion(d store.Deletion) deletionBody {
	body := deletionBody{DeletedAt: Timestamp(d.At), ExpiresAt: Timestamp(d.Until)}
	if d.ByID != uuid.Nil {
		body.DeletedBy = &PersonBody{d.ByID, d.By}
	}
	return body
}

// AppendTrashed appends an attachment in the trash as JSON: the attachment object, and when
// and by whom it was deleted.
func AppendTrashed(out []byte, t store.Trashed) ([]byte, error) {
	out, err := AppendAttachment(out, t.Attachment)
	if err != nil {
		return out, err
	}
	raw, err := Encode(renderDeletion(t.Deletion))
	return append(append(out[:len(out)-1], ','), raw[1:len(raw)-1]...), err
}

// trashedBody is an object in the trash of a space, whatever its kind.
type trashedBody struct {
	Kind   string     `json:"kind"` // attachment, product, ticket, meeting or space
	ID     string     `json:"id"`
	Name   string     `json:"name"`
	Parent *placeBody `json:"parent"` // where it was; null for a space
	Files  int64      `json:"files"`
	Bytes  int64      `json:"bytes"`
	deletionBody
}

// placeBody is where an object was; the id of a space is its slug.
type placeBody struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

// RenderTrashed returns the object with which the API answers what is in the trash.
func RenderTrashed(t store.Trashed) any {
	body := trashedBody{Files: t.Files.Files, Bytes: t.Files.Bytes, deletionBody: renderDeletion(t.Deletion)}
	switch a, e := t.Attachment, t.Entity; {
	case a.ID != uuid.Nil:
		body.Kind, body.ID, body.Name = "attachment", a.ID.String(), a.FileName
		body.Parent = &placeBody{a.Parent.Kind.String(), a.Parent.ID.String()}
	case e.Kind != 0:
		body.Kind, body.ID, body.Name = e.Kind.String(), e.ID.String(), e.Name
		body.Parent = &placeBody{"space", t.Space}
	default:
		body.Kind, body.ID, body.Name = "space", t.Space, t.Name
	}
	return body
}
