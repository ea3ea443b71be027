// Package files has the handlers for uploads, downloads, previews and thumbnails of
// files.
package files

import (
	"context"
	"io"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
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

// Store is the methods of a store that a Service uses.
type Store interface {
	Attachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	AttachmentsOf(ctx context.Context, p store.Parent, after uuid.UUID, n int) ([]store.Attachment, error)
	DeleteAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	TrashAttachment(ctx context.Context, id uuid.UUID, d store.Deletion) (store.Attachment, error)
	RestoreAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	PurgeAttachment(ctx context.Context, id uuid.UUID) (store.Attachment, error)
	TrashOf(ctx context.Context, p store.Parent, after uuid.UUID, limit int) ([]store.Trashed, error)
	Checksums(ctx context.Context, sha256 [32]byte) ([]byte, error)
	Comment(ctx context.Context, ticket, id uuid.UUID) (store.Comment, error)
	User(ctx context.Context, id uuid.UUID) (store.User, error)
}

// Scanner is a malware scanner.
type Scanner interface {
	// Scan returns the name of the signature that it found, empty for a clean content.
	// An error means that the result is unknown.
	Scan(ctx context.Context, content io.Reader) (signature string, err error)
}

// Options configure a Service.
type Options struct {
	Corridor   *api.Corridor
	Guard      *access.Guard
	Store      Store
	Contents   *contents.Store
	Thumbnails *preview.Cache
	Policy     *content.Policy // which file types are accepted
	Scanner    Scanner         // nil where there is none
	Slots      *limits.Slots   // of uploads
	IDs        *store.IDs
	Now        func() time.Time
	Memory     func() memory.Plan
	// Decode makes a thumbnail, using at most memory bytes.
	Decode func(ctx context.Context, content io.ReaderAt, size int64, mimeType string, memory int64) ([]byte, error)
	// Signer returns the current signer of links.
	Signer func() *token.Signer
	// OnUpload and OnDownload are called with the bytes of each file, or part of one,
	// that was uploaded or downloaded.
	OnUpload, OnDownload func(bytes int64)

	TrashKeep time.Duration // how long what was deleted can be restored; 0 removes it at once
	// TrashedUntil returns when what is deleted now is to be removed for good.
	TrashedUntil func(context.Context) time.Time
	MaxFileSize  int64         // bytes
	LogBelow     int64         // bytes; smaller contents may be staged
	URLTTL       time.Duration // of links, unless their maker says otherwise
	ContentURL   string
	// Linker makes URLs at which the storage itself sends files; nil where this server
	// sends all of them. StorageURLTTL is how long such a URL in a URL document is valid.
	Linker          blobs.Linker
	StorageURLTTL   time.Duration
	DownloadByURL   bool
	AcceptUnscanned bool // files that the scanner failed to scan are accepted, not refused
}

// Service handles uploads, downloads, previews and thumbnails of files.
type Service struct {
	Options
	previewGate *limits.Turns[api.Holder] // limits how many requests read tables and archives at once
	decodes     *decodes
	metrics     *metrics
	crcs, broke crcs // of contents in archives: what is known of them, and which broke one off
}

// New makes the service.
func New(o Options) *Service {
	decoders := func() int { return o.Memory().Decoders }
	return &Service{Options: o, previewGate: limits.NewTurns[api.Holder](decoders), decodes: newDecodes(decoders), metrics: newMetrics()}
}

// SetPreviewWait sets how long a preview waits for its turn. It is to be called before
// the first request.
func (s *Service) SetPreviewWait(d time.Duration) {
	s.previewGate.SetWait(d)
	s.decodes.turns.SetWait(d)
}

// WaitingForDecodes is how many thumbnails are queued.
func (s *Service) WaitingForDecodes() int { return s.decodes.turns.Waiting() }
