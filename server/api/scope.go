package api

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"attachd/store"
)

// Caller is the user that a request comes from.
type Caller struct {
	User  store.User // whose rights apply
	Actor store.User // whose key it is: differs from User only with X-On-Behalf-Of
	Key   uuid.UUID  // zero for the operator, who needs no key
}

// Operator is the user that stands for the owner of the data directory.
var Operator = store.User{FullName: "operator", IsSuperadmin: true}

type operatorMark struct{}

// AsOperator marks the context of a request that came over the operator's socket.
func AsOperator(ctx context.Context) context.Context {
	return context.WithValue(ctx, operatorMark{}, true)
}

// IsOperator reports whether a request came over the operator's socket.
func IsOperator(ctx context.Context) bool { return ctx.Value(operatorMark{}) != nil }

// Scope is what was looked up for a request before its handler runs: the caller, and
// the objects that it is about.
type Scope struct {
	Caller     Caller
	Entity     store.Entity     // the parent that the route names, or the attachment's parent
	Attachment store.Attachment // the one that the route names
	InTrash    bool             // where what the route names is
	AutoCreate string           // the space in which this upload creates its parent; empty if the parent exists
	Inline     bool             // a signed link asked for inline display
}

// Access authorizes a request, and looks up what its handler needs. The order is always
// the same: authenticate (401), look up (404), authorize (403). Beside an error, it
// returns what is known by then.
type Access func(rq *Request) (Scope, error)

// IDParam parses an id in the path.
func (rq *Request) IDParam(name, what string) (uuid.UUID, error) {
	id, ok := ParseID(rq.Params.ByName(name))
	if !ok {
		return uuid.Nil, NotFound("The id of the %s in the address is not a UUID.", what)
	}
	return id, nil
}

// SlugParam parses the space's slug in the path.
func (rq *Request) SlugParam() (string, error) {
	slug := rq.Params.ByName("space")
	if !store.ValidSlug(slug) {
		return "", NotASlug()
	}
	return slug, nil
}

// NotASlug is the answer to an address with an invalid slug.
func NotASlug() error {
	return NotFound("The space in the address is not a slug: lower-case letters, digits and hyphens, 63 at most.")
}

// ParseID parses a UUID in its usual form only: uuid.Parse accepts others too. The nil
// UUID is refused, since it names nothing.
func ParseID(s string) (uuid.UUID, bool) {
	if len(s) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return uuid.Nil, false // and not the part that could be read
	}
	return id, id != uuid.Nil
}

// FromWherever removes something that is at its place or in the trash. Others may put it into
// the trash meanwhile, or restore it, or both: where it is not found, it is looked for in the
// other place, and in the first one once more.
func (sc Scope) FromWherever(remove func(fromTrash bool) error) (err error) {
	fromTrash := sc.InTrash
	for range 3 {
		if err = remove(fromTrash); !errors.Is(err, store.ErrNotFound) {
			break
		}
		fromTrash = !fromTrash
	}
	return err
}
