package remote

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

const (
	idForm    = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	slugForm  = `[a-z0-9][a-z0-9-]{0,62}`
	placeForm = `(product):(` + slugForm + `)/(` + idForm + `)|(ticket|meeting):(` + idForm + `)`
)

// The patterns are compiled when they are first used: together they take half a megabyte,
// and a server needs none of them.
var (
	placeOnly = pattern(`^(?:` + placeForm + `)$`)
	inPlace   = pattern(`^(` + placeForm + `)/(.+)$`)
	onlyID    = pattern(`^` + idForm + `$`)
	byName    = pattern(`^(?:(product):(` + slugForm + `)/|(ticket|meeting):)(.+)$`)
	onlySlug  = pattern(`^` + slugForm + `$`)
	apiPath   = pattern(`(?:^|/)((?:catalog|issues|meetings/` + idForm + `)/attachments/` + idForm + `)(?:/download)?$`)
)

func pattern(form string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(form) })
}

// Place is a parent of attachments: product:SLUG/UUID, ticket:UUID or meeting:UUID.
// People may write its name instead of the UUID.
type Place struct {
	kind, slug, id string
	name           string // set while the id is not known
}

// ParsePlace parses a place. The error is a sentence for a person.
func ParsePlace(s string) (Place, error) {
	if m := placeOnly().FindStringSubmatch(s); m != nil {
		return Place{kind: m[1] + m[4], slug: m[2], id: m[3] + m[5]}, nil
	}
	if m := byName().FindStringSubmatch(s); m != nil {
		return Place{kind: m[1] + m[3], slug: m[2], name: m[4]}, nil
	}
	return Place{}, fmt.Errorf("%q is no place; one is product:SPACE/UUID, ticket:UUID or meeting:UUID, or has its name for the UUID: attachd ls lists them", s)
}

// IsSlug reports whether s has the form of the slug of a space.
func IsSlug(s string) bool { return onlySlug().MatchString(s) }

// IsTicket reports whether the place is a ticket, whose attachments may belong to a
// comment.
func (p Place) IsTicket() bool { return p.kind == "ticket" }

// ID is the id of the place, empty while only its name is known.
func (p Place) ID() string { return p.id }

func (p Place) String() string {
	if p.kind == "product" {
		return p.kind + ":" + p.slug + "/" + p.id
	}
	return p.kind + ":" + p.id
}

// path is the API path of its attachments.
func (p Place) path() string {
	switch p.kind {
	case "product":
		return "/catalog/spaces/" + p.slug + "/products/" + p.id + "/attachments"
	case "ticket":
		return "/issues/tickets/" + p.id + "/attachments"
	}
	return "/meetings/" + p.id + "/attachments"
}

// attachment is the address of one of its attachments.
func (p Place) attachment(id string) Address {
	switch p.kind {
	case "product":
		return Address{path: "/catalog/attachments/" + id}
	case "ticket":
		return Address{path: "/issues/attachments/" + id}
	}
	return Address{path: p.path() + "/" + id}
}

// Address is an attachment as people write it: PLACE/ID, PLACE/NAME, or the path that
// the server returned for its download.
type Address struct {
	path string // of the API; empty while only the name is known
	in   Place  // while its id is not known, its name includes that of the attachment after a slash
	name string

	isArchive bool // of all attachments of a place, and not one of them
}

// Archive is the address of a place's attachments in one ZIP archive.
func (p Place) Archive() Address { return Address{path: p.path() + ".zip", isArchive: true} }

// ParseAddress parses an address; a download path may follow the URL of the client's
// server. The error is a sentence for a person.
func (c *Client) ParseAddress(s string) (Address, error) {
	if m := inPlace().FindStringSubmatch(s); m != nil {
		in, err := ParsePlace(m[1])
		if last := m[len(m)-1]; err != nil || !onlyID().MatchString(last) {
			return Address{in: in, name: last}, err
		}
		return in.attachment(m[len(m)-1]), nil
	}
	if m := byName().FindStringSubmatch(s); m != nil && strings.Contains(m[4], "/") {
		return Address{in: Place{kind: m[1] + m[3], slug: m[2], name: m[4]}}, nil
	}
	path := strings.TrimPrefix(s, c.server)
	if m := apiPath().FindStringSubmatch(path); m != nil && strings.HasPrefix(path, "/") {
		return Address{path: "/" + m[1]}, nil
	}
	return Address{}, fmt.Errorf("%q is no attachment; one is PLACE/ID, PLACE/NAME or a download path, and a PLACE product:SPACE/UUID, ticket:UUID or meeting:UUID, or has its name for the UUID: attachd ls lists them", s)
}

// ID is the attachment's id, empty while only the name is known.
func (a Address) ID() string { return a.path[strings.LastIndex(a.path, "/")+1:] }

// download is the API path of its content.
func (a Address) download() string {
	if strings.HasPrefix(a.path, "/catalog/") && !a.isArchive {
		return a.path + "/download"
	}
	return a.path
}
