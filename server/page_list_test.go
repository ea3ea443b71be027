package server_test

import (
	"strings"
	"testing"
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
