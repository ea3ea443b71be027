package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/google/uuid"

	"attachd/store"
)

// ErrForeign means that an archive belongs to another installation.
var ErrForeign = errors.New("it is the backup of another installation")

// Installation returns the id of the installation to which the archive belongs. It is
// zero for a new archive, and for one to which only earlier versions have added.
func (a *Archive) Installation() (uuid.UUID, error) {
	raw, err := a.read(installationFile, maxShort)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(raw)))
		if err != nil {
			return uuid.Nil, fmt.Errorf("%s does not hold the id of an installation", a.path(installationFile))
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return uuid.Nil, err
	}
	names, err := a.PointNames()
	if err != nil {
		return uuid.Nil, err
	}
	for _, name := range names { // the first point with an id identifies it
		if p, err := a.Find(name); err == nil && p.Installation != uuid.Nil {
			return p.Installation, nil
		}
	}
	return uuid.Nil, nil
}

// bind records that the archive belongs to an installation.
func (a *Archive) bind(id uuid.UUID) error {
	return a.replace(installationFile, []byte(id.String()+"\n"))
}

// foreign returns an ErrForeign that names both installations.
func (a *Archive) foreign(whose, here uuid.UUID) error {
	newest := "it has no restore point that can be read"
	if p, err := a.Find(""); err == nil {
		newest = fmt.Sprintf("its newest restore point, %s, has %d attachments", p.Name, p.Attachments)
	}
	name := func(id uuid.UUID) string {
		if id == uuid.Nil {
			return "of an earlier version, without an id"
		}
		return id.String()
	}
	return fmt.Errorf("%s: %w (%s; this one is %s): %s. Nothing was changed in it. Name another folder for this installation; if this one should be that one, see that its disk is mounted and --data-dir is right",
		a.dir, ErrForeign, name(whose), name(here), newest)
}

// adopt determines whether restore points without an installation id, as earlier
// versions made them, belong to the installation that is being backed up, and
// writes its id into those that do. They do if they share an attachment or a key
// with it, whose random ids no other installation has.
func (n *addition) adopt(ctx context.Context, records Records) error {
	here := n.AddOptions.Installation
	names, err := n.PointNames()
	if err != nil {
		return err
	}
	known, ours := 0, 0
	for _, name := range names {
		p, err := n.Find(name)
		if err != nil {
			continue // its records cannot be read, so it proves nothing
		}
		known++
		related := p.Installation != uuid.Nil && p.Installation == here
		if !related && (p.Installation == uuid.Nil || here == uuid.Nil) {
			if related, err = n.related(ctx, p, records, n.Open); err != nil {
				return err
			}
		}
		if !related {
			continue
		}
		ours++
		if p.Installation != here && here != uuid.Nil {
			p.Installation = here
			if err := n.rewrite(p); err != nil {
				return err
			}
		}
	}
	if known > 0 && ours == 0 {
		return n.foreign(n.bound, here)
	}
	return nil
}

// related reports whether a point shares an attachment or a key with records. A damaged
// point counts as unrelated.
func (a *Archive) related(ctx context.Context, p Point, records Records, open Open) (found bool, err error) {
	faults, err := a.spoiled(ctx, p)
	if err != nil || len(faults) > 0 {
		return false, err
	}
	err = a.withRecords(open, p, func(old Records) error {
		found, err = shareAttachments(ctx, old, records)
		if err == nil && !found {
			found, err = shareKeys(ctx, old, records)
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		return false, nil // its records cannot be read
	}
	return found, err
}

func shareAttachments(ctx context.Context, old, records Records) (bool, error) {
	var last uuid.UUID
	for {
		page, err := old.AllAttachments(ctx, last, recordsAtOnce)
		if err != nil {
			return false, err
		}
		for _, r := range page {
			last = r.ID
			if _, err := records.Attachment(ctx, r.ID); !errors.Is(err, store.ErrNotFound) {
				return err == nil, err
			}
		}
		if len(page) < recordsAtOnce {
			return false, nil
		}
	}
}

func shareKeys(ctx context.Context, old, records Records) (bool, error) {
	var last uuid.UUID
	for {
		users, err := old.Users(ctx, last, recordsAtOnce)
		if err != nil {
			return false, err
		}
		for _, u := range users {
			last = u.ID
			keys, err := old.KeysOf(ctx, u.ID, uuid.Nil, recordsAtOnce)
			if err != nil {
				return false, err
			}
			for _, k := range keys {
				if _, _, err := records.Key(ctx, k.ID); !errors.Is(err, store.ErrNotFound) {
					return err == nil, err
				}
			}
		}
		if len(users) < recordsAtOnce {
			return false, nil
		}
	}
}
