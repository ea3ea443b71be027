package content

import "attachd/server/content/container"

// oleKind returns the type of a compound file by the names directly below its root; embedded documents are deeper. A
// file that cannot be read is an OLE file of unknown type.
func oleKind(src *container.Source, named []*kind) *kind {
	f := container.OpenOLE(src)
	if f == nil {
		return kindOLE
	}
	if isInstaller(f.Class()) {
		return kindMSI
	}
	names := f.Children(0)
	has := func(name string) bool { _, ok := names[name]; return ok }
	office := func(k *kind) *kind {
		if f.HasMacros(names) {
			return k.withMacros()
		}
		return k
	}
	switch {
	case has("encryptedpackage"):
		return protectedKind(named)
	case has("worddocument"):
		return office(kindWord)
	case has("workbook"), has("book"):
		return office(kindExcel)
	case has("powerpoint document"):
		return office(kindSlides)
	case has("__properties_version1.0"), has("__nameid_version1.0"):
		return kindOutlook
	case has("visiodocument"):
		return kindVisio
	case has("quill"):
		return kindPublisher
	case isProject(f.Class()):
		return kindProject
	}
	return kindOLE
}

// protectedKind returns the type of an encrypted OOXML document that its name claims, since the content does not show
// it.
func protectedKind(named []*kind) *kind {
	for _, k := range named {
		if k.officeXML() {
			return k
		}
	}
	return kindEncrypted
}

// isInstaller reports whether a class id is that of .msi, .mst or .msp files: {000C1084-0000-0000-C000-000000000046}
// and neighbours.
func isInstaller(class [16]byte) bool {
	const rest = "\x10\x0C\x00\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x46"
	return (class[0] == 0x84 || class[0] == 0x82 || class[0] == 0x86) && string(class[1:]) == rest
}

// isProject reports whether a class id is that of Microsoft Project's plans: {74B78F3A-C8C8-11D1-BE11-00C04FB6FAF1}.
func isProject(class [16]byte) bool {
	return string(class[:]) == "\x3A\x8F\xB7\x74\xC8\xC8\xD1\x11\xBE\x11\x00\xC0\x4F\xB6\xFA\xF1"
}
