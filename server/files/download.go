package files

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/store"
)

// DownloadOrURL answers with the file or with a URL document, by the caller's Accept
// header or the configured default.
func (s *Service) DownloadOrURL(w *api.Response, rq *api.Request, sc api.Scope) error {
	w.Header().Add("Vary", "Accept")                          // besides Origin, where pages may call
	byURL := s.DownloadByURL && !api.IsOperator(rq.Context()) // a command has no key for a link
	accept := accepted(rq.Header.Values("Accept"))
	url, bytes := accept["application/json"], accept["application/octet-stream"]
	if accept["*/*"] > 0 {
		url = 0 // Accept: */* is no request for the document
	}
	if url != bytes {
		byURL = url > bytes
	}
	if !byURL {
		return s.Download(w, rq, sc)
	}
	document, err := s.document(rq, sc)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store") // the document gives access to the file
	return rq.Answer(w, http.StatusOK, document)
}

// accepted parses Accept headers (RFC 9110, section 12.5.1): the weight of each media
// range, 0 for what is refused.
func accepted(headers []string) map[string]float64 {
	weights := map[string]float64{}
	for _, item := range strings.Split(strings.Join(headers, ","), ",") {
		kind, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, ok := params["q"]; ok {
			weight, _ = strconv.ParseFloat(q, 64) // a weight that is no number counts as 0
		}
		weights[kind] = weight
	}
	return weights
}

// Download answers GET /issues/attachments/:attachment and its like.
func (s *Service) Download(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.elsewhere(rq) && !s.isProgram(rq) {
		return s.redirect(w, rq, sc)
	}
	return s.send(w, rq, sc.Attachment, "attachment")
}

// DownloadLinked answers a signed link. It may ask for inline display, which is granted
// for types in which browsers run no code.
func (s *Service) DownloadLinked(w *api.Response, rq *api.Request, sc api.Scope) error {
	inline := sc.Inline && shownInline[sc.Attachment.Type]
	if address := s.storageRedirect(rq, sc.Attachment, inline); address != "" {
		rq.HandsOver = true
		return redirectTo(w, rq, http.StatusFound, address, api.Message("The file is at the address in the Location header."))
	}
	if s.elsewhere(rq) {
		return s.redirectLinked(w, rq, sc)
	}
	if !inline {
		return s.send(w, rq, sc.Attachment, "attachment")
	}
	if sc.Attachment.Type == "application/pdf" {
		// Browsers' PDF viewers do not work in a sandbox.
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
	}
	return s.send(w, rq, sc.Attachment, "inline")
}

var shownInline = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true,
	"application/pdf": true, "text/plain": true,
}

// send answers with the bytes of an attachment: net/http handles ranges and conditions
// (RFC 9110), this package the headers and the hash.
func (s *Service) send(w *api.Response, rq *api.Request, a store.Attachment, disposition string) error {
	if err := rq.Hold(min(max(portion, s.LogBelow), a.Size)); err != nil {
		return err
	}
	file, err := s.Contents.Reader(rq.Context(), rq.Log, a, false)
	if err != nil {
		return err
	}
	defer file.Close()
	file.TrustRecent(s.Now())
	h := w.Header()
	h.Set("Content-Type", a.Type)
	h.Set("Content-Disposition", content.Disposition(disposition, a.FileName))
	h.Set("ETag", etagOf(a))
	h.Set("Repr-Digest", reprDigest(a.SHA256))
	h.Set("Accept-Ranges", "bytes")
	file.Expect(tidyRange(rq.Header, a.Size))
	joinConditions(rq.Header)
	out := &sending{Response: w, rq: rq}
	http.ServeContent(out, rq.Request, "", a.CreatedAt(), file)
	if failed := cmp.Or(file.Err(), out.failed); failed != nil {
		refused := file.Report(failed)
		if !out.delayed() || errors.Is(failed, contents.ErrTouched) || out.whole && errors.Is(failed, contents.ErrRotten) {
			panic(http.ErrAbortHandler) // cut the connection: the file must not end cleanly
		}
		h.Del("Content-Range")
		return refused
	}
	out.begin()
	s.count(w, rq)
	return nil
}

// count counts what an answer with files has sent.
func (s *Service) count(w *api.Response, rq *api.Request) {
	if rq.Method == http.MethodHead {
		return
	}
	s.metrics.downloaded.Add(float64(w.Bytes))
	if w.Status == http.StatusOK || w.Status == http.StatusPartialContent {
		s.OnDownload(w.Bytes)
	}
}

// etagOf is the ETag of an attachment's file.
func etagOf(a store.Attachment) string { return `"` + blobs.Ref(a.SHA256).String() + `"` }

func preconditionFailed() *api.Refusal {
	return &api.Refusal{Status: http.StatusPreconditionFailed, Code: "precondition_failed", Detail: "The file is not the one that the request's conditions ask for."}
}

// joinConditions joins several header lines into one (RFC 9110, section 5.3):
// http.ServeContent reads only the first.
func joinConditions(h http.Header) {
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if lines := h.Values(name); len(lines) > 1 {
			h.Set(name, strings.Join(lines, ", "))
		}
	}
}

// tidyRange rewrites a Range header so that http.ServeContent treats it as RFC 9110
// (section 14.2) requires: unknown units and forms are ignored, ends beyond the file,
// however large, become its end, and ranges without a byte in the file become one range
// beyond it. It returns the parts of the file that are asked for.
func tidyRange(h http.Header, size int64) (parts []contents.Part) {
	given := h.Get("Range")
	if given == "" {
		return nil
	}
	h.Del("Range")
	unit, list, ok := strings.Cut(given, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return nil
	}
	for _, one := range strings.Split(list, ",") {
		first, last, ok := strings.Cut(strings.TrimSpace(one), "-")
		if !ok || !digits(first) || !digits(last) || first == "" && last == "" {
			return nil
		}
		from, to := position(first, size), position(last, size)
		switch {
		case first == "" && to > 0:
			parts = append(parts, contents.Part{From: size - to, End: size})
		case first == "":
		case last != "" && to < from:
			return nil
		case from < size && last == "":
			parts = append(parts, contents.Part{From: from, End: size})
		case from < size:
			parts = append(parts, contents.Part{From: from, End: min(to+1, size)})
		}
	}
	var ranges []string
	for _, part := range parts {
		ranges = append(ranges, fmt.Sprintf("%d-%d", part.From, part.End-1))
	}
	if len(ranges) == 0 {
		ranges = []string{fmt.Sprintf("%d-", size)}
	}
	h.Set("Range", "bytes="+strings.Join(ranges, ","))
	return parts
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// position parses a number of any length; those beyond size are equivalent.
func position(s string, size int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && s != "" {
		return size
	}
	return min(n, size)
}

// sending is the response writer for http.ServeContent. It replaces that one's refusals
// by the server's, and begins an answer only when there are bytes to send: before that,
// a read error can still be answered.
type sending struct {
	*api.Response
	rq      *api.Request
	refused bool
	status  int   // of the answer that has not begun
	whole   bool  // the answer has the whole file
	failed  error // why the file could not be read
}

// delayed reports whether the answer has not begun.
func (w *sending) delayed() bool { return w.status != 0 }

func (w *sending) begin() {
	if w.delayed() {
		w.Response.WriteHeader(w.status)
		w.status = 0
	}
}

func (w *sending) WriteHeader(status int) {
	var e *api.Refusal
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		e = &api.Refusal{Status: status, Code: "range_not_satisfiable", Detail: "The file has no bytes in that range."}
	case http.StatusPreconditionFailed:
		e = preconditionFailed()
	default:
		w.status, w.whole = status, status == http.StatusOK
		return
	}
	w.refused = true
	w.rq.ResetHeaders() // net/http removes some of the headers
	w.rq.Refuse(w.Response, e)
}

func (w *sending) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	w.begin()
	return w.Response.Write(p)
}

// portion is how many bytes of a file are sent at once: a client that takes that many
// in the time allowed for a write is not cut off.
const portion = blobs.ChunkSize

// ReadFrom is called by http.ServeContent to copy the file.
func (w *sending) ReadFrom(src io.Reader) (int64, error) {
	if limited, ok := src.(*io.LimitedReader); ok && !w.refused {
		if source, ok := limited.R.(interface {
			SendTo(w contents.Sink, n int64) (sent int64, err error)
		}); ok {
			return source.SendTo(w, limited.N)
		}
	}
	return io.Copy(struct{ io.Writer }{w}, src)
}

// SendFile implements contents.Sink. The kernel copies where it can.
func (w *sending) SendFile(content blobs.Content, n int64) (sent int64, err error) {
	if w.delayed() && n > 0 && !w.readable(content) {
		return 0, w.failed
	}
	w.begin()
	defer func() {
		if err != nil {
			w.readable(content) // was it the content that failed, or the client?
		}
	}()
	file, isFile := content.(*os.File)
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !isFile || !ok {
		return io.Copy(struct{ io.Writer }{w}, io.LimitReader(content, n))
	}
	for sent < n && err == nil {
		var some int64
		some, err = w.SendFrom(to, io.LimitReader(file, min(portion, n-sent)))
		if some == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		sent += some
	}
	return sent, err
}

// readable reads the next byte of a content without advancing, to record an error.
func (w *sending) readable(content blobs.Content) bool {
	at, err := content.Seek(0, io.SeekCurrent)
	if err == nil {
		_, err = content.ReadAt(make([]byte, 1), at)
	}
	if errors.Is(err, io.EOF) {
		err = contents.ErrShort
	}
	w.failed = err
	return err == nil
}
