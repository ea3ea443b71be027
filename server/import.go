package server

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"attachd/store"
)

// The largest directory that one request may bring, in bytes. It is held in
// memory, since it is taken whole or not at all.
const maxImport = 64 << 20

// directoryLine is one object of the directory as JSON. What stands in the
// path of a PUT stands in the object in an import, under the name that the
// path or the object has for it.
type directoryLine struct {
	Kind string `json:"kind"`

	ID        string `json:"id"`
	Slug      string `json:"slug"`
	Space     string `json:"space"`
	UserID    string `json:"user_id"`
	TicketID  string `json:"ticket_id"`
	CommentID string `json:"comment_id"`

	FullName     string `json:"full_name"`
	IsSuperadmin bool   `json:"is_superadmin"`
	Name         string `json:"name"`
	Title        string `json:"title"`
	Role         string `json:"role"`
	OwnerID      string `json:"owner_id"`
	QuotaBytes   *int64 `json:"quota_bytes"`
	QuotaFiles   *int64 `json:"quota_files"`
}

// The order in which kinds are written, so that lines may stand in any order
// and still refer to each other.
var importOrder = []string{"user", "space", "member", "product", "ticket", "comment", "meeting"}

type importLine struct {
	number int // from 1
	kind   int // index in importOrder
	object store.Object
}

// importDirectory writes every object of an NDJSON body, or none.
func (s *Server) importDirectory(w *response, rq *request) error {
	lines, err := s.readImport(rq)
	if err != nil {
		return err
	}
	slices.SortStableFunc(lines, func(a, b importLine) int { return a.kind - b.kind })
	objects := make([]store.Object, len(lines))
	for i, line := range lines {
		objects[i] = line.object
	}
	rq.entry.Name = fmt.Sprintf("%d objects", len(objects))
	created, err := s.Store.Put(rq.Context(), objects...)
	var refused *store.PutError
	if errors.As(err, &refused) {
		return atLine(lines[refused.Index].number, refused.Err)
	}
	if err != nil {
		return err
	}
	answer := struct {
		Lines   int            `json:"lines"`
		Created int            `json:"created"`
		Updated int            `json:"updated"`
		Kinds   map[string]int `json:"kinds"`
	}{Lines: len(lines), Kinds: map[string]int{}}
	for i, line := range lines {
		answer.Kinds[importOrder[line.kind]]++
		if created[i] {
			answer.Created++
		} else {
			answer.Updated++
		}
	}
	return rq.answer(w, http.StatusOK, answer)
}

func (s *Server) readImport(rq *request) ([]importLine, error) {
	body := s.paced(rq)
	defer body.done()
	body.allow(maxImport + 1)
	limited := &io.LimitedReader{R: body, N: maxImport + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, maxJSON)
	var lines []importLine
	number := 0
	for scanner.Scan() {
		if scanner.Err() != nil {
			break // this line ends where reading failed
		}
		number++
		if limited.N <= 0 {
			return nil, tooLargeImport()
		}
		raw := bytes.TrimSpace(bytes.TrimPrefix(scanner.Bytes(), []byte("\ufeff")))
		if len(raw) == 0 {
			continue
		}
		line, err := parseImportLine(raw)
		if err != nil {
			return nil, atLine(number, err)
		}
		line.number = number
		lines = append(lines, line)
	}
	if limited.N <= 0 {
		return nil, tooLargeImport()
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return nil, atLine(number+1, invalidRequest("The line is longer than %s.", size(maxJSON)))
	}
	if err := scanner.Err(); err != nil {
		return nil, formError(err)
	}
	return lines, nil
}

func tooLargeImport() error {
	return invalidRequest("The import is larger than %s. Send it in several.", size(maxImport))
}

func parseImportLine(raw []byte) (importLine, error) {
	var line directoryLine
	if err := decodeJSON(raw, &line); err != nil {
		return importLine{}, err
	}
	kind := slices.Index(importOrder, line.Kind)
	if kind < 0 {
		return importLine{}, invalidRequest("kind must be one of %s.", strings.Join(importOrder, ", "))
	}
	object, err := line.object()
	return importLine{kind: kind, object: object}, err
}

// atLine adds to a refusal which line of the import it is about.
func atLine(number int, err error) error {
	e := *toRefusal(err)
	if e.status >= 500 {
		return err
	}
	if e.status == http.StatusNotFound {
		e.status, e.code = http.StatusBadRequest, "invalid_request"
	}
	e.line = number
	return &e
}

func (l directoryLine) object() (store.Object, error) {
	switch l.Kind {
	case "user":
		id, err := memberID("id", l.ID)
		if err != nil {
			return nil, err
		}
		return l.user(id)
	case "space":
		return l.space(cmp.Or(l.Slug, l.Space))
	case "member":
		user, err := memberID("user_id", l.UserID)
		if err != nil {
			return nil, err
		}
		return l.member(cmp.Or(l.Space, l.Slug), user)
	case "comment":
		ticket, err := memberID("ticket_id", l.TicketID)
		if err != nil {
			return nil, err
		}
		id, err := memberID("id", cmp.Or(l.ID, l.CommentID))
		return store.Comment{TicketID: ticket, ID: id}, err
	}
	id, err := memberID("id", l.ID)
	if err != nil {
		return nil, err
	}
	l.Space = cmp.Or(l.Space, l.Slug)
	switch l.Kind {
	case "product":
		return l.entity(store.Product, id)
	case "ticket":
		return l.entity(store.Ticket, id)
	default:
		return l.entity(store.Meeting, id)
	}
}

func (l directoryLine) user(id uuid.UUID) (store.User, error) {
	name, err := label("full_name", l.FullName)
	if err == nil && name == "" {
		err = invalidRequest("A user needs a full_name.")
	}
	return store.User{ID: id, FullName: name, IsSuperadmin: l.IsSuperadmin}, err
}

func (l directoryLine) space(slug string) (store.Space, error) {
	sp := store.Space{Slug: slug}
	if !validSlug(slug) {
		return sp, badSlug()
	}
	var err error
	if sp.Name, err = label("name", cmp.Or(l.Name, slug)); err != nil {
		return sp, err
	}
	if sp.QuotaBytes, err = quota("quota_bytes", l.QuotaBytes); err != nil {
		return sp, err
	}
	sp.QuotaFiles, err = quota("quota_files", l.QuotaFiles)
	return sp, err
}

func (l directoryLine) member(slug string, user uuid.UUID) (store.Member, error) {
	role, ok := store.ParseRole(l.Role)
	switch {
	case !validSlug(slug):
		return store.Member{}, badSlug()
	case !ok:
		return store.Member{}, invalidRequest("role must be \"viewer\", \"editor\" or \"admin\".")
	}
	return store.Member{Space: slug, UserID: user, Role: role}, nil
}

// entity takes a name or a title, whichever the kind has.
func (l directoryLine) entity(kind store.Kind, id uuid.UUID) (store.Entity, error) {
	e := store.Entity{Parent: store.Parent{Kind: kind, ID: id}, Space: l.Space}
	if !validSlug(l.Space) {
		return e, badSlug()
	}
	member, name := "title", l.Title
	if kind == store.Product {
		member, name = "name", l.Name
	}
	var err error
	if e.Name, err = label(member, name); err != nil {
		return e, err
	}
	if kind == store.Ticket {
		e.OwnerID, err = memberID("owner_id", l.OwnerID)
	}
	return e, err
}

func memberID(member, s string) (uuid.UUID, error) {
	id, ok := parseID(s)
	if !ok {
		return uuid.Nil, invalidRequest("%s must be a UUID.", member)
	}
	return id, nil
}

func badSlug() error {
	return invalidRequest("space must be a slug: lower-case letters, digits and hyphens, 63 at most.")
}

// quota reads a limit; none and null are no limit.
func quota(member string, n *int64) (int64, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 {
		return 0, invalidRequest("%s must be a number above 0, or null for no limit.", member)
	}
	return *n, nil
}
