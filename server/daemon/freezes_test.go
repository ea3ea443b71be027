package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// piped is one end of a net.Pipe as a stream.
type piped struct{ net.Conn }

func (piped) CloseWrite() error { return nil }

// A server waits 20 seconds for a client, and is frozen for a part of them.
func TestTimeInWhichTheProcessStandsStillIsNotHeldAgainstClients(t *testing.T) {
	t.Parallel()
	const patience = 20 * time.Second
	for _, c := range []struct {
		name         string
		stops, wakes time.Duration
		acts         time.Duration // when the client does; 0 is never
		ends         time.Duration // when the server stops waiting
	}{
		{"it never stands still", 0, 0, 0, 20 * time.Second},
		{"the client acts in time", 0, 0, 19 * time.Second, 0},
		{"the client acts when the process wakes", 5 * time.Second, 65 * time.Second, 66 * time.Second, 0},
		{"the client uses what was left", 5 * time.Second, 65 * time.Second, 79 * time.Second, 0},
		{"the client never acts", 5 * time.Second, 65 * time.Second, 0, 80 * time.Second},
		{"the process wakes before the deadline", 5 * time.Second, 15 * time.Second, 0, 30 * time.Second},
		{"two seconds are no freeze", 5 * time.Second, 7 * time.Second, 0, 20 * time.Second},
	} {
		for does, set := range map[string]struct {
			deadline func(*clientConn, time.Time) error
			wait     func(*clientConn) error
			act      func(net.Conn) error
		}{
			"read": {(*clientConn).SetReadDeadline,
				func(c *clientConn) error { _, err := io.ReadFull(c, make([]byte, 2)); return err },
				func(c net.Conn) error { _, err := c.Write([]byte("ab")); return err }},
			"write what is held": {(*clientConn).SetWriteDeadline,
				func(c *clientConn) error {
					c.Hold()
					if n, err := c.Write([]byte("a")); n != 1 || err != nil {
						return fmt.Errorf("it holds %d bytes: %w", n, err)
					}
					_, err := c.Write([]byte("b"))
					return err
				},
				func(c net.Conn) error { _, err := io.ReadFull(c, make([]byte, 2)); return err }},
			"write": {(*clientConn).SetWriteDeadline,
				func(c *clientConn) error { _, err := c.Write([]byte("ab")); return err },
				func(c net.Conn) error { _, err := io.ReadFull(c, make([]byte, 2)); return err }},
		} {
			t.Run(does+", "+c.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					begun := time.Now()
					freezes := newFreezes(begun)
					server, client := net.Pipe()
					defer client.Close()
					conn := newClientConn(piped{server}, freezes)
					defer conn.Close()
					if err := set.deadline(conn, begun.Add(patience)); err != nil {
						t.Fatal(err)
					}
					waited := make(chan error, 1)
					go func() { waited <- set.wait(conn) }()
					for second := range 100 {
						at := time.Duration(second) * time.Second
						if at <= c.stops || at >= c.wakes {
							freezes.record(time.Now())
						}
						if c.acts != 0 && at == c.acts {
							if err := set.act(client); err != nil {
								t.Fatalf("after %s the server is gone: %v", at, err)
							}
						}
						time.Sleep(time.Second)
						select {
						case err := <-waited:
							after := at + time.Second
							if c.acts != 0 && err != nil || c.acts == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
								t.Errorf("after %s: %v", after, err)
							}
							if off := after - c.ends; c.acts == 0 && (off < 0 || off > 2*time.Second) {
								t.Errorf("it waited %s, not %s", after, c.ends)
							}
							return
						default:
						}
					}
					t.Error("it waits for ever")
				})
			})
		}
	}
}

// A file that is being sent when the process stands still arrives as it is.
func TestAFileIsSentOnAfterAFreeze(t *testing.T) {
	t.Parallel()
	freezes := newFreezes(time.Now())
	conn, client := connected(t, freezes)
	file, content := largeFile(t)
	const skipped = 1000
	if _, err := file.Seek(skipped, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(50 * time.Millisecond)
	if err := conn.SetWriteDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	conn.write.set = deadline.Add(-time.Second) // also where this process had to wait for a processor until now
	freezes.began, freezes.end = deadline.Add(-time.Millisecond), deadline.Add(time.Hour)
	freezes.beat = freezes.end // such waits do not count as another freeze
	sent := make(chan error, 1)
	go func() {
		n, err := conn.ReadFrom(io.LimitReader(file, int64(len(content))))
		if err == nil && n != int64(len(content)-skipped) {
			err = fmt.Errorf("sent %d bytes", n)
		}
		sent <- errors.Join(err, conn.CloseWrite())
	}()
	for moved := false; !moved; { // until then the client reads nothing
		time.Sleep(time.Millisecond)
		conn.write.mu.Lock()
		moved = conn.write.deadline != deadline
		conn.write.mu.Unlock()
	}
	got, err := io.ReadAll(client)
	if err = errors.Join(err, <-sent); err != nil || !bytes.Equal(got, content[skipped:]) {
		t.Errorf("got %d of %d bytes: %v", len(got), len(content)-skipped, err)
	}
}

// A read or write that is to end at once ends, whatever happened before.
func TestADeadlineThatIsOverWhenItIsSetIsNotMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		freezes := newFreezes(time.Now())
		server, client := net.Pipe()
		defer client.Close()
		conn := newClientConn(piped{server}, freezes)
		defer conn.Close()
		time.Sleep(time.Minute)
		for _, over := range []time.Time{time.Now(), time.Unix(1, 0)} {
			if err := conn.SetReadDeadline(over); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) > 0 {
				t.Errorf("after %s: %v", time.Since(begun), err)
			}
		}
	})
}

// Over HTTP/2, a deadline is applied to net/http only once it is over, and never after
// its request has ended.
func TestADeadlineOfAStreamIsAppliedOnceItIsOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		do   func(l *streamLimit, freezes *freezes)
		want []time.Duration // after the begin
	}{
		{"it passes", func(*streamLimit, *freezes) {}, []time.Duration{20 * time.Second}},
		{"it is moved on", func(l *streamLimit, _ *freezes) { _ = l.move(time.Now().Add(30 * time.Second)) }, []time.Duration{31 * time.Second}},
		{"it is taken away", func(l *streamLimit, _ *freezes) { _ = l.move(time.Time{}) }, []time.Duration{time.Second}},
		{"it is over when it is set", func(l *streamLimit, _ *freezes) { _ = l.move(time.Now()) }, []time.Duration{time.Second}},
		{"the request ends", func(l *streamLimit, _ *freezes) { l.end() }, nil},
		{"a freeze of ten seconds", func(_ *streamLimit, f *freezes) {
			time.Sleep(10 * time.Second)
			f.record(time.Now())
		}, []time.Duration{30 * time.Second}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				freezes := newFreezes(begun)
				var applied []time.Duration
				l := &streamLimit{limit: limit{freezes: freezes, apply: func(time.Time) error {
					applied = append(applied, time.Since(begun))
					return nil
				}}}
				if err := l.move(begun.Add(20 * time.Second)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				freezes.record(time.Now())
				c.do(l, freezes)
				for range 60 {
					time.Sleep(time.Second)
					freezes.record(time.Now())
				}
				synctest.Wait()
				if !slices.Equal(applied, c.want) {
					t.Errorf("applied after %v, want %v", applied, c.want)
				}
			})
		})
	}
}

// What a connection holds goes out with what is written next, before a file, or when it
// is released.
func TestWhatIsHeldIsSentBeforeWhatFollows(t *testing.T) {
	t.Parallel()
	conn, client := connected(t, newFreezes(time.Now()))
	file, content := largeFile(t)
	long := strings.Repeat("l", netHTTPBuffer+1)
	for name, c := range map[string]struct {
		writes []string
		then   func() (int64, error)
		want   string
	}{
		"two writes":         {[]string{"held ", "next ", "last"}, nil, "held next last"},
		"one":                {[]string{"held"}, nil, "held"},
		"none":               {nil, nil, ""},
		"one that is longer": {[]string{long, "next"}, nil, long + "next"},
		"a file":             {[]string{"held "}, func() (int64, error) { return conn.ReadFrom(io.LimitReader(file, 1000)) }, "held " + string(content[:1000])},
	} {
		conn.Hold()
		for n, p := range c.writes {
			if some, err := conn.Write([]byte(p)); some != len(p) || err != nil {
				t.Fatalf("%s: write %d: %d, %v", name, n, some, err)
			}
		}
		if held := conn.held != nil; held != (len(c.writes) == 1) {
			t.Errorf("%s: held is %v", name, held)
		}
		if c.then != nil {
			if _, err := c.then(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if err := conn.Release(); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(".")); err != nil { // nothing is held any more
			t.Fatal(err)
		}
		got := make([]byte, len(c.want)+1)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != c.want+"." {
			t.Errorf("%s: %.20q arrives, %v", name, got, err)
		}
	}
	if err := conn.SetWriteDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	conn.Hold()
	if n, err := conn.Write([]byte("held")); n != 4 || err != nil {
		t.Error(n, err)
	}
	if n, err := conn.Write([]byte("next")); n != 0 || err == nil {
		t.Errorf("a connection that is too slow took %d bytes, %v", n, err)
	}
	conn.Hold()
	if n, err := conn.Write([]byte("held")); n != 4 || err != nil {
		t.Error(n, err)
	}
	if err := conn.Release(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("what is held was sent: %v", err)
	}
	if _, err := conn.Write([]byte("next")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("an answer that was cut off is followed by another: %v", err)
	}
}
