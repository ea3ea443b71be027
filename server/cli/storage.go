package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/server/config"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/store"
)

// heldStorage is Storage with the note that says who has it.
type heldStorage struct {
	Storage
	release func() error
}

// close takes the note away first: once the files are let go, the note may be
// the next holder's.
func (s heldStorage) close() error { return errors.Join(s.release(), s.Close()) }

// openStorage opens what cfg names and leaves a note for others of who has it.
func (a *App) openStorage(cfg config.Config, who string) (heldStorage, error) {
	storage, err := a.open(cfg)
	if err != nil {
		return heldStorage{}, err
	}
	release, err := storage.Dir.Hold(who)
	if err != nil && storage.Ballast.GiveUp() { // whoever comes to clean up must be let in
		release, err = storage.Dir.Hold(who)
	}
	if err != nil {
		return heldStorage{}, errors.Join(err, storage.Close())
	}
	// On a full disk the id is made later, when it is first asked for: a start
	// must succeed, so that people can delete files.
	if _, err := upkeep.Installation(context.Background(), storage.Store); err != nil && !errors.Is(err, store.ErrFull) {
		return heldStorage{}, errors.Join(fmt.Errorf("giving the installation an id: %w", err), release(), storage.Close())
	}
	return heldStorage{storage, release}, nil
}

const adminKeyFile = "admin.key"

// makeFirstAdmin gives a store without users a superadmin, and says whether
// it did. The key is on disk before anybody has it, and a superadmin whom a
// crash left without one is taken up again: nobody is left with a key in the
// file that does not work.
func makeFirstAdmin(ctx context.Context, s Storage) (bool, error) {
	admin, err := firstAdmin(ctx, s.Store)
	if err != nil || admin.ID == uuid.Nil {
		return false, err
	}
	now := time.Now().UTC()
	secret, prefix := token.NewKey()
	if err := s.Dir.WriteFile(adminKeyFile, []byte(secret+"\n")); err != nil {
		return false, err
	}
	if _, err := s.Store.Put(ctx, admin); err != nil {
		return false, err
	}
	key := store.Key{ID: new(store.IDs).New(now), UserID: admin.ID, Name: adminKeyFile, Prefix: prefix, Hash: token.Hash(secret), CreatedAt: now}
	if err := s.Store.CreateKey(ctx, key); err != nil {
		return false, err
	}
	return true, nil
}

// firstAdmin is the superadmin to make, or to finish making; without an id
// when there is none to make.
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
