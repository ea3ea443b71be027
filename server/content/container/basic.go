package container

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
)

const (
	maxBasic   = 1 << 20 // bytes, inflated, of all modules of Basic in an OpenDocument file; with more there is code
	maxModules = 128     // modules of Basic; with more there is code
)

// IsBasicModule reports whether a name is of a module of Basic in an OpenDocument file, and not of a list of those.
func IsBasicModule(name string) bool {
	return strings.HasPrefix(name, "basic/") && strings.HasSuffix(name, ".xml") &&
		!strings.HasSuffix(name, "/script-lb.xml") && !strings.HasSuffix(name, "/script-lc.xml") &&
		!strings.HasSuffix(name, "/dialog-lb.xml") && !strings.HasSuffix(name, "/dialog-lc.xml")
}

// BasicHasCode reports whether a module of Basic in an OpenDocument file does anything. What cannot be read does.
func BasicHasCode(src *Source) bool {
	code, modules, left := false, 0, int64(maxBasic)
	_ = WalkZIP(src, func(e *ZIPEntry) { // it was walked before
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

// textInXML is the text between the tags of XML, as far as it can be read; what follows is part of it as it is.
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

// RawXML reads XML for its raw tokens, whatever encoding it says that it is in.
func RawXML(r io.Reader) *xml.Decoder {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil }
	return d
}

// BasicInXML reports whether an OpenDocument file that is one XML file carries a module of Basic.
func BasicInXML(src *Source) bool {
	return src.Find(func(window []byte) bool { return bytes.Contains(window, []byte(":source-code")) })
}
