package server_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server"
	"attachd/store"
)

// flip changes a bit of a stored content, at a place counted from the end if it
// is negative.
func (w *world) flip(t *testing.T, name string, at int64) {
	t.Helper()
	file, err := os.OpenFile(w.blobFile(t, name), os.O_RDWR, 0)
	w.must(err)
	if at < 0 {
		end, err := file.Seek(0, io.SeekEnd)
		w.must(err)
		at += end
	}
	one := make([]byte, 1)
	_, err = file.ReadAt(one, at)
	w.must(err)
	one[0] ^= 4
	_, err = file.WriteAt(one, at)
	w.must(errors.Join(err, file.Close()))
}

const chunk = blobs.ChunkSize

// rangeOf is a range of a file, and the expected result.
type rangeOf struct {
	from, to int // inclusive
	right    int // bytes that may be sent, all of them right
	status   int // 0: the connection is cut
}

// Of a file of six chunks, the third has a wrong bit in its middle.
func TestNoByteOfARottenChunkIsSentInARange(t *testing.T) {
	t.Parallel()
	const size, bad = 5*chunk + 1000, 2*chunk + chunk/2
	content := text(size)
	w := withFile(t, content)
	w.expectLog("a stored content is damaged")
	w.expectLog(`"code":"damaged"`)
	w.flip(t, "{A}", bad)
	ref := sha256.Sum256([]byte(content))
	for _, r := range []rangeOf{
		{0, 0, 1, 206}, {0, chunk - 1, chunk, 206}, {100, 2*chunk - 1, 2*chunk - 100, 206}, {3 * chunk, size - 1, 2*chunk + 1000, 206}, {size - 1, size - 1, 1, 206}, {3*chunk - 1 + 1, 3 * chunk, 1, 206},
		{bad, bad, 0, 500}, {2 * chunk, 2 * chunk, 0, 500}, {3*chunk - 1, 3 * chunk, 0, 500}, {2*chunk + 5, size - 1, 0, 500},
		{0, size - 2, 2 * chunk, 0}, {1, size - 1, 2*chunk - 1, 0}, {2*chunk - 1, 2 * chunk, 1, 0}, {chunk + 7, 3 * chunk, chunk - 7, 0}, {0, size - 1, 2 * chunk, 0},
	} {
		t.Run(fmt.Sprintf("%d-%d", r.from, r.to), func(t *testing.T) {
			a, err := w.getRange(t, "{A.at}", fmt.Sprintf("bytes=%d-%d", r.from, r.to))
			switch {
			case r.status == 0:
				if err == nil && (a.cut == nil || a.status != 206) || len(a.body) > r.right || !strings.HasPrefix(content[r.from:], string(a.body)) {
					t.Errorf("answered %d with %d bytes, %v, %v", a.status, len(a.body), err, a.cut)
				}
			case err != nil || a.status != r.status || r.status == 206 && string(a.body) != content[r.from:r.to+1] || r.status == 500 && !strings.Contains(string(a.body), `"damaged"`):
				t.Errorf("answered %d with %d bytes, %v", a.status, len(a.body), err)
			}
			marked := w.server.Damaged()
			if (r.status != 206) != (marked == 1) {
				t.Errorf("%d contents are marked", marked)
			}
			if marked == 1 { // for the next one, it is as it was
				w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-0"}, want: 500, code: "damaged"})
				w.unmark(t, ref)
			}
		})
	}
	w.play(t, []step{
		{as: "viewer", do: "HEAD {A.at}", want: 200},
		{as: "viewer", do: "GET {A.at}", send: header{"If-None-Match": etag(w, t)}, want: 304},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": fmt.Sprintf("bytes=%d-", size)}, want: 416},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-9", "If-Range": etag(w, t)}, want: 206, is: content[:10]},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": fmt.Sprintf("bytes=%d-%d", bad-5, bad+5), "If-Range": etag(w, t)}, want: 500, code: "damaged"},
		{as: "editor", do: "POST {product}/attachments", form: parts{file("again.txt", content)}, want: 201},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": fmt.Sprintf("bytes=%d-%d", bad-5, bad+5)}, want: 206, is: content[bad-5 : bad+6]},
		{as: "viewer", do: "GET {A.at}", want: 200, is: content},
	})
	w.unmarkedAndWhole(t)
}

// unmark removes the mark of a damaged content, whatever its bytes.
func (w *world) unmark(t *testing.T, ref blobs.Ref) {
	t.Helper()
	read, err := w.blobs.OpenMarked(t.Context(), ref)
	w.must(err)
	w.must(errors.Join(w.blobs.Unmark(t.Context(), ref, read), read.Close()))
}

// getRange requests a range on a new connection.
func (w *world) getRange(t *testing.T, path, ranges string) (answer, error) {
	t.Helper()
	r := w.request(t, step{as: "viewer", do: "GET " + path, send: header{"Range": ranges}})
	r.Close = true
	response, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(response), nil
}

// unmarkedAndWhole checks that a deep check finds nothing.
func (w *world) unmarkedAndWhole(t *testing.T) {
	t.Helper()
	a := w.do(t, step{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200})
	if !strings.Contains(string(a.body), `"faults":[]`) || w.server.Damaged() != 0 {
		t.Errorf("%s", a.body)
	}
}

func TestSeveralRangesOfARottenFileAreCutBeforeTheRottenOne(t *testing.T) {
	t.Parallel()
	content := text(3 * chunk)
	w := withFile(t, content)
	w.expectLog("a stored content is damaged")
	w.flip(t, "{A}", chunk+9)
	whole, err := w.getRange(t, "{A.at}", fmt.Sprintf("bytes=5-14,%d-%d", 2*chunk, 2*chunk+9))
	if err != nil || whole.cut != nil || whole.status != 206 || !bytes.Contains(whole.body, []byte(content[5:15])) || !bytes.Contains(whole.body, []byte(content[2*chunk:2*chunk+10])) {
		t.Errorf("ranges beside it: %d, %v, %v", whole.status, err, whole.cut)
	}
	cut, err := w.getRange(t, "{A.at}", fmt.Sprintf("bytes=5-50004,%d-%d", chunk, 2*chunk))
	w.must(err)
	_, params, err := mime.ParseMediaType(cut.header.Get("Content-Type"))
	w.must(err)
	reader := multipart.NewReader(bytes.NewReader(cut.body), params["boundary"])
	var got []byte
	for part, err := reader.NextPart(); err == nil; part, err = reader.NextPart() {
		body, _ := io.ReadAll(part)
		got = append(got, body...)
	}
	if cut.cut == nil || string(got) != content[5:50005] || w.server.Damaged() != 1 {
		t.Errorf("%d bytes of the file came, %v, and %d contents are marked", len(got), cut.cut, w.server.Damaged())
	}
	w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
}

// For every size, and for staged and flushed contents, a range over the rotten byte
// reports the damage, and no other byte is wrong.
func TestTheLastByteOfARottenFileIsCheckedLikeEveryOther(t *testing.T) {
	t.Parallel()
	for _, size := range []int{2, 1000, chunk - 1, chunk, chunk + 1, 2 * chunk} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			w := withFile(t, text(size))
			w.expectLog("a stored content is damaged")
			w.expectLog(`"code":"damaged"`)
			w.flip(t, "{A}", -1)
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=-1"}, want: 500, code: "damaged"},
				{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200},
			})
		})
	}
}

func TestNoPreviewIsMadeOfARottenFile(t *testing.T) {
	t.Parallel()
	var archive bytes.Buffer
	z := zip.NewWriter(&archive)
	for i := range 2000 {
		_, err := z.Create(fmt.Sprintf("file%04d.txt", i))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	table := []byte("name,amount\n" + strings.Repeat("a row,1000\n", 10_000))
	for name, c := range map[string]struct {
		content []byte
		view    string
		at      int64
	}{
		"small.csv": {table[:200], "preview", 30},
		"large.csv": {table, "preview", chunk + 30},
		"a.zip":     {archive.Bytes(), "preview", -500},
		"a.png":     {pngOf(t, 300, 300), "thumbnail", 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.expectLog("a stored content is damaged")
			w.expectLog(`"code":"damaged"`)
			w.uploaded(t, "{product}", name, c.content, "A")
			w.flip(t, "{A}", c.at)
			w.play(t, []step{
				{as: "viewer", do: "GET /catalog/attachments/{A}/" + c.view, want: 500, code: "damaged"},
				{as: "viewer", do: "GET /catalog/attachments/{A}/" + c.view, want: 500, code: "damaged"},
				{as: "viewer", do: "GET {A.at}", want: 500, code: "damaged"},
			})
			if files := w.thumbnailFiles(t); len(files) > 0 {
				t.Errorf("kept: %v", files)
			}
			w.uploaded(t, "{product}", name, c.content, "B")
			w.do(t, step{as: "viewer", do: "GET /catalog/attachments/{A}/" + c.view, want: 200})
		})
	}
}

// A cable, a path to a disk or a file system may fail and recover: the files are
// unchanged.
func TestWhatCannotBeReadForAWhileIsNotDamaged(t *testing.T) {
	t.Parallel()
	content := text(3*chunk + 1)
	for name, failing := range map[string]*fault{
		"EIO":       {err: syscall.EIO, only: "read blobs/", forever: true},
		"ETIMEDOUT": {err: syscall.ETIMEDOUT, only: "read blobs/", forever: true},
		"ESTALE":    {err: syscall.ESTALE, only: "open blobs/", forever: true},
		"EMFILE":    {err: syscall.EMFILE, only: "open blobs/", forever: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, content, filesAtOnce)
			w.expectLog("a stored content cannot be read at the moment")
			w.expectLog("a check found faults")
			w.uploaded(t, "{product}", "b.csv", []byte("name,amount\none,1\n"), "B")
			w.uploaded(t, "{product}", "c.png", pngOf(t, 30, 30), "C")
			w.fault.Store(failing)
			later := header{"Retry-After": "30"}
			w.play(t, []step{
				{as: "viewer", do: "GET {A.at}", want: 503, code: "storage_unreadable", header: later},
				{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=7-9"}, want: 503, code: "storage_unreadable", header: later},
				{as: "viewer", do: "GET /catalog/attachments/{B}/preview", want: 503, code: "storage_unreadable", header: later},
				{as: "viewer", do: "GET /catalog/attachments/{C}/thumbnail", want: 503, code: "storage_unreadable", header: later},
				{as: "root", do: "POST /upkeep/check", json: `{"deep": true}`, want: 200, check: func(t *testing.T, a answer) {
					if bytes.Count(a.body, []byte(`"unreadable":true`)) != 3 {
						t.Errorf("%s", a.body)
					}
				}},
			})
			w.fault.Store(nil)
			w.metrics(t, "attachd_damaged_reads_total 0", "attachd_damaged_contents 0", "attachd_read_errors_total 4")
			for range 2 {
				w.play(t, []step{
					{as: "viewer", do: "GET {A.at}", want: 200, is: content},
					{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=7-9"}, want: 206, is: content[7:10]},
					{as: "viewer", do: "GET /catalog/attachments/{B}/preview", want: 200},
					{as: "viewer", do: "GET /catalog/attachments/{C}/thumbnail", want: 200},
				})
				w.unmarkedAndWhole(t)
				w.restart()
			}
		})
	}
}

// Also when nothing is verified, or was verified a moment ago.
func TestADownloadThatCannotBeReadToItsEndIsCut(t *testing.T) {
	t.Parallel()
	content := text(8 * chunk)
	for name, c := range map[string]struct {
		option func(*server.Config)
		before int // downloads
	}{
		"checked":         {filesAtOnce, 0},
		"checked lately":  {filesAtOnce, 1},
		"nothing checked": {func(c *server.Config) { c.LogBelow, c.VerifyReads = 0, false }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, content, c.option)
			w.server.SetSteady(0)
			w.expectLog("a stored content cannot be read at the moment")
			for range c.before {
				w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: content})
			}
			for _, ranges := range []string{"", "bytes=10-", "bytes=1-2,70000-500000"} {
				w.fault.Store(&fault{err: syscall.EIO, at: 4, only: "read blobs/", forever: true})
				a, err := w.getRange(t, "{A.at}", ranges)
				if err != nil || a.cut == nil || a.status >= 300 {
					t.Errorf("%s: %d with %d bytes, %v, %v", ranges, a.status, len(a.body), err, a.cut)
				}
				w.fault.Store(nil)
			}
			w.metrics(t, "attachd_damaged_reads_total 0", "attachd_read_errors_total 3")
			w.do(t, step{as: "viewer", do: "GET {A.at}", want: 200, is: content})
			w.unmarkedAndWhole(t)
		})
	}
}

func TestABackupIsToldWhatCannotBeReadForAWhile(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet, filesAtOnce)
	w.expectLog("a stored content cannot be read at the moment")
	content := w.operator(t) + "/upkeep/contents/" + filepath.Base(w.blobFile(t, "{A}"))
	for _, only := range []string{"open blobs/", "lstat blobs/", "read blobs/"} {
		w.fault.Store(&fault{err: syscall.EIO, only: only, forever: true})
		response, err := http.Get(content)
		w.must(err)
		if a := readAnswer(response); a.status != 503 || !strings.Contains(string(a.body), `"storage_unreadable"`) {
			t.Errorf("%s: answered %d %s", only, a.status, a.body)
		}
		w.fault.Store(nil)
	}
	response, err := http.Get(content)
	w.must(err)
	if a := readAnswer(response); a.status != 200 || string(a.body) != alphabet || w.server.Damaged() != 0 {
		t.Errorf("later: answered %d %s", a.status, a.body)
	}
}

func TestFilesOfADiskThatIsAwayComeBack(t *testing.T) {
	t.Parallel()
	w := withFile(t, alphabet)
	w.expectLog("cannot be read at the moment")
	path := w.blobFile(t, "{A}")
	away, elsewhere := filepath.Join(w.dir, "blobs", "sha256"), filepath.Join(w.dir, "elsewhere")
	w.must(os.Rename(away, elsewhere))
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 503, code: "storage_unreadable"},
		{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=0-0"}, want: 503, code: "storage_unreadable"},
		{as: "viewer", do: "HEAD {A.at}", want: 503},
	})
	w.must(os.Rename(elsewhere, away))
	w.play(t, []step{
		{as: "viewer", do: "GET {A.at}", want: 200, is: alphabet},
		{as: "root", do: "GET /metrics", want: 200},
	})
	w.metrics(t, "attachd_damaged_reads_total 0", "attachd_read_errors_total 3")
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	w.unmarkedAndWhole(t)
}

// old is an attachment from an earlier version, without checksums.
func (w *world) old(t *testing.T, content string) (path string, sum [32]byte) {
	t.Helper()
	sum = sha256.Sum256([]byte(content))
	w.plant(t, content, startOfTime)
	like, err := w.store.Attachment(context.Background(), uuid.MustParse(w.fill(t, "{A}")))
	w.must(err)
	like.SHA256, like.Size = sum, int64(len(content))
	return "/catalog/attachments/" + w.createRecord(t, like).String() + "/download", sum
}

func TestAFileFromBeforeChecksumsIsHashedWhenItIsFirstRead(t *testing.T) {
	t.Parallel()
	content := text(4*chunk + 7)
	for name, send := range map[string]header{"all of it": nil, "a range": {"Range": "bytes=-9"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet)
			w.flushContents()
			path, sum := w.old(t, content)
			is := map[bool]string{true: content, false: content[len(content)-9:]}[send == nil]
			for range 2 {
				w.do(t, step{as: "viewer", do: "GET " + path, send: send, want: map[bool]int{true: 200, false: 206}[send == nil], is: is})
				var want blobs.Summer
				_, err := io.WriteString(&want, content)
				w.must(err)
				if got, err := w.store.Checksums(t.Context(), sum); err != nil || !bytes.Equal(got, want.Sum()) {
					t.Errorf("%x, %v", got, err)
				}
			}
			w.unmarkedAndWhole(t)
		})
		t.Run(name+", and it is rotten", func(t *testing.T) {
			t.Parallel()
			w := withFile(t, alphabet)
			w.expectLog("a stored content is damaged")
			w.expectLog(`"code":"damaged"`)
			w.flushContents()
			path, sum := w.old(t, content)
			file := w.plant(t, content, startOfTime)
			raw := []byte(content)
			raw[5] ^= 1
			w.must(os.WriteFile(file, raw, 0o600))
			a, err := w.getRange(t, path, send["Range"])
			if err == nil && a.cut == nil && a.status < 500 || w.server.Damaged() != 1 {
				t.Errorf("answered %d, %v, %v, and %d contents are marked", a.status, err, a.cut, w.server.Damaged())
			}
			if _, err := w.store.Checksums(t.Context(), sum); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("it has checksums: %v", err)
			}
			w.do(t, step{as: "editor", do: "DELETE " + strings.TrimSuffix(path, "/download"), want: 200})
		})
	}
}

// Whether or not a content is staged, its checksums are recorded with its first record,
// and deleted with the last.
func TestAnUploadBringsItsChecksums(t *testing.T) {
	t.Parallel()
	content := text(3*chunk + 1)
	for name, logBelow := range map[string]int64{"files at once": 0, "contents wait": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := withFile(t, content, func(c *server.Config) { c.LogBelow = logBelow })
			var want blobs.Summer
			_, err := io.WriteString(&want, content)
			w.must(err)
			sum := sha256.Sum256([]byte(content))
			for range 2 { // before and after it has its file
				if got, err := w.store.Checksums(t.Context(), sum); err != nil || !bytes.Equal(got, want.Sum()) {
					t.Errorf("%x, %v, not %x", got, err, want.Sum())
				}
				w.do(t, step{as: "viewer", do: "GET {A.at}", send: header{"Range": "bytes=-5"}, want: 206, is: content[len(content)-5:]})
				w.flushContents()
			}
			w.do(t, step{as: "editor", do: "DELETE /catalog/attachments/{A}", want: 200})
			if got, err := w.store.Checksums(t.Context(), sum); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("afterwards: %x, %v", got, err)
			}
		})
	}
}
