package server

import (
	"net/http"
	"strings"

	"github.com/julienschmidt/httprouter"
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
type handler func(w *response, rq *request, sc scope) error

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

// router lays out routes.
func (c *corridor) router(routes []route) *httprouter.Router {
	nothing, slash := c.refuser(notFound("There is nothing at this address.")), c.refuser(notFound("There is nothing at this address. Leave out the slash at its end."))
	r := &httprouter.Router{
		// No redirects: they lose bodies, and a path is right or wrong.
		RedirectTrailingSlash:  false,
		RedirectFixedPath:      false,
		HandleMethodNotAllowed: true,
		HandleOPTIONS:          true,
		GlobalOPTIONS:          http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		MethodNotAllowed: c.refuser(&refusal{status: http.StatusMethodNotAllowed, code: "method_not_allowed",
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
		r.Handle(rt.method, rt.pattern, c.adapt(rt))
		if rt.method == "GET" {
			rt.audit = unrecorded                     // nobody has read anything
			r.Handle("HEAD", rt.pattern, c.adapt(rt)) // net/http leaves the body out
		}
	}
	return r
}
