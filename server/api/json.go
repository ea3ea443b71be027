package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxJSON is the maximum size of a JSON body in bytes.
const MaxJSON = 64 << 10

// ReadJSON reads a request's body into v. Members that v does not have are
// ignored, as unknown form fields are.
func (rq *Request) ReadJSON(v any) error {
	raw, err := rq.readBody()
	if err != nil {
		return err
	}
	return DecodeJSON(raw, v)
}

// ReadOptionalJSON is ReadJSON for a body that may be left out.
func (rq *Request) ReadOptionalJSON(v any) error {
	raw, err := rq.readBody()
	if err != nil || len(raw) == 0 {
		return err
	}
	return DecodeJSON(raw, v)
}

func (rq *Request) readBody() ([]byte, error) {
	if err := rq.RefuseEncoded(); err != nil {
		return nil, err
	}
	body := rq.Paced()
	defer body.Close()
	body.Allow(MaxJSON + 1)
	raw, err := io.ReadAll(io.LimitReader(body, MaxJSON+1))
	if err != nil {
		return nil, BodyError(err)
	}
	if len(raw) > MaxJSON {
		return nil, InvalidRequest("The body is larger than %s.", FormatSize(MaxJSON))
	}
	return raw, nil
}

// RefuseEncoded refuses a body with a Content-Encoding: files are stored as they are
// sent.
func (rq *Request) RefuseEncoded() error {
	coding := rq.Header.Get("Content-Encoding")
	if coding == "" || strings.EqualFold(coding, "identity") {
		return nil
	}
	return InvalidRequest("The body has the content encoding %q, which is not taken: send it as it is.", coding)
}

// DecodeJSON decodes a body. Its errors name the body's members, not Go types. It
// refuses strings of which encoding/json would replace parts: the caller would not get
// back what it sent.
func DecodeJSON(raw []byte, v any) error {
	raw = bytes.TrimPrefix(raw, []byte("\xEF\xBB\xBF")) // a byte order mark, which RFC 8259 lets parsers ignore
	switch {
	case !utf8.Valid(raw):
		return InvalidRequest("The body is not valid UTF-8.")
	case string(bytes.TrimSpace(raw)) == "null":
		return InvalidRequest("The body must be a JSON object.")
	}
	err := json.Unmarshal(raw, v)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil && hasLoneSurrogate(raw):
		return InvalidRequest("The body has half a character in it: a \\u escape of a surrogate without its other half.")
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		field := wrong.Field[strings.LastIndexByte(wrong.Field, '.')+1:]
		if number, is := strings.CutPrefix(wrong.Value, "number "); is {
			if strings.ContainsAny(number, ".eE") {
				return InvalidRequest("%s must be a whole number, written in digits only.", field)
			}
			return InvalidRequest("%s is too large or too small a number.", field)
		}
		return InvalidRequest("%s must not be a JSON %s.", field, wrong.Value)
	case errors.As(err, &wrong):
		return InvalidRequest("The body must be a JSON object.")
	default:
		return InvalidRequest("The body is not valid JSON.")
	}
}

// hasLoneSurrogate reports whether valid JSON has an escape of half a surrogate pair
// (RFC 8259, section 8.2).
func hasLoneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++ // skip the escaped character, which may be a backslash
		if raw[i] != 'u' {
			continue
		}
		r := escapedRune(raw[i+1:])
		i += 4
		if !utf16.IsSurrogate(r) {
			continue
		}
		next, isEscape := bytes.CutPrefix(raw[i+1:], []byte(`\u`))
		if !isEscape || utf16.DecodeRune(r, escapedRune(next)) == utf8.RuneError {
			return true
		}
		i += 6
	}
	return false
}

// escapedRune returns the value of the four digits of a \u escape.
func escapedRune(digits []byte) rune {
	n, err := strconv.ParseUint(string(digits[:4]), 16, 16)
	if err != nil {
		return utf8.RuneError // valid JSON has four
	}
	return rune(n)
}
