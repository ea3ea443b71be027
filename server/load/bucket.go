//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"strings"
	"time"
)

// parseBucket parses the value of -bucket.
func parseBucket(s string) (peer, error) {
	p, err := parsePeer("s3:bucket=" + s)
	if err == nil && (p.url.User == nil || strings.Count(p.url.Path, "/") != 1 || len(p.url.Path) < 2) {
		err = errors.New("a bucket is http://KEY:SECRET@HOST:PORT/BUCKET")
	}
	return p, err
}

// overBucket are the workloads that compare attachd with the bucket in which it keeps its
// contents. The goal is how many times as fast it is to be at least.
func overBucket() []workload {
	return []workload{
		{name: "upload 10 KB, 1 client", clients: 1, goal: 0.80, begin: uploading(small, true)},
		{name: "upload 10 KB, 32 clients", clients: 32, goal: 0.60, begin: uploading(small, true)},
		{name: "upload 1 MB, 4 clients", clients: 4, size: big, goal: 0.90, begin: uploading(big, true)},
		{name: "download 10 KB, 8 clients", clients: 8, goal: 0.65, begin: downloading(small)},
		{name: "download 1 MB, 8 clients", clients: 8, size: big, goal: 0.50, begin: downloading(big)},
		{name: "download 10 KB by URL, 8 clients", clients: 8, goal: 0.75, begin: downloadingByURL(small)},
		{name: "download 1 MB by URL, 8 clients", clients: 8, size: big, goal: 1.00, begin: downloadingByURL(big)},
	}
}

// downloadingByURL downloads the stored files of a size in turns from the bucket, and asks
// attachd for a URL each time. The bucket alone is asked for the files.
func downloadingByURL(size int) func(*instance, int) (worker, error) {
	return func(in *instance, n int) (worker, error) {
		if in.dir == "" {
			return downloading(size)(in, n)
		}
		files, err := in.stored(size)
		if err == nil && n == 0 {
			err = in.empty()
		}
		if err != nil {
			return worker{}, err
		}
		next, there := n, (*client)(nil)
		step := func(c *client, compare bool) (err error) {
			f := files[next%len(files)]
			var host string
			if host, f.request, err = in.presigned(c, f); err != nil {
				return err
			}
			if there == nil {
				if there, err = dial(host); err != nil {
					return err
				}
			}
			return there.get(f, compare)
		}
		return connected(in, func(c *client) worker {
			return worker{
				step: func() error {
					next += mostReaders
					return step(c, next/mostReaders%comparedEvery == 0)
				},
				check: func() error { return step(c, true) },
				close: func() error {
					if there == nil {
						return nil
					}
					return there.close()
				},
			}
		})
	}
}

// presigned asks attachd for the URL of a file, and returns its host and the request for it.
func (in *instance) presigned(c *client, f file) (host string, get []byte, err error) {
	raw, err := c.expect(200, bytes.Replace(f.request, []byte(acceptBytes), []byte("Accept: application/json"), 1))
	if err != nil {
		return "", nil, err
	}
	var document struct {
		URL string `json:"download_url"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		return "", nil, fmt.Errorf("the document of a URL: %w", err)
	}
	u, err := url.Parse(document.URL)
	if err == nil && (u.Host == in.address || u.Port() == "") {
		err = errors.New("it does not lead to the bucket")
	}
	if err != nil {
		return "", nil, fmt.Errorf("the URL %q: %w", document.URL, err)
	}
	return u.Host, fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: load\r\nAccept: */*\r\n\r\n", u.RequestURI(), u.Host), nil
}

// empty has attachd write what is in its log into the bucket, which compacting the database
// does first. With PostgreSQL it has no log.
func (in *instance) empty() error {
	if in.drop != nil {
		return nil
	}
	out, err := exec.Command(in.binary, "compact", "--data-dir", in.dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("compact: %w\n%s", err, out)
	}
	return err
}

// inBucket returns the environment of an attachd that keeps its contents in the bucket.
func inBucket(p peer) []string {
	secret, _ := p.url.User.Password()
	return []string{
		"ATTACHD_STORAGE_BACKEND=s3",
		"ATTACHD_STORAGE_S3_ENDPOINT=http://" + p.url.Host,
		"ATTACHD_STORAGE_S3_BUCKET=" + strings.Trim(p.url.Path, "/"),
		"ATTACHD_STORAGE_S3_ACCESS_KEY=" + p.url.User.Username(),
		"ATTACHD_STORAGE_S3_SECRET_KEY=" + secret,
		"ATTACHD_STORAGE_S3_PATH_STYLE=true",
	}
}

// delayed puts a proxy in front of a peer that holds back every request for a time, as a
// network and a busy object store do.
func delayed(p peer, by time.Duration) (through peer, done func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return p, nil, err
	}
	to := *p.url
	to.User, to.Path = nil, ""
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&to)
			r.Out.Host = r.In.Host // which is signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, rq *http.Request) {
		time.Sleep(by)
		proxy.ServeHTTP(w, rq)
	})}
	go func() { _ = server.Serve(listener) }() // ends with Close
	u := *p.url
	u.Host = listener.Addr().String()
	through = peer{protocol: p.protocol, name: fmt.Sprintf("%s, %v later", p.name, by), url: &u}
	return through, server.Close, nil
}

// useBucket prepares a comparison of attachd with the bucket in which it keeps its
// contents.
func (o *options) useBucket() (done func() error, err error) {
	p, done := *o.bucket, func() error { return nil }
	if o.delay > 0 {
		if p, done, err = delayed(p, o.delay); err != nil {
			return nil, err
		}
	}
	o.env, o.peers = inBucket(p), append(o.peers, p)
	return done, nil
}
