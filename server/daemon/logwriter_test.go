package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"attachd/server/config"
	"attachd/store"
)

// wobbly is a writer that accepts of each write as many bytes as its plan says, and
// after that everything.
type wobbly struct {
	bytes.Buffer
	plan []int
}

func (w *wobbly) Write(p []byte) (int, error) {
	if len(w.plan) == 0 {
		return w.Buffer.Write(p)
	}
	takes := w.plan[0]
	w.plan = w.plan[1:]
	n, _ := w.Buffer.Write(p[:min(takes, len(p))])
	return n, errors.New("no more")
}

// After records were moved away, each job is refused again and again, until somebody ends the
// server.
func TestWorkThatIsRefusedWhileRecordsAreMovedHasOneLine(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var cfg config.Config
	cfg.Log.Level, cfg.Log.Format = "info", "json"
	log, _, lines := logs(cfg, &out)
	for range 3 {
		log.Error("background job failed", "job", "prune audit log", "error", fmt.Errorf("pruning: %w", store.ErrFrozen))
		log.Warn("it could not be noted", "error", errors.Join(errors.New("first"), store.ErrFrozen))
	}
	log.Info("request", "error", store.ErrFrozen)
	log.Error("background job failed", "error", errors.New("the disk is broken"))
	lines.close()
	if said := out.String(); strings.Count(said, "\n") != 3 || strings.Count(said, "refused from now on") != 1 || !strings.Contains(said, `"first":"background job failed"`) || !strings.Contains(said, "the disk is broken") {
		t.Errorf("the log is\n%s", said)
	}
}

// A line that was cut off is ended before the number of lost lines is reported, so that
// no other line is appended to it.
func TestLinesAfterLostOnesAreWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan []int
		lost string
	}{
		"nothing was taken":        {[]int{0, 0}, "lines=1\n"},
		"half a line was taken":    {[]int{7, 0}, "lines=1\n"},
		"and what ends it was not": {[]int{7, 0, 0}, "lines=2\n"},
		"the report was cut off":   {[]int{0, 0, 30}, "lines=2\n"},
	} {
		out := &wobbly{plan: c.plan}
		w := newLogWriter(out, "text")
		for range 3 {
			if n, err := w.Write([]byte("a line that is longer\n")); n == 0 || err != nil {
				t.Fatal(n, err)
			}
			for waiting := true; waiting; { // until it is being written
				w.mu.Lock()
				waiting = len(w.queue) > 0
				w.mu.Unlock()
			}
		}
		w.close()
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix("a line that is longer\n", strings.TrimSpace(line)) && !strings.HasPrefix(line, "time=") {
				t.Errorf("%s: a line is %q", name, line)
			}
		}
		if strings.Count(out.String(), "lines=") != 1 || !strings.Contains(out.String(), c.lost) {
			t.Errorf("%s: the log holds %q", name, out.String())
		}
	}
}

// replacing returns a handler of slog alone that writes what logHandler's has to write.
func replacing(form string, w io.Writer) slog.Handler {
	options := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if form == "text" {
		return slog.NewTextHandler(w, options)
	}
	return slog.NewJSONHandler(w, options)
}

type late struct{ at time.Time }

func (l late) LogValue() slog.Value { return slog.TimeValue(l.at) }

// Each line is the one that slog's own handlers write, byte for byte, with all times in
// UTC, also those in groups and of values that are made when they are logged.
func TestLinesAreThoseOfSlogInUTC(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 29, 1, 30, 0, 123456789, time.FixedZone("CEST", 7200))
	attrs := []slog.Attr{
		slog.String("text", "a\x00\x1b[31m\"\\\n\r\t<&>\u2028\u202e\xff\U0001F600"), slog.String("", ""), slog.String("a key=\"\n", " "),
		slog.Int64("n", -1<<63), slog.Uint64("u", 1<<64-1), slog.Float64("f", 1e-300), slog.Float64("ms", 0.001), slog.Float64("nan", math.NaN()),
		slog.Bool("b", true), slog.Duration("d", time.Hour), slog.Time("at", at), slog.Any("error", errors.New("bad\nthing")),
		slog.Any("nil", nil), slog.Any("list", []string{"<a>", "\x00"}), slog.Any("late", late{at}), slog.Any("json", json.RawMessage(`{"a": 1}`)),
		slog.Group("group", slog.Time("in", at), slog.Group("deeper", slog.Any("late", late{at}))), slog.Group("empty"), {},
	}
	messages := map[string][]slog.Attr{"a message": nil, "<a \"message\"\n": attrs}
	for _, a := range attrs {
		messages["a message with "+a.Key] = []slog.Attr{a}
	}
	for b := range 256 {
		messages[fmt.Sprint("a byte ", b)] = []slog.Attr{slog.String("byte", string([]byte{'a', byte(b)}))}
	}
	for _, form := range []string{"text", "json"} {
		for name, with := range map[string]func(slog.Handler) slog.Handler{
			"plain":     func(h slog.Handler) slog.Handler { return h },
			"attrs":     func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) },
			"group":     func(h slog.Handler) slog.Handler { return h.WithGroup("g").WithAttrs(attrs) },
			"attrs, in": func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs).WithGroup("g") },
		} {
			var got, want bytes.Buffer
			ours, slogs := with(logHandler(form, &got, slog.LevelInfo)), with(replacing(form, &want))
			for message, attrs := range messages {
				record := slog.NewRecord(at, slog.LevelWarn+slog.Level(len(attrs)%2), message, 0)
				record.AddAttrs(attrs...)
				got.Reset()
				want.Reset()
				if err := errors.Join(ours.Handle(t.Context(), record), slogs.Handle(t.Context(), record)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), want.Bytes()) {
					t.Fatalf("%s, %s:\ngot  %s\nwant %s", form, name, got.Bytes(), want.Bytes())
				}
			}
		}
	}
}

// One line at a time is written at once; those that follow within logPause, together.
func TestALineIsWrittenAtOnceAndABurstTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &counting{}
		w := newLogWriter(out, "json")
		line := append(bytes.Repeat([]byte{'a'}, 1023), '\n')
		log := func(n int) {
			for range n {
				_, _ = w.Write(line)
				synctest.Wait()
			}
		}
		if log(1); out.writes.Load() != 1 {
			t.Errorf("one line was written by %d calls", out.writes.Load())
		}
		if log(100); out.writes.Load() != 1 {
			t.Errorf("a burst was written line by line, by %d calls", out.writes.Load()-1)
		}
		time.Sleep(logPause)
		if synctest.Wait(); out.writes.Load() > int64(1+101*len(line)/logChunk) || out.lines.Load() != 101 {
			t.Errorf("after %v, %d lines were written by %d calls", logPause, out.lines.Load(), out.writes.Load())
		}
		log(logBuffer / len(line))
		if out.lines.Load() < 500 || w.lost.Load() != 0 {
			t.Errorf("of more lines than are queued, %d were written and %d lost", out.lines.Load(), w.lost.Load())
		}
		began := time.Now()
		w.close()
		if time.Since(began) != 0 || out.lines.Load() != int64(101+logBuffer/len(line)) {
			t.Errorf("the end took %v, and %d lines were written", time.Since(began), out.lines.Load())
		}
	})
}

type counting struct{ writes, lines atomic.Int64 }

func (c *counting) Write(p []byte) (int, error) {
	c.writes.Add(1)
	c.lines.Add(int64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
}

func BenchmarkLine(b *testing.B) {
	attrs := []slog.Attr{
		slog.String("request_id", "a83a7ab6-3aa0-4c8b-8f68-9a4a3e2ff8f6"), slog.String("method", "GET"), slog.String("route", "/issues/attachments/:attachment"),
		slog.String("path", "/issues/attachments/a83a7ab6-3aa0-4c8b-8f68-9a4a3e2ff8f6"), slog.Int("status", 200), slog.Int64("bytes_in", 0), slog.Int64("bytes_out", 10240),
		slog.Float64("ms", 0.173), slog.String("address", "127.0.0.1"), slog.String("user", "a83a7ab6-3aa0-4c8b-8f68-9a4a3e2ff8f6"), slog.String("key", "a83a7ab6-3aa0-4c8b-8f68-9a4a3e2ff8f6"),
	}
	for _, form := range []string{"text", "json"} {
		for name, handler := range map[string]slog.Handler{"": logHandler(form, io.Discard, slog.LevelInfo), ", replacing": replacing(form, io.Discard)} {
			b.Run(form+name, func(b *testing.B) {
				log := slog.New(handler)
				b.ReportAllocs()
				for b.Loop() {
					log.LogAttrs(b.Context(), slog.LevelInfo, "request", attrs...)
				}
			})
		}
	}
}
