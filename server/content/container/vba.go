package container

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

const (
	maxVBA     = 256 << 10 // bytes that are looked at of a VBA project in an OOXML document; an empty one is smaller
	maxGlobals = 256 << 10 // bytes that are looked at of a workbook for the list of its sheets
)

// HasMacros reports whether there is code in a document of Office, whose names are those below its root.
func (f *OLE) HasMacros(names map[string]uint32) bool {
	for _, project := range []string{"macros", "_vba_project_cur"} {
		if id, ok := names[project]; ok && f.hasCode(id) {
			return true
		}
	}
	for _, stream := range []string{"workbook", "book"} {
		if id, ok := names[stream]; ok && hasMacroSheet(f.streamStart(id, maxGlobals)) {
			return true
		}
	}
	_, slides := names["powerpoint document"]
	return slides && saysMacros(f.src)
}

// hasCode reports whether a VBA project (MS-OVBA, section 2.2) holds code, as source or compiled. Office makes an empty
// module for each sheet and document as soon as somebody opens its editor, which runs nothing. Whatever cannot be read
// counts as code.
func (f *OLE) hasCode(project uint32) bool {
	storage, ok := f.Children(project)["vba"]
	if !ok {
		return true
	}
	streams := f.Children(storage)
	directory, ok := streams["dir"]
	if !ok {
		return true
	}
	raw, ok := f.stream(directory)
	if !ok {
		return true
	}
	modules, ok := vbaModules(decompressVBA(raw))
	if !ok {
		return true
	}
	for name := range streams {
		if strings.HasPrefix(name, "__srp_") { // compiled for the processor, which needs something to compile
			return true
		}
	}
	for _, m := range modules {
		id, ok := streams[m.stream]
		if !ok {
			return true
		}
		content, ok := f.stream(id)
		if !ok || m.offset > int64(len(content)) || moduleHasCode(content[:m.offset], decompressVBA(content[m.offset:])) {
			return true
		}
	}
	return false
}

// ProjectHasCode reports whether there is code in the VBA project that is a part of an OOXML document: a compound file. One
// that cannot be read, or is larger than an empty one, has.
func ProjectHasCode(src *Source, e *ZIPEntry) bool {
	r, err := e.Open(src, maxVBA+1)
	if err != nil {
		return true
	}
	project, err := io.ReadAll(r)
	if err != nil || len(project) > maxVBA {
		return true
	}
	f := OpenOLE(&Source{Reader: bytes.NewReader(project), Size: int64(len(project))})
	return f == nil || f.hasCode(0)
}

// vbaModule is where the source of a module is.
type vbaModule struct {
	stream string // its name, in lower case
	offset int64  // of the compressed source in the stream; before it stands what was compiled
}

// vbaModules reads the records of the dir stream (MS-OVBA, section 2.3.4.2) as far as they say where modules are. It is
// not ok where they end in the middle of one.
func vbaModules(records []byte) (modules []vbaModule, ok bool) {
	const version, streamName, moduleOffset = 0x09, 0x32, 0x31
	le := binary.LittleEndian
	var name string
	for len(records) >= 6 {
		id, size := le.Uint16(records), int64(le.Uint32(records[2:]))
		if id == version {
			size = 6 // whatever it says
		}
		if size > int64(len(records)-6) {
			return nil, false
		}
		data := records[6 : 6+size]
		records = records[6+size:]
		switch {
		case id == streamName:
			name = strings.ToLower(decodeUTF16LE(data))
		case id == moduleOffset && size == 4:
			modules = append(modules, vbaModule{name, int64(le.Uint32(data))})
		}
	}
	return modules, len(modules) > 0
}

func decodeUTF16LE(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// moduleHasCode looks for a line of source that does more than say what the module is, and for compiled lines that do:
// code runs without its source, too.
func moduleHasCode(compiled, source []byte) bool {
	return linesDoMore(string(source)) || len(source) == 0 || len(compiled) > 0 && compiledCode(compiled)
}

// linesDoMore recognizes a source in Basic that has lines other than remarks and those that say what the module is.
func linesDoMore(source string) bool {
	for line := range strings.Lines(source) {
		words := strings.ToLower(strings.TrimSpace(line))
		harmless := words == "" || words[0] == '\'' || words == "rem" || strings.HasPrefix(words, "rem ") || strings.HasPrefix(words, "attribute ") ||
			strings.HasPrefix(words, "option ") && !strings.Contains(words, ":")
		if !harmless {
			return true
		}
	}
	return false
}

// compiledCode reports whether there is more in a module's compiled part than lines of an instruction and an argument, which
// is what "Option Explicit" becomes, and less than it takes to call something. The lines stand in a table behind a magic,
// a version and their number. The format is Microsoft's own; this much of it is known from tools that read it.
func compiledCode(compiled []byte) bool {
	const row, lengthAt, harmless = 12, 4, 4 // bytes
	tables := bytes.Split(compiled, []byte("\xFE\xCA"))[1:]
	for _, table := range tables {
		if len(table) < 4 || table[0] != 1 || table[1] != 0 {
			return true
		}
		lines, rows := int(binary.LittleEndian.Uint16(table[2:])), table[4:]
		if lines*row > len(rows) {
			return true
		}
		for i := range lines {
			if binary.LittleEndian.Uint16(rows[i*row+lengthAt:]) > harmless {
				return true
			}
		}
	}
	return len(tables) == 0
}

// decompressVBA is the inverse of the compression of MS-OVBA, section 2.4.1, as far as b and maxVBA go.
func decompressVBA(b []byte) []byte {
	const chunkLen = 4096 // bytes, decompressed
	if len(b) == 0 || b[0] != 1 {
		return nil
	}
	var out []byte
	for b = b[1:]; len(b) >= 2 && len(out) < maxVBA; {
		header := binary.LittleEndian.Uint16(b)
		n := min(int(header&0xFFF)+3, len(b))
		chunk, start := b[2:n], len(out)
		b = b[n:]
		if header&0x8000 == 0 {
			out = append(out, chunk...)
			continue
		}
		for len(chunk) > 0 && len(out)-start <= chunkLen {
			out, chunk = decompressTokens(out, start, chunk)
		}
	}
	return out
}

// decompressTokens takes a flag byte and its eight tokens, each a byte or a copy of what stands earlier in the chunk
// that begins at start (MS-OVBA, section 2.4.1.3.19).
func decompressTokens(out []byte, start int, chunk []byte) (all, rest []byte) {
	flags := chunk[0]
	chunk = chunk[1:]
	for bit := 0; bit < 8 && len(chunk) > 0; bit++ {
		if flags>>bit&1 == 0 {
			out, chunk = append(out, chunk[0]), chunk[1:]
			continue
		}
		if len(chunk) < 2 {
			return out, nil
		}
		lengthBits := 12
		for span := 16; span < len(out)-start; span *= 2 {
			lengthBits--
		}
		token := int(binary.LittleEndian.Uint16(chunk))
		chunk = chunk[2:]
		from := len(out) - token>>lengthBits - 1
		if from < start || lengthBits < 4 {
			return out, nil
		}
		for range token&(1<<lengthBits-1) + 3 {
			out = append(out, out[from])
			from++
		}
	}
	return out, chunk
}

// hasMacroSheet reports whether a workbook's records speak of a sheet of Excel 4 macros or, in Excel 5, of a module of
// Visual Basic (MS-XLS, section 2.4.28).
func hasMacroSheet(records []byte) bool {
	const boundSheet, macroSheet, module = 0x85, 1, 6
	const password = 0x2F // what follows cannot be read
	le := binary.LittleEndian
	for len(records) >= 4 {
		id, size := le.Uint16(records), int(le.Uint16(records[2:]))
		if size > len(records)-4 || id == password {
			return false
		}
		if id == boundSheet && size >= 6 && (records[4+5] == macroSheet || records[4+5] == module) {
			return true
		}
		records = records[4+size:]
	}
	return false
}

// saysMacros looks for the record of a presentation that says whether there are macros (MS-PPT, VbaInfoAtom). It can
// stand anywhere, so the whole file is looked at.
func saysMacros(src *Source) bool {
	const header, hasMacros = "\x02\x00\x00\x04\x0C\x00\x00\x00", 4 // after it, a reference
	return src.Find(func(window []byte) bool {
		for {
			_, atom, ok := bytes.Cut(window, []byte(header))
			if !ok {
				return false
			}
			if len(atom) >= hasMacros+4 && uint32At(atom, hasMacros) == 1 {
				return true
			}
			window = atom
		}
	})
}

// MacrosInXML reports whether an Office document in one XML file (Word 2003, Flat OPC) carries macros, in base64 in a part
// or element with one of these names.
func MacrosInXML(src *Source) bool {
	return src.Find(func(window []byte) bool {
		for _, mark := range []string{"editdata.mso", "/vbaProject.bin", `macrosPresent="yes"`, `macrosPresent='yes'`} {
			if bytes.Contains(window, []byte(mark)) {
				return true
			}
		}
		return false
	})
}
