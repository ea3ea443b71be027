// Package page has the web page of attachd and the page that shows its API: two
// documents and their assets, all written by hand and embedded unchanged. They use the
// public API, and no other host.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"sync"
)

// Policy is the Content-Security-Policy of the page: scripts, styles and data from this
// server only, nothing inline, and no script or markup from a string (Trusted Types).
// Pictures may come from blobs that the page has fetched. frame-src is for the
// browser's viewer of PDF files.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; frame-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// File is a file of the page, or another one that never changes, in the form in which
// it is sent.
type File struct {
	Type    string // Content-Type
	ETag    string // including its quotes
	Body    []byte
	Gzipped []byte
}

//go:embed index.html docs.html assets
var files embed.FS

// types maps extensions of assets to MIME types.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

type site struct {
	version  string // hash of all assets together: a part of their URLs
	document File
	demo     File // the document of a server that offers demo users
	docs     File // the document that shows openapi.json
	assets   map[string]File
}

var built = sync.OnceValue(build)

// Document is the page. demo selects the variant that says that the server offers demo
// users.
func Document(demo bool) File {
	if demo {
		return built().demo
	}
	return built().document
}

// Docs is the document that displays openapi.json.
func Docs() File { return built().docs }

// Version is a part of the assets' URLs and changes with them, so that a browser may
// cache an asset for ever and never mixes two versions.
func Version() string { return built().version }

// Asset returns an asset by its file name.
func Asset(name string) (File, bool) {
	f, ok := built().assets[name]
	return f, ok
}

func build() site {
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		panic(err) // the pattern is valid
	}
	s := site{assets: map[string]File{}}
	all := sha256.New()
	for _, name := range names {
		kind, ok := types[path.Ext(name)]
		if !ok {
			panic("page: an asset of no known type: " + name)
		}
		f := NewFile(kind, read(name))
		s.assets[path.Base(name)] = f
		fmt.Fprintf(all, "%s %s\n", name, f.ETag)
	}
	s.version = hex.EncodeToString(all.Sum(nil)[:8])
	document := s.html("index.html")
	s.document = NewFile(htmlType, document)
	s.demo = NewFile(htmlType, bytes.Replace(document, []byte("<html "), []byte("<html data-demo "), 1))
	s.docs = NewFile(htmlType, s.html("docs.html"))
	return s
}

const htmlType = "text/html; charset=utf-8"

// html is a document with the URLs of this version's assets.
func (s site) html(name string) []byte {
	return bytes.ReplaceAll(read(name), []byte(`"assets/`), []byte(`"assets/`+s.version+`/`))
}

func read(name string) []byte {
	raw, err := files.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	return raw
}

// NewFile returns a file with its ETag and its compressed form.
func NewFile(kind string, body []byte) File {
	sum := sha256.Sum256(body)
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		panic(err) // the level exists
	}
	_, _ = w.Write(body) // writes to memory do not fail
	_ = w.Close()
	return File{Type: kind, ETag: `"` + hex.EncodeToString(sum[:16]) + `"`, Body: body, Gzipped: packed.Bytes()}
}
