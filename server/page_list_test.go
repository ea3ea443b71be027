package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/google/uuid"

	"attachd/store"
)

// What is asked about the open file is asked beside the button that was
// pressed, also where the list is not on the screen.
func TestPageAsksAboutAnOpenFileWhereTheButtonIs(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.grant("clipboard-read", "clipboard-write")
		tab.openProduct("png.png", "md.md")
		tab.click(".rows a", "md.md")
		tab.click(".preview button", "Copy link")
		tab.seen(".preview .question")
		tab.click(".preview .actions button", "Copy link")
		tab.shows(".preview .actions", "It works until ")
		w.do(t, step{do: "GET " + strings.TrimPrefix(eval[string](tab, `navigator.clipboard.readText()`), w.url), want: 200})
		tab.click(".preview .actions button", "Done")
		tab.until(`document.activeElement.innerText === 'Copy link'`)

		// A question goes with its file.
		tab.click(".preview button", "Delete")
		tab.shows(".preview .question .file-name", "md.md")
		tab.picture("question-" + strings.ReplaceAll(tab.Name(), "/", "-"))
		tab.findBarriers("the question")
		tab.click(".preview button", "Next file")
		tab.shows(".preview h1", "png.png")
		tab.gone(".actions", "links to it stop working")
		tab.click(".preview button", "Previous file")
		tab.shows(".preview h1", "md.md")

		tab.click(".preview button", "Delete")
		tab.seen(".preview .question")
		tab.press("Escape", 0)
		tab.gone(".actions", "links to it stop working")
		tab.click(".preview button", "Delete")
		tab.seen(".preview .danger")
		tab.click(".preview .actions button", "Delete file")
		tab.until(`document.querySelector('.preview').hidden`)
		tab.gone(".rows .name", "md.md")
		tab.shows(".rows .name", "png.png")
		if n := w.records(); n != 1 {
			t.Errorf("%d attachments are left", n)
		}
	})
}

// What was deleted is offered back where the list says what it has, to the keyboard and to
// screen readers too.
func TestPageBringsBackWhatWasDeleted(t *testing.T) {
	w := pageWorld(t, withTrash)
	w.put(t, "editor", "product", "md.md")
	w.put(t, "editor", "product", "png.png")
	tab := newTab(t, w)
	tab.signIn("editor", productPage)
	tab.shows(".rows .name", "md.md")
	tab.click(".rows .row .size", "")
	tab.press("a", ctrl)
	tab.shows(".actions", "2 selected")
	tab.press("Delete", 0)
	tab.shows(".actions", "can be undone for 7 days")
	tab.press("Enter", 0)
	tab.gone(".rows .name", "md.md")
	tab.shows(".actions", "2 files deleted.")
	tab.until(`document.querySelector('[role=status]').innerText.includes('Undo is above the list')`)
	tab.picture("undo")
	tab.findBarriers("what was deleted")
	eval[bool](tab, `(() => { const undo = [...document.querySelectorAll('.actions button')].find((b) => b.innerText === 'Undo'); undo.focus(); return document.activeElement === undo; })()`)
	tab.press("Enter", 0)
	tab.shows(".rows .name", "md.md")
	tab.shows(".rows .name", "png.png")
	tab.until(`document.querySelector('[role=status]').innerText.includes('2 files restored.')`)
	tab.gone(".actions button", "Undo")
	if n := w.trashSize(t); n != 0 {
		t.Errorf("%d files are in the trash", n)
	}
	w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200, check: wantNames("file_name", "md.md", "png.png")})
}

// notes creates different files in a new directory.
func notes(t *testing.T, n int) (paths []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("note %d.txt", i))
		if err := os.WriteFile(path, fmt.Appendf(nil, "note %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// A press and its release are on one row, also when files arrive in between
// and every row moves.
func TestPageCountsEveryClickWhileFilesGoUp(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct(slices.Repeat([]string{"md.md"}, 12)...)
		tab.slow(20 << 10) // bytes a second: some twenty files
		tab.drop(".place", notes(t, 300)...)
		const stored = `document.querySelectorAll('.tray li[data-state=done]').length`
		tab.until(stored + ` > 0`)
		for range 5 {
			// A row is pressed until two more files have come.
			at := eval[[3]float64](tab, `(() => {
				const grid = document.querySelector('.grid'), r = grid.getBoundingClientRect();
				grid.addEventListener('pointerdown', (e) => { window.pressed = e.target.closest('.rows .row').id; }, { once: true });
				return [r.x + r.width * 0.6, r.y + r.height * 0.3, `+stored+`]; // above the uploads
			})()`)
			mouse := input.DispatchMouseEventParams{Type: "mousePressed", X: at[0], Y: at[1], Button: "left", ClickCount: 1}
			call(tab, input.DispatchMouseEvent, mouse)
			tab.until(fmt.Sprintf(stored+` >= %f`, at[2]+2))
			mouse.Type = "mouseReleased"
			call(tab, input.DispatchMouseEvent, mouse)
			tab.shows(".actions", "1 selected")
			tab.until(`document.querySelector('.row[aria-selected=true]').id === window.pressed`)
			tab.click(".actions button", "Clear")
			tab.gone(".actions", "selected")
		}
		tab.fast()
	})
}

func TestPageKeepsItsRowsAndTheKeyboardWhenFilesArrive(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct(slices.Repeat([]string{"md.md"}, 12)...)
		tab.press("Tab", 0)
		eval[bool](tab, `(() => {
			const grid = document.querySelector('.grid');
			grid.focus();
			for (const e of document.querySelectorAll('.rows .row')) e.before = true;
			return true;
		})()`)
		tab.press("End", 0)
		tab.press(" ", 0)
		tab.shows(".actions", "1 selected")
		const kept = `(() => {
			const active = document.getElementById(document.querySelector('.grid').getAttribute('aria-activedescendant'));
			return active?.matches('[aria-selected=true]') && document.activeElement.matches('.grid');
		})()`
		tab.until(kept)
		eval[bool](tab, `(() => { document.querySelector('.actions button').before = true; return true; })()`)
		tab.drop(".place", notes(t, 5)...)
		tab.until(`document.querySelector('.tray h2').innerText === '5 uploaded'`)
		tab.until(`document.querySelector('.grid').getAttribute('aria-rowcount') === '18'`)
		if n := eval[int](tab, `[...document.querySelectorAll('.rows .row')].filter((e) => e.before).length`); n < 8 {
			t.Errorf("only %d rows are still the same elements", n)
		}
		tab.until(kept)
		tab.until(`document.querySelector('.actions button').before`)
	})
}

// Also where the list and a file have the screen by turns.
// WCAG 2.1.1, 2.4.3
func TestPageOpensAndClosesFilesWithTheKeyboard(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct("png.png", "md.md")
		eval[bool](tab, `document.querySelector('.grid').focus() ?? true`)
		for range 2 {
			tab.press("Enter", 0)
			tab.shows(".preview h1", "md.md")
			tab.until(`document.activeElement.checkVisibility() && document.activeElement.matches('.grid, .preview')`)
			if eval[bool](tab, `document.activeElement.matches('.preview')`) {
				tab.press("Tab", 0)
				tab.until(`document.activeElement.getAttribute('aria-label') === 'Previous file'`)
			}
			tab.press("Escape", 0)
			tab.until(`document.querySelector('.preview').hidden && document.activeElement.matches('.grid') && document.querySelector('.row.active').innerText.includes('md')`)
		}
	})
}

// A double click on a row opens it.
func TestPageOpensARowThatIsDoubleClicked(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct("png.png", "md.md")
		at := eval[[2]float64](tab, `(() => { const r = document.querySelectorAll('.rows .row .when')[1].getBoundingClientRect(); return [r.x + 10, r.y + r.height / 2]; })()`)
		for count := int64(1); count <= 2; count++ {
			for _, kind := range []input.DispatchMouseEventType{"mousePressed", "mouseReleased"} {
				call(tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: "left", ClickCount: count})
			}
		}
		tab.shows(".preview h1", "png.png")
	})
}

// WCAG 2.1.1
func TestPageSortsByKeyboard(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct("png.png", "md.md", "pdf_lo.pdf")
		if eval[bool](tab, `!document.querySelector('.head').checkVisibility()`) { // a phone has a list to choose from
			tab.until(`document.querySelector('[aria-label="Sort files"]').checkVisibility() && document.querySelector('[aria-label="Sort files"]').tabIndex === 0`)
			return
		}
		eval[bool](tab, `document.querySelector('[aria-label="Filter files by name"]').focus() ?? true`)
		for range 12 {
			if eval[bool](tab, `document.activeElement.innerText === 'Size'`) {
				break
			}
			tab.press("Tab", 0)
		}
		for _, key := range []string{"Enter", " "} {
			tab.press(key, 0)
			way := map[string]string{"Enter": "descending", " ": "ascending"}[key]
			tab.until(`document.activeElement.innerText.startsWith('Size') && document.activeElement.closest('[aria-sort=` + way + `]')`)
			tab.until(`document.querySelector('.rows .row:nth-child(` + map[string]string{"Enter": "1", " ": "3"}[key] + `)').innerText.includes('pdf_lo')`)
		}
	})
}

// At 400 %, at 200 %, and on a phone that lies on its side.
// WCAG 1.4.10
func TestPageHasRoomForTheListOnALowScreen(t *testing.T) {
	w := pageWorld(t)
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("one of many.csv", "1,2\n")}, want: 201, save: "A"})
	w.copyRecord(t, "{A}", 299)
	tab := newTab(t, w)
	tab.signIn("editor", productPage)
	tab.shows(".actions", "300 files")
	const rows = `[...document.querySelectorAll('.rows .row')].filter((e) => { const r = e.getBoundingClientRect(); return r.top > -1 && r.bottom < innerHeight + 1 && e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2)); })`
	for _, screen := range []struct{ width, height, rows int64 }{{320, 200, 2}, {640, 400, 4}, {844, 390, 4}, {1280, 400, 4}, {390, 844, 6}, {820, 844, 6}, {1280, 800, 6}} {
		tab.look(screen.width, screen.height, "light")
		// With the wheel.
		for range 4 {
			call(tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mouseWheel", X: float64(screen.width) * 0.8, Y: float64(screen.height) - 20, DeltaX: 0.1, DeltaY: 500})
		}
		tab.until(fmt.Sprintf(rows+`.length >= %d`, screen.rows))
		tab.picture(fmt.Sprintf("low-%d", screen.width))
		if wide := eval[int](tab, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
			t.Errorf("%d pixels too wide", wide)
		}
		tab.findBarriers(fmt.Sprintf("%d x %d", screen.width, screen.height))
		// With the keyboard, to the end and back.
		eval[bool](tab, `document.querySelector('.grid').focus() ?? true`)
		for key, index := range map[string]int{"End": 301, "Home": 2, "PageDown": 0} {
			tab.press(key, 0)
			tab.until(fmt.Sprintf(rows+`.some((e) => e.matches('.active') && (%d === 0 || e.getAttribute('aria-rowindex') === '%d'))`, index, index))
		}
		if n := eval[int](tab, `document.querySelectorAll('.rows .row').length`); n > 60 {
			t.Errorf("%d rows are in the document", n)
		}
	}
	// A file that is open is read on such a screen, too.
	tab.look(320, 200, "light")
	tab.press("Enter", 0)
	tab.shows(".preview h1", "one of many")
	tab.until(`document.documentElement.scrollHeight > innerHeight && document.documentElement.scrollWidth <= innerWidth`)
}

// tickets creates n tickets in space a whose titles are their numbers, and returns the
// address of the last one.
func (w *world) tickets(t *testing.T, n int) (last string) {
	t.Helper()
	var made []store.Object
	for i := range n {
		e := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: "a", OwnerID: personID("editor"), Name: fmt.Sprint(i)}
		made = append(made, e)
		last = "#/spaces/a/tickets/" + e.ID.String()
	}
	_, err := w.store.Put(context.Background(), made...)
	w.must(err)
	return last
}

func TestPageShowsInTheTreeWhereTheReaderIs(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		last := w.tickets(t, 120)
		tab.signIn("editor", last)
		tab.shows("h1", "119")
		if eval[int](tab, `innerWidth`) <= 760 { // the tree is a screen of its own
			tab.click("a.back", "Places")
		}
		tab.until(`[...document.querySelectorAll('.tree a')].find((a) => a.getAttribute('href') === '` + last + `')?.checkVisibility()`)
		tab.until(`(() => {
			const r = [...document.querySelectorAll('.tree a')].find((a) => a.getAttribute('href') === '` + last + `').getBoundingClientRect();
			return r.top >= 0 && r.bottom <= innerHeight;
		})()`)
		tab.picture("tree-" + strings.ReplaceAll(tab.Name(), "/", "-"))
		// As numbers.
		const names = `[...document.querySelectorAll('.tree a')].map((a) => a.innerText).filter((n) => /^[0-9]+$/.test(n)).join()`
		tab.until(names + `.startsWith('0,1,2,3,4,5,6,7,8,9,10,11,') && ` + names + `.endsWith(',49,119')`)
		tab.click(".tree button", "Show more")
		tab.until(names + `.endsWith(',117,118,119')`)
		tab.until(`document.activeElement.innerText === '50'`)
		tab.findBarriers("the tree")
	})
}

// The first screen does not depend on how much there is.
func TestPageAsksForPlacesAsTheyAreNeeded(t *testing.T) {
	w := pageWorld(t)
	last := w.tickets(t, 2500)
	tab := newTab(t, w)
	tab.signIn("editor", last)
	tab.shows("h1", "2499")
	tab.until(`document.querySelector('.tree a[aria-current]')?.innerText === '2499'`)
	const asked = `performance.getEntriesByType('resource').filter((e) => e.name.includes('/directory/tickets?')).length`
	if n := eval[int](tab, asked); n != 1 {
		t.Errorf("tickets were asked for %d times", n)
	}
	tab.shows(".tree button", "Show more (over")
	tab.typeIn("[aria-label='Search places by name']", "1234")
	tab.until(`[...document.querySelectorAll('.tree a')].some((a) => a.innerText === '1234')`)
	tab.until(asked + ` === 3`) // all of them: the name may be in the first page already
	tab.typeIn("[aria-label='Search places by name']", "nothing of this name")
	tab.shows(".tree", "No place has this in its name")
	if n := eval[int](tab, asked); n != 3 {
		t.Errorf("tickets were asked for %d times", n)
	}
}

// bomb is a PNG whose header claims side pixels in each direction.
func bomb(side uint32) string {
	head := binary.BigEndian.AppendUint32([]byte("IHDR"), side)
	head = append(binary.BigEndian.AppendUint32(head, side), 8, 2, 0, 0, 0)
	head = binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(head))
	end := "\x00\x00\x00\x00IEND\xaeB\x60\x82"
	return "\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + string(head) + end
}

// What is to be decoded unasked depends on a picture's pixels.
func TestPageDecodesNoHugePictureUnasked(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		for name, content := range map[string]string{"huge.png": bomb(20_000),
			"huge.svg": `<svg xmlns="http://www.w3.org/2000/svg"><image href="data:image/png;base64,AAAA"/></svg>`} {
			w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file(name, content)}, want: 201})
		}
		tab.expect("404") // there is no thumbnail of them
		tab.openProduct("png.png")
		for _, name := range []string{"huge.png", "huge.svg"} {
			tab.click(".rows a", name)
			tab.shows(".preview .note", "may be very large")
			tab.until(`!document.querySelector('.preview img[src^="blob:"]')`)
			tab.picture("huge-" + strings.ReplaceAll(tab.Name(), "/", "-"))
			tab.findBarriers(name)
			tab.click(".preview button", "Close preview")
			tab.until(`document.querySelector('.preview').hidden`)
		}
		tab.click(".rows a", "png.png")
		tab.until(`document.querySelector('.picture img[src^="blob:"]')?.naturalWidth > 0`)
	})
}

func TestPageTellsKindsOfFilesApart(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct("pdf_lo.pdf", "doc_lo.doc", "md.md", "xlsx_lo.xlsx")
		tab.until(`new Set([...document.querySelectorAll('.rows .thumb path')].map((e) => e.getAttribute('d'))).size === 4`)
		tab.until(`[...document.querySelectorAll('.rows .size')].every((e) => e.checkVisibility() && e.innerText)`)
		tab.picture("kinds-" + strings.ReplaceAll(tab.Name(), "/", "-"))
		tab.findBarriers("the kinds")
		// Nothing is asked of the server that it has not: the console is silent.
		tab.click(".rows a", "xlsx_lo.xlsx")
		tab.shows(".preview", "No preview of this type")
		tab.click(".preview button", "Close preview")
		tab.until(`document.querySelector('.preview').hidden`) // rows have the room of the list again
		tab.click(".rows a", "pdf_lo.pdf")
		tab.until(`document.querySelector('.preview iframe')?.src.endsWith('#navpanes=0&view=FitH')`)
		// At an address where nothing is, nothing is to be filtered.
		tab.expect("404")
		tab.open("#/spaces/a/products/00000000-0000-4000-8000-0000000000ff")
		tab.shows("main", "All places")
		tab.gone("main", "Loading")
		tab.until(`![...document.querySelectorAll('main select, main input')].some((e) => e.checkVisibility())`)
	})
}

func TestPageTellsHowAllUploadsStand(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		tab.openProduct()
		// The server goes, and comes again.
		tab.expect("ERR_INTERNET_DISCONNECTED")
		tab.slow(0)
		tab.drop(".place", notes(t, 2)...)
		tab.shows(".tray h2", "Connection lost, trying again in ")
		tab.findBarriers("a lost connection")
		tab.fast()
		tab.until(`document.querySelector('.tray h2').innerText === '2 uploaded'`)
		// What is announced last is true.
		tab.expect("400")
		tab.drop(".place", sample("elf.bin"))
		tab.until(`/^elf\.bin: .+\. 2 of 3 files uploaded, 1 refused\.$/.test(document.querySelector('[role=status]').textContent)`)
		tab.click(".tray button", "Fold away")
		tab.until(`!document.querySelector('.tray li').checkVisibility()`)
		tab.click(".tray button", "Unfold")
		tab.seen(".tray li")
		tab.click(".tray button", "Clear finished")
		tab.until(`document.querySelector('.tray').hidden`)
		// What goes up is above what is stored, and all can be cancelled.
		tab.slow(2 << 10)
		tab.drop(".place", notes(t, 40)...)
		tab.until(`document.querySelector('.tray li[data-state=done]') && document.querySelector('.tray li').dataset.state !== 'done'`)
		tab.inspect("tray-" + strings.ReplaceAll(tab.Name(), "/", "-"))
		tab.click(".tray button", "Cancel all")
		tab.until(`!document.querySelector('.tray li:not([data-state=done])')`)
		tab.fast()
	})
}
