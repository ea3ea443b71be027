package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/server/cli/command"
	"attachd/server/directory"
	"attachd/server/remote"
)

// placesOf are the places of a kind in a space, or in all spaces.
type placesOf struct {
	byID   map[string]place
	byName map[string][]place
	err    error // they could not be read
}

func (p *placesOf) add(one place) {
	p.byID[one.ID] = one
	p.byName[one.called()] = append(p.byName[one.called()], one)
}

// importPlan finds the places and users that the lines of a map name, and makes those
// that are missing if that is wanted.
type importPlan struct {
	client *remote.Client
	create bool
	dry    bool
	say    func(format string, args ...any) error // what was made, or would be

	me     user
	places map[string]*placesOf // by kind, space
	made   map[string]bool      // ids of places that a dry run would make
	spaces map[string]bool      // slugs of spaces that a dry run would make
	users  []user
	listed bool            // users were read
	talked map[string]bool // ids of comments that are there
}

// kindOf splits a place of a map: product:SPACE/PLACE, ticket:PLACE or meeting:PLACE.
func kindOf(given, space string) (k placeKind, slug, which string, err error) {
	word, which, _ := strings.Cut(given, ":")
	switch word {
	case ticket.word, meeting.word:
		k, slug = map[string]placeKind{"ticket": ticket, "meeting": meeting}[word], space
	case product.word:
		k = product
		slug, which, _ = strings.Cut(which, "/")
	}
	which = directory.CleanLabel(which) // or the next import would not find what this one makes
	if which == "" || (k == product || slug != "") && isSlug(slug) != nil {
		return k, "", "", fmt.Errorf("%q is no place: one is product:SPACE/PLACE, ticket:PLACE or meeting:PLACE, by its id or name", given)
	}
	return k, slug, which, nil
}

// place returns the place that a line names.
func (p *importPlan) place(ctx context.Context, l *mapLine, owner string) (remote.Place, error) {
	k, slug, which, err := kindOf(l.Place, l.Space)
	if err != nil {
		return remote.Place{}, err
	}
	id, isID := parseID(which)
	in := slug
	if isID && k != product {
		in = "" // it may be in another space than the map says, and must not be moved
	}
	known, err := p.known(ctx, k, in)
	if err != nil {
		return remote.Place{}, err
	}
	found := known.byName[which]
	if one, is := known.byID[id.String()]; isID {
		found = nil
		if is {
			found = []place{one}
		}
	}
	switch {
	case len(found) > 1:
		return remote.Place{}, fmt.Errorf("%d %ss are called %q; say which by id", len(found), k.word, which)
	case len(found) == 0 && !p.create:
		return remote.Place{}, fmt.Errorf("there is no %s %q that you may see; --create makes what is missing", k.word, which)
	case len(found) == 0:
		one, err := p.makePlace(ctx, k, slug, which, l, owner)
		if err != nil {
			return remote.Place{}, err
		}
		known.add(one)
		found = []place{one}
	}
	typed := k.word + ":" + found[0].ID
	if k == product {
		typed = k.word + ":" + slug + "/" + found[0].ID
	}
	return remote.ParsePlace(typed)
}

// known returns the places of a kind in a space, which is read once.
func (p *importPlan) known(ctx context.Context, k placeKind, slug string) (*placesOf, error) {
	key := k.word + ":" + slug
	if known := p.places[key]; known != nil {
		return known, known.err
	}
	all, err := k.all(ctx, p.client.Call, slug)
	if codeOf(err) == "not_found" && p.create {
		err = p.makeSpace(ctx, slug)
	}
	known := &placesOf{map[string]place{}, map[string][]place{}, err}
	for _, one := range all {
		known.add(one)
	}
	p.places[key] = known
	return known, err
}

func (p *importPlan) makeSpace(ctx context.Context, slug string) error {
	if p.spaces[slug] {
		return nil
	}
	p.spaces[slug] = true
	if !p.dry {
		if err := p.client.Call(ctx, "PUT", spacePath(slug), space{Slug: slug, Name: slug}, nil); err != nil {
			return err
		}
	}
	return p.say("space %s", slug)
}

// makePlace makes the place that a line names, by its id or its name.
func (p *importPlan) makePlace(ctx context.Context, k placeKind, slug, which string, l *mapLine, owner string) (place, error) {
	slug = cmp.Or(slug, l.Space)
	if isSlug(slug) != nil {
		return place{}, fmt.Errorf("there is no %s %q; to make it, say in which space: the column space", k.word, which)
	}
	if _, err := p.known(ctx, k, slug); err != nil { // makes the space
		return place{}, err
	}
	one := place{Space: slug}
	if id, isID := parseID(which); isID {
		one.ID = id.String()
		k.call(&one, cmp.Or(l.PlaceName, which))
	} else {
		id, err := uuid.NewV7()
		if err != nil {
			return place{}, err
		}
		one.ID = id.String()
		k.call(&one, which)
	}
	if k == ticket {
		if l.Owner != "" {
			who, err := p.user(ctx, l.Owner, "")
			if err != nil {
				return place{}, err
			}
			owner = who
		}
		if one.OwnerID = owner; owner == "" {
			return place{}, fmt.Errorf("there is no ticket %q; to make it, say whose it is: the column owner", which)
		}
	}
	if !p.dry {
		if err := p.client.Call(ctx, "PUT", k.path(slug, one.ID), place{Space: slug, OwnerID: one.OwnerID, Name: one.Name, Title: one.Title}, nil); err != nil {
			return place{}, err
		}
	}
	p.made[one.ID] = p.dry
	return one, p.say("%s %q in %s", k.word, one.called(), slug)
}

// comment finds a comment of a ticket, or makes it, and returns its id.
func (p *importPlan) comment(ctx context.Context, in remote.Place, comment string) (string, error) {
	if !in.IsTicket() {
		return "", errors.New("only a file of a ticket belongs to a comment")
	}
	id, isID := parseID(comment)
	if !isID {
		return "", fmt.Errorf("%q is not the id of a comment (a UUID)", comment)
	}
	path := ticket.path("", in.ID()) + "/comments/" + id.String()
	if p.talked[path] {
		return id.String(), nil
	}
	var err error
	if !p.made[in.ID()] {
		err = p.client.Call(ctx, "GET", path, nil, nil)
	}
	if codeOf(err) == "not_found" && p.create {
		if err = nil; !p.dry {
			err = p.client.Call(ctx, "PUT", path, struct{}{}, nil)
		}
	}
	p.talked[path] = err == nil
	return id.String(), err
}

// user returns the id of the user with this id or full name.
func (p *importPlan) user(ctx context.Context, who, fullName string) (string, error) {
	if !p.listed {
		if err := p.client.Call(ctx, "GET", "/directory/users", nil, &p.users); err != nil {
			return "", err
		}
		p.listed = true
	}
	who = directory.CleanLabel(who)
	id, isID := parseID(who)
	var found []user
	for _, u := range p.users {
		if isID && u.ID == id || !isID && u.FullName == who {
			found = append(found, u)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].ID.String(), nil
	case len(found) > 1:
		return "", fmt.Errorf("%d users are called %q; say which by id", len(found), who)
	case !p.create:
		return "", fmt.Errorf("there is no user %q; --create makes what is missing", cmp.Or(fullName, who))
	}
	made := user{ID: id, FullName: fullName}
	if !isID {
		var err error
		if made.ID, err = uuid.NewV7(); err != nil {
			return "", err
		}
		made.FullName = who
	}
	if made.FullName == "" {
		return "", fmt.Errorf("there is no user %s, and no name to make one", who)
	}
	if !p.dry {
		if err := p.client.Call(ctx, "PUT", "/directory/users/"+made.ID.String(), map[string]any{"full_name": made.FullName, "is_superadmin": false}, nil); err != nil {
			return "", err
		}
	}
	p.users = append(p.users, made)
	return made.ID.String(), p.say("user %q", made.FullName)
}

// importDefaults complete lines that do not say everything.
type importDefaults struct {
	to        string // a place, or the slug of a space whose products are named by the folders
	author    string
	ownOnly   bool // leave out authors and times
	fileTimes bool
}

// apply completes a line.
func (d importDefaults) apply(l *mapLine, file sourceFile) error {
	if d.ownOnly {
		l.Author, l.authorName, l.at = "", "", time.Time{}
	} else {
		l.Author = cmp.Or(l.Author, d.author)
	}
	if d.fileTimes && l.at.IsZero() && file.modified.Unix() > 0 && file.modified.Before(time.Now()) {
		l.at = file.modified
	}
	rest := path.Base(l.Path)
	if l.Place == "" {
		if rest, l.Place = l.Path, d.to; d.to == "" {
			return errors.New("nothing says where it belongs: the column place of a map, or --to")
		}
		if isSlug(d.to) == nil {
			folder, below, isBelow := strings.Cut(l.Path, "/")
			if !isBelow {
				return fmt.Errorf("it is in no folder: with --to %s, each folder becomes a product", d.to)
			}
			l.Place, rest = "product:"+d.to+"/"+folder, below
		}
	}
	l.Name = cmp.Or(l.Name, strings.ReplaceAll(rest, "/", "_"))
	return nil
}

// check refuses a default that is none.
func (d importDefaults) check() error {
	if d.to == "" || isSlug(d.to) == nil {
		return nil
	}
	if _, _, _, err := kindOf(d.to, ""); err != nil {
		return command.Usage("--to: %v; or it is a space, whose products are named by the folders", err)
	}
	return nil
}
