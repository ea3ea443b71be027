package backend

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	// maxMarks is how many marks of one bucket are stored at most. When there are
	// more, every other one is dropped.
	maxMarks = 1000
	// markEvery is the most time between marks.
	markEvery = 24 * time.Hour
)

// ageMark records that a numbered record existed at an age of the caller's count of
// time. So the age of a record is how long it has been stored, whatever time is in
// it.
type ageMark struct {
	age time.Duration
	seq uint64
}

// encodeMarks encodes marks, and drops every other one while there are more than
// maxMarks. Records up to a dropped mark then count as those of the next one, a
// little younger.
func encodeMarks(marks []ageMark) (raw []byte) {
	every := 1 + len(marks)/maxMarks
	for i := (len(marks) - 1) % every; i < len(marks); i += every {
		raw = binary.BigEndian.AppendUint64(raw, uint64(marks[i].age))
		raw = binary.BigEndian.AppendUint64(raw, marks[i].seq)
	}
	return raw
}

// Ripe returns, by the marks in raw, the number of the newest record that has been
// stored for at least keep, 0 for none. Now and then it adds a mark for the head:
// updated are the marks to store then, nil when they have not changed.
func Ripe(raw []byte, head uint64, age, keep time.Duration) (updated []byte, through uint64, err error) {
	marks, err := decodeMarks(raw)
	if err != nil {
		return nil, 0, err
	}
	changed := false
	for i := range marks { // the count may have restarted
		changed = changed || marks[i].age > age
		marks[i].age = min(marks[i].age, age)
	}
	var last ageMark
	if len(marks) > 0 {
		last = marks[len(marks)-1]
	}
	if head > last.seq && (len(marks) == 0 || age-last.age >= min(keep/100, markEvery)) {
		marks, changed = append(marks, ageMark{age, head}), true
	}
	old := 0
	for old < len(marks) && age-marks[old].age >= keep {
		through = marks[old].seq
		old++
	}
	if old > 1 {
		marks, changed = marks[old-1:], true
	}
	if changed {
		updated = encodeMarks(marks)
	}
	return updated, through, nil
}

func decodeMarks(raw []byte) (marks []ageMark, err error) {
	if len(raw)%16 != 0 {
		return nil, fmt.Errorf("ages in %d bytes", len(raw))
	}
	for ; len(raw) > 0; raw = raw[16:] {
		marks = append(marks, ageMark{time.Duration(binary.BigEndian.Uint64(raw)), binary.BigEndian.Uint64(raw[8:])})
	}
	return marks, nil
}
