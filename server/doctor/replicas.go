package doctor

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"attachd/store/postgres"
)

const (
	// killedLately is for how long a server that has ended without saying so is warned of.
	killedLately = time.Hour
	// unchainedTold is from how many entries of the audit log without a place in its chain it is
	// told of them: a busy server always has some, for a second.
	unchainedTold = 1000
)

// sharing says which servers share the database, and which does what for all of them.
func sharing(facts postgres.Facts) (found []Finding) {
	since := func(t time.Time) time.Duration { return max(0, facts.Now.Sub(t)).Round(time.Second) }
	versions, live := map[string]bool{}, map[uuid.UUID]bool{}
	for _, r := range facts.Replicas {
		switch {
		case r.Lives:
			versions[r.Version], live[r.ID] = true, true
			found = append(found, ok("The server %s runs attachd %s, has been up for %s, and was seen %s ago.", shortID(r.ID), r.Version, since(r.Started), since(r.Seen))...)
		case !r.Left && since(r.Seen) < killedLately:
			found = append(found, warning("Look in its log why it was killed, or cannot reach the database. If it was ended for good, ignore this: it goes away within an hour.",
				"The server %s (attachd %s) was last seen %s ago, and has not said that it ends.", shortID(r.ID), r.Version, since(r.Seen))...)
		}
	}
	if len(live) == 0 {
		found = append(found, ok("No server uses this database now.")...)
	}
	if len(versions) > 1 {
		found = append(found, warning("Finish the upgrade: restart the servers that are behind.", "The servers run %d versions of attachd.", len(versions))...)
	}
	found = append(found, leases(facts, live, since)...)
	if facts.Unchained >= unchainedTold {
		found = append(found, warning("Look in the servers' logs why they cannot chain them. None is lost.", "Entries of the audit log have no place in its chain yet, %d of them.", facts.Unchained)...)
	}
	return found
}

// leases says which server does what for all.
func leases(facts postgres.Facts, live map[uuid.UUID]bool, since func(time.Time) time.Duration) (found []Finding) {
	does := map[uuid.UUID][]string{}
	for _, l := range facts.Leases {
		does[l.Holder] = append(does[l.Holder], fmt.Sprintf("%s (for %s)", l.Name, since(l.Taken)))
	}
	for _, holder := range slices.SortedFunc(maps.Keys(does), func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }) {
		if work := strings.Join(does[holder], ", "); live[holder] {
			found = append(found, ok("The server %s does for all: %s.", shortID(holder), work)...)
		} else {
			found = append(found, warning("Another takes over within 20 seconds. Run `attachd doctor` again then.", "The server %s, which was not seen lately, does for all: %s.", shortID(holder), work)...)
		}
	}
	if len(live) > 0 && len(does) == 0 {
		found = append(found, warning("Look in the servers' logs why they cannot take leases.", "None of the servers does what only one does for all, such as sending webhooks and collecting contents.")...)
	}
	return found
}

// shortID is the part of a server's id by which people tell it from others.
func shortID(id uuid.UUID) string { return id.String()[:8] }
