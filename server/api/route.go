package api

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"
)

// Route is one route of the API, with all that the corridor needs to know of it. Access
// is decided before the handler runs. Every GET answers HEAD too.
type Route struct {
	Method  string
	Pattern string
	Who     Access
	Handle  Handler
	Kind    Kind
	Audit   AuditRule
}

// Handler answers an authorized request. sc is what was looked up for it.
type Handler func(w *Response, rq *Request, sc Scope) error

// Kind is what a route takes and answers. It decides the headers, the metrics and the
// log level of the request's line.
type Kind int

// The kinds of routes.
const (
	Document   Kind = iota // JSON, or a document of the server's own
	File                   // a file, or what is derived from one: untrusted content
	LinkedFile             // a file that pages of other origins may show
	FileList               // polled: an unchanged list is not worth a log line
	FileUpload             // takes a file
	Probe                  // polled every few seconds: success is not worth a log line
)

// sendsFile reports whether the answer has untrusted content.
func (k Kind) sendsFile() bool { return k == File || k == LinkedFile }

// Router returns a router with the routes.
func (c *Corridor) Router(routes []Route) *httprouter.Router {
	nothing, slash := c.refuser(NotFound("There is nothing at this address.")), c.refuser(NotFound("There is nothing at this address. Leave out the slash at its end."))
	r := &httprouter.Router{
		// No redirects: they lose bodies, and a path is either right or wrong.
		RedirectTrailingSlash:  false,
		RedirectFixedPath:      false,
		HandleMethodNotAllowed: true,
		HandleOPTIONS:          true,
		GlobalOPTIONS:          http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		MethodNotAllowed: c.refuser(&Refusal{Status: http.StatusMethodNotAllowed, Code: "method_not_allowed",
			Detail: "This address does not take that method; the Allow header names those it takes."}),
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
		r.Handle(rt.Method, rt.Pattern, c.adapt(rt))
		if rt.Method == "GET" {
			rt.Audit = Unrecorded                     // a HEAD reads nothing of a file
			r.Handle("HEAD", rt.Pattern, c.adapt(rt)) // net/http omits the body
		}
	}
	return r
}
