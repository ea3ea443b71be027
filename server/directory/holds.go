package directory

import (
	"net/http"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/store"
)

// holdBody is a legal hold as the API answers with it.
type holdBody struct {
	ID     uuid.UUID       `json:"id"`
	On     thing           `json:"on"`
	Space  string          `json:"space"`
	Reason string          `json:"reason"`
	SetAt  string          `json:"set_at"`
	SetBy  *api.PersonBody `json:"set_by"` // null for the operator
}

// thing is what a hold is on: an attachment, product, ticket, meeting or space. The id of a
// space is its slug.
type thing struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

func thingOf(on store.Held) thing {
	switch {
	case on.Attachment != uuid.Nil:
		return thing{"attachment", on.Attachment.String()}
	case on.Parent != store.Parent{}:
		return thing{on.Parent.Kind.String(), on.Parent.ID.String()}
	}
	return thing{"space", on.Space}
}

func renderHold(h store.Hold) any {
	body := holdBody{ID: h.ID, On: thingOf(h.On), Space: h.On.Space, Reason: h.Reason, SetAt: api.Timestamp(h.SetAt())}
	if h.ByID != uuid.Nil {
		body.SetBy = &api.PersonBody{ID: h.ByID, FullName: h.By}
	}
	return body
}

// held reads what a hold is to be on.
func (t thing) held() (on store.Held, err error) {
	if t.Kind == "space" {
		if !store.ValidSlug(t.ID) {
			return on, api.InvalidRequest("The id of a space is its slug: lower-case letters, digits and hyphens, 63 at most.")
		}
		return store.Held{Space: t.ID}, nil
	}
	kinds := map[string]store.Kind{"product": store.Product, "ticket": store.Ticket, "meeting": store.Meeting}
	kind, is := kinds[t.Kind]
	if !is && t.Kind != "attachment" {
		return on, api.InvalidRequest(`on must have a kind, which is "attachment", "product", "ticket", "meeting" or "space", and an id.`)
	}
	id, ok := api.ParseID(t.ID)
	switch {
	case !ok:
		return on, api.InvalidRequest("The id of the %s to hold must be a UUID.", t.Kind)
	case is:
		return store.Held{Parent: store.Parent{Kind: kind, ID: id}}, nil
	}
	return store.Held{Attachment: id}, nil
}

// SetHold answers POST /holds.
func (s *Service) SetHold(w *api.Response, rq *api.Request, sc api.Scope) error {
	var body struct {
		On     thing  `json:"on"`
		Reason string `json:"reason"`
	}
	if err := rq.ReadJSON(&body); err != nil {
		return err
	}
	on, err := body.On.held()
	if err != nil {
		return err
	}
	reason, err := label("reason", body.Reason)
	if err != nil {
		return err
	}
	if reason == "" {
		return api.InvalidRequest("A hold needs a reason, for those who have to decide later whether it can be lifted.")
	}
	h := store.Hold{ID: s.IDs.New(s.Now().UTC()), On: on, Reason: reason, ByID: sc.Caller.User.ID}
	rq.Entry.ID, rq.Entry.Name = h.ID.String(), described(body.On, reason)
	if rq.Entry.Space, err = s.spaceOf(rq, on); err != nil {
		return err
	}
	if h, err = s.Store.SetHold(rq.Context(), h); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusCreated, renderHold(h))
}

// spaceOf is the space of what a hold is to be on.
func (s *Service) spaceOf(rq *api.Request, on store.Held) (string, error) {
	if on.Attachment != uuid.Nil {
		a, err := s.Store.Attachment(rq.Context(), on.Attachment)
		if err != nil {
			return "", err
		}
		on.Parent = a.Parent
	}
	if on.Parent != (store.Parent{}) {
		e, err := s.Store.Entity(rq.Context(), on.Parent)
		return e.Space, err
	}
	return on.Space, nil
}

// described is what the audit log says of a hold.
func described(on thing, reason string) string { return on.Kind + " " + on.ID + ": " + reason }

// GetHold answers GET /holds/:hold.
func (s *Service) GetHold(w *api.Response, rq *api.Request, sc api.Scope) error {
	h, err := s.holdParam(rq)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, renderHold(h))
}

func (s *Service) holdParam(rq *api.Request) (store.Hold, error) {
	id, err := rq.IDParam("hold", "hold")
	if err != nil {
		return store.Hold{}, err
	}
	return s.Store.Hold(rq.Context(), id)
}

// LiftHold answers DELETE /holds/:hold.
func (s *Service) LiftHold(w *api.Response, rq *api.Request, sc api.Scope) error {
	h, err := s.holdParam(rq)
	if err != nil {
		return err
	}
	rq.Entry.Name, rq.Entry.Space = described(thingOf(h.On), h.Reason), h.On.Space
	if _, err := s.Store.LiftHold(rq.Context(), h.ID); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("Hold lifted successfully"))
}

// ListHolds answers GET /holds.
func (s *Service) ListHolds(w *api.Response, rq *api.Request, sc api.Scope) error {
	space := rq.URL.Query().Get("space")
	if rq.URL.Query().Has("space") {
		if !store.ValidSlug(space) {
			return badSlug()
		}
		if _, _, err := s.Store.Space(rq.Context(), space); err != nil {
			return err
		}
	}
	return api.List[store.Hold]{
		Fetch: func(after []byte, n int) ([]store.Hold, error) {
			if at, ok := store.HoldAt(after); len(after) > 0 && (!ok || space != "" && at.On.Space != space) {
				return nil, api.BadCursor()
			}
			return s.Store.Holds(rq.Context(), space, after, n)
		},
		Key:     store.Hold.Place,
		Filters: []string{"space"},
		Row:     api.Rendered(renderHold),
	}.Answer(w, rq)
}
