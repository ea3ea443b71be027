package preview

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func tableOf(t testing.TB, content, mimeType string) Table {
	t.Helper()
	table, err := ReadTable(strings.NewReader(content), int64(len(content)), mimeType)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestATableIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content string
		want          [][]string // the columns first
	}{
		{"commas", "a,b\n1,2\n", [][]string{{"a", "b"}, {"1", "2"}}},
		{"semicolons, with commas in numbers", "a;b;c\n1,5;2,5;3\n", [][]string{{"a", "b", "c"}, {"1,5", "2,5", "3"}}},
		{"tabs", "a\tb\n1\t2\n", [][]string{{"a", "b"}, {"1", "2"}}},
		{"bars", "a|b\n1|2", [][]string{{"a", "b"}, {"1", "2"}}},
		{"commas in quotes", "\"a,b,c\";d\n1;2\n", [][]string{{"a,b,c", "d"}, {"1", "2"}}},
		{"one column", "a\n1\n", [][]string{{"a"}, {"1"}}},
		{"CR LF and quotes", "a,b\r\n\"x\r\ny\",\"he said \"\"no\"\"\"\r\n", [][]string{{"a", "b"}, {"x\ny", `he said "no"`}}},
		{"stray quotes", "a,b\n5\" disk,it\"s\n", [][]string{{"a", "b"}, {`5" disk`, `it"s`}}},
		{"rows of any length", "a,b\n1\n1,2,3\n", [][]string{{"a", "b"}, {"1"}, {"1", "2", "3"}}},
		{"UTF-8 with its mark", "\ufeffa,b\nä,😀\n", [][]string{{"a", "b"}, {"ä", "😀"}}},
		{"UTF-16", "\xff\xfea\x00,\x00\xe4\x00\n\x00", [][]string{{"a", "ä"}}},
		{"Windows-1252", "a,b\n\xe4,\x80\n", [][]string{{"a", "b"}, {"ä", "€"}}},
		{"Windows-1252 at its end", "a\n\xe4", [][]string{{"a"}, {"ä"}}},
		{"a header alone", "a,b", [][]string{{"a", "b"}}},
		{"nothing but ends of lines", "\n\n", [][]string{{}}},
	} {
		table := tableOf(t, c.content, "text/csv")
		if got := append([][]string{table.Columns}, table.Rows...); !reflect.DeepEqual(got, c.want) || table.Total != len(c.want)-1 || table.Truncated {
			t.Errorf("%s: %+v", c.name, table)
		}
	}
	if table := tableOf(t, "a,b\tc\n", "text/tab-separated-values"); !reflect.DeepEqual(table.Columns, []string{"a,b", "c"}) {
		t.Errorf("tabs by the type: %+v", table)
	}
}

func TestATableIsShownInPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, content       string
		columns, rows, most int // most bytes of the last cell
		total               int
	}{
		{"as many rows as are shown", "a\n" + strings.Repeat("1\n", 1000), 1, 1000, 1, 1000},
		{"one more", "a\n" + strings.Repeat("1\n", 1001), 1, 1000, 1, 1001},
		{"many columns", strings.Repeat("a,", 300) + "\n1\n", 256, 1, 1, 1},
		{"a long cell", "a\n" + strings.Repeat("ä", 2000) + "\n", 1, 1, 1003, 1},
		{"a rune across the first MB", "a,b\n1,2\n" + strings.Repeat("€", 1<<20), 2, 1, 1, -1},
		{"a line of 20 MB", strings.Repeat("a", 20<<20), 1, 0, 1003, -1},
		{"cells in 20 MB of commas", strings.Repeat(",", 20<<20), 256, 0, 1, -1},
		{"a quote that never ends", "a,b\n\"" + strings.Repeat("x,y\n", 1<<20), 2, 0, 0, -1},
		{"2 MB of rows", "a,b\n" + strings.Repeat("1234567890,"+strings.Repeat("x", 10_000)+"\n", 200), 2, 104, 1003, -1},
		{"2 MB of many rows", "a\n" + strings.Repeat("12345\n", 400_000), 1, 1000, 5, -1},
	} {
		table := tableOf(t, c.content, "text/csv")
		if len(table.Columns) != c.columns || len(table.Rows) != c.rows || table.Total != c.total {
			t.Errorf("%s: %d columns, %d rows of %d", c.name, len(table.Columns), len(table.Rows), table.Total)
		}
		if whole := c.rows == c.total && c.columns < 256 && c.most < 1000; table.Truncated == whole {
			t.Errorf("%s: truncated is %v", c.name, table.Truncated)
		}
		for _, row := range append(table.Rows, table.Columns) {
			for _, cell := range row {
				if len(cell) > 1003 || !utf8.ValidString(cell) {
					t.Fatalf("%s: a cell has %d bytes", c.name, len(cell))
				}
			}
		}
	}
}

func TestATableThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	if _, err := ReadTable(failing{}, 10, "text/csv"); !errors.Is(err, errDisk) {
		t.Errorf("with a disk that fails: %v", err)
	}
}

// Whatever bytes come, there is a table that can be shown.
func FuzzReadTable(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "\"a\n", "\xff\xfea\x00", "\xfe\xff\x00", "\ufeff", "a;b\n\xe4;\"\"\"\n", "\"\",\r\r\n\x00", "é", "\x9c"} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, tabs bool) {
		mimeType := "text/csv"
		if tabs {
			mimeType = "text/tab-separated-values"
		}
		table, err := ReadTable(bytes.NewReader(content), int64(len(content)), mimeType)
		if err != nil {
			t.Fatal(err)
		}
		if table.Total != -1 && table.Total < len(table.Rows) || len(table.Rows) > maxRows || table.Columns == nil || table.Rows == nil {
			t.Fatalf("%d columns, %d rows of %d", len(table.Columns), len(table.Rows), table.Total)
		}
		for _, row := range append(table.Rows, table.Columns) {
			for _, cell := range row {
				if !utf8.ValidString(cell) || len(cell) > maxCell+len("…") {
					t.Fatalf("a cell is %q", cell)
				}
			}
		}
		if _, err := json.Marshal(table); err != nil {
			t.Fatal(err)
		}
	})
}
