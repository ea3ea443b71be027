// Package files takes files, gives them out, and shows what is in them.
package files

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"attachd/server/access"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/server/limits"
	"attachd/server/memory"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/store"
)

// Store is what is needed of a store.
type Store interface {
	AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, n int) ([]store.Attachment, error)
	DeleteAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	Space(ctx context.Context, slug string) (store.Space, store.Usage, error)
	Comment(ctx context.Context, ticket, id uuid.UUID) (store.Comment, error)
}

// Scanner looks for malware.
type Scanner interface {
	// Scan gives the name of what it found, empty for a clean content. An
	// error means that nobody knows.
	Scan(ctx context.Context, content io.Reader) (signature string, err error)
}

// Options are what a Service is made of.
type Options struct {
	Corridor   *api.Corridor
	Guard      *access.Guard
	Store      Store
	Contents   *contents.Store
	Thumbnails *preview.Cache
	Policy     *content.Policy // which types are taken
	Scanner    Scanner         // nil where none is asked
	Slots      *limits.Slots   // of uploads
	IDs        *store.IDs
	Now        func() time.Time
	Memory     func() memory.Plan
	// Decode makes a thumbnail within a bound of memory, in bytes.
	Decode func(ctx context.Context, content io.ReaderAt, size int64, mimeType string, memory int64) ([]byte, error)
	// Signer has the keys that sign links now.
	Signer func() *token.Signer
	// OnUpload and OnDownload are told of each file that came or went, or of a
	// part of one, with its bytes.
	OnUpload, OnDownload func(bytes int64)

	MaxFileSize     int64 // bytes
	LogBelow        int64 // bytes; smaller contents may be staged
	URLTTL          time.Duration
	ContentURL      string
	DownloadByURL   bool
	AcceptUnscanned bool // what the scanner failed to look at is taken, not refused
}

// Service takes files, gives them out, and shows what is in them.
type Service struct {
	Options
	previewGate *limits.Turns[api.Holder] // of requests that read tables and archives
	decodes     *decodes
	metrics     *metrics
}

// New makes the service.
func New(o Options) *Service {
	decoders := func() int { return o.Memory().Decoders }
	return &Service{Options: o, previewGate: limits.NewTurns[api.Holder](decoders), decodes: newDecodes(decoders), metrics: newMetrics()}
}

// SetPreviewWait sets how long a request waits for others that look into files. It
// is to be called before the first request.
func (s *Service) SetPreviewWait(d time.Duration) {
	s.previewGate.SetWait(d)
	s.decodes.turns.SetWait(d)
}

// WaitingForDecodes is how many thumbnails are not being made yet.
func (s *Service) WaitingForDecodes() int { return s.decodes.turns.Waiting() }
