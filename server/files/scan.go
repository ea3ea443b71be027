package files

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/scan"
	"attachd/store"
)

// What happens to files that could not be scanned, as labels of a metric.
const (
	unscannedAccepted = "accepted"
	unscannedRefused  = "refused"
)

// The results of scans, as labels of a metric.
const (
	scanClean = "clean"
	scanFound = "found"
	scanError = "error"
)

// scan has the scanner examine what was spooled, even if the same content is stored
// already: signatures may be newer than the stored file.
func (s *Service) scan(rq *api.Request, sc api.Scope, a store.Attachment, spool io.ReaderAt) error {
	if s.Scanner == nil {
		return nil
	}
	began := time.Now()
	signature, err := s.Scanner.Scan(rq.Context(), io.NewSectionReader(spool, 0, a.Size))
	if rq.Context().Err() != nil {
		return context.Canceled
	}
	s.metrics.scanTime.Observe(time.Since(began).Seconds())
	switch {
	case err != nil:
		s.metrics.scans.WithLabelValues(scanError).Inc()
		return s.notScanned(rq, a, err)
	case signature != "":
		s.metrics.scans.WithLabelValues(scanFound).Inc()
		return s.malwareFound(rq, sc, a, signature)
	}
	s.metrics.scans.WithLabelValues(scanClean).Inc()
	return nil
}

// malwareFound refuses a file in which the scanner found malware. The signature's name
// is only logged: it would help to circumvent the scanner.
func (s *Service) malwareFound(rq *api.Request, sc api.Scope, a store.Attachment, signature string) error {
	rq.Log().Warn("malware found", "signature", signature, "file_name", a.FileName, "file_size", a.Size,
		"sha256", blobs.Ref(a.SHA256).String(), "user", sc.Caller.User.ID.String(), "parent", a.Parent.Kind.String()+" "+a.Parent.ID.String())
	rq.Entry.Name = a.FileName + ": " + signature
	return &api.Refusal{Status: http.StatusBadRequest, Code: "malware_found",
		Detail: "The virus scanner found malware in this file. It was not stored."}
}

// notScanned decides about a file whose scan failed.
func (s *Service) notScanned(rq *api.Request, a store.Attachment, why error) error {
	if s.AcceptUnscanned {
		rq.Entry.Name = a.FileName + ": not scanned for malware"
		s.metrics.unscanned.WithLabelValues(unscannedAccepted).Inc()
		rq.Log().Warn("taken without a scan for malware", "file_name", a.FileName, "sha256", blobs.Ref(a.SHA256).String(), "error", why)
		return nil
	}
	s.metrics.unscanned.WithLabelValues(unscannedRefused).Inc()
	detail := "The virus scanner cannot be asked at the moment. Try again later."
	if errors.Is(why, scan.ErrLimit) {
		detail = "The virus scanner cannot look at all of this file, since it is too large or holds too much. The server's operator can raise the scanner's limits."
	}
	return &api.Refusal{Status: http.StatusServiceUnavailable, Code: "scan_unavailable", RetryAfter: 60, Cause: why, Detail: detail}
}
