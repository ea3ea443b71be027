package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are the metrics of requests to all routes. Labels are bounded: route patterns,
// not paths.
type counts struct {
	requests   *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	turnedAway *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	inFlight   prometheus.Gauge
}

func newCounts() *counts {
	return &counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attachd_http_requests_total", Help: "Requests answered, by method, route pattern and status."},
			[]string{"method", "route", "status"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attachd_http_refusals_total", Help: "Requests refused, by the code in the answer."},
			[]string{"code"}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attachd_uploads_refused_total", Help: "Uploads refused, by the code in the answer."},
			[]string{"code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "attachd_http_request_duration_seconds", Help: "Time from the first byte of a request's header to the last of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}},
			[]string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "attachd_http_requests_in_flight", Help: "Requests being answered now."}),
	}
}

// Collectors returns the metrics of requests.
func (c *Corridor) Collectors() []prometheus.Collector {
	return []prometheus.Collector{c.counts.requests, c.counts.refusals, c.counts.turnedAway, c.counts.duration, c.counts.inFlight}
}

func (m *counts) observe(rq *Request, w *Response, status int, took time.Duration) {
	route, method := rq.route.Pattern, rq.Method
	if route == "" {
		// The client chooses both, so neither is bounded.
		route, method = "none", "other"
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(method, route).Observe(took.Seconds())
	if w.Code != "" {
		m.refusals.WithLabelValues(w.Code).Inc()
		if rq.route.Kind == FileUpload {
			m.turnedAway.WithLabelValues(w.Code).Inc()
		}
	}
}
