//go:build unix

package e2e

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"attachd/server/e2e/nginx"
)

var withProxies = flag.Bool("proxies", false, "put nginx and Caddy, which must be installed, in front of the server, configured as docs/operating.md prints it")

// printed returns the first code block of a language in a document.
func printed(t *testing.T, document, language string) string {
	t.Helper()
	block := regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$").FindStringSubmatch(read(t, document))
	if block == nil {
		t.Fatalf("%s has no block of %s", document, language)
	}
	return block[1]
}

// adapted returns the text with each old string, which must occur, replaced.
func adapted(t *testing.T, text string, oldNew ...string) string {
	t.Helper()
	for i := 0; i < len(oldNew); i += 2 {
		if !strings.Contains(text, oldNew[i]) {
			t.Errorf("no %q in\n%s", oldNew[i], text)
		}
	}
	return strings.NewReplacer(oldNew...).Replace(text)
}

// The configurations are loaded as printed, except names, addresses and
// certificates, by the programs that they are for.
func TestProxiesAsPrinted(t *testing.T) {
	t.Parallel()
	if !*withProxies {
		t.Skip("it needs nginx and Caddy; run it with: go test ./server/e2e -run Proxies -proxies")
	}
	const document = "../../docs/operating.md"
	for proxy, run := range map[string]func(t *testing.T, dir, port, backend string, cert certified) (check, serve *exec.Cmd){
		"nginx": func(t *testing.T, dir, port, backend string, cert certified) (check, serve *exec.Cmd) {
			write(t, filepath.Join(dir, "nginx.conf"), "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {}\nhttp {\n"+
				"access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n"+
				adapted(t, printed(t, document, "nginx"), "listen 443", "listen 127.0.0.1:"+port, "/etc/ssl/files.pem", cert.cert,
					"/etc/ssl/files.key", cert.key, "127.0.0.1:8080", backend)+"}\n")
			args := []string{"-p", dir, "-c", "nginx.conf", "-e", "stderr"}
			return exec.Command("nginx", append(args, "-t")...), exec.Command("nginx", args...)
		},
		"caddy": func(t *testing.T, dir, port, backend string, cert certified) (check, serve *exec.Cmd) {
			asPrinted, here := filepath.Join(dir, "printed"), filepath.Join(dir, "here")
			block := printed(t, document, "caddy")
			write(t, asPrinted, block)
			write(t, here, "{\nadmin off\nauto_https disable_redirects\n}\n"+adapted(t, block,
				"files.example.com {", "https://127.0.0.1:"+port+" {\ntls "+cert.cert+" "+cert.key, "127.0.0.1:8080", backend))
			return exec.Command("caddy", "validate", "--adapter", "caddyfile", "--config", asPrinted),
				exec.Command("caddy", "run", "--adapter", "caddyfile", "--config", here)
		},
	} {
		t.Run(proxy, func(t *testing.T) {
			t.Parallel()
			dir, port := t.TempDir(), nginx.FreePort(t)
			server := start(t, dataDir(t), autoCreate, "ATTACHD_PUBLIC_URL=https://files.example.com", "ATTACHD_TRUSTED_PROXIES=127.0.0.1")
			cert := newCertificate(t, dir, proxy)
			look, serve := run(t, dir, port, strings.TrimPrefix(server.url, "http://"), cert)
			var said bytes.Buffer
			for _, cmd := range []*exec.Cmd{look, serve} {
				cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			}
			if out, err := look.CombinedOutput(); err != nil || bytes.Contains(out, []byte("warn")) && proxy == "nginx" {
				t.Fatalf("%v: %s", err, out)
			}
			serve.Stdout, serve.Stderr = &said, &said
			check(t, serve.Start())
			t.Cleanup(func() {
				_ = serve.Process.Kill()
				_ = serve.Wait()
				if t.Failed() {
					t.Logf("%s said\n%s", proxy, &said)
				}
			})

			through := server.client
			through.url, through.http = "https://127.0.0.1:"+port, trusting(t, cert)
			eventually(t, proxy+" answers", func() bool {
				a, err := through.try("", "GET", "/health", nil)
				return err == nil && a.status == 200
			})
			saved := through.uploadFrom("largest.txt", &generated{left: 50 << 20, line: "as large as a file may be\n"}).want(t, 201)
			if a := through.get(saved.download()).want(t, 200); len(a.body) != 50<<20 {
				t.Errorf("of 50 MB, %d bytes came back", len(a.body))
			}
			link := through.call(through.key, "POST", strings.TrimSuffix(saved.download(), "/download")+"/links", strings.NewReader("{}")).want(t, 201)
			if !strings.Contains(link.body, `"https://files.example.com/files/`) {
				t.Errorf("a link is %s", link)
			}
			a := through.call(through.key, "GET", "/users/me", nil, "X-Request-Id", "the-callers").want(t, 200)
			if id := a.header.Get("X-Request-Id"); id == "the-callers" || len(id) < 32 {
				t.Errorf("the request's id is %q: the proxy gave it none", id)
			}
		})
	}
}

// The lines have the form that cron accepts: five fields within their bounds, in
// /etc/cron.d also a user, and in the command no %, which would end it.
func TestCrontabLinesAreOnesThatCronTakes(t *testing.T) {
	t.Parallel()
	line := regexp.MustCompile(`(?m)^([0-9*/,-]+) ([0-9*/,-]+) ([0-9*/,-]+) ([0-9*/,-]+) ([0-9*/,-]+)  (.*)$`)
	for document, command := range map[string]string{
		"../../docs/backup.md":    `^attachd (backup .*)>/dev/null$`,
		"../../docs/operating.md": `^root  attachd (backup .*)>/dev/null$`,
	} {
		lines := line.FindAllStringSubmatch(read(t, document), -1)
		if len(lines) != 2 {
			t.Fatalf("%s has %d lines for cron, and not a backup and its verification", document, len(lines))
		}
		for _, l := range lines {
			for i, most := range []int{59, 23, 31, 12, 7} {
				if n, err := strconv.Atoi(l[i+1]); l[i+1] != "*" && (err != nil || n > most) {
					t.Errorf("%s: field %d of %s", document, i+1, l[0])
				}
			}
			words := regexp.MustCompile(command).FindStringSubmatch(l[6])
			if words == nil || strings.Contains(l[6], "%") {
				t.Errorf("%s: cron would not run %s", document, l[6])
				continue
			}
			// Invalid command lines are refused before any file is opened.
			if r := attachd(t, append(strings.Fields(words[1]), "--help")...); r.code != 0 {
				t.Errorf("%s: %s: %s", document, words[1], r.stderr)
			}
		}
	}
}
