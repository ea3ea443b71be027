//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A check and a gc tell the same whether a server runs or not.
func TestCheckAndGCWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate)
			var uploads []answer
			for n := range 4 {
				uploads = append(uploads, server.upload(product, fmt.Sprintf("%d.txt", n), fmt.Sprint("file ", n)).want(t, 201))
			}
			if !running {
				server.stop()
			}
			typed := func(code int, line, says string) {
				t.Helper()
				r := attachd(t, append(strings.Fields(line), "--data-dir", dir)...)
				if said := r.stdout + r.stderr; r.code != code || !strings.Contains(said, says) {
					t.Errorf("attachd %s: exit code %d, want %d\n%snot\n%s", line, r.code, code, said, says)
				}
			}
			typed(0, "check", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "check --deep", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "gc", "removed no contents, no bytes\n")
			typed(0, "gc --dry-run", "to remove: no contents, no bytes\n")

			old, young := blobFile(dir, strings.Repeat("0", 64)), blobFile(dir, strings.Repeat("1", 64))
			write(t, old, "spare")
			write(t, young, "spare too")
			before := time.Now().Add(-2 * time.Hour)
			check(t, os.Chtimes(old, before, before))
			typed(0, "check", "4 attachments, 6 contents, 38 bytes: no faults\nnothing refers to 2 contents, 14 bytes; `attachd gc` removes what is older than an hour\n")
			typed(3, "gc --dry-run", "to remove: 1 content, 5 bytes\nattachd: nothing was removed: this was a dry run\n")
			typed(0, "gc", "removed 1 content, 5 bytes\n")
			remove(t, young) // which has not the bytes of its name

			missing, short, other := digest(uploads[0]), digest(uploads[1]), digest(uploads[2])
			remove(t, blobFile(dir, missing))
			write(t, blobFile(dir, short), "file")
			write(t, blobFile(dir, other), "File 2")
			typed(3, "check", `("0.txt"), blob `+missing+": The content is missing.\n")
			typed(3, "check", `("1.txt"), blob `+short+": The content has 4 bytes, not 6.\n")
			typed(3, "check", "4 attachments, 3 contents, 16 bytes: 2 faults\nattachd: 2 faults found\n")
			typed(3, "check --deep", `("2.txt"), blob `+other+": The content is damaged: its bytes are not those that were uploaded.\n")
			typed(3, "check", `("2.txt"), blob `+other+": The content is marked damaged.\n")

			r := attachd(t, "check", "--json", "--data-dir", dir)
			var report struct {
				Attachments, Contents, Bytes int
				Faults                       []struct{ Attachment, Blob, What string }
			}
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 3 || len(report.Faults) != 3 || report.Attachments != 4 {
				t.Errorf("check --json: %v, exit code %d\n%s", err, r.code, r.stdout)
			}

			if !running {
				server = start(t, dir, autoCreate)
			}
			server.get(uploads[2].download()).want(t, 500)
			for n := range 3 {
				server.upload(product, "again.txt", fmt.Sprint("file ", n)).want(t, 201)
			}
			typed(0, "check --deep", "7 attachments, 4 contents, 24 bytes: no faults\n")
		})
	}
}

// digest is the name of what was uploaded.
func digest(upload answer) string {
	var raw []byte
	encoded := strings.Trim(strings.TrimPrefix(upload.header.Get("Repr-Digest"), "sha-256="), ":")
	if err := json.Unmarshal([]byte(`"`+encoded+`"`), &raw); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", raw)
}

func blobFile(dir, name string) string {
	return filepath.Join(dir, "blobs", "sha256", name[:2], name)
}
