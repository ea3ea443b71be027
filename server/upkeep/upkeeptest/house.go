// Package upkeeptest has the two stores, opened, for tests of upkeep and of backups.
package upkeeptest

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
)

// House is both stores in a directory, with a product to attach files to.
type House struct {
	*testing.T
	Dir     string
	Records *bolt.Store
	Blobs   *disk.Store
	faults  atomic.Pointer[func(call string) error]
	Ada     store.User
	Product store.Parent
}

// New returns an empty House, which is closed at the end of the test.
func New(t *testing.T) *House {
	h := &House{T: t, Dir: t.TempDir(), Ada: store.User{ID: uuid.New(), FullName: "Ada"}, Product: store.Parent{Kind: store.Product, ID: uuid.New()}}
	h.Open()
	_, err := h.Records.Put(t.Context(), h.Ada, store.Space{Slug: "a"}, store.Entity{Parent: h.Product, Space: "a"})
	h.OK(err)
	t.Cleanup(func() { h.Close() })
	return h
}

// Database is the path of the database.
func (h *House) Database() string { return filepath.Join(h.Dir, "attachd.db") }

// Open opens both stores.
func (h *House) Open() {
	h.Helper()
	var err error
	h.Records, err = bolt.Open(h.Database(), bolt.Options{Log: h.Database() + ".log"})
	h.OK(err)
	faults := disktest.Faults{Before: func(call string) error {
		if fail := h.faults.Load(); fail != nil && *fail != nil {
			return (*fail)(call)
		}
		return nil
	}}
	h.Blobs, err = disk.Open(h.Dir, disk.Options{Wrap: faults.Wrap})
	h.OK(err)
}

// Close closes both stores.
func (h *House) Close() {
	if err := errors.Join(h.Blobs.Close(), h.Records.Close()); err != nil {
		h.Error(err)
	}
}

// OK ends the test on an error.
func (h *House) OK(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// FailCalls has calls to the files of the blobs fail with the error that fail returns;
// nil lets all succeed.
func (h *House) FailCalls(fail func(call string) error) { h.faults.Store(&fail) }

// Keep stores a content, with a record or without.
func (h *House) Keep(content string, recorded bool) store.Attachment {
	h.Helper()
	spool, err := h.Blobs.Create(context.Background())
	h.OK(err)
	defer spool.Close()
	_, err = spool.Write([]byte(content))
	h.OK(err)
	release, err := spool.Keep(context.Background())
	h.OK(err)
	defer release()
	a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: h.Product, FileName: "a.txt", Type: "text/plain",
		Size: spool.Size(), SHA256: spool.Ref(), UploaderID: h.Ada.ID}
	if recorded {
		h.OK(h.Records.CreateAttachment(context.Background(), a, nil, ""))
	}
	return a
}

// Path returns the path of an attachment's content.
func (h *House) Path(a store.Attachment) string {
	ref := blobs.Ref(a.SHA256).String()
	return filepath.Join(h.Dir, "blobs", "sha256", ref[:2], ref)
}

// Check checks both stores.
func (h *House) Check(deep bool) upkeep.Report {
	h.Helper()
	report, err := upkeep.Check(context.Background(), h.Records, h.Blobs, upkeep.CheckOptions{Deep: deep, Marker: h.Blobs})
	h.OK(err)
	return report
}

// SpoilDatabase changes the database's file while it is closed.
func (h *House) SpoilDatabase(spoil func(tx *bbolt.Tx) error) {
	h.Helper()
	h.Close()
	db, err := bbolt.Open(h.Database(), 0o600, nil)
	h.OK(err)
	h.OK(errors.Join(db.Update(spoil), db.Close()))
	h.Open()
}
