package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"attachd/blobs"
	"attachd/server/content"
	"attachd/store"
)

// downloadOrURL answers with the file or with where to get it, as the caller
// prefers or as the server is set up.
func (s *Server) downloadOrURL(w *response, rq *request) error {
	w.Header().Add("Vary", "Accept") // besides Origin, where pages may call
	byURL := s.DownloadByURL
	accept := accepted(rq.Header.Values("Accept"))
	url, bytes := accept["application/json"], accept["application/octet-stream"]
	if accept["*/*"] > 0 {
		url = 0 // a client that takes anything does not ask for the document
	}
	if url != bytes {
		byURL = url > bytes
	}
	if !byURL {
		return s.download(w, rq)
	}
	document, err := s.link(rq, s.URLTTL, false)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store") // whoever has the document has the file
	return rq.answer(w, http.StatusOK, document)
}

// accepted reads Accept headers (RFC 9110, section 12.5.1): the weight of each
// media range, 0 for what is not wanted.
func accepted(headers []string) map[string]float64 {
	weights := map[string]float64{}
	for _, item := range strings.Split(strings.Join(headers, ","), ",") {
		kind, params, err := mime.ParseMediaType(item)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, ok := params["q"]; ok {
			weight, _ = strconv.ParseFloat(q, 64) // what is no number is no wish
		}
		weights[kind] = weight
	}
	return weights
}

func (s *Server) download(w *response, rq *request) error {
	if s.elsewhere(rq) {
		return s.redirect(w, rq)
	}
	return s.send(w, rq, "attachment")
}

// downloadLinked answers a signed link, which may ask for inline display and
// gets it for types in which browsers run nothing.
func (s *Server) downloadLinked(w *response, rq *request) error {
	if s.elsewhere(rq) {
		return s.redirectLinked(w, rq)
	}
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
	file, done, err := s.openContent(rq)
	if err != nil {
		return err
	}
	defer done()
	h := w.Header()
	h.Set("Content-Type", a.Type)
	h.Set("Content-Disposition", content.Disposition(disposition, a.FileName))
	h.Set("ETag", `"`+blobs.Ref(a.SHA256).String()+`"`)
	h.Set("Repr-Digest", reprDigest(a.SHA256))
	h.Set("Accept-Ranges", "bytes")
	checked := &verifier{file: file, size: a.Size, want: a.SHA256}
	var body io.ReadSeeker = file
	var remember func()
	if s.VerifyReads {
		body = checked
		remember = s.verified.look(s.contents, checked, s.Now())
	}
	tidyRange(rq.Header, a.Size)
	http.ServeContent(&sending{response: w}, rq.Request, "", a.CreatedAt(), body)
	switch {
	case checked.damaged:
		s.reportDamage(rq, a, file)
		panic(http.ErrAbortHandler) // cut the connection: the file must not end cleanly
	case checked.touched:
		rq.log().Warn("a file was changed while it was sent", "attachment", a.ID.String(), "blob", blobs.Ref(a.SHA256).String())
		panic(http.ErrAbortHandler)
	case checked.sound:
		remember()
	}
	if rq.Method == http.MethodGet {
		s.metrics.downloaded.Add(float64(w.bytes))
		s.hours.downloaded(s.Now(), w)
	}
	return nil
}

// openContent opens the content of rq.attachment; done closes it.
func (s *Server) openContent(rq *request) (file blobs.Content, done func(), err error) {
	a := rq.attachment
	file, err = s.contents.Open(rq.Context(), blobs.Ref(a.SHA256), a.Size)
	if err != nil {
		if _, gone := s.Store.Attachment(rq.Context(), a.ID); errors.Is(gone, store.ErrNotFound) {
			return nil, nil, noAttachment(a.ID) // deleted this moment
		}
		if errors.Is(err, blobs.ErrDamaged) || errors.Is(err, blobs.ErrNotFound) {
			// What Open finds out, it finds out again every time: nothing to mark.
			s.metrics.damaged.Inc()
		}
		return nil, nil, fmt.Errorf("opening the content of attachment %s: %w", a.ID, err)
	}
	return file, func() {
		if err := file.Close(); err != nil {
			rq.log().Warn("closing a content", "error", err)
		}
	}, nil
}

// tidyRange makes of a Range header what http.ServeContent treats as RFC 9110
// (section 14.2) wants it: units and forms that nobody knows are ignored, ends
// beyond the file, however large, are its end, and what is left of ranges
// without a byte in the file is a range beyond it.
func tidyRange(h http.Header, size int64) {
	given := h.Get("Range")
	if given == "" {
		return
	}
	h.Del("Range")
	unit, list, ok := strings.Cut(given, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return
	}
	var ranges []string
	for _, one := range strings.Split(list, ",") {
		first, last, ok := strings.Cut(strings.TrimSpace(one), "-")
		if !ok || !digits(first) || !digits(last) || first == "" && last == "" {
			return
		}
		from, to := position(first, size), position(last, size)
		switch {
		case first == "" && to > 0:
			ranges = append(ranges, fmt.Sprintf("-%d", to))
		case first == "":
		case last != "" && to < from:
			return
		case from < size && last == "":
			ranges = append(ranges, fmt.Sprintf("%d-", from))
		case from < size:
			ranges = append(ranges, fmt.Sprintf("%d-%d", from, min(to, size-1)))
		}
	}
	if len(ranges) == 0 {
		ranges = []string{fmt.Sprintf("%d-", size)}
	}
	h.Set("Range", "bytes="+strings.Join(ranges, ","))
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < '0' || c > '9' })
}

// position reads a number of any length; beyond size they are all alike.
func position(s string, size int64) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil && s != "" {
		return size
	}
	return min(n, size)
}

// reportDamage marks, counts and logs a content whose hash is not its name.
func (s *Server) reportDamage(rq *request, a store.Attachment, read blobs.Content) {
	s.metrics.damaged.Inc()
	rq.log().Error("a stored content is damaged", "attachment", a.ID.String(), "blob", blobs.Ref(a.SHA256).String())
	if err := s.contents.MarkDamaged(context.WithoutCancel(rq.Context()), blobs.Ref(a.SHA256), read); err != nil {
		rq.log().Error("a damaged content could not be marked", "blob", blobs.Ref(a.SHA256).String(), "error", err)
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

// portion is how many bytes of a file are sent at once: a client that takes
// that little within writeStall is not cut off.
const portion = 64 << 10

var portions = sync.Pool{New: func() any { return new([portion]byte) }}

// ReadFrom is where http.ServeContent's copying comes by.
func (w *sending) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if ok && !w.refused {
		switch body := limited.R.(type) {
		case *verifier:
			return body.sendTo(w, limited.N)
		case blobs.Content:
			return w.sendFile(body, limited.N)
		}
	}
	return io.Copy(struct{ io.Writer }{w}, src)
}

// sendFile sends n bytes of a content. The kernel does where it can.
func (w *sending) sendFile(content blobs.Content, n int64) (sent int64, err error) {
	file, isFile := content.(*os.File)
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !isFile || !ok {
		return io.Copy(struct{ io.Writer }{w}, io.LimitReader(content, n))
	}
	for sent < n && err == nil {
		w.move()
		var some int64
		some, err = to.ReadFrom(io.LimitReader(file, min(portion, n-sent)))
		w.pace.after(time.Now(), int(some))
		if some == 0 && err == nil {
			err = io.ErrUnexpectedEOF
		}
		w.bytes += some
		sent += some
	}
	return sent, err
}

// verifier reads a file and, where it is read whole and in order, gives its
// last bytes only when the hash of all is right, or was lately and nothing has
// touched the file since. So a damaged file never ends cleanly.
type verifier struct {
	file blobs.Content
	size int64
	want [sha256.Size]byte

	hash    hash.Hash
	at      int64 // bytes hashed so far
	off     bool  // reading began elsewhere than at the start
	damaged bool
	sound   bool // all was read, and its hash is right

	spared  func() bool // set where it need not be hashed: says whether that holds still
	touched bool        // it does not
}

// Seek takes the end to be where it should be: a file that is shorter now is
// found out by who reads it.
func (v *verifier) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		offset, whence = v.size+offset, io.SeekStart
	}
	at, err := v.file.Seek(offset, whence)
	v.hash, v.at, v.off = nil, 0, at != 0
	return at, err
}

func (v *verifier) Read(p []byte) (int, error) {
	n, err := v.file.Read(p)
	if v.off || v.spared != nil {
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
	if err := v.judge(); err != nil {
		return 0, err
	}
	return n, err
}

const (
	// A chunk is hashed by one core while another sends it and reads the next.
	chunk = 128 << 10
	// So many downloads at once have two chunks; cores are fewer, and a slow
	// client needs none.
	maxChunked = 64
)

var (
	chunks  = sync.Pool{New: func() any { return new([2][chunk]byte) }}
	chunked atomic.Int32 // downloads that have them
)

// sendTo writes n bytes to w.
func (v *verifier) sendTo(w *sending, n int64) (sent int64, err error) {
	switch whole := n == v.size && !v.off; {
	case v.spared != nil && whole:
		return v.sendSpared(w)
	case v.spared != nil:
		return w.sendFile(v.file, n)
	case whole && n > portion:
		defer chunked.Add(-1)
		if chunked.Add(1) <= maxChunked {
			return v.sendLarge(w)
		}
	}
	buffer := portions.Get().(*[portion]byte)
	defer portions.Put(buffer)
	for sent < n {
		p := buffer[:min(portion, n-sent)]
		if _, err := io.ReadFull(v, p); err != nil {
			return sent, err
		}
		some, err := w.Write(p)
		sent += int64(some)
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sendSpared sends the whole file. The last portion waits for a last look at
// whether somebody has touched it.
func (v *verifier) sendSpared(w *sending) (sent int64, err error) {
	buffer := portions.Get().(*[portion]byte)
	defer portions.Put(buffer)
	last := buffer[:min(portion, v.size)]
	sent, err = w.sendFile(v.file, v.size-int64(len(last)))
	if err != nil {
		return sent, err
	}
	if _, err := io.ReadFull(v.file, last); err != nil || !v.spared() {
		v.touched = true
		return sent, err
	}
	some, err := w.Write(last)
	return sent + int64(some), err
}

// sendLarge sends the whole file. The last chunk waits for the verdict.
func (v *verifier) sendLarge(w io.Writer) (sent int64, err error) {
	both := chunks.Get().(*[2][chunk]byte)
	sent, err = v.sendChunks(w, both)
	chunks.Put(both) // and not after a panic, when one may be hashed still
	return sent, err
}

func (v *verifier) sendChunks(w io.Writer, both *[2][chunk]byte) (sent int64, err error) {
	p := both[0][:min(chunk, v.size)]
	if err := v.read(p); err != nil {
		return 0, err
	}
	v.hash = sha256.New()
	for i := 1; v.size-v.at > int64(len(p)); i = 1 - i {
		hashed := make(chan struct{})
		go func() {
			defer close(hashed)
			v.hash.Write(p)
		}()
		some, err := inPortions(w, p)
		sent += some
		next := both[i][:min(chunk, v.size-v.at-int64(len(p)))]
		if err == nil {
			err = v.read(next)
		}
		<-hashed
		if err != nil {
			return sent, err
		}
		v.at += int64(len(p))
		p = next
	}
	v.hash.Write(p)
	v.at += int64(len(p))
	if err := v.judge(); err != nil {
		return sent, err
	}
	some, err := inPortions(w, p)
	return sent + some, err
}

// read fills p. A file that ends too early is damaged.
func (v *verifier) read(p []byte) error {
	_, err := io.ReadFull(v.file, p)
	v.damaged = errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	return err
}

// judge is called when all was hashed.
func (v *verifier) judge() error {
	v.sound = v.at == v.size && [sha256.Size]byte(v.hash.Sum(nil)) == v.want
	v.damaged = !v.sound
	if v.damaged {
		return blobs.ErrDamaged
	}
	return nil
}

func inPortions(w io.Writer, p []byte) (sent int64, err error) {
	for sent < int64(len(p)) && err == nil {
		var some int
		some, err = w.Write(p[sent:min(sent+portion, int64(len(p)))])
		sent += int64(some)
	}
	return sent, err
}
