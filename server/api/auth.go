package api

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

// Caller is who a request comes from.
type Caller struct {
	User  store.User // whose rights count
	actor store.User // whose key it is: another only with X-On-Behalf-Of
	Key   uuid.UUID  // zero for the operator, who needs none
}

// operator is whoever holds the data directory.
var operator = store.User{FullName: "operator", IsSuperadmin: true}

type operatorMark struct{}

// AsOperator marks the context of a request that came over the operator's socket.
func AsOperator(ctx context.Context) context.Context {
	return context.WithValue(ctx, operatorMark{}, true)
}

// IsOperator says whether a request came over the operator's socket.
func IsOperator(ctx context.Context) bool { return ctx.Value(operatorMark{}) != nil }

// Scope is what was looked up for a request before its handler runs: who calls,
// and what the request is about.
type Scope struct {
	Caller     Caller
	Entity     store.Entity     // the parent that the route names, or that its attachment has
	Attachment store.Attachment // the one that the route names
	AutoCreate string           // the space in which this upload makes its parent; empty if that is known
	Inline     bool             // a signed link asked for it
}

// Access decides whether a request may go on, and looks up what its handler
// needs. The order is always the same: who is it (401), what is it about
// (404), may they (403). Beside an error, it returns what is known by then.
type Access func(c *Corridor, rq *Request) (Scope, error)

// Anyone lets everybody through.
func Anyone(*Corridor, *Request) (Scope, error) { return Scope{}, nil }

// SignedIn lets through whoever shows a key or has a session.
func SignedIn(c *Corridor, rq *Request) (Scope, error) {
	who, err := c.authenticate(rq)
	return Scope{Caller: who}, err
}

// Superadmin lets superadmins through.
func Superadmin(c *Corridor, rq *Request) (Scope, error) {
	sc, err := SignedIn(c, rq)
	if err == nil {
		err = onlySuperadmin(sc)
	}
	return sc, err
}

// SuperadminOf requires a superadmin and looks up the object in the path first, so
// that a missing one is 404 before 403.
func SuperadminOf(find Finder) Access {
	return func(c *Corridor, rq *Request) (Scope, error) {
		sc, err := SignedIn(c, rq)
		if err == nil {
			sc, err = find(c, rq, sc, Read)
		}
		if err == nil {
			err = onlySuperadmin(sc)
		}
		return sc, err
	}
}

func onlySuperadmin(sc Scope) error {
	if !sc.Caller.User.IsSuperadmin {
		return Forbidden("Only a superadmin may do this.")
	}
	return nil
}

// OperatorOnly keeps everybody out who comes over the network.
func OperatorOnly(c *Corridor, rq *Request) (Scope, error) {
	sc, err := SignedIn(c, rq)
	if err == nil && !IsOperator(rq.Context()) {
		err = Forbidden("Only the commands of attachd may do this, on the machine that the server runs on.")
	}
	return sc, err
}

// Scraper may read metrics.
func Scraper(c *Corridor, rq *Request) (Scope, error) {
	if c.PublicMetrics {
		return Scope{}, nil
	}
	return Superadmin(c, rq)
}

// Finder looks up what a route is about, and adds it to what is known already.
type Finder func(c *Corridor, rq *Request, sc Scope, do Action) (Scope, error)

// MemberOf lets members of the space that find finds, and superadmins, read the
// directory.
func MemberOf(find Finder) Access { return May(Read, find) }

// May lets through whoever has the right to do this to what find finds. It is
// the only way to a file, whatever the route.
func May(do Action, find Finder) Access {
	return func(c *Corridor, rq *Request) (Scope, error) {
		sc, err := SignedIn(c, rq)
		if err == nil {
			sc, err = find(c, rq, sc, do)
		}
		if err == nil {
			err = c.Authorize(rq, sc, do)
		}
		return sc, err
	}
}

// SignedLink lets through whoever holds a link that we signed, as long as the
// key and the user it was made for still have the right. Wrong signatures are
// not counted as wrong keys are: nobody guesses 256 bits, and a page full of
// old links must not keep its reader's neighbours waiting.
func SignedLink(c *Corridor, rq *Request) (sc Scope, err error) {
	id, err := rq.IDParam("attachment", "attachment")
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
	sc.Inline = link.Inline
	if sc, err = c.findAttachment(rq, sc, id); err != nil {
		return sc, err
	}
	sc.Caller, err = c.callerWith(rq, link.Key, link.User)
	if err == nil {
		err = c.Authorize(rq, sc, Read)
	}
	var refused *Refusal
	if errors.As(err, &refused) {
		// What became of them is nobody's business who holds the link.
		return sc, &Refusal{Status: http.StatusForbidden, Code: "invalid_signature", Detail: "This link has ended: the key that made it, or its user's right to read the file, is gone.", Cause: err}
	}
	return sc, err
}

// callerWith gives the caller that a key makes now, acting for a user, who may
// be its own.
func (c *Corridor) callerWith(rq *Request, keyID, userID uuid.UUID) (Caller, error) {
	key, actor, err := c.Records.Key(rq.Context(), keyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && c.expired(key) {
		return Caller{}, errNoKey
	}
	who := Caller{User: actor, actor: actor, Key: keyID}
	if err == nil && userID != actor.ID {
		who.User, err = c.actFor(rq, actor, userID)
	}
	return who, err
}

// Recheck authorizes an upload again after its body, which can take hours: keys and
// roles may have been revoked meanwhile.
func (c *Corridor) Recheck(rq *Request, sc Scope, do Action, find Finder) (Scope, error) {
	if key := sc.Caller.Key; key != uuid.Nil {
		now, err := c.callerWith(rq, key, sc.Caller.User.ID)
		if err != nil {
			return sc, err
		}
		sc.Caller = now
	}
	sc.AutoCreate = ""
	sc, err := find(c, rq, sc, do)
	if err == nil {
		err = c.Authorize(rq, sc, do)
	}
	return sc, err
}

// authenticate finds out who calls, from the operator's socket, a key or a
// session. Beside an error, it returns the caller where one is known.
func (c *Corridor) authenticate(rq *Request) (who Caller, err error) {
	header := rq.Header.Get("Authorization")
	cookie, noCookie := rq.Cookie(c.cookieName(rq.Request))
	switch {
	case IsOperator(rq.Context()):
		who = Caller{User: operator, actor: operator}
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
		who = Caller{User: user, actor: user, Key: key.ID}
	case noCookie == nil:
		if who, err = c.sessionCaller(rq, cookie.Value); err != nil {
			return who, err
		}
	default:
		return who, unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
	}
	if who.Key != uuid.Nil {
		c.Records.TouchKey(who.Key, c.Now())
		if err := c.countRequest(rq, who); err != nil {
			return who, err
		}
	}
	// An empty one is an error of the caller's, and must not count as none: the
	// caller would act with more rights than it meant to.
	if behalf := rq.Header.Values("X-On-Behalf-Of"); len(behalf) > 0 {
		id, ok := ParseID(behalf[0])
		if !ok || len(behalf) > 1 {
			return who, InvalidRequest("X-On-Behalf-Of must be one user's id (a UUID).")
		}
		user, err := c.actFor(rq, who.actor, id)
		if err != nil {
			return who, err
		}
		who.User = user
	}
	return who, nil
}

var errNoKey = unauthorized("This API key is not known, or no longer.")

// keyOf finds the key that a caller shows, and whose it is.
func (c *Corridor) keyOf(rq *Request, secret string) (store.Key, store.User, error) {
	key, user, err := c.Records.KeyByHash(rq.Context(), token.Hash(strings.TrimSpace(secret)))
	if errors.Is(err, store.ErrNotFound) || err == nil && c.expired(key) {
		err = errNoKey
	}
	return key, user, err
}

// actFor gives the user that actor, a superadmin, acts for.
func (c *Corridor) actFor(rq *Request, actor store.User, id uuid.UUID) (store.User, error) {
	if !actor.IsSuperadmin {
		return store.User{}, Forbidden("Only a superadmin may act for another user.")
	}
	user, err := c.Records.User(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, Forbidden("There is no user %s to act for. Put it in the directory first.", id)
	}
	return user, err
}

func (c *Corridor) expired(k store.Key) bool {
	return !k.ExpiresAt.IsZero() && !c.Now().Before(k.ExpiresAt)
}

// Action is what a caller wants to do to the files of a parent, or to one.
type Action int

// What a caller may want to do.
const (
	Read Action = iota
	Upload
	Remove
)

// standing is what counts for a caller's rights over a parent and a file.
type standing struct {
	role       store.Role
	superadmin bool
	uploader   bool // of the file
	owner      bool // of the ticket
}

// allowed is the table of rights.
func (c *Corridor) allowed(do Action, kind store.Kind, who standing) bool {
	member := who.role >= store.Viewer || who.superadmin
	editor := who.role >= store.Editor || who.superadmin
	admin := who.role >= store.Admin || who.superadmin
	ticket := kind == store.Ticket
	switch do {
	case Read:
		return member
	case Upload:
		return editor || ticket && who.owner
	case Remove:
		if ticket {
			return who.uploader && member || who.owner || admin && c.AdminsMayDeleteFromTickets
		}
		return who.uploader && member || admin
	}
	return false
}

// Authorize is the one place where rights over files, and over reading the
// directory, are settled.
func (c *Corridor) Authorize(rq *Request, sc Scope, do Action) error {
	user := sc.Caller.User
	role, err := c.Records.Role(rq.Context(), sc.Entity.Space, user.ID)
	if err != nil {
		return err
	}
	if sc.AutoCreate != "" {
		return c.authorizeAutoCreate(rq, sc, role)
	}
	who := standing{
		role:       role,
		superadmin: user.IsSuperadmin,
		uploader:   user.ID != uuid.Nil && sc.Attachment.UploaderID == user.ID,
		owner:      user.ID != uuid.Nil && sc.Entity.OwnerID == user.ID,
	}
	if c.allowed(do, sc.Entity.Kind, who) {
		return nil
	}
	switch {
	case who.role == store.NoRole && do == Read:
		return Forbidden("You are not a member of the space %q.", sc.Entity.Space)
	case do == Upload && sc.Entity.Kind == store.Ticket:
		return Forbidden("Only editors and admins of the space, and the ticket's owner, may upload here.")
	case do == Upload:
		return Forbidden("Only editors and admins of the space may upload here.")
	case sc.Entity.Kind == store.Ticket:
		return Forbidden("Only the uploader or the ticket's owner may delete this file.")
	default:
		return Forbidden("Only the uploader or an admin of the space may delete this file.")
	}
}

// authorizeAutoCreate lets anyone begin a space that nobody has told us of, or
// come into one so begun, but lets nobody into one that the system of record
// keeps, and gives nobody more than the role they were given.
func (c *Corridor) authorizeAutoCreate(rq *Request, sc Scope, role store.Role) error {
	space, _, err := c.Records.Space(rq.Context(), sc.AutoCreate)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case space.Auto && role == store.NoRole, role >= store.Editor, sc.Caller.User.IsSuperadmin:
		return nil
	}
	return Forbidden("Only editors and admins of the space may upload here.")
}

// The space for tickets and meetings that an upload creates.
const autoSpace = "default"

// Parent finds the product, ticket or meeting that the path names, or, with
// auto_create, makes ready to create it with the upload.
func Parent(kind store.Kind) Finder {
	return func(c *Corridor, rq *Request, sc Scope, do Action) (Scope, error) {
		found, err := Entity(kind)(c, rq, sc, do)
		var refused *Refusal
		if !c.AutoCreate || do != Upload || !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
			return found, err
		}
		id, slug := rq.Params.ByName(kind.String()), autoSpace
		if kind == store.Product {
			slug = rq.Params.ByName("space")
		}
		parsed, ok := ParseID(id)
		if !ok || !ValidSlug(slug) || sc.Caller.User.ID == uuid.Nil {
			return found, err
		}
		p := store.Parent{Kind: kind, ID: parsed}
		if _, known := c.Records.Entity(rq.Context(), p); known == nil {
			// In another space, or made by another upload since we looked.
			return Entity(kind)(c, rq, sc, do)
		}
		sc.Entity = store.Entity{Parent: p, Space: slug}
		sc.AutoCreate = slug
		return sc, nil
	}
}

// Entity finds the product, ticket or meeting that the path names, a product
// in its space.
func Entity(kind store.Kind) Finder {
	return func(c *Corridor, rq *Request, sc Scope, _ Action) (Scope, error) {
		id, err := rq.IDParam(kind.String(), kind.String())
		if err != nil {
			return sc, err
		}
		e, err := c.Records.Entity(rq.Context(), store.Parent{Kind: kind, ID: id})
		if errors.Is(err, store.ErrNotFound) || err == nil && kind == store.Product && e.Space != rq.Params.ByName("space") {
			return sc, NotFound("There is no %s %s%s.", kind, id, inSpace(kind, rq))
		}
		sc.Entity = e
		return sc, err
	}
}

func inSpace(kind store.Kind, rq *Request) string {
	if slug := rq.Params.ByName("space"); kind == store.Product && ValidSlug(slug) {
		return " in the space \"" + slug + "\""
	}
	return ""
}

// InPath finds the space that the path names.
func InPath(c *Corridor, rq *Request, sc Scope, _ Action) (Scope, error) {
	return c.FindSpace(rq, sc, rq.Params.ByName("space"))
}

// FindSpace adds a space to what is known of a request.
func (c *Corridor) FindSpace(rq *Request, sc Scope, slug string) (Scope, error) {
	if !ValidSlug(slug) {
		return sc, notASlug()
	}
	_, _, err := c.Records.Space(rq.Context(), slug)
	sc.Entity.Space = slug
	return sc, err
}

// SeesSpace says whether the caller may read a space.
func (c *Corridor) SeesSpace(rq *Request, sc Scope, slug string) (bool, error) {
	role, err := c.Records.Role(rq.Context(), slug, sc.Caller.User.ID)
	return sc.Caller.User.IsSuperadmin || role != store.NoRole, err
}

// Attachment finds the attachment that the path names, if it is of this kind
// and, for a meeting's, of this meeting.
func Attachment(kind store.Kind) Finder {
	return func(c *Corridor, rq *Request, sc Scope, _ Action) (Scope, error) {
		id, err := rq.IDParam("attachment", "attachment")
		if err != nil {
			return sc, err
		}
		found, err := c.findAttachment(rq, sc, id)
		if err != nil {
			return found, err
		}
		elsewhere := found.Entity.Kind != kind
		if kind == store.Meeting && !elsewhere {
			meeting, ok := ParseID(rq.Params.ByName("meeting"))
			elsewhere = !ok || found.Entity.ID != meeting
		}
		if elsewhere {
			return sc, noAttachment(id)
		}
		return found, nil
	}
}

func (c *Corridor) findAttachment(rq *Request, sc Scope, id uuid.UUID) (Scope, error) {
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
	sc.Attachment, sc.Entity = a, e
	return sc, err
}

func noAttachment(id uuid.UUID) error { return NotFound("There is no attachment %s.", id) }

// IDParam reads an id from the path.
func (rq *Request) IDParam(name, what string) (uuid.UUID, error) {
	id, ok := ParseID(rq.Params.ByName(name))
	if !ok {
		return uuid.Nil, NotFound("The id of the %s in the address is not a UUID.", what)
	}
	return id, nil
}

// SlugParam reads the space's slug from the path.
func (rq *Request) SlugParam() (string, error) {
	slug := rq.Params.ByName("space")
	if !ValidSlug(slug) {
		return "", notASlug()
	}
	return slug, nil
}

func notASlug() error {
	return NotFound("The space in the address is not a slug: lower-case letters, digits and hyphens, 63 at most.")
}

// ParseID reads a UUID in its usual form only: uuid.Parse takes others too.
// The one of all zeros names nothing.
func ParseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id != uuid.Nil
}

// ValidSlug holds a space's slug to [a-z0-9][a-z0-9-]{0,62}.
func ValidSlug(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-')
	})
}
