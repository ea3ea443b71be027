// Package charset detects the character encoding of a text, and decodes it into UTF-8.
package charset

import (
	"bytes"
	"slices"
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

// SampleBytes is how many bytes of a text are read to detect its encoding.
const SampleBytes = 64 << 10

// Decode decodes a text, or its start if cut, into UTF-8: from UTF-8, from UTF-16 with and without a byte order mark,
// from an older encoding where it is certain, else from Windows-1252. It removes NULs, which fill columns and holes.
func Decode(b []byte, cut bool) []byte {
	if order := UTF16Order(b); order != nil {
		if r := readUTF16(b, order, cut); r.Text || utf16Marked(b) && r.Likely {
			return bytes.ReplaceAll(r.Body, []byte{0}, nil)
		}
	}
	if utf16Marked(b) { // with errors in it
		if decoded, err := utf16text.UTF16(utf16text.LittleEndian, utf16text.ExpectBOM).NewDecoder().Bytes(b); err == nil {
			return bytes.ReplaceAll(decoded, []byte{0}, nil)
		}
	}
	b = bytes.ReplaceAll(bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF")), []byte{0}, nil)
	if old := legacyEncoding(b, cut); old != nil {
		if decoded, err := old.NewDecoder().Bytes(b); err == nil {
			b = decoded
			if cut { // perhaps within a character
				b = bytes.TrimSuffix(b, []byte(string(utf8.RuneError)))
			}
		}
	}
	for n := 1; cut && n < min(utf8.UTFMax, len(b)); n++ { // a character may be cut at the end
		if last := b[len(b)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				b = b[:len(b)-n]
			}
			break
		}
	}
	return bytes.ToValidUTF8(b, []byte(string(utf8.RuneError)))
}

// legacyEncoding returns the encoding of text that is not UTF-8, Windows-1252 where no other is certain; nil for UTF-8.
func legacyEncoding(b []byte, cut bool) encoding.Encoding {
	switch {
	case (bytes.Contains(b, []byte("\x1B$B")) || bytes.Contains(b, []byte("\x1B$@"))) && IsASCII(string(b)):
		return japanese.ISO2022JP
	case validUTF8(b, cut) || mostlyUTF8(b):
		return nil
	}
	if old := olderEncoding(b[:min(len(b), SampleBytes)]); old != nil {
		return old
	}
	return charmap.Windows1252
}

// mostlyUTF8 reports whether b is UTF-8 with at most a few damaged bytes.
func mostlyUTF8(b []byte) bool {
	good, bad := 0, 0
	for b = b[:min(len(b), SampleBytes)]; len(b) > 0; {
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

// olderEncoding returns the encoding of text that is not Unicode if its bytes leave no doubt, else nil.
func olderEncoding(b []byte) encoding.Encoding {
	if e := Script(b); e != nil {
		return e
	}
	if e := language(b); e != nil {
		return e
	}
	return western(b)
}

// Script returns the encoding of text in a script other than Latin, or nil.
func Script(b []byte) encoding.Encoding {
	if e := alphabet(b); e != nil {
		return e
	}
	return eastAsian(b)
}

// pairs holds counts of a text that is read as ASCII and two-byte characters, the form of East Asian encodings.
type pairs struct {
	n, runs  int
	common   int // pairs that are usual in the script
	kana     int
	late     int // pairs whose first byte is above those of the Korean syllables
	wrong    int
	distinct map[[2]byte]bool
}

// readPairs counts pairs; lead and trail report which bytes may be first and second, and usual which pairs are usual.
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
			break // the text may be cut within a pair
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

// certain requires a few pairs, adjacent to one another, nearly all of them usual: accented letters of a Latin script
// stand alone, and together with the next letter would be rare characters.
func (p pairs) certain() bool {
	const enough = 3
	return p.n >= enough && p.wrong == 0 && p.common*100 >= p.n*90 && p.n*10 >= p.runs*16
}

func between(from, to byte) func(byte) bool {
	return func(c byte) bool { return from <= c && c <= to }
}

// eastAsian detects Shift-JIS, EUC-JP, EUC-KR, GBK and Big5 by the characters in daily use: the first level of kanji
// and of hanzi, kana, Hangul syllables.
func eastAsian(b []byte) encoding.Encoding {
	sjis := readPairs(b, func(c byte) bool { return 0x81 <= c && c <= 0x9F || 0xE0 <= c && c <= 0xFC },
		func(c byte) bool { return 0x40 <= c && c != 0x7F && c <= 0xFC },
		func(l, t byte) bool {
			return l == 0x81 || l == 0x82 && t >= 0x9F || l == 0x83 || 0x88 <= l && l <= 0x97
		})
	if sjis.certain() {
		return japanese.ShiftJIS
	}
	const enoughSyllables = 10 // that many Chinese characters are hardly ever all among the codes of Hangul
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

// alphabets are the encodings of scripts whose words consist entirely of characters outside of ASCII, each with the
// letters that make up more than half of any text in it.
var alphabets = []struct {
	in    *charmap.Charmap
	usual string
}{
	{charmap.Windows1251, russian}, {charmap.CodePage866, russian}, {charmap.KOI8R, russian}, {charmap.ISO8859_5, russian},
	{charmap.Windows1253, "αοιετσςνάέήίόύώ"},
	{charmap.Windows1255, hebrew}, {charmap.CodePage862, hebrew},
	{charmap.Windows1256, "اليمنوترهبعةدسك"},
	{charmap.Windows874, "กงนมรลวสอเทาะัิีุู่้"},
}

const (
	russian = "оеаинтсрвл"
	hebrew  = "יוהלאםמתרשב"
)

// alphabet detects the encodings of Cyrillic, Greek, Hebrew, Arabic and Thai by their usual letters.
func alphabet(b []byte) encoding.Encoding {
	high, runs := 0, 0
	for i, c := range b {
		if c >= utf8.RuneSelf {
			high++
			if i == 0 || b[i-1] < utf8.RuneSelf {
				runs++
			}
		}
	}
	const enough = 5
	if high < enough || high < 3*runs {
		return nil
	}
	var best encoding.Encoding
	most, second := 0, 0
	for _, a := range alphabets {
		switch usual := usualLetters(b, a.in, a.usual); {
		case usual > most:
			best, most, second = a.in, usual, most
		case usual > second:
			second = usual
		}
	}
	if most*2 < high || (most-second)*100 < 15*high {
		return nil
	}
	return best
}

// usualLetters counts the letters of usual in b, minus the characters that are no letters and the capitals after small
// letters, which occur in no real text.
func usualLetters(b []byte, in *charmap.Charmap, usual string) (n int) {
	last := ' '
	for _, c := range b {
		r := in.DecodeByte(c)
		switch {
		case c < utf8.RuneSelf:
		case strings.ContainsRune(usual, unicode.ToLower(r)):
			n++
		case !unicode.IsLetter(r) && !unicode.IsMark(r):
			n--
		}
		if unicode.IsLower(last) && unicode.IsUpper(r) {
			n--
		}
		last = r
	}
	return n
}

// languages are Latin-script languages with letters that Windows-1252 lacks: the encodings that have them, and the
// languages' letters outside of ASCII.
var languages = []struct {
	in      []*charmap.Charmap
	letters []string
}{
	{[]*charmap.Charmap{charmap.Windows1250, charmap.ISO8859_2, charmap.CodePage852}, []string{
		"ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ"}},
	{[]*charmap.Charmap{charmap.Windows1254}, []string{"âçğıiîöşüû"}},
	{[]*charmap.Charmap{charmap.Windows1257}, []string{"ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"}},
}

// westernLanguages are the letters outside of ASCII of languages that Windows-1252 is used for.
var westernLanguages = []string{
	"äöüß", "àâæçèéêëîïôœùûüÿ", "áéíñóúüªº", "àèéìîòù", "ãáâàçéêíõóôúüªº", "åäöéü", "æøåéòóô", "áðéíóúýþæö", "àçèéíïòóúü", "áèéêëïóöúü",
}

// rareWestern are letters of Windows-1252 that are rare within the words of any language.
const rareWestern = "ìòùõðþýÿšžªº"

// language detects the encodings of Polish, Czech, Hungarian, Turkish and others: all letters must be those of one of
// these languages but not of one in westernLanguages, and enough of them would be rare or no letters in Windows-1252.
func language(b []byte) encoding.Encoding {
	within, rare := 0, 0
	for i := 1; i+1 < len(b); i++ {
		if b[i] < utf8.RuneSelf || !wordByte(b[i-1]) || !wordByte(b[i+1]) {
			continue
		}
		within++
		if r := charmap.Windows1252.DecodeByte(b[i]); !unicode.IsLetter(r) || strings.ContainsRune(rareWestern, unicode.ToLower(r)) {
			rare++
		}
	}
	if !enoughRare(within, rare) || slices.ContainsFunc(westernLanguages, func(letters string) bool { return writtenWith(b, charmap.Windows1252, letters) }) {
		return nil
	}
	for _, l := range languages {
		for _, in := range l.in {
			if slices.ContainsFunc(l.letters, func(letters string) bool { return writtenWith(b, in, letters) }) {
				return in
			}
		}
	}
	return nil
}

// enoughRare requires one of twenty letters to be rare, or one of fifty if that is at least a few.
func enoughRare(within, rare int) bool {
	const enough, some = 5, 3
	return within >= enough && (rare*20 >= within || rare >= some && rare*50 >= within)
}

// writtenWith reports whether nearly all letters of b outside of ASCII are among letters, and at least three of those occur.
func writtenWith(b []byte, in *charmap.Charmap, letters string) bool {
	const punctuation = "«»“”„‘’‚–—…€§°\u00A0"
	all, known, seen := 0, 0, map[rune]bool{}
	for _, c := range b {
		r := unicode.ToLower(in.DecodeByte(c))
		switch {
		case c < utf8.RuneSelf || strings.ContainsRune(punctuation, r):
			continue
		case strings.ContainsRune(letters, r):
			known++
			seen[r] = true
		}
		all++
	}
	return known*100 >= all*98 && len(seen) >= 3
}

func wordByte(c byte) bool { return c >= utf8.RuneSelf || asciiLetter(c) }

// OfNames returns the encoding of names in Latin script that are not Unicode: the first of those that Windows uses for
// old programs, and then of its own, in which there are only letters, and no capitals between small ones.
func OfNames(b []byte) encoding.Encoding {
	for _, in := range []*charmap.Charmap{charmap.CodePage437, charmap.CodePage850, charmap.CodePage852, charmap.Windows1252, charmap.Windows1250} {
		if lettersOnly(b, in) {
			return in
		}
	}
	return charmap.CodePage437
}

func lettersOnly(b []byte, in *charmap.Charmap) bool {
	for i, c := range b {
		if c < utf8.RuneSelf {
			continue
		}
		r := in.DecodeByte(c)
		if !unicode.Is(unicode.Latin, r) {
			return false
		}
		if unicode.IsUpper(r) && 0 < i && i+1 < len(b) && unicode.IsLower(in.DecodeByte(b[i-1])) && unicode.IsLower(in.DecodeByte(b[i+1])) {
			return false
		}
	}
	return true
}

// western detects Mac Roman and the code page 850 of DOS: in Windows-1252, the letters within words would be no
// letters, or capitals after small letters.
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
