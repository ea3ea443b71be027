package content

import (
	"bytes"
	"encoding/binary"
	"strings"

	"attachd/server/content/container"
)

// pkcs7Types are the object identifiers of the content types of S/MIME and CAdES, without their last byte: PKCS #7 (RFC
// 2315, section 14) and those of RFC 5751 and 5544.
var pkcs7Types = []string{"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x07", "\x06\x0B\x2A\x86\x48\x86\xF7\x0D\x01\x09\x10\x01"}

// isPKCS7 reports whether a file is the structure ContentInfo (RFC 5652, section 3): a sequence, of definite length or
// not, with one of pkcs7Types first.
func isPKCS7(head []byte) bool {
	if len(head) < 2 || head[0] != 0x30 {
		return false
	}
	lengthBytes := 0
	if head[1]&0x80 != 0 {
		lengthBytes = int(head[1] & 0x7F)
	}
	if lengthBytes > 4 || len(head) < 2+lengthBytes {
		return false
	}
	for _, oid := range pkcs7Types {
		if bytes.HasPrefix(head[2+lengthBytes:], []byte(oid)) {
			return true
		}
	}
	return false
}

// pkcs7Kind returns the kind of an S/MIME container: that of a signature alone only if the name claims it.
func pkcs7Kind(named []*kind) *kind {
	if len(named) > 0 && named[0] == kindSignature {
		return kindSignature
	}
	return kindPKCS7
}

// taggedSound returns the kind of sound after ID3 tags (id3.org, "ID3 tag version 2.4.0", section 3.1) and the padding
// after them. They may precede any sound, though most of it is MP3.
func taggedSound(src *container.Source, head []byte) *kind {
	const header, mostTags, soundStart = 10, 4, 4 << 10
	sound, at := head, int64(0)
	for tag := 0; tag < mostTags && len(sound) >= header && bytes.HasPrefix(sound, []byte("ID3")); tag++ {
		size := int64(sound[6]&0x7F)<<21 | int64(sound[7]&0x7F)<<14 | int64(sound[8]&0x7F)<<7 | int64(sound[9]&0x7F)
		if footer := sound[5]&0x10 != 0; footer {
			size += header
		}
		at += header + size
		sound = src.Bytes(at, soundStart)
		padding := int64(len(sound) - len(bytes.TrimLeft(sound, "\x00")))
		at += padding
		sound = src.Bytes(at, soundStart)
	}
	switch {
	case bytes.HasPrefix(sound, []byte("fLaC")):
		return kindFLAC
	case bytes.HasPrefix(sound, []byte("ADIF")), len(sound) >= 2 && sound[0] == 0xFF && sound[1]&0xF6 == 0xF0:
		return kindAAC
	}
	k := lateSignature(src, sound)
	if k == nil {
		k = askMimetype(sound)
	}
	if strings.HasPrefix(k.mime, "audio/") {
		return k
	}
	return kindMP3
}

// lateSignature detects types that no single prefix identifies, and that mimetype does not know; nil for all others.
func lateSignature(src *container.Source, head []byte) *kind {
	at := func(offset int, magic string) bool {
		return len(head) >= offset && bytes.HasPrefix(head[offset:], []byte(magic))
	}
	switch {
	case at(0, "BM") && at(14, "\x0C\x00\x00\x00") && at(22, "\x01\x00"): // with the header of OS/2 and Windows 2
		return kindBMP
	case at(0, "FORM") && at(8, "AIFC"):
		return kindAIFF
	case (at(0, "RF64") || at(0, "BW64")) && at(8, "WAVE"): // EBU Tech 3306, ITU-R BS.2088
		return kindWAV
	case isWorkbookStream(head):
		if head[6] == 0x40 { // macro sheet
			return kindExcel.withMacros()
		}
		return kindExcel
	case isTransportStream(head):
		return kindMPEGTS
	case isArrowStream(head, src.Size):
		return kindStream
	}
	return nil
}

// isWorkbookStream reports whether a file is a workbook or sheet of Excel 2 to 5 that is no compound file: it begins
// with the record BOF, whose length and number identify the version, and whose third field the type of what follows.
func isWorkbookStream(head []byte) bool {
	if len(head) < 8 || head[0] != 0x09 || head[3] != 0 {
		return false
	}
	switch [2]byte{head[1], head[2]} {
	case [2]byte{0, 4}, [2]byte{2, 6}, [2]byte{4, 6}, [2]byte{8, 8}:
	default:
		return false
	}
	switch binary.LittleEndian.Uint16(head[6:]) {
	case 0x05, 0x10, 0x20, 0x40, 0x100: // globals, sheet, chart, macros, workspace
		return true
	}
	return false
}

// isTransportStream reports whether a file is an MPEG transport stream (ISO/IEC 13818-1), whose packets all begin with
// the same byte, or one of camcorders and Blu-ray discs, which have a timestamp of four bytes before it.
func isTransportStream(head []byte) bool {
	const sync, packets = 'G', 4
	for _, layout := range []struct{ first, length int }{{0, 188}, {4, 192}} {
		n := 0
		for at := layout.first; at < len(head) && n < packets && head[at] == sync; at += layout.length {
			n++
		}
		if n == packets {
			return true
		}
	}
	return false
}

// isArrowStream reports whether a file is a stream of Arrow messages: a marker, the length of the first message's
// description, and its root table within that (Arrow, "Encapsulated message format").
func isArrowStream(head []byte, size int64) bool {
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("\xFF\xFF\xFF\xFF")) {
		return false
	}
	length, root := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[8:])
	return 0 < length && length%8 == 0 && int64(length)+8 <= size && 4 <= root && root < length
}

// isGeoPackage reports whether an SQLite database is marked as a GeoPackage (OGC 12-128, requirement 2).
func isGeoPackage(head []byte) bool {
	const applicationID = 68
	return len(head) > applicationID && (bytes.HasPrefix(head[applicationID:], []byte("GPKG")) || bytes.HasPrefix(head[applicationID:], []byte("GP1")))
}
