//go:build unix

package durability

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

// A database is lost in several ways; the contents stay each time.
func TestALostDatabaseIsNoticedAndASnapshotBringsItBack(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(t *testing.T, path string){
		"removed":       func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"emptied":       func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
		"cut short":     func(t *testing.T, path string) { must(t, os.Truncate(path, needs(t, path)-1)) },
		"full of zeros": func(t *testing.T, path string) { must(t, os.WriteFile(path, make([]byte, sizeOf(path)), 0o600)) },
		"something else": func(t *testing.T, path string) {
			must(t, os.WriteFile(path, bytes.Repeat([]byte("text"), 9999), 0o600))
		},
		"its start wrong": func(t *testing.T, path string) { overwrite(t, path, 0, 2*4096) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			database := filepath.Join(dir, "attachd.db")
			p := serve(t, dir)
			a, err := p.upload(product, "a.txt", []byte("kept"))
			must(t, err)
			p.stop(t)

			spoil(t, database)
			out, code := run(t, dir, "serve", "--listen", "127.0.0.1:0")
			rescue := regexp.MustCompile(`copy (\S+) to (\S+), then run .attachd check.`).FindStringSubmatch(out)
			if code != 1 || !strings.Contains(out, "attachd restore") || rescue == nil || rescue[2] != database {
				t.Fatalf("exit code %d: %s", code, out)
			}
			if strings.Contains(out, "goroutine") {
				t.Errorf("there is a stack in front of the advice: %s", out)
			}
			snapshot, err := os.ReadFile(rescue[1])
			must(t, err)
			must(t, os.WriteFile(rescue[2], snapshot, 0o600))
			wantSound(t, dir)
			p = serve(t, dir)
			if got, err := p.download(a.id()); err != nil || string(got.body) != "kept" {
				t.Errorf("after the rescue: %d %s, %v", got.status, got.body, err)
			}
			p.stop(t)
		})
	}
}

func overwrite(t *testing.T, path string, from, to int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{0xff}, int(to-from)), from)
	must(t, err)
	must(t, f.Close())
}

// needs returns the number of bytes of a database's file that are in use.
func needs(t *testing.T, path string) (size int64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	must(t, db.View(func(tx *bbolt.Tx) error {
		size = tx.Size()
		return nil
	}))
	must(t, db.Close())
	return size
}
