package cli_test

import (
	"bytes"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var readme = flag.Bool("readme", false, "run the commands of README.md and the manual; needs bash, curl, git and the port 8080")

// block is a fenced block of a document.
type block struct {
	language string
	text     string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func blocks(markdown string) (all []block) {
	for _, m := range fence.FindAllStringSubmatch(markdown, -1) {
		all = append(all, block{m[1], m[2]})
	}
	return all
}

// besideADemo are the documents whose commands run beside a demo, in this order, as
// somebody reads them who has its folder and the server's in front of them.
var besideADemo = []string{"README.md", "docs/start.md", "docs/api.md", "docs/configuration.md", "docs/maintenance.md", "docs/backup.md", "docs/audit.md",
	"docs/moving-from-a-folder.md", "docs/moving-from-s3.md", "docs/moving-from-filebrowser.md", "docs/moving-from-gitea.md"}

// elsewhere are the documents whose commands others run: packaging/drill.sh, and tests of
// their own in server/e2e.
var elsewhere = []string{"docs/operating.md", "docs/recipes.md", "docs/migrate.md", "docs/beyond-one-machine.md"}

const startsDemo = "go build -o attachd . && ./attachd serve --demo"

// Commands in a block of another language than sh are not run. So each page with sh
// must have somebody who runs it.
func TestTheCommandsOfEachPageOfTheManualAreRun(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	for _, path := range pages {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := "docs/" + filepath.Base(path)
		runs := slices.Contains(besideADemo, name) || slices.Contains(elsewhere, name)
		if has := bytes.Contains(raw, []byte("```sh\n")); has != runs {
			t.Errorf("%s has commands to run: %v; they are run: %v", name, has, runs)
		}
	}
}

// The documents are run as a newcomer would: on a fresh copy of the repository, the
// server in one terminal, everything else in a second, in order. The output must be the
// one that they show.
// ASVS 5.1.1
func TestTheReadmeRunsAsPrinted(t *testing.T) {
	if !*readme {
		t.Skip("the commands of the documents need more than Go; run them with: go test ./server/cli -run Readme -readme")
	}
	copied := copyOfRepository(t)
	startDemo(t, copied, startsDemo)
	for _, document := range besideADemo {
		t.Run(document, func(t *testing.T) {
			switch document {
			case "docs/moving-from-s3.md":
				startBucket(t)
			case "docs/moving-from-gitea.md":
				startGitea(t)
			}
			runAsPrinted(t, copied, document)
		})
	}
	if left := strings.TrimSpace(git(t, copied, "ls-files", "--others", "--exclude-standard")); left != "" {
		t.Errorf("the commands leave behind:\n%s", left)
	}
}

func runAsPrinted(t *testing.T, copied, document string) {
	raw, err := os.ReadFile(filepath.Join(copied, document))
	if err != nil {
		t.Fatal(err)
	}
	all := blocks(string(raw))
	var script strings.Builder
	script.WriteString("set -e\nexec 2>&1\n")
	for i, b := range all {
		if b.language == "sh" && strings.TrimSpace(b.text) != startsDemo {
			fmt.Fprintf(&script, "echo '@@ %d'\n%secho '@@ end'\n", i, b.text)
		}
	}
	terminal := exec.Command("bash", "-c", script.String())
	terminal.Dir = copied
	out, err := terminal.CombinedOutput()
	if err != nil {
		t.Fatalf("%v; the second terminal showed:\n%s", err, out)
	}
	for i, b := range all {
		if i == 0 || all[i-1].language != "sh" || b.language != "json" && b.language != "text" {
			continue // not the output of a command
		}
		shown := between(string(out), fmt.Sprintf("@@ %d\n", i-1), "@@ end")
		if got, want := forgetful(shown), forgetful(b.text); got != want {
			t.Errorf("%s shows\n%s\nbut out comes\n%s", document, want, got)
		}
	}
}

// startBucket runs a server that speaks S3, with a bucket that has a file, until the
// test ends.
func startBucket(t *testing.T) {
	if _, err := exec.LookPath("rclone"); err != nil {
		t.Skip("rclone is needed: ", err)
	}
	t.Setenv("AWS_CA_BUNDLE", "") // restored after the test
	if err := os.Unsetenv("AWS_CA_BUNDLE"); err != nil {
		t.Fatal(err)
	}
	const bucket = "http://127.0.0.1:9000/bucket"
	runInBackground(t, exec.Command("go", "run", "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0",
		"-backend", "memory", "-host", "127.0.0.1:9000", "-initialbucket", "bucket"), bucket)
	rq, err := http.NewRequest("PUT", bucket+"/Engine/parts.csv", strings.NewReader("part,mass\nvalve,3\n"))
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("the bucket answers %s", response.Status)
	}
}

// startGitea answers as Gitea does, until the test ends: two issues of a repository, of
// which one has a file and the other a comment with two.
func startGitea(t *testing.T) {
	const at = "127.0.0.1:3000"
	asset := func(id, name string) string {
		return fmt.Sprintf(`{"id":1,"name":%q,"size":9,"download_count":0,"created_at":"2021-03-04T05:06:07+01:00","uuid":%q,"browser_download_url":"http://%s/attachments/%[2]s"}`, name, id, at)
	}
	answers := map[string]string{
		"/api/v1/repos/ada/engine/issues":            `[{"number":2,"title":"Valve: \"leaks\"","user":{"login":"ada"}},{"number":1,"title":"Noise","user":{"login":"edsger"}}]`,
		"/api/v1/repos/ada/engine/issues/1/assets":   `[` + asset("0f1c0000-0000-4000-8000-000000000001", "noise.csv") + `]`,
		"/api/v1/repos/ada/engine/issues/1/comments": `[{"user":{"login":"ada"},"assets":[]}]`,
		"/api/v1/repos/ada/engine/issues/2/assets":   `[]`,
		"/api/v1/repos/ada/engine/issues/2/comments": `[{"user":{"login":"barbara"},"assets":[` + asset("0f1c0000-0000-4000-8000-000000000002", "a b.csv") + "," + asset("0f1c0000-0000-4000-8000-000000000003", "a b.csv") + `]}]`,
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, known := answers[r.URL.Path]
		if id, is := strings.CutPrefix(r.URL.Path, "/attachments/"); is {
			answer, known = "a,b\n"+id+",1\n", true
		}
		if !known || r.Header.Get("Authorization") != "token secret" {
			w.WriteHeader(http.StatusNotFound)
		}
		fmt.Fprint(w, answer)
	})}}
	server.Start()
	t.Cleanup(server.Close)
}

// copyOfRepository copies the files that a clone of the repository would have.
func copyOfRepository(t *testing.T) string {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	for _, name := range strings.Split(strings.Trim(git(t, root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git(t, to, "init", "-q")
	git(t, to, "add", ".")
	return to
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// startDemo runs the server in the first terminal until the test ends.
func startDemo(t *testing.T, dir, command string) {
	terminal := exec.Command("bash", "-c", command)
	terminal.Dir = dir
	runInBackground(t, terminal, "http://127.0.0.1:8080/health")
}

// runInBackground runs a server until the test ends, and waits until it answers.
func runInBackground(t *testing.T, server *exec.Cmd, address string) {
	if response, err := http.Get(address); err == nil {
		response.Body.Close()
		t.Fatalf("something answers at %s already", address)
	}
	var shown bytes.Buffer
	server.Stdout, server.Stderr = &shown, &shown
	ownGroup(server)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		endGroup(server)
		_ = server.Wait()
		if t.Failed() {
			t.Logf("%s showed:\n%s", server, shown.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		response, err := http.Get(address)
		if err == nil {
			response.Body.Close()
			return
		}
	}
	t.Fatalf("nothing answers at %s", address)
}

func between(s, begin, end string) string {
	_, s, _ = strings.Cut(s, begin)
	s, _, _ = strings.Cut(s, end)
	return s
}

var changing = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"id":"01[0-9a-f-]{34}"`), `"id":"…"`},
	{regexp.MustCompile(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z`), "…"},
}

// forgetful removes what is different in every run.
func forgetful(s string) string {
	for _, c := range changing {
		s = c.what.ReplaceAllString(s, c.with)
	}
	return strings.TrimSpace(s)
}
