package server_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"attachd/server"
)

// pageWorld is a world in which the time is that of the browser.
func pageWorld(t *testing.T, options ...func(*server.Config)) *world {
	t.Helper()
	if !*withBrowser {
		t.Skip("needs Chromium: run with `go test ./server -run Page -browser`")
	}
	w := newWorld(t, append([]func(*server.Config){func(c *server.Config) { c.Now = time.Now }}, options...)...)
	w.serve(w.withFakes())
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

func TestPageShowsAPlaceWithItsFiles(t *testing.T) {
	w := pageWorld(t)
	for _, name := range []string{"png.png", "csv_semicolon.csv", "pdf_lo.pdf", "xlsx_lo.xlsx", "zip_infozip.zip", "geojson.geojson", "log.log", "md.md"} {
		w.put(t, "admin", "product", name)
	}
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("invoice \u202Egpj.\u05D0\u05D1 \u05E9\u05DC\u05D5\u05DD report final version of the quarterly figures.pdf", "%PDF-1.4\n%%EOF\n")}, want: 201})
	tab := newTab(t, w)
	tab.signIn("editor", "")
	tab.shows("nav.places", "A product")
	tab.shows("main h2", "Choose a place")
	tab.inspect("home")
	tab.click("nav.places a", "A product")
	tab.shows("h1", "A product")
	tab.shows(".actions", "9 files")
	tab.inspect("place")
}
