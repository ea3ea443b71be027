// Package formdata is a streaming parser of multipart/form-data bodies, tolerant of
// what clients write, with bounded memory.
package formdata

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/text/encoding/htmlindex"

	"attachd/server/content"
)

// Reader reads the parts of a multipart/form-data body (RFC 7578, RFC 2046) in a
// stream. It exists because mime/multipart refuses a file name that contains a control
// character instead of letting the caller remove that, and accepts a body that was cut
// within a part's header as complete.
type Reader struct {
	r         *bufio.Reader
	delimiter []byte // "--" and the boundary
	needle    []byte // ends a part: the line end that this body uses, and the delimiter
	begun     bool   // the first delimiter was read
	fresh     bool   // nothing of the current part has been read
	ended     bool   // the current part has ended, the delimiter is next
}

const (
	// BufferSize is how many bytes a Reader reads ahead at most.
	BufferSize = 64 << 10
	// MaxBoundary is the most characters of a boundary (RFC 2046, section 5.1.1).
	MaxBoundary = 70
	// maxPartHeader is the most bytes of a part's header, all lines together.
	maxPartHeader = 16 << 10
)

// Part is the parsed header of a part.
type Part struct {
	Name     string
	FileName string   // decoded, but not cleaned
	Digests  []string // of the header Repr-Digest
}

// Errors in a form. ErrEmpty is also an ErrCut.
var (
	ErrCut           = errors.New("multipart body ends before its closing delimiter")
	ErrOtherBoundary = errors.New("multipart body without the boundary of its header")
	ErrEmpty         = fmt.Errorf("%w: it is empty", ErrCut)
	ErrNotFormData   = fmt.Errorf("%w: a part that is not form-data", errMalformed)
	errMalformed     = errors.New("malformed multipart body")
)

// buffers is a pool of the buffers of Readers, which are larger than most forms.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, BufferSize) }}

// NewReader returns a reader of the parts of body. Close returns its buffer to the
// pool.
func NewReader(body io.Reader, boundary string) *Reader {
	r := buffers.Get().(*bufio.Reader)
	r.Reset(body)
	return &Reader{r: r, delimiter: []byte("--" + boundary)}
}

// Close returns the buffer to the pool. The Reader must not be used after it. Close
// does not close the body.
func (f *Reader) Close() {
	f.r.Reset(nil) // keeps no reference to the request
	buffers.Put(f.r)
}

// Buffered is how many bytes of the body were read ahead.
func (f *Reader) Buffered() int64 { return int64(f.r.Buffered()) }

// Next skips the rest of the current part and returns the next one. It returns io.EOF
// after the last.
func (f *Reader) Next() (Part, error) {
	if f.begun {
		if _, err := io.Copy(io.Discard, f); err != nil {
			return Part{}, err
		}
	} else if err := f.passPreamble(); err != nil {
		return Part{}, err
	}
	rest, err := f.line() // the rest of the delimiter's line
	if err == io.EOF && bytes.HasPrefix(rest, []byte("--")) {
		err = nil
	}
	switch {
	case err != nil:
		return Part{}, cut(err)
	case bytes.HasPrefix(rest, []byte("--")):
		return Part{}, io.EOF
	case len(bytes.Trim(rest, " \t\r\n")) > 0:
		return Part{}, errMalformed
	}
	if !f.begun {
		newline := "\n"
		if bytes.HasSuffix(rest, []byte("\r\n")) {
			newline = "\r\n"
		}
		f.begun, f.needle = true, append([]byte(newline), f.delimiter...)
	}
	f.fresh, f.ended = true, false
	return f.header()
}

// passPreamble skips the preamble before the first delimiter (RFC 2046, section 5.1.1),
// which must begin a line.
func (f *Reader) passPreamble() error {
	lineBegins, first := true, true
	for ; ; first = false {
		start, err := f.r.Peek(len(f.delimiter))
		if err == io.EOF && first && len(start) == 0 {
			return ErrEmpty
		}
		if err == io.EOF && !(first && bytes.HasPrefix(f.delimiter, start)) {
			return ErrOtherBoundary
		}
		if err != nil {
			return cut(err)
		}
		if lineBegins && bytes.Equal(start, f.delimiter) {
			_, err := f.r.Discard(len(f.delimiter))
			return err
		}
		line, err := f.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return cut(err)
		}
		lineBegins = len(line) > 0 && line[len(line)-1] == '\n'
	}
}

// header reads the lines up to the empty one. Control characters are not allowed in
// them and are removed.
func (f *Reader) header() (p Part, err error) {
	var name string
	var lines strings.Builder // the value, which may continue on the next line
	disposed := false
	for left := maxPartHeader; ; {
		raw, err := f.line()
		if err != nil {
			return p, cut(err)
		}
		if left -= len(raw); left < 0 {
			return p, errMalformed
		}
		line := withoutControls(raw)
		last := len(bytes.TrimRight(raw, "\r\n")) == 0
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			lines.WriteString(" " + strings.TrimSpace(line)) // a folded line
			continue
		}
		value := lines.String()
		switch strings.ToLower(name) {
		case "content-disposition":
			params := HeaderParams(value)
			if !strings.EqualFold(params[""], "form-data") {
				return p, ErrNotFormData
			}
			p.Name, p.FileName = params["name"], fileNameOf(params)
			disposed = true
		case "repr-digest":
			p.Digests = append(p.Digests, value)
		}
		switch {
		case last && disposed:
			return p, nil
		case last:
			return p, ErrNotFormData // RFC 7578, section 4.2
		}
		var colon bool
		if name, value, colon = strings.Cut(line, ":"); !colon {
			return p, errMalformed
		}
		name = strings.TrimSpace(name)
		lines.Reset()
		lines.WriteString(strings.TrimSpace(value))
	}
}

// line reads a line with its end. The slice is valid until the next read.
func (f *Reader) line() ([]byte, error) {
	line, err := f.r.ReadSlice('\n')
	if err == bufio.ErrBufferFull {
		err = errMalformed
	}
	return line, err
}

// Read reads the content of the current part.
func (f *Reader) Read(p []byte) (int, error) {
	if f.ended {
		return 0, io.EOF
	}
	needle := f.needle
	// Enough to recognize a delimiter, and all that is buffered.
	have, err := f.r.Peek(max(len(needle)+2, f.r.Buffered()))
	if f.fresh && isDelimiter(have, f.delimiter) {
		needle = f.delimiter // the part is empty
	}
	f.fresh = false
	at := bytes.Index(have, needle)
	switch {
	case at == 0 && isDelimiter(have, needle):
		f.ended = true
		_, err := f.r.Discard(len(needle))
		if err == nil {
			err = io.EOF
		}
		return 0, err
	case at == 0:
		at = 1 // a line that only begins like a delimiter
	case at < 0 && err != nil:
		return 0, cut(err)
	case at < 0:
		at = len(have) - len(needle) + 1 // the last bytes may be the beginning of a delimiter
	}
	n := copy(p, have[:at])
	_, err = f.r.Discard(n)
	return n, err
}

// isDelimiter reports whether b begins with a delimiter rather than with a longer line
// that begins like one.
func isDelimiter(b, delimiter []byte) bool {
	rest, ok := bytes.CutPrefix(b, delimiter)
	if !ok || len(rest) == 0 {
		return ok
	}
	return bytes.HasPrefix(rest, []byte("--")) || strings.IndexByte(" \t\r\n", rest[0]) >= 0
}

// cut returns ErrCut for the end of the body, which came too early.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrCut
	}
	return err
}

// withoutControls works on bytes because a name may be in another encoding than UTF-8.
func withoutControls(line []byte) string {
	var b strings.Builder
	for _, c := range line {
		if c >= ' ' && c != 0x7F || c == '\t' {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// HeaderParams parses a header value with parameters, like that of Content-Type or
// Content-Disposition, as tolerantly as clients write them: a quoted value may contain
// anything (with \" and \\ for a quote and a backslash, and quotes that are not at its
// end); an unquoted one ends at the next semicolon. The value itself has the key "". Of
// a repeated name, the first counts.
func HeaderParams(header string) map[string]string {
	value, rest, _ := strings.Cut(header, ";")
	params := map[string]string{"": strings.TrimSpace(value)}
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "=")
		name = strings.ToLower(strings.Trim(name, "; \t"))
		rest = strings.TrimLeft(rest, " \t")
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, rest = unquote(quoted)
			_, rest, _ = strings.Cut(rest, ";")
		} else {
			value, rest, _ = strings.Cut(rest, ";")
			value = strings.TrimSpace(value)
		}
		if _, known := params[name]; !known {
			params[name] = value
		}
	}
	return params
}

// unquote reads up to the closing quote. A backslash before anything but a quote or a
// backslash is literal: some clients send whole Windows paths.
func unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"' && closes(s[i+1:]):
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// closes reports whether a quote followed by rest is the closing one: clients that do
// not escape quotes send names that contain them.
func closes(rest string) bool {
	rest = strings.TrimLeft(rest, " \t")
	return rest == "" || rest[0] == ';'
}

// fileNameOf returns filename* (RFC 8187) if it can be decoded, else filename. Either
// is decoded once, in its own way.
func fileNameOf(params map[string]string) string {
	plain, extended := continued(params)
	plain = content.FormName(cmp.Or(params["filename"], plain))
	charset, rest, _ := strings.Cut(cmp.Or(params["filename*"], extended), "'")
	_, encoded, _ := strings.Cut(rest, "'")
	decoded, err := url.PathUnescape(encoded)
	if err != nil || decoded == "" {
		return plain
	}
	encoding, err := htmlindex.Get(charset)
	if err != nil {
		return plain
	}
	decoded, err = encoding.NewDecoder().String(decoded)
	if err != nil || strings.ContainsRune(decoded, utf8.RuneError) {
		return plain
	}
	return decoded
}

// continued joins a name that was split into several parameters (RFC 2231, section 3),
// as mail programs write a long one. It is extended, like filename*, if its first piece
// is.
func continued(params map[string]string) (plain, extended string) {
	_, isExtended := params["filename*0*"]
	var b strings.Builder
	for n := 0; ; n++ {
		encoded, ok := params[fmt.Sprintf("filename*%d*", n)]
		piece, isPlain := params[fmt.Sprintf("filename*%d", n)]
		switch {
		case ok:
			b.WriteString(encoded)
		case isPlain && isExtended:
			b.WriteString(url.PathEscape(piece))
		case isPlain:
			b.WriteString(piece)
		case isExtended:
			return "", b.String()
		default:
			return b.String(), ""
		}
	}
}
