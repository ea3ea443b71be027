//go:build unix

package durability

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	spans     = regexp.MustCompile("`go test [^`]*`")
	testNames = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
)

// A command that runs no test proves nothing, and says so nowhere.
func TestEachCommandOfThePageRunsATest(t *testing.T) {
	page, err := os.ReadFile("README.md")
	must(t, err)
	commands := spans.FindAllString(string(page), -1)
	if len(commands) < 10 {
		t.Fatalf("the page has %d commands", len(commands))
	}
	for _, command := range commands {
		before, after, narrowed := strings.Cut(strings.Trim(command, "`"), " -run ")
		expression := ""
		if narrowed {
			// In a table, a pipe is written as \|.
			expression = strings.ReplaceAll(strings.Trim(strings.Fields(after)[0], "'"), `\|`, "|")
		}
		pattern, err := regexp.Compile(expression)
		must(t, err)
		for _, folder := range strings.Fields(before)[2:] {
			if strings.HasPrefix(folder, "-") {
				break // the flags follow
			}
			if !pattern.MatchString(strings.Join(testsIn(t, filepath.Join("../..", folder)), "\n")) {
				t.Errorf("%s runs no test of %s", command, folder)
			}
		}
	}
}

func testsIn(t *testing.T, folder string) (names []string) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	must(t, err)
	for _, file := range files {
		source, err := os.ReadFile(file)
		must(t, err)
		for _, name := range testNames.FindAllStringSubmatch(string(source), -1) {
			names = append(names, name[1])
		}
	}
	return names
}
