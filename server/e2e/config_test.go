//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigCheckWarnsOfUnknownVariables(t *testing.T) {
	t.Parallel()
	r := attachd(t, "ATTACHD_LISTN=:80", "config", "check")
	if r.code != 0 || r.stderr != "attachd: warning: ATTACHD_LISTN: unknown variable, did you mean ATTACHD_LISTEN?\n" {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}

// Values that only another part of the program can reject are refused like the
// others: with the file, the line and the key.
func TestImpossibleValuesAreRefusedWithTheirLine(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"\n[scan]\nclamd = \"tcp:127.0.0.1:99999\"\n":                  "3:9: scan.clamd: expected the address of a clamd",
		"[downloads]\ncontent_url = \"http://127.0.0.1:8080/files\"\n": "2:15: downloads.content_url: must have another host name than the address that listen names",
	} {
		file := filepath.Join(t.TempDir(), "attachd.toml")
		write(t, file, text)
		for _, words := range [][]string{{"config", "check"}, {"serve", "--data-dir", dataDir(t), "--listen", "127.0.0.1:0"}} {
			r := attachd(t, append(words, "--config", file)...)
			if r.code == 0 || !strings.Contains(r.stderr, file+":"+says) {
				t.Errorf("%q: exit code %d, %q, want %q", words, r.code, r.stderr, says)
			}
		}
	}
}

// A flag overrides the environment, the environment the file, and the file the
// default; config show prints the values that a server uses.
func TestConfigurationPrecedence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "attachd.toml")
	write(t, file, "listen = \"127.0.0.1:1001\"\ndata_dir = \"from-file\"\n[limits]\nmax_file_size = \"1KB\"\n[log]\nlevel = \"error\"\n")
	shown := func(words ...string) string {
		return strings.ReplaceAll(ok(t, append(words, "config", "show")...), "'", `"`)
	}
	for _, c := range []struct{ words, line string }{
		{"", `data_dir = "data"`},
		{"--config " + file, `data_dir = "from-file"`},
		{"ATTACHD_CONFIG=" + file, `data_dir = "from-file"`},
		{"ATTACHD_DATA_DIR=from-env --config " + file, `data_dir = "from-env"`},
		{"ATTACHD_DATA_DIR=from-env --config " + file + " --data-dir from-flag", `data_dir = "from-flag"`},
		{"--config " + file, `listen = "127.0.0.1:1001"`},
		{"ATTACHD_LISTEN=127.0.0.1:1002 --config " + file, `listen = "127.0.0.1:1002"`},
		{"ATTACHD_LIMITS_MAX_FILE_SIZE=2KB --config " + file, `max_file_size = "2KB"`},
		{"ATTACHD_LOG_FORMAT=text --config " + file, `level = "error"`},
	} {
		if all := shown(strings.Fields(c.words)...); !strings.Contains(all, c.line+"\n") {
			t.Errorf("%s config show: no line %s in\n%s", c.words, c.line, all)
		}
	}

	// The flag --listen of start wins over the port in the file.
	dir := dataDir(t)
	server := start(t, dir, autoCreate, "--config", file)
	server.upload(product, "a.txt", strings.Repeat("a", 1024)).want(t, 201)
	server.upload(product, "a.txt", strings.Repeat("a", 1025)).want(t, 413)
	server.stop()
	server = start(t, dir, "ATTACHD_LIMITS_MAX_FILE_SIZE=2KB", "--config", file)
	server.upload(product, "b.txt", strings.Repeat("b", 2048)).want(t, 201)
	refusal := server.upload(product, "b.txt", strings.Repeat("b", 2049)).want(t, 413)
	if !strings.Contains(refusal.body, "2 KB (2048 bytes)") {
		t.Errorf("the refusal does not name the limit: %s", refusal.body)
	}
	server.stop()

	// Without a flag, the environment sets the data directory and the address.
	dir = dataDir(t)
	startCommand(t, dir, command(t, "ATTACHD_DATA_DIR="+dir, "ATTACHD_LISTEN=127.0.0.1:0", "serve", "--config", file)).get("/users/me").want(t, 200)

	// The output of config show is a valid configuration file.
	copied := filepath.Join(t.TempDir(), "copy.toml")
	write(t, copied, shown("ATTACHD_LIMITS_MAX_FILE_SIZE=3KB", "ATTACHD_LISTEN=127.0.0.1:0", "--config", file, "--data-dir", t.TempDir()))
	if first, second := read(t, copied), shown("--config", copied); first != second {
		t.Errorf("config show of what it printed itself:\n%s\nnot\n%s", second, first)
	}

	// By default the data directory is the working directory.
	cmd := command(t, "ATTACHD_LISTEN=127.0.0.1:0", "serve")
	cmd.Dir = dataDir(t)
	startCommand(t, filepath.Join(cmd.Dir, "data"), cmd).get("/users/me").want(t, 200)
}
