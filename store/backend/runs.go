package backend

import (
	"encoding/binary"
	"fmt"
	"time"

	"attachd/store"
)

// maxRuns is how many runs are stored at most; when there are more, the oldest two
// are merged into one that is not Ordered.
const maxRuns = 500

// AddToRuns adds an entry to the last run, or to a new one.
func AddToRuns(runs []store.AuditRun, seq uint64, at time.Time) []store.AuditRun {
	last := len(runs) - 1
	if last < 0 || !runs[last].Ordered || at.Before(runs[last].Latest.Add(-store.LongestRequest)) {
		runs = append(runs, store.AuditRun{First: seq, Latest: at, Ordered: true})
	} else if at.After(runs[last].Latest) {
		runs[last].Latest = at
	}
	if len(runs) > maxRuns {
		first, second := runs[0], runs[1]
		if second.Latest.Before(first.Latest) {
			second.Latest = first.Latest
		}
		runs = append([]store.AuditRun{{First: first.First, Latest: second.Latest}}, runs[2:]...)
	}
	return runs
}

// EncodeRuns encodes the runs up to the head, without those whose entries have been
// removed.
func EncodeRuns(head uint64, runs []store.AuditRun, removed uint64) (raw []byte) {
	raw = binary.BigEndian.AppendUint64(raw, head)
	for i, run := range runs {
		if i+1 < len(runs) && runs[i+1].First <= removed+1 {
			continue
		}
		ordered := byte(0)
		if run.Ordered {
			ordered = 1
		}
		raw = binary.BigEndian.AppendUint64(raw, run.First)
		raw = binary.BigEndian.AppendUint64(raw, uint64(run.Latest.UnixMilli()))
		raw = append(raw, ordered)
	}
	return raw
}

// DecodeRuns returns the runs up to the head. Entries that an earlier version
// wrote, which had no runs, are one run that is not Ordered.
func DecodeRuns(raw []byte, head uint64) (runs []store.AuditRun, err error) {
	known := uint64(0)
	if len(raw) > 0 {
		if len(raw)%17 != 8 {
			return nil, fmt.Errorf("the runs of the audit log have %d bytes", len(raw))
		}
		known, raw = binary.BigEndian.Uint64(raw), raw[8:]
	}
	for ; len(raw) > 0; raw = raw[17:] {
		runs = append(runs, store.AuditRun{
			First:   binary.BigEndian.Uint64(raw),
			Latest:  time.UnixMilli(int64(binary.BigEndian.Uint64(raw[8:]))).UTC(),
			Ordered: raw[16] == 1,
		})
	}
	if known < head {
		runs = append(runs, store.AuditRun{First: known + 1, Latest: time.UnixMilli(1<<62 - 1).UTC()})
	}
	return runs, nil
}
