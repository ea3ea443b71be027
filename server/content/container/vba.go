package container

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"unicode/utf16"
)

const (
	maxVBA     = 256 << 10 // bytes read of a VBA project in an OOXML document; an empty one is smaller
	maxGlobals = 256 << 10 // bytes read of a workbook for its list of sheets
)

// HasMacros reports whether an Office document contains code; names are the entries below its root.
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

// hasCode reports whether a VBA project (MS-OVBA, section 2.2) contains code, as source or compiled. Office creates an
// empty module, which does nothing, for each sheet and document when its editor is opened. What cannot be read counts
// as code.
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
		if strings.HasPrefix(name, "__srp_") { // compiled for the processor, so there is code
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

// ProjectHasCode reports whether the VBA project in a part of an OOXML document, which is a compound file, contains
// code. One that cannot be read, or is larger than an empty one, counts as code.
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

// vbaModule is the location of a module's source.
type vbaModule struct {
	stream string // its name, in lower case
	offset int64  // of the compressed source in the stream; the compiled code is before it
}

// vbaModules parses the records of the dir stream (MS-OVBA, section 2.3.4.2) for the locations of modules. ok is false
// if the last record is incomplete.
func vbaModules(records []byte) (modules []vbaModule, ok bool) {
	const version, streamName, moduleOffset = 0x09, 0x32, 0x31
	le := binary.LittleEndian
	var name string
	for len(records) >= 6 {
		id, size := le.Uint16(records), int64(le.Uint32(records[2:]))
		if id == version {
			size = 6 // whatever size the record claims
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

// moduleHasCode reports whether a line of source, or a compiled line, does more than describe the module: compiled code
// runs without its source, too.
func moduleHasCode(compiled, source []byte) bool {
	return linesDoMore(string(source)) || len(source) == 0 || len(compiled) > 0 && compiledCode(compiled)
}

// linesDoMore reports whether a Basic source has lines other than comments and descriptions of the module.
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

// compiledCode reports whether a module's compiled part contains more than lines of one instruction and an argument,
// which "Option Explicit" is compiled to, and which are too short to call anything. The lines are in a table after a
// magic number, a version and their count. The format is Microsoft's own; this much is known from tools that read it.
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

// decompressVBA decompresses b (MS-OVBA, section 2.4.1) up to its end or to maxVBA bytes.
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

// decompressTokens decodes a flag byte and its eight tokens, each of which is a byte or a copy from earlier in the
// chunk that begins at start (MS-OVBA, section 2.4.1.3.19).
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

// hasMacroSheet reports whether a workbook's records list a sheet of Excel 4 macros or, in Excel 5, a Visual Basic
// module (MS-XLS, section 2.4.28).
func hasMacroSheet(records []byte) bool {
	const boundSheet, macroSheet, module = 0x85, 1, 6
	const password = 0x2F // the records after it are encrypted
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

// saysMacros searches a presentation for the record that says whether there are macros (MS-PPT, VbaInfoAtom). It can be
// anywhere, so the whole file is searched.
func saysMacros(src *Source) bool {
	const header, hasMacros = "\x02\x00\x00\x04\x0C\x00\x00\x00", 4 // followed by a reference
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

// MacrosInXML reports whether an Office document in one XML file (Word 2003, Flat OPC) contains macros, in base64 in a
// part or element with one of these names.
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
