//go:build unix

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"attachd/blobs/s3/s3test"
)

// The doctor and a check say the same of a bucket whether a server runs or not, and whether
// the object store is there.
func TestTheDoctorAndACheckLookAtTheBucket(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	env := inBucket(g, filesAtOnce)
	server := start(t, spoiledDir(t), env...)
	var other []string // configuration
	examined := func(code int, says ...string) {
		t.Helper()
		r := wantCode(t, code, attachd(t, slices.Concat(env, other, []string{"ATTACHD_LISTEN=127.0.0.1:0", "doctor", "--data-dir", server.dir})...))
		for _, part := range says {
			if !strings.Contains(r.stdout, part) {
				t.Errorf("the doctor does not say %q, but\n%s", part, r.stdout)
			}
		}
	}
	checked := func(code int, says string) {
		t.Helper()
		r := wantCode(t, code, attachd(t, slices.Concat(env, []string{"check", "--data-dir", server.dir})...))
		if !strings.Contains(r.stdout, says) {
			t.Errorf("the check says\n%s", r.stdout)
		}
	}
	server.upload(product, "lost.txt", "lost").want(t, 201)
	server.upload(product, "kept.txt", "kept").want(t, 201)
	works := []string{"Files are kept in the bucket bucket, below \"attachd/\"", "Signed links to files work", "refuses bytes that have changed on their way"}
	examined(0, works...)
	checked(0, "2 contents, 8 bytes: no faults")
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("lost")))
	objects, err := filepath.Glob(filepath.Join(g.Dir, "bucket/attachd/blobs/sha256", sum[:2], sum, "*"))
	if check(t, err); len(objects) != 1 {
		t.Fatalf("the content is in %q", objects)
	}
	remove(t, objects[0])
	for _, running := range []bool{true, false} {
		if !running {
			server.stop()
		}
		checked(3, "The content is missing.")
		examined(3, append(works, "Stored files are missing or damaged, 1 in all.")...)
		other = []string{"ATTACHD_STORAGE_S3_PREFIX=other/"}
		examined(3, "The files are not below \"other/\" in the bucket bucket")
		other = nil
	}
	other = []string{"ATTACHD_STORAGE_BACKEND=disk"}
	examined(3, "The server does not start: the files are in storage.backend = \"s3\"")
	other = nil
	g.Kill()
	examined(3, "nothing listens there")
	r := wantCode(t, 3, attachd(t, slices.Concat(env, []string{"check", "--data-dir", server.dir})...))
	if !strings.Contains(r.stdout, "2 contents, 8 bytes: 2 faults") || !strings.Contains(r.stdout, "Not everything could be looked at") || strings.Contains(r.stderr, "snapshot") {
		t.Errorf("with the store away, the check says\n%s%s", r.stdout, r.stderr)
	}
}

// So a clone of the data directory, and an earlier state of it, are told apart from it.
func TestEachStartRaisesTheEpochInTheBucket(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	env := inBucket(g, filesAtOnce)
	server := start(t, spoiledDir(t), env...)
	server.upload(product, "a.txt", "a").want(t, 201)
	server.stop()
	for want := 1; want <= 3; want++ {
		raw, err := os.ReadFile(filepath.Join(g.Dir, "bucket/attachd/attachd.json"))
		check(t, err)
		var marker struct{ Epoch int }
		if check(t, json.Unmarshal(raw, &marker)); marker.Epoch != want {
			t.Fatalf("after start %d, the marker is %s", want, raw)
		}
		wantCode(t, 0, attachd(t, slices.Concat(env, []string{"check", "--data-dir", server.dir})...))
	}
}

// What is wrong with the store is in the log before anybody uploads, and the server starts.
func TestAStartSaysWhatIsWrongWithTheObjectStore(t *testing.T) {
	t.Parallel()
	g := s3test.Versitygw(t)
	taken := filepath.Join(g.Dir, "bucket/taken")
	check(t, os.MkdirAll(taken, 0o755))
	write(t, filepath.Join(taken, "attachd.json"), `{"installation":"another","tenant":"another","layout":1}`)
	for name, c := range map[string]struct{ sets, says string }{
		"a wrong secret":        {"ATTACHD_STORAGE_S3_SECRET_KEY=wrong", "the secret does not belong to the access key"},
		"no bucket":             {"ATTACHD_STORAGE_S3_BUCKET=nofiles", "there is no such bucket"},
		"the prefix of another": {"ATTACHD_STORAGE_S3_PREFIX=taken/", "belong to another installation, another"},
		"a wrong port":          {"ATTACHD_STORAGE_S3_ENDPOINT=http://127.0.0.1:1", "nothing listens there"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t, spoiledDir(t), inBucket(g, c.sets)...)
			if line := server.logged("the object store cannot be used"); !strings.Contains(line, `"level":"WARN"`) || !strings.Contains(line, c.says) || !strings.Contains(line, `"do":`) {
				t.Errorf("logged %s", line)
			}
		})
	}
}
