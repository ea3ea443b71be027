package files

import "github.com/prometheus/client_golang/prometheus"

// metrics are the metrics of files that are uploaded and downloaded.
type metrics struct {
	uploaded   prometheus.Counter
	downloaded prometheus.Counter
	signed     prometheus.Counter
	scans      *prometheus.CounterVec
	scanTime   prometheus.Histogram
	unscanned  *prometheus.CounterVec
	decodes    *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "attachd_uploaded_bytes_total", Help: "Bytes of files taken."}),
		downloaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "attachd_downloaded_bytes_total", Help: "Bytes of files sent."}),
	}
	m.signed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "attachd_storage_urls_total", Help: "URLs of the object store signed, each for the download of a file that it sends itself."})
	m.scans = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "attachd_scans_total", Help: "Files scanned for malware, by result: clean, found or error."},
		[]string{"result"})
	m.unscanned = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "attachd_unscanned_uploads_total", Help: "Uploads that could not be scanned for malware, by what scan.on_error made of them: accepted or refused."},
		[]string{"outcome"})
	m.scanTime = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "attachd_scan_duration_seconds", Help: "Time that a file waited for its scan and was scanned, whatever the result.",
		Buckets: []float64{.001, .005, .01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}})
	m.decodes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "attachd_picture_decodes_total", Help: "Pictures decoded for their thumbnails, by result: ok, failed or killed, which is for want of time or memory or of anybody who waits."},
		[]string{"result"})
	for _, result := range []string{decodedOK, decodedFailed, decodedKilled} {
		m.decodes.WithLabelValues(result)
	}
	for _, result := range []string{scanClean, scanFound, scanError} {
		m.scans.WithLabelValues(result) // show the counter also while it is zero
	}
	for _, outcome := range []string{unscannedAccepted, unscannedRefused} {
		m.unscanned.WithLabelValues(outcome)
	}
	return m
}

// Collectors returns the metrics of files.
func (s *Service) Collectors() []prometheus.Collector {
	list := []prometheus.Collector{s.metrics.uploaded, s.metrics.downloaded, s.metrics.decodes}
	if s.Linker != nil {
		list = append(list, s.metrics.signed)
	}
	if s.Scanner != nil {
		list = append(list, s.metrics.scans, s.metrics.scanTime, s.metrics.unscanned)
	}
	return list
}
