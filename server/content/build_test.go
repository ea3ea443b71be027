package content

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"image"
	"image/png"
	"io"
	"testing"
	"unicode/utf16"
)

// entry is a file to put into a ZIP archive.
type entry struct{ name, content string }

func zipOf(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		f, err := w.Create(e.name)
		if err == nil {
			_, err = io.WriteString(f, e.content)
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

const (
	wordMain   = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
	excelMain  = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
	slidesMain = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
)

// contentTypes is the entry that says which parts an OOXML document has.
func contentTypes(partTypes ...string) entry {
	xml := `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">`
	for _, partType := range partTypes {
		xml += `<Override PartName="/part.xml" ContentType="` + partType + `"/>`
	}
	return entry{"[Content_Types].xml", xml + "</Types>"}
}

func pngOf(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, 3, 3))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// oleOf makes a compound file with empty streams of these names below its root.
func oleOf(class string, names ...string) []byte {
	const sector, free, end = 512, 0xFFFFFFFF, 0xFFFFFFFE
	le := binary.LittleEndian
	file := make([]byte, sector)
	copy(file, oleMagic)
	le.PutUint16(file[30:], 9)
	le.PutUint32(file[44:], 1)
	le.PutUint32(file[48:], 1)
	le.PutUint32(file[68:], end)
	for i := range 109 {
		le.PutUint32(file[76+4*i:], free)
	}
	le.PutUint32(file[76:], 0)

	dirSectors := (len(names) + 1 + 3) / 4
	table := bytes.Repeat([]byte{0xFF}, sector)
	le.PutUint32(table, 0xFFFFFFFD)
	for i := range dirSectors {
		le.PutUint32(table[4*(i+1):], uint32(i+2))
	}
	le.PutUint32(table[4*dirSectors:], end)
	file = append(file, table...)

	directory := make([]byte, dirSectors*sector)
	for i, name := range append([]string{"Root Entry"}, names...) {
		e := directory[i*oleEntryLen:]
		for j, u := range utf16.Encode([]rune(name)) {
			le.PutUint16(e[2*j:], u)
		}
		le.PutUint32(e[68:], free)
		le.PutUint32(e[72:], free)
		le.PutUint32(e[76:], free)
		if i > 0 && i < len(names) {
			le.PutUint32(e[72:], uint32(i+1))
		}
	}
	if len(names) > 0 {
		le.PutUint32(directory[76:], 1)
	}
	copy(directory[80:], class)
	return append(file, directory...)
}

func utf16Of(s string, order binary.AppendByteOrder, mark bool) []byte {
	if mark {
		s = "\uFEFF" + s
	}
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}
