package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server"
	"attachd/store"
)

// The matrix tries every caller on every route that has to do with an
// attachment, with every kind of target, and compares the status with what
// the rules say. The rules are written here once more, from the table of
// rights and not from the server's code.

// somebody is a caller, and whose rights it has.
type somebody struct {
	as     string // as in a step
	rights string // a person; empty for nobody
}

// callers are all kinds of callers, and a superadmin acting for each. The former is no
// longer a member of any space and has uploaded before; nobody has no key.
func callers() []somebody {
	list := []somebody{{"", ""}}
	for _, name := range []string{"root", "admin", "editor", "viewer", "stranger", "owner", "former"} {
		list = append(list, somebody{name, name}, somebody{"root for " + name, name})
	}
	return list
}

type right string

const (
	toRead   right = "read"
	toUpload right = "upload"
	toDelete right = "delete"
)

// rules are the table of rights.
type rules struct{ adminsMayDelete bool }

func (r rules) allow(who string, do right, kind, slug string, uploadedIt bool) bool {
	role := roleIn(who, slug)
	root := who == "root"
	member := root || role != store.NoRole
	ownsTicket := kind == "ticket" && ownerOf[slug] == who
	switch do {
	case toRead:
		return member
	case toUpload:
		return root || role == store.Editor || role == store.Admin || ownsTicket
	}
	admin := root || role == store.Admin
	if kind == "ticket" {
		return uploadedIt && member || ownsTicket || admin && r.adminsMayDelete
	}
	return uploadedIt && member || admin
}

func roleIn(who, slug string) store.Role {
	for _, p := range people {
		if p.name == who {
			return p.roles[slug]
		}
	}
	return store.NoRole
}

// status returns the expected status. The order of checks: authentication, existence,
// rights.
func (r rules) status(who somebody, do right, kind, slug string, tgt target, granted int) int {
	switch {
	case who.rights == "":
		return 401
	case !tgt.there:
		return 404
	case !r.allow(who.rights, do, kind, slug, tgt.own):
		return 403
	}
	return granted
}

// target is what a request is about.
type target struct {
	name  string
	there bool // to be found by the route
	own   bool // uploaded by the caller
}

// ofParent are targets of routes that name a product, ticket or meeting.
var ofParent = []target{
	{name: "there", there: true},
	{name: "unknown"},
	{name: "malformed"},
	{name: "of another kind"},
	{name: "in another space"}, // by the path of a product
}

// ofAttachment are targets of routes that name an attachment.
var ofAttachment = []target{
	{name: "own", there: true, own: true},
	{name: "foreign", there: true},
	{name: "deleted"},
	{name: "unknown"},
	{name: "malformed"},
	{name: "of another kind"},
	{name: "of another parent"}, // by the path of a meeting
}

// inMatrix is what each route of the matrix does, and what it answers to callers with
// the right.
var inMatrix = map[server.Route]struct {
	do      right
	granted int
}{
	{Method: "GET", Pattern: "/catalog/spaces/:space/products/:product/attachments"}:      {toRead, 200},
	{Method: "POST", Pattern: "/catalog/spaces/:space/products/:product/attachments"}:     {toUpload, 201},
	{Method: "GET", Pattern: "/catalog/attachments/:attachment/download"}:                 {toRead, 200},
	{Method: "POST", Pattern: "/catalog/attachments/:attachment/links"}:                   {toRead, 201},
	{Method: "DELETE", Pattern: "/catalog/attachments/:attachment"}:                       {toDelete, 200},
	{Method: "GET", Pattern: "/issues/tickets/:ticket/attachments"}:                       {toRead, 200},
	{Method: "POST", Pattern: "/issues/tickets/:ticket/attachments"}:                      {toUpload, 201},
	{Method: "GET", Pattern: "/issues/attachments/:attachment"}:                           {toRead, 200},
	{Method: "POST", Pattern: "/issues/attachments/:attachment/links"}:                    {toRead, 201},
	{Method: "DELETE", Pattern: "/issues/attachments/:attachment"}:                        {toDelete, 200},
	{Method: "GET", Pattern: "/meetings/:meeting/attachments"}:                            {toRead, 200},
	{Method: "POST", Pattern: "/meetings/:meeting/attachments"}:                           {toUpload, 201},
	{Method: "GET", Pattern: "/meetings/:meeting/attachments/:attachment"}:                {toRead, 200},
	{Method: "POST", Pattern: "/meetings/:meeting/attachments/:attachment/links"}:         {toRead, 201},
	{Method: "DELETE", Pattern: "/meetings/:meeting/attachments/:attachment"}:             {toDelete, 200},
	{Method: "GET", Pattern: "/catalog/attachments/:attachment/thumbnail"}:                {toRead, 200},
	{Method: "GET", Pattern: "/catalog/attachments/:attachment/preview"}:                  {toRead, 200},
	{Method: "GET", Pattern: "/issues/attachments/:attachment/thumbnail"}:                 {toRead, 200},
	{Method: "GET", Pattern: "/issues/attachments/:attachment/preview"}:                   {toRead, 200},
	{Method: "GET", Pattern: "/meetings/:meeting/attachments/:attachment/thumbnail"}:      {toRead, 200},
	{Method: "GET", Pattern: "/meetings/:meeting/attachments/:attachment/preview"}:        {toRead, 200},
	{Method: "GET", Pattern: "/catalog/spaces/:space/products/:product/attachments.zip"}:  {toRead, 200},
	{Method: "POST", Pattern: "/catalog/spaces/:space/products/:product/attachments.zip"}: {toRead, 200},
	{Method: "GET", Pattern: "/issues/tickets/:ticket/attachments.zip"}:                   {toRead, 200},
	{Method: "POST", Pattern: "/issues/tickets/:ticket/attachments.zip"}:                  {toRead, 200},
	{Method: "GET", Pattern: "/meetings/:meeting/attachments.zip"}:                        {toRead, 200},
	{Method: "POST", Pattern: "/meetings/:meeting/attachments.zip"}:                       {toRead, 200},
	{Method: "GET", Pattern: "/catalog/spaces/:space/products/:product/trash"}:            {toRead, 200},
	{Method: "GET", Pattern: "/issues/tickets/:ticket/trash"}:                             {toRead, 200},
	{Method: "GET", Pattern: "/meetings/:meeting/trash"}:                                  {toRead, 200},
	{Method: "POST", Pattern: "/catalog/attachments/:attachment/restore"}:                 {toDelete, 200},
	{Method: "POST", Pattern: "/issues/attachments/:attachment/restore"}:                  {toDelete, 200},
	{Method: "POST", Pattern: "/meetings/:meeting/attachments/:attachment/restore"}:       {toDelete, 200},
}

// open are the routes for callers without a key, or with their own proof.
var open = []string{"GET /files/:attachment", "POST /session", "DELETE /session", "GET /demo", "GET /health", "GET /health/ready", "GET /openapi.json", "GET /openapi-3.0.json", "GET /docs", "GET /manual", "GET /manual/:page", "GET /", "GET /assets/:version/:asset"}

// signedIn are the routes for every caller with a key, about themselves.
var signedIn = []string{"GET /users/me", "GET /limits", "GET /faults", "GET /api-keys", "POST /api-keys", "DELETE /api-keys/:key"}

// membersRead are the routes of the directory that members of a space may
// read; the rest of the directory is for superadmins.
var membersRead = []string{
	"GET /directory/spaces/:space", "GET /directory/spaces/:space/products", "GET /directory/spaces/:space/products/:product",
	"GET /directory/tickets/:ticket", "GET /directory/tickets/:ticket/comments", "GET /directory/tickets/:ticket/comments/:comment",
	"GET /directory/meetings/:meeting",
}

// adminsRead are those that admins of a space may read.
var adminsRead = []string{"GET /directory/spaces/:space/trash"}

// filteredByMember are those that show callers only what they may see.
var filteredByMember = []string{"GET /directory/spaces", "GET /directory/tickets", "GET /directory/meetings"}

func (w *world) addFormer() {
	id := anID(7)
	_, err := w.store.Put(context.Background(), store.User{ID: id, FullName: "Former Person"})
	w.must(err)
	w.names["former"] = id.String()
	w.keys["former"], err = newKey(w.store, id)
	w.must(err)
}

func kindOf(pattern string) string {
	switch {
	case strings.HasPrefix(pattern, "/catalog/"):
		return "product"
	case strings.HasPrefix(pattern, "/issues/"):
		return "ticket"
	}
	return "meeting"
}

func parentOf(kind, slug string) store.Parent {
	return map[string]map[string]store.Parent{"product": productOf, "ticket": ticketOf, "meeting": meetingOf}[kind][slug]
}

// matrix has the fixtures of the matrix's requests.
type matrix struct {
	*world
	content store.Attachment // a record to copy: uploader, parent and content
	picture store.Attachment // one that has a thumbnail
	table   store.Attachment // one that has a preview
	deleted uuid.UUID
}

func newMatrix(t *testing.T, options ...func(*server.Config)) *matrix {
	m := &matrix{world: newWorld(t, options...)}
	m.addFormer()
	m.play(t, []step{
		{as: "root", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "A"},
		{as: "root", do: "POST {product}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: "gone"},
		{as: "root", do: "DELETE /catalog/attachments/{gone}", want: 200},
		{as: "root", do: "POST {product}/attachments", form: parts{file("a.png", string(pngOf(t, 3, 2)))}, want: 201, save: "picture"},
		{as: "root", do: "POST {product}/attachments", form: parts{file("a.csv", "a,b\n1,2\n")}, want: 201, save: "table"},
	})
	m.flushContents() // what has the same content gets no content of its own
	for name, record := range map[string]*store.Attachment{"A": &m.content, "picture": &m.picture, "table": &m.table} {
		var err error
		*record, err = m.store.Attachment(context.Background(), uuid.MustParse(m.names[name]))
		m.must(err)
	}
	m.deleted = uuid.MustParse(m.names["gone"])
	return m
}

// fresh makes an attachment for one request.
func (m *matrix) fresh(t *testing.T, parent store.Parent, uploader string) uuid.UUID {
	return m.copyOf(t, m.content, parent, uploader)
}

func (m *matrix) copyOf(t *testing.T, a store.Attachment, parent store.Parent, uploader string) uuid.UUID {
	a.Parent, a.UploaderID = parent, uuid.MustParse(m.names[uploader])
	return m.createRecord(t, a)
}

// forget removes an attachment, in the trash or not.
func (m *matrix) forget(t *testing.T, id uuid.UUID) {
	_, err := m.store.DeleteAttachment(context.Background(), id)
	if errors.Is(err, store.ErrNotFound) {
		_, err = m.store.PurgeAttachment(context.Background(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// trash puts an attachment into the trash.
func (m *matrix) trash(t *testing.T, id uuid.UUID) {
	now := m.clock.Now()
	if _, err := m.store.TrashAttachment(context.Background(), id, store.Deletion{At: now, Until: now.Add(time.Hour), ByID: personID("root")}); err != nil {
		t.Fatal(err)
	}
}

// address fills in a route's pattern for a target.
func (m *matrix) address(t *testing.T, pattern, kind, slug string, tgt target, who somebody) (path string, made uuid.UUID) {
	t.Helper()
	other := map[string]string{"a": "ab", "ab": "a"}[slug]
	otherKind := map[string]string{"product": "ticket", "ticket": "meeting", "meeting": "product"}[kind]
	parent := parentOf(kind, slug)
	id := func() string { return made.String() }
	like := m.content
	switch {
	case strings.HasSuffix(pattern, "/thumbnail"):
		like = m.picture
	case strings.HasSuffix(pattern, "/preview"):
		like = m.table
	}
	uploader := "admin"
	if tgt.own {
		uploader = who.rights
	}
	if uploader == "" || !tgt.own && who.rights == "admin" {
		uploader = "former"
	}
	if !tgt.own && who.rights == "former" {
		uploader = "admin"
	}
	attachmentID, parentID := "", parent.ID.String()
	hasAttachment := strings.Contains(pattern, ":attachment")
	switch {
	case hasAttachment && tgt.name == "of another kind":
		made = m.copyOf(t, like, parentOf(otherKind, slug), uploader)
		attachmentID = id()
	case hasAttachment && tgt.name == "of another parent":
		made = m.copyOf(t, like, parentOf(kind, other), uploader)
		attachmentID = id()
	case hasAttachment && tgt.there:
		made = m.copyOf(t, like, parent, uploader)
		attachmentID = id()
	case tgt.name == "deleted":
		attachmentID = m.deleted.String()
	case tgt.name == "unknown":
		attachmentID, parentID = newID, newID
		if hasAttachment {
			parentID = parent.ID.String()
		}
	case tgt.name == "malformed":
		attachmentID, parentID = "nonsense", "nonsense"
	case tgt.name == "of another kind":
		parentID = parentOf(otherKind, slug).ID.String()
	case tgt.name == "in another space":
		parentID = parentOf(kind, other).ID.String()
	}
	return strings.NewReplacer(":space", slug, ":product", parentID, ":ticket", parentID, ":meeting", parentID, ":attachment", attachmentID).Replace(pattern), made
}

// ASVS 8.2.1, 8.2.2, 8.2.3, 8.4.1; CVE-2026-20736, CVE-2026-20912, CVE-2025-65798, CVE-2025-65799,
// CVE-2026-4265
func TestThePermissionMatrix(t *testing.T) {
	t.Parallel()
	for _, r := range []rules{{adminsMayDelete: false}, {adminsMayDelete: true}} {
		t.Run(fmt.Sprintf("admins may delete from tickets: %v", r.adminsMayDelete), func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, func(c *server.Config) { c.AdminsMayDeleteFromTickets = r.adminsMayDelete })
			tried := 0
			for _, route := range server.Routes() {
				cell, is := inMatrix[route]
				// The option changes nothing but deleting.
				if !is || r.adminsMayDelete && cell.do != toDelete {
					continue
				}
				tried += m.tryRoute(t, r, route)
			}
			if least := map[bool]int{false: 2000, true: 500}[r.adminsMayDelete]; tried < least {
				t.Errorf("only %d requests", tried)
			}
			t.Logf("%d requests", tried)
		})
	}
}

func (m *matrix) tryRoute(t *testing.T, r rules, route server.Route) (tried int) {
	cell := inMatrix[route]
	kind := kindOf(route.Pattern)
	targets := ofParent
	if strings.Contains(route.Pattern, ":attachment") {
		targets = ofAttachment
	}
	for _, slug := range []string{"a", "ab"} {
		for _, tgt := range targets {
			// Only the path of a product names the space, only that of a
			// meeting's attachment the parent.
			if tgt.name == "in another space" && kind != "product" || tgt.name == "of another parent" && kind != "meeting" {
				continue
			}
			for _, who := range callers() {
				want := r.status(who, cell.do, kind, slug, tgt, cell.granted)
				m.tryOne(t, route, kind, slug, tgt, who, want)
				tried++
				if route.Method == "DELETE" {
					m.tryOne(t, server.Route{Method: "DELETE", Pattern: route.Pattern + permanently}, kind, slug, tgt, who, want)
					tried++
				}
				if route.Method == "GET" && strings.Contains(route.Pattern, ":attachment") && !strings.HasSuffix(route.Pattern, "/preview") {
					m.tryOne(t, server.Route{Method: "HEAD", Pattern: route.Pattern}, kind, slug, tgt, who, want)
					tried++
				}
			}
		}
	}
	return tried
}

// permanently is how a pattern ends that is about what is in the trash, and removes it for
// good; others of attachments there restore them.
const permanently = "?permanent=true"

func ofTrash(pattern string) bool {
	return strings.HasSuffix(pattern, permanently) || strings.HasSuffix(pattern, "/restore")
}

func (m *matrix) tryOne(t *testing.T, route server.Route, kind, slug string, tgt target, who somebody, want int) {
	path, made := m.address(t, route.Pattern, kind, slug, tgt, who)
	if made != uuid.Nil && ofTrash(route.Pattern) {
		m.trash(t, made)
	}
	s := step{as: who.as, do: route.Method + " " + path}
	if route.Method == http.MethodPost && strings.HasSuffix(route.Pattern, "/attachments") {
		s.form = parts{file("a.txt", alphabet)}
	}
	if route.Method == http.MethodPost && strings.HasSuffix(route.Pattern, "/attachments.zip") {
		s.json = `{"ids": ["` + m.fresh(t, parentOf(kind, slug), "admin").String() + `"]}`
	}
	a, err := m.send(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if a.status != want {
		t.Errorf("%s, which is %s in %s: %v is answered %d, want %d: %s", kind, tgt.name, slug, s, a.status, want, a.body)
	}
	m.checkPromises(t, route.Method, path, a)
	if s.form != nil && a.status == http.StatusCreated {
		m.forget(t, uuid.MustParse(a.object(t)["id"].(string)))
	}
	if made == uuid.Nil {
		return
	}
	_, live := m.store.Attachment(context.Background(), made)
	_, trashed := m.store.TrashedAttachment(context.Background(), made)
	gone := live != nil && trashed != nil
	if gone != (route.Method == http.MethodDelete && want == 200) {
		t.Errorf("%v, answered %d: the attachment is gone: %v", s, a.status, gone)
	}
	if is := trashed == nil; is != (ofTrash(route.Pattern) && want != 200) {
		t.Errorf("%v, answered %d: the attachment is in the trash: %v", s, a.status, is)
	}
	if !gone {
		m.forget(t, made)
	}
}

// ASVS 8.2.1, 8.2.2, 8.2.3, 8.4.1
func TestTheDirectoryIsForSuperadminsAndForMembersToRead(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	for _, route := range server.Routes() {
		if !strings.HasPrefix(route.Pattern, "/directory") && route.Pattern != "/metrics" {
			continue
		}
		name := route.Method + " " + route.Pattern
		for _, slug := range []string{"a", "ab"} {
			path := m.directoryPath(route.Pattern, slug)
			for _, who := range callers() {
				admits := who.rights == "root" || slices.Contains(filteredByMember, name) ||
					slices.Contains(membersRead, name) && roleIn(who.rights, slug) != store.NoRole ||
					slices.Contains(adminsRead, name) && roleIn(who.rights, slug) == store.Admin
				want := 403
				if who.rights == "" {
					want = 401
				}
				switch {
				case who.rights == "" || !admits:
					m.do(t, step{as: who.as, do: route.Method + " " + path, want: want})
				case route.Method == "GET":
					m.do(t, step{as: who.as, do: "GET " + path, want: 200})
				}
			}
		}
	}
	m.checkUnchanged(t)
}

func (m *matrix) directoryPath(pattern, slug string) string {
	return strings.NewReplacer(":space", slug, ":product", productOf[slug].ID.String(), ":ticket", ticketOf[slug].ID.String(),
		":meeting", meetingOf[slug].ID.String(), ":comment", commentOf[slug].String(), ":key", newID,
		":user", m.names[map[string]string{"a": "viewer", "ab": "stranger"}[slug]]).Replace(pattern)
}

// checkUnchanged checks that refused requests had no effect.
func (m *matrix) checkUnchanged(t *testing.T) {
	t.Helper()
	for _, slug := range []string{"a", "ab"} {
		for _, kind := range []string{"product", "ticket", "meeting"} {
			if _, err := m.store.Entity(context.Background(), parentOf(kind, slug)); err != nil {
				t.Errorf("the %s of %s: %v", kind, slug, err)
			}
		}
	}
	if _, err := m.kept.Stat(context.Background(), blobs.Ref(m.content.SHA256)); err != nil {
		t.Error(err)
	}
}

func TestWhatIsAboutOneselfNeedsAKey(t *testing.T) {
	t.Parallel()
	m := newMatrix(t)
	for _, name := range signedIn {
		for _, who := range callers() {
			s := step{as: who.as, do: strings.Replace(name, ":key", newID, 1), want: 200}
			switch {
			case who.rights == "":
				s.want = 401
			case strings.HasPrefix(name, "DELETE"):
				s.want = 404
			case strings.HasPrefix(name, "POST"):
				s.want, s.json = 201, `{"name": "x"}`
			}
			m.do(t, s)
		}
	}
}

// Every route has to be listed under one of the rules above.
// ASVS 8.1.1; CVE-2025-68939
func TestEveryRouteIsUnderARule(t *testing.T) {
	t.Parallel()
	known := slices.Concat(open, signedIn, operators, withReceiver, commandsOnly, recordsManagers)
	listed := map[string]bool{}
	for _, route := range server.Routes() {
		name := route.Method + " " + route.Pattern
		listed[name] = true
		_, inIt := inMatrix[route]
		if !inIt && !slices.Contains(known, name) && !strings.HasPrefix(route.Pattern, "/directory/") && route.Pattern != "/metrics" {
			t.Errorf("no test says who may call %s", name)
		}
	}
	for _, name := range slices.Concat(known, membersRead, adminsRead, filteredByMember) {
		if !listed[name] {
			t.Errorf("there is no route %s", name)
		}
	}
	for route := range inMatrix {
		if !listed[route.Method+" "+route.Pattern] {
			t.Errorf("there is no route %v", route)
		}
	}
	w := newWorld(t)
	for _, name := range open {
		path := strings.Replace(name, ":attachment", newID, 1)
		a, err := w.send(t, step{do: path})
		if err != nil || a.status == 401 {
			t.Errorf("%s without a key: %d, %v", name, a.status, err)
		}
	}
}
