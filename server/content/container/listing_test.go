package container

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// directoryEntry returns a file header of the central directory without extra fields.
func directoryEntry(name string, flags uint16, size uint32) []byte {
	b := append([]byte("PK\x01\x02"), make([]byte, 42)...)
	binary.LittleEndian.PutUint16(b[8:], flags)
	binary.LittleEndian.PutUint32(b[20:], size)
	binary.LittleEndian.PutUint32(b[24:], size)
	binary.LittleEndian.PutUint16(b[28:], uint16(len(name)))
	return append(b, name...)
}

// archiveWith ends a directory with a record that claims the given number of entries.
func archiveWith(directory []byte, claimed uint16) []byte {
	end := append([]byte("PK\x05\x06"), make([]byte, 18)...)
	binary.LittleEndian.PutUint16(end[8:], claimed)
	binary.LittleEndian.PutUint16(end[10:], claimed)
	binary.LittleEndian.PutUint32(end[12:], uint32(len(directory)))
	return append(directory, end...)
}

func list(content []byte) (Listing, error) {
	return ListZIP(context.Background(), bytes.NewReader(content), int64(len(content)), 1000)
}

func TestNamesInAnArchiveAreForPeople(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"../../etc/passwd":            "../../etc/passwd",
		`C:\Windows\x`:                `C:\Windows\x`,
		"a\x00b\x1b[31m\u202ecod.exe": "ab[31mcod.exe",
		"caf\x82":                     "café", // code page 437
		"café":                        "café",
		strings.Repeat("é", 1000):     strings.Repeat("é", 512) + "…",
		"<script>alert(1)</script>":   "<script>alert(1)</script>",
		"":                            "",
	} {
		listing, err := list(archiveWith(directoryEntry(name, 0, 7), 1))
		if err != nil || len(listing.Entries) != 1 || listing.Entries[0].Name != want || listing.Entries[0].Size != 7 {
			t.Errorf("%q is %+v, %v", name, listing, err)
		}
	}
	// A name that is marked as UTF-8 and is not.
	listing, err := list(archiveWith(directoryEntry("a\xff", zipUTF8, 0), 1))
	if err != nil || listing.Entries[0].Name != "a\uFFFD" {
		t.Errorf("it is %+v, %v", listing, err)
	}
}

func TestEntriesOverlapAsTheyLike(t *testing.T) {
	t.Parallel()
	var directory []byte
	for range 500 {
		directory = append(directory, directoryEntry("the same", 0, 0xFFFFFFF0)...) // all at offset 0
	}
	listing, err := list(archiveWith(directory, 500))
	if err != nil || len(listing.Entries) != 500 || listing.Total != 500 || listing.Entries[499].Size != 0xFFFFFFF0 {
		t.Errorf("%d of %d entries: %v", len(listing.Entries), listing.Total, err)
	}
}

func TestAMillionEntriesAreListedInPart(t *testing.T) {
	t.Parallel()
	const million = 1_000_000
	directory := bytes.Repeat(directoryEntry("abcdef", 0, 0), million)
	size := uint64(len(directory))
	le := binary.LittleEndian
	// The count requires the end record of ZIP64.
	end := append([]byte("PK\x06\x06"), make([]byte, 52)...)
	le.PutUint64(end[32:], million)
	le.PutUint64(end[40:], size)
	end = append(end, "PK\x06\x07\x00\x00\x00\x00"...)
	end = append(le.AppendUint64(end, size), 1, 0, 0, 0)
	end = archiveWith(end, 0xFFFF)
	read := &counting{ReaderAt: bytes.NewReader(append(directory, end...))}
	listing, err := ListZIP(context.Background(), read, int64(size)+int64(len(end)), 1000)
	if err != nil || len(listing.Entries) != 1000 || listing.Total != million {
		t.Errorf("%d of %d entries: %v", len(listing.Entries), listing.Total, err)
	}
	if read.bytes > 256<<10 {
		t.Errorf("%d bytes were read", read.bytes)
	}
}

// counting is a reader that counts the bytes read.
type counting struct {
	io.ReaderAt
	bytes int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.bytes += n
	return n, err
}

func TestACountThatCannotBeTrueIsNotBelieved(t *testing.T) {
	t.Parallel()
	listing, err := list(archiveWith(directoryEntry("a", 0, 0), 60_000))
	if err != nil || len(listing.Entries) != 1 || listing.Total != 1 {
		t.Errorf("it is %+v, %v", listing, err)
	}
	directory := bytes.Repeat(directoryEntry("a", 0, 0), 1500)
	listing, err = list(archiveWith(directory, 0xFFFE))
	if err != nil || len(listing.Entries) != 1000 || listing.Total > int64(len(directory))/46 {
		t.Errorf("%d of %d entries: %v", len(listing.Entries), listing.Total, err)
	}
}

func TestWhenAnEntryWasChanged(t *testing.T) {
	t.Parallel()
	dos := directoryEntry("a", 0, 0)
	binary.LittleEndian.PutUint16(dos[12:], 3<<11|4<<5|5)
	binary.LittleEndian.PutUint16(dos[14:], 46<<9|1<<5|2)
	unix := directoryEntry("a", 0, 0)
	binary.LittleEndian.PutUint16(unix[30:], 9)
	unix = binary.LittleEndian.AppendUint32(append(unix, 0x55, 0x54, 5, 0, 1), 1_000_000_000)
	for _, c := range []struct {
		name  string
		entry []byte
		want  time.Time
	}{
		{"as MS-DOS says", dos, time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC)},
		{"as Info-ZIP says", unix, time.Unix(1_000_000_000, 0).UTC()},
		{"nothing", directoryEntry("a", 0, 0), time.Time{}},
	} {
		listing, err := list(archiveWith(c.entry, 1))
		if err != nil || !listing.Entries[0].Modified.Equal(c.want) {
			t.Errorf("%s: %+v, %v", c.name, listing, err)
		}
	}
}

func TestABrokenDirectoryIsNotListed(t *testing.T) {
	t.Parallel()
	whole := archiveWith(directoryEntry("abc", 0, 0), 1)
	broken := bytes.Clone(whole)
	broken[0] = 'X'
	for name, content := range map[string][]byte{"nothing": nil, "cut": whole[:len(whole)-1], "no header": broken} {
		if _, err := list(content); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone, leave := context.WithCancel(context.Background())
	leave()
	if _, err := ListZIP(gone, bytes.NewReader(whole), int64(len(whole)), 1000); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
}

// For any bytes, there is a list that can be displayed, or none.
func FuzzListZIP(f *testing.F) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for _, name := range []string{"a.txt", "b/"} {
		if _, err := w.Create(name); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(archive.Bytes())
	f.Add(archiveWith(directoryEntry("../\xff", zipUTF8, 1), 3))
	f.Add(archiveWith(nil, 0))
	f.Fuzz(func(t *testing.T, content []byte) {
		listing, err := ListZIP(context.Background(), bytes.NewReader(content), int64(len(content)), 10)
		if err != nil {
			if !errors.Is(err, ErrBroken) {
				t.Fatal(err)
			}
			return
		}
		if len(listing.Entries) > 10 || listing.Total < int64(len(listing.Entries)) || listing.Total > int64(len(content)) {
			t.Fatalf("%d of %d entries", len(listing.Entries), listing.Total)
		}
		for _, e := range listing.Entries {
			if !utf8.ValidString(e.Name) || len(e.Name) > maxListedName+len("…") || e.Size < 0 || e.Compressed < 0 {
				t.Fatalf("%+v", e)
			}
		}
	})
}

// withExtra gives the last entry of a directory an extra field.
func withExtra(entry []byte, id uint16, data []byte) []byte {
	binary.LittleEndian.PutUint16(entry[30:], uint16(4+len(data)))
	entry = binary.LittleEndian.AppendUint16(entry, id)
	entry = binary.LittleEndian.AppendUint16(entry, uint16(len(data)))
	return append(entry, data...)
}

func TestNamesInAnArchiveAreInTheirEncoding(t *testing.T) {
	t.Parallel()
	unicodePath := func(of, name string) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte{1}, crc32.ChecksumIEEE([]byte(of))), name...)
	}
	for _, c := range []struct {
		name, raw string
		extra     []byte
		want      string
	}{
		{"its Unicode path", "caf_", unicodePath("caf_", "кафе"), "кафе"},
		{"the Unicode path of another name", "caf_", unicodePath("cafe", "кафе"), "caf_"},
		{"a Unicode path that is none", "caf_", unicodePath("caf_", "\xff"), "caf_"},
		{"a Unicode path cut short", "caf_", []byte{1, 2}, "caf_"},
		{"Shift-JIS", "\x8c\xa9\x90\xcf\x8f\x91.pdf", nil, "見積書.pdf"},
		{"GBK", "\xd6\xd0\xb9\xfa\xd2\xc6\xb6\xaf.pdf", nil, "中国移动.pdf"},
		{"Big5", "\xa4\xa4\xb5\xd8\xb9\x71\xab\x48.pdf", nil, "中華電信.pdf"},
		{"code page 866", "\x8e\xe2\xe7\xa5\xe2 \xa8 \xaf\xab\xa0\xad.xlsx", nil, "Отчет и план.xlsx"},
		{"code page 866, with a rare letter", "\x8e\xe2\xe7\xf1\xe2 \xa7\xa0 \xac\xa0\xe0\xe2.docx", nil, "Отчёт за март.docx"},
		{"code page 850", "Informa\x87\xc6o.pdf", nil, "Informação.pdf"},
		{"code page 852", "Um\xa2wa \x88\xa2d\xab.pdf", nil, "Umówa łódź.pdf"},
		{"code page 862", "\x83\x85\x87 \x87\x85\x83\x99\x89.docx", nil, "דוח חודשי.docx"},
		{"Windows-1252", "\xdcbersicht r\xe9sum\xe9.pdf", nil, "Übersicht résumé.pdf"},
		{"Windows-1250", "Umowa \xb3\xf3d\x9f.pdf", nil, "Umowa łódź.pdf"},
		{"code page 437", "M\x81ller K\x94nig J\x84ger.txt", nil, "Müller König Jäger.txt"},
	} {
		entry := directoryEntry(c.raw, 0, 0)
		if c.extra != nil {
			entry = withExtra(entry, 0x7075, c.extra)
		}
		listing, err := list(archiveWith(entry, 1))
		if err != nil || len(listing.Entries) != 1 || listing.Entries[0].Name != c.want {
			t.Errorf("%s: it is %+v, %v", c.name, listing, err)
		}
	}
}

func TestNamesInArchivesThatProgramsWrote(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]string{
		"winrar_unicode_path.zip": {"Übersicht März.docx", "Отчёт.xlsx", "見積書.pdf"},
		"explorer_sjis.zip":       {"見積書.pdf", "請求書/表示能力.xlsx"},
	} {
		raw, err := os.ReadFile(filepath.Join("testdata/archives", name))
		if err != nil {
			t.Fatal(err)
		}
		listing, err := list(raw)
		var names []string
		for _, e := range listing.Entries {
			names = append(names, e.Name)
		}
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: %q, %v", name, names, err)
		}
	}
}
