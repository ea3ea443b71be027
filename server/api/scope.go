package api

import (
	"context"

	"github.com/google/uuid"

	"attachd/store"
)

// Caller is who a request comes from.
type Caller struct {
	User  store.User // whose rights count
	Actor store.User // whose key it is: another only with X-On-Behalf-Of
	Key   uuid.UUID  // zero for the operator, who needs none
}

// Operator is whoever holds the data directory.
var Operator = store.User{FullName: "operator", IsSuperadmin: true}

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
type Access func(rq *Request) (Scope, error)

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
	if !store.ValidSlug(slug) {
		return "", NotASlug()
	}
	return slug, nil
}

// NotASlug is the answer to an address with a space that cannot be.
func NotASlug() error {
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
