//go:build unix

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// commandInText is one of attachd's commands, as documents show it.
	commandInText = regexp.MustCompile("(?m)(?:^|[ `$(/])attachd ((?:[a-z][a-z-]* ?)+)([^`\n|;&]*)")
	flagInText    = regexp.MustCompile(`(?:^|[ \[])(--[a-z-]+)`)
	codeInText    = regexp.MustCompile("(?ms)^```.*?^```|`[^`]+`")
)

// noCommands are words that follow attachd in what documents quote.
var noCommands = []string{"www-data", "ignores", "runs", "wrote", "man", "login", "owner"}

// A command or flag that a document names exists, also where no test runs it, as in the
// middle of a sentence.
func TestTheCommandsThatDocumentsNameExist(t *testing.T) {
	t.Parallel()
	manPages := t.TempDir()
	ok(t, "man", manPages)
	page := func(words ...string) string {
		text, err := os.ReadFile(filepath.Join(manPages, "attachd-"+strings.Join(words, "-")+".1"))
		if err != nil {
			return ""
		}
		return strings.ReplaceAll(string(text), `\`, "")
	}
	documents, err := filepath.Glob("../../docs/*.md")
	check(t, err)
	documents = append(documents, "../../README.md", "../../SECURITY.md", "../../CHANGELOG.md")
	named := 0
	for _, document := range documents {
		shown := strings.Join(codeInText.FindAllString(read(t, document), -1), "\n")
		for _, m := range commandInText.FindAllStringSubmatch(shown, -1) {
			words := strings.Fields(m[1])
			if slices.Contains(noCommands, words[0]) {
				continue
			}
			named++
			options := page(words[0])
			if len(words) > 1 && page(words[:2]...) != "" {
				options = page(words[:2]...)
			}
			if options == "" {
				t.Errorf("%s names attachd %s, which is no command", document, words[0])
			}
			for _, flag := range flagInText.FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(options, flag[1]+"fR") {
					t.Errorf("%s names attachd %s%s, which has no %s", document, m[1], m[2], flag[1])
				}
			}
		}
	}
	if named < 140 {
		t.Errorf("only %d commands were found", named)
	}
}
