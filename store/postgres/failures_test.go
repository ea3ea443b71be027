package postgres_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// lines is a log whose lines can be waited for.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// TestWhatFailsInTheBackgroundIsLogged takes away the tables of all that is done each second,
// and puts them back.
func TestWhatFailsInTheBackgroundIsLogged(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	log := make(lines, 100)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Log: slog.New(slog.NewTextHandler(log, nil))})
	ok(t, err)
	works := []string{"storing entries of the audit log", "chaining entries of the audit log", "counting the outbox", "adding up the usage of spaces", "counting objects"}
	for _, c := range []struct {
		level    string
		from, to string
	}{{"ERROR", "", "_away"}, {"INFO", "_away", ""}} {
		for _, table := range []string{"audit_waiting", "outbox", "usage_delta", "garbage"} {
			run(t, dsn, `alter table attachd.`+table+c.from+` rename to `+table+c.to)
		}
		s.Record(store.Entry{Time: time.Now(), Action: "attachment.get", Outcome: "denied"})
		said := map[string]int{}
		for patience := time.After(30 * time.Second); len(said) < len(works); {
			select {
			case line := <-log:
				for _, work := range works {
					if strings.Contains(line, `work="`+work+`"`) && strings.Contains(line, "level="+c.level) {
						said[work]++
					}
				}
			case <-patience:
				t.Fatalf("with level %s it has said only: %v", c.level, said)
			}
		}
		for work, times := range said {
			if times != 1 {
				t.Errorf("with level %s it has said %d times: %s", c.level, times, work)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := len(log); n > 0 {
		t.Errorf("after all works again it says: %s", <-log)
	}
}
