package api

import (
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"sync"
)

// maxCompressors is how many lists are compressed at the same time: each holds about a megabyte, however slowly its
// client reads. The others are sent as they are.
const maxCompressors = 16

// compressors is a bounded pool of gzip writers for lists.
type compressors struct {
	free chan struct{}
	pool sync.Pool
}

func newCompressors() *compressors {
	return &compressors{
		free: make(chan struct{}, maxCompressors),
		pool: sync.Pool{New: func() any {
			z, err := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed)
			if err != nil {
				panic(err) // the level is a valid one
			}
			return z
		}},
	}
}

// body returns the writer for the body of a list: compressed where the client accepts that and a compressor is free.
// Close ends a complete body, and release returns the compressor to the pool.
func (c *compressors) body(w *Response, rq *Request) (to io.WriteCloser, release func()) {
	w.Header().Add("Vary", "Accept-Encoding")
	if !TakesGzip(rq.Header.Get("Accept-Encoding")) {
		return plainBody{w}, func() {}
	}
	select {
	case c.free <- struct{}{}:
	default:
		return plainBody{w}, func() {}
	}
	w.Header().Set("Content-Encoding", "gzip")
	z := c.pool.Get().(*gzip.Writer)
	z.Reset(w)
	return z, func() {
		z.Reset(io.Discard) // keep no reference to the response in the pool
		c.pool.Put(z)
		<-c.free
	}
}

// plainBody is a body that is sent uncompressed.
type plainBody struct{ io.Writer }

func (plainBody) Close() error { return nil }

// TakesGzip reports whether an Accept-Encoding header (RFC 9110, section 12.5.3)
// accepts gzip.
func TakesGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, parameter, _ := strings.Cut(coding, ";")
		if name = strings.ToLower(strings.TrimSpace(name)); name != "gzip" && name != "x-gzip" && name != "*" {
			continue
		}
		weight, _ := strings.CutPrefix(strings.ReplaceAll(parameter, " ", ""), "q=")
		q, err := strconv.ParseFloat(weight, 64)
		return err != nil || q > 0
	}
	return false
}
