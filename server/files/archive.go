package files

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server/api"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/store"
)

const (
	// maxArchived is how many files an archive has at most. About heldByArchived bytes of
	// each are in memory while it is sent.
	maxArchived    = 10_000
	heldByArchived = 1 << 10
)

// DownloadArchive answers GET .../attachments.zip: with the files of a list, by the same
// filters, in one ZIP archive.
func (s *Service) DownloadArchive(w *api.Response, rq *api.Request, sc api.Scope) error {
	filters := slices.DeleteFunc(filtersOf(sc.Entity.Kind), func(name string) bool { return name == "sort" })
	if err := rq.CheckQuery(filters, "mime_type"); err != nil {
		return err
	}
	query, err := readAttachmentQuery(rq.URL.Query(), filters)
	if err != nil {
		return err
	}
	list := []store.Attachment{}
	var full error
	err = s.visit(rq.Context(), sc.Entity.Parent, query, uuid.Nil, func(a store.Attachment) bool {
		if list = append(list, a); len(list)%api.FetchBatch == 0 {
			full = s.holdArchive(rq, len(list))
		}
		return len(list) <= maxArchived && full == nil
	})
	if err := cmp.Or(err, full); err != nil {
		return err
	}
	return s.sendArchive(w, rq, sc, list)
}

// holdArchive counts the memory of an archive with that many files.
func (s *Service) holdArchive(rq *api.Request, files int) error {
	return rq.Hold(max(portion, s.LogBelow) + heldByArchived*int64(files))
}

// DownloadSelection answers POST .../attachments.zip: with the files that the body names.
func (s *Service) DownloadSelection(w *api.Response, rq *api.Request, sc api.Scope) error {
	var body struct {
		IDs []string `json:"ids"`
	}
	if err := rq.ReadJSON(&body); err != nil {
		return err
	}
	if len(body.IDs) == 0 {
		return api.InvalidRequest("ids must name at least one attachment. GET answers with all files.")
	}
	list, seen := []store.Attachment{}, map[uuid.UUID]bool{}
	for _, text := range body.IDs {
		id, ok := api.ParseID(text)
		if !ok {
			return api.InvalidRequest("ids must be a list of attachments' ids (UUIDs).")
		}
		if seen[id] {
			continue
		}
		seen[id] = true
		a, err := s.Store.Attachment(rq.Context(), id)
		if err == nil && a.Parent != sc.Entity.Parent {
			err = store.NoAttachment(id)
		}
		if err != nil {
			return err
		}
		list = append(list, a)
	}
	return s.sendArchive(w, rq, sc, list)
}

// sendArchive answers with the files of one parent in a ZIP archive.
func (s *Service) sendArchive(w *api.Response, rq *api.Request, sc api.Scope, list []store.Attachment) error {
	if len(list) > maxArchived {
		return api.InvalidRequest("These are more than the %d files that one archive may have. Choose some of them by name, mime_type, uploaded_by or since, or run `attachd export`.", maxArchived)
	}
	if err := s.holdArchive(rq, len(list)); err != nil {
		return err
	}
	if err := s.refuseDamaged(rq, list); err != nil {
		return err
	}
	a := newArchive(s, rq, list)
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", content.Disposition("attachment", a.nameFor(sc.Entity)))
	h.Set("ETag", a.etag)
	h.Set("Accept-Ranges", "bytes")
	// Several ranges may be answered with the whole, and any of another method has to be
	// (RFC 9110, section 14.2).
	if parts := tidyRange(rq.Header, a.size); len(parts) > 1 || rq.Method == http.MethodPost {
		rq.Header.Del("Range")
	}
	joinConditions(rq.Header)
	rq.RecordsFiles = true
	out := &sending{Response: w, rq: rq}
	http.ServeContent(out, rq.Request, "", time.Time{}, a) // a time would not tell that an older file has gone
	if failed := cmp.Or(a.failed, out.failed); failed != nil {
		if !out.delayed() {
			panic(http.ErrAbortHandler) // cut the connection: the archive must not end cleanly
		}
		h.Del("Content-Range")
		return failed
	}
	out.begin()
	s.count(w, rq)
	return nil
}

// refuseDamaged names a file that is known to be damaged: an archive that is cut off says
// nothing. Of those that broke off an archive before, it looks whether they are whole now.
func (s *Service) refuseDamaged(rq *api.Request, list []store.Attachment) error {
	is := make(map[blobs.Ref]bool)
	for _, ref := range s.Contents.Marked() {
		is[ref] = true
	}
	for _, a := range list {
		broke := s.broke.has(a.SHA256)
		if broke {
			info, err := s.Contents.Stat(rq.Context(), a.SHA256)
			broke = errors.Is(err, blobs.ErrNotFound) || err == nil && (info.Damaged || info.Size != a.Size)
		}
		if broke || is[a.SHA256] {
			return damagedIn(a, blobs.ErrDamaged)
		}
	}
	return nil
}

// damagedIn is the refusal of an archive for a file that is damaged.
func damagedIn(a store.Attachment, cause error) error {
	return &api.Refusal{Status: http.StatusInternalServerError, Code: "damaged", Cause: fmt.Errorf("attachment %s: %w", a.ID, cause),
		Detail: fmt.Sprintf("The file %q is damaged. Upload the same file again, which repairs it, or leave it out: POST takes the ids of others.", a.FileName)}
}

// archive is a ZIP archive of files, without compression. It is made while it is sent, and
// its bytes follow from the names, sizes, times and contents of the files, so that any part
// of it can be sent again.
type archive struct {
	s     *Service
	rq    *api.Request
	files []store.Attachment
	names []string // of the files, in the archive
	sums  string   // the content of content.SumsName
	size  int64
	etag  string

	at     int64 // where the next part begins
	failed error // why a content could not be read
}

func newArchive(s *Service, rq *api.Request, list []store.Attachment) *archive {
	a := &archive{s: s, rq: rq, files: list, names: make([]string, len(list))}
	var names content.LocalNames
	names.Add(content.SumsName, "") // reserved for the list of sums, which comes last
	var sums strings.Builder
	hash := sha256.New()
	for i, f := range list {
		a.names[i] = names.Add(f.FileName, "")
		fmt.Fprintf(&sums, "%s  %s\n", blobs.Ref(f.SHA256), a.names[i])
		fmt.Fprintf(hash, "%s %d\n", f.ID, f.CreatedAt().Unix())
	}
	a.sums = sums.String()
	out := &window{end: -1} // which is nowhere, and takes all
	_ = a.write(out, func(w io.Writer, i int) (uint32, error) { return 0, skip(w, list[i].Size) })
	io.WriteString(hash, a.sums)
	a.size, a.etag = out.at, fmt.Sprintf(`"zip-%x"`, hash.Sum(nil)) // the ETag of a file is its SHA-256
	return a
}

// newest is when the newest of the files was uploaded.
func (a *archive) newest() time.Time {
	t := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) // the first that a ZIP archive can have
	for _, f := range a.files {
		if at := f.CreatedAt(); at.After(t) {
			t = at
		}
	}
	return t
}

// nameFor names the archive after what its files are attached to.
func (a *archive) nameFor(e store.Entity) string {
	name := content.LocalName(e.Name, content.LongestName)
	if name == "" {
		name = e.Kind.String() + " " + e.ID.String()
	}
	return name + ".zip"
}

// write writes the archive. put writes the content of the i-th file, and returns its CRC-32.
func (a *archive) write(to io.Writer, put func(w io.Writer, i int) (sum uint32, err error)) error {
	z := zip.NewWriter(to)
	for i, f := range a.files {
		h := header(a.names[i], f.Size, f.CreatedAt())
		w, err := z.CreateRaw(h)
		if err == nil {
			err = z.Flush() // put sees where it begins
		}
		if err == nil {
			h.CRC32, err = put(w, i)
		}
		if err != nil {
			return err
		}
	}
	h := header(content.SumsName, int64(len(a.sums)), a.newest())
	h.CRC32 = crc32.ChecksumIEEE([]byte(a.sums))
	w, err := z.CreateRaw(h)
	if err == nil {
		_, err = io.WriteString(w, a.sums)
	}
	return cmp.Or(err, z.Close())
}

// header describes a file that is stored as it is. Its CRC-32 follows its content
// (APPNOTE.TXT of PKWARE, 4.3.9), since it is known only then.
func header(name string, size int64, modified time.Time) *zip.FileHeader {
	const (
		sumFollows, utf8Name = 1 << 3, 1 << 11
		unixTime             = 0x5455 // the extra field "UT" of Info-ZIP
		unix, version20      = 3 << 8, 20
	)
	h := &zip.FileHeader{Name: name, Method: zip.Store, Flags: sumFollows | utf8Name, CreatorVersion: unix | version20, ReaderVersion: version20,
		CompressedSize64: uint64(size), UncompressedSize64: uint64(size)}
	h.SetMode(0o644)
	h.SetModTime(modified.UTC()) // for programs that know no other time
	h.Extra = binary.LittleEndian.AppendUint16(nil, unixTime)
	h.Extra = append(h.Extra, 5, 0, 1) // its length, and which times follow
	h.Extra = binary.LittleEndian.AppendUint32(h.Extra, uint32(modified.Unix()))
	return h
}

// Seek implements io.Seeker for http.ServeContent.
func (a *archive) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekEnd:
		offset += a.size
	case io.SeekCurrent:
		offset += a.at
	}
	a.at = offset
	return offset, nil
}

// Read is not used: http.ServeContent copies by sending.ReadFrom.
func (a *archive) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

// SendTo sends n bytes. Of what is before them, it reads only what their CRC-32 needs.
func (a *archive) SendTo(w contents.Sink, n int64) (int64, error) {
	out := &window{to: w, from: a.at, end: a.at + n, ctx: a.rq.Context()}
	err := a.write(out, func(w io.Writer, i int) (uint32, error) {
		f := a.files[i]
		begin := out.at
		sum, err := a.put(w, f, min(max(out.from-begin, 0), f.Size))
		if out.from < begin+f.Size && out.end > begin {
			a.rq.RecordFile(f)
		}
		return sum, err
	})
	a.at += out.sent
	if errors.Is(err, errWindowEnds) {
		err = nil
	}
	return out.sent, err
}

// put writes the content of a file, of which only what comes after so many bytes is sent.
func (a *archive) put(w io.Writer, f store.Attachment, unsent int64) (uint32, error) {
	var known crc
	if unsent > 0 { // else it is made anew: what was read before may have been damaged, and repaired since
		known = a.crcOf(f)
	}
	if known.bytes >= f.Size && unsent == f.Size {
		return known.sum, skip(w, f.Size)
	}
	file, err := a.s.Contents.Reader(a.rq.Context(), a.rq.Log, f, false)
	if err != nil {
		return 0, a.broken(f, err)
	}
	defer file.Close()
	file.TrustRecent(a.s.Now())
	to := &summing{Writer: w}
	switch {
	case known.bytes >= f.Size:
		err = to.begin(file, w, crc{bytes: unsent})
	case known.bytes <= unsent:
		err = to.begin(file, w, known)
	}
	if err == nil && to.bytes < f.Size {
		_, err = file.SendTo(to, f.Size-to.bytes)
	}
	if failed := cmp.Or(file.Err(), to.failed); failed != nil {
		return 0, a.broken(f, file.Report(failed))
	}
	if known.bytes >= f.Size {
		return known.sum, err
	}
	a.s.crcs.add(f.SHA256, to.crc) // also of a part, when the client has gone
	return to.sum, err
}

// crcOf returns what is known of the CRC-32 of a content. A larger one has it since its
// upload; what is not known is made anew.
func (a *archive) crcOf(f store.Attachment) crc {
	known := a.s.crcs.of(f.SHA256)
	if known.bytes >= f.Size || f.Size <= blobs.ChunkSize {
		return known
	}
	sums, err := a.s.Store.Checksums(a.rq.Context(), f.SHA256)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		a.rq.Log().Warn("the CRC-32 of a content cannot be read, and is made anew", "blob", blobs.Ref(f.SHA256).String(), "error", err)
	}
	if sum, is := blobs.Checksums(sums).CRC32(f.Size); is && err == nil {
		known = crc{f.Size, sum}
		a.s.crcs.add(f.SHA256, known)
	}
	return known
}

// broken keeps why a content could not be read.
func (a *archive) broken(f store.Attachment, err error) error {
	if a.failed = err; errors.Is(err, blobs.ErrDamaged) || errors.Is(err, blobs.ErrNotFound) {
		a.s.broke.add(f.SHA256, crc{})
		a.failed = damagedIn(f, err)
	}
	return a.failed
}

// crc is a CRC-32 of the first bytes of a content.
type crc struct {
	bytes int64
	sum   uint32
}

// summing is a writer that computes a CRC-32.
type summing struct {
	io.Writer
	crc
	failed error // why a content could not be read
}

// begin goes on behind the bytes of a CRC-32.
func (w *summing) begin(file *contents.Reader, to io.Writer, from crc) error {
	if from.bytes == 0 {
		return nil
	}
	w.crc = from
	if _, err := file.Seek(from.bytes, io.SeekStart); err != nil {
		return err
	}
	return skip(to, from.bytes)
}

func (w *summing) Write(p []byte) (int, error) {
	w.sum = crc32.Update(w.sum, crc32.IEEETable, p)
	w.bytes += int64(len(p))
	return w.Writer.Write(p)
}

// SendFile implements contents.Sink.
func (w *summing) SendFile(file blobs.Content, n int64) (sent int64, err error) {
	buffer := portions.Get().(*[portion]byte)
	defer portions.Put(buffer)
	for sent < n {
		some, err := io.ReadFull(file, buffer[:min(n-sent, portion)])
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = contents.ErrShort
			}
			w.failed = err
			return sent, err
		}
		some, err = w.Write(buffer[:some])
		if sent += int64(some); err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// portions is a pool of buffers for SendFile.
var portions = sync.Pool{New: func() any { return new([portion]byte) }}

// errWindowEnds ends the making of an archive behind the last byte that is to be sent.
var errWindowEnds = errors.New("all of the part is sent")

// window is a writer that passes on the bytes from one position up to another.
type window struct {
	to        io.Writer
	ctx       context.Context // ends what nobody gets any more
	from, end int64
	at        int64 // position of the next byte
	sent      int64
}

func (w *window) Write(p []byte) (int, error) {
	begin := w.at
	w.at += int64(len(p))
	if w.end < 0 {
		return len(p), nil
	}
	first, last := max(w.from-begin, 0), min(w.end-begin, int64(len(p)))
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if first < last {
		n, err := w.to.Write(p[first:last])
		if w.sent += int64(n); err != nil {
			return 0, err
		}
	}
	if w.at >= w.end {
		return 0, errWindowEnds
	}
	return len(p), nil
}

var zeros [1 << 20]byte

// skip writes n bytes that nobody gets.
func skip(w io.Writer, n int64) error {
	for n > 0 {
		some, err := w.Write(zeros[:min(n, int64(len(zeros)))])
		if err != nil {
			return err
		}
		n -= int64(some)
	}
	return nil
}

// maxCRCs is how many CRC-32 are remembered.
const maxCRCs = 50_000

// crcs remembers CRC-32 of contents that were sent in an archive, so that a download that is
// continued reads nothing of what the client has.
type crcs struct {
	mu   sync.Mutex
	some map[[32]byte]crc
}

func (s *crcs) of(sha256 [32]byte) crc {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.some[sha256]
}

func (s *crcs) has(sha256 [32]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, is := s.some[sha256]
	return is
}

func (s *crcs) add(sha256 [32]byte, sum crc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.some == nil {
		s.some = map[[32]byte]crc{}
	}
	for one := range s.some {
		if len(s.some) < maxCRCs {
			break
		}
		delete(s.some, one)
	}
	if sum.bytes >= s.some[sha256].bytes {
		s.some[sha256] = sum
	}
}
