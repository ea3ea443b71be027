package s3test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// Server speaks as much of the protocol of an S3-compatible store as the backend uses, for
// one bucket in memory, named "bucket". It checks digests, and no signatures. What it does
// not expect it answers with 400, so that a test sees it.
type Server struct {
	Memory
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case bucket != "bucket":
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case r.Method == http.MethodGet && name == "":
		s.list(w, r)
	case r.Method == http.MethodPut && name != "":
		s.put(w, r, name)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && name != "":
		s.get(w, r, name)
	case r.Method == http.MethodDelete && name != "":
		_ = s.Delete(r.Context(), name)
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusBadRequest, "NotImplemented")
	}
}

// refuse answers an error as a store does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, name string) {
	sum, err := hex.DecodeString(r.Header.Get("X-Amz-Content-Sha256"))
	if err != nil || len(sum) != sha256.Size || base64.StdEncoding.EncodeToString(sum) != r.Header.Get("X-Amz-Checksum-Sha256") {
		refuse(w, http.StatusBadRequest, "InvalidDigest")
		return
	}
	err = s.Put(r.Context(), name, r.Body, r.ContentLength, blobs.Ref(sum))
	var answer *s3.StoreError
	if errors.As(err, &answer) {
		refuse(w, answer.Status, answer.Code)
	} else if err != nil {
		refuse(w, http.StatusBadRequest, "IncompleteBody")
	}
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, name string) {
	o, err := s.object(name)
	if err != nil {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	sum := blobs.RefOf(o.content)
	h := w.Header()
	h.Set("X-Amz-Checksum-Sha256", base64.StdEncoding.EncodeToString(sum[:]))
	h.Set("ETag", `"nonsense"`)
	h.Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", o.modified, strings.NewReader(string(o.content)))
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	type object struct {
		Key          string
		LastModified string
		Size         int64
	}
	var answer struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []object
	}
	query := r.URL.Query()
	page, next, _ := s.List(r.Context(), query.Get("prefix"), query.Get("continuation-token"))
	for _, o := range page {
		answer.Contents = append(answer.Contents, object{o.Name, o.Modified.UTC().Format(time.RFC3339), o.Size})
	}
	answer.IsTruncated, answer.NextContinuationToken = next != "", next
	raw, err := xml.Marshal(answer)
	if err != nil {
		refuse(w, http.StatusInternalServerError, "InternalError")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, xml.Header+string(raw))
}
