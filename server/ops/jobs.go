package ops

import (
	"time"

	"attachd/server/jobs"
)

const (
	// collectInterval is how often contents that nothing refers to are removed.
	collectInterval = time.Hour
	// listInterval is how often that lists the bucket, too, to find what no record knows.
	listInterval = 30 * 24 * time.Hour
	// pruneInterval is how often the audit log is pruned, unless its retention is
	// shorter than ten times that.
	pruneInterval = time.Hour
	// sweepInterval is how often objects of deleted contents are deleted.
	sweepInterval = 10 * time.Second
	// ballastInterval is how often the ballast is refilled where it is missing.
	ballastInterval = 2 * time.Second
	// removeInterval is how often the replica that removes what was deleted looks whether
	// another one has deleted something.
	removeInterval = time.Second
	// trashInterval is how often the trash is looked at for what is due, and the disk for
	// whether the oldest there must make room. Neither reads more than a record.
	trashInterval = 2 * time.Second
	// watchInterval is how often the server checks whether its files were removed,
	// replaced or overwritten, beside the check before each change is acknowledged.
	watchInterval = time.Second
)

// Jobs returns the background jobs of operations.
func (s *Service) Jobs() []jobs.Job {
	prune := pruneInterval
	if s.AuditRetention > 0 {
		prune = min(prune, max(s.AuditRetention/10, time.Second))
	}
	all := []jobs.Job{
		{Name: "flush staged contents", ThroughDrain: true, Run: jobs.Loop(s.Contents.RunFlush), Finish: s.Contents.FlushLast},
		{Name: "keep the clock", ThroughDrain: true, Run: jobs.Loop(s.Clock.Run)},
		{Name: "count attachments", Wake: s.totals.wanted, Run: s.count},
		{Name: "refill ballast", Every: ballastInterval, AtStart: true, Run: s.refillBallast},
		{Name: "watch files", Every: watchInterval, Run: s.watchFiles()},
		{Name: "collect contents", Every: collectInterval, Exclusive: true, Run: s.CollectInBackground},
		// Each replica has thumbnails of its own, also of what another has removed.
		{Name: "sweep thumbnails", Every: collectInterval, Run: jobs.Loop(s.Contents.SweepThumbnails)},
		{Name: "empty the trash", Every: trashInterval, Wake: s.Contents.Trashed, AtStart: true, Exclusive: true, Run: s.EmptyTrash},
		// A server that never runs for the interval would otherwise keep entries, and
		// what an earlier process had not removed yet, for ever.
		{Name: "prune audit log", Every: prune, AtStart: true, Exclusive: true, Run: s.PruneAudit},
	}
	remove := jobs.Job{Name: "remove deleted", Wake: s.Contents.Deleted, AtStart: true, Exclusive: true, Run: s.Contents.RemoveDeleted}
	if s.Shared != nil {
		remove.Every = removeInterval
		all = append(all, jobs.Job{Name: "tell other replicas", ThroughDrain: true, Run: s.live})
	}
	all = append(all, remove)
	if s.Sweeper != nil {
		all = append(all, jobs.Job{Name: "sweep the bucket", Every: sweepInterval, AtStart: true, Exclusive: true, Run: s.sweepBucket})
	}
	if s.scrub != nil {
		all = append(all, jobs.Job{Name: "scrub", Exclusive: true, Run: jobs.Loop(s.scrub.Run)})
	}
	if s.webhooks != nil {
		all = append(all, jobs.Job{Name: "deliver webhooks", Exclusive: true, Run: jobs.Loop(s.webhooks.courier.Run)})
	}
	return all
}
