//go:build linux

package durability

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"
)

// A staged content whose record cannot be read is one fault, and has no other
// effect.
func TestAContentThatWaitsForNobodyKeepsNothingElseBack(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(tx *bbolt.Tx, id uuid.UUID) error{
		"its record cannot be found": func(tx *bbolt.Tx, id uuid.UUID) error {
			return tx.Bucket([]byte("attachment_ids")).Delete(id[:])
		},
		"it has no record": func(tx *bbolt.Tx, id uuid.UUID) error {
			staged := tx.Bucket([]byte("staged"))
			return staged.Put(bytes.Repeat([]byte{1}, 16), bytes.Clone(staged.Get(id[:])))
		},
		"its key is none": func(tx *bbolt.Tx, id uuid.UUID) error {
			staged := tx.Bucket([]byte("staged"))
			return staged.Put([]byte("stray"), bytes.Clone(staged.Get(id[:])))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p := serve(t, dir)
			w := p.wait(t, "a.txt")
			run(t, dir, "check") // and so the database has it
			p.kill()
			db, err := bbolt.Open(filepath.Join(dir, "attachd.db"), 0o600, nil)
			must(t, err)
			must(t, db.Update(func(tx *bbolt.Tx) error { return spoil(tx, uuid.MustParse(w.id)) }))
			must(t, db.Close())
			let(t, w)

			out, code := run(t, dir, "check")
			if code != 3 || !strings.Contains(out, "fault") || !strings.Contains(out, "To mend it, stop the server.") || strings.Contains(out, "Not everything could be looked at") {
				t.Errorf("check ends with %d: %s", code, out)
			}
			if out, code := run(t, dir, "gc"); code != 0 {
				t.Errorf("gc ends with %d: %s", code, out)
			}
			p = serve(t, dir)
			var files []string
			for n := range 10 {
				content := fmt.Append(nil, "content ", n)
				if a, err := p.upload(product, "b.txt", content); err != nil || a.status != 201 {
					t.Fatalf("an upload: %d %s, %v", a.status, a.body, err)
				}
				name := fmt.Sprintf("%x", sha256.Sum256(content))
				files = append(files, filepath.Join(dir, "blobs", "sha256", name[:2], name))
			}
			for _, path := range files {
				eventually(t, "each of the others to have its file", func() bool { return sizeOf(path) > 0 })
			}
			p.stop(t)
			if !strings.Contains(p.log.String(), "the record of a staged content cannot be read") {
				t.Errorf("the log says nothing of it:\n%s", &p.log)
			}
		})
	}
}
