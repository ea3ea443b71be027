package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/durable"
	"attachd/store"
)

// home returns the data directory, or its nearest ancestor that exists.
func (c *Case) home() string {
	path := c.Dir.Path()
	for {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// fileSystems are the file systems, by name, that do not provide the guarantees that
// attachd needs.
var fileSystems = map[string]struct {
	level    Level
	says, do string
}{
	"nfs":     {Problem, "a network file system: locks and syncs are not kept there as on a disk", localDisk},
	"cifs":    {Problem, "a network file system: locks and syncs are not kept there as on a disk", localDisk},
	"smb":     {Problem, "a network file system: locks and syncs are not kept there as on a disk", localDisk},
	"afs":     {Problem, "a network file system: locks and syncs are not kept there as on a disk", localDisk},
	"9p":      {Problem, "a folder of another machine: locks and syncs are not kept there as on a disk", localDisk},
	"vfat":    {Problem, "one without a journal and without rights: a power cut can damage it, and others can read it", localDisk},
	"exfat":   {Problem, "one without a journal and without rights: a power cut can damage it, and others can read it", localDisk},
	"fuse":    {Warning, "one that a program provides (FUSE): whether a sync reaches a disk is that program's affair", localDisk},
	"overlay": {Warning, "the layer of a container: what is in it goes with the container", "Mount a volume for the data directory."},
	"tmpfs":   {Warning, "in memory: a restart of the machine loses everything", localDisk},
	"ramfs":   {Warning, "in memory: a restart of the machine loses everything", localDisk},
}

const localDisk = "Put the data directory on a disk of this machine, with a file system such as ext4 or XFS."

func fileSystem(_ context.Context, c *Case) []Finding {
	name, err := durable.FileSystem(c.home())
	if err != nil {
		return problem("Look at the disk.", "The file system of %s cannot be looked at: %v.", c.home(), err)
	}
	if name == "" {
		return nil // unknown on this system
	}
	return judgeFileSystem(c.home(), name)
}

func judgeFileSystem(path, name string) []Finding {
	if bad, known := fileSystems[name]; known {
		return []Finding{{Level: bad.level, Says: fmt.Sprintf("The file system of %s is %s, %s.", path, name, bad.says), Do: bad.do}}
	}
	return ok("The file system of %s is %s.", path, name)
}

// slowSync is the duration of a sync of a few bytes above which the disk is too slow,
// and unlikely that below which it cannot really have written. The median of syncsTried
// syncs counts.
const (
	slowSync   = 100 * time.Millisecond
	unlikely   = 10 * time.Microsecond
	syncsTried = 20
)

func syncing(_ context.Context, c *Case) []Finding {
	if !c.exists() {
		return nil
	}
	typical, err := measureSync(c.Dir.Path())
	if err != nil {
		return problem("Look at the rights of the folder, at the disk, and at what the kernel says (dmesg).", "A file in %s cannot be written and synced: %v.", c.Dir.Path(), err)
	}
	return judgeSync(typical)
}

func judgeSync(typical time.Duration) []Finding {
	switch {
	case typical > slowSync:
		return warning("Use a faster disk: every upload waits for a few of these.", "A sync of a few bytes takes %v.", typical)
	case typical < unlikely:
		return warning("Look at the disk, its controller and the virtual machine: none of them may keep writes in memory and say they are done (cache=unsafe, tmpfs).",
			"A sync takes %v, which no disk can do: a power cut might lose what was acknowledged.", typical)
	}
	return ok("A sync takes %v.", typical)
}

// measureSync returns the median duration of syncsTried syncs.
func measureSync(dir string) (typical time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor.*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	var took []time.Duration
	for range syncsTried {
		if _, err := f.Write(make([]byte, 4<<10)); err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return took[len(took)/2].Round(time.Microsecond), nil
}

func freeSpace(ctx context.Context, c *Case) []Finding {
	room, err := disk.CapacityOf(c.home())
	if err != nil {
		return problem("Look at the disk.", "The room on the disk is not known: %v.", err)
	}
	reserve := int64(c.Config.Limits.DiskReserve)
	do := func() string {
		do := "Make room on the disk, or move the data directory to a larger one."
		if used := c.trash(ctx); used.Bytes > 0 && c.Config.Storage.Backend == "disk" {
			do += fmt.Sprintf(" %d MB are in the trash: a server that runs removes the oldest there as room is needed, and `attachd trash empty --all` all of it, except what a legal hold keeps.", used.Bytes>>20)
		}
		return do
	}
	switch free := room.Free >> 20; {
	case room.Free < reserve:
		return problem(do(), "%d MB are free on the disk, less than the reserve of %d MB (limits.disk_reserve): uploads are refused.", free, reserve>>20)
	case room.Free < 2*reserve, room.Free < room.Total/20:
		return warning(do(), "%d MB are free on the disk of %d MB; below the reserve of %d MB, uploads are refused.", free, room.Total>>20, reserve>>20)
	default:
		return ok("%d MB of %d MB are free on the disk.", free, room.Total>>20)
	}
}

// trash tells how much can be restored, which takes up room until it is removed for good.
func trash(ctx context.Context, c *Case) []Finding {
	used := c.trash(ctx)
	if used.Files == 0 {
		return nil
	}
	return ok("%d files with %d MB together are in the trash, and can be restored until their time is over.", used.Files, used.Bytes>>20)
}

// trash returns what is in the trash; nothing where the database cannot tell, which its own
// examination reports.
func (c *Case) trash(ctx context.Context) store.Usage {
	if !c.hasDatabase() || c.unusable() != nil {
		return store.Usage{}
	}
	status, err := c.Status(ctx)
	if err != nil {
		return store.Usage{}
	}
	return status.Trash
}

// inodesNeeded is how many more files a disk must be able to hold: the server's own
// work takes some, and each content one.
const inodesNeeded = 64

func inodes(_ context.Context, c *Case) []Finding {
	room, err := disk.CapacityOf(c.home())
	if err != nil {
		return nil // the check of the disk reports it
	}
	return judgeInodes(room)
}

func judgeInodes(room blobs.Capacity) []Finding {
	const do = "Remove files that are not needed from that file system, or move the data directory to one that was made with more inodes (mkfs.ext4 -N; XFS and btrfs make them as needed). See: df -i"
	switch {
	case room.Files == 0:
		return nil // there is no limit
	case room.FreeFiles < inodesNeeded:
		return problem(do, "The disk can hold %d more files only, of %d inodes: uploads are refused, or soon will be, whatever space is free.", room.FreeFiles, room.Files)
	case room.FreeFiles < room.Files/20:
		return warning(do, "The disk can hold %d more files, of %d inodes; without one, uploads are refused, whatever space is free.", room.FreeFiles, room.Files)
	}
	return ok("The disk can hold %d more files, of %d inodes.", room.FreeFiles, room.Files)
}

func ballast(_ context.Context, c *Case) []Finding {
	if c.shares() || !c.hasDatabase() {
		return nil
	}
	room, err := disk.CapacityOf(c.home())
	if err != nil {
		return nil // the check of the disk reports it
	}
	held, err := c.Dir.Ballast()
	if err != nil {
		return problem("Look at the rights of the folder, and at the disk.", "The ballast cannot be looked at: %v.", err)
	}
	if held.Missing(room.Total) > 0 {
		return warning("Make room on the disk; a running server sets it apart again within seconds.", "The ballast is not there, with which a full disk can still be emptied: the disk was full, or no server has run for long.")
	}
	return ok("The ballast is there, with which a full disk can still be emptied.")
}

// openFiles checks the limit of open files: each upload needs a file and a connection,
// clamd some more, and the rest of the process too.
func openFiles(_ context.Context, c *Case) []Finding {
	limit, known := openFileLimit()
	if !known {
		return nil
	}
	need := uint64(2*c.Config.Limits.MaxConcurrentUploads + 256)
	if limit < need {
		return warning(fmt.Sprintf("Set LimitNOFILE=%d in the unit of the service (ulimit -n %d in a shell).", 2*need, 2*need),
			"A process started from here may open %d files; %d uploads at once need about %d.", limit, c.Config.Limits.MaxConcurrentUploads, need)
	}
	return ok("A process started from here may open %d files.", limit)
}

// snapshotAge is the age from which a snapshot is too old if the database has changed
// since: one is taken every hour while it changes.
const snapshotAge = 2 * 24 * time.Hour

func snapshots(_ context.Context, c *Case) []Finding {
	if c.shares() || !c.hasDatabase() {
		return nil
	}
	const do = "Look in the server's log for why: it takes one at its start, every hour and at its end."
	newest, any, err := c.Dir.NewestSnapshot()
	if err != nil {
		return problem("Look at the rights of the folder.", "The snapshots of the database cannot be looked at: %v.", err)
	}
	if !any {
		return warning(do, "There is no snapshot of the database.")
	}
	if due, _, err := c.Dir.SnapshotDue(); err == nil && due && c.Now.Sub(newest).Abs() > snapshotAge {
		return warning(do, "The newest snapshot of the database is of %s, and something has changed since.", newest.UTC().Format(time.RFC3339))
	}
	return ok("The newest snapshot of the database is of %s.", newest.UTC().Format(time.RFC3339))
}
