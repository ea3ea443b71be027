package content

import (
	"path"
	"strings"
)

// trait is a set of properties of a kind of file, for the rules of the policy.
type trait uint8

const (
	common     trait = 1 << iota // accepted by default
	text                         // distinguished from other text by its file name extension
	zipped                       // a ZIP archive inside, so its name may end in .zip
	macros                       // contains code that an office program would run
	html                         // a browser would run the code in it
	script                       // an interpreter would run it
	executable                   // a machine, or a runtime, would run it
)

// kind is a kind of file: a row of the table.
type kind struct {
	mime   string // the type that is returned; never with parameters
	label  string // what people call such a file, with its article
	family string // the name of the group that it belongs to in a list of accepted types, if there is one
	exts   string // its extensions, the usual one first
	traits trait
}

// table has all kinds. An extension may be in several rows: a name that ends in it may be that of any of them.
var table = []kind{
	// Documents.
	{"application/pdf", "a PDF document", "PDF", "pdf", common},
	{"application/msword", "a Word document", "Word", "doc dot", common},
	{"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a Word document", "Word", "docx dotx", common | zipped},
	{"application/vnd.openxmlformats-officedocument.wordprocessingml.template", "a Word template", "Word", "dotx docx", common | zipped},
	{"application/vnd.ms-excel", "an Excel workbook", "Excel", "xls xlt", common},
	{"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "an Excel workbook", "Excel", "xlsx xltx", common | zipped},
	{"application/vnd.openxmlformats-officedocument.spreadsheetml.template", "an Excel template", "Excel", "xltx xlsx", common | zipped},
	{"application/vnd.ms-excel.sheet.binary.macroEnabled.12", "a binary Excel workbook", "Excel", "xlsb", common | zipped}, // the word macroEnabled is in its type with or without macros
	{"application/vnd.ms-powerpoint", "a PowerPoint presentation", "PowerPoint", "ppt pps pot", common},
	{"application/vnd.openxmlformats-officedocument.presentationml.presentation", "a PowerPoint presentation", "PowerPoint", "pptx ppsx potx", common | zipped},
	{"application/vnd.openxmlformats-officedocument.presentationml.slideshow", "a PowerPoint slide show", "PowerPoint", "ppsx pptx potx", common | zipped},
	{"application/vnd.openxmlformats-officedocument.presentationml.template", "a PowerPoint template", "PowerPoint", "potx pptx ppsx", common | zipped},
	{"application/vnd.ms-office-encrypted", "a password-protected Office document", "", "", common},
	{"application/vnd.oasis.opendocument.text", "an OpenDocument text", "OpenDocument", "odt", common | zipped},
	{"application/vnd.oasis.opendocument.text-template", "an OpenDocument text template", "OpenDocument", "ott", common | zipped},
	{"application/vnd.oasis.opendocument.text-master", "an OpenDocument master document", "OpenDocument", "odm", common | zipped},
	{"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet", "OpenDocument", "ods", common | zipped},
	{"application/vnd.oasis.opendocument.spreadsheet-template", "an OpenDocument spreadsheet template", "OpenDocument", "ots", common | zipped},
	{"application/vnd.oasis.opendocument.presentation", "an OpenDocument presentation", "OpenDocument", "odp", common | zipped},
	{"application/vnd.oasis.opendocument.presentation-template", "an OpenDocument presentation template", "OpenDocument", "otp", common | zipped},
	{"application/vnd.oasis.opendocument.graphics", "an OpenDocument drawing", "OpenDocument", "odg", common | zipped},
	{"application/vnd.oasis.opendocument.graphics-template", "an OpenDocument drawing template", "OpenDocument", "otg", common | zipped},
	{"application/vnd.oasis.opendocument.chart", "an OpenDocument chart", "OpenDocument", "odc", common | zipped},
	{"application/vnd.oasis.opendocument.formula", "an OpenDocument formula", "OpenDocument", "odf", common | zipped},
	{"application/vnd.oasis.opendocument.image", "an OpenDocument image", "OpenDocument", "odi", common | zipped},
	{"application/vnd.oasis.opendocument.base", "an OpenDocument database", "OpenDocument", "odb", common | zipped},
	{"text/rtf", "an RTF document", "RTF", "rtf doc dot", common},
	{"application/epub+zip", "an EPUB book", "EPUB", "epub", common | zipped},
	{"application/vnd.ms-outlook", "an Outlook message", "mail", "msg oft", common},
	{"application/pkcs7-mime", "a signed or encrypted S/MIME or CAdES file", "S/MIME", "p7m p7c", common},
	{"application/pkcs7-signature", "an S/MIME or CAdES signature", "S/MIME", "p7s", common},
	{"application/vnd.etsi.asic-e+zip", "an ASiC container", "S/MIME", "asice sce", common | zipped},
	{"application/vnd.etsi.asic-s+zip", "an ASiC container", "S/MIME", "asics scs", common | zipped},
	{"application/vnd.visio", "a Visio drawing", "Visio", "vsd vst vss", common},
	{"application/vnd.ms-visio.drawing", "a Visio drawing", "Visio", "vsdx vstx", common | zipped},
	{"application/vnd.ms-visio.template", "a Visio template", "Visio", "vstx vsdx", common | zipped},
	{"application/vnd.ms-visio.stencil", "a Visio stencil", "Visio", "vssx", common | zipped},
	{"application/vnd.ms-project", "a Project plan", "Project", "mpp mpt", common},
	{"application/vnd.ms-publisher", "a Publisher document", "Publisher", "", 0},
	{"application/onenote", "a OneNote section", "OneNote", "one", common},
	{"application/postscript", "a PostScript program", "PostScript", "ps eps", 0},
	{"application/x-ole-storage", "an OLE file of no known kind", "OLE", "", 0},

	// Documents that may run macros. Those that share their type with a document without macros are accepted where
	// others with macros are.
	{"application/vnd.ms-word.document.macroEnabled.12", "a Word document with macros", "Word", "docm dotm", zipped | macros},
	{"application/vnd.ms-word.template.macroEnabled.12", "a Word template with macros", "Word", "dotm docm", zipped | macros},
	{"application/vnd.ms-excel.sheet.macroEnabled.12", "an Excel workbook with macros", "Excel", "xlsm xltm", zipped | macros},
	{"application/vnd.ms-excel.template.macroEnabled.12", "an Excel template with macros", "Excel", "xltm xlsm", zipped | macros},
	{"application/vnd.ms-excel.sheet.binary.macroEnabled.12", "a binary Excel workbook with macros", "Excel", "xlsb", zipped | macros},
	{"application/vnd.ms-excel.addin.macroEnabled.12", "an Excel add-in with macros", "Excel", "xlam", zipped | macros},
	{"application/vnd.ms-powerpoint.presentation.macroEnabled.12", "a PowerPoint presentation with macros", "PowerPoint", "pptm potm ppsm", zipped | macros},
	{"application/vnd.ms-powerpoint.slideshow.macroEnabled.12", "a PowerPoint slide show with macros", "PowerPoint", "ppsm pptm potm", zipped | macros},
	{"application/vnd.ms-powerpoint.template.macroEnabled.12", "a PowerPoint template with macros", "PowerPoint", "potm pptm ppsm", zipped | macros},
	{"application/vnd.ms-powerpoint.addin.macroEnabled.12", "a PowerPoint add-in with macros", "PowerPoint", "ppam", zipped | macros},
	{"application/vnd.ms-visio.drawing.macroEnabled.12", "a Visio drawing with macros", "Visio", "vsdm", zipped | macros},
	{"application/vnd.ms-visio.template.macroEnabled.12", "a Visio template with macros", "Visio", "vstm", zipped | macros},
	{"application/vnd.ms-visio.stencil.macroEnabled.12", "a Visio stencil with macros", "Visio", "vssm", zipped | macros},
	{"application/msword", "a Word document with macros", "Word", "doc dot", macros},
	{"application/vnd.ms-excel", "an Excel workbook with macros", "Excel", "xls xlt xla", macros},
	{"application/vnd.ms-powerpoint", "a PowerPoint presentation with macros", "PowerPoint", "ppt pps pot ppa", macros},
	{"application/vnd.oasis.opendocument.text", "an OpenDocument text with macros", "OpenDocument", "odt", zipped | macros},
	{"application/vnd.oasis.opendocument.text-template", "an OpenDocument text template with macros", "OpenDocument", "ott", zipped | macros},
	{"application/vnd.oasis.opendocument.text-master", "an OpenDocument master document with macros", "OpenDocument", "odm", zipped | macros},
	{"application/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet with macros", "OpenDocument", "ods", zipped | macros},
	{"application/vnd.oasis.opendocument.spreadsheet-template", "an OpenDocument spreadsheet template with macros", "OpenDocument", "ots", zipped | macros},
	{"application/vnd.oasis.opendocument.presentation", "an OpenDocument presentation with macros", "OpenDocument", "odp", zipped | macros},
	{"application/vnd.oasis.opendocument.presentation-template", "an OpenDocument presentation template with macros", "OpenDocument", "otp", zipped | macros},
	{"application/vnd.oasis.opendocument.graphics", "an OpenDocument drawing with macros", "OpenDocument", "odg", zipped | macros},
	{"application/vnd.oasis.opendocument.graphics-template", "an OpenDocument drawing template with macros", "OpenDocument", "otg", zipped | macros},
	{"application/vnd.oasis.opendocument.base", "an OpenDocument database with macros", "OpenDocument", "odb", zipped | macros},

	// Pictures.
	{"image/png", "a PNG picture", "pictures", "png apng", common},
	{"image/jpeg", "a JPEG picture", "pictures", "jpg jpeg jpe jfif", common},
	{"image/gif", "a GIF picture", "pictures", "gif", common},
	{"image/svg+xml", "an SVG picture", "pictures", "svg", common},
	{"image/webp", "a WebP picture", "pictures", "webp", common},
	{"image/bmp", "a BMP picture", "pictures", "bmp dib", common},
	{"image/tiff", "a TIFF picture", "pictures", "tiff tif", common},
	{"image/heic", "a HEIC picture", "pictures", "heic hif", common},
	{"image/heif", "a HEIF picture", "pictures", "heif hif", common},
	{"image/avif", "an AVIF picture", "pictures", "avif", common},
	{"image/jxl", "a JPEG XL picture", "pictures", "jxl", 0},
	{"image/jp2", "a JPEG 2000 picture", "pictures", "jp2", 0},
	{"image/x-icon", "an icon", "pictures", "ico", 0},
	{"image/x-icns", "an icon", "pictures", "icns", 0},
	{"image/vnd.adobe.photoshop", "a Photoshop picture", "pictures", "psd", 0},
	{"image/x-xcf", "a GIMP picture", "pictures", "xcf", 0},
	{"image/vnd.djvu", "a DjVu document", "pictures", "djvu", 0},
	{"image/vnd.dwg", "an AutoCAD drawing", "pictures", "dwg", 0},

	// Text and data.
	{"text/plain", "plain text", "plain text", "txt text log ini conf cfg toml sql properties dot pot", common | text},
	{"text/markdown", "Markdown text", "Markdown", "md markdown", common | text},
	{"text/csv", "a CSV table", "CSV", "csv", common | text},
	{"text/tab-separated-values", "a TSV table", "TSV", "tsv", common | text},
	{"application/json", "a JSON file", "JSON", "json ipynb avsc har", common | text},
	{"application/geo+json", "a GeoJSON file", "JSON", "geojson", common | text},
	{"application/x-ndjson", "an NDJSON file", "NDJSON", "ndjson jsonl", common | text},
	{"application/xml", "an XML file", "XML", "xml xsd xsl xslt rss atom wsdl kml gpx plist opml bpmn", common | text},
	{"application/yaml", "a YAML file", "YAML", "yaml yml", common | text},
	{"message/rfc822", "a mail message", "mail", "eml", common | text},
	{"text/calendar", "a calendar file", "calendars", "ics ifb vcs", common | text},
	{"text/vcard", "a contact card", "contacts", "vcf vcard", common | text},
	{"application/vnd.apache.parquet", "a Parquet table", "Parquet", "parquet", common},
	{"application/vnd.apache.avro", "an Avro file", "Avro", "avro", common},
	{"application/vnd.apache.arrow.file", "an Arrow table", "Arrow", "arrow feather ipc", common},
	{"application/vnd.apache.arrow.stream", "an Arrow stream", "Arrow", "arrows arrow ipc", common},
	{"application/x-feather", "a Feather table, version 1", "Arrow", "feather", common},
	{"application/vnd.apache.orc", "an ORC table", "ORC", "orc", common},
	{"application/vnd.sqlite3", "an SQLite database", "SQLite", "sqlite sqlite3 db3 s3db", common},
	{"application/geopackage+sqlite3", "a GeoPackage", "SQLite", "gpkg sqlite", common},
	{"application/x-msaccess", "an Access database", "Access", "accdb mdb", 0},
	{"application/dicom", "a DICOM picture", "DICOM", "dcm", 0},
	{"application/vnd.tcpdump.pcap", "a packet capture", "packet captures", "pcap", 0},

	// Archives.
	{"application/zip", "a ZIP archive", "archives", "zip", common},
	{"application/gzip", "a gzip archive", "archives", "gz tgz", common},
	{"application/x-7z-compressed", "a 7z archive", "archives", "7z", common},
	{"application/x-tar", "a tar archive", "archives", "tar", common},
	{"application/x-bzip2", "a bzip2 archive", "archives", "bz2 tbz tbz2", common},
	{"application/x-xz", "an xz archive", "archives", "xz txz", common},
	{"application/zstd", "a zstd archive", "archives", "zst tzst", common},
	{"application/vnd.rar", "a RAR archive", "archives", "rar", common},
	{"application/vnd.ms-cab-compressed", "a CAB archive", "archives", "cab", 0},
	{"application/x-cpio", "a cpio archive", "archives", "cpio", 0},
	{"application/lzip", "an lzip archive", "archives", "lz tlz", 0},

	// Audio and video.
	{"audio/mpeg", "an MP3 recording", "audio", "mp3 mp2 mpga", common},
	{"audio/mp4", "an MPEG-4 recording", "audio", "m4a m4b m4r mp4 aac", common},
	{"audio/aac", "an AAC recording", "audio", "aac m4a", common},
	{"audio/wav", "a WAV recording", "audio", "wav wave", common},
	{"audio/ogg", "an Ogg recording", "audio", "ogg oga opus spx ogx", common},
	{"audio/flac", "a FLAC recording", "audio", "flac", common},
	{"audio/aiff", "an AIFF recording", "audio", "aiff aif aifc", common},
	{"audio/x-caf", "a Core Audio recording", "audio", "caf", common},
	{"audio/webm", "a WebM recording", "audio", "weba", common},
	{"audio/matroska", "a Matroska recording", "audio", "mka", common},
	{"audio/x-ms-wma", "a Windows Media recording", "audio", "wma", common},
	{"audio/midi", "a MIDI file", "audio", "mid midi kar", common},
	{"audio/amr", "an AMR recording", "audio", "amr 3gp", common},
	{"audio/basic", "an AU recording", "audio", "au snd", common},
	{"video/mp4", "an MPEG-4 video", "video", "mp4 m4v m4a mov 3gp 3g2 f4v", common},
	{"video/quicktime", "a QuickTime video", "video", "mov qt mp4 m4v", common},
	{"video/3gpp", "a 3GPP video", "video", "3gp 3gpp 3g2 mp4", common},
	{"video/3gpp2", "a 3GPP2 video", "video", "3g2 3gp mp4", common},
	{"video/webm", "a WebM video", "video", "webm mkv", common},
	{"video/matroska", "a Matroska video", "video", "mkv mk3d webm", common},
	{"video/x-msvideo", "an AVI video", "video", "avi divx", common},
	{"video/mpeg", "an MPEG video", "video", "mpg mpeg mpe m2v vob", common},
	{"video/mp2t", "an MPEG transport stream", "video", "mts m2ts m2t ts", common},
	{"video/ogg", "an Ogg video", "video", "ogv ogg ogx", common},
	{"application/ogg", "an Ogg file", "video", "ogx ogg ogv oga opus", common},
	{"video/x-ms-asf", "a Windows Media file", "video", "wmv asf", common},
	{"video/x-flv", "a Flash video", "video", "flv", common},

	// What a browser would run.
	{"text/html", "an HTML page", "HTML", "html htm shtml", text | html},
	{"application/xhtml+xml", "an XHTML page", "HTML", "xhtml xht", text | html},
	{"multipart/related", "a saved web page", "HTML", "mht mhtml", text | html},

	// What an interpreter would run.
	{"text/x-shellscript", "a shell script", "scripts", "sh bash zsh ksh csh fish command terminal", text | script},
	{"application/x-bat", "a Windows batch file", "scripts", "bat cmd", text | script},
	{"text/x-powershell", "a PowerShell script", "scripts", "ps1 psm1 psd1 ps1xml psc1 pssc cdxml", text | script},
	{"text/vbscript", "a VBScript program", "scripts", "vbs vbe", text | script},
	{"application/x-wsf", "a Windows script", "scripts", "wsf wsh wsc sct ws", text | script},
	{"application/hta", "an HTML application", "scripts", "hta", text | script},
	{"text/javascript", "a JavaScript program", "scripts", "js mjs cjs jse jsx", text | script},
	{"text/x-typescript", "a TypeScript program", "scripts", "ts tsx", text | script},
	{"text/x-python", "a Python program", "scripts", "py pyw pyz pyzw", text | script},
	{"text/x-ruby", "a Ruby program", "scripts", "rb", text | script},
	{"text/x-perl", "a Perl program", "scripts", "pl pm", text | script},
	{"text/x-php", "a PHP program", "scripts", "php phtml php3 php4 php5 php7 php8 phps pht phar", text | script},
	{"text/x-lua", "a Lua program", "scripts", "lua", text | script},
	{"text/x-tcl", "a Tcl program", "scripts", "tcl", text | script},
	{"text/x-applescript", "an AppleScript program", "scripts", "applescript", text | script},
	{"text/x-awk", "an awk program", "scripts", "awk", text | script},
	{"text/x-autohotkey", "an AutoHotkey or AutoIt script", "scripts", "ahk au3", text | script},
	{"text/asp", "a server page", "scripts", "asp aspx asax ascx ashx asmx cshtml jsp jspx cfm cfc cgi", text | script},
	{"application/x-url", "an Internet shortcut", "scripts", "url website webloc inetloc fileloc", text | script},
	{"application/x-desktop", "a desktop launcher", "scripts", "desktop", text | script},
	{"text/x-ms-regedit", "a Windows registry file", "scripts", "reg", text | script},
	{"application/x-setupscript", "a Windows setup script", "scripts", "inf", text | script},
	{"application/x-ms-shellscript", "an Explorer command", "scripts", "scf settingcontent-ms library-ms search-ms searchconnector-ms", text | script},
	{"application/x-java-jnlp-file", "a Java launcher", "scripts", "jnlp", text | script},
	{"application/x-ms-application", "a ClickOnce installer", "scripts", "application appref-ms xbap", text | script},
	{"application/x-ms-console", "a Windows management console", "scripts", "msc", text | script},

	// What a machine or a runtime would run, or install.
	{"application/vnd.microsoft.portable-executable", "a Windows executable", "executables", "exe dll scr com pif cpl sys ocx drv efi", executable},
	{"application/x-ms-installer", "a Windows installer", "executables", "msi msp mst", executable},
	{"application/msix", "a Windows app package", "executables", "msix appx msixbundle appxbundle", executable | zipped},
	{"application/x-ms-shortcut", "a Windows shortcut", "executables", "lnk", executable},
	{"application/vnd.ms-htmlhelp", "a Windows help file", "executables", "chm", executable},
	{"application/x-executable", "a Linux executable", "executables", "elf", executable},
	{"application/x-sharedlib", "a Linux library", "executables", "so", executable},
	{"application/x-object", "an object file", "executables", "", executable},
	{"application/x-coredump", "a core dump", "executables", "", executable},
	{"application/x-elf", "an ELF file", "executables", "", executable},
	{"application/x-archive", "a program library", "executables", "", executable},
	{"application/vnd.debian.binary-package", "a Debian package", "executables", "deb", executable},
	{"application/x-rpm", "an RPM package", "executables", "rpm", executable},
	{"application/x-mach-binary", "a macOS executable", "executables", "dylib", executable},
	{"application/x-apple-diskimage", "a macOS disk image", "executables", "dmg", executable},
	{"application/x-xar", "a macOS installer", "executables", "pkg xar", executable},
	{"application/java-vm", "a Java class", "executables", "class", executable},
	{"application/java-archive", "a Java program", "executables", "jar war ear", executable | zipped},
	{"application/vnd.android.package-archive", "an Android app", "executables", "apk aab xapk", executable | zipped},
	{"application/x-ios-app", "an iOS app", "executables", "ipa", executable | zipped},
	{"application/vsix", "an extension of Visual Studio", "executables", "vsix", executable | zipped},
	{"application/vnd.openofficeorg.extension", "an extension of LibreOffice", "executables", "oxt", executable | zipped},
	{"application/vnd.android.dex", "an Android program", "executables", "dex", executable},
	{"application/wasm", "a WebAssembly program", "executables", "wasm", executable},
	{"application/x-bytecode.python", "a compiled Python program", "executables", "pyc pyo", executable},
	{"application/x-chrome-extension", "a browser extension", "executables", "crx", executable},
	{"application/x-xpinstall", "a browser extension", "executables", "xpi", executable},
	{"application/x-shockwave-flash", "a Flash program", "executables", "swf", executable},

	{"application/octet-stream", "content of no known type", "", "", 0},
}

// aliases maps other names of types to those in the table.
var aliases = map[string]string{
	"application/x-pdf":             "application/pdf",
	"application/rtf":               "text/rtf",
	"application/x-cfb":             "application/x-ole-storage",
	"image/apng":                    "image/png",
	"image/jpg":                     "image/jpeg",
	"image/pjpeg":                   "image/jpeg",
	"image/x-ms-bmp":                "image/bmp",
	"image/heic-sequence":           "image/heic",
	"image/heif-sequence":           "image/heif",
	"image/vnd.microsoft.icon":      "image/x-icon",
	"application/csv":               "text/csv",
	"text/json":                     "application/json",
	"application/ndjson":            "application/x-ndjson",
	"application/jsonl":             "application/x-ndjson",
	"text/xml":                      "application/xml",
	"text/yaml":                     "application/yaml",
	"application/x-yaml":            "application/yaml",
	"text/x-markdown":               "text/markdown",
	"text/x-vcard":                  "text/vcard",
	"application/x-parquet":         "application/vnd.apache.parquet",
	"application/x-sqlite3":         "application/vnd.sqlite3",
	"application/x-zip-compressed":  "application/zip",
	"application/x-gzip":            "application/gzip",
	"application/x-bzip":            "application/x-bzip2",
	"application/x-rar-compressed":  "application/vnd.rar",
	"application/x-pkcs7-mime":      "application/pkcs7-mime",
	"application/x-pkcs7-signature": "application/pkcs7-signature",
	"audio/mp3":                     "audio/mpeg",
	"audio/x-m4a":                   "audio/mp4",
	"audio/x-wav":                   "audio/wav",
	"audio/wave":                    "audio/wav",
	"audio/vnd.wave":                "audio/wav",
	"audio/opus":                    "audio/ogg",
	"audio/x-flac":                  "audio/flac",
	"audio/x-aiff":                  "audio/aiff",
	"audio/x-matroska":              "audio/matroska",
	"video/x-m4v":                   "video/mp4",
	"video/avi":                     "video/x-msvideo",
	"video/x-matroska":              "video/matroska",
	"video/x-ms-wmv":                "video/x-ms-asf",
	"application/javascript":        "text/javascript",
	"application/x-sh":              "text/x-shellscript",
	"application/x-msdownload":      "application/vnd.microsoft.portable-executable",
	"application/x-msi":             "application/x-ms-installer",
	"application/x-java-applet":     "application/java-vm",
	"application/x-msdos-program":   "application/vnd.microsoft.portable-executable",
	"application/x-dosexec":         "application/vnd.microsoft.portable-executable",
	"application/vnd.ms-word":       "application/msword",
	"application/x-zstd":            "application/zstd",
	"application/x-debian-package":  "application/vnd.debian.binary-package",
	"application/vnd.geo+json":      "application/geo+json",
	"application/x-httpd-php":       "text/x-php",
}

var (
	byMIME = indexMIME()
	byExt  = indexExt()
)

// Kinds that the rules use by name.
var (
	kindUnknown   = byMIME["application/octet-stream"]
	kindPDF       = byMIME["application/pdf"]
	kindRTF       = byMIME["text/rtf"]
	kindPS        = byMIME["application/postscript"]
	kindSVG       = byMIME["image/svg+xml"]
	kindHEIF      = byMIME["image/heif"]
	kindAVIF      = byMIME["image/avif"]
	kindHTML      = byMIME["text/html"]
	kindXHTML     = byMIME["application/xhtml+xml"]
	kindPHP       = byMIME["text/x-php"]
	kindShell     = byMIME["text/x-shellscript"]
	kindXML       = byMIME["application/xml"]
	kindText      = byMIME["text/plain"]
	kindParquet   = byMIME["application/vnd.apache.parquet"]
	kindPE        = byMIME["application/vnd.microsoft.portable-executable"]
	kindMachO     = byMIME["application/x-mach-binary"]
	kindClass     = byMIME["application/java-vm"]
	kindZIP       = byMIME["application/zip"]
	kindJAR       = byMIME["application/java-archive"]
	kindAPK       = byMIME["application/vnd.android.package-archive"]
	kindMSIX      = byMIME["application/msix"]
	kindIPA       = byMIME["application/x-ios-app"]
	kindVSIX      = byMIME["application/vsix"]
	kindGzip      = byMIME["application/gzip"]
	kindODT       = byMIME["application/vnd.oasis.opendocument.text"]
	kindOLE       = byMIME["application/x-ole-storage"]
	kindMSI       = byMIME["application/x-ms-installer"]
	kindWord      = byMIME["application/msword"]
	kindExcel     = byMIME["application/vnd.ms-excel"]
	kindSlides    = byMIME["application/vnd.ms-powerpoint"]
	kindOutlook   = byMIME["application/vnd.ms-outlook"]
	kindVisio     = byMIME["application/vnd.visio"]
	kindPublisher = byMIME["application/vnd.ms-publisher"]
	kindEncrypted = byMIME["application/vnd.ms-office-encrypted"]
	kindProject   = byMIME["application/vnd.ms-project"]

	kindCSV        = byMIME["text/csv"]
	kindTSV        = byMIME["text/tab-separated-values"]
	kindTypeScript = byMIME["text/x-typescript"]
	kindPKCS7      = byMIME["application/pkcs7-mime"]
	kindSignature  = byMIME["application/pkcs7-signature"]
	kindSQLite     = byMIME["application/vnd.sqlite3"]
	kindGeoPackage = byMIME["application/geopackage+sqlite3"]
	kindStream     = byMIME["application/vnd.apache.arrow.stream"]
	kindAAC        = byMIME["audio/aac"]
	kindFLAC       = byMIME["audio/flac"]
	kindMP3        = byMIME["audio/mpeg"]
	kindAIFF       = byMIME["audio/aiff"]
	kindWAV        = byMIME["audio/wav"]
	kindMPEGTS     = byMIME["video/mp2t"]
	kindMP4        = byMIME["video/mp4"]
	kindM4A        = byMIME["audio/mp4"]
	kindBMP        = byMIME["image/bmp"]
	kindSavedPage  = byMIME["multipart/related"]
)

// is reports whether k has any of the traits t.
func (k *kind) is(t trait) bool { return k.traits&t != 0 }

// IsText reports whether files of a type are text that people read as it is: RTF is not, nor is SVG, which is a
// picture.
func IsText(mimeType string) bool {
	k := byMIME[mimeType]
	return k != nil && k.is(text)
}

// textual reports whether a kind's bytes are text, including SVG and RTF, which are detected whatever the extension.
func (k *kind) textual() bool { return k.is(text) || k == kindSVG || k == kindRTF }

// sharesType reports whether a kind with macros has the same type as that without macros.
func (k *kind) sharesType() bool { return byMIME[strings.ToLower(k.mime)] != k }

// office reports whether a kind belongs to a program whose formats people do not distinguish: the name of one format on
// content of another in the same family misleads nobody.
func (k *kind) office() bool {
	switch k.family {
	case "Word", "Excel", "PowerPoint", "Visio":
		return true
	}
	return false
}

// officeXML reports whether k is an OOXML document, macro-enabled or not.
func (k *kind) officeXML() bool { return k.office() && k.is(zipped) }

// officeXMLExt returns the usual extension of the OOXML documents of k's family, with its dot.
func (k *kind) officeXMLExt() string {
	for i := range table {
		if other := &table[i]; other.family == k.family && other.is(zipped) {
			return other.usualExt()
		}
	}
	return ""
}

// withMacros returns k's counterpart with macros: the one of the same type if there is one.
func (k *kind) withMacros() *kind {
	if k.is(macros) {
		return k
	}
	found := k
	for i := range table {
		other := &table[i]
		switch {
		case !other.is(macros) || other.family != k.family || other.is(zipped) != k.is(zipped):
		case other.mime == k.mime:
			return other
		case found == k:
			found = other
		}
	}
	return found
}

// usualExt returns the usual extension of k, with its dot, or "".
func (k *kind) usualExt() string {
	first, _, _ := strings.Cut(k.exts, " ")
	if first == "" {
		return ""
	}
	return "." + first
}

// claims lists the kinds that a file name claims, the most likely first, and none when it claims nothing. Windows drops
// dots and spaces at the end of a name, so "a.exe. " claims the same as "a.exe".
func claims(name string) []*kind {
	ext := path.Ext(strings.TrimRight(name, ". "))
	return byExt[strings.ToLower(strings.TrimPrefix(ext, "."))]
}

func indexMIME() map[string]*kind {
	index := make(map[string]*kind)
	for i := range table {
		k := &table[i]
		if mime := strings.ToLower(k.mime); index[mime] == nil {
			index[mime] = k
		}
	}
	for alias, mime := range aliases {
		index[alias] = index[mime]
	}
	return index
}

func indexExt() map[string][]*kind {
	usual, other := make(map[string][]*kind), make(map[string][]*kind)
	for i := range table {
		k := &table[i]
		for n, ext := range strings.Fields(k.exts) {
			if n == 0 {
				usual[ext] = append(usual[ext], k)
			} else {
				other[ext] = append(other[ext], k)
			}
		}
	}
	for ext, kinds := range other {
		usual[ext] = append(usual[ext], kinds...)
	}
	return usual
}
