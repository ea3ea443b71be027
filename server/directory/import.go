package directory

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
	"time"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/store"
)

// maxImport is the size in bytes of the largest import. It is held in memory, since it
// is imported entirely or not at all.
const maxImport = 64 << 20

// A line of an import is an object of one kind. Its first members are those in the path
// of a PUT, and the rest is the PUT's body; the space's member may be called slug or, as
// in the path, space. Members that the kind does not have are ignored, whatever their
// values.
type (
	userLine struct {
		ID string `json:"id"`
		userMembers
	}
	userMembers struct {
		FullName         string `json:"full_name"`
		IsSuperadmin     bool   `json:"is_superadmin"`
		IsRecordsManager bool   `json:"is_records_manager"`
	}

	spaceLine struct {
		Slug  string `json:"slug"`
		Space string `json:"space"`
		spaceMembers
	}
	spaceMembers struct {
		Name       string `json:"name"`
		QuotaBytes *int64 `json:"quota_bytes"`
		QuotaFiles *int64 `json:"quota_files"`
	}

	memberLine struct {
		Space  string `json:"space"`
		Slug   string `json:"slug"`
		UserID string `json:"user_id"`
		memberMembers
	}
	memberMembers struct {
		Role string `json:"role"`
	}

	productLine struct {
		ID    string `json:"id"`
		Space string `json:"space"`
		Slug  string `json:"slug"`
		productMembers
	}
	productMembers struct {
		Name string `json:"name"`
	}

	ticketLine struct {
		ID   string `json:"id"`
		Slug string `json:"slug"`
		ticketMembers
	}
	ticketMembers struct {
		Space   string `json:"space"`
		OwnerID string `json:"owner_id"`
		Title   string `json:"title"`
	}

	commentLine struct {
		TicketID  string `json:"ticket_id"`
		ID        string `json:"id"`
		CommentID string `json:"comment_id"`
		commentMembers
	}
	commentMembers struct {
		CreatedAt string `json:"created_at"`
	}

	meetingLine struct {
		ID   string `json:"id"`
		Slug string `json:"slug"`
		meetingMembers
	}
	meetingMembers struct {
		Space string `json:"space"`
		Title string `json:"title"`
	}
)

// directoryLine is a line of any kind.
type directoryLine interface {
	object() (store.Object, error)
}

// importKinds are in the order in which objects are written, so that lines may be in
// any order and still refer to each other.
var importKinds = []struct {
	name string
	line func() directoryLine
}{
	{"user", func() directoryLine { return new(userLine) }},
	{"space", func() directoryLine { return new(spaceLine) }},
	{"member", func() directoryLine { return new(memberLine) }},
	{"product", func() directoryLine { return new(productLine) }},
	{"ticket", func() directoryLine { return new(ticketLine) }},
	{"comment", func() directoryLine { return new(commentLine) }},
	{"meeting", func() directoryLine { return new(meetingLine) }},
}

type importLine struct {
	number int // line number, from 1
	kind   int // index in importKinds
	object store.Object
}

// ImportDirectory writes every object of an NDJSON body, or none.
func (s *Service) ImportDirectory(w *api.Response, rq *api.Request, sc api.Scope) error {
	lines, err := s.readImport(rq)
	if err != nil {
		return err
	}
	now := s.Now()
	for i := range lines {
		lines[i].object = toldAt(now, lines[i].object)
	}
	slices.SortStableFunc(lines, func(a, b importLine) int {
		return cmp.Or(a.kind-b.kind, madeAt(a.object).Compare(madeAt(b.object)))
	})
	objects := make([]store.Object, len(lines))
	for i, line := range lines {
		objects[i] = line.object
	}
	kinds := map[string]int{}
	for _, line := range lines {
		kinds[importKinds[line.kind].name]++
	}
	rq.Entry.Name = countKinds(kinds)
	created, err := s.Store.Put(store.WithEach(rq.Context()), objects...)
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
	}{Lines: len(lines), Kinds: kinds}
	for i := range lines {
		if created[i] {
			answer.Created++
		} else {
			answer.Updated++
		}
	}
	return rq.Answer(w, http.StatusOK, answer)
}

// toldAt returns a comment with the time at which the system of record sent it; other
// objects are unchanged.
func toldAt(now time.Time, o store.Object) store.Object {
	if c, is := o.(store.Comment); is {
		c.Told = now.UTC().Truncate(time.Second)
		return c
	}
	return o
}

// madeAt returns when a comment was made, as far as that is known: comments of an
// import are numbered in this order. All other objects have no time.
func madeAt(o store.Object) time.Time {
	c, _ := o.(store.Comment)
	if c.CreatedAt.IsZero() {
		return c.Told
	}
	return c.CreatedAt
}

// countKinds formats the number of objects of each kind.
func countKinds(kinds map[string]int) string {
	var parts []string
	for _, kind := range importKinds {
		switch n := kinds[kind.name]; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+kind.name)
		default:
			parts = append(parts, fmt.Sprintf("%d %ss", n, kind.name))
		}
	}
	return strings.Join(parts, ", ")
}

func (s *Service) readImport(rq *api.Request) ([]importLine, error) {
	body := rq.Paced()
	defer body.Close()
	body.Allow(maxImport + 1)
	limited := &io.LimitedReader{R: body, N: maxImport + 1}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, api.MaxJSON)
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
		return nil, atLine(number+1, api.InvalidRequest("The line is longer than %s.", api.FormatSize(api.MaxJSON)))
	}
	if err := scanner.Err(); err != nil {
		return nil, api.BodyError(err)
	}
	return lines, nil
}

func tooLargeImport() error {
	return api.InvalidRequest("The import is larger than %s. Send it in several.", api.FormatSize(maxImport))
}

func parseImportLine(raw []byte) (importLine, error) {
	var of struct {
		Kind string `json:"kind"`
	}
	if err := api.DecodeJSON(raw, &of); err != nil {
		return importLine{}, err
	}
	var names []string
	for i, kind := range importKinds {
		if kind.name == of.Kind {
			line := kind.line()
			if err := api.DecodeJSON(raw, line); err != nil {
				return importLine{}, err
			}
			object, err := line.object()
			return importLine{kind: i, object: object}, err
		}
		names = append(names, kind.name)
	}
	return importLine{}, api.InvalidRequest("kind must be one of %s.", strings.Join(names, ", "))
}

// atLine adds the line number of an import to a refusal.
func atLine(number int, err error) error {
	e := *api.ToRefusal(err)
	if e.Status >= 500 {
		return err
	}
	if e.Status == http.StatusNotFound {
		e.Status, e.Code = http.StatusBadRequest, "invalid_request"
	}
	e.Line = number
	return &e
}

func (l *userLine) object() (store.Object, error) {
	id, err := memberID("id", l.ID)
	if err != nil {
		return nil, err
	}
	name, err := label("full_name", l.FullName)
	if err == nil && name == "" {
		err = api.InvalidRequest("A user needs a full_name.")
	}
	return store.User{ID: id, FullName: name, IsSuperadmin: l.IsSuperadmin, IsRecordsManager: l.IsRecordsManager}, err
}

func (l *spaceLine) object() (store.Object, error) {
	sp := store.Space{Slug: cmp.Or(l.Slug, l.Space)}
	if !store.ValidSlug(sp.Slug) {
		return nil, badSlug()
	}
	name, err := label("name", l.Name)
	if err != nil {
		return nil, err
	}
	sp.Name = cmp.Or(name, sp.Slug)
	if sp.QuotaBytes, err = quota("quota_bytes", l.QuotaBytes); err != nil {
		return nil, err
	}
	sp.QuotaFiles, err = quota("quota_files", l.QuotaFiles)
	return sp, err
}

func (l *memberLine) object() (store.Object, error) {
	user, err := memberID("user_id", l.UserID)
	if err != nil {
		return nil, err
	}
	slug := cmp.Or(l.Space, l.Slug)
	role, ok := store.ParseRole(l.Role)
	switch {
	case !store.ValidSlug(slug):
		return nil, badSlug()
	case !ok:
		return nil, api.InvalidRequest("role must be \"viewer\", \"editor\" or \"admin\".")
	}
	return store.Member{Space: slug, UserID: user, Role: role}, nil
}

func (l *productLine) object() (store.Object, error) {
	return parseEntity(store.Product, l.ID, cmp.Or(l.Space, l.Slug), "name", l.Name)
}

func (l *ticketLine) object() (store.Object, error) {
	e, err := parseEntity(store.Ticket, l.ID, cmp.Or(l.Space, l.Slug), "title", l.Title)
	if err == nil {
		e.OwnerID, err = memberID("owner_id", l.OwnerID)
	}
	return e, err
}

func (l *commentLine) object() (store.Object, error) {
	ticket, err := memberID("ticket_id", l.TicketID)
	if err != nil {
		return nil, err
	}
	id, err := memberID("id", cmp.Or(l.ID, l.CommentID))
	if err != nil {
		return nil, err
	}
	c := store.Comment{TicketID: ticket, ID: id}
	if l.CreatedAt != "" {
		at, err := time.Parse(time.RFC3339, l.CreatedAt)
		if err != nil {
			return nil, api.InvalidRequest("created_at must be a time such as 2026-01-31T00:00:00Z.")
		}
		c.CreatedAt = at.UTC().Truncate(time.Second)
	}
	return c, nil
}

func (l *meetingLine) object() (store.Object, error) {
	return parseEntity(store.Meeting, l.ID, cmp.Or(l.Space, l.Slug), "title", l.Title)
}

// parseEntity parses a product, ticket or meeting with its name or title, whichever the
// kind has.
func parseEntity(kind store.Kind, id, slug, member, name string) (e store.Entity, err error) {
	e.Kind, e.Space = kind, slug
	if e.ID, err = memberID("id", id); err != nil {
		return e, err
	}
	if !store.ValidSlug(slug) {
		return e, badSlug()
	}
	e.Name, err = label(member, name)
	return e, err
}

func memberID(member, s string) (uuid.UUID, error) {
	id, ok := api.ParseID(s)
	if !ok {
		return uuid.Nil, api.InvalidRequest("%s must be a UUID.", member)
	}
	return id, nil
}

func badSlug() error {
	return api.InvalidRequest("space must be a slug: lower-case letters, digits and hyphens, 63 at most.")
}

// quota parses a limit; a missing one and null are no limit.
func quota(member string, n *int64) (int64, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 {
		return 0, api.InvalidRequest("%s must be a number above 0, or null for no limit.", member)
	}
	return *n, nil
}
