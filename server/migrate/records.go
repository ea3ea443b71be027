package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"attachd/server/contents"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/portable"
)

// moveRecordsAtMost is how long changes are refused while records are moved before the
// migration is given up: millions take minutes.
const moveRecordsAtMost = 20 * time.Minute

var errRecords = fmt.Errorf("changes would have been refused for more than %s", moveRecordsAtMost)

// finishElsewhere finishes a migration to another database, while no attachment is added or
// deleted: now nothing else is changed, either. It returns why that stays so, if it does.
//
// The database that was moved away says so before the other one is one to start with: a
// server may not start for a moment, but never two. Until then, everything is as it was.
func (m *migration) finishElsewhere(ctx context.Context) (refuse, err error) {
	e := m.To.Elsewhere
	if e.Whole {
		return m.switchOver(ctx)
	}
	if e.SameBucket {
		if err := m.Flush(ctx); err != nil {
			return nil, err
		}
	}
	frozen, is := m.Records.(store.Freezer)
	source, may := m.Records.(portable.Source)
	if !is || !may {
		return nil, errors.New("the records of this database cannot be moved")
	}
	thaw, err := frozen.Freeze(ctx)
	if err != nil {
		return nil, fmt.Errorf("waiting for the changes under way: %w", err)
	}
	defer func() {
		if refuse == nil {
			err = errors.Join(err, thaw(context.WithoutCancel(ctx)))
		}
	}()
	if !e.SameBucket {
		if goOn, err := m.finishContents(ctx); err != nil || !goOn {
			return nil, err
		}
	}
	if err := m.moveRecords(ctx, source); err != nil {
		return nil, err
	}
	return m.switchOver(ctx)
}

// moveRecords copies the records, and compares both sides.
func (m *migration) moveRecords(ctx context.Context, source portable.Source) error {
	e := m.To.Elsewhere
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), moveRecordsAtMost, errRecords)
	defer cancel()
	sum, err := portable.Copy(ctx, source, e.Store, func(row portable.Row) bool {
		if note, is := row.(portable.Note); is {
			return !upkeep.StaysBehind(note.Name, e.SameBucket)
		}
		return e.SameBucket || !portable.IsOfCatalog(row)
	})
	if err != nil {
		return fmt.Errorf("moving the records: %w", errors.Join(err, context.Cause(ctx)))
	}
	for kind, count := range sum.Counts {
		m.Rows += count.Rows
		if kind == portable.KindAttachment {
			m.Attachments = count.Rows
		}
	}
	if e.SameBucket {
		m.Bytes = sum.Bytes
	}
	return e.MoveSecrets(ctx)
}

// switchOver has the old database refuse to start, and then the new one start.
func (m *migration) switchOver(ctx context.Context) (refuse, err error) {
	ctx = context.WithoutCancel(store.WithEntry(ctx, nil))
	e := m.To.Elsewhere
	err = upkeep.SetMoved(ctx, m.Records, e.Where)
	if errors.Is(err, store.ErrFull) {
		return nil, err
	}
	if err == nil {
		err = upkeep.SetHome(ctx, e.Store, m.To.Home)
	}
	if err != nil {
		return contents.ErrPerhapsMoved, fmt.Errorf("%w: %w", contents.ErrPerhapsMoved, err)
	}
	m.Moved = true
	return contents.ErrMoved, nil
}
