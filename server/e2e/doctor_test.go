//go:build unix

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"attachd/server/datadir"
)

// findings returns the findings that the doctor prints as JSON, by check.
func findings(t *testing.T, r result) map[string][]string {
	t.Helper()
	var report struct {
		Problems, Warnings int
		Findings           []struct{ Look, Level, Says, Do string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, r.stdout, r.stderr)
	}
	found, problems := map[string][]string{}, 0
	for _, f := range report.Findings {
		found[f.Look] = append(found[f.Look], f.Level+": "+f.Says)
		if f.Level == "problem" {
			problems++
		}
	}
	if problems != report.Problems || (problems > 0) != (r.code == 3) || problems == 0 && r.code != 0 {
		t.Errorf("exit code %d and %d problems: %s", r.code, report.Problems, r.stdout)
	}
	return found
}

// What a download has found is a problem, without a check, until it is repaired.
func TestTheDoctorCountsWhatIsMissingOrDamaged(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t), "ATTACHD_STORAGE_LOG_BELOW=0", autoCreate)
	examined := func(code int, says string) {
		t.Helper()
		r := wantCode(t, code, attachd(t, "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--data-dir", server.dir))
		if strings.Contains(r.stdout, "Stored files are missing or damaged") != (says != "") || !strings.Contains(r.stdout, says) {
			t.Errorf("the doctor says\n%s", r.stdout)
		}
	}
	lost, rotten := server.upload(product, "lost.txt", "lost"), server.upload(product, "rotten.txt", "rotten")
	examined(0, "")
	blob := func(content string) string {
		sum := fmt.Sprintf("%x", sha256.Sum256([]byte(content)))
		return filepath.Join(server.dir, "blobs", "sha256", sum[:2], sum)
	}
	remove(t, blob("lost"))
	chmod(t, blob("rotten"), 0o600)
	write(t, blob("rotten"), "gotten")
	for _, file := range []answer{lost, rotten} {
		// A damaged file is cut, or refused before its first byte.
		if got, err := server.try(server.key, "GET", file.want(t, 201).download(), nil); err == nil && got.status == 200 {
			t.Errorf("a damaged file is sent: %s", got)
		}
	}
	examined(3, "Stored files are missing or damaged, 2 in all.")
	server.upload(product, "again.txt", "lost").want(t, 201)
	examined(3, "Stored files are missing or damaged, 1 in all.")
	server.stop()
	examined(3, "Stored files are missing or damaged, 1 in all.")
	server = start(t, server.dir, autoCreate)
	server.upload(product, "again.txt", "rotten").want(t, 201)
	examined(0, "")
}

func TestTheDoctorWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir, backup := dataDir(t), filepath.Join(t.TempDir(), "backup")
			server := start(t, dir, autoCreate)
			server.upload(product, "a.txt", "a").want(t, 201)
			if !running {
				server.stop()
			}
			examined := func() map[string][]string {
				t.Helper()
				return findings(t, attachd(t, "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--json", "--data-dir", dir))
			}
			want := func(found map[string][]string, look, level, says string) {
				t.Helper()
				if all := strings.Join(found[look], "\n"); !strings.Contains(all, level+": ") || !strings.Contains(all, says) {
					t.Errorf("%s: found %q, want a %s with %q", look, all, level, says)
				}
			}
			before := tree(t, dir)
			found := examined()
			if !running && tree(t, dir) != before {
				t.Errorf("before\n%s\nafter\n%s", before, tree(t, dir))
			}
			want(found, "data directory", "ok", dir)
			if running {
				want(found, "listen", "ok", "The server listens on "+server.url+", for this machine only.")
			} else if all := strings.Join(found["listen"], "\n"); !regexp.MustCompile(`^ok: The server can listen on 127\.0\.0\.1:[1-9]\d*, for this machine only\.`).MatchString(all) {
				t.Errorf("found %s", all)
			}
			want(found, "format", "ok", fmt.Sprint(datadir.Format))
			want(found, "secrets", "ok", "closed")
			want(found, "first keys", "warning", "admin.key")
			want(found, "database", "ok", "can be read")
			want(found, "database", "warning", "no record of a backup")
			backedUp(t, dir, backup)
			want(examined(), "database", "ok", "The last backup was made on "+time.Now().UTC().Format("2006"))

			chmod(t, filepath.Join(dir, "secret.key"), 0o644)
			want(examined(), "secrets", "problem", "0644")
			chmod(t, filepath.Join(dir, "secret.key"), 0o600)
			r := attachd(t, "ATTACHD_SCAN_CLAMD=unix:"+filepath.Join(dir, "none"), "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--data-dir", dir)
			if r.code != 3 || !strings.Contains(r.stdout, "problem  scanner: clamd cannot be reached") || !strings.Contains(r.stdout, "         -> Start it") || !strings.Contains(r.stderr, "found") {
				t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
		})
	}
}

func TestTheDoctorMakesNoDirectoryAndOpensNoneThatANewerVersionWrote(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(dataDir(t), "none")
	found := findings(t, attachd(t, "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--json", "--data-dir", dir))
	if all := strings.Join(found["data directory"], ""); !strings.Contains(all, "warning") || len(names(t, filepath.Dir(dir))) > 0 {
		t.Errorf("found %v, and now there is %v", found, names(t, filepath.Dir(dir)))
	}

	dir = spoiledDir(t)
	start(t, dir).stop()
	write(t, filepath.Join(dir, "FORMAT"), "999\n")
	before := tree(t, dir)
	found = findings(t, attachd(t, "ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--json", "--data-dir", dir))
	if all := strings.Join(found["format"], ""); !strings.Contains(all, "problem") || !strings.Contains(all, "999") || tree(t, dir) != before {
		t.Errorf("found %v", found)
	}
}
