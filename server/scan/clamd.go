// Package scan asks clamd, the daemon of ClamAV, whether a content is malware.
// The protocol is described in clamd(8).
package scan

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrLimit means that clamd did not scan a whole content because of one of its own
// limits (clamd.conf(5): StreamMaxLength, MaxFileSize, MaxScanSize and others).
var ErrLimit = errors.New("the content is beyond a limit of clamd")

// Clamd is a client of clamd. Its methods may be called concurrently.
type Clamd struct {
	network, address string
	timeout          time.Duration
	slots            *semaphore.Weighted // one unit for each scan
	heldBack         time.Duration       // see endHeldBack
}

// atOnce is how many contents are scanned at once; others wait. By default clamd has 12
// threads and a queue of 15 connections, and refuses more.
const atOnce = 10

// endHeldBack is how long the end of a content is held back. The system buffers a small
// content as a whole before clamd has read it; a reply within this time covers only a
// part of the content.
const endHeldBack = 10 * time.Millisecond

// pingTimeout is how long clamd may take to answer a ping.
const pingTimeout = 2 * time.Second

// New returns a client of the clamd at an address: "unix:/run/clamav/clamd.ctl" or
// "tcp:127.0.0.1:3310". A content may wait for timeout until its scan begins, and the
// scan may take as long again.
func New(address string, timeout time.Duration) (*Clamd, error) {
	network, at, _ := strings.Cut(address, ":")
	good := network == "unix" && at != ""
	if network == "tcp" {
		host, port, err := net.SplitHostPort(at)
		number, invalid := strconv.ParseUint(port, 10, 16)
		good = err == nil && host != "" && invalid == nil && number > 0
	}
	if !good {
		return nil, fmt.Errorf(`expected the address of a clamd like "unix:/run/clamav/clamd.ctl" or "tcp:127.0.0.1:3310", found %.60q`, address)
	}
	return &Clamd{network, at, timeout, semaphore.NewWeighted(atOnce), endHeldBack}, nil
}

// Ping fails unless clamd answers.
func (c *Clamd) Ping(ctx context.Context) error {
	reply, _, err := c.ask(ctx, pingTimeout, "zPING\x00", func(io.Writer, func()) error { return nil })
	if err == nil && reply != "PONG" {
		err = fmt.Errorf("clamd answered %.100q to a ping", reply)
	}
	return err
}

// Scan has clamd scan a content, and returns the name of the signature that it found;
// empty when the content is clean. After any error it is unknown whether the content is
// malware: ErrLimit when clamd did not scan all of it.
//
// clamd reports a content beyond its MaxFileSize as clean without having scanned it,
// unless AlertExceedsMax is set, and its reply does not show that. See Probe.
func (c *Clamd) Scan(ctx context.Context, content io.Reader) (signature string, err error) {
	if err := c.take(ctx); err != nil {
		return "", err
	}
	defer c.slots.Release(1)
	reply, whole, err := c.ask(ctx, c.timeout, "zINSTREAM\x00", func(w io.Writer, ending func()) error { return stream(w, content, ending) })
	if err != nil {
		return "", err
	}
	found, isFound := strings.CutSuffix(strings.TrimPrefix(reply, "stream: "), " FOUND")
	switch {
	case isFound && strings.HasPrefix(found, "Heuristics.Limits.Exceeded"), strings.HasPrefix(reply, "INSTREAM size limit exceeded"):
		return "", fmt.Errorf("%w: %.200s", ErrLimit, reply)
	case isFound && found != "":
		return found, nil
	case reply == clean && whole:
		return "", nil
	case reply == clean:
		return "", errors.New("clamd called the content clean before it had all of it")
	}
	return "", fmt.Errorf("clamd answered %.200q", reply)
}

// take waits for a slot.
func (c *Clamd) take(ctx context.Context) error {
	waiting, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("%d contents are being scanned, and none was done within %v", atOnce, c.timeout))
	defer cancel()
	if c.slots.Acquire(waiting, 1) != nil {
		return context.Cause(waiting)
	}
	return nil
}

// clean is clamd's reply for a content in which nothing was found.
const clean = "stream: OK"

// ask sends a command and what send writes, and returns the reply without the NUL at
// its end. The reply may come before everything is sent; clamd then stops reading or
// closes the connection. That is no error, although a part of the content is not read.
// send calls ending before it writes the end of the content: an earlier reply covers
// only a part of it. whole reports, for a content that is called clean, that clamd had
// read all of it.
func (c *Clamd) ask(ctx context.Context, timeout time.Duration, command string, send func(w io.Writer, ending func()) error) (reply string, whole bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("clamd did not answer within %v", timeout))
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, c.network, c.address)
	if err != nil {
		return "", false, cause(ctx, err)
	}
	defer conn.Close() // its error does not matter: the reply was read before
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })()

	type answer struct {
		reply string
		early bool
		err   error
	}
	answered := make(chan answer, 1)
	var ended atomic.Bool
	replied := make(chan struct{})
	go func() {
		reply, err := bufio.NewReader(io.LimitReader(conn, maxReply)).ReadString(0)
		early := !ended.Load()
		close(replied)
		_ = conn.SetWriteDeadline(time.Now()) // it is no use to send more
		answered <- answer{strings.TrimSuffix(reply, "\x00"), early, err}
	}()
	_, sending := io.WriteString(conn, command)
	if sending == nil {
		sending = send(conn, func() {
			select {
			case <-replied:
			case <-ctx.Done():
			case <-time.After(c.heldBack):
			}
			ended.Store(true)
		})
	}
	if source := new(sourceError); errors.As(sending, &source) {
		return "", false, source.error // without the end of the content, clamd would wait
	}
	a := <-answered
	if a.err != nil {
		return "", false, cause(ctx, fmt.Errorf("no whole answer of clamd: %w", errors.Join(a.err, sending)))
	}
	if a.reply != clean || a.early || sending != nil {
		return a.reply, false, nil
	}
	whole, err = hasReadAll(conn)
	return a.reply, whole, cause(ctx, err)
}

// hasReadAll reports whether the other side had read all that was sent to it when it
// closed the connection, which clamd does after a reply. A reply alone does not prove
// that, since the system buffers what is sent. A connection that is closed with unread
// data is reset.
func hasReadAll(conn net.Conn) (bool, error) {
	if half, can := conn.(interface{ CloseWrite() error }); can {
		if err := half.CloseWrite(); err != nil {
			return false, nil // it was reset
		}
	}
	_, err := io.Copy(io.Discard, io.LimitReader(conn, maxReply))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return false, fmt.Errorf("clamd called the content clean, and did not end the connection: %w", err)
	}
	return err == nil, nil
}

// maxReply is the length limit of a reply, in bytes; a longer one is not clamd's.
const maxReply = 4 << 10

// cause returns why ctx ended, or err if it did not.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sourceError means that a content cannot be read.
type sourceError struct{ error }

// stream writes a content in chunks, each preceded by its length; an empty chunk is the
// end. It calls ending before it writes that.
func stream(w io.Writer, content io.Reader, ending func()) error {
	const head = 4
	chunk := make([]byte, head+128<<10)
	for {
		n, err := io.ReadFull(content, chunk[head:])
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return &sourceError{fmt.Errorf("reading the content: %w", err)}
		}
		if n == 0 {
			ending()
		}
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if _, err := w.Write(chunk[:head+n]); err != nil || n == 0 {
			return err
		}
	}
}
