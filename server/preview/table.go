package preview

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"
)

// What is shown of a table at most.
const (
	maxTableBytes = 1 << 20 // of the file
	maxRows       = 1000    // without the first one, which names the columns
	maxCells      = 20_000  // of all rows: what a browser shows at once
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

// sameLineEnds ends lines with LF, also those of a Mac, which ends them with CR alone.
func sameLineEnds(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	if bytes.Count(text, []byte("\r")) > bytes.Count(text, []byte("\n")) {
		return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\n"), []byte("\v")), []byte("\r"), []byte("\n"))
	}
	return text
}

// namedSeparator takes off the line with which Excel is told what is between cells: sep=;
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

// What the separator is found out from.
const (
	sniffBytes = 64 << 10
	sniffRows  = 50
)

// separator is what gives most rows the same number of cells, and of those the one that gives the most cells. Lines
// above a table do not count much, nor do the commas in numbers.
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

// evenness is how large a share of the rows has the number of cells, over one, that most have, and which that is.
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

// decimalCommas says whether most commas stand between digits.
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

// rowReader takes a text apart as RFC 4180 has it, and takes stray quotes as they are. (encoding/csv would take all
// rows after an inch sign at the start of a cell for the rest of that cell.)
type rowReader struct {
	text  []byte
	comma byte
	vain  int // bytes in which the end of a cell in quotes was looked for in vain
}

// maxVain is how many bytes are looked through for the ends of cells that begin with a stray quote.
const maxVain = 16 << 20

// next is the next row that is not empty, or nil.
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

// cell is the cell at the start of the text, and where it ends.
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

// endOfQuoted is where the quote is that ends the cell, or 0: a quote that is neither doubled nor before the end of a
// cell is a stray one, and no cell has both those and ends of lines.
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

// parseTable reads rows. The last row of what was cut is not whole, and is left out unless it is all there is.
func parseTable(text []byte, comma byte, cut bool) Table {
	r := &rowReader{text: text, comma: comma}
	t := Table{Columns: []string{}, Rows: [][]string{}, Truncated: cut}
	cells := 0
	for n := 0; ; n++ { // rows read, with that of the columns
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

// cells are those of a row that are shown. A vertical tab is FileMaker's for an end of a line in a cell.
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
