package server_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"attachd/blobs/disk"
	"attachd/server"
)

func maxFileSize(n int64) func(*server.Config) {
	return func(c *server.Config) { c.MaxFileSize = n }
}

// ASVS 15.3.1, 15.3.3, 15.3.7; CVE-2026-30961
func TestABadFormIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	multipart := header{"Content-Type": "multipart/form-data; boundary=" + boundary}
	good := parts{file("a.txt", "a")}
	encoded := good.encode(t, w)
	for _, c := range []struct {
		name string
		step step
		code string
	}{
		{"no body", step{}, ""},
		{"JSON", step{json: `{"file": "a"}`}, ""},
		{"urlencoded", step{body: "file=a", send: header{"Content-Type": "application/x-www-form-urlencoded"}}, ""},
		{"the bare file", step{body: "a", send: header{"Content-Type": "text/plain"}}, ""},
		{"another multipart", step{body: encoded, send: header{"Content-Type": "multipart/mixed; boundary=" + boundary}}, ""},
		{"no boundary", step{body: encoded, send: header{"Content-Type": "multipart/form-data"}, says: "has no boundary"}, ""},
		{"compressed", step{body: encoded, send: header{"Content-Type": "multipart/form-data; boundary=" + boundary, "Content-Encoding": "gzip"}, says: "content encoding"}, ""},
		{"an empty boundary", step{body: encoded, send: header{"Content-Type": `multipart/form-data; boundary=""`}}, ""},
		{"another boundary", step{body: encoded, send: header{"Content-Type": "multipart/form-data; boundary=other"}, says: "does not have the boundary"}, ""},
		{"a boundary too long", step{body: encoded, send: header{"Content-Type": "multipart/form-data; boundary=" + strings.Repeat("b", 71)}, says: "more than 70 characters"}, ""},
		{"an unreadable Content-Type", step{body: encoded, send: header{"Content-Type": "multipart/form-data; boundary"}}, ""},
		{"multipart with no body", step{send: multipart, says: "The body is empty"}, ""},
		{"multipart with garbage", step{body: "garbage", send: multipart}, ""},
		{"a form that only begins", step{body: "--" + boundary, send: multipart}, ""},
		{"a form of no parts", step{body: "--" + boundary + "--\r\n", send: multipart}, ""},
		{"the body ends in the header of the part", step{body: encoded[:40], send: multipart}, ""},
		{"the body ends in the file", step{body: strings.Split(encoded, "\r\n\r\na")[0] + "\r\n\r\na", send: multipart}, ""},
		{"the body ends before the closing boundary", step{body: strings.TrimSuffix(encoded, "--\r\n"), send: multipart}, ""},
		{"no file", step{form: parts{field("comment", "a")}}, "invalid_file"},
		{"a file under another name", step{form: parts{{header: `Content-Disposition: form-data; name="upload"; filename="a.txt"`, body: "a"}}, says: `its file is in the part named "upload"`}, "invalid_file"},
		{"files in the way of PHP", step{form: parts{field("x", "1"), {header: `Content-Disposition: form-data; name="file[]"; filename="a.txt"`, body: "a"}}, says: `its file is in the part named "file[]"`}, "invalid_file"},
		{"a file under a very long name", step{form: parts{{header: `Content-Disposition: form-data; name="` + strings.Repeat("n", 101) + `"; filename="a.txt"`, body: "a"}}, says: `no part named "file".`}, "invalid_file"},
		{"a file without a name", step{form: parts{field("file", "a")}}, "invalid_file"},
		{"a file with an empty name", step{form: parts{file("", "a")}}, "invalid_file"},
		{"an empty file", step{form: parts{file("a.txt", "")}}, "invalid_file"},
		{"two files", step{form: parts{file("a.txt", "a"), file("b.txt", "b")}}, "invalid_file"},
		{"the same file twice", step{form: parts{good[0], good[0]}}, "invalid_file"},
		{"a part without a disposition", step{form: parts{{header: "Content-Type: text/plain", body: "a"}, good[0]}, says: "Content-Disposition: form-data"}, ""},
		{"a part of another disposition", step{form: parts{{header: `Content-Disposition: attachment; filename="a.txt"`, body: "a"}, good[0]}, says: "Content-Disposition: form-data"}, ""},
		{"10,000 parts", step{form: append(manyFields(10_000, ""), good...)}, ""},
		{"10,000 parts behind the file", step{form: append(good[:1:1], manyFields(10_000, "")...)}, ""},
		{"a field of 1 MB before the file", step{form: parts{field("x", text(1<<20)), good[0]}}, ""},
		{"a field of 2 MB behind the file", step{form: parts{good[0], field("x", text(2<<20))}}, ""},
		{"a header of 10 MB", step{form: parts{good[0].with("X-Long: " + strings.Repeat("x", 10<<20))}}, ""},
		{"a million header lines", step{form: parts{good[0].with(strings.TrimSuffix(strings.Repeat("X: y\r\n", 1_000_000), "\r\n"))}}, ""},
		{"a file name of 1 MB", step{form: parts{file(strings.Repeat("n", 1<<20)+".txt", "a")}}, ""},
		{"2 MB behind the closing boundary", step{body: encoded + text(2<<20), send: multipart}, ""},
		{"1 MB before the first boundary", step{body: text(1<<20) + "\r\n" + encoded, send: multipart}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				s := c.step
				s.as, s.do, s.want, s.code, s.chunked = "editor", "POST {product}/attachments", 400, c.code, chunked
				w.do(t, s)
			}
		})
	}
}

func manyFields(n int, value string) (list parts) {
	for i := range n {
		list = append(list, field("f"+strconv.Itoa(i), value))
	}
	return list
}

// ASVS 15.3.1, 15.3.3, 15.3.7
func TestAFormMayHoldMoreThanItsFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	multipart := header{"Content-Type": "multipart/form-data; boundary=" + boundary}
	encoded := parts{file("a.txt", "a")}.encode(t, w)
	for _, c := range []struct {
		name string
		step step
	}{
		{"unknown fields, uploaded_by and id among them", step{form: parts{field("uploaded_by", "{admin}"), field("id", "{viewer}"), file("a.txt", "a"),
			field("created_at", "2001-01-01T00:00:00Z"), field("mime_type", "text/html"), field("comment_id", "not for products")}}},
		{"50 fields before the file and 40 behind it", step{form: append(append(manyFields(50, "x"), file("a.txt", "a")), manyFields(40, "y")...)}},
		{"a preamble and an epilogue", step{body: "preamble\r\n" + encoded + "epilogue", send: multipart}},
		{"a Content-Type of the part that lies", step{form: parts{file("a.txt", "a").with("Content-Type: application/x-executable")}}},
		{"a quoted boundary", step{body: encoded, send: header{"Content-Type": `Multipart/Form-Data; Charset=utf-8; boundary="` + boundary + `"`}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				s := c.step
				s.as, s.do, s.want, s.chunked, s.save = "editor", "POST {product}/attachments", 201, chunked, "A"
				a := w.do(t, s).object(t)
				id := a["id"]
				by := a["uploaded_by"].(map[string]any)["id"]
				if id == w.names["viewer"] || by != w.names["editor"] || a["mime_type"] != "text/plain" {
					t.Errorf("the form decided what it must not: %v", a)
				}
				checkIdentity(t, a)
				w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: "a"})
			}
		})
	}
}

// ASVS 14.2.8; CVE-2026-33221
func TestTheBytesStoredAreTheBytesSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ encoding, content string }{
		{"quoted-printable", "a=20b=\r\nc=3D"},
		{"base64", base64.StdEncoding.EncodeToString([]byte("hello, hello, hello"))},
		{"gzip", "not gzip"},
		{"7bit", "plain\r\n"},
		{"binary", "\r\n\r\n--\r\n--a-boundary-that\r\n"},
	} {
		t.Run(c.encoding, func(t *testing.T) {
			for _, name := range []string{"Content-Transfer-Encoding", "Content-Encoding"} {
				w.play(t, []step{
					{as: "editor", do: "POST {meeting}/attachments", form: parts{file("a.txt", c.content).with(name + ": " + c.encoding)}, want: 201, save: "A",
						header: header{"Repr-Digest": digest(c.content)}},
					{as: "viewer", do: "GET {A.at}", want: 200, is: c.content},
				})
			}
		})
	}
}

// CVE-2026-57886
func TestACommentIsNamedBeforeOrBehindTheFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := file("a.txt", "a")
	for _, c := range []struct {
		name string
		form parts
		want int
		like string // comment_id in the answer
	}{
		{"before", parts{field("comment_id", "{comment}"), f}, 201, "{comment}"},
		{"behind", parts{f, field("comment_id", "{comment}")}, 201, "{comment}"},
		{"between others", parts{field("x", "y"), field("comment_id", "{comment}"), f, field("z", "")}, 201, "{comment}"},
		{"malformed", parts{field("comment_id", "1"), f}, 400, ""},
		{"malformed, behind", parts{f, field("comment_id", "{comment} ")}, 400, ""},
		{"too long", parts{f, field("comment_id", strings.Repeat("1", 5000))}, 400, ""},
		{"unknown", parts{field("comment_id", "{viewer}"), f}, 404, ""},
		{"of another ticket", parts{f, field("comment_id", "{comment.ab}")}, 404, ""},
		{"twice", parts{field("comment_id", "{comment}"), f, field("comment_id", "{comment}")}, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.do(t, step{as: "owner", do: "POST {ticket}/attachments", form: c.form, want: c.want})
			if got := a.object(t)["comment_id"]; c.want == 201 && got != w.fill(t, c.like) {
				t.Errorf("comment_id is %v", got)
			}
		})
	}
}

// CVE-2026-25921
func TestADigestThatTheClientSendsIsVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, bad := digest("hello"), digest("hullo")
	for _, c := range []struct {
		name   string
		digest string
		want   int
	}{
		{"right", good, 201},
		{"wrong", bad, 400},
		{"right among others", "sha-512=:AAAA:, " + good, 201},
		{"wrong among others", "md5=:AAAA:, " + bad, 400},
		{"only of another algorithm", "sha-512=:AAAA:", 201},
		{"no colons", strings.ReplaceAll(good, ":", ""), 400},
		{"hexadecimal", "sha-256=:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824:", 400},
		{"not base64", "sha-256=:!!!:", 400},
		{"too short", "sha-256=:aGVsbG8=:", 400},
		{"empty value", "sha-256=", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := file("a.txt", "hello")
			w.play(t, []step{
				{as: "editor", do: "POST {product}/attachments", form: parts{f}, send: header{"Repr-Digest": c.digest}, want: c.want},
				{as: "editor", do: "POST {product}/attachments", form: parts{f.with("Repr-Digest: " + c.digest)}, want: c.want},
				{as: "editor", do: "POST {product}/attachments", form: parts{f.with("repr-digest: " + c.digest)}, send: header{"Repr-Digest": good}, want: c.want},
			})
		})
	}
}

// ASVS 5.3.2, 1.1.1, 1.2.2, 1.2.3; CVE-2025-65798, CVE-2025-65799
func TestFileNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("n", 251) + ".txt" // 255 bytes
	for _, c := range []struct{ sent, want string }{
		{"report.txt", "report.txt"},
		{"two words  and more.txt", "two words  and more.txt"},
		{"Größe_и_размер_大きさ.txt", "Größe_и_размер_大きさ.txt"},
		{"👩‍👩‍👧 family 🎉.txt", "👩‍👩‍👧 family 🎉.txt"},
		{"عقد.txt", "عقد.txt"},
		{"e\u0301te\u0301.txt", "été.txt"}, // NFD becomes NFC
		{"say %22hi%22.txt", `say "hi".txt`},
		{`say \"hi\".txt`, `say "hi".txt`},
		{"100%.txt", "100%.txt"},
		{"a%20b%2Fc.txt", "a%20b%2Fc.txt"}, // only what browsers encode is decoded
		{"a;b=c, d.txt", "a;b=c, d.txt"},
		{`a.bat%22;x=.txt`, `a.bat";x=.txt`},
		{"%0D%0ASet-Cookie: a=b.txt", "Set-Cookie: a=b.txt"},
		{"../../etc/passwd.txt", "passwd.txt"},
		{`C:\Users\me\notes.txt`, "notes.txt"},
		{`..\..\x.txt`, "x.txt"},
		{"/etc/x.txt", "x.txt"},
		{"a/b\\c.txt", "c.txt"},
		{"next\u0085line.txt", "nextline.txt"},
		{"invoice_\u202Etxt.txt", "invoice_txt.txt"},
		{"\u2066a\u2069\u202Db\u202C.txt", "ab.txt"},
		{"not utf-8 \xff.txt", "not utf-8 ÿ.txt"},
		{"Gr\xf6\xdfe.txt", "Größe.txt"},
		{"\x93\xfa\x96{\x8c\xea\x82\xcc\x95\\.txt", "日本語の表.txt"},
		{`say "hi" twice.txt`, `say "hi" twice.txt`}, // in a form that escapes nothing
		{`6"x9".txt`, `6"x9".txt`},
		{"</script><img src=x onerror=alert(1)>.txt", "script><img src=x onerror=alert(1)>.txt"},
		{"...", "..."},
		{".hidden", ".hidden"},
		{"no extension", "no extension"},
		{long, long},
		{"n" + long, long},
		{strings.Repeat("ü", 200) + ".txt", strings.Repeat("ü", 125) + ".txt"},
		{strings.Repeat("n", 4000) + ".markdown", strings.Repeat("n", 246) + ".markdown"},
		{"", ""}, {".", ""}, {"..", ""}, {"a/..", ""}, {"a/", ""}, {`a\\`, ""}, {"%0D%0A", ""}, {"\u202E", ""}, {" ", ""},
	} {
		t.Run(fmt.Sprintf("%.60q", c.sent), func(t *testing.T) {
			upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file(c.sent, "hello")}, want: 201, save: "A"}
			if c.want == "" {
				upload.want, upload.code, upload.save = 400, "invalid_file", ""
				w.do(t, upload)
				return
			}
			if got := w.do(t, upload).object(t)["file_name"]; got != c.want {
				t.Errorf("file_name is %q, want %q", got, c.want)
			}
			a := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: "hello"})
			checkFileName(t, a, c.want)
			if listed := w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200}).strings(t, "file_name"); !slices.Equal(listed, []string{c.want}) {
				t.Errorf("the list has %q", listed)
			}
			if names := headerNames(a.header); strings.Contains(strings.Join(names, " "), "Set-Cookie") {
				t.Errorf("the name made a header: %q", names)
			}
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
		})
	}
}

// ASVS 5.1.1
func TestFilesUpToTheLimitAreTaken(t *testing.T) {
	t.Parallel()
	const limit = 200_000
	w := newWorld(t, maxFileSize(limit))
	for _, c := range []struct {
		name string
		size int
		want int
	}{
		{"one byte", 1, 201},
		{"a byte less than the limit", limit - 1, 201},
		{"the limit", limit, 201},
		{"a byte more than the limit", limit + 1, 413},
		{"the limit and the rest of a form", limit + 60_000, 413},
		{"certainly more than the limit", limit + 200_000, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, kind := range kinds {
				for _, chunked := range []bool{false, true} {
					says := ""
					if c.want == 413 {
						says = "200000 bytes"
					}
					w.do(t, step{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file("a.txt", text(c.size))}, chunked: chunked, want: c.want, says: says})
				}
			}
		})
	}
}

func TestFieldsDoNotCountAsTheFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(100))
	around := strings.Repeat("x", 20_000)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{field("a", around), file("a.txt", text(100)), field("b", around)}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{field("a", around), file("a.txt", text(101)), field("b", around)}, want: 413},
	})
}

// endless is text without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, text(len(p))), nil
}

// streamed returns the form of a file of n bytes, which is not held in memory.
func (w *world) streamed(t *testing.T, n int64) (io.Reader, int64) {
	before, after, _ := strings.Cut(parts{file("big.txt", "@")}.encode(t, w), "@")
	return io.MultiReader(strings.NewReader(before), io.LimitReader(endless{}, n), strings.NewReader(after)), n + int64(len(before)+len(after))
}

// ASVS 5.2.1; CVE-2026-30961
func TestFiftyMegabytesAreTakenAndNotAByteMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const limit = 52_428_800
	for _, c := range []struct {
		name    string
		size    int64
		chunked bool
		want    int
	}{
		{"50 MB", limit, false, 201},
		{"50 MB, chunked", limit, true, 201},
		{"a byte more", limit + 1, false, 413},
		{"a byte more, chunked", limit + 1, true, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := step{as: "editor", do: "POST {product}/attachments", want: c.want}
			if c.want == 413 {
				s.says = "50 MB"
			}
			r := w.request(t, s)
			body, length := w.streamed(t, c.size)
			r.Body = io.NopCloser(body)
			if r.ContentLength = -1; !c.chunked {
				r.ContentLength = length
			}
			r.Header.Set("Content-Type", "multipart/form-data; boundary="+boundary)
			response, err := w.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			a := readAnswer(response)
			w.judge(t, s, a)
			if c.want == 201 && a.object(t)["file_size"] != float64(limit) {
				t.Errorf("file_size is %v", a.object(t)["file_size"])
			}
		})
	}
	if n := w.storedContents(); n != 1 {
		t.Errorf("%d contents are stored", n)
	}
}

// dial opens a connection for requests that no well-behaved client makes.
func (w *world) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// receive reads an answer from a connection and compares it with a step.
func (w *world) receive(t *testing.T, conn io.Reader, s step) answer {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%v: %v", s, err)
	}
	if s.want >= 500 && s.code != "" {
		w.expectLog(`"code":"` + s.code + `"`)
	}
	a := readAnswer(response)
	w.judge(t, s, a)
	return a
}

// ASVS 5.2.1; CVE-2025-31489, CVE-2026-40344, CVE-2026-41145
func TestExpect100ContinueGetsTheRefusalBeforeTheBody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(1000))
	for _, c := range []struct {
		name   string
		step   step
		length int
	}{
		{"no key", step{do: "POST {product}/attachments", want: 401}, 500},
		{"unknown parent", step{as: "editor", do: "POST /meetings/{viewer}/attachments", want: 404}, 500},
		{"no right", step{as: "viewer", do: "POST {product}/attachments", want: 403}, 500},
		{"certainly too large", step{as: "editor", do: "POST {product}/attachments", want: 413}, 10 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, c.step, c.length, "Expect: 100-continue"))
			w.receive(t, conn, c.step) // a 100 would be read as the answer
		})
	}
}

func TestExpect100ContinueLetsTheBodyCome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := step{as: "editor", do: "POST {product}/attachments", want: 201}
	body := parts{file("a.txt", "a")}.encode(t, w)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, s, len(body), "Expect: 100-continue"))
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	reader.ReadString('\n')
	io.WriteString(conn, body)
	w.receive(t, reader, s)
}

// Many clients write their whole request before they read the answer.
func TestARefusalReachesAClientThatIsStillSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body := parts{file("a.txt", text(20<<20))}.encode(t, w)
	for _, c := range []struct {
		name string
		step step
		body string
	}{
		{"no key", step{do: "POST {product}/attachments", want: 401}, body},
		{"unknown parent", step{as: "editor", do: "POST /issues/tickets/{viewer}/attachments", want: 404}, body},
		{"no right", step{as: "viewer", do: "POST {meeting}/attachments", want: 403}, body},
		{"no such address", step{as: "editor", do: "POST /nowhere", want: 404}, body},
		{"no such method", step{as: "editor", do: "PUT {product}/attachments", want: 405}, body},
		{"a bad name at the start", step{as: "editor", do: "POST {product}/attachments", want: 400}, parts{file("..", "a"), file("b.txt", text(20<<20))}.encode(t, w)},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, c.step, len(c.body)))
			if _, err := io.WriteString(conn, c.body); err != nil {
				t.Fatalf("sending: %v", err)
			}
			w.receive(t, conn, c.step)
			// The connection is good for another request.
			conn.Write(w.rawRequest(t, step{do: "GET /health"}, 0))
			w.receive(t, conn, step{do: "GET /health", want: 200})
		})
	}
}

func TestAFileThatIsTooLargeIsRefusedWhileItsClientIsSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(4<<20))
	s := step{as: "editor", do: "POST {product}/attachments", want: 413}
	for _, length := range []int{-1, 0} {
		body := parts{file("a.txt", text(5<<20))}.encode(t, w)
		lines := []string{"Transfer-Encoding: chunked"}
		if length == 0 {
			length, lines = len(body), nil
		} else {
			body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		}
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, s, length, lines...))
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatalf("sending: %v", err)
		}
		w.receive(t, conn, s)
	}
}

// ASVS 5.2.1
func TestAClientThatNeverStopsSendingIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(1<<20))
	for _, s := range []step{
		{do: "POST {product}/attachments", want: 401},
		{as: "editor", do: "POST {product}/attachments", want: 413},
	} {
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, s, -1, "Transfer-Encoding: chunked"))
		io.WriteString(conn, fmt.Sprintf("%x\r\n%s", int64(1<<40), "--"+boundary+"\r\n"+file("a.txt", "").header+"\r\n\r\n"))
		sent, err := io.Copy(conn, endless{})
		var netErr net.Error
		if err == nil || errors.As(err, &netErr) && netErr.Timeout() {
			t.Errorf("after %d bytes: %v", sent, err)
		}
		if sent > 64<<20 { // what the limit lets through, and what the kernel holds
			t.Errorf("%d bytes were taken", sent)
		}
	}
}

// What a refused client sends after the server has stopped waiting stays part of its
// request, even where it looks like another one.
// ASVS 4.2.1, 4.2.2
func TestTheBodyOfARefusedRequestNeverBecomesARequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(1000))
	w.server.SetPatience(200*time.Millisecond, patience)
	const drained = 1000 + 1<<20
	const another = "GET /health HTTP/1.1\r\nHost: attachd\r\nX-Request-Id: smuggled\r\n\r\n"
	refused := step{as: "viewer", do: "POST {product}/attachments", want: 403}
	for _, c := range []struct {
		name   string
		length int
		sent   int // before the answer
		lines  []string
	}{
		{"it stands still at once", 10_000, 0, nil},
		{"it stands still", 10_000, 5_000, nil},
		{"it is a little longer than what is read", drained + 300, drained, nil},
		{"it is much longer than what is read", drained + 1<<20, drained, nil},
		{"it comes although the client said it would wait", len(another), 0, []string{"Expect: 100-continue"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := w.dial(t)
			conn.Write(w.rawRequest(t, refused, c.length, c.lines...))
			io.WriteString(conn, text(c.sent))
			reader := bufio.NewReader(conn)
			w.receive(t, reader, refused)
			time.Sleep(300 * time.Millisecond) // longer than the server waits
			io.WriteString(conn, another+another)
			if rest, _ := io.ReadAll(reader); len(rest) > 0 {
				t.Errorf("more than one answer: %s", rest)
			}
			for _, line := range w.log.lines() {
				if strings.Contains(line, "smuggled") {
					t.Errorf("a body was taken for a request: %s", line)
				}
			}
		})
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestABodyThatStandsStillIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetPatience(200*time.Millisecond, patience)
	for _, sent := range []string{
		"",
		"--" + boundary + "\r\n",
		"--" + boundary + "\r\n" + file("a.txt", "").header + "\r\n\r\nthe file begins",
	} {
		s := step{as: "editor", do: "POST {product}/attachments", want: 408}
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, s, 10_000))
		io.WriteString(conn, sent)
		w.receive(t, conn, s)
		if n, err := conn.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the connection stays open: %d, %v", n, err)
		}
	}
	eventually(t, "the temporary files to go", func() bool { return len(w.temporaryFiles()) == 0 })
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestWithoutALeastRateABodyMayBeSlowButNotStandStill(t *testing.T) {
	t.Parallel()
	const sending, pieces = 2 * time.Second, 8
	w := newWorld(t, func(c *server.Config) { c.MinUploadRate = 0 })
	w.server.SetPatience(sending, patience)
	s := step{as: "editor", do: "POST {product}/attachments", want: 201}
	body := parts{file("a.txt", "slow")}.encode(t, w)
	// sendSlowly takes longer than a body may stall, and returns its longest pause: a
	// busy machine may have delayed it.
	sendSlowly := func() (conn net.Conn, longest time.Duration) {
		conn = w.dial(t)
		conn.Write(w.rawRequest(t, s, len(body)))
		last := time.Now()
		for i := range pieces {
			io.WriteString(conn, body[i*len(body)/pieces:(i+1)*len(body)/pieces])
			longest, last = max(longest, time.Since(last)), time.Now()
			time.Sleep(3 * sending / 2 / pieces)
		}
		return conn, longest
	}
	slow, longest := sendSlowly()
	for longest > sending/2 {
		slow, longest = sendSlowly()
	}
	w.receive(t, slow, s)

	s.want = 408
	still := w.dial(t)
	still.Write(w.rawRequest(t, s, len(body)))
	io.WriteString(still, body[:10])
	w.receive(t, still, s)
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestABodyOfAnotherKindThatStandsStillIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetPatience(200*time.Millisecond, patience)
	for _, s := range []step{
		{as: "editor", do: "POST /api-keys", want: 408},
		{do: "POST /session", want: 408},
		{as: "root", do: "POST /directory/import", want: 408},
	} {
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, s, 10_000))
		io.WriteString(conn, `{"name": `)
		w.receive(t, conn, s)
	}
}

func TestAnAnswerDoesNotWaitForABodyThatNeverComes(t *testing.T) {
	t.Parallel()
	w := withFile(t, "a")
	w.server.SetPatience(200*time.Millisecond, patience)
	for _, s := range []step{
		{do: "GET /health", want: 200},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "a"},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	} {
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, s, 10_000))
		w.receive(t, conn, s)
	}
}

// Not in parallel: it counts resources of the whole process.
// ASVS 1.4.3; CVE-2026-32759
func TestAnUploadWhoseClientGoesAwayLeavesNothing(t *testing.T) {
	w := newWorld(t)
	s := step{as: "editor", do: "POST {product}/attachments"}
	begun := "--" + boundary + "\r\n" + file("a.txt", "").header + "\r\n\r\n" + text(300_000)
	chunks := fmt.Sprintf("%x\r\n%s", 1<<20, begun)
	goAway := func() {
		for _, c := range []struct {
			sent  string
			begun bool // the file is being written
		}{
			{string(w.rawRequest(t, s, 1<<20)[:50]), false},
			{string(w.rawRequest(t, s, 1<<20)), false},
			{string(w.rawRequest(t, s, 1<<20, "Expect: 100-continue")), false},
			{string(w.rawRequest(t, s, 1<<20)) + begun[:60], false},
			{string(w.rawRequest(t, s, 1<<20)) + begun, true},
			{string(w.rawRequest(t, s, -1, "Transfer-Encoding: chunked")) + chunks, true},
		} {
			conn := w.dial(t)
			io.WriteString(conn, c.sent)
			if c.begun {
				eventually(t, "the upload to begin", func() bool { return len(w.temporaryFiles()) == 1 })
			}
			conn.Close()
			eventually(t, "the upload to end", func() bool { return w.server.Uploads() == 0 && len(w.temporaryFiles()) == 0 })
		}
	}
	goAway() // what is made once is there
	files, goroutines := 0, 0
	eventually(t, "the first connections to end", func() bool {
		before := goroutines
		files, goroutines = len(openFiles("")), runtime.NumGoroutine()
		return before == goroutines
	})
	for range 30 {
		goAway()
	}
	eventually(t, "all goroutines and files to go", func() bool { return runtime.NumGoroutine() <= goroutines && len(openFiles("")) <= files })
	if n := w.records(); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// ASVS 5.2.1
func TestUploadsBeyondTheSlotsAreSentAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.MaxConcurrentUploads = 2 })
	body := parts{file("a.txt", "slow")}.encode(t, w)
	slow := step{as: "editor", do: "POST {product}/attachments", want: 201}
	var conns []net.Conn
	for range 2 {
		conn := w.dial(t)
		conn.Write(w.rawRequest(t, slow, len(body)))
		io.WriteString(conn, body[:len(body)-10])
		conns = append(conns, conn)
	}
	eventually(t, "both slots to be taken", func() bool {
		return strings.Contains(string(w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body), "\nattachd_upload_slots_used 2\n")
	})
	quick := step{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "quick")}}
	busy := quick
	busy.want, busy.code = 503, "busy"
	w.expectLog(`"code":"busy"`)
	refused, err := w.send(t, busy)
	if err != nil {
		t.Fatal(err)
	}
	w.judge(t, busy, refused)
	w.do(t, step{as: "viewer", do: "GET {product}/attachments", want: 200, is: "[]\n"}) // only uploads wait
	for _, conn := range conns {
		io.WriteString(conn, body[len(body)-10:])
		w.receive(t, conn, slow)
	}
	quick.want = 201
	eventually(t, "a slot to be free", func() bool {
		a, err := w.send(t, quick)
		return err == nil && a.status == 201
	})
}

func TestAServerThatIsStoppingTakesNoUploads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201, save: "A"}})
	w.server.Drain()
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("b.txt", "b")}, want: 503, code: "shutting_down"},
		{as: "viewer", do: "GET {A.at}", want: 200, is: "a"},
		{do: "GET /health/ready", want: 503},
		{do: "GET /health", want: 200},
	})
}

// ASVS 5.2.4
func TestTheQuotaOfASpaceHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	upload := func(parent string, size, want int, save string) step {
		s := step{as: "root", do: "POST " + parent + "/attachments", form: parts{file("a.txt", text(size))}, want: want, save: save}
		if want == 507 {
			s.code = "quota_exceeded"
		}
		return s
	}
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/a", json: `{"quota_bytes": 1000}`, want: 200},
		upload("{product}", 600, 201, "A"),
		upload("{ticket}", 401, 507, ""), // all kinds share it
		upload("{meeting}", 400, 201, "B"),
		upload("{product}", 1, 507, ""),
		upload("{product.ab}", 600, 201, ""), // another space has its own
		{as: "admin", do: "DELETE /catalog/attachments/{A}", want: 200},
		upload("{ticket}", 601, 507, ""),
		upload("{ticket}", 600, 201, ""), // the same bytes count again, stored once or not
		{as: "root", do: "PUT /directory/spaces/a", json: `{"quota_files": 2}`, want: 200},
		upload("{product}", 1, 507, ""),
		{as: "admin", do: "DELETE {meeting}/attachments/{B}", want: 200},
		upload("{product}", 5000, 201, ""),
		upload("{product}", 1, 507, ""),
		{as: "root", do: "PUT /directory/spaces/a", json: `{}`, want: 200},
		upload("{product}", 1, 201, ""),
	})
	got := w.do(t, step{as: "viewer", do: "GET /directory/spaces/a", want: 200}).object(t)
	if got["used_bytes"] != 5601.0 || got["used_files"] != 3.0 {
		t.Errorf("used: %v", got)
	}
}

// ASVS 5.2.4
func TestFiftyClientsDoNotOvershootAQuota(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{
		{as: "root", do: "PUT /directory/spaces/a", json: `{"quota_files": 10}`, want: 200},
		{as: "root", do: "PUT /directory/spaces/ab", json: `{"quota_bytes": 1000}`, want: 200},
	})
	w.expectLog(`"code":"quota_exceeded"`)
	var taken, refused [2]atomic.Int64
	var wait sync.WaitGroup
	for i := range 50 {
		for j, parent := range []string{"{product}", "{product.ab}"} {
			wait.Go(func() {
				content := fmt.Sprintf("%d of %-85d", j, i) // 90 bytes: eleven fit into 1000
				a, err := w.send(t, step{as: "root", do: "POST " + parent + "/attachments", form: parts{file("a.txt", content)}})
				switch {
				case err == nil && a.status == 201:
					taken[j].Add(1)
				case err == nil && a.status == 507:
					refused[j].Add(1)
				default:
					t.Errorf("answered %d, %v: %s", a.status, err, a.body)
				}
			})
		}
	}
	wait.Wait()
	for j, want := range []int64{10, 11} {
		if taken[j].Load() != want || refused[j].Load() != 50-want {
			t.Errorf("%d were taken and %d refused, want %d taken", taken[j].Load(), refused[j].Load(), want)
		}
	}
	if n := w.records(); n != 21 {
		t.Errorf("%d records", n)
	}
	eventually(t, "the refused contents to go", func() bool { return w.storedContents() == 21 })
}

func TestTheDiskReserveIsLeftFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.DiskReserve = 100 << 20 })
	upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", text(2<<20))}}
	full, taken := upload, upload
	full.want, full.code = 507, "disk_full"
	taken.want, taken.save = 201, "A"
	w.disk.free.Store(101 << 20)
	w.do(t, full) // the file is larger than what is above the reserve
	w.disk.free.Store(99 << 20)
	w.do(t, full)
	full.chunked = true
	w.do(t, full)
	w.disk.free.Store(200 << 20)
	w.do(t, taken)
	w.disk.free.Store(1)
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 200},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
	})
}

func TestTheDiskReserveHoldsWhileOthersUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.DiskReserve = 100 << 20 })
	w.disk.free.Store(200 << 20)
	s := step{as: "editor", do: "POST {product}/attachments", want: 507, code: "disk_full"}
	body := parts{file("a.txt", text(2<<20))}.encode(t, w)
	conn := w.dial(t)
	conn.Write(w.rawRequest(t, s, len(body)))
	io.WriteString(conn, body[:1<<20])
	eventually(t, "the upload to begin", func() bool { return len(w.temporaryFiles()) > 0 })
	w.disk.free.Store(100 << 20) // others have taken the rest
	io.WriteString(conn, body[1<<20:])
	w.receive(t, conn, s)
	eventually(t, "the temporary file to go", func() bool { return len(w.temporaryFiles()) == 0 })
}

// ASVS 1.1.1, 1.2.2, 1.2.3
func TestControlCharactersInAFileNameAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{file("bell\a and\x00 del\x7f.txt", "a")}, want: 201, check: func(t *testing.T, a answer) {
		if got := a.object(t)["file_name"]; got != "bell and del.txt" {
			t.Errorf("file_name is %q", got)
		}
	}}})
}

func TestABoundaryMayBeAsMailProgramsWriteIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const odd = "----=_Part_1_2.3/a:b?c"
	body := "--" + odd + "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--" + odd + "--\r\n"
	for _, written := range []string{odd, `"` + odd + `"`, odd + "; charset=utf-8"} {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", body: body, send: header{"Content-Type": "multipart/form-data; boundary=" + written}, want: 201})
	}
}

// ASVS 1.1.1, 1.2.2, 1.2.3
func TestControlCharactersInAnEncodedFileNameAreRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := part{header: `Content-Disposition: form-data; name="file"; filename*=UTF-8''bell%07%00and%7Fdelete%1B.txt`, body: "hello"}
	w.play(t, []step{{as: "editor", do: "POST {product}/attachments", form: parts{f}, want: 201, check: func(t *testing.T, a answer) {
		if got := a.object(t)["file_name"]; got != "bellanddelete.txt" {
			t.Errorf("file_name is %q", got)
		}
	}}})
}

// What browsers escape in filename= is nothing special in filename*.
// ASVS 1.1.1, 1.2.2, 1.2.3
func TestAnEncodedFileNameIsDecodedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for sent, want := range map[string]string{
		`filename*=UTF-8''a%22b%2522.txt`:               `a"b%22.txt`,
		`filename*=UTF-8''100%250D%250A.txt`:            `100%0D%0A.txt`,
		`filename="a%22b%2522.txt"`:                     `a"b%2522.txt`,
		`filename="e.txt"; filename*=UTF-8''a%2522.txt`: `a%22.txt`,
	} {
		f := part{header: `Content-Disposition: form-data; name="file"; ` + sent, body: "hello"}
		a := w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{f}, want: 201, save: "A"})
		if got := a.object(t)["file_name"]; got != want {
			t.Errorf("%s: file_name is %q, want %q", sent, got, want)
		}
		checkFileName(t, w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: "hello"}), want)
	}
}

// fullFiles is a file system with room for only some bytes of a file.
type fullFiles struct {
	disk.FileSystem
	failing *atomic.Bool
}

type fullFile struct{ disk.File }

func (f fullFiles) Create(name string) (disk.File, error) {
	file, err := f.FileSystem.Create(name)
	if err == nil && f.failing.Load() {
		return fullFile{file}, nil
	}
	return file, err
}

func (f fullFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p[:len(p)/2])
	if err == nil {
		err = syscall.ENOSPC
	}
	return n, err
}

func TestADiskThatFillsUpUnderAnUploadIsNoInternalError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, filesAtOnce)
	failing := &atomic.Bool{}
	w.disk.FileSystem = fullFiles{w.disk.FileSystem, failing}
	upload := step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "hello")}}
	failing.Store(true)
	upload.want, upload.code = 507, "disk_full"
	w.do(t, upload)
	failing.Store(false)
	upload.want, upload.code = 201, ""
	w.do(t, upload)
}

func TestAKeyMayMakeSoManyRequestsAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.RequestsPerMinute = 3 })
	list := step{as: "viewer", do: "GET {product}/attachments", want: 200}
	refused := step{as: "viewer", do: "GET {product}/attachments", want: 429, header: header{"Retry-After": "20"}}
	other := step{as: "editor", do: "GET {product}/attachments", want: 200}
	w.play(t, []step{list, list, list, refused, other, refused,
		{as: "viewer", do: "POST {product}/attachments", form: parts{file("a.txt", text(100_000))}, want: 429},
		{do: "GET /health", want: 200},
	})
	w.clock.advance(20 * time.Second)
	w.play(t, []step{list, refused})
	w.clock.advance(5 * time.Minute)
	w.play(t, []step{list, list, list, refused})
}

// ASVS 14.2.1, 16.2.5; CVE-2026-26196, CVE-2025-31489, CVE-2026-40344, CVE-2026-41145
func TestTheKeyIsTakenFromTheHeaderOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.keys["root"]
	for _, query := range []string{"key", "api_key", "access_token", "token", "authorization", "Authorization"} {
		w.do(t, step{do: "GET {product}/attachments?" + query + "=" + key, want: 401})
		w.do(t, step{do: "POST {product}/attachments", form: parts{field(query, key), file("a.txt", "a")}, want: 401})
	}
	for _, value := range []string{key, "Basic " + key, "Bearer", "Bearer " + key + "x", "Bearer " + key[:len(key)-1], "Bearer " + strings.ToUpper(key), "Bearer attachd_", "Bearer " + key + " " + key} {
		w.do(t, step{do: "GET {product}/attachments", send: header{"Authorization": value}, want: 401})
	}
	w.do(t, step{do: "GET {product}/attachments", send: header{"Authorization": "bearer " + key}, want: 200})
	for _, line := range w.log.lines() {
		if bytes.Contains([]byte(line), []byte(key)) {
			t.Fatalf("the log shows a key: %s", line)
		}
	}
}
