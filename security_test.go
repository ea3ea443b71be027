//go:build unix

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Where a connection may be made, and to whom.
var dials = map[string]string{
	"server/datadir/socket.go net.Dialer":                  "the socket in the data directory",
	"server/scan/clamd.go net.Dialer":                      "the scanner that the configuration names",
	"server/webhooks/sender.go net.Dialer":                 "the receiver that the configuration names, not in a private network unless it says so",
	"server/webhooks/sender.go http.Client":                "likewise",
	"server/webhooks/sender.go http.Transport":             "likewise",
	"server/webhooks/sender.go http.NewRequestWithContext": "likewise",
	"server/cli/client.go http.Client":                     "over that socket, or through memory",
	"server/doctor/network.go http.NewRequestWithContext":  "public_url, which is this server itself, when its operator runs the doctor",
	"server/doctor/network.go http.Client":                 "likewise",
	"server/doctor/network.go http.Transport":              "likewise",
	"server/remote/client.go http.Client":                  "the server that the user of a command names",
	"server/remote/client.go http.Transport":               "likewise",
	"server/remote/client.go http.DefaultTransport":        "likewise",
	"server/remote/client.go http.NewRequestWithContext":   "likewise",
	"server/cli/client.go http.Transport":                  "over that socket, or through memory",
	"server/cli/client.go http.NewRequestWithContext":      "over that socket, or through memory",
}

// What makes a connection, or looks up a name.
var dialing = map[string]*regexp.Regexp{
	"net":               regexp.MustCompile(`^(Dial|Lookup|Resolve|DefaultResolver|Resolver)`),
	"net/http":          regexp.MustCompile(`^(Get|Head|Post|PostForm|Client|DefaultClient|Transport|DefaultTransport|NewRequest\w*)$`),
	"crypto/tls":        regexp.MustCompile(`^(Dial|Client$)`),
	"net/http/httputil": regexp.MustCompile(`ReverseProxy`),
}

// What our own code has no business with: chance that can be foreseen, other
// programs, and memory without types.
var banned = []string{"math/rand", "math/rand/v2", "os/exec", "unsafe", "net/rpc", "net/smtp", "plugin", "C"}

// Nothing in the program connects to anything that a client names, and secrets
// come from crypto/rand.
// ASVS 1.3.6, 13.2.4, 13.2.5, 11.2.1, 11.2.3
func TestNothingDialsOut(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	eachSource(t, func(path string, file *ast.File) {
		names := map[string]string{} // by which the file calls what it imports
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			check(t, err)
			if slices.Contains(banned, imported) {
				t.Errorf("%s imports %s", path, imported)
			}
			name := imported[strings.LastIndexByte(imported, '/')+1:]
			if spec.Name != nil {
				name = spec.Name.Name
			}
			names[name] = imported
		}
		ast.Inspect(file, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			from, ok := selector.X.(*ast.Ident)
			if !ok || dialing[names[from.Name]] == nil || !dialing[names[from.Name]].MatchString(selector.Sel.Name) {
				return true
			}
			use := path + " " + from.Name + "." + selector.Sel.Name
			found[use] = true
			if dials[use] == "" {
				t.Errorf("%s: to whom?", use)
			}
			return true
		})
	})
	for use := range dials {
		if !found[use] {
			t.Errorf("there is no %s any more", use)
		}
	}
}

// What reads a body or a query as net/http likes, with its own limits and
// temporary files.
var formParsers = []string{"ParseForm", "ParseMultipartForm", "MultipartReader", "FormFile", "FormValue", "PostForm", "PostFormValue", "MultipartForm"}

// A body is read by our own reader alone, which has its limits.
// CVE-2022-41725, CVE-2023-24536, CVE-2023-45290
func TestNoBodyIsParsedAsAForm(t *testing.T) {
	t.Parallel()
	eachSource(t, func(path string, file *ast.File) {
		ast.Inspect(file, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && slices.Contains(formParsers, selector.Sel.Name) {
				t.Errorf("%s uses %s", path, selector.Sel.Name)
			}
			return true
		})
	})
}

// Nobody can build it with a Go that has them.
// ASVS 15.1.1, 15.1.2, 15.2.1; CVE-2026-56853, CVE-2025-61726, CVE-2026-42504, CVE-2025-58186,
// CVE-2025-22871, CVE-2026-39822
func TestTheLeastGoHasNoKnownHoles(t *testing.T) {
	t.Parallel()
	wanted := regexp.MustCompile(`(?m)^go 1\.(\d+)\.(\d+)$`).FindStringSubmatch(read(t, "go.mod"))
	if wanted == nil {
		t.Fatal("go.mod names no release of Go")
	}
	minor, err := strconv.Atoi(wanted[1])
	check(t, err)
	patch, err := strconv.Atoi(wanted[2])
	check(t, err)
	if minor < 26 || minor == 26 && patch < 6 {
		t.Errorf("go.mod takes Go 1.%d.%d", minor, patch)
	}
}

// eachSource visits the Go files that the program is made of.
func eachSource(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name != "." && strings.HasPrefix(name, ".") || name == "testdata" || name == "blobstest" || name == "storetest" || name == "load" {
				return fs.SkipDir // no part of the server
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(path), file)
		return nil
	})
	check(t, err)
}

var (
	securityRow = regexp.MustCompile(`(?m)^\| ([0-9CG][^|]*) \|[^|]*\|(.*)\|$`)
	namedTest   = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)` \\(([a-z0-9_/]+)\\)")
	anyTest     = regexp.MustCompile("`(?:Test|Fuzz)[A-Za-z0-9]+`")
	testInFile  = regexp.MustCompile(`(?m)((?:^//.*\n)*)^func ((?:Test|Fuzz)[A-Za-z0-9]+)\(`)
)

// A reader of SECURITY.md finds the test that holds a promise, and a reader of
// the test finds the promise: each names the other.
func TestTheTestsThatSecurityNamesExist(t *testing.T) {
	t.Parallel()
	text := read(t, "SECURITY.md")
	inDirectory := map[string]map[string]string{}
	named := map[string]bool{}
	for _, row := range securityRow.FindAllStringSubmatch(text, -1) {
		tests := namedTest.FindAllStringSubmatch(row[2], -1)
		if all := len(anyTest.FindAllString(row[2], -1)); all != len(tests) {
			t.Errorf("%s: %d tests are named, but only %d with their directory behind them", row[1], all, len(tests))
		}
		for _, m := range tests {
			name, dir := m[1], m[2]
			named[dir+" "+name] = true
			if inDirectory[dir] == nil {
				inDirectory[dir] = testsIn(t, dir)
			}
			comment, exists := inDirectory[dir][name]
			if !exists {
				t.Errorf("%s: there is no %s in %s", row[1], name, dir)
			}
			for requirement := range strings.SplitSeq(row[1], ", ") {
				if exists && !slices.Contains(requirements(comment), requirement) {
					t.Errorf("the comment of %s in %s does not name %s", name, dir, requirement)
				}
			}
		}
	}
	if len(named) < 100 {
		t.Errorf("only %d tests are named", len(named))
	}
	for dir, tests := range inDirectory {
		for name, comment := range tests {
			if len(requirements(comment)) > 0 && !named[dir+" "+name] {
				t.Errorf("%s in %s names requirements, and SECURITY.md does not name it", name, dir)
			}
		}
	}
}

// requirements are those that the last lines of a comment name.
func requirements(comment string) []string {
	at := regexp.MustCompile(`(?m)^// (ASVS \d|CVE-|GO-)`).FindStringIndex(comment)
	if at == nil {
		return nil
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(comment[at[0]:], "//", "")), " ")
	return strings.Split(strings.ReplaceAll(strings.TrimPrefix(text, "ASVS "), "; ", ", "), ", ")
}

// testsIn are the tests in a directory, with their comments; main is the top
// one.
func testsIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	if dir == "main" {
		dir = "."
	}
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*_test.go"))
	check(t, err)
	tests := map[string]string{}
	for _, file := range files {
		for _, m := range testInFile.FindAllStringSubmatch(read(t, file), -1) {
			tests[m[2]] = m[1]
		}
	}
	return tests
}
