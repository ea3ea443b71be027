package ops

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"attachd/server/upkeep"
)

// lookup is a prometheus.Collector that reads the server's state at each scrape. What
// cannot be determined is left out.
type lookup struct{ service *Service }

// readyForMetrics is how old the probe shown by attachd_ready may be: a probe writes to
// the disk.
const readyForMetrics = time.Minute

// Describe implements prometheus.Collector. It names no metrics, so that registering
// reads no state.
func (*lookup) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *lookup) Collect(to chan<- prometheus.Metric) {
	s, ctx := c.service, context.Background()
	tell := func(name, help string, value float64) {
		to <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value)
	}
	ready := 0.0
	if len(s.notReady(ctx, s.Log, readyForMetrics)) == 0 {
		ready = 1
	}
	tell("attachd_ready", "1 when uploads would work, by a look in the last minute, else 0.", ready)

	if room, err := s.Contents.Capacity(ctx); err != nil {
		s.Log.Error("the free space on the disk is not known", "error", err)
	} else {
		tell("attachd_disk_free_bytes", "Bytes of the disk that are free.", float64(room.Free))
		tell("attachd_disk_total_bytes", "Bytes of the disk.", float64(room.Total))
		tell("attachd_disk_reserve_bytes", "Bytes of the disk that uploads leave free.", float64(s.Contents.ReserveOf(room)))
		if room.Files > 0 {
			tell("attachd_disk_free_inodes", "Files that the disk can hold more.", float64(room.FreeFiles))
			tell("attachd_disk_total_inodes", "Files that the disk can hold in all.", float64(room.Files))
		}
	}
	if clock, err := s.Clock.Read(ctx); err != nil {
		s.Log.Error("how much time has passed is not known", "error", err)
	} else {
		trusted := 0.0
		if clock.Settled {
			trusted = 1
		}
		tell("attachd_clock_trusted", "1 when the clock says what it should, 0 while a jump of it is waited out: nothing is deleted for its age on the word of that.", trusted)
		tell("attachd_clock_jumps", "Times that the clock was set by more than a minute since the start.", float64(clock.Jumps))
	}
	if status, err := upkeep.ReadStatus(ctx, s.Store, s.Now()); err != nil {
		s.Log.Error("what was done last is not known", "error", err)
	} else {
		tell("attachd_last_backup_timestamp_seconds", "When the last backup was made; 0 when none is known.", unixTime(status.LastBackup))
		tell("attachd_last_check_timestamp_seconds", "When a check last came to its end; 0 when that is not known.", unixTime(status.LastCheck))
		tell("attachd_last_gc_timestamp_seconds", "When contents that nothing refers to were last removed; 0 when that is not known.", unixTime(status.LastGC))
	}
	if trash, earliest, err := s.Store.TrashSize(ctx); err != nil {
		s.Log.Error("what is in the trash is not known", "error", err)
	} else {
		tell("attachd_trash_files", "Attachments in the trash.", float64(trash.Files))
		tell("attachd_trash_bytes", "Bytes of the attachments in the trash.", float64(trash.Bytes))
		tell("attachd_trash_next_expiry_timestamp_seconds", "When the next of the trash is to be removed for good, unless a legal hold keeps it; 0 when it is empty.", unixTime(earliest))
	}
	if held, err := s.Store.HeldInTrash(ctx); err != nil {
		s.Log.Error("what of the trash is held is not known", "error", err)
	} else {
		tell("attachd_trash_held_bytes", "Bytes of the attachments in the trash that legal holds keep there.", float64(held.Bytes))
	}
	if last, _ := s.totals.latest(s.Now()); !last.at.IsZero() { // the job that counted has logged what went wrong
		tell("attachd_attachments", "Attachments, when they were last counted.", float64(last.Attachments.Files))
		tell("attachd_attachment_bytes", "Bytes of all attachments, when they were last counted.", float64(last.Attachments.Bytes))
		tell("attachd_contents", "Contents, each stored once, when they were last counted.", float64(last.Contents.Files))
		tell("attachd_content_bytes", "Bytes of all contents, when they were last counted.", float64(last.Contents.Bytes))
		tell("attachd_bytes_saved", "Bytes saved by storing each content once, when they were last counted.", float64(last.Attachments.Bytes-last.Contents.Bytes))
		tell("attachd_counted_timestamp_seconds", "When attachments and contents were last counted.", unixTime(last.at))
	}
}

// unixTime returns a time in seconds since 1970, and 0 for the zero time.
func unixTime(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.Unix())
}

// StorageTimes are histograms of how long the storage takes, for /metrics, and a
// counter of failures of its write-ahead log, which make it slow. A server's store and
// blobs report to it.
type StorageTimes struct {
	commits, syncs prometheus.Histogram
	calls          *prometheus.HistogramVec // of an object store
	asked          *prometheus.HistogramVec // of a database that is a server of its own
	logFailures    prometheus.Counter

	mu     sync.Mutex
	log    *slog.Logger // nil until TellIn sets it
	untold error        // the last failure of the write-ahead log, until it is logged
}

// NewStorageTimes returns one without observations.
func NewStorageTimes() *StorageTimes {
	buckets := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	return &StorageTimes{
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "attachd_commit_duration_seconds", Help: "Time that commits of the database took, with the syncs of its file.", Buckets: buckets}),
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "attachd_fsync_duration_seconds", Help: "Time that syncs of contents and their folders took.", Buckets: buckets}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "attachd_object_store_call_duration_seconds", Help: "Time that calls to the object store took, by operation and by how they ended; a get until its answer began.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"operation", "outcome"}),
		asked: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "attachd_database_call_duration_seconds", Help: "Time that PostgreSQL took, by what it was asked for (connect, statement, commit) and by how that ended; what commits is a statement, too.",
			Buckets: buckets}, []string{"operation", "outcome"}),
		logFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "attachd_log_failures_total", Help: "Times that the write-ahead log could not be made or written. Small uploads are written to files at once then, until a new part of it is made."}),
	}
}

// Committed observes the duration of a commit, for bolt.Options.
func (t *StorageTimes) Committed(took time.Duration) { t.commits.Observe(took.Seconds()) }

// Asked observes what was asked of a database server, for postgres.Options.Called.
func (t *StorageTimes) Asked(operation, outcome string, took time.Duration) {
	t.asked.WithLabelValues(operation, outcome).Observe(took.Seconds())
	if operation == "commit" {
		t.Committed(took)
	}
}

// Called observes a call to the object store, for s3.Observe.
func (t *StorageTimes) Called(operation, outcome string, took time.Duration) {
	t.calls.WithLabelValues(operation, outcome).Observe(took.Seconds())
}

// LogFailed records a failure of the write-ahead log, for bolt.Options.
func (t *StorageTimes) LogFailed(err error) {
	t.logFailures.Inc()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.untold = err
	t.tell()
}

// TellIn logs failures from now on, and the last one before.
func (t *StorageTimes) TellIn(log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.log = log
	t.tell()
}

func (t *StorageTimes) tell() {
	if t.log != nil && t.untold != nil {
		t.log.Warn("the write-ahead log failed", "error", t.untold)
		t.untold = nil
	}
}

// Synced observes the duration of a sync, for disk.Options.
func (t *StorageTimes) Synced(took time.Duration) { t.syncs.Observe(took.Seconds()) }
