//go:build unix

package durability

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/storetest"
)

const (
	memoryBound    = 100 << 20
	startsMeasured = 5
)

// The amount of stored data affects neither how soon the server is ready, nor how
// much memory its start and everyday work take.
func TestTheServerIsReadyAtOnceHoweverMuchThereIs(t *testing.T) {
	type house struct{ attachments, contents int } // contents of them are on the disk
	houses := []house{{50_000, storetest.FilesPerProduct}}
	if *long {
		houses = append(houses, house{1_000_000, storetest.FilesPerProduct}, house{100_000, 100_000})
	}
	for _, h := range houses {
		t.Run(fmt.Sprintf("%d attachments, %d contents", h.attachments, h.contents), func(t *testing.T) {
			dir := t.TempDir()
			products := fillDir(t, dir, h.attachments, h.contents)
			var worked []time.Duration
			for range startsMeasured {
				begun := time.Now()
				p := serve(t, dir)
				p.waitUntilReady(t)
				took := time.Since(begun)
				worked = append(worked, p.worktime(t))
				atReady := p.peakMemory(t)
				listAndDownload(t, p, products[0])
				peak := p.peakMemory(t)
				t.Logf("ready after %v (listening after %v), of which processors were busy for %v; peak memory %.1f MB, after a list and a download %.1f MB",
					took, p.ready, worked[len(worked)-1], float64(atReady)/(1<<20), float64(peak)/(1<<20))
				if peak > memoryBound {
					t.Errorf("it took %d bytes of memory, more than %d", peak, memoryBound)
				}
				p.kill()
			}
			slices.Sort(worked)
			if median := worked[len(worked)/2]; median > startBound {
				t.Errorf("half of the starts kept processors busy for longer than %v: %v", startBound, worked)
			}
		})
	}
}

// fillDir creates a data directory with a number of attachments, the first of them
// with their contents.
func fillDir(t *testing.T, dir string, attachments, contents int) (products []store.Entity) {
	t.Helper()
	serve(t, dir).stop(t) // creates all but the files
	begun := time.Now()
	records, err := bolt.Open(filepath.Join(dir, "attachd.db"), bolt.Options{})
	must(t, err)
	products = storetest.Fill(t, records, attachments)
	must(t, records.Close())
	files, err := disk.Open(dir, disk.Options{})
	must(t, err)
	err = keepContents(files, contents)
	must(t, errors.Join(err, files.Close()))
	info, err := os.Stat(filepath.Join(dir, "attachd.db"))
	must(t, err)
	t.Logf("filling took %v; the database has %d MB", time.Since(begun).Round(time.Millisecond), info.Size()>>20)
	return products
}

// keepContents stores the first n contents of those that Fill creates.
func keepContents(files blobs.Store, n int) error {
	var (
		next   atomic.Int64
		failed [16]error
		all    sync.WaitGroup
	)
	for k := range failed {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed[k] == nil; i = int(next.Add(1)) - 1 {
				failed[k] = keep(files, storetest.FilledContent(i))
			}
		})
	}
	all.Wait()
	return errors.Join(failed[:]...)
}

func keep(files blobs.Store, content []byte) error {
	spool, err := files.Create(context.Background())
	if err != nil {
		return err
	}
	defer spool.Close() // does nothing after Keep
	if _, err := spool.Write(content); err != nil {
		return err
	}
	release, err := spool.Keep(context.Background())
	if err == nil {
		release()
	}
	return err
}

func (p *process) waitUntilReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		a, err := p.call(http.MethodGet, "/health/ready", nil)
		must(t, err)
		if a.status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("attachd does not get ready: %s", a.body)
		}
	}
}

// listAndDownload lists a product that Fill filled and downloads its files.
func listAndDownload(t *testing.T, p *process, product store.Entity) {
	t.Helper()
	names, err := p.list(fmt.Sprintf("/catalog/spaces/%s/products/%s", product.Space, product.ID))
	must(t, err)
	if len(names) != storetest.FilesPerProduct {
		t.Errorf("the list of the product has %d files, not %d", len(names), storetest.FilesPerProduct)
	}
	for id, name := range names {
		a, err := p.download(id)
		must(t, err)
		var i int
		_, err = fmt.Sscanf(name, "quarterly report %d.txt", &i)
		must(t, err)
		if want := storetest.FilledContent(i); a.status != http.StatusOK || !bytes.Equal(a.body, want) {
			t.Errorf("%s: answered %d %q, want %q", name, a.status, a.body, want)
		}
	}
}

// worktime is the processor time of the process so far, in user and kernel mode.
// Unlike the clock, it excludes what else the machine does. It is known on Linux
// only.
func (p *process) worktime(t *testing.T) time.Duration {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	must(t, err)
	var user, system time.Duration                      // proc_pid_stat(5), fields 14 and 15
	_, behindName, _ := strings.Cut(string(stat), ") ") // the name is field 2
	fields := strings.Fields(behindName)
	_, err = fmt.Sscan(fields[14-3]+" "+fields[15-3], &user, &system)
	must(t, err)
	return (user + system) * (time.Second / 100) // Linux counts for /proc in hundredths
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the maximum of memory that the process used so far, in bytes,
// including the pages of the database. It is known on Linux only.
func (p *process) peakMemory(t *testing.T) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	must(t, err)
	line := peakLine.FindSubmatch(status)
	if line == nil {
		t.Fatalf("there is no peak in\n%s", status)
	}
	kilobytes, err := strconv.Atoi(string(line[1]))
	must(t, err)
	return kilobytes << 10
}
