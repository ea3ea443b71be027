//go:build unix

package e2e

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// modules are the modules in the binary, each with its purpose.
var modules = map[string]string{
	"attachd":                              "",
	"github.com/gabriel-vasile/mimetype":   "what type a content is",
	"github.com/google/uuid":               "ids",
	"github.com/inconshreveable/mousetrap": "cobra, on Windows",
	"github.com/julienschmidt/httprouter":  "routes",
	"github.com/pelletier/go-toml/v2":      "the configuration file",
	"github.com/prometheus/client_golang":  "metrics",
	"github.com/coreos/go-systemd/v22":     "sockets and readiness under systemd",
	"github.com/agnivade/levenshtein":      "did you mean",
	"github.com/beorn7/perks":              "client_golang",
	"github.com/cespare/xxhash/v2":         "client_golang",
	"github.com/munnerz/goautoneg":         "client_golang",
	"github.com/prometheus/client_model":   "client_golang",
	"github.com/prometheus/common":         "client_golang",
	"github.com/prometheus/procfs":         "client_golang",
	"google.golang.org/protobuf":           "client_golang",
	"github.com/rs/cors":                   "calls from pages of other origins",
	"github.com/spf13/cobra":               "the command line",
	"github.com/spf13/pflag":               "cobra",
	"github.com/yuin/goldmark":             "the manual as HTML",
	"go.etcd.io/bbolt":                     "the database",
	"github.com/minio/minio-go/v7":         "object stores",
	"github.com/jackc/pgx/v5":              "PostgreSQL",
	"github.com/jackc/pgpassfile":          "pgx",
	"github.com/jackc/pgservicefile":       "pgx",
	"github.com/jackc/puddle/v2":           "pgx",
	"github.com/minio/crc64nvme":           "minio-go",
	"github.com/minio/md5-simd":            "minio-go",
	"github.com/dustin/go-humanize":        "minio-go",
	"github.com/klauspost/compress":        "minio-go",
	"github.com/klauspost/cpuid/v2":        "minio-go",
	"github.com/klauspost/crc32":           "minio-go",
	"github.com/philhofer/fwd":             "minio-go",
	"github.com/rs/xid":                    "minio-go",
	"github.com/tinylib/msgp":              "minio-go",
	"github.com/zeebo/xxh3":                "minio-go",
	"go.yaml.in/yaml/v3":                   "minio-go",
	"golang.org/x/crypto":                  "signatures of releases, and minio-go",
	"golang.org/x/net":                     "minio-go",
	"gopkg.in/ini.v1":                      "minio-go",
	"golang.org/x/image":                   "thumbnails",
	"golang.org/x/sync":                    "limits of what is done at once",
	"golang.org/x/sys":                     "bbolt, free space on a disk, locks on Windows, and what decoding a picture may use",
	"golang.org/x/term":                    "whether the log and progress go to a person, and how wide the terminal is",
	"golang.org/x/text":                    "file names in NFC, and how many columns they take",
	"golang.org/x/time":                    "requests a minute",
}

// A new dependency is a decision, to be written down here.
// ASVS 11.2.1, 11.2.3, 15.1.1, 15.1.2, 15.2.1
func TestTheBinaryHasOnlyTheseModules(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, system := range []string{"linux", "darwin", "windows"} {
		list := goList(t, system, "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "attachd")
		for _, module := range strings.Fields(list) {
			seen[module] = true
		}
	}
	for module := range seen {
		if _, decided := modules[module]; !decided {
			t.Errorf("the binary has %s: what for?", module)
		}
	}
	for module := range modules {
		if !seen[module] {
			t.Errorf("the binary has no %s any more", module)
		}
	}
}

// The licences that the program prints are those of the modules in it, and of Go. If
// not: packaging/notices.sh >server/cli/notices.txt
func TestTheLicencesAreThoseOfTheModules(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"Go": true}
	for _, system := range []string{"linux", "darwin", "windows"} {
		list := goList(t, system, "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "attachd")
		for module := range strings.Lines(list) {
			want[strings.TrimSpace(module)] = true
		}
	}
	delete(want, "")
	printed := ok(t, "licenses")
	got := map[string]bool{}
	for _, section := range regexp.MustCompile(`(?m)^==== (.+): \S+\n\s*\S`).FindAllStringSubmatch(printed, -1) {
		got[section[1]] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("printed are the licences of %v, linked are %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

// A program that looks methods up by name has all methods of all types in it, called or not:
// with the template of cobra's --version it was a quarter larger.
func TestTheLinkerLeavesOutMethodsThatNobodyCalls(t *testing.T) {
	t.Parallel()
	symbols, err := exec.Command("go", "tool", "nm", binary()).Output()
	check(t, err)
	if !bytes.Contains(symbols, []byte("main.main")) {
		t.Fatal("the program has no symbols")
	}
	for _, looksUp := range []string{"text/template.(*Template).Execute", "html/template.(*Template).Execute"} {
		if bytes.Contains(symbols, []byte(looksUp)) {
			t.Errorf("%s is linked; find out why with go build -ldflags=-dumpdep", looksUp)
		}
	}
}

// goList runs go list for an operating system.
func goList(t *testing.T, system string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	list, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %q: %v\n%s", args, err, &stderr)
	}
	return string(list)
}
