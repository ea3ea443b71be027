package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/server"
	"attachd/server/datadir"
	"attachd/server/migrate"
	"attachd/server/ops"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/store"
)

// Storage is the opened files of a configuration: database, contents, data directory.
type Storage struct {
	Dir              *datadir.Dir
	Ballast          Ballast
	Store            store.Store
	Blobs            blobs.Store
	server.Abilities                   // of Store and Blobs
	Times            *ops.StorageTimes // of Store and Blobs
	// MoveTo opens the storage to which contents are to be moved, by its settings.
	MoveTo func(ctx context.Context, storage map[string]string) (migrate.Target, error)
	// Prepare prepares an empty database and bucket for a backup of the installation with this
	// id; nil where backups are restored into a data directory.
	Prepare func(ctx context.Context, installation uuid.UUID) error
	// Leave is called once the rest is closed; optional.
	Leave func() error
}

// Ballast is room on the disk that is given up when the disk is full.
type Ballast interface {
	ops.Ballast
	// GiveUp frees the room, and reports whether there was any.
	GiveUp() bool
}

// Close closes all of it.
func (s Storage) Close() error {
	err := errors.Join(s.Blobs.Close(), s.Store.Close())
	if s.Leave != nil {
		err = errors.Join(err, s.Leave())
	}
	return err
}

// Opening says how a storage is to be opened. Beside, Existing, Waiting and Log count where its
// records are in a database that several processes share: otherwise the state and the lock
// of the data directory decide.
type Opening struct {
	// Beside is for a command, which runs beside servers: it has neither the data directory
	// nor a part in their work.
	Beside bool
	// Existing refuses to begin a new installation in an empty database.
	Existing bool
	// Arriving opens a database to which records are being moved, and Moved one from which
	// they were moved away, to finish that. With others, no server starts in these states.
	Arriving, Moved bool
	// Waiting, where it is set, has a database waited for that is not there yet. It is
	// called with the reason, once, and with nil when the database has come.
	Waiting func(why error)
	// Log, where it is set, gets what fails in the background.
	Log *slog.Logger
}

// Held is a Storage with the note that says which process has it.
type Held struct {
	Storage
	release func() error
}

// Close removes the note first: once the files are closed, the note may be the next
// holder's.
func (s Held) Close() error { return errors.Join(s.release(), s.Storage.Close()) }

// Hold leaves a note for others of which process has a storage that was just opened. If
// it fails, the storage is closed.
func Hold(storage Storage, who string) (Held, error) {
	release, err := storage.Dir.Announce(who)
	if err != nil && storage.Ballast.GiveUp() { // an operator who wants to free space must be able to start
		release, err = storage.Dir.Announce(who)
	}
	if err != nil {
		return Held{}, errors.Join(err, storage.Close())
	}
	// On a full disk the id is made later, when it is first needed: a start must
	// succeed, so that people can delete files.
	if _, err := upkeep.Installation(context.Background(), storage.Store); err != nil && !errors.Is(err, store.ErrFull) {
		return Held{}, errors.Join(fmt.Errorf("giving the installation an id: %w", err), release(), storage.Close())
	}
	return Held{storage, release}, nil
}

// AdminKeyFile is the file with the first superadmin's key, in the data directory.
const AdminKeyFile = "admin.key"

// makeFirstAdmin creates a superadmin in a store without users, and reports whether it
// did. Of replicas that start together, one does.
func makeFirstAdmin(ctx context.Context, s Storage) (made bool, err error) {
	if s.Shared == nil {
		return makeAdmin(ctx, s)
	}
	for {
		if admin, err := firstAdmin(ctx, s.Store); err != nil || admin.ID == uuid.Nil {
			return false, err
		}
		epochs, err := s.Shared.TakeLeases(ctx, firstAdminLease)
		if err != nil {
			return false, err
		}
		if epoch, held := epochs[firstAdminLease]; held {
			made, err = makeAdmin(store.WithLease(ctx, firstAdminLease, epoch), s)
			err = errors.Join(err, s.Shared.GiveBack(ctx, firstAdminLease))
			if err != nil && !made { // the key is another's, or was not recorded
				err = errors.Join(err, os.Remove(s.Dir.Join(AdminKeyFile)))
			}
			if !errors.Is(err, store.ErrLeaseLost) {
				return made, err
			}
		}
		time.Sleep(firstAdminPoll)
	}
}

const (
	// firstAdminLease is the lease of the replica that makes the first superadmin.
	firstAdminLease = "first superadmin"
	// firstAdminPoll is how often the others look whether it has.
	firstAdminPoll = 100 * time.Millisecond
)

// makeAdmin creates the first superadmin, and reports whether it did. The key is on disk
// before it is recorded, and a superadmin left without a key by a crash is completed: the
// file never remains with a key that does not work.
func makeAdmin(ctx context.Context, s Storage) (bool, error) {
	admin, err := firstAdmin(ctx, s.Store)
	if err != nil || admin.ID == uuid.Nil {
		return false, err
	}
	now := time.Now().UTC()
	secret, prefix := token.NewKey()
	if err := s.Dir.WriteFile(AdminKeyFile, []byte(secret+"\n")); err != nil {
		return false, err
	}
	if _, err := s.Store.Put(ctx, admin); err != nil {
		return false, err
	}
	key := store.Key{ID: new(store.IDs).New(now), UserID: admin.ID, Name: AdminKeyFile, Prefix: prefix, Hash: token.Hash(secret), CreatedAt: now}
	if err := s.Store.CreateKey(ctx, key); err != nil {
		return false, err
	}
	return true, nil
}

// firstAdmin returns the superadmin to create or complete; without an id when there is
// none.
func firstAdmin(ctx context.Context, records store.Store) (store.User, error) {
	users, err := records.Users(ctx, uuid.Nil, 2)
	if err != nil || len(users) > 1 {
		return store.User{}, err
	}
	admin := store.User{FullName: "Administrator", IsSuperadmin: true}
	if len(users) == 0 {
		admin.ID = new(store.IDs).New(time.Now())
		return admin, nil
	}
	admin.ID = users[0].ID
	keys, err := records.KeysOf(ctx, admin.ID, uuid.Nil, 1)
	if err != nil || users[0] != admin || len(keys) > 0 {
		return store.User{}, err
	}
	return admin, nil
}
