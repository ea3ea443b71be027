package server_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"attachd/server"
)

const contentURL = "https://Files.example.net/c"

// onContentHost sends a step to the host for files.
func onContentHost(s step) step {
	sent := header{"Host": "files.example.net"}
	for name, value := range s.send {
		sent[name] = value
	}
	s.send = sent
	return s
}

func contentElsewhere(c *server.Config) { c.ContentURL = contentURL }

// filesOfEveryKind are the downloads of a file at a product, a ticket and a
// meeting.
func filesOfEveryKind(t *testing.T, w *world) (downloads []string) {
	t.Helper()
	for _, kind := range []string{"product", "ticket", "meeting"} {
		w.do(t, step{as: "editor", do: "POST {" + kind + "}/attachments", form: parts{file("a.txt", alphabet)}, want: 201, save: kind + ".file"})
		downloads = append(downloads, w.fill(t, "{"+kind+".file.at}"))
	}
	return downloads
}

// ASVS 3.5.4
func TestFilesComeFromTheirOwnHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, contentElsewhere)
	for _, download := range filesOfEveryKind(t, w) {
		there := header{"Cache-Control": "no-store", "Content-Type": "application/json", "ETag": "", "Repr-Digest": "", "Content-Disposition": ""}
		a := w.do(t, step{as: "viewer", do: "GET " + download, want: 307, header: there})
		address := a.header.Get("Location")
		if !strings.HasPrefix(address, contentURL+"/files/") || a.object(t)["download_url"] != address {
			t.Errorf("%s: the file is said to be at %s", download, address)
		}
		w.names["link"] = pathOf(t, address)
		w.play(t, []step{
			{as: "viewer", do: "HEAD " + download, want: 307},
			onContentHost(step{do: "GET {link}", want: 200, is: alphabet, header: header{"Content-Type": "text/plain", "Cross-Origin-Resource-Policy": "cross-origin"}}),
			onContentHost(step{do: "GET " + strings.TrimPrefix(w.fill(t, "{link}"), "/c"), want: 200, is: alphabet}), // a proxy took the path away
			onContentHost(step{do: "HEAD {link}", want: 200, header: header{"Content-Length": "26"}}),
			onContentHost(step{do: "GET {link}", send: header{"Range": "bytes=1-2"}, want: 206, is: "bc"}),
			{as: "stranger", do: "GET " + download, want: 403},
			{do: "GET " + download, want: 401},
		})
	}
}

// ASVS 3.5.4
func TestALinkToAFileWorksOnItsHostOnly(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, contentElsewhere)
	for _, ask := range []step{
		{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"disposition": "inline"}`, want: 201},
		{as: "viewer", do: "GET {A.at}", send: header{"Accept": "application/json"}, want: 200},
	} {
		url := w.do(t, ask).object(t)["download_url"].(string)
		if !strings.HasPrefix(url, contentURL+"/files/") {
			t.Errorf("download_url is %s", url)
		}
		w.names["link"] = pathOf(t, url)
		bare := strings.TrimPrefix(w.fill(t, "{link}"), "/c")
		w.play(t, []step{
			onContentHost(step{do: "GET {link}", want: 200, is: alphabet}),
			{do: "GET " + bare, want: 307, header: header{"Location": url, "Cache-Control": "no-store"}},
			{do: "GET " + bare + "&more=1", want: 307, header: header{"Location": url}},
			{do: "GET " + strings.Replace(bare, "expires=1", "expires=2", 1), want: 403, code: "invalid_signature"},
		})
	}
}

// ASVS 3.5.4
func TestTheHostForFilesHasNothingElse(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, contentElsewhere)
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
	for _, rt := range server.Routes() {
		if rt.Pattern == "/files/:attachment" {
			continue
		}
		for _, prefix := range []string{"", "/c"} {
			s := onContentHost(step{as: "root", do: rt.Method + " " + prefix + rt.Pattern, want: 404})
			if strings.HasSuffix(rt.Pattern, "/attachments") && rt.Method == "POST" {
				s.form = parts{file("a.txt", "a")}
			}
			w.do(t, s)
		}
	}
	w.play(t, []step{
		onContentHost(step{as: "root", do: "GET {A.at}", want: 404}),
		onContentHost(step{as: "root", do: "DELETE {link}", want: 405}),
		onContentHost(step{as: "root", do: "GET /files/{A}", want: 403, code: "invalid_signature"}), // a key is no link
	})
}

func TestTheHostIsTheOneThatTheCallerNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		proxies []netip.Prefix
		send    header
		want    int
	}{
		{"itself", nil, header{"Host": "files.example.net"}, 200},
		{"with a port", nil, header{"Host": "files.example.net:8443"}, 200},
		{"in capitals, with the root's dot", nil, header{"Host": "FILES.example.NET."}, 200},
		{"another", nil, header{"Host": "xfiles.example.net"}, 307},
		{"by a proxy", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, header{"X-Forwarded-Host": "files.example.net"}, 200},
		{"not by a proxy's word", []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, header{"Host": "files.example.net", "X-Forwarded-Host": "api.example.net"}, 307},
		{"by nobody's word", nil, header{"X-Forwarded-Host": "files.example.net"}, 307},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet, contentElsewhere, func(cfg *server.Config) { cfg.TrustedProxies = c.proxies })
			w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", want: 201, save: "link"})
			w.do(t, step{do: "GET " + strings.TrimPrefix(w.fill(t, "{link}"), "/c"), send: c.send, want: c.want})
		})
	}
}

func TestCommandsAreNotSentElsewhere(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, contentElsewhere)
	recorder := httptest.NewRecorder()
	w.server.Operator().ServeHTTP(recorder, httptest.NewRequest("GET", w.fill(t, "{A.at}"), nil))
	if recorder.Code != http.StatusOK || recorder.Body.String() != alphabet {
		t.Errorf("answered %d %s", recorder.Code, recorder.Body)
	}
}

func TestTheHostForFilesIsNotThatOfTheAPI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		public, listen, content string
		says                    string // empty when they are taken
	}{
		{"https://a.example", "", "https://a.example/files", "than public_url;"},
		{"http://a.example:1", ":8080", "https://A.example.:2", "than public_url;"},
		{"http://[::1]:80", "127.0.0.1:8080", "http://[::1]:81", "than public_url;"},
		{"", "127.0.0.1:8080", "http://127.0.0.1:8080", "that listen names"},
		{"", "localhost:8080", "http://LOCALHOST/files", "that listen names"},
		{"", "[::1]:8080", "http://[::1]:8081", "that listen names"},
		{"https://a.example", "127.0.0.1:8080", "https://b.example", ""},
		{"https://a.example", "b.example:8080", "https://b.example", ""}, // the API is reached under a.example
		{"", "127.0.0.1:8080", "http://localhost:8080", ""},
		{"", ":8080", "https://a.example", ""},
		{"", "", "https://a.example", ""},
		{"https://b.example", "127.0.0.1:8080", "", ""},
		{"", "127.0.0.1:8080", "", ""},
	} {
		err := server.CheckContentURL(c.public, c.listen, c.content)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
