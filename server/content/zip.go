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

// How much is read of the parts that say what a document is.
const (
	maxContentTypes  = 512 << 10 // bytes, inflated
	maxMimetypeEntry = 128       // bytes, inflated
	maxManifest      = 256 << 10 // bytes, inflated, of an OpenDocument file's
	maxProjects      = 8         // VBA projects in an OOXML document, which has one; with more there is code
)

// zipContents is what was noticed in a central directory.
type zipContents struct {
	contentTypes, mimetype *container.ZIPEntry
	openDocument           *container.ZIPEntry // the manifest of an OpenDocument file
	manifest, class        bool
	android, windowsApp    bool
	iOS, visualStudio      bool
	code                   bool // of an OpenDocument file, in a language other than Basic
	basic                  bool // there are modules of Basic
}

// zipKind says what a ZIP archive is by what is in it: only the directory is read, and of the entries only
// [Content_Types].xml or mimetype, which are there to say it.
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

// officeKind finds the main part among the parts that are there, by their types in [Content_Types].xml (ECMA-376 part 2,
// section 7.2.3), and code among the others. A type that no part has says nothing.
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
	_ = container.WalkZIP(src, func(e *container.ZIPEntry) { // it was walked before
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

// partTypes are the types of an OOXML document's parts, as far as they say what it is: of single parts by name, and of the
// others by extension.
type partTypes struct {
	overrides, defaults map[string]string
	main                *kind // what the first part is that is named as the main one, there or not
}

func (t *partTypes) of(name string) string {
	if override, ok := t.overrides[name]; ok {
		return override
	}
	return t.defaults[extension(name)]
}

// override keeps a type that says something, or keeps an extension from saying it.
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

// readPartTypes reads [Content_Types].xml as far as it can.
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

// mainPartKind is the kind of document whose main part has the type partType, or nil: the document's own type and
// ".main+xml", but for the ".12" that the macro-enabled ones have, and for the word that Word's templates say twice.
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

// declaredKind is what the entry "mimetype" says: OpenDocument (part 2, section 3.3) and EPUB (OCF, section 4.3) have
// it first, but a repacked document may not.
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

// typeInManifest is the type that the manifest of an OpenDocument file has for the whole of it (part 2, section 4.3), which
// is all that tells it where "mimetype" was lost.
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

// attributes are those of an element, by their names without a prefix, with their values in lower case.
func attributes(element xml.StartElement) map[string]string {
	attr := map[string]string{}
	for _, a := range element.Attr {
		attr[a.Name.Local] = strings.ToLower(a.Value)
	}
	return attr
}

// readZIP notices what tells what the archive is.
func readZIP(src *container.Source) (in zipContents, err error) {
	err = container.WalkZIP(src, in.notice)
	return in, err
}

// notice keeps of an entry what tells the kind of the archive.
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
