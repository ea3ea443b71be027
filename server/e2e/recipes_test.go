//go:build unix

package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"io"
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

	"github.com/chromedp/cdproto/cdp"
	devruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"attachd/blobs/s3/s3test"
)

var (
	uppy      = flag.String("uppy", "", "upload with Uppy; needs chromium, and this `folder` with node_modules that has @uppy/core, @uppy/xhr-upload and esbuild")
	generator = flag.Bool("generator", false, "make a client as the recipes say; needs a module proxy")
)

// recipes returns the programs of docs/recipes.md by heading.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, section := range strings.Split(read(t, "../../docs/recipes.md"), "\n## ")[1:] {
		heading, _, _ := strings.Cut(section, "\n")
		if m := regexp.MustCompile("(?ms)^```(?:sh|go|python|js|java|csharp|php|html|yaml)\n(.*?)^```$").FindStringSubmatch(section); m != nil {
			found[heading] = m[1]
		}
	}
	return found
}

// Each recipe does what the page promises for all of them.
func TestRecipes(t *testing.T) {
	t.Parallel()
	all := recipes(t)
	for heading, how := range map[string]struct {
		file string
		run  []string
		need string // a command that succeeds if the runtime is installed
	}{
		"attachd's own commands": {"recipe.sh", []string{"sh"}, "command -v sh"},
		"curl":                   {"recipe.sh", []string{"sh"}, "command -v curl && command -v openssl && command -v sha256sum"},
		"Go":                     {"main.go", []string{"go", "run"}, "command -v go"},
		"Python":                 {"recipe.py", []string{"python3"}, "python3 -c 'import hashlib, requests; hashlib.file_digest'"},
		"JavaScript":             {"recipe.mjs", []string{"node"}, "node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'"},
		"Java":                   {"Recipe.java", []string{"java"}, "javac --version | grep -E ' (1[7-9]|[2-9][0-9])'"},
		"C#":                     {"Recipe.cs", []string{"sh", "-c", `mcs -r:System.Net.Http -out:"$0.exe" "$0" && mono "$0.exe"; code=$?; rm "$0.exe"; exit $code`}, "command -v mcs && command -v mono"},
		"PHP":                    {"recipe.php", []string{"php"}, "php -r 'exit(PHP_MAJOR_VERSION < 8 || !function_exists(\"curl_init\") ? 1 : 0);'"},
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			if all[heading] == "" {
				t.Fatal("the page has no such recipe")
			}
			if out, err := exec.Command("sh", "-c", how.need).CombinedOutput(); err != nil {
				t.Skipf("what it needs is not here: %s: %v %s", how.need, err, out)
			}
			run := func(t *testing.T, data string, env ...string) {
				server := start(t, data, append(env, autoCreate, "ATTACHD_LOG_FORMAT=json")...)
				dir := t.TempDir()
				write(t, filepath.Join(dir, how.file), all[heading])
				write(t, filepath.Join(dir, "report.csv"), "order,amount\n")

				cmd := exec.Command(how.run[0], slices.Concat(how.run[1:], []string{how.file})...)
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary())+":"+os.Getenv("PATH"), "ATTACHD_SERVER="+server.url, "ATTACHD_KEY="+server.key)
				if r := finish(t, cmd); r.code != 0 || !strings.Contains(r.stdout, "report.csv") || !strings.Contains(r.stdout, server.url+"/files/") || strings.Contains(r.stdout, server.key) {
					t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
				}
				got := slices.DeleteFunc(names(t, dir), func(name string) bool { return name == "all.zip" }) // which only attachd's own commands can fetch
				if len(got) != 3 || read(t, filepath.Join(dir, "copy.csv")) != "order,amount\n" {
					t.Errorf("it left %v", got)
				}
				if left := server.in(product); len(left) != 0 {
					t.Errorf("on the server it left %v", left)
				}
				server.logged(`"method":"DELETE"`)
			}
			t.Run("files on the disk", func(t *testing.T) { run(t, dataDir(t)) })
			t.Run("files in an object store", func(t *testing.T) { run(t, spoiledDir(t), inBucket(s3test.Versitygw(t), filesAtOnce)...) })
		})
	}
}

func TestTheRecipeForUppy(t *testing.T) {
	t.Parallel()
	if *uppy == "" {
		t.Skip("Uppy and a browser are needed; with them: go test ./server/e2e -run Uppy -uppy DIR")
	}
	modules, err := filepath.Abs(filepath.Join(*uppy, "node_modules"))
	check(t, err)
	begin, script, ok := strings.Cut(recipes(t)["Uppy"], `<script type="module">`)
	script, end, closed := strings.Cut(script, "</script>")
	if !ok || !closed {
		t.Fatal("the page has no such recipe")
	}
	work := t.TempDir()
	write(t, filepath.Join(work, "page.mjs"), script)
	bundle := exec.Command(filepath.Join(modules, ".bin", "esbuild"), "page.mjs", "--bundle", "--format=esm", "--outfile=bundle.mjs")
	bundle.Dir = work
	bundle.Env = append(os.Environ(), "NODE_PATH="+modules)
	if r := finish(t, bundle); r.code != 0 {
		t.Fatalf("bundling: %s", r.stderr)
	}

	var constants string
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bundle.mjs" {
			w.Header().Set("Content-Type", "text/javascript")
			http.ServeFile(w, r, filepath.Join(work, "bundle.mjs"))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<!doctype html>"+begin+constants+`<script type="module" src="bundle.mjs"></script>`+end)
	}))
	defer page.Close()
	server := start(t, dataDir(t), autoCreate, "ATTACHD_CORS_ORIGINS="+page.URL, "ATTACHD_LOG_FORMAT=json")
	constants = `<script>const ATTACHD_SERVER = "` + server.url + `", ATTACHD_KEY = "` + server.key + `"</script>`

	ctx, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true))...)
	defer stop()
	ctx, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	shown := make(chan []string, 100)
	check(t, chromedp.Listen(ctx, func(event any) {
		said, ok := event.(*devruntime.EventConsoleAPICalled)
		if !ok || said.Type != "error" {
			return
		}
		var words []string
		for _, arg := range said.Args {
			var word string
			if json.Unmarshal(arg.Value, &word) == nil { // otherwise it is not a string
				words = append(words, word)
			}
		}
		shown <- words
	}))
	_, err = chromedp.Call(ctx, devruntime.Enable, cdp.Empty{})
	check(t, err)
	files := []string{fileOf(t, "Ünï \"côde\".csv", lines()), fileOf(t, "b.txt", "b")}
	const program = "#!/bin/sh\necho hello\n"
	refused := filepath.Join(t.TempDir(), "run.sh")
	write(t, refused, program)
	check(t, chromedp.Do(ctx, chromedp.Navigate(page.URL), chromedp.SetUploadFiles("#files", append(files, refused))))
	eventually(t, "both files are on the server", func() bool {
		return strings.Count(server.get(product+"/attachments").body, `"file_name"`) == 2
	})
	for _, file := range files {
		if r := server.over(0, "get", place+"/"+filepath.Base(file), "-o", "-"); r.stdout != read(t, file) {
			t.Errorf("%s is another", file)
		}
	}

	// Uppy's own message and the recipe's are printed once it has given up.
	var said [2][]string
	for i := range said {
		select {
		case said[i] = <-shown:
		case <-time.After(patience):
			t.Fatalf("of the refused file, the page says only %q", said)
		}
	}
	server.logged(`"status":400`)
	if sent := strings.Count(server.stderr(), `"status":400`); sent != 1 {
		t.Errorf("the refused file was sent %d times", sent)
	}
	var refusal struct{ Detail string }
	check(t, json.Unmarshal([]byte(server.upload(product, "run.sh", program).body), &refusal))
	for i, by := range []string{"Uppy", "the recipe"} {
		if refusal.Detail == "" || said[i][len(said[i])-1] != refusal.Detail {
			t.Errorf("%s says %q, not %q", by, said[i], refusal.Detail)
		}
	}
}

func TestTheRecipeForAGenerator(t *testing.T) {
	t.Parallel()
	if !*generator {
		t.Skip("a generator must be fetched; with a module proxy: go test ./server/e2e -run Generator -generator")
	}
	work := t.TempDir()
	write(t, filepath.Join(work, "oapi-codegen.yaml"), recipes(t)["A client that a generator makes"])
	write(t, filepath.Join(work, "openapi.json"), read(t, "../openapi.json"))
	command := regexp.MustCompile(`(?m)^go run .*oapi-codegen.*$`).FindString(read(t, "../../docs/recipes.md"))
	shell(t, work, command+"\ngo mod init client\ngo mod tidy\ngo vet .")
	if client := read(t, filepath.Join(work, "api.go")); !strings.Contains(client, ") UploadProductAttachmentWithBody(") {
		t.Error("the client cannot upload")
	}
}

// Clients that generators make of the server's own documents upload, list, download and
// delete, in programs as a developer would write them.
func TestClientsOfGeneratorsWork(t *testing.T) {
	t.Parallel()
	if !*generator {
		t.Skip("generators must be fetched; with a module proxy and an npm registry: go test ./server/e2e -run Generators -generator")
	}
	const (
		npm    = "npm install --silent --no-audit --no-fund esbuild@0.28 typescript@5.9 @types/node@20 "
		bundle = "\nnpx tsc --noEmit --strict --skipLibCheck --target es2022 --module esnext --moduleResolution bundler main.ts" +
			"\nnpx esbuild main.ts --log-level=error --bundle --platform=node --outfile=main.cjs"
		oapiCodegen = "mkdir client && go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config config.yaml openapi.json\n"
		ogen        = "go run github.com/ogen-go/ogen/cmd/ogen@v1.25.0 --config config.yaml --target client --package client --clean openapi.json\n"
		goModule    = "go mod init generated\ngo mod tidy\ngo vet .\ngo build -o main ."
	)
	for name, c := range map[string]struct{ document, program, config, make, run string }{
		"openapi-ts":             {"/openapi.json", "openapi-ts.ts", "", npm + "@hey-api/openapi-ts@0.95.0\nnpx openapi-ts -i openapi.json -o client" + bundle, "node main.cjs"},
		"openapi-typescript":     {"/openapi.json", "openapi-typescript.ts", "", npm + "openapi-typescript@7.13.0 openapi-fetch@0.17.0\nnpx openapi-typescript openapi.json -o client/schema.d.ts" + bundle, "node main.cjs"},
		"swagger-typescript-api": {"/openapi-3.0.json", "swagger-typescript-api.ts", "", npm + "swagger-typescript-api@13.13.0\nnpx swagger-typescript-api generate -p openapi.json -o client" + bundle, "node main.cjs"},
		"oapi-codegen":           {"/openapi.json", "oapi-codegen.go.txt", "oapi-codegen.yaml", oapiCodegen + goModule, "./main"},
		"oapi-codegen 3.0":       {"/openapi-3.0.json", "oapi-codegen.go.txt", "oapi-codegen.yaml", oapiCodegen + goModule, "./main"},
		"ogen":                   {"/openapi-3.0.json", "ogen.go.txt", "ogen.yaml", ogen + goModule, "./main"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := start(t, dataDir(t), autoCreate, "ATTACHD_LOG_FORMAT=json")
			work := t.TempDir()
			write(t, filepath.Join(work, "openapi.json"), server.get(c.document).want(t, 200).body)
			write(t, filepath.Join(work, "main"+filepath.Ext(strings.TrimSuffix(c.program, ".txt"))), read(t, "testdata/generators/"+c.program))
			write(t, filepath.Join(work, "report.csv"), "order,amount\n")
			if c.config != "" {
				write(t, filepath.Join(work, "config.yaml"), read(t, "testdata/generators/"+c.config))
			}
			shell(t, work, c.make)
			said := shell(t, work, "ATTACHD_SERVER="+server.url+" ATTACHD_KEY="+server.key+" "+c.run)
			if said != "report.csv 13\n" || read(t, filepath.Join(work, "copy.csv")) != "order,amount\n" {
				t.Errorf("it lists %q", said)
			}
			if left := server.in(product); len(left) != 0 {
				t.Errorf("on the server it left %v", left)
			}
			server.logged(`"method":"DELETE"`)
		})
	}
}

// shell runs commands of which each must succeed, for as long as they take: they may
// download. It returns what they print.
func shell(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.Command("sh", "-ec", commands)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	return string(out)
}
