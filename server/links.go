package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/server/token"
)

const maxLinkTTL = token.MaxLinkTTL

// urlDocument says where to get a file without a key.
type urlDocument struct {
	DownloadURL string `json:"download_url"`
	FileName    string `json:"file_name"`
	ExpiresAt   string `json:"expires_at"`
}

func (s *Server) createLink(w *api.Response, rq *api.Request, sc api.Scope) error {
	var body struct {
		ExpiresIn   *int64  `json:"expires_in"`
		Disposition *string `json:"disposition"`
	}
	if err := rq.ReadOptionalJSON(&body); err != nil {
		return err
	}
	ttl := s.URLTTL
	if body.ExpiresIn != nil {
		if *body.ExpiresIn < 1 || *body.ExpiresIn > int64(maxLinkTTL/time.Second) {
			return api.InvalidRequest("expires_in must be a number of seconds from 1 to %d (7 days).", int64(maxLinkTTL/time.Second))
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

// link signs a URL to the attachment for the caller.
func (s *Server) link(rq *api.Request, sc api.Scope, ttl time.Duration, inline bool) (urlDocument, error) {
	if sc.Caller.Key == uuid.Nil {
		return urlDocument{}, api.Forbidden("A link needs the key that it is bound to.")
	}
	expires := s.Now().Add(ttl)
	signature := s.signing.signer.Load().Sign(token.Link{
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

// fileURL is where a signed link to an attachment leads.
func (s *Server) fileURL(rq *api.Request, attachment uuid.UUID, signed url.Values) string {
	base := s.ContentURL
	if base == "" {
		base = s.corridor.Origin(rq.Request)
	}
	return fmt.Sprintf("%s/files/%s?%s", base, attachment, signed.Encode())
}
