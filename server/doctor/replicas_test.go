package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/postgres"
)

func TestTheDoctorSaysWhoSharesTheDatabase(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	one, two := uuid.UUID{1}, uuid.UUID{2}
	lives := func(id uuid.UUID, version string) store.Replica {
		return store.Replica{ID: id, Version: version, Started: ago(26 * time.Hour), Seen: ago(2 * time.Second), Lives: true}
	}
	lease := func(name string, holder uuid.UUID) store.Lease {
		return store.Lease{Name: name, Holder: holder, Taken: ago(90 * time.Minute), Until: now.Add(time.Second)}
	}
	both := []store.Replica{lives(one, "1.4.0"), lives(two, "1.4.0")}
	work := []store.Lease{lease("collect contents", one), lease("deliver webhooks", two), lease("scrub", one)}
	for name, c := range map[string]struct {
		facts postgres.Facts
		level Level
		says  string
	}{
		"servers":                         {postgres.Facts{Replicas: both, Leases: work}, OK, "02000000 runs attachd 1.4.0, has been up for 26h0m0s, and was seen 2s ago."},
		"their work":                      {postgres.Facts{Replicas: both, Leases: work}, OK, "01000000 does for all: collect contents (for 1h30m0s), scrub (for 1h30m0s)."},
		"none":                            {postgres.Facts{}, OK, "No server uses"},
		"one that was ended":              {postgres.Facts{Replicas: []store.Replica{{ID: one, Version: "1.4.0", Seen: ago(time.Minute), Left: true}}}, OK, "No server uses"},
		"one that was killed":             {postgres.Facts{Replicas: append(both[1:], store.Replica{ID: one, Version: "1.3.0", Seen: ago(2 * time.Minute)}), Leases: work[1:2]}, Warning, "01000000 (attachd 1.3.0) was last seen 2m0s ago"},
		"one killed long ago":             {postgres.Facts{Replicas: append(both[1:], store.Replica{ID: one, Seen: ago(20 * time.Hour)}), Leases: work[1:2]}, OK, "02000000 runs"},
		"two versions":                    {postgres.Facts{Replicas: append(both[1:], lives(one, "1.5.0")), Leases: work}, Warning, "run 2 versions"},
		"work of one that is gone":        {postgres.Facts{Replicas: both[1:], Leases: work}, Warning, "01000000, which was not seen lately, does for all: collect contents"},
		"work that nobody does":           {postgres.Facts{Replicas: both}, Warning, "None of the servers does"},
		"an audit log that nobody chains": {postgres.Facts{Replicas: both, Leases: work, Unchained: 5000}, Warning, "5000 of them"},
		"an audit log that is busy":       {postgres.Facts{Replicas: both, Leases: work, Unchained: 50}, OK, "02000000 runs"},
	} {
		c.facts.Now = now
		found, told := sharing(c.facts), 0
		for _, f := range found {
			if f.Level == c.level && strings.Contains(f.Says, c.says) && (f.Do != "") == (f.Level != OK) {
				told++
			} else if f.Level != OK {
				t.Errorf("of %s it says too: %+v", name, f)
			}
		}
		if told != 1 {
			t.Errorf("of %s it says %+v", name, found)
		}
	}
}
