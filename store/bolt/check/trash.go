package check

import (
	"bytes"

	"attachd/store"
	"attachd/store/bolt/dbfile"
	"attachd/store/bolt/records"
	"attachd/store/bolt/schema"
)

// trashedOnes compares the attachments that are in the trash by themselves with the indexes.
func (c *checker) trashedOnes() error {
	if c.Bucket(schema.Trash) == nil { // a read-only copy of an older database
		return nil
	}
	return c.each(schema.Trash, 33, func(key, value []byte) error {
		p, id, err := schema.ParseAttachmentKey(key)
		if err != nil {
			return err
		}
		t, a, err := schema.DecodeTrash(p, id, value)
		if err != nil {
			return err
		}
		c.trash = c.trash.Plus(a.Usage())
		c.want(c.is(schema.AttachmentIDs, id[:], schema.Join(key[:17], schema.InTrash)), "Attachment %s in the trash cannot be found by its id.", id)
		c.want(c.is(schema.Contents, schema.Join(a.SHA256[:], id[:]), schema.InTrash), "Attachment %s in the trash cannot be found by its content %x.", id, a.SHA256)
		c.want(c.Has(schema.Users, a.UploaderID[:]), "Attachment %s in the trash was uploaded by user %s, who is not there.", id, a.UploaderID)
		c.wantIndexed(schema.TrashKey(a), t.Deletion, schema.Slug0(t.Space))
		return nil
	})
}

// wantIndexed reports a fault unless both indexes have something in the trash.
func (c *checker) wantIndexed(key []byte, d store.Deletion, space []byte) {
	c.want(c.Has(schema.TrashUntil, schema.UntilKey(d.Until, key)), "What is in the trash as %x cannot be found by the time when it ends.", key)
	c.want(c.Has(schema.TrashSpaces, schema.Join(space, schema.TrashPlace(d.At, key))), "What is in the trash as %x is not in the list of its space.", key)
}

// trashObjects compares the parents and spaces in the trash with what is below, and with the
// indexes.
func (c *checker) trashObjects() error {
	if c.Bucket(schema.TrashObjects) == nil {
		return nil
	}
	return c.each(schema.TrashObjects, 2, func(key, value []byte) error {
		t, err := schema.Decode[schema.TrashedObject](schema.TrashObjects, value)
		if err != nil {
			return err
		}
		c.wantTrashed(key, t.Files)
		c.wantIndexed(key, t.Deletion(), t.ListedIn())
		switch {
		case key[0] == schema.RemovesParent && t.Entity != nil:
			c.want(!c.Has(schema.Entities, key[1:]), "The product, ticket or meeting %x is in the trash, but it is there.", key[1:])
		case key[0] == schema.RemovesSpace && t.Record != nil:
			c.want(!c.Has(schema.Spaces, key[1:]), "The space %q is in the trash, but it is there.", key[1:])
		default:
			return schema.ErrKey
		}
		c.want(!records.IsRemoving(c.Tx, key), "What is in the trash as %x is being removed.", key)
		return nil
	})
}

// wantTrashed reports a fault unless that much is below something in the trash, and counts it.
func (c *checker) wantTrashed(key []byte, counted store.Usage) {
	found := c.trashed[string(key)]
	c.want(counted == found, "What is in the trash as %x is counted as %d bytes in %d files, but its files are %d bytes in %d.",
		key, counted.Bytes, counted.Files, found.Bytes, found.Files)
	c.trash = c.trash.Plus(counted)
}

// trashUntil finds entries of the index by time that belong to nothing.
func (c *checker) trashUntil() error {
	if c.Bucket(schema.TrashUntil) == nil {
		return nil
	}
	return c.each(schema.TrashUntil, 8+2, func(entry, _ []byte) error {
		until, key, err := schema.ParseUntil(entry)
		if err != nil {
			return err
		}
		d, _, err := c.deletionOf(key)
		c.want(err == nil && d.Until.Equal(until), "The index of times has %x in the trash, which does not end then.", key)
		return nil
	})
}

// trashSpaces finds entries of the lists of spaces that belong to nothing.
func (c *checker) trashSpaces() error {
	if c.Bucket(schema.TrashSpaces) == nil {
		return nil
	}
	return c.each(schema.TrashSpaces, 1+8+2, func(entry, _ []byte) error {
		slug, place, found := bytes.Cut(entry, []byte{0})
		if !found || len(place) < 8+2 {
			return schema.ErrKey
		}
		key := place[8:]
		d, list, err := c.deletionOf(key)
		c.want(err == nil && bytes.Equal(list, schema.Slug0(string(slug))) && bytes.Equal(place, schema.TrashPlace(d.At, key)), "The trash of space %q has %x, which is not in it, or was not deleted then.", slug, key)
		return nil
	})
}

// deletionOf reads when something in the trash was deleted, and in which list it is.
func (c *checker) deletionOf(key []byte) (d store.Deletion, list []byte, err error) {
	if key[0] == schema.TrashesAttachment {
		p, id, err := schema.ParseAttachmentKey(key[1:])
		if err != nil {
			return d, nil, err
		}
		t, _, err := schema.DecodeTrash(p, id, c.Get(schema.Trash, key[1:]))
		return t.Deletion, schema.Slug0(t.Space), err
	}
	t, err := dbfile.Load[schema.TrashedObject](c.Tx, schema.TrashObjects, key)
	if err == nil && t == nil {
		err = schema.ErrKey
	}
	if err != nil {
		return d, nil, err
	}
	return t.Deletion(), t.ListedIn(), nil
}

// trashSum compares the counter of the trash with what was found.
func (c *checker) trashSum() error {
	sum, err := records.TrashSum(c.Tx)
	c.want(err != nil || sum == c.trash, "The trash is counted as %d bytes in %d files, but its files are %d bytes in %d.", sum.Bytes, sum.Files, c.trash.Bytes, c.trash.Files)
	return err
}
