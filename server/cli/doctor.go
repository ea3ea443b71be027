package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"attachd/blobs"
	"attachd/server/backup"
	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/server/doctor"
	"attachd/server/scan"
	"attachd/server/upkeep"
	"attachd/store/postgres"
)

// Doctor is the command that examines the installation.
func (a *App) Doctor() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "look at the installation, and say what to do where something is wrong",
		Args:  command.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, warnings, err := a.config(nil)
			if err != nil {
				return command.Fault(err)
			}
			found, err := a.examine(cmd.Context(), cfg, warnings)
			if err != nil {
				return err
			}
			if err := a.printFindings(found, asJSON); err != nil {
				return err
			}
			if n := levels(found)[doctor.Problem]; n > 0 {
				return command.Fault(fmt.Errorf("%s found", command.Count(n, "problem")))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	return cmd
}

func (a *App) examine(ctx context.Context, cfg config.Config, warnings []string) ([]doctor.Finding, error) {
	dir, err := datadir.Find(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	c := &doctor.Case{Config: cfg, Warnings: warnings, Dir: dir, Now: time.Now(), Built: built()}
	if cfg.Scan.Clamd != "" {
		if c.Clamd, err = scan.New(cfg.Scan.Clamd, time.Duration(cfg.Scan.Timeout)); err != nil {
			return nil, err
		}
	}
	file := cmp.Or(a.configFile, os.Getenv(config.EnvConfig))
	if alone, _, err := config.Load(file, nil, nil); err == nil {
		shown, _ := config.WithoutPasswords(alone.Metadata.DSN)
		if alone.Storage.S3SecretKey != "" || shown != alone.Metadata.DSN {
			c.SecretConfig = file
		}
	}
	c.Receiver, c.NoReceiver = daemon.Receiver(cfg)
	if cfg.Storage.Backend == "s3" {
		c.Account, c.NoAccount = daemon.Account(cfg)
	}
	server, _, err := running(ctx, dir)
	c.Running = err == nil
	if cfg.Metadata.Backend == "postgres" {
		return a.examineShared(ctx, c)
	}
	c.Status = func(ctx context.Context) (status upkeep.Status, err error) {
		if c.Running {
			defer server.CloseIdleConnections()
			err = server.call(ctx, "GET", "/upkeep/status", nil, &status)
			return status, err
		}
		records, err := a.openSnapshot(dir.Join(datadir.DatabaseFile))
		if err != nil {
			return status, err
		}
		status, err = upkeep.ReadStatus(ctx, records, c.Now)
		if err == nil {
			status.Damage = records.Damage()
			status.Database, err = records.Size(ctx)
		}
		if err == nil {
			status.Faulty, err = marked(ctx, cfg, dir, records)
		}
		return status, errors.Join(err, records.Close())
	}
	return doctor.Examine(ctx, c)
}

// examineShared examines an installation whose records are in PostgreSQL, beside its servers.
func (a *App) examineShared(ctx context.Context, c *doctor.Case) (found []doctor.Finding, err error) {
	storage, away := a.open(ctx, c.Config, daemon.Opening{Beside: true, Existing: true})
	if away == nil {
		defer func() { err = errors.Join(err, storage.Close()) }()
	}
	c.Facts = func(ctx context.Context) (facts postgres.Facts, err error) {
		db, is := storage.Store.(*postgres.Store)
		if away != nil || !is {
			return facts, away
		}
		return db.Facts(ctx)
	}
	c.Status = func(ctx context.Context) (status upkeep.Status, err error) {
		if away != nil {
			return status, away
		}
		if status, err = upkeep.ReadStatus(ctx, storage.Store, c.Now); err != nil {
			return status, err
		}
		if storage.Marker != nil {
			status.Faulty = len(storage.Marker.Marked())
		}
		status.Storage = daemon.StorageOf(c.Config)
		if storage.Sweeper != nil {
			status.Storage.Unswept = storage.Sweeper.Unswept()
		}
		return status, nil
	}
	return doctor.Examine(ctx, c)
}

// marked counts the contents that are marked as damaged; that none can be listed is the
// file system's fault, which other examinations find.
func marked(ctx context.Context, cfg config.Config, dir *datadir.Dir, records backup.Records) (n int, err error) {
	if cfg.Storage.Backend == "s3" {
		return doctor.Marked(ctx, records)
	}
	entries, _ := os.ReadDir(dir.Join("blobs/damaged"))
	for _, entry := range entries {
		if _, err := blobs.ParseRef(entry.Name()); err == nil {
			n++
		}
	}
	return n, nil
}

// built returns the time of the commit from which the program was built.
func built() (at time.Time) {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return at
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.time" {
			at, _ = time.Parse(time.RFC3339, setting.Value) // unknown if it cannot be parsed
		}
	}
	return at
}

func levels(found []doctor.Finding) map[doctor.Level]int64 {
	n := map[doctor.Level]int64{}
	for _, finding := range found {
		n[finding.Level]++
	}
	return n
}

func (a *App) printFindings(found []doctor.Finding, asJSON bool) error {
	n := levels(found)
	if asJSON {
		encoder := json.NewEncoder(a.Out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(struct {
			Problems int64            `json:"problems"`
			Warnings int64            `json:"warnings"`
			Findings []doctor.Finding `json:"findings"`
		}{n[doctor.Problem], n[doctor.Warning], found})
	}
	for _, finding := range found {
		fmt.Fprintf(a.Out, "%-8s %s: %s\n", finding.Level, finding.Look, finding.Says)
		if finding.Do != "" {
			fmt.Fprintf(a.Out, "%-8s -> %s\n", "", finding.Do)
		}
	}
	fmt.Fprintf(a.Out, "%s, %s\n", command.Count(n[doctor.Problem], "problem"), command.Count(n[doctor.Warning], "warning"))
	return nil
}
