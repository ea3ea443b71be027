package dbfile

import (
	"sync"

	"attachd/store/bolt/schema"
)

// Load reads a JSON record; nil when there is none.
func Load[Record any](tx *Tx, bucket, key []byte) (*Record, error) {
	data := tx.Get(bucket, key)
	if data == nil {
		return nil, nil
	}
	return schema.Decode[Record](bucket, data)
}

// Cache is a cache of decoded JSON records of those kinds that nearly every request
// reads. Its key is all the bytes of a record, so that a changed record has another
// key, and entries are evicted only to make room.
type Cache[Record any] struct {
	mu      sync.RWMutex
	records map[string]*Record
}

// cachedRecords is how many records of a kind are cached; each is a few hundred
// bytes.
const cachedRecords = 4096

// Load is the function Load, for records that the caller does not modify.
func (d *Cache[Record]) Load(tx *Tx, bucket, key []byte) (*Record, error) {
	data := tx.Get(bucket, key)
	if data == nil {
		return nil, nil
	}
	d.mu.RLock()
	record := d.records[string(data)]
	d.mu.RUnlock()
	if record != nil {
		return record, nil
	}
	record, err := schema.Decode[Record](bucket, data)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil || len(d.records) >= cachedRecords {
		d.records = make(map[string]*Record)
	}
	d.records[string(data)] = record
	return record, nil
}
