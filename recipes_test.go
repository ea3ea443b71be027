//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// recipes are the programs of server/cli/RECIPES.md under each heading.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, section := range strings.Split(read(t, "server/cli/RECIPES.md"), "\n## ")[1:] {
		heading, _, _ := strings.Cut(section, "\n")
		if m := regexp.MustCompile("(?ms)^```(?:sh|go|python|js|html)\n(.*?)^```$").FindStringSubmatch(section); m != nil {
			found[heading] = m[1]
		}
	}
	return found
}

// Each recipe does what the page says of all of them.
func TestRecipes(t *testing.T) {
	t.Parallel()
	all := recipes(t)
	for heading, how := range map[string]struct {
		file string
		run  []string
		need string // a command that tells, with success, that the runtime is there
	}{
		"attachd's own commands": {"recipe.sh", []string{"sh"}, "command -v sh"},
		"curl":                   {"recipe.sh", []string{"sh"}, "command -v curl && command -v openssl && command -v sha256sum"},
		"Go":                     {"main.go", []string{"go", "run"}, "command -v go"},
		"Python":                 {"recipe.py", []string{"python3"}, "python3 -c 'import hashlib, requests; hashlib.file_digest'"},
		"JavaScript":             {"recipe.mjs", []string{"node"}, "node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'"},
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			if all[heading] == "" {
				t.Fatal("the page has no such recipe")
			}
			if out, err := exec.Command("sh", "-c", how.need).CombinedOutput(); err != nil {
				t.Skipf("what it needs is not here: %s: %v %s", how.need, err, out)
			}
			server := start(t, dataDir(t), autoCreate, "ATTACHD_LOG_FORMAT=json")
			dir := t.TempDir()
			write(t, filepath.Join(dir, how.file), all[heading])
			write(t, filepath.Join(dir, "report.csv"), "order,amount\n")
			self, err := os.Executable()
			check(t, err)
			bin := t.TempDir()
			check(t, os.Symlink(self, filepath.Join(bin, "attachd")))

			cmd := exec.Command(how.run[0], slices.Concat(how.run[1:], []string{how.file})...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), beAttachd+"=1", "PATH="+bin+":"+os.Getenv("PATH"), "ATTACHD_SERVER="+server.url, "ATTACHD_KEY="+server.key)
			if r := finish(t, cmd); r.code != 0 || !strings.Contains(r.stdout, "report.csv") || !strings.Contains(r.stdout, server.url+"/files/") || strings.Contains(r.stdout, server.key) {
				t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			if got := names(t, dir); len(got) != 3 || read(t, filepath.Join(dir, "copy.csv")) != "order,amount\n" {
				t.Errorf("it left %v", got)
			}
			if left := server.in(product); len(left) != 0 {
				t.Errorf("on the server it left %v", left)
			}
			server.logged(`"method":"DELETE"`)
		})
	}
}
