package preview

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// What is shown of a table at most.
const (
	maxTableBytes = 1 << 20 // of the file
	maxRows       = 1000    // without the first one, which names the columns
	maxColumns    = 256
	maxCell       = 1000 // bytes
)

// Table is the beginning of a table.
type Table struct {
	Columns   []string
	Rows      [][]string // each with as many cells as it has in the file, as far as they are shown
	Total     int        // rows in the file, or -1 where not all of it was read
	Truncated bool       // rows, columns or parts of cells are left out
}

// tables are the types that ReadTable knows, and what is between their cells;
// 0 is to be found out.
var tables = map[string]rune{
	"text/csv":                  0,
	"text/tab-separated-values": '\t',
}

// HasTable says whether files of a type are tables.
func HasTable(mimeType string) bool {
	_, known := tables[mimeType]
	return known
}

// ReadTable reads the beginning of the table of the given type in the first
// size bytes of r. Whatever the bytes are, they are some table: one that is
// broken has odd rows. An error is that of r.
func ReadTable(r io.ReaderAt, size int64, mimeType string) (Table, error) {
	raw := make([]byte, min(size, maxTableBytes))
	if _, err := io.ReadFull(io.NewSectionReader(r, 0, size), raw); err != nil {
		return Table{}, err
	}
	cut := size > maxTableBytes
	text, err := decodeText(raw, cut)
	if err != nil {
		return Table{}, err
	}
	comma := tables[mimeType]
	if comma == 0 {
		comma = separator(text)
	}
	return parseTable(text, comma, cut)
}

// decodeText makes UTF-8 of text that says what it is, of UTF-8, and of what
// spreadsheets write where they do not write that.
func decodeText(raw []byte, cut bool) ([]byte, error) {
	if cut {
		raw = wholeRunes(raw)
	}
	var fallback encoding.Encoding = charmap.Windows1252
	if utf8.Valid(raw) {
		fallback = encoding.Nop
	}
	text, _, err := transform.Bytes(unicode.BOMOverride(fallback.NewDecoder()), raw)
	return bytes.ToValidUTF8(text, []byte(string(utf8.RuneError))), err
}

// wholeRunes leaves out a rune of UTF-8 that is cut at the end.
func wholeRunes(raw []byte) []byte {
	for n := 1; n < min(utf8.UTFMax, len(raw)); n++ {
		if last := raw[len(raw)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				return raw[:len(raw)-n]
			}
			break
		}
	}
	return raw
}

// separator is what the first line has the most of.
func separator(text []byte) rune {
	most, found := 0, ','
	line, _, _ := bytes.Cut(text, []byte("\n"))
	counts, quoted := map[byte]int{}, false
	for _, c := range line {
		if c == '"' {
			quoted = !quoted
		}
		if !quoted {
			counts[c]++
		}
	}
	for _, c := range ",;\t|" {
		if n := counts[byte(c)]; n > most {
			most, found = n, c
		}
	}
	return found
}

// parseTable reads text as RFC 4180 has it, and takes stray quotes as they are.
// The last row of what was cut is not whole, and is left out unless it is all
// there is.
func parseTable(text []byte, comma rune, cut bool) (Table, error) {
	reader := csv.NewReader(bytes.NewReader(text))
	reader.Comma, reader.LazyQuotes, reader.FieldsPerRecord, reader.ReuseRecord = comma, true, -1, true
	t := Table{Columns: []string{}, Rows: [][]string{}, Truncated: cut}
	for n := 0; ; n++ { // rows read, with that of the columns
		row, err := reader.Read()
		if errors.Is(err, io.EOF) {
			t.end(n-1, cut)
			return t, nil
		}
		if err != nil {
			return Table{}, err
		}
		switch {
		case n == 0:
			t.Columns = t.cells(row)
		case n <= maxRows:
			t.Rows = append(t.Rows, t.cells(row))
		case cut:
			t.Total = -1
			return t, nil
		default:
			t.Truncated = true
		}
	}
}

func (t *Table) end(rows int, cut bool) {
	t.Total = max(0, rows)
	if !cut {
		return
	}
	t.Total = -1
	if len(t.Rows) > 0 {
		t.Rows = t.Rows[:len(t.Rows)-1]
	}
}

// cells are those of a row that are shown.
func (t *Table) cells(row []string) []string {
	if len(row) > maxColumns {
		row, t.Truncated = row[:maxColumns], true
	}
	shown := make([]string, len(row))
	for i, cell := range row {
		if len(cell) > maxCell {
			end := maxCell
			for !utf8.RuneStart(cell[end]) {
				end--
			}
			cell, t.Truncated = cell[:end]+"…", true
		}
		shown[i] = strings.Clone(cell) // the row has all cells in one piece
	}
	return shown
}
