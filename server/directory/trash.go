package directory

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"attachd/server/api"
	"attachd/store"
)

// removal is the deletion of a product, ticket, meeting or space: what it is called, and the
// store's ways to do it.
type removal struct {
	what   string
	delete func(ctx context.Context, withAttachments bool) (freed [][32]byte, err error)
	trash  func(ctx context.Context, withAttachments bool, d store.Deletion) error
	purge  func(ctx context.Context) error
}

// DeleteSpace answers DELETE /directory/spaces/:space.
func (s *Service) DeleteSpace(w *api.Response, rq *api.Request, sc api.Scope) error {
	slug := sc.Entity.Space
	return s.remove(w, rq, sc, removal{"space",
		func(ctx context.Context, with bool) ([][32]byte, error) { return s.Store.DeleteSpace(ctx, slug, with) },
		func(ctx context.Context, with bool, d store.Deletion) error {
			return s.Store.TrashSpace(ctx, slug, with, d)
		},
		func(ctx context.Context) error { return s.Store.PurgeSpace(ctx, slug) },
	})
}

// DeleteEntity answers DELETE /directory/spaces/:space/products/:product and its like.
func (s *Service) DeleteEntity(kind store.Kind) api.Handler {
	return func(w *api.Response, rq *api.Request, sc api.Scope) error {
		p := sc.Entity.Parent
		return s.remove(w, rq, sc, removal{kind.String(),
			func(ctx context.Context, with bool) ([][32]byte, error) { return s.Store.DeleteEntity(ctx, p, with) },
			func(ctx context.Context, with bool, d store.Deletion) error {
				return s.Store.TrashEntity(ctx, p, with, d)
			},
			func(ctx context.Context) error { return s.Store.PurgeEntity(ctx, p) },
		})
	}
}

// remove deletes a product, ticket, meeting or space: into the trash, or with
// ?permanent=true for good, from the trash too.
func (s *Service) remove(w *api.Response, rq *api.Request, sc api.Scope, r removal) error {
	withAttachments, err := deletesAttachments(rq)
	if err != nil {
		return err
	}
	permanent, err := rq.Permanent()
	if err != nil {
		return err
	}
	if permanent {
		rq.Entry.Action = r.what + ".purge"
	}
	var d store.Deletion
	if !permanent && s.TrashKeep > 0 {
		d = sc.Deletion(s.Now(), s.TrashedUntil(rq.Context()))
	}
	var freed [][32]byte
	err = s.Contents.Change(func() (err error) {
		freed, err = s.removeFrom(rq.Context(), sc, r, withAttachments, permanent, d)
		return err
	})
	if err != nil {
		return err
	}
	defer s.Contents.WakeRemoval()
	if err := rq.Answer(w, http.StatusOK, api.Message(strings.ToUpper(r.what[:1])+r.what[1:]+" deleted successfully")); err != nil {
		return err
	}
	w.Deliver()
	s.Contents.WakeTrash()
	s.Contents.Forget(context.WithoutCancel(rq.Context()), rq.Log, freed...)
	return nil
}

// removeFrom removes it from where it is: into the trash with d, if that is not zero.
func (s *Service) removeFrom(ctx context.Context, sc api.Scope, r removal, withAttachments, permanent bool, d store.Deletion) (freed [][32]byte, err error) {
	switch {
	case sc.InTrash && !withAttachments:
		return nil, api.Conflict("The %s is in the trash with its attachments. With attachments=delete, it is removed for good with them.", r.what)
	case d != store.Deletion{}:
		return nil, r.trash(ctx, withAttachments, d)
	case !permanent || !withAttachments:
		return r.delete(ctx, withAttachments)
	}
	err = sc.FromWherever(func(fromTrash bool) (err error) {
		if fromTrash {
			return r.purge(ctx)
		}
		freed, err = r.delete(ctx, withAttachments)
		return err
	})
	return freed, err
}

// deletesAttachments parses ?attachments=delete.
func deletesAttachments(rq *api.Request) (bool, error) {
	switch rq.URL.Query().Get("attachments") {
	case "":
		return false, nil
	case "delete":
		return true, nil
	}
	return false, api.InvalidRequest("attachments can only be \"delete\".")
}

// RestoreSpace answers POST /directory/spaces/:space/restore.
func (s *Service) RestoreSpace(w *api.Response, rq *api.Request, sc api.Scope) error {
	slug, err := rq.SlugParam()
	if err != nil {
		return err
	}
	var space store.Space
	err = s.restore(rq, func(ctx context.Context) (err error) {
		space, err = s.Store.RestoreSpace(ctx, slug)
		return err
	})
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, renderSpace(space))
}

// RestoreEntity answers POST /directory/spaces/:space/products/:product/restore and its
// like.
func (s *Service) RestoreEntity(kind store.Kind) api.Handler {
	return func(w *api.Response, rq *api.Request, sc api.Scope) error {
		id, err := rq.IDParam(kind.String(), kind.String())
		if err != nil {
			return err
		}
		p := store.Parent{Kind: kind, ID: id}
		slug := rq.Params.ByName("space")
		trashed, err := s.Store.TrashedEntity(rq.Context(), p)
		if err == nil && kind == store.Product && trashed.Space != slug {
			return api.NotFound("There is no product %s in the trash of the space %q.", id, slug)
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var e store.Entity
		err = s.restore(rq, func(ctx context.Context) (err error) {
			rq.Entry.Name, rq.Entry.Space = trashed.Entity.Name, trashed.Space
			e, err = s.Store.RestoreEntity(ctx, p)
			return err
		})
		if err != nil {
			return err
		}
		return rq.Answer(w, http.StatusOK, renderEntity(e))
	}
}

func (s *Service) restore(rq *api.Request, do func(context.Context) error) error {
	if err := rq.CheckQuery(nil); err != nil {
		return err
	}
	return s.Contents.Change(func() error { return do(rq.Context()) })
}

// ListTrash answers GET /directory/spaces/:space/trash, and GET /directory/trash with the
// spaces that are in the trash.
func (s *Service) ListTrash(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.Trashed]{
		Fetch: func(after []byte, n int) ([]store.Trashed, error) {
			return s.Store.TrashIn(rq.Context(), sc.Entity.Space, after, n)
		},
		Key: func(t store.Trashed) []byte { return t.Place },
		Row: api.Rendered(api.RenderTrashed),
	}.Answer(w, rq)
}
