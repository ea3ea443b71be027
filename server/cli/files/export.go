package files

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/content"
	"attachd/server/remote"
)

// exported is a line of the manifest.
type exported struct {
	Path       string          `json:"path"` // below the folder, with slashes
	SHA256     string          `json:"sha256"`
	Place      string          `json:"place"`
	Space      string          `json:"space"`
	PlaceName  string          `json:"place_name"`
	Attachment json.RawMessage `json:"attachment"` // as the API describes it
}

// Export is the command that copies files out of a server.
func Export(s command.Streams) *cobra.Command {
	return forFiles(s, &cobra.Command{
		Use:   "export DIR [SPACE|PLACE]...",
		Short: "copy the files of all places that you see, or of those named, into a folder with a manifest",
		Example: `  attachd export copy
  attachd export copy research "product:analytics/Customer 360"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return command.Usage("%s takes a folder, and then spaces or places if you like", cmd.CommandPath())
			}
			return nil
		},
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error {
		places, err := chosen(ctx, c, args[1:])
		if err != nil {
			return err
		}
		if err := isExport(args[0]); err != nil {
			return err
		}
		e := &export{clientFlags: n, client: c, dir: args[0]}
		return e.run(ctx, places)
	})
}

// chosen returns the places that the arguments name: spaces or places, or all without any.
func chosen(ctx context.Context, c *remote.Client, args []string) (places []remote.Parent, err error) {
	if len(args) == 0 {
		args = []string{""}
	}
	seen := map[remote.Place]bool{}
	for _, arg := range args {
		slug, only := arg, remote.Place{}
		if arg != "" && !remote.IsSlug(arg) {
			place, err := remote.ParsePlace(arg)
			if err != nil {
				return nil, command.Usage("%v", err)
			}
			if only, err = c.FindPlace(ctx, place); err != nil {
				return nil, err
			}
			slug = ""
		}
		found := false
		err := c.Parents(ctx, slug, "", func(p remote.Parent) error {
			if only != (remote.Place{}) && only != p.Place {
				return nil
			}
			found = true
			if !seen[p.Place] {
				seen[p.Place], places = true, append(places, p)
			}
			return nil
		})
		if err == nil && only != (remote.Place{}) && !found {
			err = fmt.Errorf("there is no %s that you may see: attachd ls lists what there is", arg)
		}
		if err != nil {
			return nil, err
		}
	}
	return places, nil
}

// isExport refuses a folder with anything but an earlier export in it.
func isExport(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(dir, 0o777)
	}
	if err != nil || len(entries) == 0 {
		return err
	}
	for _, name := range []string{command.ManifestFile, command.ManifestFile + ".part"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s is not empty, and what is in it was not exported: choose another folder", dir)
}

// export is an export under way.
type export struct {
	*clientFlags
	client         *remote.Client
	dir            string
	manifest, sums *bufio.Writer
	files, failed  int
}

func (e *export) run(ctx context.Context, places []remote.Parent) (err error) {
	var parts []*os.File
	for name, to := range map[string]**bufio.Writer{command.ManifestFile: &e.manifest, content.SumsName: &e.sums} {
		part, err := os.Create(filepath.Join(e.dir, name+".part"))
		if err != nil {
			return err
		}
		defer part.Close() // once more, after a failure
		*to, parts = bufio.NewWriter(part), append(parts, part)
	}
	for _, p := range places {
		if err := e.place(ctx, p); err != nil {
			return err
		}
	}
	if err := errors.Join(e.manifest.Flush(), e.sums.Flush()); err != nil {
		return err
	}
	for _, part := range parts {
		if err := errors.Join(part.Sync(), part.Close()); err != nil {
			return err
		}
		if err := os.Rename(part.Name(), strings.TrimSuffix(part.Name(), ".part")); err != nil {
			return err
		}
	}
	return someFailed(e.failed, e.files, "file", "exported")
}

// place exports the files of a place. Only what concerns the whole export is an error.
func (e *export) place(ctx context.Context, p remote.Parent) error {
	kind, rest, _ := strings.Cut(p.Place.String(), ":")
	if !remote.IsSlug(p.Space) {
		return fmt.Errorf("the answer is not attachd's: a space %q", p.Space)
	}
	folder := path.Join(p.Space, kind+"s", strings.TrimSpace(content.LocalName(p.Name, content.LongestName/2)+" "+path.Base(rest)))
	var names content.LocalNames
	return e.client.List(ctx, p.Place, "", func(a remote.Attachment) error {
		to := path.Join(folder, names.Add(a.FileName, a.ID))
		e.files++
		sum, err := e.file(ctx, p, a, filepath.Join(e.dir, filepath.FromSlash(to)))
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			e.failed++
			e.clientFlags.failed(to, command.WithoutPath(err))
			return nil
		}
		line, err := json.Marshal(exported{to, sum, p.Place.String(), p.Space, p.Name, a.Raw})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(e.manifest, "%s\n", line); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(e.sums, "%s  %s\n", sum, to); err != nil {
			return err
		}
		return e.print(to, json.RawMessage(line))
	})
}

// file brings a file to where it belongs, unless it is there already, and returns its
// SHA-256.
func (e *export) file(ctx context.Context, p remote.Parent, a remote.Attachment, to string) (sum string, err error) {
	from, err := e.client.ParseAddress(p.Place.String() + "/" + a.ID)
	if err != nil {
		return "", err
	}
	about, err := e.client.Stat(ctx, from)
	if err != nil {
		return "", err
	}
	sum = hex.EncodeToString(about.Digest[:])
	switch there, err := command.SHA256Of(to); {
	case err == nil && there == sum:
		return sum, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		return "", err
	}
	e.line.Expect(about.Size)
	e.line.ExpectFiles(a.FileName)
	return sum, e.client.Save(ctx, from, about, to, true, e.line.Moved)
}
