//go:build unix

package e2e

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// architecture is the page that draws the rooms and their arrows.
const architecture = "../../docs/architecture.md"

// drawing reads the page: its rooms, as text, and which of our packages each may
// import.
func drawing(t *testing.T) (rooms string, arrows map[string][]string) {
	t.Helper()
	page, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	rooms, rest, _ := strings.Cut(string(page), "\n## Arrows\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	list, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatalf("%s draws no arrows", architecture)
	}
	arrows = map[string][]string{}
	for line := range strings.Lines(list) {
		room, imports, _ := strings.Cut(line, ":")
		arrows[room] = strings.Fields(imports)
	}
	return rooms, arrows
}

// roomOf is the page's name for a package.
func roomOf(path string) string { return strings.TrimPrefix(path, "attachd/") }

func TestEveryRoomIsOnThePageThatDrawsThem(t *testing.T) {
	t.Parallel()
	page, _ := drawing(t)
	var rooms []string
	for path := range strings.Lines(goList(t, runtime.GOOS, "attachd/...")) {
		room := roomOf(strings.TrimSpace(path))
		rooms = append(rooms, room)
		if !strings.Contains(page, "`"+room+"`") {
			t.Errorf("%s does not say what %s is", architecture, room)
		}
	}
	for row := range strings.Lines(page) {
		if room, _, is := strings.Cut(strings.TrimPrefix(row, "| `"), "` |"); is && !slices.Contains(rooms, room) {
			t.Errorf("%s speaks of %s, which is not there", architecture, room)
		}
	}
}

func TestArrowsPointOneWay(t *testing.T) {
	t.Parallel()
	_, arrows := drawing(t)
	for _, system := range []string{"linux", "darwin", "windows"} {
		for line := range strings.Lines(goList(t, system, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "attachd/...")) {
			words := strings.Fields(line)
			from := roomOf(words[0])
			allowed, is := arrows[from]
			if !is {
				t.Errorf("%s is a new room: draw its arrows in %s", from, architecture)
			}
			for _, to := range words[1:] {
				if room, ours := strings.CutPrefix(to, "attachd/"); ours && !slices.Contains(allowed, room) {
					t.Errorf("%s imports %s, which %s does not draw", from, room, architecture)
				}
			}
			if system == runtime.GOOS {
				for _, room := range allowed {
					if !slices.Contains(words[1:], "attachd/"+room) {
						t.Errorf("%s draws an arrow from %s to %s, which is not there", architecture, from, room)
					}
				}
			}
		}
	}
	for room, never := range map[string]string{
		"attachd/store":         "net/http",
		"attachd/store/bolt":    "net/http",
		"attachd/blobs":         "net/http",
		"attachd/blobs/disk":    "net/http",
		"attachd/server/backup": "net/http",
		"attachd/server/upkeep": "net/http",
		"attachd/server/token":  "net/http",
		"attachd/server/config": "net/http",
		"attachd/server":        "go.etcd.io/bbolt", // one of several possible backends
	} {
		if slices.Contains(strings.Fields(goList(t, runtime.GOOS, "-deps", room)), never) {
			t.Errorf("%s has come to depend on %s", room, never)
		}
	}
}
