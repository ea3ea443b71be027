package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/content"
	"attachd/server/remote"
)

// parallelImports is how many files are imported at once. A server has few slots for
// uploads.
const parallelImports = 4

const aboutImport = `Import the files of a folder or of a ZIP archive.

A map says where each file belongs: CSV whose first line names the columns, or
NDJSON. Without --map, the manifest of an export is taken if there is one.

  path        the file, below DIR or in ZIP (the only column that is needed)
  place       product:SPACE/PLACE, ticket:PLACE or meeting:PLACE, by id or name
              (parent is another word for it)
  name        the name of the attachment; without it, the file's
  author      the user who uploaded it, by id or full name
  time        when, as in 2026-01-15T10:30:00Z or 2026-01-15
  sha256      what the file must have; otherwise it is refused
  comment     the id of the ticket's comment that it belongs to
  space, place_name, owner
              of a place that --create makes

Authors and times are for superadmins, and on the server's own machine. A file
that is in its place already, with the same name, content, author and time, is
not uploaded again: what was interrupted or refused in part can be run again.

The exit code is 0 when all files are there, 1 when some were refused, 2 when
the command was wrong.
`

// importing is an import under way.
type importing struct {
	*App
	importDefaults
	mapFile, reportFile      string
	create, dry, asJSON      bool
	source                   importSource
	lines                    []*mapLine
	client                   *remote.Client
	plan                     *importPlan
	line                     *command.ProgressLine
	report                   *os.File
	maxSize                  int64
	uploads                  map[uploadsKey]*remote.Uploads
	uploaded, there, refused int
}

// uploadsKey is where files are uploaded to.
type uploadsKey struct {
	place   remote.Place
	comment string // of a ticket; empty: none
}

// Import is the command that brings in files from elsewhere.
func (a *App) Import() *cobra.Command {
	i := &importing{App: a}
	cmd := a.transferring(existing, &cobra.Command{
		Use:     "import DIR|ZIP [--map FILE] [--to PLACE|SPACE]",
		Short:   "upload the files of a folder or archive, as a map or the manifest of an export says",
		Long:    aboutImport,
		GroupID: command.OnFiles,
		Example: `  attachd import copy --create                    # what attachd export made
  attachd import old.zip --map files.csv --dry-run
  attachd import archive --to research --create   # each folder becomes a product`,
		Args: command.Exactly("a folder or a ZIP archive"),
	}, func(ctx context.Context, c *remote.Client, _ []string) error { return i.run(ctx, c) })
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		// Before root's rights are given up: the files may be root's own.
		if err := i.open(args[0]); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, i.close()) }()
		return run(cmd, args)
	}
	flags := cmd.Flags()
	flags.StringVar(&i.mapFile, "map", "", "the `file` that says where each file belongs, CSV or NDJSON")
	flags.StringVar(&i.to, "to", "", "the `PLACE` of files of which the map names none, or a space: each folder becomes a product of it")
	flags.StringVar(&i.author, "author", "", "the `USER` who uploaded the files of which the map names nobody, by id or full name")
	flags.BoolVar(&i.fileTimes, "file-times", false, "take the time at which a file was changed where the map has none")
	flags.BoolVar(&i.ownOnly, "as-yourself", false, "upload as the user of the key, now: leave out the map's authors and times")
	flags.BoolVar(&i.create, "create", false, "make spaces, places and users that are missing, which takes a superadmin")
	flags.BoolVar(&i.dry, "dry-run", false, "say what would be done, and do nothing")
	flags.StringVar(&i.reportFile, "report", "", "write a line of JSON about each file to this `file`")
	flags.BoolVar(&i.asJSON, "json", false, "print JSON, a line for each file")
	a.addQuietFlag(cmd)
	return cmd
}

// open opens the files, and reads the map.
func (i *importing) open(from string) (err error) {
	if i.ownOnly && (i.author != "" || i.fileTimes) {
		return command.Usage("--as-yourself leaves out authors and times: it does not go with --author or --file-times")
	}
	if err := i.check(); err != nil {
		return err
	}
	if i.source, err = openSource(from); err != nil {
		return err
	}
	if err = i.readLines(from); err == nil && i.reportFile != "" {
		i.report, err = os.Create(i.reportFile)
	}
	if err != nil {
		err = errors.Join(err, i.source.Close())
	}
	return err
}

func (i *importing) close() error {
	if i.report == nil {
		return i.source.Close()
	}
	return errors.Join(i.source.Close(), i.report.Close())
}

// readLines reads the map or the manifest; without one, each file is a line.
func (i *importing) readLines(from string) error {
	var others []leftOut
	paths, err := i.source.Paths(func(path string, why error) { others = append(others, leftOut{path, why}) })
	if err != nil {
		return err
	}
	_, hasManifest := slices.BinarySearch(paths, command.ManifestFile)
	switch {
	case i.mapFile != "":
		f, err := os.Open(i.mapFile)
		if err != nil {
			return err
		}
		defer f.Close() // only read
		i.lines, err = readMap(i.mapFile, f)
		if err != nil {
			return err
		}
	case hasManifest:
		f, done, err := i.source.Open(command.ManifestFile)
		if err != nil {
			return err
		}
		i.lines, err = readMap(command.ManifestFile, f)
		if err := errors.Join(err, done()); err != nil {
			return err
		}
	case i.to == "":
		return command.Usage("say where the files belong: --map FILE, or --to PLACE or SPACE; %s is no export, which has a %s", from, command.ManifestFile)
	default:
		for _, path := range paths {
			i.lines = append(i.lines, &mapLine{Path: path})
		}
		i.leaveOut(others)
		return nil
	}
	i.notInMap(from, paths)
	return nil
}

// leftOut is something of the source that is not imported.
type leftOut struct {
	path string
	why  error
}

// leaveOut says what is left out where there is no map. A folder that cannot be read counts as
// refused.
func (i *importing) leaveOut(others []leftOut) {
	var beside []string
	for _, o := range others {
		switch {
		case errors.Is(o.why, errBeside):
			beside = append(beside, o.path)
		case errors.Is(o.why, errNoFile):
			fmt.Fprintf(i.Err, "attachd: %s: left out, %v\n", remote.Printable(o.path), o.why)
		default:
			i.lines = append(i.lines, &mapLine{Path: o.path, err: o.why})
		}
	}
	i.countLeftOut("what macOS or Windows keeps beside files", beside)
}

func (i *importing) countLeftOut(what string, paths []string) {
	if len(paths) > 0 {
		fmt.Fprintf(i.Err, "attachd: left out is %s: %s, the first is %s\n", what, command.Count(int64(len(paths)), "file"), remote.Printable(slices.Min(paths)))
	}
}

// notInMap says how many files the map leaves out, besides those of the export itself.
func (i *importing) notInMap(from string, paths []string) {
	mapped := map[string]bool{command.ManifestFile: true, content.SumsName: true}
	if rel, err := filepath.Rel(from, i.mapFile); err == nil {
		mapped[filepath.ToSlash(rel)] = true
	}
	for _, l := range i.lines {
		mapped[l.Path] = true
	}
	left := slices.DeleteFunc(slices.Clone(paths), func(path string) bool { return mapped[path] })
	i.countLeftOut("what the map does not name", left)
}

func (i *importing) run(ctx context.Context, c *remote.Client) error {
	i.client, i.uploads = c, map[uploadsKey]*remote.Uploads{}
	i.line = i.NewProgressLine(i.quiet)
	defer i.line.Clear()
	i.plan = &importPlan{client: c, create: i.create, dry: i.dry, say: i.made,
		places: map[string]*placesOf{}, made: map[string]bool{}, spaces: map[string]bool{}, talked: map[string]bool{}}
	if err := i.mayImport(ctx); err != nil {
		return err
	}
	var limits struct {
		MaxFileSize int64 `json:"max_file_size"`
	}
	if err := c.Call(ctx, "GET", "/limits", nil, &limits); err != nil {
		return err
	}
	i.maxSize = limits.MaxFileSize
	files := make([]importFile, len(i.lines))
	names := make([]string, len(i.lines))
	for n, l := range i.lines {
		files[n].mapLine, names[n] = l, l.Path
		if err := i.prepare(ctx, &files[n]); err != nil {
			return err
		}
	}
	i.line.ExpectFiles(names...)
	return i.files(ctx, files)
}

// mayImport refuses what the caller may not do before anything is done.
func (i *importing) mayImport(ctx context.Context) error {
	if err := i.client.Call(ctx, "GET", "/users/me", nil, &i.plan.me); err != nil {
		return err
	}
	if i.plan.me.IsSuperadmin {
		return nil
	}
	switch {
	case i.create:
		return errors.New("--create needs the key of a superadmin")
	case i.author != "" || i.fileTimes || !i.ownOnly && slices.ContainsFunc(i.lines, func(l *mapLine) bool { return l.Author != "" || l.Time != "" }):
		return errors.New("only a superadmin may say who uploaded a file and when; --as-yourself leaves that out")
	}
	return nil
}

// importFile is a file of an import.
type importFile struct {
	*mapLine
	known   sourceFile
	place   remote.Place
	author  string // the id of the user; empty: the caller
	planned bool   // in a place that a dry run would make
}

// prepare finds out where a file belongs. What concerns that file alone becomes its err.
func (i *importing) prepare(ctx context.Context, f *importFile) (err error) {
	if f.err != nil {
		return nil
	}
	f.err = func() (err error) {
		if f.known, err = i.source.Stat(f.Path); err != nil {
			return unread(err)
		}
		if f.known.size > i.maxSize {
			return fmt.Errorf("it has %d bytes, and the server takes %d", f.known.size, i.maxSize)
		}
		if err := i.apply(f.mapLine, f.known); err != nil {
			return err
		}
		if f.Author != "" {
			if f.author, err = i.plan.user(ctx, f.Author, f.authorName); err != nil {
				return err
			}
		} else if i.plan.me.ID == uuid.Nil {
			return errors.New("nothing says who uploaded it: the column author of a map, or --author")
		}
		owner := f.author
		if owner == "" {
			owner = i.plan.me.ID.String()
		}
		f.place, err = i.plan.place(ctx, f.mapLine, owner)
		if err == nil && f.Comment != "" {
			f.Comment, err = i.plan.comment(ctx, f.place, f.Comment)
		}
		return err
	}()
	if f.err != nil {
		if ctx.Err() != nil || remote.IsLost(f.err) {
			return f.err // the next one would fail, too
		}
		return nil
	}
	if f.planned = i.plan.made[f.place.ID()]; !f.planned && i.uploads[f.to()] == nil {
		if i.uploads[f.to()], err = i.client.Uploads(ctx, f.place, f.Comment); err != nil {
			return err
		}
	}
	i.line.Expect(f.known.size)
	return nil
}

func (f *importFile) to() uploadsKey { return uploadsKey{f.place, f.Comment} }

// outcome is what became of a file, as a line of the report.
type outcome struct {
	Line       int             `json:"line,omitempty"` // of the map
	Path       string          `json:"path"`
	Outcome    string          `json:"outcome"` // uploaded, present, refused, or in a dry run: planned
	SHA256     string          `json:"sha256,omitempty"`
	Place      string          `json:"place,omitempty"`
	Attachment json.RawMessage `json:"attachment,omitempty"`
	Error      string          `json:"error,omitempty"`
	err        error
}

// files imports the files, several at once, and reports on them in the order of the map.
func (i *importing) files(ctx context.Context, files []importFile) error {
	ctx, stop := context.WithCancelCause(ctx)
	var working sync.WaitGroup
	defer working.Wait() // or their temporary files would stay
	defer stop(nil)
	outcomes := make([]chan outcome, len(files))
	for n := range files {
		outcomes[n] = make(chan outcome, 1)
	}
	slots := make(chan struct{}, parallelImports)
	working.Go(func() {
		for n := range files {
			slots <- struct{}{}
			working.Go(func() {
				o := i.file(ctx, &files[n])
				i.line.End(n)
				<-slots
				outcomes[n] <- o
			})
		}
	})
	for n := range files {
		o := <-outcomes[n]
		if errors.Is(o.err, remote.ErrNotImported) || remote.IsLost(o.err) {
			stop(o.err) // the next one would fail, too
		}
		if ctx.Err() != nil && o.err != nil {
			return context.Cause(ctx)
		}
		if err := i.tell(o); err != nil {
			return err
		}
	}
	return i.summary(len(files))
}

// file imports a file, unless it is there already.
func (i *importing) file(ctx context.Context, f *importFile) outcome {
	o := outcome{Line: f.number, Path: f.Path, err: f.err}
	if f.err == nil {
		o.Place = f.place.String()
		o.err = ctx.Err()
	}
	if o.err == nil {
		o.err = i.transfer(ctx, f, &o)
	}
	if o.err != nil {
		o.Outcome, o.Error = "refused", o.err.Error()
	}
	return o
}

func (i *importing) transfer(ctx context.Context, f *importFile, o *outcome) (err error) {
	file, done, err := i.source.Open(f.Path)
	if err != nil {
		return unread(err)
	}
	defer func() { err = errors.Join(err, done()) }()
	out, err := remote.Prepare(file, f.Name)
	if err != nil {
		return command.WithoutPath(err)
	}
	o.SHA256 = hex.EncodeToString(out.Digest[:])
	if f.SHA256 != "" && !strings.EqualFold(f.SHA256, o.SHA256) {
		return fmt.Errorf("it has the SHA-256 %s, and the map says %s", o.SHA256, f.SHA256)
	}
	out.UploadedBy, out.CreatedAt = f.author, f.at
	if !f.planned {
		found, ok, err := i.uploads[f.to()].Present(ctx, out)
		if err != nil {
			return err
		}
		if ok {
			i.line.Moved(out.Size)
			o.Outcome, o.Attachment = "present", found.Raw
			return nil
		}
	}
	if i.dry {
		o.Outcome = "planned"
		return nil
	}
	made, err := i.uploads[f.to()].Upload(ctx, out, i.line.Moved)
	o.Outcome, o.Attachment = "uploaded", made.Raw
	return err
}

// tell reports what became of a file.
func (i *importing) tell(o outcome) (err error) {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if i.report != nil {
		if _, err := fmt.Fprintf(i.report, "%s\n", line); err != nil {
			return err
		}
	}
	switch o.Outcome {
	case "refused":
		i.refused++
		where := remote.Printable(o.Path)
		if o.Line > 0 {
			where = fmt.Sprintf("line %d: %s", o.Line, where)
		}
		i.line.Say(func() { fmt.Fprintf(i.Err, "attachd: %s: %v\n", where, o.err) })
	case "present":
		i.there++
	default:
		i.uploaded++
	}
	i.line.Say(func() {
		switch {
		case i.asJSON:
			_, err = fmt.Fprintf(i.Out, "%s\n", line)
		case o.Outcome != "refused":
			_, err = fmt.Fprintln(i.Out, o.Outcome, remote.Printable(o.Path))
		}
	})
	return err
}

// made says what --create made, or would make.
func (i *importing) made(format string, args ...any) (err error) {
	verb := "created "
	if i.dry {
		verb = "would create "
	}
	i.line.Say(func() { _, err = fmt.Fprintln(i.Err, "attachd: "+verb+remote.Printable(fmt.Sprintf(format, args...))) })
	return err
}

func (i *importing) summary(all int) error {
	verb := "uploaded"
	if i.dry {
		verb = "to upload"
	}
	said := fmt.Sprintf("%d %s, %d there already, %d refused", i.uploaded, verb, i.there, i.refused)
	if i.refused > 0 {
		return fmt.Errorf("%d of %s not imported: %s", i.refused, strings.TrimPrefix(command.Count(int64(all), "file"), "no "), said)
	}
	i.line.Say(func() { fmt.Fprintln(i.Err, "attachd: "+said) })
	return nil
}
