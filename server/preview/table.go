package preview

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// Limits of the part of a table that is shown.
const (
	maxTableBytes = 1 << 20 // of the file
	maxRows       = 1000    // without the first one, which holds the column names
	maxCells      = 20_000  // in all rows: what a browser displays without delay
	maxColumns    = 256
	maxCell       = 1000 // bytes
)

// Table is the beginning of a table.
type Table struct {
	Columns   []string
	Rows      [][]string // as many cells as in the file, up to the limits
	Total     int        // rows in the file, or -1 where the file was not read to its end
	Truncated bool       // rows, columns or parts of cells are left out
}

// tables maps the types that ReadTable reads to their cell separators; 0 means that it
// is detected.
var tables = map[string]rune{
	"text/csv":                  0,
	"text/tab-separated-values": '\t',
}

// HasTable reports whether files of a type are tables.
func HasTable(mimeType string) bool {
	_, known := tables[mimeType]
	return known
}

// ReadTable reads the beginning of the table of the given type in the first size bytes
// of r. Any bytes are a valid table: a broken one has odd rows. Errors are those of r.
func ReadTable(r io.ReaderAt, size int64, mimeType string) (Table, error) {
	text, cut, err := decodeStart(r, size, maxTableBytes)
	if err != nil {
		return Table{}, err
	}
	text = sameLineEnds(text)
	comma, text := namedSeparator(text, tables[mimeType])
	if comma == 0 {
		comma = separator(text)
	}
	return parseTable(text, byte(comma), cut), nil
}

// sameLineEnds ends lines with LF, including those of old Macs, which end them with CR
// alone.
func sameLineEnds(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if bytes.Count(text, []byte("\r")) > bytes.Count(text, []byte("\n")) {
		return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), []byte("\v")), []byte("\r"), []byte("\n"))
	}
	return text
}

// namedSeparator removes the line that names the cell separator for Excel (sep=;), and
// returns that separator, or otherwise if there is no such line.
func namedSeparator(text []byte, otherwise rune) (rune, []byte) {
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	line = bytes.TrimRight(line, "\r")
	if len(line) > 1 && line[0] == '"' && line[len(line)-1] == '"' {
		line = line[1 : len(line)-1]
	}
	const name = "sep="
	if len(line) == len(name)+1 && strings.EqualFold(string(line[:len(name)]), name) && line[len(name)] != '"' && line[len(name)] < utf8.RuneSelf {
		return rune(line[len(name)]), rest
	}
	return otherwise, text
}

// What separator reads to detect the cell separator.
const (
	sniffBytes = 64 << 10
	sniffRows  = 50
)

// separator returns the cell separator: of those that give most rows the same number of
// cells, the one that gives the most cells. Lines above a table weigh little, and so do
// the commas in numbers.
func separator(text []byte) rune {
	text = text[:min(len(text), sniffBytes)]
	found, best, widest := ',', 0.0, 0
	for _, c := range ";\t|\x01," {
		share, width := evenness(text, byte(c))
		if c == ',' && best > 0 && share < best+0.1 && decimalCommas(text) {
			continue
		}
		if share > best+0.1 || share > best-0.1 && width > widest {
			found, best, widest = c, share, width
		}
	}
	return found
}

// evenness returns the most frequent number of cells over one, and the share of the
// rows that have it.
func evenness(text []byte, comma byte) (share float64, width int) {
	r, widths, rows := &rowReader{text: text, comma: comma}, map[int]int{}, 0
	for row := r.next(); row != nil && rows < sniffRows; row = r.next() {
		rows++
		if len(row) > 1 {
			widths[len(row)]++
		}
	}
	for w, n := range widths {
		if most := widths[width]; n > most || n == most && w > width {
			width = w
		}
	}
	return float64(widths[width]) / float64(max(1, rows)), width
}

// decimalCommas reports whether most commas are between digits.
func decimalCommas(text []byte) bool {
	digit := func(i int) bool { return i >= 0 && i < len(text) && '0' <= text[i] && text[i] <= '9' }
	commas, decimal := 0, 0
	for i, c := range text {
		if c == ',' {
			commas++
			if digit(i-1) && digit(i+1) {
				decimal++
			}
		}
	}
	return 2*decimal > commas
}

// rowReader splits a text into rows as RFC 4180 defines them, and takes stray quotes
// literally. (encoding/csv would read all rows after an inch sign at the start of a
// cell as the rest of that cell.)
type rowReader struct {
	text  []byte
	comma byte
	vain  int // bytes searched without success for the closing quotes of cells
}

// maxVain is how many bytes are searched for closing quotes of cells that begin with a
// stray quote, before all further quotes are taken literally.
const maxVain = 16 << 20

// next returns the next row that is not empty, or nil.
func (r *rowReader) next() [][]byte {
	r.text = bytes.TrimLeft(r.text, "\n")
	if len(r.text) == 0 {
		return nil
	}
	var row [][]byte
	for {
		cell, end := r.cell()
		row = append(row, cell)
		last := end >= len(r.text) || r.text[end] == '\n'
		r.text = r.text[min(end+1, len(r.text)):]
		if last {
			return row
		}
	}
}

// cell returns the cell at the start of the text, and the offset of its end.
func (r *rowReader) cell() ([]byte, int) {
	if len(r.text) > 0 && r.text[0] == '"' && r.vain < maxVain {
		if end := r.endOfQuoted(); end > 0 {
			return bytes.ReplaceAll(r.text[1:end], []byte(`""`), []byte(`"`)), end + 1
		}
	}
	for i, c := range r.text {
		if c == r.comma || c == '\n' {
			return r.text[:i], i
		}
	}
	return r.text, len(r.text)
}

// endOfQuoted returns the offset of the quote that closes the cell, or 0. A quote that
// is neither doubled nor before the end of a cell is a stray one, and no cell has both
// stray quotes and line ends.
func (r *rowReader) endOfQuoted() int {
	stray, line := false, false
	i := 1
	for ; i < len(r.text) && !(stray && line); i++ {
		switch c := r.text[i]; {
		case c == '\n':
			line = true
		case c != '"':
		case i+1 == len(r.text) || r.text[i+1] == r.comma || r.text[i+1] == '\n':
			return i
		case r.text[i+1] == '"':
			i++
		default:
			stray = true
		}
	}
	r.vain += i
	return 0
}

// parseTable parses rows. If the text was cut, its last row is incomplete and is left
// out unless it is the only one.
func parseTable(text []byte, comma byte, cut bool) Table {
	r := &rowReader{text: text, comma: comma}
	t := Table{Columns: []string{}, Rows: [][]string{}, Truncated: cut}
	cells := 0
	for n := 0; ; n++ { // rows read, including the column names
		row := r.next()
		if row == nil {
			t.end(n-1, cut)
			return t
		}
		shown := cells+min(len(row), maxColumns) <= maxCells && n <= maxRows
		switch {
		case n == 0:
			t.Columns = t.cells(row)
		case shown && n == len(t.Rows)+1:
			t.Rows = append(t.Rows, t.cells(row))
		case cut:
			t.Total = -1
			return t
		default:
			t.Truncated = true
		}
		cells += min(len(row), maxColumns)
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

// cells returns the cells of a row that are shown. FileMaker writes a line end in a
// cell as a vertical tab.
func (t *Table) cells(row [][]byte) []string {
	if len(row) > maxColumns {
		row, t.Truncated = row[:maxColumns], true
	}
	shown := make([]string, len(row))
	for i, cell := range row {
		var more string
		if len(cell) > maxCell {
			end := maxCell
			for !utf8.RuneStart(cell[end]) {
				end--
			}
			cell, more, t.Truncated = cell[:end], "…", true
		}
		shown[i] = string(bytes.ReplaceAll(cell, []byte("\v"), []byte("\n"))) + more
	}
	return shown
}
