package preview

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// ErrKilled means that a picture has no thumbnail because its decoding exceeded its
// limit of time or memory.
var ErrKilled = fmt.Errorf("%w: decoding it took too much time or memory", ErrNone)

// ErrNotRun means that no decoder process could be run, perhaps for want of memory,
// processes or open files. It does not mean that the picture is damaged.
var ErrNotRun = errors.New("running a process that decodes pictures")

// decoderCommand is the first command-line argument of a decoder process.
const decoderCommand = "decode-picture"

// Limits of a decoder process.
const (
	// decoderTime is how much processor time it may use.
	decoderTime = 10 * time.Second
	// decoderPatience is how long it may run, including all waits.
	decoderPatience = 30 * time.Second
	// pipesPatience is how long its pipes may stay open after it has ended: on a busy
	// machine, a thumbnail may not have been read from its pipe yet, and the read of a
	// content may hang with its disk for ever.
	pipesPatience = 10 * time.Second
	// decoderOwn is how many bytes of its memory are for the process itself rather than
	// for the picture.
	decoderOwn = 14 << 20
)

// Exit codes of a decoder process.
const (
	exitNone    = 3 // there is no thumbnail; the reason is on standard error
	exitRead    = 4 // the content could not be read
	exitTooMuch = 5 // it exceeded its time or memory
)

// DecodeInProcess is Thumbnail in a separate process: this program, started with only
// two pipes, one for the content and one for the thumbnail, and limited to the given
// bytes of memory. It is killed when ctx ends. The error is ErrKilled when it exceeded
// a limit.
func DecodeInProcess(ctx context.Context, content io.ReaderAt, size int64, mimeType string, memory int64) ([]byte, error) {
	return bounds{memory, decoderTime}.decode(ctx, content, size, mimeType)
}

// bounds are the resource limits of a decoder process.
type bounds struct {
	memory int64 // bytes
	time   time.Duration
}

func (b bounds) decode(ctx context.Context, content io.ReaderAt, size int64, mimeType string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, decoderPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, self(), decoderCommand, mimeType, strconv.FormatInt(size, 10), strconv.FormatInt(b.memory, 10), b.time.String())
	cmd.Env = []string{}
	cmd.WaitDelay = pipesPatience
	src := &piped{r: io.NewSectionReader(content, 0, size)}
	cmd.Stdin = src
	thumbnail, said := &bounded{most: maxCached}, &bounded{most: 4 << 10}
	cmd.Stdout, cmd.Stderr = thumbnail, said
	apart(cmd)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case src.failed.Load() != nil && ctx.Err() == nil:
		return nil, *src.failed.Load()
	case err == nil && !thumbnail.cut && thumbnail.Len() > 0:
		return thumbnail.Bytes(), nil
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, ctx.Err()
	case ctx.Err() != nil:
		return nil, ErrKilled
	case err == nil:
		return nil, fmt.Errorf("%w: the process that decodes gave no thumbnail", ErrNone)
	case !errors.As(err, &exit):
		return nil, fmt.Errorf("%w: %w", ErrNotRun, err)
	}
	switch exit.ExitCode() {
	case exitNone:
		return nil, fmt.Errorf("%w: %s", ErrNone, said)
	case exitRead:
		return nil, fmt.Errorf("the process that decodes pictures: %s", said)
	}
	// -1 means that a signal ended it; 2 that Go's runtime found no more memory.
	return nil, fmt.Errorf("%w: %w: %s", ErrKilled, err, said)
}

// piped is a reader that remembers why a content could not be read. It may be read from
// after the process that it feeds has ended.
type piped struct {
	r      io.Reader
	failed atomic.Pointer[error]
}

func (p *piped) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && err != io.EOF {
		p.failed.Store(&err)
	}
	return n, err
}

// self is the path of this program, which works even after its file was replaced.
func self() string {
	if runtime.GOOS == "linux" {
		const running = "/proc/self/exe"
		if _, err := os.Stat(running); err == nil {
			return running
		}
	}
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// bounded is a writer that keeps the first bytes and discards the rest.
type bounded struct {
	bytes.Buffer
	most int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := p[:min(len(p), b.most-b.Len())]
	b.cut = b.cut || len(room) < len(p)
	b.Buffer.Write(room)
	return len(p), nil
}

// DecodeIfAsked must be called first in a program that calls DecodeInProcess: in a
// decoder process it does not return.
func DecodeIfAsked() {
	if len(os.Args) != 6 || os.Args[1] != decoderCommand {
		return
	}
	size, badSize := strconv.ParseInt(os.Args[3], 10, 64)
	memory, badMemory := strconv.ParseInt(os.Args[4], 10, 64)
	processor, badTime := time.ParseDuration(os.Args[5])
	if err := errors.Join(badSize, badMemory, badTime); err != nil {
		fmt.Fprint(os.Stderr, err)
		os.Exit(exitRead)
	}
	b := bounds{memory, processor}
	b.confine()
	os.Exit(decode(os.Stdin, size, os.Args[2], memory-decoderOwn))
}

// confine takes from this process what it does not need. It continues where the system
// does not allow that: stop enforces the limits in any case.
func (b bounds) confine() {
	runtime.GOMAXPROCS(2) // only one of them decodes
	debug.SetGCPercent(20)
	debug.SetMemoryLimit(b.memory - 4<<20)
	b.confineSystem()
	go b.stop()
}

// decode writes the thumbnail of the content that it reads, and returns the exit code.
func decode(content io.Reader, size int64, mimeType string, memory int64) int {
	if mimeType == "image/tiff" {
		memory -= size // the content is read at random, and so kept in memory
	}
	again := &replay{r: content, size: size}
	thumbnail, err := thumbnailWithin(context.Background(), again.rewind, size, mimeType, float64(memory))
	if err == nil {
		_, err = os.Stdout.Write(thumbnail)
	}
	switch {
	case errors.Is(err, ErrNone):
		fmt.Fprint(os.Stderr, err)
		return exitNone
	case err != nil:
		fmt.Fprint(os.Stderr, err)
		return exitRead
	}
	return 0
}

// stop ends the process when it has exceeded a limit, or when nobody waits for it any
// more. The limits that the system enforces differ between systems, and are not exact.
func (b bounds) stop() {
	parent := os.Getppid()
	for range time.Tick(5 * time.Millisecond) {
		if goMemory() > b.memory || processorTime() > b.time {
			os.Exit(exitTooMuch)
		}
		if os.Getppid() != parent {
			os.Exit(1)
		}
	}
}

// goMemory is how many bytes of memory Go's runtime holds.
func goMemory() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}

// keptHeader is how many bytes of a stream are kept before a buffer for all of it is
// allocated: few files are read again after more.
const keptHeader = 1 << 20

// replay is a reader of a stream that keeps what is to be read again.
type replay struct {
	r    io.Reader
	size int64 // of the whole stream, in bytes
	kept []byte
	next []byte // the kept bytes that the current reading has not returned yet
	last bool   // this reading is the last
}

// rewind starts the next reading; last means that no other follows.
func (r *replay) rewind(last bool) io.Reader {
	r.next, r.last = r.kept, last
	return r
}

func (r *replay) Read(p []byte) (int, error) {
	if len(r.next) > 0 {
		n := copy(p, r.next)
		r.next = r.next[n:]
		return n, nil
	}
	if r.last {
		r.kept, r.next = nil, nil
		return r.r.Read(p)
	}
	n, err := r.r.Read(p)
	if len(r.kept) > keptHeader && int64(cap(r.kept)) < r.size {
		r.kept = slices.Grow(r.kept, int(r.size)-len(r.kept)) // once: growing needs the memory twice
	}
	r.kept = append(r.kept, p[:n]...)
	return n, err
}
