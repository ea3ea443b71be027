//go:build unix

// Command load measures a real attachd process under load, and in the same run the
// limits of the machine: a rate means little without the limit that bounds it.
//
//	go run ./server/load                     everything, five rounds
//	go run ./server/load -quick              about a minute
//	go run ./server/load -only 'download'    some of it
//	go run ./server/load -attachd OLD -attachd NEW
//	go run ./server/load -peer webdav:nginx=http://127.0.0.1:8080/files
//	go run ./server/load -bucket http://key:secret@127.0.0.1:7070/bucket -delay 20ms
//	go run ./server/load -bucket ... -postgres postgres://user@127.0.0.1/postgres
//	go run ./server/load -profile DIR        CPU profiles of the server
//	go run ./server/load -grow               as the store grows
//
// The table is written to standard output, progress to standard error.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// options are the settings of the command line.
type options struct {
	rounds    int
	quick     bool
	grow      bool
	sizes     []int // of -grow
	only      *regexp.Regexp
	binaries  []string
	peers     []peer
	bucket    *peer         // where attachd keeps its contents; nil: on the disk
	delay     time.Duration // of each request to the bucket
	postgres  *url.URL      // where attachd keeps its metadata, in databases of its own; nil: in its data directory
	env       []string      // of attachd
	profiles  string
	jsonFile  string
	baseline  string
	dir       string
	slice     time.Duration // duration of one workload in one round
	sustained int           // uploads of the workload of that name
	deletions int           // of the workload of that name, in one round
	rest      time.Duration // see calm
}

func main() {
	o, serveBare, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		os.Exit(2) // flag has printed the error
	case serveBare:
		err = bare(os.Stderr)
	default:
		err = run(o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, serveBare bool, err error) {
	o = options{sizes: []int{1_000, 100_000, 1_000_000}, rest: 200 * time.Millisecond}
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.IntVar(&o.rounds, "rounds", 0, "how often every workload runs, in turns (default 5, with -quick 1)")
	flags.BoolVar(&o.quick, "quick", false, "take about a minute")
	flags.BoolVar(&o.grow, "grow", false, "measure as the store grows to a million attachments instead")
	flags.DurationVar(&o.slice, "time", 0, "how long a workload runs in a round (default 2s, with -quick 1s)")
	flags.StringVar(&o.profiles, "profile", "", "write a CPU profile of the server for each workload into this `directory`")
	flags.StringVar(&o.jsonFile, "json", "", "write the results to this `file` too")
	flags.StringVar(&o.baseline, "baseline", "", "compare with the results in this `file`, which -json wrote")
	flags.StringVar(&o.dir, "dir", "", "make the data directories in this `directory`, on the disk that is to be measured")
	flags.Func("only", "run only the workloads whose names match this `regexp`", func(s string) (err error) {
		o.only, err = regexp.Compile(s)
		return err
	})
	flags.Func("attachd", "measure this `binary` instead of one built from here; twice to compare two", func(s string) error {
		o.binaries = append(o.binaries, s)
		return nil
	})
	flags.Func("peer", "compare with a running server, `"+peerForm+"`, of the protocols "+
		strings.Join(slices.Sorted(maps.Keys(protocols)), ", ")+"; several times to compare with several", func(s string) error {
		p, err := parsePeer(s)
		o.peers = append(o.peers, p)
		return err
	})
	flags.Func("bucket", "have attachd keep its contents in the bucket `http://KEY:SECRET@HOST:PORT/BUCKET`, and compare it with that bucket alone", func(s string) error {
		p, err := parseBucket(s)
		o.bucket = &p
		return err
	})
	flags.DurationVar(&o.delay, "delay", 0, "hold back each request to the bucket for this time, as a network does")
	flags.Func("postgres", "with -bucket, have attachd keep its metadata in databases that it makes and drops on the server of `postgres://USER:PASSWORD@HOST:PORT/DATABASE`", func(s string) (err error) {
		o.postgres, err = parsePostgres(s)
		return err
	})
	flags.IntVar(&o.sustained, "sustained", 0, "how many files the workload of that name uploads (default 10000, with -quick 1000)")
	flags.BoolVar(&serveBare, "bare", false, "be the bare server that attachd is compared with (for the program itself)")
	if err := flags.Parse(args); err != nil {
		return o, false, err
	}
	rounds, slice, sustained := 5, 2*time.Second, 10_000
	o.deletions = 1_600
	if o.quick {
		rounds, slice, sustained, o.deletions = 1, time.Second, 1_000, 800
	}
	o.rounds, o.slice, o.sustained = cmp.Or(o.rounds, rounds), cmp.Or(o.slice, slice), cmp.Or(o.sustained, sustained)
	return o, serveBare, nil
}

// run makes the measurements of o.
func run(o options, stdout, stderr io.Writer) (err error) {
	switch {
	case len(o.binaries) > 2:
		return errors.New("two binaries at most can be compared")
	case o.profiles != "" && len(o.binaries) > 0:
		return errors.New("a profile is of an attachd that is built for it: leave -attachd out")
	case o.grow && (len(o.peers) > 0 || o.bucket != nil):
		return errors.New("growth is measured of attachd alone: leave -peer and -bucket out")
	case o.delay > 0 && o.bucket == nil:
		return errors.New("-delay is for a -bucket")
	case o.postgres != nil && o.bucket == nil:
		return errors.New("with -postgres, attachd keeps its contents in a -bucket")
	}
	if o.bucket != nil {
		done, err := o.useBucket()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
	}
	dir, err := os.MkdirTemp(o.dir, "attachd-load")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if len(o.binaries) == 0 {
		fmt.Fprintln(stderr, "building attachd")
		built, err := build(dir, o.profiles != "")
		if err != nil {
			return err
		}
		o.binaries = []string{built}
	}
	if o.grow {
		return grow(o, dir, stdout, stderr)
	}
	found, err := measure(o, dir, stderr)
	if err != nil {
		return err
	}
	if o.jsonFile != "" {
		if err := found.save(o.jsonFile); err != nil {
			return err
		}
	}
	var before *results
	if o.baseline != "" {
		if before, err = loadResults(o.baseline); err != nil {
			return err
		}
	}
	return found.print(stdout, before)
}

// measure runs all workloads in turns, round by round, so that other activity of
// the machine affects all of them alike.
func measure(o options, dir string, stderr io.Writer) (found *results, err error) {
	m, err := newMachine(dir, o.postgres)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	var subjects []*subject
	for i, binary := range o.binaries {
		s, err := newSubject(binary, filepath.Join(dir, fmt.Sprint("subject", i)), o.postgres, o.env...)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.close()) }()
		subjects = append(subjects, s)
	}
	for _, p := range o.peers {
		s, err := newPeer(p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		subjects = append(subjects, s)
	}
	chosen := workloads(o)
	found = newResults(o)
	for round := range o.rounds {
		for _, l := range limits {
			if !needed(l.name, chosen) {
				continue
			}
			rate, err := l.measure(m, o.slice/4)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", l.name, err)
			}
			found.addLimit(l.name, l.unit, rate)
			fmt.Fprintf(stderr, "round %d: limit %s: %.0f %s\n", round+1, l.name, rate, l.unit)
		}
		for _, w := range chosen {
			if w.once && round > 0 {
				continue
			}
			if err := turns(w, o, round, subjects, found, stderr); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// turns runs a workload on each of the subjects, one after the other, and in every second
// round in the other order: what runs first finds the disk idle, and is up to a tenth faster.
func turns(w workload, o options, round int, subjects []*subject, found *results, stderr io.Writer) error {
	for i := range subjects {
		if round%2 == 1 {
			i = len(subjects) - 1 - i
		}
		s := subjects[i]
		if s.peer && w.alone {
			continue
		}
		if len(o.peers) > 0 && o.rest > 0 {
			calm(subjects, o.rest)
		}
		seen, err := w.run(s, o)
		switch {
		case s.peer && errors.Is(err, errors.ErrUnsupported):
			fmt.Fprintf(stderr, "round %d: %s: %s: %v\n", round+1, w.name, s.name, err)
			continue
		case err != nil:
			return fmt.Errorf("%s: %s: %w", w.name, s.name, err)
		}
		found.add(i, w, seen)
		fmt.Fprintf(stderr, "round %d: %s: %s: %.1f %s\n", round+1, w.name, s.name, seen.Rate, w.unit())
	}
	return nil
}

// needed says whether a chosen workload is compared with a limit.
func needed(name string, chosen []workload) bool {
	for _, w := range chosen {
		for _, l := range w.limits {
			if l == name {
				return true
			}
		}
	}
	return false
}
