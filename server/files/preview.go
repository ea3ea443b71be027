package files

import (
	"errors"
	"io"
	"net/http"
	"time"

	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/content/container"
	"attachd/server/limits"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/store"
)

// tableBody is the beginning of a table.
type tableBody struct {
	Kind      string     `json:"kind"`
	Columns   []string   `json:"columns"`
	Rows      [][]string `json:"rows"`
	RowsTotal *int       `json:"rows_total"` // null: the file was not read to its end
	Truncated bool       `json:"truncated"`
}

// textBody is the beginning of a text.
type textBody struct {
	Kind      string `json:"kind"`
	Text      string `json:"text"`
	Truncated bool   `json:"truncated"`
}

// archiveBody is the list of an archive's entries.
type archiveBody struct {
	Kind         string      `json:"kind"`
	Entries      []entryInIt `json:"entries"`
	EntriesTotal int64       `json:"entries_total"`
	Truncated    bool        `json:"truncated"`
}

type entryInIt struct {
	Name           string  `json:"name"`
	Size           int64   `json:"size"`
	CompressedSize int64   `json:"compressed_size"`
	Modified       *string `json:"modified"`
	Directory      bool    `json:"directory"`
}

// maxListedEntries is how many entries of an archive are listed.
const maxListedEntries = 1000

// previewHolds is how many bytes of memory a preview is counted for: what is read of a
// table, a text or an archive. The result is counted once it is made, and the number of
// previews made at once is limited.
const previewHolds = 1 << 20

// Preview answers with the beginning of a table or a text, or with the names in
// an archive.
func (s *Service) Preview(w *api.Response, rq *api.Request, sc api.Scope) error {
	raw, err := s.lookInto(rq, sc.Attachment)
	if err != nil {
		return err
	}
	return rq.Send(w, http.StatusOK, raw)
}

// lookInto makes the whole preview before the answer begins, so that a client that
// reads slowly delays no others.
func (s *Service) lookInto(rq *api.Request, a store.Attachment) (raw []byte, err error) {
	read := previewOf(a)
	if read == nil {
		return nil, noPreview(nil)
	}
	if err := rq.Hold(previewHolds); err != nil {
		return nil, err
	}
	leave, err := s.previewGate.Take(rq.Context(), rq.Holds)
	if err != nil {
		return nil, noTurn(err)
	}
	defer leave()
	var body any
	err = s.Contents.Inspect(rq.Context(), rq.Log, a, false, func(file io.ReaderAt) error {
		body, err = read(rq, file)
		return err
	})
	if err == nil {
		raw, err = api.Encode(body)
	}
	if err == nil {
		err = rq.HoldAtOnce(int64(len(raw)))
	}
	return raw, err
}

// previewOf returns the function that makes the preview of an attachment's file, or nil
// where its type has no preview.
func previewOf(a store.Attachment) func(rq *api.Request, file io.ReaderAt) (any, error) {
	switch {
	case preview.HasTable(a.Type):
		return func(rq *api.Request, file io.ReaderAt) (any, error) {
			table, err := preview.ReadTable(file, a.Size, a.Type)
			return renderTable(table), err
		}
	case a.Type == "application/zip":
		return func(rq *api.Request, file io.ReaderAt) (any, error) {
			listing, err := container.ListZIP(rq.Context(), file, a.Size, maxListedEntries)
			if errors.Is(err, container.ErrBroken) {
				err = noPreview(err)
			}
			return renderListing(listing), err
		}
	case content.IsText(a.Type):
		return func(rq *api.Request, file io.ReaderAt) (any, error) {
			text, err := preview.ReadText(file, a.Size)
			return textBody{"text", text.Text, text.Truncated}, err
		}
	}
	return nil
}

// noTurn is the answer when a preview did not get its turn.
func noTurn(err error) error {
	if errors.Is(err, limits.ErrNoTurn) {
		return api.Busy("Too many previews are being made. Try again in a moment.")
	}
	return err
}

func noPreview(cause error) error {
	return &api.Refusal{Status: http.StatusNotFound, Code: "no_preview", Detail: "There is no preview of this file.", Cause: cause}
}

func renderTable(t preview.Table) tableBody {
	body := tableBody{Kind: "table", Columns: t.Columns, Rows: t.Rows, Truncated: t.Truncated}
	if t.Total >= 0 {
		body.RowsTotal = &t.Total
	}
	return body
}

func renderListing(l container.Listing) archiveBody {
	body := archiveBody{Kind: "archive", Entries: []entryInIt{}, EntriesTotal: l.Total, Truncated: l.Total > int64(len(l.Entries))}
	for _, e := range l.Entries {
		body.Entries = append(body.Entries, entryInIt{e.Name, e.Size, e.Compressed, api.OptionalTime(e.Modified), e.Directory})
	}
	return body
}

// limitsBody is the limits of this server, and how long its links and its trash last.
type limitsBody struct {
	MaxFileSize       int64         `json:"max_file_size"` // bytes
	Allowed           []allowedBody `json:"allowed"`
	URLTTLSeconds     int64         `json:"url_ttl_seconds"`
	MaxLinkTTLSeconds int64         `json:"max_link_ttl_seconds"`
	TrashKeepSeconds  int64         `json:"trash_keep_seconds"`
}

type allowedBody struct {
	MimeType   string   `json:"mime_type"`
	Extensions []string `json:"extensions"`
}

// Limits answers GET /limits.
func (s *Service) Limits(w *api.Response, rq *api.Request, sc api.Scope) error {
	body := limitsBody{MaxFileSize: s.MaxFileSize, URLTTLSeconds: int64(s.URLTTL / time.Second), MaxLinkTTLSeconds: int64(token.MaxLinkTTL / time.Second), TrashKeepSeconds: int64(s.TrashKeep / time.Second)}
	for _, allowed := range s.Policy.Allowed() {
		body.Allowed = append(body.Allowed, allowedBody{allowed.MIMEType, allowed.Extensions})
	}
	return rq.Answer(w, http.StatusOK, body)
}
