package remote

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	idForm    = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	placeForm = `(product):([a-z0-9][a-z0-9-]{0,62})/(` + idForm + `)|(ticket|meeting):(` + idForm + `)`
)

var (
	placeOnly = regexp.MustCompile(`^(?:` + placeForm + `)$`)
	inPlace   = regexp.MustCompile(`^(` + placeForm + `)/(.+)$`)
	onlyID    = regexp.MustCompile(`^` + idForm + `$`)
	apiPath   = regexp.MustCompile(`(?:^|/)((?:catalog|issues|meetings/` + idForm + `)/attachments/` + idForm + `)(?:/download)?$`)
)

// Place is what attachments belong to: product:SLUG/UUID, ticket:UUID or
// meeting:UUID.
type Place struct{ kind, slug, id string }

// ParsePlace reads a place. The error is a sentence for a person.
func ParsePlace(s string) (Place, error) {
	m := placeOnly.FindStringSubmatch(s)
	if m == nil {
		return Place{}, fmt.Errorf("%q is no place; one is product:SLUG/UUID, ticket:UUID or meeting:UUID", s)
	}
	return Place{m[1] + m[4], m[2], m[3] + m[5]}, nil
}

// IsTicket says whether its attachments may belong to a comment.
func (p Place) IsTicket() bool { return p.kind == "ticket" }

func (p Place) String() string {
	if p.kind == "product" {
		return p.kind + ":" + p.slug + "/" + p.id
	}
	return p.kind + ":" + p.id
}

// path is that of its attachments.
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

// Address is what people call an attachment: PLACE/ID, PLACE/NAME, or the path
// that the server gave for its download.
type Address struct {
	path string // of the API; empty while only the name is known
	in   Place
	name string
}

// ParseAddress reads an address; a download path may stand behind the URL of
// the client's server. The error is a sentence for a person.
func (c *Client) ParseAddress(s string) (Address, error) {
	if m := inPlace.FindStringSubmatch(s); m != nil {
		in, err := ParsePlace(m[1])
		if last := m[len(m)-1]; err != nil || !onlyID.MatchString(last) {
			return Address{in: in, name: last}, err
		}
		return in.attachment(m[len(m)-1]), nil
	}
	path := strings.TrimPrefix(s, c.server)
	if m := apiPath.FindStringSubmatch(path); m != nil && strings.HasPrefix(path, "/") {
		return Address{path: "/" + m[1]}, nil
	}
	return Address{}, fmt.Errorf("%q is no attachment; one is PLACE/ID, PLACE/NAME or a download path, and a PLACE product:SLUG/UUID, ticket:UUID or meeting:UUID", s)
}

// ID is the attachment's, empty while only the name is known.
func (a Address) ID() string { return a.path[strings.LastIndex(a.path, "/")+1:] }

// download is the path of its bytes.
func (a Address) download() string {
	if strings.HasPrefix(a.path, "/catalog/") {
		return a.path + "/download"
	}
	return a.path
}
