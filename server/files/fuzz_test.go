package files

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Whatever is asked for, what comes is the file or pieces of it that the
// answer names rightly.
// ASVS 1.4.2
func FuzzRanges(f *testing.F) {
	const file = "abcdefghijklmnopqrstuvwxyz"
	for _, seed := range []string{
		"bytes=0-0", "bytes=-1", "bytes=25-", "bytes=26-", "bytes=0-18446744073709551615", "bytes=-0", "bytes=-18446744073709551616", "bytes=0-1,3-4", "bytes=0-1,,", "bytes= 1 - 2 ",
		"BYTES=1-2", "bytes=2-1", "lines=1-2", "bytes=", "bytes=--1", "bytes=+1-2", "bytes=1-2\x00", "bytes=" + strings.Repeat("0-,", 50) + "1-",
	} {
		f.Add(seed, 26)
		f.Add(seed, 0)
	}
	f.Fuzz(func(t *testing.T, given string, size int) {
		content := file[:min(max(size, 0), len(file))]
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", given)
		tidyRange(r.Header, int64(len(content)))
		recorded := httptest.NewRecorder()
		recorded.Header().Set("Content-Type", "text/plain")
		http.ServeContent(recorded, r, "", time.Time{}, strings.NewReader(content))
		h, body := recorded.Header(), recorded.Body.String()
		switch recorded.Code {
		case http.StatusOK:
			if body != content {
				t.Errorf("%q of %d bytes: %q", given, len(content), body)
			}
		case http.StatusPartialContent:
			kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
			if err != nil {
				t.Fatal(err)
			}
			if kind != "multipart/byteranges" {
				checkPiece(t, given, content, h.Get("Content-Range"), body)
				return
			}
			for parts := multipart.NewReader(recorded.Body, params["boundary"]); ; {
				part, err := parts.NextPart()
				if err == io.EOF {
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				piece, err := io.ReadAll(part)
				if err != nil {
					t.Fatal(err)
				}
				checkPiece(t, given, content, part.Header.Get("Content-Range"), string(piece))
			}
		case http.StatusRequestedRangeNotSatisfiable:
			if h.Get("Content-Range") != fmt.Sprintf("bytes */%d", len(content)) {
				t.Errorf("%q of %d bytes: %s", given, len(content), h.Get("Content-Range"))
			}
		default:
			t.Errorf("%q of %d bytes is answered %d", given, len(content), recorded.Code)
		}
	})
}

func checkPiece(t *testing.T, given, content, contentRange, piece string) {
	t.Helper()
	var from, to, size int
	_, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &from, &to, &size)
	if err != nil || size != len(content) || from > to || to >= size || content[from:to+1] != piece {
		t.Errorf("%q of %d bytes: %q is said to be %s", given, len(content), piece, contentRange)
	}
}
