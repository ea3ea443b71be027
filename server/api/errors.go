package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"

	"attachd/blobs"
	"attachd/blobs/durable"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/server/token"
	"attachd/store"
)

// Refusal is an error answer: what the caller gets, and the cause, for the log alone.
type Refusal struct {
	Status     int
	Code       string
	Detail     string // a sentence for a person
	RetryAfter int    // seconds; 0 is none
	Line       int    // line number in an import; 0 is none
	Cause      error
}

func (e *Refusal) Error() string {
	if e.Cause != nil {
		return e.Cause.Error()
	}
	return e.Detail
}

func (e *Refusal) Unwrap() error { return e.Cause }

// InvalidRequest is 400 invalid_request.
func InvalidRequest(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: "invalid_request", Detail: fmt.Sprintf(format, args...)}
}

// InvalidFile is 400 invalid_file.
func InvalidFile(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusBadRequest, Code: "invalid_file", Detail: fmt.Sprintf(format, args...)}
}

// Unauthorized is 401 unauthorized.
func Unauthorized(detail string) *Refusal {
	return &Refusal{Status: http.StatusUnauthorized, Code: "unauthorized", Detail: detail}
}

// Forbidden is 403 forbidden.
func Forbidden(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Code: "forbidden", Detail: fmt.Sprintf(format, args...)}
}

// NotFound is 404 not_found.
func NotFound(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusNotFound, Code: "not_found", Detail: fmt.Sprintf(format, args...)}
}

// Conflict is 409 conflict.
func Conflict(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusConflict, Code: "conflict", Detail: fmt.Sprintf(format, args...)}
}

// FileTooLarge is 413 file_too_large.
func FileTooLarge(limit int64) *Refusal {
	return &Refusal{Status: http.StatusRequestEntityTooLarge, Code: "file_too_large",
		Detail: fmt.Sprintf("The file is larger than the limit of %s (%d bytes).", FormatSize(limit), limit)}
}

// ShuttingDown is 503 shutting_down.
func ShuttingDown() *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "shutting_down", RetryAfter: 5,
		Detail: "The server is shutting down. Try again in a moment."}
}

// Busy is 503 busy: the same request may work in a moment.
func Busy(detail string) *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "busy", RetryAfter: 1, Detail: detail}
}

// SlotLost is the answer to an upload whose slot went to another user.
func SlotLost() error {
	return Busy("All upload slots are taken, and another user, who has fewer, got the one of this upload. Try again in a moment.")
}

// NotReadable is the answer for a content that the storage cannot read at the moment;
// whether its bytes are right is unknown.
func NotReadable() *Refusal {
	return &Refusal{Status: http.StatusServiceUnavailable, Code: "storage_unreadable", RetryAfter: 30,
		Detail: "The server cannot read the stored file at the moment. Try again later; if it stays so, tell the server's operator."}
}

// DiskFull is 507 disk_full.
func DiskFull(cause error) *Refusal {
	return &Refusal{Status: http.StatusInsufficientStorage, Code: "disk_full", Cause: cause,
		Detail: "The server's disk is full. Uploads work again once its operator has made room."}
}

// held is 409 held.
func held(detail string) *Refusal {
	return &Refusal{Status: http.StatusConflict, Code: "held", Detail: detail}
}

func quotaExceeded(detail string) *Refusal {
	return &Refusal{Status: http.StatusInsufficientStorage, Code: "quota_exceeded", Detail: detail}
}

// ToRefusal converts an error into an answer; nothing else does.
func ToRefusal(err error) *Refusal {
	var (
		already *Refusal
		file    *content.Refusal
		known   *store.Error
	)
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &file):
		return InvalidFile("%s", file.Error())
	case errors.Is(err, contents.ErrPaused):
		return Busy("The server's files are being moved to another storage, and nothing can be uploaded or deleted for some seconds. Try again in a moment.")
	case errors.Is(err, store.ErrFrozen):
		return Busy("The server's records are being moved to another database, and nothing can be changed for some seconds. Try again in a moment.")
	case errors.Is(err, contents.ErrMoved):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 60,
			Detail: "The server's files were moved to another storage, and nothing can be uploaded or deleted until its operator restarts it with its new configuration. Try again later."}
	case errors.Is(err, contents.ErrPerhapsMoved):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 60,
			Detail: "The server's files could not be moved to another storage, and nothing can be uploaded or deleted until its operator restarts it. Try again later."}
	case errors.Is(err, contents.ErrUnreadable):
		return NotReadable()
	case errors.Is(err, token.ErrSignature):
		return &Refusal{Status: http.StatusForbidden, Code: "invalid_signature", Detail: "This link is not valid. Ask for a new one."}
	case errors.Is(err, token.ErrExpired):
		return &Refusal{Status: http.StatusForbidden, Code: "link_expired", Detail: "This link has expired. Ask for a new one."}
	case errors.As(err, &known):
		switch known.Kind {
		case store.ErrNotFound:
			return NotFound("%s", known.Detail)
		case store.ErrConflict:
			return Conflict("%s", known.Detail)
		case store.ErrHeld:
			return held(known.Detail)
		case store.ErrQuota:
			return quotaExceeded(known.Detail)
		}
	case errors.Is(err, store.ErrNotFound):
		return NotFound("Not found.")
	case errors.Is(err, store.ErrAway):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "database_unavailable", RetryAfter: 5, Cause: err,
			Detail: "The server's database cannot be reached, or takes no changes at the moment. Try again in a moment; look first whether a change was made. If it stays so, tell the server's operator."}
	case errors.Is(err, store.ErrReplaced), errors.Is(err, blobs.ErrReplaced):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 60, Cause: err,
			Detail: "The server cannot reach its files at the moment. Look whether a change was made before you try it again."}
	case errors.Is(err, store.ErrUnavailable), durable.IsReadOnly(err):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 60, Cause: err,
			Detail: "The server cannot store changes at the moment. Look whether this one was made before you try again."}
	case errors.Is(err, blobs.ErrFull), errors.Is(err, store.ErrFull):
		return DiskFull(err)
	case errors.Is(err, store.ErrNoContent):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "unavailable", RetryAfter: 1, Cause: err,
			Detail: "The file was lost before it was recorded, since the server's database has restarted. Nothing was stored. Upload it again."}
	case errors.Is(err, blobs.ErrUnavailable):
		return &Refusal{Status: http.StatusServiceUnavailable, Code: "storage_unavailable", RetryAfter: 5, Cause: err,
			Detail: "The object store in which the server keeps files does not take this one at the moment. Try again in a moment; if it stays so, tell the server's operator."}
	case errors.Is(err, blobs.ErrDamaged), errors.Is(err, blobs.ErrNotFound):
		return &Refusal{Status: http.StatusInternalServerError, Code: "damaged", Cause: err,
			Detail: "The stored file is damaged. Uploading the same file again repairs it; the server's operator can restore it from a backup."}
	case errors.Is(err, store.ErrDamaged):
		return &Refusal{Status: http.StatusInternalServerError, Code: "damaged", Cause: err,
			Detail: "The server's records of this are damaged or cannot be read. Its operator finds the details in the log under the request id, and can restore them from a snapshot or a backup."}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Refusal{Status: http.StatusRequestTimeout, Code: "request_timeout", Cause: err,
			Detail: "The request body came too slowly. Try again on a better connection."}
	case errors.Is(err, context.Canceled):
		return &Refusal{Status: statusClientGone, Code: "client_gone", Detail: "The client went away.", Cause: err}
	}
	return &Refusal{Status: http.StatusInternalServerError, Code: "internal", Cause: err,
		Detail: "The server failed to do this. Its log has the details under the request id."}
}

// statusClientGone is the status in the log when the client is gone before the answer
// (nginx's number for it).
const statusClientGone = 499

// RefusalBody is a refusal as the API answers it.
type RefusalBody struct {
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	Line      int    `json:"line,omitempty"`
}

// ToAnswer converts err into a refusal, and logs the cause where the server's operator
// has to act.
func (rq *Request) ToAnswer(err error) (*Refusal, RefusalBody) {
	e := ToRefusal(err)
	if e.Status == http.StatusInternalServerError {
		if replaced := rq.corridor.InPlace(); replaced != nil {
			err = errors.Join(replaced, err) // replaced is the reason for err
			e = ToRefusal(err)
		}
	}
	level := slog.LevelDebug
	if e.Status == http.StatusInternalServerError || e.Status > 500 && e.Cause != nil {
		level = slog.LevelError
	}
	rq.Log().Log(rq.Context(), level, "refused", "status", e.Status, "code", e.Code, "error", err)
	var panicked interface{ Stack() []byte }
	if errors.As(err, &panicked) {
		rq.Log().Debug("it panicked", "stack", string(panicked.Stack()))
	}
	return e, RefusalBody{e.Detail, e.Code, rq.id, e.Line}
}

// Refuse writes err as the answer.
func (rq *Request) Refuse(w *Response, err error) {
	e, body := rq.ToAnswer(err)
	if w.Status != 0 {
		// The answer has begun, so only cutting it off shows that it failed.
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for _, name := range []string{"Content-Disposition", "Accept-Ranges", "ETag", "Last-Modified", "Location", "Repr-Digest", "Content-Length", "Content-Encoding"} {
		h.Del(name)
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	if e.Status == http.StatusRequestTimeout {
		h.Set("Connection", "close")
	}
	w.Code = e.Code
	rq.Answer(w, e.Status, body)
}

// Answer writes a JSON body.
func (rq *Request) Answer(w http.ResponseWriter, status int, body any) error {
	raw, err := Encode(body)
	if err != nil {
		return err
	}
	return rq.Send(w, status, raw)
}

// Send writes a body that is JSON already. All of it stays in memory until the client
// has read it.
func (rq *Request) Send(w http.ResponseWriter, status int, raw []byte) error {
	if n := int64(len(raw)); n > inRequest && n+requestHolds != rq.held {
		if err := rq.Hold(n); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	if _, err := w.Write(raw); err != nil {
		rq.Log().Debug("the answer did not reach the client", "error", err)
	}
	return nil
}

// Encode encodes JSON without escaping the & of URLs, so that it is readable.
func Encode(body any) ([]byte, error) {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return raw.Bytes(), nil
}

// FormatSize formats a number of bytes as the configuration does.
func FormatSize(n int64) string {
	for _, unit := range []struct {
		bytes int64
		name  string
	}{{1 << 40, "TB"}, {1 << 30, "GB"}, {1 << 20, "MB"}, {1 << 10, "KB"}} {
		if n >= unit.bytes && n%unit.bytes == 0 {
			return fmt.Sprintf("%d %s", n/unit.bytes, unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
