package preview

import (
	"io"
	"strings"

	"attachd/server/content/charset"
)

// maxTextBytes is how many bytes of a text are read for its preview.
const maxTextBytes = 512 << 10

// Text is the beginning of a text, in UTF-8, with lines that end with LF.
type Text struct {
	Text      string
	Truncated bool
}

// ReadText reads the beginning of the text in the first size bytes of r, in any
// encoding. Errors are those of r.
func ReadText(r io.ReaderAt, size int64) (Text, error) {
	text, cut, err := decodeStart(r, size, maxTextBytes)
	if err != nil {
		return Text{}, err
	}
	return Text{strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(text)), cut}, nil
}

// decodeStart decodes at most the first most bytes of the text in the first size bytes
// of r into UTF-8. cut reports whether there are more.
func decodeStart(r io.ReaderAt, size, most int64) (text []byte, cut bool, err error) {
	raw := make([]byte, min(size, most))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), raw); err != nil {
		return nil, false, err
	}
	cut = size > most
	return charset.Decode(raw, cut), cut, nil
}
