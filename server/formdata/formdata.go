// Package formdata reads multipart/form-data bodies in a stream, as forgivingly
// as clients write them and within fixed bounds of memory.
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

// Reader reads the parts of a multipart/form-data body (RFC 7578, RFC
// 2046) in a stream. It is written by hand because mime/multipart refuses a
// file name with a control character in it instead of letting us take that
// out, and takes a body that was cut in a part's header for a whole one.
type Reader struct {
	r         *bufio.Reader
	delimiter []byte // "--" and the boundary
	needle    []byte // what ends a part: the end of a line as this body has it, and the delimiter
	begun     bool   // the first delimiter has been read
	fresh     bool   // nothing of the current part has been read
	ended     bool   // the current part is over, the delimiter is next
}

const (
	// BufferSize is how many bytes a Reader reads ahead of the form at most.
	BufferSize = 64 << 10
	// MaxBoundary is how many characters a boundary has at most (RFC 2046,
	// section 5.1.1).
	MaxBoundary = 70
	// maxPartHeader is how many bytes all lines of a part's header have at most.
	maxPartHeader = 16 << 10
)

// Part is what the header of a part says.
type Part struct {
	Name     string
	FileName string   // decoded, and not clean
	Digests  []string // Repr-Digest
}

// What may be wrong with a form. ErrEmpty is an ErrCut too.
var (
	ErrCut           = errors.New("multipart body ends before its closing delimiter")
	ErrOtherBoundary = errors.New("multipart body without the boundary of its header")
	ErrEmpty         = fmt.Errorf("%w: it is empty", ErrCut)
	ErrNotFormData   = fmt.Errorf("%w: a part that is not form-data", errMalformed)
	errMalformed     = errors.New("malformed multipart body")
)

// buffers are those of forms, which are larger than most of what passes through
// them.
var buffers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, BufferSize) }}

// NewReader reads the parts of body. Close gives its buffer back.
func NewReader(body io.Reader, boundary string) *Reader {
	r := buffers.Get().(*bufio.Reader)
	r.Reset(body)
	return &Reader{r: r, delimiter: []byte("--" + boundary)}
}

// Close gives the buffer back. Nothing may be read after it. It does not close
// the body.
func (f *Reader) Close() {
	f.r.Reset(nil) // holds on to nobody's request
	buffers.Put(f.r)
}

// Buffered is how many bytes of the body were read ahead of the form.
func (f *Reader) Buffered() int64 { return int64(f.r.Buffered()) }

// Next goes to the next part, passing over what is left of the current one. It
// returns io.EOF behind the last.
func (f *Reader) Next() (Part, error) {
	if f.begun {
		if _, err := io.Copy(io.Discard, f); err != nil {
			return Part{}, err
		}
	} else if err := f.passPreamble(); err != nil {
		return Part{}, err
	}
	rest, err := f.line() // what follows a delimiter
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

// passPreamble passes over what stands before the first delimiter (RFC 2046,
// section 5.1.1), which must begin a line.
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

// header reads the lines up to the empty one. Control characters have no
// place in them and are left out.
func (f *Reader) header() (p Part, err error) {
	var name string
	var lines strings.Builder // the value, which may go on in the next line
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

// line reads a line with its end. It is valid until the next read.
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
	// Enough to tell a delimiter, and all that is there besides.
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
		at = 1 // it only begins like one
	case at < 0 && err != nil:
		return 0, cut(err)
	case at < 0:
		at = len(have) - len(needle) + 1 // what follows may be the beginning of one
	}
	n := copy(p, have[:at])
	_, err = f.r.Discard(n)
	return n, err
}

// isDelimiter says whether b begins with a delimiter and not with a line that
// only begins like one.
func isDelimiter(b, delimiter []byte) bool {
	rest, ok := bytes.CutPrefix(b, delimiter)
	if !ok || len(rest) == 0 {
		return ok
	}
	return bytes.HasPrefix(rest, []byte("--")) || strings.IndexByte(" \t\r\n", rest[0]) >= 0
}

// cut says of the end of a body that it came too early.
func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return ErrCut
	}
	return err
}

// withoutControls looks at bytes: a name may be in another encoding than UTF-8.
func withoutControls(line []byte) string {
	var b strings.Builder
	for _, c := range line {
		if c >= ' ' && c != 0x7F || c == '\t' {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// HeaderParams reads a value with parameters, like that of Content-Type or
// Content-Disposition, as forgivingly as clients write them: a value in quotes
// may hold anything (with \" and \\ for a quote and a backslash, and quotes that
// do not stand at its end), one without goes as far as the next semicolon. The
// value itself is under "". Of a name that stands twice, the first counts.
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

// unquote reads up to the closing quote. A backslash before anything but a
// quote or a backslash is one: some clients send whole Windows paths.
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

// closes says whether what follows a quote makes it the last: clients that escape
// none send names with quotes in them.
func closes(rest string) bool {
	rest = strings.TrimLeft(rest, " \t")
	return rest == "" || rest[0] == ';'
}

// fileNameOf prefers filename* (RFC 8187) where it can be read. Either is
// decoded once, as its own kind is.
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

// continued puts a name together that came in pieces (RFC 2231, section 3), as
// programs for mail write a long one. It is extended, like filename*, if its first
// piece is.
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
