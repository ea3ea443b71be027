package server_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// withFiles is a world with some files in the product of space a, of which one is in
// several parts.
func withFiles(t *testing.T) (w *world, contents map[string]string) {
	w = newWorld(t)
	large := text(200 << 10)
	w.play(t, []step{
		{as: "editor", do: "POST {product}/attachments", form: parts{file("a.txt", "one")}, want: 201, save: "A"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("A.txt", large)}, want: 201, save: "B"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("SHA256SUMS", "not sums")}, want: 201, save: "C"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("größe: 1?.csv", "a,b\n1,2\n")}, want: 201, save: "D"},
	})
	return w, map[string]string{"a.txt": "one", "A (2).txt": large, "SHA256SUMS (2)": "not sums", "größe_ 1_.csv": "a,b\n1,2\n"}
}

// unzipped returns the files of an archive but for SHA256SUMS, with whose lines they agree.
func unzipped(t *testing.T, a answer) map[string]string {
	t.Helper()
	if got := a.header.Get("Content-Length"); got != fmt.Sprint(len(a.body)) {
		t.Errorf("Content-Length is %q of %d bytes", got, len(a.body))
	}
	z, err := zip.NewReader(bytes.NewReader(a.body), int64(len(a.body)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r) // compares the CRC-32
		if err != nil || files[f.Name] != "" {
			t.Errorf("%q, %d bytes: %v", f.Name, len(content), err)
		}
		files[f.Name] = string(content)
	}
	sums := files["SHA256SUMS"]
	delete(files, "SHA256SUMS")
	for name, content := range files {
		if !strings.Contains(sums, fmt.Sprintf("%x", sha256.Sum256([]byte(content)))+"  "+name+"\n") {
			t.Errorf("SHA256SUMS has no line of %q: %s", name, sums)
		}
	}
	if got := strings.Count(sums, "\n"); got != len(files) {
		t.Errorf("SHA256SUMS has %d lines", got)
	}
	return files
}

func sameFiles(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, content := range want {
		if got[name] != content {
			t.Errorf("%q has %d bytes, want %d", name, len(got[name]), len(content))
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d files, want %d", len(got), len(want))
	}
}

func TestAnArchiveHasAllFiles(t *testing.T) {
	t.Parallel()
	w, contents := withFiles(t)
	whole := w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", want: 200, header: header{
		"Content-Type": "application/zip", "Content-Disposition": `attachment; filename="A product.zip"; filename*=UTF-8''A%20product.zip`,
	}})
	sameFiles(t, unzipped(t, whole), contents)
	w.do(t, step{as: "viewer", do: "HEAD {product}/attachments.zip", want: 200, header: header{"Content-Length": fmt.Sprint(len(whole.body)), "ETag": whole.header.Get("ETag")}})

	named := w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip?name=a.txt", want: 200})
	sameFiles(t, unzipped(t, named), map[string]string{"a.txt": "one", "A (2).txt": contents["A (2).txt"]})
	for _, parent := range []string{"{ticket}", "{meeting}"} {
		w.do(t, step{as: "editor", do: "POST " + parent + "/attachments", form: parts{file("b.txt", "two")}, want: 201})
		sameFiles(t, unzipped(t, w.do(t, step{as: "viewer", do: "GET " + parent + "/attachments.zip", want: 200})), map[string]string{"b.txt": "two"})
	}
	sameFiles(t, unzipped(t, w.do(t, step{as: "root", do: "GET {product.ab}/attachments.zip", want: 200})), nil)
	w.play(t, []step{
		{as: "viewer", do: "GET {product}/attachments.zip?sort=name", want: 400},
		{as: "viewer", do: "GET {product}/attachments.zip?since=yesterday", want: 400},
	})
}

func TestAnArchiveHasTheFilesThatAreAskedFor(t *testing.T) {
	t.Parallel()
	w, contents := withFiles(t)
	w.do(t, step{as: "root", do: "POST {product.ab}/attachments", form: parts{file("b.txt", "elsewhere")}, want: 201, save: "E"})
	some := w.do(t, step{as: "viewer", do: "POST {product}/attachments.zip", json: `{"ids": ["{B}", "{D}", "{B}"]}`, want: 200})
	sameFiles(t, unzipped(t, some), map[string]string{"A.txt": contents["A (2).txt"], "größe_ 1_.csv": contents["größe_ 1_.csv"]})
	w.play(t, []step{
		{as: "root", do: "POST {product}/attachments.zip", json: `{"ids": ["{B}", "{E}"]}`, want: 404},
		{as: "viewer", do: "POST {product}/attachments.zip", json: `{"ids": []}`, want: 400},
		{as: "viewer", do: "POST {product}/attachments.zip", json: `{"ids": ["nonsense"]}`, want: 400},
		{as: "viewer", do: "POST {product}/attachments.zip", json: `{}`, want: 400},
		{as: "viewer", do: "POST {product}/attachments.zip", want: 400},
	})
}

// A download that was cut off is continued, also after a restart.
func TestAPartOfAnArchiveIsSentAlone(t *testing.T) {
	t.Parallel()
	w, _ := withFiles(t)
	whole := w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", want: 200})
	tag, size := whole.header.Get("ETag"), len(whole.body)
	part := func(from, end int) {
		t.Helper()
		w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": fmt.Sprintf("bytes=%d-%d", from, end-1), "If-Range": tag},
			want: 206, is: string(whole.body[from:end]), header: header{"Content-Range": fmt.Sprintf("bytes %d-%d/%d", from, end-1, size)}})
	}
	for range 2 {
		for _, from := range []int{0, 1, 29, 60, 1000, 64 << 10, size / 2, size - 500, size - 1} {
			part(from, size)
			part(from, min(from+100, size))
		}
		w.restart()
		part(size-100, size) // when no more is known of what is before it than its checksums
		// Those of an earlier version have no CRC-32.
		sum := sha256.Sum256([]byte(text(200 << 10)))
		sums, err := w.store.Checksums(t.Context(), sum)
		w.must(err)
		w.must(w.store.AddChecksums(t.Context(), map[[32]byte][]byte{sum: sums[:len(sums)/8*8]}))
		w.restart()
		part(size-100, size)
	}
	w.play(t, []step{
		{as: "viewer", do: "POST {product}/attachments.zip", json: `{"ids": ["{A}", "{B}", "{C}", "{D}"]}`, send: header{"Range": "bytes=5-", "If-Range": tag}, want: 200, is: string(whole.body)},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": "bytes=5-", "If-Range": `"other"`}, want: 200, is: string(whole.body)},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": "bytes=0-1,5-6"}, want: 200, is: string(whole.body)},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": fmt.Sprintf("bytes=%d-", size)}, want: 416},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"If-None-Match": tag}, want: 304},
		{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"If-None-Match": tag}, want: 200},
	})
}

// What is before the rest of a large file has a CRC-32 since its upload, in the records.
func TestTheRestOfAnArchiveReadsNoLargeFileThatTheClientHas(t *testing.T) {
	t.Parallel()
	w, _ := withFiles(t)
	whole := w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", want: 200})
	w.restart()
	w.must(os.Remove(w.blobFile(t, "{B}")))
	from := bytes.Index(whole.body, []byte("not sums")) // behind it
	w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": fmt.Sprintf("bytes=%d-", from), "If-Range": whole.header.Get("ETag")},
		want: 206, is: string(whole.body[from:])})
	w.do(t, step{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", text(200<<10))}, want: 201})
}

func TestADamagedFileEndsTheArchiveAndIsNamedFromThenOn(t *testing.T) {
	t.Parallel()
	w, _ := withFiles(t)
	w.expectLog("a stored content is damaged")
	w.damage(t, "{B}")
	w.wantCut(t, w.fill(t, "{product}/attachments.zip"))
	w.play(t, []step{
		{as: "viewer", do: "GET {product}/attachments.zip", want: 500, code: "damaged", says: `"A.txt"`},
		{as: "viewer", do: "POST {product}/attachments.zip", json: `{"ids": ["{A}", "{D}"]}`, want: 200},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", text(200<<10))}, want: 201},
	})
	unzipped(t, w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", want: 200}))

	// One that is gone is not marked.
	w.must(os.Remove(w.blobFile(t, "{C}")))
	w.wantCut(t, w.fill(t, "{product}/attachments.zip"))
	w.play(t, []step{
		{as: "viewer", do: "GET {product}/attachments.zip", want: 500, code: "damaged", says: `"SHA256SUMS"`},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.csv", "not sums")}, want: 201},
	})
	unzipped(t, w.do(t, step{as: "viewer", do: "GET {product}/attachments.zip", want: 200}))
}

func TestEachFileOfAnArchiveIsRecorded(t *testing.T) {
	t.Parallel()
	w, contents := withFiles(t)
	w.play(t, []step{
		{as: "viewer", do: "HEAD {product}/attachments.zip", want: 200},
		{as: "viewer", do: "GET {product}/attachments.zip", want: 200},
		{as: "viewer", do: "GET {product}/attachments.zip", send: header{"Range": "bytes=-1"}, want: 206},
	})
	names := map[string]int{}
	for _, e := range w.auditLog(t, "?action=attachment.download") {
		names[e.Resource.Name]++
	}
	if len(names) != len(contents) || names["a.txt"] != 1 || names["SHA256SUMS"] != 1 {
		t.Errorf("the log has downloads of %v", names)
	}
}
