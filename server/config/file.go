package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// file is a configuration file that is being read. go-toml's decoder provides the
// values, its parser their positions.
type file struct {
	name   string
	values map[string]any
	parser unstable.Parser
	config *Config
	where  map[string]string // where each key is set, as named in a fault
	faults []error
}

// readFile sets the keys that the file at path sets, records where, and returns all
// faults in it.
func (c *Config) readFile(path string, where map[string]string) []error {
	data, err := os.ReadFile(path)
	if err != nil {
		return []error{fmt.Errorf("cannot read the configuration: %w", err)}
	}
	// Some editors on Windows begin every file with a byte order mark.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))

	f := file{name: path, config: c, where: where}
	if err := toml.Unmarshal(data, &f.values); err != nil {
		var at *toml.DecodeError
		if !errors.As(err, &at) {
			return []error{fmt.Errorf("%s: %w", path, err)}
		}
		line, column := at.Position()
		return []error{fmt.Errorf("%s:%d:%d: %s", path, line, column, strings.TrimPrefix(at.Error(), "toml: "))}
	}
	f.parser.Reset(data)
	f.read()
	return f.faults
}

// read visits the file in order. A table that is itself invalid is one fault, not one
// for each of its keys.
func (f *file) read() {
	var table []string
	usable := true
	for f.parser.NextExpression() {
		node := f.parser.Expression()
		if node.Kind == unstable.KeyValue {
			if usable {
				f.keyValue(table, node)
			}
			continue
		}
		var start uint32
		table, start, _ = keyPath(nil, node)
		usable = f.entry(table, node.Kind, start, start)
	}
}

func (f *file) keyValue(table []string, node *unstable.Node) {
	path, start, end := keyPath(table, node)
	rest := f.parser.Data()[end:]
	value := end + uint32(len(rest)-len(bytes.TrimLeft(rest, " \t=")))
	if f.entry(path, node.Value().Kind, start, value) {
		for it := node.Value().Children(); it.Next(); {
			f.keyValue(path, it.Node())
		}
	}
}

// entry processes the key or table at path, and reports whether it is a section.
func (f *file) entry(path []string, kind unstable.Kind, keyAt, valueAt uint32) bool {
	name := dotted(path)
	if slices.Contains(sections, name) {
		if kind == unstable.Table || kind == unstable.InlineTable {
			return true
		}
		f.fault(valueAt, name, expected("a table", f.value(path)))
		return false
	}
	k, ok := keyNamed(name)
	if !ok {
		f.fault(keyAt, name, unknown("key", name, slices.Concat(keyNames(), sections)))
		return false
	}
	f.where[name] = f.place(valueAt, name)
	if err := k.set(f.config, f.value(path)); err != nil {
		f.fault(valueAt, name, err)
	}
	return false
}

// value returns the decoded value at path.
func (f *file) value(path []string) any {
	var value any = f.values
	for _, part := range path {
		table, _ := value.(map[string]any)
		value = table[part]
	}
	return value
}

func (f *file) fault(offset uint32, name string, err error) {
	f.faults = append(f.faults, fmt.Errorf("%s: %w", f.place(offset, name), err))
}

func (f *file) place(offset uint32, name string) string {
	at := f.parser.Shape(unstable.Range{Offset: offset}).Start
	return fmt.Sprintf("%s:%d:%d: %s", f.name, at.Line, at.Column, name)
}

// keyPath returns the key of a node within table, and the offsets of its start and end.
func keyPath(table []string, node *unstable.Node) (path []string, start, end uint32) {
	path = slices.Clone(table)
	for it := node.Key(); it.Next(); {
		part := it.Node()
		if len(path) == len(table) {
			start = part.Raw.Offset
		}
		path = append(path, string(part.Data))
		end = part.Raw.Offset + part.Raw.Length
	}
	return path, start, end
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// dotted joins a path in TOML notation, so that the key "a.b" and the key b of the
// table a remain distinct.
func dotted(path []string) string {
	parts := slices.Clone(path)
	for i, part := range parts {
		if !bareKey.MatchString(part) {
			parts[i] = strconv.Quote(part)
		}
	}
	return strings.Join(parts, ".")
}
