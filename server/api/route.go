package api

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"
)

// Route is one line of the API: all that the corridor has to know of it. Whether
// the caller may is settled before the handler runs. Every GET answers HEAD too.
type Route struct {
	Method  string
	Pattern string
	Who     Access
	Handle  Handler
	Kind    Kind
	Audit   AuditRule
}

// Handler answers a request that may go on. sc is what was looked up for it.
type Handler func(w *Response, rq *Request, sc Scope) error

// Kind is what a route takes and answers, for its headers, its metrics and its line
// in the log.
type Kind int

// The kinds of routes.
const (
	Document   Kind = iota // JSON, or a document of ours
	File                   // a file, or what is made of one: nobody vouches for it
	LinkedFile             // a file that pages of other origins may show
	FileList               // asked for again and again: that nothing has changed is no news
	FileUpload             // takes a file
	Probe                  // asked for every few seconds: that all is well is no news
)

// sendsFile says whether the answer has bytes that nobody vouches for.
func (k Kind) sendsFile() bool { return k == File || k == LinkedFile }

// Router lays out routes.
func (c *Corridor) Router(routes []Route) *httprouter.Router {
	nothing, slash := c.refuser(NotFound("There is nothing at this address.")), c.refuser(NotFound("There is nothing at this address. Leave out the slash at its end."))
	r := &httprouter.Router{
		// No redirects: they lose bodies, and a path is right or wrong.
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
			rt.Audit = Unrecorded                     // nobody has read anything
			r.Handle("HEAD", rt.Pattern, c.adapt(rt)) // net/http leaves the body out
		}
	}
	return r
}
