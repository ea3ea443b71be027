package access

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/token"
	"attachd/store"
)

// answers answers what an inquiry has found about a request, and asks the store everything
// else: what does not exist, too.
type answers struct {
	Records
	known *store.Findings
}

// known is the records as far as they are known for the request, from the time it was
// authorized.
func (g *Guard) known(rq *api.Request) answers {
	if rq.Findings == nil {
		return answers{g.Records, &nothing}
	}
	return answers{g.Records, rq.Findings}
}

var nothing store.Findings

// inquire asks at once, where the store can answer that, what is about to be asked about a
// request by this caller for what its route names. Call it again where what was known before
// does not count any more.
func (g *Guard) inquire(rq *api.Request, about store.Inquiry) (err error) {
	rq.Findings = nil
	if g.Inquirer == nil || about.Key == uuid.Nil && about.KeyHash == [32]byte{} {
		return nil
	}
	named := false
	if about.Attachment, named = api.ParseID(rq.Params.ByName("attachment")); !named {
		for _, kind := range []store.Kind{store.Product, store.Ticket, store.Meeting} {
			if id, is := api.ParseID(rq.Params.ByName(kind.String())); is {
				about.Parent, named = store.Parent{Kind: kind, ID: id}, true
			}
		}
	}
	if !named {
		return nil
	}
	found, err := g.Inquirer.Inquire(rq.Context(), about)
	if errors.Is(err, store.ErrAway) || rq.Context().Err() != nil {
		return err
	}
	if err == nil { // else what is missing or damaged is said by the question that comes upon it
		rq.Findings = &found
	}
	return nil
}

// asking is inquire, or nothingElse.
type asking func(rq *api.Request, about store.Inquiry) error

func nothingElse(*api.Request, store.Inquiry) error { return nil }

// onBehalfOf is the user for whom the caller acts, or zero.
func onBehalfOf(rq *api.Request) uuid.UUID {
	id, _ := api.ParseID(rq.Header.Get("X-On-Behalf-Of"))
	return id
}

// bearer returns the secret in a header Authorization.
func bearer(header string) (secret string, is bool) {
	scheme, secret, _ := strings.Cut(header, " ")
	return secret, strings.EqualFold(scheme, "Bearer")
}

// hashOf is by which the store knows a key.
func hashOf(secret string) [32]byte { return token.Hash(strings.TrimSpace(secret)) }

// Space returns a space and what it uses, as of the time the request was authorized.
func (g *Guard) Space(rq *api.Request, slug string) (store.Space, store.Usage, error) {
	return g.known(rq).Space(rq.Context(), slug)
}

func (a answers) Key(ctx context.Context, id uuid.UUID) (store.Key, store.User, error) {
	if id != uuid.Nil && id == a.known.Key.ID {
		return a.known.Key, a.known.Actor, nil
	}
	return a.Records.Key(ctx, id)
}

func (a answers) KeyByHash(ctx context.Context, hash [32]byte) (store.Key, store.User, error) {
	if a.known.Key.ID != uuid.Nil && hash == a.known.Key.Hash {
		return a.known.Key, a.known.Actor, nil
	}
	return a.Records.KeyByHash(ctx, hash)
}

func (a answers) User(ctx context.Context, id uuid.UUID) (store.User, error) {
	if id != uuid.Nil && id == a.known.User.ID {
		return a.known.User, nil
	}
	return a.Records.User(ctx, id)
}

func (a answers) Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error) {
	if id != uuid.Nil && id == a.known.Attachment.ID {
		return a.known.Attachment, nil
	}
	return a.Records.Attachment(ctx, id)
}

func (a answers) Entity(ctx context.Context, p store.Parent) (store.Entity, error) {
	if p.ID != uuid.Nil && p == a.known.Entity.Parent {
		return a.known.Entity, nil
	}
	return a.Records.Entity(ctx, p)
}

func (a answers) Role(ctx context.Context, space string, user uuid.UUID) (store.Role, error) {
	if user != uuid.Nil && user == a.known.User.ID && space == a.known.Entity.Space {
		return a.known.Role, nil
	}
	return a.Records.Role(ctx, space, user)
}

func (a answers) Space(ctx context.Context, slug string) (store.Space, store.Usage, error) {
	if slug != "" && slug == a.known.Space.Slug {
		return a.known.Space, a.known.Used, nil
	}
	return a.Records.Space(ctx, slug)
}
