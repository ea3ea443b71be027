package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"attachd/server/token"
	"attachd/store"
)

// caller is who a request comes from.
type caller struct {
	user  store.User // whose rights count
	actor store.User // whose key it is: another only with X-On-Behalf-Of
	key   uuid.UUID  // zero for the operator, who needs none
}

// operator is whoever holds the data directory.
var operator = store.User{FullName: "operator", IsSuperadmin: true}

type operatorMark struct{}

func asOperator(ctx context.Context) context.Context {
	return context.WithValue(ctx, operatorMark{}, true)
}

func isOperator(ctx context.Context) bool { return ctx.Value(operatorMark{}) != nil }

// access settles whether a request may go on, and looks up what its handler
// needs. The order is always the same: who is it (401), what is it about
// (404), may they (403).
type access func(s *Server, rq *request) error

func anyone(*Server, *request) error { return nil }

func signedIn(s *Server, rq *request) error { return s.authenticate(rq) }

func superadmin(s *Server, rq *request) error {
	if err := s.authenticate(rq); err != nil {
		return err
	}
	return onlySuperadmin(rq)
}

// superadminOf is superadmin for what is below the space or the ticket that
// find settles on, or does away with what it finds.
func superadminOf(find finder) access {
	return func(s *Server, rq *request) error {
		if err := s.authenticate(rq); err != nil {
			return err
		}
		if err := find(s, rq, read); err != nil {
			return err
		}
		return onlySuperadmin(rq)
	}
}

func onlySuperadmin(rq *request) error {
	if !rq.caller.user.IsSuperadmin {
		return forbidden("Only a superadmin may do this.")
	}
	return nil
}

// operatorOnly keeps everybody out who comes over the network.
func operatorOnly(s *Server, rq *request) error {
	if err := s.authenticate(rq); err != nil {
		return err
	}
	if !isOperator(rq.Context()) {
		return forbidden("Only the commands of attachd may do this, on the machine that the server runs on.")
	}
	return nil
}

// scraper may read metrics.
func scraper(s *Server, rq *request) error {
	if s.PublicMetrics {
		return nil
	}
	return superadmin(s, rq)
}

// finder looks up what a route is about.
type finder func(s *Server, rq *request, do action) error

// memberOf lets members of the space that find settles on, and superadmins,
// read the directory.
func memberOf(find finder) access { return may(read, find) }

// may lets through whoever has the right to do this to what find finds. It is
// the only way to a file, whatever the route.
func may(do action, find finder) access {
	return func(s *Server, rq *request) error {
		if err := s.authenticate(rq); err != nil {
			return err
		}
		if err := find(s, rq, do); err != nil {
			return err
		}
		return s.authorize(rq, do)
	}
}

// signedLink lets through whoever holds a link that we signed, as long as the
// key and the user it was made for still have the right. Wrong signatures are
// not counted as wrong keys are: nobody guesses 256 bits, and a page full of
// old links must not keep its reader's neighbours waiting.
func signedLink(s *Server, rq *request) error {
	id, err := rq.idParam("attachment", "attachment")
	if err != nil {
		return err
	}
	query := rq.URL.Query()
	if len(query["expires"]) != 1 || len(query["signature"]) != 1 {
		return token.ErrSignature // whoever stands before us might read another one of several
	}
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil || query.Get("expires") != strconv.FormatInt(expires, 10) {
		return token.ErrSignature
	}
	link, err := s.signing.signer.Load().Verify(id, expires, query.Get("signature"), s.Now())
	if err != nil {
		return err
	}
	rq.inline = link.Inline
	if err := s.findAttachment(rq, id); err != nil {
		return err
	}
	rq.caller, err = s.callerWith(rq, link.Key, link.User)
	if err == nil {
		err = s.authorize(rq, read)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		// What became of them is nobody's business who holds the link.
		return &refusal{status: http.StatusForbidden, code: "invalid_signature", detail: "This link has ended: the key that made it, or its user's right to read the file, is gone.", cause: err}
	}
	return err
}

// callerWith gives the caller that a key makes now, acting for a user, who may
// be its own.
func (s *Server) callerWith(rq *request, keyID, userID uuid.UUID) (caller, error) {
	key, actor, err := s.Store.Key(rq.Context(), keyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && s.expired(key) {
		return caller{}, errNoKey
	}
	c := caller{user: actor, actor: actor, key: keyID}
	if err == nil && userID != actor.ID {
		c.user, err = s.actFor(rq, actor, userID)
	}
	return c, err
}

// mayStill settles anew whether a request may go on, as may does before its
// body is read: that can take hours, and what was revoked meanwhile counts.
func (s *Server) mayStill(rq *request, do action, find finder) error {
	if key := rq.caller.key; key != uuid.Nil {
		now, err := s.callerWith(rq, key, rq.caller.user.ID)
		if err != nil {
			return err
		}
		rq.caller = now
	}
	rq.autoCreate = ""
	if err := find(s, rq, do); err != nil {
		return err
	}
	return s.authorize(rq, do)
}

// authenticate settles who calls, from the operator's socket, a key or a
// session.
func (s *Server) authenticate(rq *request) error {
	var c caller
	header := rq.Header.Get("Authorization")
	cookie, noCookie := rq.Cookie(s.cookieName(rq.Request))
	switch {
	case isOperator(rq.Context()):
		c = caller{user: operator, actor: operator}
	case header != "":
		scheme, secret, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
		}
		key, user, err := s.keyOf(rq, secret)
		if errors.Is(err, errNoKey) {
			return s.guessed(rq, errNoKey)
		}
		if err != nil {
			return err
		}
		c = caller{user: user, actor: user, key: key.ID}
	case noCookie == nil:
		var err error
		if c, err = s.sessionCaller(rq, cookie.Value); err != nil {
			return err
		}
	default:
		return unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
	}
	if c.key != uuid.Nil {
		s.Store.TouchKey(c.key, s.Now())
		if err := s.countRequest(rq, c); err != nil {
			return err
		}
	}
	rq.caller = c
	// An empty one is an error of the caller's, and must not count as none: the
	// caller would act with more rights than it meant to.
	if behalf := rq.Header.Values("X-On-Behalf-Of"); len(behalf) > 0 {
		id, ok := parseID(behalf[0])
		if !ok || len(behalf) > 1 {
			return invalidRequest("X-On-Behalf-Of must be one user's id (a UUID).")
		}
		user, err := s.actFor(rq, c.actor, id)
		if err != nil {
			return err
		}
		rq.caller.user = user
	}
	return nil
}

var errNoKey = unauthorized("This API key is not known, or no longer.")

// keyOf finds the key that a caller shows, and whose it is.
func (s *Server) keyOf(rq *request, secret string) (store.Key, store.User, error) {
	key, user, err := s.Store.KeyByHash(rq.Context(), token.Hash(strings.TrimSpace(secret)))
	if errors.Is(err, store.ErrNotFound) || err == nil && s.expired(key) {
		err = errNoKey
	}
	return key, user, err
}

// actFor gives the user that actor, a superadmin, acts for.
func (s *Server) actFor(rq *request, actor store.User, id uuid.UUID) (store.User, error) {
	if !actor.IsSuperadmin {
		return store.User{}, forbidden("Only a superadmin may act for another user.")
	}
	user, err := s.Store.User(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, forbidden("There is no user %s to act for. Put it in the directory first.", id)
	}
	return user, err
}

func (s *Server) expired(k store.Key) bool {
	return !k.ExpiresAt.IsZero() && !s.Now().Before(k.ExpiresAt)
}

// action is what a caller wants to do to the files of a parent, or to one.
type action int

const (
	read action = iota
	upload
	remove
)

// standing is what counts for a caller's rights over a parent and a file.
type standing struct {
	role       store.Role
	superadmin bool
	uploader   bool // of the file
	owner      bool // of the ticket
}

// allowed is the table of rights.
func (s *Server) allowed(do action, kind store.Kind, who standing) bool {
	member := who.role >= store.Viewer || who.superadmin
	editor := who.role >= store.Editor || who.superadmin
	admin := who.role >= store.Admin || who.superadmin
	ticket := kind == store.Ticket
	switch do {
	case read:
		return member
	case upload:
		return editor || ticket && who.owner
	case remove:
		if ticket {
			return who.uploader && member || who.owner || admin && s.AdminsMayDeleteFromTickets
		}
		return who.uploader && member || admin
	}
	return false
}

// authorize is the one place where rights over files, and over reading the
// directory, are settled.
func (s *Server) authorize(rq *request, do action) error {
	user := rq.caller.user
	role, err := s.Store.Role(rq.Context(), rq.entity.Space, user.ID)
	if err != nil {
		return err
	}
	if rq.autoCreate != "" {
		return s.authorizeAutoCreate(rq, role)
	}
	who := standing{
		role:       role,
		superadmin: user.IsSuperadmin,
		uploader:   user.ID != uuid.Nil && rq.attachment.UploaderID == user.ID,
		owner:      user.ID != uuid.Nil && rq.entity.OwnerID == user.ID,
	}
	if s.allowed(do, rq.entity.Kind, who) {
		return nil
	}
	switch {
	case who.role == store.NoRole && do == read:
		return forbidden("You are not a member of the space %q.", rq.entity.Space)
	case do == upload && rq.entity.Kind == store.Ticket:
		return forbidden("Only editors and admins of the space, and the ticket's owner, may upload here.")
	case do == upload:
		return forbidden("Only editors and admins of the space may upload here.")
	case rq.entity.Kind == store.Ticket:
		return forbidden("Only the uploader or the ticket's owner may delete this file.")
	default:
		return forbidden("Only the uploader or an admin of the space may delete this file.")
	}
}

// authorizeAutoCreate lets anyone begin a space that nobody has told us of, or
// come into one so begun, but lets nobody into one that the system of record
// keeps, and gives nobody more than the role they were given.
func (s *Server) authorizeAutoCreate(rq *request, role store.Role) error {
	space, _, err := s.Store.Space(rq.Context(), rq.autoCreate)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case space.Auto && role == store.NoRole, role >= store.Editor, rq.caller.user.IsSuperadmin:
		return nil
	}
	return forbidden("Only editors and admins of the space may upload here.")
}

// The space for tickets and meetings that an upload creates.
const autoSpace = "default"

// parent finds the product, ticket or meeting that the path names, or, with
// auto_create, makes ready to create it with the upload.
func parent(kind store.Kind) finder {
	return func(s *Server, rq *request, do action) error {
		err := entity(kind)(s, rq, do)
		var refused *refusal
		if !s.AutoCreate || do != upload || !errors.As(err, &refused) || refused.status != http.StatusNotFound {
			return err
		}
		id, slug := rq.params.ByName(kind.String()), autoSpace
		if kind == store.Product {
			slug = rq.params.ByName("space")
		}
		parsed, ok := parseID(id)
		if !ok || !validSlug(slug) || rq.caller.user.ID == uuid.Nil {
			return err
		}
		p := store.Parent{Kind: kind, ID: parsed}
		if _, known := s.Store.Entity(rq.Context(), p); known == nil {
			// In another space, or made by another upload since we looked.
			return entity(kind)(s, rq, do)
		}
		rq.entity = store.Entity{Parent: p, Space: slug}
		rq.autoCreate = slug
		return nil
	}
}

// entity finds the product, ticket or meeting that the path names, a product
// in its space.
func entity(kind store.Kind) finder {
	return func(s *Server, rq *request, _ action) error {
		id, err := rq.idParam(kind.String(), kind.String())
		if err != nil {
			return err
		}
		e, err := s.Store.Entity(rq.Context(), store.Parent{Kind: kind, ID: id})
		if errors.Is(err, store.ErrNotFound) || err == nil && kind == store.Product && e.Space != rq.params.ByName("space") {
			return notFound("There is no %s %s%s.", kind, id, inSpace(kind, rq))
		}
		rq.entity = e
		return err
	}
}

func inSpace(kind store.Kind, rq *request) string {
	if slug := rq.params.ByName("space"); kind == store.Product && validSlug(slug) {
		return " in the space \"" + slug + "\""
	}
	return ""
}

// inPath finds the space that the path names.
func inPath(s *Server, rq *request, _ action) error {
	return s.findSpace(rq, rq.params.ByName("space"))
}

func (s *Server) findSpace(rq *request, slug string) error {
	if !validSlug(slug) {
		return notASlug()
	}
	_, _, err := s.Store.Space(rq.Context(), slug)
	rq.entity.Space = slug
	return err
}

// attachment finds the attachment that the path names, if it is of this kind
// and, for a meeting's, of this meeting.
func attachment(kind store.Kind) finder {
	return func(s *Server, rq *request, _ action) error {
		id, err := rq.idParam("attachment", "attachment")
		if err != nil {
			return err
		}
		if err := s.findAttachment(rq, id); err != nil {
			return err
		}
		elsewhere := rq.entity.Kind != kind
		if kind == store.Meeting && !elsewhere {
			meeting, ok := parseID(rq.params.ByName("meeting"))
			elsewhere = !ok || rq.entity.ID != meeting
		}
		if elsewhere {
			rq.attachment, rq.entity = store.Attachment{}, store.Entity{}
			return noAttachment(id)
		}
		return nil
	}
}

func (s *Server) findAttachment(rq *request, id uuid.UUID) error {
	a, err := s.Store.Attachment(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return noAttachment(id)
	}
	if err != nil {
		return err
	}
	e, err := s.Store.Entity(rq.Context(), a.Parent)
	if errors.Is(err, store.ErrNotFound) {
		return noAttachment(id) // it went away this moment
	}
	rq.attachment, rq.entity = a, e
	return err
}

func noAttachment(id uuid.UUID) error { return notFound("There is no attachment %s.", id) }

// idParam reads an id from the path.
func (rq *request) idParam(name, what string) (uuid.UUID, error) {
	id, ok := parseID(rq.params.ByName(name))
	if !ok {
		return uuid.Nil, notFound("The id of the %s in the address is not a UUID.", what)
	}
	return id, nil
}

// slugParam reads the space's slug from the path.
func (rq *request) slugParam() (string, error) {
	slug := rq.params.ByName("space")
	if !validSlug(slug) {
		return "", notASlug()
	}
	return slug, nil
}

func notASlug() error {
	return notFound("The space in the address is not a slug: lower-case letters, digits and hyphens, 63 at most.")
}

// parseID reads a UUID in its usual form only: uuid.Parse takes others too.
// The one of all zeros names nothing.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id != uuid.Nil
}

// validSlug holds a space's slug to [a-z0-9][a-z0-9-]{0,62}.
func validSlug(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	})
}
