package content

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"attachd/server/content/charset"
)

// maxRead is the most bytes that a decision may read: the head, a ZIP's end and its directory, or the directory of an
// OLE file with the tables of its sectors.
const maxRead = 8 << 20

// ASVS 5.3.2
func FuzzCleanName(f *testing.F) {
	for _, seed := range append(awkwardNames, "=?utf-8?Q?=2F?=", "%C3%9C%2F", "\x8C\xA9\x90\xCF", "../x", `C:\x`, "%%0A22", "e\u202E\u0301", "\xff.txt", strings.Repeat("é", 200)+".a", "..", "") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		name, err := CleanName(raw)
		if err != nil {
			return
		}
		if name == "" || name == "." || name == ".." || len(name) > 255 {
			t.Errorf("%q became %q", raw, name)
		}
		if !utf8.ValidString(name) || !norm.NFC.IsNormalString(name) {
			t.Errorf("%q became %q, which is not valid UTF-8 in NFC", raw, name)
		}
		if strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, charset.IsUnsafe) {
			t.Errorf("%q became %q", raw, name)
		}
		if again, err := CleanName(name); err != nil || again != name {
			t.Errorf("%q became %q and then %q, %v", raw, name, again, err)
		}
	})
}

// ASVS 5.4.2
func FuzzDisposition(f *testing.F) {
	for _, seed := range awkwardNames {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if name = strings.ToValidUTF8(name, "\uFFFD"); name != "" {
			checkDisposition(t, "attachment", name)
		}
	})
}

// ASVS 5.2.2
func FuzzDecide(f *testing.F) {
	for _, s := range samples(f) {
		if len(s.content) < 16<<10 {
			f.Add(s.content, s.file)
		}
	}
	f.Add(oleOf("", "Workbook", "_VBA_PROJECT_CUR"), "a.xls")
	for _, cutoff := range []int{0, 4096} {
		project := vbaProject("Macros", []byte(aCall), code)
		f.Add(oleTree(cutoff, node{name: "WordDocument", content: []byte{1}}, project), "a.doc")
		f.Add(zipOf(f, contentTypes(wordMain), entry{"word/vbaProject.bin", string(oleTree(cutoff, project.children...))}), "a.docx")
	}
	f.Add(zipOf(f, contentTypes(wordMain), entry{"word/vbaProject.bin", ""}), "a.docx")
	standard := newPolicy(f)
	everything, err := NewPolicy([]string{"*"}, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		for _, policy := range []*Policy{standard, everything} {
			r := &countingReader{r: bytes.NewReader(content)}
			got, err := policy.Decide(r, int64(len(content)), name)
			var refusal *Refusal
			switch {
			case err == nil && !slices.Contains(policy.types(), got):
				t.Errorf("taken as %q, which is not taken", got)
			case err != nil && !errors.As(err, &refusal):
				t.Errorf("neither taken nor refused: %v", err)
			case err != nil && (got != "" || refusal.Error() == "" || refusal.Type != "" && byMIME[strings.ToLower(refusal.Type)] == nil):
				t.Errorf("refused with %+v and %q", refusal, got)
			}
			if r.read > maxRead {
				t.Errorf("%d bytes read", r.read)
			}
		}
	})
}

// countingReader counts the bytes that were read, including repetitions.
type countingReader struct {
	r    io.ReaderAt
	read int64
}

func (c *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(p, off)
	c.read += int64(n)
	return n, err
}
