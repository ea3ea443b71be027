package check

import (
	"github.com/google/uuid"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/schema"
)

// holds compares the legal holds with the index of what they are on, and that with what is
// there: what is held can be nowhere else.
func (c *checker) holds() error {
	if c.Bucket(schema.Holds) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Holds, 16, func(key, value []byte) error {
		id, err := schema.ParseID(key)
		if err != nil {
			return err
		}
		r, err := schema.Decode[schema.HoldRecord](schema.Holds, value)
		if err != nil {
			return err
		}
		on := r.Hold(id).On
		c.want(c.Has(schema.Held, r.Hold(id).Place()), "The hold %s is not in the index of what is held.", id)
		c.want(r.ByID == uuid.Nil || c.Has(schema.Users, r.ByID[:]), "The hold %s was set by user %s, who is not there.", id, r.ByID)
		c.want(c.Has(schema.Spaces, []byte(on.Space)), "The hold %s is in the space %q, which is not there.", id, on.Space)
		if on.Parent != (store.Parent{}) {
			e, err := dbfile.Load[schema.EntityRecord](c.Tx, schema.Entities, schema.ParentKey(on.Parent))
			c.want(err == nil && e != nil && e.Space == on.Space, "The hold %s is on the %s %s, which is not in the space %q.", id, on.Parent.Kind, on.Parent.ID, on.Space)
		}
		if on.Attachment != uuid.Nil {
			c.want(c.Has(schema.Attachments, schema.Join(schema.ParentKey(on.Parent), on.Attachment[:])), "The hold %s is on the attachment %s, which is not there.", id, on.Attachment)
		}
		return nil
	})
}

// held finds entries of the index that belong to no hold.
func (c *checker) held() error {
	if c.Bucket(schema.Held) == nil {
		return nil
	}
	return c.each(schema.Held, 1+17+16+16, func(key, _ []byte) error {
		h, err := schema.ParseHeld(key)
		if err != nil {
			return err
		}
		r, err := dbfile.Load[schema.HoldRecord](c.Tx, schema.Holds, h.ID[:])
		c.want(err == nil && r != nil && r.Hold(h.ID).On == h.On, "The index of what is held has the hold %s, which is not there, or on something else.", h.ID)
		return nil
	})
}
