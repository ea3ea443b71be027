package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/upkeep"
	"attachd/store"
)

const (
	// maxSuspects is how many contents are remembered that were found missing or
	// damaged. Damaged ones are marked on the disk besides, whatever their number.
	maxSuspects = 1000
	// maxOfContent is how many attachments with the same content are listed at most.
	maxOfContent = 100
)

// suspects are contents that a check or a read found missing or damaged. They are
// checked again before they are reported: they may have been repaired.
type suspects struct {
	mu     sync.Mutex
	loaded bool // from the note that the last check left
	refs   map[blobs.Ref]struct{}
}

func (s *suspects) add(ref blobs.Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refs == nil {
		s.refs = map[blobs.Ref]struct{}{}
	}
	if len(s.refs) < maxSuspects {
		s.refs[ref] = struct{}{}
	}
}

// suspected returns the suspects, including those that a check found before the server
// was last started, or at another replica.
func (s *Service) suspected(ctx context.Context) ([]blobs.Ref, error) {
	s.suspects.mu.Lock()
	loaded := s.suspects.loaded
	s.suspects.mu.Unlock()
	if !loaded || s.Shared != nil {
		found, err := upkeep.ReadFound(ctx, s.Store)
		if err != nil {
			return nil, err
		}
		for _, ref := range found.Contents {
			s.suspects.add(ref)
		}
		s.suspects.mu.Lock()
		s.suspects.loaded = true
		s.suspects.mu.Unlock()
	}
	refs := s.Contents.Marked()
	s.suspects.mu.Lock()
	defer s.suspects.mu.Unlock()
	for ref := range s.suspects.refs {
		refs = append(refs, ref)
	}
	slices.SortFunc(refs, func(a, b blobs.Ref) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(refs), nil
}

// faulty counts the suspects of attachments that are missing or damaged now.
func (s *Service) faulty(ctx context.Context) (n int, err error) {
	refs, err := s.suspected(ctx)
	if err != nil {
		return 0, err
	}
	for _, ref := range refs {
		attachments, err := s.Store.AttachmentsWith(ctx, ref, 1)
		if err != nil {
			return 0, err
		}
		info, err := s.Contents.Stat(ctx, ref)
		missing := errors.Is(err, blobs.ErrNotFound)
		if err != nil && !missing {
			return 0, fmt.Errorf("looking at blob %s: %w", ref, err)
		}
		if len(attachments) > 0 && (missing || info.Damaged || info.Size != attachments[0].Size) {
			n++
		}
	}
	return n, nil
}

// noteFound adds what a check has found to the suspects.
func (s *Service) noteFound(ctx context.Context, report upkeep.Report) {
	found := upkeep.Found{Faults: len(report.Faults)}
	for _, f := range report.Faults {
		if ref, err := blobs.ParseRef(f.Blob); err == nil && f.Attachment.Valid && !f.Unreadable && len(found.Contents) < maxSuspects {
			found.Contents = append(found.Contents, ref)
			s.suspects.add(ref)
		}
	}
	if err := upkeep.NoteFound(ctx, s.Store, found); err != nil && ctx.Err() == nil {
		s.Log.Warn("it could not be noted what a check has found", "error", err)
	}
}

// A faultBody is an attachment whose content is missing or damaged.
type faultBody struct {
	ID         uuid.UUID      `json:"attachment_id"`
	FileName   string         `json:"file_name"`
	FileSize   int64          `json:"file_size"`
	UploadedBy api.PersonBody `json:"uploaded_by"`
	CreatedAt  string         `json:"created_at"`
	Space      string         `json:"space"`
	Kind       string         `json:"kind"` // of the parent: product, ticket or meeting
	ParentID   uuid.UUID      `json:"parent_id"`
	ParentName string         `json:"parent_name"`
	What       string         `json:"what"` // "missing" or "damaged"
}

// ListFaults lists the attachments that are known to be missing or damaged, of the
// spaces that the caller may see.
func (s *Service) ListFaults(w *api.Response, rq *api.Request, sc api.Scope) error {
	if err := rq.CheckQuery([]string{"space"}); err != nil {
		return err
	}
	slug := rq.URL.Query().Get("space")
	refs, err := s.suspected(rq.Context())
	if err != nil {
		return err
	}
	if err := rq.Hold(int64(min(len(refs), maxSuspects)) * api.RowHolds); err != nil {
		return err
	}
	list := []faultBody{}
	visible := map[string]bool{}
	for _, ref := range refs {
		attachments, err := s.Store.AttachmentsWith(rq.Context(), ref, maxOfContent)
		if err != nil {
			return err
		}
		if len(attachments) == 0 {
			continue
		}
		info, err := s.Contents.Stat(rq.Context(), ref)
		missing := errors.Is(err, blobs.ErrNotFound)
		if err != nil && !missing {
			return fmt.Errorf("looking at blob %s: %w", ref, err)
		}
		for _, a := range attachments {
			what := ""
			switch {
			case missing:
				what = "missing"
			case info.Damaged || info.Size != a.Size:
				what = "damaged"
			default:
				continue
			}
			e, err := s.Store.Entity(rq.Context(), a.Parent)
			if errors.Is(err, store.ErrNotFound) {
				continue // the attachment is being deleted
			}
			if err != nil {
				return err
			}
			if _, known := visible[e.Space]; !known {
				if visible[e.Space], err = s.Guard.SeesSpace(rq, sc, e.Space); err != nil {
					return err
				}
			}
			if visible[e.Space] && (slug == "" || slug == e.Space) {
				list = append(list, faultBody{a.ID, a.FileName, a.Size, api.Person(a), api.Timestamp(a.CreatedAt()),
					e.Space, e.Kind.String(), e.ID, e.Name, what})
			}
		}
	}
	return rq.AnswerList(w, list)
}
