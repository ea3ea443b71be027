package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"attachd/server/upkeep"
	"attachd/store/postgres"
)

func lastBackupAt(c *Case, at time.Time) {
	status := c.Status
	c.Status = func(ctx context.Context) (upkeep.Status, error) {
		s, err := status(ctx)
		s.LastBackup = at
		return s, err
	}
}

func TestTheDoctorSaysWhatPostgreSQLMustChange(t *testing.T) {
	t.Parallel()
	good := postgres.Facts{Version: "15.4", Host: "db", Database: "attachd", FSync: true, SynchronousCommit: "on", Archives: true, Archived: time.Unix(1e9, 0), MaxConnections: 97, Connections: 5}
	for name, c := range map[string]struct {
		change func(*postgres.Facts, *Case)
		level  Level
		says   string
	}{
		"all is well":                 {func(*postgres.Facts, *Case) {}, OK, "is on its disk."},
		"it does not sync":            {func(f *postgres.Facts, _ *Case) { f.FSync = false }, Problem, "fsync = off"},
		"it confirms early":           {func(f *postgres.Facts, _ *Case) { f.SynchronousCommit = "off" }, Problem, "synchronous_commit = off"},
		"standbys are not waited for": {func(f *postgres.Facts, _ *Case) { f.Standbys = 2 }, Warning, "failover may lose"},
		"they are":                    {func(f *postgres.Facts, _ *Case) { f.Standbys, f.SynchronousTo = 1, "*" }, OK, "and on a standby"},
		"only here":                   {func(f *postgres.Facts, _ *Case) { f.Standbys, f.SynchronousTo, f.SynchronousCommit = 1, "*", "local" }, Warning, "failover may lose"},
		"a pooler that is not known":  {func(f *postgres.Facts, _ *Case) { f.Pooler = true }, Problem, "metadata.pooler is false"},
		"a pooler":                    {func(f *postgres.Facts, c *Case) { f.Pooler, c.Config.Metadata.Pooler = true, true }, OK, "of 97 connections"},
		"too few connections":         {func(f *postgres.Facts, _ *Case) { f.MaxConnections = 17 }, Warning, "room for 17 connections"},
		"nearly all in use":           {func(f *postgres.Facts, _ *Case) { f.Connections = 90 }, Warning, "90 are open"},
		"a migration was killed":      {func(f *postgres.Facts, _ *Case) { f.Frozen = true }, Problem, "changes are refused"},
		"it archives":                 {func(*postgres.Facts, *Case) {}, OK, "archives its write-ahead log"},
		"it cannot archive":           {func(f *postgres.Facts, _ *Case) { f.NotArchived = time.Unix(1e9, 0) }, Warning, "cannot archive"},
		"it is not told how":          {func(f *postgres.Facts, _ *Case) { f.Archived = time.Time{} }, Warning, "has archived nothing so far"},
		"a backup that was given up":  {func(_ *postgres.Facts, c *Case) { lastBackupAt(c, c.Now.AddDate(0, 0, -20)) }, Warning, "20 days ago"},
		"no backup of any kind":       {func(f *postgres.Facts, c *Case) { f.Archives = false; lastBackupAt(c, time.Time{}) }, Warning, "no record of a backup"},
		"a backup only":               {func(f *postgres.Facts, c *Case) { f.Archives = false }, OK, "last backup was made on"},
		"another time":                {func(f *postgres.Facts, _ *Case) { f.Ahead = -5 * time.Minute }, Warning, "5m0s apart"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts, h := good, healthy(t)
			h.Config.Metadata.Backend = "postgres"
			c.change(&facts, h)
			h.Facts = func(context.Context) (postgres.Facts, error) { return facts, nil }
			found := sharedDatabase(t.Context(), h)
			told := 0
			for _, f := range found {
				if f.Level == c.level && strings.Contains(f.Says, c.says) && (f.Do != "") == (f.Level != OK) {
					told++
				} else if f.Level != OK {
					t.Errorf("it says too: %+v", f)
				}
			}
			if told != 1 {
				t.Errorf("it says %+v", found)
			}
		})
	}
	h := healthy(t)
	h.Config.Metadata.Backend = "postgres"
	h.Facts = func(context.Context) (postgres.Facts, error) { return good, errors.New("PostgreSQL has no database") }
	if found := sharedDatabase(t.Context(), h); len(found) != 1 || found[0].Level != Problem {
		t.Errorf("of a database that is not there it says %+v", found)
	}
}
