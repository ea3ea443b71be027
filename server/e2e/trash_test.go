//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// lastField is the last word of a line, such as an id.
func lastField(line string) string {
	fields := strings.Fields(line)
	return fields[len(fields)-1]
}

// What is deleted by a command is listed, comes back with its bytes, and goes for good.
func TestTheTrashIsListedRestoredAndEmptiedByCommands(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"over the network", "stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir)
			server.over(0, "space", "add", "lab")
			server.over(0, "product", "add", "lab", "Engine")
			server.over(0, "meeting", "add", "lab", "Monday")
			file := fileOf(t, "a.txt", "one line\n")
			ada := strings.TrimSpace(server.over(0, "user", "add", "Ada").stdout)
			server.over(0, "member", "add", "lab", "Ada", "editor")
			key := strings.TrimSpace(server.over(0, "key", "create", "Ada").stdout)
			put := func(place string) string {
				return strings.TrimSpace(wantCode(t, 0, over(t, server.url, key, "put", file, "--to", place)).stdout)
			}
			at, there := put("product:lab/Engine"), put("meeting:"+lastMeeting(server))
			wantCode(t, 0, over(t, server.url, key, "rm", at))
			server.over(0, "meeting", "remove", "Monday", "--attachments=delete")
			id := at[strings.LastIndex(at, "/")+1:]

			run := server.commands(dir, how == "over the network")
			if how == "over the network" {
				// Those who may restore a file need not be admins.
				wantCode(t, 0, over(t, server.url, key, "trash", "restore", id))
				wantCode(t, 0, over(t, server.url, key, "rm", at))
			} else {
				server.stop()
			}
			list := strings.Split(strings.TrimSpace(run(0, "trash", "list", "lab")), "\n")
			if len(list) != 3 || !strings.HasPrefix(list[1], "meeting") && !strings.HasPrefix(list[2], "meeting") || !strings.Contains(list[1]+list[2], "a.txt") {
				t.Fatalf("the trash is %q", list)
			}
			if all := run(0, "trash", "list", "--json"); strings.Count(all, "\n") != 2 || !strings.Contains(all, `"deleted_by":{"id":"`+ada+`","full_name":"Ada"}`) {
				t.Errorf("as JSON, the trash is %s", all)
			}
			for _, line := range list[1:] {
				if said := run(0, "trash", "restore", lastField(line)); said != "restored "+lastField(line)+"\n" {
					t.Errorf("it says %s", said)
				}
			}
			says(t, result{stdout: run(1, "trash", "restore", id)}, "there is nothing in the trash with that id")
			if left := run(0, "trash", "list"); strings.Count(left, "\n") != 1 {
				t.Errorf("left are\n%s", left)
			}
			if how == "stopped" {
				server = start(t, dir)
			}
			for _, path := range []string{at, there} {
				if got := server.over(0, "get", path, "-o", "-").stdout; got != "one line\n" {
					t.Errorf("%s has %q", path, got)
				}
			}
			server.over(0, "rm", at)
			server.over(0, "rm", "--permanent", at)
			server.over(0, "space", "remove", "lab", "--attachments=delete")
			says(t, server.over(0, "trash", "empty", "--all"), "removed 1 file for good")
			eventually(t, "nothing to be left", func() bool {
				return strings.Contains(ok(t, "check", "--data-dir", dir), "no attachments, no contents")
			})
		})
	}
}

// lastMeeting is the id of the only meeting.
func lastMeeting(server *process) string {
	lines := strings.Split(strings.TrimSpace(server.over(0, "meeting", "list").stdout), "\n")
	return strings.Fields(lines[len(lines)-1])[0]
}

// A restored backup has its trash, from where everything can be restored.
func TestABackupHasTheTrash(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	a := server.upload(product, "a.txt", saying("a.txt")).want(t, 201)
	server.remove(a.download()).want(t, 200)
	backedUp(t, dir, to)
	server.stop()
	again, names := restored(t, to, server.key)
	if len(names) != 0 {
		t.Errorf("there are %q", names)
	}
	ok(t, "gc", "--min-age", "0s", "--data-dir", again)
	list := strings.Split(strings.TrimSpace(ok(t, "trash", "list", "--data-dir", again)), "\n")
	ok(t, "trash", "restore", lastField(list[len(list)-1]), "--data-dir", again)
	back := start(t, again)
	back.key = server.key
	if got := back.get(a.download()); got.status != 200 || string(got.body) != saying("a.txt") {
		t.Errorf("%d %s", got.status, got.body)
	}
}
