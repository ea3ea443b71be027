package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/preview"
	"attachd/store"
)

// maxPicture is the size in bytes of the largest file that gets a thumbnail: all of it
// is read.
const maxPicture = 64 << 20

func noThumbnail(cause error) error {
	return &api.Refusal{Status: http.StatusNotFound, Code: "no_thumbnail", Detail: "There is no thumbnail of this file.", Cause: cause}
}

// Thumbnail answers with a small picture of the attachment.
func (s *Service) Thumbnail(w *api.Response, rq *api.Request, sc api.Scope) error {
	picture, err := s.thumbnailOf(rq, sc.Attachment)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(picture)
	h := w.Header()
	h.Set("Content-Type", http.DetectContentType(picture)) // the server made it, so it is one of two types
	h.Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	tidyRange(rq.Header, int64(len(picture)))
	out := &sending{Response: w, rq: rq}
	joinConditions(rq.Header)
	http.ServeContent(out, rq.Request, "", sc.Attachment.CreatedAt(), bytes.NewReader(picture))
	out.begin()
	return nil
}

// thumbnailOf returns the cached thumbnail, or makes one.
func (s *Service) thumbnailOf(rq *api.Request, a store.Attachment) ([]byte, error) {
	if !preview.HasThumbnail(a.Type) || a.Size > maxPicture {
		return nil, noThumbnail(nil)
	}
	if made := s.madeThumbnail(rq, a); made != nil {
		return made, nil
	}
	others := *rq // making it goes on for other requests when this one ends
	picture, err := s.decodes.do(rq.Context(), blobs.Ref(a.SHA256), rq.Holder(), s.Now(), func(ctx context.Context) ([]byte, error) {
		others.Request = others.WithContext(ctx)
		return s.newThumbnail(&others, a)
	})
	if errors.Is(err, preview.ErrNone) {
		return nil, noThumbnail(err)
	}
	if errors.Is(err, preview.ErrNotRun) {
		return nil, &api.Refusal{Status: http.StatusServiceUnavailable, Code: "busy", RetryAfter: 5, Cause: err,
			Detail: "The server has no room for making a thumbnail at the moment. Try again later."}
	}
	return picture, noTurn(err)
}

// newThumbnail makes a thumbnail and keeps it, unless another request was faster.
func (s *Service) newThumbnail(rq *api.Request, a store.Attachment) ([]byte, error) {
	if made := s.madeThumbnail(rq, a); made != nil {
		return made, nil
	}
	picture, err := s.makeThumbnail(rq, a)
	if err != nil {
		return nil, err
	}
	if err := s.Contents.KeepThumbnail(rq.Context(), blobs.Ref(a.SHA256), picture); err != nil {
		rq.Log().Warn("a thumbnail could not be kept, and will be made anew", "error", err)
	}
	return picture, nil
}

// madeThumbnail returns the cached thumbnail; nil when there is none.
func (s *Service) madeThumbnail(rq *api.Request, a store.Attachment) []byte {
	made, err := s.Thumbnails.Get(blobs.Ref(a.SHA256))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		rq.Log().Warn("a thumbnail could not be read, and is made anew", "error", err)
	}
	return made
}

// makeThumbnail makes a thumbnail from a content that it always verifies: the thumbnail
// may be kept longer than the content stays damaged.
func (s *Service) makeThumbnail(rq *api.Request, a store.Attachment) (picture []byte, err error) {
	err = s.Contents.Inspect(rq.Context(), rq.Log, a, true, func(file io.ReaderAt) (err error) {
		picture, err = s.Decode(rq.Context(), file, a.Size, a.Type, s.Memory().Decoder)
		return err
	})
	s.metrics.decodes.WithLabelValues(decoded(err)).Inc()
	return picture, err
}
