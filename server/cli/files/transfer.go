package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/remote"
)

// parallelUploads is how many files are uploaded at once. More would not be faster over
// most networks, and a server has few slots for uploads.
const parallelUploads = 4

// Put is the command that uploads files.
func Put(s command.Streams) *cobra.Command {
	var to, comment, name string
	cmd := forFiles(s, &cobra.Command{
		Use:   "put FILE... --to PLACE",
		Short: "upload files (- is standard input) and print the attachment that each became",
		Example: `  export ATTACHD_SERVER=http://127.0.0.1:8080
  attachd put report.csv plan.pdf --to "product:analytics/Customer 360" --key-file data/admin.key
  pg_dump shop | attachd put - --name shop.sql --to ticket:550e8400-e29b-41d4-a716-446655440001`,
		Args: command.AtLeastOne("a file"),
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, files []string) error {
		if to == "" {
			return command.Usage("say where the files belong: --to PLACE; attachd ls lists the places")
		}
		place, err := remote.ParsePlace(to)
		if err != nil {
			return command.Usage("--to: %v", err)
		}
		if comment != "" && (!place.IsTicket() || uuid.Validate(comment) != nil) {
			return command.Usage("--comment takes the UUID of a comment of a ticket")
		}
		if name != "" && len(files) > 1 {
			return command.Usage("--name takes one file")
		}
		if err := differ(files); err != nil {
			return err
		}
		if place, err = c.FindPlace(ctx, place); err != nil {
			return err
		}
		uploads, err := c.Uploads(ctx, place, comment)
		if err != nil {
			return err
		}
		return n.put(ctx, uploads, place, files, name)
	})
	cmd.Flags().StringVar(&to, "to", "", "the `PLACE` that the files belong to")
	cmd.Flags().StringVar(&name, "name", "", "the `name` that the file gets, in place of its own")
	cmd.Flags().StringVar(&comment, "comment", "", "the `UUID` of the ticket's comment that the files belong to")
	return cmd
}

// differ refuses two files with the same name: they could not be told apart in their
// place, nor could it be determined which was uploaded when an answer is lost.
func differ(files []string) error {
	seen := map[string]string{}
	for _, file := range files {
		name := filepath.Base(file)
		if other, twice := seen[name]; twice {
			return command.Usage("%s and %s have the same name; upload them one after the other", other, file)
		}
		seen[name] = file
	}
	return nil
}

func (n *clientFlags) put(ctx context.Context, uploads *remote.Uploads, place remote.Place, files []string, name string) error {
	type outcome struct {
		made remote.Attachment
		err  error
	}
	outcomes := make([]chan outcome, len(files))
	names := make([]string, len(files))
	for i, file := range files {
		names[i] = nameFor(file, name)
		outcomes[i] = make(chan outcome, 1)
		if info, err := os.Stat(file); err == nil {
			n.line.Expect(info.Size())
		}
	}
	n.line.ExpectFiles(names...)
	slots := make(chan struct{}, parallelUploads)
	go func() {
		for i, file := range files {
			slots <- struct{}{}
			go func() {
				made, err := n.upload(ctx, uploads, file, names[i])
				n.line.End(i)
				<-slots
				outcomes[i] <- outcome{made, command.WithoutPath(err)}
			}()
		}
	}()
	failures := 0
	for i, file := range files {
		o := <-outcomes[i]
		if ctx.Err() != nil && o.err != nil {
			return ctx.Err()
		}
		line := struct {
			File       string   `json:"file"`
			Attachment any      `json:"attachment,omitempty"`
			Error      *failure `json:"error,omitempty"`
		}{File: file}
		if o.err != nil {
			failures++
			n.failed(file, o.err)
			line.Error = failureOf(o.err)
		} else {
			line.Attachment = o.made.Raw
		}
		if o.err != nil && !n.asJSON {
			continue
		}
		if err := n.print(place.String()+"/"+o.made.ID, line); err != nil {
			return err
		}
	}
	return someFailed(failures, len(files), "file", "uploaded")
}

// nameFor returns the name under which a file is uploaded.
func nameFor(file, given string) string {
	switch {
	case given != "":
		return given
	case file == "-":
		return "stdin"
	}
	return filepath.Base(file)
}

// upload uploads a file. Standard input or a pipe is written to a temporary file first:
// an upload begins with the length and the hash, and may have to be repeated.
func (n *clientFlags) upload(ctx context.Context, uploads *remote.Uploads, file, name string) (made remote.Attachment, err error) {
	from := n.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return made, err
		}
		defer f.Close() // only read
		info, err := f.Stat()
		if err != nil {
			return made, err
		}
		if info.Mode().IsRegular() || info.IsDir() {
			return n.send(ctx, uploads, f, name)
		}
		from = f
	}
	spool, err := os.CreateTemp("", "attachd-put-*")
	if err != nil {
		return made, err
	}
	defer func() { err = errors.Join(err, spool.Close(), os.Remove(spool.Name())) }()
	size, err := io.Copy(spool, from)
	if err != nil {
		return made, err
	}
	n.line.Expect(size)
	return n.send(ctx, uploads, spool, name)
}

func (n *clientFlags) send(ctx context.Context, uploads *remote.Uploads, f *os.File, name string) (made remote.Attachment, err error) {
	file, err := remote.Prepare(f, name)
	if err != nil {
		return made, err
	}
	return uploads.Upload(ctx, file, n.line.Moved)
}

// Get is the command that downloads a file.
func Get(s command.Streams) *cobra.Command {
	var output string
	var force, packed bool
	cmd := forFiles(s, &cobra.Command{
		Use:   "get ATTACHMENT [-o FILE] | get --zip PLACE [-o FILE]",
		Short: "download a file from a server, compare its SHA-256, and print where it is",
		Long: `Download a file from a server, compare its SHA-256, and print where it is. With --zip, all files of a place come as one
ZIP archive, and each is compared with the SHA-256 in the archive's SHA256SUMS.`,
		Example: `  attachd get "product:analytics/Customer 360/report.csv"
  attachd get "product:analytics/Customer 360/report.csv" -o copy.csv
  attachd get --zip "product:analytics/Customer 360" -o all.zip`,
		Args: command.Exactly("an attachment, or with --zip a place"),
	}, func(ctx context.Context, n *clientFlags, c *remote.Client, args []string) error {
		if output == "-" && n.asJSON {
			return command.Usage("--json has no place where the file itself is written to standard output")
		}
		from, err := n.source(ctx, c, args[0], packed)
		if err != nil {
			return err
		}
		file, err := c.Stat(ctx, from)
		if err != nil {
			return err
		}
		n.line.Expect(file.Size)
		n.line.ExpectFiles(file.Name)
		if output == "-" {
			return c.Copy(ctx, from, file, s.Out, n.line.Moved)
		}
		path, err := saveAs(output, file.Name)
		if err != nil {
			return err
		}
		if err := vacant(path, force); err != nil {
			return err
		}
		if err := c.Save(ctx, from, file, path, force, n.line.Moved); err != nil {
			return err
		}
		saved := map[string]any{"file": path, "file_name": file.Name, "file_size": file.Size}
		if !packed {
			saved["sha256"] = fmt.Sprintf("%x", file.Digest)
		}
		return n.print(path, saved)
	})
	cmd.Flags().StringVarP(&output, "output", "o", "", "the `FILE` or folder to write; - is standard output; without it, the name that the server gives, in this folder")
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	cmd.Flags().BoolVar(&packed, "zip", false, "all files of a place, as one ZIP archive")
	return cmd
}

// source is what an argument of get names: an attachment, or a place whose files are packed.
func (n *clientFlags) source(ctx context.Context, c *remote.Client, typed string, packed bool) (remote.Address, error) {
	if !packed {
		return n.attachment(ctx, c, typed)
	}
	place, err := remote.ParsePlace(typed)
	if err != nil {
		return remote.Address{}, command.Usage("%v", err)
	}
	place, err = c.FindPlace(ctx, place)
	return place.Archive(), err
}

// saveAs returns the path at which to save a file of this name.
func saveAs(output, name string) (string, error) {
	if output != "" {
		if info, err := os.Stat(output); err != nil || !info.IsDir() {
			return output, nil
		}
	}
	if !filepath.IsLocal(name) || filepath.Base(name) != name {
		return "", command.Usage("%q cannot be the name of a file here; choose one with -o FILE", name)
	}
	return filepath.Join(output, name), nil
}

// vacant refuses to overwrite an existing file.
func vacant(path string, force bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a folder", path)
	case !force:
		return fmt.Errorf("%s is there already; --force replaces it", path)
	}
	return nil
}

// attachment parses the address that a person typed.
func (n *clientFlags) attachment(ctx context.Context, c *remote.Client, typed string) (remote.Address, error) {
	address, err := c.ParseAddress(typed)
	if err != nil {
		return address, command.Usage("%v", err)
	}
	return c.Find(ctx, address)
}

// someFailed is the error of a command of whose operations some failed. The reason for
// each has been printed.
func someFailed(failed, all int, thing, done string) error {
	if failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %s not %s", failed, strings.TrimPrefix(command.Count(int64(all), thing), "no "), done)
}
