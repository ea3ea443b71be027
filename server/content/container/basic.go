package container

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
)

const (
	maxBasic   = 1 << 20 // bytes, inflated, of all Basic modules in an OpenDocument file; more counts as code
	maxModules = 128     // Basic modules; more counts as code
)

// IsBasicModule reports whether a name is that of a Basic module in an OpenDocument file, rather than of a list of
// modules.
func IsBasicModule(name string) bool {
	return strings.HasPrefix(name, "basic/") && strings.HasSuffix(name, ".xml") &&
		!strings.HasSuffix(name, "/script-lb.xml") && !strings.HasSuffix(name, "/script-lc.xml") &&
		!strings.HasSuffix(name, "/dialog-lb.xml") && !strings.HasSuffix(name, "/dialog-lc.xml")
}

// BasicHasCode reports whether a Basic module in an OpenDocument file does anything. A module that cannot be read does.
func BasicHasCode(src *Source) bool {
	code, modules, left := false, 0, int64(maxBasic)
	_ = WalkZIP(src, func(e *ZIPEntry) { // its error was reported by an earlier walk
		if code || !IsBasicModule(e.Name) {
			return
		}
		modules++
		r, err := e.Open(src, left)
		if err != nil || modules > maxModules {
			code = true
			return
		}
		module, err := io.ReadAll(r)
		left -= int64(len(module))
		code = err != nil || left <= 0 || linesDoMore(textInXML(module))
	})
	return code
}

// textInXML returns the text between the tags of XML; from the first syntax error on, the rest is included unchanged.
func textInXML(content []byte) string {
	var text strings.Builder
	for d := RawXML(bytes.NewReader(content)); ; {
		token, err := d.RawToken()
		switch token := token.(type) {
		case xml.CharData:
			text.Write(token)
		case nil:
			if err != io.EOF {
				text.Write(content[min(d.InputOffset(), int64(len(content))):])
			}
			return text.String()
		}
	}
}

// RawXML returns a decoder for raw tokens of XML, whatever encoding its declaration names.
func RawXML(r io.Reader) *xml.Decoder {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	return d
}

// BasicInXML reports whether an OpenDocument file that is one XML file contains a Basic module.
func BasicInXML(src *Source) bool {
	return src.Find(func(window []byte) bool { return bytes.Contains(window, []byte(":source-code")) })
}
