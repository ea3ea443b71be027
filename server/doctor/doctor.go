// Package doctor diagnoses common faults of an installation, and says what to do about
// them. It changes nothing but for a moment: it writes a file and an object to see whether
// that works.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attachd/blobs/s3"
	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/scan"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/postgres"
)

// Level is the severity of a finding.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // it works, but not as well or as safely as it could
	Problem Level = "problem" // it does not work, or not as promised
)

// Finding is a result of an examination.
type Finding struct {
	Look  string `json:"look"`
	Level Level  `json:"level"`
	Says  string `json:"says"`         // a sentence
	Do    string `json:"do,omitempty"` // what to do about it; empty if it is ok
}

// Case is the installation to check.
type Case struct {
	Config   config.Config
	Warnings []string // from loading the configuration
	// SecretConfig is the configuration file, if it contains a secret.
	SecretConfig string
	Dir          *datadir.Dir // found, not opened
	Running      bool         // a server has opened the directory
	// Status reads the state of the database. It is called only if there is one, in a
	// format that this version supports.
	Status func(context.Context) (upkeep.Status, error)
	// Facts asks PostgreSQL, where the records are in it; optional.
	Facts func(context.Context) (postgres.Facts, error)
	Clamd *scan.Clamd // optional
	// Receiver is the receiver of webhooks, and NoReceiver the error that makes one
	// impossible; both are optional.
	Receiver   *webhooks.Receiver
	NoReceiver error
	// Account is that of the object store, and NoAccount the error that makes it
	// impossible; where contents are in one.
	Account   s3.Account
	NoAccount error
	Now       time.Time
	Built     time.Time // when the program was built; zero if unknown
}

// examinations are all examinations, in the order of the report. Each returns at least
// one finding, or none where it does not apply.
var examinations = []struct {
	name string
	at   func(context.Context, *Case) []Finding
}{
	{"configuration", configuration},
	{"data directory", dataDirectory},
	{"format", format},
	{"owner", owner},
	{"secrets", secrets},
	{"first keys", firstKeys},
	{"file system", fileSystem},
	{"sync", syncing},
	{"disk", freeSpace},
	{"trash", trash},
	{"inodes", inodes},
	{"ballast", ballast},
	{"open files", openFiles},
	{"clock", clock},
	{"storage", home},
	{"object store", objectStore},
	{"snapshots", snapshots},
	{"database", database},
	{"database", sharedDatabase},
	{"scanner", scanner},
	{"webhooks", receiver},
	{"listen", listen},
	{"certificate", certificate},
	{"public_url", publicURL},
	{"trusted_proxies", trustedProxies},
	{"auto_create", autoCreate},
}

// Examine runs all examinations.
func Examine(ctx context.Context, c *Case) (all []Finding, err error) {
	for _, examination := range examinations {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, finding := range examination.at(ctx, c) {
			finding.Look = examination.name
			all = append(all, finding)
		}
	}
	return all, nil
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Says: fmt.Sprintf(format, args...)}}
}

func warning(do, format string, args ...any) []Finding {
	return []Finding{{Level: Warning, Says: fmt.Sprintf(format, args...), Do: do}}
}

func problem(do, format string, args ...any) []Finding {
	return []Finding{{Level: Problem, Says: fmt.Sprintf(format, args...), Do: do}}
}

func configuration(_ context.Context, c *Case) (found []Finding) {
	for _, w := range c.Warnings {
		found = append(found, warning("Correct the variable, or remove it.", "%s.", w)...)
	}
	if len(found) == 0 {
		return ok("The configuration is good.")
	}
	return found
}

func clock(_ context.Context, c *Case) []Finding {
	const set = "Set the clock, and keep it right with NTP (timedatectl set-ntp true): ids, links and keys depend on it."
	if c.Now.Before(c.Built) {
		return problem(set, "The clock says %s, but this attachd was made on %s.", c.Now.UTC().Format(time.RFC3339), c.Built.UTC().Format(time.RFC3339))
	}
	return ok("The clock says %s.", c.Now.UTC().Format(time.RFC3339))
}

// backupAge is the age from which the last backup is too old: it should be made once a
// week, and a day is allowed for one that failed.
const backupAge = 8 * 24 * time.Hour

func database(ctx context.Context, c *Case) []Finding {
	if c.shares() || c.unusable() != nil {
		return nil
	}
	if err := c.Dir.CheckDatabase(); err != nil {
		return problem(c.Dir.Rescue()+".", "The server does not start: %v.", err)
	}
	if !c.hasDatabase() {
		return nil
	}
	status, err := c.Status(ctx)
	if errors.Is(err, bolt.ErrLocked) {
		return warning("Run this again when that has ended.", "The database is in use by %s.", c.Dir.Holder())
	}
	if err != nil {
		return problem(c.Dir.Rescue()+".", "The database cannot be read: %v.", err)
	}
	found := ok("The database can be read.")
	if n := len(status.Damage); n > 0 {
		found = problem(c.Dir.Rescue()+".", "attachd.db has faults, %d in all, which `attachd check` lists: %s", n, status.Damage[0])
	}
	if !status.Ahead.IsZero() {
		found = append(found, problem("Set the clock, and keep it right with NTP (timedatectl set-ntp true).",
			"There is an attachment of %s, which is not yet, says the clock: it was set back.", status.Ahead.UTC().Format(time.RFC3339))...)
	}
	if jump := status.ClockJump; !jump.To.IsZero() && status.SinceJump < jumpTold {
		found = append(found, warning("See that it is right, and keep it right with NTP (timedatectl set-ntp true); where it begins anew at each boot, have attachd wait for the time (After=time-sync.target).",
			"The clock jumped from %s to %s, %.0f hours of running ago: nothing is deleted for its age on the word of that.",
			jump.From.UTC().Format(time.RFC3339), jump.To.UTC().Format(time.RFC3339), status.SinceJump.Hours())...)
	}
	if status.Faulty > 0 {
		found = append(found, problem("`attachd check` lists them; upload the files again, or restore them from a backup.",
			"Stored files are missing or damaged, %d in all.", status.Faulty)...)
	}
	found = append(found, checks(c, status)...)
	found = append(found, lastBackup(c, status, "Run `attachd backup DIR` every night, onto another disk.")...)
	found = append(found, writeAheadLog(status.Log, status.Storage.Backend == "s3")...)
	return append(append(found, freePages(status.Database)...), outbox(c, status)...)
}

// lastBackup says how old the last backup is, and what to do where it is too old.
func lastBackup(c *Case, status upkeep.Status, do string) []Finding {
	switch age := c.Now.Sub(status.LastBackup); {
	case status.LastBackup.IsZero():
		return warning(do, "There is no record of a backup.")
	case age < -time.Hour:
		return warning("Set the clock, then make a backup: "+do, "The last backup is of %s, which is not yet, says the clock.", status.LastBackup.UTC().Format(time.RFC3339))
	case age > backupAge:
		return warning(do, "The last backup was made %d days ago.", int(age.Hours()/24))
	}
	return ok("The last backup was made on %s.", status.LastBackup.UTC().Format(time.RFC3339))
}

// fullLog is the share of the write-ahead log, in percent, from which it is full: a
// server that keeps up begins to make room in it at half.
const fullLog = 90

func writeAheadLog(l upkeep.LogStatus, inBucket bool) []Finding {
	if l.MaxBytes == 0 {
		return nil // no server runs, or it keeps none
	}
	to, why, faster := "to the folder blobs", "make room on the disk if it is full", "use a faster disk"
	if inBucket {
		to, why, faster = "into the bucket", "correct what is said of the object store", "have the object store answer sooner"
	}
	used := l.Bytes * 100 / l.MaxBytes
	switch {
	case !l.FailingSince.IsZero():
		return problem("Look in the server's log for why, and "+why+". Nothing is lost: they are in the write-ahead log until then.",
			"Since %s, small files that were accepted cannot be written %s (%d of them; the write-ahead log is %d %% full).", l.FailingSince.UTC().Format(time.RFC3339), to, l.Contents, used)
	case used >= fullLog:
		return warning("If that is so whenever people work, raise storage.log_size, or "+faster+".",
			"The write-ahead log is %d %% full: small uploads come faster than they can be written %s, and wait.", used, to)
	}
	return ok("The write-ahead log is %d %% full; %d small files are in it until they are written %s.", used, l.Contents, to)
}

// checkAge is the age from which the last check is too old: once a month, and a few
// days more.
const checkAge = 35 * 24 * time.Hour

func checks(c *Case, status upkeep.Status) []Finding {
	const do = "Run `attachd check --deep`: it reads every file."
	switch age := c.Now.Sub(status.LastCheck); {
	case status.LastFound > 0:
		return problem("`attachd check` lists them; upload the files again, or restore them from a backup, then run it again.", "The last check found faults, %d in all.", status.LastFound)
	case status.LastCheck.IsZero():
		return warning(do, "There is no record of a check.")
	case age > checkAge:
		return warning(do, "The last check was made %d days ago.", int(age.Hours()/24))
	}
	return ok("The last check was made on %s, and found no faults.", status.LastCheck.UTC().Format(time.RFC3339))
}

// largeDatabase is the size in bytes above which a database should not be mostly free
// pages.
const largeDatabase = 64 << 20

func freePages(size store.Size) []Finding {
	if size.Bytes <= largeDatabase || size.Free <= size.Bytes/2 {
		return nil
	}
	return warning("At a time when uploads may wait for a few seconds: attachd compact",
		"Of the database's %d MB, %d are of no use any more; every snapshot and backup copies them.", size.Bytes>>20, size.Free>>20)
}

// jumpTold is how long, in running time, a jump of the clock is reported.
const jumpTold = 7 * 24 * time.Hour

// eventAge is the waiting time of an event above which the receiver probably does not
// accept it.
const eventAge = time.Hour

func outbox(c *Case, status upkeep.Status) (found []Finding) {
	if age := c.Now.Sub(status.OldestEvent); status.Events > 0 && age > eventAge {
		found = warning("See why: attachd webhooks status", "Events wait for the receiver of webhooks, %d of them, the first for %.0f hours.", status.Events, age.Hours())
	}
	if status.DeadLetters > 0 {
		found = append(found, warning("Once the receiver takes them: attachd webhooks redeliver", "Events were given up, %d of them, since the receiver of webhooks did not take them.", status.DeadLetters)...)
	}
	return found
}
