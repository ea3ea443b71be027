package postgres_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// house is a user and a space with a product.
type house struct {
	ada     store.User
	product store.Entity
}

func fill(t testing.TB, s *postgres.Store, space store.Space) house {
	t.Helper()
	h := house{ada: store.User{ID: uuid.New(), FullName: "Ada"}, product: store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: space.Slug}}
	if _, err := s.Put(context.Background(), h.ada, space, h.product); err != nil {
		t.Fatal(err)
	}
	return h
}

// file is a new attachment of 10 bytes, not in the store yet.
func (h house) file(content string) store.Attachment {
	return store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.product.Parent, FileName: "plan.pdf", Size: 10,
		Type: "application/pdf", SHA256: blobs.RefOf([]byte(content)), UploaderID: h.ada.ID, Uploader: h.ada.FullName}
}

// keep puts the content of an attachment into an object.
func keep(s *postgres.Store, a store.Attachment) error {
	object := blobs.NewObject(a.SHA256)
	if err := s.Intend(context.Background(), []blobs.Object{object}); err != nil {
		return err
	}
	return s.Settle(context.Background(), []blobs.Place{{Object: object, Size: a.Size, Stored: time.Unix(1_700_000_000, 0)}})
}

// upload keeps the content of an attachment, and records it.
func upload(s *postgres.Store, a store.Attachment) error {
	if err := keep(s, a); err != nil {
		return err
	}
	err := s.CreateAttachment(context.Background(), a, nil, "")
	return errors.Join(err, s.Unhold(context.Background(), []blobs.Ref{a.SHA256}))
}

// whole fails unless a check finds no fault.
func whole(t testing.TB, s *postgres.Store) {
	t.Helper()
	faults, err := s.Check(context.Background(), nil)
	if err != nil || len(faults) > 0 {
		t.Fatalf("faults: %q, %v", faults, err)
	}
}

func usage(t testing.TB, s *postgres.Store, slug string) store.Usage {
	t.Helper()
	_, used, err := s.Space(context.Background(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return used
}

var long = flag.Bool("long", false, "run for as long as it takes to be sure, not for as long as a default run may take")

func TestAQuotaIsExactHoweverManyProcessesUpload(t *testing.T) {
	t.Parallel()
	const clients = 16
	quota := int64(100)
	if *long {
		quota = 500
	}
	all, _ := replicas(t, 2)
	h := fill(t, all[0], store.Space{Slug: "a", QuotaFiles: quota})
	var accepted atomic.Int64
	var uploads sync.WaitGroup
	for n := range clients {
		uploads.Go(func() {
			for i := 0; ; i++ {
				err := upload(all[n%2], h.file(fmt.Sprint(n, i%7)))
				if errors.Is(err, store.ErrQuota) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				accepted.Add(1)
			}
		})
	}
	uploads.Wait()
	if used := usage(t, all[1], "a"); accepted.Load() != quota || used != (store.Usage{Bytes: 10 * quota, Files: quota}) {
		t.Errorf("%d were accepted, and %v is counted", accepted.Load(), used)
	}
	whole(t, all[0])
}

func TestUsageIsRightWhileQuotasComeAndGo(t *testing.T) {
	t.Parallel()
	all, _ := replicas(t, 2)
	space := store.Space{Slug: "a"}
	h := fill(t, all[0], space)
	var uploads sync.WaitGroup
	for n := range 4 {
		uploads.Go(func() {
			for i := range 40 {
				a := h.file(fmt.Sprint(n, i))
				err := upload(all[n%2], a)
				if err == nil && i%3 == 0 {
					_, err = all[(n+1)%2].DeleteAttachment(t.Context(), a.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		uploads.Wait()
		close(ended)
	}()
	for round := 0; ; round++ {
		space.QuotaFiles = int64(round%2) * 1000
		if _, err := all[round/2%2].Put(t.Context(), space); err != nil {
			t.Error(err)
		}
		if err := all[round%2].FoldUsage(t.Context(), 1); err != nil {
			t.Error(err)
		}
		whole(t, all[0])
		select {
		case <-ended:
			if used := usage(t, all[0], "a"); used.Files != 4*26 {
				t.Errorf("%v is counted of %d files", used, 4*26)
			}
			return
		default:
		}
	}
}

func TestUsageIsAddedUpByManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	all, exec := replicas(t, 3)
	h := fill(t, all[0], store.Space{Slug: "a"})
	if err := upload(all[0], h.file("one")); err != nil {
		t.Fatal(err)
	}
	exec(`insert into attachd.usage_delta select 'a', n, 1 from generate_series(-3000, 3000) n`)
	exec(`insert into attachd.usage_delta select 'a', 0, -1 from generate_series(1, 6001)`)
	var folds sync.WaitGroup
	for _, s := range all {
		folds.Go(func() {
			for range 5 {
				if err := s.FoldUsage(t.Context(), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	folds.Wait()
	if err := all[0].FoldUsage(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	whole(t, all[0])
	if n, err := all[0].UsageRows(t.Context()); err != nil || n != 1 {
		t.Errorf("%d rows are left, %v", n, err)
	}
}

func TestCheckFindsEachKindOfFault(t *testing.T) {
	t.Parallel()
	dsn := postgrestest.Database(t)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	// The constraints are off, as in some restores.
	exec := func(sql string, args ...any) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), dsn+"&options=-csession_replication_role%3Dreplica")
		if err == nil {
			_, err = conn.Exec(t.Context(), sql, args...)
			err = errors.Join(err, conn.Close(t.Context()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := fill(t, s, store.Space{Slug: "a"})
	if _, err := s.Put(t.Context(), store.Space{Slug: "full", QuotaFiles: 5}, store.Member{Space: "a", UserID: h.ada.ID, Role: store.Viewer}); err != nil {
		t.Fatal(err)
	}
	a := h.file("one")
	if err := upload(s, a); err != nil {
		t.Fatal(err)
	}
	whole(t, s)
	want := map[string]string{}
	harm := func(sentence, sql string, args ...any) {
		t.Helper()
		exec(sql, args...)
		want[sentence] = sql
	}
	gone := uuid.New()
	harm(fmt.Sprintf("Attachment %s was uploaded by user %s, who is not there.", a.ID, gone), `update attachd.attachments set uploader = $1`, gone)
	harm(fmt.Sprintf("Attachment %s belongs to comment %s, which is not there.", a.ID, gone), `update attachd.attachments set comment = $1`, gone)
	harm(fmt.Sprintf("Attachment %s has the content %x, which is in no object.", a.ID, a.SHA256), `delete from attachd.contents`)
	lost := uuid.New()
	harm(fmt.Sprintf("Attachment %s belongs to meeting %s, which is not there.", lost, gone),
		`insert into attachd.attachments select $1, 3, $2, space, sha256, null, name, size, type, $3 from attachd.attachments where id = $4`, lost, gone, h.ada.ID, a.ID)
	exec(`delete from attachd.contents`)
	harm(`Space "a" is counted as using 11 bytes in 1 files, but its files are 10 bytes in 1.`, `update attachd.usage_delta set bytes = bytes + 1`)
	harm(`Usage is counted of space "nowhere", which is not there.`, `insert into attachd.usage_delta values ('nowhere', 0, 0)`)
	harm(`Space "full" has a quota, and its usage is not counted as that needs.`, `delete from attachd.usage where space = 'full'`)
	harm(`Space "a" has no quota, but its usage is counted as if it had.`, `insert into attachd.usage values ('a', 0, 0)`)
	harm(fmt.Sprintf(`User %s, who is not there, is a member of space "a".`, gone), `insert into attachd.members values ('a', $1, 1)`, gone)
	harm(fmt.Sprintf(`User %s is a member of space "b", which is not there.`, h.ada.ID), `insert into attachd.members values ('b', $1, 1)`, h.ada.ID)
	harm(fmt.Sprintf(`The ticket %s is in space "b", which is not there.`, gone), `insert into attachd.entities values (2, $1, 'b', '', $1)`, gone)
	harm(fmt.Sprintf(`The ticket %s belongs to user %[1]s, who is not there.`, gone), `select 1`)
	harm(fmt.Sprintf(`Comment %s belongs to ticket %s, which is not there.`, gone, h.ada.ID), `insert into attachd.comments values ($1, $2, 1)`, h.ada.ID, gone)
	harm(fmt.Sprintf(`What belonged to %s is being removed, but it is there.`, gone), `insert into attachd.removals (space, kind, parent, origin) values ('b', 2, $1, 'null')`, gone)
	harm(`What was in space "full" is being removed, but it is there.`, `insert into attachd.removals (space, origin) values ('full', 'null')`)
	hold := uuid.New()
	harm(fmt.Sprintf("The hold %s was set by user %s, who is not there.", hold, gone), `insert into attachd.holds values ($1, 'b', 1, $2, $2, 'case 4711', $2)`, hold, gone)
	harm(fmt.Sprintf(`The hold %s is in the space "b", which is not there.`, hold), `select 1`)
	harm(fmt.Sprintf(`The hold %s is on the product %s, which is not in the space "b".`, hold, gone), `select 1`)
	harm(fmt.Sprintf("The hold %s is on the attachment %s, which is not there.", hold, gone), `select 1`)
	harm(`Event 1 of the outbox cannot be read.`, `insert into attachd.outbox (event) values ('{}')`)
	harm(`Dead letter 1 cannot be read.`, `insert into attachd.dead_letters (letter) values ('{"event": {}}')`)
	faults, err := s.Check(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for sentence, sql := range want {
		if !slices.Contains(faults, sentence) {
			t.Errorf("after %q it does not say %q", sql, sentence)
		}
	}
	if len(faults) != len(want)+1 { // the attachment that is lost has no content either
		t.Errorf("it says:\n%s", strings.Join(faults, "\n"))
	}
}
