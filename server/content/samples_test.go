package content

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// samplesDir has a file of each usual type, and trickyDir files that look like another type, each as the programs of
// its type write it.
const (
	samplesDir = "testdata/samples"
	trickyDir  = "testdata/tricky"
)

// sample is a line of the manifest: a real file, its type, and whether it is accepted by default.
type sample struct {
	file, mime, take string
	content          []byte
}

func samples(t testing.TB) []sample {
	t.Helper()
	return append(samplesIn(t, samplesDir), samplesIn(t, trickyDir)...)
}

func samplesIn(t testing.TB, dir string) []sample {
	t.Helper()
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var list []sample
	for _, line := range strings.Split(strings.TrimSpace(string(manifest)), "\n")[1:] {
		fields := strings.Split(line, "\t")
		content, err := os.ReadFile(filepath.Join(dir, "files", fields[0]))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sample{fields[0], fields[1], fields[2], content})
	}
	return list
}

// TestSamples tests the default policy with every file of the manifests. Types in parentheses are descriptions.
// ASVS 5.2.2
func TestSamples(t *testing.T) {
	policy := newPolicy(t)
	for _, s := range samples(t) {
		t.Run(s.file, func(t *testing.T) {
			got, err := policy.Decide(bytes.NewReader(s.content), int64(len(s.content)), s.file)
			var refusal *Refusal
			switch {
			case err != nil && !errors.As(err, &refusal):
				t.Fatalf("not a refusal: %v", err)
			case s.take == "yes" && err != nil:
				t.Fatalf("refused: %v", err)
			case s.take == "no" && err == nil:
				t.Fatalf("taken as %s", got)
			case s.take == "either":
				return
			}
			if err != nil {
				got = refusal.Type
			}
			isType := !strings.Contains(s.mime, "(")
			unsureOfRefused := s.take == "no" && got == kindUnknown.mime
			if isType && !unsureOfRefused && got != s.mime {
				t.Errorf("found %s, want %s", got, s.mime)
			}
		})
	}
}

func TestThePasswordProtectedSampleIsWhatItsNameSays(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(samplesDir, "files", "docx_password.docx"))
	if err != nil {
		t.Fatal(err)
	}
	const docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
	taken(t, content, "plan.docx", docx)
	taken(t, content, "plan", "application/vnd.ms-office-encrypted")
	refused(t, content, "plan.docm", "macros")
	refused(t, content, "plan.pdf", "password-protected")
}

func newPolicy(t testing.TB, allowed ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(allowed, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// taken requires the default policy to accept content as the type want.
func taken(t *testing.T, content []byte, name, want string) {
	t.Helper()
	got, err := newPolicy(t).Decide(bytes.NewReader(content), int64(len(content)), name)
	if err != nil || got != want {
		t.Errorf("%s: found %q, %v, want %q", name, got, err, want)
	}
}

// refused requires the default policy to refuse content with a sentence that contains why.
func refused(t *testing.T, content []byte, name, why string) {
	t.Helper()
	got, err := newPolicy(t).Decide(bytes.NewReader(content), int64(len(content)), name)
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		t.Errorf("%s: taken as %q (%v), want a refusal", name, got, err)
		return
	}
	if !strings.Contains(refusal.Error(), why) {
		t.Errorf("%s: refused with %q, want something about %q", name, refusal, why)
	}
}
