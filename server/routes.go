package server

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"

	"attachd/store"
)

// route is one line of the API: who may call is settled before the handler
// runs, and the handler finds what was looked up for that in its request.
type route struct {
	method  string
	pattern string
	who     access
	handle  func(s *Server, w *response, rq *request) error
}

// routes is the whole API.
var routes = []route{
	// The Attachments API.
	{"GET", "/catalog/spaces/:space/products/:product/attachments", may(read, parent(store.Product)), (*Server).listAttachments},
	{"POST", "/catalog/spaces/:space/products/:product/attachments", may(upload, parent(store.Product)), (*Server).upload},
	{"GET", "/catalog/attachments/:attachment/download", may(read, attachment(store.Product)), (*Server).downloadOrURL},
	{"DELETE", "/catalog/attachments/:attachment", may(remove, attachment(store.Product)), (*Server).deleteAttachment},
	{"POST", "/issues/tickets/:ticket/attachments", may(upload, parent(store.Ticket)), (*Server).upload},
	{"GET", "/issues/attachments/:attachment", may(read, attachment(store.Ticket)), (*Server).download},
	{"DELETE", "/issues/attachments/:attachment", may(remove, attachment(store.Ticket)), (*Server).deleteAttachment},

	// Extensions to it.
	{"GET", "/issues/tickets/:ticket/attachments", may(read, parent(store.Ticket)), (*Server).listAttachments},
	{"GET", "/meetings/:meeting/attachments", may(read, parent(store.Meeting)), (*Server).listAttachments},
	{"POST", "/meetings/:meeting/attachments", may(upload, parent(store.Meeting)), (*Server).upload},
	{"GET", "/meetings/:meeting/attachments/:attachment", may(read, attachment(store.Meeting)), (*Server).download},
	{"DELETE", "/meetings/:meeting/attachments/:attachment", may(remove, attachment(store.Meeting)), (*Server).deleteAttachment},
	{"POST", "/catalog/attachments/:attachment/links", may(read, attachment(store.Product)), (*Server).createLink},
	{"POST", "/issues/attachments/:attachment/links", may(read, attachment(store.Ticket)), (*Server).createLink},
	{"POST", "/meetings/:meeting/attachments/:attachment/links", may(read, attachment(store.Meeting)), (*Server).createLink},
	{"GET", "/catalog/attachments/:attachment/thumbnail", may(read, attachment(store.Product)), (*Server).thumbnail},
	{"GET", "/issues/attachments/:attachment/thumbnail", may(read, attachment(store.Ticket)), (*Server).thumbnail},
	{"GET", "/meetings/:meeting/attachments/:attachment/thumbnail", may(read, attachment(store.Meeting)), (*Server).thumbnail},
	{"GET", "/catalog/attachments/:attachment/preview", may(read, attachment(store.Product)), (*Server).preview},
	{"GET", "/issues/attachments/:attachment/preview", may(read, attachment(store.Ticket)), (*Server).preview},
	{"GET", "/meetings/:meeting/attachments/:attachment/preview", may(read, attachment(store.Meeting)), (*Server).preview},
	{"GET", linkedFile, signedLink, (*Server).downloadLinked},

	// Who is calling.
	{"GET", "/users/me", signedIn, (*Server).me},
	{"GET", "/limits", signedIn, (*Server).limits},
	{"GET", "/faults", signedIn, (*Server).listFaults},
	{"POST", "/session", anyone, (*Server).createSession},
	{"DELETE", "/session", anyone, (*Server).deleteSession},
	{"GET", "/demo", anyone, (*Server).demoUsers},
	{"GET", "/api-keys", signedIn, (*Server).listOwnKeys},
	{"POST", "/api-keys", signedIn, (*Server).createOwnKey},
	{"DELETE", "/api-keys/:key", signedIn, (*Server).deleteOwnKey},

	// The directory, written by a system of record or an operator.
	{"POST", "/directory/import", superadmin, (*Server).importDirectory},
	{"GET", "/directory/users", superadmin, (*Server).listUsers},
	{"PUT", "/directory/users/:user", superadmin, (*Server).putUser},
	{"GET", "/directory/users/:user", superadmin, (*Server).getUser},
	{"DELETE", "/directory/users/:user", superadmin, (*Server).deleteUser},
	{"GET", "/directory/users/:user/api-keys", superadmin, (*Server).listUserKeys},
	{"POST", "/directory/users/:user/api-keys", superadmin, (*Server).createUserKey},
	{"DELETE", "/directory/users/:user/api-keys/:key", superadmin, (*Server).deleteUserKey},
	{"GET", "/directory/spaces", signedIn, (*Server).listSpaces},
	{"PUT", "/directory/spaces/:space", superadmin, (*Server).putSpace},
	{"GET", "/directory/spaces/:space", memberOf(inPath), (*Server).getSpace},
	{"DELETE", "/directory/spaces/:space", superadminOf(inPath), (*Server).deleteSpace},
	{"GET", "/directory/spaces/:space/members", superadminOf(inPath), (*Server).listMembers},
	{"PUT", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).putMember},
	{"GET", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).getMember},
	{"DELETE", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).deleteMember},
	{"GET", "/directory/spaces/:space/products", memberOf(inPath), listEntities(store.Product)},
	{"PUT", "/directory/spaces/:space/products/:product", superadminOf(inPath), (*Server).putProduct},
	{"GET", "/directory/spaces/:space/products/:product", memberOf(entity(store.Product)), (*Server).getEntity},
	{"DELETE", "/directory/spaces/:space/products/:product", superadminOf(entity(store.Product)), deleteEntity(store.Product)},
	{"GET", "/directory/tickets", signedIn, listEntities(store.Ticket)},
	{"PUT", "/directory/tickets/:ticket", superadmin, (*Server).putTicket},
	{"GET", "/directory/tickets/:ticket", memberOf(entity(store.Ticket)), (*Server).getEntity},
	{"DELETE", "/directory/tickets/:ticket", superadminOf(entity(store.Ticket)), deleteEntity(store.Ticket)},
	{"GET", "/directory/tickets/:ticket/comments", memberOf(entity(store.Ticket)), (*Server).listComments},
	{"PUT", "/directory/tickets/:ticket/comments/:comment", superadminOf(entity(store.Ticket)), (*Server).putComment},
	{"GET", "/directory/tickets/:ticket/comments/:comment", memberOf(entity(store.Ticket)), (*Server).getComment},
	{"DELETE", "/directory/tickets/:ticket/comments/:comment", superadminOf(entity(store.Ticket)), (*Server).deleteComment},
	{"GET", "/directory/meetings", signedIn, listEntities(store.Meeting)},
	{"PUT", "/directory/meetings/:meeting", superadmin, (*Server).putMeeting},
	{"GET", "/directory/meetings/:meeting", memberOf(entity(store.Meeting)), (*Server).getEntity},
	{"DELETE", "/directory/meetings/:meeting", superadminOf(entity(store.Meeting)), deleteEntity(store.Meeting)},

	// Operations.
	{"GET", "/health", anyone, (*Server).health},
	{"GET", "/health/ready", anyone, (*Server).healthReady},
	{"GET", "/metrics", scraper, (*Server).serveMetrics},
	{"GET", "/stats", superadmin, (*Server).stats},
	{"POST", "/upkeep/check", superadmin, (*Server).check},
	{"POST", "/upkeep/gc", superadmin, (*Server).collect},
	{"POST", "/upkeep/audit", superadmin, (*Server).verifyAudit},
	{"GET", "/webhooks", superadmin, (*Server).webhookState},
	{"GET", "/webhooks/dead-letters", superadmin, (*Server).deadLetters},
	{"POST", "/webhooks/redeliver", superadmin, (*Server).redeliver},
	{"POST", "/webhooks/ping", superadmin, (*Server).pingReceiver},
	{"GET", "/audit-logs", superadmin, (*Server).auditLog},
	{"GET", "/audit-logs/export", superadmin, (*Server).exportAudit},
	{"POST", "/upkeep/signing-key", operatorOnly, (*Server).rotateSigning},
	{"POST", "/upkeep/compact", operatorOnly, (*Server).compact},
	{"POST", "/upkeep/snapshot", operatorOnly, (*Server).snapshot},
	{"GET", "/upkeep/contents/:content", operatorOnly, (*Server).storedContent},
	{"GET", "/upkeep/status", operatorOnly, (*Server).status},
	{"PUT", "/upkeep/backup", operatorOnly, (*Server).noteBackup},
	{"GET", "/openapi.json", anyone, (*Server).openAPI},
	{"GET", "/docs", anyone, (*Server).docs},
	{"GET", "/", anyone, (*Server).page},
	{"GET", "/assets/:version/:asset", anyone, (*Server).pageAsset},
}

// answersBytes are the routes whose success is a file, or made from one: they carry the headers for safe content on every
// status.
var answersBytes = map[string]bool{
	"/catalog/attachments/:attachment/download":  true,
	"/issues/attachments/:attachment":            true,
	"/meetings/:meeting/attachments/:attachment": true,
	linkedFile: true,

	"/catalog/attachments/:attachment/thumbnail":           true,
	"/issues/attachments/:attachment/thumbnail":            true,
	"/meetings/:meeting/attachments/:attachment/thumbnail": true,
}

// uploadsTo are the routes to which files are posted.
var uploadsTo = map[string]bool{
	"/catalog/spaces/:space/products/:product/attachments": true,
	"/issues/tickets/:ticket/attachments":                  true,
	"/meetings/:meeting/attachments":                       true,
}

// linkedFile is where signed links lead.
const linkedFile = "/files/:attachment"

func (s *Server) router(routes []route) *httprouter.Router {
	nothing, slash := s.refuser(notFound("There is nothing at this address.")), s.refuser(notFound("There is nothing at this address. Leave out the slash at its end."))
	r := &httprouter.Router{
		// No redirects: they lose bodies, and a path is right or wrong.
		RedirectTrailingSlash:  false,
		RedirectFixedPath:      false,
		HandleMethodNotAllowed: true,
		HandleOPTIONS:          true,
		GlobalOPTIONS:          http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		MethodNotAllowed: s.refuser(&refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			detail: "This address does not take that method; the Allow header names those it takes."}),
	}
	r.NotFound = http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		if path, ok := strings.CutSuffix(rq.URL.Path, "/"); ok && path != "" {
			if there, _, _ := r.Lookup(rq.Method, path); there != nil {
				slash.ServeHTTP(w, rq)
				return
			}
		}
		nothing.ServeHTTP(w, rq)
	})
	for _, rt := range routes {
		r.Handle(rt.method, rt.pattern, s.enter(rt))
		if rt.method == "GET" {
			r.Handle("HEAD", rt.pattern, s.enter(rt)) // net/http leaves the body out
		}
	}
	return r
}
