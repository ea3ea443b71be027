package remote

import (
	"context"
	"fmt"
	"net/url"
	"strings"
)

// Parent is a place with the names that the server has for it.
type Parent struct {
	Place
	Space string // its slug
	Name  string // or title; may be empty
}

// placeKinds are the kinds of places in a space.
var placeKinds = []string{"product", "ticket", "meeting"}

// Parents calls each with the places that the caller may see, space by space. An empty
// slug selects all spaces, an empty kind all kinds.
func (c *Client) Parents(ctx context.Context, slug, kind string, each func(Parent) error) error {
	slugs := []string{slug}
	if slug == "" {
		slugs = nil
		err := pages(ctx, c, "/directory/spaces", url.Values{}, func(space struct{ Slug string }) error {
			slugs = append(slugs, space.Slug)
			return nil
		})
		if err != nil {
			return err
		}
	}
	kinds := []string{kind}
	if kind == "" {
		kinds = placeKinds
	}
	for _, slug := range slugs {
		for _, kind := range kinds {
			if err := c.parents(ctx, slug, kind, each); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Client) parents(ctx context.Context, slug, kind string, each func(Parent) error) error {
	list, query, in := "/directory/"+kind+"s", url.Values{"space": {slug}}, Place{kind: kind}
	if kind == "product" {
		list, query, in.slug = "/directory/spaces/"+url.PathEscape(slug)+"/products", url.Values{}, slug
	}
	return pages(ctx, c, list, query, func(one struct{ ID, Name, Title string }) error {
		if !onlyID().MatchString(one.ID) {
			return fmt.Errorf("the answer is not attachd's: a %s without an id", kind)
		}
		in.id = one.ID
		return each(Parent{in, slug, one.Name + one.Title})
	})
}

// FindPlace returns the place with its id. It looks up a name, which must be unique.
func (c *Client) FindPlace(ctx context.Context, p Place) (Place, error) {
	if p.id != "" {
		return p, nil
	}
	found, _, err := c.findPlace(ctx, p, func(name string) (string, bool) { return "", len(name) == len(p.name) })
	return found, err
}

// findIn is FindPlace for a place whose name is followed by a slash and the name of an
// attachment, which it returns too. Both names may contain slashes.
func (c *Client) findIn(ctx context.Context, p Place) (Place, string, error) {
	return c.findPlace(ctx, p, func(name string) (string, bool) {
		rest := p.name[min(len(name), len(p.name)):]
		return strings.TrimPrefix(rest, "/"), len(rest) > 1 && rest[0] == '/'
	})
}

// findPlace returns the place whose name is a prefix of p.name, if split accepts that
// name. Case matters only between names that differ in nothing else.
func (c *Client) findPlace(ctx context.Context, p Place, split func(name string) (rest string, ok bool)) (Place, string, error) {
	var same, alike []Place
	rests := map[Place]string{}
	err := c.Parents(ctx, p.slug, p.kind, func(one Parent) error {
		rest, ok := split(one.Name)
		if !ok || one.Name == "" || !strings.EqualFold(one.Name, p.name[:len(one.Name)]) {
			return nil
		}
		rests[one.Place], alike = rest, append(alike, one.Place)
		if strings.HasPrefix(p.name, one.Name) {
			same = append(same, one.Place)
		}
		return nil
	})
	if err != nil {
		return Place{}, "", err
	}
	if len(same) > 0 {
		alike = same
	}
	switch len(alike) {
	case 0:
		return Place{}, "", fmt.Errorf("there is no %s %q that you may see: attachd ls lists what there is", p.kind, p.name)
	case 1:
		return alike[0], rests[alike[0]], nil
	}
	var which []string
	for _, one := range alike {
		which = append(which, one.String())
	}
	return Place{}, "", fmt.Errorf("%d %ss have the name in %q; say which: %s", len(alike), p.kind, p.name, strings.Join(which, " or "))
}
