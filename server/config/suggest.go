package config

import (
	"fmt"
	"strings"

	"github.com/agnivade/levenshtein"
)

// unknown is the fault of a name that is not among those there are.
func unknown(what, name string, names []string) error {
	if near, ok := nearest(name, names); ok {
		return fmt.Errorf("unknown %s, did you mean %s?", what, near)
	}
	return fmt.Errorf("unknown %s", what)
}

// nearest finds the one of names that somebody who wrote name may have meant:
// one that reads alike or, failing that, one that does so without its section.
func nearest(name string, names []string) (string, bool) {
	name = strings.ToLower(name)
	whole := func(s string) string { return s }
	key := func(s string) string { return s[strings.LastIndexByte(s, '.')+1:] }
	if near, ok := closest(name, names, whole); ok {
		return near, true
	}
	return closest(key(name), names, key)
}

// closest compares want with the given part of each of names. At most a third
// of the letters may differ.
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
