//go:build unix

package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
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

// inBucket returns the environment of an attachd that keeps its contents in the bucket,
// and answers downloads with them.
func inBucket(p peer) []string {
	secret, _ := p.url.User.Password()
	return []string{
		"ATTACHD_STORAGE_BACKEND=s3",
		"ATTACHD_STORAGE_S3_ENDPOINT=http://" + p.url.Host,
		"ATTACHD_STORAGE_S3_BUCKET=" + strings.Trim(p.url.Path, "/"),
		"ATTACHD_STORAGE_S3_ACCESS_KEY=" + p.url.User.Username(),
		"ATTACHD_STORAGE_S3_SECRET_KEY=" + secret,
		"ATTACHD_STORAGE_S3_PATH_STYLE=true",
		"ATTACHD_DOWNLOADS_MODE=content",
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
