package server

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

// refusal is an answer that is not a success: what the caller is told, and,
// for the log alone, what was behind it.
type refusal struct {
	status     int
	code       string
	detail     string // a sentence for a person
	retryAfter int    // seconds; 0 is none
	line       int    // of an import; 0 is none
	cause      error
}

func (e *refusal) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.detail
}

func (e *refusal) Unwrap() error { return e.cause }

func invalidRequest(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", detail: fmt.Sprintf(format, args...)}
}

func invalidFile(format string, args ...any) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_file", detail: fmt.Sprintf(format, args...)}
}

func unauthorized(detail string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "unauthorized", detail: detail}
}

func forbidden(format string, args ...any) *refusal {
	return &refusal{status: http.StatusForbidden, code: "forbidden", detail: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) *refusal {
	return &refusal{status: http.StatusNotFound, code: "not_found", detail: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) *refusal {
	return &refusal{status: http.StatusConflict, code: "conflict", detail: fmt.Sprintf(format, args...)}
}

func fileTooLarge(limit int64) *refusal {
	return &refusal{status: http.StatusRequestEntityTooLarge, code: "file_too_large",
		detail: fmt.Sprintf("The file is larger than the limit of %s (%d bytes).", size(limit), limit)}
}

func shuttingDown() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "shutting_down", retryAfter: 5,
		detail: "The server is shutting down. Try again in a moment."}
}

// notReadable is for contents that the storage does not give at the moment:
// nothing is known of their bytes.
func notReadable() *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "storage_unreadable", retryAfter: 30,
		detail: "The server cannot read the stored file at the moment. Try again later; if it stays so, tell the server's operator."}
}

func diskFull(cause error) *refusal {
	return &refusal{status: http.StatusInsufficientStorage, code: "disk_full", cause: cause,
		detail: "The server's disk is full. Uploads work again once its operator has made room."}
}

func quotaExceeded(detail string) *refusal {
	return &refusal{status: http.StatusInsufficientStorage, code: "quota_exceeded", detail: detail}
}

// toRefusal is the one place where an error becomes an answer.
func toRefusal(err error) *refusal {
	var (
		already *refusal
		file    *content.Refusal
		known   *store.Error
	)
	switch {
	case errors.As(err, &already):
		return already
	case errors.As(err, &file):
		return invalidFile("%s", file.Error())
	case errors.Is(err, contents.ErrUnreadable):
		return notReadable()
	case errors.Is(err, token.ErrSignature):
		return &refusal{status: http.StatusForbidden, code: "invalid_signature", detail: "This link is not valid. Ask for a new one."}
	case errors.Is(err, token.ErrExpired):
		return &refusal{status: http.StatusForbidden, code: "link_expired", detail: "This link has expired. Ask for a new one."}
	case errors.As(err, &known):
		switch known.Kind {
		case store.ErrNotFound:
			return notFound("%s", known.Detail)
		case store.ErrConflict:
			return conflict("%s", known.Detail)
		case store.ErrQuota:
			return quotaExceeded(known.Detail)
		}
	case errors.Is(err, store.ErrNotFound):
		return notFound("Not found.")
	case errors.Is(err, store.ErrReplaced), errors.Is(err, blobs.ErrReplaced):
		return &refusal{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: 60, cause: err,
			detail: "The server cannot reach its files at the moment. Look whether a change was made before you try it again."}
	case errors.Is(err, store.ErrUnavailable), durable.IsReadOnly(err):
		return &refusal{status: http.StatusServiceUnavailable, code: "unavailable", retryAfter: 60, cause: err,
			detail: "The server cannot store changes at the moment. Look whether this one was made before you try again."}
	case errors.Is(err, blobs.ErrFull), errors.Is(err, store.ErrFull):
		return diskFull(err)
	case errors.Is(err, blobs.ErrDamaged), errors.Is(err, blobs.ErrNotFound):
		return &refusal{status: http.StatusInternalServerError, code: "damaged", cause: err,
			detail: "The stored file is damaged. Uploading the same file again repairs it; the server's operator can restore it from a backup."}
	case errors.Is(err, store.ErrDamaged):
		return &refusal{status: http.StatusInternalServerError, code: "damaged", cause: err,
			detail: "The server's records of this are damaged or cannot be read. Its operator finds the details in the log under the request id, and can restore them from a snapshot or a backup."}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &refusal{status: http.StatusRequestTimeout, code: "request_timeout", cause: err,
			detail: "The request body came too slowly. Try again on a better connection."}
	case errors.Is(err, context.Canceled):
		return &refusal{status: statusClientGone, code: "client_gone", detail: "The client went away.", cause: err}
	}
	return &refusal{status: http.StatusInternalServerError, code: "internal", cause: err,
		detail: "The server failed to do this. Its log has the details under the request id."}
}

// statusClientGone is what the log says when nobody is left to hear the
// answer (nginx's number for it).
const statusClientGone = 499

// refusalBody is a refusal as the API answers it.
type refusalBody struct {
	Detail    string `json:"detail"`
	Code      string `json:"code"`
	RequestID string `json:"request_id"`
	Line      int    `json:"line,omitempty"`
}

// toAnswer makes a refusal of err, and logs the whole story where it is the
// server's to mend.
func (rq *request) toAnswer(err error) (*refusal, refusalBody) {
	e := toRefusal(err)
	if e.status == http.StatusInternalServerError {
		if replaced := rq.corridor.InPlace(); replaced != nil {
			err = errors.Join(replaced, err) // the one is why
			e = toRefusal(err)
		}
	}
	level := slog.LevelDebug
	if e.status == http.StatusInternalServerError || e.status > 500 && e.cause != nil {
		level = slog.LevelError
	}
	rq.log().Log(rq.Context(), level, "refused", "status", e.status, "code", e.code, "error", err)
	var panicked interface{ Stack() []byte }
	if errors.As(err, &panicked) {
		rq.log().Debug("it panicked", "stack", string(panicked.Stack()))
	}
	return e, refusalBody{e.detail, e.code, rq.id, e.line}
}

// refuse writes err as the answer.
func (rq *request) refuse(w *response, err error) {
	e, body := rq.toAnswer(err)
	if w.status != 0 {
		// The answer has begun: cutting it is the only honest end left.
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	for _, name := range []string{"Content-Disposition", "Accept-Ranges", "ETag", "Last-Modified", "Location", "Repr-Digest", "Content-Length"} {
		h.Del(name)
	}
	if e.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if e.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.retryAfter))
	}
	if e.status == http.StatusRequestTimeout {
		h.Set("Connection", "close")
	}
	w.code = e.code
	rq.answer(w, e.status, body)
}

// answer writes a JSON body.
func (rq *request) answer(w http.ResponseWriter, status int, body any) error {
	raw, err := encode(body)
	if err != nil {
		return err
	}
	return rq.send(w, status, raw)
}

// send writes a body that is JSON already. All of it is in memory until the
// client has read it.
func (rq *request) send(w http.ResponseWriter, status int, raw []byte) error {
	if n := int64(len(raw)); n > inRequest && n+requestHolds != rq.held {
		if err := rq.hold(n); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	if _, err := w.Write(raw); err != nil {
		rq.log().Debug("the answer did not reach the client", "error", err)
	}
	return nil
}

// encode writes JSON as people read it: an & in a URL stays one.
func encode(body any) ([]byte, error) {
	var raw bytes.Buffer
	encoder := json.NewEncoder(&raw)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("encoding the answer: %w", err)
	}
	return raw.Bytes(), nil
}

// size writes a number of bytes the way the configuration does.
func size(n int64) string {
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
