package content

import (
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestCleanNameKeepsWhatPeopleCallTheirFiles(t *testing.T) {
	for _, name := range []string{
		"report.pdf", "Jahresbericht 2025 (final).docx", "отчёт.xlsx", "報告書.pdf", "تقرير.pdf", "דוח\u200f.pdf",
		"family 👨‍👩‍👧‍👦.png", "flag 🏴󠁧󠁢󠁥󠁮󠁧󠁿.png", "50% off.txt", "%2e%2e%2f", "a%20b.txt", "a%22b.txt", "a%0D%0Ab.txt", "%2522.txt", "a;b=c&d.csv", ".env", "a.tar.gz",
		" leading and trailing .txt ", "no extension", "a\u00a0b.txt", "quote's.txt", "...", "a..b",
	} {
		if got, err := CleanName(name); err != nil || got != name {
			t.Errorf("%q became %q, %v", name, got, err)
		}
	}
}

// ASVS 5.3.2
func TestCleanNameTakesOutWhatDoesHarm(t *testing.T) {
	for raw, want := range map[string]string{
		"../../x":                    "x",
		`..\\x`:                      "x",
		"/etc/passwd":                "passwd",
		`C:\Users\me\a b.txt`:        "a b.txt",
		`a/b\c.txt`:                  "c.txt",
		"a\x00b.txt":                 "ab.txt",
		"a\r\nSet-Cookie: x.txt":     "aSet-Cookie: x.txt",
		"a\x7f\u0085b.txt":           "ab.txt",
		"a\u2028b\u2029.txt":         "ab.txt",
		"invoice_\u202Efdp.exe":      "invoice_fdp.exe",
		"\u2066a\u2069\u202A.txt":    "a.txt",
		"a\xffb\xfe\xfd.txt":         "a\uFFFDb\uFFFD.txt",
		"Cafe\u0301.txt":             "Caf\u00e9.txt",
		"e\u202E\u0301.txt":          "\u00e9.txt",
		"\u212Bngstr\u00f6m.txt":     "\u00c5ngstr\u00f6m.txt",
		"\uac00\u11a8.txt":           "\uac01.txt",
		"%2\x002.txt":                "%22.txt",
		"dir/%2E%2E":                 "%2E%2E",
		"\t\n tab and newline\u000b": " tab and newline",
	} {
		if got, err := CleanName(raw); err != nil || got != want {
			t.Errorf("%q became %q, %v, want %q", raw, got, err, want)
		}
	}
}

// ASVS 1.1.1, 1.2.2, 1.2.3
func TestANameInAFormIsDecodedOnce(t *testing.T) {
	for escaped, want := range map[string]string{
		"a%0D%0Ab%0d%0a.txt":      "ab.txt",
		"say %22hi%22.txt":        `say "hi".txt`,
		"%%0A22.txt":              "%22.txt",
		"%2\x002.txt":             "%22.txt",
		"%2522.txt":               "%2522.txt",
		"%2e%2e%2f 50% of %41":    "%2e%2e%2f 50% of %41",
		"%2\u202E2 %0\u202Ea.txt": "%22 %0a.txt",
	} {
		if got, err := CleanName(FormName(escaped)); err != nil || got != want {
			t.Errorf("%q became %q, %v, want %q", escaped, got, err, want)
		}
	}
	if got, err := CleanName(FormName("%0D%0A")); err == nil {
		t.Errorf("a name of nothing but an end of line became %q", got)
	}
}

func TestCleanNameRefusesWhatIsNoName(t *testing.T) {
	for _, raw := range []string{"", ".", "..", "a/", "a/..", `a\.`, "\x00", ".\u202E.", "   ", "\r\n\t", "../.\n."} {
		if got, err := CleanName(raw); err == nil {
			t.Errorf("%q became %q", raw, got)
		}
	}
}

func TestCleanNameCutsTheStemOfALongName(t *testing.T) {
	long := strings.Repeat("x", 4096)
	for raw, wantEnd := range map[string]string{
		long + ".pdf":                      "x.pdf",
		long:                               "xxx",
		strings.Repeat("ü", 200) + ".xlsx": "ü.xlsx",
		strings.Repeat("👩‍👩‍👧", 40) + ".png":          ".png",
		strings.Repeat("e\u0301", 200) + ".md":        "\u00e9.md",
		"a." + long:                                   "xxx",
		long + "." + strings.Repeat("e", maxExtBytes): "xxx",
		"." + long: "xxx",
	} {
		got, err := CleanName(raw)
		if err != nil || len(got) > 255 || len(got) < 250 || !strings.HasSuffix(got, wantEnd) || !utf8.ValidString(got) || !norm.NFC.IsNormalString(got) {
			t.Errorf("%.20q... became %q of %d bytes, %v", raw, got, len(got), err)
		}
	}
	exact := strings.Repeat("x", 251) + ".pdf"
	if got, _ := CleanName(exact); got != exact {
		t.Errorf("255 bytes became %d", len(got))
	}
}
