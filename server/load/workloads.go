//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// workload is an operation that several clients do concurrently.
type workload struct {
	name     string
	clients  int
	size     int      // bytes of an operation; 0: the rate counts operations
	limits   []string // with which its rate is compared
	count    int      // of operations; 0: as many as can be done in the time given
	once     bool     // in one round only
	slowdown string   // the workload whose slowest operations may be a third as fast here
	alone    bool     // for attachd only, not for peers
	onDisk   bool     // for contents on the disk only
	inFile   bool     // for metadata in a data directory only
	goal     float64  // how many times as fast as the bucket alone it is to be; 0: no goal
	goalOf   string   // the limit that is meant instead of the bucket
	on       func(s *subject) *instance
	begin    func(in *instance, n int) (worker, error)
	beside   func(ctx context.Context, in *instance) error // runs during the measurement
}

// unit is the unit of its rate.
func (w workload) unit() string {
	if w.size > 0 {
		return "MB/s"
	}
	return "/s"
}

func verified(s *subject) *instance { return s.verified }
func trusting(s *subject) *instance { return s.trusting }

// workloads returns the workloads that o selects.
func workloads(o options) (chosen []workload) {
	all := []workload{
		{name: "upload 10 KB, 1 client", clients: 1, limits: []string{"files, 1", "log, 1"}, begin: uploading(small, true)},
		{name: "upload 10 KB, 16 clients", clients: 16, limits: []string{"files, 16", "log, 16"}, begin: uploading(small, true)},
		{name: "upload 10 KB, sustained", clients: 16, limits: []string{"files, 16", "commits, 16"}, begin: uploading(small, true), count: o.sustained, once: true},
		{name: "upload 1 MB, 8 clients", clients: 8, size: big, limits: []string{"files of 1 MB, 8", "SHA-256"}, begin: uploading(big, true)},
		{name: "upload the same 1 MB, 8 clients", clients: 8, size: big, limits: []string{"SHA-256"}, begin: uploading(big, false)},
		{name: "upload 50 MB, 1 client", clients: 1, size: large, limits: []string{"files of 50 MB, 1", "SHA-256"}, begin: uploading(large, true)},
		{name: "upload 50 MB, 4 clients", clients: 4, size: large, limits: []string{"files of 50 MB, 4", "SHA-256"}, begin: uploading(large, true)},
		{name: "download 10 KB, 16 clients", clients: 16, limits: []string{"bare 10 KB"}, begin: downloading(small)},
		{name: "download 64 KB, 16 clients", clients: 16, limits: []string{"bare 64 KB"}, begin: downloading(medium)},
		{name: "download 1 MB, 8 clients", clients: 8, size: big, limits: []string{"SHA-256", "bare 50 MB"}, begin: downloading(big)},
		{name: "download 50 MB, first read", clients: 1, size: large, limits: []string{"SHA-256", "bare 50 MB"}, begin: downloadingFirst(1 + int(o.slice/firstReadsEvery))},
		{name: "download 50 MB, again", clients: 1, size: large, limits: []string{"bare 50 MB"}, begin: downloading(large)},
		{name: "download 50 MB, again, 4 clients", clients: 4, size: large, limits: []string{"bare 50 MB"}, begin: downloading(large)},
		{name: "download 50 MB, hashed", alone: true, onDisk: true, clients: 1, size: large, limits: []string{"SHA-256", "bare 50 MB"}, begin: downloadingTouched},
		{name: "download 50 MB, not verified", clients: 1, size: large, limits: []string{"bare 50 MB"}, on: trusting, begin: downloading(large)},
		{name: "list 100, 8 clients", clients: 8, limits: []string{"bare list"}, begin: lists},
		{name: "delete, 16 clients", alone: true, clients: 16, limits: []string{"commits, 16"}, count: o.deletions, begin: deleting(o.deletions / 16)},
		{name: "mixed, 16 clients", alone: true, clients: 16, limits: []string{"bare 10 KB"}, begin: mixing},
		{name: "download 10 KB, idle", alone: true, clients: 2, limits: []string{"bare 10 KB"}, begin: downloading(small)},
		{name: "download 10 KB, under pressure", alone: true, inFile: true, clients: 2, slowdown: "download 10 KB, idle", begin: downloading(small), beside: pressing},
	}
	if o.bucket != nil {
		goals := overBucket()
		if o.postgres != nil {
			goals = append(goals, overPostgres()...)
		}
		all = slices.DeleteFunc(all, func(w workload) bool {
			return slices.ContainsFunc(goals, func(g workload) bool { return g.name == w.name })
		})
		all = append(all, goals...)
	}
	for _, w := range all {
		if w.on == nil {
			w.on = verified
		}
		if o.bucket != nil && w.onDisk || o.postgres != nil && w.inFile {
			continue
		}
		if o.only == nil || o.only.MatchString(w.name) {
			chosen = append(chosen, w)
		}
	}
	return chosen
}

// run runs the workload against s once.
func (w workload) run(s *subject, o options) (found sample, err error) {
	in := w.on(s)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var aside sync.WaitGroup
	var asideFailed error
	done := func() error { return nil }
	// The preparation of the workers is not measured.
	ready := func(n int) (worker, error) {
		worker, err := w.begin(in, n)
		if err != nil || n < w.clients-1 {
			return worker, err
		}
		if w.beside != nil {
			aside.Go(func() { asideFailed = w.beside(ctx, in) })
		}
		if o.profiles != "" && !s.peer {
			name := strings.NewReplacer(" ", "-", ",", "").Replace(w.name) + ".pprof"
			if done, err = in.profile(profileFile(in.dir), filepath.Join(o.profiles, name)); err != nil {
				return worker, errors.Join(err, worker.close())
			}
		}
		in.forgetPeak()
		found.cpu = -in.processor()
		return worker, nil
	}
	seen, err := drive(w.clients, o.slice, w.count, ready)
	found.cpu += in.processor()
	found.Peak, found.Anonymous = in.memory()
	cancel()
	aside.Wait()
	if err = errors.Join(err, asideFailed, done()); err != nil {
		return found, err
	}
	found.fill(w, seen)
	return found, nil
}

// connected returns a worker of a client with a new connection. The worker's close
// runs before the connection is closed.
func connected(in *instance, make func(c *client) worker) (worker, error) {
	c, err := dial(in.address)
	if err != nil {
		return worker{}, err
	}
	w := make(c)
	if end := w.close; end != nil {
		w.close = func() error { return errors.Join(end(), c.close()) }
	} else {
		w.close = c.close
	}
	return w, nil
}

// uploading uploads files of a size, with distinct contents, or all with one that
// was uploaded before.
func uploading(size int, distinct bool) func(*instance, int) (worker, error) {
	return func(in *instance, n int) (worker, error) {
		w, err := in.uploader(size, distinct, in.folder)
		if err != nil || distinct {
			return w, err
		}
		if err := w.step(); err != nil {
			return worker{}, errors.Join(err, w.close())
		}
		return w, nil
	}
}

// uploadingTo uploads files of a size with distinct contents to several folders in turns.
func uploadingTo(size int, folders func(in *instance, n int) ([]string, error)) func(*instance, int) (worker, error) {
	return func(in *instance, n int) (worker, error) {
		into, err := folders(in, n)
		if err != nil {
			return worker{}, err
		}
		return in.uploader(size, true, into...)
	}
}

// uploader is a client that uploads files of a size to folders in turns.
func (in *instance) uploader(size int, distinct bool, folders ...string) (worker, error) {
	var uploads []*upload
	for _, folder := range folders {
		uploads = append(uploads, newUpload(folder, size))
	}
	var ids []string
	var u *upload // the last
	return connected(in, func(c *client) worker {
		return worker{
			step: func() error {
				u = uploads[len(ids)%len(uploads)]
				if distinct {
					u.stamp()
				}
				id, err := in.put(c, u)
				ids = append(ids, id)
				return err
			},
			check: func() error {
				last, err := in.file(c, u, ids[len(ids)-1])
				if err != nil {
					return err
				}
				return c.get(last, true)
			},
			close: func() error { return in.tidy(c, ids) },
		}
	})
}

// tidy deletes what was uploaded to a peer, if the peer has a request for it, so
// that the disk does not fill. The data directory of an attachd is removed as a
// whole.
func (in *instance) tidy(c *client, ids []string) error {
	if in.dir != "" {
		return nil
	}
	for _, id := range ids {
		rq, err := in.remove(id)
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err == nil && id != "" { // "" is an upload that failed
			_, err = c.succeed(rq)
		}
		if err != nil {
			return fmt.Errorf("deleting %s: %w", id, err)
		}
	}
	return nil
}

// firstReadsEvery is for how much of a workload's time one large file is prepared,
// to be read for the first time.
const firstReadsEvery = 250 * time.Millisecond

// downloadingFirst downloads n large files that were not read since they were
// uploaded, each once.
func downloadingFirst(n int) func(*instance, int) (worker, error) {
	return func(in *instance, _ int) (worker, error) {
		files, ids, err := in.store(in.folder, large, n)
		if err != nil {
			return worker{}, err
		}
		next := 0
		return connected(in, func(c *client) worker {
			return worker{
				step: func() error {
					if next == len(files) {
						return errDone
					}
					next++
					return c.get(files[next-1], false)
				},
				check: func() error { return c.get(files[0], true) },
				close: func() error { return in.tidy(c, ids) },
			}
		})
	}
}

// mostReaders is the maximum number of clients of a download for which separate
// files are stored: tusd locks a file while it is read.
const mostReaders = 16

// downloading downloads the stored files of a size in turns.
func downloading(size int) func(*instance, int) (worker, error) {
	return func(in *instance, n int) (worker, error) {
		files, err := in.stored(size)
		if err != nil {
			return worker{}, err
		}
		next := n
		return connected(in, func(c *client) worker {
			return worker{
				step: func() error {
					next += mostReaders
					return c.get(files[next%len(files)], size < large && next/mostReaders%comparedEvery == 0)
				},
				check: func() error { return c.get(files[next%len(files)], true) },
			}
		})
	}
}

// downloadingTouched downloads a large file after touching it, so that it is
// hashed anew although it was downloaded just before.
func downloadingTouched(in *instance, _ int) (worker, error) {
	files, err := in.stored(large)
	if err != nil {
		return worker{}, err
	}
	return connected(in, func(c *client) worker {
		return worker{step: func() error {
			if err := os.Chtimes(in.blob(files[0]), time.Time{}, time.Now()); err != nil {
				return err
			}
			return c.get(files[0], false)
		}}
	})
}

// lists requests lists of a folder of listRows files.
func lists(in *instance, _ int) (worker, error) {
	list, err := in.listed()
	if err != nil {
		return worker{}, err
	}
	return connected(in, func(c *client) worker {
		return worker{
			step: func() error {
				status, size, err := c.do(nil, list.request)
				if err == nil && (status/100 != 2 || size < list.least) {
					err = fmt.Errorf("a list answered %d with %d bytes", status, size)
				}
				return err
			},
			check: func() error {
				raw, err := c.succeed(list.request)
				if err != nil {
					return err
				}
				return list.check(raw)
			},
		}
	})
}

var deleted = []byte("{\"message\":\"Attachment deleted successfully\"}\n")

// delete deletes an attachment.
func (in *instance) delete(c *client, id string) error {
	rq, err := in.remove(id)
	if err != nil {
		return err
	}
	answer, err := c.expect(200, rq)
	if err == nil && !bytes.Equal(answer, deleted) {
		err = fmt.Errorf("a deletion answered %s", answer)
	}
	return err
}

// deleting deletes the n attachments that each client has uploaded before.
func deleting(n int) func(*instance, int) (worker, error) {
	return func(in *instance, _ int) (worker, error) {
		_, ids, err := in.store(in.folder, 1<<10, n)
		if err != nil {
			return worker{}, err
		}
		var last string
		return connected(in, func(c *client) worker {
			return worker{
				step: func() error {
					if len(ids) == 0 {
						return errDone
					}
					last, ids = ids[0], ids[1:]
					return in.delete(c, last)
				},
				check: func() error {
					_, err := c.expect(404, request("GET", "/catalog/attachments/"+last+"/download", in.key))
					return err
				},
			}
		})
	}
}

// mixing does 70 % downloads, 20 % uploads, 5 % lists and 5 % deletions.
func mixing(in *instance, n int) (worker, error) {
	files, err := in.stored(small)
	if err != nil {
		return worker{}, err
	}
	list, err := in.listed()
	if err != nil {
		return worker{}, err
	}
	u := newUpload(in.folder, small)
	dice := rand.New(rand.NewPCG(1, uint64(n)))
	var mine []string
	return connected(in, func(c *client) worker {
		return worker{step: func() error {
			switch thrown := dice.IntN(100); {
			case thrown < 20:
				u.stamp()
				id, err := in.put(c, u)
				mine = append(mine, id)
				return err
			case thrown < 25:
				raw, err := c.expect(200, list.request)
				if err != nil || dice.IntN(comparedEvery) > 0 {
					return err
				}
				return list.check(raw)
			case thrown < 30 && len(mine) > 0:
				id := mine[len(mine)-1]
				mine = mine[:len(mine)-1]
				return in.delete(c, id)
			default:
				return c.get(files[dice.IntN(len(files))], dice.IntN(comparedEvery) == 0)
			}
		}}
	})
}

// pressing uploads, scrubs, backs up and collects garbage until ctx ends.
func pressing(ctx context.Context, in *instance) error {
	var uploads sync.WaitGroup
	failed := make([]error, 2)
	for i := range failed {
		uploads.Go(func() {
			for ctx.Err() == nil && failed[i] == nil {
				_, failed[i] = drive(1, 0, 1, func(n int) (worker, error) { return uploading(big, true)(in, n) })
			}
		})
	}
	commands := [][]string{{"gc"}, {"check", "--deep"}, {"backup", in.dir + "-backup"}}
	for i := 0; ctx.Err() == nil; i++ {
		words := append(commands[i%len(commands)], "--data-dir", in.dir)
		out, err := exec.CommandContext(ctx, in.binary, words...).CombinedOutput()
		if err != nil && ctx.Err() == nil {
			uploads.Wait()
			return fmt.Errorf("%s: %w\n%s", strings.Join(words, " "), err, out)
		}
	}
	uploads.Wait()
	return errors.Join(failed...)
}
