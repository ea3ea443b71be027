package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/store"
)

// totalsBatch is how many rows one query of Totals counts. Between two, others have the
// database.
const totalsBatch = 20_000

// Totals implements store.Attachments. The database counts, so that a row goes over the
// network for each type and size class only.
func (s *Store) Totals(ctx context.Context, rest func(took time.Duration)) (store.Totals, error) {
	totals := store.Totals{ByType: map[string]store.Usage{}}
	if err := s.countAttachments(ctx, rest, &totals); err != nil {
		return store.Totals{}, err
	}
	if err := s.countContents(ctx, rest, &totals.Contents); err != nil {
		return store.Totals{}, err
	}
	return totals, nil
}

func (s *Store) countAttachments(ctx context.Context, rest func(took time.Duration), totals *store.Totals) error {
	type group struct {
		kind  string
		size  int64 // one of the group
		seen  bool  // not hidden
		used  store.Usage
		last  uuid.UUID
		total int64 // rows of the batch
	}
	var after uuid.UUID
	for {
		began := time.Now()
		// The sizes of a group have as many binary digits when one is subtracted, as SizeClass wants.
		groups, err := rows(ctx, s, func(row pgx.CollectableRow) (g group, err error) {
			err = row.Scan(&g.kind, &g.seen, &g.size, &g.used.Bytes, &g.used.Files, &g.last, &g.total)
			return g, err
		}, `with batch as materialized (
				select a.id, a.type, a.size, s.slug is not null as seen from attachd.attachments a
					left join attachd.entities e on e.kind = a.kind and e.id = a.parent left join attachd.spaces s on s.slug = e.space
				where a.id > $1 order by a.id limit $2)
			select type, seen, max(size), sum(size)::bigint, count(*), (select id from batch order by id desc limit 1), (select count(*) from batch)
			from batch group by type, seen, case when size > 1 then length(ltrim((size - 1)::bit(64)::text, '0')) else 0 end`, after, totalsBatch)
		if err != nil || len(groups) == 0 {
			return err
		}
		for _, g := range groups {
			if !g.seen {
				continue
			}
			byType := totals.ByType[g.kind]
			for _, sum := range []*store.Usage{&totals.Attachments, &totals.BySize[store.SizeClass(g.size)], &byType} {
				sum.Files += g.used.Files
				sum.Bytes += g.used.Bytes
			}
			totals.ByType[g.kind] = byType
		}
		if groups[0].total < totalsBatch {
			return nil
		}
		after = groups[0].last
		rest(time.Since(began))
	}
}

// countContents merges a range of the contents with the same range of the records' index, so
// that all batches together read each of them once. To look up content by content takes twice as
// long, for which a planner has each batch compiled, too.
func (s *Store) countContents(ctx context.Context, rest func(took time.Duration), total *store.Usage) error {
	after := []byte{}
	for {
		began := time.Now()
		var used store.Usage
		var last []byte
		var read int64
		err := s.row(ctx, `with batch as materialized (select sha256, size from attachd.contents where sha256 > $1 order by sha256 limit $2),
				range as materialized (select (select sha256 from batch order by sha256 desc limit 1) as last, (select count(*) from batch) as read),
				named as materialized (select distinct a.sha256 from attachd.attachments a
					join attachd.entities e on e.kind = a.kind and e.id = a.parent join attachd.spaces s on s.slug = e.space
					where a.sha256 > $1 and a.sha256 <= (select last from range))
			select coalesce(sum(size), 0)::bigint, count(*), (select last from range), (select read from range) from batch join named using (sha256)`,
			after, totalsBatch).Scan(&used.Bytes, &used.Files, &last, &read)
		if err != nil {
			return err
		}
		total.Bytes, total.Files = total.Bytes+used.Bytes, total.Files+used.Files
		if read < totalsBatch {
			return nil
		}
		after = last
		rest(time.Since(began))
	}
}

const (
	// foldFrom is from how many rows of a space on its usage is added up.
	foldFrom = 100
	// foldBatch is how many rows one transaction adds up at most.
	foldBatch = 5000
)

// foldUsage adds up the usage of spaces that have more rows of it than that. Several processes
// may do it at once: each takes what the others have not. The locks have a Put wait that moves
// the usage of a space, and a deletion of the space; what they hold is left out.
func (s *Store) foldUsage(ctx context.Context, more int) error {
	for {
		var folded int64
		err := s.atomic(ctx, func(b *pgx.Batch) {
			b.Queue(`with due as materialized (
					select slug from attachd.spaces where quota_bytes = 0 and quota_files = 0
						and slug in (select space from attachd.usage_delta group by space having count(*) > $1) for key share skip locked
				), taken as materialized (
					select d.ctid as at from attachd.usage_delta d join due on d.space = due.slug limit $2 for update of d skip locked
				), gone as (
					delete from attachd.usage_delta d using taken where d.ctid = taken.at returning d.space, d.bytes, d.files
				), sums as (
					insert into attachd.usage_delta (space, bytes, files) select space, sum(bytes), sum(files) from gone group by space
				)
				select count(*) from gone`, more, foldBatch).QueryRow(func(row pgx.Row) error { return row.Scan(&folded) })
		})
		if err != nil || folded < foldBatch {
			return err
		}
	}
}

// foldTrash adds up what is counted of the trash, where there are more rows of it than that.
func (s *Store) foldTrash(ctx context.Context, more int) error {
	return s.atomic(ctx, func(b *pgx.Batch) {
		b.Queue(`with taken as materialized (
				select ctid as at from attachd.trash_usage where (select count(*) from attachd.trash_usage) > $1 limit $2 for update skip locked
			), gone as (
				delete from attachd.trash_usage u using taken where u.ctid = taken.at returning bytes, files
			)
			insert into attachd.trash_usage (bytes, files) select sum(bytes), sum(files) from gone having count(*) > 0`, more, foldBatch)
	})
}
