package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"sync"
	"time"

	"attachd/store"

	"github.com/google/uuid"
)

// An attachment's record is, in this order:
//
//	version    1 byte: 1
//	comment    uvarint: how many bytes follow, 0 or 16; the id
//	size       uvarint
//	sha256     32 bytes
//	uploader   16 bytes
//	file name  uvarint: how many bytes follow; the bytes
//	type       likewise
//
// Its id and parent are in the key. All other records are JSON.
const recordVersion = 1

var errRecord = errors.New("damaged record of an attachment")

func encodeRecord(a store.Attachment) []byte {
	out := make([]byte, 0, 2+16+binary.MaxVarintLen64+32+16+2*binary.MaxVarintLen32+len(a.FileName)+len(a.Type))
	out = append(out, recordVersion)
	if a.CommentID.Valid {
		out = append(out, 16)
		out = append(out, a.CommentID.UUID[:]...)
	} else {
		out = append(out, 0)
	}
	out = binary.AppendUvarint(out, uint64(a.Size))
	out = append(out, a.SHA256[:]...)
	out = append(out, a.UploaderID[:]...)
	out = binary.AppendUvarint(out, uint64(len(a.FileName)))
	out = append(out, a.FileName...)
	out = binary.AppendUvarint(out, uint64(len(a.Type)))
	return append(out, a.Type...)
}

func decodeRecord(p store.Parent, id uuid.UUID, data []byte) (store.Attachment, error) {
	d := decoder{rest: data}
	if version := d.take(1); d.failed || version[0] != recordVersion {
		return store.Attachment{}, errRecord
	}
	a := store.Attachment{ID: id, Parent: p}
	switch comment := d.take(d.uvarint()); len(comment) {
	case 0:
	case 16:
		a.CommentID = uuid.NullUUID{UUID: uuid.UUID(comment), Valid: true}
	default:
		d.failed = true
	}
	size := d.uvarint()
	copy(a.SHA256[:], d.take(32))
	copy(a.UploaderID[:], d.take(16))
	a.FileName, a.Type = d.twoStrings()
	if d.failed || size > math.MaxInt64 || len(d.rest) > 0 {
		return store.Attachment{}, errRecord
	}
	a.Size = int64(size)
	return a, nil
}

// decoder takes a record apart and remembers when there was too little of it.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n uint64) []byte {
	if d.failed || n > uint64(len(d.rest)) {
		d.failed = true
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// twoStrings takes two strings with their lengths. They share their memory, since
// a list has many of them.
func (d *decoder) twoStrings() (first, second string) {
	n := d.uvarint()
	both := d.rest
	d.take(n)
	m := d.uvarint()
	at := len(both) - len(d.rest)
	if d.take(m); d.failed {
		return "", ""
	}
	text := string(both[:at+int(m)])
	return text[:n], text[at:]
}

type userRecord struct {
	FullName     string `json:"full_name"`
	IsSuperadmin bool   `json:"superadmin,omitempty"`
	Deleted      bool   `json:"deleted,omitempty"`
}

type spaceRecord struct {
	Name       string `json:"name"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"`
	QuotaFiles int64  `json:"quota_files,omitempty"`
	Auto       bool   `json:"auto,omitempty"`
}

type entityRecord struct {
	Space   string    `json:"space"`
	Name    string    `json:"name,omitempty"`
	OwnerID uuid.UUID `json:"owner,omitzero"`
	// Comments is the last number that a comment of the ticket was given.
	Comments int `json:"comments,omitempty"`
}

type commentRecord struct {
	Number    int       `json:"number"`
	CreatedAt time.Time `json:"created,omitzero"`
}

type keyRecord struct {
	UserID    uuid.UUID `json:"user"`
	Name      string    `json:"name"`
	Prefix    string    `json:"prefix"`
	Hash      []byte    `json:"hash"`
	CreatedAt time.Time `json:"created"`
	ExpiresAt time.Time `json:"expires,omitzero"`
}

type sessionRecord struct {
	KeyID     uuid.UUID `json:"key"`
	ExpiresAt time.Time `json:"expires"`
}

// load reads a JSON record; nil when there is none.
func load[Record any](tx *dbTx, bucket, key []byte) (*Record, error) {
	data := tx.get(bucket, key)
	if data == nil {
		return nil, nil
	}
	return decode[Record](bucket, data)
}

func decode[Record any](bucket, data []byte) (*Record, error) {
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("damaged record in bucket %q: %w", bucket, err)
	}
	return &record, nil
}

// decodeComment reads the record of a comment. Older databases know no more of
// it than that it is there.
func decodeComment(data []byte) (*commentRecord, error) {
	if len(data) == 0 {
		return &commentRecord{}, nil
	}
	return decode[commentRecord](bucketComments, data)
}

// decoded remembers what JSON records decode to, for those that nearly every
// request reads. It knows them by all their bytes, so a record that changes is
// another one, and nothing has to be forgotten but for room.
type decoded[Record any] struct {
	mu      sync.RWMutex
	records map[string]*Record
}

// rememberedRecords is how many are remembered of a kind; each is some
// hundred bytes.
const rememberedRecords = 4096

// load is load, for records that the caller leaves as they are.
func (d *decoded[Record]) load(tx *dbTx, bucket, key []byte) (*Record, error) {
	data := tx.get(bucket, key)
	if data == nil {
		return nil, nil
	}
	d.mu.RLock()
	record := d.records[string(data)]
	d.mu.RUnlock()
	if record != nil {
		return record, nil
	}
	record, err := decode[Record](bucket, data)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil || len(d.records) >= rememberedRecords {
		d.records = make(map[string]*Record)
	}
	d.records[string(data)] = record
	return record, nil
}

// save writes a JSON record.
func (tx *writeTx) save(bucket, key []byte, record any) {
	data, err := json.Marshal(record)
	if err != nil {
		tx.err = errors.Join(tx.err, fmt.Errorf("encode for bucket %q: %w", bucket, err))
		return
	}
	tx.put(bucket, key, data)
}

func encodeUsage(u store.Usage) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(u.Bytes))
	return binary.BigEndian.AppendUint64(out, uint64(u.Files))
}

func decodeUsage(data []byte) (store.Usage, error) {
	switch len(data) {
	case 0:
		return store.Usage{}, nil
	case 16:
		return store.Usage{
			Bytes: int64(binary.BigEndian.Uint64(data)),
			Files: int64(binary.BigEndian.Uint64(data[8:])),
		}, nil
	}
	return store.Usage{}, errors.New("damaged record of a space's usage")
}

// nothing is the value of keys that say all. It is not nil, since a bucket
// gives nil for what is not there.
var nothing = []byte{}

// has says whether a key is there.
func has(tx *dbTx, bucket, key []byte) bool {
	return tx.get(bucket, key) != nil
}

// join makes a key of its parts.
func join(parts ...[]byte) []byte {
	return bytes.Join(parts, nil)
}

func parentKey(p store.Parent) []byte {
	return append([]byte{byte(p.Kind)}, p.ID[:]...)
}

func parseParent(data []byte) (p store.Parent, err error) {
	if len(data) != 17 {
		return p, errors.New("damaged key of a product, ticket or meeting")
	}
	p.Kind = store.Kind(data[0])
	copy(p.ID[:], data[1:])
	return p, nil
}

func parseID(data []byte) (uuid.UUID, error) {
	id, err := uuid.FromBytes(data)
	if err != nil {
		return id, fmt.Errorf("damaged key: %w", err)
	}
	return id, nil
}

func slug0(slug string) []byte {
	return append([]byte(slug), 0)
}

// timeKey is 12 bytes in the order of time; the sign is turned over because
// times before 1970 would come last otherwise.
func timeKey(t time.Time) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(t.Unix())^1<<63)
	return binary.BigEndian.AppendUint32(out, uint32(t.Nanosecond()))
}

// under runs through the pairs whose keys begin with prefix, from the first
// after prefix+after on, and yields what follows the prefix. They are gone
// when the transaction is. The bucket must not be changed meanwhile.
func under(tx *dbTx, bucket, prefix, after []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		start := join(prefix, after)
		cursor := tx.entries(bucket)
		key, value := cursor.Seek(start)
		if len(after) > 0 && bytes.Equal(key, start) {
			key, value = cursor.Next()
		}
		for key != nil && bytes.HasPrefix(key, prefix) {
			if cursor.must(); !yield(key[len(prefix):], value) {
				return
			}
			key, value = cursor.Next()
		}
		tx.mustKnowKeys(bucket) // the entry behind may have been one of these
	}
}

// hasUnder says whether any key begins with prefix.
func hasUnder(tx *dbTx, bucket, prefix []byte) bool {
	for range under(tx, bucket, prefix, nil) {
		return true
	}
	return false
}

// restsUnder copies what follows the prefix in all keys that begin with it,
// so that the bucket can be changed.
func restsUnder(tx *dbTx, bucket, prefix []byte) (rests [][]byte) {
	for rest := range under(tx, bucket, prefix, nil) {
		rests = append(rests, bytes.Clone(rest))
	}
	return rests
}
