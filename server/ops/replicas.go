package ops

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"attachd/server/upkeep"
)

// beatEvery is how often a replica tells the others that it lives, and reads the keys that
// they share.
const beatEvery = 5 * time.Second

// replicas is what this replica knows of the others.
type replicas struct {
	live   atomic.Int64 // how many lived at the last beat; 0 before the first
	beaten atomic.Int64 // when that was, in unix nanoseconds
}

// Replicas returns how many replicas live, as far as is known: at least this one.
func (s *Service) Replicas() int { return max(1, int(s.replicas.live.Load())) }

// shares is what a replica lets the others know of itself.
type shares struct {
	Hours []hourBody `json:"hours"` // without those in which nothing happened
}

// live tells the other replicas that this one lives, until ctx ends, and then that it does
// not any more.
func (s *Service) live(ctx context.Context) error {
	for failing := false; ; {
		err := s.beat(ctx)
		if failed := err != nil && ctx.Err() == nil; failed != failing {
			failing = failed
			if failed {
				s.Log.Error("this replica could not tell the others that it lives", "error", err)
			} else {
				s.Log.Info("this replica could tell the others again that it lives")
			}
		}
		select {
		case <-ctx.Done():
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatEvery)
			defer cancel()
			if err := errors.Join(s.beat(bounded), s.Shared.Depart(bounded)); err != nil {
				s.Log.Warn("this replica could not tell the others that it ends", "error", err)
			}
			return nil
		case <-time.After(beatEvery):
		}
	}
}

// beat tells the other replicas once that this one lives.
func (s *Service) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatEvery)
	defer cancel()
	body, err := json.Marshal(shares{s.hours.filled()})
	if err != nil {
		return err
	}
	live, err := s.Shared.Beat(ctx, s.Version, body)
	if err != nil {
		return err
	}
	s.replicas.live.Store(int64(live))
	s.replicas.beaten.Store(s.Now().UnixNano())
	_, err = s.signing.Latest(ctx)
	return errors.Join(err, s.noticeMove(ctx))
}

// noticeMove finds out that a command has moved the records to another database: then this
// replica is not ready any more, and refuses what it could not record.
func (s *Service) noticeMove(ctx context.Context) error {
	moved, err := upkeep.IsMoved(ctx, s.Store)
	if err != nil || !moved || s.Contents.MayChange() != nil {
		return err
	}
	if err = s.Contents.SetMoved(ctx); err == nil {
		s.Log.Warn("the records were moved to another database: changes are refused until this server is ended and one is started with the new configuration")
	}
	return err
}

// hoursOfAll returns the counts of the last hours of this replica and of those that were
// seen within a day.
func (s *Service) hoursOfAll(ctx context.Context, now time.Time) ([]hourBody, error) {
	if s.Shared == nil {
		return s.hours.since(s.began, now), nil
	}
	all, err := s.Shared.Replicas(ctx)
	if err != nil {
		return nil, err
	}
	began, others := s.began, map[time.Time]hourBody{}
	for _, r := range all {
		if r.ID == s.Shared.Replica() {
			continue
		}
		if r.Started.Before(began) {
			began = r.Started
		}
		var of shares
		if err := json.Unmarshal(r.Shares, &of); err != nil {
			return nil, fmt.Errorf("what the replica %s shares: %w", r.ID, err)
		}
		for _, hour := range of.Hours {
			sum := others[hour.Start]
			sum.add(hour)
			others[hour.Start] = sum
		}
	}
	list := s.hours.since(began, now)
	for i := range list {
		list[i].add(others[list[i].Start])
	}
	return list, nil
}

// add adds the counts of another replica.
func (h *hourBody) add(other hourBody) {
	h.Uploads += other.Uploads
	h.UploadBytes += other.UploadBytes
	h.Downloads += other.Downloads
	h.DownloadBytes += other.DownloadBytes
}

// filled returns the hours in which something happened.
func (h *hours) filled() []hourBody {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []hourBody{}
	for _, hour := range h.ring {
		if hour.Uploads > 0 || hour.Downloads > 0 {
			list = append(list, hour)
		}
	}
	return list
}

// replicaMetrics are the metrics of a server that shares its store.
func (s *Service) replicaMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_replicas", Help: "Replicas of this server that were alive when this one last looked."},
			func() float64 { return float64(s.replicas.live.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_replica_beat_timestamp_seconds", Help: "When this replica last told the others that it lives; 0 when it has not yet."},
			func() float64 { return float64(s.replicas.beaten.Load()) / 1e9 }),
		&leaseMetrics{s}, &loadMetrics{s},
	}
}

// leaseMetrics are the leases of background work that this replica wants or holds.
type leaseMetrics struct{ *Service }

var (
	leaseHeld = prometheus.NewDesc("attachd_lease_held",
		"Whether this replica does a kind of background work for all replicas, 1 or 0.", []string{"work"}, nil)
	leaseRenewed = prometheus.NewDesc("attachd_lease_renewed_timestamp_seconds",
		"When this replica last renewed the lease with which it does a kind of background work for all replicas; 0 when it never had it.", []string{"work"}, nil)
)

// Describe implements prometheus.Collector.
func (m *leaseMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- leaseHeld
	to <- leaseRenewed
}

// Collect implements prometheus.Collector.
func (m *leaseMetrics) Collect(to chan<- prometheus.Metric) {
	for work, state := range m.Leases.States() {
		held := 0.0
		if state.Held {
			held = 1
		}
		to <- prometheus.MustNewConstMetric(leaseHeld, prometheus.GaugeValue, held, work)
		to <- prometheus.MustNewConstMetric(leaseRenewed, prometheus.GaugeValue, unixTime(state.Renewed), work)
	}
}

// loadMetrics are what the database that is shared is busy with.
type loadMetrics struct{ *Service }

var (
	connections = prometheus.NewDesc("attachd_database_connections",
		"Connections of this replica to PostgreSQL that are open, by state: in_use or idle.", []string{"state"}, nil)
	connectionLimit = prometheus.NewDesc("attachd_database_connections_limit",
		"Connections to PostgreSQL that this replica may have open: metadata.max_connections.", nil, nil)
	connectionWaits = prometheus.NewDesc("attachd_database_connection_waits_total",
		"Times that work had to wait for a connection to PostgreSQL, since all were in use or one had to be made.", nil, nil)
	connectionWaited = prometheus.NewDesc("attachd_database_connection_wait_seconds_total",
		"Time that work has waited for connections to PostgreSQL.", nil, nil)
	unchained = prometheus.NewDesc("attachd_audit_unchained_entries",
		"Entries of the audit log that are stored and are yet to get their places in its chain.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m *loadMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{connections, connectionLimit, connectionWaits, connectionWaited, unchained} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *loadMetrics) Collect(to chan<- prometheus.Metric) {
	load := m.Shared.Load()
	to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(load.InUse), "in_use")
	to <- prometheus.MustNewConstMetric(connections, prometheus.GaugeValue, float64(load.Connections-load.InUse), "idle")
	to <- prometheus.MustNewConstMetric(connectionLimit, prometheus.GaugeValue, float64(load.Limit))
	to <- prometheus.MustNewConstMetric(connectionWaits, prometheus.CounterValue, float64(load.Waits))
	to <- prometheus.MustNewConstMetric(connectionWaited, prometheus.CounterValue, load.Waited.Seconds())
	to <- prometheus.MustNewConstMetric(unchained, prometheus.GaugeValue, float64(load.Unchained))
}
