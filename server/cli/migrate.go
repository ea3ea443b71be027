package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/migrate"
)

// Migrate is the command that moves the contents to another storage.
func (a *App) Migrate() *cobra.Command {
	var file string
	var despiteDamage, giveUp bool
	cmd := &cobra.Command{
		Use:   "migrate --to FILE",
		Short: "move the contents into a bucket, the records into PostgreSQL, or back, while people work",
		Long: `Move the contents from the disk into a bucket of an object store, or back, while
people work. FILE is a configuration file whose sections [storage] and
[metadata] say where to; environment variables do not count for it. Where
[metadata] names the other kind of database, the records move, too: into an
empty database of PostgreSQL, or into the new data directory that FILE names.

Contents are copied first, each hashed on its way. At the end, changes are
refused for some seconds, in which the records move. What was interrupted is
continued by running the command again. The old place keeps all that it has.

While records move out of PostgreSQL, its servers refuse all changes, and go on
to do so when the command is killed. Run it again, or have them take changes
again with --give-up, which needs no --to.`,
		Args: command.Exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case giveUp && (file != "" || despiteDamage):
				return command.Usage("--give-up takes no other flag: it leaves everything where it is")
			case giveUp:
				return a.withServer(a.giveUpMigration)(cmd, args)
			case file == "":
				return command.Usage("attachd migrate takes --to with a configuration file whose section [storage] says where to move the contents, or --give-up")
			}
			to, _, err := config.Load(file, nil, nil, checks...)
			if err != nil {
				return err
			}
			if to.DataDir, err = filepath.Abs(to.DataDir); err != nil { // the server may have been started elsewhere
				return err
			}
			a.moving = true
			return a.withServer(func(ctx context.Context, c *client, _ []string) error {
				return a.migrate(ctx, c, file, to, despiteDamage)
			})(cmd, args)
		},
	}
	a.addQuietFlag(cmd)
	cmd.Flags().StringVar(&file, "to", "", "configuration `file` with the storage to move to")
	cmd.Flags().BoolVar(&despiteDamage, "despite-damage", false, "move the others when some contents are missing or damaged, and list these")
	cmd.Flags().BoolVar(&giveUp, "give-up", false, "leave everything where it is, and have changes possible again after a migration that was killed")
	return cmd
}

func (a *App) giveUpMigration(ctx context.Context, c *client, _ []string) error {
	if err := c.call(ctx, "POST", "/upkeep/migrate", map[string]any{"give_up": true}, nil); err != nil {
		return err
	}
	fmt.Fprintln(a.Out, "gave up: changes are possible, and everything is used where it is\nWhat was copied to the new place may stay there for another time, or be deleted.")
	return nil
}

func (a *App) migrate(ctx context.Context, c *client, file string, to config.Config, despiteDamage bool) error {
	from, _, err := a.config(nil)
	if err != nil {
		return err
	}
	var report migrate.Report
	order := map[string]any{"storage": to.StorageSettings(), "despite_damage": despiteDamage}
	if err := a.work(ctx, c, "/upkeep/migrate", order, &report); err != nil {
		return err
	}
	for _, fault := range report.Faults {
		fmt.Fprintln(a.Out, fault)
	}
	damaged := command.Count(int64(len(report.Faults)), "attachment")
	if !report.Moved {
		return command.Fault(fmt.Errorf("%s cannot be moved, and so nothing was: everything is used where it is. Upload these files again or delete them, or leave them behind with --despite-damage", damaged))
	}
	paused := time.Duration(report.PausedSeconds * float64(time.Second)).Round(time.Millisecond)
	if from.Metadata.Backend != to.Metadata.Backend {
		a.movedRecords(file, from, to, report, paused)
		if len(report.Faults) > 0 {
			return command.Fault(fmt.Errorf("%s had no whole content, and nothing was moved for them but their records", damaged))
		}
		return nil
	}
	fmt.Fprintf(a.Out, "moved %s, %s, of which %s had to be copied now; uploads and deletions were refused for %s\n",
		command.Count(report.Contents, "content"), command.Count(report.Bytes, "byte"), command.Count(report.Copied, "content"), paused)
	fmt.Fprintf(a.Out, "Now put the section [storage] of %s into the configuration, and restart the server: until then, it refuses uploads and deletions.\n", file)
	fmt.Fprintln(a.Out, leftBehind(from))
	if len(report.Faults) > 0 {
		return command.Fault(fmt.Errorf("%s had no whole content, and nothing was moved for them", damaged))
	}
	return nil
}

// movedRecords says what a migration to another database has done, and what comes next.
func (a *App) movedRecords(file string, from, to config.Config, report migrate.Report, paused time.Duration) {
	if report.Rows == 0 {
		fmt.Fprintf(a.Out, "everything has been moved before\nStart the server with %s.\n", file)
		return
	}
	fmt.Fprintf(a.Out, "moved the records of %s and all else, %s in all, and compared both sides; %s had to be copied now; changes were refused for %s\n",
		command.Count(report.Attachments, "attachment"), command.Count(report.Rows, "row"), command.Count(report.Copied, "content"), paused)
	fmt.Fprintf(a.Out, "Now end the server, and start it with %s: the old one takes no changes any more, and does not start again.\n", file)
	where := "The old database stays as it is. When all is well, drop it: drop schema attachd cascade;"
	if from.Metadata.Backend != "postgres" {
		where = fmt.Sprintf("The data directory %s stays as it is. When all is well, delete it; %s has the first superadmin's key, if you still need that.", from.DataDir, daemon.AdminKeyFile)
	}
	fmt.Fprintln(a.Out, where)
	if from.Storage.Backend == "s3" && report.Copied > 0 {
		fmt.Fprintln(a.Out, leftBehind(from))
	}
}

// leftBehind says what is still at the old place, and how to delete it.
func leftBehind(from config.Config) string {
	if from.Storage.Backend == "s3" {
		return fmt.Sprintf("The objects stay in the bucket %s. When all is well, delete %[2]sattachd.json and everything below %[2]sblobs/ there, with the tools of the object store.", from.Storage.S3Bucket, from.Storage.S3Prefix)
	}
	blobs := filepath.Join(from.DataDir, "blobs")
	return fmt.Sprintf("The files stay in %s. When all is well, delete them: find %s -type f -delete", blobs, blobs)
}
