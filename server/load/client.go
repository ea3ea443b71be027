//go:build unix

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// patience is how long to wait for an answer before it counts as hanging.
const patience = time.Minute

// client is one connection that is kept open. It does as little work as possible,
// since it runs on the machine that it measures.
type client struct {
	conn     net.Conn
	in       *bufio.Reader
	closing  bool   // the last answer announced that the server closes the connection
	location string // of the last answer
}

func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &client{conn: conn, in: bufio.NewReaderSize(conn, 256<<10)}, nil
}

// redial replaces a connection that the server closes, as nginx does after
// every thousand requests.
func (c *client) redial() error {
	conn, err := net.Dial("tcp", c.conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	err = c.conn.Close()
	c.conn, c.closing = conn, false
	c.in.Reset(conn)
	return err
}

func (c *client) close() error { return c.conn.Close() }

// do sends a complete request, in one part or several, and returns the status of
// the answer and the size of its body, which is written to sink; with a nil sink it
// is discarded.
func (c *client) do(sink io.Writer, request ...[]byte) (status int, size int64, err error) {
	if c.closing {
		if err := c.redial(); err != nil {
			return 0, 0, err
		}
	}
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, 0, err
	}
	pieces := net.Buffers(request)
	if _, err := pieces.WriteTo(c.conn); err != nil {
		return 0, 0, err
	}
	status, length, err := c.head()
	if err != nil {
		return 0, 0, err
	}
	if length >= 0 {
		return status, length, c.pass(length, sink)
	}
	for {
		chunk, err := c.chunk()
		if err != nil || chunk == 0 {
			return status, size, err
		}
		size += chunk
		if err := c.pass(chunk, sink); err != nil {
			return status, size, err
		}
		if _, err := c.in.Discard(2); err != nil { // the CRLF after the chunk
			return status, size, err
		}
	}
}

var (
	contentLength    = []byte("Content-Length")
	transferEncoding = []byte("Transfer-Encoding")
	connection       = []byte("Connection")
	location         = []byte("Location")
)

// head reads the status and the length of the body; -1 means chunked.
func (c *client) head() (status int, length int64, err error) {
	c.location = ""
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, 0, fmt.Errorf("not the status line of an answer: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return status, length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, contentLength):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, 0, err
			}
		case bytes.EqualFold(name, transferEncoding):
			length = -1
		case bytes.EqualFold(name, connection):
			c.closing = bytes.EqualFold(value, []byte("close"))
		case bytes.EqualFold(name, location):
			c.location = string(value)
		}
	}
}

// chunk reads the size of the next chunk; after the last one, of size 0, it reads
// the end.
func (c *client) chunk() (int64, error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64)
	if err == nil && size == 0 {
		_, err = c.in.Discard(2)
	}
	return size, err
}

func (c *client) pass(n int64, sink io.Writer) error {
	if sink != nil {
		_, err := io.CopyN(sink, c.in, n)
		return err
	}
	for n > 0 {
		step := min(n, 1<<20)
		if _, err := c.in.Discard(int(step)); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// expect sends a request whose answer must have this status, and returns the body.
func (c *client) expect(status int, request ...[]byte) ([]byte, error) {
	var body bytes.Buffer
	got, _, err := c.do(&body, request...)
	if err != nil {
		return nil, err
	}
	if got != status {
		return nil, fmt.Errorf("answered %d, not %d: %s", got, status, body.Bytes())
	}
	return body.Bytes(), nil
}

// succeed sends a request whose answer must have a status of success, which varies
// between servers, and returns the body.
func (c *client) succeed(request ...[]byte) ([]byte, error) {
	var body bytes.Buffer
	got, _, err := c.do(&body, request...)
	if err == nil && got/100 != 2 {
		err = fmt.Errorf("answered %d: %s", got, body.Bytes())
	}
	return body.Bytes(), err
}

// call is expect over a new connection.
func call(address string, status int, request []byte) ([]byte, error) {
	c, err := dial(address)
	if err != nil {
		return nil, err
	}
	body, err := c.expect(status, request)
	return body, errors.Join(err, c.close())
}

// request returns a request without a body.
func request(method, path, key string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: load\r\nAccept: */*\r\nAuthorization: Bearer %s\r\n\r\n", method, path, key)
}

// file is a stored file: its request, and its expected content.
type file struct {
	request []byte
	size    int64
	sum     [sha256.Size]byte
}

// comparedEvery is in how many downloads one is compared byte for byte.
const comparedEvery = 64

// get downloads f. If compare is set, it checks every byte, otherwise only their
// number.
func (c *client) get(f file, compare bool) error {
	hash := sha256.New()
	var sink io.Writer
	if compare {
		sink = hash
	}
	status, size, err := c.do(sink, f.request)
	switch {
	case err != nil:
		return err
	case status != 200 || size != f.size:
		return fmt.Errorf("a download answered %d with %d bytes, not 200 with %d", status, size, f.size)
	case compare && [sha256.Size]byte(hash.Sum(nil)) != f.sum:
		return errors.New("a download gave other bytes than were uploaded")
	}
	return nil
}
