package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"

	"attachd/blobs"
	"attachd/server/content"
	"attachd/store"
)

// downloadOrURL answers with the file or with where to get it, as the caller
// prefers or as the server is set up.
func (s *Server) downloadOrURL(w *response, rq *request) error {
	w.Header().Add("Vary", "Accept") // besides Origin, where pages may call
	byURL := s.DownloadByURL
	accept := strings.ToLower(strings.Join(rq.Header.Values("Accept"), ","))
	wantsURL := strings.Contains(accept, "application/json") && !strings.Contains(accept, "*/*")
	wantsBytes := strings.Contains(accept, "application/octet-stream")
	if wantsURL != wantsBytes {
		byURL = wantsURL
	}
	if !byURL {
		return s.download(w, rq)
	}
	document, err := s.link(rq, s.URLTTL, false)
	if err != nil {
		return err
	}
	return rq.answer(w, http.StatusOK, document)
}

func (s *Server) download(w *response, rq *request) error {
	return s.send(w, rq, "attachment")
}

// downloadLinked answers a signed link, which may ask for inline display and
// gets it for types in which browsers run nothing.
func (s *Server) downloadLinked(w *response, rq *request) error {
	if !rq.inline || !shownInline[rq.attachment.Type] {
		return s.send(w, rq, "attachment")
	}
	if rq.attachment.Type == "application/pdf" {
		// Browsers' PDF viewers do not work in a sandbox.
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
	}
	return s.send(w, rq, "inline")
}

var shownInline = map[string]bool{
	"image/png": true, "image/jpeg": true, "image/gif": true, "image/webp": true,
	"application/pdf": true, "text/plain": true,
}

// send answers with the bytes of rq.attachment: ranges and conditions are
// net/http's (RFC 9110), the headers and the hash are ours.
func (s *Server) send(w *response, rq *request, disposition string) error {
	a := rq.attachment
	file, err := s.Blobs.Open(rq.Context(), blobs.Ref(a.SHA256), a.Size)
	if err != nil {
		if errors.Is(err, blobs.ErrDamaged) {
			s.reportDamage(rq, a, err)
		}
		return fmt.Errorf("opening the content of attachment %s: %w", a.ID, err)
	}
	defer func() {
		if err := file.Close(); err != nil {
			rq.log.Warn("closing a content", "error", err)
		}
	}()
	h := w.Header()
	h.Set("Content-Type", a.Type)
	h.Set("Content-Disposition", content.Disposition(disposition, a.FileName))
	h.Set("ETag", `"`+blobs.Ref(a.SHA256).String()+`"`)
	h.Set("Repr-Digest", reprDigest(a.SHA256))
	h.Set("Accept-Ranges", "bytes")
	checked := &verifier{file: file, size: a.Size, want: a.SHA256}
	var body io.ReadSeeker = checked
	if !s.VerifyReads {
		body = file
	}
	http.ServeContent(&sending{response: w}, rq.Request, "", a.CreatedAt(), body)
	if checked.damaged {
		s.reportDamage(rq, a, errors.New("its SHA-256 is another"))
		panic(http.ErrAbortHandler) // cut the connection: the file must not end cleanly
	}
	if rq.Method == http.MethodGet {
		s.metrics.downloaded.Add(float64(w.bytes))
	}
	return nil
}

// reportDamage marks, counts and logs a content that is not what its record
// says.
func (s *Server) reportDamage(rq *request, a store.Attachment, why error) {
	s.metrics.damaged.Inc()
	rq.log.Error("a stored content is damaged", "attachment", a.ID.String(), "blob", blobs.Ref(a.SHA256).String(), "error", why)
	if err := s.Blobs.MarkDamaged(context.WithoutCancel(rq.Context()), blobs.Ref(a.SHA256)); err != nil {
		rq.log.Error("a damaged content could not be marked", "blob", blobs.Ref(a.SHA256).String(), "error", err)
	}
}

// sending makes the refusals of http.ServeContent ours.
type sending struct {
	*response
	refused bool
}

func (w *sending) WriteHeader(status int) {
	var e *refusal
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		e = &refusal{status: status, code: "range_not_satisfiable", detail: "The file has no bytes in that range."}
	case http.StatusPreconditionFailed:
		e = &refusal{status: status, code: "precondition_failed", detail: "The file is not the one that the request's conditions ask for."}
	default:
		w.response.WriteHeader(status)
		return
	}
	w.refused = true
	setHeaders(w.Header(), w.rq.route) // net/http takes some away
	w.rq.refuse(w.response, e)
}

func (w *sending) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.response.Write(p)
}

// verifier reads a file and, where it is read whole and in order, gives its
// last bytes only when the hash of all is right. So a damaged file never ends
// cleanly.
type verifier struct {
	file blobs.Content
	size int64
	want [sha256.Size]byte

	hash    hash.Hash
	at      int64 // bytes hashed so far
	off     bool  // reading began elsewhere than at the start
	damaged bool
}

func (v *verifier) Seek(offset int64, whence int) (int64, error) {
	at, err := v.file.Seek(offset, whence)
	v.hash, v.at, v.off = nil, 0, at != 0
	return at, err
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	if v.off {
		return n, err
	}
	if v.hash == nil {
		v.hash = sha256.New()
	}
	v.hash.Write(p[:n])
	v.at += int64(n)
	if v.at < v.size && err != io.EOF {
		return n, err
	}
	if v.at != v.size || [sha256.Size]byte(v.hash.Sum(nil)) != v.want {
		v.damaged = true
		return 0, blobs.ErrDamaged
	}
	return n, err
}
