//go:build unix

package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	ada = "0190aaaa-0000-7000-8000-000000000001"
	bob = "0190aaaa-0000-7000-8000-000000000002"
)

const world = `{"kind":"space","slug":"lab","name":"Lab"}
{"kind":"member","space":"lab","user_id":"` + ada + `","role":"editor"}
{"kind":"product","space":"lab","id":"550e8400-e29b-41d4-a716-446655440099"}
`

// session is what is typed, and what is printed: the same whether a server runs or
// not. What the API returns is not repeated here.
const session = `
$ user add "Ada Lovelace" --id 0190AAAA-0000-7000-8000-000000000001
0190aaaa-0000-7000-8000-000000000001
$ user add Bob --superadmin --id 0190aaaa-0000-7000-8000-000000000002
0190aaaa-0000-7000-8000-000000000002
$ user add Robert --id 0190aaaa-0000-7000-8000-000000000002
attachd: there is a user 0190aaaa-0000-7000-8000-000000000002 already, "Bob"; ` + "`attachd user set`" + ` changes users
exit code 1
$ user set Bob --name Robert
0190aaaa-0000-7000-8000-000000000002
$ user set 0190aaaa-0000-7000-8000-000000000002 --superadmin=false --json
{"id":"0190aaaa-0000-7000-8000-000000000002","full_name":"Robert","is_superadmin":false}
$ user set Robert --superadmin --name Bob --json
{"id":"0190aaaa-0000-7000-8000-000000000002","full_name":"Bob","is_superadmin":true}
$ user set Robert --name Bob
attachd: there is no user "Robert"; ` + "`attachd user list`" + ` shows them
exit code 1
$ user add Carol
<id>
$ user remove Carol
$ user remove Carol
attachd: there is no user "Carol"; ` + "`attachd user list`" + ` shows them
exit code 1
$ user list
ID                                    NAME           SUPERADMIN  RECORDS MANAGER
0190aaaa-0000-7000-8000-000000000001  Ada Lovelace
0190aaaa-0000-7000-8000-000000000002  Bob            yes
<id>  Administrator  yes
$ user list --json
{"id":"0190aaaa-0000-7000-8000-000000000001","full_name":"Ada Lovelace","is_superadmin":false}
{"id":"0190aaaa-0000-7000-8000-000000000002","full_name":"Bob","is_superadmin":true}
{"id":"<id>","full_name":"Administrator","is_superadmin":true}
$ key create "Ada Lovelace" --name laptop --expires-in-days 30
<key>
$ key create 0190aaaa-0000-7000-8000-000000000002
<key>
$ key create Nobody
attachd: there is no user "Nobody"; ` + "`attachd user list`" + ` shows them
exit code 1
$ key create 0190aaaa-0000-7000-8000-00000000dead
attachd: <why>
exit code 1
$ key list 0190aaaa-0000-7000-8000-000000000001
ID                                    KEY              NAME    EXPIRES               LAST USED
<id>  <prefix>…  laptop  <time>  never
$ key list Bob
ID                                    KEY              NAME                      EXPIRES  LAST USED
<id>  <prefix>…  made on the command line  never    never
$ key list Bob --json
{"id":"<id>","name":"made on the command line","key_prefix":"<prefix>","created_at":"<time>","expires_at":null,"last_used_at":null}
$ directory import world.ndjson
3 lines: 3 created, 0 updated {"member":1,"product":1,"space":1}
$ directory import -
3 lines: 0 created, 3 updated {"member":1,"product":1,"space":1}
$ directory import broken.ndjson
attachd: line 2: <why>; nothing was changed
exit code 1
$ directory import missing.ndjson
attachd: open missing.ndjson: no such file or directory
exit code 1
$ directory import .
attachd: read .: is a directory
exit code 1
$ key revoke Bob <key of Bob>
$ key revoke Bob <key of Bob>
attachd: <why>
exit code 1
$ key create Bob
<key>
$ key revoke "Ada Lovelace" <beginning of the last key>
attachd: there is no such key; ` + "`attachd key list`" + ` shows a user's keys
exit code 1
$ key revoke <beginning of the last key>
$ key revoke <beginning of the last key>
attachd: there is no such key; ` + "`attachd key list`" + ` shows a user's keys
exit code 1
$ key create Bob
<key>
$ key revoke <last key>
$ key list Bob
ID  KEY  NAME  EXPIRES  LAST USED
$ key revoke Bob 17
attachd: "17" is neither the id of a key nor the beginning of one; ` + "`attachd key list`" + ` shows them
exit code 2
$ key rotate-signing
links given out so far end by <time>
$ key rotate-signing --grace 0
links given out so far end by <time>
$ key rotate-signing --grace 169h
attachd: --grace must be from 0 to 168h0m0s
exit code 2
$ user list
ID                                    NAME           SUPERADMIN  RECORDS MANAGER
0190aaaa-0000-7000-8000-000000000001  Ada Lovelace
0190aaaa-0000-7000-8000-000000000002  Bob            yes
<id>  Administrator  yes
$ config check
The configuration is good.
$ version
attachd <version>
`

func TestCommandsDoTheSameWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir, files := dataDir(t), t.TempDir()
			write(t, filepath.Join(files, "world.ndjson"), world)
			write(t, filepath.Join(files, "broken.ndjson"), `{"kind":"space","slug":"other"}`+"\n"+`{"kind":"space","slug":"No Slug"}`+"\n")
			server := start(t, dir)
			if !running {
				server.stop()
			}
			typed := &typist{dir: dir, files: files}
			var got strings.Builder
			for line := range strings.Lines(session) {
				if typing, is := strings.CutPrefix(line, "$ "); is {
					got.WriteString(line + typed.run(t, strings.TrimSpace(typing)))
				}
			}
			want := regexp.QuoteMeta(strings.TrimPrefix(session, "\n"))
			if !regexp.MustCompile("^" + strings.ReplaceAll(want, "<why>", ".+") + "$").MatchString(got.String()) {
				t.Errorf("got\n%s\nwant%s", &got, session)
			}

			if shown := ok(t, "config", "show", "--data-dir", dir); !strings.Contains(shown, dir) {
				t.Errorf("config show prints\n%s", shown)
			}

			if !running {
				server = start(t, dir)
			}
			if len(typed.keys) != 4 {
				t.Fatalf("%d keys were made", len(typed.keys))
			}
			me := server.call(typed.keys[0], "GET", "/users/me", nil).want(t, 200)
			if !strings.Contains(me.body, ada) || !strings.Contains(me.body, `"slug":"lab"`) {
				t.Errorf("the key of Ada, who was made a member of the lab, is %s", me.body)
			}
			for _, revoked := range typed.keys[1:] {
				server.call(revoked, "GET", "/users/me", nil).want(t, 401)
			}
			server.get("/directory/spaces/other").want(t, 404) // of the invalid file
			server.get("/directory/spaces/lab/products/550e8400-e29b-41d4-a716-446655440099").want(t, 200)
		})
	}
}

// typist types commands and records the output, with words for what differs each
// time.
type typist struct {
	dir, files string
	at         *process // to type for it over the network; nil for the data directory
	keys       []string // that were created
	listed     string   // the id of the last key listed
}

var (
	typedWord = regexp.MustCompile(`"[^"]*"|<[^>]*>|\S+`)
	varying   = []struct {
		is   *regexp.Regexp
		word string
	}{
		{anyKey, "<key>"},
		{regexp.MustCompile(`attachd_[A-Za-z0-9_-]{6}…`), "<prefix>…"},
		{regexp.MustCompile(`"attachd_[A-Za-z0-9_-]{6}"`), `"<prefix>"`},
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "<time>"},
		{regexp.MustCompile(`(?m)^attachd devel.*`), "attachd <version>"},
		{regexp.MustCompile(` +(?m:$)`), ""},
	}
	anyID    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	keyOfBob = regexp.MustCompile(`(?m)^(\S+)  attachd_.*command line`)
)

func (typed *typist) run(t *testing.T, line string) string {
	t.Helper()
	words := typedWord.FindAllString(line, -1)
	for i, word := range words {
		words[i] = strings.Trim(word, `"`)
		switch word {
		case "<key of Bob>":
			words[i] = typed.listed
		case "<last key>":
			words[i] = typed.keys[len(typed.keys)-1]
		case "<beginning of the last key>":
			words[i] = typed.keys[len(typed.keys)-1][:len("attachd_")+6] + "…"
		}
	}
	if typed.at != nil {
		words = append([]string{"ATTACHD_SERVER=" + typed.at.url, "ATTACHD_KEY=" + typed.at.key}, words...)
	} else {
		words = append(words, "--data-dir", typed.dir)
	}
	cmd := command(t, words...)
	cmd.Dir = typed.files
	cmd.Stdin = strings.NewReader(world)
	r := finish(t, cmd)
	typed.keys = append(typed.keys, anyKey.FindAllString(r.stdout, -1)...)
	if found := keyOfBob.FindStringSubmatch(r.stdout); found != nil {
		typed.listed = found[1]
	}
	said := r.stdout + r.stderr
	for _, v := range varying {
		said = v.is.ReplaceAllString(said, v.word)
	}
	said = anyID.ReplaceAllStringFunc(said, func(id string) string {
		if strings.HasPrefix(id, "0190aaaa") {
			return id
		}
		return "<id>"
	})
	if r.code != 0 {
		said += fmt.Sprintf("exit code %d\n", r.code)
	}
	return said
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	good, bad := filepath.Join(files, "good.toml"), filepath.Join(files, "bad.toml")
	write(t, good, "listen = \"127.0.0.1:0\"\n")
	write(t, bad, "listen = \"127.0.0.1:0\"\n[limits]\nmax_filesize = \"1MB\"\n")
	secret, open := filepath.Join(files, "secret"), filepath.Join(files, "open")
	write(t, secret, "secret\n")
	write(t, open, "secret\n")
	chmod(t, open, 0o644)
	const bucket = "ATTACHD_STORAGE_BACKEND=s3 ATTACHD_STORAGE_S3_ENDPOINT=https://store.example ATTACHD_STORAGE_S3_BUCKET=files ATTACHD_STORAGE_S3_ACCESS_KEY=key "
	file := filepath.Join(good, "no-directory")
	for _, c := range []struct {
		code  int
		typed string
		says  string // on standard output on success, on standard error on failure
	}{
		{0, "", "Commands for the server on this machine:"},
		{0, "--help", "Commands for the server on this machine:"},
		{0, "serve --help", "--listen"},
		{0, "version", "attachd "},
		{0, "docs", "troubleshooting"},
		{0, "docs glossary", "# Glossary"},
		{0, "docs docs/api.md", "# The API"},
		{0, "licenses", "==== go.etcd.io/bbolt v"},
		{0, "licences", "==== Go: LICENSE"},
		{0, "completion bash", "__start_attachd"},
		{0, "completion zsh", "#compdef attachd"},
		{0, "completion fish", "complete -c attachd"},
		{0, "completion powershell", "Register-ArgumentCompleter"},
		{0, "__complete spa", "space\tadd"},
		{0, "config check", "The configuration is good."},
		{0, "config check --config " + good, "The configuration is good."},
		{0, "config show --config " + good, "127.0.0.1:0"},
		{0, "ATTACHD_CONFIG=" + good + " config show", "127.0.0.1:0"},

		{1, "user list --data-dir " + file, "not a directory"},
		{0, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY_FILE=" + secret + " config check", "The configuration is good."},
		{1, "serve --data-dir " + file, "not a directory"},
		{1, "serve --config " + bad, "bad.toml"},
		{1, "config show --config " + bad, "bad.toml"},
		{1, "user list --config " + bad, "bad.toml"},
		{1, "check --data-dir " + file, "not a directory"},
		{1, "gc --config " + bad, "bad.toml"},
		{1, "migrate --to " + bad, "bad.toml"},

		{2, "sreve", `"sreve" is not a command of attachd. There are: audit, backup, check, compact, completion, config, directory, docs, doctor, export, gc, get, hold, import, init, key, licenses, link, ls, meeting, member, migrate, product, put, restore, rm, sbom, serve, space, ticket, trash, user, verify-release, version, webhooks`},
		{2, "docs nothing", "the manual has no page \"nothing\"; `attachd docs` lists them"},
		{2, "docs api recipes", "takes the name of a page, or nothing"},
		{2, "user", "say what to do: add, list, remove"},
		{2, "user ad", `"ad" is not a command of attachd user. There are: add, list, remove`},
		{2, "space", "say what to do: add, list, remove, set"},
		{2, "member", "say what to do: add, list, remove, set"},
		{2, "product", "say what to do: add, list, remove, set"},
		{2, "ticket", "say what to do: add, list, remove, set"},
		{2, "meeting ad", `"ad" is not a command of attachd meeting. There are: add, list, remove, set`},
		{2, "space add", "attachd space add takes a slug, as in research"},
		{2, "space add Research", `"Research" is not a space's slug`},
		{2, "space add lab --quota-bytes 10", `--quota-bytes: expected a size like "50MB"`},
		{2, "space add lab --quota-bytes 0", "--quota-bytes must be above 0, or none"},
		{2, "space add lab --quota-files=many", `--quota-files: "many" is not a whole number; or none`},
		{2, "space set lab", "say what to change: --name, --quota-bytes, --quota-files"},
		{2, "space remove", "attachd space remove takes a space's slug"},
		{2, "space remove lab --attachments=keep", "--attachments can only be delete"},
		{2, "space list --server http://127.0.0.1:1 --data-dir " + file, "give one of them"},
		{2, "space list --server http://127.0.0.1:1", "an API key is needed"},
		{2, "ATTACHD_SERVER=ftp://files space list", "an API key is needed"},
		{2, "ATTACHD_SERVER=ftp://files ATTACHD_KEY=k space list", `"ftp://files" is not the URL of a server`},
		{2, "space list --key-file " + good, "say which server"},
		{1, "ATTACHD_SERVER=http://127.0.0.1:1 ATTACHD_DATA_DIR=" + file + " space list", "not a directory"},
		{1, "ATTACHD_SERVER=http://127.0.0.1:1 ATTACHD_KEY=k space list --retry-for 0", "no connection to 127.0.0.1:1"},
		{2, "member add lab Ada", "attachd member add takes a space's slug and a user's id or full name and a role"},
		{2, "member add lab Ada boss", `"boss" is not a role: there are viewer, editor and admin`},
		{2, "member set Lab Ada admin", `"Lab" is not a space's slug`},
		{2, "member list", "attachd member list takes a space's slug"},
		{2, "member remove lab", "attachd member remove takes a space's slug and a user's id or full name"},
		{2, "product add lab", "attachd product add takes a space's slug and a name"},
		{2, "product add lab --name=Engine Engine", "unknown flag: --name"},
		{2, "product add lab Engine --id 17", "--id must be a UUID in its usual form"},
		{2, "product list lab more", "attachd product list takes a space's slug, or nothing"},
		{2, "product set Engine", "say what to change: --name"},
		{2, "product set Engine --name=", "a product needs a name"},
		{2, "product remove", "attachd product remove takes a product's id or name, after its space's slug if you like"},
		{2, "product remove a b c", "attachd product remove takes a product's id or name, after its space's slug if you like"},
		{2, "product remove Lab Engine", `"Lab" is not a space's slug`},
		{2, "ticket add lab Slow", "--owner takes a user's id or full name"},
		{2, "ticket set Slow", "say what to change: --title, --owner"},
		{2, "ticket remove Slow --attachments=yes", "--attachments can only be delete"},
		{2, "meeting add lab", "attachd meeting add takes a space's slug and a title"},
		{2, "meeting set Monday", "say what to change: --title"},
		{2, "trash", "say what to do: empty, list, restore"},
		{2, "hold", "say what to do: add, lift, list"},
		{2, "hold add", "attachd hold add takes space:SLUG, product:ID, ticket:ID, meeting:ID or attachment:ID"},
		{2, "hold add space:lab", "a hold needs a reason"},
		{2, "hold add space:Lab --reason r", `"Lab" is not a space's slug`},
		{2, "hold add folder:x --reason r", `"folder:x" is neither space:SLUG nor product:`},
		{2, "hold add product: --reason r", `"product:" is neither space:SLUG nor product:`},
		{2, "hold add attachment:x --reason r", "attachment: takes an id"},
		{2, "hold list A b", "attachd hold list takes a space's slug, or nothing"},
		{2, "hold list A", `"A" is not a space's slug`},
		{2, "hold lift", "attachd hold lift takes a hold's id"},
		{2, "hold lift x", `"x" is no id of a hold`},
		{2, "trash list a b", "attachd trash list takes a space's slug, or nothing"},
		{2, "trash list Lab", `"Lab" is not a space's slug`},
		{2, "trash restore", "attachd trash restore takes an id"},
		{2, "trash restore report.csv", `"report.csv" is neither an id nor a space's slug`},
		{2, "trash empty", "say whose trash to empty: a space's slug, or --all"},
		{2, "trash empty lab --all", "say whose trash to empty: a space's slug, or --all"},
		{2, "config", "say what to do: check, show"},
		{2, "webhooks", "say what to do: ping, redeliver, status"},
		{2, "webhooks ping twice", "attachd webhooks ping takes no arguments"},
		{2, "--nope", "unknown flag: --nope"},
		{2, "serve --nope", "unknown flag: --nope\nSee: attachd serve --help"},
		{2, "serve --listen", "flag needs an argument: --listen"},
		{2, "key create Ada --expires-in-days soon", "invalid argument \"soon\" for \"--expires-in-days\" flag: it takes a whole number\nSee"},
		{2, "key create Ada --expires-in-days 99999999999999999999", "flag: it takes a whole number\nSee"},
		{2, "key create Ada --expires-in-days 0", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --expires-in-days -5", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --expires-in-days 36501", "--expires-in-days must be from 1 to 36500"},
		{2, "key create Ada --name=", "--name must say what the key is for"},
		{2, "check --deep=deeply", "flag: it takes true or false\nSee"},
		{2, "serve now", "attachd serve takes no arguments"},
		{2, "licenses now", "attachd licenses takes no arguments"},
		{2, "export", "attachd export takes a folder"},
		{2, "sbom one two", "attachd sbom takes"},
		{2, "verify-release", "attachd verify-release takes a folder"},
		{2, "verify-release .", "--key must name the file with the public key"},
		{2, "completion", "say for which shell: bash, zsh, fish, powershell"},
		{2, "completion tcsh", "say for which shell: bash, zsh, fish, powershell"},
		{2, "completion bash now", "say for which shell: bash, zsh, fish, powershell"},
		{2, "man", "attachd man takes a folder"},
		{2, "version now", "attachd version takes no arguments"},
		{2, "check deep", "attachd check takes no arguments"},
		{2, "doctor now", "attachd doctor takes no arguments"},
		{2, "gc --dryrun", "unknown flag: --dryrun"},
		{2, "user add", "attachd user add takes a full name"},
		{2, "user add Ada Lovelace", "attachd user add takes a full name"},
		{2, "user remove", "attachd user remove takes a user's id or full name"},
		{2, "user set", "attachd user set takes a user's id or full name"},
		{2, "user set Ada", "say what to change: --name, --superadmin, --records-manager"},
		{2, "user set Ada --name=", "a user needs a full name"},
		{2, "user add Ada --id 17", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id=", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id urn:uuid:0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id 0b5ab4f30b4f4c35a2c50a4f1a1c7d01", "--id must be a UUID in its usual form"},
		{2, "user add Ada --id 00000000-0000-0000-0000-000000000000", "--id must be a UUID in its usual form"},
		{2, "key revoke", "attachd key revoke takes a key's id or beginning"},
		{2, "key revoke Ada", `"Ada" is neither the id of a key nor the beginning of one`},
		{2, "directory import", "attachd directory import takes a file"},
		{2, "backup", "attachd backup takes a folder"},
		{2, "backup one two", "attachd backup takes a folder"},
		{2, "backup here --keep 0", "--keep must be at least 1"},
		{2, "backup verify", "attachd backup verify takes a folder"},
		{2, "restore", "attachd restore takes a folder"},
		{2, "migrate", "attachd migrate takes --to with a configuration file"},
		{2, "migrate " + good, "attachd migrate takes no arguments"},

		{3, "doctor --config " + bad, "bad.toml:3:1: limits.max_filesize: unknown key, did you mean limits.max_file_size?"},
		{3, "config check --config " + bad, "bad.toml:3:1: limits.max_filesize: unknown key, did you mean limits.max_file_size?"},
		{3, "config check --config " + filepath.Join(files, "missing.toml"), "missing.toml"},
		{3, "ATTACHD_LIMITS_MAX_FILE_SIZE=much config check", "ATTACHD_LIMITS_MAX_FILE_SIZE"},
		{3, "ATTACHD_DOWNLOADS_URL_TTL=60 config check", "ATTACHD_DOWNLOADS_URL_TTL"},
		{3, "ATTACHD_WEBHOOKS_URL=https://a.example config check", "ATTACHD_WEBHOOKS_URL: needs webhooks.secret_file too"},
		{3, "ATTACHD_WEBHOOKS_SECRET_FILE=s ATTACHD_WEBHOOKS_URL=http://a.example config check", "must begin with https"},
		{3, "ATTACHD_STORAGE_S3_SECRET_KEY=abc config check", "attachd: storage.s3_access_key: is missing"},
		{3, bucket + "config check", "ATTACHD_STORAGE_S3_ACCESS_KEY: needs storage.s3_secret_key"},
		{3, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY=abc ATTACHD_STORAGE_S3_SECRET_KEY_FILE=" + secret + " config check", "ATTACHD_STORAGE_S3_SECRET_KEY: is set, and storage.s3_secret_key_file too"},
		{3, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY_FILE=" + open + " config check", "storage.s3_secret_key_file: "},
		{3, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY_FILE=" + secret + ".gone config check", "storage.s3_secret_key_file: "},
		{3, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY=abc ATTACHD_STORAGE_S3_CA_FILE=" + secret + " config check", "has no certificate in PEM form"},
		{3, bucket + "ATTACHD_STORAGE_S3_SECRET_KEY=abc ATTACHD_STORAGE_S3_CA_FILE=" + secret + ".gone config check", "storage.s3_ca_file: "},
		{3, "ATTACHD_CONTENT_ALLOWED=application/x-no-such-type config check", "application/x-no-such-type"},
	} {
		r := attachd(t, strings.Fields(c.typed)...)
		said := r.stdout
		if c.code != 0 {
			said = r.stderr
		}
		if r.code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("attachd %s\nexit code %d, want %d\nstdout: %s\nstderr: %s\nwant: %s", c.typed, r.code, c.code, r.stdout, r.stderr, c.says)
		}
	}
}

func TestAUserNeedsAName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "  "} {
		said := refused(t, 2, "user", "add", name, "--data-dir", filepath.Join(t.TempDir(), "new"))
		if !strings.Contains(said, "a user needs a full name") {
			t.Errorf("it says %q", said)
		}
	}
}

// No command that is given the folder of another program changes anything in it.
func TestAFolderOfSomebodyElseStaysAsItIs(t *testing.T) {
	t.Parallel()
	home, elsewhere := t.TempDir(), t.TempDir()
	check(t, os.MkdirAll(filepath.Join(home, "tmp", "deep"), 0o755))
	for _, name := range []string{"main.c", "tmp/thesis.txt", "tmp/deep/photo.jpg"} {
		write(t, filepath.Join(home, name), "precious")
	}
	chmod(t, home, 0o755)
	write(t, filepath.Join(elsewhere, "world.ndjson"), `{"kind":"space","slug":"lab"}`+"\n")
	data, to := dataDir(t), filepath.Join(elsewhere, "backup")
	start(t, data).stop()
	ok(t, "backup", to, "--data-dir", data)
	before := tree(t, home)
	for _, typed := range []string{"serve --listen 127.0.0.1:0", "serve --demo --listen 127.0.0.1:0", "init", "check", "check --deep", "gc", "compact", "backup " + filepath.Join(elsewhere, "other"),
		"restore " + to, "user add Ada", "user list", "key create Ada", "key list Ada", "audit verify", "directory import " + filepath.Join(elsewhere, "world.ndjson")} {
		said := refused(t, 1, append(strings.Fields(typed), "--data-dir", home)...)
		if !strings.Contains(said, home+" is no data directory") && !strings.Contains(said, home+" is not empty") || strings.Count(said, "\n") != 1 {
			t.Errorf("attachd %s says %q", typed, said)
		}
		if after := tree(t, home); after != before {
			t.Fatalf("attachd %s: there was\n%s\nand is\n%s", typed, before, after)
		}
	}
	if doctor := attachd(t, "doctor", "--data-dir", home); doctor.code != 3 || !strings.Contains(doctor.stdout, home+" is no data directory of attachd: there is \"main.c\" in it") {
		t.Errorf("the doctor says %s", doctor.stdout)
	}
	if said := refused(t, 1, "serve", "--data-dir", to); !strings.Contains(said, "but a backup of one") {
		t.Errorf("of a backup it says %s", said)
	}
	if after := tree(t, home); after != before {
		t.Errorf("there was\n%s\nand is\n%s", before, after)
	}
}

// A mount point is empty while its disk is not mounted, and would pass for a new
// data directory.
func TestAnInstallationThatIsWantedIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	const want = "ATTACHD_REQUIRE_EXISTING=true"
	mount := filepath.Join(t.TempDir(), "mount")
	check(t, os.Mkdir(mount, 0o755))
	dir, world := filepath.Join(mount, "attachd"), filepath.Join(t.TempDir(), "world.ndjson")
	write(t, world, `{"kind":"space","slug":"lab"}`+"\n")
	for _, path := range []string{mount, dir} { // empty, and missing
		for _, typed := range []string{want + " serve --listen 127.0.0.1:0", "serve --require-existing --listen 127.0.0.1:0", want + " user add Ada", want + " directory import " + world} {
			said := refused(t, 1, append(strings.Fields(typed), "--data-dir", path)...)
			if !strings.Contains(said, "Is the disk mounted") || !strings.Contains(said, "attachd init --data-dir "+path) {
				t.Errorf("attachd %s says %s", typed, said)
			}
		}
		doctor := attachd(t, want, "doctor", "--data-dir", path)
		if doctor.code != 3 || !strings.Contains(doctor.stdout, "is missing or empty, and require_existing is set") {
			t.Errorf("the doctor says %s", doctor.stdout)
		}
		if left := names(t, mount); len(left) > 0 {
			t.Fatalf("it made %v", left)
		}
	}
	if said := ok(t, "init", "--data-dir", dir); !strings.Contains(said, "prepared "+dir) {
		t.Errorf("init says %s", said)
	}
	server := start(t, dir, want, autoCreate)
	if !strings.Contains(server.stderr(), "this is a new installation") {
		t.Error("the log does not say that it is new")
	}
	server.upload(product, "a.txt", "a").want(t, 201)
	server.stop()
	before := tree(t, dir)
	if said := ok(t, "init", "--data-dir", dir); !strings.Contains(said, "nothing was changed") || tree(t, dir) != before {
		t.Errorf("init says %s", said)
	}
	if doctor := attachd(t, want, "doctor", "--data-dir", dir); !strings.Contains(doctor.stdout, "it is new, made 0 minutes ago") {
		t.Errorf("the doctor says %s", doctor.stdout)
	}
	server = start(t, dir, want)
	if strings.Contains(server.stderr(), "new installation") || !strings.Contains(server.stderr(), "installed") {
		t.Errorf("the log says %s", server.stderr())
	}
	server.stop()
	backup, next := filepath.Join(t.TempDir(), "backup"), dataDir(t)
	ok(t, "backup", backup, "--data-dir", dir)
	ok(t, "init", "--data-dir", next) // as the package does on another machine
	ok(t, "restore", backup, "--data-dir", next)
	if said := ok(t, "check", "--deep", "--data-dir", next); !strings.HasPrefix(said, "1 attachment, 1 content, ") {
		t.Errorf("restored into what init prepared, check says %s", said)
	}
	server = start(t, next, want)
	server.stop()
}

// Commands that only read or export create no mistyped data directory.
func TestCommandsThatMakeNothingWantADataDirectory(t *testing.T) {
	t.Parallel()
	id := "0b5ab4f3-0b4f-4c35-a2c5-0a4f1a1c7d01"
	files := t.TempDir()
	write(t, filepath.Join(files, "world.ndjson"), `{"kind":"space","slug":"lab"}`+"\n")
	for _, typed := range []string{"user list", "user set Ada --name Eve", "user remove Ada", "key list Ada", "key revoke " + id, "key rotate-signing", "check", "gc", "gc --dry-run",
		"audit verify", "audit export", "webhooks status", "webhooks redeliver", "webhooks ping", "backup " + t.TempDir()} {
		for _, dir := range []string{filepath.Join(files, "typo"), files} { // none, and one of another program
			before := tree(t, files)
			said := refused(t, 1, append(strings.Fields(typed), "--data-dir", dir)...)
			if !strings.Contains(said, dir+" is no data directory") {
				t.Errorf("%s says %q", typed, said)
			}
			if after := tree(t, files); after != before {
				t.Errorf("%s: there was\n%s\nand is\n%s", typed, before, after)
			}
		}
	}
	for i, typed := range []string{"user add Ada", "directory import " + filepath.Join(files, "world.ndjson")} {
		dir := filepath.Join(files, fmt.Sprint("new", i))
		ok(t, append(strings.Fields(typed), "--data-dir", dir)...)
		ok(t, "user", "list", "--data-dir", dir)
	}
}

func TestRootLeavesFilesToTheOwnerOfTheDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can work for another user")
	}
	const uid, gid = 12345, 23456
	everything := func(t *testing.T, dir string, some ...string) {
		t.Helper()
		var seen map[string]bool
		// A running server's temporary files are created and removed, and get their
		// owner a moment after they were created.
		eventually(t, "all that is in "+dir+" belongs to its owner", func() bool {
			seen = map[string]bool{}
			err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := entry.Info()
				if err != nil {
					return err
				}
				seen[entry.Name()] = true
				if stat := info.Sys().(*syscall.Stat_t); stat.Uid != uid || stat.Gid != gid {
					return fmt.Errorf("%s belongs to %d:%d", path, stat.Uid, stat.Gid)
				}
				return nil
			})
			if err != nil {
				t.Log(err)
			}
			return err == nil
		})
		for _, name := range some {
			if !seen[name] {
				t.Errorf("there is no %s in %s", name, dir)
			}
		}
	}
	owned := func(t *testing.T) string {
		dir := dataDir(t)
		check(t, os.Chown(dir, uid, gid))
		return dir
	}
	commands := func(t *testing.T, dir string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "world.ndjson")
		write(t, file, world)
		ok(t, "user", "add", "Ada", "--id", ada, "--data-dir", dir)
		everything(t, dir, "FORMAT", "attachd.db", "secret.key", "00", "ff")
		ok(t, "key", "create", "Ada", "--data-dir", dir)
		ok(t, "directory", "import", file, "--data-dir", dir)
		everything(t, dir)
	}
	t.Run("commands", func(t *testing.T) {
		t.Parallel()
		commands(t, owned(t))
	})
	t.Run("serve", func(t *testing.T) {
		t.Parallel()
		dir := owned(t)
		server := start(t, dir, "--demo")
		everything(t, dir, "admin.key", "demo-keys.json", "attachd.sock", "attachd.pid", "attachd.db")
		server.upload(product, "kept.txt", "kept").want(t, 201)
		server.remove(server.upload(product, "gone.txt", "gone").download()).want(t, 200)
		slow := server.beginUpload(product, "slow.txt")
		slow.inTemp(t)
		commands(t, dir)
		slow.end().want(t, 201)
		everything(t, dir)
		server.stop()
		everything(t, dir)
	})
}

// check and gc report the same whether a server runs or not.
func TestCheckAndGCWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{true, false} {
		t.Run(map[bool]string{true: "running", false: "stopped"}[running], func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, autoCreate, filesAtOnce)
			var uploads []answer
			for n := range 4 {
				uploads = append(uploads, server.upload(product, fmt.Sprintf("%d.txt", n), fmt.Sprint("file ", n)).want(t, 201))
			}
			if !running {
				server.stop()
			}
			typed := func(code int, line, says string) {
				t.Helper()
				r := attachd(t, append(strings.Fields(line), "--data-dir", dir)...)
				if said := r.stdout + r.stderr; r.code != code || !strings.Contains(said, says) {
					t.Errorf("attachd %s: exit code %d, want %d\n%snot\n%s", line, r.code, code, said, says)
				}
			}
			typed(0, "check", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "check --deep", "4 attachments, 4 contents, 24 bytes: no faults\n")
			typed(0, "gc", "nothing to remove\n")
			typed(0, "gc --dry-run", "nothing to remove\n")

			old, young := blobFile(dir, strings.Repeat("0", 64)), blobFile(dir, strings.Repeat("1", 64))
			write(t, old, "spare")
			write(t, young, "spare too")
			before := time.Now().Add(-2 * time.Hour)
			check(t, os.Chtimes(old, before, before))
			typed(0, "check", "4 attachments, 6 contents, 38 bytes: no faults\nnothing refers to 2 contents, 14 bytes; `attachd gc` removes what is older than an hour\n")
			typed(3, "gc --dry-run", "to remove: 1 content, 5 bytes\nattachd: nothing was removed: this was a dry run\n")
			typed(0, "gc", "removed 1 content, 5 bytes\n")
			typed(2, "gc --min-age=-1s", "--min-age must not be below 0")
			typed(0, "gc --min-age 2h", "nothing to remove\n")
			typed(3, "gc --dry-run --min-age 0s", "to remove: 1 content, 9 bytes\n")
			remove(t, young) // whose bytes do not match its name

			missing, short, other := digest(uploads[0]), digest(uploads[1]), digest(uploads[2])
			remove(t, blobFile(dir, missing))
			write(t, blobFile(dir, short), "file")
			write(t, blobFile(dir, other), "File 2")
			typed(3, "check", `("0.txt"), blob `+missing+": The content is missing.\n")
			typed(3, "check", `("1.txt"), blob `+short+": The content has 4 bytes, not 6.\n")
			typed(3, "check", "4 attachments, 3 contents, 16 bytes: 2 faults\nattachd: 2 faults found\n")
			typed(3, "check --deep", `("2.txt"), blob `+other+": The content is damaged: its bytes are not those that were uploaded.\n")
			typed(3, "check", `("2.txt"), blob `+other+": The content is marked damaged.\n")

			r := attachd(t, "check", "--json", "--data-dir", dir)
			var report struct {
				Attachments, Contents, Bytes int
				Faults                       []struct{ Attachment, Blob, What string }
			}
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 3 || len(report.Faults) != 3 || report.Attachments != 4 {
				t.Errorf("check --json: %v, exit code %d\n%s", err, r.code, r.stdout)
			}

			if !running {
				server = start(t, dir, autoCreate)
			}
			server.get(uploads[2].download()).want(t, 500)
			for n := range 3 {
				server.upload(product, "again.txt", fmt.Sprint("file ", n)).want(t, 201)
			}
			typed(0, "check --deep", "7 attachments, 4 contents, 24 bytes: no faults\n")
		})
	}
}

// An audit entry that is written after the answer belongs to it, even when the
// process ends right after that.
func TestACommandWithoutAServerIsRecordedBeforeItEnds(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	const times = 10
	for range times {
		cmd := command(t, "check", "--data-dir", dir)
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
		if r := finish(t, cmd); r.code != 0 {
			t.Fatalf("exit code %d: %s", r.code, r.stderr)
		}
	}
	if n := strings.Count(ok(t, "audit", "export", "--data-dir", dir), `"action":"upkeep.check"`); n != times {
		t.Errorf("%d of %d are recorded", n, times)
	}
}

func TestTheAuditLogWithAndWithoutAServer(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	a := server.upload(product, "a.txt", "a").want(t, 201)
	server.remove(a.download()).want(t, 200)
	var heads []string
	look := func() {
		t.Helper()
		verified := ok(t, "audit", "verify", "--data-dir", dir)
		_, head, _ := strings.Cut(strings.TrimSpace(verified), "\nhead ")
		if !strings.Contains(verified, "no faults") || head == "" {
			t.Errorf("verify says %s", verified)
		}
		heads = append(heads, head)
		exported := ok(t, "audit", "export", "--since", "1h", "--data-dir", dir)
		for _, want := range []string{`"action":"attachment.upload"`, `"action":"attachment.delete"`, `"name":"a.txt"`, `"operator":true`} {
			if !strings.Contains(exported, want) {
				t.Errorf("the export has no %s:\n%s", want, exported)
			}
		}
		if anyKey.MatchString(exported) {
			t.Error("a key is in the export")
		}
	}
	ok(t, "user", "add", "Ada", "--data-dir", dir)
	look()
	server.stop()
	look()
	ok(t, "audit", "verify", "--head", heads[0], "--data-dir", dir)
	seq, hash, _ := strings.Cut(heads[0], ":")
	if out := refused(t, 3, "audit", "verify", "--head", seq+":"+strings.Repeat("0", len(hash)), "--data-dir", dir); !strings.Contains(out, "1 fault found") {
		t.Errorf("another head: %s", out)
	}
	refused(t, 2, "audit", "export", "--since", "yesterday", "--data-dir", dir)
	for _, head := range []string{"zz", "7:zz", seq + ":" + hash[1:], "-1:" + hash} {
		if out := refused(t, 2, "audit", "verify", "--head", head, "--data-dir", dir); !strings.Contains(out, "64 hexadecimal digits") {
			t.Errorf("the head %s: %s", head, out)
		}
	}
}
