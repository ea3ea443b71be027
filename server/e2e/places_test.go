//go:build unix

package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// founding is what an operator types to begin, and what is printed: the same for a
// running server, a stopped one and one over the network. "Ada" and the id of a product
// are known from before.
const founding = `
$ user add "Ada Lovelace" --id 0190aaaa-0000-7000-8000-000000000001
0190aaaa-0000-7000-8000-000000000001
$ space add research --name "Research lab" --quota-bytes 10GB
research
$ space add research
attachd: there is a space research already, "Research lab"; ` + "`attachd space set`" + ` changes it
exit code 1
$ space add empty --json
{"slug":"empty","name":"empty","quota_bytes":null,"quota_files":null}
$ space set research --quota-files 1000
research
$ space set research --name Research --quota-bytes none --json
{"slug":"research","name":"Research","quota_bytes":null,"quota_files":1000}
$ space set nowhere --name X
attachd: There is no space "nowhere"
exit code 1
$ space list
SLUG      NAME      BYTES AT MOST  FILES AT MOST
empty     empty     none           none
research  Research  none           1000
$ space list --json
{"slug":"empty","name":"empty","quota_bytes":null,"quota_files":null}
{"slug":"research","name":"Research","quota_bytes":null,"quota_files":1000}
$ member add research "Ada Lovelace" viewer
0190aaaa-0000-7000-8000-000000000001
$ member add research 0190aaaa-0000-7000-8000-000000000001 editor
attachd: Ada Lovelace is a member of research already, as viewer; ` + "`attachd member set`" + ` changes the role
exit code 1
$ member set research "Ada Lovelace" editor --json
{"user_id":"0190aaaa-0000-7000-8000-000000000001","role":"editor"}
$ member set empty "Ada Lovelace" editor
attachd: Ada Lovelace is no member of empty; ` + "`attachd member add`" + ` makes one
exit code 1
$ member add nowhere "Ada Lovelace" editor
attachd: There is no space "nowhere"
exit code 1
$ member add research Charles editor
attachd: there is no user "Charles"; ` + "`attachd user list`" + ` shows them
exit code 1
$ member list research
ID                                    NAME          ROLE
0190aaaa-0000-7000-8000-000000000001  Ada Lovelace  editor
$ member list research --json
{"user_id":"0190aaaa-0000-7000-8000-000000000001","full_name":"Ada Lovelace","role":"editor"}
$ product add research Engine --id 0190aaaa-0000-7000-8000-000000000011
0190aaaa-0000-7000-8000-000000000011
$ product add research Engine --id 0190aaaa-0000-7000-8000-000000000011
attachd: there is a product 0190aaaa-0000-7000-8000-000000000011 already, "Engine"; ` + "`attachd product set`" + ` changes it
exit code 1
$ product add nowhere Engine
attachd: There is no space "nowhere"
exit code 1
$ product add research Mill
<id>
$ product add empty Engine --id 0190aaaa-0000-7000-8000-000000000012 --json
{"id":"0190aaaa-0000-7000-8000-000000000012","space":"empty","name":"Engine"}
$ product list
ID                                    SPACE     NAME
0190aaaa-0000-7000-8000-000000000012  empty     Engine
0190aaaa-0000-7000-8000-000000000011  research  Engine
<id>  research  Mill
$ product list empty --json
{"id":"0190aaaa-0000-7000-8000-000000000012","space":"empty","name":"Engine"}
$ product set Engine --name "Difference engine"
attachd: 2 products are called "Engine"; say which by id: 0190aaaa-0000-7000-8000-000000000012 or 0190aaaa-0000-7000-8000-000000000011
exit code 1
$ product set empty Engine --name "Difference engine"
0190aaaa-0000-7000-8000-000000000012
$ product set product:research/Engine --name "Analytical engine" --json
{"id":"0190aaaa-0000-7000-8000-000000000011","space":"research","name":"Analytical engine"}
$ product remove research "Difference engine"
attachd: there is no product "Difference engine"; ` + "`attachd product list`" + ` shows them
exit code 1
$ product remove "Difference engine"
$ product remove 0190aaaa-0000-7000-8000-000000000012
attachd: there is no product "0190aaaa-0000-7000-8000-000000000012"; ` + "`attachd product list`" + ` shows them
exit code 1
$ ticket add research "Bernoulli numbers" --owner Charles
attachd: there is no user "Charles"; ` + "`attachd user list`" + ` shows them
exit code 1
$ ticket add research "Bernoulli numbers" --owner "Ada Lovelace" --id 0190aaaa-0000-7000-8000-000000000021
0190aaaa-0000-7000-8000-000000000021
$ ticket set "Bernoulli numbers" --title Note --owner Administrator
0190aaaa-0000-7000-8000-000000000021
$ ticket set Note --owner "Ada Lovelace" --json
{"id":"0190aaaa-0000-7000-8000-000000000021","space":"research","owner_id":"0190aaaa-0000-7000-8000-000000000001","title":"Note"}
$ ticket list
ID                                    SPACE     TITLE  OWNER
0190aaaa-0000-7000-8000-000000000021  research  Note   Ada Lovelace
$ ticket list empty
ID  SPACE  TITLE  OWNER
$ meeting add research Thursday --id 0190aaaa-0000-7000-8000-000000000031
0190aaaa-0000-7000-8000-000000000031
$ meeting set research Thursday --title Friday
0190aaaa-0000-7000-8000-000000000031
$ meeting list research
ID                                    SPACE     TITLE
0190aaaa-0000-7000-8000-000000000031  research  Friday
$ meeting list nowhere
attachd: There is no space "nowhere"
exit code 1
$ meeting remove meeting:0190aaaa-0000-7000-8000-000000000031
$ meeting list
ID  SPACE  TITLE
$ member remove research "Ada Lovelace"
$ member remove research "Ada Lovelace"
attachd: The user 0190aaaa-0000-7000-8000-000000000001 is not a member of the space "research"
exit code 1
$ space remove empty
$ space remove empty
attachd: There is no space "empty"
exit code 1
`

func TestPlacesAreFoundedByCommandsHereAndOverTheNetwork(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"running", "stopped", "over the network"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir)
			typed := &typist{dir: dir, files: t.TempDir()}
			switch how {
			case "stopped":
				server.stop()
			case "over the network":
				typed.at = server
			}
			var got strings.Builder
			for line := range strings.Lines(founding) {
				if typing, is := strings.CutPrefix(line, "$ "); is {
					got.WriteString(line + typed.run(t, strings.TrimSpace(typing)))
				}
			}
			if want := strings.TrimPrefix(founding, "\n"); got.String() != want {
				t.Errorf("got\n%s\nwant\n%s", &got, want)
			}
		})
	}
}

// Ids that commands make are of version 7, and what is made is a place for files.
func TestWhatACommandMakesTakesFiles(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t))
	v7 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n$`)
	made := func(words ...string) string {
		t.Helper()
		said := server.over(0, words...).stdout
		if !v7.MatchString(said) {
			t.Errorf("%v prints %q", words, said)
		}
		return strings.TrimSpace(said)
	}
	ada := made("user", "add", "Ada")
	server.over(0, "space", "add", "research")
	server.over(0, "member", "add", "research", "Ada", "editor")
	product := made("product", "add", "research", "Engine")
	ticket := made("ticket", "add", "research", "Slow", "--owner", ada)
	meeting := made("meeting", "add", "research", "Monday")
	file := fileOf(t, "a.txt", "one line\n")
	key := strings.TrimSpace(server.over(0, "key", "create", "Ada").stdout)
	for _, place := range []string{"product:research/Engine", "product:research/" + product, "ticket:" + ticket, "meeting:" + meeting} {
		wantCode(t, 0, over(t, server.url, key, "put", file, "--to", place))
	}

	// What has attachments is removed only where that is said.
	for _, words := range [][]string{{"product", "remove", "Engine"}, {"ticket", "remove", "Slow"}, {"space", "remove", "research"}} {
		says(t, server.over(1, words...), "; --attachments=delete deletes these too")
		says(t, wantCode(t, 1, over(t, server.url, key, append(words, "--attachments=delete")...)), "Only a superadmin may do this")
		server.over(0, append(words, "--attachments=delete")...)
	}
	if left := server.over(0, "ls").stdout; strings.Count(left, "\n") != 1 {
		t.Errorf("left are\n%s", left)
	}
	// A member sees the tickets of their spaces, but not who users are.
	server.over(0, "space", "add", "other")
	server.over(0, "member", "add", "other", "Ada", "viewer")
	made("ticket", "add", "other", "Mine", "--owner", "Administrator")
	says(t, wantCode(t, 0, over(t, server.url, key, "ticket", "list")), "Mine")
}

// An import says which line of its file is bad, wherever the server is.
func TestAnImportOverTheNetworkSaysWhichLineIsBad(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t))
	bad := fileOf(t, "directory.ndjson", `{"kind": "space", "slug": "good"}`+"\n"+`{"kind": "space", "slug": "not a slug"}`+"\n")
	said := server.over(1, "directory", "import", bad)
	says(t, said, "line 2: ")
	says(t, said, "; nothing was changed")
}

// A server that is named by a flag is asked rather than the installation here, which
// the environment may name too, and an installation named by a flag rather than a
// server in the environment.
func TestWhichServerACommandForTheDirectoryCalls(t *testing.T) {
	t.Parallel()
	here, there := start(t, dataDir(t)), start(t, dataDir(t))
	ok(t, "space", "add", "here", "--data-dir", here.dir)
	ok(t, "space", "add", "there", "--data-dir", there.dir)
	key := "ATTACHD_KEY=" + there.key
	for _, c := range []struct{ typed, space string }{
		{"ATTACHD_SERVER=" + there.url + " " + key + " space list --json", "there"},
		{"ATTACHD_SERVER=" + there.url + " " + key + " space list --json --data-dir " + here.dir, "here"},
		{"ATTACHD_SERVER=" + there.url + " " + key + " ATTACHD_DATA_DIR=" + here.dir + " space list --json", "here"},
		{"ATTACHD_DATA_DIR=" + here.dir + " " + key + " space list --json --server " + there.url, "there"},
		{"ATTACHD_DATA_DIR=" + here.dir + " space list --json", "here"},
	} {
		if said := ok(t, strings.Fields(c.typed)...); !strings.HasPrefix(said, `{"slug":"`+c.space+`"`) || strings.Count(said, "\n") != 1 {
			t.Errorf("%s prints %s", c.typed, said)
		}
	}
}
