package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server"
	"attachd/server/content"
)

// bodies generates multipart bodies: some valid, most with something wrong.
type bodies struct{ *rand.Rand }

func (b bodies) pick(choices ...string) string { return choices[b.IntN(len(choices))] }

const edge = "edge-7" // a boundary that contents like to look like

// content is composed of the parts of a delimiter.
func (b bodies) content() string {
	var s strings.Builder
	for range b.IntN(8) {
		s.WriteString(b.pick("a", "text ", "\r", "\n", "\r\n", "-", "--", "--"+edge[:3], "--"+edge+"x", "\r\n--"+edge[:4], "\r\n--"+edge+"-", "\n--"+edge+"\n", "\x00", "\xff", "ü", "=3D=\r\n", "\r\n\r\n", edge))
	}
	if b.IntN(40) == 0 {
		s.WriteString(strings.Repeat(b.pick("x", "\r\n", "--"+edge+"y\r\n", "\n"), 1<<b.IntN(14)))
	}
	return s.String()
}

func (b bodies) name() string {
	return b.pick("a", "file.dat", "ü.x", "", ".", "..", "a b", `..\\..\\x`, "../../etc/passwd", "a;b", "%22", "a%0D%0Ab", strings.Repeat("n", 300), "\xff", "nul\x00", "a\\\"b", "CON", "\u202egnp.exe")
}

func (b bodies) header() string {
	lines := []string{`Content-Disposition: form-data; name="` + b.pick("file", "file", "file", "file", "other", "comment_id", "", "FILE") + `"; filename="` + b.name() + `"`}
	for range b.IntN(3) {
		lines = append(lines, b.pick(
			"Content-Type: text/html", "Content-Type: multipart/mixed; boundary="+edge, "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable",
			"Content-Length: -1", "Content-Length: 99999999999999999999", "X: "+strings.Repeat("x", 1<<b.IntN(12)), " folded", "\tfolded", "no colon", ":", "A:\x00b", "Repr-Digest: sha-256=:AAAA:",
			`Content-Disposition: form-data; name="other"`, `Content-Disposition: attachment`, `content-disposition:form-data;name=file;filename=x`, `Content-Disposition: form-data; name*=UTF-8''file; filename*=UTF-8''%00%2e%2e%2fx`))
	}
	b.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return strings.Join(lines, "\r\n")
}

func (b bodies) body() []byte {
	var s strings.Builder
	if b.IntN(8) == 0 {
		s.WriteString(b.pick("preamble\r\n", "--"+edge+"z\r\n", "\r\n", "--"))
	}
	parts := 1 + b.IntN(2)*b.IntN(3)
	if b.IntN(200) == 0 {
		parts = 90 + b.IntN(30)
	}
	for i := range parts {
		header := b.header()
		if i > 0 && b.IntN(3) > 0 {
			header = `Content-Disposition: form-data; name="other"`
		} else if b.IntN(3) > 0 {
			header = `Content-Disposition: form-data; name="file"; filename="` + b.pick("a", "file.dat", "ü.x") + `"`
		}
		s.WriteString("--" + edge + "\r\n" + header + "\r\n\r\n" + b.content() + "\r\n")
	}
	s.WriteString("--" + edge + "--" + b.pick("\r\n", "\r\n", "", "epilogue"))
	body := []byte(s.String())
	for range b.IntN(3) * b.IntN(3) {
		body = b.spoil(body)
	}
	return body
}

func (b bodies) spoil(body []byte) []byte {
	if len(body) < 2 {
		return body
	}
	at := b.IntN(len(body))
	end := min(len(body), at+1+b.IntN(20))
	switch b.IntN(7) {
	case 0:
		return body[:at] // cut
	case 1:
		body[at] ^= 1 << b.IntN(8)
	case 2:
		return append(bytes.Clone(body[:at]), body[end:]...) // a piece is missing
	case 3:
		return append(bytes.Clone(body[:end]), body[at:]...) // a piece is repeated
	case 4:
		return bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	case 5:
		return append(bytes.Clone(body[:at]), append([]byte(b.pick("\r\n--"+edge+"\r\n", "--"+edge, "\r\n\r\n", "\r", "\n", "\x00", "\r\n--"+edge+"--")), body[at:]...)...)
	case 6:
		return append(body, body...)
	}
	return body
}

// reading is what a strict reader makes of a body: RFC 2046 to the letter, without the
// deviations of real clients.
type reading struct {
	strict bool // it is a form by the letter; otherwise this reader decides nothing
	files  []string
	names  []string
}

var (
	strictHeader = regexp.MustCompile(`^Content-Disposition: form-data; name="([a-z_]*)"(?:; filename="([a-zA-Zü. ]*)")?$`)
	plainHeader  = regexp.MustCompile(`^(Content-Type|Content-Length|Content-Transfer-Encoding|X): [ -~]*$`)
)

// readStrictly splits at delimiter lines, which differs as much as possible from the
// server's reader with its moving window.
func readStrictly(body string) (r reading) {
	pieces := regexp.MustCompile(`(^|\r\n)--`+regexp.QuoteMeta(edge)+`(\r\n|--)`).Split(body, -1)
	ends := regexp.MustCompile(`(?:^|\r\n)--`+regexp.QuoteMeta(edge)+`(\r\n|--)`).FindAllStringSubmatch(body, -1)
	if len(pieces) < 3 || pieces[0] != "" || strings.ReplaceAll(pieces[len(pieces)-1], "\r\n", "") != "" {
		return r
	}
	for i, end := range ends {
		if (end[1] == "--") != (i == len(ends)-1) {
			return r
		}
	}
	for _, piece := range pieces[1 : len(pieces)-1] {
		head, content, ok := strings.Cut(piece, "\r\n\r\n")
		// Whether a line that only begins like a delimiter is one is not decided here.
		if !ok || strings.Contains("\r\n"+content, "\r\n--"+edge) {
			return r
		}
		var found []string
		for line := range strings.SplitSeq(head, "\r\n") {
			switch m := strictHeader.FindStringSubmatch(line); {
			case m != nil && found == nil:
				found = m
			case !plainHeader.MatchString(line):
				return r
			}
		}
		if found == nil {
			return r
		}
		if found[1] == "file" {
			r.files, r.names = append(r.files, content), append(r.names, found[2])
		}
	}
	r.strict = len(pieces) < 50
	return r
}

func (r reading) taken() bool {
	if len(r.files) != 1 || r.files[0] == "" {
		return false
	}
	_, err := content.CleanName(content.FormName(r.names[0]))
	return err == nil
}

// Of any form sent, exactly what a strict reader finds is stored, or nothing, and there
// are no other effects.
// ASVS 5.2.1, 1.4.3; CVE-2022-41725, CVE-2023-24536, CVE-2023-45290
func TestHostileBodiesAreStoredAsSentOrNotAtAll(t *testing.T) {
	t.Parallel()
	policy, err := content.NewPolicy([]string{"*"}, true)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *server.Config) { c.Policy, c.Log = policy, slog.New(slog.DiscardHandler) })
	before := openFiles(w.dir)
	const workers = 16
	counts := make([]map[string]int, workers)
	var wait sync.WaitGroup
	for i := range workers {
		counts[i] = map[string]int{}
		wait.Go(func() {
			b := bodies{rand.New(rand.NewPCG(*seed, uint64(i)))}
			for n := i; n < *hostileBodies && !t.Failed(); n += workers {
				body := b.body()
				counts[i][w.tryBody(t, b, body)]++
			}
		})
	}
	wait.Wait()
	total := map[string]int{}
	for _, count := range counts {
		for what, n := range count {
			total[what] += n
		}
	}
	for _, what := range []string{"stored, as a strict reader says", "stored", "refused, as a strict reader says", "refused"} {
		if total[what] < *hostileBodies/200 {
			t.Errorf("only %d were %s", total[what], what)
		}
	}
	isSegment := func(path string) bool { return strings.Contains(path, "/wal/") } // the log has more with more uploads
	before, after := slices.DeleteFunc(before, isSegment), slices.DeleteFunc(openFiles(w.dir), isSegment)
	if len(after) != len(before) {
		t.Errorf("files that were open before: %v, and after: %v", before, after)
	}
	if left := w.temporaryFiles(); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	t.Logf("%d bodies of seed %d: %v", *hostileBodies, *seed, total)
}

// tryBody uploads without a network, and returns the result.
func (w *world) tryBody(t *testing.T, b bodies, body []byte) string {
	length := int64(len(body))
	if b.IntN(2) == 0 {
		length = -1
	}
	r := httptest.NewRequest("POST", w.names["product"]+"/attachments", &inSteps{body, 1 + b.IntN(200)})
	r.ContentLength = length
	r.Header.Set("Content-Type", "multipart/form-data; boundary="+edge)
	r.Header.Set("Authorization", "Bearer "+w.keys["editor"])
	recorded := httptest.NewRecorder()
	panicked := w.cutOff(recorded, r)
	strict := readStrictly(string(body))
	failed := func(what string) string {
		t.Errorf("%s: seed %d, answered %d %s\n%q", what, *seed, recorded.Code, recorded.Body, body)
		return "failed"
	}
	switch status := recorded.Code; {
	case panicked != nil && panicked != http.ErrAbortHandler:
		return failed(fmt.Sprint("a panic: ", panicked))
	case status == http.StatusBadRequest && strict.strict && strict.taken():
		return failed("a good form was refused")
	case status == http.StatusBadRequest && strict.strict:
		return "refused, as a strict reader says"
	case status == http.StatusBadRequest:
		return "refused"
	case status != http.StatusCreated:
		return failed("an answer that no body should have")
	}
	stored, err := w.takeOut(recorded.Header().Get("Location"))
	switch {
	case err != nil:
		return failed(err.Error())
	case strict.strict && !strict.taken():
		return failed("a form that should be refused was stored")
	case strict.strict && stored != strict.files[0]:
		return failed(fmt.Sprintf("%q was stored", stored))
	case strict.strict:
		return "stored, as a strict reader says"
	case stored == "" || !strings.Contains(string(body), "\n"+stored) && !strings.Contains(string(body), "\r"+stored):
		return failed(fmt.Sprintf("%q was stored, which is no line and what follows", stored))
	case strings.Contains(stored, "\r\n--"+edge+"\r\n"):
		return failed(fmt.Sprintf("%q was stored, with a delimiter", stored))
	}
	return "stored"
}

// cutOff serves a request and returns the panic that ended it, if any.
func (w *world) cutOff(recorded http.ResponseWriter, r *http.Request) (failure any) {
	defer func() { failure = recover() }()
	w.server.ServeHTTP(recorded, r)
	return nil
}

// takeOut returns what is stored of an attachment, and removes it.
func (w *world) takeOut(location string) (string, error) {
	id, err := uuid.Parse(strings.TrimSuffix(strings.TrimPrefix(location, "/catalog/attachments/"), "/download"))
	if err != nil {
		return "", err
	}
	a, err := w.store.Attachment(context.Background(), id)
	if err != nil {
		return "", err
	}
	file, err := w.contents().Open(context.Background(), blobs.Ref(a.SHA256), a.Size)
	if err != nil {
		return "", err
	}
	defer file.Close() // only read
	stored, err := io.ReadAll(file)
	if err != nil {
		return "", err
	}
	r := httptest.NewRequest("DELETE", strings.TrimSuffix(location, "/download"), nil)
	r.Header.Set("Authorization", "Bearer "+w.keys["editor"])
	recorded := httptest.NewRecorder()
	w.server.ServeHTTP(recorded, r)
	if recorded.Code != http.StatusOK {
		return "", fmt.Errorf("deleting answered %d", recorded.Code)
	}
	return string(stored), nil
}

// inSteps is a reader that returns at most a given number of bytes at once.
type inSteps struct {
	left []byte
	step int
}

func (r *inSteps) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.left)
	r.left = r.left[n:]
	return n, nil
}

// openFiles lists the files below a directory that this process has open, on systems
// where that can be determined.
func openFiles(dir string) (open []string) {
	descriptors, _ := filepath.Glob("/proc/self/fd/*")
	for _, descriptor := range descriptors {
		if path, err := os.Readlink(descriptor); err == nil && strings.HasPrefix(path, dir) {
			open = append(open, path)
		}
	}
	return open
}
