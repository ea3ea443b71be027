package cli

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"attachd/blobs"
	"attachd/blobs/durable"
	"attachd/server/backup"
	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/ops"
	"attachd/server/transfer"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/portable"
)

// Backup is the command that makes restore points, and the group of those that
// list, verify and remove them.
func (a *App) Backup() *cobra.Command {
	var keep int
	cmd := &cobra.Command{
		Use:   "backup DIR",
		Short: "make a restore point of everything in a folder of its own, while people work",
		Args:  command.Exactly("a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("keep") && keep < 1 {
				return command.Usage("--keep must be at least 1")
			}
			cfg, _, err := a.config(nil)
			if err != nil {
				return err
			}
			return a.backup(cmd.Context(), cfg, args[0], keep)
		},
	}
	a.addQuietFlag(cmd)
	cmd.Flags().IntVar(&keep, "keep", 0, "then remove all but the newest `N` restore points, and what only those had")
	cmd.AddCommand(a.backupList(), a.backupVerify(), a.backupRemove())
	return cmd
}

// subject is the installation of which a backup is made.
type subject struct {
	*client
	rest   backup.AddOptions // what is neither in the database nor a content
	rescue string            // what to do about a database with faults
	gone   error             // what has happened when it keeps contents no longer
}

func (a *App) backup(ctx context.Context, cfg config.Config, to string, keep int) (err error) {
	if err := refuseNested(to, cfg.DataDir); err != nil {
		return err
	}
	if cfg.Metadata.Backend == "postgres" {
		return a.backupShared(ctx, cfg, to, keep)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, datadir.DatabaseFile)); errors.Is(err, fs.ErrNotExist) && !isServed(ctx, cfg.DataDir) {
		return fmt.Errorf("there is nothing to back up: %s is no data directory in use", cfg.DataDir)
	}
	back, err := becomeOwner(cfg.DataDir)
	if err != nil {
		return err
	}
	c, done, err := a.reach(ctx, existing)
	if err != nil {
		return err
	}
	defer func() {
		c.CloseIdleConnections()
		err = errors.Join(err, done())
	}()
	dir, err := openExisting(cfg)
	if err != nil {
		return err
	}
	made, err := pointOf(dir)
	if err != nil {
		return err
	}
	archive, err := backup.MakeArchive(to, dir.Own)
	if errors.Is(err, fs.ErrPermission) { // the medium may be writable to root only
		if err := back(); err != nil {
			return err
		}
		if dir, err = openExisting(cfg); err != nil { // the files are then given to the owner of this one
			return err
		}
		archive, err = backup.MakeArchive(to, dir.Own)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	return a.backUp(ctx, subject{c, made, dir.Rescue(), errStopped}, archive, to, keep)
}

// errUnheld is the error of a backup beside servers whose database was away for too long.
var errUnheld = errors.New("the database was away for too long to keep what is deleted meanwhile. Run the command again: what was copied stays")

// rescueShared says what to do about faults of a database in PostgreSQL.
const rescueShared = "Recover the database to a moment before that, by the tools of PostgreSQL, or restore an older restore point"

// backupShared is backup where the records are in PostgreSQL: beside its servers, on any
// machine.
func (a *App) backupShared(ctx context.Context, cfg config.Config, to string, keep int) (err error) {
	storage, err := a.open(ctx, cfg, daemon.Opening{Beside: true, Existing: true})
	if err != nil {
		return noInstallation(err)
	}
	c, done, err := a.clientOf(cfg, storage, storage.Close)
	if err != nil {
		return err
	}
	defer func() {
		c.CloseIdleConnections()
		err = errors.Join(err, done())
	}()
	keys, err := storage.Shared.SigningKeys(ctx)
	if err != nil {
		return err
	}
	if err := storage.Dir.WriteSigningKeys(ops.OwnKeys(keys)); err != nil {
		return err
	}
	made, err := pointOf(storage.Dir)
	if err != nil {
		return err
	}
	archive, err := backup.MakeArchive(to, storage.Dir.Own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	return a.backUp(ctx, subject{c, made, rescueShared, errUnheld}, archive, to, keep)
}

// backUp makes a restore point, and removes old ones.
func (a *App) backUp(ctx context.Context, of subject, archive *backup.Archive, to string, keep int) error {
	added, err := a.addPoint(ctx, archive, of, keep)
	if bad := badDatabase(added, err, of.rescue); bad != nil {
		return bad
	}
	if err != nil {
		return full(err, to)
	}
	// Without the note, the restore point is still good; only the doctor needs the
	// note.
	if err := of.call(ctx, "PUT", "/upkeep/backup", map[string]any{"made": added.Made}, nil); err != nil {
		fmt.Fprintln(a.Err, "attachd: warning: that this backup was made could not be noted:", err)
	}
	if keep > 0 {
		pruned, err := archive.Prune(ctx, keep, a.openSnapshot)
		if err != nil {
			return fmt.Errorf("older restore points were not all removed: %w", removable(err, to))
		}
		pruned.Add(added.Pruned)
		a.sayRemoved(pruned)
	}
	a.warnUnsynced(archive)
	if n := len(added.Faults); n > 0 {
		return command.Fault(fmt.Errorf("%s could not be saved; everything else is", command.Count(int64(n), "attachment")))
	}
	return nil
}

// isServed reports whether a server is running with a data directory. It has the
// database open even if the database's file was removed.
func isServed(ctx context.Context, dataDir string) bool {
	dir, err := datadir.Find(dataDir)
	if err == nil {
		_, _, err = running(ctx, dir)
	}
	return err == nil
}

// badDatabase returns the error of a backup whose database has faults.
func badDatabase(added backup.Added, err error, rescue string) error {
	if errors.Is(err, store.ErrDamaged) {
		return command.Fault(fmt.Errorf("no restore point was made, since the database has faults, which `attachd check` lists: %w. Stop the server. %s", err, rescue))
	}
	if n := added.DatabaseFaults(); err == nil && n > 0 {
		return command.Fault(fmt.Errorf("the database has %s, which `attachd check` lists, and so has this restore point: it is no good backup, and no older one was removed. Stop the server. %s", command.Count(int64(n), "fault"), rescue))
	}
	return nil
}

// full adds to an error what to do about a medium without free space.
func full(err error, to string) error {
	if !errors.Is(err, blobs.ErrFull) && !durable.IsFull(err) {
		return err
	}
	return fmt.Errorf("%w. The backup's medium has no room left. Run the command again with a lower --keep, or remove restore points by name: attachd backup remove %s POINT", err, to)
}

// removable adds to an error what to do about a damaged restore point.
func removable(err error, to string) error {
	if !errors.Is(err, backup.ErrDamagedPoint) {
		return err
	}
	return fmt.Errorf("%w. `attachd backup verify` tells more; what cannot be mended can be removed: attachd backup remove %s POINT", err, to)
}

func (a *App) sayRemoved(pruned backup.Pruned) {
	switch {
	case pruned.Points == 0 && pruned.Contents == 0:
		fmt.Fprintln(a.Out, "nothing to remove")
		return
	case pruned.Contents == 0:
		fmt.Fprintf(a.Out, "removed %s, and no contents: other points have them too\n", command.Count(pruned.Points, "restore point"))
		return
	}
	fmt.Fprintf(a.Out, "removed %s, and with them %s, %s\n",
		command.Count(pruned.Points, "restore point"), command.Count(pruned.Contents, "content"), command.Count(pruned.Bytes, "byte"))
}

// warnUnsynced warns of a medium that cannot sync folders.
func (a *App) warnUnsynced(archive *backup.Archive) {
	if why := archive.Unsynced(); why != nil {
		fmt.Fprintf(a.Err, "attachd: warning: the backup's medium cannot sync folders (%v): should it lose power or its connection within the next minutes, what was just written may be missing. `attachd backup verify` tells\n", why)
	}
}

// installation asks the server for the id of its installation. A server of an earlier
// version has none.
func installation(ctx context.Context, c *client) (uuid.UUID, error) {
	var status upkeep.Status
	err := c.call(ctx, "GET", "/upkeep/status", nil, &status)
	return status.Installation, err
}

// pointOf returns the parts of a restore point other than the database and the
// contents.
func pointOf(dir *datadir.Dir) (backup.AddOptions, error) {
	secret, unreadable := os.ReadFile(dir.Join(datadir.SecretFile))
	format, err := os.ReadFile(dir.Join(datadir.FormatFile))
	return backup.AddOptions{Secret: secret, Format: format}, errors.Join(unreadable, err)
}

func (a *App) addPoint(ctx context.Context, archive *backup.Archive, of subject, keep int) (backup.Added, error) {
	here, err := installation(ctx, of.client)
	if err != nil {
		return backup.Added{}, err
	}
	opts := of.rest
	shown := a.NewProgressLine(a.quiet)
	opts.Now, opts.Version, opts.Installation, opts.Keep = time.Now(), version(), here, keep
	opts.Open, opts.Progress = a.openSnapshot, shown.Contents
	added, err := archive.Add(ctx, &source{client: of.client, gone: of.gone}, opts)
	shown.Clear()
	if err != nil {
		return added, err
	}
	for _, fault := range added.Faults {
		fmt.Fprintln(a.Out, fault)
	}
	fmt.Fprintf(a.Out, "made restore point %s: %s, of which %s, %s, were new\n",
		added.Name, sizes(added.Attachments, added.Contents, added.Bytes), command.Count(added.NewContents, "content"), command.Count(added.NewBytes, "byte"))
	return added, nil
}

// source is a backup.Source that reads from a server.
type source struct {
	*client
	gone error                   // why the snapshot's context ends
	end  context.CancelCauseFunc // ends it
}

// errStopped is the error of a backup whose server stops meanwhile.
var errStopped = errors.New("the server stopped. Run the command again: what was copied stays")

// Snapshot implements backup.Source. The server keeps contents while its answer is
// open.
func (s *source) Snapshot(ctx context.Context, w io.Writer) (held context.Context, release func(), err error) {
	response, err := s.send(ctx, "POST", "/upkeep/snapshot", nil)
	if err != nil {
		return nil, nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, nil, errors.Join(readRefusal(response), response.Body.Close())
	}
	if err := s.copySnapshot(w, response); err != nil {
		return nil, nil, errors.Join(err, response.Body.Close())
	}
	held, s.end = context.WithCancelCause(ctx)
	go func() {
		_, _ = response.Body.Read(make([]byte, 1)) // there are no more bytes: this waits for the end of the answer
		s.end(s.gone)
	}()
	// Closing the body loses nothing: all of it was read.
	return held, func() { _ = response.Body.Close() }, nil
}

// copySnapshot copies a snapshot from an answer: Snapshot-Length bytes, or, where the
// server had no room to determine the length first, frames that each begin with their
// length.
func (s *source) copySnapshot(w io.Writer, response *http.Response) error {
	body := &served{response.Body, s.gone}
	if response.Header.Get("Snapshot-Framed") == "" {
		length, err := strconv.ParseInt(response.Header.Get("Snapshot-Length"), 10, 64)
		if err != nil {
			return fmt.Errorf("the server does not say how long the copy is: %w", err)
		}
		_, err = io.CopyN(w, body, length)
		return err
	}
	for {
		var length uint32
		if err := binary.Read(body, binary.BigEndian, &length); err != nil || length == 0 {
			return err
		}
		if _, err := io.CopyN(w, body, int64(length)); err != nil {
			return err
		}
	}
}

// served is a reader of a body whose early end means that the server is gone.
type served struct {
	io.Reader
	gone error
}

func (s *served) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, context.Canceled) {
		err = s.gone
	}
	return n, err
}

// Content implements backup.Source.
func (s *source) Content(ctx context.Context, ref blobs.Ref) (io.ReadCloser, error) {
	response, err := s.send(ctx, "GET", "/upkeep/contents/"+ref.String(), nil)
	if err != nil {
		s.end(s.gone) // even if the snapshot's answer has not ended yet
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	err = readRefusal(response)
	switch codeOf(err) {
	case "not_found":
		err = blobs.ErrNotFound
	case "damaged":
		err = blobs.ErrDamaged
	case "storage_unreadable":
		err = backup.ErrUnreadable // the whole story is in the server's log
	}
	return nil, errors.Join(err, response.Body.Close())
}

// readRefusal returns the server's refusal as an error.
func readRefusal(response *http.Response) error {
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return cutOff(err)
	}
	return refused(response.Status, raw)
}

func (a *App) backupList() *cobra.Command {
	return command.WithoutInstallation(&cobra.Command{
		Use:   "list DIR",
		Short: "list the restore points in a folder, oldest first",
		Args:  command.Exactly("a folder"),
		RunE: func(_ *cobra.Command, args []string) error {
			archive, err := backup.FindArchive(args[0])
			if err != nil {
				return err
			}
			defer archive.Close() // only read
			names, err := archive.PointNames()
			if err != nil {
				return err
			}
			rows := [][]string{{"RESTORE POINT", "ATTACHMENTS", "CONTENTS", "BYTES", "FAULTS", "INSTALLATION"}}
			var unreadable error
			for _, name := range names {
				p, err := archive.Find(name)
				if err != nil {
					unreadable = command.Fault(err)
					continue
				}
				rows = append(rows, []string{name, fmt.Sprint(p.Attachments), fmt.Sprint(p.Contents), fmt.Sprint(p.Bytes), fmt.Sprint(len(p.Faults)), whose(p.Installation)})
			}
			return errors.Join(a.Table(rows), unreadable)
		},
	})
}

// whose formats the id of the installation to which a restore point belongs.
func whose(id uuid.UUID) string {
	if id == uuid.Nil {
		return "-" // made by a version without ids
	}
	return id.String()
}

func (a *App) backupRemove() *cobra.Command {
	var evenLast bool
	cmd := &cobra.Command{
		Use:   "remove DIR POINT...",
		Short: "remove restore points by name, and what only they had",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return nil
			}
			return command.Usage("attachd backup remove takes a folder and the names of restore points; `attachd backup list` shows them")
		},
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			archive, err := backup.OpenArchive(args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, archive.Close()) }()
			pruned, err := archive.Remove(cmd.Context(), args[1:], evenLast, a.openSnapshot)
			switch {
			case errors.Is(err, backup.ErrLastPoint):
				return fmt.Errorf("%w; nothing was removed. Make a new one first, or run the command again with --even-last", err)
			case errors.Is(err, backup.ErrDamagedPoint):
				a.sayRemoved(pruned)
				return command.Fault(fmt.Errorf("contents that no restore point needs any more stay: %w", removable(err, args[0])))
			case err != nil:
				return err
			}
			a.sayRemoved(pruned)
			a.warnUnsynced(archive)
			return nil
		},
	}
	cmd.Flags().BoolVar(&evenLast, "even-last", false, "also when no whole restore point is left then")
	return command.WithoutInstallation(cmd)
}

func (a *App) backupVerify() *cobra.Command {
	var point string
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "read all of a backup and see that nothing is missing or damaged",
		Args:  command.Exactly("a folder"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			archive, err := backup.OpenArchive(args[0])
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, archive.Close()) }()
			shown := a.NewProgressLine(a.quiet)
			verified, err := archive.Verify(cmd.Context(), backup.VerifyOptions{Point: point, Open: a.openSnapshot, Progress: shown.Contents})
			shown.Clear()
			if err != nil {
				return err
			}
			for _, fault := range verified.Faults {
				fmt.Fprintln(a.Out, fault)
			}
			faults := command.Count(int64(len(verified.Faults)), "fault")
			fmt.Fprintf(a.Out, "%s, %s, %s: %s\n", command.Count(verified.Points, "restore point"),
				command.Count(verified.Contents, "content"), command.Count(verified.Bytes, "byte"), faults)
			if len(verified.Faults) > 0 {
				return command.Fault(fmt.Errorf("%s found", faults))
			}
			return nil
		},
	}
	a.addQuietFlag(cmd)
	cmd.Flags().StringVar(&point, "point", "", "look at the restore point of this `name` only")
	return command.WithoutInstallation(cmd)
}

// Restore is the command that restores a restore point into a data directory or database.
func (a *App) Restore() *cobra.Command {
	var point string
	var despiteDamage bool
	cmd := &cobra.Command{
		Use:   "restore DIR",
		Short: "restore a backup into an empty data directory, or an empty database and bucket",
		Args:  command.Exactly("a folder"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, _, err := a.config(nil)
			if err != nil {
				return err
			}
			return a.restore(cmd.Context(), cfg, args[0], point, despiteDamage)
		},
	}
	a.addQuietFlag(cmd)
	cmd.Flags().StringVar(&point, "point", "", "restore the restore point of this `name`, not the newest")
	cmd.Flags().BoolVar(&despiteDamage, "despite-damage", false, "restore what there is of a damaged backup, and list what is lost")
	return cmd
}

func (a *App) restore(ctx context.Context, cfg config.Config, from, name string, despiteDamage bool) (err error) {
	if cfg.Metadata.Backend == "postgres" {
		return a.restoreShared(ctx, cfg, from, name, despiteDamage)
	}
	path := cfg.DataDir
	if err := refuseNested(from, path); err != nil {
		return err
	}
	back, err := becomeOwner(path)
	if err != nil {
		return err
	}
	archive, point, err := openPoint(from, name)
	if errors.Is(err, fs.ErrPermission) { // the medium may be readable to root only
		if err := back(); err != nil {
			return err
		}
		archive, point, err = openPoint(from, name)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	if err := checkFormat(archive, point, from); err != nil {
		return err
	}
	dir, err := datadir.Restore(path)
	if err != nil {
		return err
	}
	lock, err := backup.Lock(dir.RestoringFile())
	if err != nil {
		return err
	}
	restored, err := a.restorePoint(point, despiteDamage, func(opts backup.RestoreOptions) (upkeep.Report, error) {
		return archive.Restore(ctx, backup.Target{Dir: dir.Path(), Own: dir.Own}, opts)
	})
	if err := errors.Join(err, lock.Close()); err != nil {
		return damaged(err)
	}
	if _, err := os.Stat(dir.Join(datadir.SecretFile)); errors.Is(err, fs.ErrNotExist) { // the backup lacks it
		if _, err := dir.SigningKeys(); err != nil {
			return err
		}
		fmt.Fprintln(a.Out, "made a new secret.key: links given out so far do not work any more")
	}
	if err := a.settleIn(ctx, archive, dir); err != nil {
		return err
	}
	if err := dir.Restored(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "restored restore point %s into %s: %s\n", point.Name, dir.Path(), sizes(point.Attachments, restored.Contents, restored.Bytes))
	if cfg.Storage.Backend != "disk" {
		fmt.Fprintln(a.Out, "The files are on the disk: start the server with storage.backend = \"disk\". `attachd migrate` moves them into a bucket.")
	}
	return incomplete(restored, despiteDamage)
}

// incomplete returns the error, with its exit code, of a restore that lacks something.
func incomplete(restored upkeep.Report, despiteDamage bool) error {
	switch n := len(restored.Faults); {
	case n > 0 && despiteDamage:
		return command.Fault(fmt.Errorf("%s; everything else is restored", command.Count(int64(n), "fault")))
	case n > 0:
		return command.Fault(fmt.Errorf("%s had no content when the restore point was made; everything else is restored", command.Count(int64(n), "attachment")))
	}
	return nil
}

// restoreShared is restore into an empty database of PostgreSQL and a bucket.
func (a *App) restoreShared(ctx context.Context, cfg config.Config, from, name string, despiteDamage bool) (err error) {
	archive, point, err := openPoint(from, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	if err := checkFormat(archive, point, from); err != nil {
		return err
	}
	whose, err := archive.Installation()
	if err != nil {
		return err
	}
	storage, err := a.open(ctx, cfg, daemon.Opening{Beside: true, Arriving: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, storage.Close()) }()
	to, is := restorable(storage)
	if !is {
		return errors.New("no backup can be restored there")
	}
	if err := storage.Prepare(ctx, whose); err != nil {
		return err
	}
	restored, err := a.restorePoint(point, despiteDamage, func(opts backup.RestoreOptions) (upkeep.Report, error) {
		return archive.RestoreInto(ctx, to, opts)
	})
	if err != nil {
		return damaged(err)
	}
	if err := a.letStart(ctx, cfg, storage, whose, archive.SecretOf(point)); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "restored restore point %s into PostgreSQL and the bucket %s: %s\n", point.Name, cfg.Storage.S3Bucket, sizes(point.Attachments, restored.Contents, restored.Bytes))
	return incomplete(restored, despiteDamage)
}

// restorable returns what backup.Archive.RestoreInto takes of a storage.
func restorable(storage daemon.Storage) (to backup.Database, is bool) {
	var records, contents bool
	to.Records, records = storage.Store.(interface {
		portable.Source
		portable.Target
	})
	to.Contents, contents = storage.Blobs.(interface {
		transfer.Target
		blobs.Marker
	})
	return to, records && contents && storage.Prepare != nil
}

// letStart gives a restored database what does not come with its records, and then lets
// servers start with it.
func (a *App) letStart(ctx context.Context, cfg config.Config, storage daemon.Storage, whose uuid.UUID, secret []byte) error {
	if whose != uuid.Nil {
		if err := upkeep.KeepInstallation(ctx, storage.Store, whose); err != nil {
			return err
		}
	}
	if secret == nil { // the backup lacks it
		fmt.Fprintln(a.Out, "the first server makes new keys that sign links: links given out so far do not work any more")
	} else {
		if err := storage.Dir.WriteFile(datadir.SecretFile, secret); err != nil {
			return err
		}
		keys, err := storage.Dir.SigningKeys()
		if err == nil {
			_, err = storage.Shared.ChangeSigningKeys(ctx, func([]store.SigningKey) []store.SigningKey { return ops.StoreKeys(keys) })
		}
		if err != nil {
			return err
		}
	}
	return upkeep.SetHome(ctx, storage.Store, cfg.Storage.Backend)
}

// checkFormat refuses a point that a newer version made. One whose file FORMAT is lost or
// damaged is reported as a fault.
func checkFormat(archive *backup.Archive, point backup.Point, from string) error {
	format := archive.FormatOf(point)
	if format == nil {
		return nil
	}
	return datadir.CheckFormat(filepath.Join(from, "points", point.Name), format)
}

// openPoint opens an archive to restore one of its points.
func openPoint(from, name string) (*backup.Archive, backup.Point, error) {
	archive, err := backup.OpenArchive(from)
	if err != nil {
		return nil, backup.Point{}, err
	}
	point, err := archive.Find(name)
	if err == nil {
		return archive, point, nil
	}
	if point.Name != "" {
		err = command.Fault(err) // the point exists, but is damaged
	}
	return nil, point, errors.Join(err, archive.Close())
}

// settleIn notes in a restored database that its contents are on the disk, wherever those
// of the installation are. What was restored from a point of an earlier version, which has
// no id, gets the id of the archive's installation.
func (a *App) settleIn(ctx context.Context, archive *backup.Archive, dir *datadir.Dir) (err error) {
	whose, err := archive.Installation()
	if err != nil {
		return err
	}
	records, err := a.openCopy(dir.Join(datadir.DatabaseFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	if err := upkeep.LeaveBucket(ctx, records); err != nil || whose == uuid.Nil {
		return err
	}
	return upkeep.KeepInstallation(ctx, records, whose)
}

// damaged adds to an error what to do about a damaged backup.
func damaged(err error) error {
	switch {
	case errors.Is(err, backup.ErrBeyondHope):
		return command.Fault(fmt.Errorf("%w. Name another restore point with --point: `attachd backup verify` finds those that are whole", err))
	case errors.Is(err, backup.ErrDamaged):
		return command.Fault(fmt.Errorf("%w. Name another restore point with --point: `attachd backup verify` finds those that are whole. Or restore what there is of this one: run the command again with --despite-damage", err))
	}
	return err
}

// restorePoint calls restore, shows its progress, and lists the faults that it found.
func (a *App) restorePoint(point backup.Point, despiteDamage bool, restore func(backup.RestoreOptions) (upkeep.Report, error)) (upkeep.Report, error) {
	shown := a.NewProgressLine(a.quiet)
	restored, err := restore(backup.RestoreOptions{Point: point, Open: a.openSnapshot, Progress: shown.Contents, DespiteDamage: despiteDamage})
	shown.Clear()
	for _, fault := range restored.Faults {
		fmt.Fprintln(a.Out, fault)
	}
	return restored, err
}

// sizes formats the size of a restore point.
func sizes(attachments, contents, bytes int64) string {
	return fmt.Sprintf("%s, %s, %s", command.Count(attachments, "attachment"), command.Count(contents, "content"), command.Count(bytes, "byte"))
}

// refuseNested refuses a backup in a data directory, and a data directory in a backup.
func refuseNested(backup, data string) error {
	backup, err := real(backup)
	if err != nil {
		return err
	}
	if data, err = real(data); err != nil {
		return err
	}
	switch {
	case within(backup, data):
		return command.Usage("%s is in the data directory %s: a backup needs a place of its own, best on another disk", backup, data)
	case within(data, backup):
		return command.Usage("the data directory %s is in %s: a backup needs a place of its own, best on another disk", data, backup)
	}
	return nil
}

// real returns an absolute path without symbolic links; the path need not exist yet.
func real(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
		return resolved, err
	}
	above, err := real(filepath.Dir(path))
	return filepath.Join(above, filepath.Base(path)), err
}

// within reports whether a path is another, or below it.
func within(path, other string) bool {
	to, err := filepath.Rel(other, path)
	return err == nil && filepath.IsLocal(to)
}
