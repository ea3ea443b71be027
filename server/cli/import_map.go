package cli

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// mapLine is a line of a map, which says of a file where it belongs. The manifest of an
// export is one.
type mapLine struct {
	Path      string            `json:"path"`
	Place     string            `json:"place"`
	Parent    string            `json:"parent"` // another word for the place
	Space     string            `json:"space"`  // of a ticket or meeting that is named by its title, or to be made
	PlaceName string            `json:"place_name"`
	Owner     string            `json:"owner"` // of a ticket that is to be made
	Name      string            `json:"name"`
	Author    string            `json:"author"`
	Time      string            `json:"time"`
	SHA256    string            `json:"sha256"`
	Comment   string            `json:"comment"` // of the ticket, its id
	Exported  remote.Attachment `json:"attachment"`

	number     int       // of the line; 0 without a map
	authorName string    // of the user whose id is given
	at         time.Time // when it was uploaded; zero: unknown
	err        error     // why it cannot be imported
}

// columns are the columns of a map in CSV.
var columns = map[string]func(*mapLine) *string{
	"path":       func(l *mapLine) *string { return &l.Path },
	"place":      func(l *mapLine) *string { return &l.Place },
	"parent":     func(l *mapLine) *string { return &l.Parent },
	"space":      func(l *mapLine) *string { return &l.Space },
	"place_name": func(l *mapLine) *string { return &l.PlaceName },
	"owner":      func(l *mapLine) *string { return &l.Owner },
	"name":       func(l *mapLine) *string { return &l.Name },
	"author":     func(l *mapLine) *string { return &l.Author },
	"time":       func(l *mapLine) *string { return &l.Time },
	"sha256":     func(l *mapLine) *string { return &l.SHA256 },
	"comment":    func(l *mapLine) *string { return &l.Comment },
}

// longestLine is how many bytes a line of a map in NDJSON has at most.
const longestLine = 1 << 20

// readMap reads a map: CSV, or NDJSON if its name ends so. It refuses a map of which it
// does not understand everything.
func readMap(name string, from io.Reader) (lines []*mapLine, err error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv", ".tsv", ".txt":
		lines, err = readCSV(from)
	case ".ndjson", ".jsonl", ".json":
		lines, err = readNDJSON(from)
	default:
		return nil, command.Usage("--map takes a file whose name ends with .csv or .ndjson")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; nothing was imported", name, err)
	}
	for _, l := range lines {
		l.complete()
	}
	return lines, nil
}

func readNDJSON(from io.Reader) (lines []*mapLine, err error) {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, longestLine)
	for number := 1; scanner.Scan(); number++ {
		if len(bytes.TrimSpace(scanner.Bytes())) == 0 {
			continue
		}
		l := &mapLine{number: number}
		decoder := json.NewDecoder(bytes.NewReader(scanner.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(l); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		lines = append(lines, l)
	}
	return lines, scanner.Err()
}

func readCSV(from io.Reader) (lines []*mapLine, err error) {
	raw, err := io.ReadAll(from)
	if err != nil {
		return nil, err
	}
	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	r := csv.NewReader(bytes.NewReader(raw))
	if first, _, _ := bytes.Cut(raw, []byte("\n")); !bytes.Contains(first, []byte(",")) {
		for _, other := range ";\t" { // as spreadsheets write it in some countries
			if bytes.ContainsRune(first, other) {
				r.Comma = other
			}
		}
	}
	header, err := r.Read()
	if err == io.EOF {
		return nil, errors.New("it is empty")
	}
	if err != nil {
		return nil, err
	}
	for i, column := range header {
		header[i] = strings.ToLower(strings.TrimSpace(column))
		if columns[header[i]] == nil {
			return nil, fmt.Errorf("its first line must name the columns, and %q is none; there are %s", column, strings.Join(slices.Sorted(maps.Keys(columns)), ", "))
		}
	}
	if !slices.Contains(header, "path") {
		return nil, errors.New("it has no column path")
	}
	for {
		row, err := r.Read()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		l := &mapLine{}
		l.number, _ = r.FieldPos(0)
		for i, value := range row {
			*columns[header[i]](l) = strings.TrimSpace(value)
		}
		lines = append(lines, l)
	}
}

// complete takes over what an export has, and reads the path and the time.
func (l *mapLine) complete() {
	if l.Place == "" {
		l.Place = l.Parent
	}
	if from := l.Exported; from.ID != "" {
		if l.Comment == "" {
			l.Comment = from.CommentID
		}
		if l.Name == "" {
			l.Name = from.FileName
		}
		if l.Author == "" {
			l.Author, l.authorName = from.UploadedBy.ID, from.UploadedBy.FullName
		}
		if l.Time == "" {
			l.Time = from.CreatedAt
		}
	}
	if !strings.Contains(l.Path, "/") {
		l.Path = strings.ReplaceAll(l.Path, `\`, "/") // as Windows writes it
	}
	var path string
	if path, l.err = cleanPath(l.Path); l.err == nil {
		l.Path = path
	}
	if l.err == nil && l.Time != "" {
		l.at, l.err = mapTime(l.Time)
	}
	if id, err := uuid.Parse(l.Exported.ID); err == nil && id.Version() == 7 && l.Time == l.Exported.CreatedAt {
		// It has the time exactly, by which files keep their order: milliseconds, and 1/4096 of them.
		steps := binary.BigEndian.Uint64(id[:8])
		exactly := time.UnixMilli(int64(steps >> 16)).Add(time.Duration((steps&0xfff*1e6 + 0xfff) >> 12))
		if exactly.Unix() == l.at.Unix() {
			l.at = exactly
		}
	}
}

// mapTime parses a time of a map. A date is its beginning in UTC.
func mapTime(given string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		at, err := time.Parse(layout, given)
		switch {
		case err != nil:
			continue
		case at.Unix() < 0: // such as 0001-01-01, by which some programs mean none
			return time.Time{}, fmt.Errorf("%q is before 1970", given)
		}
		return at, nil
	}
	return time.Time{}, fmt.Errorf("%q is not a time like 2026-01-15T10:30:00Z or 2026-01-15", given)
}
