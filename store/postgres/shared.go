package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// rememberReplicas is how long a replica is listed after it was last seen.
const rememberReplicas = 24 * time.Hour

var _ store.Shared = (*Store)(nil)

// Replica implements store.Shared.
func (s *Store) Replica() uuid.UUID { return s.replica }

// Beat implements store.Shared.
func (s *Store) Beat(ctx context.Context, program string, shares []byte) (live int, err error) {
	if shares == nil {
		shares = []byte{}
	}
	err = s.change(ctx, func(tx *change) error {
		err := tx.exec(`insert into attachd.replicas (id, version, started, seen, shares, knows) values ($1::uuid, $2, now(), now(), $3, $4)
			on conflict (id) do update set version = excluded.version, knows = excluded.knows, seen = excluded.seen, departed = false, shares = excluded.shares`,
			s.replica.String(), program, shares, version)
		if err == nil {
			err = tx.exec(`delete from attachd.replicas where seen < now() - $1 * interval '1 second'`, rememberReplicas.Seconds())
		}
		if err != nil {
			return err
		}
		return tx.get(`select count(*) from attachd.replicas where not departed and seen > now() - $1 * interval '1 second'`, store.ReplicaLives.Seconds()).Scan(&live)
	})
	return live, err
}

// Replicas implements store.Shared.
func (s *Store) Replicas(ctx context.Context) ([]store.Replica, error) {
	return rows(ctx, s, func(row pgx.CollectableRow) (r store.Replica, err error) {
		err = row.Scan(&r.ID, &r.Version, &r.Started, &r.Seen, &r.Lives, &r.Left, &r.Shares)
		return r, err
	}, `select id, version, started, seen, not departed and seen > now() - $1 * interval '1 second', departed, shares from attachd.replicas
		where seen > now() - $2 * interval '1 second' order by seen desc, id`, store.ReplicaLives.Seconds(), rememberReplicas.Seconds())
}

// Depart implements store.Shared.
func (s *Store) Depart(ctx context.Context) error {
	return s.change(ctx, func(tx *change) error {
		return tx.exec(`update attachd.replicas set departed = true where id = $1::uuid`, s.replica.String())
	})
}

// TakeLeases implements store.Shared. It waits for nobody: a lease whose row is locked is
// left out. That is for a moment by a change that the lease protects (see protect), or by
// the beat of another replica, which takes it.
func (s *Store) TakeLeases(ctx context.Context, names ...string) (epochs map[string]int64, err error) {
	err = s.change(ctx, func(tx *change) error {
		epochs = map[string]int64{}
		// The rows are there forever once they were made. In one order, so that two who make
		// them do not wait for each other.
		err := tx.exec(`insert into attachd.leases (name, holder, epoch, taken, until)
			select wanted.name, $1::uuid, 0, now(), '-infinity'::timestamptz from unnest($2::text[]) as wanted (name)
			where not exists (select from attachd.leases l where l.name = wanted.name) order by name on conflict do nothing`, s.replica.String(), names)
		if err != nil {
			return err
		}
		taken, err := tx.Query(ctx, `with free as (
				select name from attachd.leases where name = any($2::text[]) and (holder = $1::uuid or until < now())
				for update skip locked)
			update attachd.leases l set holder = $1::uuid, until = now() + $3 * interval '1 second',
				epoch = case when l.holder = $1::uuid and l.until > '-infinity' then l.epoch else l.epoch + 1 end,
				taken = case when l.holder = $1::uuid and l.until > '-infinity' then l.taken else now() end
			from free where l.name = free.name returning l.name, l.epoch`, s.replica.String(), names, store.LeaseTime.Seconds())
		if err != nil {
			return err
		}
		var name string
		var epoch int64
		_, err = pgx.ForEachRow(taken, []any{&name, &epoch}, func() error {
			epochs[name] = epoch
			return nil
		})
		return err
	})
	return epochs, err
}

// GiveBack implements store.Shared.
func (s *Store) GiveBack(ctx context.Context, names ...string) error {
	return s.change(ctx, func(tx *change) error {
		return tx.exec(`update attachd.leases set until = '-infinity' where name = any($2::text[]) and holder = $1::uuid`, s.replica.String(), names)
	})
}

// Leases implements store.Shared.
func (s *Store) Leases(ctx context.Context) ([]store.Lease, error) {
	return rows(ctx, s, func(row pgx.CollectableRow) (l store.Lease, err error) {
		err = row.Scan(&l.Name, &l.Holder, &l.Epoch, &l.Taken, &l.Until)
		return l, err
	}, `select name, holder, epoch, taken, until from attachd.leases where until >= now() order by name`)
}

// protect refuses a change whose lease was lost. It comes last: from then until the COMMIT
// nobody can take the lease, since its row is locked.
func (tx *change) protect(holder uuid.UUID) error {
	lease, is := store.LeaseOf(tx.ctx)
	if !is {
		return nil
	}
	err := tx.get(`select from attachd.leases where name = $1 and holder = $2::uuid and epoch = $3 and until > '-infinity' for share`, lease.Name, holder.String(), lease.Epoch).Scan()
	if errors.Is(err, pgx.ErrNoRows) {
		return store.ErrLeaseLost
	}
	return err
}

// SigningKeys implements store.Shared.
func (s *Store) SigningKeys(ctx context.Context) (keys []store.SigningKey, err error) {
	err = s.row(ctx, `select keys from attachd.signing_keys`).Scan(&keys)
	return keys, err
}

// ChangeSigningKeys implements store.Shared.
func (s *Store) ChangeSigningKeys(ctx context.Context, replace func([]store.SigningKey) []store.SigningKey) (keys []store.SigningKey, err error) {
	err = s.change(ctx, func(tx *change) error {
		keys = nil
		if err := tx.get(`select keys from attachd.signing_keys for update`).Scan(&keys); err != nil {
			return err
		}
		keys = replace(keys)
		value, err := json.Marshal(keys)
		if err != nil {
			return err
		}
		return tx.exec(`update attachd.signing_keys set keys = $1::jsonb`, string(value))
	})
	return keys, err
}
