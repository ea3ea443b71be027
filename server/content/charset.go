package content

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	utf16text "golang.org/x/text/encoding/unicode"
)

// sampleBytes is how much of a text is looked at to find its encoding.
const sampleBytes = 64 << 10

// DecodeText makes UTF-8 of a text, or of its start where cut: of UTF-8, of UTF-16 with and without a byte order mark,
// of an older encoding where it is certain, else of Windows-1252. It leaves out NULs, which fill columns and holes.
func DecodeText(b []byte, cut bool) []byte {
	if order := utf16Order(b); order != nil {
		if r := readUTF16(b, order, cut); r.text || utf16Marked(b) && r.likely {
			return bytes.ReplaceAll(r.body, []byte{0}, nil)
		}
	}
	if utf16Marked(b) { // and broken
		if decoded, err := utf16text.UTF16(utf16text.LittleEndian, utf16text.ExpectBOM).NewDecoder().Bytes(b); err == nil {
			return bytes.ReplaceAll(decoded, []byte{0}, nil)
		}
	}
	b = bytes.ReplaceAll(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF")), []byte{0}, nil)
	if !validUTF8(b, cut) && !mostlyUTF8(b) {
		old := olderEncoding(b[:min(len(b), sampleBytes)])
		if old == nil {
			old = charmap.Windows1252
		}
		if decoded, err := old.NewDecoder().Bytes(b); err == nil {
			b = decoded
			if cut { // maybe within a character
				b = bytes.TrimSuffix(b, []byte(string(utf8.RuneError)))
			}
		}
	}
	for n := 1; cut && n < min(utf8.UTFMax, len(b)); n++ { // a rune that is cut at the end
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				b = b[:len(b)-n]
			}
			break
		}
	}
	return bytes.ToValidUTF8(b, []byte(string(utf8.RuneError)))
}

// mostlyUTF8 tells UTF-8 of which a few bytes are damaged from what is in another encoding.
func mostlyUTF8(b []byte) bool {
	good, bad := 0, 0
	for b = b[:min(len(b), sampleBytes)]; len(b) > 0; {
		r, n := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && n == 1:
			bad++
		case n > 1:
			good++
		}
		b = b[n:]
	}
	const margin = 10
	return good > margin*bad
}

// olderEncoding is that of text which is not Unicode, where its bytes leave no doubt, else nil.
func olderEncoding(b []byte) encoding.Encoding {
	if e := eastAsian(b); e != nil {
		return e
	}
	if e := cyrillic(b); e != nil {
		return e
	}
	return western(b)
}

// pairs is what a text is when it is read as ASCII and characters of two bytes, the way East Asian encodings are.
type pairs struct {
	n, runs  int
	common   int // whose first byte is one of those of the script's usual characters
	kana     int
	late     int // whose first byte is over those of the Korean syllables
	wrong    int
	distinct map[[2]byte]bool
}

// readPairs counts pairs; lead and trail say which bytes may be the two, and usual which pairs are usual.
func readPairs(b []byte, lead, trail func(byte) bool, usual func(l, t byte) bool) pairs {
	p := pairs{distinct: map[[2]byte]bool{}}
	inRun := false
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c < 0x80 {
			inRun = false
			continue
		}
		if i+1 == len(b) {
			break // it may be cut
		}
		if !lead(c) || !trail(b[i+1]) {
			p.wrong++
			inRun = false
			continue
		}
		if !inRun {
			p.runs++
		}
		inRun = true
		i++
		p.n++
		p.distinct[[2]byte{c, b[i]}] = true
		if usual(c, b[i]) {
			p.common++
		}
		if c == 0xA4 || c == 0xA5 {
			p.kana++
		}
		if c > 0xC8 {
			p.late++
		}
	}
	return p
}

// certain wants a few characters, next to one another, nearly all of them usual: letters with accents stand alone, and
// with the letter after them would be characters that nobody uses.
func (p pairs) certain() bool {
	const enough = 3
	return p.n >= enough && p.wrong == 0 && p.common*100 >= p.n*90 && p.n*10 >= p.runs*16
}

func between(from, to byte) func(byte) bool {
	return func(c byte) bool { return from <= c && c <= to }
}

// eastAsian tells Shift-JIS, EUC-JP, EUC-KR, GBK and Big5, by which of their characters are in daily use: the first
// level of kanji and of hanzi, kana, Hangul syllables.
func eastAsian(b []byte) encoding.Encoding {
	sjis := readPairs(b, func(c byte) bool { return 0x81 <= c && c <= 0x9F || 0xE0 <= c && c <= 0xFC },
		func(c byte) bool { return 0x40 <= c && c != 0x7F && c <= 0xFC },
		func(l, t byte) bool {
			return l == 0x81 || l == 0x82 && t >= 0x9F || l == 0x83 || 0x88 <= l && l <= 0x97
		})
	if sjis.certain() {
		return japanese.ShiftJIS
	}
	const enoughSyllables = 10 // of Chinese characters so many are hardly ever all among the codes of Hangul
	high := between(0xA1, 0xFE)
	euc := readPairs(b, high, high, func(l, _ byte) bool { return 0xA1 <= l && l <= 0xA5 || 0xB0 <= l && l <= 0xD7 })
	hangul := readPairs(b, high, high, func(l, _ byte) bool { return l == 0xA1 || 0xB0 <= l && l <= 0xC8 })
	big5 := readPairs(b, high, func(c byte) bool { return 0x40 <= c && c <= 0x7E || high(c) },
		func(l, _ byte) bool { return l == 0xA1 || 0xA4 <= l && l <= 0xC6 })
	switch {
	case euc.certain() && euc.kana*10 >= euc.n:
		return japanese.EUCJP
	case euc.certain() && euc.late*10 >= euc.n:
		return simplifiedchinese.GB18030
	case hangul.certain() && euc.late == 0 && len(euc.distinct) >= enoughSyllables:
		return korean.EUCKR
	case big5.certain() && euc.wrong > 0:
		return traditionalchinese.Big5
	}
	return nil
}

// cyrillic tells the encodings of Russian by the letters that two thirds of any Russian text are made of.
func cyrillic(b []byte) encoding.Encoding {
	var best encoding.Encoding
	most, second := 0, 0
	high, runs := 0, 0
	for i, c := range b {
		if c >= 0x80 {
			high++
			if i == 0 || b[i-1] < 0x80 {
				runs++
			}
		}
	}
	const enough = 5
	if high < enough || high < 3*runs {
		return nil
	}
	for _, e := range []*charmap.Charmap{charmap.Windows1251, charmap.CodePage866, charmap.KOI8R, charmap.ISO8859_5} {
		usual, last := 0, ' '
		for _, c := range b {
			r := e.DecodeByte(c)
			if strings.ContainsRune("оеаинтсрвл", unicode.ToLower(r)) {
				usual++
			}
			if unicode.IsLower(last) && unicode.IsUpper(r) {
				usual-- // nobody writes so
			}
			last = r
		}
		switch {
		case usual > most:
			best, most, second = e, usual, most
		case usual > second:
			second = usual
		}
	}
	if most*2 < high || (most-second)*100 < 15*high {
		return nil
	}
	return best
}

// western tells Mac Roman and the code page 850 of DOS where the letters within words would be none in Windows-1252, or
// capitals after small letters.
func western(b []byte) encoding.Encoding {
	const enough = 3
	within, fits := 0, [3]int{}
	candidates := [3]*charmap.Charmap{charmap.Windows1252, charmap.Macintosh, charmap.CodePage850}
	for i := 1; i+1 < len(b); i++ {
		if b[i] < 0x80 || !asciiLower(b[i+1]) || !asciiLetter(b[i-1]) {
			continue
		}
		within++
		for n, e := range candidates {
			if r := e.DecodeByte(b[i]); unicode.IsLower(r) && r <= 0xFF && r != 'ª' && r != 'º' {
				fits[n]++
			}
		}
	}
	if within < enough || 2*fits[0] > within {
		return nil
	}
	for n, other := range []int{1: 2, 2: 1} {
		if n > 0 && fits[n]*100 >= within*95 && fits[other]*100 <= within*70 {
			return candidates[n]
		}
	}
	return nil
}

func asciiLower(c byte) bool { return 'a' <= c && c <= 'z' }

func asciiLetter(c byte) bool { return asciiLower(c | 0x20) }
