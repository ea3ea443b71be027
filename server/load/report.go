//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sample is the result of one run of a workload.
type sample struct {
	Rate      float64       `json:"rate"` // in the workload's unit
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Processor time.Duration `json:"processor_ns"` // of the server, for one operation
	Peak      int64         `json:"peak_bytes"`   // of the server, the map of the database included
	Anonymous int64         `json:"anonymous_bytes"`

	cpu time.Duration // of the server, for all operations
}

func (s *sample) fill(w workload, found seen) {
	s.Rate = found.rate()
	if w.size > 0 {
		s.Rate *= float64(w.size) / megabyte
	}
	s.P50, s.P99 = found.quantile(.5), found.quantile(.99)
	s.Processor = s.cpu / time.Duration(max(1, len(found.times)))
}

// results are the results of a run of the program.
type results struct {
	Measured  time.Time            `json:"measured"`
	Binaries  []string             `json:"binaries"`
	Peers     []string             `json:"peers,omitempty"`
	Limits    map[string][]float64 `json:"limits"`
	Workloads []*measured          `json:"workloads"`

	units map[string]string // of limits
}

// measured is a workload with its runs, by binary, followed by those by peer.
type measured struct {
	Name   string     `json:"name"`
	Unit   string     `json:"unit"`
	Limits []string   `json:"limits,omitempty"`
	Idle   string     `json:"idle,omitempty"`    // the workload with which its slowest operations are compared
	Goal   float64    `json:"goal,omitempty"`    // how many times as fast as the bucket alone it is to be
	GoalOf string     `json:"goal_of,omitempty"` // the limit that is meant instead of the bucket
	Runs   [][]sample `json:"runs"`
}

func newResults(o options) *results {
	r := &results{Measured: time.Now().UTC(), Binaries: o.binaries, Limits: map[string][]float64{}, units: map[string]string{}}
	for _, p := range o.peers {
		r.Peers = append(r.Peers, p.name)
	}
	return r
}

func (r *results) addLimit(name, unit string, rate float64) {
	r.Limits[name] = append(r.Limits[name], rate)
	r.units[name] = unit
}

func (r *results) add(subject int, w workload, run sample) {
	m := r.of(w.name)
	if m == nil {
		m = &measured{Name: w.name, Unit: w.unit(), Limits: w.limits, Idle: w.slowdown, Goal: w.goal, GoalOf: w.goalOf, Runs: make([][]sample, len(r.Binaries)+len(r.Peers))}
		r.Workloads = append(r.Workloads, m)
	}
	m.Runs[subject] = append(m.Runs[subject], run)
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

// print writes the tables: the limits of the machine, and the results of attachd.
// If there is something to compare with, the first of two binaries or an earlier
// run, its rates and how many times as fast this is are printed beside them.
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
		now := m.Runs[len(r.Binaries)-1]
		then := m.Runs[0]
		if before != nil {
			then = before.runs(m.Name)
		}
		r.row(&table, m, now)
		if compared {
			fmt.Fprintf(&table, " %s | %.2f | %.2f |", number(middle(then, rate)),
				middle(now, rate)/middle(then, rate), middle(now, processor)/middle(then, processor))
		}
		table.WriteByte('\n')
	}
	if len(r.Peers) > 0 {
		r.compare(&table, "rate, and how many times as fast attachd is", rate, func(v float64, m *measured) string { return number(v) + " " + m.Unit })
		r.compare(&table, "CPU per operation, and how many times as much attachd needs", processor, func(v float64, _ *measured) string { return duration(v) })
	}
	r.goals(&table)
	_, err := io.WriteString(out, table.String())
	return err
}

// goals writes how many times as fast as the bucket alone, which is the last peer, attachd is,
// and is to be.
func (r *results) goals(table *strings.Builder) {
	begun := false
	for _, m := range r.Workloads {
		if m.Goal == 0 {
			continue
		}
		if !begun {
			table.WriteString("\n| against the bucket alone | times as fast | goal | |\n|---|---:|---:|---|\n")
			begun = true
		}
		found, name := ratio(m.Runs[len(r.Binaries)-1], m.Runs[len(m.Runs)-1], rate), m.Name
		if m.GoalOf != "" {
			name += ", against " + m.GoalOf
			found = ratio(m.Runs[len(r.Binaries)-1], samples(r.Limits[m.GoalOf]), rate)
		}
		missed := ""
		if found < m.Goal {
			missed = "missed"
		}
		fmt.Fprintf(table, "| %s | %.2f | %.2f | %s |\n", name, found, m.Goal, missed)
	}
}

func rate(s sample) float64      { return s.Rate }
func processor(s sample) float64 { return float64(s.Processor) }

// compare writes a table of attachd, in each of its binaries, and its peers, with
// attachd's results as a multiple of theirs. A dash is what a peer does not
// support, or what is unknown.
func (r *results) compare(table *strings.Builder, what string, of func(sample) float64, text func(float64, *measured) string) {
	fmt.Fprintf(table, "\n| %s |", what)
	for _, binary := range r.Binaries {
		fmt.Fprintf(table, " %s |", filepath.Base(binary))
	}
	fmt.Fprintf(table, " %s |\n|---|%s\n", strings.Join(r.Peers, " | "), strings.Repeat("---:|", len(r.Binaries)+len(r.Peers)))
	for _, m := range r.Workloads {
		ours, theirs := m.Runs[:len(r.Binaries)], m.Runs[len(r.Binaries):]
		if !slices.ContainsFunc(theirs, func(runs []sample) bool { return len(runs) > 0 }) {
			continue
		}
		fmt.Fprintf(table, "| %s |", m.Name)
		for _, runs := range ours {
			fmt.Fprintf(table, " %s |", text(middle(runs, of), m))
		}
		for _, runs := range theirs {
			if middle(runs, of) <= 0 {
				table.WriteString(" — |")
				continue
			}
			var ratios []string
			for _, our := range ours {
				ratios = append(ratios, fmt.Sprintf("%.2f", ratio(our, runs, of)))
			}
			fmt.Fprintf(table, " %s (%s) |", text(middle(runs, of), m), strings.Join(ratios, ", "))
		}
		table.WriteByte('\n')
	}
}

// ratio is the median of the rounds' ratios: other activity of the machine in a
// round affected both alike.
func ratio(ours, theirs []sample, of func(sample) float64) float64 {
	var ratios []float64
	for i := range theirs {
		if of(theirs[i]) > 0 {
			ratios = append(ratios, of(ours[i])/of(theirs[i]))
		}
	}
	return median(ratios)
}

// samples returns the rates of a limit as results of runs, of which no more is known.
func samples(rates []float64) (runs []sample) {
	for _, r := range rates {
		runs = append(runs, sample{Rate: r})
	}
	return runs
}

// runs returns the runs of the last binary.
func (r *results) runs(workload string) []sample {
	m := r.of(workload)
	if m == nil {
		return nil
	}
	return m.Runs[len(r.Binaries)-1]
}

func (r *results) row(table *strings.Builder, m *measured, runs []sample) {
	speed := middle(runs, rate)
	p99 := middle(runs, func(s sample) float64 { return float64(s.P99) })
	var ratios []string
	for _, name := range m.Limits {
		ratios = append(ratios, fmt.Sprintf("%.2f of %s", speed/median(r.Limits[name]), name))
	}
	if idle := r.runs(m.Idle); idle != nil {
		ratios = append(ratios, fmt.Sprintf("p99 is %.1f times the idle one", p99/middle(idle, func(s sample) float64 { return float64(s.P99) })))
	}
	fmt.Fprintf(table, "| %s | %s %s | %s | %s | %s | %s | %s | %s |", m.Name, number(speed), m.Unit, strings.Join(ratios, ", "),
		duration(middle(runs, func(s sample) float64 { return float64(s.P50) })), duration(p99),
		duration(middle(runs, processor)),
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

// number formats v with three significant digits.
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
