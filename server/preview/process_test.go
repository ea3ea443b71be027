package preview

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"image"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"attachd/blobs/blobstest"
)

func TestMain(m *testing.M) {
	DecodeIfAsked()
	flag.Parse()
	blobstest.Short("TestAThumbnailLooksLikeItsPicture", "TestNoPictureIsExpensive", "TestATable.*")
	os.Exit(m.Run())
}

// within is the memory limit of a decoder process in tests, in bytes.
const within = 96 << 20

func asFile(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// skipWithRaces skips tests that start a process: with the race detector, it needs more
// memory than its limit.
func skipWithRaces(t *testing.T) {
	t.Helper()
	if races {
		t.Skip("the race detector needs more memory than a process that decodes may have")
	}
}

// A decoder process makes the same thumbnail of a file, and the same error.
func TestAnotherProcessMakesTheSameThumbnail(t *testing.T) {
	t.Parallel()
	skipWithRaces(t)
	for _, mimeType := range []string{"image/png", "image/jpeg", "image/gif", "image/bmp", "image/tiff"} {
		content := encoded(t, mimeType, quarters(700, 500))
		want, err := Thumbnail(t.Context(), bytes.NewReader(content), int64(len(content)), mimeType)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeInProcess(t.Context(), asFile(t, content), int64(len(content)), mimeType, within)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in a file: %d bytes, want %d: %v", mimeType, len(got), len(want), err)
		}
		got, err = DecodeInProcess(t.Context(), bytes.NewReader(content), int64(len(content)), mimeType, within)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in memory: %d bytes, want %d: %v", mimeType, len(got), len(want), err)
		}
	}
}

// The reason for the end of a process is distinguished: the file, a limit, the caller,
// or a disk.
func TestWhatEndsAProcessIsToldApart(t *testing.T) {
	t.Parallel()
	skipWithRaces(t)
	picture := encoded(t, "image/png", image.NewNRGBA(image.Rect(0, 0, 4000, 3000)))
	for name, c := range map[string]struct {
		content []byte
		bounds  bounds
		want    error
		not     error
	}{
		"a cut picture":              {picture[:len(picture)-40], bounds{within, time.Minute}, ErrNone, ErrKilled},
		"what is none":               {[]byte("no picture"), bounds{within, time.Minute}, ErrNone, ErrKilled},
		"too little memory":          {picture, bounds{40 << 20, time.Minute}, ErrNone, ErrKilled}, // according to its header
		"too little for the process": {picture, bounds{1 << 20, time.Minute}, ErrNone, nil},
		"too little time":            {picture, bounds{within, time.Millisecond}, ErrKilled, nil},
	} {
		_, err := c.bounds.decode(t.Context(), asFile(t, c.content), int64(len(c.content)), "image/png")
		if !errors.Is(err, c.want) || c.not != nil && errors.Is(err, c.not) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := DecodeInProcess(gone, asFile(t, picture), int64(len(picture)), "image/png", within); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
	if _, err := DecodeInProcess(t.Context(), failing{}, int64(len(picture)), "image/png", within); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("with a disk that fails: %v", err)
	}
	if _, err := DecodeInProcess(t.Context(), asFile(t, picture[:100]), int64(len(picture)), "image/png", within); err == nil {
		t.Error("of a file that is shorter than it says there is a thumbnail")
	}
}

// The process has no environment, cannot open anything, and is the first that the
// kernel kills when memory runs out.
// ASVS 5.2.6
func TestTheProcessThatDecodesHasNoRights(t *testing.T) {
	t.Parallel()
	skipWithRaces(t)
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows what a process may do")
	}
	asFile(t, nil) // stays open meanwhile, as a server's files do
	waits, leave := context.WithCancel(t.Context())
	content := &endless{begun: make(chan bool, 1), end: make(chan bool)}
	ended := make(chan error, 1)
	go func() {
		_, err := DecodeInProcess(waits, content, 1<<20, "image/bmp", within)
		ended <- err
	}()
	<-content.begun
	pid := decoderOf(t, os.Getpid())
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("/proc", pid, name))
		if err != nil && os.Getuid() == 0 {
			t.Error(err)
		}
		return string(text)
	}
	confined := func() bool {
		return strings.Contains(strings.Join(strings.Fields(read("limits")), " "), "Max open files 0 0")
	}
	for deadline := time.Now().Add(time.Minute); !confined() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	limits := strings.Join(strings.Fields(read("limits")), " ")
	for _, want := range []string{"Max open files 0 0", "Max file size 0 0", "Max core file size 0 0", "Max cpu time 12 12"} {
		if !strings.Contains(limits, want) {
			t.Errorf("there is no %q in %s", want, limits)
		}
	}
	if os.Getuid() == 0 { // other users may not read it
		if env := read("environ"); env != "" {
			t.Errorf("its environment is %q", env)
		}
		if got := strings.TrimSpace(read("oom_score_adj")); got != "1000" {
			t.Errorf("oom_score_adj is %s", got)
		}
		files, err := filepath.Glob(filepath.Join("/proc", pid, "fd", "*"))
		if err != nil {
			t.Error(err)
		}
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && strings.HasSuffix(to, "/content") {
				t.Errorf("it has %s open", to)
			}
		}
	}
	leave()
	close(content.end)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if _, err := os.Stat(filepath.Join("/proc", pid)); err == nil {
		t.Error("it goes on although nobody waits for it")
	}
}

// endless is a content whose reads never return.
type endless struct {
	begun chan bool
	end   chan bool
}

func (e *endless) ReadAt(p []byte, at int64) (int, error) {
	if at == 0 {
		copy(p, bmpHeader(2000, 1000))
		return len(p), nil
	}
	select {
	case e.begun <- true:
	default:
	}
	<-e.end
	return 0, errDisk
}

// decoderOf returns the decoder process of another process.
func decoderOf(t *testing.T, parent int) (pid string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range stats {
		status, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(status), "PPid:\t"+strconv.Itoa(parent)+"\n") {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && strings.Contains(string(line), decoderCommand+"\x00image/bmp\x00"+strconv.Itoa(1<<20)+"\x00") {
			return filepath.Base(filepath.Dir(path))
		}
	}
	t.Fatal("there is no process that decodes")
	return ""
}
