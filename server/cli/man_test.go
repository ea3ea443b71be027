package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
)

// Each command has a page with its flags, and no line of a text is a request of roff.
func TestEachCommandHasAManPage(t *testing.T) {
	t.Parallel()
	app := New(nil, nil, nil, command.Streams{})
	odd := &cobra.Command{Use: "odd", Short: "print 'a-b' \\ and more", Long: "'tis\n.SH NOT\nso", Run: func(*cobra.Command, []string) {}}
	root := app.Root(app.Serve(), app.Key(), app.Version(), app.Man(), command.WithoutInstallation(odd))
	dir := t.TempDir()
	if err := writeManPages(root, dir); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	for name, parts := range map[string][]string{
		"attachd.1":            {".TH ATTACHD 1", "\\fBserve\\fR\nrun the server", "\\fB\\-\\-data\\-dir\\fR path"},
		"attachd-serve.1":      {"attachd\\-serve \\- run the server", "\\fB\\-\\-demo\\fR", "\\fB\\-\\-config\\fR file"},
		"attachd-key-create.1": {"\\fBattachd key create USER [flags]\\fR", "\\fB\\-\\-expires\\-in\\-days\\fR days", "\\fBattachd\\-key\\fR(1)"},
		"attachd-version.1":    {"print the version"},
		"attachd-odd.1":        {"print 'a\\-b' \\e and more", "\n\\&'tis\n\\&.SH NOT\nso\n"},
	} {
		for _, part := range parts {
			if page := read(name); !strings.Contains(page, part) {
				t.Errorf("%s has no %q:\n%s", name, part, page)
			}
		}
	}
	if page := read("attachd-odd.1"); strings.Contains(page, "data") {
		t.Errorf("the page has a flag without a meaning:\n%s", page)
	}
	if _, err := os.Stat(filepath.Join(dir, "attachd-man.1")); err == nil {
		t.Error("a hidden command has a page")
	}
}
