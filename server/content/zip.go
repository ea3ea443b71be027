package content

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"io"
	"path"
	"strings"

	"attachd/server/content/charset"
	"attachd/server/content/container"
)

// How much is read of the parts that identify a document.
const (
	maxContentTypes  = 512 << 10 // bytes, inflated
	maxMimetypeEntry = 128       // bytes, inflated
	maxManifest      = 256 << 10 // bytes, inflated, of that of an OpenDocument file
	maxProjects      = 8         // VBA projects in an OOXML document, which has one; more counts as code
)

// zipContents records which entries of a central directory identify the kind of the archive.
type zipContents struct {
	contentTypes, mimetype *container.ZIPEntry
	openDocument           *container.ZIPEntry // the manifest of an OpenDocument file
	manifest, class        bool
	android, windowsApp    bool
	iOS, visualStudio      bool
	code                   bool // in an OpenDocument file, in a language other than Basic
	basic                  bool // there are Basic modules
}

// zipKind returns the kind of a ZIP archive by its entries: it reads the directory, and of the contents
// [Content_Types].xml or mimetype, which declare the kind, and the parts that may contain code.
func zipKind(src *container.Source) finding {
	in, err := readZIP(src)
	switch {
	case err == container.ErrHuge:
		return finding{kind: kindZIP}
	case err != nil:
		return finding{kindZIP, "its directory, which comes last, is missing or damaged, so part of the file may be"}
	case in.android:
		return finding{kind: kindAPK}
	case in.windowsApp:
		return finding{kind: kindMSIX}
	case in.iOS:
		return finding{kind: kindIPA}
	case in.visualStudio:
		return finding{kind: kindVSIX}
	case in.manifest && in.class:
		return finding{kind: kindJAR}
	}
	k := officeKind(src, in)
	if k == nil {
		k = declaredKind(src, in)
	}
	if k == nil {
		k = kindZIP
	}
	return finding{kind: k}
}

// officeKind finds the main part among the existing parts, by their types in [Content_Types].xml (ECMA-376 part 2,
// section 7.2.3), and code among the others. A type that no part has is ignored.
func officeKind(src *container.Source, in zipContents) *kind {
	if in.contentTypes == nil {
		return nil
	}
	r, err := in.contentTypes.Open(src, maxContentTypes)
	if err != nil {
		return nil
	}
	types := readPartTypes(r)
	var main *kind
	code, projects := false, 0
	_ = container.WalkZIP(src, func(e *container.ZIPEntry) { // its error was reported by an earlier walk
		partType := types.of(e.Name)
		k := mainPartKind(partType)
		switch {
		case k != nil && (main == nil || k.is(macros)):
			main = k
		case isMacroSheet(partType):
			code = true
		case isVBAProject(partType), path.Base(e.Name) == "vbaproject.bin":
			projects++
			code = code || projects > maxProjects || container.ProjectHasCode(src, e)
		}
	})
	if main == nil {
		main = types.main
	}
	if main != nil && code {
		return main.withMacros()
	}
	return main
}

func isMacroSheet(partType string) bool {
	return strings.HasSuffix(strings.TrimSuffix(partType, "+xml"), "macrosheet")
}

func isVBAProject(partType string) bool { return strings.HasSuffix(partType, "vbaproject") }

// partTypes are the types of an OOXML document's parts, as far as they identify its kind: of single parts by name, and
// of the others by extension.
type partTypes struct {
	overrides, defaults map[string]string
	main                *kind // the kind by the first part that is declared as the main one, even if the part is missing
}

func (t *partTypes) of(name string) string {
	if override, ok := t.overrides[name]; ok {
		return override
	}
	return t.defaults[extension(name)]
}

// override stores a part's type if it identifies the kind, or if it replaces that of the extension.
func (t *partTypes) override(name, partType string) {
	k := mainPartKind(partType)
	if t.main == nil {
		t.main = k
	}
	if k != nil || isVBAProject(partType) || isMacroSheet(partType) || t.defaults[extension(name)] != "" {
		t.overrides[name] = partType
	}
}

func extension(name string) string { return strings.TrimPrefix(path.Ext(name), ".") }

// readPartTypes parses [Content_Types].xml up to its end or the first error.
func readPartTypes(r io.Reader) partTypes {
	types := partTypes{overrides: map[string]string{}, defaults: map[string]string{}}
	buffered := bufio.NewReader(r)
	if mark, _ := buffered.Peek(2); charset.UTF16Order(mark) != nil {
		raw, _ := io.ReadAll(buffered)
		buffered = bufio.NewReader(bytes.NewReader(charset.Read(raw, true).Body))
	}
	for d := container.RawXML(buffered); ; {
		token, err := d.RawToken()
		if err != nil {
			return types
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch element.Name.Local {
		case "Override":
			attr := attributes(element)
			types.override(strings.TrimPrefix(attr["PartName"], "/"), attr["ContentType"])
		case "Default":
			attr := attributes(element)
			if partType := attr["ContentType"]; mainPartKind(partType) != nil || isVBAProject(partType) || isMacroSheet(partType) {
				types.defaults[attr["Extension"]] = partType
			}
		}
	}
}

// mainPartKind returns the kind of document whose main part has the type partType, or nil: it is the document's type
// and ".main+xml", except for the ".12" of macro-enabled types, and the word that is repeated in that of Word
// templates.
func mainPartKind(partType string) *kind {
	document, ok := strings.CutSuffix(strings.TrimSuffix(partType, "+xml"), ".main")
	if !ok {
		return nil
	}
	document = strings.Replace(document, "macroenabledtemplate", "macroenabled", 1)
	if k := byMIME[document]; k != nil {
		return k
	}
	return byMIME[document+".12"]
}

// declaredKind returns the kind that the entry "mimetype" declares: in OpenDocument (part 2, section 3.3) and EPUB
// (OCF, section 4.3) it is first, but in a repacked document it may not be.
func declaredKind(src *container.Source, in zipContents) *kind {
	var declared string
	switch {
	case in.mimetype != nil:
		r, err := in.mimetype.Open(src, maxMimetypeEntry)
		if err != nil {
			return nil
		}
		raw, _ := io.ReadAll(r)
		declared = string(raw)
	case in.openDocument != nil:
		declared = typeInManifest(src, in.openDocument)
	}
	k := byMIME[strings.ToLower(strings.TrimSpace(declared))]
	switch {
	case k == nil || !k.is(zipped):
		return nil
	case k.family == kindODT.family && (in.code || in.basic && container.BasicHasCode(src)):
		return k.withMacros()
	}
	return k
}

// typeInManifest returns the type that the manifest of an OpenDocument file has for the whole file (part 2, section
// 4.3), which is the only declaration if "mimetype" was lost.
func typeInManifest(src *container.Source, manifest *container.ZIPEntry) string {
	r, err := manifest.Open(src, maxManifest)
	if err != nil {
		return ""
	}
	for d := container.RawXML(r); ; {
		token, err := d.RawToken()
		if err != nil {
			return ""
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "file-entry" {
			if attr := attributes(element); attr["full-path"] == "/" {
				return attr["media-type"]
			}
		}
	}
}

// attributes returns the attributes of an element by their names without a prefix, with their values in lower case.
func attributes(element xml.StartElement) map[string]string {
	attr := map[string]string{}
	for _, a := range element.Attr {
		attr[a.Name.Local] = strings.ToLower(a.Value)
	}
	return attr
}

// readZIP records the entries that identify the kind of the archive.
func readZIP(src *container.Source) (in zipContents, err error) {
	err = container.WalkZIP(src, in.notice)
	return in, err
}

// notice records an entry if it identifies the kind of the archive.
func (in *zipContents) notice(e *container.ZIPEntry) {
	switch {
	case e.Name == "[content_types].xml":
		in.contentTypes = e
	case e.Name == "mimetype":
		in.mimetype = e
	case e.Name == "meta-inf/manifest.xml":
		in.openDocument = e
	case container.IsBasicModule(e.Name):
		in.basic = true
	case strings.HasPrefix(e.Name, "scripts/") && !strings.HasSuffix(e.Name, "/"):
		in.code = true
	case strings.HasPrefix(e.Name, "payload/") && strings.HasSuffix(e.Name, ".app/info.plist"):
		in.iOS = true
	case e.Name == "extension.vsixmanifest":
		in.visualStudio = true
	case e.Name == "meta-inf/manifest.mf":
		in.manifest = true
	case e.Name == "androidmanifest.xml":
		in.android = true
	case e.Name == "appxmanifest.xml", e.Name == "appxmetadata/appxbundlemanifest.xml":
		in.windowsApp = true
	case strings.HasSuffix(e.Name, ".class"):
		in.class = true
	}
}
