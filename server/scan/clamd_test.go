package scan_test

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"attachd/server/scan"
)

// fakeClamd is a server that handles each connection with a function of the test.
type fakeClamd struct {
	address string
	scans   atomic.Int32 // in progress
	most    atomic.Int32 // in progress at the same time
}

// listen serves on a socket of the given network until the test ends, by when every
// connection must have been closed.
func listen(t *testing.T, network string, answer func(t *testing.T, c *conn)) *fakeClamd {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeClamd{address: network + ":" + listener.Addr().String()}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer raw.Close()
				now := f.scans.Add(1)
				for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
				}
				answer(t, &conn{Conn: raw, Reader: bufio.NewReader(raw)})
				f.scans.Add(-1)
				io.Copy(io.Discard, raw) // until the client closes
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		open.Wait()
	})
	return f
}

func (f *fakeClamd) client(t *testing.T, timeout time.Duration) *scan.Clamd {
	t.Helper()
	c, err := scan.New(f.address, timeout)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type conn struct {
	net.Conn
	*bufio.Reader
}

func (c *conn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func (c *conn) command(t *testing.T) string {
	command, err := c.ReadString(0)
	if err != nil {
		t.Errorf("reading the command: %v", err)
	}
	return command
}

// content reads a stream to its end.
func (c *conn) content(t *testing.T) []byte {
	if command := c.command(t); command != "zINSTREAM\x00" {
		t.Errorf("the command is %q", command)
	}
	var all []byte
	for {
		var length uint32
		if err := binary.Read(c, binary.BigEndian, &length); err != nil {
			t.Errorf("reading the length of a chunk: %v", err)
			return nil
		}
		if length == 0 {
			return all
		}
		chunk := make([]byte, length)
		if _, err := io.ReadFull(c, chunk); err != nil {
			t.Errorf("reading a chunk: %v", err)
			return nil
		}
		all = append(all, chunk...)
	}
}

// says reads all, then sends a reply.
func says(reply string) func(*testing.T, *conn) {
	return func(t *testing.T, c *conn) {
		c.content(t)
		io.WriteString(c.Conn, reply)
	}
}

// cuts reads all, sends the beginning of a reply, and closes the connection.
func cuts(reply string) func(*testing.T, *conn) {
	return func(t *testing.T, c *conn) {
		says(reply)(t, c)
		c.Close()
	}
}

// interrupts replies after the first bytes and reads no more.
func interrupts(reply string, end bool) func(*testing.T, *conn) {
	return func(t *testing.T, c *conn) {
		c.command(t)
		io.WriteString(c.Conn, reply)
		if end {
			c.Close()
			return
		}
		hangs(t, c) // the client must return although nothing that it sends is read
	}
}

// unread replies when it has read n bytes after the command, and closes the connection
// before it reads the rest.
func unread(reply string, n int) func(*testing.T, *conn) {
	return func(t *testing.T, c *conn) {
		io.ReadFull(c.Conn, make([]byte, len("zINSTREAM\x00")+n)) // a buffered reader would read more
		io.WriteString(c.Conn, reply)
		io.ReadFull(c.Conn, make([]byte, 1))
		c.Close()
	}
}

// hangs reads nothing until the test ends.
func hangs(t *testing.T, _ *conn) { <-t.Context().Done() }

// ASVS 5.4.3
func TestWhatClamdSaysOfAContent(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // more than any socket buffers
	for name, c := range map[string]struct {
		answer    func(*testing.T, *conn)
		content   []byte
		signature string
		err       string
		limit     bool
	}{
		"clean":                                 {answer: says("stream: OK\x00")},
		"malware":                               {answer: says("stream: Eicar-Test FOUND\x00"), signature: "Eicar-Test"},
		"malware with a strange name":           {answer: says("stream: A b: OK FOUND\x00"), signature: "A b: OK"},
		"an error":                              {answer: says("INSTREAM: Can't write to file. ERROR\x00"), err: "Can't write to file"},
		"too long a stream":                     {answer: says("INSTREAM size limit exceeded. ERROR\x00"), err: "size limit exceeded", limit: true},
		"a limit of the scan":                   {answer: says("stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\x00"), err: "MaxFileSize", limit: true},
		"an older name of that":                 {answer: says("stream: Heuristics.Limits.Exceeded FOUND\x00"), err: "Limits.Exceeded", limit: true},
		"a find without a name":                 {answer: says("stream:  FOUND\x00"), err: "answered"},
		"an empty reply":                        {answer: says("\x00"), err: `answered ""`},
		"another reply":                         {answer: says("stream: OK maybe\x00"), err: "OK maybe"},
		"a reply of another command":            {answer: says("PONG\x00"), err: "PONG"},
		"a file that is OK":                     {answer: says("/tmp/x: OK\x00"), err: "/tmp/x"},
		"a cut reply":                           {answer: cuts("stream: OK"), err: "no whole answer"},
		"no reply":                              {answer: cuts(""), err: "no whole answer"},
		"a reply without an end":                {answer: says(strings.Repeat("stream: OK ", 1000)), err: "no whole answer"},
		"too long, and no more is read":         {answer: interrupts("INSTREAM size limit exceeded. ERROR\x00", false), content: large, err: "size limit exceeded", limit: true},
		"malware at the beginning":              {answer: interrupts("stream: Early FOUND\x00", false), content: large, signature: "Early"},
		"clean before it has all":               {answer: interrupts("stream: OK\x00", false), content: large, err: "before it had all"},
		"clean before it reads any of it":       {answer: unread("stream: OK\x00", 0), err: "before it had all"},
		"clean before it reads any of a little": {answer: unread("stream: OK\x00", 0), content: []byte("a little"), err: "before it had all"},
		"clean before it reads the end":         {answer: unread("stream: OK\x00", 4+8), content: []byte("a little"), err: "before it had all"},
		"an end in the middle":                  {answer: interrupts("", true), content: large, err: "no whole answer"},
		"a cut reply in the middle":             {answer: interrupts("stream: O", true), content: large, err: "no whole answer"},
	} {
		for _, network := range []string{"unix", "tcp"} {
			t.Run(network+" "+name, func(t *testing.T) {
				t.Parallel()
				clamd := listen(t, network, c.answer).client(t, 20*time.Second)
				clamd.HoldBack(0)
				signature, err := clamd.Scan(t.Context(), bytes.NewReader(c.content))
				if signature != c.signature || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) || errors.Is(err, scan.ErrLimit) != c.limit {
					t.Errorf("found %q, error %v; want %q, %q", signature, err, c.signature, c.err)
				}
			})
		}
	}
}

// A reply that comes before the end of a content was sent covers only a part of it,
// even if that part is all of a small content.
func TestNoContentIsCleanBeforeItsEnd(t *testing.T) {
	t.Parallel()
	content := "a little"
	for _, network := range []string{"unix", "tcp"} {
		f := listen(t, network, func(t *testing.T, c *conn) {
			c.command(t)
			io.CopyN(io.Discard, c, int64(4+len(content)))
			io.WriteString(c.Conn, "stream: OK\x00")
		})
		c := f.client(t, 20*time.Second)
		c.HoldBack(time.Hour)
		if _, err := c.Scan(t.Context(), strings.NewReader(content)); err == nil || !strings.Contains(err.Error(), "before it had all") {
			t.Errorf("%s: %v", network, err)
		}
	}
}

func TestClamdGetsTheContentByteForByte(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 128<<10 - 1, 128 << 10, 128<<10 + 1, 3 << 20} {
		content := bytes.Repeat([]byte("0123456789abc"), n/13+1)[:n]
		got := make(chan []byte, 1)
		f := listen(t, "unix", func(t *testing.T, c *conn) {
			got <- c.content(t)
			io.WriteString(c.Conn, "stream: OK\x00")
		})
		if signature, err := f.client(t, 20*time.Second).Scan(t.Context(), iotest.HalfReader(bytes.NewReader(content))); signature != "" || err != nil {
			t.Errorf("%d bytes: found %q, %v", n, signature, err)
		}
		if !bytes.Equal(<-got, content) {
			t.Errorf("%d bytes did not arrive as they were", n)
		}
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestAClamdThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"unix", "tcp"} {
		for name, size := range map[string]int64{"at its reply": 1, "in the content": 64 << 20} {
			t.Run(network+" "+name, func(t *testing.T) {
				t.Parallel()
				c := listen(t, network, hangs).client(t, 100*time.Millisecond)
				if _, err := c.Scan(t.Context(), io.LimitReader(zeros{}, size)); err == nil || !strings.Contains(err.Error(), "clamd did not answer within 100ms") {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAScanEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := listen(t, "unix", func(t *testing.T, c *conn) {
		cancel()
		hangs(t, c)
	})
	if _, err := f.client(t, time.Hour).Scan(ctx, io.LimitReader(zeros{}, 64<<20)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestAClamdThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"unix", "tcp"} {
		gone, err := net.Listen(network, map[string]string{"unix": filepath.Join(t.TempDir(), "s"), "tcp": "127.0.0.1:0"}[network])
		if err != nil {
			t.Fatal(err)
		}
		gone.Close()
		c, err := scan.New(network+":"+gone.Addr().String(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if signature, err := c.Scan(t.Context(), strings.NewReader("a")); signature != "" || err == nil {
			t.Errorf("%s: found %q, %v", network, signature, err)
		}
		if err := c.Ping(t.Context()); err == nil {
			t.Errorf("%s: a ping was answered", network)
		}
	}
}

func TestAContentThatCannotBeReadIsNotClean(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is broken")
	content := io.MultiReader(io.LimitReader(zeros{}, 1<<20), iotest.ErrReader(broken))
	f := listen(t, "unix", func(_ *testing.T, c *conn) {
		io.Copy(io.Discard, c) // until the client gives up: the content has no end
		io.WriteString(c.Conn, "stream: OK\x00")
	})
	if signature, err := f.client(t, 20*time.Second).Scan(t.Context(), content); signature != "" || !errors.Is(err, broken) {
		t.Errorf("found %q, %v", signature, err)
	}
}

func TestAPingIsAnsweredWithPong(t *testing.T) {
	t.Parallel()
	for reply, good := range map[string]bool{"PONG\x00": true, "PONG": false, "UNKNOWN COMMAND\x00": false, "": false} {
		f := listen(t, "tcp", func(t *testing.T, c *conn) {
			if command := c.command(t); command != "zPING\x00" {
				t.Errorf("the command is %q", command)
			}
			io.WriteString(c.Conn, reply)
			c.Close()
		})
		if err := f.client(t, time.Minute).Ping(t.Context()); (err == nil) != good {
			t.Errorf("%q: %v", reply, err)
		}
	}
}

// clamd would refuse more at once than it has threads for.
func TestTenContentsAreScannedAtOnceAndTheOthersWait(t *testing.T) {
	t.Parallel()
	begun, goOn := make(chan struct{}, 100), make(chan struct{})
	f := listen(t, "unix", func(t *testing.T, c *conn) {
		begun <- struct{}{}
		<-goOn
		says("stream: OK\x00")(t, c)
	})
	c := f.client(t, 20*time.Second)
	var scans sync.WaitGroup
	for range 50 {
		scans.Go(func() {
			if _, err := c.Scan(t.Context(), strings.NewReader("a")); err != nil {
				t.Error(err)
			}
		})
	}
	for range 10 {
		<-begun
	}
	waiting, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Scan(waiting, strings.NewReader("a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a scan that cannot begin ends with %v", err)
	}
	close(goOn)
	scans.Wait()
	if most := f.most.Load(); most > 10 {
		t.Errorf("%d went on at once", most)
	}
}

// ASVS 13.1.2, 13.1.3, 13.2.6
func TestAScanDoesNotWaitForeverToBegin(t *testing.T) {
	t.Parallel()
	c := listen(t, "unix", hangs).client(t, 300*time.Millisecond)
	var scans sync.WaitGroup
	for range 20 {
		scans.Go(func() {
			if _, err := c.Scan(t.Context(), strings.NewReader("a")); err == nil {
				t.Error("a clamd that hangs called it clean")
			}
		})
	}
	scans.Wait()
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for address, good := range map[string]bool{
		"unix:/run/clamav/clamd.ctl": true, "unix:relative": true, "tcp:127.0.0.1:3310": true, "tcp:[::1]:3310": true, "tcp:scanner.example:3310": true,
		"": false, "unix:": false, "unix": false, "/run/clamav/clamd.ctl": false, "127.0.0.1:3310": false, "tcp:127.0.0.1": false, "tcp::3310": false, "tcp:host:": false,
		"tcp:127.0.0.1:99999": false, "tcp:127.0.0.1:0": false, "tcp:127.0.0.1:clamd": false, "tcp:127.0.0.1:-1": false, "tcp:127.0.0.1:65535": true,
		"udp:127.0.0.1:3310": false, "http://127.0.0.1:3310": false,
	} {
		if _, err := scan.New(address, time.Second); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// probed returns the content of a probe of the given size, and its result for a reply.
func probed(t *testing.T, size int64, reply string) (content []byte, seen bool, err error) {
	t.Helper()
	got := make(chan []byte, 1)
	f := listen(t, "unix", func(t *testing.T, c *conn) {
		got <- c.content(t)
		io.WriteString(c.Conn, reply)
	})
	seen, err = f.client(t, 20*time.Second).Probe(t.Context(), size)
	return <-got, seen, err
}

func TestAProbeIsAsLargeAsAskedForAndEndsWithTheTestFile(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{1 << 10, 1 << 20, 50 << 20} {
		content, seen, err := probed(t, size, "stream: Eicar-Signature FOUND\x00")
		if !seen || err != nil || int64(len(content)) != size {
			t.Errorf("a probe of %d bytes has %d: %t, %v", size, len(content), seen, err)
		}
		archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		last := archive.File[len(archive.File)-1]
		r, err := last.Open()
		if err != nil {
			t.Fatal(err)
		}
		test, err := io.ReadAll(r)
		if sum := md5.Sum(test); err != nil || hex.EncodeToString(sum[:]) != "44d88612fea8a8f36de82e1278abb02f" {
			t.Errorf("the test file is %x: %v", sum, err)
		}
	}
	if _, seen, err := probed(t, 1<<20, "stream: OK\x00"); seen || err != nil {
		t.Errorf("a probe that is called clean: %t, %v", seen, err)
	}
	if _, seen, err := probed(t, 1<<20, "stream: Heuristics.Limits.Exceeded.MaxScanSize FOUND\x00"); seen || !errors.Is(err, scan.ErrLimit) {
		t.Errorf("a probe beyond a limit: %t, %v", seen, err)
	}
}
