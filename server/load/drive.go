//go:build unix

package main

import (
	"errors"
	"os"
	"os/signal"
	"slices"
	"sync"
	"time"
)

// worker is one client of a workload.
type worker struct {
	step  func() error // one operation; errDone when there is nothing left to do
	check func() error // optional: checks after the measurement whether the work was correct
	close func() error
}

var errDone = errors.New("nothing left to do")

// seen is the result of running workers.
type seen struct {
	took  time.Duration
	times []time.Duration // of every operation, sorted
}

func (s seen) rate() float64 {
	if s.took == 0 {
		return 0
	}
	return float64(len(s.times)) / s.took.Seconds()
}

// quantile is the time within which that part of the operations was completed.
func (s seen) quantile(part float64) time.Duration {
	if len(s.times) == 0 {
		return 0
	}
	return s.times[min(len(s.times)-1, int(part*float64(len(s.times))))]
}

// drive runs a number of workers concurrently for the duration d, or, if a count is
// given, until each has done its part of it. Each does at least one operation.
func drive(workers int, d time.Duration, count int, begin func(n int) (worker, error)) (found seen, err error) {
	all := make([]worker, 0, workers)
	defer func() {
		for _, w := range all {
			err = errors.Join(err, w.close())
		}
	}()
	for n := range workers {
		w, err := begin(n)
		if err != nil {
			return found, err
		}
		all = append(all, w)
	}
	var (
		times  = make([][]time.Duration, workers)
		failed = make([]error, workers)
		done   sync.WaitGroup
	)
	begun := time.Now()
	for n, w := range all {
		done.Go(func() {
			for last := begun; count == 0 && (last == begun || last.Sub(begun) < d) || len(times[n]) < count/workers; {
				if failed[n] = w.step(); failed[n] != nil {
					return
				}
				now := time.Now()
				times[n] = append(times[n], now.Sub(last))
				last = now
			}
		})
	}
	done.Wait()
	found.took = time.Since(begun)
	for n, w := range all {
		if failed[n] != nil && !errors.Is(failed[n], errDone) {
			return found, failed[n]
		}
		if w.check != nil {
			if err := w.check(); err != nil {
				return found, err
			}
		}
	}
	found.times = slices.Concat(times...)
	slices.Sort(found.times)
	return found, nil
}

func untilInterrupted() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	<-interrupted
}
