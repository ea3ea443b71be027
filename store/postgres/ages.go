package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"attachd/store"
	"attachd/store/backend"
)

// Whose ages are in the table ages.
const (
	agesOfAudit = "audit"
	agesOfDead  = "dead_letters"
)

// ripe calls backend.Ripe with the stored marks of a kind of records, and updates them. Until
// the change ends, no other can do that.
func (tx *change) ripe(of string, head uint64, age, keep time.Duration) (through uint64, err error) {
	var marks []byte
	const read = `select marks from attachd.ages where of = $1 for no key update`
	err = tx.get(read, of).Scan(&marks)
	if errors.Is(err, pgx.ErrNoRows) {
		if err := tx.exec(`insert into attachd.ages (of, marks) values ($1, '') on conflict do nothing`, of); err != nil {
			return 0, err
		}
		err = tx.get(read, of).Scan(&marks)
	}
	if err != nil {
		return 0, err
	}
	updated, through, err := backend.Ripe(marks, head, age, keep)
	if err != nil {
		return 0, fmt.Errorf("%w: the ages of %s: %w", store.ErrDamaged, of, err)
	}
	if updated != nil {
		tx.lastly(`update attachd.ages set marks = $2 where of = $1`, of, updated)
	}
	return through, nil
}
