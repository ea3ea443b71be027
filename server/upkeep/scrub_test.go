package upkeep_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server/upkeep"
	"attachd/server/upkeep/upkeeptest"
	"attachd/store"
)

// night is a time that passes only while a scrub waits.
type night struct {
	*upkeeptest.House
	now    time.Time
	period time.Duration
	rate   int64
	busy   bool
	notes  store.Store // used instead of the house's own, where set
	log    bytes.Buffer

	read []string // contents read, in order
	end  context.CancelFunc
}

var evening = time.Date(2026, 1, 15, 22, 0, 0, 0, time.UTC)

func newNight(t *testing.T) *night {
	n := &night{House: upkeeptest.New(t), now: evening, period: 30 * 24 * time.Hour, rate: 20 << 20}
	n.watch(func(string) error { return nil })
	return n
}

// watch records what is read. before is called before every call, and may fail it.
func (n *night) watch(before func(call string) error) {
	n.FailCalls(func(call string) error {
		if err := before(call); err != nil {
			return err
		}
		name, reading := strings.CutPrefix(call, "read blobs/sha256/")
		if ref := path.Base(name); reading && (len(n.read) == 0 || n.read[len(n.read)-1] != ref) {
			n.read = append(n.read, ref)
		}
		return nil
	})
}

// atOnce verifies a database in no time by the clock of the night, which the time that it takes
// on this machine, and the rests after it, would set ahead.
type atOnce struct{ store.Verifier }

func (a atOnce) Verify(ctx context.Context, _ func(time.Duration)) ([]string, error) {
	return a.Verifier.Verify(ctx, func(time.Duration) {})
}

// scrub runs a scrub until the given time, or until the test ends it earlier.
func (n *night) scrub(until time.Time, waiting ...func(upkeep.ScrubStatus)) upkeep.ScrubStatus {
	n.Helper()
	var ctx context.Context
	ctx, n.end = context.WithCancel(context.Background())
	defer n.end()
	records := n.notes
	if records == nil {
		records = n.Records
	}
	waits := 0
	var s *upkeep.Scrub
	s = upkeep.NewScrub(records, n.Blobs, upkeep.ScrubOptions{
		Verifier: atOnce{n.Records}, Marker: n.Blobs,
		Rate: n.rate, Period: n.period, Busy: func() bool { return n.busy },
		Now: func() time.Time { return n.now },
		Wait: func(_ context.Context, d time.Duration) {
			n.now = n.now.Add(d)
			for _, look := range waiting {
				look(s.Status())
			}
			if waits++; d <= 0 || waits > 1_000_000 {
				n.Errorf("it waits %v, for the %d-th time", d, waits)
				n.end()
			}
			if !n.now.Before(until) {
				n.end()
			}
		},
		Log: slog.New(slog.NewJSONHandler(&n.log, nil)),
	})
	s.Run(ctx)
	return s.Status()
}

// keepMany keeps contents and returns their names in order.
func (n *night) keepMany(count, size int) (refs []string) {
	n.Helper()
	for i := range count {
		a := n.Keep(strings.Repeat("x", size)+fmt.Sprint(i), true)
		refs = append(refs, blobs.Ref(a.SHA256).String())
	}
	slices.Sort(refs)
	return refs
}

// lines returns the log's lines with this message.
func (n *night) lines(message string) (found []map[string]any) {
	n.Helper()
	for line := range strings.Lines(n.log.String()) {
		var entry map[string]any
		n.OK(json.Unmarshal([]byte(line), &entry))
		if strings.Contains(entry["msg"].(string), message) {
			found = append(found, entry)
		}
	}
	return found
}

func (n *night) wantRead(want []string) {
	n.Helper()
	if !slices.Equal(n.read, want) {
		n.Errorf("it read %d contents\n%.6s\nnot %d\n%.6s", len(n.read), n.read, len(want), want)
	}
}

func TestAScrubReadsEverythingOnceInAPeriod(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 10)
	bytes := int64(10*20 + 10 + 2*10)
	status := n.scrub(evening.Add(n.period - 1))
	n.wantRead(refs)
	if want := (upkeep.ScrubStatus{Bytes: bytes, Progress: 1, LastPass: evening}); status != want {
		t.Errorf("%+v, not %+v", status, want)
	}
	for times := range 2 { // each after a restart
		status = n.scrub(n.now.Add(n.period))
		n.wantRead(slices.Repeat(refs, times+2))
	}
	if status.Bytes != bytes || status.Progress != 1 || !status.LastPass.Equal(evening.Add(2*n.period)) {
		t.Errorf("%+v", status)
	}
	done := n.lines("has read all contents")
	if len(done) != 3 || done[2]["contents"] != 20.0 || done[2]["bytes"] != float64(bytes) || done[2]["damaged"] != 0.0 {
		t.Errorf("the log says %v", done)
	}
	if warned := n.lines("late"); len(warned) > 0 {
		t.Errorf("the log says %v", warned)
	}
}

func TestAScrubGoesOnWhereItWasStopped(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 10)
	for _, stopAt := range []int{0, 1, 7, 19} {
		n.watch(func(call string) error {
			if strings.HasPrefix(call, "open ") && strings.HasSuffix(call, refs[stopAt]) {
				n.end()
			}
			return nil
		})
		status := n.scrub(evening.Add(time.Hour))
		n.wantRead(refs[:stopAt])
		if status.Progress > placeOf(refs[stopAt]) || stopAt > 0 && status.Progress != placeOf(refs[stopAt-1]) {
			t.Errorf("stopped before %s, it has done %v", refs[stopAt], status.Progress)
		}
		n.Close()
		n.Open()
	}
	n.watch(func(string) error { return nil })
	n.scrub(evening.Add(time.Hour))
	n.wantRead(refs)
	if done := n.lines("has read all contents"); len(done) != 1 || done[0]["contents"] != 20.0 {
		t.Errorf("the log says %v", done)
	}
}

// placeOf returns the position of a name among all names.
func placeOf(name string) float64 {
	ref, err := blobs.ParseRef(name)
	if err != nil {
		panic(err)
	}
	return float64(binary.BigEndian.Uint64(ref[:])) / (1 << 64)
}

func TestAScrubThatWasKilledReadsLittleTwice(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 1<<20)
	n.rate = 200 << 10 // so that each takes five seconds
	noted := &notebook{Store: n.Records}
	n.notes = noted
	n.scrub(evening.Add(time.Hour))
	// At the beginning, once a minute, and at the end.
	if noted.set < 3 || noted.set > 4 {
		t.Errorf("it noted its position %d times in %v", noted.set, n.lines("has read all contents"))
	}
	// A kill loses the note that was not written.
	began := n.now.Add(n.period)
	n.now, n.read = began, nil
	n.scrub(began.Add(70*time.Second), func(upkeep.ScrubStatus) { noted.full = n.now.Sub(began) > 65*time.Second })
	before := len(n.read)
	noted.full, n.read = false, nil
	n.scrub(n.now.Add(time.Hour))
	if again := before + len(n.read) - len(refs); again < 1 || again > 3 {
		t.Errorf("it read %d contents twice", again)
	}
}

// notebook is a store that counts notes, and whose reads or writes can be made to fail.
type notebook struct {
	store.Store
	set, illegible int
	full           bool
}

var errNotebook = errors.New("no light")

func (n *notebook) Note(ctx context.Context, name string) ([]byte, error) {
	if n.illegible--; n.illegible >= 0 {
		return nil, errNotebook
	}
	return n.Store.Note(ctx, name)
}

func (n *notebook) SetNote(ctx context.Context, name string, value []byte) error {
	if n.full {
		return errNotebook
	}
	n.set++
	return n.Store.SetNote(ctx, name, value)
}

// ASVS 15.1.3, 15.2.2
func TestAScrubKeepsItsPace(t *testing.T) {
	t.Parallel()
	for _, size := range []int{20_000, 300_000, 4 << 20} {
		n := newNight(t)
		n.rate = 1 << 20
		n.keepMany(4<<20/size, size)
		var ended time.Time
		n.scrub(evening.Add(time.Hour), func(s upkeep.ScrubStatus) {
			if allowed := n.now.Sub(evening).Seconds()*float64(n.rate) + 256<<10 + 1; float64(s.Bytes) > allowed {
				t.Fatalf("%d bytes in %v", s.Bytes, n.now.Sub(evening))
			}
			if s.Progress < 1 {
				ended = n.now
			}
		})
		if took := ended.Sub(evening); took < 3*time.Second || took > 4100*time.Millisecond {
			t.Errorf("4 MB in pieces of %d took %v at 1 MB a second", size, took)
		}
	}
}

func TestAScrubIdlesWhilePeopleWorkButIsNotLate(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 1<<20)
	n.period, n.busy = time.Hour, true
	n.scrub(evening.Add(n.period-time.Millisecond), func(upkeep.ScrubStatus) {
		due := n.now.Sub(evening).Seconds() / n.period.Seconds()
		for _, ref := range n.read {
			if place := placeOf(ref); place > due {
				t.Fatalf("%s was read before it was due: %v of %v", ref, place, due)
			}
		}
		if ahead := len(n.read); ahead < 20 && placeOf(refs[ahead]) < due-0.001 {
			t.Fatalf("%s is overdue: %v of %v", refs[ahead], placeOf(refs[ahead]), due)
		}
	})
	n.wantRead(refs)
	if warned := n.lines("late"); len(warned) > 0 {
		t.Errorf("the log says %v", warned)
	}

	n.now, n.read = evening.Add(n.period), nil
	n.scrub(n.now.Add(time.Second))
	if len(n.read) > 0 {
		t.Errorf("people work, and it read %s", n.read)
	}
	n.busy = false
	n.scrub(n.now.Add(10 * time.Second))
	n.wantRead(refs)
}

func TestAScrubThatIsInterruptedInAContentIdlesThere(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.keepMany(1, 4<<20)
	n.rate = 1 << 20
	var idle int64
	status := n.scrub(evening.Add(time.Hour), func(s upkeep.ScrubStatus) {
		if n.busy = n.now.Sub(evening) > time.Second; idle == 0 && n.busy {
			idle = s.Bytes
		}
	})
	if idle < 1<<20 || status.Bytes != idle || status.Progress != 0 {
		t.Errorf("people came when it had read %d bytes, and then %+v", idle, status)
	}
}

func TestAScrubMarksAndNamesWhatIsDamaged(t *testing.T) {
	t.Parallel()
	const content = "the content"
	spoilt := func(call string, err string) func(n *night, a store.Attachment) {
		return func(n *night, a store.Attachment) {
			n.watch(func(c string) error {
				if strings.HasPrefix(c, call) && strings.HasSuffix(c, blobs.Ref(a.SHA256).String()) {
					return errors.New(err)
				}
				return nil
			})
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(n *night, a store.Attachment)
		says  string
	}{
		{"a flipped bit", func(n *night, a store.Attachment) { n.OK(os.WriteFile(n.Path(a), []byte("The content"), 0o600)) },
			"its bytes are not those that were uploaded"},
		{"a short file", func(n *night, a store.Attachment) { n.OK(os.Truncate(n.Path(a), 5)) },
			"its bytes are not those that were uploaded"},
		{"an empty file", func(n *night, a store.Attachment) { n.OK(os.Truncate(n.Path(a), 0)) },
			"its bytes are not those that were uploaded"},
		{"no room for a mark", func(n *night, a store.Attachment) {
			n.OK(os.WriteFile(n.Path(a), []byte("The content"), 0o600))
			spoilt("create blobs/damaged", "no room")(n, a)
		}, "It could not be marked: no room."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNight(t)
			first, second := n.Keep(content, true), n.Keep(content, true)
			sound := n.keepMany(5, 10)
			c.spoil(n, first)
			status := n.scrub(evening.Add(time.Hour))
			if !status.LastPass.Equal(evening) || status.Damaged != 1 || status.Unreadable != 0 {
				t.Errorf("%+v", status)
			}
			faults := n.lines("found a fault")
			if len(faults) != 1 || faults[0]["level"] != "ERROR" || faults[0]["blob"] != blobs.Ref(first.SHA256).String() || !strings.Contains(faults[0]["what"].(string), c.says) {
				t.Fatalf("the log says %v", faults)
			}
			if got, want := fmt.Sprint(faults[0]["attachments"]), fmt.Sprintf(`[%s ("a.txt") %s ("a.txt")]`, first.ID, second.ID); got != want {
				t.Errorf("the log names %s, not %s", got, want)
			}
			if info, err := n.Blobs.Stat(t.Context(), first.SHA256); err != nil || !info.Damaged {
				t.Errorf("%+v, %v", info, err)
			}

			// It is read again, not reported again, and unmarked once it is right.
			n.watch(func(string) error { return nil })
			for pass, left := range []float64{1, 1, 0} {
				if pass == 2 {
					n.OK(os.WriteFile(n.Path(first), []byte(content), 0o600))
				}
				if pass > 0 {
					n.now, n.read = evening.Add(time.Duration(pass)*n.period), nil
					n.scrub(n.now.Add(time.Hour))
					slices.Sort(n.read) // marked contents are read before their turn, too
					if read := slices.Compact(n.read); len(read) != len(sound)+1 || len(n.lines("found a fault")) != 1 {
						t.Errorf("pass %d read %d contents", pass, len(read))
					}
				}
				if done := n.lines("has read all contents"); done[pass]["damaged"] != left {
					t.Errorf("the log says %v", done)
				}
			}
			if n.Blobs.Damaged() != 0 {
				t.Error("it is marked still")
			}
		})
	}
}

// A cable, a path to a disk or a file system may fail and recover: what cannot be read
// is not damaged, and is retried until it can be read.
func TestAScrubComesBackToWhatItCouldNotRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call string
		err  error
		says string
	}{
		"EIO":          {"read ", syscall.EIO, "The content cannot be read: "},
		"ETIMEDOUT":    {"read ", syscall.ETIMEDOUT, "The content cannot be read: "},
		"ESTALE":       {"open ", syscall.ESTALE, "The content cannot be opened: "},
		"EMFILE":       {"open ", syscall.EMFILE, "The content cannot be opened: "},
		"an early end": {"read ", io.EOF, "The content cannot be read: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNight(t)
			refs := n.keepMany(40, 10)
			whole := evening.Add(50 * time.Minute) // when the disk works again
			n.watch(func(call string) error {
				if n.now.Before(whole) && strings.HasPrefix(call, c.call+"blobs/sha256/") {
					return c.err
				}
				return nil
			})
			status := n.scrub(evening.Add(30*time.Minute), func(s upkeep.ScrubStatus) {
				if s.Unreadable > int64(1+n.now.Sub(evening)/time.Minute) {
					t.Fatalf("in %v it has tried %d contents of a disk that is away", n.now.Sub(evening), s.Unreadable)
				}
			})
			if n.Blobs.Damaged() != 0 || status.Damaged != 0 || status.Unreadable < 20 {
				t.Fatalf("%d are marked, %+v", n.Blobs.Damaged(), status)
			}
			told := n.lines("cannot read a content, and will try again")
			if len(told) != int(status.Unreadable) || !strings.HasPrefix(told[0]["what"].(string), c.says) || told[0]["level"] != "ERROR" || len(n.lines("found a fault")) > 0 {
				t.Errorf("the log says %v", told)
			}
			n.Close() // a restart forgets none of them
			n.Open()
			status = n.scrub(evening.Add(3 * time.Hour))
			read := slices.Compact(slices.Sorted(slices.Values(n.read)))
			if status.Unreadable != 0 || status.Damaged != 0 || n.Blobs.Damaged() != 0 || !slices.Equal(read, refs) {
				t.Errorf("%+v, %d are marked, and of %d contents %d were read", status, n.Blobs.Damaged(), len(refs), len(read))
			}
			if len(n.lines("has read a content that it could not read before")) < 20 || len(n.lines("has read all contents")) != 1 {
				t.Errorf("the log says %s", n.log.String())
			}
		})
	}
}

// One file in a bad sector delays no other, and is retried at growing intervals.
func TestAScrubGoesOnBesideWhatItCannotRead(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 10)
	tries := 0
	n.watch(func(call string) error {
		if strings.HasPrefix(call, "open ") && strings.HasSuffix(call, refs[7]) {
			tries++
			return syscall.EIO
		}
		return nil
	})
	status := n.scrub(evening.Add(48 * time.Hour))
	if status.Progress != 1 || status.LastPass.Sub(evening) != time.Minute || status.Unreadable != 1 || tries < 10 || tries > 20 {
		t.Errorf("%+v after %d tries", status, tries)
	}
	if told := n.lines("cannot read a content"); len(told) != 1 {
		t.Errorf("the log says %v", told)
	}
}

func TestAScrubSoonTakesAwayWrongMarks(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	wrong, right := n.Keep("whole", true), n.Keep("damaged", true)
	n.scrub(evening.Add(time.Minute))
	n.OK(os.WriteFile(n.Path(right), []byte("DAMAGED"), 0o600))
	for _, a := range []store.Attachment{wrong, right} {
		n.OK(n.Blobs.MarkDamaged(t.Context(), a.SHA256, nil))
	}
	n.Close()
	n.Open()
	n.scrub(evening.Add(10 * time.Minute)) // between two passes
	if info, err := n.Blobs.Stat(t.Context(), wrong.SHA256); err != nil || info.Damaged || n.Blobs.Damaged() != 1 {
		t.Errorf("%+v, %v, %d are marked", info, err, n.Blobs.Damaged())
	}
	n.OK(n.Blobs.MarkDamaged(t.Context(), wrong.SHA256, nil)) // while it runs
	n.scrub(evening.Add(7 * time.Hour))
	if n.Blobs.Damaged() != 1 {
		t.Errorf("%d are marked", n.Blobs.Damaged())
	}
}

// Contents from an earlier version get checksums, or the CRC-32 that these lack, and wrong
// ones are corrected.
func TestAScrubKeepsChecksums(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	earlier := n.Keep(strings.Repeat("earlier", 50_000), true)
	var sums blobs.Summer
	_, err := io.WriteString(&sums, strings.Repeat("earlier", 50_000))
	n.OK(err)
	n.OK(n.Records.AddChecksums(t.Context(), map[[32]byte][]byte{earlier.SHA256: sums.Sum()[:len(sums.Sum())-crc32.Size]}))
	large, wrong, small, rotten := n.Keep(strings.Repeat("large", 50_000), true), n.Keep(strings.Repeat("wrong", 50_000), true), n.Keep("small", true), n.Keep(strings.Repeat("rotten", 50_000), true)
	n.OK(os.WriteFile(n.Path(rotten), []byte(strings.Repeat("ROTTEN", 50_000)), 0o600))
	n.OK(n.Records.AddChecksums(t.Context(), map[[32]byte][]byte{wrong.SHA256: make([]byte, 8)}))
	n.scrub(evening.Add(time.Minute))
	for _, a := range []store.Attachment{large, wrong, earlier} {
		content, err := os.ReadFile(n.Path(a))
		n.OK(err)
		var want blobs.Summer
		_, err = want.Write(content)
		n.OK(err)
		if got, err := n.Records.Checksums(t.Context(), a.SHA256); err != nil || !bytes.Equal(got, want.Sum()) {
			t.Errorf("%x, %v, not %x", got, err, want.Sum())
		}
	}
	for _, a := range []store.Attachment{small, rotten} {
		if got, err := n.Records.Checksums(t.Context(), a.SHA256); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%x, %v", got, err)
		}
	}
	if warned := n.lines("checksums of a content were wrong"); len(warned) != 1 || warned[0]["blob"] != blobs.Ref(wrong.SHA256).String() {
		t.Errorf("the log says %v", warned)
	}
}

func TestANoteThatMakesNoSenseBeginsAnotherPass(t *testing.T) {
	t.Parallel()
	for note, warns := range map[string]bool{
		"": true, "{": true, "{}": true, "null": true, `"x"`: true, "\x00\xff": true, `{"began": 1}`: true,
		`{"began": "2026-01-15T21:00:00Z", "last": "../../etc"}`:     true,
		`{"began": "2026-01-15T21:00:00Z"}`:                          false,
		`{"began": "2126-01-15T21:00:00Z"}`:                          false, // by a clock that was wrong
		`{"began": "2026-01-15T21:00:00Z", "of a newer attachd": 1}`: false,
	} {
		n := newNight(t)
		refs := n.keepMany(3, 10)
		n.OK(n.Records.SetNote(t.Context(), "scrub", []byte(note)))
		n.scrub(evening.Add(time.Hour))
		n.wantRead(refs)
		if warned := len(n.lines("begins anew")) == 1; warned != warns {
			t.Errorf("%q: warned: %t", note, warned)
		}
	}
	n := newNight(t)
	n.keepMany(3, 10)
	n.OK(n.Records.SetNote(t.Context(), "scrub", []byte(`{"began": "2126-01-15T21:00:00Z", "done": true}`)))
	n.scrub(evening.Add(n.period + time.Hour))
	if len(n.read) != 3 {
		t.Errorf("a pass that was done in the future is the last: %s", n.read)
	}
}

func TestAScrubThatCannotGoOnTriesAgainLater(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(20, 10)
	lists := 0
	n.watch(func(call string) error {
		if call == "list blobs/sha256/"+refs[10][:2] {
			if lists++; lists <= 3 {
				return errors.New("no such disk")
			}
		}
		return nil
	})
	n.notes = &notebook{Store: n.Records, illegible: 2}
	status := n.scrub(evening.Add(time.Hour))
	n.wantRead(refs)
	if took := status.LastPass.Sub(evening); took != 5*time.Minute {
		t.Errorf("it took %v", took)
	}
	if told := n.lines("will try again"); len(told) != 5 || !strings.Contains(told[0]["error"].(string), "no light") || !strings.Contains(told[4]["error"].(string), "no such disk") {
		t.Errorf("the log says %v", told)
	}
}

func TestAScrubWithoutAPlaceForItsNoteGoesOnReading(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	refs := n.keepMany(5, 10)
	n.notes = &notebook{Store: n.Records, full: true}
	n.scrub(evening.Add(10 * time.Minute))
	n.wantRead(refs)
	if told := n.lines("could not be written down"); len(told) < 5 || len(told) > 15 {
		t.Errorf("the log says so %d times in ten minutes", len(told))
	}
}

func TestAScrubSaysOnceThatItsRateIsTooLow(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	n.keepMany(64, 64<<10)
	n.rate, n.period = 200<<10, 10*time.Second // 4 MB take twenty seconds
	n.busy = true
	n.scrub(evening.Add(21 * time.Second))
	warned := n.lines("late")
	if len(warned) != 1 || len(n.lines("has read all contents")) != 1 {
		t.Fatalf("the log says %s", n.log.String())
	}
	if needed := warned[0]["rate_needed"].(float64); needed < 350<<10 || needed > 450<<10 {
		t.Errorf("%v bytes a second are needed", needed)
	}
}

func TestAScrubOfNothingIsDone(t *testing.T) {
	t.Parallel()
	n := newNight(t)
	if status := n.scrub(evening.Add(time.Hour)); status.Progress != 1 || !status.LastPass.Equal(evening) || n.log.Len() > 0 {
		t.Errorf("%+v; the log says %s", status, n.log.String())
	}
}
