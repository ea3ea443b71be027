package config

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// unknown returns the fault for a name that is not among names.
func unknown(what, name string, names []string) error {
	if near, ok := nearest(name, names); ok {
		return fmt.Errorf("unknown %s, did you mean %s?", what, near)
	}
	return fmt.Errorf("unknown %s", what)
}

// nearest returns the name that was probably meant by name: one that is spelled
// similarly or, failing that, one that is without its section.
func nearest(name string, names []string) (string, bool) {
	name = strings.ToLower(name)
	whole := func(s string) string { return s }
	key := func(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
	if near, ok := closest(name, names, whole); ok {
		return near, true
	}
	return closest(key(name), names, key)
}

// closest returns the name whose given part has the least edit distance to want. At
// most a third of the letters may differ.
func closest(want string, names []string, part func(string) string) (best string, ok bool) {
	least := 0
	for _, name := range names {
		have := part(name)
		d := levenshtein.ComputeDistance(want, have)
		if d <= len(have)/3 && (!ok || d < least) {
			best, least, ok = name, d, true
		}
	}
	return best, ok
}
