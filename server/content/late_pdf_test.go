package content

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
)

// programs are the starts of programs, and of a database, which is refused as well.
var programs = []struct{ about, head, why string }{
	{"a Linux executable", "\x7FELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x3E\x00", "a Linux executable"},
	{"a Linux library", "\x7FELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x03\x00\x3E\x00", "a Linux library"},
	{"a Mach-O file", "\xCF\xFA\xED\xFE\x07\x00\x00\x01\x03\x00\x00\x00", "a macOS executable"},
	{"a Mach-O file of 32 bits", "\xCE\xFA\xED\xFE\x07\x00\x00\x00\x03\x00\x00\x00", "a macOS executable"},
	{"a Mach-O file of 64 bits, big end first", "\xFE\xED\xFA\xCF\x01\x00\x00\x07\x00\x00\x00\x03", "a macOS executable"},
	{"a Mach-O file of 32 bits, big end first", "\xFE\xED\xFA\xCE\x00\x00\x00\x07\x00\x00\x00\x03", "a macOS executable"},
	{"a Mach-O file for two machines", "\xCA\xFE\xBA\xBE\x00\x00\x00\x02", "a macOS executable"},
	{"a Mach-O file for many machines", "\xCA\xFE\xBA\xBE\x00\x00\x00\x19", "a macOS executable"},
	{"a Mach-O file for two machines, with long offsets", "\xCA\xFE\xBA\xBF\x00\x00\x00\x02", "a macOS executable"},
	{"a Java class", "\xCA\xFE\xBA\xBE\x00\x00\x00\x41\x00\x1d", "a Java class"},
	{"the first Java class", "\xCA\xFE\xBA\xBE\x00\x03\x00\x2D\x00\x1d", "a Java class"},
	{"a WebAssembly program", "\x00asm\x01\x00\x00\x00", "a WebAssembly program"},
	{"a Windows shortcut", "L\x00\x00\x00\x01\x14\x02\x00\x00\x00\x00\x00\xC0\x00\x00\x00\x00\x00\x00\x46", "a Windows shortcut"},
	{"an RPM package", "\xED\xAB\xEE\xDB\x03\x00\x00\x00", "an RPM package"},
	{"a compiled Python program", "\xCB\x0D\x0D\x0A\x00\x00\x00\x00\x00\x00\x00\x00", "a compiled Python program"},
	{"a macOS installer", "xar!\x00\x1C\x00\x01", "a macOS installer"},
	{"a drawing", "AC1032\x00\x00\x00\x00\x00\x01", "an AutoCAD drawing"},
}

// ASVS 5.2.2
func TestAProgramIsNoPDFForHavingAPDFHeaderInIt(t *testing.T) {
	for _, c := range programs {
		for _, name := range []string{"report.pdf", "report", "report.bin"} {
			for _, at := range []int{0, 100, 900} {
				content := []byte(c.head + strings.Repeat("\x00", at) + "\x00%PDF-1.4\n%%EOF\n")
				t.Run(fmt.Sprintf("%s, %s, %d", c.about, name, at), func(t *testing.T) { refused(t, content, name, c.why) })
			}
		}
	}
}

// TestAProgramIsNoArchiveForHavingATarHeaderInIt adapts the checksum of a tar header to the start of a program.
// ASVS 5.2.2
func TestAProgramIsNoArchiveForHavingATarHeaderInIt(t *testing.T) {
	for _, c := range programs[:14] {
		content := pad(c.head)
		sum := 8 * int(' ')
		for _, b := range content[:512] {
			sum += int(b)
		}
		copy(content[148:], fmt.Sprintf("%06o\x00 ", sum))
		t.Run(c.about, func(t *testing.T) { refused(t, content, "backup.tar", c.why) })
	}
}

func TestFilesWithAPDFHeaderInThemAreWhatTheyStartAs(t *testing.T) {
	const pdf = "%PDF-1.4\n%\xE2\xE3\xCF\xD3\n"
	for _, c := range []struct{ name, head, want string }{
		{"photo.png", string(pngOf(t)[:33]) + "\x00\x00\x00\x20tEXtComment\x00", "image/png"},
		{"photo.jpg", "\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xFF\xFE\x00\x20", "image/jpeg"},
		{"photo.gif", "GIF89a\x01\x00\x01\x00\x00\x00\x00\x21\xFE\x10", "image/gif"},
		{"photo.webp", "RIFF\x10\x00\x00\x00WEBPVP8X", "image/webp"},
		{"photo.avif", "\x00\x00\x00\x18ftypavif\x00\x00\x00\x00", "image/avif"},
		{"scan.tif", "II*\x00\x08\x00\x00\x00", "image/tiff"},
		{"icon.bmp", "BM\x46\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00", "image/bmp"},
		{"film.mp4", "\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "video/mp4"},
		{"song.wav", "RIFF\x10\x00\x00\x00WAVEfmt ", "audio/wav"},
		{"song.flac", "fLaC\x00\x00\x00\x22", "audio/flac"},
		{"song.mp3", "ID3\x03\x00\x00\x00\x00\x10\x00TXXX", "audio/mpeg"},
		{"report.pdf.gz", "\x1F\x8B\x08\x08\x00\x00\x00\x00\x00\x03", "application/gzip"},
		{"report.pdf.zst", "\x28\xB5\x2F\xFD\x20\x40", "application/zstd"},
	} {
		taken(t, append(pad(c.head)[:len(c.head)+1], pdf...), c.name, c.want)
		taken(t, append(pad(c.head)[:len(c.head)+200], pdf...), c.name, c.want)
	}

	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatGNU, tar.FormatPAX} {
		for _, member := range []string{"report.pdf", "reports/%PDF-1.4.pdf"} {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			err := w.WriteHeader(&tar.Header{Name: member, Mode: 0o644, Size: int64(len(pdf)), Format: format})
			if err == nil {
				_, err = io.WriteString(w, pdf)
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			taken(t, b.Bytes(), "backup.tar", "application/x-tar")
			refused(t, b.Bytes(), "backup.pdf", "a tar archive")
		}
	}
}

// TestPDFsWithSomethingInFrontAreTaken tests what mail gateways, printers and old Macs put before a PDF.
func TestPDFsWithSomethingInFrontAreTaken(t *testing.T) {
	const pdf = "%PDF-1.4\n%\xE2\xE3\xCF\xD3\n1 0 obj\n\x00\x00\x00\x01\n"
	macBinary := make([]byte, 128)
	copy(macBinary, "\x00\x0Areport.pdf")
	copy(macBinary[65:], "PDF CARO")
	binary.BigEndian.PutUint32(macBinary[83:], uint32(len(pdf)))
	for about, front := range map[string]string{
		"an empty line":      "\r\n",
		"zeros":              "\x00\x00\x00\x00",
		"a byte order mark":  "\xEF\xBB\xBF\n",
		"a printer's header": "\x1B%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE=PDF\r\n",
		"HTTP headers":       "HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n",
		"MIME headers":       "--boundary\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: binary\r\n\r\n",
		"words in Latin-1":   "gesch\xFCtzt\n",
		"MacBinary":          string(macBinary),
		"1,015 bytes":        strings.Repeat("\x00\x01\x02", 338) + "\x00",
	} {
		t.Run(about, func(t *testing.T) {
			taken(t, []byte(front+pdf), "report.pdf", "application/pdf")
			taken(t, []byte(front+pdf), "report", "application/pdf")
		})
	}
	refused(t, []byte(strings.Repeat("\x00\x01\x02", 350)+pdf), "report.pdf", "no known type")
}
