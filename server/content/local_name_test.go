package content

import (
	"strings"
	"testing"
)

func TestLocalNamesDiffer(t *testing.T) {
	t.Parallel()
	var numbered, named LocalNames
	for _, c := range []struct{ name, numbered, named string }{
		{"a.txt", "a.txt", "a.txt"},
		{"A.TXT", "A (2).TXT", "A id.TXT"},
		{"a.txt", "a (3).txt", "a id.txt"},
		{"b (2).txt", "b (2).txt", "b (2).txt"},
		{"b.txt", "b.txt", "b.txt"},
		{"b.txt", "b (3).txt", "b id.txt"},
		{"a/b:c", "a_b_c", "a_b_c"},
		{`a\b?c`, "a_b_c (2)", "a_b_c id"},
		{"...", "(1)", "id"},
		{"..", "(2)", "id"},
		{"aux.c", "_aux.c", "_aux.c"},
		{"Com1", "_Com1", "_Com1"},
		{"console.log", "console.log", "console.log"},
		{"x.part", "x.part_", "x.part_"},
		{strings.Repeat("ü", 150) + ".pdf", strings.Repeat("ü", 98) + ".pdf", strings.Repeat("ü", 98) + ".pdf"},
	} {
		if got := numbered.Add(c.name, ""); got != c.numbered {
			t.Errorf("%q becomes %q, not %q", c.name, got, c.numbered)
		}
		if got := named.Add(c.name, "id"); got != c.named {
			t.Errorf("%q becomes %q, not %q", c.name, got, c.named)
		}
	}
}

func TestManyFilesOfOneNameAreNamedFast(t *testing.T) {
	t.Parallel()
	var names LocalNames
	for range 20_000 {
		names.Add("a.txt", "")
	}
	if got := names.Add("a.txt", ""); got != "a (20001).txt" {
		t.Error(got)
	}
}
