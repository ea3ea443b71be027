package cli

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"attachd/server/cli/command"
)

// importSource has the files to import: those of a folder or of a ZIP archive.
type importSource interface {
	// Paths returns the paths of all files, sorted, with slashes; leftOut is called with
	// errNoFile, errBeside, or why a folder cannot be read.
	Paths(leftOut func(path string, why error)) ([]string, error)
	Stat(path string) (sourceFile, error)
	// Open returns a file, which nobody else writes to; done closes it.
	Open(path string) (f *os.File, done func() error, err error)
	Close() error
}

// sourceFile is what is known of a file without reading it.
type sourceFile struct {
	size     int64 // bytes
	modified time.Time
}

// Why something is no file to import.
var (
	errNoFile = errors.New("it is a link or no file")
	errBeside = errors.New("it is what macOS or Windows keeps beside files")
)

// isBeside says whether a file is one that macOS or Windows makes by itself, in folders or archives.
func isBeside(p string) bool {
	name := path.Base(p)
	return strings.HasPrefix(p, "__MACOSX/") || strings.HasPrefix(name, "._") || name == ".DS_Store" || name == "Thumbs.db" || name == "desktop.ini"
}

func openSource(name string) (importSource, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return openArchive(name)
	}
	root, err := os.OpenRoot(name)
	return folder{root}, err
}

// cleanPath returns a path below the source; it refuses one that leads out of it.
func cleanPath(given string) (string, error) {
	p := path.Clean(given)
	if given == "" || path.IsAbs(p) || !fs.ValidPath(p) || p == "." {
		return "", errors.New("it is not a path below what is imported")
	}
	return p, nil
}

// folder is a folder as a source. No link in it is followed to the outside.
type folder struct{ *os.Root }

// Paths reads the folders by itself: fs.WalkDir refuses names that are not UTF-8.
func (f folder) Paths(leftOut func(path string, why error)) (all []string, err error) {
	for dirs := []string{"."}; len(dirs) > 0; {
		dir := dirs[0]
		dirs = dirs[1:]
		entries, err := f.entries(dir)
		if err != nil && dir == "." {
			return nil, err
		} else if err != nil {
			leftOut(dir, unread(err))
		}
		for _, entry := range entries {
			p := path.Join(dir, entry.Name())
			switch {
			case entry.IsDir():
				dirs = append(dirs, p)
			case !entry.Type().IsRegular():
				leftOut(p, errNoFile)
			case isBeside(p):
				leftOut(p, errBeside)
			default:
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

func (f folder) entries(dir string) ([]fs.DirEntry, error) {
	opened, err := f.Root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer opened.Close() // only read
	return opened.ReadDir(-1)
}

// unread is the error of a file that cannot be read, without its path, which is printed anyway.
func unread(err error) error {
	without := command.WithoutPath(err)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != os.Getuid() {
		return fmt.Errorf("%w: files are read as the owner of the data directory, who must be able to", without)
	}
	return without
}

func (f folder) Stat(path string) (sourceFile, error) {
	info, err := f.Root.Stat(path)
	if err != nil {
		return sourceFile{}, err
	}
	if !info.Mode().IsRegular() {
		return sourceFile{}, errors.New("it is no file")
	}
	return sourceFile{info.Size(), info.ModTime()}, nil
}

func (f folder) Open(path string) (*os.File, func() error, error) {
	file, err := f.Root.Open(path)
	if err != nil {
		return nil, nil, err
	}
	return file, file.Close, nil
}

// manifestOfFile is how many bytes the manifest in an archive has at most for each file there,
// which is several times what an export writes: it is unpacked before anything else is known.
const manifestOfFile = 16 << 10

// archive is a ZIP archive as a source. It is trusted in nothing.
type archive struct {
	*zip.ReadCloser
	files  map[string]*zip.File
	others []string // paths of what is neither a file nor a folder
}

func openArchive(name string) (*archive, error) {
	r, err := zip.OpenReader(name)
	if errors.Is(err, zip.ErrInsecurePath) {
		err = nil // read refuses it, and says which
	}
	if errors.Is(err, zip.ErrFormat) {
		err = errors.New("it is neither a folder nor a ZIP archive")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a := &archive{ReadCloser: r, files: map[string]*zip.File{}}
	if err := a.read(name); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w; nothing was imported", name, err), r.Close())
	}
	return a, nil
}

// read refuses an archive that was made to do harm: with paths that lead out of it, two
// files with one path, or files that share their bytes.
func (a *archive) read(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	left := uint64(info.Size())
	for _, f := range a.File {
		named := f.Name
		if !utf8.ValidString(named) { // then the format says that it is in this encoding
			if named, err = charmap.CodePage437.NewDecoder().String(named); err != nil {
				return fmt.Errorf("%q: %w", f.Name, err)
			}
		}
		path, err := cleanPath(strings.ReplaceAll(named, `\`, "/")) // as some programs on Windows write them
		if err != nil {
			return fmt.Errorf("%q: %w", f.Name, err)
		}
		if f.CompressedSize64 > left {
			return errors.New("its files have more bytes than it has itself")
		}
		left -= f.CompressedSize64
		switch {
		case f.Mode().IsDir() || strings.HasSuffix(named, `\`):
			continue
		case !f.Mode().IsRegular():
			a.others = append(a.others, path)
		case a.files[path] != nil:
			return fmt.Errorf("it has %q twice", path)
		default:
			a.files[path] = f
		}
	}
	a.atTop()
	if f := a.files[command.ManifestFile]; f != nil && f.UncompressedSize64 > manifestOfFile*uint64(len(a.files)) {
		return fmt.Errorf("its %s has more bytes than its files can need", command.ManifestFile)
	}
	return nil
}

// atTop makes the folder of a whole export the top, if the archive has only that.
func (a *archive) atTop() {
	top := ""
	for p := range a.files {
		if isBeside(p) {
			continue
		}
		dir, name, _ := strings.Cut(p, "/")
		if name == "" || top != "" && top != dir {
			return
		}
		top = dir
	}
	if a.files[top+"/"+command.ManifestFile] == nil {
		return
	}
	below := map[string]*zip.File{}
	for p, f := range a.files {
		below[strings.TrimPrefix(p, top+"/")] = f
	}
	a.files = below
}

func (a *archive) Paths(leftOut func(path string, why error)) (all []string, err error) {
	for _, p := range a.others {
		leftOut(p, errNoFile)
	}
	for p := range a.files {
		if isBeside(p) {
			leftOut(p, errBeside)
			continue
		}
		all = append(all, p)
	}
	slices.Sort(all)
	return all, nil
}

func (a *archive) file(path string) (*zip.File, error) {
	f := a.files[path]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if f.Flags&1 != 0 {
		return nil, errors.New("it is encrypted: unpack the archive first")
	}
	return f, nil
}

func (a *archive) Stat(path string) (sourceFile, error) {
	f, err := a.file(path)
	if err != nil {
		return sourceFile{}, err
	}
	if f.UncompressedSize64 > 1<<62 {
		return sourceFile{}, zip.ErrFormat
	}
	return sourceFile{int64(f.UncompressedSize64), f.Modified}, nil
}

// Open unpacks a file to a temporary one, of no more bytes than the archive says.
func (a *archive) Open(path string) (_ *os.File, done func() error, err error) {
	f, err := a.file(path)
	if err != nil {
		return nil, nil, err
	}
	packed, err := f.Open()
	if err != nil {
		return nil, nil, err
	}
	defer packed.Close() // only read
	spool, err := os.CreateTemp("", "attachd-import-*")
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return errors.Join(spool.Close(), os.Remove(spool.Name())) }
	limit := int64(f.UncompressedSize64)
	n, err := io.Copy(spool, io.LimitReader(packed, limit+1))
	if err == nil && n > limit {
		err = errors.New("it has more bytes than the archive says")
	}
	if err == nil {
		_, err = spool.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, nil, errors.Join(err, done())
	}
	return spool, done, nil
}
