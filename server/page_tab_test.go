package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	devbrowser "github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	devlog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	devpage "github.com/chromedp/cdproto/page"
	devruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var (
	axeFile  = flag.String("axe", "", "axe.min.js of axe-core: with it, the page is searched for barriers")
	pictures = flag.String("pictures", "", "a directory for pictures of the page")
)

// chromium is started once for all tests, with a new profile.
var chromium = sync.OnceValues(func() (context.Context, error) {
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		return nil, errors.New("no Chromium was found: install it, for example with apt-get install chromium")
	}
	ctx, _ := chromedp.NewExecAllocator(context.Background(), chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox,
		chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("lang", "en-GB"),
		chromedp.Flag("hide-scrollbars", false), chromedp.WindowSize(1280, 800))
	ctx, closeBrowser = chromedp.NewContext(ctx)
	return ctx, chromedp.Do(ctx)
})

var closeBrowser = func() {}

// tab is a tab of the browser that shows the page of a world. At the end of the test,
// its console must have been silent, except for refusals that the test expects, and it
// must have requested nothing from another host.
type tab struct {
	*testing.T
	w   *world
	ctx context.Context

	mu       sync.Mutex
	servers  []string // where its pages are from; an earlier one's icon may be requested late
	problems []string
	expected []string // allowed parts of console messages
}

func newTab(t *testing.T, w *world) *tab {
	t.Helper()
	if !*inBrowser {
		t.Skip("needs Chromium: run with `go test ./server -run Page -browser`")
	}
	root, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(root, chromedp.WithNewBrowserContext())
	tb := &tab{T: t, w: w, ctx: ctx}
	t.Cleanup(tb.checkConsole)
	t.Cleanup(cancel)
	tb.must(chromedp.Listen(ctx, tb.watch))
	call(tb, devlog.Enable, cdp.Empty{})
	call(tb, devruntime.Enable, cdp.Empty{})
	call(tb, network.Enable, network.EnableParams{})
	tb.look(1280, 800, "light")
	return tb
}

func (t *tab) watch(ev any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch ev := ev.(type) {
	case *devruntime.EventConsoleAPICalled:
		raw, _ := json.Marshal(ev.Args)
		t.problems = append(t.problems, fmt.Sprintf("console.%s %s", ev.Type, raw))
	case *devruntime.EventExceptionThrown:
		raw, _ := json.Marshal(ev.ExceptionDetails)
		t.problems = append(t.problems, "exception "+string(raw))
	case *devlog.EventEntryAdded:
		t.problems = append(t.problems, fmt.Sprintf("%s: %s %s", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL))
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(ev.Request.URL)
		local := err == nil && (slices.Contains(t.servers, "http://"+u.Host) || slices.Contains([]string{"blob", "data", "about", "chrome", "chrome-extension"}, u.Scheme))
		if !local {
			t.problems = append(t.problems, "asked another host: "+ev.Request.URL)
		}
	}
}

// expect allows console messages with this part.
func (t *tab) expect(part string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expected = append(t.expected, part)
}

func (t *tab) checkConsole() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, problem := range t.problems {
		if !slices.ContainsFunc(t.expected, func(part string) bool { return strings.Contains(problem, part) }) {
			t.Errorf("the browser says: %.600s", problem)
		}
	}
}

func (t *tab) must(err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look sets the size of the screen, in pixels, and the colours of the theme.
func (t *tab) look(width, height int64, scheme string) {
	t.Helper()
	call(t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: false})
	call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
	// Until it is laid out and drawn.
	eval[bool](t, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() => done(true), 50))))`)
}

// open opens an address of the page. It is loaded again, whatever is shown.
func (t *tab) open(hash string) {
	t.Helper()
	t.mu.Lock()
	t.servers = append(t.servers, t.w.url)
	t.mu.Unlock()
	t.must(chromedp.Do(t.ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(t.w.url+"/"+hash)))
}

// signIn opens an address with the session of a person.
func (t *tab) signIn(as, hash string) {
	t.Helper()
	t.open(hash)
	t.until(`document.querySelector('#key')`)
	t.typeIn("#key", t.w.keys[as])
	t.press("Enter", 0)
	t.until(`document.querySelector('.app')`)
}

// openProduct opens the product of the world, with these samples in it, as its editor.
func (t *tab) openProduct(samples ...string) {
	t.Helper()
	for _, name := range samples {
		t.w.put(t.T, "editor", "product", name)
	}
	t.signIn("editor", productPage)
	if t.w.records() == 0 {
		t.shows("main h2", "No files yet")
	} else {
		t.until(`document.querySelector('.rows .row')`)
	}
}

// eval returns the value of an expression in the page; a promise is awaited.
func eval[T any](t *tab, expression string) T {
	t.Helper()
	v, err := chromedp.Run(t.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits for an expression to be true.
func (t *tab) until(expression string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		v, err := chromedp.Run(t.ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		if err == nil && v {
			return
		}
		if time.Now().After(deadline) {
			t.picture("failed-" + strings.ReplaceAll(t.Name(), "/", "-"))
			t.Fatalf("it never came true: %s (%v)\nthe page says: %s", expression, err, eval[string](t, "document.body.innerText"))
		}
	}
}

// innerText is the text of an element e; a file's name is one word, although its end is
// in a separate element.
const innerText = `(e.innerText ?? '').replace(/\s*\n(?=\.)/g, '')`

// shows waits until an element that a selector finds contains this text.
func (t *tab) shows(selector, text string) {
	t.Helper()
	t.until(fmt.Sprintf(`[...document.querySelectorAll(%q)].some((e) => e.checkVisibility() && (%s + ' ' + (e.value ?? '')).includes(%q))`, selector, innerText, text))
}

// gone waits until no element that a selector finds contains this text.
func (t *tab) gone(selector, text string) {
	t.Helper()
	t.until(fmt.Sprintf(`![...document.querySelectorAll(%q)].some((e) => e.checkVisibility() && %s.includes(%q))`, selector, innerText, text))
}

// click clicks with the mouse on the first visible element with this selector and text
// or name.
func (t *tab) click(selector, text string, modifiers ...int64) {
	t.Helper()
	find := fmt.Sprintf(`[...document.querySelectorAll(%q)].find((e) => e.checkVisibility() && !e.disabled && (%s + ' ' + (e.getAttribute('aria-label') ?? '')).includes(%q))`, selector, innerText, text)
	t.until(find)
	at := eval[[2]float64](t, fmt.Sprintf(`(() => { const e = %s; e.scrollIntoView({ block: 'nearest' }); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, find))
	var modifier int64
	for _, m := range modifiers {
		modifier |= m
	}
	for _, kind := range []input.DispatchMouseEventType{"mouseMoved", "mousePressed", "mouseReleased"} {
		p := input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Modifiers: modifier}
		if kind != "mouseMoved" {
			p.Button, p.ClickCount = "left", 1
		}
		call(t, input.DispatchMouseEvent, p)
	}
}

// typeIn types into a field, replacing its content.
func (t *tab) typeIn(selector, text string) {
	t.Helper()
	t.until(fmt.Sprintf(`document.querySelector(%q)`, selector))
	eval[bool](t, fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.focus(); e.select(); return true; })()`, selector))
	call(t, input.InsertText, input.InsertTextParams{Text: text})
}

const (
	ctrl  = 2
	shift = 8
)

// keyCodes are the key codes of Windows, which the browser requires.
var keyCodes = map[string]int64{"Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40, "Delete": 46, "Tab": 9, "a": 65, "v": 86}

// press presses a key; commands are the editing commands that the browser derives from
// it.
func (t *tab) press(key string, modifiers int64, commands ...string) {
	t.Helper()
	p := input.DispatchKeyEventParams{Type: "keyDown", Key: key, Code: key, Modifiers: modifiers, WindowsVirtualKeyCode: keyCodes[key], Commands: commands}
	if key == "Enter" {
		p.Text = "\r"
	} else if key == " " {
		p.Text = " "
	}
	call(t, input.DispatchKeyEvent, p)
	p.Type, p.Text, p.Commands = "keyUp", "", nil
	call(t, input.DispatchKeyEvent, p)
}

// drop drops files or folders of this machine on an element.
func (t *tab) drop(selector string, paths ...string) {
	t.Helper()
	for _, kind := range []input.DispatchDragEventType{"dragEnter", "dragOver", "drop"} {
		t.drag(kind, selector, paths...)
	}
}

// drag is one step of a drag with files or folders of this machine, above the middle of
// an element.
func (t *tab) drag(kind input.DispatchDragEventType, selector string, paths ...string) {
	t.Helper()
	at := eval[[2]float64](t, fmt.Sprintf(`(() => { const r = document.querySelector(%q).getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()`, selector))
	call(t, input.DispatchDragEvent, input.DispatchDragEventParams{Type: kind, X: at[0], Y: at[1],
		Data: &input.DragData{Items: []*input.DragDataItem{}, Files: paths, DragOperationsMask: 1}})
}

// pick chooses files with the page's button for uploads.
func (t *tab) pick(paths ...string) {
	t.Helper()
	input := call(t, devruntime.Evaluate, devruntime.EvaluateParams{Expression: `document.querySelector('input[type=file]')`})
	call(t, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: paths, ObjectID: input.Result.ObjectID})
}

// eventually waits for something outside the page.
func (t *tab) eventually(what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}

// slow limits how fast the page sends, in bytes a second; 0 cuts the network.
func (t *tab) slow(upload float64) {
	t.Helper()
	call(t, network.EmulateNetworkConditionsByRule, network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
		{Offline: upload == 0, DownloadThroughput: -1, UploadThroughput: upload}}})
	call(t, network.OverrideNetworkState, network.OverrideNetworkStateParams{Offline: upload == 0, DownloadThroughput: -1, UploadThroughput: upload})
}

func (t *tab) fast() {
	t.Helper()
	t.slow(-1)
}

// downloads has the browser put downloads into a directory.
func (t *tab) downloads() (dir string) {
	t.Helper()
	dir = t.TempDir()
	c := chromedp.FromContext(t.ctx)
	_, err := chromedp.CallBrowser(t.ctx, devbrowser.SetDownloadBehavior, devbrowser.SetDownloadBehaviorParams{Behavior: "allow", BrowserContextID: c.BrowserContextID, DownloadPath: dir})
	t.must(err)
	return dir
}

// grant allows the page to use the clipboard without asking.
func (t *tab) grant(names ...string) {
	t.Helper()
	c := chromedp.FromContext(t.ctx)
	for _, name := range names {
		_, err := chromedp.CallBrowser(t.ctx, devbrowser.SetPermission, devbrowser.SetPermissionParams{
			Permission: &devbrowser.PermissionDescriptor{Name: name}, Setting: "granted", BrowserContextID: c.BrowserContextID})
		t.must(err)
	}
}

// picture takes a screenshot, if pictures are wanted.
func (t *tab) picture(name string) {
	t.Helper()
	if *pictures == "" {
		return
	}
	shot := call(t, devpage.CaptureScreenshot, devpage.CaptureScreenshotParams{})
	t.must(os.MkdirAll(*pictures, 0o755))
	t.must(os.WriteFile(filepath.Join(*pictures, name+".png"), shot.Data, 0o644))
}

// call sends the tab a command of the DevTools protocol.
func call[P, R any](t *tab, command cdp.Command[P, R], params P) R {
	t.Helper()
	result, err := chromedp.Call(t.ctx, command, params)
	if err != nil {
		t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// views are the screens and themes in which people see the page.
var views = []struct {
	name          string
	width, height int64
	scheme        string
}{{"light", 1280, 800, "light"}, {"dark", 1280, 800, "dark"}, {"phone", 360, 740, "light"}, {"phone-dark", 360, 740, "dark"}}

// inspect takes pictures in every view, and checks each for barriers (with axe-core)
// and for anything that is wider than the screen.
func (t *tab) inspect(name string) {
	t.Helper()
	for _, v := range views {
		t.look(v.width, v.height, v.scheme)
		t.picture(name + "-" + v.name)
		if wide := eval[int](t, `document.documentElement.scrollWidth - innerWidth`); wide > 0 {
			t.Errorf("%s: %s is %d pixels wider than the screen", v.name, name, wide)
		}
		t.findBarriers(name + " in " + v.name)
	}
	t.look(1280, 800, "light")
}

// atWidths runs a test with a new world and tab at each of the widths at which the
// page's layout differs: two panes side by side, one at a time, and a phone.
func atWidths(t *testing.T, test func(w *world, tab *tab)) {
	t.Helper()
	for _, width := range []int64{1280, 820, 390} {
		t.Run(fmt.Sprintf("%d pixels", width), func(t *testing.T) {
			w := pageWorld(t)
			tab := newTab(t, w)
			tab.look(width, 844, "light")
			test(w, tab)
		})
	}
}

// seen waits for the first element that a selector finds to be on the screen,
// with nothing above its middle.
func (t *tab) seen(selector string) {
	t.Helper()
	t.until(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q), r = e?.getBoundingClientRect();
		return r?.width > 0 && r.height > 0 && e.contains(document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2));
	})()`, selector))
}

func (t *tab) findBarriers(where string) {
	t.Helper()
	if *axeFile == "" {
		return
	}
	if !eval[bool](t, `typeof axe === 'object'`) {
		source, err := os.ReadFile(*axeFile)
		t.must(err)
		t.must(chromedp.Do(t.ctx, chromedp.Evaluate[chromedp.Void](string(source))))
	}
	found := eval[[]string](t, `axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ': ' + n.html.slice(0, 200) + ' ' + (n.failureSummary ?? ''))))`)
	for _, barrier := range found {
		t.Errorf("%s: %s", where, barrier)
	}
}
