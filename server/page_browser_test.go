package server_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/text/encoding/charmap"

	"attachd/server"
	"attachd/server/e2e/build"
	"attachd/server/upkeep"
)

// pageWorld is a world in which the time is that of the browser.
func pageWorld(t *testing.T, options ...func(*server.Config)) *world {
	t.Helper()
	if !*inBrowser {
		t.Skip("needs Chromium: run with `go test ./server -run Page -browser`")
	}
	w := newWorld(t, append([]func(*server.Config){func(c *server.Config) { c.Now = time.Now }}, options...)...)
	w.serve(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.server.ServeHTTP(rw, r) })) // whichever it is by then
	return w
}

const (
	productPage = "#/spaces/a/products/00000000-0000-4000-8000-000000000011"
	ticketPage  = "#/spaces/a/tickets/00000000-0000-4000-8000-000000000012"
)

// sample is the path of a real file.
func sample(name string) string {
	path, err := filepath.Abs(filepath.Join("content/testdata/samples/files", name))
	if err != nil {
		panic(err)
	}
	return path
}

// put uploads a sample to a place, by the API.
func (w *world) put(t *testing.T, as, place, name string) {
	t.Helper()
	raw, err := os.ReadFile(sample(name))
	w.must(err)
	w.do(t, step{as: as, do: "POST {" + place + "}/attachments", form: parts{file(name, string(raw))}, want: 201})
}

func TestPageSignsInAndOut(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.open(productPage)
	tab.until(`document.activeElement?.id === 'key'`)
	tab.until(`(() => { const [name, key] = document.querySelectorAll('.signin form input');
		return name.autocomplete === 'username' && name.value && !name.type.includes('password') && key.type === 'password' && key.autocomplete === 'current-password'; })()`)
	if docs := eval[string](tab, `document.querySelector('.signin p a').href`); docs != w.url+"/docs" {
		t.Errorf("the API is at %s", docs)
	}
	tab.inspect("signin")
	tab.expect("401")
	tab.typeIn("#key", "attachd_nonsense")
	tab.press("Enter", 0)
	tab.shows(".signin .error", "This API key is not known, or no longer.")
	tab.typeIn("#key", w.keys["editor"])
	tab.click("button", "Sign in")
	tab.shows("h1", "A product")
	tab.shows(".me", "Editor Person")
	tab.click("button", "Sign out")
	tab.until(`document.querySelector('.signin')`)
	tab.open(productPage)
	tab.until(`document.querySelector('.signin')`)
}

// Names are shown as text, whatever they are.
// ASVS 3.2.2, 3.6.1, 1.1.1, 1.2.2, 1.2.3; CVE-2025-48494
func TestPageShowsAPlaceWithItsFiles(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"png.png", "csv_semicolon.csv", "pdf_lo.pdf", "xlsx_lo.xlsx", "zip_infozip.zip", "geojson.geojson", "log.log", "md.md"} {
		w.put(t, "admin", "product", name)
	}
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("invoice \u202Egpj.\u05D0\u05D1 \u05E9\u05DC\u05D5\u05DD report final version of the quarterly figures.pdf", "%PDF-1.4\n%%EOF\n")}, want: 201})
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{file("<img src=x onerror=alert(1)>.txt", "a")}, want: 201})
	tab := newTab(t, w)
	tab.signIn("editor", "")
	tab.shows("nav.places", "A product")
	tab.shows("main h1", "Choose a place")
	tab.inspect("home")
	tab.click("nav.places a", "A product")
	tab.shows("h1", "A product")
	tab.shows(".actions", "9 files")
	tab.inspect("place")
	tab.open(ticketPage)
	tab.shows(".rows .name", "<img src=x onerror=alert(1)>.txt")
}

// On a server without spaces, a superadmin comes from the page alone to a first file.
func TestPageOfAFreshServerLeadsToAFirstFile(t *testing.T) {
	w := pageWorld(t)
	for _, space := range []string{"a", "ab"} {
		w.do(t, step{as: "root", do: "DELETE /directory/spaces/" + space, want: 200})
	}
	tab := newTab(t, w)
	tab.signIn("viewer", "")
	tab.shows("main", "Ask an administrator")
	tab.click("button", "Sign out")
	tab.until(`document.querySelector('.signin')`)
	tab.signIn("root", "")
	tab.shows("main h1", "Make your first space")
	tab.inspect("fresh")
	tab.typeIn(`[aria-label="Name of the new space"]`, "Vertrieb & Straße")
	tab.until(`document.querySelector('[aria-label="Name in addresses"]').value === 'vertrieb-strasse'`)
	tab.click("button", "Make space")
	tab.shows("main h1", "Vertrieb & Straße")
	tab.inspect("new-space")
	for _, kind := range []string{"Meeting", "Ticket", "Product"} {
		tab.open("#/spaces/vertrieb-strasse")
		tab.until(`document.querySelector('[aria-label="What to add"]')`)
		eval[bool](tab, `(() => { const e = document.querySelector('[aria-label="What to add"]'); e.value = '`+strings.ToLower(kind)+`'; return true; })()`)
		tab.typeIn(`[aria-label="Its name"]`, "First "+kind)
		tab.press("Enter", 0)
		tab.shows("main h1", "First "+kind)
		tab.shows("main h2", "No files yet")
		tab.shows("nav.places a", "First "+kind)
	}
	tab.pick(sample("png.png"))
	tab.shows(".rows .name", "png.png")
}

// The commands that the page shows instead work as printed.
func TestPageShowsCommandsThatMakeSpaces(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.signIn("root", "#/new")
	tab.click("summary", "By commands instead")
	commands := eval[[]string](tab, `[...document.querySelectorAll('.steps pre')].map((e) => e.textContent)`)
	environment := strings.Replace(commands[0], "…", w.keys["root"], 1)
	if !strings.Contains(environment, w.keys["root"]) {
		t.Fatalf("the key has no place in %q", environment)
	}
	shell := exec.Command("sh", "-euc", strings.Join(append([]string{environment}, commands[1:]...), "\n"))
	shell.Env = []string{"PATH=" + filepath.Dir(build.Attachd(t.TempDir())()) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	if out, err := shell.CombinedOutput(); err != nil || strings.Count(string(out), "\n") != 4 {
		t.Fatalf("%s\nsays %s (%v)", strings.Join(commands, "\n"), out, err)
	}
	tab.click("button", "Reload")
	tab.click("nav.places a", "Orders")
	tab.shows("main h2", "No files yet")
	tab.open("#/operator/people")
	tab.click(".rows-list a", "Ada Lovelace")
	tab.shows(".rows-list", "Analytics")
}

func TestPageChangesASpace(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.signIn("root", "#/new")
	tab.typeIn(`[aria-label="Name of the new space"]`, "Again")
	tab.typeIn(`[aria-label="Name in addresses"]`, "a")
	tab.click("button", "Make space")
	tab.shows(".error", "Choose another one")

	tab.open("#/spaces/a")
	tab.shows("main h2", "Members")
	tab.inspect("space")
	tab.typeIn(`[aria-label="Name of the space"]`, "Renamed")
	tab.typeIn(`[aria-label="Quota in GB"]`, "1.5")
	tab.typeIn(`[aria-label="Quota in files"]`, "100")
	tab.click("button", "Save")
	tab.shows("main h1", "Renamed")
	tab.shows("nav.places summary", "Renamed")
	w.do(t, step{as: "root", do: "GET /directory/spaces/a", want: 200, is: `{"slug":"a","name":"Renamed","quota_bytes":1610612736,"quota_files":100,"used_bytes":0,"used_files":0}` + "\n"})

	tab.click("button", "Remove Viewer Person from the space")
	tab.until(`[...document.querySelectorAll('option')].some((e) => e.textContent === 'Viewer Person')`)
	w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 403})
	eval[bool](tab, `(() => { const e = document.querySelector('[aria-label="Person to add"]'); e.value = [...e.options].find((o) => o.textContent === 'Viewer Person').value; return true; })()`)
	tab.click("button", "Add member")
	tab.until(`document.querySelector('[aria-label="Role of Viewer Person"]')`)
	w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200})
}

func TestPageRenamesAndRemovesAPlaceAndASpace(t *testing.T) {
	w := pageWorld(t, withTrash)
	w.put(t, "editor", "ticket", "png.png")
	tab := newTab(t, w)
	tab.signIn("root", ticketPage)
	tab.shows(".rows .name", "png.png")
	tab.click("button", "Rename or remove")
	tab.inspect("manage")
	tab.typeIn(`[aria-label="Name of the ticket"]`, "Another title")
	tab.click(".manager button", "Rename")
	tab.shows("main h1", "Another title")
	tab.shows("nav.places a", "Another title")
	w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: parts{file("a.txt", "who owns a ticket may upload")}, want: 201})

	tab.click("button", "Rename or remove")
	tab.click("button", "Remove this ticket")
	tab.shows(".question", "All its files go with it")
	tab.click("button.danger", "Remove")
	tab.shows("main h1", "Another title was removed")
	tab.gone("nav.places a", "Another title")
	tab.click("button", "Undo")
	tab.shows("main h1", "Another title")
	tab.shows(".rows .name", "png.png")

	tab.open("#/spaces/a")
	tab.shows(".rows-list", "Admin Person") // which moves what is below
	tab.click("button", "Remove this space")
	tab.click("button.danger", "Remove")
	tab.shows("main h2", "was removed")
	tab.gone("nav.places a", "Another title")
	tab.click("button", "Undo")
	tab.shows("main h2", "Members")
	tab.shows("nav.places a", "Another title")
}

func TestPageUploadsWhatIsDroppedPastedAndPicked(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.openProduct()
	tab.inspect("empty")

	folder := t.TempDir()
	for _, name := range []string{"png.png", "deep/md.md", "deep/er/csv_comma.csv"} {
		raw, err := os.ReadFile(sample(filepath.Base(name)))
		w.must(err)
		w.must(os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o755))
		w.must(os.WriteFile(filepath.Join(folder, name), raw, 0o644))
	}
	tab.drop(".place", sample("pdf_lo.pdf"), folder)
	for _, name := range []string{"pdf_lo.pdf", "png.png", "md.md", "csv_comma.csv"} {
		tab.shows(".rows .name", name)
	}
	tab.until(`document.querySelector('.tray h2').innerText === '4 uploaded'`)

	tab.grant("clipboard-read", "clipboard-write")
	eval[bool](tab, `(async () => {
		const c = new OffscreenCanvas(8, 8);
		c.getContext('2d').fillRect(0, 0, 8, 8);
		await navigator.clipboard.write([new ClipboardItem({ 'image/png': await c.convertToBlob() })]);
		return true;
	})()`)
	tab.press("v", ctrl, "paste")
	tab.shows(".rows .name", "Pasted ")

	tab.pick(sample("geojson.geojson"))
	tab.shows(".rows .name", "geojson.geojson")
	if n := w.records(); n != 6 {
		t.Errorf("%d attachments", n)
	}
	tab.click("button", "Clear finished")
	tab.until(`document.querySelector('.tray').hidden`)
}

// What is under the pointer may be taken off the page before the file is dropped.
func TestPageTakesWhatIsDroppedWhileTheListChanges(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.openProduct()
	change := func(name string) {
		w.put(t, "editor", "product", name)
		tab.click("button", "Refresh")
		tab.shows(".rows .name", name)
	}
	tab.drag("dragEnter", ".list > *", sample("md.md"))
	tab.drag("dragOver", ".list > *", sample("md.md"))
	tab.shows(".drop", "Drop to upload to A product")
	eval[bool](tab, `document.querySelector('.list > *').remove() ?? true`)
	tab.drag("drop", ".list", sample("md.md"))
	tab.shows(".tray h2", "1 uploaded")
	tab.until(`document.querySelector('.drop').hidden`)
	change("png.png")

	// The drag leaves the page, after what it entered has gone.
	tab.drag("dragEnter", ".rows .row", sample("csv_comma.csv"))
	tab.shows(".drop", "Drop to upload to A product")
	eval[bool](tab, `document.querySelector('.rows .row').remove() ?? true`)
	tab.drag("dragCancel", ".rows", sample("csv_comma.csv"))
	tab.click(".rows", "")
	tab.until(`document.querySelector('.drop').hidden`)
	if n := w.records(); n != 2 {
		t.Errorf("%d attachments", n)
	}
}

func TestPageShowsProgressAndCancelsAndRetries(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	big := filepath.Join(t.TempDir(), "a long recording of nothing.csv")
	w.must(os.WriteFile(big, bytes.Repeat([]byte("1,2,3\n"), 500_000), 0o644))
	tab.openProduct()
	tab.slow(300 << 10)
	tab.drop(".place", sample("png.png"), big)
	tab.until(`(() => { const bar = document.querySelector('.tray li[data-state=running]:last-child progress'); return bar?.value > 0.05 && bar.value < 1; })()`)
	tab.until(`/KB of 2\.9 MB · .*B\/s · .* left/.test(document.querySelector('.tray').innerText)`)
	tab.inspect("uploading")
	tab.click(".tray button", "Cancel a long recording")
	tab.gone(".tray li", "a long recording")

	// The network goes: the list stays, and goes on by itself.
	tab.expect("ERR_INTERNET_DISCONNECTED")
	tab.slow(0)
	tab.drop(".place", sample("md.md"))
	tab.shows(".tray li", "Trying again by itself")
	tab.fast()
	tab.shows(".rows .name", "md.md")
	tab.gone(".rows .name", "a long recording")
}

func TestPageSaysInTheServersWordsWhyAFileIsRefused(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.openProduct()
	tab.click("summary", "Accepted file types")
	for _, group := range []string{"Documents\nasice", "Tables\ncsv, ", "Pictures\napng", "Sound\n3gp, aac", "Video\n3g2", "Archives\n7z", "Data\narrow", "Text\n"} {
		tab.shows(".hint dl", group)
	}
	tab.gone(".hint dl", "Other")
	tab.inspect("accepted")
	tab.shows(".hint", "Up to 50 MB each")
	tab.expect("400")
	tab.drop(".place", sample("elf.bin"))
	tab.shows(".tray li[data-state=failed] .note", "executable")
	// The types that would be taken stand there once, whatever is refused.
	tab.drop(".place", sample("html.html"), sample("py.py"), sample("java.class"))
	for _, name := range []string{"html.html", "py.py", "java.class"} {
		tab.shows(".tray li[data-state=failed]", name)
	}
	for _, note := range eval[[]string](tab, `[...document.querySelectorAll('.tray li[data-state=failed] .note')].map((e) => e.innerText)`) {
		if strings.Contains(note, "OpenDocument") || len(note) > 120 || !strings.Contains(note, "not taken here") || !strings.HasSuffix(note, ".") {
			t.Errorf("a refusal says %q", note)
		}
	}
	tab.click(".tray summary", "Accepted file types")
	tab.shows(".tray dd", "parquet")
	tab.inspect("refused")
	tab.click(".tray summary", "Accepted file types")
	for _, name := range []string{"html.html", "py.py", "java.class"} {
		tab.click(".tray button", "Remove from the list: "+name)
	}
	tab.click(".tray button", "Retry elf.bin")
	tab.shows(".tray li[data-state=failed] .note", "executable")
	tab.click(".tray button", "Remove from the list")
	tab.until(`document.querySelector('.tray').hidden`)
}

func TestPageDoesNotLetAViewerUpload(t *testing.T) {
	w := pageWorld(t)
	w.put(t, "admin", "product", "png.png")
	tab := newTab(t, w)
	tab.signIn("viewer", productPage)
	tab.shows(".hint", "You can view and download")
	tab.gone("button", "Upload files")
	tab.drop(".place", sample("md.md"))
	tab.click(".rows .size", "")
	tab.shows(".actions", "1 selected")
	tab.gone(".actions button", "Delete")
	if n := w.records(); n != 1 {
		t.Errorf("%d attachments", n)
	}
}

func TestPageLooksInsideFiles(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"title_line_then_semicolons.csv", "sjis_excel.csv", "excel_mac_cr.csv"} {
		content, err := os.ReadFile(filepath.Join("preview", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		w.uploaded(t, "{product}", name, content, "A")
	}
	w.uploaded(t, "{product}", "wide.csv", []byte(strings.Repeat(strings.Repeat("cell,", 199)+"cell\n", 500)), "A")
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("hostile.md", "# Notes\n<script>console.log('ran')</script><img src=x onerror=console.log(1)>")}, want: 201})
	tab := newTab(t, w)
	tab.openProduct("png.png", "csv_semicolon.csv", "pdf_lo.pdf", "zip_infozip.zip", "geojson.geojson", "md.md", "svg_script.svg", "doc_lo.doc", "csv_utf16.csv")
	for _, c := range []struct {
		name, shows string
		look        func(string)
	}{
		{"png.png", `document.querySelector('.picture img')?.naturalWidth > 0`, tab.inspect},
		{"svg_script.svg", `document.querySelector('.picture img')?.naturalWidth > 0`, nil},
		{"csv_semicolon.csv", `document.querySelectorAll('.preview th').length > 1`, tab.inspect},
		{"csv_utf16.csv", `document.querySelectorAll('.preview th').length > 1`, nil},
		{"title_line_then_semicolons.csv", `document.querySelectorAll('.preview th').length >= 3 && [...document.querySelectorAll('.preview td')].some((td) => td.innerText === '2,50')`, nil},
		{"sjis_excel.csv", `document.querySelector('.preview th')?.innerText === '番号'`, nil},
		{"excel_mac_cr.csv", `document.querySelectorAll('.preview tbody tr').length === 30`, nil},
		{"wide.csv", `document.querySelectorAll('.preview td').length <= 20000 && document.querySelector('.preview .note')?.innerText.startsWith('The first 99 of 499 rows. ')`, tab.findBarriers},
		{"geojson.geojson", `document.querySelector('.preview .json details[open]')`, tab.inspect},
		{"md.md", `document.querySelector('.preview pre')`, nil},
		{"hostile.md", `document.querySelector('.preview pre')?.innerText.includes('<script>')`, nil},
		{"zip_infozip.zip", `document.querySelectorAll('.preview td bdi').length > 0`, tab.inspect},
		{"doc_lo.doc", `document.querySelector('.preview .empty')?.innerText.includes('No preview')`, nil},
		{"pdf_lo.pdf", `document.querySelector('.preview iframe')?.src.includes('/files/')`, tab.inspect},
	} {
		tab.click(".rows a", c.name)
		tab.shows(".preview h1", c.name)
		tab.until(c.shows)
		if c.look != nil {
			c.look("preview-" + c.name)
		}
	}
	// The address leads back to it, and the back button to the file before.
	tab.open(eval[string](tab, `location.hash`))
	tab.shows(".preview h1", "pdf_lo.pdf")
	tab.click(".rows a", "md.md")
	tab.shows(".preview h1", "md.md")
	eval[bool](tab, `history.back() ?? true`)
	tab.shows(".preview h1", "pdf_lo.pdf")
	tab.click(".preview button", "Close preview")
	tab.until(`document.querySelector('.preview').hidden && document.activeElement.matches('.grid')`)
	// With the keyboard: the next file, and out.
	tab.press("Enter", 0)
	tab.until(`!document.querySelector('.preview').hidden`)
	before := eval[string](tab, `location.hash`)
	tab.press("ArrowDown", 0)
	tab.until(`location.hash !== "` + before + `"`)
	tab.press("Escape", 0)
	tab.until(`document.querySelector('.preview').hidden`)
}

// Text is read as the server reads it.
func TestPageReadsTextInItsEncoding(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"txt_sjis.txt", "txt_utf16_nobom.txt", "json_utf16.json"} {
		w.put(t, "editor", "product", name)
	}
	russian, err := charmap.KOI8R.NewEncoder().String("имя: Московский завод\nдиректор: Северный\n")
	w.must(err)
	for name, content := range map[string]string{
		"koi8.yaml":    russian,
		"large.json":   "[" + strings.Repeat("\"größer\",\n", 60_000) + `"ö"]`,
		"latin1.json":  "[" + strings.Repeat("\"Die Gr\xF6\xDFe der Ger\xE4te\",\n", 25_000) + `""]`,
		"long.log":     strings.Repeat("a line of a log\n", 60_000),
		"wrong.ndjson": "{\"a\": 1}\n{\n",
		"blank.csv":    "\n\n",
	} {
		w.uploaded(t, "{product}", name, []byte(content), "A")
	}
	tab := newTab(t, w)
	tab.signIn("viewer", productPage)
	tab.look(1280, 1000, "light")
	const text = `document.querySelector('.preview pre')?.textContent`
	const note = `document.querySelector('.preview .note')?.innerText`
	for name, shows := range map[string]string{
		"txt_sjis.txt":        text + `.startsWith('日本語')`,
		"txt_utf16_nobom.txt": text + `.startsWith('hello there')`,
		"koi8.yaml":           text + ` === 'имя: Московский завод\nдиректор: Северный\n'`,
		"json_utf16.json":     `document.querySelector('.preview .json details[open]')`,
		"large.json":          `document.querySelector('.preview .json details[open]')?.innerText.includes('60,001 items')`,
		"latin1.json":         text + `.startsWith('["Die Größe der Geräte"') && ` + note + `.startsWith('The beginning of 586 KB.')`,
		"long.log":            text + `.endsWith('a log\n') && ` + note + `.startsWith('The beginning of 938 KB.')`,
		"wrong.ndjson":        text + `.startsWith('{"a": 1}') && ` + note + `.startsWith('This is not well-formed JSON')`,
		"blank.csv":           `document.querySelector('.preview .empty')?.innerText.includes('No rows')`,
	} {
		tab.click(".rows a", name)
		tab.shows(".preview h1", name)
		tab.until(shows)
		tab.picture("text-" + name)
	}
	tab.findBarriers("a text")
}

// What others do is seen without loading the page anew, and takes nothing away
// from who is at work in it.
func TestPageShowsWhatOthersDo(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"png.png", "csv_comma.csv", "md.md"} {
		w.put(t, "editor", "product", name)
	}
	id := func(name string) string {
		for _, a := range w.do(t, step{as: "editor", do: "GET {product}/attachments", want: 200}).list(t) {
			if a["file_name"] == name {
				return a["id"].(string)
			}
		}
		t.Fatal("there is no " + name)
		return ""
	}
	tab := newTab(t, w)
	tab.signIn("editor", productPage)
	tab.click(".rows .row:nth-child(2) .size", "")
	tab.shows(".actions", "1 selected")
	selected := eval[string](tab, `document.querySelector('.row[aria-selected=true]').id`)
	w.put(t, "admin", "product", "pdf_lo.pdf")
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/" + id("png.png"), want: 200})
	eval[bool](tab, `dispatchEvent(new Event('focus'))`) // as when a person returns to the window
	tab.shows(".rows .name", "pdf_lo.pdf")
	tab.gone(".rows .name", "png.png")
	tab.shows("[role=status]", "1 new file, 1 file deleted.")
	if got := eval[string](tab, `document.querySelector('.row[aria-selected=true]')?.id`); got != selected {
		t.Errorf("%s was selected, now %s is", selected, got)
	}
	w.put(t, "admin", "product", "geojson.geojson")
	tab.click("button", "Refresh")
	tab.shows(".rows .name", "geojson.geojson")
	tab.shows(".actions", "1 selected")
	tab.click("button", "Refresh")
	tab.shows("[role=status]", "Nothing has changed.")

	// A file that is gone is named, not numbered.
	tab.expect("404")
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/" + id("md.md"), want: 200})
	tab.click(".rows a", "md.md")
	tab.shows(".preview .empty", "md.md is not here any more: somebody has deleted it.")
}

func TestPageDownloadsLinksAndDeletes(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"png.png", "csv_comma.csv", "md.md"} {
		w.put(t, "editor", "product", name)
	}
	w.put(t, "admin", "product", "pdf_lo.pdf")
	tab := newTab(t, w)
	tab.grant("clipboard-read", "clipboard-write")
	dir := tab.downloads()
	tab.signIn("editor", productPage)

	// One and two are downloaded.
	tab.click(".rows .size", "")
	tab.shows(".actions", "1 selected")
	tab.click(".rows .row:nth-child(2) .size", "", ctrl)
	tab.shows(".actions", "2 selected")
	tab.inspect("selected")
	archive := func(names ...string) {
		t.Helper()
		tab.click(".actions button", "Download as ZIP")
		want := map[string]string{}
		for _, name := range names {
			content, err := os.ReadFile(sample(name))
			w.must(err)
			want[name] = string(content)
		}
		tab.eventually(fmt.Sprint("the archive of ", names), func() bool {
			found, err := filepath.Glob(filepath.Join(dir, "*.zip"))
			if err != nil || len(found) != 1 {
				return false
			}
			body, err := os.ReadFile(found[0])
			if _, broken := zip.NewReader(bytes.NewReader(body), int64(len(body))); err != nil || broken != nil {
				return false
			}
			sameFiles(t, unzipped(t, answer{body: body, header: http.Header{"Content-Length": {fmt.Sprint(len(body))}}}), want)
			return os.Remove(found[0]) == nil
		})
	}
	archive("pdf_lo.pdf", "md.md")

	// Each is recorded once: that the page asks before is no download.
	if n := len(w.auditLog(t, "?action=attachment.download")); n != 2 {
		t.Errorf("two downloads are %d in the audit log", n)
	}

	// All are downloaded, and one.
	tab.click(".rows .size", "")
	tab.press("a", ctrl)
	tab.shows(".actions", "4 selected")
	archive("pdf_lo.pdf", "md.md", "csv_comma.csv", "png.png")
	tab.click(".rows .row:nth-child(3) .size", "")
	tab.shows(".actions", "1 selected")
	tab.click(".actions button", "Download")
	tab.eventually("the download", func() bool {
		got, err := os.ReadFile(filepath.Join(dir, "csv_comma.csv"))
		want, sampleErr := os.ReadFile(sample("csv_comma.csv"))
		return err == nil && sampleErr == nil && bytes.Equal(got, want)
	})

	// A link works without a key, and the page says until when.
	tab.click(".actions button", "Copy link")
	tab.shows(".actions", "whoever has it can download")
	tab.click(".actions button", "Copy link")
	tab.shows(".actions", "It works until ")
	tab.shows(".actions", "for 1 hour")
	tab.inspect("link")
	link := eval[string](tab, `navigator.clipboard.readText()`)
	w.do(t, step{do: "GET " + strings.TrimPrefix(link, w.url), want: 200})
	tab.click(".actions button", "Done")

	// Everything is selected with the keyboard; what is another's stays.
	tab.press("a", ctrl)
	tab.shows(".actions", "4 selected")
	tab.press("Delete", 0)
	tab.shows(".actions", "Delete 3 files?")
	tab.shows(".actions", "1 other selected is not yours")
	tab.inspect("delete")
	tab.press("Escape", 0)
	tab.shows(".actions", "4 selected")
	tab.press("Delete", 0)
	tab.shows(".actions", "cannot be undone")
	tab.press("Enter", 0)
	tab.gone(".rows .name", "md.md")
	tab.shows(".rows .name", "pdf_lo.pdf")
	if n := w.records(); n != 1 {
		t.Errorf("%d attachments are left", n)
	}
}

func TestPageShowsTheCommentsOfATicket(t *testing.T) {
	w := pageWorld(t)
	w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{field("comment_id", "{comment}"), file("a.txt", "a")}, want: 201})
	w.put(t, "editor", "ticket", "md.md")
	tab := newTab(t, w)
	tab.signIn("owner", ticketPage)
	tab.expect("403") // its owner is a member of nothing, and so may not look
	tab.shows("main", "not a member of the space")
	tab.click("button", "Sign out")
	tab.until(`document.querySelector('.signin')`)
	tab.signIn("editor", ticketPage)
	tab.shows(".rows .comment", "Comment 1")
	tab.inspect("ticket")
	eval[bool](tab, `(() => { const s = document.querySelector('[aria-label="Filter files by comment"]'); s.selectedIndex = 1; s.dispatchEvent(new Event('change')); return true; })()`)
	tab.gone(".rows .name", "md.md")
	tab.shows(".actions", "1 of 2 files")
	eval[bool](tab, `(() => { const s = document.querySelector('[aria-label="Comment that new files belong to"]'); s.selectedIndex = 1; return true; })()`)
	tab.drop(".place", sample("png.png"))
	tab.shows(".rows .name", "png.png")
}

// Ids say nothing of the order in which comments were made.
func TestPageNumbersCommentsByTheTimeTheyWereMade(t *testing.T) {
	w := pageWorld(t)
	comment := func(n byte) string { return "/directory/tickets/{ticket.id}/comments/" + anID(n).String() }
	for i, n := range []byte{0xe3, 0xe1, 0xe2} {
		w.do(t, step{as: "root", do: "PUT " + comment(n), want: 201})
		w.do(t, step{as: "editor", do: "POST {ticket}/attachments", form: parts{field("comment_id", anID(n).String()), file(fmt.Sprintf("of %d.txt", i+2), "a")}, want: 201})
	}
	w.do(t, step{as: "root", do: "DELETE " + comment(0xe1), want: 200})
	w.do(t, step{as: "root", do: "PUT " + comment(0x01), json: `{"created_at": "2024-02-29T12:00:00Z"}`, want: 201})
	tab := newTab(t, w)
	tab.signIn("editor", ticketPage)
	tab.shows(".rows .row", "of 2.txt")
	for _, n := range []string{"2", "4"} {
		tab.until(`[...document.querySelectorAll('.rows .row')].some((r) => r.innerText.replace(/\s*\n(?=\.)/g, '').includes('of ` + n + `.txt') && r.querySelector('.comment').innerText === 'Comment ` + n + `')`)
	}
	for _, name := range []string{"Filter files by comment", "Comment that new files belong to"} {
		options := eval[[]string](tab, `[...document.querySelector('[aria-label="`+name+`"]').options].slice(1).map((o) => o.innerText)`)
		for i, want := range []string{"Comment 1", "Comment 2 · ", "Comment 4 · ", "Comment 5 · Feb 29, 2024"} {
			if len(options) != 4 || !strings.HasPrefix(options[i], want) {
				t.Errorf("%s: %q", name, options)
			}
		}
	}
	tab.inspect("comments")
}

func TestPageSortsFiltersAndMovesThroughTenThousandFiles(t *testing.T) {
	w := pageWorld(t)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("one of many.csv", "1,2\n")}, want: 201, save: "A"})
	w.copyRecord(t, "{A}", 9_998)
	w.put(t, "admin", "product", "png.png")
	tab := newTab(t, w)
	tab.signIn("viewer", "")
	tab.shows("nav.places", "A product")
	took := eval[[2]float64](tab, `new Promise((done) => {
		const began = performance.now();
		let usable = 0;
		location.hash = '`+productPage+`';
		const look = () => {
			const rows = document.querySelectorAll('.rows .row').length;
			if (!usable && rows > 5) usable = performance.now() - began;
			if (document.querySelector('.actions')?.innerText.startsWith('10,000 files')) return done([usable, performance.now() - began]);
			requestAnimationFrame(look);
		};
		look();
	})`)
	t.Logf("ten thousand files: the first rows after %.0f ms, all of them after %.0f ms", took[0], took[1])
	if took[0] > 1000 {
		t.Errorf("the list was usable after %.0f ms", took[0])
	}
	frames := eval[[2]float64](tab, `new Promise((done) => {
		const grid = document.querySelector('.grid');
		const took = [];
		let last = performance.now();
		const step = () => {
			took.push(performance.now() - last);
			last = performance.now();
			grid.scrollTop += 5200;
			if (took.length < 90) return requestAnimationFrame(step);
			took.sort((a, b) => a - b);
			done([took[45], took[85]]);
		};
		requestAnimationFrame(step);
	})`)
	t.Logf("while scrolling a hundred rows at a time, half of the frames took at most %.0f ms, 19 of 20 at most %.0f ms", frames[0], frames[1])
	if n := eval[int](tab, `document.querySelectorAll('.rows .row').length`); n > 60 {
		t.Errorf("%d rows are in the document", n)
	}
	tab.click(".rows .size", "")
	tab.press("End", 0)
	tab.until(`document.querySelector('.grid').getAttribute('aria-activedescendant') && document.querySelector('.row.active')?.getAttribute('aria-rowindex') === '10001'`)
	tab.press("Home", shift)
	tab.shows(".actions", "selected")
	tab.press("Escape", 0)
	tab.click(".head button", "Size")
	tab.until(`document.querySelector('[aria-sort=descending]')?.innerText.startsWith('Size') && document.querySelector('.rows .row[aria-rowindex="2"]').textContent.includes('png.png')`)
	tab.typeIn("[aria-label='Filter files by name']", "PNG")
	tab.shows(".actions", "1 of 10,000 files")
	tab.typeIn("[aria-label='Filter files by name']", "nothing like it")
	tab.shows("main h2", "No file matches")
	tab.click("button", "Show all files")
	tab.shows(".actions", "10,000 files")
}

func TestPageReturnsToThePlaceWhenASessionEnds(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.openProduct("png.png")
	keys, err := w.store.KeysOf(context.Background(), personID("editor"), uuid.Nil, 10)
	w.must(err)
	for _, key := range keys {
		w.must(w.store.DeleteKey(context.Background(), key.ID))
	}
	w.keys["editor"], err = newKey(w.store, personID("editor"))
	w.must(err)
	tab.expect("401")
	tab.drop(".place", sample("md.md"))
	tab.shows(".signin .error", "Your session has ended")
	tab.typeIn("#key", w.keys["editor"])
	tab.press("Enter", 0)
	// The upload that was under way goes on.
	tab.shows(".rows .name", "md.md")
	tab.shows(".rows .name", "png.png")
}

func TestPageFindsPlacesByNameAndKeepsKeys(t *testing.T) {
	w := pageWorld(t)
	w.do(t, step{as: "root", do: "PUT /directory/spaces/a/products/{admin}", json: `{"name": "Orders \u05D0\u05D1"}`, want: 201})
	tab := newTab(t, w)
	tab.signIn("viewer", "")
	tab.typeIn("[aria-label='Search places by name']", "ord")
	tab.shows("nav.places a", "Orders")
	tab.gone("nav.places a", "A product")
	tab.typeIn("[aria-label='Search places by name']", "xyz")
	tab.shows("nav.places", "No place has this in its name")
	tab.click("nav.sections a", "Keys")
	tab.shows(".keys", "fixture")
	tab.typeIn("[aria-label='Name of the new key']", "laptop")
	tab.click("button", "Create key")
	tab.shows(".once .address", "attachd_")
	tab.inspect("keys")
	secret := eval[string](tab, `document.querySelector('.once .address').value`)
	w.keys["laptop"] = secret
	w.do(t, step{as: "laptop", do: "GET /users/me", want: 200})
	tab.click(".once button", "Done")
	tab.click(".keys button", "Revoke laptop")
	tab.click(".keys button", "Revoke it")
	tab.gone(".keys li", "laptop")
	w.do(t, step{as: "laptop", do: "GET /users/me", want: 401})
}

func TestPageShowsAnOperatorHowTheServerStands(t *testing.T) {
	w := pageWorld(t)
	w.put(t, "editor", "product", "png.png")
	w.put(t, "editor", "product", "pdf_lo.pdf")
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("gone.txt", "gone")}, want: 201, save: "gone"})
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{gone}", want: 200})
	w.do(t, step{as: "editor", do: "POST /api-keys", json: `{"name": "k"}`, want: 201})
	tab := newTab(t, w)
	tab.signIn("root", "#/operator")
	tab.shows(".card", "left for uploads")
	tab.shows(".card", "application/pdf")
	tab.shows(".card", "image/png")
	tab.inspect("operator")

	tab.click(".tabs a", "Audit log")
	tab.shows("td", "attachment.delete")
	tab.shows("td", "gone.txt")
	tab.shows("td", "Editor Person")
	tab.inspect("audit")
	tab.shows("td", "attachment png.png in A product")
	choose := func(label, value string) {
		eval[bool](tab, `(() => { const s = [...document.querySelectorAll('.filters label')].find((l) => l.innerText.startsWith('`+label+`')).querySelector('select'); s.value = '`+value+`'; return s.value === '`+value+`'; })()`)
	}
	choose("Action", "key.create")
	tab.click("button", "Show")
	tab.gone("td", "attachment.delete")
	tab.shows("td", "key.create")
	tab.shows("td", "key k of Editor Person")
	choose("Action", "")
	w.do(t, step{as: "root", do: "PUT /directory/spaces/a/members/{stranger}", json: `{"role": "editor"}`, want: 201})
	tab.until(`document.querySelector('#audit-people option[value="Root Person"]')`)
	tab.typeIn(".filters input", "Root Person")
	tab.click("button", "Show")
	tab.shows("td", "user Stranger Person: role editor")
	tab.typeIn(".filters input", "Nemo")
	tab.click("button", "Show")
	tab.shows(".end", "Nobody has this name")
	tab.typeIn(".filters input", "Root Person")
	tab.click("button", "Show")
	tab.shows("td", "user Stranger Person: role editor")
	tab.gone("td", "gone.txt")
	tab.shows("th", "Address")
	if labels := eval[string](tab, `document.querySelector('.filters').innerText + [...document.querySelectorAll('th')].map((e) => e.innerText)`); strings.Contains(labels, "From") {
		t.Errorf("what is from where or when? %s", labels)
	}
	w.do(t, step{as: "root", do: "GET " + strings.TrimPrefix(eval[string](tab, `document.querySelector('a[download]').href`), w.url), want: 200, check: func(t *testing.T, a answer) {
		if !strings.Contains(string(a.body), "role editor") || strings.Contains(string(a.body), "gone.txt") {
			t.Errorf("the export holds %s", a.body)
		}
	}})

	tab.click(".tabs a", "People")
	tab.shows(".rows-list", "Viewer Person")
	tab.inspect("people")
	tab.typeIn("[aria-label='Full name of the new user']", "Ada Lovelace")
	tab.click("button", "Add user")
	tab.shows("h2", "Ada Lovelace")
	tab.click("button", "Add to space")
	tab.shows(".rows-list", "The space a")
	tab.typeIn("[aria-label='Name of the new key']", "first")
	tab.click("button", "Create key")
	tab.shows(".once .address", "attachd_")
	tab.inspect("person")
	w.keys["ada"] = eval[string](tab, `document.querySelector('.once .address').value`)
	w.do(t, step{as: "ada", do: "GET {product}/attachments", want: 200})
	tab.click("button", "Remove from The space a")
	tab.shows("main", "A member of no space yet")
	w.do(t, step{as: "ada", do: "GET {product}/attachments", want: 403})
	tab.click("button", "Remove this user")
	tab.click("button.danger", "Remove")
	tab.shows(".rows-list", "Viewer Person")
	w.do(t, step{as: "ada", do: "GET /users/me", want: 401})

	tab.click(".tabs a", "Maintenance")
	tab.click("button", "Deep check")
	tab.shows(".result", "No faults.")
	tab.click("button", "See what would go")
	tab.shows(".result", "nothing to clean up")
	tab.inspect("upkeep")
}

// The page reports what the server knows to be lost with its place and uploader, as long
// as it is lost; and it calls nothing intact that was not checked.
func TestPageFollowsDamageAndCallsNothingGoodUnseen(t *testing.T) {
	w := pageWorld(t, filesAtOnce)
	tab := newTab(t, w)
	tab.signIn("root", "#/operator")
	tab.shows(".figure.warn", "Not checked yet")
	tab.click(".tabs a", "Maintenance")
	tab.click("button", "Deep check")
	tab.shows(".result", "No faults.")
	tab.click(".tabs a", "Overview")
	tab.shows(".figure.bad", "No backup yet")
	w.must(upkeep.NoteDone(context.Background(), w.store, upkeep.Backup, time.Now()))
	tab.open("#/operator")
	tab.shows(".figure.good", "No faults")
	w.must(upkeep.NoteDone(context.Background(), w.store, upkeep.Backup, time.Now().Add(-72*time.Hour)))
	tab.open("#/operator")
	tab.shows(".figure.warn", "Backup is old")

	for _, c := range []struct{ place, name string }{{"product", "lost.txt"}, {"ticket", "rotten.txt"}, {"meeting", "sound.txt"}} {
		w.do(t, step{as: "editor", do: "POST {" + c.place + "}/attachments", form: parts{file(c.name, "the content of "+c.name)}, want: 201, save: c.name})
	}
	w.must(os.Remove(w.blobFile(t, "{lost.txt}")))
	w.damage(t, "{rotten.txt}")
	w.expectLog("damaged")
	w.expectLog("found faults")
	tab.click(".tabs a", "Maintenance")
	tab.click("button", "Deep check")
	tab.shows(".result", "2 faults")
	tab.open("docs")
	w.restart() // what was found is not forgotten
	tab.signIn("root", "#/operator")
	for _, section := range []string{"#/operator/upkeep", "#/operator"} {
		tab.open(section)
		tab.shows(".faults li", "Missing lost.txt in A product (a), uploaded by Editor Person")
		tab.shows(".faults li", "Damaged rotten.txt in A ticket (a), uploaded by Editor Person")
		tab.gone(".faults li", "sound.txt")
	}
	tab.shows(".figure.bad", "2 faults")
	tab.inspect("faults")
	tab.expect("500")
	tab.click(".faults a", "lost.txt")
	tab.shows(".rows .badge", "Missing")
	tab.click(".preview button", "Download")
	tab.shows(".preview .empty", "The stored file is damaged. Uploading the same file again repairs it")
	tab.inspect("damaged")
	w.do(t, step{as: "stranger", do: "GET /faults", want: 200, is: "[]\n"})
	w.do(t, step{as: "viewer", do: "GET /faults?space=ab", want: 200, is: "[]\n"})
	for _, name := range []string{"lost.txt", "rotten.txt"} {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(name, "the content of "+name)}, want: 201})
	}
	w.do(t, step{as: "viewer", do: "GET /faults", want: 200, is: "[]\n"})
	tab.click("button", "Refresh")
	tab.gone(".rows .badge", "Missing")
}

func TestPageOfADemoOffersItsUsers(t *testing.T) {
	w := pageWorld(t, demoOf(map[string]string{"editor": fixture().keys["editor"], "viewer": fixture().keys["viewer"]}))
	tab := newTab(t, w)
	tab.open("")
	tab.shows(".demo", "Editor Person")
	tab.inspect("demo")
	tab.click(".demo button", "Viewer Person")
	tab.shows(".me", "Viewer Person")
}

// The secret of a sign-in link leaves the address at once, also where the page is open
// already, and a link that was used leads to the sign-in page.
func TestPageSignsInByALink(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.expect("401")
	tab.open("")
	tab.shows("label", "API key")
	link := strings.TrimPrefix(w.server.NewSignInLink(w.keys["root"]), "/")
	tab.open(link)
	tab.shows("nav.sections", "Operator")
	tab.until(`!location.href.includes('enter')`)
	tab.click("button", "Sign out")
	tab.shows("label", "API key")
	tab.open(link)
	tab.shows(".error", "This sign-in link was used already")
	tab.until(`!location.href.includes('enter')`)
}

func TestPageWorksBelowAPath(t *testing.T) {
	w := pageWorld(t)
	w.put(t, "editor", "product", "png.png")
	w.server.PublicURL = ""
	below := w.server.Config
	below.PublicURL = w.url + "/deep/attachd"
	var err error
	w.server, err = server.New(below)
	w.must(err)
	tab := newTab(t, w)
	tab.open("deep/attachd")
	tab.until(`document.querySelector('#key')`)
	tab.typeIn("#key", w.keys["editor"])
	tab.press("Enter", 0)
	tab.click("nav.places a", "A product")
	tab.click(".rows a", "png.png")
	tab.until(`document.querySelector('.picture img')?.naturalWidth > 0`)
	tab.open("deep/attachd/" + productPage)
	tab.shows(".rows .name", "png.png")
}

// runsAsPrinted has a shell run what the page shows, for a superadmin, about the
// product of the world.
func (w *world) runsAsPrinted(t *testing.T, command, want string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	dir := t.TempDir()
	w.must(os.WriteFile(filepath.Join(dir, "a.txt"), []byte("a"), 0o600))
	command = strings.NewReplacer("@FILE", "@a.txt", "spaces/analytics/products/550e8400-e29b-41d4-a716-446655440000", "spaces/a/products/"+w.names["product.id"]).Replace(command)
	shell := exec.Command("sh", "-euc", strings.Replace(command, "curl ", "curl -sS --fail-with-body ", 1))
	shell.Dir, shell.Env = dir, append(os.Environ(), "ATTACHD_KEY="+w.keys["root"])
	out, err := shell.CombinedOutput()
	if err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%s\nsays %s (%v), without %q", command, out, err, want)
	}
}

func TestPageLeadsToTheManual(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.open("")
	tab.click(".signin a", "The manual")
	tab.shows("h1", "The manual")
	tab.inspect("manual")
	for _, name := range []string{"api", "sizing"} { // with the widest tables
		tab.open("manual/" + name)
		tab.until(`document.querySelector('table') && document.documentElement.scrollWidth <= innerWidth`)
		tab.inspect("manual-" + name)
	}
}

func TestPageShowsTheAPI(t *testing.T) {
	w := pageWorld(t)
	tab := newTab(t, w)
	tab.open("docs")
	tab.shows("h1", "The API")
	tab.shows(".operation", "/catalog/attachments/{attachment_id}/download")
	tab.inspect("docs")

	tab.typeIn("#search", "upload ticket")
	tab.shows("[role=status]", "operation")
	tab.gone(".operation", "/users/me")
	tab.click("summary", "/issues/tickets/{ticket_id}/attachments")
	tab.shows(".operation td", "comment_id")
	tab.shows(".operation .answer", "file_too_large")
	tab.inspect("docs-operation")

	tab.shows("code.base", w.url)
	tab.typeIn("#search", "")
	tab.until(`[...document.querySelectorAll('.operation')].map((el) => { el.open = true; return el.querySelector('.curl'); }).every(Boolean)`)
	lines := eval[[]string](tab, `[...document.querySelectorAll('.operation')].map((el) => el.id + ' ' + el.querySelector('.curl').textContent)`)
	run := map[string]string{"listProductAttachments": "[]", "putProduct": `"name"`, "uploadProductAttachment": `"file_name":"a.txt"`, "createOwnKey": "attachd_", "getLimits": "max_file_size", "getMe": "Root"}
	for _, line := range lines {
		name, command, _ := strings.Cut(line, " ")
		if _, address, _ := strings.Cut(command, " '"+w.url+"/"); !strings.HasPrefix(command, "curl ") || !strings.HasSuffix(command, "'") || strings.ContainsAny(address, "{} $") {
			t.Errorf("%s: %q", name, command)
		}
		if want, is := run[name]; is {
			delete(run, name)
			w.runsAsPrinted(t, command, want)
		}
	}
	if len(run) > 0 {
		t.Errorf("there are no commands for %v", run)
	}
	tab.open("docs#schema-Attachment")
	tab.shows("#schema-Attachment td", "file_size")
	tab.open("docs#listProductAttachments")
	tab.shows("#listProductAttachments pre", "data_dictionary.pdf")
}
