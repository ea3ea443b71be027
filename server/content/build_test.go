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

	"attachd/server/content/container"
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

// contentTypes is the entry that lists the types of the parts of an OOXML document.
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
	copy(file, container.OLEMagic)
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
		e := directory[i*128:]
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

// node is a storage or a stream to put into a compound file.
type node struct {
	name     string
	children []node
	content  []byte
}

// oleTree makes a compound file of storages and streams; streams shorter than cutoff are in the mini stream.
func oleTree(cutoff int, children ...node) []byte {
	const sector, end = 512, 0xFFFFFFFE
	le := binary.LittleEndian
	var data, mini []byte // the data from sector 0 on, and the mini stream
	var table, miniTable []uint32
	place := func(to *[]byte, cells *[]uint32, size int, content []byte) uint32 {
		if len(content) == 0 {
			return end
		}
		first := uint32(len(*cells))
		for n := 0; n < len(content); n += size {
			*cells = append(*cells, uint32(len(*cells)+1))
			*to = append(*to, content[n:min(n+size, len(content))]...)
			*to = append(*to, make([]byte, (size-len(*to)%size)%size)...)
		}
		(*cells)[len(*cells)-1] = end
		return first
	}

	root := node{name: "Root Entry", children: children}
	directory := [][]byte{}
	var add func(n *node) uint32
	add = func(n *node) uint32 {
		id := len(directory)
		e := make([]byte, 128)
		directory = append(directory, e)
		for i, u := range utf16.Encode([]rune(n.name)) {
			le.PutUint16(e[2*i:], u)
		}
		for _, at := range []int{68, 72, 76} {
			le.PutUint32(e[at:], 0xFFFFFFFF)
		}
		switch {
		case n.children != nil:
			for i := len(n.children) - 1; i >= 0; i-- { // each points to the one before
				child := add(&n.children[i])
				le.PutUint32(directory[child][72:], le.Uint32(e[76:]))
				le.PutUint32(e[76:], child)
			}
			return uint32(id)
		case len(n.content) < cutoff:
			le.PutUint32(e[116:], place(&mini, &miniTable, 64, n.content))
		default:
			le.PutUint32(e[116:], place(&data, &table, sector, n.content))
		}
		le.PutUint32(e[120:], uint32(len(n.content)))
		return uint32(id)
	}
	add(&root)
	cells := func(table []uint32) (raw []byte) {
		for _, cell := range table {
			raw = le.AppendUint32(raw, cell)
		}
		return raw
	}
	le.PutUint32(directory[0][116:], place(&data, &table, sector, mini))
	le.PutUint32(directory[0][120:], uint32(len(mini)))
	header := make([]byte, sector)
	copy(header, container.OLEMagic)
	le.PutUint16(header[30:], 9)
	le.PutUint32(header[56:], uint32(cutoff))
	le.PutUint32(header[60:], place(&data, &table, sector, cells(miniTable)))
	le.PutUint32(header[48:], place(&data, &table, sector, bytes.Join(directory, nil)))
	le.PutUint32(header[68:], end)
	first := uint32(len(table))
	for i := range 109 {
		le.PutUint32(header[76+4*i:], first+uint32(i))
	}
	place(&data, &table, sector, cells(table))
	return append(header, data...)
}

// vbaProject is a storage with a project of one module: its source, and its compiled part.
func vbaProject(name string, compiled []byte, source string) node {
	le := binary.LittleEndian
	record := func(id uint16, data []byte) []byte {
		return append(le.AppendUint32(le.AppendUint16(nil, id), uint32(len(data))), data...)
	}
	version := append(le.AppendUint32(le.AppendUint16(nil, 9), 4), 1, 0, 0, 0, 0, 0) // its size field is 4, but it has 6 bytes
	dir := bytes.Join([][]byte{version, record(0x1A, []byte("Module1")), record(0x32, utf16Of("Module1", le, false)),
		record(0x31, le.AppendUint32(nil, uint32(len(compiled))))}, nil)
	return node{name: name, children: []node{
		{name: "PROJECT", content: []byte("ID=")},
		{name: "VBA", children: []node{
			{name: "dir", content: compressVBA(dir)},
			{name: "_VBA_PROJECT", content: []byte("\xCC\x61")},
			{name: "Module1", content: append(bytes.Clone(compiled), compressVBA([]byte(source))...)},
		}},
	}}
}

// compressVBA writes a container of MS-OVBA without any copies, in chunks that are marked as compressed.
func compressVBA(b []byte) []byte {
	out := []byte{1}
	for len(b) > 0 {
		n := min(len(b), 3000)
		var chunk []byte
		for i := 0; i < n; i += 8 {
			chunk = append(append(chunk, 0), b[i:min(i+8, n)]...)
		}
		out = append(binary.LittleEndian.AppendUint16(out, uint16(len(chunk)-1)|0xB000), chunk...)
		b = b[n:]
	}
	return out
}
