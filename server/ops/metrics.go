package ops

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"attachd/server/api"
	"attachd/server/upkeep"
)

// metrics are the metrics in /metrics that this package counts; other packages have
// their own.
type metrics struct {
	handler    http.Handler
	damaged    prometheus.Counter
	unreadable prometheus.Counter
}

func newMetrics(s *Service) *metrics {
	m := &metrics{
		damaged: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "attachd_damaged_reads_total", Help: "Reads that found a stored content damaged."}),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "attachd_read_errors_total", Help: "Reads of stored contents that the storage failed, which says nothing of the contents."}),
	}
	holds := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_request_memory_bytes", Help: "Bytes of memory that requests under way are counted for."},
		func() float64 { return float64(s.Corridor.HeldBytes()) })
	mayHold := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_request_memory_limit_bytes", Help: "Bytes of memory that requests under way may be counted for."},
		func() float64 { return float64(s.Memory().Answers) })
	slots := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_upload_slots_used", Help: "Uploads running now."},
		func() float64 { return float64(s.Slots.InUse()) })
	allSlots := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "attachd_upload_slots", Help: "Uploads that may run at once."})
	allSlots.Set(float64(s.Slots.Max()))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "attachd_build_info", Help: "Always 1; the version is in the label.", ConstLabels: prometheus.Labels{"version": s.Version}})
	build.Set(1)
	registry := prometheus.NewRegistry()
	known := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_damaged_contents", Help: "Stored contents that are marked damaged."},
		func() float64 { return float64(s.Contents.Damaged()) })
	faults := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_database_faults", Help: "Faults of attachd.db that are known since the start; attachd check lists them."},
		func() float64 { return float64(len(s.Damage())) })
	waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_pending_bytes", Help: "Bytes of small contents that are stored with their records and have no files of their own yet."},
		func() float64 { return float64(s.Contents.Staged().Bytes) })
	waitingContents := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_pending_contents", Help: "Small contents that are stored with their records and have no files of their own yet."},
		func() float64 { return float64(s.Contents.Staged().Contents) })
	logUsed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_wal_bytes", Help: "Bytes of the write-ahead log that are in use, of at most attachd_wal_limit_bytes."},
		func() float64 { return float64(s.Contents.Staged().Room) })
	logLimit := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_wal_limit_bytes", Help: "Bytes that the write-ahead log may have: storage.log_size, or less on a small disk."},
		func() float64 { return float64(s.Contents.Staged().MaxRoom) })
	failing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "attachd_flush_failing_timestamp_seconds", Help: "Since when small contents cannot be written to files of their own; 0 when they can."},
		func() float64 {
			since, _ := s.Contents.Failing()
			return unixTime(since)
		})
	registry.MustRegister(&lookup{s}, waiting, waitingContents, logUsed, logLimit, failing, faults, m.damaged, m.unreadable,
		slots, allSlots, build, known, holds, mayHold,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(s.Collectors...)
	if s.LogLinesLost != nil {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "attachd_log_lines_lost_total", Help: "Lines of the log that nobody took in time."},
			func() float64 { return float64(s.LogLinesLost()) }))
	}
	if times := s.StorageTimes; times != nil {
		registry.MustRegister(times.commits, times.syncs, times.calls, times.asked, times.logFailures)
		times.TellIn(s.Log)
	}
	if s.Sweeper != nil {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_object_store_unswept_objects", Help: "Objects of deleted files, and of uploads that are under way or were broken off, that are yet to be deleted from the object store."},
			func() float64 { return float64(s.Sweeper.Unswept()) }))
	}
	if s.scrub != nil {
		registry.MustRegister(scrubMetrics(s.scrub)...)
	}
	if s.webhooks != nil {
		registry.MustRegister(s.webhooks.metrics(s.Store)...)
	}
	if s.Shared != nil {
		registry.MustRegister(s.replicaMetrics()...)
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

func scrubMetrics(scrub *upkeep.Scrub) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "attachd_scrub_bytes_total", Help: "Bytes of stored contents that the scrub has read."},
			func() float64 { return float64(scrub.Status().Bytes) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_scrub_progress_ratio", Help: "How much of its pass over all contents the scrub has done, from 0 to 1."},
			func() float64 { return scrub.Status().Progress }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_scrub_damaged_contents", Help: "Contents that the scrub met in its pass and that are damaged."},
			func() float64 { return float64(scrub.Status().Damaged) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_scrub_unreadable_contents", Help: "Contents that the scrub could not read, and is to try again."},
			func() float64 { return float64(scrub.Status().Unreadable) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_scrub_last_pass_timestamp_seconds", Help: "When the scrub last came to the end of a pass; 0 when it has not yet."},
			func() float64 { return unixTime(scrub.Status().LastPass) }),
	}
}

// metricsHold is how many bytes of memory a scrape is counted for: a buffer for the
// metrics of all routes.
const metricsHold = 256 << 10

// ServeMetrics answers GET /metrics.
func (s *Service) ServeMetrics(w *api.Response, rq *api.Request, sc api.Scope) error {
	if err := rq.Hold(metricsHold); err != nil {
		return err
	}
	s.metrics.handler.ServeHTTP(w, rq.Request)
	return nil
}
