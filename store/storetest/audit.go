package storetest

import (
	"fmt"
	"time"

	"attachd/store"
)

var audit = []promise{
	{"a change is kept with its entry", func(w *world) {
		entry := store.Entry{Time: noon, Action: "attachment.upload", UserID: w.ada.ID, Name: "a.txt", Outcome: "done"}
		a := w.file(w.product)
		w.ok(w.CreateAttachment(store.WithEntry(w.ctx, &entry), a, nil, ""))
		w.entries(0, "attachment.upload")
	}},
	{"a refused change is not", func(w *world) {
		entry := store.Entry{Time: noon, Action: "attachment.delete"}
		_, err := w.DeleteAttachment(store.WithEntry(w.ctx, &entry), id(99))
		w.refused(err, store.ErrNotFound)
		w.entries(0)
	}},
	{"what an entry says when the change is handed in counts", func(w *world) {
		entry := store.Entry{Time: noon}
		ctx := store.WithEntry(w.ctx, &entry)
		entry.Action = "user.put"
		_, err := w.Put(ctx, w.eve)
		w.ok(err)
		entry.Action = "something else"
		w.entries(0, "user.put")
	}},
	{"entries for which nothing is changed are kept with the next change", func(w *world) {
		w.Record(store.Entry{Time: noon, Action: "attachment.download"})
		w.Record(store.Entry{Time: noon, Action: "attachment.link"})
		w.ok(w.Probe(w.ctx))
		w.entries(0, "attachment.download", "attachment.link")
	}},
	{"or within a moment", func(w *world) {
		w.Record(store.Entry{Time: noon, Action: "attachment.download"})
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if list, err := w.Entries(w.ctx, 0, 1); len(list) == 1 && err == nil {
				return
			}
			if time.Now().After(deadline) {
				w.Fatal("it was not kept within a minute")
			}
		}
	}},
	{"entries are numbered without gaps and are a chain", func(w *world) {
		w.record(10)
		w.entries(3, "d", "e", "f", "g", "h", "i", "j")
		w.chain(10)
	}},
	{"entries are read from either end", func(w *world) {
		w.record(10)
		for before, want := range map[uint64]string{0: "jih", 11: "jih", 5: "dcb", 2: "a", 1: ""} {
			list, err := w.EntriesBefore(w.ctx, before, 3)
			w.ok(err)
			got := ""
			for _, e := range list {
				got += e.Action
			}
			if got != want {
				w.Errorf("before %d there are %q, want %q", before, got, want)
			}
		}
	}},
	{"the oldest may be removed, and the rest is still a chain", func(w *world) {
		w.record(4)
		_, err := w.PruneAudit(w.ctx, time.Hour, 24*time.Hour, 3)
		w.ok(err)
		w.record(6)
		removed, err := w.PruneAudit(w.ctx, 25*time.Hour, 24*time.Hour, 3)
		w.ok(err)
		more, err := w.PruneAudit(w.ctx, 25*time.Hour, 24*time.Hour, 3)
		w.ok(err)
		if removed != 3 || more != 1 {
			w.Errorf("%d and %d were removed, want 3 and 1", removed, more)
		}
		w.entries(0, "a", "b", "c", "d", "e", "f")
		w.chain(6)
	}},
	{"all may be removed, and numbers go on", func(w *world) {
		w.record(3)
		for _, age := range []time.Duration{0, time.Hour} {
			_, err := w.PruneAudit(w.ctx, age, time.Hour, 100)
			w.ok(err)
		}
		w.chain(0)
		w.record(1)
		list, err := w.Entries(w.ctx, 0, 10)
		w.ok(err)
		if len(list) != 1 || list[0].Seq != 4 {
			w.Errorf("after 3 that were removed there are %+v", list)
		}
		w.chain(1)
	}},
	{"what time an entry is of does not say how old it is", func(w *world) {
		for _, at := range []time.Time{time.Unix(0, 0), noon.AddDate(12, 0, 0), noon, noon.AddDate(0, 0, -20)} {
			w.Record(store.Entry{Time: at, Action: fmt.Sprint(at.Year())})
		}
		w.ok(w.Probe(w.ctx))
		const keep = 30 * 24 * time.Hour
		for _, c := range []struct{ age, removed int }{{0, 0}, {29, 0}, {30, 4}, {31, 0}} {
			removed, err := w.PruneAudit(w.ctx, time.Duration(c.age)*24*time.Hour, keep, 100)
			w.ok(err)
			same(w, fmt.Sprintf("removed on day %d", c.age), removed, c.removed)
		}
	}},
	{"entries are removed a day after their time at the latest, however many times that is asked", func(w *world) {
		const days = 120
		const keep = days * 24 * time.Hour // a hundredth of which is more than a day
		kept := 0
		for day := range 3 * days {
			w.Record(store.Entry{Time: noon, Action: "a"})
			w.ok(w.Probe(w.ctx))
			removed, err := w.PruneAudit(w.ctx, time.Duration(day)*24*time.Hour, keep, 100)
			w.ok(err)
			kept += 1 - removed
		}
		if kept < days || kept > days+1 {
			w.Errorf("%d entries, of a day each, are kept of %d days", kept, 3*days)
		}
	}},
	{"a count of time that begins anew makes nothing older", func(w *world) {
		w.record(3)
		_, err := w.PruneAudit(w.ctx, 100*time.Hour, time.Hour, 100)
		w.ok(err)
		for _, c := range []struct{ minutes, removed int }{{0, 0}, {59, 0}, {60, 3}} {
			removed, err := w.PruneAudit(w.ctx, time.Duration(c.minutes)*time.Minute, time.Hour, 100)
			w.ok(err)
			same(w, fmt.Sprintf("removed after %d minutes", c.minutes), removed, c.removed)
		}
	}},
	{"every field comes back", func(w *world) {
		e := store.Entry{
			Time: noon, UserID: id(1), ActorID: id(2), KeyID: id(3), Operator: true, Action: "a", Resource: "r", ID: "i",
			Name: "Übersicht\x00.pdf", Space: "s", Address: "::1", RequestID: "q", Outcome: "done",
		}
		w.Record(e)
		w.ok(w.Probe(w.ctx))
		list, err := w.Entries(w.ctx, 0, 10)
		w.ok(err)
		e.Seq = 1
		e.Hash = e.Sum()
		if len(list) != 1 || list[0] != e {
			w.Errorf("%+v came back as %+v", e, list)
		}
	}},
}

// record stores entries whose actions are letters, each a minute after the one
// before.
func (w *world) record(n int) {
	w.Helper()
	for i := range n {
		w.Record(store.Entry{Time: noon.Add(time.Duration(i) * time.Minute), Action: string(rune('a' + i))})
	}
	w.ok(w.Probe(w.ctx))
}

func (w *world) entries(after uint64, actions ...string) {
	w.Helper()
	list, err := w.Entries(w.ctx, after, 100)
	w.ok(err)
	for i := range max(len(list), len(actions)) {
		if i >= len(list) || i >= len(actions) || list[i].Action != actions[i] {
			w.Fatalf("after %d there are %+v, want %q", after, list, actions)
		}
	}
}

func (w *world) chain(entries int64) {
	w.Helper()
	n, _, faults, err := store.VerifyAudit(w.ctx, w, nil)
	w.ok(err)
	if n != entries || len(faults) > 0 {
		w.Errorf("%d entries with faults %q, want %d", n, faults, entries)
	}
}
