package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attachd/server"
	"attachd/server/content"
)

// Every file of the manifest is accepted or refused as the manifest says, through the
// API, and accepted ones are returned byte for byte. Types in parentheses are
// descriptions.
// ASVS 5.2.2; CVE-2026-33221
func TestSamples(t *testing.T) {
	t.Parallel()
	const dir = "content/testdata/samples"
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(string(manifest)), "\n")[1:]
	if len(rows) < 131 {
		t.Fatalf("only %d samples", len(rows))
	}
	w := newWorld(t)
	for i, row := range rows {
		fields := strings.Split(strings.TrimRight(row, "\r"), "\t")
		name, mime, take := fields[0], fields[1], fields[2]
		t.Run(name, func(t *testing.T) {
			sample, err := os.ReadFile(filepath.Join(dir, "files", name))
			if err != nil {
				t.Fatal(err)
			}
			kind := kinds[i%len(kinds)]
			// The client's type has no effect.
			upload := step{as: "editor", do: "POST " + kind.parent + "/attachments", form: parts{file(name, string(sample)).with("Content-Type: text/html")}}
			a, err := w.send(t, upload)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case take == "yes", take == "either" && a.status == 201:
				upload.want, upload.save = 201, "A"
			default:
				upload.want, upload.code = 400, "invalid_file"
			}
			w.judge(t, upload, a)
			if upload.want == 400 {
				return
			}
			stored := a.object(t)["mime_type"].(string)
			if !strings.Contains(mime, "(") && take == "yes" && stored != mime {
				t.Errorf("taken as %s, want %s", stored, mime)
			}
			if strings.Contains(stored, ";") {
				t.Errorf("the type has parameters: %s", stored)
			}
			got := w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, header: header{
				"Content-Type": stored, "Repr-Digest": digest(string(sample)), "Content-Security-Policy": "default-src 'none'; sandbox"}})
			if string(got.body) != string(sample) {
				t.Errorf("%d bytes came back, not the %d that were sent", len(got.body), len(sample))
			}
			checkFileName(t, got, name)
		})
	}
}

func TestARefusalOfATypeSaysWhatWasFoundAndWhatIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, says := range []string{"HTML", "PDF"} {
		w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("a.csv", "<!doctype html><p>hello")}, want: 400, code: "invalid_file", says: says})
	}
}

func TestWhatIsTakenCanBeConfigured(t *testing.T) {
	t.Parallel()
	policy, err := content.NewPolicy([]string{"*"}, false)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *server.Config) { c.Policy = policy })
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.html", "<!doctype html><script>alert(1)</script>")}, want: 201, save: "A"},
		{as: "viewer", do: "GET {A.at}", want: 200, header: header{"Content-Type": "text/html", "Content-Security-Policy": "default-src 'none'; sandbox"},
			check: func(t *testing.T, a answer) { checkFileName(t, a, "a.html") }},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.sh", "#!/bin/sh\nexit\n")}, want: 400, code: "invalid_file"},
	})
}
