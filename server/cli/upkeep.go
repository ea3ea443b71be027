package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"attachd/server/cli/command"
	"attachd/server/datadir"
	"attachd/server/upkeep"
	"attachd/store"
)

// Check is the command that checks for faults.
func (a *App) Check() *cobra.Command {
	var deep, asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "compare the records with the files, and list what is missing or damaged",
		Args:  command.Exactly(),
	}
	check := a.withServer(func(ctx context.Context, c *client, _ []string) error {
		var report upkeep.Report
		if err := a.work(ctx, c, "/upkeep/check", map[string]any{"deep": deep}, &report); err != nil {
			return err
		}
		if err := a.printReport(report, asJSON); err != nil {
			return err
		}
		return a.exitFor(report)
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		var damaged *store.DamagedError // too damaged to be opened
		if !errors.As(err, &damaged) {
			return err
		}
		report := upkeep.Report{Faults: []upkeep.Fault{}}
		for _, what := range damaged.Faults {
			report.Faults = append(report.Faults, upkeep.Fault{What: what})
		}
		if err := a.printReport(report, asJSON); err != nil {
			return err
		}
		return a.exitFor(report)
	}
	a.addQuietFlag(cmd)
	cmd.Flags().BoolVar(&deep, "deep", false, "read every file and compare its bytes with its name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	return cmd
}

// exitFor returns the error, with its exit code, for a report, and says what to do
// about a database that has faults.
func (a *App) exitFor(report upkeep.Report) error {
	if len(report.Faults) == 0 {
		return nil
	}
	found := command.Count(int64(len(report.Faults)), "fault") + " found"
	inDatabase := slices.DeleteFunc(slices.Clone(report.Faults), func(f upkeep.Fault) bool { return f.Blob != "" || f.Storage })
	if len(inDatabase) == 0 {
		return command.Fault(errors.New(found))
	}
	found += ". As long as the database has faults, `attachd gc` removes nothing. To mend it, "
	if !slices.ContainsFunc(inDatabase, func(f upkeep.Fault) bool { return !strings.Contains(f.What, "`attachd compact`") }) {
		return command.Fault(errors.New(found + "run `attachd compact`"))
	}
	cfg, _, err := a.config(nil)
	if err != nil {
		return err
	}
	dir, err := datadir.Find(cfg.DataDir)
	if err != nil {
		return err
	}
	return command.Fault(fmt.Errorf("%sstop the server. %s", found, dir.Rescue()))
}

func (a *App) printReport(report upkeep.Report, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(a.Out)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	var unreadable []upkeep.Fault
	for _, fault := range report.Faults {
		if fault.Unreadable {
			unreadable = append(unreadable, fault)
			continue
		}
		fmt.Fprintln(a.Out, fault)
	}
	found := command.Count(int64(len(report.Faults)), "fault")
	if len(unreadable) > 0 {
		fmt.Fprintln(a.Out, "could not be read, which says nothing of the bytes; see to the disk, and check again:")
		for _, fault := range unreadable {
			fmt.Fprintln(a.Out, fault)
		}
		found += fmt.Sprintf(", %d of them could not be read", len(unreadable))
	}
	fmt.Fprintf(a.Out, "%s, %s, %s: %s\n", command.Count(report.Attachments, "attachment"), command.Count(report.Contents, "content"), command.Count(report.Bytes, "byte"), found)
	if report.Orphans > 0 {
		fmt.Fprintf(a.Out, "nothing refers to %s, %s; `attachd gc` removes what is older than an hour\n",
			command.Count(report.Orphans, "content"), command.Count(report.OrphanBytes, "byte"))
	}
	if report.Strays > 0 {
		fmt.Fprintf(a.Out, "the bucket has %s without a content, %s; `attachd gc` deletes them\n",
			command.Count(report.Strays, "object"), command.Count(report.StrayBytes, "byte"))
	}
	if report.Foreign > 0 {
		fmt.Fprintf(a.Out, "%s below the prefix, which attachd did not write and leaves alone: %s\n",
			command.Count(report.Foreign, "object"), strings.Join(report.ForeignNames, ", "))
	}
	return nil
}

// GC is the command that removes contents that nothing refers to.
func (a *App) GC() *cobra.Command {
	var dryRun bool
	minAge := upkeep.MinAge
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "remove contents that nothing refers to and that are older than an hour, in a bucket than a day",
		Args:  command.Exactly(),
		PreRunE: func(*cobra.Command, []string) error {
			if minAge < 0 {
				return command.Usage("--min-age must not be below 0")
			}
			return nil
		},
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var collected upkeep.Collected
			if err := a.work(ctx, c, "/upkeep/gc", map[string]any{"dry_run": dryRun, "min_age": minAge.Seconds()}, &collected); err != nil {
				return err
			}
			if collected.Contents+collected.Strays == 0 {
				fmt.Fprintln(a.Out, "nothing to remove")
				return nil
			}
			what := fmt.Sprintf("%s, %s", command.Count(collected.Contents, "content"), command.Count(collected.Bytes, "byte"))
			if collected.Strays > 0 {
				what += fmt.Sprintf("; %s without a content in the bucket, %s", command.Count(collected.Strays, "object"), command.Count(collected.StrayBytes, "byte"))
			}
			if !dryRun {
				fmt.Fprintln(a.Out, "removed", what)
				return nil
			}
			fmt.Fprintln(a.Out, "to remove:", what)
			return command.Fault(errors.New("nothing was removed: this was a dry run"))
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only count")
	cmd.Flags().DurationVar(&minAge, "min-age", minAge, "leave contents alone that are younger")
	return cmd
}

// Compact is the command that rewrites the database without its free pages.
func (a *App) Compact() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "rewrite attachd.db without deleted records, which makes it smaller",
		Args:  command.Exactly(),
		RunE: a.withServer(func(ctx context.Context, c *client, _ []string) error {
			var compacted store.Compaction
			if err := a.work(ctx, c, "/upkeep/compact", nil, &compacted); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(a.Out).Encode(compacted)
			}
			fmt.Fprintf(a.Out, "attachd.db has %s, and had %s\n", command.Count(compacted.After, "byte"), command.Count(compacted.Before, "byte"))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the sizes as JSON")
	return cmd
}

// work has the server do long work, shows its progress, and decodes the report.
func (a *App) work(ctx context.Context, c *client, path string, order, report any) error {
	response, err := c.send(ctx, "POST", path, order)
	if err != nil {
		return err
	}
	defer response.Body.Close() // a failure shows when it is read to its end
	if response.StatusCode >= http.StatusMultipleChoices {
		return readRefusal(response)
	}
	shown := a.NewProgressLine(a.quiet)
	defer shown.Clear()
	for lines := json.NewDecoder(response.Body); ; {
		var line struct {
			Progress struct{ Done, Total int64 }
			Report   json.RawMessage
			Error    json.RawMessage
		}
		if err := lines.Decode(&line); err != nil {
			return cutOff(err)
		}
		switch {
		case line.Report != nil:
			return json.Unmarshal(line.Report, report)
		case line.Error != nil:
			return refused("an error", line.Error)
		}
		shown.Contents(upkeep.Progress{Bytes: line.Progress.Done, AllBytes: line.Progress.Total})
	}
}
