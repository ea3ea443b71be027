//go:build unix

package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// machine measures the limits. Each limit is measured by at least one operation,
// however short the time.
type machine struct {
	dir      string
	bare     *process // answers from memory
	postgres *url.URL // a database of the server that is measured, or nil
	made     atomic.Int64
}

func newMachine(dir string, postgres *url.URL) (*machine, error) {
	m := &machine{dir: filepath.Join(dir, "limits"), postgres: postgres}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-bare")
	cmd.Env = append(os.Environ(), "LOAD_BARE=1") // for the test binary, which has no such flag
	m.bare, err = start(cmd, filepath.Join(m.dir, "bare.log"))
	return m, err
}

func (m *machine) close() error { return m.bare.stop() }

// limit is the maximum rate of something that the machine does.
type limit struct {
	name, unit string
	measure    func(m *machine, d time.Duration) (float64, error)
}

var limits = []limit{
	{"SHA-256", "MB/s", func(_ *machine, d time.Duration) (float64, error) { return hashRate(d), nil }},
	{"commits, 1", "/s", func(m *machine, d time.Duration) (float64, error) { return m.commitRate(d, 1) }},
	{"commits, 16", "/s", func(m *machine, d time.Duration) (float64, error) { return m.commitRate(d, 16) }},
	{"files, 1", "/s", func(m *machine, d time.Duration) (float64, error) { return m.fileRate(d, 1) }},
	{"files, 16", "/s", func(m *machine, d time.Duration) (float64, error) { return m.fileRate(d, 16) }},
	{"files of 1 MB, 8", "MB/s", func(m *machine, d time.Duration) (float64, error) { return m.bigFileRate(d, 8, big) }},
	{"files of 50 MB, 1", "MB/s", func(m *machine, d time.Duration) (float64, error) { return m.bigFileRate(d, 1, large) }},
	{"files of 50 MB, 4", "MB/s", func(m *machine, d time.Duration) (float64, error) { return m.bigFileRate(d, 4, large) }},
	{"log, 1", "/s", func(m *machine, d time.Duration) (float64, error) { return m.logRate(d, 1) }},
	{"log, 16", "/s", func(m *machine, d time.Duration) (float64, error) { return m.logRate(d, 16) }},
	{"bare 10 KB", "/s", func(m *machine, d time.Duration) (float64, error) { return m.bareRate(d, 16, small) }},
	{"bare 64 KB", "/s", func(m *machine, d time.Duration) (float64, error) { return m.bareRate(d, 16, medium) }},
	{"bare 50 MB", "MB/s", func(m *machine, d time.Duration) (float64, error) {
		rate, err := m.bareRate(d, 1, large)
		return rate * large / megabyte, err
	}},
	{"bare list", "/s", func(m *machine, d time.Duration) (float64, error) { return m.bareRate(d, 8, listSize) }},
	{sameRow, "/s", func(m *machine, d time.Duration) (float64, error) { return m.sameRowRate(d, 32) }},
}

// hashRate is how many megabytes one core hashes per second.
func hashRate(d time.Duration) float64 {
	data := make([]byte, 1<<20)
	var done float64
	begun := time.Now()
	for done == 0 || time.Since(begun) < d {
		sha256.Sum256(data)
		done++
	}
	return done / time.Since(begun).Seconds()
}

// commitRate is how many attachments a database can store per second, batch of them
// in each commit: each is a few small keys.
func (m *machine) commitRate(d time.Duration, batch int) (rate float64, err error) {
	name := m.name()
	db, err := bbolt.Open(name, 0o600, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close(), os.Remove(name)) }()
	record := make([]byte, 120)
	done := 0
	begun := time.Now()
	for done == 0 || time.Since(begun) < d {
		err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte("attachments"))
			for range batch {
				done++
				for index := range byte(3) {
					key := binary.BigEndian.AppendUint64([]byte{index}, uint64(done))
					err = errors.Join(err, bucket.Put(key, record))
				}
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return float64(done) / time.Since(begun).Seconds(), nil
}

// fileRate is how many small files can be created and synced with their folder per
// second, by a number of concurrent writers.
func (m *machine) fileRate(d time.Duration, writers int) (float64, error) {
	return m.together(d, writers, small, m.writeFile)
}

// bigFileRate is how many megabytes per second can be written to files that are
// synced with their folder.
func (m *machine) bigFileRate(d time.Duration, writers, size int) (float64, error) {
	rate, err := m.together(d, writers, size, m.writeFile)
	return rate * float64(size) / megabyte, err
}

// writeFile leaves the file in place: for minutes after many were removed, a file
// system without a journal creates files slowly.
func (m *machine) writeFile(content []byte) error {
	file, err := os.OpenFile(m.name(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	folder, err := os.Open(m.dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// logRate is how many small contents per second can be appended to one preallocated
// file when batch of them share a sync.
func (m *machine) logRate(d time.Duration, batch int) (rate float64, err error) {
	const room = 32 << 20
	file, err := os.Create(m.name())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if _, err := file.Write(make([]byte, room)); err != nil {
		return 0, err
	}
	if err := file.Sync(); err != nil {
		return 0, err
	}
	group := make([]byte, batch*small)
	done := 0
	begun := time.Now()
	for done == 0 || time.Since(begun) < d {
		at := int64(done) * small % (room - int64(len(group)))
		if _, err := file.WriteAt(group, at); err != nil {
			return 0, err
		}
		if err := syncData(file); err != nil {
			return 0, err
		}
		done += batch
	}
	return float64(done) / time.Since(begun).Seconds(), nil
}

// together counts how often do is called per second by a number of concurrent
// workers, each with a different content.
func (m *machine) together(d time.Duration, workers, size int, do func(content []byte) error) (float64, error) {
	var (
		done   atomic.Int64
		failed = make([]error, workers)
		all    sync.WaitGroup
	)
	begun := time.Now()
	for w := range workers {
		all.Go(func() {
			content := make([]byte, size)
			_, _ = rand.Read(content) // never fails
			for n := 0; failed[w] == nil && (n == 0 || time.Since(begun) < d); n++ {
				failed[w] = do(content)
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(begun).Seconds(), errors.Join(failed...)
}

func (m *machine) name() string {
	return filepath.Join(m.dir, strconv.FormatInt(m.made.Add(1), 10))
}

// bareRate is how many answers of size bytes the bare server sends per second.
func (m *machine) bareRate(d time.Duration, clients, size int) (float64, error) {
	rq := request("GET", "/"+strconv.Itoa(size), "none")
	seen, err := drive(clients, d, 0, func(int) (worker, error) {
		c, err := dial(m.bare.address)
		if err != nil {
			return worker{}, err
		}
		return worker{close: c.close, step: func() error { return c.get(file{request: rq, size: int64(size)}, false) }}, nil
	})
	return seen.rate(), err
}

// bare answers GET /N with N bytes from memory: the minimum that a server on
// net/http does. It ends on a signal, as attachd does.
func bare(say io.Writer) error {
	content := make([]byte, large)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(say, "http://%s\n", listener.Addr())
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Path[1:])
		if err != nil || n < 0 || n > len(content) {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		_, _ = w.Write(content[:n]) // the client may have gone
	})}
	go func() {
		untilInterrupted()
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
