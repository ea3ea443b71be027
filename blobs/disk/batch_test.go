package disk_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"

	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
)

// calls records the file system calls of a Store, one of which may fail. Many may
// be made concurrently.
type calls struct {
	mu     sync.Mutex
	made   []string
	at     int // the call that fails; 0 is none
	plan   faultPlan
	failed string
}

func (c *calls) wrap(real disk.FileSystem) disk.FileSystem {
	return disktest.Faults{After: c.note}.Wrap(unsynced{real})
}

func (c *calls) note(call string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, call)
	if c.at == 0 || len(c.made) < c.at || len(c.made) > c.at && !c.plan.forever {
		return nil
	}
	c.failed = call
	return fmt.Errorf("injected: %w", c.plan.err)
}

func (c *calls) set(at int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made, c.at, c.failed = nil, at, ""
}

// few contents are synced one by one, many by one sync of the file system. Both are
// of at least two shards.
const few, many = 5, 12

func contents(number, salt int) (contents [][]byte) {
	for n := range number {
		contents = append(contents, fmt.Append(nil, "content ", salt, " ", n))
	}
	return contents
}

func TestKeepAllSyncsBytesBeforeNamesAndNamesBeforeItEnds(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"few": few, "many": many} {
		t.Run(name, func(t *testing.T) { keepAllSyncsInOrder(t, number) })
	}
}

func keepAllSyncsInOrder(t *testing.T, number int) {
	c := &calls{}
	d := openDiskWith(t, t.TempDir(), disk.Options{Wrap: c.wrap})
	c.set(0)
	release, err := d.KeepAll(t.Context(), blobstest.Named(contents(number, 0)...))
	if err != nil {
		t.Fatal(err)
	}
	release()
	step := map[string]int{} // the progress of each file or shard
	for _, call := range c.made {
		verb, rest, _ := strings.Cut(call, " ")
		switch verb {
		case "create":
			step[rest] = 0
		case "sync":
			step[rest] = 1
		case "syncall":
			for what, far := range step {
				step[what] = far + 1
			}
		case "rename":
			from, to, _ := strings.Cut(rest, " ")
			if step[from] != 1 {
				t.Errorf("%s, before its bytes were synced", call)
			}
			shard := to[:strings.LastIndexByte(to, '/')]
			if step[shard] == 2 {
				t.Errorf("%s, after the folder was synced", call)
			}
			step[shard] = 1
		case "syncdir":
			step[rest] = 2
		}
	}
	for what, far := range step {
		if strings.HasPrefix(what, "blobs/") && far != 2 {
			t.Errorf("%s was not synced", what)
		}
	}
}

// Whichever call fails, no content is partly stored, and the next KeepAll stores
// them all.
func TestAKeepAllThatFailsCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	for _, plan := range faultPlans {
		t.Run(plan.name, func(t *testing.T) {
			t.Parallel()
			for _, number := range []int{few, many} {
				aKeepAllThatFailsCanBeTriedAgain(t, plan, number)
			}
		})
	}
}

func aKeepAllThatFailsCanBeTriedAgain(t *testing.T, plan faultPlan, number int) {
	c, dir := &calls{plan: plan}, t.TempDir()
	d := openDiskWith(t, dir, disk.Options{Wrap: c.wrap})
	for n := 1; ; n++ {
		contents := contents(number, n)
		keep(t, d, contents[0])
		c.set(n)
		release, err := d.KeepAll(t.Context(), blobstest.Named(contents...))
		if release != nil {
			release()
		}
		failed := c.failed
		c.set(0)
		if err == nil && failed != "" || err != nil && failed == "" {
			t.Fatalf("call %d, %q, failed, and KeepAll says %v", n, failed, err)
		}
		for _, content := range contents {
			// No content is held, so this does not wait.
			if got, err := read(d, sha256.Sum256(content), len(content)); err == nil && !bytes.Equal(got, content) {
				t.Errorf("after call %d, %q, failed there is %q", n, failed, got)
			}
		}
		release, err = d.KeepAll(t.Context(), blobstest.Named(contents...))
		if err != nil {
			t.Fatal(err)
		}
		release()
		for _, content := range contents {
			wantRead(t, d, content)
			if removed, err := d.Remove(t.Context(), sha256.Sum256(content), unwanted); err != nil || !removed {
				t.Errorf("removing: %t, %v", removed, err)
			}
		}
		if failed == "" {
			return
		}
	}
}
