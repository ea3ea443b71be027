package files

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/token"
	"attachd/store"
)

// urlDocument is a URL from which a file can be downloaded without a key.
type urlDocument struct {
	DownloadURL string `json:"download_url"`
	FileName    string `json:"file_name"`
	ExpiresAt   string `json:"expires_at"`
}

// CreateLink answers POST /catalog/attachments/:attachment/links and its like.
func (s *Service) CreateLink(w *api.Response, rq *api.Request, sc api.Scope) error {
	var body struct {
		ExpiresIn   *int64  `json:"expires_in"`
		Disposition *string `json:"disposition"`
	}
	if err := rq.ReadOptionalJSON(&body); err != nil {
		return err
	}
	ttl := s.URLTTL
	if body.ExpiresIn != nil {
		if *body.ExpiresIn < 1 || *body.ExpiresIn > int64(token.MaxLinkTTL/time.Second) {
			return api.InvalidRequest("expires_in must be a number of seconds from 1 to %d (7 days).", int64(token.MaxLinkTTL/time.Second))
		}
		ttl = time.Duration(*body.ExpiresIn) * time.Second
	}
	inline := false
	if body.Disposition != nil {
		switch *body.Disposition {
		case "inline":
			inline = true
		case "attachment":
		default:
			return api.InvalidRequest("disposition must be \"inline\" or \"attachment\".")
		}
	}
	document, err := s.link(rq, sc, ttl, inline)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusCreated, document)
}

// document makes the URL document of a download: with a URL at which the storage sends
// the file, if it has one, else with a link of this server.
func (s *Service) document(rq *api.Request, sc api.Scope) (urlDocument, error) {
	if s.Linker == nil {
		return s.link(rq, sc, s.URLTTL, false)
	}
	address, expires := s.storageURL(rq, sc.Attachment, s.StorageURLTTL)
	if address == "" {
		return s.link(rq, sc, s.StorageURLTTL, false)
	}
	return urlDocument{DownloadURL: address, FileName: sc.Attachment.FileName, ExpiresAt: api.Timestamp(expires)}, nil
}

// storageURL returns a URL at which the storage sends the file of an attachment to anybody
// for a while, or "" where this server has to: a content that is staged has no object
// yet, of one that is damaged the server says so, and without credentials nothing can be
// signed.
func (s *Service) storageURL(rq *api.Request, a store.Attachment, ttl time.Duration) (address string, expires time.Time) {
	address, expires, err := s.Linker.Link(rq.Context(), a.SHA256, a.Size, blobs.LinkOptions{
		TTL: ttl, Type: a.Type, Disposition: content.Disposition("attachment", a.FileName),
	})
	if err != nil {
		if !errors.Is(err, blobs.ErrNotFound) && !errors.Is(err, blobs.ErrDamaged) {
			rq.Log().Warn("no URL of the object store could be signed: this server sends the file itself", "error", err)
		}
		return "", time.Time{}
	}
	if rq.Method == http.MethodGet {
		s.metrics.signed.Inc()
		s.OnDownload(0) // its bytes do not pass this server
	}
	return address, expires
}

// storageRedirectTTL is how long the storage's URL in a redirect is valid: it is followed
// at once, and outlives a revocation by this.
const storageRedirectTTL = time.Minute

// storageRedirect returns the storage's URL to which a request with a link is redirected,
// or "" where this server is to answer: what is shown inline needs its headers, a signed
// URL is for GET alone, and a condition speaks of its ETag and Last-Modified.
func (s *Service) storageRedirect(rq *api.Request, a store.Attachment, inline bool) string {
	if s.Linker == nil || inline || rq.Method != http.MethodGet {
		return ""
	}
	for _, condition := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		if rq.Header.Get(condition) != "" {
			return ""
		}
	}
	address, _ := s.storageURL(rq, a, storageRedirectTTL)
	return address
}

// link signs a URL of the attachment for the caller.
func (s *Service) link(rq *api.Request, sc api.Scope, ttl time.Duration, inline bool) (urlDocument, error) {
	if sc.Caller.Key == uuid.Nil {
		return urlDocument{}, api.Forbidden("A link needs the key that it is bound to.")
	}
	expires := s.Now().Add(ttl)
	signature := s.Signer().Sign(token.Link{
		Attachment: sc.Attachment.ID,
		Key:        sc.Caller.Key,
		User:       sc.Caller.User.ID,
		Inline:     inline,
		Expires:    expires,
	})
	query := url.Values{"expires": {strconv.FormatInt(expires.Unix(), 10)}, "signature": {signature}}
	return urlDocument{
		DownloadURL: s.fileURL(rq, sc.Attachment.ID, query),
		FileName:    sc.Attachment.FileName,
		ExpiresAt:   api.Timestamp(expires),
	}, nil
}

// fileURL is the URL of a signed link to an attachment.
func (s *Service) fileURL(rq *api.Request, attachment uuid.UUID, signed url.Values) string {
	base := s.ContentURL
	if base == "" {
		base = s.Corridor.Origin(rq.Request)
	}
	return fmt.Sprintf("%s/files/%s?%s", base, attachment, signed.Encode())
}

// redirectTTL is how long the link in a redirect is valid: it is followed at once.
const redirectTTL = 5 * time.Minute

// elsewhere reports whether this request's file must be fetched from the host for
// files. Requests over the operator's socket have no host, so never.
func (s *Service) elsewhere(rq *api.Request) bool {
	return s.ContentURL != "" && !api.IsOperator(rq.Context()) && !s.Corridor.ForContentHost(rq.Request)
}

// isProgram reports whether a request for bytes that are in an object store has brought a key.
// Browsers send none by themselves, so no file comes to act as a part of the page; and a
// program asks attachd for the bytes, rather than for a URL of the store, because it does not
// want to be sent elsewhere.
func (s *Service) isProgram(rq *api.Request) bool {
	return s.Linker != nil && rq.Header.Get("Authorization") != ""
}

// redirect redirects the caller to the host for files, with a signed link.
func (s *Service) redirect(w *api.Response, rq *api.Request, sc api.Scope) error {
	document, err := s.link(rq, sc, min(s.URLTTL, redirectTTL), false)
	if err != nil {
		return err
	}
	return redirectTo(w, rq, http.StatusTemporaryRedirect, document.DownloadURL, document)
}

// redirectLinked redirects the holder of a link to the host for files, where the same
// link works.
func (s *Service) redirectLinked(w *api.Response, rq *api.Request, sc api.Scope) error {
	given := rq.URL.Query()
	query := url.Values{"expires": {given.Get("expires")}, "signature": {given.Get("signature")}}
	address := s.fileURL(rq, sc.Attachment.ID, query)
	return redirectTo(w, rq, http.StatusTemporaryRedirect, address, api.Message("The file is at the address in the Location header."))
}

// redirectTo redirects to an address that is a secret as long as it works.
func redirectTo(w *api.Response, rq *api.Request, status int, address string, body any) error {
	w.Header().Set("Location", address)
	w.Header().Set("Cache-Control", "no-store")
	return rq.Answer(w, status, body)
}
