// Package page is the web page of attachd and the one that shows its API: two
// documents and their assets, all written by hand and embedded as they are. They use the API that
// everybody uses, and no other host.
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

// Policy is the Content-Security-Policy under which the page runs: scripts,
// styles and data of this server only, nothing inline, and no way to make a
// script or markup of a string (Trusted Types). Pictures may be of bytes that
// the page has fetched. frame-src is for the browser's viewer of PDF files.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; frame-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// File is a file of the page, or another that never changes, as it is sent.
type File struct {
	Type    string // Content-Type
	ETag    string // with its quotes
	Body    []byte
	Gzipped []byte
}

//go:embed index.html docs.html assets
var files embed.FS

// The types of the assets by extension.
var types = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

type site struct {
	version  string // of all assets together: a part of their addresses
	document File
	demo     File // the document of a server that offers the users of a demo
	docs     File // the document that shows openapi.json
	assets   map[string]File
}

var built = sync.OnceValue(build)

// Document is the page itself. On a server that offers the users of a demo it
// says so.
func Document(demo bool) File {
	if demo {
		return built().demo
	}
	return built().document
}

// Docs is the document that shows openapi.json to people.
func Docs() File { return built().docs }

// Version stands in the addresses of the assets and changes with them, so that
// a browser may keep what it has got for good and never mixes two versions.
func Version() string { return built().version }

// Asset finds an asset by its file name.
func Asset(name string) (File, bool) {
	f, ok := built().assets[name]
	return f, ok
}

func build() site {
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		panic(err) // the pattern is well formed
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

// html is a document that names the assets of this version.
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

// NewFile packs what is sent as a file of the page is.
func NewFile(kind string, body []byte) File {
	sum := sha256.Sum256(body)
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		panic(err) // the level exists
	}
	_, _ = w.Write(body) // to memory: it does not fail
	_ = w.Close()
	return File{Type: kind, ETag: `"` + hex.EncodeToString(sum[:16]) + `"`, Body: body, Gzipped: packed.Bytes()}
}
