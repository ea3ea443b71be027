package content

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"attachd/blobs/blobstest"
)

const (
	mostTime  = time.Second // processor time of a decision; it takes a few hundredths at the worst
	mostAlloc = 12 << 20    // bytes in total, most of which are garbage before the next are allocated
)

// TestNoFileIsExpensive limits the time and memory of a decision, with files that are made to be expensive.
// ASVS 5.2.3; CVE-2026-3114, CVE-2026-55078, CVE-2026-55079
func TestNoFileIsExpensive(t *testing.T) {
	docx := zipOf(t, contentTypes(wordMain))
	emptyProject := oleTree(0, vbaProject("Macros", nil, "Attribute VB_Name = \"Module1\"\r\n").children...)
	manyParts := strings.Repeat("<Default Extension='x' ContentType='application/xml'/>", 20_000)
	huge := make([]byte, 50<<20)
	for _, c := range []struct {
		about, name string
		content     []byte
	}{
		{"a ZIP of 70,000 entries", "a.zip", zipOfMany(t, 70_000)},
		{"a ZIP of 10,000 entries", "a.zip", zipOfMany(t, 10_000)},
		{"a ZIP of few entries with long names", "a.zip", zipOfMany(t, 300, strings.Repeat("n", 60_000))},
		{"a ZIP that says it inflates to a gigabyte", "a.zip", zipThatInflates(t, 1<<30)},
		{"[Content_Types].xml that inflates to 8 MB", "a.docx", zipOf(t, entry{"[Content_Types].xml", strings.Repeat(" ", 8<<20)})},
		{"[Content_Types].xml of one long attribute", "a.docx", zipOf(t, entry{"[Content_Types].xml", "<a b='" + strings.Repeat("c", 5<<20)})},
		{"[Content_Types].xml of very many parts", "a.docx", zipOf(t, entry{"[Content_Types].xml", manyParts})},
		{"[Content_Types].xml that nests", "a.docx", zipOf(t, entry{"[Content_Types].xml", strings.Repeat("<a>", 1<<18)})},
		{"[Content_Types].xml in UTF-16", "a.docx", zipOf(t, entry{"[Content_Types].xml", string(utf16Of(strings.Repeat("<a/>", 1<<18), binary.LittleEndian, true))})},
		{"an OOXML document of very many VBA projects", "a.docx", zipOfCopies(t, contentTypes(wordMain), "word/%d/vbaProject.bin", slices.Concat(emptyProject, make([]byte, 200<<10)), 9000)},
		{"an OpenDocument file of very many modules", "a.odt", zipOfCopies(t, entry{"mimetype", "application/vnd.oasis.opendocument.text"}, "Basic/%d.xml", make([]byte, 100), 9000)},
		{"an OpenDocument file with a manifest that inflates to 8 MB", "a.odt", zipOf(t, entry{"META-INF/manifest.xml", "<a>" + strings.Repeat("<file-entry/>", 600_000)})},
		{"a mimetype that inflates to 8 MB", "a.odt", zipOf(t, entry{"mimetype", strings.Repeat(" ", 8<<20)})},
		{"a ZIP whose tail is full of end records", "a.zip", append([]byte("PK\x03\x04"), bytes.Repeat([]byte("PK\x05\x06"), 1<<16)...)},
		{"an OLE file whose directory runs in a circle", "a.doc", oleThat(func(b []byte) { binary.LittleEndian.PutUint32(b[512+4:], 1) })},
		{"an OLE file whose tree runs in a circle", "a.doc", oleThat(func(b []byte) { binary.LittleEndian.PutUint32(b[1024+128+72:], 1) })},
		{"an OLE file of nothing but sectors", "a.doc", append(oleThat(func(b []byte) { clear(b[512:1024]) }), huge...)},
		{"an OLE file whose tables are far down a chain", "a.doc", append(oleThat(func(b []byte) {
			binary.LittleEndian.PutUint32(b[48:], 100_000)
			binary.LittleEndian.PutUint32(b[68:], 5)
		}), huge...)},
		{"JSON that nests", "a.json", bytes.Repeat([]byte("["), 1<<17)},
		{"XML of comments", "a.xml", bytes.Repeat([]byte("<!---->"), 1<<17)},
		{"XML of a document type", "a.xml", append([]byte("<!DOCTYPE a ["), bytes.Repeat([]byte("<!--'\"-->[]"), 1<<17)...)},
		{"open processing instructions", "a.xml", bytes.Repeat([]byte("<?"), 1<<17)},
		{"commas", "a.csv", bytes.Repeat([]byte(",\""), 1<<17)},
		{"50 MB of zeros", "a.bin", huge},
		{"50 MB of 0xFF", "a.mp3", bytes.Repeat([]byte{0xFF}, 50<<20)},
		{"a picture of 100,000 by 100,000", "a.png", hugePNG(t)},
		{"a long name", strings.Repeat("a.", 1<<16), docx},
	} {
		t.Run(c.about, func(t *testing.T) {
			policy := newPolicy(t)
			r := &countingReader{r: bytes.NewReader(c.content)}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := blobstest.Worktime()
			_, err := policy.Decide(r, int64(len(c.content)), c.name)
			took := blobstest.Worktime() - start
			runtime.ReadMemStats(&after)
			alloc := after.TotalAlloc - before.TotalAlloc
			if took > mostTime || alloc > mostAlloc || r.read > maxRead {
				t.Errorf("took %v, %d bytes of memory and %d bytes read (%v)", took, alloc, r.read, err)
			}
			t.Logf("%v, %d KiB of memory, %d KiB read (%v)", took, alloc>>10, r.read>>10, err)
		})
	}
}

// ASVS 5.2.3, 5.2.5, 5.3.3
func TestArchivesAreLookedAtAndNeverUnpacked(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	link := &zip.FileHeader{Name: "link"}
	link.SetMode(fs.ModeSymlink | 0o777)
	f, err := w.CreateHeader(link)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte("/etc/passwd"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	taken(t, b.Bytes(), "links.zip", "application/zip")
	taken(t, zipOf(t, entry{"../../etc/passwd", "x"}), "slip.zip", "application/zip")
	taken(t, zipOf(t, entry{"inner.zip", string(zipOf(t, contentTypes(wordMain)))}), "nested.zip", "application/zip")
	taken(t, zipOf(t, entry{"inner/[Content_Types].xml", contentTypes(wordMain).content}), "folder.zip", "application/zip")
	taken(t, zipOfMany(t, 70_000), "many.zip", "application/zip")
	refused(t, zipOfMany(t, 70_000), "many.docx", "a Word document")
}

func TestOfficeDocumentsFromUnusualWriters(t *testing.T) {
	const docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	byDefault := `<?xml version="1.0" encoding="us-ascii"?><x:Types xmlns:x="http://schemas.openxmlformats.org/package/2006/content-types">` +
		`<x:Default Extension="xml" ContentType="` + wordMain + `"/></x:Types>`
	for about, e := range map[string]entry{
		"a default for the main part, a prefix": {"[Content_Types].xml", byDefault},
		"another case":                          {"[CONTENT_TYPES].XML", byDefault},
		"UTF-16":                                {"[Content_Types].xml", string(utf16Of(strings.Replace(byDefault, "us-ascii", "utf-16", 1), binary.LittleEndian, true))},
		"a broken end":                          {"[Content_Types].xml", byDefault[:len(byDefault)-5]},
		"an entity in the type":                 {"[Content_Types].xml", strings.Replace(byDefault, ".main", "&#46;main", 1)},
	} {
		t.Run(about, func(t *testing.T) {
			taken(t, zipOf(t, entry{`word\document.xml`, ""}, e), "a.docx", docx)
		})
	}
	commented := `<Types><!-- <Override ContentType="` + wordMain + `"/> --><Override ContentType="application/vnd.ms-word.document.macroEnabled.main+xml"/></Types>`
	refused(t, zipOf(t, entry{"[Content_Types].xml", commented}), "a.docx", "a Word document with macros")
}

func TestZIP64IsRead(t *testing.T) {
	// Some writers put every number of the main part's entry into the ZIP64 extra field.
	content := zipOf(t, contentTypes(wordMain))
	at := bytes.Index(content, []byte("PK\x01\x02"))
	le := binary.LittleEndian
	size, compressed := le.Uint32(content[at+24:]), le.Uint32(content[at+20:])
	extra := le.AppendUint16(nil, 1)
	extra = le.AppendUint16(extra, 24)
	extra = le.AppendUint64(extra, uint64(size))
	extra = le.AppendUint64(extra, uint64(compressed))
	extra = le.AppendUint64(extra, 0)
	header := bytes.Clone(content[at : at+46])
	le.PutUint32(header[20:], 0xFFFFFFFF)
	le.PutUint32(header[24:], 0xFFFFFFFF)
	le.PutUint16(header[30:], uint16(len(extra)))
	le.PutUint32(header[42:], 0xFFFFFFFF)
	name := "[Content_Types].xml"
	directory := append(append(header, name...), extra...)

	file := append(bytes.Clone(content[:at]), directory...)
	end64 := make([]byte, 56)
	copy(end64, "PK\x06\x06")
	le.PutUint64(end64[32:], 1)
	le.PutUint64(end64[40:], uint64(len(directory)))
	le.PutUint64(end64[48:], uint64(at))
	locator := make([]byte, 20)
	copy(locator, "PK\x06\x07")
	le.PutUint64(locator[8:], uint64(len(file)))
	file = append(append(file, end64...), locator...)
	file = append(file, "PK\x05\x06\x00\x00\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x00\x00"...)
	taken(t, file, "a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document")
}

// ASVS 5.2.2
func TestTruncatedFilesAreRefused(t *testing.T) {
	archive := zipOf(t, contentTypes(wordMain), entry{"word/document.xml", strings.Repeat("text ", 1000)})
	for cut := 5; cut < len(archive); cut += 7 {
		refused(t, archive[:cut], "a.docx", "")
	}
	hidden := bytes.Clone(archive)
	hidden[len(hidden)-22+10]-- // one entry fewer than there are
	refused(t, hidden, "a.docx", "its directory")
	refused(t, []byte("PAR1"+strings.Repeat("\x00", 20)+"\xFF\xFF\x00\x00PAR1"), "a.parquet", "its footer")
	refused(t, []byte("PAR1\x00\x00PAR1"), "a.parquet", "its footer")
	taken(t, []byte("PARE"+strings.Repeat("\x00", 20)+"\x04\x00\x00\x00PARE"), "a.parquet", "application/vnd.apache.parquet")
}

// TestOLEIsReadWhereverItsDirectoryIs includes documents inside a document, which do not determine its type.
func TestOLEIsReadWhereverItsDirectoryIs(t *testing.T) {
	embedded := oleOf("", "WordDocument", "ObjectPool", "Workbook")
	le := binary.LittleEndian
	le.PutUint32(embedded[1024+2*128+72:], noSibling)
	le.PutUint32(embedded[1024+2*128+76:], 3) // the workbook is below ObjectPool
	taken(t, embedded, "a.doc", "application/msword")

	var many []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("__substg1.0_%08X", i))
	}
	many = append(many[:400], "__properties_version1.0")
	taken(t, oleOf("", many...), "a.msg", "application/vnd.ms-outlook")
}

const noSibling = 0xFFFFFFFF

func TestNoiseIsHardlyEverTakenForSomething(t *testing.T) {
	policy := newPolicy(t)
	random := rand.NewChaCha8([32]byte{7})
	taken := 0
	for range 300 {
		b := make([]byte, 10_000)
		_, _ = random.Read(b)
		if _, err := policy.Decide(bytes.NewReader(b), int64(len(b)), "a.bin"); err == nil {
			taken++
		}
	}
	if taken > 3 {
		t.Errorf("%d of 300 files of noise are taken", taken)
	}
}

// zipOfCopies makes an archive of an entry, and n that have the same content.
func zipOfCopies(t testing.TB, first entry, name string, content []byte, n int) []byte {
	t.Helper()
	var b, deflated bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(first.name)
	if err == nil {
		_, err = io.WriteString(f, first.content)
	}
	d, badLevel := flate.NewWriter(&deflated, flate.BestSpeed)
	if err := errors.Join(err, badLevel); err != nil {
		t.Fatal(err)
	}
	_, _ = d.Write(content)
	_ = d.Close()
	for i := range n {
		header := &zip.FileHeader{Name: fmt.Sprintf(name, i), Method: zip.Deflate, CompressedSize64: uint64(deflated.Len()), UncompressedSize64: uint64(len(content))}
		f, err := w.CreateRaw(header)
		if err == nil {
			_, err = f.Write(deflated.Bytes())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipOfMany makes an archive of n empty entries.
func zipOfMany(t testing.TB, n int, prefix ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		if _, err := w.CreateRaw(&zip.FileHeader{Name: fmt.Sprint(strings.Join(prefix, ""), i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zipThatInflates makes an archive whose mimetype entry claims to be n bytes long.
func zipThatInflates(t testing.TB, n uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.CreateRaw(&zip.FileHeader{Name: "mimetype", Method: zip.Deflate, CompressedSize64: 10, UncompressedSize64: n})
	if err == nil {
		_, err = f.Write(make([]byte, 10))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func oleThat(change func([]byte)) []byte {
	b := oleOf("", "WordDocument", "1Table", "Data", "CompObj")
	change(b)
	return b
}

func hugePNG(t testing.TB) []byte {
	b := pngOf(t)
	binary.BigEndian.PutUint32(b[16:], 100_000)
	binary.BigEndian.PutUint32(b[20:], 100_000)
	return b
}
