package files

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/server/formdata"
	"attachd/server/limits"
	"attachd/store"
)

// Limits of a form besides its file. The standard library's reader would allow 10 MiB
// of headers for each part.
const (
	maxBefore = 64 << 10 // bytes before the first byte of the file
	maxAfter  = 1 << 20  // bytes after the last byte of the file
	maxParts  = 100
	maxField  = 1 << 10 // bytes of a form field
	// longestPartName is how many characters of a part's name a refusal repeats at most.
	longestPartName = 100
)

// uploadHolds is how many bytes of memory an upload is counted for: buffers, and
// detection of its type.
const uploadHolds = 160 << 10

// Upload receives one file: it is spooled and hashed while it arrives, classified and
// scanned when it is complete, kept, recorded, and only then acknowledged.
func (s *Service) Upload(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.Corridor.Draining() {
		return api.ShuttingDown()
	}
	from, err := s.provenance(rq, sc)
	if err != nil {
		return err
	}
	boundary, err := s.admit(rq, sc, from)
	if err != nil {
		return err
	}
	if err := rq.Hold(uploadHolds); err != nil {
		return err
	}
	slot := s.Slots.Take(sc.Caller.User.ID, rq.CutBody)
	if slot == nil {
		return api.Busy("All upload slots are taken. Try again in a moment.")
	}
	defer s.Slots.Release(slot)
	spool := s.Contents.Spool(rq.Context())
	defer func() {
		if err := spool.Close(); err != nil {
			rq.Log().Error("a spool could not be thrown away", "error", err)
		}
	}()
	form, err := s.receive(rq, sc, boundary, spool, slot)
	if !s.Slots.Received(slot) {
		return api.SlotLost() // other errors may be caused by the lost slot
	}
	if err != nil {
		return err
	}
	a, err := s.classify(rq, sc, from, form, spool)
	if err != nil {
		return err
	}
	rq.Entry.Name = a.FileName
	if err := s.scan(rq, sc, a, spool); err != nil {
		return err
	}
	if sc, err = s.recheck(rq, sc, a, from); err != nil {
		return err
	}
	newID := func() uuid.UUID {
		id := from.newID(s.IDs, s.Now)
		rq.Entry.ID = id.String()
		return id
	}
	if err := spool.Record(rq.Context(), rq.Log, &a, sc.AutoCreate, newID); err != nil {
		return err
	}
	s.metrics.uploaded.Add(float64(a.Size))
	s.OnUpload(a.Size)
	h := w.Header()
	h.Set("Location", s.Corridor.BasePath()+downloadPath(a))
	h.Set("Repr-Digest", reprDigest(a.SHA256))
	return rq.Answer(w, http.StatusCreated, api.RenderAttachment(a))
}

// recheck authorizes an upload again after its body.
func (s *Service) recheck(rq *api.Request, sc api.Scope, a store.Attachment, from provenance) (api.Scope, error) {
	sc, err := s.Guard.Recheck(rq, sc, access.Upload, s.Guard.Parent(a.Parent.Kind))
	if err == nil {
		err = from.allowed(sc)
	}
	return sc, err
}

// admit refuses what can be refused before the body is read, and returns the boundary
// of its parts.
func (s *Service) admit(rq *api.Request, sc api.Scope, from provenance) (boundary string, err error) {
	params := formdata.HeaderParams(rq.Header.Get("Content-Type"))
	boundary = params["boundary"]
	switch {
	case !strings.EqualFold(params[""], "multipart/form-data"):
		return "", api.InvalidRequest("Send the file as multipart/form-data, in a part named \"file\".")
	case boundary == "":
		return "", api.InvalidRequest("The header Content-Type has no boundary. Leave that header to the library that makes the form: it knows the boundary.")
	case len(boundary) > formdata.MaxBoundary:
		return "", api.InvalidRequest("The boundary in the header Content-Type has more than %d characters.", formdata.MaxBoundary)
	}
	if err := rq.RefuseEncoded(); err != nil {
		return "", err
	}
	if from.uploader.ID == uuid.Nil {
		return "", api.Forbidden("An upload needs a user: name one in X-On-Behalf-Of.")
	}
	// The rest of the form is no larger than this, so the file is no smaller.
	least := max(rq.ContentLength-maxBefore-maxAfter, 0)
	if least > s.MaxFileSize {
		return "", api.FileTooLarge(s.MaxFileSize)
	}
	if err := s.Contents.MayChange(); err != nil {
		return "", err
	}
	if err := s.Contents.MakeRoom(rq.Context(), max(rq.ContentLength, 0)); err != nil {
		return "", err
	}
	space, used, err := s.Guard.Space(rq, sc.Entity.Space)
	if errors.Is(err, store.ErrNotFound) && sc.AutoCreate != "" {
		return boundary, nil
	}
	if err != nil {
		return "", err
	}
	return boundary, store.CheckQuota(space, used, least)
}

// form is what a request body has besides the bytes of the file.
type form struct {
	fileName string // as sent, decoded
	comment  string
	digests  []string // Repr-Digest headers of the file's part and of the request
}

// receive reads the whole body and spools its file.
func (s *Service) receive(rq *api.Request, sc api.Scope, boundary string, spool *contents.Spool, slot *limits.Slot) (form, error) {
	f := form{digests: rq.Header.Values("Repr-Digest")}
	body := rq.Paced()
	body.Slot, body.Over = slot, tooMuch()
	defer body.Close()
	body.Allow(maxBefore + formdata.BufferSize)
	parts := formdata.NewReader(body, boundary)
	defer parts.Close()
	hasFile, hasComment, other := false, false, ""
	for n := 0; ; n++ {
		part, err := parts.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return form{}, formError(err)
		}
		if n == maxParts {
			return form{}, api.InvalidRequest("The form has more than %d parts.", maxParts)
		}
		switch {
		case part.Name == "file" && hasFile:
			return form{}, api.InvalidFile("The form has more than one part named \"file\". Send one file in each request.")
		case part.Name == "file":
			hasFile = true
			if body.Total-parts.Buffered() > maxBefore {
				return form{}, tooMuch()
			}
			if part.FileName == "" {
				return form{}, api.InvalidFile("The part named \"file\" has no file name.")
			}
			f.fileName = part.FileName
			f.digests = append(f.digests, part.Digests...)
			body.Allow(s.MaxFileSize + maxAfter)
			if err := spool.Receive(filePart{parts}, s.MaxFileSize); errors.Is(err, contents.ErrTooLarge) {
				return form{}, api.FileTooLarge(s.MaxFileSize)
			} else if err != nil {
				return form{}, err
			}
			body.Allow(maxAfter)
		case part.Name == "comment_id" && sc.Entity.Kind == store.Ticket:
			if hasComment {
				return form{}, api.InvalidRequest("The form has more than one field comment_id.")
			}
			hasComment = true
			raw, err := io.ReadAll(io.LimitReader(parts, maxField))
			if err != nil {
				return form{}, formError(err)
			}
			f.comment = string(raw)
		case part.FileName != "" && utf8.RuneCountInString(part.Name) <= longestPartName:
			other = part.Name
		}
	}
	switch {
	case !hasFile && other != "":
		return form{}, api.InvalidFile("The form has no part named \"file\": its file is in the part named %q. Name that \"file\".", other)
	case !hasFile:
		return form{}, api.InvalidFile("The form has no part named \"file\".")
	}
	// What follows the last boundary has no meaning, but the client sends it.
	if _, err := io.Copy(io.Discard, body); err != nil {
		return form{}, formError(err)
	}
	return f, nil
}

func tooMuch() error {
	return api.InvalidRequest("The form holds more than %s before its file, or more than %s after it.", api.FormatSize(maxBefore), api.FormatSize(maxAfter))
}

// filePart is a reader of the file's part whose errors are refusals.
type filePart struct{ io.Reader }

func (p filePart) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = formError(err)
	}
	return n, err
}

// formError returns the answer for a form that could not be read to its end.
func formError(err error) error {
	detail := ""
	switch {
	case errors.Is(err, formdata.ErrOtherBoundary):
		detail = "The body does not have the boundary that the header Content-Type names. Leave that header to the library that makes the form."
	case errors.Is(err, formdata.ErrEmpty):
		detail = "The body is empty: it should be a form with the file. A client that sends a form again must begin at its start."
	case errors.Is(err, formdata.ErrNotFormData):
		detail = "A part of the form has no header like Content-Disposition: form-data; name=\"file\"; filename=\"report.csv\"."
	case errors.Is(err, formdata.ErrCut):
		detail = "The body ends before it is complete."
	default:
		return api.BodyError(err)
	}
	return &api.Refusal{Status: http.StatusBadRequest, Code: "invalid_request", Detail: detail, Cause: err}
}

// classify decides whether what was spooled is accepted, and as which type.
func (s *Service) classify(rq *api.Request, sc api.Scope, from provenance, f form, spool *contents.Spool) (store.Attachment, error) {
	a := store.Attachment{
		Parent:     sc.Entity.Parent,
		Size:       spool.Size(),
		SHA256:     spool.Ref(),
		UploaderID: from.uploader.ID,
		Uploader:   from.uploader.FullName,
	}
	if f.comment != "" {
		id, ok := api.ParseID(f.comment)
		if !ok {
			return a, api.InvalidRequest("comment_id must be a UUID.")
		}
		if _, err := s.Store.Comment(rq.Context(), a.Parent.ID, id); err != nil {
			return a, err
		}
		a.CommentID = uuid.NullUUID{UUID: id, Valid: true}
	}
	if err := verifyDigests(f.digests, a.SHA256); err != nil {
		return a, err
	}
	var err error
	if a.FileName, err = content.CleanName(f.fileName); err != nil {
		return a, api.InvalidFile("%s", err)
	}
	a.Type, err = s.Policy.Decide(spool, a.Size, a.FileName)
	return a, err
}

// reprDigest formats a Repr-Digest header (RFC 9530).
func reprDigest(sum [32]byte) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// verifyDigests compares the file with every sha-256 that the client sent for it. Other
// algorithms are ignored (RFC 9530, section 2).
func verifyDigests(headers []string, sum [32]byte) error {
	for _, member := range strings.Split(strings.Join(headers, ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		if name != "sha-256" {
			continue
		}
		value, _, _ = strings.Cut(value, ";") // parameters have no meaning here
		encoded, begun := strings.CutPrefix(value, ":")
		encoded, ended := strings.CutSuffix(encoded, ":")
		claimed, err := base64.StdEncoding.DecodeString(encoded)
		if !begun || !ended || err != nil || len(claimed) != len(sum) {
			return api.InvalidRequest("Repr-Digest must look like sha-256=:<base64 of 32 bytes>:")
		}
		if !bytes.Equal(claimed, sum[:]) {
			return api.InvalidFile("The file did not arrive as it was sent: its SHA-256 is not the one in Repr-Digest.")
		}
	}
	return nil
}
