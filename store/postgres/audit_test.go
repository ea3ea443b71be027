package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

var noon = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

// noted is a context with which a change has an entry of that request.
func noted(request string) context.Context {
	return store.WithEntry(context.Background(), &store.Entry{Time: noon, Action: "note.set", RequestID: request})
}

// chain fails unless the audit log is whole. It returns how many entries each request has.
func chain(t *testing.T, s *postgres.Store) (of map[string]int) {
	t.Helper()
	n, _, faults, err := store.VerifyAudit(t.Context(), s, nil)
	if err != nil || len(faults) > 0 {
		t.Fatalf("%d entries with faults %q, %v", n, faults, err)
	}
	of = map[string]int{}
	for after := uint64(0); ; {
		list, err := s.Entries(t.Context(), after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			of[e.RequestID]++
			after = e.Seq
		}
		if len(list) < 1000 {
			return of
		}
	}
}

// What was acknowledged is in the chain once, whichever process dies before it is sealed.
func TestTheChainIsWholeWhicheverProcessDies(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	var mu sync.Mutex
	var acknowledged []string
	// live is one life of a process.
	live := func(name string, crash bool) error {
		s, err := postgres.Open(context.Background(), postgres.Options{DSN: dsn, MaxConnections: 4})
		if err != nil {
			return err
		}
		var wrote []string
		for n := range 5 {
			request := fmt.Sprint(name, " change ", n)
			wrote = append(wrote, request)
			err = errors.Join(err, s.SetNote(noted(request), name, nil))
			recorded := fmt.Sprint(name, " record ", n)
			s.Record(store.Entry{Time: noon, Action: "a", RequestID: recorded})
			if !crash || n < 4 { // the last one is committed by Close
				wrote = append(wrote, recorded)
			}
			if rand.IntN(3) == 0 { // readers seal too
				_, readErr := s.EntriesBefore(context.Background(), 0, 10)
				err = errors.Join(err, readErr)
			}
		}
		if crash {
			s.Crash()
		} else {
			err = errors.Join(err, s.Close())
		}
		mu.Lock()
		defer mu.Unlock()
		acknowledged = append(acknowledged, wrote...)
		return err
	}
	var living sync.WaitGroup
	for process := range 3 {
		living.Go(func() {
			for n := range 3 {
				if err := live(fmt.Sprint("process ", process, " life ", n), rand.IntN(2) == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	living.Wait()
	s := openAt(t, dsn)
	of := chain(t, s)
	for _, request := range acknowledged {
		if of[request] != 1 {
			t.Errorf("the log has %d entries of %s", of[request], request)
		}
	}
}

// Several transactions seal what has accumulated, in its order.
func TestALongQueueIsSealedInItsOrder(t *testing.T) {
	t.Parallel()
	s := open(t)
	const n = 10_001
	for i := range n {
		s.Record(store.Entry{Time: noon.Add(time.Duration(i) * time.Minute), Action: "a", RequestID: fmt.Sprint(i)})
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if of := chain(t, s); len(of) != n {
		t.Errorf("there are %d entries", len(of))
	}
	list, err := s.EntriesBefore(t.Context(), 0, 2)
	if err != nil || len(list) != 2 || list[0].RequestID != fmt.Sprint(n-1) || list[0].Seq != n || list[0].Previous != list[1].Hash {
		t.Errorf("the last are %+v, %v", list, err)
	}
	runs, err := s.AuditRuns(t.Context())
	if err != nil || len(runs) != 1 || !runs[0].Latest.Equal(noon.Add((n-1)*time.Minute)) {
		t.Errorf("the runs are %+v, %v", runs, err)
	}
}

// Whoever can write to the database cannot change the log unseen.
func TestWhatIsDoneToTheAuditLogIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, says string }{
		"an entry altered":            {`update attachd.audit set entry = overlay(entry placing 'X' from 90) where seq = 5`, "Entry 5 is not what was written"},
		"an entry that is none":       {`update attachd.audit set entry = 'rubbish' where seq = 5`, "Entry 5 cannot be read"},
		"an entry removed":            {`delete from attachd.audit where seq = 5`, "Entry 4 is followed by entry 6"},
		"the newest removed":          {`delete from attachd.audit where seq > 8`, "the newest were cut off"},
		"two exchanged":               {`update attachd.audit a set entry = b.entry, hash = b.hash from attachd.audit b where a.seq in (3, 4) and b.seq = 7 - a.seq`, "Entry 3 is not what was written"},
		"one that waits and is none":  {`insert into attachd.audit_waiting (entry) values ('rubbish')`, "Entry 11 cannot be read"},
		"the newest, and their trace": {`with cut as (delete from attachd.audit where seq > 8) update attachd.audit_ends set head_seq = 8`, "the end was rewritten"},
	} {
		t.Run(name, func(t *testing.T) {
			all, exec := replicas(t, 1)
			s := all[0]
			for n := range 10 {
				s.Record(store.Entry{Time: noon, Action: "a", RequestID: fmt.Sprint(n), Name: strings.Repeat("n", 50)})
			}
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			chain(t, s)
			exec(c.sql)
			_, _, faults, err := store.VerifyAudit(t.Context(), s, nil)
			if err != nil || !slices.ContainsFunc(faults, func(fault string) bool { return strings.Contains(fault, c.says) }) {
				t.Errorf("the faults are %q, %v", faults, err)
			}
			// The log goes on.
			s.Record(store.Entry{Time: noon, Action: "a", RequestID: "later"})
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if list, err := s.EntriesBefore(t.Context(), 0, 1); err != nil || len(list) != 1 || list[0].RequestID != "later" {
				t.Errorf("the last are %+v, %v", list, err)
			}
		})
	}
}

// Readers of the log are served while the database is frozen, whatever waits in memory.
func TestAFrozenAuditLogIsReadAndSealed(t *testing.T) {
	t.Parallel()
	s := open(t)
	if err := s.SetNote(noted("before"), "a", nil); err != nil {
		t.Fatal(err)
	}
	thaw, err := s.Freeze(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Record(store.Entry{Time: noon, Action: "a", RequestID: "queued"})
	if of := chain(t, s); of["before"] != 1 || len(of) != 1 {
		t.Errorf("there are entries of %v", of)
	}
	if err := errors.Join(thaw(t.Context()), s.Probe(t.Context())); err != nil {
		t.Fatal(err)
	}
	if of := chain(t, s); of["before"] != 1 || of["queued"] != 1 || len(of) != 2 {
		t.Errorf("afterwards, there are entries of %v", of)
	}
}
