package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"sync"
)

// maxCompressors is how many lists are compressed at the same time: each holds about a megabyte, however slowly its
// client reads. The others are sent as they are.
const maxCompressors = 16

// compressFrom is from how many bytes on a list is compressed. A shorter one comes in as many packets either way.
const compressFrom = 1 << 10

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

// to returns a writer that compresses to w, or nil where no compressor is free. release returns the compressor to the
// pool.
func (c *compressors) to(w io.Writer) (z *gzip.Writer, release func()) {
	select {
	case c.free <- struct{}{}:
	default:
		return nil, func() {}
	}
	z = c.pool.Get().(*gzip.Writer)
	z.Reset(w)
	return z, func() {
		z.Reset(io.Discard) // keep no reference to the response in the pool
		c.pool.Put(z)
		<-c.free
	}
}

// body returns the writer for the body of a list that is sent while it is read: compressed where the client accepts that
// and a compressor is free. Close ends a complete body.
func (c *compressors) body(w *Response, rq *Request) (to io.WriteCloser, release func()) {
	if !TakesGzip(rq.Header.Get("Accept-Encoding")) {
		return plainBody{w}, func() {}
	}
	z, release := c.to(w)
	if z == nil {
		return plainBody{w}, release
	}
	w.Header().Set("Content-Encoding", "gzip")
	return z, release
}

// compress returns a whole list compressed, or nil where no compressor is free.
func (c *compressors) compress(list []byte) []byte {
	var packed bytes.Buffer
	z, release := c.to(&packed)
	defer release()
	if z == nil {
		return nil
	}
	_, _ = z.Write(list) // writes to memory do not fail
	_ = z.Close()
	return packed.Bytes()
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
