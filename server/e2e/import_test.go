//go:build unix

package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// describe says of each attachment of an export what an import must keep, in the order
// of their places and lists.
func describe(lines []exportedLine) (all []string) {
	for _, l := range lines {
		a := l.Attachment
		all = append(all, strings.Join([]string{l.Place, l.PlaceName, a.FileName, l.SHA256, a.UploadedBy.FullName, a.CreatedAt, a.CommentID}, "|"))
	}
	return all
}

// zipped packs a folder; prefix comes before each path.
func zipped(t *testing.T, dir, prefix string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "copy.zip")
	f, err := os.Create(path)
	check(t, err)
	w := zip.NewWriter(f)
	walk(t, dir, func(path string, info fs.FileInfo) {
		if rel, err := filepath.Rel(dir, path); err == nil && info.Mode().IsRegular() {
			entry, err := w.Create(prefix + rel)
			check(t, err)
			_, err = entry.Write([]byte(read(t, path)))
			check(t, err)
		}
	})
	check(t, w.Close())
	check(t, f.Close())
	return path
}

// An export is imported as it is: into another installation, by a running server or
// none, from the folder or an archive of it; and nothing is uploaded twice.
func TestAnExportIsImportedUnchanged(t *testing.T) {
	t.Parallel()
	old := start(t, dataDir(t), "--demo")
	for i, name := range []string{"a.txt", "A.TXT", "a.txt", "what: *?.txt", "..txt", strings.Repeat("ü", 120) + ".txt", "a.txt"} {
		old.upload(product, name, []string{"same", name}[min(1, i%6)]).want(t, 201)
	}
	const ticket, comment = "550e8400-e29b-41d4-a716-446655440001", "550e8400-e29b-41d4-a716-446655440009"
	old.call(old.key, "PUT", "/directory/tickets/"+ticket+"/comments/"+comment, strings.NewReader("{}"), "Content-Type", "application/json").want(t, 201)
	for range 2 { // of the comment, and equal ones of the ticket itself
		old.over(0, "put", fileOf(t, "said.txt", "said"), "--to", "ticket:"+ticket, "--comment", comment)
		old.over(0, "put", fileOf(t, "said.txt", "said"), "--to", "ticket:"+ticket)
	}
	copied := t.TempDir()
	old.over(0, "export", copied)
	_, lines := exported(t, copied)
	want := describe(lines)
	if said := strings.Join(want, "\n"); strings.Count(said, comment) != 2 {
		t.Fatalf("exported are\n%s", said)
	}
	says(t, old.over(0, "import", copied), fmt.Sprintf("0 uploaded, %d there already, 0 refused", len(want)))

	for name, c := range map[string]struct {
		from string
		run  func(t *testing.T, dir string, words ...string) result
	}{
		"a folder, without a server": {copied, func(t *testing.T, dir string, words ...string) result {
			return attachd(t, slices.Concat([]string{"import"}, words, []string{"--data-dir", dir})...)
		}},
		"an archive, beside a server": {zipped(t, copied, ""), func(t *testing.T, dir string, words ...string) result {
			defer start(t, dir).stop()
			return attachd(t, slices.Concat([]string{"import"}, words, []string{"--data-dir", dir})...)
		}},
		"an archive of the folder, over the network": {zipped(t, copied, "copy/"), func(t *testing.T, dir string, words ...string) result {
			server := start(t, dir)
			defer server.stop()
			return over(t, server.url, server.key, slices.Concat([]string{"import"}, words)...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			start(t, dir).stop() // makes the key
			before := wantCode(t, 1, c.run(t, dir, c.from))
			says(t, before, fmt.Sprintf("%d of %[1]d files not imported", len(want)))
			says(t, before, `there is no user "Alice Johnson"; --create makes what is missing`)
			says(t, wantCode(t, 0, c.run(t, dir, c.from, "--create", "--dry-run")), fmt.Sprintf("%d to upload, 0 there already, 0 refused", len(want)))
			says(t, wantCode(t, 0, c.run(t, dir, c.from, "--create")), fmt.Sprintf("%d uploaded, 0 there already, 0 refused", len(want)))
			says(t, wantCode(t, 0, c.run(t, dir, c.from)), fmt.Sprintf("0 uploaded, %d there already, 0 refused", len(want)))
			server := start(t, dir)
			again := t.TempDir()
			server.over(0, "export", again)
			if _, lines := exported(t, again); !slices.Equal(describe(lines), want) {
				t.Errorf("imported are\n%s\nexported were\n%s", strings.Join(describe(lines), "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestAMapSaysWhereFilesBelong(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LIMITS_MAX_FILE_SIZE=2000B", "--demo")
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "deep", "er"), 0o700))
	for path, content := range map[string]string{"a.txt": "a", "deep/er/b.txt": "b", "big.txt": strings.Repeat("x", 2001), "run.sh": "#!/bin/sh\n", "forgotten.txt": "f", "changed.txt": "changed"} {
		write(t, filepath.Join(dir, path), content)
	}
	outside := fileOf(t, "secret.txt", "secret")
	check(t, os.Symlink(outside, filepath.Join(dir, "link.txt")))
	const sum = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d" // of "b"
	rows := []string{
		"path;place;name;author;time;sha256;space;owner", // line 1
		`a.txt;"product:analytics/Customer 360";first.txt;Jonas Weber;2019-05-04T11:30:00+02:00;;;`,
		`deep\er\b.txt;ticket:Older;;550e8400-e29b-41d4-a716-446655440011;2018-01-01;` + strings.ToUpper(sum) + `;analytics;Mei Tanaka`,
		`a.txt;ticket:Older;;Nobody Yet;;;analytics;`,
		`a.txt;product:new-space/Engine;;;;;;`,
		`none.txt;` + place + `;;;;;;`,
		`../secret.txt;` + place + `;;;;;;`,
		outside + `;` + place + `;;;;;;`,
		`link.txt;` + place + `;;;;;;`,
		`deep;` + place + `;;;;;;`,
		`a.txt;;;;;;;`,
		`a.txt;product:x;;;;;;`,
		`a.txt;` + place + `;;;yesterday;;;`,
		`a.txt;` + place + `;;;2999-01-01;;;`,
		`changed.txt;` + place + `;;;;` + sum + `;;`,
		`big.txt;` + place + `;;;;;;`,
		`run.sh;` + place + `;;;;;;`,
	}
	of := filepath.Join(t.TempDir(), "map.csv")
	write(t, of, "\ufeff"+strings.Join(rows, "\r\n")+"\r\n")

	before := len(server.in(product))
	dry := server.over(1, "import", dir, "--map", of, "--create", "--dry-run")
	for _, made := range []string{`would create ticket "Older" in analytics`, `would create user "Nobody Yet"`, "would create space new-space", `would create product "Engine" in new-space`} {
		says(t, dry, made)
	}
	if got := server.over(0, "ls"); len(server.in(product)) != before || strings.Contains(got.stdout, "Older") || strings.Contains(got.stdout, "new-space") {
		t.Errorf("the dry run changed something: %s", got.stdout)
	}

	without := server.over(1, "import", dir, "--map", of)
	says(t, without, `line 3: deep/er/b.txt: there is no ticket "Older" that you may see; --create makes what is missing`)
	says(t, without, `line 5: a.txt: There is no space "new-space"`)
	report := filepath.Join(t.TempDir(), "report.ndjson")
	r := server.over(1, "import", dir, "--map", of, "--create", "--report", report)
	for _, why := range []string{
		"line 6: none.txt: no such file or directory",
		"line 7: ../secret.txt: it is not a path below what is imported",
		"line 8: " + outside + ": it is not a path", "line 9: link.txt: ", "line 10: deep: it is no file", "line 11: a.txt: nothing says where it belongs",
		`line 12: a.txt: "product:x" is no place`, `line 13: a.txt: "yesterday" is not a time`, "line 14: a.txt: X-Created-At must not be in the future",
		"line 15: changed.txt: it has the SHA-256 ", "line 16: big.txt: it has 2001 bytes, and the server takes 2000", "line 17: run.sh: ",
		"what the map does not name: 1 file, the first is forgotten.txt", "12 of 16 files not imported: 3 uploaded, 1 there already, 12 refused",
	} {
		says(t, r, why)
	}
	dirOfCopy := t.TempDir()
	server.over(0, "export", dirOfCopy)
	_, lines := exported(t, dirOfCopy)
	got := strings.Join(describe(lines), "\n")
	for _, want := range []string{
		`\Qproduct:analytics/550e8400-e29b-41d4-a716-446655440000|Customer 360|first.txt|\E\w+\Q|Jonas Weber|2019-05-04T09:30:00Z\E`,
		`ticket:\S+\|Older\|b.txt\|` + sum + `\Q|Alice Johnson|2018-01-01T00:00:00Z\E`,
		`ticket:\S+\|Older\|a.txt\|\w+\|Nobody Yet\|`,
		`product:new-space/\S+\|Engine\|a.txt\|`,
	} {
		if len(regexp.MustCompile(want).FindAllString(got, -1)) != 1 {
			t.Errorf("there is not one %s in\n%s", want, got)
		}
	}
	var outcomes []string
	for line := range strings.Lines(read(t, report)) {
		var o struct {
			Line                   int
			Outcome, SHA256, Error string
			Attachment             attachment
		}
		check(t, json.Unmarshal([]byte(line), &o))
		outcomes = append(outcomes, fmt.Sprint(o.Line, o.Outcome))
		if o.Outcome == "refused" && o.Error == "" || o.Outcome != "refused" && (len(o.SHA256) != 64 || o.Attachment.ID == "") {
			t.Errorf("the report says %s", line)
		}
	}
	if want := []string{"2present", "3uploaded", "4uploaded", "5uploaded", "6refused"}; !slices.Equal(outcomes[:5], want) || len(outcomes) != 16 {
		t.Errorf("the report says %v", outcomes)
	}

	// What was refused is imported once it is mended; the rest is there.
	write(t, of, strings.Join([]string{rows[0], rows[1], rows[2], rows[3], rows[4], `forgotten.txt;` + place + `;;;;;;`}, "\n"))
	says(t, server.over(0, "import", dir, "--map", of), "1 uploaded, 4 there already, 0 refused")
}

func TestAMapThatIsNotUnderstoodImportsNothing(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	dir := filepath.Dir(fileOf(t, "a.txt", "a"))
	before := len(server.in(product))
	for content, why := range map[string]string{
		"":                                    "it is empty",
		"path,plaec\na.txt," + place:          `"plaec" is none; there are author, comment, name, owner, parent, path,`,
		"name,place\na.txt," + place:          "it has no column path",
		"path,place\na.txt," + place + ",x":   "wrong number of fields",
		"path,place\na.txt," + place + "\n\"": "parse error on line 3",
	} {
		says(t, server.over(1, "import", dir, "--map", fileOf(t, "map.csv", content)), why)
	}
	for content, why := range map[string]string{
		`{"path":"a.txt","place":"` + place + `"}` + "\n" + `{"path":"a.txt","plaec":""}`: `line 2: json: unknown field "plaec"; nothing was imported`,
		`{"path":`: "line 1: unexpected EOF; nothing was imported",
	} {
		says(t, server.over(1, "import", dir, "--map", fileOf(t, "map.ndjson", content)), why)
	}
	for line, why := range map[string]string{
		"":                                    "say where the files belong: --map FILE, or --to PLACE or SPACE",
		"--map " + fileOf(t, "map.docx", "x"): "ends with .csv or .ndjson",
		"--to Analytics":                      "is no place",
		"--to analytics --as-yourself --author x": "does not go with --author",
	} {
		says(t, server.over(2, slices.Concat([]string{"import", dir}, strings.Fields(line))...), why)
	}
	says(t, server.over(1, "import", fileOf(t, "x.zip", "no archive"), "--to", place), "it is neither a folder nor a ZIP archive")
	says(t, server.over(1, "import", dir+"/none", "--to", place), "no such file")
	if n := len(server.in(product)); n != before {
		t.Errorf("imported are %d files", n-before)
	}
}

func TestAFolderIsImportedWithoutAMap(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	dir := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(dir, "Wing", "drawings"), 0o700))
	for _, path := range []string{"Wing/a.txt", "Wing/drawings/a.txt", "loose.txt"} {
		write(t, filepath.Join(dir, path), path)
	}
	check(t, os.Symlink("/etc/passwd", filepath.Join(dir, "Wing", "passwd.txt")))
	r := server.over(1, "import", dir, "--to", "research", "--create")
	says(t, r, "loose.txt: it is in no folder: with --to research, each folder becomes a product")
	says(t, r, "Wing/passwd.txt: left out, it is a link or no file")
	says(t, server.over(0, "ls", "product:research/Wing"), "drawings_a.txt")
	says(t, server.over(0, "import", filepath.Join(dir, "Wing"), "--to", "product:research/Wing"), "0 uploaded, 2 there already")

	// As editor: what is their own.
	editor := demoKeys(t, server.dir)["editor"]
	as := func(code int, words ...string) result {
		t.Helper()
		return wantCode(t, code, over(t, server.url, editor, words...))
	}
	changed := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	check(t, os.Chtimes(filepath.Join(dir, "loose.txt"), changed, changed))
	for _, words := range [][]string{{"--file-times"}, {"--author", "Mei Tanaka"}} {
		says(t, as(1, slices.Concat([]string{"import", dir, "--to", place}, words)...), "only a superadmin may say who uploaded a file and when")
	}
	says(t, as(1, "import", dir, "--to", place, "--create"), "--create needs the key of a superadmin")
	of := fileOf(t, "map.ndjson", `{"path":"loose.txt","parent":"`+place+`","author":"Mei Tanaka","time":"2019-01-01"}`)
	says(t, as(1, "import", dir, "--map", of), "only a superadmin may say who uploaded a file and when; --as-yourself leaves that out")
	says(t, as(0, "import", dir, "--map", of, "--as-yourself"), "1 uploaded, 0 there already")
	says(t, as(0, "import", dir, "--map", of, "--as-yourself"), "0 uploaded, 1 there already")
	listed := server.over(0, "ls", place).stdout
	if !regexp.MustCompile(`loose.txt +9 +20[2-9]\S+Z +Jonas Weber`).MatchString(listed) {
		t.Errorf("imported is\n%s", listed)
	}
	// As superadmin: with the time of the file, and an author for all.
	server.over(0, "import", dir, "--to", place, "--file-times", "--author", "Mei Tanaka")
	if listed := server.over(0, "ls", place).stdout; !regexp.MustCompile(`loose.txt +9 +2020-01-01T00:00:00Z +Mei Tanaka`).MatchString(listed) {
		t.Errorf("imported is\n%s", listed)
	}
	// On the machine itself nobody is the uploader unless one is named.
	says(t, wantCode(t, 1, attachd(t, "import", dir, "--to", place, "--data-dir", server.dir)), "nothing says who uploaded it")
}

// The directory cleans names, and lists have ids in small letters: an import finds again what it
// has made, whatever its folders and its map say.
func TestAnImportFindsAgainWhatItMade(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	dir := t.TempDir()
	folders := []string{"plain", " spaces ", "caf\xe9\xe8", "\u202eturned", "U\u0308", "550e8400-e29b-41d4-a716-4466554400FA"}
	for _, folder := range folders {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			t.Skip("the file system takes no such names: ", err)
		}
		write(t, filepath.Join(dir, folder, "a.txt"), folder)
	}
	write(t, filepath.Join(dir, "plain", ".DS_Store"), "\x00\x00\x00\x01Bud1")
	for _, said := range []string{"6 uploaded, 0 there already, 0 refused", "0 uploaded, 6 there already, 0 refused"} {
		r := server.over(0, "import", dir, "--to", "moved", "--author", "\u202e Somebody Else ", "--create")
		says(t, r, said)
		says(t, r, "left out is what macOS or Windows keeps beside files: 1 file, the first is plain/.DS_Store")
	}

	of := fileOf(t, "map.ndjson", strings.Join([]string{
		`{"path":"plain/a.txt","place":"ticket:Leak","space":"moved","comment":"550E8400-E29B-41D4-A716-4466554400FB"}`,
		`{"path":"plain/a.txt","place":"` + place + `"}`,
		`{"path":"plain/a.txt","place":"` + place + `","time":"2019-05-04"}`,
	}, "\n"))
	for _, said := range []string{"3 uploaded, 0 there already, 0 refused", "0 uploaded, 3 there already, 0 refused"} {
		says(t, server.over(0, "import", dir, "--map", of, "--create"), said)
	}
	of = fileOf(t, "map.csv", "path,place,time\nplain/a.txt,"+place+",0001-01-01T00:00:00Z\nplain/a.txt,"+place+",1969-12-31\n")
	r := server.over(1, "import", dir, "--map", of)
	says(t, r, `line 2: plain/a.txt: "0001-01-01T00:00:00Z" is before 1970`)
	says(t, r, `line 3: plain/a.txt: "1969-12-31" is before 1970`)
}

// Archives have names and files that depend on what made them.
func TestArchivesOfOtherSystemsAreImported(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	of := func(files ...string) string {
		var raw bytes.Buffer
		w := zip.NewWriter(&raw)
		for i := 0; i < len(files); i += 2 {
			entry, err := w.CreateHeader(&zip.FileHeader{Name: files[i], NonUTF8: true, Method: zip.Deflate})
			check(t, err)
			_, err = entry.Write([]byte(files[i+1]))
			check(t, err)
		}
		check(t, w.Close())
		return fileOf(t, "x.zip", raw.String())
	}
	line := `{"path":"a.txt","place":"` + place + `"}` + "\n"
	const mac = "\x00\x05\x16\x07"
	r := server.over(0, "import", of("copy/manifest.ndjson", line, "copy/a.txt", "on a Mac", "copy/.DS_Store", mac, "__MACOSX/copy/._a.txt", mac))
	says(t, r, "1 uploaded, 0 there already, 0 refused")
	r = server.over(0, "import", of("\x9abung.txt", "packed on DOS", "__MACOSX/._\x9abung.txt", mac), "--to", place)
	says(t, r, "uploaded Übung.txt")
	says(t, r, "beside files: 1 file, the first is __MACOSX/._Übung.txt")
	r = server.over(1, "import", of("manifest.ndjson", strings.Repeat("\n", 1<<20), "a.txt", "a"))
	says(t, r, "its manifest.ndjson has more bytes than its files can need; nothing was imported")
}

// An import that is interrupted leaves nothing of an archive unpacked, not even of a file that it
// is unpacking.
func TestAnInterruptedImportLeavesNoTemporaryFiles(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	begun := make(chan struct{}, 2)
	m := server.meddle("POST", func(_ int, _ http.ResponseWriter, r *http.Request, _ http.Handler) {
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body) // before that, the end of the connection is not noticed
		<-r.Context().Done()
	})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "1.txt"), "waits")
	write(t, filepath.Join(dir, "2.txt"), strings.Repeat("unpacks\n", 6<<20))
	cmd := command(t, "ATTACHD_SERVER="+m.url, "ATTACHD_KEY="+server.key, "import", zipped(t, dir, ""), "--to", place)
	check(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-begun:
	case err := <-ended:
		t.Fatal("it has ended: ", err)
	}
	check(t, cmd.Process.Signal(os.Interrupt))
	if <-ended == nil {
		t.Error("it says that all is imported")
	}
	if left := names(t, cmd.Dir); len(left) > 0 {
		t.Errorf("it has left %q", left)
	}
}

// An archive from anybody writes nothing, and fills no disk.
func TestAHostileArchiveIsNotImported(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_LIMITS_MAX_FILE_SIZE=100000B", "--demo")
	make := func(build func(w *zip.Writer)) string {
		var raw bytes.Buffer
		w := zip.NewWriter(&raw)
		build(w)
		check(t, w.Close())
		return fileOf(t, "x.zip", raw.String())
	}
	add := func(w *zip.Writer, header *zip.FileHeader, content string) {
		entry, err := w.CreateHeader(header)
		check(t, err)
		_, err = entry.Write([]byte(content))
		check(t, err)
	}
	raw := func(w *zip.Writer, header *zip.FileHeader, content string) {
		entry, err := w.CreateRaw(header)
		check(t, err)
		_, err = entry.Write([]byte(content))
		check(t, err)
	}
	link := &zip.FileHeader{Name: "link.txt"}
	link.SetMode(fs.ModeSymlink | 0o777)
	before := len(server.in(product))
	for name, c := range map[string]struct {
		build func(w *zip.Writer)
		why   string
		code  int
	}{
		"outside": {func(w *zip.Writer) {
			add(w, &zip.FileHeader{Name: "a.txt"}, "a")
			add(w, &zip.FileHeader{Name: "../b.txt"}, "b")
		}, `"../b.txt": it is not a path below what is imported; nothing was imported`, 1},
		"absolute": {func(w *zip.Writer) { add(w, &zip.FileHeader{Name: "/etc/b.txt"}, "b") }, "it is not a path below", 1},
		"windows":  {func(w *zip.Writer) { add(w, &zip.FileHeader{Name: `..\b.txt`}, "b") }, "it is not a path below", 1},
		"twice": {func(w *zip.Writer) {
			add(w, &zip.FileHeader{Name: "a.txt"}, "a")
			add(w, &zip.FileHeader{Name: "a.txt"}, "b")
		}, `it has "a.txt" twice`, 1},
		"overlapping": {func(w *zip.Writer) {
			raw(w, &zip.FileHeader{Name: "a.txt", CompressedSize64: 1 << 20, UncompressedSize64: 1 << 20}, "a")
		}, "its files have more bytes than it has itself", 1},
		"too large": {func(w *zip.Writer) {
			add(w, &zip.FileHeader{Name: "a.txt", Method: zip.Deflate}, strings.Repeat("x", 10<<20))
		}, "it has 10485760 bytes, and the server takes 100000", 1},
		"larger than it says": {func(w *zip.Writer) {
			raw(w, &zip.FileHeader{Name: "a.txt", Method: zip.Store, CompressedSize64: 20_000, UncompressedSize64: 10}, strings.Repeat("x", 20_000))
		}, "a.txt: ", 1},
		"encrypted": {func(w *zip.Writer) {
			raw(w, &zip.FileHeader{Name: "a.txt", Flags: 1, CompressedSize64: 1, UncompressedSize64: 1}, "a")
		}, "it is encrypted: unpack the archive first", 1},
		"a link": {func(w *zip.Writer) { add(w, link, "/etc/passwd") }, "link.txt: left out", 0},
	} {
		r := wantCode(t, c.code, over(t, server.url, server.key, "import", make(c.build), "--to", place))
		if !strings.Contains(r.stderr, c.why) {
			t.Errorf("%s: %s", name, r.stderr)
		}
	}
	if n := len(server.in(product)); n != before {
		t.Errorf("imported are %d files", n-before)
	}
}

// A file whose answer was lost is found by its time and author, and not sent again.
func TestAnImportWhoseAnswersAreLostUploadsOnce(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	m := server.meddle("POST", func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if n%2 == 1 {
			forward.ServeHTTP(&cutWriter{w, 20}, r)
			return
		}
		forward.ServeHTTP(w, r)
	})
	dir := t.TempDir()
	var rows strings.Builder
	rows.WriteString("path,place,author,time,name\n")
	for i := range 6 {
		write(t, filepath.Join(dir, fmt.Sprint(i, ".txt")), "same")
		fmt.Fprintf(&rows, "%d.txt,%s,Mei Tanaka,2019-05-04T09:30:0%dZ,same.txt\n", i, place, i%2)
	}
	says(t, wantCode(t, 0, over(t, m.url, server.key, "import", dir, "--map", fileOf(t, "map.csv", rows.String()))), "6 uploaded, 0 there already")
	if n := strings.Count(server.over(0, "ls", place).stdout, "same.txt"); n != 6 {
		t.Errorf("there are %d files, want 6", n)
	}
	// A server that is gone ends it, with what to do next.
	server.stop()
	says(t, wantCode(t, 1, over(t, server.url, server.key, "import", dir, "--to", place, "--retry-for", "0")), "no connection to")
}
