package ops

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"attachd/server/api"
	"attachd/server/contents"
	"attachd/server/migrate"
	"attachd/server/upkeep"
	"attachd/store"
)

// restartToKnow says what to do when it is not known where the contents are.
const restartToKnow = "Restart the server: it starts only with the configuration of the storage that has them, and otherwise says which one that is."

// Migrate moves the contents to another storage. Once they are there, the server reads from
// the old one and refuses changes, until it is started anew.
func (s *Service) Migrate(w *api.Response, rq *api.Request, sc api.Scope) error {
	var order struct {
		Storage       map[string]string `json:"storage"`
		DespiteDamage bool              `json:"despite_damage"`
		GiveUp        bool              `json:"give_up"`
	}
	if s.MoveTo == nil {
		return notWithThisStorage("Moving the contents")
	}
	if err := rq.ReadJSON(&order); err != nil {
		return err
	}
	busy := "The contents are being moved already. Wait for that to end."
	if order.GiveUp {
		busy = "A migration is under way. End it first; where its process was killed, try again in some seconds."
	}
	held, release, err := s.alone(rq, migrating, busy)
	if err != nil {
		return err
	}
	defer release()
	switch why := s.Contents.MayChange(); {
	case errors.Is(why, contents.ErrMoved):
		return api.Conflict("The contents were moved already. Put the section [storage] of the new configuration into that of the server, and restart it.")
	case errors.Is(why, contents.ErrPerhapsMoved):
		return api.Conflict("It is not known whether the contents were moved. %s", restartToKnow)
	case order.GiveUp:
		return s.giveUpMigration(held, w, rq)
	}
	return s.work(held, release, w, rq, func(ctx context.Context, progress upkeep.ProgressFunc) (any, error) {
		report, err := s.migrate(ctx, rq, order.Storage, migrate.Options{DespiteDamage: order.DespiteDamage, Progress: progress})
		switch { // the operator is told all of it
		case errors.Is(err, contents.ErrPerhapsMoved):
			rq.Log().Error("the switch to the new storage failed: uploads and deletions are refused until the server is restarted", "error", err)
			err = api.Conflict("The switch to the new storage failed: %v. %s", err, restartToKnow)
		case err != nil && ctx.Err() == nil:
			rq.Log().Warn("the contents were not moved", "error", err)
			err = api.Conflict("The contents were not moved: %v.", err)
		}
		return report, err
	})
}

// giveUpMigration has changes possible again, where a migration has ended without saying so.
// The lease of ctx keeps one that only stood still from going on.
func (s *Service) giveUpMigration(ctx context.Context, w *api.Response, rq *api.Request) error {
	moved, err := upkeep.IsMoved(ctx, s.Store)
	if err != nil {
		return err
	}
	if moved {
		return api.Conflict("The records were moved already. Run `attachd migrate` again as before, or start the server with the configuration that they were moved to.")
	}
	if frozen, is := s.Store.(store.Freezer); is {
		if err := frozen.Thaw(ctx); err != nil {
			return err
		}
	}
	return rq.Answer(w, http.StatusOK, api.Message("The migration was given up"))
}

// migrate keeps what is deleted at the old place until the end, so that nothing goes missing
// on its way.
func (s *Service) migrate(ctx context.Context, rq *api.Request, storage map[string]string, o migrate.Options) (report migrate.Report, err error) {
	if o.To, err = s.MoveTo(ctx, storage); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, o.To.Close()) }()
	_, end, err := s.Contents.Lease(ctx) // what goes missing without it is copied by a later pass, or has no record any more
	if err != nil {
		return report, err
	}
	defer func() { end(s.upkeep.running, rq.Log) }()
	o.Records, o.From, o.RoomFor, o.Pause, o.Flush = s.Store, s.Contents, s.Contents.RoomFor, s.Contents.Pause, s.flushAll
	report, err = migrate.Run(ctx, o)
	if report.Moved {
		rq.Log().Warn("the contents were moved: uploads and deletions are refused until the server is restarted with its new configuration", "to", o.To.Home, "contents", report.Contents, "bytes", report.Bytes)
	}
	return report, err
}

// flushAll has nothing staged any more.
func (s *Service) flushAll(ctx context.Context) error {
	err := s.Contents.Flush(ctx)
	if left := s.Contents.Staged().Contents; err == nil && left > 0 {
		err = fmt.Errorf("%d contents are still in the write-ahead log", left)
	}
	return err
}
