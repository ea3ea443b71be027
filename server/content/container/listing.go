package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"attachd/server/content/charset"
)

// ErrBroken means that an archive's directory is missing or damaged.
var ErrBroken = errors.New("the archive's directory is missing or damaged")

// Listing is the directory of an archive. It has not been compared with the archive's content.
type Listing struct {
	Entries []Entry // the first ones
	Total   int64   // number of entries, listed or not
}

// Entry is a file or folder in an archive.
type Entry struct {
	Name             string    // for display: valid UTF-8 without control and bidi-override characters
	Size, Compressed int64     // bytes
	Modified         time.Time // zero if it is not stored; taken for UTC where the archive stores no time zone
	Directory        bool
}

// maxListedName is how many bytes of an entry's name are listed.
const maxListedName = 1024

// ListZIP lists the first entries, limit at most, of the ZIP archive in the first size bytes of r, which may also be of
// another type based on ZIP. It reads only the directory, no further than needed. The error is ErrBroken when there is
// none; any other is that of r or of ctx.
func ListZIP(ctx context.Context, r io.ReaderAt, size int64, limit int) (Listing, error) {
	src := &Source{Reader: r, Size: size}
	listing, err := listZIP(ctx, src, limit)
	if src.Err != nil {
		return Listing{}, src.Err
	}
	return listing, err
}

func listZIP(ctx context.Context, src *Source, limit int) (Listing, error) {
	claimed, start, end, err := findDirectory(src)
	if err != nil {
		return Listing{}, ErrBroken
	}
	list := Listing{Entries: []Entry{}}
	names := []zipName{}
	defer func() { nameEntries(list.Entries, names) }()
	directory := bufio.NewReader(io.NewSectionReader(src, start, end-start))
	for len(list.Entries) < limit {
		if err := ctx.Err(); err != nil {
			return Listing{}, err
		}
		header, err := readZIPHeader(directory)
		if err == io.EOF {
			list.Total = int64(len(list.Entries))
			return list, nil
		}
		if err != nil {
			return Listing{}, ErrBroken
		}
		list.Entries = append(list.Entries, header.entry())
		names = append(names, header.nameOfEntry())
	}
	// The directory has space for no more entries, whatever number it claims.
	const smallest = 46
	list.Total = max(int64(limit), int64(min(claimed, uint64(end-start)/smallest)))
	return list, nil
}

// entry returns the entry without its name.
func (h *zipHeader) entry() Entry {
	return Entry{Size: max(0, h.size), Compressed: max(0, h.compressed), Modified: h.modified()}
}

// zipName is an entry's name as stored, truncated to what may be listed.
type zipName struct {
	raw     []byte
	unicode bool
}

// nameOfEntry returns the name in Info-ZIP's extra field 0x7075, which is UTF-8, if the field's checksum matches the
// name in the header: programs that do not know the field keep it when they rename an entry. Else it returns the name
// in the header.
func (h *zipHeader) nameOfEntry() zipName {
	name := zipName{h.name, h.flags&zipUTF8 != 0 || utf8.Valid(h.name)}
	for id, data := range h.extraFields() {
		const before = 5 // the version, and the CRC-32 of the name in the header
		if id == 0x7075 && len(data) > before && data[0] == 1 && utf8.Valid(data[before:]) &&
			binary.LittleEndian.Uint32(data[1:]) == crc32.ChecksumIEEE(h.name) {
			name = zipName{data[before:], true}
		}
	}
	name.raw = bytes.Clone(name.raw[:min(len(name.raw), utf8.UTFMax*maxListedName)])
	return name
}

// nameEntries decodes the names of entries. Names that are not marked as UTF-8 are decoded as UTF-8 if they are valid
// in it, else in the encoding that all of them together leave no doubt of, or else in code page 437 (APPNOTE.TXT,
// appendix D).
func nameEntries(entries []Entry, names []zipName) {
	var old []byte
	for _, name := range names {
		if !name.unicode && len(old) < charset.SampleBytes {
			old = append(append(old, name.raw...), '\n')
		}
	}
	legacy := charset.Script(old)
	if legacy == nil {
		legacy = charset.OfNames(old)
	}
	for i, name := range names {
		if !name.unicode {
			if decoded, err := legacy.NewDecoder().Bytes(name.raw); err == nil {
				name.raw = decoded
			}
		}
		entries[i].Name = displayName(name.raw)
		entries[i].Directory = strings.HasSuffix(entries[i].Name, "/")
	}
}

// displayName makes an entry's name safe to display.
func displayName(raw []byte) string {
	clean := bytes.Map(func(r rune) rune {
		if charset.IsUnsafe(r) {
			return -1
		}
		return r
	}, bytes.ToValidUTF8(raw, []byte(string(utf8.RuneError))))
	if len(clean) <= maxListedName {
		return string(clean)
	}
	cut := maxListedName
	for !utf8.RuneStart(clean[cut]) {
		cut--
	}
	return string(clean[:cut]) + "…"
}

// modified returns the time in Info-ZIP's extra field 0x5455, or that of MS-DOS, which has no time zone.
func (h *zipHeader) modified() time.Time {
	for id, data := range h.extraFields() {
		if id == 0x5455 && len(data) >= 5 && data[0]&1 != 0 {
			return time.Unix(int64(int32(binary.LittleEndian.Uint32(data[1:]))), 0).UTC()
		}
	}
	year, month, day := 1980+int(h.date>>9), time.Month(h.date>>5&15), int(h.date&31)
	if month < 1 || month > 12 || day < 1 {
		return time.Time{}
	}
	return time.Date(year, month, day, int(h.time>>11), int(h.time>>5&63), 2*int(h.time&31), 0, time.UTC)
}
