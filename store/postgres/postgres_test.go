package postgres_test

import (
	"context"
	"flag"
	"testing"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
	"attachd/store/storetest"
)

var everyDoor = flag.Bool("doors", false, "keep all promises through a pooler, and with calls to two stores in turn, too, cut connections in every way, and run the tests that need a database server of their own, which takes three times as long")

// anotherDoor skips a test that keeps promises which TestStore and TestCatalog keep already,
// in another way.
func anotherDoor(t *testing.T) {
	t.Helper()
	if !*everyDoor {
		t.Skip("needs -doors")
	}
}

// needsOwnServer skips a test that starts a database server of its own, which takes seconds.
func needsOwnServer(t *testing.T) {
	t.Helper()
	if !*everyDoor {
		t.Skip("starts a database server of its own: needs -doors")
	}
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

// emptyDatabase returns the DSN of a database that has the schema and nothing in it.
func emptyDatabase(t *testing.T) (dsn string) {
	t.Helper()
	return postgrestest.Reused(t, func(ctx context.Context, dsn string) error {
		s, err := postgres.Open(ctx, postgres.Options{DSN: dsn})
		if err != nil {
			return err
		}
		return s.Close()
	})
}

// openWith opens a database until the end of the test.
func openWith(t *testing.T, opts postgres.Options) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openAt(t *testing.T, dsn string) *postgres.Store {
	t.Helper()
	return openWith(t, postgres.Options{DSN: dsn, MaxConnections: 10})
}

func open(t *testing.T) *postgres.Store {
	t.Helper()
	return openAt(t, emptyDatabase(t))
}

// openPooled opens a database through a pooler in transaction mode.
func openPooled(t *testing.T) *postgres.Store {
	t.Helper()
	return openWith(t, postgres.Options{DSN: postgrestest.Pooled(t, emptyDatabase(t)), MaxConnections: 10, Pooler: true})
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return open(t) })
}

func TestStoreThroughAPooler(t *testing.T) {
	anotherDoor(t)
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openPooled(t) })
}

func TestTwoStores(t *testing.T) {
	anotherDoor(t)
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openPair(t) })
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	blobstest.RunCatalog(t, func(t *testing.T) blobs.Catalog { return open(t) })
}

func TestCatalogThroughAPooler(t *testing.T) {
	anotherDoor(t)
	t.Parallel()
	blobstest.RunCatalog(t, func(t *testing.T) blobs.Catalog { return openPooled(t) })
}

func TestCatalogOfTwoStores(t *testing.T) {
	anotherDoor(t)
	t.Parallel()
	blobstest.RunCatalog(t, func(t *testing.T) blobs.Catalog { return openPair(t) })
}
