package server_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	utf16text "golang.org/x/text/encoding/unicode"

	"attachd/blobs"
	"attachd/server"
)

// pictureOf returns a picture in which all rows and columns differ.
func pictureOf(w, h int) *image.NRGBA {
	picture := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			picture.SetNRGBA(x, y, color.NRGBA{uint8(x), uint8(y), uint8(x ^ y), 255})
		}
	}
	return picture
}

func pngOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, pictureOf(w, h)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func jpegOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, pictureOf(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gifOf(t *testing.T, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gif.Encode(&b, pictureOf(w, h), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// webpOfOne is a WebP picture of one pixel: the standard library only reads WebP.
const webpOfOne = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="

// uploaded uploads a file and saves it by that name.
func (w *world) uploaded(t *testing.T, parent, fileName string, content []byte, name string) {
	t.Helper()
	w.do(t, step{as: "editor", do: "POST " + parent + "/attachments", form: parts{file(fileName, string(content))}, want: 201, save: name})
}

// sizeOfThumbnail decodes the picture in an answer.
func sizeOfThumbnail(t *testing.T, a answer) image.Point {
	t.Helper()
	picture, format, err := image.Decode(bytes.NewReader(a.body))
	if err != nil || "image/"+format != a.header.Get("Content-Type") {
		t.Fatalf("a thumbnail of type %s is %s: %v", a.header.Get("Content-Type"), format, err)
	}
	return picture.Bounds().Size()
}

func TestAPictureHasAThumbnail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	webp, err := base64.StdEncoding.DecodeString(webpOfOne)
	w.must(err)
	for _, c := range []struct {
		name, parent, at string
		content          []byte
		size             image.Point
	}{
		{"a.png", "{product}", "/catalog/attachments/{A}/thumbnail", pngOf(t, 600, 300), image.Pt(256, 128)},
		{"a.jpg", "{ticket}", "/issues/attachments/{A}/thumbnail", jpegOf(t, 300, 600), image.Pt(128, 256)},
		{"a.gif", "{meeting}", "{meeting}/attachments/{A}/thumbnail", gifOf(t, 100, 50), image.Pt(100, 50)},
		{"a.webp", "{product}", "/catalog/attachments/{A}/thumbnail", webp, image.Pt(1, 1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.uploaded(t, c.parent, c.name, c.content, "A")
			a := w.do(t, step{as: "viewer", do: "GET " + c.at, want: 200, header: ofFile})
			if got := sizeOfThumbnail(t, a); got != c.size {
				t.Errorf("it is %v, want %v", got, c.size)
			}
			if a.header.Get("ETag") == "" || a.header.Get("Repr-Digest") != "" {
				t.Errorf("it has the headers %v", a.header)
			}
			w.do(t, step{as: "viewer", do: "GET " + c.at, want: 200, is: string(a.body)})
			w.do(t, step{as: "viewer", do: "HEAD " + c.at, want: 200, header: header{"ETag": a.header.Get("ETag"), "Content-Type": a.header.Get("Content-Type")}})
			w.do(t, step{as: "viewer", do: "GET " + c.at, send: header{"If-None-Match": a.header.Get("ETag")}, want: 304, header: ofFile})
			w.do(t, step{as: "viewer", do: "GET " + c.at, send: header{"Range": "bytes=0-3"}, want: 206, is: string(a.body[:4])})
		})
	}
}

func TestWhatIsNoPictureHasNoThumbnail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	whole := pngOf(t, 100, 100)
	for name, content := range map[string][]byte{
		"a.txt":           []byte(alphabet),
		"a.svg":           []byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`),
		"cut.png":         whole[:len(whole)/2],
		"header-only.png": whole[:33],
		"cut.jpg":         jpegOf(t, 100, 100)[:300],
	} {
		w.uploaded(t, "{product}", name, content, "A")
		w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 404, code: "no_thumbnail", header: ofFile})
	}
	if _, err := os.Stat(filepath.Join(w.dir, "thumbnails")); err == nil {
		t.Error("something was kept")
	}
}

// pngHeader is a PNG whose header claims a size of w by h pixels.
func pngHeader(w, h uint32) []byte {
	chunk := []byte("IHDR")
	chunk = binary.BigEndian.AppendUint32(chunk, w)
	chunk = binary.BigEndian.AppendUint32(chunk, h)
	chunk = append(chunk, 8, 6, 0, 0, 0)
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
	b = binary.BigEndian.AppendUint32(append(b, chunk...), crc32.ChecksumIEEE(chunk))
	return append(b, "\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"...)
}

// The header is checked before anything is decoded.
// ASVS 5.2.6
func TestAPictureOfTooManyPixelsIsNotDecoded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, size := range [][2]uint32{{50_000, 50_000}, {100_000, 100_000}, {1<<31 - 1, 1<<31 - 1}, {40_000_001, 1}} {
		w.uploaded(t, "{product}", "a.png", pngHeader(size[0], size[1]), "A")
		began := time.Now()
		w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 404, code: "no_thumbnail"})
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%d x %d pixels took %v", size[0], size[1], took)
		}
	}
}

func (w *world) thumbnailFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "thumbnails", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestAThumbnailIsMadeAnewWhenItsFileIsMissingOrBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.uploaded(t, "{product}", "a.png", pngOf(t, 300, 300), "A")
	w.uploaded(t, "{product}", "b.png", pngOf(t, 200, 100), "B")
	get := func(name string) []byte {
		t.Helper()
		return w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{" + name + "}/thumbnail", want: 200}).body
	}
	a := get("A")
	path := w.thumbnailFiles(t)[0]
	get("B")
	other := w.thumbnailFiles(t)
	other = slices.DeleteFunc(other, func(s string) bool { return s == path })
	kept, err := os.ReadFile(path)
	w.must(err)
	ofOther, err := os.ReadFile(other[0])
	w.must(err)
	if filepath.Base(path) != filepath.Base(w.blobFile(t, "{A}")) {
		t.Errorf("it is kept in %s", path)
	}
	flipped := bytes.Clone(kept)
	flipped[len(flipped)/2] ^= 1
	for what, content := range map[string][]byte{
		"empty": {}, "cut": kept[:len(kept)-1], "changed": flipped, "that of another": ofOther,
		"a picture without a seal": pngOf(t, 10, 10), "too long": append(bytes.Clone(kept), make([]byte, 2<<20)...),
	} {
		w.must(os.WriteFile(path, content, 0o600))
		if !bytes.Equal(get("A"), a) {
			t.Errorf("%s: another thumbnail than before", what)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, kept) {
			t.Errorf("%s: it was not put right: %v", what, err)
		}
	}
	w.must(os.RemoveAll(filepath.Join(w.dir, "thumbnails")))
	if !bytes.Equal(get("A"), a) {
		t.Error("without the folder: another thumbnail than before")
	}
	// A thumbnail that cannot be kept is sent all the same.
	w.must(os.RemoveAll(filepath.Join(w.dir, "thumbnails")))
	w.must(os.WriteFile(filepath.Join(w.dir, "thumbnails"), nil, 0o600))
	if !bytes.Equal(get("A"), a) {
		t.Error("without room for it: another thumbnail than before")
	}
}

func TestAThumbnailGoesWithItsContent(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]func(*server.Config){"a content that waits": func(*server.Config) {}, "a content in its file": filesAtOnce} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, option)
			picture := pngOf(t, 30, 30)
			w.uploaded(t, "{product}", "a.png", picture, "A")
			w.uploaded(t, "{meeting}", "b.png", picture, "B")
			w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 200})
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
			w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 404})
			w.do(t, step{as: "viewer", do: "GET {meeting}/attachments/{B}/thumbnail", want: 200})
			w.do(t, step{as: "editor", do: "DELETE {meeting}/attachments/{B}", want: 200})
			eventually(t, "the thumbnail to go", func() bool { return len(w.thumbnailFiles(t)) == 0 })
		})
	}
}

// A crash may leave thumbnails; other files in their folder are not touched.
func TestGCRemovesThumbnailsOfContentsThatAreGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.uploaded(t, "{product}", "a.png", pngOf(t, 30, 30), "A")
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 200})
	of := w.thumbnailFiles(t)[0]
	left := filepath.Join(w.dir, "thumbnails", strings.Repeat("0", 64))
	notOurs := filepath.Join(w.dir, "thumbnails", "README")
	w.must(os.WriteFile(left, []byte("left"), 0o600))
	w.must(os.WriteFile(notOurs, []byte("x"), 0o600))
	w.do(t, step{as: "root", do: "POST /upkeep/check", want: 200, check: func(t *testing.T, a answer) {
		if !bytes.Contains(a.body, []byte(`"faults":[]`)) && !bytes.Contains(a.body, []byte(`"faults":null`)) {
			t.Errorf("the check says %s", a.body)
		}
	}})
	w.do(t, step{as: "root", do: "POST /upkeep/gc", json: `{"dry_run": true}`, want: 200})
	if got := w.thumbnailFiles(t); len(got) != 3 {
		t.Errorf("after a dry run there are %v", got)
	}
	w.do(t, step{as: "root", do: "POST /upkeep/gc", want: 200})
	if got := w.thumbnailFiles(t); !slices.Contains(got, of) || !slices.Contains(got, notOurs) || len(got) != 2 {
		t.Errorf("there are %v", got)
	}
}

func TestADamagedContentHasNoThumbnail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, filesAtOnce)
	w.expectLog("a stored content is damaged")
	picture := pngOf(t, 300, 300)
	w.uploaded(t, "{product}", "a.png", picture, "A")
	path := w.blobFile(t, "{A}")
	damaged := bytes.Clone(picture)
	damaged[len(damaged)-1] ^= 1 // after the picture, so that it can still be decoded
	w.must(os.WriteFile(path, damaged, 0o600))
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 500, code: "damaged"})
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 500, code: "damaged"})
	if got := w.thumbnailFiles(t); len(got) > 0 {
		t.Errorf("there are %v", got)
	}
	w.uploaded(t, "{product}", "a.png", picture, "B")
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/thumbnail", want: 200})
}

func TestThumbnailsBeyondTheWorkersAreSentAwayAfterAWhile(t *testing.T) {
	t.Parallel()
	held := &holding{opened: make(chan bool, 10), release: make(chan bool)}
	w := newWorld(t, filesAtOnce, func(c *server.Config) { held.Store, c.Blobs = c.Blobs, held })
	w.server.SetPreviewWait(50 * time.Millisecond)
	for i, name := range []string{"A", "B", "C"} {
		w.uploaded(t, "{product}", "a.png", pngOf(t, 30+i, 30), name)
	}
	var wait sync.WaitGroup
	for _, name := range []string{"A", "B"} {
		wait.Go(func() {
			w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{" + name + "}/thumbnail", want: 200})
		})
	}
	<-held.opened
	<-held.opened
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{C}/thumbnail", want: 503, code: "busy", header: header{"Retry-After": "1"}})
	close(held.release)
	wait.Wait()
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{C}/thumbnail", want: 200})
}

// holding is a store whose contents open only when they are released.
type holding struct {
	blobs.Store
	opened, release chan bool
}

func (s *holding) Open(ctx context.Context, ref blobs.Ref, size int64) (blobs.Content, error) {
	s.opened <- true
	<-s.release
	return s.Store.Open(ctx, ref, size)
}

func TestATableHasAPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct{ content, like string }{
		"a.csv": {"id,name\n1,\"Ada, of\nLondon\"\n2\n", `{"kind": "table", "columns": ["id", "name"], "rows": [["1", "Ada, of\nLondon"], ["2"]], "rows_total": 2, "truncated": false}`},
		"a.tsv": {"id\tname\n1\t<b>,\n", `{"kind": "table", "columns": ["id", "name"], "rows": [["1", "<b>,"]], "rows_total": 1, "truncated": false}`},
	} {
		w.uploaded(t, "{ticket}", name, []byte(c.content), "A")
		w.do(t, step{as: "viewer", do: "GET /issues/attachments/{A}/preview", want: 200, like: c.like, header: with(ofAPI, header{"Content-Type": "application/json"})})
	}
	w.uploaded(t, "{meeting}", "long.csv", []byte("n\n"+strings.Repeat("1\n", 2000)), "A")
	a := w.do(t, step{as: "viewer", do: "GET {meeting}/attachments/{A}/preview", want: 200}).object(t)
	if rows := a["rows"].([]any); len(rows) != 1000 || a["rows_total"] != 2000.0 || a["truncated"] != true {
		t.Errorf("of 2000 rows there are %d of %v", len(rows), a["rows_total"])
	}
	w.uploaded(t, "{product}", "line.csv", bytes.Repeat([]byte("a"), 20<<20), "A")
	raw := w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 200})
	if a := raw.object(t); len(raw.body) > 2000 || a["rows_total"] != nil || a["truncated"] != true {
		t.Errorf("of a line of 20 MB there are %d bytes: %.100s", len(raw.body), raw.body)
	}
}

func TestAnArchiveHasAPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var b bytes.Buffer
	archive := zip.NewWriter(&b)
	at := time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)
	for _, name := range []string{"data/", "data/a.txt", "../../etc/passwd", "<img src=x>"} {
		f, err := archive.CreateHeader(&zip.FileHeader{Name: name, Modified: at, Method: zip.Deflate})
		w.must(err)
		if !strings.HasSuffix(name, "/") {
			_, err = f.Write(bytes.Repeat([]byte("x"), 1000))
			w.must(err)
		}
	}
	w.must(archive.Close())
	w.uploaded(t, "{product}", "a.zip", b.Bytes(), "A")
	var body struct {
		Kind    string
		Entries []struct {
			Name           string
			Size           int64
			CompressedSize int64 `json:"compressed_size"`
			Modified       string
			Directory      bool
		}
		EntriesTotal int `json:"entries_total"`
		Truncated    bool
	}
	a := w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 200})
	w.must(json.Unmarshal(a.body, &body))
	if body.Kind != "archive" || len(body.Entries) != 4 || body.EntriesTotal != 4 || body.Truncated {
		t.Fatalf("it is %s", a.body)
	}
	if e := body.Entries[0]; e.Name != "data/" || !e.Directory || e.Size != 0 {
		t.Errorf("the folder is %+v", e)
	}
	if e := body.Entries[1]; e.Directory || e.Size != 1000 || e.CompressedSize <= 0 || e.CompressedSize >= 1000 || e.Modified != "2026-01-02T03:04:06Z" {
		t.Errorf("the file is %+v", e)
	}
	if body.Entries[2].Name != "../../etc/passwd" || body.Entries[3].Name != "<img src=x>" {
		t.Errorf("names are changed: %s", a.body)
	}
}

// For every writer of the text, encoding, and form of line ends.
func TestATextHasAPreviewInUTF8(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const nihongo = "これは日本語の文章です。\n見積書を送ります。\n"
	const russian = "Московский завод сообщает о новых ценах.\nС уважением, директор завода.\n"
	const german = "Größe: groß\nMüller, Jäger und König\n"
	for name, c := range map[string]struct {
		text string
		in   encoding.Encoding
	}{
		"utf8.txt":      {nihongo + russian + german, encoding.Nop},
		"sjis.txt":      {nihongo, japanese.ShiftJIS},
		"eucjp.log":     {nihongo, japanese.EUCJP},
		"gbk.md":        {"中国移动通信集团有限公司的报价单,请在本周内确认。\n", simplifiedchinese.GBK},
		"big5.txt":      {"中華電信股份有限公司的報價單,請在本週內確認。\n", traditionalchinese.Big5},
		"euckr.txt":     {"안녕하세요. 서울특별시 강남구에서 견적서를 보냅니다. 확인 부탁드립니다.\n", korean.EUCKR},
		"koi8r.txt":     {russian, charmap.KOI8R},
		"dos.txt":       {russian, charmap.CodePage866},
		"cyrillic.yaml": {"name: " + russian, charmap.Windows1251},
		"mac.txt":       {german, charmap.Macintosh},
		"windows.xml":   {"<a>" + german + "</a>", charmap.Windows1252},
		"marked.json":   {`{"a": "größer"}`, utf16text.UTF16(utf16text.BigEndian, utf16text.UseBOM)},
		"unmarked.txt":  {german, utf16text.UTF16(utf16text.LittleEndian, utf16text.IgnoreBOM)},
		"mail.eml":      {"From: a@example.org\nTo: b@example.org\nSubject: c\nMIME-Version: 1.0\n\n" + german, charmap.Windows1252},
	} {
		raw, err := c.in.NewEncoder().String(c.text)
		w.must(err)
		w.uploaded(t, "{ticket}", name, []byte(raw), "A")
		w.do(t, step{as: "viewer", do: "GET /issues/attachments/{A}/preview", want: 200, is: previewOfText(t, c.text, false), header: with(ofAPI, header{"Content-Type": "application/json"})})
	}
	for sent, shown := range map[string]string{"a\r\nb\r\n": "a\nb\n", "a\rb\r": "a\nb\n", "1 %\r2 %\r\n": "1 %\n2 %\n", "a\u2028<b>\n": "a\u2028<b>\n", "a\x00\x00 b is a log with a hole\n": "a b is a log with a hole\n"} {
		w.uploaded(t, "{meeting}", "a.txt", []byte(sent), "A")
		w.do(t, step{as: "viewer", do: "GET {meeting}/attachments/{A}/preview", want: 200, is: previewOfText(t, shown, false)})
	}
}

func previewOfText(t *testing.T, text string, truncated bool) string {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{"kind": "text", "text": text, "truncated": truncated}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The preview ends with a whole character.
func TestOfALongTextThereIsTheBeginning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const bound = 512 << 10
	for _, c := range []struct {
		in   encoding.Encoding
		line string
	}{{encoding.Nop, "日本語の文章\n"}, {japanese.ShiftJIS, "日本語の文章\n"}, {utf16text.UTF16(utf16text.LittleEndian, utf16text.UseBOM), "日本語の文章\n"}} {
		line, err := c.in.NewEncoder().String(c.line)
		w.must(err)
		for _, more := range []string{"", "a", "aa"} {
			start, err := c.in.NewEncoder().String(more)
			w.must(err)
			raw := []byte(start + strings.TrimPrefix(strings.Repeat(line, 2*bound/len(line)), "\xFF\xFE"))
			w.uploaded(t, "{product}", "long.txt", raw, "A")
			a := w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 200}).object(t)
			text := a["text"].(string)
			if last := text[strings.LastIndex(text, "\n")+1:]; a["truncated"] != true || !strings.HasPrefix(c.line, last) || len(text) < bound/2 {
				t.Errorf("%v after %q: %d bytes, with %q at the end", c.in, more, len(text), last)
			}
		}
	}
	w.uploaded(t, "{product}", "whole.txt", []byte(text(bound)), "A")
	w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 200, is: previewOfText(t, text(bound), false)})
}

func TestWhatIsNoTableTextOrArchiveHasNoPreview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, content := range map[string]string{"a.rtf": `{\rtf1\ansi a}`, "a.png": string(pngOf(t, 3, 3)), "a.svg": `<svg xmlns="http://www.w3.org/2000/svg"/>`} {
		w.uploaded(t, "{product}", name, []byte(content), "A")
		w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/preview", want: 404, code: "no_preview", header: ofAPI})
	}
}

// ASVS 5.1.1
func TestTheLimitsAreThoseThatHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, maxFileSize(1000), func(c *server.Config) { c.URLTTL = 5 * time.Minute })
	var limits struct {
		MaxFileSize int `json:"max_file_size"`
		Allowed     []struct {
			MimeType   string `json:"mime_type"`
			Extensions []string
		}
		URLTTL     int `json:"url_ttl_seconds"`
		MaxLinkTTL int `json:"max_link_ttl_seconds"`
	}
	a := w.do(t, step{as: "stranger", do: "GET /limits", want: 200, header: ofAPI})
	w.must(json.Unmarshal(a.body, &limits))
	if limits.MaxFileSize != 1000 || limits.URLTTL != 300 || limits.MaxLinkTTL != 604800 {
		t.Errorf("they are %s", a.body)
	}
	extensions := map[string][]string{}
	for _, allowed := range limits.Allowed {
		extensions[allowed.MimeType] = allowed.Extensions
	}
	if !slices.Contains(extensions["image/jpeg"], ".jpg") || !slices.Contains(extensions["text/csv"], ".csv") || extensions["text/html"] != nil {
		t.Errorf("types are %v", extensions)
	}
	w.uploaded(t, "{product}", "a.txt", []byte(text(limits.MaxFileSize)), "A")
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", text(limits.MaxFileSize+1))}, want: 413})
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 604800}`, want: 201})
	w.do(t, step{as: "viewer", do: "POST /catalog/attachments/{A}/links", json: `{"expires_in": 604801}`, want: 400})
}
