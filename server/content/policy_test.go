package content

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// pad extends the first bytes of a format to a file that is clearly not text.
func pad(head string) []byte { return append([]byte(head), make([]byte, 600)...) }

// hl7 is a message in Latin-1, framed as HL7 frames it.
const hl7 = "\x0BMSH|^~\\&|LAB|HOSP|EHR|HOSP|20250101120000||ORU^R01|00001|P|2.5\r" +
	"PID|1||12345^^^HOSP^MR||M\xFCller^J\xFCrgen||19700101|M|||Hauptstra\xDFe 1^^M\xFCnchen^^80331^DE\r" +
	"OBR|1|845439^GHH OE|1045813^GHH LAB|15545^GLUCOSE|||20250101073000\r\x1C\r"

// id3 is an ID3 tag of four bytes.
var id3 = []byte("ID3\x04\x00\x00\x00\x00\x00\x04\x00\x00\x00\x00")

// manifestOf is the manifest of an OpenDocument file.
func manifestOf(kind string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">` +
		`<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>` +
		`<manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.` + kind + `"/></manifest:manifest>`
}

// odsWithBasic is a spreadsheet with a module of Basic.
func odsWithBasic(t testing.TB, source string) []byte {
	return zipOf(t, entry{"mimetype", "application/vnd.oasis.opendocument.spreadsheet"},
		entry{"Basic/script-lc.xml", "<library:libraries/>"}, entry{"Basic/Standard/script-lb.xml", "<library:library/>"},
		entry{"Basic/Standard/Module1.xml", `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE script:module PUBLIC "-//OpenOffice.org//DTD OfficeDocument 1.0//EN" "module.dtd">
<script:module xmlns:script="http://openoffice.org/2000/script" script:name="Module1" script:language="StarBasic">` + source + `</script:module>`})
}

// flatODS is a spreadsheet in one XML file, with modules.
func flatODS(modules string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0">` +
		`<office:scripts><office:script script:language="ooo:Basic"><ooo:libraries>` + modules + `</ooo:libraries></office:script></office:scripts></office:document>`
}

func TestWhatPeopleAttachIsTaken(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	rtf := []byte(`{\rtf1\ansi hello}`)
	for _, c := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"notes.txt", []byte("hello"), "text/plain"},
		{"one byte.txt", []byte("a"), "text/plain"},
		{"README", []byte("hello"), "text/plain"},
		{"Makefile.unknown", []byte("hello"), "text/plain"},
		{"server.LOG", []byte("12:00 \x1b[31merror\x1b[0m\r\n"), "text/plain"},
		{"query.sql", []byte("select 1"), "text/plain"},
		{"model.R", []byte("x <- 1"), "text/plain"},
		{"graph.dot", []byte("digraph { a -> b }"), "text/plain"},
		{"figure 1.a", pngOf(t), "image/png"},
		{"id_ed25519.pub", []byte("ssh-ed25519 AAAA me"), "text/plain"},
		{"main.rs", []byte("#![allow(dead_code)]\nfn main() {}"), "text/plain"},
		{"settings.toml", []byte("a = 1"), "text/plain"},
		{"settings.yml", []byte("a: 1"), "application/yaml"},
		{"notebook.ipynb", []byte("{}"), "application/json"},
		{"table.csv", []byte("<b>not HTML</b>,2\n"), "text/csv"},
		{"table.CSV", []byte("a;b\n1;2\n"), "text/csv"},
		{"table.csv", utf16Of("a,b\n1,ü\uFFFD😀\n", le, true), "text/csv"},
		{"table.csv", utf16Of("a,b\n1,2\n", be, true), "text/csv"},
		{"table.csv", utf16Of("a,b\n1,2\n", be, false), "text/csv"},
		{"table.csv", utf16Of(strings.Repeat("a,b\n1,2\n", 20)+"\x0B", le, true), "text/csv"},
		{"table.csv", []byte("name;n\r\nCaf\xE9;1\r\n\x1A"), "text/csv"},
		{"table.csv", []byte("a;b\x1A"), "text/csv"},
		{"message.hl7", []byte(hl7), "text/plain"},
		{"server.log", append(bytes.Repeat([]byte("12:00 Caf\xE9\r\n"), 400), "12:01 \x01\r\n"...), "text/plain"},
		{"server.log", append(bytes.Repeat([]byte("12:00 Caf\xE9\r\n"), 10_000), '\x1A'), "text/plain"},
		{"table.csv", []byte("Caf\xE9 \x01\x02\r\n"), "text/csv"},
		{"table.csv", append(bytes.Repeat([]byte("Caf\xE9 "), 100), 0), "text/csv"},
		{"table.csv", []byte("A\x00\x00\x00;B\x00\x00\x00\r\nC\x00\x00\x00;D\x00\x00\x00\r\nlong enough;or so\r\n"), "text/csv"},
		{"table.csv", utf16Of(strings.Repeat("Café ", 100)+"\x00", le, true), "text/csv"},
		{"table.csv", []byte(strings.Repeat("A"+strings.Repeat("\x00", 49)+";\xC3\x84"+strings.Repeat("\x00", 30)+"\r\n", 20)), "text/csv"},
		{"table.csv", utf16Of("a\x00;\x00b\x00\n\x001\x00;\x002\x00\n\x00", le, true), "text/csv"},
		{"table.csv", utf16Of(strings.Repeat("Café\x01", 100), be, true), "text/csv"},
		{"table.tsv", []byte(strings.Repeat("\xC4\x01\xD6\x02\xDC\x03\r\n", 100)), "text/tab-separated-values"},
		{"export.dat", []byte(strings.Repeat("\xFEM\xFCller\xFE\x14\xFE12\xFE\r\n", 100)), "text/plain"},
		{"server.log", slices.Concat(make([]byte, 200_000), bytes.Repeat([]byte("12:00 started\n"), 2000)), "text/plain"},
		{"server.log", slices.Concat([]byte("11:59 stopped\n"), make([]byte, 200_000), []byte("12:00 started\n")), "text/plain"},
		{"page.log", slices.Concat(make([]byte, 500), []byte("12:00 <script>\n")), "text/plain"},
		{"db.example.com", []byte("$TTL 3600\n@ IN SOA ns hostmaster 1 2 3 4 5\n"), "text/plain"},
		{"access_log.www.example.com", []byte("127.0.0.1 - -\n127.0.0.1 - -\n"), "text/plain"},
		{"zone.example.com.au", []byte("$TTL 3600\n@ IN SOA ns hostmaster 1 2 3 4 5\n"), "text/plain"},
		{"db.example.so", []byte("$TTL 3600\n@ IN SOA ns hostmaster 1 2 3 4 5\n"), "text/plain"},
		{"list.xls", []byte("name\tsize\r\na\t1\r\n"), "text/tab-separated-values"},
		{"book.xls", []byte("<?xml version='1.0'?>\n<?mso-application progid=\"Excel.Sheet\"?><Workbook/>"), "application/vnd.ms-excel"},
		{"book.xls", []byte("<Workbook xmlns='urn:schemas-microsoft-com:office:spreadsheet'/>"), "application/vnd.ms-excel"},
		{"book.xls", []byte("<?mso-application progid=\"Excel.Sheet\"?><Workbook/>"), "application/vnd.ms-excel"},
		{"list.xls", []byte("Report of March\r\n\r\nname\tsize\r\n"), "text/tab-separated-values"},
		{"list.xls", []byte("name;size\r\n\"a;b\";1\r\n"), "text/csv"},
		{"list.xls", []byte("\"name\",\"size\"\n\"a\",\"1,50\"\n"), "text/csv"},
		{"book.xml", []byte("<?xml version='1.0'?>\n<?mso-application progid=\"Excel.Sheet\"?><Workbook/>"), "application/xml"},
		{"app_de.ts", []byte("<!DOCTYPE TS>\n<TS version='2.1'>"), "application/xml"},
		{"contract.p7m", []byte("-----BEGIN PKCS7-----\nMIAG\n"), "application/pkcs7-mime"},
		{"broken.json", []byte("{\"a\":"), "application/json"},
		{"events.jsonl", []byte("{}\n{}\n"), "application/x-ndjson"},
		{"invite.ics", []byte("BEGIN:VCALENDAR\r\n"), "text/calendar"},
		{"card.vcf", []byte("BEGIN:VCARD\r\n"), "text/vcard"},
		{"mail.eml", []byte("From: a@example.com\r\n\r\n<html>hi</html>"), "message/rfc822"},
		{"feed.rss", []byte("<?xml version='1.0'?><rss/>"), "application/xml"},
		{"no extension", []byte("<?xml version='1.0'?><rss/>"), "application/xml"},
		{"page.xml", []byte("<header><body/></header>"), "application/xml"},
		{"guard.xml", []byte("<bodyguard/>"), "application/xml"},
		{"script.xml", []byte("<?xml version='1.0'?><script/>"), "application/xml"},
		{"page.csv", []byte("a\n<html>"), "text/csv"},
		{"spec.txt", []byte("A PDF starts with %PDF-1.7, and so on."), "text/plain"},

		{"letter.rtf", rtf, "text/rtf"},
		{"letter.doc", rtf, "text/rtf"},
		{"letter.txt", rtf, "text/rtf"},
		{"letter.dot", oleOf("", "WordDocument", "1Table"), "application/msword"},
		{"old.xls", oleOf("", "Book"), "application/vnd.ms-excel"},
		{"talk.pps", oleOf("", "Current User", "PowerPoint Document"), "application/vnd.ms-powerpoint"},
		{"mail.msg", oleOf("", "__nameid_version1.0", "__properties_version1.0"), "application/vnd.ms-outlook"},
		{"memo.docx", zipOf(t, contentTypes(wordMain)), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"memo.zip", zipOf(t, contentTypes(wordMain)), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"memo.docx", zipOf(t, contentTypes(strings.Replace(wordMain, ".document.", ".template.", 1))), "application/vnd.openxmlformats-officedocument.wordprocessingml.template"},
		{"sums.xlsx", zipOf(t, contentTypes("application/xml", excelMain)), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"},
		{"deck.pptx", zipOf(t, contentTypes(slidesMain)), "application/vnd.openxmlformats-officedocument.presentationml.presentation"},
		{"show.ppsx", zipOf(t, contentTypes(strings.Replace(slidesMain, ".presentation.", ".slideshow.", 1))), "application/vnd.openxmlformats-officedocument.presentationml.slideshow"},
		{"text.odt", zipOf(t, entry{"mimetype", "application/vnd.oasis.opendocument.text"}), "application/vnd.oasis.opendocument.text"},
		{"text.zip", zipOf(t, entry{"content.xml", ""}, entry{"mimetype", "application/vnd.oasis.opendocument.text"}, entry{"META-INF/manifest.xml", ""}), "application/vnd.oasis.opendocument.text"},
		{"book.epub", zipOf(t, entry{"mimetype", "application/epub+zip"}), "application/epub+zip"},

		{"text.odt", zipOf(t, entry{"content.xml", ""}, entry{"META-INF/manifest.xml", manifestOf("text")}), "application/vnd.oasis.opendocument.text"},
		{"sums.ods", zipOf(t, entry{"META-INF/manifest.xml", manifestOf("spreadsheet")}), "application/vnd.oasis.opendocument.spreadsheet"},
		{"books.odb", zipOf(t, entry{"mimetype", "application/vnd.oasis.opendocument.base"}), "application/vnd.oasis.opendocument.base"},
		{"sums.ods", odsWithBasic(t, "Rem Attribute VBA_ModuleType=VBADocumentModule\nOption VBASupport 1\n"), "application/vnd.oasis.opendocument.spreadsheet"},
		{"sums.fods", []byte(flatODS("")), "application/xml"},

		{"files.zip", zipOf(t, entry{"setup.exe", "MZ"}, entry{"nested.zip", "PK"}), "application/zip"},
		{"java sources.zip", zipOf(t, entry{"src/A.java", ""}, entry{"build/A.class", ""}), "application/zip"},
		{"slides.key", zipOf(t, entry{"Index/Document.iwa", ""}), "application/zip"},
		{"backup.tgz", pad("\x1f\x8b\x08"), "application/gzip"},
		{"backup.tar.gz", pad("\x1f\x8b\x08"), "application/gzip"},
		{"rows.csv.bz2", pad("BZh91AY&SY"), "application/x-bzip2"},
		{"rows.xz", pad("\xFD7zXZ\x00"), "application/x-xz"},
		{"rows.zst", pad("\x28\xB5\x2F\xFD"), "application/zstd"},

		{"rows.rar", pad("Rar!\x1A\x07\x00"), "application/vnd.rar"},
		{"signed.pdf.p7m", pad("\x30\x80\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02\xA0\x80%PDF-1.7"), "application/pkcs7-mime"},
		{"mail.p7s", pad("\x30\x82\x10\x00\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07\x02"), "application/pkcs7-signature"},
		{"mail.p7m", pad("\x30\x83\x01\x10\x00\x06\x0B\x2A\x86\x48\x86\xF7\x0D\x01\x09\x10\x01\x17"), "application/pkcs7-mime"},
		{"letter.asice", zipOf(t, entry{"mimetype", "application/vnd.etsi.asic-e+zip"}), "application/vnd.etsi.asic-e+zip"},
		{"rows.arrows", pad("\xFF\xFF\xFF\xFF\xB0\x00\x00\x00\x14\x00\x00\x00"), "application/vnd.apache.arrow.stream"},
		{"rows.feather", pad("FEA1\x00\x00"), "application/x-feather"},
		{"roads.gpkg", pad("SQLite format 3\x00" + strings.Repeat("\x01", 52) + "GPKG"), "application/geopackage+sqlite3"},
		{"rows.db3", pad("SQLite format 3\x00" + strings.Repeat("\x01", 52)), "application/vnd.sqlite3"},
		{"plan.mpp", oleOf("\x3A\x8F\xB7\x74\xC8\xC8\xD1\x11\xBE\x11\x00\xC0\x4F\xB6\xFA\xF1", "Props"), "application/vnd.ms-project"},
		{"old.xls", pad("\x09\x00\x04\x00\x02\x00\x10\x00"), "application/vnd.ms-excel"},
		{"old.xls", pad("\x09\x02\x06\x00\x00\x00\x10\x00\x00\x00"), "application/vnd.ms-excel"},
		{"locked.ppt", oleOf("", "EncryptionInfo", "EncryptedPackage"), "application/vnd.ms-office-encrypted"},
		{"newer.doc", zipOf(t, contentTypes(wordMain)), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"older.xlsx", oleOf("", "Workbook"), "application/vnd.ms-excel"},
		{"unused.docx", zipOf(t, contentTypes(wordMain, "application/vnd.ms-office.vbaProject")), "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
		{"sums.xlsb", zipOf(t, contentTypes("application/vnd.ms-excel.sheet.binary.macroEnabled.main")), "application/vnd.ms-excel.sheet.binary.macroEnabled.12"},

		{"shot.png", pngOf(t), "image/png"},
		{"shot.jpg", pngOf(t), "image/png"},
		{"shot", pngOf(t), "image/png"},
		{"shot.dat", pngOf(t), "image/png"},
		{"photo.JFIF", pad("\xFF\xD8\xFF\xE0\x00\x10JFIF"), "image/jpeg"},
		{"photo.heic", pad("\x00\x00\x00\x18ftypheic"), "image/heic"},
		{"photo.heic", pad("\x00\x00\x00\x18ftypmif1"), "image/heif"},
		{"photo.avif", pad("\x00\x00\x00\x18ftypavif"), "image/avif"},
		{"photo.avif", pad("\x00\x00\x00\x1Cftypmif1\x00\x00\x00\x00mif1miafavif"), "image/avif"},
		{"photo.avif", pad("\x00\x00\x00\x1Cftypmsf1\x00\x00\x00\x00avismsf1miaf"), "image/avif"},
		{"photo.heif", pad("\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heicavif"), "image/heif"}, // the brand avif is after the end of the box
		{"photo.heif", []byte("\x00\x00\x00\xF0ftypmif1\x00\x00\x00\x00mif1he"), "image/heif"},
		{"photo.heif", pad("\x00\x00\x00\x14ftypmif1avifmif1"), "image/heif"}, // avif is the version here, not a brand
		{"photo.webp", pad("RIFF\x10\x00\x00\x00WEBPVP8 "), "image/webp"},
		{"scan.tif", pad("II*\x00"), "image/tiff"},
		{"map.tif", pad("II+\x00\x08\x00\x00\x00"), "image/tiff"},
		{"map.tiff", pad("MM\x00+\x00\x08\x00\x00"), "image/tiff"},
		{"icon.bmp", pad("BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00"), "image/bmp"},
		{"icon.bmp", pad("BM\x46\x00\x00\x00\x00\x00\x00\x00\x1A\x00\x00\x00\x0C\x00\x00\x00\x02\x00\x02\x00\x01\x00\x18\x00"), "image/bmp"},
		{"drawing.svg", []byte("<svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>"), "image/svg+xml"},
		{"drawing.svg", []byte("<!DOCTYPE svg [<!-- don't --><!ENTITY a '<>]'>]><svg/>"), "image/svg+xml"},
		{"drawing.txt", []byte("<svg/>"), "image/svg+xml"},

		{"song.mp3", pad("ID3\x03\x00\x00\x00\x00\x10\x00"), "audio/mpeg"},
		{"song.m4a", pad("\x00\x00\x00\x18ftypM4A "), "audio/mp4"},
		{"song.wav", pad("RIFF\x10\x00\x00\x00WAVEfmt "), "audio/wav"},
		{"song.flac", pad("fLaC\x00\x00\x00\x22"), "audio/flac"},
		{"voice.opus", pad("OggS\x00\x02" + strings.Repeat("\x00", 22) + "OpusHead"), "audio/ogg"},
		{"voice.amr", []byte("#!AMR\n\x0c\x00\x00"), "audio/amr"},
		{"tune.mid", pad("MThd\x00\x00\x00\x06"), "audio/midi"},
		{"song.flac", slices.Concat([]byte("ID3\x04\x00\x10\x00\x00\x00\x0A"), make([]byte, 20), []byte("fLaC\x00")), "audio/flac"},
		{"song.aac", slices.Concat([]byte("ID3\x04\x00\x00\x00\x04\x00\x00"), make([]byte, 65536), []byte("\xFF\xF9\x50\x80")), "audio/aac"},
		{"song.flac", slices.Concat(id3, id3, []byte("fLaC\x00\x00\x00\x22")), "audio/flac"},
		{"song.wav", slices.Concat(id3, pad("RIFF\x10\x00\x00\x00WAVEfmt ")), "audio/wav"},
		{"song.aiff", slices.Concat(id3, pad("FORM\x00\x00\x00\x20AIFFCOMM")), "audio/aiff"},
		{"song.aac", slices.Concat(id3, make([]byte, 1000), []byte("\xFF\xF1\x50\x80")), "audio/aac"},
		{"song.mp3", slices.Concat(id3, make([]byte, 1000), pad("\xFF\xFB\x90\x64")), "audio/mpeg"},
		{"song.mp3", slices.Concat(id3, pad("MZ\x90")), "audio/mpeg"},
		{"song.mp3", id3, "audio/mpeg"},
		{"song.aifc", pad("FORM\x00\x00\x00\x20AIFCFVER"), "audio/aiff"},
		{"song.wav", pad("RF64\xFF\xFF\xFF\xFFWAVEds64"), "audio/wav"},
		{"song.caf", pad("caff\x00\x01\x00\x00desc"), "audio/x-caf"},
		{"voice.m4a", pad("\x00\x00\x00\x18ftypmp42"), "audio/mp4"},
		{"voice.m4a", pad("\x00\x00\x00\x18ftyp3gp5"), "audio/mp4"},
		{"voice.mka", pad("\x1A\x45\xDF\xA3\x9F\x42\x82\x88matroska"), "audio/matroska"},
		{"film.mp4", pad("\x00\x00\x00\x1CftypXAVC\x00\x00\x00\x00XAVCmp42iso2"), "video/mp4"},
		{"film.m2ts", bytes.Repeat(append([]byte("\x00\x00\x00\x00G"), make([]byte, 187)...), 5), "video/mp2t"},
		{"film.mp4", pad("\x00\x00\x00\x18ftypisom"), "video/mp4"},
		{"film.mp4", pad("\x00\x00\x00\x18ftypMSNV"), "video/mp4"},
		{"voice.m4a", pad("\x00\x00\x00\x18ftypMSNV"), "audio/mp4"},
		{"film.m4v", pad("\x00\x00\x00\x18ftypM4V "), "video/mp4"},
		{"film.mov", pad("\x00\x00\x00\x14ftypqt  "), "video/quicktime"},
		{"film.3gp", pad("\x00\x00\x00\x14ftyp3gp5"), "video/3gpp"},
		{"film.webm", pad("\x1A\x45\xDF\xA3\x9F\x42\x82\x84webm"), "video/webm"},
		{"film.mkv", pad("\x1A\x45\xDF\xA3\x9F\x42\x82\x88matroska"), "video/matroska"},
		{"film.avi", pad("RIFF\x10\x00\x00\x00AVI LIST"), "video/x-msvideo"},
		{"film.mpg", pad("\x00\x00\x01\xBA"), "video/mpeg"},
		{"film.wmv", pad("\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\x00\xAA\x00\x62\xCE\x6C"), "video/x-ms-asf"},
	} {
		taken(t, c.content, c.name, c.want)
	}
}

// ASVS 5.2.2
func TestWhatIsRefusedByDefault(t *testing.T) {
	le := binary.LittleEndian
	png := pngOf(t)
	exe := pad("MZ\x90")
	for _, c := range []struct {
		name    string
		content []byte
		why     string
	}{
		{"empty.txt", nil, "The file is empty."},
		{"noise.bin", noise(300), "no known type"},
		{"noise.txt", noise(300), "no known type"},
		{"text.bin", []byte("Caf\xE9 \x01\x02\r\n\x03"), "no known type"}, // mostly text, but its name does not claim so
		{"text.bin", append(bytes.Repeat([]byte("Caf\xE9 "), 100), 0), "no known type"},
		{"text.bin", utf16Of(strings.Repeat("Café ", 100)+"\x00", le, true), "no known type"},
		{"text.bin", utf16Of(strings.Repeat("Café\x01", 100), le, true), "no known type"},
		{"hole.log", make([]byte, 500), "no known type"},
		{"hole.log", append(make([]byte, 500), noise(300)...), "no known type"},
		{"table.csv", bytes.Repeat([]byte("1\x01\x02\x03"), 100), "no known type"},
		{"packed.csv", append([]byte("name;size\r\n"), noise(300)...), "no known type"},
		{"drawing.dwg", pad("AC1027\x00\x00"), "an AutoCAD drawing (image/vnd.dwg), which is not taken here"},

		// The name and the content contradict each other.
		{"photo.pdf", png, `but its name ends like that of a PDF document: give it a name that ends in ".png"`},
		{"photo.csv", png, "a CSV table"},
		{"photo.txt", png, "plain text"},
		{"photo.html", png, "an HTML page"},
		{"photo.exe", png, "a Windows executable"},
		{"photo.mp4", png, "an MPEG-4 video"},
		{"sums.docx", zipOf(t, contentTypes(excelMain)), "a Word document"},
		{"files.docx", zipOf(t, entry{"a.txt", ""}), "a Word document"},
		{"letter.pdf", oleOf("", "WordDocument"), "a PDF document"},
		{"letter.png", []byte("%PDF-1.7\n"), "a PNG picture"},
		{"letter.txt", []byte("%PDF-1.7\n"), "plain text"},
		{"short.png", []byte("a"), "a PNG picture"},
		{"text.pdf", []byte("hello"), "a PDF document"},
		{"text.docx", []byte("hello"), "a Word document"},
		{"text.xls", []byte("a b\n"), "an Excel workbook"},
		{"text.zip", []byte("hello"), "a ZIP archive"},
		{"text.svg", []byte("hello"), "an SVG picture"},
		{"text.rtf", []byte("hello"), "an RTF document"},
		{"text.exe", []byte("MZ is just text"), "a Windows executable"},
		{"text.com", []byte("X5O!P%@AP"), "a Windows executable"},
		{"db.example.com", []byte("X5O!P%@AP"), "a Windows executable"},
		{"db.example.com", noise(300), "no known type"},
		{"invoice.pdf.com", []byte("a\nb\n"), "a Windows executable"},
		{"example.com", []byte("a\nb\n"), "a Windows executable"},
		{"app.ts", []byte("const a = 1\n"), "a TypeScript program"},
		{"a.p7m", []byte("hello"), "a signed or encrypted"},
		{"drawing.jpg", []byte("<svg/>"), "a JPEG picture"},
		{"drawing.html", []byte("<svg onload='alert(1)'/>"), "an HTML page"},
		{"script.gif", []byte("GIF89a/*aa*/=1;alert(1);"), "a GIF picture"},

		// HTML, whatever the name.
		{"page.png", []byte("<!DOCTYPE html><p>"), "an HTML page (text/html), which is not taken here"},
		{"page.csv", []byte("\xEF\xBB\xBF \n<HTML\n>"), "HTML"},
		{"page.txt", []byte("<!-- <p> --> <!-- --><script>alert(1)</script>"), "HTML"},
		{"page.txt", []byte("<!--><iframe src=x>"), "HTML"},
		{"page.txt", []byte("<body"), "HTML"},
		{"page.txt", []byte("<head/>"), "HTML"},
		{"page.txt", []byte("<html>\x00\x01"), "HTML"},
		{"page.log", slices.Concat(make([]byte, 500), []byte("<script>alert(1)</script>\n")), "HTML"},
		{"data.log", slices.Concat(make([]byte, 500), []byte("#!/bin/sh\nrm -rf .\n")), "a shell script"},
		{"book.xls", []byte("<html><table>"), "HTML"},
		{"book.xls", []byte("<html><table>"), "under the name of an Excel workbook, and HTML is not taken here: open it in Excel, save it as .xlsx and send that."},
		{"book.xls", []byte("<table><tr><td>1"), "an HTML page (text/html) under the name of an Excel workbook"},
		{"book.xls", []byte("\xEF\xBB\xBF<style>td{}</style><table>"), "an HTML page (text/html) under the name of an Excel workbook"},
		{"letter.doc", []byte("\r\n<div>Dear all</div>"), "save it as .docx"},
		{"letter.doc", []byte("Date: Wed, 1 Jan 2025 00:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/related;\r\n boundary=x\r\n\r\n"), "a saved web page (multipart/related) under the name of a Word document"},
		{"list.xlsx", []byte("a,b\n1,2\n"), `a CSV table (text/csv), but its name ends like that of an Excel workbook: give it a name that ends in ".csv"`},
		{"list.xls", []byte("a,b\n1,2,3\n"), `give it a name that ends in ".txt"`},
		{"page.txt", utf16Of("<html>", binary.LittleEndian, true), "HTML"},
		{"page.txt", utf16Of("<script>", binary.BigEndian, false), "HTML"},
		{"page.xml", []byte("<!doctype HTML PUBLIC 'x'>"), "HTML"},
		{"page.xml", []byte("<?xml version='1.0'?><!-- x --><h:html xmlns:h='http://www.w3.org/1999/xhtml'/>"), "XHTML"},
		{"page.html", []byte("just words"), "HTML"},
		{"page.mht", []byte("MIME-Version: 1.0\n"), "a saved web page"},

		// Scripts, by their first line or by their name.
		{"data.csv", []byte("#!/bin/sh\nrm -rf .\n"), "a shell script (text/x-shellscript), and executables and scripts are not taken here"},
		{"data.txt", []byte("\xEF\xBB\xBF#! /usr/bin/python\n"), "script"},
		{"data.txt", []byte("#!/usr/bin/env python3\n"), "a Python program"},
		{"page.txt", []byte("<?php echo 1;"), "a PHP program"},
		{"page.txt", []byte("<?= $x ?>"), "a PHP program"},
		{"page.txt", []byte("<? echo 1 ?>"), "a PHP program"},
		{"setup.Bat", []byte("dir"), "a Windows batch file"},
		{"setup.bat. ", []byte("dir"), "a Windows batch file"},
		{"link.desktop", []byte("[Desktop Entry]"), "a desktop launcher"},
		{"link.inetloc", []byte("<?xml version='1.0'?><plist/>"), "an Internet shortcut"},
		{"files.searchConnector-ms", []byte("<?xml version='1.0'?><searchConnectorDescription/>"), "an Explorer command"},
		{"tool.appref-ms", utf16Of("http://example.com/", binary.LittleEndian, true), "a ClickOnce installer"},
		{"users.msc", []byte("<?xml version='1.0'?><MMC_ConsoleFile/>"), "a Windows management console"},
		{"page.phar", []byte("x"), "a PHP program"},
		{"page.ashx", []byte("x"), "a server page"},
		{"hot.ahk", []byte("MsgBox"), "an AutoHotkey or AutoIt script"},
		{"tool.pyz", zipOf(t, entry{"__main__.py", ""}), "its name ends like that of a Python program"},
		{"keys.reg", []byte("Windows Registry Editor"), "registry"},
		{"run.hta", []byte("x"), "an HTML application"},
		{"run.vbs", utf16Of("x", binary.LittleEndian, true), "VBScript"},

		// Programs, whatever the name.
		{"report.pdf", exe, "a Windows executable"},
		{"report", exe, "a Windows executable"},
		{"photo.scr", exe, "a Windows executable"},
		{"photo.png", append(exe, "%PDF-1.7"...), "a Windows executable"},
		{"tool", pad("\x7FELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x03"), "a Linux library"},
		{"tool", pad("\xCA\xFE\xBA\xBE\x00\x00\x00\x02"), "a macOS executable"},
		{"classes.zip", zipOf(t, entry{"META-INF/MANIFEST.MF", ""}, entry{"a/B.class", ""}), "a Java program"},
		{"resources.jar", zipOf(t, entry{"META-INF/MANIFEST.MF", ""}), "a Java program"},
		{"app.zip", zipOf(t, entry{"AndroidManifest.xml", ""}), "an Android app"},
		{"app.zip", zipOf(t, entry{"AppxManifest.xml", ""}, contentTypes("application/xml")), "a Windows app package"},
		{"app.ipa", zipOf(t, entry{"Payload/A.app/Info.plist", ""}), "an iOS app"},
		{"app.zip", zipOf(t, entry{"Payload/A.app/Info.plist", ""}), "an iOS app"},
		{"addon.zip", zipOf(t, entry{"extension.vsixmanifest", ""}, contentTypes("application/xml")), "an extension of Visual Studio"},
		{"addon.oxt", zipOf(t, entry{"description.xml", ""}), "an extension of LibreOffice"},
		{"addon.xpi", zipOf(t, entry{"manifest.json", ""}), "a browser extension"},
		{"classes.dex", pad("dex\n035\x00"), "an Android program"},
		{"setup.doc", oleOf("\x84\x10\x0C\x00\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x46", "WordDocument"), "a Windows installer"},
		{"tool.deb", pad("!<arch>\ndebian-binary   "), "a Debian package"},

		// Macros.
		{"memo.docm", zipOf(t, contentTypes("application/vnd.ms-word.document.macroEnabled.main+xml")), "a Word document with macros (application/vnd.ms-word.document.macroEnabled.12), and macros are not taken here"},
		{"memo.docx", zipOf(t, contentTypes(wordMain), entry{"word/vbaProject.bin", ""}), "a Word document with macros"},
		{"sums.xlsm", zipOf(t, contentTypes("application/vnd.ms-excel.sheet.macroEnabled.main+xml")), "an Excel workbook with macros"},
		{"sums.xlsb", zipOf(t, contentTypes("application/vnd.ms-excel.sheet.binary.macroEnabled.main"), entry{"xl/vbaProject.bin", ""}), "a binary Excel workbook with macros"},
		{"deck.pptm", zipOf(t, contentTypes(slidesMain), entry{"ppt/vbaProject.bin", ""}), "a PowerPoint presentation with macros"},
		{"memo.doc", oleOf("", "WordDocument", "Macros"), "a Word document with macros"},
		{"sums.xls", oleOf("", "Workbook", "_VBA_PROJECT_CUR"), "an Excel workbook with macros"},
		{"sums.ods", odsWithBasic(t, "REM  *****  BASIC  *****\n\nSub Main\nShell(&quot;calc&quot;)\nEnd Sub\n"), "an OpenDocument spreadsheet with macros (application/vnd.oasis.opendocument.spreadsheet), and macros are not taken here"},
		{"sums.zip", odsWithBasic(t, "Sub Main"), "an OpenDocument spreadsheet with macros"},
		{"sums.ods", odsWithBasic(t, "<broken"), "an OpenDocument spreadsheet with macros"},
		{"text.odt", zipOf(t, entry{"mimetype", "application/vnd.oasis.opendocument.text"}, entry{"Scripts/python/a.py", ""}), "an OpenDocument text with macros"},
		{"text.odt", zipOf(t, entry{"META-INF/manifest.xml", manifestOf("text")}, entry{"Scripts/beanshell/L/a.bsh", ""}), "an OpenDocument text with macros"},
		{"sums.fods", []byte(flatODS("<ooo:module ooo:name='A'><ooo:source-code>Sub Main</ooo:source-code></ooo:module>")), "with macros"},
		{"blob.doc", oleOf("", "SomethingElse"), "an OLE file of no known kind"},
	} {
		refused(t, c.content, c.name, c.why)
	}
}

// noise is binary content of no known format.
func noise(n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(b)
	b[0] = 0xF0
	return b
}

func TestARefusalSaysWhatWasFoundAndWhatIsTaken(t *testing.T) {
	exe := pad("MZ")
	_, err := newPolicy(t, ".pdf", "image/*", "csv").Decide(bytes.NewReader(exe), int64(len(exe)), "a.exe")
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Type != "application/vnd.microsoft.portable-executable" {
		t.Fatalf("got %v", err)
	}
	const want = "This is a Windows executable (application/vnd.microsoft.portable-executable), " +
		"and executables and scripts are not taken here: what is taken is PDF, pictures, .jxl, .jp2, .ico, .icns, .psd, .xcf, .djvu, .dwg and CSV."
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestARefusalHasAWordForWhateverIsTaken(t *testing.T) {
	exe := pad("MZ")
	for list, want := range map[string]string{
		"application/octet-stream":                      "content of no known type",
		"application/octet-stream .pdf":                 "PDF and content of no known type",
		"application/vnd.ms-publisher":                  "a Publisher document",
		"application/vnd.ms-office-encrypted":           "a password-protected Office document",
		"application/vnd.ms-office-encrypted .doc .csv": ".doc and CSV",
		"default": "PDF, Word, Excel, PowerPoint, OpenDocument, RTF, EPUB, mail, S/MIME, Visio, Project, OneNote, pictures, plain text, Markdown, " +
			"CSV, TSV, JSON, NDJSON, XML, YAML, calendars, contacts, Parquet, Avro, Arrow, ORC, SQLite, archives, audio and video",
	} {
		_, err := newPolicy(t, strings.Fields(list)...).Decide(bytes.NewReader(exe), int64(len(exe)), "a.exe")
		if err == nil || !strings.HasSuffix(err.Error(), ": what is taken is "+want+".") {
			t.Errorf("%s: got %v, want %s", list, err, want)
		}
	}
	// A policy of any single kind has a sentence.
	for mime := range byMIME {
		if p, err := NewPolicy([]string{mime}, true); err != nil || p.sentence == "" {
			t.Errorf("%s: got %q, %v", mime, p.sentence, err)
		}
	}
}

func TestAListNamesWhatIsTaken(t *testing.T) {
	html, exe, script, docm := []byte("<html>"), pad("MZ"), []byte("#!/bin/sh\n"), zipOf(t, contentTypes("application/vnd.ms-word.document.macroEnabled.main+xml"))
	legacyMacros := oleOf("", "WordDocument", "Macros")
	for _, c := range []struct {
		about       string
		allowed     []string
		executables bool
		content     []byte
		name        string
		want        bool
	}{
		{"a list replaces the default", []string{"application/pdf"}, false, pngOf(t), "a.png", false},
		{"a type", []string{"image/png"}, false, pngOf(t), "a.png", true},
		{"a type in capitals", []string{" Image/PNG "}, false, pngOf(t), "a.png", true},
		{"another name of a type", []string{"text/xml"}, false, []byte("<a/>"), "a.xml", true},
		{"an extension", []string{".png"}, false, pngOf(t), "a.png", true},
		{"an extension without its dot", []string{"png"}, false, pngOf(t), "a.png", true},
		{"an extension that is not the usual one", []string{".jpeg"}, false, pad("\xFF\xD8\xFF\xE0"), "a.jpg", true},
		{"a wildcard", []string{"image/*"}, false, pngOf(t), "a.png", true},
		{"a wildcard for something else", []string{"audio/*"}, false, pngOf(t), "a.png", false},
		{"default and more", []string{"default", ".dwg"}, false, pngOf(t), "a.png", true},
		{"default and more: the more", []string{"default", ".dwg"}, false, pad("AC1032\x00"), "a.dwg", true},
		{"an extension that no type has", []string{".sas7bdat"}, false, noise(300), "a.SAS7BDAT", true},
		{"an extension that no type has, under another name", []string{".sas7bdat"}, false, noise(300), "a.bin", false},
		{"an extension that no type has, over a program", []string{".sas7bdat"}, false, exe, "a.sas7bdat", false},
		{"an extension that no type has, over an OLE file", []string{".hwp"}, false, oleOf("", "FileHeader"), "a.hwp", true},
		{"an extension that no type has, over an archive", []string{".sketch"}, false, zipOf(t, entry{"document.json", ""}), "a.sketch", true},
		{"an extension that no type has, over text", []string{".step"}, false, []byte("ISO-10303-21;\n"), "a.step", true},
		{"an extension that no type has, over a page", []string{".step"}, false, html, "a.step", false},
		{"an extension that no type has, over a broken archive", []string{".sketch"}, false, []byte("PK\x03\x04\x00"), "a.sketch", false},
		{"an extension that no type has, over another type", []string{".sketch"}, false, pngOf(t), "a.sketch", false},
		{"macros of OpenDocument", []string{".docm", ".xlsm", ".pptm"}, false, odsWithBasic(t, "Sub Main"), "a.ods", true},
		{"macros of OpenDocument, with those of a text only", []string{".ods", ".docm"}, false, odsWithBasic(t, "Sub Main"), "a.ods", false},
		{"a binary workbook by name, with macros too", []string{".xlsm"}, false, zipOf(t, contentTypes("application/vnd.ms-excel.sheet.binary.macroEnabled.main"), entry{"xl/vbaProject.bin", ""}), "a.xlsb", true},
		{"all: HTML", []string{"*"}, false, html, "a.html", true},
		{"all: HTML called a picture", []string{"*"}, false, html, "a.png", true},
		{"all: unknown", []string{"*"}, false, noise(300), "a.bin", true},
		{"all: unknown called a PDF", []string{"*"}, false, noise(300), "a.pdf", true},
		{"all: unknown called a program", []string{"*"}, false, noise(300), "a.com", false},
		{"all: macros", []string{"*"}, false, docm, "a.docm", true},
		{"all: old macros", []string{"*"}, false, legacyMacros, "a.doc", true},
		{"all: a broken archive", []string{"*"}, true, []byte("PK\x03\x04\x00"), "a.zip", false},
		{"all: an empty file", []string{"*"}, true, nil, "a", false},
		{"all but executables", []string{"*"}, false, exe, "a.exe", false},
		{"all but scripts", []string{"*"}, false, script, "a.sh", false},
		{"all and executables", []string{"*"}, true, exe, "a.exe", true},
		{"all and executables: unknown called a program", []string{"*"}, true, noise(300), "a.com", true},
		{"all and scripts", []string{"*"}, true, script, "a.sh", true},
		{"all and executables, called a PDF", []string{"*"}, true, exe, "a.pdf", false},
		{"the default and executables", nil, true, exe, "a.exe", true},
		{"the default and executables: the default", nil, true, pngOf(t), "a.png", true},
		{"a list and executables: only what it names", []string{".sh"}, true, exe, "a.exe", false},
		{"a list that names a script", []string{".sh"}, true, script, "a.sh", true},
		{"a script called text, where scripts are taken", []string{".sh"}, true, script, "a.txt", true},
		{"a wildcard takes no scripts", []string{"text/*"}, false, script, "a.sh", false},
		{"macros by name", []string{".docm"}, false, docm, "a.docm", true},
		{"old macros go with the new ones", []string{".docm"}, false, legacyMacros, "a.doc", true},
		{"old macros do not go with their type", []string{"application/msword"}, false, legacyMacros, "a.doc", false},
	} {
		t.Run(c.about, func(t *testing.T) {
			p, err := NewPolicy(c.allowed, c.executables)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Decide(bytes.NewReader(c.content), int64(len(c.content)), c.name)
			if (err == nil) != c.want {
				t.Errorf("found %q, %v; want it taken: %t", got, err, c.want)
			}
			if err == nil && len(p.extensions) == 0 && !slices.Contains(p.types(), got) {
				t.Errorf("%q is taken and not in Types", got)
			}
		})
	}
}

func TestAListWithAMistakeIsRefusedWithASuggestion(t *testing.T) {
	for entry, want := range map[string]string{
		"application/pfd":           `unknown type "application/pfd", did you mean "application/pdf"?`,
		"*.pdf":                     `did you mean ".pdf"?`,
		"images":                    `did you mean "image/*"?`,
		"defualt":                   `did you mean "default"?`,
		".do/c":                     `did you mean ".doc"?`,
		"":                          `name a MIME type`,
		"   ":                       `name a MIME type`,
		"image/":                    `did you mean "image/*"?`,
		"foo/*":                     `unknown type "foo/*"`,
		"something/else/altogether": `name a MIME type`,
		".exe":                      `is a Windows executable, which needs allow_executables = true as well`,
		"text/x-python":             `is a Python program, which needs allow_executables = true as well`,
	} {
		_, err := NewPolicy([]string{"default", entry}, false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want something about %s", entry, err, want)
		}
	}
}

func TestAReadErrorIsNoRefusal(t *testing.T) {
	content := zipOf(t, contentTypes(wordMain))
	for fail := range 6 {
		r := &failingReader{bytes.NewReader(content), fail}
		_, err := newPolicy(t).Decide(r, int64(len(content)), "a.docx")
		var refusal *Refusal
		if errors.As(err, &refusal) || err != nil && !errors.Is(err, os.ErrClosed) {
			t.Errorf("with read %d failing: %v", fail, err)
		}
		if err == nil && r.left < 0 {
			t.Errorf("read %d failed unnoticed", fail)
		}
	}
}

func TestAFileShorterThanItsSizeIsAReadError(t *testing.T) {
	_, err := newPolicy(t).Decide(strings.NewReader("hello"), 10, "a.txt")
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
}

// failingReader fails permanently after a number of reads.
type failingReader struct {
	io.ReaderAt
	left int
}

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	r.left--
	if r.left < 0 {
		return 0, os.ErrClosed
	}
	return r.ReaderAt.ReadAt(p, off)
}

// TestTheTableIsSound finds mistakes in the table: every alias must name a type, and no extension may have a capital.
func TestTheTableIsSound(t *testing.T) {
	for alias, mime := range aliases {
		if byMIME[mime] == nil {
			t.Errorf("%s stands for %s, which is not in the table", alias, mime)
		}
	}
	for _, s := range signatures {
		if byMIME[s.mime] == nil {
			t.Errorf("%s is not in the table", s.mime)
		}
	}
	for _, k := range table {
		if k.exts != strings.ToLower(k.exts) || k.label == "" || strings.Count(k.mime, "/") != 1 {
			t.Errorf("%+v", k)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	policy := newPolicy(b)
	noise := append([]byte("%PDF-1.7\n"), make([]byte, 1<<20)...)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise[9:]) // never fails
	b.Run("noise.pdf", func(b *testing.B) {
		b.SetBytes(64 << 10)
		for b.Loop() {
			if _, err := policy.Decide(bytes.NewReader(noise), int64(len(noise)), "noise.pdf"); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, s := range samples(b) {
		if s.file == "docx_lo.docx" || s.file == "csv_comma.csv" || s.file == "ppt_lo.ppt" {
			b.Run(s.file, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := policy.Decide(bytes.NewReader(s.content), int64(len(s.content)), s.file); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// types lists the accepted MIME types.
func (p *Policy) types() (types []string) {
	for _, allowed := range p.Allowed() {
		types = append(types, allowed.MIMEType)
	}
	return types
}
