//go:build unix

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheDemo(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, "--demo")
	if mode := info(t, filepath.Join(dir, "demo-keys.json")).Mode(); mode != 0o600 {
		t.Errorf("demo-keys.json has mode %v", mode)
	}
	keys := demoKeys(t, dir)
	for _, role := range []string{"admin", "editor", "viewer"} {
		me := server.call(keys[role], "GET", "/users/me", nil).want(t, 200)
		if want := `"spaces":[{"slug":"analytics","name":"Analytics","role":"` + role + `"}]`; !strings.Contains(me.body, want) {
			t.Errorf("the %s is %s", role, me.body)
		}
	}
	if len(keys) != 3 {
		t.Errorf("demo-keys.json holds %v", keys)
	}
	var people []struct{ Name string }
	server.call("", "GET", "/demo", nil).into(t, &people)
	if fmt.Sprint(people) != "[{admin} {editor} {operator} {viewer}]" {
		t.Errorf("the page offers %v", people)
	}
	session := strings.TrimSuffix(server.call("", "POST", "/session", strings.NewReader(`{"demo": "operator"}`), "Content-Type", "application/json").want(t, 200).header.Get("Set-Cookie"), ";")
	server.call("", "GET", "/stats", nil, "Cookie", session).want(t, 200)

	var tickets, comments, meetings []struct{ ID string }
	server.get("/directory/tickets?space=analytics").into(t, &tickets)
	server.get("/directory/meetings?space=analytics").into(t, &meetings)
	if len(tickets) != 1 || len(meetings) != 1 {
		t.Fatalf("%d tickets and %d meetings", len(tickets), len(meetings))
	}
	server.get("/directory/tickets/"+tickets[0].ID+"/comments").into(t, &comments)
	if len(comments) != 1 {
		t.Errorf("%d comments", len(comments))
	}
	total := 0
	for parent, file := range map[string]string{
		product:                            "/catalog/attachments/%s/download",
		"/issues/tickets/" + tickets[0].ID: "/issues/attachments/%s",
		"/meetings/" + meetings[0].ID:      "/meetings/" + meetings[0].ID + "/attachments/%s",
	} {
		var files []attachment
		server.call(keys["viewer"], "GET", parent+"/attachments", nil).into(t, &files)
		if len(files) == 0 {
			t.Errorf("no files in %s", parent)
		}
		for _, f := range files {
			total++
			got := server.call(keys["viewer"], "GET", fmt.Sprintf(file, f.ID), nil).want(t, 200)
			if f.FileSize == 0 || len(got.body) != f.FileSize || got.header.Get("Content-Type") != f.MimeType {
				t.Errorf("%+v came with %d bytes as %s", f, len(got.body), got.header.Get("Content-Type"))
			}
		}
	}
	if total < 6 {
		t.Errorf("only %d sample files", total)
	}
	server.call(keys["viewer"], "POST", product+"/attachments", formOf("a.txt", strings.NewReader("a")), formHeaders...).want(t, 403)
	server.call(keys["editor"], "POST", product+"/attachments", formOf("a.txt", strings.NewReader("a")), formHeaders...).want(t, 201)

	server.stop()
	server = start(t, dir, "--demo")
	var again []attachment
	server.call(keys["viewer"], "GET", product+"/attachments", nil).into(t, &again)
	if names := fmt.Sprint(again); strings.Count(names, "customers.csv") != 1 || !strings.Contains(names, "a.txt") {
		t.Errorf("after the second start the product has %v", again)
	}
}

func TestTheDemoGoesWithoutWhatTheServerRefuses(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string][]string{
		"ATTACHD_CONTENT_ALLOWED=application/pdf": {"data_dictionary.pdf"},
		"ATTACHD_LIMITS_MAX_FILE_SIZE=1KB":        {"customers.csv", "regions.geojson", "lineage.svg"},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			server := start(t, dir, setting, "--demo")
			if keys := demoKeys(t, dir); len(keys) != 3 {
				t.Errorf("demo-keys.json holds %v", keys)
			}
			var names []string
			for _, a := range server.in(product) {
				names = append(names, a.FileName)
			}
			if !slices.Equal(names, want) {
				t.Errorf("the product has %q, want %q", names, want)
			}
			eventually(t, "a warning of what was left out", func() bool {
				return strings.Contains(server.stderr(), "the demo goes without orders_per_month.png: ")
			})
			server.stop()
			start(t, dir, setting, "--demo").stop()
		})
	}
}

// ASVS 6.3.2, 13.2.3
func TestTheDemoIsForAnEmptyDirectory(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	start(t, dir).stop()
	before := tree(t, dir)
	said := refused(t, 1, "serve", "--demo", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if !strings.Contains(said, "the data directory is in use already; --demo fills an empty one") {
		t.Errorf("it says %q", said)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("the directory was\n%s\nand is\n%s", before, after)
	}
}
