//go:build unix

package e2e

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

// dials are the places where a connection may be made, and to whom.
var dials = map[string]string{
	"server/datadir/socket.go net.Dialer":                  "the socket in the data directory",
	"server/daemon/listen.go net.Dial":                     "a unix socket in listen, to see that nobody listens on it",
	"server/scan/clamd.go net.Dialer":                      "the scanner that the configuration names",
	"server/webhooks/sender.go net.Dialer":                 "the receiver that the configuration names, not in a private network unless it says so",
	"server/webhooks/sender.go http.Client":                "likewise",
	"server/webhooks/sender.go http.Transport":             "likewise",
	"server/webhooks/sender.go http.NewRequestWithContext": "likewise",
	"blobs/s3/bucket.go net.Dialer":                        "the object store that the configuration names",
	"blobs/s3/bucket.go http.Transport":                    "likewise",
	"blobs/s3/diagnosis.go http.Client":                    "likewise, when its operator runs the doctor",
	"blobs/s3/diagnosis.go http.NewRequestWithContext":     "likewise",
	"server/cli/client.go http.Client":                     "over that socket, or through memory",
	"server/doctor/network.go http.NewRequestWithContext":  "public_url, which is this server itself, when its operator runs the doctor",
	"server/doctor/network.go http.Client":                 "likewise",
	"server/doctor/network.go http.Transport":              "likewise",
	"server/remote/client.go http.Client":                  "the server that the user of a command names",
	"server/remote/client.go http.Transport":               "likewise",
	"server/remote/client.go http.DefaultTransport":        "likewise",
	"server/remote/client.go http.NewRequestWithContext":   "likewise",
	"server/cli/client.go http.Transport":                  "over that socket, or through memory",
	"store/postgres/connect.go net.Dialer":                 "the database of the configuration",
	"server/cli/client.go http.NewRequestWithContext":      "over that socket, or through memory",
}

// dialing matches what makes a connection, or looks up a name.
var dialing = map[string]*regexp.Regexp{
	"net":               regexp.MustCompile(`^(Dial|Lookup|Resolve|DefaultResolver|Resolver)`),
	"net/http":          regexp.MustCompile(`^(Get|Head|Post|PostForm|Client|DefaultClient|Transport|DefaultTransport|NewRequest\w*)$`),
	"crypto/tls":        regexp.MustCompile(`^(Dial|Client$)`),
	"net/http/httputil": regexp.MustCompile(`ReverseProxy`),
}

// banned are packages that our code must not use: predictable random numbers, other
// programs, and untyped memory.
var banned = []string{"math/rand", "math/rand/v2", "os/exec", "unsafe", "net/rpc", "net/smtp", "plugin", "C"}

// excepted are the files that need one of them, and why.
var excepted = map[string]string{
	"server/preview/process.go os/exec":         "this program itself, which decodes pictures in a process of its own",
	"server/preview/confine_unix.go os/exec":    "likewise",
	"server/preview/confine_windows.go os/exec": "likewise",
	"server/cli/docs.go os/exec":                "the pager that the environment of whoever reads the manual names",
	"server/memory/available_windows.go unsafe": "the size of a structure that Windows fills in",
}

// Nothing in the program connects to anything that a client names, and secrets
// come from crypto/rand.
// ASVS 1.3.6, 13.2.4, 13.2.5, 11.2.1, 11.2.3, 16.2.3
func TestNothingDialsOut(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	eachSource(t, func(path string, file *ast.File) {
		names := map[string]string{} // by which the file calls what it imports
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			check(t, err)
			if slices.Contains(banned, imported) && excepted[path+" "+imported] == "" {
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

// formParsers read a body or a query by net/http's rules, with its limits and
// temporary files.
var formParsers = []string{"ParseForm", "ParseMultipartForm", "MultipartReader", "FormFile", "FormValue", "PostForm", "PostFormValue", "MultipartForm"}

// A body is read only by attachd's reader, which has its limits.
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

// attachd cannot be built with a version of Go that has known vulnerabilities.
// ASVS 15.1.1, 15.1.2, 15.2.1; CVE-2026-56853, CVE-2025-61726, CVE-2026-42504, CVE-2025-58186,
// CVE-2025-22871, CVE-2026-39822, CVE-2026-42507
func TestTheLeastGoHasNoKnownHoles(t *testing.T) {
	t.Parallel()
	wanted := regexp.MustCompile(`(?m)^go 1\.(\d+)\.(\d+)$`).FindStringSubmatch(read(t, "../../go.mod"))
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

// eachSource visits the Go files that the program is built from.
func eachSource(t *testing.T, visit func(path string, file *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name := entry.Name(); name != ".." && strings.HasPrefix(name, ".") || name == "testdata" || name == "blobstest" || name == "storetest" || name == "s3test" || name == "postgrestest" || name == "load" || name == "e2e" {
				return fs.SkipDir // not part of the server
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
		visit(strings.TrimPrefix(filepath.ToSlash(path), "../../"), file)
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

// requiredRows are the requirements for a file service: of OWASP ASVS 5.0 all of V5
// and what else applies, and the known vulnerabilities of similar systems. A
// chapter or a range includes all of its requirements.
const requiredRows = `
1.1.1, 1.2.1 to 1.2.4, 1.3.4, 1.3.6, 1.4.2, 1.4.3,
2.1.3, 2.2.1, 2.2.2, 2.3.2, 2.3.3, 2.4.1,
3.2.1, 3.2.2, 3.4.1 to 3.4.6, 3.4.8, 3.5.1 to 3.5.4, 3.5.8, 3.6.1, 3.7.2,
4.1.1 to 4.1.4, 4.2.1, 4.2.2,
5.1.1, 5.2.1 to 5.2.6, 5.3.1 to 5.3.3, 5.4.1 to 5.4.3,
6.1.1, 6.3.1, 6.3.2, 6.3.8, 6.5.2, 7.2.3, 7.4.1, 7.4.2,
8.1.1, 8.2.1 to 8.2.3, 8.3.2, 8.4.1, 9.1.1, 9.1.2, 9.2.1 to 9.2.3, 10.x,
11.2.1, 11.2.3, 11.2.4, 11.4.1, 11.4.3, 11.5.1, 12.1.1, 12.2.1, 12.3.1, 12.3.2,
13.1.2, 13.1.3, 13.2.3 to 13.2.6, 13.3.1, 13.3.4, 13.4.1 to 13.4.6,
14.2.1, 14.2.2, 14.2.5, 14.2.7, 14.2.8, 14.3.2,
15.1.1 to 15.1.3, 15.2.1, 15.2.2, 15.3.1, 15.3.3, 15.3.4, 15.3.7, 15.4.1 to 15.4.4,
16.1.1, 16.2.1 to 16.2.5, 16.3.1 to 16.3.4, 16.4.1, 16.5.1 to 16.5.4,
CVE-2019-20102, CVE-2020-1955, CVE-2022-41725, CVE-2023-2253, CVE-2023-24536, CVE-2023-29401, CVE-2023-45290,
CVE-2025-22871, CVE-2025-31489, CVE-2025-48494, CVE-2025-58186, CVE-2025-61726, CVE-2025-65798, CVE-2025-65799, CVE-2025-68939,
CVE-2026-3114, CVE-2026-3473, CVE-2026-4265, CVE-2026-20736, CVE-2026-20912, CVE-2026-25921, CVE-2026-26196, CVE-2026-27616,
CVE-2026-28736, CVE-2026-30961, CVE-2026-32759, CVE-2026-33221, CVE-2026-33678, CVE-2026-35172, CVE-2026-35604, CVE-2026-35605,
CVE-2026-39822, CVE-2026-40344, CVE-2026-41145, CVE-2026-42504, CVE-2026-42507, CVE-2026-52799, CVE-2026-52812, CVE-2026-54097,
CVE-2026-55078, CVE-2026-55079, CVE-2026-55667, CVE-2026-56853, CVE-2026-57886, CVE-2026-58426, CVE-2026-58432, CVE-2026-62684,
GO-2026-5511`

// rowsWithoutTest are rows that no test can cover: SECURITY.md says why.
var rowsWithoutTest = []string{"10.x", "11.2.4"}

// each returns the requirements in a list, those of a range one by one.
func each(t *testing.T, list string) (all []string) {
	t.Helper()
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), " to ")
		if !isRange {
			all = append(all, first)
			continue
		}
		dot := strings.LastIndexByte(first, '.') + 1
		from, err := strconv.Atoi(first[dot:])
		check(t, err)
		to, err := strconv.Atoi(strings.TrimPrefix(last, first[:dot]))
		check(t, err)
		for n := from; n <= to; n++ {
			all = append(all, first[:dot]+strconv.Itoa(n))
		}
	}
	return all
}

// SECURITY.md names the test for each requirement, and the test names the
// requirement. No row is missing.
func TestTheTestsThatSecurityNamesExist(t *testing.T) {
	t.Parallel()
	text := read(t, "../../SECURITY.md")
	inDirectory := map[string]map[string]string{}
	named := map[string]bool{}
	rows := map[string]bool{}
	for _, row := range securityRow.FindAllStringSubmatch(text, -1) {
		tests := namedTest.FindAllStringSubmatch(row[2], -1)
		if all := len(anyTest.FindAllString(row[2], -1)); all != len(tests) {
			t.Errorf("%s: %d tests are named, but only %d with their directory behind them", row[1], all, len(tests))
		}
		for _, requirement := range each(t, row[1]) {
			rows[requirement] = true
			if len(tests) == 0 && !slices.Contains(rowsWithoutTest, requirement) {
				t.Errorf("%s: no test is named", requirement)
			}
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
	for _, requirement := range each(t, requiredRows) {
		if !rows[requirement] {
			t.Errorf("there is no row for %s", requirement)
		}
	}
	for dir, tests := range inDirectory {
		for name, comment := range tests {
			if len(requirements(comment)) > 0 && !named[dir+" "+name] {
				t.Errorf("%s in %s names requirements, and SECURITY.md does not name it", name, dir)
			}
		}
	}
}

// requirements returns those that the last lines of a comment name.
func requirements(comment string) []string {
	at := regexp.MustCompile(`(?m)^// (ASVS \d|CVE-|GO-)`).FindStringIndex(comment)
	if at == nil {
		return nil
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(comment[at[0]:], "//", "")), " ")
	return strings.Split(strings.ReplaceAll(strings.TrimPrefix(text, "ASVS "), "; ", ", "), ", ")
}

// testsIn returns the tests in a directory, with their comments.
func testsIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", dir, "*_test.go"))
	check(t, err)
	tests := map[string]string{}
	for _, file := range files {
		for _, m := range testInFile.FindAllStringSubmatch(read(t, file), -1) {
			tests[m[2]] = m[1]
		}
	}
	return tests
}
