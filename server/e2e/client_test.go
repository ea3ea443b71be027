//go:build unix

package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs/s3/s3test"
	"attachd/server/content"
)

// place is the product of process_test.go, as the commands name it.
const place = "product:analytics/550e8400-e29b-41d4-a716-446655440000"

// over runs a command against a server at a URL.
func over(t *testing.T, at, key string, words ...string) result {
	t.Helper()
	return attachd(t, slices.Concat([]string{"ATTACHD_SERVER=" + at, "ATTACHD_KEY=" + key}, words)...)
}

// over runs a command against the server with its key; it must end with this exit
// code.
func (p *process) over(code int, words ...string) result {
	p.t.Helper()
	return wantCode(p.t, code, over(p.t, p.url, p.key, words...))
}

// commands returns what runs commands, over the network or in the data directory, and returns
// what they say.
func (p *process) commands(dir string, overTheNetwork bool) (run func(code int, words ...string) string) {
	return func(code int, words ...string) string {
		p.t.Helper()
		var r result
		if overTheNetwork {
			r = p.over(code, words...)
		} else {
			r = wantCode(p.t, code, attachd(p.t, append(words, "--data-dir", dir)...))
		}
		return r.stdout + r.stderr
	}
}

func wantCode(t *testing.T, code int, r result) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	return r
}

func says(t *testing.T, r result, text string) {
	t.Helper()
	if !strings.Contains(r.stdout+r.stderr, text) {
		t.Errorf("%s%sdoes not say %q", r.stdout, r.stderr, text)
	}
}

// fileOf writes a file for a test to upload.
func fileOf(t *testing.T, name, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	write(t, path, content)
	return path
}

// in lists the attachments of a product.
func (p *process) in(parent string) (all []attachment) {
	p.t.Helper()
	p.get(parent+"/attachments").into(p.t, &all)
	return all
}

const someLines = 40_000 // about half a megabyte

func lines() string { return strings.Repeat("order,amount\n", someLines) }

func TestFilesGoAndComeOverTheNetwork(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	files, err := filepath.Glob("../cli/demo/*")
	check(t, err)
	odd := fileOf(t, `Ünï "côde" 数据 100%.csv`, "a,b\n1,2\n")
	files = append(files, odd)
	for i := range files {
		files[i], err = filepath.Abs(files[i])
		check(t, err)
	}
	for _, to := range []string{place, "ticket:550e8400-e29b-41d4-a716-446655440001", "meeting:550e8400-e29b-41d4-a716-446655440002"} {
		t.Run(to, func(t *testing.T) {
			t.Parallel()
			put := server.over(0, slices.Concat([]string{"put", "--to", to}, files)...)
			addresses := strings.Fields(put.stdout)
			if len(addresses) != len(files) || put.stderr != "" {
				t.Fatalf("put printed %s%s", put.stdout, put.stderr)
			}
			listed := server.over(0, "ls", to).stdout
			elsewhere := t.TempDir()
			for i, file := range files {
				name := filepath.Base(file)
				if !strings.Contains(listed, name) || !strings.HasPrefix(addresses[i], to+"/") {
					t.Errorf("%s became %s; the list is\n%s", name, addresses[i], listed)
				}
				byID, byName := filepath.Join(elsewhere, "by-id"), filepath.Join(elsewhere, name)
				if got := server.over(0, "get", addresses[i], "-o", byID).stdout; got != byID+"\n" {
					t.Errorf("get printed %q", got)
				}
				server.over(0, "get", to+"/"+name, "-o", elsewhere)
				if want := read(t, file); read(t, byID) != want || read(t, byName) != want {
					t.Errorf("%s did not come back as it went", name)
				}
				if got := server.over(0, "get", addresses[i], "-o", "-"); got.stdout != read(t, file) {
					t.Errorf("%s did not come through standard output", name)
				}
				remove(t, byID)
			}
			packed := filepath.Join(elsewhere, "all.zip")
			if got := server.over(0, "get", "--zip", to, "-o", packed).stdout; got != packed+"\n" {
				t.Errorf("get --zip printed %q", got)
			}
			archive, err := zip.OpenReader(packed)
			check(t, err)
			defer archive.Close()
			for _, file := range files {
				r, err := archive.Open(content.LocalName(filepath.Base(file), content.LongestName))
				check(t, err)
				if raw, err := io.ReadAll(r); err != nil || string(raw) != read(t, file) {
					t.Errorf("the archive has %q for %s: %v", raw, file, err)
				}
			}
			link := strings.TrimSpace(server.over(0, "link", addresses[0], "--expires-in", "1h", "--inline").stdout)
			response, err := http.Get(link)
			check(t, err)
			defer response.Body.Close()
			if raw, err := io.ReadAll(response.Body); err != nil || string(raw) != read(t, files[0]) {
				t.Errorf("%s gives %q, %v", link, raw, err)
			}
			server.over(0, slices.Concat([]string{"rm"}, addresses[1:])...)
			if left := server.over(0, "ls", to, "--json").stdout; strings.Count(left, "\n") != 1 {
				t.Errorf("left are\n%s", left)
			}
			r := server.over(1, "rm", addresses[0], addresses[1])
			says(t, r, "deleted "+addresses[0])
			says(t, r, "There is no attachment")
			says(t, r, "1 of 2 attachments not deleted")
		})
	}
}

func TestPlacesAreListedAndHaveNames(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "--demo")
	const (
		eu, us   = "550e8400-e29b-41d4-a716-446655440101", "550e8400-e29b-41d4-a716-446655440102"
		lower    = "550e8400-e29b-41d4-a716-446655440103"
		nameless = "550e8400-e29b-41d4-a716-446655440104"
		elsewhen = "550e8400-e29b-41d4-a716-446655440105"
	)
	world := `{"kind":"space","slug":"research"}
{"kind":"meeting","space":"research","id":"` + elsewhen + `","title":"Weekly data meeting"}
`
	for id, name := range map[string]string{eu: "Orders / EU", us: "Orders", lower: "orders", nameless: ""} {
		world += `{"kind":"product","space":"research","id":"` + id + `","name":"` + name + `"}` + "\n"
	}
	server.call(server.key, "POST", "/directory/import", strings.NewReader(world), "Content-Type", "application/x-ndjson").want(t, 200)

	// Every user sees the places of their own spaces.
	var keys map[string]string
	check(t, json.Unmarshal([]byte(read(t, filepath.Join(server.dir, "demo-keys.json"))), &keys))
	analytics := `(?s)^PLACE +SPACE +NAME
product:analytics/550e8400-e29b-41d4-a716-446655440000 +analytics +Customer 360
ticket:550e8400-e29b-41d4-a716-446655440001 +analytics +Countries are missing
meeting:550e8400-e29b-41d4-a716-446655440003 +analytics +Weekly data meeting
`
	for _, words := range [][]string{{"ls"}, {"ls", "analytics"}} {
		if r := wantCode(t, 0, over(t, server.url, keys["viewer"], words...)); !regexp.MustCompile(analytics + `$`).MatchString(r.stdout) {
			t.Errorf("%v printed\n%s", words, r.stdout)
		}
	}
	says(t, wantCode(t, 1, over(t, server.url, keys["viewer"], "ls", "research")), "research")
	if r := server.over(0, "ls"); !regexp.MustCompile(analytics+"product:research/").MatchString(r.stdout) || strings.Count(r.stdout, "\n") != 9 {
		t.Errorf("ls printed\n%s", r.stdout)
	}
	if r := server.over(0, "ls", "--json", "research"); !strings.Contains(r.stdout, `{"place":"product:research/`+eu+`","space":"research","name":"Orders / EU"}`+"\n") || strings.Count(r.stdout, "\n") != 5 {
		t.Errorf("ls --json printed\n%s", r.stdout)
	}

	// A name can be used instead of the id, in every command.
	file := fileOf(t, "b.csv", "a,b\n")
	for typed, is := range map[string]string{
		"product:analytics/Customer 360": place,
		"product:analytics/customer 360": place,
		"product:research/Orders":        "product:research/" + us,
		"product:research/orders":        "product:research/" + lower,
		"product:research/ORDERS / eu":   "product:research/" + eu,
		"ticket:Countries are missing":   "ticket:550e8400-e29b-41d4-a716-446655440001",
	} {
		name := fmt.Sprintf("%x.csv", typed)
		at := strings.TrimSpace(server.over(0, "put", file, "--name", name, "--to", typed).stdout)
		if !strings.HasPrefix(at, is+"/") {
			t.Errorf("%s became %s", typed, at)
		}
		says(t, server.over(0, "ls", typed), name)
		id := at[strings.LastIndex(at, "/")+1:]
		for _, address := range []string{typed + "/" + name, typed + "/" + id} {
			if got := server.over(0, "get", address, "-o", "-").stdout; got != "a,b\n" {
				t.Errorf("%s gives %q", address, got)
			}
		}
		server.over(0, "link", typed+"/"+name)
		server.over(0, "rm", typed+"/"+name)
	}

	for typed, why := range map[string]string{
		"product:research/ORDERS":     `2 products have the name in "ORDERS"; say which: product:research/` + us + " or product:research/" + lower,
		"meeting:weekly DATA meeting": "say which: meeting:550e8400-e29b-41d4-a716-446655440003 or meeting:" + elsewhen,
		"product:research/Order":      `there is no product "Order" that you may see: attachd ls lists what there is`,
		"product:nowhere/Orders":      "nowhere",
	} {
		says(t, server.over(1, "ls", typed), why)
		says(t, server.over(1, "put", file, "--to", typed), why)
	}
	says(t, server.over(1, "get", "product:research/Orders/none.csv"), `product:research/`+us+` has no attachment called "none.csv"`)
	says(t, server.over(1, "rm", "product:research/Customer/none.csv"), `there is no product "Customer/none.csv"`)
}

// The help of a command has no flags that the command does not use.
func TestTheHelpOfCommandsForFilesSpeaksOfNoInstallation(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"put", "get", "ls", "rm", "link", "version"} {
		for _, words := range [][]string{{name, "--help"}, {"help", name}} {
			r := wantCode(t, 0, attachd(t, words...))
			if strings.Contains(r.stdout, "--config") || strings.Contains(r.stdout, "--data-dir") || strings.Contains(r.stdout, "Global Flags") {
				t.Errorf("%v prints\n%s", words, r.stdout)
			}
			if name != "version" && (!strings.Contains(r.stdout, "ATTACHD_KEY") || !strings.Contains(r.stdout, "Examples:\n  ")) {
				t.Errorf("%v prints\n%s", words, r.stdout)
			}
		}
	}
	for _, name := range []string{"serve", "check", "backup", "key"} {
		says(t, wantCode(t, 0, attachd(t, name, "--help")), "--data-dir")
	}
	says(t, wantCode(t, 0, attachd(t, "--help")), "--data-dir")
	if got, want := wantCode(t, 0, attachd(t, "--version")).stdout, wantCode(t, 0, attachd(t, "version")).stdout; got != want {
		t.Errorf("--version prints %q, version %q", got, want)
	}
}

func TestFilesByTheirDownloadPath(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	at := server.upload(product, "a.txt", "as it was").want(t, 201).download()
	for _, address := range []string{at, server.url + at, strings.TrimSuffix(at, "/download")} {
		if got := server.over(0, "get", address, "-o", "-").stdout; got != "as it was" {
			t.Errorf("%s gives %q", address, got)
		}
	}
	says(t, server.over(2, "get", "http://elsewhere.example"+at), "is no attachment")
	server.over(0, "rm", server.url+at)
	says(t, server.over(1, "get", at), "There is no attachment")

	// A name that several files have identifies none.
	server.upload(product, "b.txt", "one").want(t, 201)
	server.upload(product, "b.txt", "two").want(t, 201)
	says(t, server.over(1, "rm", place+"/b.txt"), "2 attachments of "+place+` are called "b.txt"`)
	says(t, server.over(1, "rm", place+"/c.txt"), `has no attachment called "c.txt"`)
	if left := server.in(product); len(left) != 2 {
		t.Errorf("left are %v", left)
	}
}

// The server's file name is used as it is: nothing in it is an escape sequence.
func TestADownloadKeepsAPercentSignInAName(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	at := server.upload(product, `x"; filename*=UTF-8''a%2522b%250D.txt; y="`, "as it was").want(t, 201).download()
	to := t.TempDir()
	if got, want := server.over(0, "get", at, "-o", to).stdout, filepath.Join(to, "a%22b%0D.txt"); got != want+"\n" || read(t, want) != "as it was" {
		t.Errorf("get printed %q, want %s", got, want)
	}
}

func TestAnUploadKeepsEveryNameThatAFileHas(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	for _, name := range []string{"half%22price.csv", "=?utf-8?Q?a?=.csv", "%C3%9C.csv", "a=b&c;d'e.csv", "Übersicht 見積.csv"} {
		server.over(0, "put", fileOf(t, name, "a,b\n"), "--to", place)
	}
	var got []string
	for _, a := range server.in(product) {
		got = append(got, a.FileName)
	}
	if want := "half%22price.csv|=?utf-8?Q?a?=.csv|%C3%9C.csv|a=b&c;d'e.csv|Übersicht 見積.csv"; strings.Join(got, "|") != want {
		t.Errorf("got  %q\nwant %s", got, want)
	}
}

func TestWhatHasNoLengthIsUploadedToo(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	sources := [][]string{{"-", "--name", "dump.csv"}, {"-"}}
	want := []string{"dump.csv", "stdin"}
	if runtime.GOOS != "windows" {
		sources, want = append(sources, []string{"/dev/stdin", "--name", "pipe.csv"}), append(want, "pipe.csv")
	}
	for i, source := range sources {
		cmd := command(t, slices.Concat([]string{"ATTACHD_SERVER=" + server.url, "ATTACHD_KEY=" + server.key, "put", "--to", place}, source)...)
		cmd.Stdin = io.MultiReader(strings.NewReader("a,b\n"), strings.NewReader("1,2\n")) // a pipe, as from another program
		wantCode(t, 0, finish(t, cmd))
		last := server.in(product)[i]
		content := server.get("/catalog/attachments/"+last.ID+"/download").want(t, 200).body
		if last.FileName != want[i] || content != "a,b\n1,2\n" {
			t.Errorf("%v became %q with %q, want %q", source, last.FileName, content, want[i])
		}
	}
	says(t, server.over(2, "put", "-", "a.csv", "--name", "b.csv", "--to", place), "--name takes one file")
}

func TestCommandsForFilesSpeakJSON(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	good, bad := fileOf(t, "good.txt", "good"), fileOf(t, "bad.sh", "#!/bin/sh\n")
	r := server.over(1, "put", "--json", good, bad, "--to", place)
	var one, two struct {
		File       string
		Attachment attachment
		Error      struct{ Code, Detail, RequestID string }
	}
	lines := json.NewDecoder(strings.NewReader(r.stdout))
	check(t, lines.Decode(&one))
	check(t, lines.Decode(&two))
	if one.File != good || one.Attachment.FileName != "good.txt" || one.Attachment.ID == "" || two.File != bad || two.Error.Code != "invalid_file" || two.Error.Detail == "" {
		t.Errorf("put printed %s", r.stdout)
	}
	raw := strings.TrimSpace(server.get(product + "/attachments").body)
	if listed := server.over(0, "ls", "--json", place).stdout; "["+strings.TrimSpace(listed)+"]" != raw {
		t.Errorf("ls printed\n%snot what the server says:\n%s", listed, raw)
	}
	to := filepath.Join(t.TempDir(), "x")
	address := place + "/" + one.Attachment.ID
	var got map[string]any
	check(t, json.Unmarshal([]byte(server.over(0, "get", "--json", address, "-o", to).stdout), &got))
	if want := map[string]any{"file": to, "file_name": "good.txt", "file_size": 4.0, "sha256": "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c"}; !maps.Equal(got, want) {
		t.Errorf("get printed %v", got)
	}
	var link map[string]string
	check(t, json.Unmarshal([]byte(server.over(0, "link", "--json", address).stdout), &link))
	if link["file_name"] != "good.txt" || !strings.Contains(link["download_url"], "&signature=") {
		t.Errorf("link printed %v", link)
	}
	if gone := server.over(0, "rm", "--json", address).stdout; gone != `{"attachment":"`+address+`","deleted":"`+one.Attachment.ID+"\"}\n" {
		t.Errorf("rm printed %s", gone)
	}
	says(t, server.over(1, "rm", "--json", address), `"code":"not_found"`)
}

func TestTheKeyOfCommandsForFiles(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.txt", "a").want(t, 201)
	says(t, wantCode(t, 2, over(t, server.url, "", "ls", place)), "an API key is needed")
	says(t, wantCode(t, 2, over(t, server.url, "two words", "ls", place)), "a key is one word")
	says(t, wantCode(t, 2, attachd(t, "ATTACHD_KEY="+server.key, "ls", place)), "say which server")
	says(t, wantCode(t, 2, over(t, "ftp://x", server.key, "ls", place)), "is not the URL of a server")
	says(t, server.over(2, "ls", place, "--key", "x"), "unknown flag")
	r := wantCode(t, 1, over(t, server.url, "attachd_wrong", "put", fileOf(t, "a.txt", "a"), "--to", place))
	says(t, r, "This API key is not known")
	if strings.Contains(r.stderr, "attachd_wrong") {
		t.Error("the key is printed")
	}
	says(t, wantCode(t, 0, over(t, server.url, "attachd_wrong", "ls", place, "--key-file", filepath.Join(server.dir, "admin.key"))), "a.txt")
	says(t, wantCode(t, 1, over(t, server.url, "x", "ls", place, "--key-file", filepath.Join(server.dir, "none"))), "no such file")

	// The client follows no redirect to another server.
	followed := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer followed.Close()
	moved := httptest.NewServer(http.RedirectHandler(followed.URL, http.StatusPermanentRedirect))
	defer moved.Close()
	says(t, wantCode(t, 1, over(t, moved.URL, server.key, "ls", place)), "names another address, "+followed.URL)
}

func TestFilesComeFromTheirOwnHost(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]func(t *testing.T) []string{
		"files on the disk":        func(*testing.T) []string { return []string{autoCreate} },
		"files in an object store": func(t *testing.T) []string { return inBucket(s3test.Versitygw(t), filesAtOnce) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var to atomic.Pointer[url.URL]
			var keys atomic.Int64
			files := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				if r.In.Header.Get("Authorization") != "" {
					keys.Add(1)
				}
				r.Out.URL.Scheme, r.Out.URL.Host = "http", to.Load().Host // and the host name as it was asked for
			}})
			defer files.Close()
			host := strings.Replace(files.URL, "127.0.0.1", "localhost", 1)
			server := start(t, spoiledDir(t), append(env(t), "ATTACHD_DOWNLOADS_CONTENT_URL="+host)...)
			at, err := url.Parse(server.url)
			check(t, err)
			to.Store(at)
			content := lines()
			server.upload(product, "a.csv", content).want(t, 201)
			dir := t.TempDir()
			// The second attempt goes on with what is there.
			write(t, filepath.Join(dir, "b.csv.part"), content[:1000])
			for _, to := range []string{"a.csv", "b.csv"} {
				server.over(0, "get", place+"/a.csv", "-o", filepath.Join(dir, to))
				if read(t, filepath.Join(dir, to)) != content {
					t.Errorf("%s is another", to)
				}
			}
			if got := server.over(0, "get", place+"/a.csv", "-o", "-").stdout; got != content {
				t.Errorf("get wrote %.80q", got)
			}
			server.over(0, "export", filepath.Join(dir, "all"), place)
			if keys.Load() > 0 {
				t.Error("the key went to the host for files")
			}
		})
	}
}

// A signature in a redirect gives access to a file.
func TestARedirectThatLeadsNowhereIsToldWithoutItsSignature(t *testing.T) {
	t.Parallel()
	const secret = "?signature=0123456789abcdef"
	var asked atomic.Int64
	server := start(t, dataDir(t), autoCreate)
	download := server.upload(product, "a.csv", "a,b\n").want(t, 201).download()
	for location, says := range map[string]string{
		"/again" + secret:                   "names another address, http://127.0.0.1:",
		"http://[::1/files" + secret:        "which is no URL",
		"ftp://127.0.0.1/files" + secret:    "ftp://127.0.0.1/files:",
		"http://127.0.0.1:1/files" + secret: "no connection to 127.0.0.1:1",
		"{same}" + secret:                   "is that the server's URL?",
	} {
		for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect} {
			asked.Store(0)
			leads := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				w.Header().Set("Location", strings.Replace(location, "{same}", "http://localhost:1"+r.URL.Path, 1))
				w.WriteHeader(status)
			}))
			r := wantCode(t, 1, over(t, leads.URL, server.key, "get", download, "-o", "-", "--retry-for", "0s"))
			leads.Close()
			if !strings.Contains(r.stderr, says) || strings.Contains(r.stdout+r.stderr, "signature") {
				t.Errorf("%d to %s: %s", status, location, r.stderr)
			}
			if n := asked.Load(); n > 8 {
				t.Errorf("%s: it asked %d times", location, n)
			}
		}
	}
}

func TestWrongUseOfCommandsForFiles(t *testing.T) {
	t.Parallel()
	a, b := fileOf(t, "a.txt", "a"), fileOf(t, "a.txt", "b")
	for line, why := range map[string]string{
		"put --to " + place:                            "takes a file",
		"put " + a:                                     "say where the files belong: --to PLACE",
		"put " + a + " --to product:x":                 "is no place",
		"put " + a + " " + b + " --to " + place:        "have the same name",
		"put " + a + " --to " + place + " --comment x": "--comment takes",
		"get":                                    "takes an attachment",
		"get " + place:                           "is no attachment",
		"get " + place + "/x -o - --json":        "standard output",
		"rm":                                     "takes an attachment",
		"ls a b":                                 "takes a place or the slug of a space, or nothing",
		"ls analytics --comment x":               "--comment needs a ticket",
		"ls Analytics":                           "is no place",
		"ls product:analytics":                   "is no place",
		"get ticket:x":                           "is no attachment",
		"link " + place + "/x --expires-in 169h": "--expires-in must be",
		"ls " + place + " --retry-for -1s":       "--retry-for must not",
	} {
		says(t, wantCode(t, 2, over(t, "http://127.0.0.1:1", "x", strings.Fields(line)...)), why)
	}
}

func TestADownloadReplacesNothingUnasked(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.txt", "new").want(t, 201)
	file := fileOf(t, "a.txt", "old")
	for _, to := range []string{file, filepath.Dir(file)} {
		says(t, server.over(1, "get", place+"/a.txt", "-o", to), "is there already; --force replaces it")
		if got := read(t, file); got != "old" {
			t.Fatalf("it became %q", got)
		}
	}
	server.over(0, "get", place+"/a.txt", "-o", file, "--force")
	if got := read(t, file); got != "new" {
		t.Errorf("it stayed %q", got)
	}
	if left := names(t, filepath.Dir(file)); len(left) != 1 {
		t.Errorf("there are %v", left)
	}
}

// meddler is a proxy between the commands and a server.
type meddler struct {
	url  string
	mu   sync.Mutex
	seen []*http.Request
}

// meddle forwards requests, except that how handles those with this method; n is
// their number.
func (p *process) meddle(method string, how func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler)) *meddler {
	m := &meddler{}
	to, err := url.Parse(p.url)
	check(p.t, err)
	forward := httputil.NewSingleHostReverseProxy(to)
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method || r.URL.Path == "/users/me" || r.Method == "GET" && strings.Contains(r.URL.Path, "/spaces/") {
			forward.ServeHTTP(w, r)
			return
		}
		m.mu.Lock()
		m.seen = append(m.seen, r)
		n := len(m.seen)
		m.mu.Unlock()
		how(n, w, r, forward)
	}))
	p.t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// requests returns the requests that were handled so far.
func (m *meddler) requests() []*http.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

func cut() { panic(http.ErrAbortHandler) }

// cutWriter closes the connection after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(w.left, len(p))])
	if w.left -= n; w.left == 0 {
		w.ResponseWriter.(http.Flusher).Flush()
		cut()
	}
	return n, err
}

// flipWriter changes the first byte.
type flipWriter struct {
	http.ResponseWriter
	done bool
}

func (w *flipWriter) Write(p []byte) (int, error) {
	if !w.done && len(p) > 0 {
		p, w.done = bytes.Clone(p), true
		p[0] ^= 1
	}
	return w.ResponseWriter.Write(p)
}

func TestADownloadThatIsCutGoesOn(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.csv", lines()).want(t, 201)
	for output, cuts := range map[string][]int{"a.csv": {1, 200_000}, "-": {100_000}} {
		for _, at := range cuts {
			t.Run(fmt.Sprint(at, output), func(t *testing.T) {
				t.Parallel()
				m := server.meddle("GET", func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
					if n < 3 {
						w = &cutWriter{w, at}
					}
					forward.ServeHTTP(w, r)
				})
				to := output
				if to != "-" {
					to = filepath.Join(t.TempDir(), output)
				}
				r := wantCode(t, 0, over(t, m.url, server.key, "get", place+"/a.csv", "-o", to))
				got := r.stdout
				if to != "-" {
					if left := names(t, filepath.Dir(to)); len(left) != 1 {
						t.Fatalf("there are %v", left)
					}
					got = read(t, to)
				}
				if got != lines() {
					t.Errorf("%d bytes came", len(got))
				}
				says(t, r, "the connection was cut; trying again in")
				for i, rq := range m.requests()[1:] {
					if rq.Header.Get("Range") != fmt.Sprintf("bytes=%d-", at*(i+1)) || len(rq.Header.Get("If-Range")) != 66 {
						t.Errorf("request %d has %v", i+1, rq.Header)
					}
				}
			})
		}
	}
}

func TestTheNextDownloadGoesOnWhereTheLastEnded(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.csv", lines()).want(t, 201)
	m := server.meddle("GET", func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if n == 1 {
			w = &cutWriter{w, 300_000}
		}
		forward.ServeHTTP(w, r)
	})
	to := filepath.Join(t.TempDir(), "a.csv")
	says(t, wantCode(t, 1, over(t, m.url, server.key, "get", place+"/a.csv", "-o", to, "--retry-for", "0")), "the connection was cut")
	if got := info(t, to+".part").Size(); got != 300_000 {
		t.Fatalf("the part has %d bytes", got)
	}
	wantCode(t, 0, over(t, m.url, server.key, "get", place+"/a.csv", "-o", to))
	if got := m.requests()[1].Header.Get("Range"); got != "bytes=300000-" {
		t.Errorf("it asked for %q", got)
	}
	if read(t, to) != lines() {
		t.Error("the file is another")
	}

	// The file there may be a beginning of something else, the complete file, or
	// longer.
	for _, part := range []string{"order;amount\n", lines(), lines() + "1,2\n", strings.Repeat("x", len(lines()))} {
		write(t, to+".part", part)
		server.over(0, "get", place+"/a.csv", "-o", to, "--force")
		if left := names(t, filepath.Dir(to)); read(t, to) != lines() || len(left) != 1 {
			t.Errorf("after a part of %d bytes there are %v", len(part), left)
		}
	}
	check(t, os.Symlink(to, to+".part"))
	says(t, server.over(1, "get", place+"/a.csv", "-o", to, "--force"), "is in the way")
}

func TestADownloadThatChangesOnItsWayIsNotKept(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.csv", lines()).want(t, 201)
	m := server.meddle("GET", func(_ int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(&flipWriter{ResponseWriter: w}, r)
	})
	to := filepath.Join(t.TempDir(), "a.csv")
	says(t, wantCode(t, 1, over(t, m.url, server.key, "get", place+"/a.csv", "-o", to)), "did not arrive as it is stored")
	if left := names(t, filepath.Dir(to)); len(left) != 0 {
		t.Errorf("there are %v", left)
	}
	says(t, wantCode(t, 1, over(t, m.url, server.key, "get", place+"/a.csv", "-o", "-")), "did not arrive as it is stored")
}

// Whatever happens to a connection, a file that was put once is stored once.
func TestAnUploadThatIsCutIsMadeOnce(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	product := func(n int) string { return fmt.Sprintf("550e8400-e29b-41d4-a716-4466554401%02d", n) }
	const path = "/catalog/spaces/analytics/products/"
	// The same file from before is not taken for the new one. The server's times
	// are in whole seconds.
	for n := range 6 {
		server.upload(path+product(n), "a.csv", lines()).want(t, 201)
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	id := 0
	for what, spoil := range map[string]func(w http.ResponseWriter, r *http.Request, forward http.Handler){
		"in the middle": func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.CopyN(io.Discard, r.Body, 200_000)
			cut()
		},
		"before its answer, made": func(_ http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			cut()
		},
		"before its answer, not made": func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
			_, _ = io.Copy(io.Discard, r.Body)
			cut()
		},
		"in its answer": func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(&cutWriter{w, 20}, r)
		},
		"by a gateway that gave up": func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusGatewayTimeout)
		},
		"by a server that is not sure": func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"detail":"Look.","code":"unavailable"}`)
		},
	} {
		to := "product:analytics/" + product(id)
		id++
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			m := server.meddle("POST", func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
				if n == 1 {
					spoil(w, r, forward)
				}
				forward.ServeHTTP(w, r)
			})
			r := wantCode(t, 0, over(t, m.url, server.key, "put", fileOf(t, "a.csv", lines()), "--to", to))
			all := server.in(path + strings.TrimPrefix(to, "product:analytics/"))
			if len(all) != 2 || strings.TrimSpace(r.stdout) != to+"/"+all[1].ID {
				t.Errorf("it printed %sand there are %v", r.stdout, all)
			}
		})
	}
}

func TestAnUploadOfWhichNobodyKnowsIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	m := server.meddle("POST", func(_ int, _ http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(httptest.NewRecorder(), r)
		cut()
	})
	r := wantCode(t, 1, over(t, m.url, server.key, "put", fileOf(t, "a.txt", "a"), "--to", place, "--retry-for", "0"))
	says(t, r, "it may have been uploaded all the same: look with attachd ls before you send it again")
}

// severed forwards to a server, and cuts each connection after a number of bytes in
// either direction, by a reset or by closing it.
func (p *process) severed(after int64, reset bool) (url string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(p.t, err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
			if err != nil {
				p.t.Error(err)
				return
			}
			end := sync.OnceFunc(func() {
				if reset {
					_ = near.(*net.TCPConn).SetLinger(0) // the client sees a cut in any case
				}
				_, _ = near.Close(), far.Close() // both are cut
			})
			for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
				conns.Go(func() {
					_, _ = io.CopyN(way[0], way[1], after) // the other direction may have ended it
					end()
				})
			}
		}
	})
	p.t.Cleanup(func() {
		_ = listener.Close() // no more connections are accepted
		conns.Wait()
	})
	return "http://" + listener.Addr().String()
}

// The message for a cut connection says what happened and what to do, and does not
// mention sockets.
func TestACutIsToldInWordsThatSayWhatToDo(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	large := strings.Repeat(lines(), 20)
	file := fileOf(t, "a.csv", large)
	server.over(0, "put", file, "--to", place)
	for _, reset := range []bool{true, false} {
		at := server.severed(300_000, reset)
		r := wantCode(t, 1, over(t, at, server.key, "put", file, "--to", place, "--retry-for", "0"))
		told := regexp.MustCompile(`^attachd: ` + file + `: the connection was cut with \d+ of 10400000 bytes sent; the server keeps nothing of it: send it again
attachd: 1 of 1 file not uploaded
$`)
		if !told.MatchString(r.stderr) || r.stdout != "" {
			t.Errorf("put says %s%s", r.stdout, r.stderr)
		}
		if kept := server.in(product); len(kept) != 1 {
			t.Errorf("the server keeps %v", kept)
		}

		to := filepath.Join(t.TempDir(), "copy.csv")
		r = wantCode(t, 1, over(t, at, server.key, "get", place+"/a.csv", "-o", to, "--retry-for", "0"))
		part := info(t, to+".part").Size()
		if want := fmt.Sprintf("attachd: the connection was cut; %d of 10400000 bytes came and are in %s.part: the same command goes on from there\n", part, to); r.stderr != want || part == 0 {
			t.Errorf("get says %swant     %s", r.stderr, want)
		}
		server.over(0, "get", place+"/a.csv", "-o", to)
		if read(t, to) != large {
			t.Error("the file is another")
		}

		r = wantCode(t, 1, over(t, at, server.key, "get", place+"/a.csv", "-o", "-", "--retry-for", "0"))
		if want := fmt.Sprintf("attachd: the connection was cut; %d of 10400000 bytes came; what was written is not the whole file: get it again from its start\n", len(r.stdout)); r.stderr != want {
			t.Errorf("get says %swant     %s", r.stderr, want)
		}

		// When no connection succeeds at all.
		to = filepath.Join(t.TempDir(), "copy.csv")
		r = wantCode(t, 1, over(t, server.severed(40, reset), server.key, "get", place+"/"+server.in(product)[0].ID, "-o", to, "--retry-for", "0"))
		if left := names(t, filepath.Dir(to)); r.stderr != "attachd: the connection was cut\n" || len(left) > 0 {
			t.Errorf("get says %s and leaves %v", r.stderr, left)
		}
	}
}

func TestADeleteOfWhichNobodyKnowsIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	at := server.upload(product, "a.txt", "a").want(t, 201).download()
	m := server.meddle("DELETE", func(_ int, _ http.ResponseWriter, r *http.Request, forward http.Handler) {
		forward.ServeHTTP(httptest.NewRecorder(), r)
		cut()
	})
	says(t, wantCode(t, 1, over(t, m.url, server.key, "rm", at, "--retry-for", "0")), "the connection was cut; it may have been deleted all the same: delete it again to be sure")
	says(t, server.over(1, "rm", at), "There is no attachment")
}

// A wrong URL is reported at once: a retry would not help.
func TestAServerThatIsNotThereIsToldInWordsThatSayWhatToDo(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	withTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	withTLS.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	withTLS.StartTLS()
	defer withTLS.Close()
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for at, why := range map[string]string{
		strings.Replace(plain.URL, "http", "https", 1):   "the server speaks plain HTTP: its URL begins with http://",
		strings.Replace(withTLS.URL, "https", "http", 1): "The server speaks TLS: its URL begins with https://",
		withTLS.URL: "the server's certificate is not trusted here: x509: ",
	} {
		r := wantCode(t, 1, over(t, at, "x", "ls", place))
		if says(t, r, "attachd: "+why); strings.Contains(r.stderr, "trying again") {
			t.Errorf("it says %s", r.stderr)
		}
	}
	r := wantCode(t, 1, over(t, nobody.URL, "x", "ls", place, "--retry-for", "0"))
	if want := "attachd: no connection to " + strings.TrimPrefix(nobody.URL, "http://") + ": connection refused\n"; r.stderr != want {
		t.Errorf("it says %s, want %s", r.stderr, want)
	}
}

func TestAnUploadThatChangesOnItsWayIsRefused(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	m := server.meddle("POST", func(_ int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		raw, err := io.ReadAll(r.Body)
		check(t, err)
		r.Body = io.NopCloser(bytes.NewReader(bytes.Replace(raw, []byte("amount"), []byte("account"), 1)))
		r.ContentLength++
		forward.ServeHTTP(w, r)
	})
	says(t, wantCode(t, 1, over(t, m.url, server.key, "put", fileOf(t, "a.csv", lines()), "--to", place)), "did not arrive as it was sent")
}

func TestCommandsForFilesWaitAsTheServerAsks(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.txt", "a").want(t, 201)
	file := fileOf(t, "b.txt", "b")
	for _, words := range [][]string{
		{"GET", "get", place + "/a.txt", "-o", "-"},
		{"HEAD", "get", place + "/a.txt", "-o", "-"},
		{"POST", "put", file, "--to", place},
		{"DELETE", "rm", place + "/a.txt"},
	} {
		method, words := words[0], words[1:]
		busy := func(status int, retryAfter string) *meddler {
			return server.meddle(method, func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
				if n > 1 {
					forward.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Retry-After", retryAfter)
				w.WriteHeader(status)
				_, _ = io.WriteString(w, `{"detail":"Not now.","code":"busy"}`)
			})
		}
		if r := wantCode(t, 1, over(t, busy(503, "3600").url, server.key, words...)); method != "HEAD" {
			says(t, r, "Not now (the server asks to wait 1h0m0s)")
		}
		began := time.Now()
		m, wait := busy(503, ""), time.Duration(0)
		if method == "GET" || method == "POST" {
			m, wait = busy(429, "1"), time.Second
		}
		wantCode(t, 1, over(t, busy(503, "").url, server.key, append(words, "--retry-for", "0")...))
		wantCode(t, 0, over(t, m.url, server.key, words...))
		if waited := time.Since(began); waited < wait || len(m.requests()) != 2 {
			t.Errorf("%s: %d requests in %v", method, len(m.requests()), waited)
		}
	}
	if all := server.in(product); len(all) != 1 {
		t.Errorf("there are %v", all)
	}
}

// A delete whose answer was lost took effect.
func TestADeleteThatIsCutIsMade(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), autoCreate)
	server.upload(product, "a.txt", "a").want(t, 201)
	m := server.meddle("DELETE", func(n int, w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if n == 1 {
			forward.ServeHTTP(httptest.NewRecorder(), r)
			cut()
		}
		forward.ServeHTTP(w, r)
	})
	wantCode(t, 0, over(t, m.url, server.key, "rm", place+"/a.txt"))
	if all := server.in(product); len(all) != 0 {
		t.Errorf("left are %v", all)
	}
}

// Commands wait for a server that is being restarted.
func TestCommandsForFilesWaitForAServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	at := strings.TrimPrefix(server.url, "http://")
	server.stop()
	done := make(chan result)
	go func() { done <- over(t, server.url, server.key, "put", fileOf(t, "a.txt", "a"), "--to", place) }()
	again := startCommand(t, dir, command(t, autoCreate, "serve", "--data-dir", dir, "--listen", at))
	wantCode(t, 0, <-done)
	if all := again.in(product); len(all) != 1 {
		t.Errorf("there are %v", all)
	}
	again.stop()
	says(t, wantCode(t, 1, over(t, server.url, server.key, "ls", place, "--retry-for", "0")), "connection refused")
}

func TestAServerTakesTheVariablesOfCommandsForNoMistake(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_SERVER=http://127.0.0.1:1", "ATTACHD_KEY=x", "ATTACHD_NONSENSE=1")
	server.get("/health").want(t, 200)
	eventually(t, "a warning", func() bool { return strings.Contains(server.stderr(), "ATTACHD_NONSENSE") })
	for _, name := range []string{"ATTACHD_SERVER", "ATTACHD_KEY"} {
		if strings.Contains(server.stderr(), name) {
			t.Errorf("it warns of %s", name)
		}
	}
}
