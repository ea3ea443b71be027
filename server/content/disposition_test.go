package content

import (
	"mime"
	"regexp"
	"strings"
	"testing"
)

var awkwardNames = []string{
	"report.pdf", "two words.txt", `say "hi".txt`, "a;b.txt", `a\b.txt`, "50%.txt", "%41.txt", "a\r\nX-Evil: 1.txt", "a\x00b",
	"family 👨‍👩‍👧‍👦.png", `a.bat";x=.txt`, "naïve €.txt", "報告書.pdf", "'quoted'.txt", "a*=UTF-8''b.txt", "tab\there",
	strings.Repeat("x", 251) + ".pdf", strings.Repeat("€", 85),
}

// ASVS 5.4.2; CVE-2023-29401
func TestDispositionGivesBackExactlyTheName(t *testing.T) {
	for _, name := range awkwardNames {
		for _, kind := range []string{"attachment", "inline"} {
			checkDisposition(t, kind, name)
		}
	}
}

func TestDispositionInWords(t *testing.T) {
	const want = `attachment; filename="a_ __ _.txt"; filename*=UTF-8''a%22%20%5C%25%20%C3%BC.txt`
	if got := Disposition("attachment", `a" \% ü.txt`); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDispositionKnowsTwoKinds(t *testing.T) {
	if got := Disposition("form-data\r\nX: 1", "a"); !strings.HasPrefix(got, "attachment; ") {
		t.Errorf("got %q", got)
	}
}

// strict matches a valid header: a quoted string without characters that clients misread, and an RFC 8187 value.
var strict = regexp.MustCompile(`^(attachment|inline); filename="([ !#$&-\[\]-~]*)"; filename\*=UTF-8''((?:[A-Za-z0-9!#$&+.^_` + "`" + `|~-]|%[0-9A-F]{2})*)$`)

func checkDisposition(t *testing.T, kind, name string) {
	t.Helper()
	header := Disposition(kind, name)
	parts := strict.FindStringSubmatch(header)
	if parts == nil || parts[1] != kind {
		t.Fatalf("%q: not a header that every client understands: %q", name, header)
	}
	if got := percentDecode(parts[3]); got != name {
		t.Errorf("filename* of %q is %q", name, got)
	}
	if strings.Contains(parts[2], "%") {
		t.Errorf("%q: a percent sign in the fallback %q", name, parts[2])
	}
	gotKind, params, err := mime.ParseMediaType(header)
	if err != nil || gotKind != kind || len(params) != 1 || params["filename"] != name {
		t.Errorf("%q came back as %q, %q, %v", name, gotKind, params, err)
	}
}

// percentDecode decodes what strict has matched.
func percentDecode(s string) string {
	const digits = "0123456789ABCDEF"
	var out []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			c = byte(strings.IndexByte(digits, s[i+1])<<4 | strings.IndexByte(digits, s[i+2]))
			i += 2
		}
		out = append(out, c)
	}
	return string(out)
}
