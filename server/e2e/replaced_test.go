//go:build unix

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// moveAway returns a case in which a file or folder is moved away for a while, with
// nothing in its place, or what put creates there.
func moveAway(name string, put func(t *testing.T, there, away string)) func(t *testing.T, dir string) (back func()) {
	return func(t *testing.T, dir string) func() {
		there := filepath.Join(dir, name)
		away := filepath.Join(filepath.Dir(dir), "away-"+filepath.Base(dir))
		check(t, os.Rename(there, away))
		if put != nil {
			put(t, there, away)
		}
		return func() {
			check(t, os.RemoveAll(there))
			check(t, os.Rename(away, there))
		}
	}
}

func putCopy(t *testing.T, there, away string) { write(t, there, read(t, away)) }

func putFolder(t *testing.T, there, _ string) { check(t, os.Mkdir(there, 0o700)) }

func putLink(t *testing.T, there, _ string) { check(t, os.Symlink(t.TempDir(), there)) }

// An upload into a file that has no name any more would be lost with the process.
// Clients and probes get an error, reads go on where they can, and once the files
// are back, everything works again.
func TestChangesAreRefusedWhileFilesAreGoneOrReplaced(t *testing.T) {
	t.Parallel()
	const database, folder = "The database was removed or replaced", "The folder with the files was removed or replaced"
	large := strings.Repeat("a row,of many\n", 10_000) // written to a file before it is acknowledged
	for name, c := range map[string]struct {
		replace func(t *testing.T, dir string) (back func())
		reason  string
		read    int // the status of a download
	}{
		"no database":                    {moveAway("attachd.db", nil), database, 200},
		"another database":               {moveAway("attachd.db", putCopy), database, 200},
		"no data directory":              {moveAway("", nil), database, 503},
		"an empty data directory":        {moveAway("", putFolder), database, 503},
		"a data directory that is moved": {moveAway("", putLink), database, 503},
		"no blobs":                       {moveAway("blobs", nil), folder, 503},
		"other blobs":                    {moveAway("blobs", putFolder), folder, 503},
		"no blobs in their folder":       {moveAway("blobs/sha256", nil), folder, 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate)
			kept := server.upload(product, "kept.csv", large).want(t, 201)
			gone := server.upload(product, "gone.csv", "gone").want(t, 201)
			back := c.replace(t, dir)

			server.upload(product, "small.csv", "small").want(t, 503)
			refused := server.upload(product, "large.csv", large+"and,another").want(t, 503)
			if refused.header.Get("Retry-After") == "" || strings.Contains(refused.body, dir) {
				t.Errorf("an upload is told %s", refused)
			}
			ready := server.get("/health/ready").want(t, 503)
			if !strings.Contains(ready.body, c.reason) {
				t.Errorf("it is not ready since: %s", ready.body)
			}
			server.logged("files of the data directory were removed, replaced or overwritten")
			server.get(kept.download()).want(t, c.read)
			if c.reason == database {
				server.remove(gone.download()).want(t, 503)
			}

			back()
			server.logged("changes are taken again")
			server.upload(product, "again.csv", large+"and,a third").want(t, 201)
			eventually(t, "it is ready again", func() bool { return server.get("/health/ready").status == 200 })
			server.stop()
			server = start(t, dir, autoCreate)
			server.get(kept.download()).want(t, 200)
			server.get(gone.download()).want(t, 200)
		})
	}
}

// As long as the process runs, acknowledged changes can be saved.
func TestADatabaseThatWasRemovedCanStillBeBackedUp(t *testing.T) {
	t.Parallel()
	dir, backup := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	server.upload(product, "first.csv", "first").want(t, 201)
	saved := server.upload(product, "second.csv", "second").want(t, 201) // may be in the log only
	remove(t, filepath.Join(dir, "attachd.db"))
	server.upload(product, "third.csv", "third").want(t, 503)
	ok(t, "backup", backup, "--data-dir", dir)
	server.signal(syscall.SIGTERM)
	server.exitCode()

	restored := dataDir(t)
	ok(t, "restore", backup, "--data-dir", restored)
	server = start(t, restored)
	server.key = strings.TrimSpace(read(t, filepath.Join(dir, "admin.key")))
	server.get(saved.download()).want(t, 200)
}

// Without its log, the database commits every change at once, and each content is
// written to its file.
func TestALogThatIsGoneOrReplacedLosesNothing(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, log string){
		"removed": func(t *testing.T, log string) { check(t, os.RemoveAll(log)) },
		"cut off": func(t *testing.T, log string) {
			for _, name := range names(t, log) {
				check(t, os.Truncate(filepath.Join(log, name), 0))
			}
		},
		"replaced": func(t *testing.T, log string) {
			check(t, os.Rename(log, log+".old"))
			check(t, os.Mkdir(log, 0o700))
			for _, name := range names(t, log+".old") {
				write(t, filepath.Join(log, name), "another")
			}
			check(t, os.RemoveAll(log+".old"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate)
			before := []answer{
				server.upload(product, "first.csv", "first").want(t, 201),   // creates the log
				server.upload(product, "second.csv", "second").want(t, 201), // written to it
			}
			do(t, filepath.Join(dir, "wal"))
			var saved []answer
			for i := range 10 {
				saved = append(saved, server.upload(product, fmt.Sprintf("%d.csv", i), "a").want(t, 201))
			}
			server.kill()
			server = start(t, dir, autoCreate, withoutTrash)
			for _, a := range saved {
				server.get(a.download()).want(t, 200)
			}
			for _, a := range before { // their contents may have gone with the log
				server.remove(a.download()).want(t, 200)
			}
		})
	}
}
