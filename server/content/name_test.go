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

func TestANameInAFormIsReadAsItsClientMeansIt(t *testing.T) {
	for _, c := range []struct{ client, escaped, want string }{
		{"PowerShell 7.3", "=?utf-8?B?w5xiZXJzaWNodCBNw6Ryei5jc3Y=?=", "Übersicht März.csv"},
		{"C#, an ASCII name with a quote", `=?utf-8?B?c2F5ICJoaSIudHh0?=`, `say "hi".txt`},
		{"Java, quoted-printable, in two words", "=?UTF-8?Q?=C3=9Cbersicht_?= =?UTF-8?Q?M=C3=A4rz.csv?=", "Übersicht März.csv"},
		{"Java, of another encoding", "=?Shift_JIS?B?jKmQz4+RLnBkZg==?=", "見積書.pdf"},
		{"Java, in Latin-1", "=?iso-8859-1?Q?Caf=E9.txt?=", "Café.txt"},
		{"a word and what it hides", "=?utf-8?Q?=2E=2E=2Fetc=2Fpasswd?=", "passwd"},
		{"a word whose content looks escaped", "=?utf-8?Q?a=2522b.txt?=", "a%22b.txt"},
		{"a word of no known encoding", "=?x-none?B?YQ==?=.txt", "=?x-none?B?YQ==?=.txt"},
		{"a word that is none", "=?utf-8?Z?YQ==?=.txt", "=?utf-8?Z?YQ==?=.txt"},
		{"aiohttp", "%C3%9Cbersicht%20M%C3%A4rz%202026.csv", "Übersicht März 2026.csv"},
		{"needle", "%E8%A6%8B%E7%A9%8D.pdf", "見積.pdf"},
		{"a path, encoded", "..%2F%C3%9C.csv", "Ü.csv"},
		{"an ASCII name with what may be an escape", "My%20File.txt", "My%20File.txt"},
		{"a percent sign that escapes nothing", "100% %C3%9C.txt", "100% %C3%9C.txt"},
		{"escapes beside other letters", "ü %C3%9C.txt", "ü %C3%9C.txt"},
		{"escapes of no UTF-8", "%DCbersicht.txt", "%DCbersicht.txt"},
		{"curl on Windows", "\xDCbersicht M\xE4rz \x80.csv", "Übersicht März €.csv"},
		{"an old French client", "\xE9t\xE9 - caf\xE9.txt", "été - café.txt"},
		{"an old Japanese client", "\x8C\xA9\x90\xCF\x8F\x91 2026.pdf", "見積書 2026.pdf"},
		{"an old Russian client", "\xce\xf2\xf7\xe5\xf2 \xe7\xe0 \xec\xe0\xf0\xf2.docx", "Отчет за март.docx"},
		{"an old Chinese client", "\xd6\xd0\xb9\xfa\xd2\xc6\xb6\xaf 2026.pdf", "中国移动 2026.pdf"},
		{"an old Taiwanese client", "\xa4\xa4\xb5\xd8\xb9\x71\xab\x48.pdf", "中華電信.pdf"},
		{"an old Greek client", "\xc1\xed\xe1\xf6\xef\xf1\xdc \xcc\xe1\xf1\xf4\xdf\xef\xf5.docx", "Αναφορά Μαρτίου.docx"},
		{"an old French client", "R\xe9sum\xe9 d\xe9j\xe0 envoy\xe9 \xe0 No\xebl.pdf", "Résumé déjà envoyé à Noël.pdf"},
		{"an old Spanish client", "Informaci\xf3n a\xf1o n\xba 3.pdf", "Información año nº 3.pdf"},
		{"an old Danish client", "L\xf8nseddel bl\xe5b\xe6rgr\xf8d.pdf", "Lønseddel blåbærgrød.pdf"},
		{"an old client, escaped as well", "\xDC %22a%22.txt", `Ü "a".txt`},
	} {
		if got, err := CleanName(FormName(c.escaped)); err != nil || got != c.want {
			t.Errorf("%s: %q became %q, %v, want %q", c.client, c.escaped, got, err, c.want)
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
		long + ".tar.gz":                              "x.tar.gz",
		long + ".xml.p7m":                             "x.xml.p7m",
		long + ".final.pdf":                           "x.pdf",
		"a." + long:                                   "xxx",
		long + "." + strings.Repeat("e", maxExtBytes): "xxx",
		"." + long:                                    "xxx",
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
