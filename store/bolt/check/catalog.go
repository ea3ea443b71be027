package check

import (
	"bytes"

	"attachd/blobs"
	"attachd/store/bolt/schema"
)

// catalog compares the buckets of the catalog of objects with each other. A content that is
// in no object is not a fault of the database: it is lost, as a file that is missing is.
func (c *checker) catalog() error {
	if c.Bucket(schema.Places) == nil { // a read-only copy of an older database
		return nil
	}
	for _, part := range []func() error{c.places, c.marks, c.intents, c.garbage, c.garbageObjects} {
		if err := part(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) places() error {
	return c.each(schema.Places, len(blobs.Ref{}), func(key, value []byte) error {
		if len(key) > len(blobs.Ref{}) {
			return schema.ErrKey
		}
		p, err := schema.DecodePlace(blobs.Ref(key), value)
		if err != nil {
			return err
		}
		object := schema.ObjectKey(p.Object)
		c.want(!c.Has(schema.GarbageObject, object), "The content %s is in the object %s, which is to be deleted.", p.Ref, p.Key)
		c.want(!c.Has(schema.Intents, object), "The content %s is in the object %s, which is noted as one that is being written.", p.Ref, p.Key)
		return nil
	})
}

func (c *checker) marks() error {
	return c.each(schema.Marks, len(blobs.Ref{}), func(key, value []byte) error {
		if len(key) > len(blobs.Ref{}) {
			return schema.ErrKey
		}
		place := c.Get(schema.Places, key)
		c.want(len(place) > len(value) && len(value) == len(blobs.Key{}) && bytes.HasPrefix(place, value), "The content %x is marked as damaged in the object %x, in which it is not.", key, value)
		return nil
	})
}

func (c *checker) intents() error {
	return c.each(schema.Intents, 1, func(key, value []byte) error {
		o, err := schema.ParseObject(key)
		if err != nil {
			return err
		}
		if _, err := schema.DecodeSeconds(value); err != nil {
			return err
		}
		c.want(!c.Has(schema.GarbageObject, key), "The object %s of the content %s is being written, and is to be deleted.", o.Key, o.Ref)
		return nil
	})
}

func (c *checker) garbage() error {
	return c.each(schema.Garbage, 1, func(key, _ []byte) error {
		_, o, err := schema.ParseGarbage(key)
		if err != nil {
			return err
		}
		c.want(c.is(schema.GarbageObject, schema.ObjectKey(o), key[:len(key)-len(schema.ObjectKey(o))]), "The object %s of the content %s is to be deleted, but cannot be found by its name.", o.Key, o.Ref)
		return nil
	})
}

func (c *checker) garbageObjects() error {
	return c.each(schema.GarbageObject, 1, func(key, since []byte) error {
		o, err := schema.ParseObject(key)
		if err != nil {
			return err
		}
		if _, err := schema.DecodeSeconds(since); err != nil {
			return err
		}
		c.want(c.Has(schema.Garbage, schema.GarbageKey(since, key)), "The object %s of the content %s is not in the list of those that are to be deleted.", o.Key, o.Ref)
		return nil
	})
}
