package schema

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"attachd/store"
)

// UserRecord is a user, deleted or not.
type UserRecord struct {
	FullName         string `json:"full_name"`
	IsSuperadmin     bool   `json:"superadmin,omitempty"`
	IsRecordsManager bool   `json:"records,omitempty"`
	Deleted          bool   `json:"deleted,omitempty"`
}

// User is the user of the record.
func (r UserRecord) User(id uuid.UUID) store.User {
	return store.User{ID: id, FullName: r.FullName, IsSuperadmin: r.IsSuperadmin, IsRecordsManager: r.IsRecordsManager}
}

// NewUserRecord is the record of a user.
func NewUserRecord(u store.User, deleted bool) UserRecord {
	return UserRecord{FullName: u.FullName, IsSuperadmin: u.IsSuperadmin, IsRecordsManager: u.IsRecordsManager, Deleted: deleted}
}

// SpaceRecord is a space.
type SpaceRecord struct {
	Name       string `json:"name"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"`
	QuotaFiles int64  `json:"quota_files,omitempty"`
	Auto       bool   `json:"auto,omitempty"`
}

// Space is the space of the record.
func (r SpaceRecord) Space(slug string) store.Space {
	return store.Space{Slug: slug, Name: r.Name, QuotaBytes: r.QuotaBytes, QuotaFiles: r.QuotaFiles, Auto: r.Auto}
}

// EntityRecord is a product, ticket or meeting.
type EntityRecord struct {
	Space   string    `json:"space"`
	Name    string    `json:"name,omitempty"`
	OwnerID uuid.UUID `json:"owner,omitzero"`
	// Comments is the last number that a comment of the ticket was given.
	Comments int `json:"comments,omitempty"`
}

// CommentRecord is a comment of a ticket.
type CommentRecord struct {
	Number    int       `json:"number"`
	CreatedAt time.Time `json:"created,omitzero"`
}

// KeyRecord is an API key.
type KeyRecord struct {
	UserID    uuid.UUID `json:"user"`
	Name      string    `json:"name"`
	Prefix    string    `json:"prefix"`
	Hash      []byte    `json:"hash"`
	CreatedAt time.Time `json:"created"`
	ExpiresAt time.Time `json:"expires,omitzero"`
}

// SessionRecord is a session.
type SessionRecord struct {
	KeyID     uuid.UUID `json:"key"`
	ExpiresAt time.Time `json:"expires"`
}

// Decode reads a JSON record of a bucket.
func Decode[Record any](bucket, data []byte) (*Record, error) {
	var record Record
	if err := json.Unmarshal(data, &record); err != nil {
		return nil, fmt.Errorf("damaged record in bucket %q: %w", bucket, err)
	}
	return &record, nil
}

// DecodeCommentRecord reads the record of a comment. Older databases have
// an empty one.
func DecodeCommentRecord(data []byte) (*CommentRecord, error) {
	if len(data) == 0 {
		return &CommentRecord{}, nil
	}
	return Decode[CommentRecord](Comments, data)
}

// DecodeComment reads a comment.
func DecodeComment(ticket, id uuid.UUID, value []byte) (store.Comment, error) {
	record, err := DecodeCommentRecord(value)
	if err != nil {
		return store.Comment{}, err
	}
	return store.Comment{TicketID: ticket, ID: id, CreatedAt: record.CreatedAt, Number: record.Number}, nil
}

// EncodeUsage encodes the usage of a space.
func EncodeUsage(u store.Usage) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(u.Bytes))
	return binary.BigEndian.AppendUint64(out, uint64(u.Files))
}

// DecodeUsage reads the usage of a space: none where there is no entry.
func DecodeUsage(data []byte) (store.Usage, error) {
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

// DecodeRole reads the role of a member.
func DecodeRole(value []byte) (store.Role, error) {
	if len(value) != 1 {
		return store.NoRole, fmt.Errorf("damaged role of a member: %x", value)
	}
	return store.Role(value[0]), nil
}

// EncodeSeconds encodes a time in unix seconds.
func EncodeSeconds(seconds int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(seconds))
}
