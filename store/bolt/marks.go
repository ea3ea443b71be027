package bolt

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	// maxMarks is how many marks of one bucket are kept at most; of more, every
	// other one goes.
	maxMarks = 1000
	// markEvery is the most time between marks.
	markEvery = 24 * time.Hour
)

// What bucketMeta knows of the ages of numbered records.
var (
	auditMarks = []byte("audit marks")
	deadMarks  = []byte("dead marks")
)

// ageMark is that a record with a number was there at an age of the caller's
// count of time. So records get old by how long they have been there, whatever
// time they say that they are of.
type ageMark struct {
	age time.Duration
	seq uint64
}

// ripe gives the number of the newest record that has been there for as long
// as records are kept, 0 for none. It marks the head, now and then.
func (tx *writeTx) ripe(key []byte, head uint64, age, keep time.Duration) (through uint64, err error) {
	marks, err := loadMarks(tx.dbTx, key)
	if err != nil {
		return 0, err
	}
	changed := false
	for i := range marks { // the count may have begun anew
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
		tx.put(bucketMeta, key, encodeMarks(marks))
	}
	return through, nil
}

func loadMarks(tx *dbTx, key []byte) (marks []ageMark, err error) {
	raw := tx.get(bucketMeta, key)
	if len(raw)%16 != 0 {
		return nil, fmt.Errorf("the %s have %d bytes", key, len(raw))
	}
	for ; len(raw) > 0; raw = raw[16:] {
		marks = append(marks, ageMark{time.Duration(binary.BigEndian.Uint64(raw)), binary.BigEndian.Uint64(raw[8:])})
	}
	return marks, nil
}

// encodeMarks drops every other mark while there are more than maxMarks. Records
// up to a dropped mark then count as those of the next one, a little younger.
func encodeMarks(marks []ageMark) (raw []byte) {
	every := 1 + len(marks)/maxMarks
	for i := (len(marks) - 1) % every; i < len(marks); i += every {
		raw = binary.BigEndian.AppendUint64(raw, uint64(marks[i].age))
		raw = binary.BigEndian.AppendUint64(raw, marks[i].seq)
	}
	return raw
}
