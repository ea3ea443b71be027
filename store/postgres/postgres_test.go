package postgres_test

import (
	"context"
	"testing"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/store"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
	"attachd/store/storetest"
)

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
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openPooled(t) })
}

func TestTwoStores(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) store.Store { return openPair(t) })
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) blobs.Catalog{
		"straight":         func(t *testing.T) blobs.Catalog { return open(t) },
		"of two stores":    func(t *testing.T) blobs.Catalog { return openPair(t) },
		"through a pooler": func(t *testing.T) blobs.Catalog { return openPooled(t) },
	} {
		t.Run(name, func(t *testing.T) { blobstest.RunCatalog(t, open) })
	}
}
