package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// trashModel says in the plainest way what is to be seen after any changes. It does not move
// parents to other spaces.
type trashModel struct {
	*world
	rand    *rand.Rand
	hours   int // the time of the next deletion
	spaces  map[string]*modelled
	parents []*modelledParent
	files   []*modelledFile
	holds   []store.Hold
}

// modelled is a space, parent or attachment.
type modelled struct {
	there   bool            // not deleted for good
	trashed *store.Deletion // by itself
}

type modelledParent struct {
	modelled
	entity store.Entity
}

type modelledFile struct {
	modelled
	store.Attachment
	parent *modelledParent
}

func newTrashModel(w *world, seed uint64) *trashModel {
	m := &trashModel{world: w, rand: rand.New(rand.NewPCG(seed, 0)), spaces: map[string]*modelled{"a": {there: true}, "ab": {there: true}}}
	for _, e := range []store.Entity{w.product, w.ticket, w.meeting, w.product2, w.ticket2} {
		m.parents = append(m.parents, &modelledParent{modelled{there: true}, e})
	}
	_, err := w.DeleteEntity(w.ctx, w.meeting2.Parent, false)
	w.ok(err)
	return m
}

func (m *modelled) isLive() bool { return m.there && m.trashed == nil }

func (m *trashModel) sees(p *modelledParent) bool {
	return p.isLive() && m.spaces[p.entity.Space].isLive()
}

// filesOf are the attachments of a parent, or of all of a space, that are there.
func (m *trashModel) filesOf(is func(f *modelledFile) bool) (list []*modelledFile) {
	for _, f := range m.files {
		if f.there && is(f) {
			list = append(list, f)
		}
	}
	return list
}

// deletion is one into the trash, that ends earlier or later.
func (m *trashModel) deletion() store.Deletion {
	m.hours++
	d := m.into(m.hours)
	d.Until = d.At.Add(time.Duration(1+m.rand.IntN(60)) * time.Hour)
	return d
}

// step makes a change, and fails unless it is refused as the model says.
func (m *trashModel) step() {
	m.Helper()
	p := m.parents[m.rand.IntN(len(m.parents))]
	slug := []string{"a", "ab"}[m.rand.IntN(2)]
	var f *modelledFile
	if len(m.files) > 0 {
		f = m.files[m.rand.IntN(len(m.files))]
	}
	what, got, want := "", error(nil), error(nil)
	switch n := m.rand.IntN(110); {
	case n < 30 || f == nil:
		what = fmt.Sprint("upload to ", p.entity.Parent)
		got, want = m.uploadTo(p)
	case n < 45:
		what = fmt.Sprint("trash ", f.ID)
		got, want = m.trashFile(f)
	case n < 55:
		what = fmt.Sprint("restore ", f.ID)
		got, want = m.restoreFile(f)
	case n < 60:
		what = fmt.Sprint("purge ", f.ID)
		got, want = m.purgeFile(f)
	case n < 68:
		what = fmt.Sprint("trash ", p.entity.Parent)
		got, want = m.trashParent(p, m.rand.IntN(3) > 0)
	case n < 74:
		what = fmt.Sprint("restore ", p.entity.Parent)
		got, want = m.restoreParent(p)
	case n < 77:
		what = fmt.Sprint("purge ", p.entity.Parent)
		got, want = m.purgeParent(p)
	case n < 84:
		what = fmt.Sprint("put ", p.entity.Parent)
		got, want = m.putParent(p)
	case n < 88:
		what = "trash " + slug
		got, want = m.trashSlug(slug, m.rand.IntN(3) > 0)
	case n < 92:
		what = "restore " + slug
		got, want = m.restoreSlug(slug)
	case n < 94:
		what = "purge " + slug
		got, want = m.purgeSlug(slug)
	case n < 97:
		what = "put " + slug
		got, want = m.putSlug(slug)
	case n < 100:
		what = "purge what is due"
		m.purgeDue()
	case n < 105:
		on := [](store.Held){{Space: slug}, {Space: p.entity.Space, Parent: p.entity.Parent}, f.held()}[m.rand.IntN(3)]
		what = fmt.Sprint("hold ", on)
		got, want = m.setHold(on)
	default:
		what = "lift a hold"
		m.liftHold()
	}
	if !errors.Is(got, want) || want == nil && got != nil {
		m.Fatalf("%s: got error %v, want %v", what, got, want)
	}
}

func (m *trashModel) uploadTo(p *modelledParent) (got, want error) {
	a := m.file(p.entity)
	a.SHA256 = content(byte(m.rand.IntN(5)))
	if got = m.CreateAttachment(m.ctx, a, nil, ""); !m.sees(p) {
		return got, store.ErrNotFound
	}
	m.files = append(m.files, &modelledFile{modelled{there: true}, a, p})
	return got, nil
}

func (m *trashModel) trashFile(f *modelledFile) (got, want error) {
	d := m.deletion()
	if _, got = m.TrashAttachment(m.ctx, f.ID, d); !f.isLive() || !m.sees(f.parent) {
		return got, store.ErrNotFound
	}
	if m.isHeld(f.held()) {
		return got, store.ErrHeld
	}
	f.trashed = &d
	return got, nil
}

// held is what a hold on it is on.
func (f *modelledFile) held() store.Held {
	return store.Held{Space: f.parent.entity.Space, Parent: f.Parent, Attachment: f.ID}
}

// isHeld says whether a hold is on that, on what it is in, or on what it has below.
func (m *trashModel) isHeld(it store.Held) bool {
	return slices.ContainsFunc(m.holds, func(h store.Hold) bool {
		return h.On.Space == it.Space &&
			(h.On.Parent == store.Parent{} || it.Parent == store.Parent{} || h.On.Parent == it.Parent &&
				(h.On.Attachment == uuid.Nil || it.Attachment == uuid.Nil || h.On.Attachment == it.Attachment))
	})
}

func (m *trashModel) setHold(on store.Held) (got, want error) {
	h := store.Hold{ID: uuid.Must(uuid.NewV7()), On: on, Reason: "case 4711", ByID: m.bob.ID}
	set, got := m.SetHold(m.ctx, h)
	there := m.spaces[on.Space].isLive()
	for _, p := range m.parents {
		there = there && (p.entity.Parent != on.Parent || m.sees(p))
	}
	for _, f := range m.files {
		there = there && (f.ID != on.Attachment || f.isLive())
	}
	if !there {
		return got, store.ErrNotFound
	}
	same(m.world, "what the hold is on", set.On, on)
	m.holds = append(m.holds, h)
	return got, nil
}

func (m *trashModel) liftHold() {
	m.Helper()
	if len(m.holds) == 0 {
		return
	}
	i := m.rand.IntN(len(m.holds))
	_, err := m.LiftHold(m.ctx, m.holds[i].ID)
	m.ok(err)
	m.holds = slices.Delete(m.holds, i, i+1)
}

func (m *trashModel) restoreFile(f *modelledFile) (got, want error) {
	_, got = m.RestoreAttachment(m.ctx, f.ID)
	switch {
	case !f.there && errors.Is(got, store.ErrConflict): // Remove has not come to it yet
		return got, store.ErrConflict
	case !f.there || f.trashed == nil:
		return got, store.ErrNotFound
	case !m.sees(f.parent):
		return got, store.ErrConflict
	}
	f.trashed = nil
	return got, nil
}

func (m *trashModel) purgeFile(f *modelledFile) (got, want error) {
	if _, got = m.PurgeAttachment(m.ctx, f.ID); !f.there || f.trashed == nil || !m.sees(f.parent) {
		return got, store.ErrNotFound
	}
	if m.isHeld(f.held()) {
		return got, store.ErrHeld
	}
	f.there = false
	return got, nil
}

func (m *trashModel) trashParent(p *modelledParent, with bool) (got, want error) {
	d := m.deletion()
	got = m.TrashEntity(m.ctx, p.entity.Parent, with, d)
	of := m.filesOf(func(f *modelledFile) bool { return f.parent == p })
	live := slices.ContainsFunc(of, func(f *modelledFile) bool { return f.trashed == nil })
	switch {
	case !m.sees(p):
		return got, store.ErrNotFound
	case m.isHeld(p.held()):
		return got, store.ErrHeld
	case live && !with:
		return got, store.ErrConflict
	case len(of) == 0:
		p.there = false
	default:
		p.trashed = &d
	}
	return got, nil
}

func (m *trashModel) restoreParent(p *modelledParent) (got, want error) {
	_, got = m.RestoreEntity(m.ctx, p.entity.Parent)
	switch {
	case !p.there || p.trashed == nil:
		return got, store.ErrNotFound
	case !m.spaces[p.entity.Space].isLive():
		return got, store.ErrConflict
	}
	p.trashed = nil
	return got, nil
}

func (m *trashModel) purgeParent(p *modelledParent) (got, want error) {
	got = m.PurgeEntity(m.ctx, p.entity.Parent)
	if !p.there || p.trashed == nil || !m.spaces[p.entity.Space].isLive() {
		return got, store.ErrNotFound
	}
	if m.isHeld(p.held()) {
		return got, store.ErrHeld
	}
	m.end(p)
	return got, nil
}

func (p *modelledParent) held() store.Held {
	return store.Held{Space: p.entity.Space, Parent: p.entity.Parent}
}

// end removes a parent for good.
func (m *trashModel) end(p *modelledParent) {
	p.modelled = modelled{}
	for _, f := range m.filesOf(func(f *modelledFile) bool { return f.parent == p }) {
		f.there = false
	}
}

// stay moves the live attachments of a parent into the trash, each by itself.
func (m *trashModel) stay(p *modelledParent, d *store.Deletion) {
	for _, f := range m.filesOf(func(f *modelledFile) bool { return f.parent == p && f.trashed == nil }) {
		f.trashed = d
	}
}

func (m *trashModel) putParent(p *modelledParent) (got, want error) {
	if _, got = m.Put(m.ctx, p.entity); !m.spaces[p.entity.Space].isLive() {
		return got, store.ErrNotFound
	}
	if p.trashed != nil {
		m.stay(p, p.trashed)
	}
	p.modelled = modelled{there: true}
	return got, nil
}

func (m *trashModel) trashSlug(slug string, with bool) (got, want error) {
	d, s := m.deletion(), m.spaces[slug]
	got = m.TrashSpace(m.ctx, slug, with, d)
	live := m.filesOf(func(f *modelledFile) bool {
		return f.parent.entity.Space == slug && f.trashed == nil && m.sees(f.parent)
	})
	trashed := len(m.filesOf(func(f *modelledFile) bool { return f.parent.entity.Space == slug && !slices.Contains(live, f) })) > 0
	for _, p := range m.parents {
		trashed = trashed || p.entity.Space == slug && p.trashed != nil
	}
	switch {
	case !s.isLive():
		return got, store.ErrNotFound
	case m.isHeld(store.Held{Space: slug}):
		return got, store.ErrHeld
	case len(live) > 0 && !with:
		return got, store.ErrConflict
	case len(live) == 0 && !trashed:
		m.endSpace(slug)
	default:
		s.trashed = &d
	}
	return got, nil
}

func (m *trashModel) restoreSlug(slug string) (got, want error) {
	s := m.spaces[slug]
	if _, got = m.RestoreSpace(m.ctx, slug); !s.there || s.trashed == nil {
		return got, store.ErrNotFound
	}
	s.trashed = nil
	return got, nil
}

func (m *trashModel) purgeSlug(slug string) (got, want error) {
	s := m.spaces[slug]
	if got = m.PurgeSpace(m.ctx, slug); !s.there || s.trashed == nil {
		return got, store.ErrNotFound
	}
	m.endSpace(slug)
	return got, nil
}

// endSpace removes a space for good.
func (m *trashModel) endSpace(slug string) {
	*m.spaces[slug] = modelled{}
	for _, p := range m.parents {
		if p.entity.Space == slug {
			m.end(p)
		}
	}
}

func (m *trashModel) putSlug(slug string) (got, want error) {
	_, got = m.Put(m.ctx, store.Space{Slug: slug, Name: "put"})
	s := m.spaces[slug]
	for _, p := range m.parents {
		if s.trashed != nil && p.entity.Space == slug && p.trashed == nil {
			m.stay(p, s.trashed)
			p.there = false
		}
	}
	*s = modelled{there: true}
	return got, nil
}

// purgeDue removes what is due in the middle of the deletions made so far.
func (m *trashModel) purgeDue() {
	m.Helper()
	until, later := m.into(m.hours).At, time.Time{}
	if m.rand.IntN(2) == 0 {
		later = until.Add(48 * time.Hour)
	}
	for more := true; more; {
		_, _, left, err := m.PurgeUntil(m.ctx, until, later, 1+m.rand.IntN(3))
		m.ok(err)
		more = left
	}
	// isDue says whether something is due and not held; what is held stays.
	isDue := func(is *modelled, on store.Held) bool {
		if is.trashed == nil || is.trashed.Until.After(until) {
			return false
		}
		held := m.isHeld(on)
		if held && !later.IsZero() {
			d := *is.trashed
			d.Until = later
			is.trashed = &d
		}
		return !held
	}
	for _, f := range m.filesOf(func(f *modelledFile) bool { return isDue(&f.modelled, f.held()) }) {
		f.there = false
	}
	for _, p := range m.parents {
		if isDue(&p.modelled, p.held()) {
			m.end(p)
		}
	}
	for slug, s := range m.spaces {
		if isDue(s, store.Held{Space: slug}) {
			m.endSpace(slug)
		}
	}
}

// compare fails unless all that is seen is as the model says.
func (m *trashModel) compare() {
	m.Helper()
	m.removeAll()
	used, trash := map[string]store.Usage{}, store.Usage{}
	for _, f := range m.files {
		_, err := m.Attachment(m.ctx, f.ID)
		same(m.world, fmt.Sprint("it is found: ", f.ID), err == nil, f.isLive() && m.sees(f.parent))
		_, err = m.TrashedAttachment(m.ctx, f.ID)
		same(m.world, fmt.Sprint("it is found in the trash: ", f.ID), err == nil, f.there && f.trashed != nil && m.sees(f.parent))
		switch slug := f.parent.entity.Space; {
		case f.isLive() && m.sees(f.parent):
			used[slug] = used[slug].Plus(f.Usage())
		case f.there:
			trash = trash.Plus(f.Usage())
		}
	}
	for slug, s := range m.spaces {
		_, usage, err := m.Space(m.ctx, slug)
		same(m.world, "there is space "+slug, err == nil, s.isLive())
		same(m.world, "usage of "+slug, usage, used[slug])
		list, err := m.TrashIn(m.ctx, slug, nil, 10_000)
		m.ok(err)
		same(m.world, "how much is in the trash of "+slug, len(list), m.listed(slug))
	}
	for _, p := range m.parents {
		_, err := m.Entity(m.ctx, p.entity.Parent)
		same(m.world, fmt.Sprint("there is ", p.entity.Parent), err == nil, m.sees(p))
	}
	size, earliest, err := m.TrashSize(m.ctx)
	m.ok(err)
	same(m.world, "size of the trash", size, trash)
	same(m.world, "the first to end", earliest, m.earliest())
	same(m.world, "how much in the trash is held", m.heldInTrash(), m.heldIn())
	holds, err := m.Holds(m.ctx, "", nil, 10_000)
	m.ok(err)
	same(m.world, "how many holds there are", len(holds), len(m.holds))
	all, err := m.AllAttachments(m.ctx, uuid.Nil, 10_000)
	m.ok(err)
	same(m.world, "how many there are", len(all), len(m.filesOf(func(*modelledFile) bool { return true })))
	m.sound()
}

func (m *trashModel) heldInTrash() store.Usage {
	m.Helper()
	sum, err := m.HeldInTrash(m.ctx)
	m.ok(err)
	return sum
}

// heldIn is how much in the trash a hold keeps there. Nothing is held in a space in the trash.
func (m *trashModel) heldIn() (sum store.Usage) {
	for _, f := range m.filesOf(func(f *modelledFile) bool { return f.trashed != nil || f.parent.trashed != nil }) {
		if m.isHeld(f.held()) {
			sum = sum.Plus(f.Usage())
		}
	}
	return sum
}

// listed is how much the list of a space's trash has.
func (m *trashModel) listed(slug string) int {
	if !m.spaces[slug].isLive() {
		return 0
	}
	n := len(m.filesOf(func(f *modelledFile) bool {
		return f.parent.entity.Space == slug && f.trashed != nil && m.sees(f.parent)
	}))
	for _, p := range m.parents {
		if p.entity.Space == slug && p.trashed != nil {
			n++
		}
	}
	return n
}

func (m *trashModel) earliest() (first time.Time) {
	see := func(is modelled) {
		if is.there && is.trashed != nil && (first.IsZero() || is.trashed.Until.Before(first)) {
			first = is.trashed.Until
		}
	}
	for _, f := range m.files {
		see(f.modelled)
	}
	for _, p := range m.parents {
		see(p.modelled)
	}
	for _, s := range m.spaces {
		see(*s)
	}
	return first
}
