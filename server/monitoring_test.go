package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"attachd/server"
	"attachd/server/ops"
	"attachd/store"
)

var promtool = flag.Bool("promtool", false, "let promtool, of Debian's package prometheus, check /metrics and the alert rules")

// loneReplica is a store.Shared with one replica, which gets each lease.
type loneReplica struct{ store.Shared }

func (loneReplica) Beat(context.Context, string, []byte) (live int, err error) { return 1, nil }
func (loneReplica) Replicas(context.Context) ([]store.Replica, error)          { return nil, nil }
func (loneReplica) Depart(context.Context) error                               { return nil }
func (loneReplica) SigningKeys(context.Context) ([]store.SigningKey, error)    { return nil, nil }
func (loneReplica) Load() store.Load                                           { return store.Load{} }
func (loneReplica) GiveBack(context.Context, ...string) error                  { return nil }
func (loneReplica) TakeLeases(_ context.Context, names ...string) (map[string]int64, error) {
	epochs := map[string]int64{}
	for _, name := range names {
		epochs[name] = 1
	}
	return epochs, nil
}

// monitored returns the metrics of a server that uses all features and has had some of
// every kind of work.
func monitored(t *testing.T) string {
	t.Helper()
	_, told := listen(t)
	w, _ := scanning(t, withScrub, told, func(c *server.Config) {
		c.StorageTimes = ops.NewStorageTimes()
		c.LogLinesLost = func() int64 { return 0 }
		c.StorageTimes.Asked("statement", "ok", 0)
		c.Shared, c.Sweeper = loneReplica{}, sweeper{}
	})
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	working.Go(func() { w.server.RunJob(ctx, "collect contents", 0) })
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "a")}, want: 201},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.exe", "MZ")}, want: 400},
		{as: "viewer", do: "GET {product}/attachments", want: 200},
		{as: "root", do: "GET /stats", want: 200},
	})
	var metrics string
	eventually(t, "attachments to be counted, and work to be this replica's", func() bool {
		metrics = string(w.do(t, step{as: "root", do: "GET /metrics", want: 200}).body)
		return strings.Contains(metrics, "\nattachd_attachments ") && strings.Contains(metrics, "\nattachd_lease_held{")
	})
	return metrics
}

var (
	// A metric's name in an expression, with its matchers.
	inExpression = regexp.MustCompile(`\b((?:attachd|go|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher      = regexp.MustCompile(`([a-z_]+)(?:=~|!=|!~|=)"`)
	grouping     = regexp.MustCompile(`\bby \(([a-z_, ]+)\)`)
	family       = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
)

// An alert or a panel about a metric that no server has would stay silent.
func TestAlertsAndTheDashboardNameOnlyMetricsThatExist(t *testing.T) {
	t.Parallel()
	labels := map[string][]string{} // by the name of a series
	metrics := monitored(t)
	for _, f := range family.FindAllStringSubmatch(metrics, -1) {
		series := []string{f[1]}
		if f[2] == "histogram" {
			series = []string{f[1] + "_bucket", f[1] + "_sum", f[1] + "_count"}
		}
		for _, name := range series {
			sample := regexp.MustCompile(`(?m)^` + name + `(?:\{(.*)\})? `).FindStringSubmatch(metrics)
			if sample == nil {
				t.Errorf("%s has no sample", name)
				continue
			}
			labels[name] = []string{"instance", "job"} // which Prometheus gives it
			for _, label := range matcher.FindAllStringSubmatch(sample[1], -1) {
				labels[name] = append(labels[name], label[1])
			}
		}
	}
	for _, name := range []string{"alerts.yml", "grafana.json"} {
		raw, err := os.ReadFile("../packaging/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".json") && !json.Valid(raw) {
			t.Errorf("%s is not JSON", name)
		}
		text := strings.ReplaceAll(string(raw), `\"`, `"`)
		found := inExpression.FindAllStringSubmatch(text, -1)
		if len(found) < 10 {
			t.Errorf("%s asks for %d metrics only", name, len(found))
		}
		for _, m := range found {
			known, exists := labels[m[1]]
			if !exists {
				t.Errorf("%s asks for %s, which no server says", name, m[1])
				continue
			}
			for _, label := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(known, label[1]) {
					t.Errorf("%s asks for the label %s of %s, which it does not have", name, label[1], m[1])
				}
			}
		}
		// A grouping stands in the same line as what it groups.
		for line := range strings.Lines(text) {
			asked := inExpression.FindAllStringSubmatch(line, -1)
			for _, by := range grouping.FindAllStringSubmatch(line, -1) {
				for label := range strings.SplitSeq(by[1], ", ") {
					for _, m := range asked {
						if label != "le" && !slices.Contains(labels[m[1]], label) {
							t.Errorf("%s groups %s by %s, which it does not have", name, m[1], label)
						}
					}
				}
			}
		}
	}
}

// promtool's checks say nothing when all is well, and neither may they of what
// is handed out.
func TestPromtoolFindsNothing(t *testing.T) {
	t.Parallel()
	if !*promtool {
		t.Skip("needs promtool, of Debian's package prometheus: run with `go test ./server -run Promtool -promtool`")
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(monitored(t))
	if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v: %s", err, out)
	}
	document, err := os.ReadFile("../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	scrape := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindSubmatch(document)
	if scrape == nil || !bytes.Contains(scrape[1], []byte("job_name: attachd\n")) {
		t.Fatal("docs/operating.md has no scrape configuration of the job that the alert rules expect")
	}
	config := filepath.Join(t.TempDir(), "prometheus.yml")
	if err := os.WriteFile(config, scrape[1], 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"check rules ../packaging/alerts.yml", "test rules ../packaging/alerts_test.yml", "check config --syntax-only " + config} {
		if out, err := exec.Command("promtool", strings.Fields(words)...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v: %s", words, err, out)
		}
	}
}
