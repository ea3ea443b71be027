package files

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"attachd/server/api"
	"attachd/store"
)

// Headers by which a superadmin who brings files from elsewhere says where they come from.
const (
	uploadedByHeader = "X-Uploaded-By"
	createdAtHeader  = "X-Created-At"
)

// provenance is whose a new attachment is, and since when: the caller's and now, unless a
// superadmin imports it.
type provenance struct {
	uploader store.User
	at       time.Time // zero: when its upload is complete
	imported bool      // a header says so
}

// provenance reads the headers of an import.
func (s *Service) provenance(rq *api.Request, sc api.Scope) (provenance, error) {
	from := provenance{uploader: sc.Caller.User}
	by, at := rq.Header.Values(uploadedByHeader), rq.Header.Values(createdAtHeader)
	if len(by) == 0 && len(at) == 0 {
		return from, nil
	}
	from.imported = true
	if err := from.allowed(sc); err != nil {
		return from, err
	}
	if len(by) > 0 {
		id, ok := api.ParseID(by[0])
		if !ok || len(by) > 1 {
			return from, api.InvalidRequest(uploadedByHeader + " must be one user's id (a UUID).")
		}
		var err error
		if from.uploader, err = s.Store.User(rq.Context(), id); errors.Is(err, store.ErrNotFound) {
			return from, api.InvalidRequest("There is no user %s. Put it in the directory first.", id)
		} else if err != nil {
			return from, err
		}
	}
	if len(at) > 0 {
		var err error
		from.at, err = time.Parse(time.RFC3339, at[0])
		switch {
		case err != nil || len(at) > 1:
			return from, api.InvalidRequest(createdAtHeader + " must be one time like 2026-01-15T10:30:00Z.")
		case from.at.Before(time.UnixMilli(0)):
			return from, api.InvalidRequest(createdAtHeader + " must not be before 1970.")
		case from.at.After(s.Now()):
			return from, api.InvalidRequest(createdAtHeader + " must not be in the future.")
		}
	}
	return from, nil
}

// allowed refuses an import by anybody but a superadmin.
func (p provenance) allowed(sc api.Scope) error {
	if p.imported && !sc.Caller.User.IsSuperadmin {
		return api.Forbidden("Only a superadmin may say in " + uploadedByHeader + " or " + createdAtHeader + " where a file comes from.")
	}
	return nil
}

// newID returns the id of the new attachment, which has its time. An old time is none
// that the server's clock was set back to.
func (p provenance) newID(ids *store.IDs, now func() time.Time) uuid.UUID {
	if !p.at.IsZero() {
		return new(store.IDs).New(p.at)
	}
	return ids.New(now())
}
