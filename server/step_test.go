package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// step is one request and the answer to it that the test wants. A name in
// braces, in any text of a step, stands for something of the world or for
// what an earlier step saved:
//
//	{product} {ticket} {meeting}    their paths; {product.ab} in the other space
//	{product.id} {comment} {viewer} ids
//	{A}                             the id that a step with save: "A" was answered,
//	                                or the path and query of its download_url
//	{A.at}                          the path in its Location
type step struct {
	as      string // whose key is sent: a person, a saved key, "root for viewer"; none if empty
	do      string // method and path
	send    header // besides what follows
	form    parts  // a multipart body
	json    string // a JSON body
	body    string // any other; its Content-Type is in send
	chunked bool   // send the body without its length

	want   int
	code   string // of a refusal; where the status has only one, it may be left out
	says   string // part of the detail of a refusal
	header header // of the answer; an empty value is a header that must not be there
	is     string // the body, byte for byte
	like   string // the result, as JSON
	check  func(t *testing.T, a answer)
	save   string
}

type header map[string]string

// The codes of refusals by status.
var codes = map[int][]string{
	400: {"invalid_file", "invalid_request"},
	401: {"unauthorized"},
	403: {"forbidden"},
	404: {"not_found"},
	405: {"method_not_allowed"},
	408: {"request_timeout"},
	409: {"conflict"},
	412: {"precondition_failed"},
	413: {"file_too_large"},
	416: {"range_not_satisfiable"},
	429: {"rate_limited"},
	507: {"quota_exceeded", "disk_full"},
}

// play runs the steps in order.
func (w *world) play(t *testing.T, steps []step) {
	t.Helper()
	for i, s := range steps {
		t.Logf("step %d: %v", i+1, s)
		w.do(t, s)
	}
}

// do makes one request and compares the answer with the step.
func (w *world) do(t *testing.T, s step) answer {
	t.Helper()
	recordsBefore := -1
	upload := s.want >= 400 && strings.HasPrefix(s.do, "POST") && strings.HasSuffix(s.do, "/attachments")
	if upload {
		recordsBefore = w.records()
	}
	if s.want >= 500 && s.code != "" {
		w.expectLog(`"code":"` + s.code + `"`)
	}
	a, err := w.send(t, s)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	w.judge(t, s, a)
	if upload && a.status >= 400 {
		if now := w.records(); now != recordsBefore {
			t.Errorf("%v: a refused upload left a record: %d before, %d after", s, recordsBefore, now)
		}
		eventually(t, "the temporary files to go", func() bool { return len(w.temporaryFiles()) == 0 })
	}
	return a
}

// request makes the request of a step.
func (w *world) request(t *testing.T, s step) *http.Request {
	t.Helper()
	method, path, _ := strings.Cut(w.fill(t, s.do), " ")
	body, contentType := s.payload(t, w)
	if s.chunked && body != nil {
		body = struct{ io.Reader }{body}
	}
	r, err := http.NewRequest(method, w.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w.showKey(t, r.Header, s.as)
	for name, value := range s.send {
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Del(name)
		for line := range strings.SplitSeq(w.fill(t, value), "\n") { // a header may have several
			r.Header.Add(name, line)
		}
	}
	return r
}

func (w *world) send(t *testing.T, s step) (answer, error) {
	t.Helper()
	response, err := w.client.Do(w.request(t, s))
	if err != nil {
		return answer{}, err
	}
	return readAnswer(response), nil
}

func (s step) payload(t *testing.T, w *world) (body io.Reader, contentType string) {
	t.Helper()
	switch {
	case s.form != nil:
		return strings.NewReader(s.form.encode(t, w)), "multipart/form-data; boundary=" + boundary
	case s.json != "":
		return strings.NewReader(w.fill(t, s.json)), "application/json"
	case s.body != "":
		return strings.NewReader(s.body), ""
	}
	return nil, ""
}

func (w *world) showKey(t *testing.T, h http.Header, as string) {
	t.Helper()
	if as == "" {
		return
	}
	name, behalf, acts := strings.Cut(as, " for ")
	w.mu.Lock()
	key := w.keys[name]
	w.mu.Unlock()
	if key == "" {
		t.Fatalf("%q has no key", name)
	}
	h.Set("Authorization", "Bearer "+key)
	if acts {
		h.Set("X-On-Behalf-Of", w.fill(t, "{"+behalf+"}"))
	}
}

func (w *world) judge(t *testing.T, s step, a answer) {
	t.Helper()
	method, path, _ := strings.Cut(w.fill(t, s.do), " ")
	path, _, _ = strings.Cut(path, "?")
	if a.cut != nil {
		t.Errorf("%v: the answer was cut: %v", s, a.cut)
	}
	if a.status != s.want {
		t.Fatalf("%v: answered %d, want %d: %.500s", s, a.status, s.want, a.body)
	}
	w.checkPromises(t, method, path, a)
	if s.want >= 400 && method != "HEAD" && !strings.HasSuffix(path, "/health/ready") {
		s.checkCode(t, a)
	}
	for name, want := range s.header {
		if name == "Server" && *withReplicas { // nginx names itself
			continue
		}
		if got := strings.Join(a.header.Values(name), ", "); got != w.fill(t, want) {
			t.Errorf("%v: %s is %q, want %q", s, name, got, w.fill(t, want))
		}
	}
	if s.is != "" && string(a.body) != w.fill(t, s.is) {
		t.Errorf("%v: the body is %.200q, want %.200q", s, a.body, s.is)
	}
	if s.like != "" {
		sameJSON(t, s, a.result(), w.fill(t, s.like))
	}
	if s.save != "" {
		w.remember(t, s.save, a)
	}
	if s.check != nil {
		s.check(t, a)
	}
}

func (s step) checkCode(t *testing.T, a answer) {
	t.Helper()
	object := a.object(t)
	code, _ := object["code"].(string)
	wanted := codes[s.want]
	if s.code != "" {
		wanted = []string{s.code}
	}
	if !slices.Contains(wanted, code) {
		t.Errorf("%v: the code is %q, want one of %q: %s", s, code, wanted, a.body)
	}
	detail, _ := object["detail"].(string)
	if !strings.Contains(detail, s.says) {
		t.Errorf("%v: the detail is %q, want something about %q", s, detail, s.says)
	}
}

func sameJSON(t *testing.T, s step, got []byte, want string) {
	t.Helper()
	var g, v any
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatalf("%v: the test's own JSON: %v: %s", s, err, want)
	}
	if err := json.Unmarshal(got, &g); err != nil {
		t.Errorf("%v: %v: %s", s, err, got)
	} else if !reflect.DeepEqual(g, v) {
		t.Errorf("%v: answered\n%s\nwant\n%s", s, got, want)
	}
}

// remember saves parts of an answer under names.
func (w *world) remember(t *testing.T, name string, a answer) {
	t.Helper()
	var got struct {
		ID          string `json:"id"`
		FullKey     string `json:"full_key"`
		DownloadURL string `json:"download_url"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatalf("saving %s: %v", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got.ID != "" {
		w.names[name] = got.ID
	}
	if got.FullKey != "" {
		w.keys[name] = got.FullKey
	}
	if got.DownloadURL != "" {
		w.names[name] = pathOf(t, got.DownloadURL)
	}
	if location := a.header.Get("Location"); location != "" {
		w.names[name+".at"] = location
	}
}

// pathOf is the path and query of a URL.
func pathOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.RequestURI()
}

var inBraces = regexp.MustCompile(`\{[a-zA-Z][a-zA-Z0-9_.]*\}`)

// fill replaces the names in braces.
func (w *world) fill(t *testing.T, text string) string {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	return inBraces.ReplaceAllStringFunc(text, func(name string) string {
		value, known := w.names[name[1:len(name)-1]]
		if !known {
			t.Fatalf("nothing is called %s", name)
		}
		return value
	})
}

func (s step) String() string {
	who := s.as
	if who == "" {
		who = "nobody"
	}
	return who + " " + s.do
}

// parts are those of a form.
type parts []part

type part struct {
	header string // lines, without the last line's end
	body   string
	field  bool // of a field, names in braces are filled in; a file is sent as it is
}

const boundary = "----a-boundary-that-no-file-has"

// file is the part that holds the file, with its name as it is sent.
func file(name, content string) part {
	return part{header: `Content-Disposition: form-data; name="file"; filename="` + name + `"`, body: content}
}

// field is a part that is no file.
func field(name, value string) part {
	return part{header: `Content-Disposition: form-data; name="` + name + `"`, body: value, field: true}
}

// with adds a line to the header of a part.
func (p part) with(line string) part {
	p.header += "\r\n" + line
	return p
}

func (list parts) encode(t *testing.T, w *world) string {
	t.Helper()
	var b strings.Builder
	for _, p := range list {
		b.WriteString("--" + boundary + "\r\n" + p.header + "\r\n\r\n")
		if p.field {
			p.body = w.fill(t, p.body)
		}
		b.WriteString(p.body + "\r\n")
	}
	b.WriteString("--" + boundary + "--\r\n")
	return b.String()
}

// text is a file of n bytes that is plain text.
func text(n int) string {
	const line = "All work and no play makes a file of text.\n"
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// headerNames are the names of the headers that an answer has, sorted.
func headerNames(h http.Header) []string {
	var names []string
	for name := range h {
		names = append(names, textproto.CanonicalMIMEHeaderKey(name))
	}
	slices.Sort(names)
	return names
}

// rawRequest returns a request as it is sent over the network.
func (w *world) rawRequest(t *testing.T, s step, length int, lines ...string) []byte {
	t.Helper()
	method, path, _ := strings.Cut(w.fill(t, s.do), " ")
	h := http.Header{}
	w.showKey(t, h, s.as)
	h.Set("Content-Type", "multipart/form-data; boundary="+boundary)
	if length >= 0 {
		h.Set("Content-Length", strconv.Itoa(length))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: attachd\r\n", method, path)
	h.Write(&b)
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

// checkFileName compares the name under which a browser would save a download.
func checkFileName(t *testing.T, a answer, want string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(a.header.Get("Content-Disposition"))
	if err != nil || kind != "attachment" || params["filename"] != want {
		t.Errorf("Content-Disposition is %q: %v, want the name %q", a.header.Get("Content-Disposition"), err, want)
	}
}
