//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// sample is what one run of a workload gave.
type sample struct {
	Rate      float64       `json:"rate"` // in the workload's unit
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Processor time.Duration `json:"processor_ns"` // of the server, for one operation
	Peak      int64         `json:"peak_bytes"`   // of the server, the map of the database included
	Anonymous int64         `json:"anonymous_bytes"`

	cpu time.Duration // of the server, for all
}

func (s *sample) fill(w workload, found seen) {
	s.Rate = found.rate()
	if w.size > 0 {
		s.Rate *= float64(w.size) / megabyte
	}
	s.P50, s.P99 = found.quantile(.5), found.quantile(.99)
	s.Processor = s.cpu / time.Duration(max(1, len(found.times)))
}

// results are what a run of the program found.
type results struct {
	Measured  time.Time            `json:"measured"`
	Binaries  []string             `json:"binaries"`
	Limits    map[string][]float64 `json:"limits"`
	Workloads []*measured          `json:"workloads"`

	units map[string]string // of limits
}

// measured is a workload with its runs, by binary.
type measured struct {
	Name   string     `json:"name"`
	Unit   string     `json:"unit"`
	Limits []string   `json:"limits,omitempty"`
	Idle   string     `json:"idle,omitempty"` // what its slowest operations are compared with
	Runs   [][]sample `json:"runs"`
}

func newResults(o options) *results {
	return &results{Measured: time.Now().UTC(), Binaries: o.binaries, Limits: map[string][]float64{}, units: map[string]string{}}
}

func (r *results) addLimit(name, unit string, rate float64) {
	r.Limits[name] = append(r.Limits[name], rate)
	r.units[name] = unit
}

func (r *results) add(binary int, w workload, run sample) {
	m := r.of(w.name)
	if m == nil {
		m = &measured{Name: w.name, Unit: w.unit(), Limits: w.limits, Idle: w.slowdown, Runs: make([][]sample, len(r.Binaries))}
		r.Workloads = append(r.Workloads, m)
	}
	m.Runs[binary] = append(m.Runs[binary], run)
}

func (r *results) of(workload string) *measured {
	for _, m := range r.Workloads {
		if m.Name == workload {
			return m
		}
	}
	return nil
}

func (r *results) save(name string) error {
	raw, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(raw, '\n'), 0o644)
}

func loadResults(name string) (*results, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r results
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &r, nil
}

// print writes the tables: the machine, and what attachd made of it. Where
// there is something to compare with, the first of two binaries or an earlier
// run, its rates and how many times as fast this is stand beside them.
func (r *results) print(out io.Writer, before *results) error {
	var table strings.Builder
	if len(r.Limits) > 0 {
		table.WriteString("| limit of the machine | rate |\n|---|---:|\n")
		for _, l := range limits {
			if rates := r.Limits[l.name]; rates != nil {
				fmt.Fprintf(&table, "| %s | %s %s |\n", l.name, number(median(rates)), l.unit)
			}
		}
		table.WriteByte('\n')
	}
	compared := before != nil || len(r.Binaries) > 1
	table.WriteString("| workload | rate | of its limits | p50 | p99 | CPU per operation | peak memory | anonymous |")
	if compared {
		table.WriteString(" before | times as fast | times the CPU |")
	}
	table.WriteString("\n|---|---:|---|---:|---:|---:|---:|---:|")
	if compared {
		table.WriteString("---:|---:|---:|")
	}
	table.WriteByte('\n')
	for _, m := range r.Workloads {
		now := m.Runs[len(m.Runs)-1]
		then := m.Runs[0]
		if before != nil {
			then = before.runs(m.Name)
		}
		r.row(&table, m, now)
		if compared {
			rate := func(s sample) float64 { return s.Rate }
			processor := func(s sample) float64 { return float64(s.Processor) }
			fmt.Fprintf(&table, " %s | %.2f | %.2f |", number(middle(then, rate)),
				middle(now, rate)/middle(then, rate), middle(now, processor)/middle(then, processor))
		}
		table.WriteByte('\n')
	}
	_, err := io.WriteString(out, table.String())
	return err
}

// runs are those of the last binary.
func (r *results) runs(workload string) []sample {
	m := r.of(workload)
	if m == nil {
		return nil
	}
	return m.Runs[len(m.Runs)-1]
}

func (r *results) row(table *strings.Builder, m *measured, runs []sample) {
	rate := middle(runs, func(s sample) float64 { return s.Rate })
	p99 := middle(runs, func(s sample) float64 { return float64(s.P99) })
	var ratios []string
	for _, name := range m.Limits {
		ratios = append(ratios, fmt.Sprintf("%.2f of %s", rate/median(r.Limits[name]), name))
	}
	if idle := r.runs(m.Idle); idle != nil {
		ratios = append(ratios, fmt.Sprintf("p99 is %.1f times the idle one", p99/middle(idle, func(s sample) float64 { return float64(s.P99) })))
	}
	fmt.Fprintf(table, "| %s | %s %s | %s | %s | %s | %s | %s | %s |", m.Name, number(rate), m.Unit, strings.Join(ratios, ", "),
		duration(middle(runs, func(s sample) float64 { return float64(s.P50) })), duration(p99),
		duration(middle(runs, func(s sample) float64 { return float64(s.Processor) })),
		megabytes(middle(runs, func(s sample) float64 { return float64(s.Peak) })),
		megabytes(middle(runs, func(s sample) float64 { return float64(s.Anonymous) })))
}

func middle(runs []sample, of func(sample) float64) float64 {
	var values []float64
	for _, run := range runs {
		values = append(values, of(run))
	}
	return median(values)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// number has three digits that mean something.
func number(v float64) string {
	switch {
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func duration(ns float64) string {
	switch {
	case ns < 1e6:
		return number(ns/1e3) + " µs"
	case ns < 1e9:
		return number(ns/1e6) + " ms"
	}
	return number(ns/1e9) + " s"
}

func megabytes(bytes float64) string { return number(bytes/megabyte) + " MB" }
