//go:build unix

package durability

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testCommand = regexp.MustCompile("(?m)(?:`|^(?:tested )?)go test (\\./[^`\n]*)")
	assignment  = regexp.MustCompile(`(?m)^(\w+)='(.*?)'`) // of a script
)

// A command that runs no test proves nothing, and does not report it.
func TestEachCommandThatIsPrintedRunsATest(t *testing.T) {
	atLeast := map[string]int{"server/durability/README.md": 40, "SECURITY.md": 5, "CONTRIBUTING.md": 3, ".ci/run": 10}
	for _, page := range manual(t) {
		atLeast["docs/"+page] = 0
	}
	for document, atLeast := range atLeast {
		page, err := os.ReadFile(filepath.Join("../..", document))
		must(t, err)
		variables := map[string]string{}
		for _, m := range assignment.FindAllStringSubmatch(string(page), -1) {
			variables[m[1]] = m[2]
		}
		commands := testCommand.FindAllStringSubmatch(string(page), -1)
		if len(commands) < atLeast {
			t.Errorf("%s has only %d commands", document, len(commands))
		}
		for _, m := range commands {
			words := strings.Fields(strings.ReplaceAll(m[1], `\|`, "|")) // as a pipe is written in a table
			flags := slices.IndexFunc(words, func(word string) bool { return strings.HasPrefix(word, "-") })
			if flags < 0 {
				continue // all tests
			}
			for i, flag := range words {
				kind := map[string]string{"-run": "Test", "-bench": "Benchmark", "-fuzz": "Fuzz"}[flag]
				if kind == "" || words[i+1] == "'^$'" {
					continue
				}
				named := words[i+1]
				if strings.HasPrefix(named, `"`) {
					named = os.Expand(named, func(name string) string { return variables[name] })
				}
				named = strings.Trim(named, `'"`)
				if named == "" {
					t.Errorf("%s: go test %s names no test", document, m[1])
				}
				pattern, err := regexp.Compile(named)
				must(t, err)
				for _, folder := range words[:flags] {
					if !slices.ContainsFunc(functionsIn(t, filepath.Join("../..", folder), kind), pattern.MatchString) {
						t.Errorf("%s: go test %s runs nothing of %s", document, m[1], folder)
					}
				}
			}
		}
	}
}

// manual is the names of the manual's files.
func manual(t *testing.T) (names []string) {
	paths, err := filepath.Glob("../../docs/*.md")
	must(t, err)
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

// functionsIn are the tests, benchmarks or fuzz targets in a folder.
func functionsIn(t *testing.T, folder, kind string) (names []string) {
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	must(t, err)
	declared := regexp.MustCompile(`(?m)^func (` + kind + `\w+)\(\w+ \*testing\.`)
	for _, file := range files {
		source, err := os.ReadFile(file)
		must(t, err)
		for _, m := range declared.FindAllStringSubmatch(string(source), -1) {
			names = append(names, m[1])
		}
	}
	return names
}
