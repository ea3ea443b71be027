package files

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/store"
)

// DeleteAttachment puts an attachment into the trash, or with ?permanent=true removes it
// for good, from the trash too. It honours If-Match: it deletes that file and no other. If
// removing the content fails, or the power does, what is left only takes up room.
func (s *Service) DeleteAttachment(w *api.Response, rq *api.Request, sc api.Scope) error {
	permanent, err := rq.Permanent()
	if err != nil {
		return err
	}
	if err := meansThis(rq, sc); err != nil {
		return err
	}
	intoTrash := !permanent && s.TrashKeep > 0
	var d store.Deletion
	if intoTrash {
		d = sc.Deletion(s.Now(), s.TrashedUntil(rq.Context()))
	}
	var gone store.Attachment
	remove := func() (err error) {
		if intoTrash {
			gone, err = s.Store.TrashAttachment(rq.Context(), sc.Attachment.ID, d)
		} else {
			gone, err = s.remove(rq, sc, permanent)
		}
		return err
	}
	err = s.Contents.Change(remove)
	if errors.Is(err, store.ErrFull) && s.Contents.MakeRoom(rq.Context(), 0) == nil {
		err = s.Contents.Change(remove)
	}
	if err != nil {
		return err
	}
	if err := rq.Answer(w, http.StatusOK, api.Message("Attachment deleted successfully")); err != nil {
		return err
	}
	w.Deliver()
	if intoTrash {
		s.Contents.WakeTrash()
		return nil
	}
	s.Contents.Forget(context.WithoutCancel(rq.Context()), rq.Log, gone.SHA256)
	return nil
}

// remove removes an attachment for good, if permanent from the trash too.
func (s *Service) remove(rq *api.Request, sc api.Scope, permanent bool) (gone store.Attachment, err error) {
	if !permanent {
		return s.Store.DeleteAttachment(rq.Context(), sc.Attachment.ID)
	}
	rq.Entry.Action = "attachment.purge"
	err = sc.FromWherever(func(fromTrash bool) (err error) {
		if fromTrash {
			gone, err = s.Store.PurgeAttachment(rq.Context(), sc.Attachment.ID)
		} else {
			gone, err = s.Store.DeleteAttachment(rq.Context(), sc.Attachment.ID)
		}
		return err
	})
	return gone, err
}

// meansThis refuses a request whose If-Match names another file.
func meansThis(rq *api.Request, sc api.Scope) error {
	if len(rq.Header.Values("If-Match")) > 0 && !rq.HasTag("If-Match", etagOf(sc.Attachment)) {
		return preconditionFailed()
	}
	return nil
}

// RestoreAttachment answers POST /catalog/attachments/:attachment/restore and its like.
func (s *Service) RestoreAttachment(w *api.Response, rq *api.Request, sc api.Scope) error {
	if err := rq.CheckQuery(nil); err != nil {
		return err
	}
	if err := meansThis(rq, sc); err != nil {
		return err
	}
	err := s.Contents.Change(func() (err error) {
		sc.Attachment, err = s.Store.RestoreAttachment(rq.Context(), sc.Attachment.ID)
		return err
	})
	if err != nil {
		return err
	}
	rq.SetScope(sc)
	return rq.Answer(w, http.StatusOK, api.RenderAttachment(sc.Attachment))
}

// ListTrash answers GET /catalog/spaces/:space/products/:product/trash and its like: those
// attachments that the caller may delete, and so restore.
func (s *Service) ListTrash(w *api.Response, rq *api.Request, sc api.Scope) error {
	may, err := s.Guard.MayRemove(rq, sc)
	if err != nil {
		return err
	}
	return api.List[store.Trashed]{
		Fetch: api.AfterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Trashed, error) {
			return s.removable(ctx, sc.Entity.Parent, may, after, n)
		}),
		Batch: api.FetchBatch,
		Key:   func(t store.Trashed) []byte { return t.Attachment.ID[:] },
		Row:   api.AppendTrashed,
	}.Answer(w, rq)
}

// removable lists at most n attachments in the trash of a parent after an id that the caller
// may delete. It reads many at a time, however few are asked for: most may be those of others.
func (s *Service) removable(ctx context.Context, p store.Parent, may func(store.Attachment) bool, after uuid.UUID, n int) (list []store.Trashed, err error) {
	for {
		batch, err := s.Store.TrashOf(ctx, p, after, api.FetchBatch)
		if err != nil {
			return nil, err
		}
		for _, t := range batch {
			if may(t.Attachment) {
				list = append(list, t)
			}
			if len(list) == n {
				return list, nil
			}
		}
		if len(batch) < api.FetchBatch {
			return list, nil
		}
		after = batch[len(batch)-1].Attachment.ID
	}
}
