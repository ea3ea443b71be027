package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/term"

	"attachd/server/config"
	"attachd/store"
)

const (
	// logBuffer is how many bytes of the log may be queued.
	logBuffer = 1 << 20
	// logChunk is how many bytes are written at once, unless one line has more.
	// Writes to a pipe of up to this size are not mixed with those of other
	// processes (PIPE_BUF of Linux).
	logChunk = 4 << 10
	// logPause is the shortest time between the ends of two rounds of writing: the lines
	// of a busy server are written together, which costs it less. That much of the log
	// is lost when the process is killed.
	logPause = 20 * time.Millisecond
	// logPatience is how long a stop waits for the rest of the log to be read.
	logPatience = 2 * time.Second
)

// logWriter is a bounded queue between the log and its reader, which may stall
// (journald that is stopped, a pager) or end (a pipe to logger(1)). The server never
// waits for it: what does not fit or cannot be written is dropped and counted. A line
// reports how many lines were lost as soon as writing succeeds again.
type logWriter struct {
	out     io.Writer
	reports slog.Handler // writes to out too

	mu     sync.Mutex
	queue  []byte
	missed int           // lines dropped since queue was full
	closed bool          // by close
	more   chan struct{} // has an element when there is something to write or report
	urgent chan struct{} // has an element when that must not wait for the end of logPause
	ended  chan struct{} // closed after the last write

	unreported int          // used by the writing goroutine only: lost lines not reported yet
	cut        bool         // likewise: the last write ended inside a line
	lost       atomic.Int64 // total number of lost lines
}

// newLogWriter returns a writer to out; form is the format of the line about lost ones.
func newLogWriter(out io.Writer, form string) *logWriter {
	w := &logWriter{out: out, more: make(chan struct{}, 1), urgent: make(chan struct{}, 1), ended: make(chan struct{})}
	w.reports = logHandler(form, putter{w}, slog.LevelInfo)
	go w.run()
	return w
}

// Write queues a line, or counts it as lost. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(w.queue)+len(line) > logBuffer {
		w.missed++
		w.lost.Add(1)
	} else {
		w.queue = append(w.queue, line...)
	}
	much := len(w.queue) > logBuffer/4
	w.mu.Unlock()
	wake(w.more)
	if much {
		wake(w.urgent)
	}
	return len(line), nil
}

func wake(waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default: // it is awake already
	}
}

// close waits up to logPatience until what is queued is written.
func (w *logWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	wake(w.more)
	wake(w.urgent)
	select {
	case <-w.ended:
	case <-time.After(logPatience):
	}
}

func (w *logWriter) run() {
	defer close(w.ended)
	pause := time.NewTimer(logPause)
	var taken []byte
	for range w.more {
		w.mu.Lock()
		taken, w.queue = w.queue, taken[:0]
		missed, closed := w.missed, w.closed
		w.missed = 0
		w.mu.Unlock()
		w.writeAll(taken)
		w.unreported += missed
		w.report()
		if closed {
			return
		}
		pause.Reset(logPause)
		select {
		case <-pause.C:
		case <-w.urgent:
		}
	}
}

// writeAll writes lines in chunks. After a chunk that cannot be written, it tries the
// others: the reader may return.
func (w *logWriter) writeAll(lines []byte) {
	for len(lines) > 0 {
		end := bytes.LastIndexByte(lines[:min(len(lines), logChunk)], '\n') + 1
		if end == 0 {
			end = bytes.IndexByte(lines, '\n') + 1
		}
		w.write(lines[:end])
		lines = lines[end:]
	}
}

func (w *logWriter) write(lines []byte) {
	n := 0
	if w.report() {
		n, _ = w.put(lines) // what was not written is counted as lost
	}
	lost := bytes.Count(lines[n:], []byte("\n"))
	w.unreported += lost
	w.lost.Add(int64(lost))
}

// put writes p, and records whether the log ends inside a line.
func (w *logWriter) put(p []byte) (n int, err error) {
	n, err = w.out.Write(p)
	if n > 0 {
		w.cut = p[n-1] != '\n'
	}
	return n, err
}

// report writes how many lines were lost since the last report, and returns whether
// lines can follow.
func (w *logWriter) report() bool {
	if w.unreported == 0 {
		return true
	}
	if w.cut {
		if _, err := w.put([]byte("\n")); err != nil {
			return false
		}
	}
	record := slog.NewRecord(time.Now(), slog.LevelWarn, "lines of the log were lost, since what reads it had stalled or was gone", 0)
	record.AddAttrs(slog.Int("lines", w.unreported))
	if w.reports.Handle(context.Background(), record) != nil {
		return false
	}
	w.unreported = 0
	return true
}

// putter is an io.Writer that calls put.
type putter struct{ *logWriter }

func (p putter) Write(b []byte) (int, error) { return p.put(b) }

// logs returns the configured log, one in the same format for what a person waits for
// at start, whatever the level, and the writer of both.
func logs(cfg config.Config, stderr io.Writer) (log, say *slog.Logger, lines *logWriter) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		panic(err) // the configuration allows only these four
	}
	form := cfg.Log.Format
	if form == "auto" {
		form = "json"
		if isTerminal(stderr) {
			form = "text"
		}
	}
	lines = newLogWriter(stderr, form)
	return slog.New(&frozenOnce{Handler: logHandler(form, lines, level)}), slog.New(logHandler(form, lines, slog.LevelInfo)), lines
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// logHandler returns a handler whose times are in UTC, so that logs of several machines
// can be merged.
func logHandler(form string, w io.Writer, level slog.Level) slog.Handler {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindTime {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if form == "text" {
		return slog.NewTextHandler(w, options)
	}
	return &plainLines{slog.NewJSONHandler(w, options), w}
}

// frozenOnce writes one line instead of each that says that a database refuses changes while
// its records are moved, and afterwards: most background work tries again for ever.
type frozenOnce struct {
	slog.Handler
	told atomic.Bool
}

func (h *frozenOnce) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || !isFrozen(r) {
		return h.Handler.Handle(ctx, r)
	}
	if h.told.Swap(true) {
		return nil
	}
	once := slog.NewRecord(r.Time, slog.LevelWarn, "background work that changes records is refused from now on, while they are moved to another database and afterwards; where `attachd migrate` was killed, run it again, or with --give-up", 0)
	once.AddAttrs(slog.String("first", r.Message))
	return h.Handler.Handle(ctx, once)
}

// isFrozen says whether a line is about a change that was refused because records are moved.
func isFrozen(r slog.Record) (is bool) {
	r.Attrs(func(a slog.Attr) bool {
		err, _ := a.Value.Any().(error)
		is = errors.Is(err, store.ErrFrozen)
		return !is
	})
	return is
}

// plainLines writes the lines of which slog's handler would escape nothing, byte for
// byte as that one does but in a fraction of the time: each request has a line.
type plainLines struct {
	slog.Handler
	out io.Writer // may be called concurrently
}

var lineBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 1<<10)) }}

func (h *plainLines) Handle(ctx context.Context, r slog.Record) error {
	buffer := lineBuffers.Get().(*[]byte)
	defer lineBuffers.Put(buffer)
	line, plain := appendPlain((*buffer)[:0], r)
	if !plain {
		return h.Handler.Handle(ctx, r)
	}
	*buffer = line
	_, err := h.out.Write(line)
	return err
}

// appendPlain appends the line of a record in JSON, unless a part of it is not plain.
func appendPlain(line []byte, r slog.Record) (_ []byte, plain bool) {
	at := r.Time.UTC()
	if year := at.Year(); r.Time.IsZero() || year < 0 || year > 9999 || !isPlain(r.Message) {
		return line, false
	}
	line = append(line, `{"time":"`...)
	line = at.Round(0).AppendFormat(line, time.RFC3339Nano)
	line = append(line, `","level":"`...)
	line = append(line, r.Level.String()...)
	line = append(line, `","msg":"`...)
	line = append(line, r.Message...)
	line = append(line, '"')
	plain = true
	r.Attrs(func(a slog.Attr) bool {
		line, plain = appendPlainAttr(line, a)
		return plain
	})
	return append(line, "}\n"...), plain
}

func appendPlainAttr(line []byte, a slog.Attr) (_ []byte, plain bool) {
	if a.Key == "" || !isPlain(a.Key) {
		return line, false
	}
	line = append(line, `,"`...)
	line = append(line, a.Key...)
	line = append(line, `":`...)
	switch a.Value.Kind() {
	case slog.KindString:
		text := a.Value.String()
		line = append(line, '"')
		line = append(line, text...)
		return append(line, '"'), isPlain(text)
	case slog.KindInt64:
		return strconv.AppendInt(line, a.Value.Int64(), 10), true
	case slog.KindFloat64:
		f := a.Value.Float64()
		return strconv.AppendFloat(line, f, 'f', -1, 64), f == 0 || f >= 1e-6 && f < 1e21 // in that form in JSON
	case slog.KindBool:
		return strconv.AppendBool(line, a.Value.Bool()), true
	}
	return line, false
}

func isPlain(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
