//go:build unix

package durability

import (
	"bytes"
	le "encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// rotten creates a data directory whose database is damaged by spoil, and returns
// it with the id of an attachment.
func rotten(t *testing.T, spoil func(file []byte)) (dir, id string) {
	t.Helper()
	dir = t.TempDir()
	p := serve(t, dir)
	a, err := p.upload(product, "quarterly report.txt", []byte("kept"))
	must(t, err)
	p.stop(t)
	must(t, os.RemoveAll(filepath.Join(dir, "snapshots")))
	path := filepath.Join(dir, "attachd.db")
	file, err := os.ReadFile(path)
	must(t, err)
	spoil(file)
	must(t, os.WriteFile(path, file, 0o600))
	return dir, a.id()
}

// Reads of damaged data are refused, and everything that checks reports it: the
// log, readiness, metrics, doctor and check. No backup counts as good.
func TestRotInTheDatabaseIsRefusedAndTold(t *testing.T) {
	t.Parallel()
	dir, id := rotten(t, flipIn("quarterly report.txt")) // in the record and in the audit log
	if out, code := run(t, dir, "check"); code != 3 || !strings.Contains(out, `In the bucket "attachments", the entry`) || !strings.Contains(out, "To mend it, stop the server.") {
		t.Errorf("check ends with %d: %s", code, out)
	}
	if out, code := run(t, dir, "backup", filepath.Join(t.TempDir(), "b")); code != 3 || !strings.Contains(out, "no restore point was made") {
		t.Errorf("backup ends with %d: %s", code, out)
	}
	if out, _ := run(t, dir, "doctor"); !strings.Contains(out, "attachd.db has faults") {
		t.Errorf("doctor says: %s", out)
	}
	p := serve(t, dir)
	for _, path := range []string{product + "/attachments", "/catalog/attachments/" + id + "/download"} {
		if a, err := p.call("GET", path, nil); err != nil || a.status != 500 || !bytes.Contains(a.body, []byte(`"damaged"`)) {
			t.Errorf("GET %s: %d %s, %v", path, a.status, a.body, err)
		}
	}
	if a, err := p.call("GET", "/health/ready", nil); err != nil || a.status != 503 || !bytes.Contains(a.body, []byte("The database has faults")) {
		t.Errorf("readiness: %d %s, %v", a.status, a.body, err)
	}
	if a, err := p.call("GET", "/metrics", nil); err != nil || bytes.Contains(a.body, []byte("attachd_database_faults 0\n")) || !bytes.Contains(a.body, []byte("attachd_database_faults ")) {
		t.Errorf("metrics: %d, %v", a.status, err)
	}
	p.stop(t)
	if said := p.log.String(); !strings.Contains(said, "the database has a fault") || !strings.Contains(said, "no snapshot of the database was taken") {
		t.Errorf("the log: %s", said)
	}
}

// flipIn flips a bit wherever the file has the text, including older versions of
// pages.
func flipIn(text string) func(file []byte) {
	return func(file []byte) {
		for at := 0; ; {
			next := bytes.Index(file[at:], []byte(text))
			if next < 0 {
				return
			}
			at += next + 1
			file[at] ^= 1
		}
	}
}

// Damage that does not prevent a copy is copied, too.
func TestABackupWithRotIsNoGoodOneAndPushesNoneOut(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "b")
	var good string
	dir, _ := rotten(t, func([]byte) {})
	if out, code := run(t, dir, "backup", to); code != 0 {
		t.Fatalf("backup ends with %d: %s", code, out)
	}
	points := func() []string {
		list, err := filepath.Glob(filepath.Join(to, "points", "*"))
		must(t, err)
		return list
	}
	good = points()[0]
	path := filepath.Join(dir, "attachd.db")
	file, err := os.ReadFile(path)
	must(t, err)
	flipIn("attachment.upload")(file) // which the audit log has
	must(t, os.WriteFile(path, file, 0o600))
	if out, code := run(t, dir, "backup", to, "--keep", "1"); code != 3 || !strings.Contains(out, "it is no good backup") {
		t.Errorf("backup ends with %d: %s", code, out)
	}
	if now := points(); len(now) != 2 || now[0] != good {
		t.Errorf("there are now the points %q, and was %s", now, good)
	}
	if out, code := run(t, dir, "backup", "verify", to); code != 3 || !strings.Contains(out, `In the bucket "audit", the entry`) {
		t.Errorf("backup verify ends with %d: %s", code, out)
	}
}

// For a database that cannot be opened at all, check prints a list of faults, and
// all other commands a sentence.
func TestADatabaseBeyondUseIsListedByCheck(t *testing.T) {
	t.Parallel()
	size := os.Getpagesize()
	for name, spoil := range map[string]func(file []byte){
		"the tree of buckets leads nowhere": func(file []byte) {
			root := le.LittleEndian.Uint64(newerMeta(file, size)[16:])
			clear(file[int(root)*size+8 : int(root)*size+16])
		},
		"the tree of buckets leads to itself": func(file []byte) {
			root := int(le.LittleEndian.Uint64(newerMeta(file, size)[16:]))
			page := file[root*size:]
			le.LittleEndian.PutUint16(page[8:], 1) // a branch
			le.LittleEndian.PutUint64(page[24:], uint64(root))
		},
		"the newest commit is lost": func(file []byte) { newerMeta(file, size)[60] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, _ := rotten(t, spoil)
			if out, code := run(t, dir, "check"); code != 3 || !strings.Contains(out, "In the database, ") || strings.Contains(out, "goroutine ") {
				t.Errorf("check ends with %d: %s", code, out)
			}
			for _, words := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"gc"}, {"backup", filepath.Join(t.TempDir(), "b")}} {
				if out, code := run(t, dir, words...); code != 1 || !strings.Contains(out, "attachd restore") || strings.Contains(out, "goroutine ") {
					t.Errorf("%s ends with %d: %s", words[0], code, out)
				}
			}
		})
	}
}

// newerMeta returns the newer meta page of the file.
func newerMeta(file []byte, size int) []byte {
	const header, commit = 16, 48
	a, b := file[header:], file[size+header:]
	if le.LittleEndian.Uint64(b[commit:]) > le.LittleEndian.Uint64(a[commit:]) {
		return b
	}
	return a
}
