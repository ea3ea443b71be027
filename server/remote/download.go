package remote

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"

	"attachd/server/content"
)

// About is the metadata of a file from the headers of its download.
type About struct {
	Name   string            // safe as a file name; empty if the server sent none
	Size   int64             // bytes
	Digest [sha256.Size]byte // all zeros for an archive, which has those of its files
	etag   string
}

// Stat requests the metadata of a file.
func (c *Client) Stat(ctx context.Context, a Address) (about About, err error) {
	err = c.retry(ctx, func() error {
		response, err := c.send(ctx, call{method: "HEAD", path: a.download(), header: wantsBytes(), follow: true})
		if r := (*Refusal)(nil); errors.As(err, &r) && !passes(err) {
			// The answer to a HEAD has no error text; that to a GET has.
			if response, err = c.send(ctx, call{method: "GET", path: a.download(), header: wantsBytes(), follow: true}); err == nil {
				defer response.Body.Close() // only its headers are read
			}
		}
		if err != nil {
			return err
		}
		defer response.Body.Close() // it is empty
		about, err = aboutOf(response, a.isArchive)
		return err
	})
	return about, err
}

// wantsBytes makes the server send the file itself rather than a link, however it is
// configured.
func wantsBytes() http.Header { return http.Header{"Accept": {"application/octet-stream"}} }

func aboutOf(response *http.Response, isArchive bool) (About, error) {
	about := About{Size: response.ContentLength, etag: response.Header.Get("ETag")}
	if _, params, err := mime.ParseMediaType(response.Header.Get("Content-Disposition")); err == nil && params["filename"] != "" {
		if about.Name, err = content.CleanName(params["filename"]); err != nil {
			about.Name = ""
		}
	}
	known := isArchive
	for _, digest := range [][]byte{reprDigest(response.Header.Get("Repr-Digest")), etagDigest(about.etag)} {
		if len(digest) != sha256.Size {
			continue
		}
		if known && about.Digest != [sha256.Size]byte(digest) {
			return About{}, errors.New("the server names two different SHA-256 for the file")
		}
		about.Digest, known = [sha256.Size]byte(digest), true
	}
	if !known || about.Size < 0 {
		return About{}, errors.New("the server does not say the file's length and SHA-256: is that the server's URL?")
	}
	return about, nil
}

// reprDigest returns the sha-256 of a Repr-Digest header (RFC 9530), nil if it has
// none.
func reprDigest(header string) []byte {
	for _, member := range strings.Split(header, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(member), "sha-256=:"); ok {
			digest, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(value, ":"))
			if err == nil {
				return digest
			}
		}
	}
	return nil
}

// etagDigest returns the SHA-256 in an ETag, which is that in hexadecimal; nil if it is
// something else.
func etagDigest(etag string) []byte {
	digest, err := hex.DecodeString(strings.Trim(etag, `"`))
	if err != nil {
		return nil
	}
	return digest
}

// CorruptError means that a file did not arrive as it is stored.
type CorruptError struct {
	Got, Want [sha256.Size]byte
	Archive   error // what is wrong with an archive; nil for a file
}

func (e *CorruptError) Error() string {
	if e.Archive != nil {
		return fmt.Sprintf("the archive did not arrive as it is stored: %v", e.Archive)
	}
	return fmt.Sprintf("the file did not arrive as it is stored: its SHA-256 is %x, not %x", e.Got, e.Want)
}

// Copy writes a file to w and compares its SHA-256 with that which the server has
// announced: the error is a *CorruptError after everything was written. An archive is
// compared with nothing, since only one that is whole can be read. A connection that is
// cut is resumed.
func (c *Client) Copy(ctx context.Context, a Address, about About, w io.Writer, moved func(bytes int64)) error {
	hash := sha256.New()
	to := io.MultiWriter(hash, w)
	if a.isArchive {
		to = w
	}
	if err := c.fetch(ctx, a, about, 0, to, moved); err != nil {
		if passes(err) {
			err = fmt.Errorf("%w; what was written is not the whole file: get it again from its start", err)
		}
		return err
	}
	if a.isArchive {
		return nil
	}
	return compare(hash.Sum(nil), about)
}

// Save writes a file to path by way of path + ".part". It continues what an earlier
// attempt left there, and renames it to path once all of it is synced to the disk with
// the right SHA-256. Only if replace is set does it replace an existing file at path.
func (c *Client) Save(ctx context.Context, a Address, about About, path string, replace bool, moved func(bytes int64)) error {
	part := path + ".part"
	resumed, err := c.savePart(ctx, a, about, part, moved)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) {
		// If it were kept, the next attempt would continue it.
		if err := os.Remove(part); err != nil {
			return errors.Join(corrupt, err)
		}
		if resumed > 0 { // the resumed part may be of another file
			moved(-about.Size)
			_, err = c.savePart(ctx, a, about, part, moved)
			if errors.As(err, &corrupt) {
				return errors.Join(err, os.Remove(part))
			}
		}
	}
	if err != nil {
		return kept(err, part)
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("%s has come into being meanwhile; what was downloaded is %s", path, part)
	}
	return os.Rename(part, path)
}

// kept adds the path of the incomplete download to an error that a retry may fix. An
// empty part is removed.
func kept(err error, part string) error {
	if !passes(err) {
		return err
	}
	info, statErr := os.Lstat(part)
	switch {
	case statErr != nil:
		return errors.Join(err, statErr)
	case info.Size() == 0:
		return errors.Join(err, os.Remove(part))
	}
	return fmt.Errorf("%w and are in %s: the same command goes on from there", err, part)
}

// savePart completes a part, and returns how many bytes of it there were before.
func (c *Client) savePart(ctx context.Context, a Address, about About, part string, moved func(int64)) (resumed int64, err error) {
	if info, err := os.Lstat(part); err == nil && !info.Mode().IsRegular() {
		return 0, fmt.Errorf("%s is in the way", part)
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return 0, err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	if resumed, err = f.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	if resumed > about.Size {
		if err := errors.Join(f.Truncate(0), rewind(f)); err != nil {
			return 0, err
		}
		resumed = 0
	}
	moved(resumed)
	if err := c.fetch(ctx, a, about, resumed, f, moved); err != nil {
		return resumed, err
	}
	if err := f.Sync(); err != nil {
		return resumed, err
	}
	if a.isArchive {
		return resumed, compareArchive(f, about.Size)
	}
	// The hash covers the whole file, including what an earlier attempt wrote.
	hash := sha256.New()
	if err := rewind(f); err != nil {
		return resumed, err
	}
	if _, err := io.Copy(hash, f); err != nil {
		return resumed, err
	}
	return resumed, compare(hash.Sum(nil), about)
}

func rewind(f *os.File) error {
	_, err := f.Seek(0, io.SeekStart)
	return err
}

func compare(sum []byte, about About) error {
	if got := [sha256.Size]byte(sum); got != about.Digest {
		return &CorruptError{Got: got, Want: about.Digest}
	}
	return nil
}

// compareArchive compares the files in a ZIP archive with its SHA256SUMS. An error of
// reading the archive itself is not a *CorruptError.
func compareArchive(f io.ReaderAt, size int64) error {
	err := compareArchived(f, size)
	for _, broken := range []error{zip.ErrFormat, zip.ErrChecksum, zip.ErrAlgorithm, fs.ErrNotExist, io.ErrUnexpectedEOF, errOtherSum} {
		if errors.Is(err, broken) {
			return &CorruptError{Archive: err}
		}
	}
	return err
}

// errOtherSum means that a file in an archive is not the one that its SHA256SUMS lists.
var errOtherSum = errors.New("it is not as " + content.SumsName + " says")

func compareArchived(f io.ReaderAt, size int64) error {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return err
	}
	listed, err := z.Open(content.SumsName)
	if err != nil {
		return err
	}
	defer listed.Close() // only read
	sums := map[string]string{}
	lines := bufio.NewScanner(listed)
	for lines.Scan() {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		sums[name] = sum
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, packed := range z.File {
		if packed.Name == content.SumsName {
			continue
		}
		r, err := packed.Open()
		if err != nil {
			return fmt.Errorf("%s: %w", packed.Name, err)
		}
		hash := sha256.New()
		if _, err := io.Copy(hash, r); err != nil {
			return fmt.Errorf("%s: %w", packed.Name, err)
		}
		if hex.EncodeToString(hash.Sum(nil)) != sums[packed.Name] {
			return fmt.Errorf("%s: %w", packed.Name, errOtherSum)
		}
		delete(sums, packed.Name)
	}
	if len(sums) > 0 {
		return fmt.Errorf("%d files are missing: %w", len(sums), errOtherSum)
	}
	return nil
}

// fetch writes the bytes from offset from on, over as many connections as needed.
func (c *Client) fetch(ctx context.Context, a Address, about About, from int64, w io.Writer, moved func(int64)) error {
	for tries := (attempts{client: c}); from < about.Size; {
		n, err := c.fetchOnce(ctx, a, about, from, w, moved)
		if from += n; n > 0 {
			tries.forward()
		}
		if err == nil {
			continue
		}
		if err := tries.again(ctx, err); err != nil {
			if passes(err) && from > 0 {
				err = fmt.Errorf("%w; %d of %d bytes came", err, from, about.Size)
			}
			return err
		}
	}
	return nil
}

// fetchOnce writes the bytes that arrive on one connection.
func (c *Client) fetchOnce(ctx context.Context, a Address, about About, from int64, w io.Writer, moved func(int64)) (n int64, err error) {
	header := wantsBytes()
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		header.Set("If-Range", about.etag)
	}
	response, err := c.send(ctx, call{method: "GET", path: a.download(), header: header, follow: true})
	if err != nil {
		return 0, err
	}
	defer response.Body.Close() // a failure shows when the body is read to its end
	// An object store has an ETag of its own. Whatever it sends, the SHA-256 tells.
	etag, stored := response.Header.Get("ETag"), response.Request.Header.Get("Authorization") == ""
	if etag != about.etag && (!stored || len(etagDigest(etag)) == sha256.Size) {
		return 0, errors.New("the server has another file now: get it from its start")
	}
	switch {
	case from == 0 && response.StatusCode == http.StatusOK:
	case response.StatusCode == http.StatusOK: // a proxy does not support ranges
		if _, err := io.CopyN(io.Discard, response.Body, from); err == io.EOF {
			return 0, &lostError{err: errCut}
		} else if err != nil {
			return 0, err
		}
	case response.StatusCode != http.StatusPartialContent || !strings.HasPrefix(response.Header.Get("Content-Range"), "bytes "+strconv.FormatInt(from, 10)+"-"):
		return 0, fmt.Errorf("the server answered %s to the request for the bytes from %d", response.Status, from)
	}
	n, err = io.Copy(&writing{w, moved}, io.LimitReader(response.Body, about.Size-from))
	if err == nil && n < about.Size-from {
		err = &lostError{err: errCut}
	}
	return n, err
}

// writing is a writer that reports its progress.
type writing struct {
	io.Writer
	moved func(int64)
}

func (w *writing) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.moved(int64(n))
	return n, err
}
