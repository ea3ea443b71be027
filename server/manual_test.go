package server_test

import (
	"bytes"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"attachd/docs"
	"attachd/server/page"
)

var (
	manualLink = regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	manualID   = regexp.MustCompile(`\bid="([^"]+)"`)
	markup     = regexp.MustCompile(`<(/?)([a-z][a-z0-9]*)`)
)

// harmless are the elements that a page of the manual has.
var harmless = strings.Fields("html head meta title link body header nav main a h1 h2 h3 p ul ol li table thead tbody tr th td pre code strong em img br hr blockquote")

// A page of the manual is read by whoever has the server in front of them: without a
// key, without a network, and with nothing in it that runs.
// ASVS 3.2.2, 3.6.1
func TestTheManualIsReadableWithoutANetwork(t *testing.T) {
	t.Parallel()
	for _, below := range []string{"", "/deep/attachd"} {
		w := newWorld(t, publicURL("https://example.org"+below))
		headers := header{
			"Content-Type":               "text/html; charset=utf-8",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Cache-Control":              "no-cache",
			"Content-Security-Policy":    page.ManualPolicy,
			"X-Content-Type-Options":     "nosniff",
		}
		list := w.do(t, step{do: "GET " + below + "/manual", want: 200, header: headers})
		w.do(t, step{do: "GET " + below + "/manual", send: header{"If-None-Match": list.header.Get("ETag")}, want: 304, is: ""})
		documents := map[string][]byte{below + "/manual": list.body}
		for _, group := range docs.Manual() {
			for _, p := range group.Pages {
				at := below + "/manual/" + p.Name
				documents[at] = w.do(t, step{do: "GET " + at, want: 200, header: headers}).body
				if !bytes.Contains(list.body, []byte(`href="manual/`+p.Name+`"`)) {
					t.Errorf("the list lacks %s", p.Name)
				}
			}
		}
		for at, document := range documents {
			readManual(t, w, documents, at, document)
		}
		for _, path := range []string{"/manual/", "/manual/nothing", "/manual/docs.go", "/manual/start.md", "/manual/..%2fREADME", "/manual/start/"} {
			w.do(t, step{do: "GET " + below + path, want: 404, header: header{"Content-Type": "application/json"}})
		}
	}
}

// readManual follows the links of a document, and looks for what does not belong in it.
func readManual(t *testing.T, w *world, documents map[string][]byte, at string, document []byte) {
	for _, m := range markup.FindAllSubmatch(document, -1) {
		if !slices.Contains(harmless, string(m[2])) {
			t.Errorf("%s has <%s>", at, m[2])
		}
	}
	for _, bad := range []string{"raw HTML omitted", " style=", "<th></th>"} { // refused by the policy, and read to nobody
		if bytes.Contains(document, []byte(bad)) {
			t.Errorf("%s has %s", at, bad)
		}
	}
	for _, m := range manualLink.FindAllSubmatch(document, -1) {
		to := string(m[1])
		if strings.HasPrefix(to, "https://") || strings.HasPrefix(to, "http://127.0.0.1") {
			continue // for somebody who is online, or reads of the demo
		}
		path, anchor, _ := strings.Cut(to, "#")
		target := at
		if path != "" {
			target = resolved(t, at, path)
		}
		if _, read := documents[target]; !read {
			w.do(t, step{do: "GET " + target, want: 200})
		} else if anchor != "" && !slices.ContainsFunc(manualID.FindAllSubmatch(documents[target], -1), func(id [][]byte) bool { return string(id[1]) == anchor }) {
			t.Errorf("%s links to %s, where nothing has that id", at, to)
		}
	}
}

// resolved is the path that a relative link of a document leads to.
func resolved(t *testing.T, at, link string) string {
	base, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	to, err := base.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	return to.Path
}

func TestThePolicyOfTheManualIsAsStrictAsThatOfThePage(t *testing.T) {
	t.Parallel()
	for _, part := range strings.Split(page.ManualPolicy, "; ") {
		if !strings.Contains(page.Policy, part) && part != "img-src 'self'" { // without the page's blobs
			t.Errorf("the page has no %s", part)
		}
	}
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "trusted-types 'none'"} {
		if !strings.Contains(page.ManualPolicy, part) {
			t.Errorf("the policy lacks %s", part)
		}
	}
	if strings.Contains(page.ManualPolicy, "script-src") || strings.Contains(page.ManualPolicy, "unsafe") {
		t.Errorf("the policy is %s", page.ManualPolicy)
	}
}
