package server

import (
	_ "embed" // of openapi.json
	"net/http"
	"strconv"
	"strings"
	"sync"

	"attachd/server/api"
	"attachd/server/page"
)

// page answers with the web page. Its links are relative, so its own address must end
// with a slash.
func (s *Server) page(w *api.Response, rq *api.Request, sc api.Scope) error {
	if asked, _, _ := strings.Cut(rq.RequestURI, "?"); s.corridor.BasePath() != "" && asked == s.corridor.BasePath() {
		w.Header().Set("Location", s.corridor.BasePath()+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	return answerDocument(w, rq, page.Document(s.guard.OffersDemo(rq.Request)))
}

// docs answers with the page that shows openapi.json.
func (s *Server) docs(w *api.Response, rq *api.Request, sc api.Scope) error {
	return answerDocument(w, rq, page.Docs())
}

// manual answers with a page of the manual, or with the list of them.
func (s *Server) manual(w *api.Response, rq *api.Request, sc api.Scope) error {
	f, ok := page.Manual(rq.Params.ByName("page"))
	if !ok {
		return api.NotFound("The manual has no such page.")
	}
	return answerHTML(w, rq, f, page.ManualPolicy)
}

func answerDocument(w *api.Response, rq *api.Request, f page.File) error {
	return answerHTML(w, rq, f, page.Policy)
}

func answerHTML(w *api.Response, rq *api.Request, f page.File, policy string) error {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // it names the assets of this version
	return answerFile(w, rq, f)
}

// pageAsset answers with a script, style or picture of the page. The content at such an
// address never changes.
func (s *Server) pageAsset(w *api.Response, rq *api.Request, sc api.Scope) error {
	f, ok := page.Asset(rq.Params.ByName("asset"))
	if !ok || rq.Params.ByName("version") != page.Version() {
		return api.NotFound("There is nothing at this address.")
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	return answerFile(w, rq, f)
}

func answerFile(w *api.Response, rq *api.Request, f page.File) error {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if rq.Unmodified(w, f.ETag) {
		return nil
	}
	body := f.Body
	if api.TakesGzip(rq.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		body = f.Gzipped
	}
	h.Set("Content-Type", f.Type)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		rq.Log().Debug("the file did not reach the client", "error", err)
	}
	return nil
}

//go:embed openapi.json
var openAPIDocument []byte

var openAPIFile = sync.OnceValue(func() page.File { return page.NewFile("application/json", openAPIDocument) })

func (s *Server) openAPI(w *api.Response, rq *api.Request, sc api.Scope) error {
	return answerFile(w, rq, openAPIFile())
}
