package backup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/server/backup"
)

// nights makes points, each with a content that no other has.
func (h *home) nights(n int) (contents []string) {
	h.Keep("always", true)
	for hour := range n {
		a := h.Keep(fmt.Sprint("only in ", hour), true)
		h.add(noon.Add(time.Duration(hour) * time.Hour))
		contents = append(contents, h.saved(a))
		h.remove(a)
	}
	return contents
}

func (h *home) prune(keep int) (pruned backup.Pruned, err error) {
	h.archive(func(a *backup.Archive) { pruned, err = a.Prune(h.Context(), keep, openSnapshot) })
	return pruned, err
}

func TestPruneCountsOnlyWholePoints(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(h *home, contents []string) error
		left   string // hours of the points that remain
		refuse bool
	}{
		"all are whole":           {func(*home, []string) error { return nil }, "14 15", false},
		"a content is gone":       {func(_ *home, c []string) error { return os.Remove(c[3]) }, "13 14 15", false},
		"a content is short":      {func(_ *home, c []string) error { return os.Truncate(c[2], 3) }, "13 14 15", false},
		"two contents are gone":   {func(_ *home, c []string) error { return errors.Join(os.Remove(c[2]), os.Remove(c[3])) }, "12 13 14 15", false},
		"a content is marked":     {func(h *home, c []string) error { return mark(h, c[3]) }, "13 14 15", false},
		"an old one is damaged":   {func(h *home, _ []string) error { return truncate(h, "2026-11-23T12-00-00Z", "attachd.db") }, "14 15", false},
		"an old one is not known": {func(h *home, _ []string) error { return truncate(h, "2026-11-23T12-00-00Z", "point.json") }, "14 15", false},
		"the newest is damaged":   {func(h *home, _ []string) error { return truncate(h, "2026-11-23T15-00-00Z", "attachd.db") }, "12 13 14 15", true},
		"the newest is not known": {func(h *home, _ []string) error { return truncate(h, "2026-11-23T15-00-00Z", "point.json") }, "12 13 14 15", true},
		"none is whole": {func(h *home, c []string) error {
			return errors.Join(os.Remove(c[0]), os.Remove(c[1]), os.Remove(c[2]), os.Remove(c[3]))
		}, "12 13 14 15", false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.OK(c.spoil(h, h.nights(4)))
			if _, err := h.prune(2); errors.Is(err, backup.ErrDamagedPoint) != c.refuse || err != nil && !c.refuse {
				t.Errorf("prune: %v", err)
			}
			var left []string
			for _, point := range strings.Fields(h.points()) {
				left = append(left, point[11:13])
			}
			if strings.Join(left, " ") != c.left {
				t.Errorf("left: %v, not %s", left, c.left)
			}
		})
	}
}

func mark(h *home, saved string) (err error) {
	h.archive(func(*backup.Archive) {
		err = os.WriteFile(filepath.Join(h.to, "blobs", "damaged", filepath.Base(saved)), nil, 0o600)
	})
	return err
}

// What the newest points lack may be needed from an older one.
func TestPruneKeepsThePointThatLacksNothing(t *testing.T) {
	h := newHome(t)
	h.nights(2)
	lost := h.Keep("lost", true)
	h.OK(os.Remove(h.Path(lost)))
	for hour := 2; hour < 5; hour++ {
		h.add(noon.Add(time.Duration(hour) * time.Hour))
	}
	_, err := h.prune(2)
	h.OK(err)
	if left := h.points(); left != "2026-11-23T13-00-00Z 2026-11-23T15-00-00Z 2026-11-23T16-00-00Z" {
		t.Errorf("left: %s", left)
	}
	h.Keep("lost", true)
	h.add(noon.Add(5 * time.Hour)) // it repairs the others too
	if _, err := h.prune(1); err != nil || h.points() != "2026-11-23T17-00-00Z" {
		t.Errorf("left: %s, %v", h.points(), err)
	}
}

// A medium may be full of old points: they are removed first, but never those to keep,
// nor what an interrupted backup has copied.
func TestRoomIsMadeBeforeAnythingIsCopied(t *testing.T) {
	h := newHome(t)
	contents := h.nights(4)
	h.Keep("new", true)
	last := h.Keep("too much", true)
	full := errors.New("the medium is full")
	h.content = func(ref blobs.Ref) error {
		if ref == last.SHA256 {
			return full
		}
		return nil
	}
	for _, c := range []struct {
		keep int
		left string
	}{
		{5, "2026-11-23T12-00-00Z 2026-11-23T13-00-00Z 2026-11-23T14-00-00Z 2026-11-23T15-00-00Z"},
		{2, "2026-11-23T14-00-00Z 2026-11-23T15-00-00Z"},
		{1, "2026-11-23T15-00-00Z"},
	} {
		opts := h.options(noon.Add(9 * time.Hour))
		opts.Keep = c.keep
		h.archive(func(a *backup.Archive) {
			if _, err := a.Add(t.Context(), h, opts); !errors.Is(err, full) {
				t.Errorf("it should be cut off: %v", err)
			}
		})
		if left := h.points(); left != c.left {
			t.Errorf("--keep %d leaves %s", c.keep, left)
		}
	}
	for i, saved := range contents {
		if _, err := os.Stat(saved); (err == nil) != (i == 3) {
			t.Errorf("content %d: %v", i, err)
		}
	}
	h.content = func(blobs.Ref) error { return nil }
	if added := h.add(noon.Add(9 * time.Hour)); added.NewContents != 1 {
		t.Errorf("what was copied should stay: %+v", added)
	}
	h.wantSound(2)
}

func TestRemoveRemovesPointsByName(t *testing.T) {
	const first, second, third, none = "2026-11-23T12-00-00Z", "2026-11-23T13-00-00Z", "2026-11-23T14-00-00Z", "2026-11-23T19-00-00Z"
	for name, c := range map[string]struct {
		spoil    func(h *home) error
		names    []string
		evenLast bool
		want     backup.Pruned
		left     string
		err      error
	}{
		"the oldest":       {nil, []string{first}, false, backup.Pruned{Points: 1, Contents: 1, Bytes: 9}, second + " " + third, nil},
		"the newest":       {nil, []string{third}, false, backup.Pruned{Points: 1, Contents: 1, Bytes: 9}, first + " " + second, nil},
		"all but one":      {nil, []string{first, third}, false, backup.Pruned{Points: 2, Contents: 2, Bytes: 18}, second, nil},
		"all":              {nil, []string{first, second, third}, false, backup.Pruned{}, first + " " + second + " " + third, backup.ErrLastPoint},
		"all, on purpose":  {nil, []string{first, second, third}, true, backup.Pruned{Points: 3, Contents: 4, Bytes: 33}, "", nil},
		"one that is none": {nil, []string{first, none}, false, backup.Pruned{}, first + " " + second + " " + third, errors.ErrUnsupported},
		"a damaged one": {func(h *home) error { return truncate(h, third, "attachd.db") }, []string{third}, false,
			backup.Pruned{Points: 1, Contents: 1, Bytes: 9}, first + " " + second, nil},
		"one that is not known": {func(h *home) error { return truncate(h, third, "point.json") }, []string{third}, false,
			backup.Pruned{Points: 1, Contents: 1, Bytes: 9}, first + " " + second, nil},
		"beside a damaged one": {func(h *home) error { return truncate(h, third, "attachd.db") }, []string{first}, false,
			backup.Pruned{Points: 1}, second + " " + third, backup.ErrDamagedPoint},
		"the last whole one": {func(h *home) error {
			return errors.Join(truncate(h, third, "attachd.db"), truncate(h, second, "secret.key"))
		},
			[]string{first}, false, backup.Pruned{}, first + " " + second + " " + third, backup.ErrLastPoint},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHome(t)
			h.nights(3)
			if c.spoil != nil {
				h.OK(c.spoil(h))
			}
			h.archive(func(a *backup.Archive) {
				removed, err := a.Remove(t.Context(), c.names, c.evenLast, openSnapshot)
				missing := c.err == errors.ErrUnsupported && err != nil && strings.Contains(err.Error(), "there is no restore point "+none)
				if removed != c.want || !errors.Is(err, c.err) && !missing {
					t.Errorf("%+v, %v", removed, err)
				}
			})
			if left := h.points(); left != c.left {
				t.Errorf("left: %s", left)
			}
		})
	}
}
