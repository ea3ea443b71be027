// Package access authenticates callers, by a key, a session or a signed link, and
// authorizes them. It is the only way to a file.
package access

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/token"
	"attachd/store"
)

// Anyone authorizes everybody.
func Anyone(*api.Request) (api.Scope, error) { return api.Scope{}, nil }

// SignedIn requires a key or a session.
func (g *Guard) SignedIn(rq *api.Request) (api.Scope, error) {
	who, err := g.authenticate(rq, nothingElse)
	return api.Scope{Caller: who}, err
}

// Superadmin requires a superadmin.
func (g *Guard) Superadmin(rq *api.Request) (api.Scope, error) {
	sc, err := g.SignedIn(rq)
	if err == nil {
		err = onlySuperadmin(sc)
	}
	return sc, err
}

// RecordsManager requires a records manager or a superadmin.
func (g *Guard) RecordsManager(rq *api.Request) (api.Scope, error) {
	sc, err := g.SignedIn(rq)
	if err == nil && !sc.Caller.User.IsRecordsManager && !sc.Caller.User.IsSuperadmin {
		err = api.Forbidden("Only a records manager or a superadmin may do this.")
	}
	return sc, err
}

// SuperadminOf requires a superadmin and looks up the object in the path first, so
// that a missing one is 404 before 403.
func (g *Guard) SuperadminOf(find Finder) api.Access {
	return func(rq *api.Request) (api.Scope, error) {
		sc, err := g.SignedIn(rq)
		if err == nil {
			sc, err = find(rq, sc, Read)
		}
		if err == nil {
			err = onlySuperadmin(sc)
		}
		return sc, err
	}
}

func onlySuperadmin(sc api.Scope) error {
	if !sc.Caller.User.IsSuperadmin {
		return api.Forbidden("Only a superadmin may do this.")
	}
	return nil
}

// OperatorOnly refuses every request that came over the network.
func (g *Guard) OperatorOnly(rq *api.Request) (api.Scope, error) {
	sc, err := g.SignedIn(rq)
	if err == nil && !api.IsOperator(rq.Context()) {
		err = api.Forbidden("Only the commands of attachd may do this, on the machine that the server runs on.")
	}
	return sc, err
}

// Scraper requires the right to read metrics.
func (g *Guard) Scraper(rq *api.Request) (api.Scope, error) {
	if g.PublicMetrics {
		return api.Scope{}, nil
	}
	return g.Superadmin(rq)
}

// Finder looks up what a route is about, and adds it to the scope.
type Finder func(rq *api.Request, sc api.Scope, do Action) (api.Scope, error)

// MemberOf lets members of the space that find finds, and superadmins, read the
// directory.
func (g *Guard) MemberOf(find Finder) api.Access { return g.May(Read, find) }

// May requires the right to do this to what find finds. It is the only way to a file,
// whatever the route.
func (g *Guard) May(do Action, find Finder) api.Access {
	return func(rq *api.Request) (api.Scope, error) {
		who, err := g.authenticate(rq, func(rq *api.Request, about store.Inquiry) error {
			about.Usage = do == Upload
			return g.inquire(rq, about)
		})
		sc := api.Scope{Caller: who}
		if err == nil {
			sc, err = find(rq, sc, do)
		}
		if err == nil {
			err = g.Authorize(rq, sc, do)
		}
		return sc, err
	}
}

// SignedLink authorizes the holder of a link that the server signed, as long as the key
// and the user for which it was made still have the right. Wrong signatures are not
// counted as wrong keys are: nobody guesses 256 bits, and a page full of old links must
// not lock out others at its reader's address.
func (g *Guard) SignedLink(rq *api.Request) (sc api.Scope, err error) {
	id, err := rq.IDParam("attachment", "attachment")
	if err != nil {
		return sc, err
	}
	query := rq.URL.Query()
	if len(query["expires"]) != 1 || len(query["signature"]) != 1 {
		return sc, token.ErrSignature // a proxy might use another one of several
	}
	expires, err := strconv.ParseInt(query.Get("expires"), 10, 64)
	if err != nil || query.Get("expires") != strconv.FormatInt(expires, 10) {
		return sc, token.ErrSignature
	}
	signer := g.Signer()
	if g.LatestSigner != nil && !signer.Knows(query.Get("signature")) {
		if signer, err = g.LatestSigner(rq.Context()); err != nil {
			return sc, err
		}
	}
	link, err := signer.Verify(id, expires, query.Get("signature"), g.Now())
	if err != nil {
		return sc, err
	}
	sc.Inline = link.Inline
	if err := g.inquire(rq, store.Inquiry{Key: link.Key, User: link.User}); err != nil {
		return sc, err
	}
	if sc, err = g.findAttachment(rq, sc, id); err != nil {
		return sc, err
	}
	sc.Caller, err = g.callerWith(rq, link.Key, link.User)
	if err == nil {
		err = g.Authorize(rq, sc, Read)
	}
	var refused *api.Refusal
	if errors.As(err, &refused) {
		// The holder of the link must not learn what became of the key and user.
		return sc, &api.Refusal{Status: http.StatusForbidden, Code: "invalid_signature", Detail: "This link has ended: the key that made it, or its user's right to read the file, is gone.", Cause: err}
	}
	return sc, err
}

// callerWith returns the caller that a key identifies now, acting for a user, who may
// be the key's own.
func (g *Guard) callerWith(rq *api.Request, keyID, userID uuid.UUID) (api.Caller, error) {
	key, actor, err := g.known(rq).Key(rq.Context(), keyID)
	if errors.Is(err, store.ErrNotFound) || err == nil && g.expired(key) {
		return api.Caller{}, errNoKey
	}
	who := api.Caller{User: actor, Actor: actor, Key: keyID}
	if err == nil && userID != actor.ID {
		who.User, err = g.actFor(rq, actor, userID)
	}
	return who, err
}

// Recheck authorizes an upload again after its body, which can take hours: keys and
// roles may have been revoked meanwhile.
func (g *Guard) Recheck(rq *api.Request, sc api.Scope, do Action, find Finder) (api.Scope, error) {
	key := sc.Caller.Key
	if err := g.inquire(rq, store.Inquiry{Key: key, User: sc.Caller.User.ID}); err != nil {
		return sc, err
	}
	if key != uuid.Nil {
		now, err := g.callerWith(rq, key, sc.Caller.User.ID)
		if err != nil {
			return sc, err
		}
		sc.Caller = now
	}
	sc.AutoCreate = ""
	sc, err := find(rq, sc, do)
	if err == nil {
		err = g.Authorize(rq, sc, do)
	}
	return sc, err
}

// authenticate determines the caller, by the operator's socket, a key or a session.
// Beside an error, it returns the caller where one is known. ask looks up what will be asked
// about the request besides, once the caller's key is known by its hash or id.
func (g *Guard) authenticate(rq *api.Request, ask asking) (who api.Caller, err error) {
	header := rq.Header.Get("Authorization")
	cookie, noCookie := rq.Cookie(g.cookieName(rq.Request))
	switch {
	case api.IsOperator(rq.Context()):
		who = api.Caller{User: api.Operator, Actor: api.Operator}
	case header != "":
		secret, is := bearer(header)
		if !is {
			return who, api.Unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
		}
		hash := hashOf(secret)
		if err := ask(rq, store.Inquiry{KeyHash: hash, User: onBehalfOf(rq)}); err != nil {
			return who, err
		}
		key, user, err := g.keyOf(rq, hash)
		if errors.Is(err, errNoKey) {
			return who, g.guessed(rq, errNoKey)
		}
		if err != nil {
			return who, err
		}
		who = api.Caller{User: user, Actor: user, Key: key.ID}
	case noCookie == nil:
		if who, err = g.sessionCaller(rq, cookie.Value, ask); err != nil {
			return who, err
		}
	default:
		return who, api.Unauthorized("Show an API key in the header: Authorization: Bearer <key>.")
	}
	if who.Key != uuid.Nil {
		g.Records.TouchKey(who.Key, g.Now())
		if err := g.countRequest(rq, who); err != nil {
			return who, err
		}
	}
	// An empty header is the caller's error, and must not count as none: the caller
	// would act with more rights than it meant to.
	if behalf := rq.Header.Values("X-On-Behalf-Of"); len(behalf) > 0 {
		id, ok := api.ParseID(behalf[0])
		if !ok || len(behalf) > 1 {
			return who, api.InvalidRequest("X-On-Behalf-Of must be one user's id (a UUID).")
		}
		user, err := g.actFor(rq, who.Actor, id)
		if err != nil {
			return who, err
		}
		who.User = user
	}
	return who, nil
}

var errNoKey = api.Unauthorized("This API key is not known, or no longer.")

// keyOf finds the key whose secret has this hash, and the key's user.
func (g *Guard) keyOf(rq *api.Request, hash [32]byte) (store.Key, store.User, error) {
	key, user, err := g.known(rq).KeyByHash(rq.Context(), hash)
	if errors.Is(err, store.ErrNotFound) || err == nil && g.expired(key) {
		err = errNoKey
	}
	return key, user, err
}

// actFor returns the user for whom actor, a superadmin, acts.
func (g *Guard) actFor(rq *api.Request, actor store.User, id uuid.UUID) (store.User, error) {
	if !actor.IsSuperadmin {
		return store.User{}, api.Forbidden("Only a superadmin may act for another user.")
	}
	user, err := g.known(rq).User(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return store.User{}, api.Forbidden("There is no user %s to act for. Put it in the directory first.", id)
	}
	return user, err
}

func (g *Guard) expired(k store.Key) bool {
	return !k.ExpiresAt.IsZero() && !g.Now().Before(k.ExpiresAt)
}

// Action is an operation on the files of a parent or of a space, or on one file.
type Action int

// The actions that need a right.
const (
	Read Action = iota
	Upload
	Remove
	Administer // the space
)

// standing is what a caller's rights over a parent and a file depend on.
type standing struct {
	role       store.Role
	superadmin bool
	uploader   bool // of the file
	owner      bool // of the ticket
}

// allowed reports whether a caller of this standing has the right: the table of rights.
func (g *Guard) allowed(do Action, kind store.Kind, who standing) bool {
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
			return who.uploader && member || who.owner || admin && g.AdminsMayDeleteFromTickets
		}
		return who.uploader && member || admin
	case Administer:
		return admin
	}
	return false
}

// Authorize decides about rights over files, and over reading the directory; nothing
// else does.
func (g *Guard) Authorize(rq *api.Request, sc api.Scope, do Action) error {
	user := sc.Caller.User
	role, err := g.known(rq).Role(rq.Context(), sc.Entity.Space, user.ID)
	if err != nil {
		return err
	}
	if sc.AutoCreate != "" {
		return g.authorizeAutoCreate(rq, sc, role)
	}
	who := standingOf(sc, role, sc.Attachment)
	if g.allowed(do, sc.Entity.Kind, who) {
		return nil
	}
	to := "delete this file"
	if sc.InTrash {
		to = "restore this file or remove it for good"
	}
	switch {
	case do == Administer:
		return api.Forbidden("Only an admin of the space %q may do this.", sc.Entity.Space)
	case who.role == store.NoRole && do == Read:
		return api.Forbidden("You are not a member of the space %q.", sc.Entity.Space)
	case do == Upload && sc.Entity.Kind == store.Ticket:
		return api.Forbidden("Only editors and admins of the space, and the ticket's owner, may upload here.")
	case do == Upload:
		return api.Forbidden("Only editors and admins of the space may upload here.")
	case sc.Entity.Kind == store.Ticket:
		return api.Forbidden("Only the uploader or the ticket's owner may %s.", to)
	default:
		return api.Forbidden("Only the uploader or an admin of the space may %s.", to)
	}
}

// standingOf returns the standing of a caller with a role over an attachment.
func standingOf(sc api.Scope, role store.Role, a store.Attachment) standing {
	user := sc.Caller.User
	return standing{
		role:       role,
		superadmin: user.IsSuperadmin,
		uploader:   user.ID != uuid.Nil && a.UploaderID == user.ID,
		owner:      user.ID != uuid.Nil && sc.Entity.OwnerID == user.ID,
	}
}

// MayRemove returns what tells for each attachment of the parent in the scope whether the
// caller may delete it.
func (g *Guard) MayRemove(rq *api.Request, sc api.Scope) (func(store.Attachment) bool, error) {
	role, err := g.known(rq).Role(rq.Context(), sc.Entity.Space, sc.Caller.User.ID)
	return func(a store.Attachment) bool {
		return g.allowed(Remove, sc.Entity.Kind, standingOf(sc, role, a))
	}, err
}

// authorizeAutoCreate lets any caller create a space that no system of record has sent,
// or join one created that way, but not a space that the system of record keeps, and
// gives nobody more than the role they were given.
func (g *Guard) authorizeAutoCreate(rq *api.Request, sc api.Scope, role store.Role) error {
	space, _, err := g.known(rq).Space(rq.Context(), sc.AutoCreate)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	case space.Auto && role == store.NoRole, role >= store.Editor, sc.Caller.User.IsSuperadmin:
		return nil
	}
	return api.Forbidden("Only editors and admins of the space may upload here.")
}

// autoSpace is the space for tickets and meetings that an upload creates.
const autoSpace = "default"

// Parent finds the product, ticket or meeting that the path names, or, with
// auto_create, prepares to create it with the upload.
func (g *Guard) Parent(kind store.Kind) Finder {
	return func(rq *api.Request, sc api.Scope, do Action) (api.Scope, error) {
		found, err := g.Entity(kind)(rq, sc, do)
		if !g.AutoCreate || do != Upload || !isNotFound(err) {
			return found, err
		}
		id, slug := rq.Params.ByName(kind.String()), autoSpace
		if kind == store.Product {
			slug = rq.Params.ByName("space")
		}
		parsed, ok := api.ParseID(id)
		if !ok || !store.ValidSlug(slug) || sc.Caller.User.ID == uuid.Nil {
			return found, err
		}
		p := store.Parent{Kind: kind, ID: parsed}
		if _, known := g.known(rq).Entity(rq.Context(), p); known == nil {
			// In another space, or created by another upload since the lookup.
			return g.Entity(kind)(rq, sc, do)
		}
		sc.Entity = store.Entity{Parent: p, Space: slug}
		sc.AutoCreate = slug
		return sc, nil
	}
}

// Entity finds the product, ticket or meeting that the path names, a product
// in its space.
func (g *Guard) Entity(kind store.Kind) Finder {
	return func(rq *api.Request, sc api.Scope, _ Action) (api.Scope, error) {
		id, err := rq.IDParam(kind.String(), kind.String())
		if err != nil {
			return sc, err
		}
		e, err := g.known(rq).Entity(rq.Context(), store.Parent{Kind: kind, ID: id})
		if errors.Is(err, store.ErrNotFound) || err == nil && kind == store.Product && e.Space != rq.Params.ByName("space") {
			return sc, api.NotFound("There is no %s %s%s.", kind, id, inSpace(kind, rq))
		}
		sc.Entity = e
		return sc, err
	}
}

func inSpace(kind store.Kind, rq *api.Request) string {
	if slug := rq.Params.ByName("space"); kind == store.Product && store.ValidSlug(slug) {
		return " in the space \"" + slug + "\""
	}
	return ""
}

// RemovableEntity is Entity, and with ?permanent=true finds it in the trash too.
func (g *Guard) RemovableEntity(kind store.Kind) Finder {
	return wherever(func(rq *api.Request, sc api.Scope, do Action) (api.Scope, error) {
		found, err := g.Entity(kind)(rq, sc, do)
		if !isNotFound(err) || !isPermanent(rq) {
			return found, err
		}
		id, isID := api.ParseID(rq.Params.ByName(kind.String()))
		if !isID {
			return found, err
		}
		trashed, failed := g.Records.TrashedEntity(rq.Context(), store.Parent{Kind: kind, ID: id})
		if errors.Is(failed, store.ErrNotFound) || failed == nil && kind == store.Product && trashed.Space != rq.Params.ByName("space") {
			return found, err
		}
		sc.Entity, sc.InTrash = trashed.Entity, true
		return sc, failed
	})
}

// RemovableSpace is InPath, likewise.
func (g *Guard) RemovableSpace() Finder {
	return wherever(func(rq *api.Request, sc api.Scope, do Action) (api.Scope, error) {
		found, err := g.InPath(rq, sc, do)
		if !errors.Is(err, store.ErrNotFound) || !isPermanent(rq) {
			return found, err
		}
		_, failed := g.Records.TrashedSpace(rq.Context(), found.Entity.Space)
		if errors.Is(failed, store.ErrNotFound) {
			return found, err
		}
		found.InTrash = true
		return found, failed
	})
}

// wherever looks once more, with ?permanent=true, for what was found neither at its place
// nor in the trash: it may have been restored between the two looks.
func wherever(find Finder) Finder {
	return func(rq *api.Request, sc api.Scope, do Action) (api.Scope, error) {
		found, err := find(rq, sc, do)
		if isPermanent(rq) && (isNotFound(err) || errors.Is(err, store.ErrNotFound)) {
			return find(rq, sc, do)
		}
		return found, err
	}
}

func isPermanent(rq *api.Request) bool { return rq.URL.Query().Get("permanent") == "true" }

// InPath finds the space that the path names.
func (g *Guard) InPath(rq *api.Request, sc api.Scope, _ Action) (api.Scope, error) {
	return g.FindSpace(rq, sc, rq.Params.ByName("space"))
}

// FindSpace adds a space to the scope of a request.
func (g *Guard) FindSpace(rq *api.Request, sc api.Scope, slug string) (api.Scope, error) {
	if !store.ValidSlug(slug) {
		return sc, api.NotASlug()
	}
	_, _, err := g.known(rq).Space(rq.Context(), slug)
	sc.Entity.Space = slug
	return sc, err
}

// SeesSpace reports whether the caller may read a space.
func (g *Guard) SeesSpace(rq *api.Request, sc api.Scope, slug string) (bool, error) {
	role, err := g.known(rq).Role(rq.Context(), slug, sc.Caller.User.ID)
	return sc.Caller.User.IsSuperadmin || role != store.NoRole, err
}

// Attachment finds the attachment that the path names, if it is of this kind
// and, for a meeting's, of this meeting.
func (g *Guard) Attachment(kind store.Kind) Finder { return g.attachment(kind, g.findAttachment) }

// Removable is Attachment, and with ?permanent=true finds it in the trash too.
func (g *Guard) Removable(kind store.Kind) Finder {
	return wherever(g.attachment(kind, func(rq *api.Request, sc api.Scope, id uuid.UUID) (api.Scope, error) {
		found, err := g.findAttachment(rq, sc, id)
		if !isNotFound(err) || !isPermanent(rq) {
			return found, err
		}
		trashed, failed := g.findTrashed(rq, sc, id)
		if isNotFound(failed) {
			return found, err
		}
		return trashed, failed
	}))
}

// Restorable finds the attachment in the trash that the path names. One whose parent is not
// there has nobody whose right could be looked up but a superadmin, whom the store tells what
// to do.
func (g *Guard) Restorable(kind store.Kind) Finder {
	return g.attachment(kind, func(rq *api.Request, sc api.Scope, id uuid.UUID) (api.Scope, error) {
		found, err := g.findTrashed(rq, sc, id)
		if !isNotFound(err) || !sc.Caller.User.IsSuperadmin || !g.allowed(Remove, kind, standing{superadmin: true}) {
			return found, err
		}
		sc.Attachment.ID, sc.Entity.Kind = id, kind
		sc.Entity.ID, _ = api.ParseID(rq.Params.ByName("meeting"))
		return sc, nil
	})
}

func (g *Guard) attachment(kind store.Kind, find func(*api.Request, api.Scope, uuid.UUID) (api.Scope, error)) Finder {
	return func(rq *api.Request, sc api.Scope, _ Action) (api.Scope, error) {
		id, err := rq.IDParam("attachment", "attachment")
		if err != nil {
			return sc, err
		}
		found, err := find(rq, sc, id)
		if err != nil {
			return found, err
		}
		elsewhere := found.Entity.Kind != kind
		if kind == store.Meeting && !elsewhere {
			meeting, ok := api.ParseID(rq.Params.ByName("meeting"))
			elsewhere = !ok || found.Entity.ID != meeting
		}
		if elsewhere {
			return sc, noAttachment(id)
		}
		return found, nil
	}
}

func (g *Guard) findAttachment(rq *api.Request, sc api.Scope, id uuid.UUID) (api.Scope, error) {
	a, err := g.known(rq).Attachment(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return sc, noAttachment(id)
	}
	if err != nil {
		return sc, err
	}
	return g.withParent(rq, sc, a)
}

func (g *Guard) findTrashed(rq *api.Request, sc api.Scope, id uuid.UUID) (api.Scope, error) {
	t, err := g.Records.TrashedAttachment(rq.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return sc, api.NotFound("There is no attachment %s in the trash.", id)
	}
	if err != nil {
		return sc, err
	}
	sc.InTrash = true
	return g.withParent(rq, sc, t.Attachment)
}

func (g *Guard) withParent(rq *api.Request, sc api.Scope, a store.Attachment) (api.Scope, error) {
	e, err := g.known(rq).Entity(rq.Context(), a.Parent)
	if errors.Is(err, store.ErrNotFound) {
		return sc, noAttachment(a.ID) // it was deleted since the lookup
	}
	sc.Attachment, sc.Entity = a, e
	return sc, err
}

func isNotFound(err error) bool {
	var refused *api.Refusal
	return errors.As(err, &refused) && refused.Status == http.StatusNotFound
}

func noAttachment(id uuid.UUID) error { return api.NotFound("There is no attachment %s.", id) }
