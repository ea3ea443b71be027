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

// scope is what was looked up for a request before its handler runs: who calls,
// and what the request is about.
type scope struct {
	caller     caller
	entity     store.Entity     // the parent that the route names, or that its attachment has
	attachment store.Attachment // the one that the route names
	autoCreate string           // the space in which this upload makes its parent; empty if that is known
	inline     bool             // a signed link asked for it
}

// access decides whether a request may go on, and looks up what its handler
// needs. The order is always the same: who is it (401), what is it about
// (404), may they (403). Beside an error, it returns what is known by then.
type access func(c *corridor, rq *request) (scope, error)

func anyone(*corridor, *request) (scope, error) { return scope{}, nil }

func signedIn(c *corridor, rq *request) (scope, error) {
	who, err := c.authenticate(rq)
	return scope{caller: who}, err
}

func superadmin(c *corridor, rq *request) (scope, error) {
	sc, err := signedIn(c, rq)
	if err == nil {
		err = onlySuperadmin(sc)
	}
	return sc, err
}

// superadminOf requires a superadmin and looks up the object in the path first, so
// that a missing one is 404 before 403.
func superadminOf(find finder) access {
	return func(c *corridor, rq *request) (scope, error) {
		sc, err := signedIn(c, rq)
		if err == nil {
			sc, err = find(c, rq, sc, read)
		}
		if err == nil {
			err = onlySuperadmin(sc)
		}
		return sc, err
	}
}

func onlySuperadmin(sc scope) error {
	if !sc.caller.user.IsSuperadmin {
		return forbidden("Only a superadmin may do this.")
	}
	return nil
}

// operatorOnly keeps everybody out who comes over the network.
func operatorOnly(c *corridor, rq *request) (scope, error) {
	sc, err := signedIn(c, rq)
	if err == nil && !isOperator(rq.Context()) {
		err = forbidden("Only the commands of attachd may do this, on the machine that the server runs on.")
	}
	return sc, err
}

// scraper may read metrics.
func scraper(c *corridor, rq *request) (scope, error) {
	if c.PublicMetrics {
		return scope{}, nil
	}
	return superadmin(c, rq)
}

// finder looks up what a route is about, and adds it to what is known already.
type finder func(c *corridor, rq *request, sc scope, do action) (scope, error)

// memberOf lets members of the space that find finds, and superadmins, read the
// directory.
func memberOf(find finder) access { return may(read, find) }

// may lets through whoever has the right to do this to what find finds. It is
// the only way to a file, whatever the route.
func may(do action, find finder) access {
	return func(c *corridor, rq *request) (scope, error) {
		sc, err := signedIn(c, rq)
		if err == nil {
			sc, err = find(c, rq, sc, do)
		}
		if err == nil {
			err = c.authorize(rq, sc, do)
		}
		return sc, err
	}
}

// signedLink lets through whoever holds a link that we signed, as long as the
// key and the user it was made for still have the right. Wrong signatures are
// not counted as wrong keys are: nobody guesses 256 bits, and a page full of
// old links must not keep its reader's neighbours waiting.
func signedLink(c *corridor, rq *request) (sc scope, err error) {
	id, err := rq.idParam("attachment", "attachment")
	if err != nil {
		return sc, err
	}
	query := rq.URL.Query()
	if len(query["expires"]) != 1 || len(query["signature"]) != 1 {
		return sc, token.ErrSignature // whoever stands before us might read another one of several
	}
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil || query.Get("expires") != strconv.FormatInt(expires, 10) {
		return sc, token.ErrSignature
	}
	link, err := c.Signer().Verify(id, expires, query.Get("signature"), c.Now())
	if err != nil {
		return sc, err
	}
	sc.inline = link.Inline
	if sc, err = c.findAttachment(rq, sc, id); err != nil {
		return sc, err
	}
	sc.caller, err = c.callerWith(rq, link.Key, link.User)
	if err == nil {
		err = c.authorize(rq, sc, read)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		// What became of them is nobody's business who holds the link.
		return sc, &refusal{status: http.StatusForbidden, code: "invalid_signature", detail: "This link has ended: the key that made it, or its user's right to read the file, is gone.", cause: err}
	}
	return sc, err
}

// callerWith gives the caller that a key makes now, acting for a user, who may
// be its own.
func (c *corridor) callerWith(rq *request, keyID, userID uuid.UUID) (caller, error) {
	key, actor, err := c.Records.Key(rq.Context(), keyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && c.expired(key) {
		return caller{}, errNoKey
	}
	who := caller{user: actor, actor: actor, key: keyID}
	if err == nil && userID != actor.ID {
		who.user, err = c.actFor(rq, actor, userID)
	}
	return who, err
}

// recheck authorizes an upload again after its body, which can take hours: keys and
// roles may have been revoked meanwhile.
func (c *corridor) recheck(rq *request, sc scope, do action, find finder) (scope, error) {
	if key := sc.caller.key; key != uuid.Nil {
		now, err := c.callerWith(rq, key, sc.caller.user.ID)
		if err != nil {
			return sc, err
		}
		sc.caller = now
	}
	sc.autoCreate = ""
	sc, err := find(c, rq, sc, do)
	if err == nil {
		err = c.authorize(rq, sc, do)
	}
	return sc, err
}

// authenticate finds out who calls, from the operator's socket, a key or a
// session. Beside an error, it returns the caller where one is known.
func (c *corridor) authenticate(rq *request) (who caller, err error) {
	header := rq.Header.Get("Authorization")
	cookie, noCookie := rq.Cookie(c.cookieName(rq.Request))
	switch {
	case isOperator(rq.Context()):
		who = caller{user: operator, actor: operator}
	case header != "":
		scheme, secret, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return who, unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
		}
		key, user, err := c.keyOf(rq, secret)
		if errors.Is(err, errNoKey) {
			return who, c.guessed(rq, errNoKey)
		}
		if err != nil {
			return who, err
		}
		who = caller{user: user, actor: user, key: key.ID}
	case noCookie == nil:
		if who, err = c.sessionCaller(rq, cookie.Value); err != nil {
			return who, err
		}
	default:
		return who, unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
	}
	if who.key != uuid.Nil {
		c.Records.TouchKey(who.key, c.Now())
		if err := c.countRequest(rq, who); err != nil {
			return who, err
		}
	}
	// An empty one is an error of the caller's, and must not count as none: the
	// caller would act with more rights than it meant to.
	if behalf := rq.Header.Values("X-On-Behalf-Of"); len(behalf) > 0 {
		id, ok := parseID(behalf[0])
		if !ok || len(behalf) > 1 {
			return who, invalidRequest("X-On-Behalf-Of must be one user's id (a UUID).")
		}
		user, err := c.actFor(rq, who.actor, id)
		if err != nil {
			return who, err
		}
		who.user = user
	}
	return who, nil
}

var errNoKey = unauthorized("This API key is not known, or no longer.")

// keyOf finds the key that a caller shows, and whose it is.
func (c *corridor) keyOf(rq *request, secret string) (store.Key, store.User, error) {
	key, user, err := c.Records.KeyByHash(rq.Context(), token.Hash(strings.TrimSpace(secret)))
	if errors.Is(err, store.ErrNotFound) || err == nil && c.expired(key) {
		err = errNoKey
	}
	return key, user, err
}

// actFor gives the user that actor, a superadmin, acts for.
func (c *corridor) actFor(rq *request, actor store.User, id uuid.UUID) (store.User, error) {
	if !actor.IsSuperadmin {
		return store.User{}, forbidden("Only a superadmin may act for another user.")
	}
	user, err := c.Records.User(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, forbidden("There is no user %s to act for. Put it in the directory first.", id)
	}
	return user, err
}

func (c *corridor) expired(k store.Key) bool {
	return !k.ExpiresAt.IsZero() && !c.Now().Before(k.ExpiresAt)
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
func (c *corridor) allowed(do action, kind store.Kind, who standing) bool {
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
			return who.uploader && member || who.owner || admin && c.AdminsMayDeleteFromTickets
		}
		return who.uploader && member || admin
	}
	return false
}

// authorize is the one place where rights over files, and over reading the
// directory, are settled.
func (c *corridor) authorize(rq *request, sc scope, do action) error {
	user := sc.caller.user
	role, err := c.Records.Role(rq.Context(), sc.entity.Space, user.ID)
	if err != nil {
		return err
	}
	if sc.autoCreate != "" {
		return c.authorizeAutoCreate(rq, sc, role)
	}
	who := standing{
		role:       role,
		superadmin: user.IsSuperadmin,
		uploader:   user.ID != uuid.Nil && sc.attachment.UploaderID == user.ID,
		owner:      user.ID != uuid.Nil && sc.entity.OwnerID == user.ID,
	}
	if c.allowed(do, sc.entity.Kind, who) {
		return nil
	}
	switch {
	case who.role == store.NoRole && do == read:
		return forbidden("You are not a member of the space %q.", sc.entity.Space)
	case do == upload && sc.entity.Kind == store.Ticket:
		return forbidden("Only editors and admins of the space, and the ticket's owner, may upload here.")
	case do == upload:
		return forbidden("Only editors and admins of the space may upload here.")
	case sc.entity.Kind == store.Ticket:
		return forbidden("Only the uploader or the ticket's owner may delete this file.")
	default:
		return forbidden("Only the uploader or an admin of the space may delete this file.")
	}
}

// authorizeAutoCreate lets anyone begin a space that nobody has told us of, or
// come into one so begun, but lets nobody into one that the system of record
// keeps, and gives nobody more than the role they were given.
func (c *corridor) authorizeAutoCreate(rq *request, sc scope, role store.Role) error {
	space, _, err := c.Records.Space(rq.Context(), sc.autoCreate)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case space.Auto && role == store.NoRole, role >= store.Editor, sc.caller.user.IsSuperadmin:
		return nil
	}
	return forbidden("Only editors and admins of the space may upload here.")
}

// The space for tickets and meetings that an upload creates.
const autoSpace = "default"

// parent finds the product, ticket or meeting that the path names, or, with
// auto_create, makes ready to create it with the upload.
func parent(kind store.Kind) finder {
	return func(c *corridor, rq *request, sc scope, do action) (scope, error) {
		found, err := entity(kind)(c, rq, sc, do)
		var refused *refusal
		if !c.AutoCreate || do != upload || !errors.As(err, &refused) || refused.status != http.StatusNotFound {
			return found, err
		}
		id, slug := rq.params.ByName(kind.String()), autoSpace
		if kind == store.Product {
			slug = rq.params.ByName("space")
		}
		parsed, ok := parseID(id)
		if !ok || !validSlug(slug) || sc.caller.user.ID == uuid.Nil {
			return found, err
		}
		p := store.Parent{Kind: kind, ID: parsed}
		if _, known := c.Records.Entity(rq.Context(), p); known == nil {
			// In another space, or made by another upload since we looked.
			return entity(kind)(c, rq, sc, do)
		}
		sc.entity = store.Entity{Parent: p, Space: slug}
		sc.autoCreate = slug
		return sc, nil
	}
}

// entity finds the product, ticket or meeting that the path names, a product
// in its space.
func entity(kind store.Kind) finder {
	return func(c *corridor, rq *request, sc scope, _ action) (scope, error) {
		id, err := rq.idParam(kind.String(), kind.String())
		if err != nil {
			return sc, err
		}
		e, err := c.Records.Entity(rq.Context(), store.Parent{Kind: kind, ID: id})
		if errors.Is(err, store.ErrNotFound) || err == nil && kind == store.Product && e.Space != rq.params.ByName("space") {
			return sc, notFound("There is no %s %s%s.", kind, id, inSpace(kind, rq))
		}
		sc.entity = e
		return sc, err
	}
}

func inSpace(kind store.Kind, rq *request) string {
	if slug := rq.params.ByName("space"); kind == store.Product && validSlug(slug) {
		return " in the space \"" + slug + "\""
	}
	return ""
}

// inPath finds the space that the path names.
func inPath(c *corridor, rq *request, sc scope, _ action) (scope, error) {
	return c.findSpace(rq, sc, rq.params.ByName("space"))
}

func (c *corridor) findSpace(rq *request, sc scope, slug string) (scope, error) {
	if !validSlug(slug) {
		return sc, notASlug()
	}
	_, _, err := c.Records.Space(rq.Context(), slug)
	sc.entity.Space = slug
	return sc, err
}

// seesSpace says whether the caller may read a space.
func (c *corridor) seesSpace(rq *request, sc scope, slug string) (bool, error) {
	role, err := c.Records.Role(rq.Context(), slug, sc.caller.user.ID)
	return sc.caller.user.IsSuperadmin || role != store.NoRole, err
}

// attachment finds the attachment that the path names, if it is of this kind
// and, for a meeting's, of this meeting.
func attachment(kind store.Kind) finder {
	return func(c *corridor, rq *request, sc scope, _ action) (scope, error) {
		id, err := rq.idParam("attachment", "attachment")
		if err != nil {
			return sc, err
		}
		found, err := c.findAttachment(rq, sc, id)
		if err != nil {
			return found, err
		}
		elsewhere := found.entity.Kind != kind
		if kind == store.Meeting && !elsewhere {
			meeting, ok := parseID(rq.params.ByName("meeting"))
			elsewhere = !ok || found.entity.ID != meeting
		}
		if elsewhere {
			return sc, noAttachment(id)
		}
		return found, nil
	}
}

func (c *corridor) findAttachment(rq *request, sc scope, id uuid.UUID) (scope, error) {
	a, err := c.Records.Attachment(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return sc, noAttachment(id)
	}
	if err != nil {
		return sc, err
	}
	e, err := c.Records.Entity(rq.Context(), a.Parent)
	if errors.Is(err, store.ErrNotFound) {
		return sc, noAttachment(id) // it went away this moment
	}
	sc.attachment, sc.entity = a, e
	return sc, err
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
