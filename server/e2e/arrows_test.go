//go:build unix

package e2e

import (
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The rooms and what they may import of ours: their arrows point one way.
var arrows = map[string][]string{
	"attachd":                     {"blobs/disk", "server", "server/backup", "server/cli", "server/cli/command", "server/cli/files", "server/config", "server/daemon", "server/memory", "server/ops", "server/preview", "store", "store/bolt"},
	"attachd/server/cli":          {"blobs", "blobs/durable", "server", "server/backup", "server/cli/command", "server/config", "server/content", "server/daemon", "server/datadir", "server/doctor", "server/ops", "server/scan", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server/cli/command":  {"server/remote", "server/upkeep"},
	"attachd/server/cli/files":    {"server/cli/command", "server/config", "server/remote", "server/token"},
	"attachd/server/daemon":       {"blobs", "server", "server/backup", "server/config", "server/content", "server/datadir", "server/doctor", "server/jobs", "server/memory", "server/ops", "server/preview", "server/scan", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server":              {"blobs", "server/access", "server/api", "server/content", "server/contents", "server/directory", "server/files", "server/jobs", "server/limits", "server/memory", "server/ops", "server/page", "server/preview", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server/api":          {"blobs", "blobs/durable", "server/content", "server/contents", "server/limits", "server/memory", "server/token", "store"},
	"attachd/server/access":       {"server/api", "server/limits", "server/token", "store"},
	"attachd/server/files":        {"blobs", "server/access", "server/api", "server/content", "server/content/container", "server/contents", "server/formdata", "server/limits", "server/memory", "server/preview", "server/scan", "server/token", "store"},
	"attachd/server/directory":    {"server/access", "server/api", "server/content/charset", "server/token", "store"},
	"attachd/server/ops":          {"blobs", "server/access", "server/api", "server/contents", "server/jobs", "server/limits", "server/memory", "server/token", "server/upkeep", "server/webhooks", "store"},
	"attachd/server/formdata":     {"server/content"},
	"attachd/server/jobs":         {},
	"attachd/server/limits":       {},
	"attachd/server/memory":       {},
	"attachd/server/page":         {},
	"attachd/server/contents":     {"blobs", "store"},
	"attachd/server/backup":       {"blobs", "blobs/disk", "blobs/durable", "server/upkeep", "store"},
	"attachd/server/upkeep":       {"blobs", "store"},
	"attachd/server/config":       {},
	"attachd/server/content":      {"server/content/charset", "server/content/container"},
	"attachd/server/datadir":      {"blobs/durable", "server/token"},
	"attachd/server/doctor":       {"blobs", "blobs/disk", "blobs/durable", "server/config", "server/datadir", "server/scan", "server/upkeep", "server/webhooks", "store", "store/bolt"},
	"attachd/server/preview":      {"blobs", "server/content/charset"},
	"attachd/server/scan":         {},
	"attachd/server/token":        {},
	"attachd/server/backoff":      {},
	"attachd/server/webhooks":     {"server/backoff", "store"},
	"attachd/server/remote":       {"server/backoff", "server/content"},
	"attachd/server/durability":   {},
	"attachd/server/e2e":          {},
	"attachd/server/e2e/build":    {},
	"attachd/server/load":         {"store", "store/bolt", "store/storetest"},
	"attachd/store/bolt":          {"blobs/durable", "store", "store/bolt/check", "store/bolt/dbfile", "store/bolt/pages", "store/bolt/records", "store/bolt/schema", "store/bolt/wal"},
	"attachd/store/bolt/check":    {"store", "store/bolt/dbfile", "store/bolt/records", "store/bolt/schema"},
	"attachd/store/bolt/dbfile":   {"blobs/durable", "store", "store/bolt/inplace", "store/bolt/pages", "store/bolt/schema"},
	"attachd/store/bolt/inplace":  {"store"},
	"attachd/store/bolt/pages":    {"store/bolt/schema"},
	"attachd/store/bolt/records":  {"store", "store/bolt/dbfile", "store/bolt/schema"},
	"attachd/store/bolt/schema":   {"store"},
	"attachd/store/bolt/wal":      {"blobs/durable", "store/bolt/inplace"},
	"attachd/store":               {},
	"attachd/blobs":               {},
	"attachd/blobs/disk":          {"blobs", "blobs/durable"},
	"attachd/blobs/disk/disktest": {"blobs", "blobs/disk"},
	"attachd/blobs/durable":       {},
	"attachd/store/storetest":     {"store"},
	"attachd/blobs/blobstest":     {"blobs"},

	"attachd/server/content/charset":   {},
	"attachd/server/content/container": {"server/content/charset"},

	"attachd/server/upkeep/upkeeptest": {"blobs", "blobs/disk", "blobs/disk/disktest", "server/upkeep", "store", "store/bolt"},
}

func TestArrowsPointOneWay(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(goList(t, runtime.GOOS, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "attachd/...")) {
		words := strings.Fields(line)
		from := words[0]
		allowed, drawn := arrows[from]
		if !drawn {
			t.Errorf("%s is a new room: draw its arrows here", from)
		}
		for _, to := range words[1:] {
			if room, ours := strings.CutPrefix(to, "attachd/"); ours && !slices.Contains(allowed, room) {
				t.Errorf("%s imports %s", from, to)
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
		"attachd/server":        "go.etcd.io/bbolt", // a backend among others
	} {
		if slices.Contains(strings.Fields(goList(t, runtime.GOOS, "-deps", room)), never) {
			t.Errorf("%s has come to depend on %s", room, never)
		}
	}
}
