package memory

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"
)

func TestTheLeastLimitOfAllGroupsCounts(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"version 2":                      {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "268435456\n"}, 256 * mb},
		"version 2, of a group above":    {map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "134217728\n", "sys/fs/cgroup/a/b/memory.max": "268435456\n"}, 128 * mb},
		"version 2, throttled":           {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n", "sys/fs/cgroup/a/memory.high": "134217728\n"}, 128 * mb},
		"version 2, none":                {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"version 1":                      {map[string]string{"proc/self/cgroup": "8:pids:/\n4:memory:/a\n0::/\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "67108864\n"}, 64 * mb},
		"version 1, none":                {map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"a container, path of the host":  {map[string]string{"proc/self/cgroup": "4:memory:/docker/1234\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n"}, 64 * mb},
		"a container without /proc":      {map[string]string{"sys/fs/cgroup/memory.max": "67108864\n"}, 64 * mb},
		"both versions mounted":          {map[string]string{"proc/self/cgroup": "4:memory:/a\n0::/b\n", "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "67108864\n", "sys/fs/cgroup/unified/b/memory.max": "33554432"}, 32 * mb},
		"what is no number says nothing": {map[string]string{"proc/self/cgroup": "x\n0::/a\n", "sys/fs/cgroup/a/memory.max": "many\n"}, 0},
	} {
		files := fstest.MapFS{}
		for path, text := range c.files {
			files[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := cgroupLimit(files); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// A plan does not exceed the available memory.
func TestAPlanIsWithinWhatIsAvailable(t *testing.T) {
	t.Parallel()
	for _, available := range []int64{16 << 20, 64 << 20, 256 << 20, 300 << 20, 512 << 20, 1 << 30, 4 << 30, 64 << 30, 0} {
		p := PlanFor(available)
		rest := p.Available - int64(p.Decoders)*p.Decoder
		if p.Decoder <= 0 || rest < p.Available/4 || p.Soft <= 0 || p.Soft > rest || p.Answers > p.Soft || int64(p.Connections)*connectionCost+p.Answers > rest {
			t.Errorf("of %d: %+v", available, p)
		}
		// Half of the requests that fit leave room for others.
		if p.Connections < 10 {
			t.Errorf("of %d: %d connections", available, p.Connections)
		}
	}
	if p := PlanFor(256 << 20); p.Decoder < 192<<20 {
		t.Errorf("in 256 MB a decoder has %d bytes", p.Decoder)
	}
}

func TestAWatchFollowsWhatIsAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := int64(4 << 30)
		w := &Watch{available: func() int64 { return now }}
		if got := w.Plan().Available; got != now {
			t.Errorf("%d are available", got)
		}
		now = 256 << 20
		time.Sleep(2 * maxPlanAge)
		if got := w.Plan().Available; got != now {
			t.Errorf("after a change %d are available", got)
		}
	})
	NewWatch() // restores the limit of the test process
}

func TestNobodyHoldsMoreThanHalf(t *testing.T) {
	t.Parallel()
	b := NewBudget[string](func() int64 { return 100 }, time.Hour)
	for n := range 5 {
		if !b.TryAcquire("a", 10) {
			t.Fatalf("the first has %d", n)
		}
	}
	if b.TryAcquire("a", 1) {
		t.Error("the first has more than half")
	}
	if !b.TryAcquire("b", 40) || b.TryAcquire("c", 11) || !b.TryAcquire("c", 10) || b.TryAcquire("d", 1) {
		t.Error("the others have not the other half")
	}
	if got := b.Held(); got != 100 {
		t.Errorf("held are %d", got)
	}
}

// Waiting requests get what is released, and one that may not have it does not block
// the others.
func TestRoomIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget[string](func() int64 { return 100 }, time.Minute)
		b.TryAcquire("a", 50)
		b.TryAcquire("b", 50)
		results := map[string]chan error{"a": make(chan error, 1), "c": make(chan error, 1)}
		for _, who := range []string{"a", "c"} {
			go func() { results[who] <- b.Acquire(context.Background(), who, 20) }()
			synctest.Wait()
		}
		b.Release("b", 20)
		if err := <-results["c"]; err != nil {
			t.Errorf("the third: %v", err)
		}
		if err := <-results["a"]; !errors.Is(err, ErrBusy) {
			t.Errorf("who holds half already: %v", err)
		}
		gone, leave := context.WithCancel(context.Background())
		leave()
		if err := b.Acquire(gone, "d", 20); !errors.Is(err, context.Canceled) {
			t.Errorf("who has gone: %v", err)
		}
		if err := b.Acquire(context.Background(), "d", 51); !errors.Is(err, ErrBusy) {
			t.Errorf("more than half: %v", err)
		}
		b.Release("a", 50)
		b.Release("b", 30)
		b.Release("c", 20)
		if b.Held() != 0 || len(b.of) != 0 || len(b.queued) != 0 || len(b.waiting) != 0 {
			t.Errorf("there is left %+v", b)
		}
	})
}

func TestOnlySoManyOfOneCallerWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget[string](func() int64 { return 100 }, time.Minute)
		b.TryAcquire("a", 50)
		for range maxWaiting {
			go func() { _ = b.Acquire(context.Background(), "a", 1) }()
		}
		synctest.Wait()
		began := time.Now()
		if err := b.Acquire(context.Background(), "a", 1); !errors.Is(err, ErrBusy) || time.Since(began) > 0 {
			t.Errorf("one more: %v, after %v", err, time.Since(began))
		}
		time.Sleep(2 * time.Minute) // until they have given up
		synctest.Wait()
		if len(b.queued) != 0 || len(b.waiting) != 0 {
			t.Errorf("there are left %v", b.queued)
		}
	})
}
