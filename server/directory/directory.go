package directory

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/content/charset"
	"attachd/store"
)

// The objects of the directory in requests and answers.
type (
	userBody struct {
		ID               uuid.UUID `json:"id"`
		FullName         string    `json:"full_name"`
		IsSuperadmin     bool      `json:"is_superadmin"`
		IsRecordsManager bool      `json:"is_records_manager,omitempty"`
	}
	spaceBody struct {
		Slug       string `json:"slug"`
		Name       string `json:"name"`
		QuotaBytes *int64 `json:"quota_bytes"`
		QuotaFiles *int64 `json:"quota_files"`
	}
	usedSpaceBody struct {
		spaceBody
		UsedBytes int64 `json:"used_bytes"`
		UsedFiles int64 `json:"used_files"`
	}
	memberBody struct {
		UserID uuid.UUID `json:"user_id"`
		Role   string    `json:"role"`
	}
	productBody struct {
		ID    uuid.UUID `json:"id"`
		Space string    `json:"space"`
		Name  string    `json:"name"`
	}
	ticketBody struct {
		ID      uuid.UUID `json:"id"`
		Space   string    `json:"space"`
		OwnerID uuid.UUID `json:"owner_id"`
		Title   string    `json:"title"`
	}
	meetingBody struct {
		ID    uuid.UUID `json:"id"`
		Space string    `json:"space"`
		Title string    `json:"title"`
	}
	commentBody struct {
		ID        uuid.UUID `json:"id"`
		Number    *int      `json:"number"`     // null in older databases
		CreatedAt *string   `json:"created_at"` // likewise
	}
)

func renderUser(u store.User) any {
	return userBody{u.ID, u.FullName, u.IsSuperadmin, u.IsRecordsManager}
}

func describeSpace(sp store.Space) spaceBody {
	return spaceBody{sp.Slug, sp.Name, optionalQuota(sp.QuotaBytes), optionalQuota(sp.QuotaFiles)}
}

func renderSpace(sp store.Space) any { return describeSpace(sp) }

func renderMember(m store.Member) any { return memberBody{m.UserID, m.Role.String()} }

func renderComment(c store.Comment) any {
	body := commentBody{ID: c.ID, CreatedAt: api.OptionalTime(c.CreatedAt)}
	if c.Number > 0 {
		body.Number = &c.Number
	}
	return body
}

func renderEntity(e store.Entity) any {
	switch e.Kind {
	case store.Ticket:
		return ticketBody{e.ID, e.Space, e.OwnerID, e.Name}
	case store.Meeting:
		return meetingBody{e.ID, e.Space, e.Name}
	default:
		return productBody{e.ID, e.Space, e.Name}
	}
}

func renderObject(o store.Object) any {
	switch o := o.(type) {
	case store.User:
		return renderUser(o)
	case store.Space:
		return renderSpace(o)
	case store.Member:
		return renderMember(o)
	case store.Entity:
		return renderEntity(o)
	case store.Comment:
		return renderComment(o)
	}
	return nil // there are no others
}

func optionalQuota(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}

// put writes one object and answers with it: 201 when it is new.
func (s *Service) put(w *api.Response, rq *api.Request, line directoryLine) error {
	o, err := line.object()
	if err != nil {
		return err
	}
	rq.Entry.Name = store.Granted(o)
	if e, is := o.(store.Entity); is {
		rq.Entry.Space = e.Space // which is not in the address of a ticket or meeting
	}
	created, err := s.Store.Put(rq.Context(), toldAt(s.Now(), o))
	if err != nil {
		return err
	}
	status := http.StatusOK
	if created[0] {
		status = http.StatusCreated
	}
	return s.answerPut(w, rq, status, o)
}

// answerPut answers with an object that was put. A comment put without a number has one
// by then.
func (s *Service) answerPut(w *api.Response, rq *api.Request, status int, o store.Object) error {
	if c, is := o.(store.Comment); is {
		put, err := s.Store.Comment(rq.Context(), c.TicketID, c.ID)
		if err != nil {
			return err
		}
		o = put
	}
	return rq.Answer(w, status, renderObject(o))
}

// ListUsers answers GET /directory/users.
func (s *Service) ListUsers(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.User]{
		Fetch: api.AfterID(rq, s.Store.Users),
		Key:   func(u store.User) []byte { return u.ID[:] },
		Row:   api.Rendered(renderUser),
	}.Answer(w, rq)
}

// PutUser answers PUT /directory/users/:user.
func (s *Service) PutUser(w *api.Response, rq *api.Request, sc api.Scope) error {
	id, err := rq.IDParam("user", "user")
	if err != nil {
		return err
	}
	line := userLine{ID: id.String()}
	if err := rq.ReadJSON(&line.userMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// GetUser answers GET /directory/users/:user.
func (s *Service) GetUser(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, renderUser(user))
}

// DeleteUser answers DELETE /directory/users/:user.
func (s *Service) DeleteUser(w *api.Response, rq *api.Request, sc api.Scope) error {
	id, err := rq.IDParam("user", "user")
	if err != nil {
		return err
	}
	if user, err := s.Store.User(rq.Context(), id); err == nil {
		rq.Entry.Name = user.FullName // nobody can look it up afterwards
	}
	if err := s.Store.DeleteUser(rq.Context(), id); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("User deleted successfully"))
}

// ListSpaces lists all spaces for a superadmin, for others those they are members of.
func (s *Service) ListSpaces(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.Space]{
		Fetch: func(after []byte, n int) ([]store.Space, error) {
			return s.visibleSpaces(rq, sc, string(after), n)
		},
		Key: func(sp store.Space) []byte { return []byte(sp.Slug) },
		Row: api.Rendered(renderSpace),
	}.Answer(w, rq)
}

func (s *Service) visibleSpaces(rq *api.Request, sc api.Scope, after string, n int) ([]store.Space, error) {
	if sc.Caller.User.IsSuperadmin {
		return s.Store.Spaces(rq.Context(), after, n)
	}
	memberships, err := s.Store.Memberships(rq.Context(), sc.Caller.User.ID)
	if err != nil {
		return nil, err
	}
	var own []store.Space
	for _, m := range memberships {
		if m.Space <= after || len(own) == n {
			continue
		}
		space, _, err := s.Store.Space(rq.Context(), m.Space)
		if errors.Is(err, store.ErrNotFound) {
			continue // it was deleted since the lookup
		}
		if err != nil {
			return nil, err
		}
		own = append(own, space)
	}
	return own, nil
}

// PutSpace answers PUT /directory/spaces/:space.
func (s *Service) PutSpace(w *api.Response, rq *api.Request, sc api.Scope) error {
	slug, err := rq.SlugParam()
	if err != nil {
		return err
	}
	line := spaceLine{Slug: slug}
	if err := rq.ReadOptionalJSON(&line.spaceMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// GetSpace answers GET /directory/spaces/:space.
func (s *Service) GetSpace(w *api.Response, rq *api.Request, sc api.Scope) error {
	space, used, err := s.Store.Space(rq.Context(), sc.Entity.Space)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, usedSpaceBody{describeSpace(space), used.Bytes, used.Files})
}

// ListMembers answers GET /directory/spaces/:space/members.
func (s *Service) ListMembers(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.Member]{
		Fetch: api.AfterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Member, error) {
			return s.Store.Members(ctx, sc.Entity.Space, after, n)
		}),
		Key: func(m store.Member) []byte { return m.UserID[:] },
		Row: api.Rendered(renderMember),
	}.Answer(w, rq)
}

// PutMember answers PUT /directory/spaces/:space/members/:user.
func (s *Service) PutMember(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := s.userParam(rq)
	if err != nil {
		return err
	}
	line := memberLine{Space: sc.Entity.Space, UserID: user.ID.String()}
	if err := rq.ReadJSON(&line.memberMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// GetMember answers GET /directory/spaces/:space/members/:user.
func (s *Service) GetMember(w *api.Response, rq *api.Request, sc api.Scope) error {
	slug := sc.Entity.Space
	user, err := rq.IDParam("user", "user")
	if err != nil {
		return err
	}
	role, err := s.Store.Role(rq.Context(), slug, user)
	if err != nil {
		return err
	}
	if role == store.NoRole {
		return api.NotFound("The user %s is not a member of the space %q.", user, slug)
	}
	return rq.Answer(w, http.StatusOK, renderMember(store.Member{Space: slug, UserID: user, Role: role}))
}

// DeleteMember answers DELETE /directory/spaces/:space/members/:user.
func (s *Service) DeleteMember(w *api.Response, rq *api.Request, sc api.Scope) error {
	user, err := rq.IDParam("user", "user")
	if err != nil {
		return err
	}
	if err := s.Store.DeleteMember(rq.Context(), sc.Entity.Space, user); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("Member removed successfully"))
}

// ListEntities lists the products of the space in the path, or the tickets or
// meetings of the space in the query or of all that the caller may see.
func (s *Service) ListEntities(kind store.Kind) api.Handler {
	return func(w *api.Response, rq *api.Request, sc api.Scope) error {
		slug := sc.Entity.Space
		var filters []string
		if kind != store.Product {
			filters = []string{"space"}
		}
		if kind != store.Product && rq.URL.Query().Has("space") {
			if slug = rq.URL.Query().Get("space"); !store.ValidSlug(slug) {
				return badSlug()
			}
			asked, err := s.Guard.FindSpace(rq, sc, slug)
			if err != nil {
				return err
			}
			rq.SetScope(asked)
			if err := s.Guard.Authorize(rq, asked, access.Read); err != nil {
				return err
			}
		}
		return api.List[store.Entity]{
			Fetch: func(after []byte, n int) ([]store.Entity, error) {
				return s.entitiesAfter(rq, sc, kind, slug, after, n)
			},
			// A cursor is slug, NUL, id: the order of the whole list.
			Key:     func(e store.Entity) []byte { return append([]byte(e.Space+"\x00"), e.ID[:]...) },
			Row:     api.Rendered(renderEntity),
			Filters: filters,
		}.Answer(w, rq)
	}
}

// entitiesAfter lists at most n entities after a cursor, of one space or, for an empty
// slug, of all that the caller may see.
func (s *Service) entitiesAfter(rq *api.Request, sc api.Scope, kind store.Kind, slug string, cursor []byte, n int) ([]store.Entity, error) {
	var id uuid.UUID
	begin, rest, _ := strings.Cut(string(cursor), "\x00")
	if len(cursor) > 0 {
		if len(rest) != len(id) || slug != "" && begin != slug {
			return nil, api.BadCursor()
		}
		copy(id[:], rest)
	}
	if slug != "" {
		return s.Store.Entities(rq.Context(), slug, kind, id, n)
	}
	var all []store.Entity
	if begin != "" {
		// The cursor, with the space in it, comes from the caller.
		visible, err := s.Guard.SeesSpace(rq, sc, begin)
		if err != nil {
			return nil, err
		}
		if visible {
			if all, err = s.Store.Entities(rq.Context(), begin, kind, id, n); err != nil {
				return nil, err
			}
		}
	}
	for len(all) < n {
		spaces, err := s.visibleSpaces(rq, sc, begin, api.FetchBatch)
		if err != nil {
			return nil, err
		}
		for _, space := range spaces {
			more, err := s.Store.Entities(rq.Context(), space.Slug, kind, uuid.Nil, n-len(all))
			if err != nil {
				return nil, err
			}
			if all = append(all, more...); len(all) == n {
				return all, nil
			}
			begin = space.Slug
		}
		if len(spaces) < api.FetchBatch {
			break
		}
	}
	return all, nil
}

// GetEntity answers GET /directory/spaces/:space/products/:product and its like.
func (s *Service) GetEntity(w *api.Response, rq *api.Request, sc api.Scope) error {
	return rq.Answer(w, http.StatusOK, renderEntity(sc.Entity))
}

// PutProduct answers PUT /directory/spaces/:space/products/:product.
func (s *Service) PutProduct(w *api.Response, rq *api.Request, sc api.Scope) error {
	id, err := rq.IDParam("product", "product")
	if err != nil {
		return err
	}
	line := productLine{ID: id.String(), Space: sc.Entity.Space}
	if err := rq.ReadOptionalJSON(&line.productMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// PutTicket answers PUT /directory/tickets/:ticket.
func (s *Service) PutTicket(w *api.Response, rq *api.Request, sc api.Scope) error {
	id, err := rq.IDParam("ticket", "ticket")
	if err != nil {
		return err
	}
	line := ticketLine{ID: id.String()}
	if err := rq.ReadJSON(&line.ticketMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// PutMeeting answers PUT /directory/meetings/:meeting.
func (s *Service) PutMeeting(w *api.Response, rq *api.Request, sc api.Scope) error {
	id, err := rq.IDParam("meeting", "meeting")
	if err != nil {
		return err
	}
	line := meetingLine{ID: id.String()}
	if err := rq.ReadJSON(&line.meetingMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// ListComments answers GET /directory/tickets/:ticket/comments.
func (s *Service) ListComments(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.Comment]{
		Fetch: api.AfterID(rq, func(ctx context.Context, after uuid.UUID, n int) ([]store.Comment, error) {
			return s.Store.Comments(ctx, sc.Entity.ID, after, n)
		}),
		Key: func(c store.Comment) []byte { return c.ID[:] },
		Row: api.Rendered(renderComment),
	}.Answer(w, rq)
}

// PutComment answers PUT /directory/tickets/:ticket/comments/:comment.
func (s *Service) PutComment(w *api.Response, rq *api.Request, sc api.Scope) error {
	c, err := commentParams(rq)
	if err != nil {
		return err
	}
	line := commentLine{TicketID: c.TicketID.String(), ID: c.ID.String()}
	if err := rq.ReadOptionalJSON(&line.commentMembers); err != nil {
		return err
	}
	return s.put(w, rq, &line)
}

// GetComment answers GET /directory/tickets/:ticket/comments/:comment.
func (s *Service) GetComment(w *api.Response, rq *api.Request, sc api.Scope) error {
	c, err := commentParams(rq)
	if err != nil {
		return err
	}
	if c, err = s.Store.Comment(rq.Context(), c.TicketID, c.ID); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, renderComment(c))
}

// DeleteComment answers DELETE /directory/tickets/:ticket/comments/:comment.
func (s *Service) DeleteComment(w *api.Response, rq *api.Request, sc api.Scope) error {
	c, err := commentParams(rq)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteComment(rq.Context(), c); err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, api.Message("Comment deleted successfully"))
}

func commentParams(rq *api.Request) (c store.Comment, err error) {
	if c.TicketID, err = rq.IDParam("ticket", "ticket"); err != nil {
		return c, err
	}
	c.ID, err = rq.IDParam("comment", "comment")
	return c, err
}

// label checks that a name or title is one line of text of limited length, and cleans it.
func label(member, s string) (string, error) {
	const longest = 500
	s = CleanLabel(s)
	if strings.ContainsFunc(s, endsLine) {
		return "", api.InvalidRequest("%s must be one line of text.", member)
	}
	if utf8.RuneCountInString(s) > longest {
		return "", api.InvalidRequest("%s must not be longer than %d characters.", member, longest)
	}
	return s, nil
}

// CleanLabel returns a name or title as the directory keeps it: without space around it, bytes
// that are not UTF-8, and characters that reverse the reading direction, as file names.
func CleanLabel(s string) string {
	return strings.TrimSpace(charset.WithoutBidi(string([]rune(s)))) // U+FFFD for each of the bytes, as JSON has it
}

// endsLine reports whether a character ends a line or may control a terminal.
func endsLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
