package files

import (
	"context"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/store"
)

// downloadPath is the path at which an attachment's bytes are downloaded.
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

// ListAttachments answers GET /catalog/spaces/:space/products/:product/attachments and its like.
func (s *Service) ListAttachments(w *api.Response, rq *api.Request, sc api.Scope) error {
	filters := filtersOf(sc.Entity.Kind)
	query, err := readAttachmentQuery(rq.URL.Query(), filters)
	if err != nil {
		return err
	}
	list := api.List[store.Attachment]{
		Filters: filters,
		Several: []string{"mime_type"},
		Key:     func(a store.Attachment) []byte { return a.ID[:] },
		Row:     api.AppendAttachment,
		Tag:     s.Corridor.ListTag(rq, sc.Entity.Parent),
	}
	list.Fetch = api.AfterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Attachment, error) {
		if query.filtered() {
			return s.filtered(ctx, sc.Entity.Parent, query, after, n)
		}
		return s.Store.AttachmentsOf(ctx, sc.Entity.Parent, after, n)
	})
	if query.filtered() {
		list.Batch = api.FetchBatch
	}
	if query.sort != "" {
		list.Batch, list.Key = sortedBatch, query.cursor
		list.Fetch = func(cursor []byte, n int) ([]store.Attachment, error) {
			return s.sorted(rq.Context(), sc.Entity.Parent, query, cursor, n)
		}
	}
	return list.Answer(w, rq)
}
