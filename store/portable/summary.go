package portable

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"attachd/store"
)

// Summary says what was in a stream. Two streams of the same rows have equal ones,
// whatever the order of the rows is.
type Summary struct {
	Counts map[string]Count
	Bytes  int64          // of all attachments, those in the trash too
	Head   store.ChainPos // of the audit log
}

// KindAttachment is the kind of the records of attachments in Summary.Counts.
const KindAttachment = "attachment"

// Count is how many rows of a kind there are.
type Count struct {
	Rows int64
	Sum  [32]byte // of the SHA-256 of each row, as one number
}

// hasher hashes rows.
type hasher struct{ buffer []byte }

func (h *hasher) hash(row Row) [32]byte {
	h.buffer = appendValue(h.buffer[:0], reflect.ValueOf(row))
	return sha256.Sum256(h.buffer)
}

// add counts a row.
func (s *Summary) add(row Row, hash [32]byte) {
	if s.Counts == nil {
		s.Counts = map[string]Count{}
	}
	kind := kindOf(row)
	count := s.Counts[kind]
	count.Rows++
	carry := uint64(0)
	for at := 24; at >= 0; at -= 8 {
		var a, b = binary.BigEndian.Uint64(count.Sum[at:]), binary.BigEndian.Uint64(hash[at:])
		sum := a + b + carry
		carry = ((a & b) | ((a | b) &^ sum)) >> 63
		binary.BigEndian.PutUint64(count.Sum[at:], sum)
	}
	s.Counts[kind] = count
	switch row := row.(type) {
	case Attachment:
		s.Bytes += row.Size
	case TrashedAttachment:
		s.Bytes += row.Size
	case Chain:
		s.Head = row.Head
	}
}

// kinds are the names of types that kindOf has made.
var kinds sync.Map

// kindOf names the type of a row in words, such as "dead letter".
func kindOf(row Row) string {
	if known, is := kinds.Load(reflect.TypeOf(row)); is {
		return known.(string)
	}
	var name strings.Builder
	for i, c := range reflect.TypeOf(row).Name() {
		if i > 0 && 'A' <= c && c <= 'Z' {
			name.WriteByte(' ')
		}
		name.WriteRune(c)
	}
	kind := strings.ToLower(name.String())
	kinds.Store(reflect.TypeOf(row), kind)
	return kind
}

var timeType = reflect.TypeFor[time.Time]()

// zeros are as many as the longest array in a row.
var zeros [32]byte

// appendValue appends a value so that no other value of its type has the same bytes.
func appendValue(to []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(to, 1)
		}
		return append(to, 0)
	case reflect.Int, reflect.Int64: // also of a duration
		return binary.AppendVarint(to, v.Int())
	case reflect.Uint8, reflect.Uint64:
		return binary.AppendUvarint(to, v.Uint())
	case reflect.String:
		return append(binary.AppendUvarint(to, uint64(v.Len())), v.String()...)
	case reflect.Array: // all are of bytes
		from := len(to)
		to = append(to, zeros[:v.Len()]...)
		reflect.Copy(reflect.ValueOf(to[from:]), v)
		return to
	case reflect.Slice:
		to = binary.AppendUvarint(to, uint64(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(to, v.Bytes()...)
		}
		for i := range v.Len() {
			to = appendValue(to, v.Index(i))
		}
		return to
	case reflect.Pointer:
		if v.IsNil() {
			return append(to, 0)
		}
		return appendValue(append(to, 1), v.Elem())
	case reflect.Struct:
		if v.Type() == timeType {
			at := v.Interface().(time.Time)
			to = binary.AppendVarint(to, at.Unix())
			return binary.AppendVarint(to, int64(at.Nanosecond()))
		}
		for i := range v.NumField() {
			to = appendValue(to, v.Field(i))
		}
		return to
	}
	panic(fmt.Sprintf("portable: a row has a %s", v.Type()))
}

// Equal reports whether s and t are of the same rows.
func (s Summary) Equal(t Summary) bool { return s.Differences(t) == nil }

// Differences says in sentences what the other has that s has not, or the other way round.
func (s Summary) Differences(other Summary) (list []string) {
	kinds := maps.Clone(s.Counts)
	maps.Copy(kinds, other.Counts)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		was, is := s.Counts[kind], other.Counts[kind]
		switch {
		case was.Rows != is.Rows:
			list = append(list, fmt.Sprintf("Of the kind %q, there are %d on one side and %d on the other.", kind, was.Rows, is.Rows))
		case was.Sum != is.Sum:
			list = append(list, fmt.Sprintf("Of the kind %q, not all %d are the same on both sides.", kind, was.Rows))
		}
	}
	if s.Bytes != other.Bytes {
		list = append(list, fmt.Sprintf("The attachments have %d bytes on one side and %d on the other.", s.Bytes, other.Bytes))
	}
	if s.Head != other.Head {
		list = append(list, fmt.Sprintf("The audit log ends at entry %d on one side and at %d on the other, or at another hash.", s.Head.Seq, other.Head.Seq))
	}
	return list
}

// Ended adds the End that a stream is to have.
func Ended(rows iter.Seq2[Row, error]) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var summary Summary
		var h hasher
		for row, err := range rows {
			if err == nil {
				summary.add(row, h.hash(row))
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
		yield(End{summary}, nil)
	}
}

// errCut is the error of a stream that ends too early.
var errCut = errors.New("the stream of rows breaks off, or is not what was written")

// Checked passes the rows of a stream on, and ends with an error unless there were as many
// and the same as its End says. It passes the End on, too.
func Checked(rows iter.Seq2[Row, error]) iter.Seq2[Row, error] {
	return Where(rows, func(Row) bool { return true })
}

// Where is Checked, and passes on the rows that keep accepts, and the End that they are to have.
func Where(rows iter.Seq2[Row, error], keep func(Row) bool) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		var all, kept Summary
		var h hasher
		for row, err := range rows {
			if err != nil {
				yield(nil, err)
				return
			}
			if end, is := row.(End); is {
				if !all.Equal(end.Summary) {
					yield(nil, errCut)
					return
				}
				yield(End{kept}, nil)
				return
			}
			hash := h.hash(row) // which is what takes the time
			all.add(row, hash)
			if !keep(row) {
				continue
			}
			kept.add(row, hash)
			if !yield(row, nil) {
				return
			}
		}
		yield(nil, errCut)
	}
}

// Summarize reads a whole stream.
func Summarize(rows iter.Seq2[Row, error]) (Summary, error) { return endOf(Checked(rows)) }

// endOf reads a stream to its End, which is not compared with the rows.
func endOf(rows iter.Seq2[Row, error]) (Summary, error) {
	for row, err := range rows {
		if err != nil {
			return Summary{}, err
		}
		if end, is := row.(End); is {
			return end.Summary, nil
		}
	}
	return Summary{}, errCut
}

// IsOfCatalog reports whether a row says where contents are.
func IsOfCatalog(row Row) bool {
	switch row.(type) {
	case Place, Intent, Garbage:
		return true
	}
	return false
}

// Copy copies the rows of one store that keep accepts into another, reads them there, and
// fails unless they are the same. A nil keep accepts all.
func Copy(ctx context.Context, from Source, to interface {
	Source
	Target
}, keep func(Row) bool) (Summary, error) {
	if keep == nil {
		keep = func(Row) bool { return true }
	}
	var sent Summary
	err := to.Import(ctx, func(yield func(Row, error) bool) {
		for row, err := range Where(from.Export(ctx), keep) {
			if end, is := row.(End); is {
				sent = end.Summary
			}
			if !yield(row, err) {
				return
			}
		}
	})
	if err != nil {
		return Summary{}, err
	}
	came, err := endOf(Where(to.Export(ctx), keep))
	if err != nil {
		return Summary{}, fmt.Errorf("reading what was written: %w", err)
	}
	if faults := sent.Differences(came); len(faults) > 0 {
		return Summary{}, fmt.Errorf("what was written is not what was read: %s", strings.Join(faults, " "))
	}
	return sent, nil
}
