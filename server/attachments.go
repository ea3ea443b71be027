package server

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"attachd/store"
)

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
		tag: s.corridor.ListTag(sc.entity.Parent),
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
