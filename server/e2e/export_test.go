//go:build unix

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exported are the files of an export by their paths, and its manifest, after it was
// compared with them and with SHA256SUMS.
func exported(t *testing.T, dir string) (files map[string]string, lines []exportedLine) {
	t.Helper()
	files = map[string]string{}
	sums := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(dir, "SHA256SUMS"))) {
		sum, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		sums[path] = sum
	}
	walk(t, dir, func(path string, info fs.FileInfo) {
		if rel, err := filepath.Rel(dir, path); err == nil && info.Mode().IsRegular() && rel != "SHA256SUMS" && rel != "manifest.ndjson" {
			files[rel] = read(t, path)
		}
	})
	for line := range strings.Lines(read(t, filepath.Join(dir, "manifest.ndjson"))) {
		var l exportedLine
		check(t, json.Unmarshal([]byte(line), &l))
		lines = append(lines, l)
		sum := sha256.Sum256([]byte(files[l.Path]))
		if want := hex.EncodeToString(sum[:]); l.SHA256 != want || sums[l.Path] != want || l.Attachment.FileSize != int64(len(files[l.Path])) {
			t.Errorf("%s has the SHA-256 %s, the manifest says %s, SHA256SUMS %s", l.Path, want, l.SHA256, sums[l.Path])
		}
	}
	if len(lines) != len(files) || len(sums) != len(files) {
		t.Errorf("of %d files, %d are in the manifest and %d in SHA256SUMS", len(files), len(lines), len(sums))
	}
	return files, lines
}

type exportedLine struct {
	Path, SHA256, Place, Space string
	PlaceName                  string `json:"place_name"`
	Attachment                 struct {
		FileName   string `json:"file_name"`
		FileSize   int64  `json:"file_size"`
		CreatedAt  string `json:"created_at"`
		CommentID  string `json:"comment_id"`
		UploadedBy struct {
			FullName string `json:"full_name"`
		} `json:"uploaded_by"`
	}
}

func TestAnExportHasEveryFileWithWhatIsKnownOfIt(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LOG_FORMAT=json", "--demo")
	dir := filepath.Join(t.TempDir(), "new", "copy")
	said := server.over(0, "export", dir)
	files, lines := exported(t, dir)
	if len(files) != 7 || strings.Count(said.stdout, "\n") != 7 {
		t.Fatalf("the demo has 7 files; exported are %v", lines)
	}
	i := slices.IndexFunc(lines, func(l exportedLine) bool { return l.Attachment.FileName == "error.log" })
	if l := lines[i]; l.Path != "analytics/tickets/Countries are missing 550e8400-e29b-41d4-a716-446655440001/error.log" || l.Place != "ticket:550e8400-e29b-41d4-a716-446655440001" ||
		l.Space != "analytics" || l.PlaceName != "Countries are missing" || l.Attachment.UploadedBy.FullName != "Mei Tanaka" || l.Attachment.CreatedAt == "" {
		t.Errorf("the manifest says %+v", l)
	}

	// The next export fetches what is missing or changed, and nothing else.
	fetched := func() int {
		return strings.Count(server.stderr(), `"method":"GET","route":"/catalog/attachments/:attachment/download"`)
	}
	server.logged(`"method":"GET","route":"/meetings/:meeting/attachments/:attachment"`)
	before := fetched()
	product := filepath.Join(dir, "analytics/products/Customer 360 550e8400-e29b-41d4-a716-446655440000")
	remove(t, filepath.Join(product, "customers.csv"))
	write(t, filepath.Join(product, "lineage.svg"), "half of it")
	write(t, filepath.Join(product, "regions.geojson.part"), "")
	remove(t, filepath.Join(dir, "SHA256SUMS"))
	server.over(0, "export", dir)
	remove(t, filepath.Join(product, "regions.geojson.part"))
	if again, _ := exported(t, dir); len(again) != 7 || again[lines[0].Path] != files[lines[0].Path] {
		t.Errorf("the second export has %d files", len(again))
	}
	server.stop()
	if n := fetched() - before; n != 2 {
		t.Errorf("it fetched %d files, want the 2 that were missing or changed", n)
	}
}

func TestAnExportTakesNamesThatFileSystemsDoNot(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	long := strings.Repeat("ü", 125) + ".txt"
	for _, name := range []string{"a.txt", "A.TXT", "a.txt", "a.txt.part", "what: *?.txt", "..txt", long, ".hidden.txt", "CON.txt"} {
		server.upload(product, name, name).want(t, 201)
	}
	dir := t.TempDir()
	server.over(0, "export", dir, place)
	files, lines := exported(t, dir)
	var got []string
	for _, l := range lines {
		if l.Place != place {
			t.Errorf("exported is %+v", l)
		}
		if content := files[l.Path]; content == l.Attachment.FileName {
			got = append(got, filepath.Base(l.Path))
		}
	}
	if len(lines) != 4+9 || len(got) != 9 || !slices.Contains(got, "a.txt") || !slices.Contains(got, "a.txt.part_") || !slices.Contains(got, "what_ __.txt") ||
		!slices.ContainsFunc(got, func(name string) bool { return strings.HasPrefix(name, "A ") && strings.HasSuffix(name, ".TXT") }) {
		t.Errorf("exported are %q", got)
	}
}

func TestAnExportThatFailsInPartSaysSo(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data") // not one of dataDir, which must be sound at the end
	server := start(t, data, "--demo")
	server.stop()
	server = start(t, data)
	dir := t.TempDir()
	write(t, blobFile(data, digestOf(read(t, "../cli/demo/lineage.svg"))), "damaged")
	r := server.over(1, "export", dir, "analytics")
	says(t, r, "lineage.svg: ")
	says(t, r, "1 of 7 files not exported")
	if files, _ := exported(t, dir); len(files) != 6 {
		t.Errorf("exported are %d files", len(files))
	}
	if _, err := os.Stat(filepath.Join(dir, "manifest.ndjson.part")); err == nil {
		t.Error("a part of the manifest is left")
	}

	other := t.TempDir()
	write(t, filepath.Join(other, "thesis.txt"), "precious")
	says(t, server.over(1, "export", other), "is not empty, and what is in it was not exported")
	says(t, server.over(2, "export", dir, "Not a place"), "is no place")
	says(t, server.over(1, "export", dir, "nowhere"), `There is no space "nowhere"`)
	says(t, server.over(1, "export", dir, "product:analytics/0190aaaa-0000-7000-8000-000000000001"), "that you may see")
	if got := names(t, other); len(got) != 1 {
		t.Errorf("it left %v", got)
	}
}

func digestOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
