package content

import (
	"bytes"
	"strings"
	"testing"
)

const (
	emptyModule = "Attribute VB_Name = \"Sheet1\"\r\nAttribute VB_Base = \"0{00020820-0000-0000-C000-000000000046}\"\r\nOption Explicit\r\n\r\n"
	code        = emptyModule + "Sub Auto_Open()\r\n  Shell \"calc\"\r\nEnd Sub\r\n"

	// Compiled by Office: a magic number, the number of lines, and for each line its length and offset.
	noLines   = "\x01\x16\x03\xFE\xCA\x01\x00\x00\x00\xFF\xFF\xFF\xFF"
	oneOption = "\x01\x16\x03\xFE\xCA\x01\x00\x01\x00\x00\x80\x09\x00\x02\x00\x00\x00\x00\x00\x00\x00"
	aCall     = "\x01\x16\x03\xFE\xCA\x01\x00\x01\x00\x22\x81\x08\x00\x0A\x00\x10\x00\x00\x00\x00\x00"
)

func TestMacrosAreRefusedWhereThereIsCode(t *testing.T) {
	comments := emptyModule + strings.Repeat("' nothing\r\n", 500)
	for _, c := range []struct {
		about            string
		compiled, source string
		harmless         bool
	}{
		{"an empty module", noLines, emptyModule, true},
		{"an empty module, never compiled", "", emptyModule, true},
		{"an option, compiled", oneOption, emptyModule, true},
		{"comments only", noLines, comments, true},
		{"code", aCall, code, false},
		{"code, never compiled", "", code, false},
		{"code behind comments", "", comments + code, false},
		{"code behind an option", "", emptyModule + "Option Explicit: Sub Auto_Open: Shell \"calc\": End Sub\r\n", false},
		{"code whose source was taken away", aCall, emptyModule, false},
		{"code whose source was taken away, behind a decoy", noLines + aCall, emptyModule, false},
		{"code of another byte order", "\xCA\xFE\x00\x01", emptyModule, false},
		{"code of a version that nobody knows", "\xFE\xCA\x02\x00\x00\x00", emptyModule, false},
		{"a table of lines that is cut", "\xFE\xCA\x01\x00\x05\x00", emptyModule, false},
		{"no source", noLines, "", false},
	} {
		t.Run(c.about, func(t *testing.T) {
			for _, cutoff := range []int{0, 4096} {
				project := func(name string) node { return vbaProject(name, []byte(c.compiled), c.source) }
				for _, file := range []struct {
					name, mime string
					content    []byte
				}{
					{"a.doc", "application/msword", oleTree(cutoff, node{name: "WordDocument", content: []byte{1}}, project("Macros"))},
					{"a.xls", "application/vnd.ms-excel", oleTree(cutoff, node{name: "Workbook", content: []byte{1}}, project("_VBA_PROJECT_CUR"))},
					{"a.docx", byMIME["application/vnd.openxmlformats-officedocument.wordprocessingml.document"].mime,
						zipOf(t, contentTypes(wordMain), entry{"word/vbaProject.bin", string(oleTree(cutoff, project("").children...))})},
				} {
					if c.harmless {
						taken(t, file.content, file.name, file.mime)
					} else {
						refused(t, file.content, file.name, "macros are not taken here")
					}
				}
			}
		})
	}
}

func TestMacrosAreFoundWhereverTheyStand(t *testing.T) {
	project := string(oleTree(0, vbaProject("", nil, code).children...))
	override := func(part, partType string) entry {
		return entry{"[Content_Types].xml", `<Types><Default Extension="rels" ContentType="application/xml"/>` +
			`<Override PartName="/word/document.xml" ContentType="` + wordMain + `"/><Override PartName="` + part + `" ContentType="` + partType + `"/></Types>`}
	}
	boundSheet := func(kind string) []byte {
		return []byte("\x09\x08\x10\x00" + strings.Repeat("\x00", 16) + "\x85\x00\x08\x00\x00\x00\x00\x00\x00" + kind + "\x00\x00")
	}
	slides := func(macros string) []byte {
		return bytes.Join([][]byte{make([]byte, 70_000), []byte("\x02\x00\x00\x04\x0C\x00\x00\x00\x07\x00\x00\x00" + macros + "\x00\x00\x00\x02\x00\x00\x00")}, nil)
	}
	for _, c := range []struct {
		about, name string
		content     []byte
		refused     bool
	}{
		{"a project under another name", "a.docx", zipOf(t, override("/word/x.dat", "application/vnd.ms-office.vbaProject"), entry{"word/x.dat", project}), true},
		{"a project by its extension", "a.docx", zipOf(t, entry{"[Content_Types].xml", `<Types><Default Extension="dat" ContentType="application/vnd.ms-office.vbaProject"/><Override PartName="/word/document.xml" ContentType="` + wordMain + `"/></Types>`}, entry{"word/x.dat", project}), true},
		{"a type that no part has", "a.docx", zipOf(t, override("/word/x.dat", "application/vnd.ms-office.vbaProject"), entry{"word/document.xml", ""}), false},
		{"a project that is too large to be empty", "a.docx", zipOf(t, contentTypes(wordMain), entry{"word/vbaProject.bin", strings.Repeat("x", (256<<10)+1)}), true},
		{"a project that is none", "a.docx", zipOf(t, contentTypes(wordMain), entry{"word/vbaProject.bin", "x"}), true},
		{"a sheet of Excel 4 macros", "a.xlsx", zipOf(t, entry{"[Content_Types].xml", `<Types><Override PartName="/xl/workbook.xml" ContentType="` + excelMain + `"/><Override PartName="/xl/m.xml" ContentType="application/vnd.ms-excel.macrosheet+xml"/></Types>`}, entry{"xl/m.xml", ""}), true},
		{"a template's own type", "a.dotx", zipOf(t, contentTypes("application/vnd.ms-word.template.macroEnabledTemplate.main+xml")), true},
		{"a template's own type, called an archive", "a.zip", zipOf(t, contentTypes("application/vnd.ms-word.template.macroEnabledTemplate.main+xml")), true},
		{"a workbook with a sheet of macros", "a.xls", oleTree(0, node{name: "Workbook", content: boundSheet("\x01")}), true},
		{"a workbook with a module", "a.xls", oleTree(0, node{name: "Book", content: boundSheet("\x06")}), true},
		{"a workbook with a chart", "a.xls", oleTree(0, node{name: "Workbook", content: boundSheet("\x02")}), false},
		{"a sheet of macros of Excel 4", "a.xls", pad("\x09\x04\x06\x00\x04\x00\x40\x00"), true},
		{"a presentation with macros", "a.ppt", oleTree(0, node{name: "PowerPoint Document", content: slides("\x01")}), true},
		{"a presentation that says it has none", "a.ppt", oleTree(0, node{name: "PowerPoint Document", content: slides("\x00")}), false},
		{"Word 2003 in XML", "a.doc", []byte(`<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument w:macrosPresent="yes">`), true},
		{"Word 2003 in XML, called XML", "a.xml", []byte(`<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument>` + strings.Repeat(" ", 100_000) + `<w:binData w:name="editdata.mso">`), true},
		{"Word 2003 in XML without macros", "a.doc", []byte(`<?xml version="1.0"?><?mso-application progid="Word.Document"?><w:wordDocument>`), false},
	} {
		t.Run(c.about, func(t *testing.T) {
			if c.refused {
				refused(t, c.content, c.name, "macros are not taken here")
				return
			}
			if _, err := newPolicy(t).Decide(bytes.NewReader(c.content), int64(len(c.content)), c.name); err != nil {
				t.Error(err)
			}
		})
	}
}
