//go:build unix

package main

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// peer is another server that attachd is compared with.
type peer struct {
	protocol, name string
	url            *url.URL
}

// protocols maps the name of a protocol to a function that connects to a peer, and
// prepares the folders for uploads.
var protocols = map[string]func(c *client, u *url.URL, folders ...string) (protocol, error){
	"filebrowser": newFilebrowser, "lfs": newLFS, "s3": newS3, "tusd": newTusd, "webdav": newWebdav,
}

const peerForm = "PROTOCOL=URL or PROTOCOL:NAME=URL"

// parsePeer parses the value of -peer.
func parsePeer(s string) (p peer, err error) {
	name, address, ok := strings.Cut(s, "=")
	if !ok {
		return p, errors.New("a peer is " + peerForm)
	}
	p.protocol, p.name, ok = strings.Cut(name, ":")
	if !ok {
		p.name = p.protocol
	}
	if protocols[p.protocol] == nil {
		return p, fmt.Errorf("protocol %q is not known, but %s", p.protocol, strings.Join(slices.Sorted(maps.Keys(protocols)), ", "))
	}
	p.url, err = url.Parse(address)
	if err == nil && (p.url.Scheme != "http" || p.url.Port() == "") {
		err = errors.New("the address of a peer begins with http:// and has a port")
	}
	return p, err
}

// newPeer returns the subject of a running peer.
func newPeer(p peer) (*subject, error) {
	c, err := dial(p.url.Host)
	if err != nil {
		return nil, err
	}
	defer c.close() // an error of the close does not matter
	pids, err := listening(p.url.Port())
	if err != nil {
		return nil, err
	}
	in := newInstance(&process{address: p.url.Host, pids: pids})
	if in.protocol, err = protocols[p.protocol](c, p.url, in.folder, in.listFolder); err != nil {
		return nil, err
	}
	return &subject{name: p.name, verified: in, trusting: in, peer: true}, nil
}

// listening returns the processes that listen on a port, as far as the system
// reveals them: on Linux, to root or to the user that they run as.
func listening(port string) (pids []int, err error) {
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, err
	}
	sockets := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		lines, _ := os.ReadFile(table) // other systems have no such file
		for line := range strings.Lines(string(lines)) {
			fields := strings.Fields(line)
			const listens = "0A"
			if len(fields) > 9 && strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", n)) && fields[3] == listens {
				sockets["socket:["+fields[9]+"]"] = true
			}
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, file := range files {
		link, _ := os.Readlink(file) // the process may have ended
		pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
		if sockets[link] && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// restsAtMost limits how long calm waits for servers that do not become idle, as a
// multiple of rest.
const restsAtMost = 50

// calm makes the system write what no server has synced, and waits until all
// servers have been idle for the duration rest, so that none is measured while
// another still does deferred work.
func calm(subjects []*subject, rest time.Duration) {
	unix.Sync()
	used := func() (sum time.Duration) {
		for _, s := range subjects {
			sum += s.verified.processor()
		}
		return sum
	}
	last := used()
	for range restsAtMost {
		time.Sleep(rest)
		now := used()
		if now-last <= ticks {
			return
		}
		last = now
	}
}
