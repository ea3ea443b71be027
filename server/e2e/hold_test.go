//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestHoldsAreAddedListedAndLiftedByCommands(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"over the network", "stopped"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir)
			server.over(0, "space", "add", "lab")
			server.over(0, "product", "add", "lab", "Engine")
			at := strings.TrimSpace(server.over(0, "put", fileOf(t, "a.txt", "one line\n"), "--to", "product:lab/Engine").stdout)
			product := strings.Split(at, "/")[1]
			server.over(0, "user", "add", "Rita", "--records-manager")
			rita := strings.TrimSpace(server.over(0, "key", "create", "Rita").stdout)

			run := server.commands(dir, how == "over the network")
			if how == "over the network" {
				// A records manager need not be a member.
				of := strings.TrimSpace(wantCode(t, 0, over(t, server.url, rita, "hold", "add", "product:"+product, "--reason", "Case 4712")).stdout)
				wantCode(t, 0, over(t, server.url, rita, "hold", "lift", of))
			} else {
				server.stop()
			}
			hold := strings.TrimSpace(run(0, "hold", "add", "product:lab/Engine", "--reason", "Case 4711"))
			if list := run(0, "hold", "list", "lab"); !strings.Contains(list, hold) || !strings.Contains(list, "product:"+product) || !strings.Contains(list, "Case 4711") {
				t.Errorf("the holds are\n%s", list)
			}
			for _, words := range [][]string{
				{"product", "remove", "Engine", "--attachments=delete"}, {"space", "remove", "lab", "--attachments=delete", "--permanent"},
			} {
				says(t, result{stdout: run(1, words...)}, "is under a legal hold")
			}
			says(t, result{stdout: run(1, "hold", "add", "space:none", "--reason", "Case 4711")}, `There is no space "none"`)
			says(t, result{stdout: run(1, "hold", "add", "product:lab/Other", "--reason", "Case 4711")}, `there is no product "Other"`)
			if said := run(0, "hold", "lift", hold); said != "lifted "+hold+"\n" {
				t.Errorf("it says %s", said)
			}
			says(t, result{stdout: run(1, "hold", "lift", hold)}, "There is no hold "+hold)
			if left := run(0, "hold", "list"); strings.Count(left, "\n") != 1 {
				t.Errorf("left are\n%s", left)
			}
			run(0, "product", "remove", "Engine", "--attachments=delete")
			ok(t, "check", "--data-dir", dir)
		})
	}
}

func TestABackupHasTheHolds(t *testing.T) {
	t.Parallel()
	dir, to := dataDir(t), filepath.Join(t.TempDir(), "backup")
	server := start(t, dir, autoCreate)
	a := server.upload(product, "a.txt", saying("a.txt")).want(t, 201)
	ok(t, "hold", "add", "space:analytics", "--reason", "Case 4711", "--data-dir", dir)
	backedUp(t, dir, to)
	server.stop()
	again, _ := restored(t, to, server.key)
	ok(t, "check", "--data-dir", again)
	back := start(t, again)
	back.key = server.key
	back.remove(a.download()).want(t, 409)
	ok(t, "hold", "lift", lastHold(t, again), "--data-dir", again)
	back.remove(a.download()).want(t, 200)
}

// lastHold is the id of the last hold in the list.
func lastHold(t *testing.T, dir string) string {
	t.Helper()
	list := strings.Split(strings.TrimSpace(ok(t, "hold", "list", "--data-dir", dir)), "\n")
	id, _, _ := strings.Cut(list[len(list)-1], " ")
	return id
}
