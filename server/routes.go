package server

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"

	"attachd/store"
)

// route is one line of the API: all that the corridor has to know of it. Whether
// the caller may is settled before the handler runs. Every GET answers HEAD too.
type route struct {
	method  string
	pattern string
	who     access
	handle  handler
	kind    kind
	audit   auditRule
}

// handler answers a request that may go on. sc is what was looked up for it.
type handler func(s *Server, w *response, rq *request, sc scope) error

// kind is what a route takes and answers, for its headers, its metrics and its line
// in the log.
type kind int

const (
	document   kind = iota // JSON, or a document of ours
	file                   // a file, or what is made of one: nobody vouches for it
	linkedFile             // a file that pages of other origins may show
	fileList               // asked for again and again: that nothing has changed is no news
	fileUpload             // takes a file
	probe                  // asked for every few seconds: that all is well is no news
)

// sendsFile says whether the answer has bytes that nobody vouches for.
func (k kind) sendsFile() bool { return k == file || k == linkedFile }

// routes is the whole API.
var routes = []route{
	// The Attachments API.
	{"GET", "/catalog/spaces/:space/products/:product/attachments", may(read, parent(store.Product)), (*Server).listAttachments, fileList, unrecorded},
	{"POST", "/catalog/spaces/:space/products/:product/attachments", may(upload, parent(store.Product)), (*Server).upload, fileUpload, inCommit("attachment.upload", "attachment")},
	{"GET", "/catalog/attachments/:attachment/download", may(read, attachment(store.Product)), (*Server).downloadOrURL, file, reading("attachment.download", "attachment")},
	{"DELETE", "/catalog/attachments/:attachment", may(remove, attachment(store.Product)), (*Server).deleteAttachment, document, inCommit("attachment.delete", "attachment")},
	{"POST", "/issues/tickets/:ticket/attachments", may(upload, parent(store.Ticket)), (*Server).upload, fileUpload, inCommit("attachment.upload", "attachment")},
	{"GET", "/issues/attachments/:attachment", may(read, attachment(store.Ticket)), (*Server).download, file, reading("attachment.download", "attachment")},
	{"DELETE", "/issues/attachments/:attachment", may(remove, attachment(store.Ticket)), (*Server).deleteAttachment, document, inCommit("attachment.delete", "attachment")},

	// Extensions to it.
	{"GET", "/issues/tickets/:ticket/attachments", may(read, parent(store.Ticket)), (*Server).listAttachments, fileList, unrecorded},
	{"GET", "/meetings/:meeting/attachments", may(read, parent(store.Meeting)), (*Server).listAttachments, fileList, unrecorded},
	{"POST", "/meetings/:meeting/attachments", may(upload, parent(store.Meeting)), (*Server).upload, fileUpload, inCommit("attachment.upload", "attachment")},
	{"GET", "/meetings/:meeting/attachments/:attachment", may(read, attachment(store.Meeting)), (*Server).download, file, reading("attachment.download", "attachment")},
	{"DELETE", "/meetings/:meeting/attachments/:attachment", may(remove, attachment(store.Meeting)), (*Server).deleteAttachment, document, inCommit("attachment.delete", "attachment")},
	{"POST", "/catalog/attachments/:attachment/links", may(read, attachment(store.Product)), (*Server).createLink, document, answered("attachment.link", "attachment")},
	{"POST", "/issues/attachments/:attachment/links", may(read, attachment(store.Ticket)), (*Server).createLink, document, answered("attachment.link", "attachment")},
	{"POST", "/meetings/:meeting/attachments/:attachment/links", may(read, attachment(store.Meeting)), (*Server).createLink, document, answered("attachment.link", "attachment")},
	{"GET", "/catalog/attachments/:attachment/thumbnail", may(read, attachment(store.Product)), (*Server).thumbnail, file, unrecorded},
	{"GET", "/issues/attachments/:attachment/thumbnail", may(read, attachment(store.Ticket)), (*Server).thumbnail, file, unrecorded},
	{"GET", "/meetings/:meeting/attachments/:attachment/thumbnail", may(read, attachment(store.Meeting)), (*Server).thumbnail, file, unrecorded},
	{"GET", "/catalog/attachments/:attachment/preview", may(read, attachment(store.Product)), (*Server).preview, document, reading("attachment.preview", "attachment")},
	{"GET", "/issues/attachments/:attachment/preview", may(read, attachment(store.Ticket)), (*Server).preview, document, reading("attachment.preview", "attachment")},
	{"GET", "/meetings/:meeting/attachments/:attachment/preview", may(read, attachment(store.Meeting)), (*Server).preview, document, reading("attachment.preview", "attachment")},
	{"GET", "/files/:attachment", signedLink, (*Server).downloadLinked, linkedFile, reading("attachment.download", "attachment")},

	// Who is calling.
	{"GET", "/users/me", signedIn, (*Server).me, document, unrecorded},
	{"GET", "/limits", signedIn, (*Server).limits, document, unrecorded},
	{"GET", "/faults", signedIn, (*Server).listFaults, document, unrecorded},
	{"POST", "/session", anyone, (*Server).createSession, document, inCommit("session.begin", "session")},
	{"DELETE", "/session", anyone, (*Server).deleteSession, document, inCommit("session.end", "session")},
	{"GET", "/demo", anyone, (*Server).demoUsers, document, unrecorded},
	{"GET", "/api-keys", signedIn, (*Server).listOwnKeys, document, unrecorded},
	{"POST", "/api-keys", signedIn, (*Server).createOwnKey, document, inCommit("key.create", "key")},
	{"DELETE", "/api-keys/:key", signedIn, (*Server).deleteOwnKey, document, inCommit("key.revoke", "key")},

	// The directory, written by a system of record or an operator.
	{"POST", "/directory/import", superadmin, (*Server).importDirectory, document, inCommit("directory.import", "directory")},
	{"GET", "/directory/users", superadmin, (*Server).listUsers, document, unrecorded},
	{"PUT", "/directory/users/:user", superadmin, (*Server).putUser, document, inCommit("user.put", "user")},
	{"GET", "/directory/users/:user", superadmin, (*Server).getUser, document, unrecorded},
	{"DELETE", "/directory/users/:user", superadmin, (*Server).deleteUser, document, inCommit("user.delete", "user")},
	{"GET", "/directory/users/:user/api-keys", superadmin, (*Server).listUserKeys, document, unrecorded},
	{"POST", "/directory/users/:user/api-keys", superadmin, (*Server).createUserKey, document, inCommit("key.create", "key")},
	{"DELETE", "/directory/users/:user/api-keys/:key", superadmin, (*Server).deleteUserKey, document, inCommit("key.revoke", "key")},
	{"GET", "/directory/spaces", signedIn, (*Server).listSpaces, document, unrecorded},
	{"PUT", "/directory/spaces/:space", superadmin, (*Server).putSpace, document, inCommit("space.put", "space")},
	{"GET", "/directory/spaces/:space", memberOf(inPath), (*Server).getSpace, document, unrecorded},
	{"DELETE", "/directory/spaces/:space", superadminOf(inPath), (*Server).deleteSpace, document, inCommit("space.delete", "space")},
	{"GET", "/directory/spaces/:space/members", superadminOf(inPath), (*Server).listMembers, document, unrecorded},
	{"PUT", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).putMember, document, inCommit("member.put", "user")},
	{"GET", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).getMember, document, unrecorded},
	{"DELETE", "/directory/spaces/:space/members/:user", superadminOf(inPath), (*Server).deleteMember, document, inCommit("member.delete", "user")},
	{"GET", "/directory/spaces/:space/products", memberOf(inPath), listEntities(store.Product), document, unrecorded},
	{"PUT", "/directory/spaces/:space/products/:product", superadminOf(inPath), (*Server).putProduct, document, inCommit("product.put", "product")},
	{"GET", "/directory/spaces/:space/products/:product", memberOf(entity(store.Product)), (*Server).getEntity, document, unrecorded},
	{"DELETE", "/directory/spaces/:space/products/:product", superadminOf(entity(store.Product)), deleteEntity(store.Product), document, inCommit("product.delete", "product")},
	{"GET", "/directory/tickets", signedIn, listEntities(store.Ticket), document, unrecorded},
	{"PUT", "/directory/tickets/:ticket", superadmin, (*Server).putTicket, document, inCommit("ticket.put", "ticket")},
	{"GET", "/directory/tickets/:ticket", memberOf(entity(store.Ticket)), (*Server).getEntity, document, unrecorded},
	{"DELETE", "/directory/tickets/:ticket", superadminOf(entity(store.Ticket)), deleteEntity(store.Ticket), document, inCommit("ticket.delete", "ticket")},
	{"GET", "/directory/tickets/:ticket/comments", memberOf(entity(store.Ticket)), (*Server).listComments, document, unrecorded},
	{"PUT", "/directory/tickets/:ticket/comments/:comment", superadminOf(entity(store.Ticket)), (*Server).putComment, document, inCommit("comment.put", "comment")},
	{"GET", "/directory/tickets/:ticket/comments/:comment", memberOf(entity(store.Ticket)), (*Server).getComment, document, unrecorded},
	{"DELETE", "/directory/tickets/:ticket/comments/:comment", superadminOf(entity(store.Ticket)), (*Server).deleteComment, document, inCommit("comment.delete", "comment")},
	{"GET", "/directory/meetings", signedIn, listEntities(store.Meeting), document, unrecorded},
	{"PUT", "/directory/meetings/:meeting", superadmin, (*Server).putMeeting, document, inCommit("meeting.put", "meeting")},
	{"GET", "/directory/meetings/:meeting", memberOf(entity(store.Meeting)), (*Server).getEntity, document, unrecorded},
	{"DELETE", "/directory/meetings/:meeting", superadminOf(entity(store.Meeting)), deleteEntity(store.Meeting), document, inCommit("meeting.delete", "meeting")},

	// Operations.
	{"GET", "/health", anyone, (*Server).health, probe, unrecorded},
	{"GET", "/health/ready", anyone, (*Server).healthReady, probe, unrecorded},
	{"GET", "/metrics", scraper, (*Server).serveMetrics, probe, unrecorded},
	{"GET", "/stats", superadmin, (*Server).stats, document, unrecorded},
	{"POST", "/upkeep/check", superadmin, (*Server).check, document, answered("upkeep.check", "server")},
	{"POST", "/upkeep/gc", superadmin, (*Server).collect, document, answered("upkeep.gc", "server")},
	{"POST", "/upkeep/audit", superadmin, (*Server).verifyAudit, document, answered("upkeep.audit", "server")},
	{"GET", "/webhooks", superadmin, (*Server).webhookState, document, unrecorded},
	{"GET", "/webhooks/dead-letters", superadmin, (*Server).deadLetters, document, unrecorded},
	{"POST", "/webhooks/redeliver", superadmin, (*Server).redeliver, document, answered("webhook.redeliver", "server")},
	{"POST", "/webhooks/ping", superadmin, (*Server).pingReceiver, document, answered("webhook.ping", "server")},
	{"GET", "/audit-logs", superadmin, (*Server).auditLog, document, answered("audit.read", "server")},
	{"GET", "/audit-logs/export", superadmin, (*Server).exportAudit, document, answered("audit.read", "server")},
	{"POST", "/upkeep/signing-key", operatorOnly, (*Server).rotateSigning, document, answered("signing_key.rotate", "server")},
	{"POST", "/upkeep/compact", operatorOnly, (*Server).compact, document, answered("upkeep.compact", "server")},
	{"POST", "/upkeep/snapshot", operatorOnly, (*Server).snapshot, document, answered("upkeep.backup", "server")},
	{"GET", "/upkeep/contents/:content", operatorOnly, (*Server).storedContent, document, unrecorded},
	{"GET", "/upkeep/status", operatorOnly, (*Server).status, document, unrecorded},
	{"PUT", "/upkeep/backup", operatorOnly, (*Server).noteBackup, document, answered("upkeep.backup", "server")},
	{"GET", "/openapi.json", anyone, (*Server).openAPI, document, unrecorded},
	{"GET", "/docs", anyone, (*Server).docs, document, unrecorded},
	{"GET", "/", anyone, (*Server).page, document, unrecorded},
	{"GET", "/assets/:version/:asset", anyone, (*Server).pageAsset, document, unrecorded},
}

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
			rt.audit = unrecorded                     // nobody has read anything
			r.Handle("HEAD", rt.pattern, s.enter(rt)) // net/http leaves the body out
		}
	}
	return r
}
