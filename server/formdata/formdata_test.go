package formdata

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"testing/iotest"
)

// readForm reads a whole form: each part's header, and its content.
func readForm(body io.Reader, boundary string) (parts []Part, contents []string, err error) {
	f := NewReader(body, boundary)
	for {
		p, err := f.Next()
		if err == io.EOF {
			return parts, contents, nil
		}
		if err != nil {
			return parts, contents, err
		}
		content, err := io.ReadAll(f)
		if err != nil {
			return parts, contents, err
		}
		parts, contents = append(parts, p), append(contents, string(content))
	}
}

func TestAFormIsReadAsItWasWritten(t *testing.T) {
	const boundary = "B"
	contents := []string{
		"", "a", "\r\n", "--", "--B", "--B--", "\r\n--", "\r\n--Bx", "\r\n--BB\r\n", "\r\n-\r\n--", "\n--B\n", "\r\r\n--b",
		strings.Repeat("\r\n--Bx", 30_000), strings.Repeat("x", BufferSize-1), strings.Repeat("x", BufferSize), strings.Repeat("\r", BufferSize+1),
	}
	var body bytes.Buffer
	body.WriteString("a preamble\r\nwith --B in it\r\n")
	w := multipart.NewWriter(&body)
	if err := w.SetBoundary(boundary); err != nil {
		t.Fatal(err)
	}
	for _, content := range contents {
		// Such content would be the delimiter of an empty part, which only a form that
		// is written by hand can contain.
		if strings.HasPrefix(content, "--B") {
			content = "x" + content
		}
		part, err := w.CreateFormFile("file", "a.txt")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(part, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	body.WriteString("an epilogue")
	for name, reader := range map[string]func(io.Reader) io.Reader{
		"at once": func(r io.Reader) io.Reader { return r }, "in halves": iotest.HalfReader,
		"byte by byte": iotest.OneByteReader, "with the error at the end": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			parts, got, err := readForm(reader(bytes.NewReader(body.Bytes())), boundary)
			if err != nil || len(got) != len(contents) {
				t.Fatalf("%d parts, %v", len(got), err)
			}
			for i, want := range contents {
				if strings.HasPrefix(want, "--B") {
					want = "x" + want
				}
				if got[i] != want || parts[i].Name != "file" || parts[i].FileName != "a.txt" {
					t.Errorf("part %d: %+v, %d bytes; want %d", i, parts[i], len(got[i]), len(want))
				}
			}
		})
	}
}

func TestABodyThatIsCutAnywhereIsNotAWholeForm(t *testing.T) {
	const whole = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nhello\r\n--B\r\n" +
		"Content-Disposition: form-data; name=\"comment_id\"\r\n\r\nx\r\n--B--"
	if _, _, err := readForm(strings.NewReader(whole), "B"); err != nil {
		t.Fatalf("the whole: %v", err)
	}
	for n := range len(whole) {
		if _, _, err := readForm(strings.NewReader(whole[:n]), "B"); !errors.Is(err, ErrCut) {
			t.Errorf("cut behind %q: %v", whole[:n], err)
		}
	}
}

func TestPartsAsClientsWriteThem(t *testing.T) {
	for _, c := range []struct{ header, name, fileName string }{
		{`Content-Disposition: form-data; name="file"; filename="a b.txt"`, "file", "a b.txt"},
		{`content-disposition:form-data;name=file;filename=a b.txt`, "file", "a b.txt"},
		{`Content-Disposition: form-data; name="file"; filename="a;b=c.txt"; x=y`, "file", "a;b=c.txt"},
		{`Content-Disposition: form-data; name="file"; filename="C:\Users\ada\a.txt"`, "file", `C:\Users\ada\a.txt`},
		{`Content-Disposition: form-data; name="file"; filename="a\"b\\c.txt"`, "file", `a"b\c.txt`},
		{`Content-Disposition: form-data; name="file"; filename="a.txt`, "file", "a.txt"},
		{`Content-Disposition: form-data; name="file"; filename="a "b".txt" ; x="y"`, "file", `a "b".txt`},
		{`Content-Disposition: form-data; name="file"; filename="a"; filename*=UTF-8''b.txt; y=""`, "file", "b.txt"},
		{"Content-Disposition: form-data; name=\"file\"; filename=\"\xdc\x01ber.txt\"", "file", "Über.txt"},
		{"Content-Disposition: form-data; name=\"file\"; filename=\"a\x01\x1b\x7fb\x00.txt\"", "file", "ab.txt"},
		{"Content-Disposition: form-data; name=\"file\";\r\n filename=\"a.txt\"", "file", "a.txt"},
		{"Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\nX-Other: 1", "file", "a.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=UTF-8''%E2%82%AC.txt`, "file", "€.txt"},
		{`Content-Disposition: form-data; name="file"; filename*=ISO-8859-1'de'%e9.txt; filename="e.txt"`, "file", "é.txt"},
		{`Content-Disposition: form-data; name="file"; filename*=Shift_JIS'ja'%93%FA%96%7B.txt`, "file", "日本.txt"},
		{`Content-Disposition: form-data; name="file"; filename*=windows-1251''%CF%EB%E0%ED.txt; filename="_.txt"`, "file", "План.txt"},
		{`Content-Disposition: form-data; name="file"; filename*0="long"; filename*1="er.txt"`, "file", "longer.txt"},
		{"Content-Disposition: form-data; name=\"file\";\r\n filename*0*=utf-8''%C3%9Cber; filename*1=\" 100% \";\r\n filename*2*=%C3%BC.txt", "file", "Über 100% ü.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*0="x"; filename*1*=y`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*1*=y.txt`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename*=us-ascii''a%20b.txt`, "file", "a b.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=klingon''b.txt`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=''b.txt`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=UTF-8''%ff.txt`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=UTF-8''`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="e.txt"; filename*=UTF-8''%zz`, "file", "e.txt"},
		{`Content-Disposition: form-data; name="file"; filename="a%22b%2522.txt"`, "file", `a"b%2522.txt`},
		{`Content-Disposition: form-data; name="file"; filename*=UTF-8''a%22b%2522.txt`, "file", `a"b%22.txt`},
		{`Content-Disposition: form-data; name="file"; filename="e%22.txt"; filename*=UTF-8''%ff%22.txt`, "file", `e".txt`},
		{`Content-Disposition: form-data; name="first"; name="second"`, "first", ""},
		{`Content-Disposition: form-data; name="file"; filename=""`, "file", ""},
		{`Content-Disposition: form-data`, "", ""},
	} {
		parts, contents, err := readForm(strings.NewReader("--B\r\n"+c.header+"\r\n\r\nx\r\n--B--\r\n"), "B")
		if err != nil || len(parts) != 1 || contents[0] != "x" || parts[0].Name != c.name || parts[0].FileName != c.fileName {
			t.Errorf("%q: %+v %q %v", c.header, parts, contents, err)
		}
	}
}

// CVE-2022-41725, CVE-2023-24536, CVE-2023-45290
func TestMalformedFormsAreRefused(t *testing.T) {
	for _, body := range []string{
		"--B\r\nno colon\r\n\r\nx\r\n--B--",
		"--B\r\nContent-Disposition: attachment; name=\"file\"\r\n\r\nx\r\n--B--",
		"--B\r\nX: " + strings.Repeat("x", 2*BufferSize) + "\r\n\r\nx\r\n--B--",
		"--B x\r\nX: 1\r\n\r\nx\r\n--B--",
	} {
		if _, _, err := readForm(strings.NewReader(body), "B"); !errors.Is(err, errMalformed) {
			t.Errorf("%.60q: %v", body, err)
		}
	}
}

// The time for a header is linear in its length: folded lines, and lines that end the
// one before, cost no more.
// CVE-2022-41725, CVE-2023-24536, CVE-2023-45290
func TestAPartHeaderOfManyLinesIsRefusedBeforeItIsRead(t *testing.T) {
	const begins = "--B\r\nContent-Disposition: form-data; name=\"x\"\r\n"
	for _, line := range []string{" \n", " folded\r\n", "X: y\r\n", "Repr-Digest: z\r\n", ":\n"} {
		body := strings.NewReader(begins + strings.Repeat(line, 1<<20/len(line)) + "\r\nx\r\n--B--")
		size := body.Len()
		if _, _, err := readForm(body, "B"); !errors.Is(err, errMalformed) {
			t.Errorf("many times %q: %v", line, err)
		}
		if read := size - body.Len(); read > BufferSize {
			t.Errorf("many times %q: %d bytes were read", line, read)
		}
	}
	const dispositionAndEnd = len(begins) - len("--B\r\n") + len("X: \r\n\r\n")
	for spare, want := range map[int]error{0: nil, -1: errMalformed} {
		long := "X: " + strings.Repeat("x", maxPartHeader-dispositionAndEnd-spare) + "\r\n"
		if _, _, err := readForm(strings.NewReader(begins+long+"\r\nx\r\n--B--"), "B"); err != want {
			t.Errorf("a header with %d bytes to spare: %v, want %v", spare, err, want)
		}
	}
}

func FuzzFormsAreReadAsTheStandardLibraryDoes(f *testing.F) {
	f.Add([]byte("hello"), []byte("\r\n--B"), uint8(1))
	f.Add([]byte("--B\r\n"), []byte(""), uint8(7))
	f.Fuzz(func(t *testing.T, first, second []byte, step uint8) {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		if err := w.SetBoundary("B"); err != nil {
			t.Fatal(err)
		}
		for _, content := range [][]byte{first, second} {
			part, err := w.CreateFormFile("file", "a")
			if err != nil {
				t.Fatal(err)
			}
			part.Write(content)
		}
		w.Close()
		var want []string
		for r := multipart.NewReader(bytes.NewReader(body.Bytes()), "B"); ; {
			p, err := r.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				return // the contents contain a delimiter, so this is no valid form
			}
			content, err := io.ReadAll(p)
			if err != nil {
				return
			}
			want = append(want, string(content))
		}
		_, got, err := readForm(&inSteps{body.Bytes(), int(step)%100 + 1}, "B")
		if err == nil && len(got) != len(want) {
			t.Fatalf("%d parts, want %d", len(got), len(want))
		}
		if err != nil && len(want) == 2 && want[0] == string(first) && want[1] == string(second) {
			t.Fatalf("refused: %v", err)
		}
		for i := range got {
			if i < len(want) && got[i] != want[i] {
				t.Fatalf("part %d: %q, want %q", i, got[i], want[i])
			}
		}
	})
}

// inSteps returns at most a number of bytes per read.
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
