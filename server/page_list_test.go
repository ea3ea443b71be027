package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
)

// What is asked about the open file is asked beside the button that was
// pressed, also where the list is not on the screen.
func TestPageAsksAboutAnOpenFileWhereTheButtonIs(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		w.put(t, "editor", "product", "png.png")
		w.put(t, "editor", "product", "md.md")
		tab.grant("clipboard-read", "clipboard-write")
		tab.signIn("editor", productPage)
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

// notes gives files that differ, in a directory of their own.
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
		for range 12 {
			w.put(t, "editor", "product", "md.md")
		}
		tab.signIn("editor", productPage)
		tab.shows(".actions", "12 files")
		tab.slow(20 << 10) // bytes a second: some twenty files
		tab.drop(".place", notes(t, 300)...)
		const stored = `document.querySelectorAll('.tray li[data-state=done]').length`
		tab.until(stored + ` > 0`)
		for range 5 {
			// A row is pressed until two more files have come.
			at := eval[[3]float64](tab, `(() => {
				const grid = document.querySelector('.grid'), r = grid.getBoundingClientRect();
				grid.addEventListener('pointerdown', (e) => { window.pressed = e.target.closest('.rows .row').id; }, { once: true });
				return [r.x + r.width * 0.6, r.y + r.height * 0.7, `+stored+`];
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
		for range 12 {
			w.put(t, "editor", "product", "md.md")
		}
		tab.signIn("editor", productPage)
		tab.shows(".actions", "12 files")
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
			const r = active?.getBoundingClientRect();
			return r && active.matches('[aria-selected=true]') ? active.id + ' at ' + Math.round(r.top) : '';
		})()`
		tab.until(kept)
		eval[bool](tab, `(() => { document.querySelector('.actions button').before = true; return true; })()`)
		tab.drop(".place", notes(t, 5)...)
		tab.shows(".tray", "5 uploaded")
		tab.until(`document.querySelector('.grid').getAttribute('aria-rowcount') === '18'`)
		if n := eval[int](tab, `[...document.querySelectorAll('.rows .row')].filter((e) => e.before).length`); n < 8 {
			t.Errorf("only %d rows are still the same elements", n)
		}
		tab.until(`document.activeElement.matches('.grid')`)
		tab.until(kept)
		tab.until(`document.querySelector('.actions button').before`)
	})
}

// Whoever double-clicks a row means to open it.
func TestPageOpensARowThatIsDoubleClicked(t *testing.T) {
	atWidths(t, func(w *world, tab *tab) {
		w.put(t, "editor", "product", "png.png")
		w.put(t, "editor", "product", "md.md")
		tab.signIn("editor", productPage)
		tab.shows(".rows .name", "png.png")
		at := eval[[2]float64](tab, `(() => { const r = document.querySelectorAll('.rows .row .when')[1].getBoundingClientRect(); return [r.x + 10, r.y + r.height / 2]; })()`)
		for count := int64(1); count <= 2; count++ {
			for _, kind := range []input.DispatchMouseEventType{"mousePressed", "mouseReleased"} {
				call(tab, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: "left", ClickCount: count})
			}
		}
		tab.shows(".preview h1", "png.png")
	})
}
