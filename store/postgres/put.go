package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// A Put reads all that its objects name, judges them one after the other in memory, and
// writes what has changed: three round trips, however many objects there are.

// plan is what the objects of a Put name, as it was and as those before the present one
// have changed it, and what the Put is to write.
type plan struct {
	users    table[uuid.UUID, userRow]
	spaces   table[string, store.Space]
	members  table[memberKey, store.Role]
	entities table[store.Parent, entityRow]
	comments table[commentKey, commentRow]
	removing map[removal]string // in which space
	busy     *removing          // the first of them that would be brought back, or nil
	notes    []note
}

type userRow struct {
	name       string
	superadmin bool
	records    bool // a records manager
	deleted    bool
}

type memberKey struct {
	space string
	user  uuid.UUID
}

type entityRow struct {
	space    string
	name     string
	owner    uuid.UUID
	comments int
}

type commentKey struct{ ticket, id uuid.UUID }

type commentRow struct {
	number  int
	created time.Time // UTC, or zero
}

// note is the entry of the audit log for a user or a member, in a change that is recorded
// in detail.
type note struct {
	action string
	user   uuid.UUID
	name   string
	space  string
}

// table holds some rows of a table, and which of them the database does not have so.
type table[K comparable, V comparable] struct {
	rows  map[K]V
	named map[K]bool // what is to be read
	dirty []K
	isNew map[K]bool // of dirty
}

func newTable[K comparable, V comparable]() table[K, V] {
	return table[K, V]{rows: map[K]V{}, named: map[K]bool{}, isNew: map[K]bool{}}
}

func (t *table[K, V]) get(key K) (row V, there bool) {
	row, there = t.rows[key]
	return row, there
}

func (t *table[K, V]) has(key K) bool {
	_, there := t.rows[key]
	return there
}

// put sets a row, and says whether it is new.
func (t *table[K, V]) put(key K, row V) (isNew bool) {
	old, there := t.rows[key]
	if there && old == row {
		return false
	}
	if !t.isNew[key] {
		t.dirty, t.isNew[key] = append(t.dirty, key), true
	}
	t.rows[key] = row
	return !there
}

// keys are what is to be read of the table.
func (t *table[K, V]) keys() []K {
	list := make([]K, 0, len(t.named))
	for key := range t.named {
		list = append(list, key)
	}
	return list
}

// Put implements store.Directory.
func (s *Store) Put(ctx context.Context, objects ...store.Object) (created []bool, err error) {
	err = s.changeDirectory(ctx, func(tx *change) (err error) {
		p := newPlan(objects)
		if err := p.read(tx); err != nil {
			return err
		}
		if created, err = p.putAll(objects); err != nil {
			return err
		}
		if store.EachOf(ctx) {
			for _, n := range p.notes {
				tx.note(n.action, "user", n.user.String(), n.name, n.space)
			}
		}
		return p.write(tx)
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

// newPlan lists what the objects name.
func newPlan(objects []store.Object) *plan {
	p := &plan{
		users: newTable[uuid.UUID, userRow](), spaces: newTable[string, store.Space](), members: newTable[memberKey, store.Role](),
		entities: newTable[store.Parent, entityRow](), comments: newTable[commentKey, commentRow](), removing: map[removal]string{},
	}
	for _, o := range objects {
		switch o := o.(type) {
		case store.User:
			p.users.named[o.ID] = true
		case store.Space:
			p.nameSpace(o.Slug)
		case store.Member:
			p.nameSpace(o.Space)
			p.users.named[o.UserID] = true
			if store.ValidSlug(o.Space) {
				p.members.named[memberKey{o.Space, o.UserID}] = true
			}
		case store.Entity:
			p.nameSpace(o.Space)
			p.entities.named[o.Parent] = true
			if o.Kind == store.Ticket {
				p.users.named[o.OwnerID] = true
			}
		case store.Comment:
			p.entities.named[store.Parent{Kind: store.Ticket, ID: o.TicketID}] = true
			p.comments.named[commentKey{o.TicketID, o.ID}] = true
		}
	}
	return p
}

// nameSpace names a space; one whose slug cannot be is not there, and may not be a text of
// the database.
func (p *plan) nameSpace(slug string) {
	if store.ValidSlug(slug) {
		p.spaces.named[slug] = true
	}
}

// read reads what is named.
func (p *plan) read(tx *change) error {
	var batch pgx.Batch
	kinds, ids := parentArrays(p.entities.keys())
	slugs := p.spaces.keys()
	if len(p.users.named) > 0 {
		p.readUsers(&batch)
	}
	if len(slugs)+len(ids) > 0 {
		p.readSpaces(&batch, slugs, kinds, ids)
	}
	if len(p.members.named) > 0 {
		p.readMembers(&batch)
	}
	if len(ids) > 0 {
		p.readEntities(&batch, kinds, ids)
	}
	if len(p.comments.named) > 0 {
		p.readComments(&batch)
	}
	return tx.SendBatch(tx.ctx, &batch).Close()
}

// queueRead queues a query, whose rows are scanned into the fields before each takes them.
func queueRead(batch *pgx.Batch, each func(), into []any, sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, func() error {
			each()
			return nil
		})
		return err
	})
}

func (p *plan) readUsers(batch *pgx.Batch) {
	var id uuid.UUID
	var u userRow
	queueRead(batch, func() { p.users.rows[id] = u }, []any{&id, &u.name, &u.superadmin, &u.records, &u.deleted},
		`select id, full_name, superadmin, records_manager, deleted from attachd.users where id = any($1::uuid[])`, p.users.keys())
}

// readSpaces reads the named spaces, those of the named entities, and which of all these
// are being removed.
func (p *plan) readSpaces(batch *pgx.Batch, slugs []string, kinds []int16, ids []uuid.UUID) {
	var s store.Space
	queueRead(batch, func() { p.spaces.rows[s.Slug] = s }, []any{&s.Slug, &s.Name, &s.QuotaBytes, &s.QuotaFiles, &s.Auto},
		`select slug, name, quota_bytes, quota_files, auto from attachd.spaces where slug = any($1::text[]) or slug in
			(select e.space from attachd.entities e join unnest($2::smallint[], $3::uuid[]) as named (kind, id) using (kind, id))`, slugs, kinds, ids)
	var r removal
	var in string
	queueRead(batch, func() { p.removing[r] = in }, []any{&r.space, &r.parent.Kind, &r.parent.ID, &in},
		`select space, 0::smallint, `+noID+`::uuid, space from attachd.removals where kind is null and space = any($1::text[])
			union all
		select '', kind, parent, space from attachd.removals where kind is not null and (kind, parent) in
			(select kind, id from unnest($2::smallint[], $3::uuid[]) as named (kind, id))`, slugs, kinds, ids)
}

func (p *plan) readMembers(batch *pgx.Batch) {
	var slugs []string
	var users []uuid.UUID
	for key := range p.members.named {
		slugs, users = append(slugs, key.space), append(users, key.user)
	}
	var key memberKey
	var role store.Role
	queueRead(batch, func() { p.members.rows[key] = role }, []any{&key.space, &key.user, &role},
		`select m.space, m.user_id, m.role from attachd.members m join unnest($1::text[], $2::uuid[]) as named (space, user_id) using (space, user_id)`, slugs, users)
}

func (p *plan) readEntities(batch *pgx.Batch, kinds []int16, ids []uuid.UUID) {
	var of store.Parent
	var e entityRow
	var owner uuid.NullUUID
	queueRead(batch, func() {
		e.owner = owner.UUID
		p.entities.rows[of] = e
	}, []any{&of.Kind, &of.ID, &e.space, &e.name, &owner, &e.comments},
		`select e.kind, e.id, e.space, e.name, e.owner, e.comments from attachd.entities e
			join unnest($1::smallint[], $2::uuid[]) as named (kind, id) using (kind, id)`, kinds, ids)
}

func (p *plan) readComments(batch *pgx.Batch) {
	var tickets, ids []uuid.UUID
	for key := range p.comments.named {
		tickets, ids = append(tickets, key.ticket), append(ids, key.id)
	}
	var key commentKey
	var c commentRow
	var created *time.Time
	queueRead(batch, func() {
		c.created = timeOf(created)
		p.comments.rows[key] = c
	}, []any{&key.ticket, &key.id, &c.number, &created},
		`select c.ticket, c.id, c.number, c.created_at from attachd.comments c
			join unnest($1::uuid[], $2::uuid[]) as named (ticket, id) using (ticket, id)`, tickets, ids)
}

// timeOf is a time as package store has it: in UTC, and zero where there is none.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// timeOrNull is the opposite of timeOf.
func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// parentArrays are the two arrays of a list of parents.
func parentArrays(parents []store.Parent) (kinds []int16, ids []uuid.UUID) {
	for _, p := range parents {
		kinds, ids = append(kinds, int16(p.Kind)), append(ids, p.ID)
	}
	return kinds, ids
}

// putAll judges all objects, or returns a *PutError for the one that is refused. Where none is,
// it returns what has to be removed first.
func (p *plan) putAll(objects []store.Object) (created []bool, err error) {
	created = make([]bool, len(objects))
	for i, o := range objects {
		if created[i], err = p.putObject(o); err != nil {
			return nil, &store.PutError{Index: i, Err: err}
		}
	}
	if p.busy != nil {
		return nil, p.busy
	}
	return created, nil
}

// await notes that something would be brought back that is being removed or in the trash.
func (p *plan) await(of removing) {
	if p.busy == nil {
		p.busy = &of
	}
}

func (p *plan) putObject(o store.Object) (created bool, err error) {
	switch o := o.(type) {
	case store.User:
		return p.putUser(o)
	case store.Space:
		return p.putSpace(o)
	case store.Member:
		return p.putMember(o)
	case store.Entity:
		return p.putEntity(o)
	case store.Comment:
		return p.putComment(o)
	}
	return false, store.Malformed(o)
}

func (p *plan) putUser(u store.User) (created bool, err error) {
	if u.ID == uuid.Nil {
		return false, store.BadID(u.ID)
	}
	known, there := p.users.get(u.ID)
	now := userRow{name: u.FullName, superadmin: u.IsSuperadmin, records: u.IsRecordsManager}
	if !there || known != now {
		p.notes = append(p.notes, note{"user.put", u.ID, store.Granted(u), ""})
	}
	p.users.put(u.ID, now)
	return !there || known.deleted, nil
}

func (p *plan) putSpace(s store.Space) (created bool, err error) {
	if !store.ValidSlug(s.Slug) || s.QuotaBytes < 0 || s.QuotaFiles < 0 {
		return false, store.Malformed(s)
	}
	created = !p.spaces.has(s.Slug)
	if of := (removal{space: s.Slug}); created && p.removing[of] != "" {
		p.await(removing{of: of, in: s.Slug})
	}
	p.spaces.put(s.Slug, s)
	return created, nil
}

func (p *plan) putMember(m store.Member) (created bool, err error) {
	if m.Role < store.Viewer || m.Role > store.Admin {
		return false, store.Malformed(m)
	}
	if !p.spaces.has(m.Space) {
		return false, store.NoSpace(m.Space)
	}
	if user, there := p.users.get(m.UserID); !there || user.deleted {
		return false, store.NoUser(m.UserID)
	}
	key := memberKey{m.Space, m.UserID}
	known, there := p.members.get(key)
	if !there || known != m.Role {
		p.notes = append(p.notes, note{"member.put", m.UserID, store.Granted(m), m.Space})
	}
	return p.members.put(key, m.Role), nil
}

func (p *plan) putEntity(e store.Entity) (created bool, err error) {
	if e.Kind < store.Product || e.Kind > store.Meeting {
		return false, store.Malformed(e)
	}
	if e.ID == uuid.Nil {
		return false, store.BadID(e.ID)
	}
	if !p.spaces.has(e.Space) {
		return false, store.NoSpace(e.Space)
	}
	// The owner may have been deleted: a system of record still sends tickets whose
	// owners have left.
	if e.Kind == store.Ticket && !p.users.has(e.OwnerID) {
		return false, store.NoOwner(e.OwnerID)
	}
	known, there := p.entities.get(e.Parent)
	switch of := (removal{parent: e.Parent}); {
	case !there && p.removing[of] != "":
		p.await(removing{of: of, in: p.removing[of]})
	case there && !p.spaces.has(known.space):
		p.await(removing{of: removal{space: known.space}, in: known.space, but: e.Parent})
		known = entityRow{}
	case there && known.space != e.Space:
		return false, store.CannotMove(e.Parent, known.space)
	}
	return p.entities.put(e.Parent, entityRow{e.Space, e.Name, e.OwnerID, known.comments}), nil
}

// leave takes a parent out of the plan that is in a space which is being removed or in the
// trash.
func (p *plan) leave(tx *change, of store.Parent) error {
	e, there := p.entities.get(of)
	if !there || p.spaces.has(e.space) {
		return nil
	}
	p.await(removing{of: removal{space: e.space}, in: e.space, but: of})
	delete(p.entities.rows, of)
	return tx.exec(`delete from attachd.entities where kind = $1 and id = $2`, int16(of.Kind), of.ID)
}

func (p *plan) putComment(c store.Comment) (created bool, err error) {
	if c.ID == uuid.Nil {
		return false, store.BadID(c.ID)
	}
	of := store.Parent{Kind: store.Ticket, ID: c.TicketID}
	ticket, there := p.entities.get(of)
	if !there || !p.spaces.has(ticket.space) {
		return false, store.NoParent(of)
	}
	key := commentKey{c.TicketID, c.ID}
	row, there := p.comments.get(key)
	switch {
	case there && c.CreatedAt.IsZero():
		return false, nil
	case there:
		row.created = c.CreatedAt
		p.comments.put(key, row)
		return false, nil
	}
	ticket.comments++
	p.entities.put(of, ticket)
	row = commentRow{ticket.comments, c.CreatedAt}
	if row.created.IsZero() {
		row.created = c.Told
	}
	return p.comments.put(key, row), nil
}

// write writes what has changed. The spaces and users come first, for the foreign keys.
func (p *plan) write(tx *change) error {
	var batch pgx.Batch
	p.writeUsers(&batch)
	p.writeSpaces(&batch)
	p.writeMembers(&batch)
	p.writeEntities(&batch)
	p.writeComments(&batch)
	if batch.Len() == 0 {
		return nil
	}
	return tx.SendBatch(tx.ctx, &batch).Close()
}

func (p *plan) writeUsers(batch *pgx.Batch) {
	var names []string
	var superadmins, records []bool
	for _, id := range p.users.dirty {
		u := p.users.rows[id]
		names, superadmins, records = append(names, u.name), append(superadmins, u.superadmin), append(records, u.records)
	}
	if len(names) > 0 {
		batch.Queue(`insert into attachd.users (id, full_name, superadmin, records_manager) select * from unnest($1::uuid[], $2::text[], $3::boolean[], $4::boolean[])
			on conflict (id) do update set full_name = excluded.full_name, superadmin = excluded.superadmin, records_manager = excluded.records_manager, deleted = false`,
			p.users.dirty, names, superadmins, records)
	}
}

// writeSpaces writes the spaces, and moves the usage of those whose quota has begun or ended.
// For that it waits for the uploads that have read the old quota, which hold the row.
func (p *plan) writeSpaces(batch *pgx.Batch) {
	slugs := p.spaces.dirty
	if len(slugs) == 0 {
		return
	}
	var names []string
	var quotaBytes, quotaFiles []int64
	var autos []bool
	for _, slug := range slugs {
		s := p.spaces.rows[slug]
		names, autos = append(names, s.Name), append(autos, s.Auto)
		quotaBytes, quotaFiles = append(quotaBytes, s.QuotaBytes), append(quotaFiles, s.QuotaFiles)
	}
	batch.Queue(`select slug from attachd.spaces where slug = any($1::text[]) order by slug for update`, slugs)
	batch.Queue(`insert into attachd.spaces (slug, name, quota_bytes, quota_files, auto)
		select * from unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::boolean[])
		on conflict (slug) do update set name = excluded.name, quota_bytes = excluded.quota_bytes, quota_files = excluded.quota_files, auto = excluded.auto`,
		slugs, names, quotaBytes, quotaFiles, autos)
	batch.Queue(`with begun as (
			select slug from attachd.spaces where slug = any($1::text[]) and (quota_bytes > 0 or quota_files > 0)
				and not exists (select from attachd.usage u where u.space = slug)
		), deltas as (
			delete from attachd.usage_delta where space in (select slug from begun) returning space, bytes, files
		)
		insert into attachd.usage (space, bytes, files)
			select slug, coalesce(sum(bytes), 0), coalesce(sum(files), 0) from begun left join deltas on space = slug group by slug`, slugs)
	batch.Queue(`with ended as (
			delete from attachd.usage where space in (select slug from attachd.spaces where slug = any($1::text[]) and quota_bytes = 0 and quota_files = 0)
				returning space, bytes, files
		)
		insert into attachd.usage_delta (space, bytes, files) select space, bytes, files from ended`, slugs)
}

func (p *plan) writeMembers(batch *pgx.Batch) {
	var slugs []string
	var users []uuid.UUID
	var roles []int16
	for _, key := range p.members.dirty {
		slugs, users, roles = append(slugs, key.space), append(users, key.user), append(roles, int16(p.members.rows[key]))
	}
	if len(slugs) > 0 {
		batch.Queue(`insert into attachd.members (space, user_id, role) select * from unnest($1::text[], $2::uuid[], $3::smallint[])
			on conflict (space, user_id) do update set role = excluded.role`, slugs, users, roles)
	}
}

func (p *plan) writeEntities(batch *pgx.Batch) {
	kinds, ids := parentArrays(p.entities.dirty)
	var slugs, names []string
	var owners []uuid.UUID
	var comments []int32
	for _, of := range p.entities.dirty {
		e := p.entities.rows[of]
		slugs, names, owners, comments = append(slugs, e.space), append(names, e.name), append(owners, e.owner), append(comments, int32(e.comments))
	}
	if len(ids) > 0 {
		batch.Queue(`insert into attachd.entities (kind, id, space, name, owner, comments)
			select kind, id, space, name, nullif(owner, `+noID+`), comments
				from unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::integer[]) as put (kind, id, space, name, owner, comments)
			on conflict (kind, id) do update set name = excluded.name, owner = excluded.owner, comments = excluded.comments`,
			kinds, ids, slugs, names, owners, comments)
	}
}

func (p *plan) writeComments(batch *pgx.Batch) {
	var tickets, ids []uuid.UUID
	var numbers []int32
	var created []*time.Time
	for _, key := range p.comments.dirty {
		c := p.comments.rows[key]
		tickets, ids = append(tickets, key.ticket), append(ids, key.id)
		numbers, created = append(numbers, int32(c.number)), append(created, timeOrNull(c.created))
	}
	if len(ids) > 0 {
		batch.Queue(`insert into attachd.comments (ticket, id, number, created_at) select * from unnest($1::uuid[], $2::uuid[], $3::integer[], $4::timestamptz[])
			on conflict (ticket, id) do update set created_at = excluded.created_at`, tickets, ids, numbers, created)
	}
}
