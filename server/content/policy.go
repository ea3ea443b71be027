// Package content decides the name and the type of an uploaded file, and whether that type is accepted. The type that
// the sender claims is ignored; the content decides, and the name only between types of text.
package content

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"

	"attachd/server/content/container"
)

// Policy decides which types are accepted. It is immutable and may be used concurrently.
type Policy struct {
	taken      map[*kind]bool
	extensions map[string]bool // extensions whose files are accepted although no type in the table has them
	anyName    bool            // a name never conflicts with its content
	sentence   string          // the accepted types, for a person
}

// NewPolicy makes a policy from a list of types that may be uploaded. An entry is
//
//   - a MIME type, "application/pdf", or all of a top-level type, "image/*"
//   - a file name extension, ".pdf" or "pdf"; one that is in no row of the table, such as ".sas7bdat", needs its dot, and
//     accepts under such names content of unknown type, text, and containers of which no more is known
//   - "default": the common types, which is also what an empty list means
//   - "*": everything but scripts and executables, under any name
//
// Nothing else is accepted: to add to the common types, the list must contain "default".
//
// Scripts and executables also need allowExecutables. With it, "*" and "text/*" include them, an empty list accepts
// them in addition to the common types, and any other list accepts those that it names. Some documents with macros have
// no separate type, such as those of Word 97: they are accepted if .docm is, or .xlsm or .pptm, and those of
// OpenDocument if all three are.
//
// The error names the entry that is wrong, and what was probably meant.
func NewPolicy(allowed []string, allowExecutables bool) (*Policy, error) {
	p := &Policy{taken: make(map[*kind]bool), extensions: make(map[string]bool)}
	if len(allowed) == 0 {
		p.take(func(k *kind) bool { return k.is(common) || allowExecutables && k.is(script|executable) })
	}
	for _, entry := range allowed {
		if err := p.allow(entry, allowExecutables); err != nil {
			return nil, err
		}
	}
	p.take(func(k *kind) bool { return k.sharesType() && p.takesMacrosOf(k.family) })
	p.sentence = p.describe()
	return p, nil
}

// allow accepts what one entry of the list names.
func (p *Policy) allow(entry string, allowExecutables bool) error {
	name := strings.ToLower(strings.TrimSpace(entry))
	prefix, isWildcard := strings.CutSuffix(name, "/*")
	wildcard := func(k *kind) bool {
		return strings.HasPrefix(k.mime, prefix+"/") && (allowExecutables || !k.is(script|executable))
	}
	switch {
	case name == "default":
		p.take(func(k *kind) bool { return k.is(common) })
		return nil
	case name == "*", name == "*/*":
		p.take(func(k *kind) bool { return allowExecutables || !k.is(script|executable) })
		p.anyName = true
		return nil
	case isWildcard && p.take(wildcard):
		return nil
	}
	k := kindNamed(name)
	switch {
	case k == nil && ownExtension.MatchString(name):
		p.extensions[strings.TrimPrefix(name, ".")] = true
		return nil
	case k == nil:
		return fmt.Errorf("unknown type %q%s", entry, suggestion(name))
	case k.is(script|executable) && !allowExecutables:
		return fmt.Errorf("type %q is %s, which needs allow_executables = true as well", entry, k.label)
	}
	p.taken[k] = true
	return nil
}

// ownExtension matches extensions that may be accepted although the table does not have them.
var ownExtension = regexp.MustCompile(`^\.[a-z0-9][a-z0-9_+-]{0,15}$`)

// kindNamed returns the kind that a MIME type or an extension names, or nil.
func kindNamed(name string) *kind {
	if k := byMIME[name]; k != nil {
		return k
	}
	if kinds := byExt[strings.TrimPrefix(name, ".")]; len(kinds) > 0 {
		return kinds[0]
	}
	return nil
}

// take accepts the kinds that wanted selects, and reports whether there are any.
func (p *Policy) take(wanted func(*kind) bool) bool {
	found := false
	for i := range table {
		if k := &table[i]; wanted(k) {
			p.taken[k] = true
			found = true
		}
	}
	return found
}

// takesMacrosOf reports whether any OOXML documents with macros of a family, "Word" or "Excel", are accepted; for
// "OpenDocument", which has texts, tables and slides, whether those of all three families are.
func (p *Policy) takesMacrosOf(family string) bool {
	if family == kindODT.family {
		return p.takesMacrosOf("Word") && p.takesMacrosOf("Excel") && p.takesMacrosOf("PowerPoint")
	}
	for k := range p.taken {
		if k.family == family && k.is(macros) && k.is(zipped) {
			return true
		}
	}
	return false
}

// Allowed is an accepted type with its file name extensions, including their dots, the usual one first.
type Allowed struct {
	MIMEType   string
	Extensions []string
}

// Allowed lists the accepted types, sorted. A name without a known extension is accepted for any of them.
func (p *Policy) Allowed() []Allowed {
	byType := map[string]*Allowed{}
	for i := range table { // not p.taken, whose order is random
		k := &table[i]
		if !p.taken[k] {
			continue
		}
		a := byType[k.mime]
		if a == nil {
			a = &Allowed{MIMEType: k.mime, Extensions: []string{}}
			byType[k.mime] = a
		}
		for _, ext := range strings.Fields(k.exts) {
			if !slices.Contains(a.Extensions, "."+ext) {
				a.Extensions = append(a.Extensions, "."+ext)
			}
		}
	}
	if len(p.extensions) > 0 && byType[kindUnknown.mime] == nil {
		byType[kindUnknown.mime] = &Allowed{MIMEType: kindUnknown.mime}
		for _, ext := range slices.Sorted(maps.Keys(p.extensions)) {
			byType[kindUnknown.mime].Extensions = append(byType[kindUnknown.mime].Extensions, "."+ext)
		}
	}
	list := []Allowed{}
	for _, mime := range slices.Sorted(maps.Keys(byType)) {
		list = append(list, *byType[mime])
	}
	return list
}

// maxWords is how many accepted types a refusal names.
const maxWords = 40

// describe lists what is accepted, briefly: "anything", or families whose usual kinds are all accepted, and for the
// rest single extensions, or the label of a kind without one.
func (p *Policy) describe() string {
	usual := func(k *kind) bool { return k.is(common | script | executable) }
	partly := make(map[string]bool)
	everything, programs := true, true
	for i := range table {
		k := &table[i]
		switch {
		case p.taken[k]:
			continue
		case usual(k):
			partly[k.family] = true
		}
		programs = programs && !k.is(script|executable)
		everything = everything && k.is(script|executable)
	}
	switch {
	case everything && programs:
		return "anything"
	case everything:
		return "anything but executables and scripts"
	}
	var words []string
	for i := range table {
		k := &table[i]
		word := k.usualExt()
		switch {
		case usual(k) && !partly[k.family] && k.family != "":
			word = k.family
		case word == "":
			word = k.label
		}
		goesWithoutSaying := k == kindEncrypted && p.taken[kindWord]
		if p.taken[k] && !goesWithoutSaying && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	for _, ext := range slices.Sorted(maps.Keys(p.extensions)) {
		words = append(words, "."+ext)
	}
	if len(words) > maxWords {
		words = append(words[:maxWords:maxWords], "more")
	}
	return enumerate(words)
}

// enumerate joins words as in "a, b and c".
func enumerate(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// Decide returns the type of the first size bytes of r, as a MIME type without parameters, given the cleaned file name.
// It reads the first 64 KiB, and of containers the directory and the parts that may contain macros: 8 MiB at the most,
// of which it keeps a megabyte or two. A presentation, and an Office document in one XML file, it reads completely,
// once.
//
// The error for a file that is not accepted is a *Refusal. Any other error is one that r returned, wrapped.
func (p *Policy) Decide(r io.ReaderAt, size int64, name string) (mimeType string, err error) {
	if size <= 0 {
		return "", &Refusal{sentence: "The file is empty."}
	}
	src := &container.Source{Reader: r, Size: size}
	named := claims(name)
	found := detect(src, named)
	if src.Err != nil {
		return "", src.Err
	}
	if found.is(text) && !found.is(html|script) && namesHost(name) && hasLines(src) {
		named = nil
	}
	if p.extensions[strings.ToLower(extension(name))] && holdsOtherFormats(found) {
		return found.mime, nil
	}
	if sentence := p.objection(found, named); sentence != "" {
		return "", &Refusal{Type: found.mime, sentence: sentence}
	}
	return found.mime, nil
}

// holdsOtherFormats reports whether a kind is one in which other programs may store their formats: text, and containers
// of which no more is known. A file of a type that is not in the table is detected as one of these.
func holdsOtherFormats(found finding) bool {
	return found.broken == "" && slices.Contains([]*kind{kindUnknown, kindText, kindXML, kindZIP, kindOLE, kindGzip, kindSQLite}, found.kind)
}

// hasLines reports whether the start of the content has more than one line.
func hasLines(src *container.Source) bool {
	return bytes.IndexByte(bytes.TrimRight(src.Bytes(0, headBytes), "\r\n"), '\n') >= 0
}

// hostName matches a name of three labels or more, such as people give to zone files and to what they save from a host,
// under a top-level domain that is also the extension of files other than text: of programs, libraries, sound or
// PostScript.
var hostName = regexp.MustCompile(`^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+)\.(?:com|(?:com\.)?au|so|ps)$`)

// namesHost reports whether a name ends in that of a host. A name that may be a disguise like "invoice.pdf.com" does
// not.
func namesHost(name string) bool {
	host := hostName.FindStringSubmatch(name)
	return host != nil && len(claims(strings.TrimSuffix(host[1], ".com"))) == 0
}

// Refusal is the error for a file that is not accepted.
type Refusal struct {
	Type     string // the detected MIME type, "" for an empty file
	sentence string
}

// Error is a sentence for the person who sent the file: what was detected, why it is refused, and what to do instead.
func (r *Refusal) Error() string { return r.sentence }

// objection returns the sentence that refuses the detected kind under a name that claims named, or "" to accept it.
func (p *Policy) objection(found finding, named []*kind) string {
	what := fmt.Sprintf("This is %s (%s)", found.label, found.mime)
	switch {
	case found.broken != "":
		return fmt.Sprintf("%s, but %s: please send the whole file.", what, found.broken)
	case !p.taken[found.kind] && found.is(macros):
		return fmt.Sprintf("%s, and macros are not taken here: save it without them, or send another of what is taken: %s.", what, p.sentence)
	case !p.taken[found.kind] && found.is(html) && len(named) > 0 && named[0].office():
		return fmt.Sprintf("%s under the name of %s, and HTML is not taken here: open it in %s, save it as %s and send that.",
			what, named[0].label, named[0].family, named[0].officeXMLExt())
	case !p.taken[found.kind] && found.is(script|executable):
		return fmt.Sprintf("%s, and executables and scripts are not taken here: what is taken is %s.", what, p.sentence)
	case !p.taken[found.kind]:
		return fmt.Sprintf("%s, which is not taken here: what is taken is %s.", what, p.sentence)
	case !p.agrees(found.kind, named):
		return fmt.Sprintf("%s, but its name ends like that of %s: %s.", what, named[0].label, renaming(found.kind))
	}
	return ""
}

// agrees reports whether a name that claims named is compatible with the detected kind. One that claims nothing is.
func (p *Policy) agrees(found *kind, named []*kind) bool {
	for _, claim := range named {
		switch {
		case claim == found:
			return true
		case claim == kindZIP && found.is(zipped):
			return true
		case isPicture(claim) && isPicture(found) && !found.textual():
			return true
		case claim.office() && (claim.family == found.family || found == kindEncrypted):
			return true
		case claim.is(text) && !claim.is(html|script) && found.textual():
			return true
		case slices.Contains(alsoUnder[found], claim):
			return true
		case claim.is(executable) && p.taken[claim] && found == kindUnknown:
			return true
		}
	}
	runs := found.is(executable|script) || len(named) > 0 && named[0].is(executable|script) && (found == kindUnknown || found.is(text))
	return len(named) == 0 || p.anyName && !runs
}

// alsoUnder maps kinds of text to kinds under whose names some programs write them.
var alsoUnder = map[*kind][]*kind{
	kindTSV: {kindExcel},
	kindCSV: {kindExcel},
	kindXML: {kindTypeScript}, // translations of Qt
}

func isPicture(k *kind) bool { return strings.HasPrefix(k.mime, "image/") }

func renaming(found *kind) string {
	if ext := found.usualExt(); ext != "" {
		return fmt.Sprintf("give it a name that ends in %q, or send the file that was meant", ext)
	}
	return "send the file that was meant"
}

// suggestion returns what an unknown entry was probably meant to be, as the end of a sentence, or "".
func suggestion(entry string) string {
	if ext := strings.TrimPrefix(entry, "*"); ext != entry && kindNamed(ext) != nil {
		return fmt.Sprintf(", did you mean %q?", ext)
	}
	best, bestDistance := "", len(entry)/3+1
	consider := func(candidate string) {
		if d := levenshtein.ComputeDistance(entry, candidate); d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	for _, word := range []string{"default", "*", "image/*", "audio/*", "video/*", "text/*"} {
		consider(word)
	}
	for i := range table {
		consider(table[i].mime)
		for _, ext := range strings.Fields(table[i].exts) {
			consider("." + ext)
		}
	}
	if best == "" {
		return ": name a MIME type (\"application/pdf\", \"image/*\"), an extension (\".pdf\"), \"default\" or \"*\""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}
