package bolt

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/blobs"
	"attachd/store"
	"attachd/store/backend"
	"attachd/store/bolt/pages"
	"attachd/store/bolt/schema"
	"attachd/store/bolt/wal"
)

// damaged is a database with an entry of every kind, to be damaged.
type damaged struct {
	user       store.User
	ticket     store.Entity
	attachment store.Attachment
	trashed    store.Attachment // in the trash by itself
	meeting    store.Entity     // in the trash with an attachment
	inMeeting  store.Attachment
	key        store.Key
	session    store.Session
	place      blobs.Place  // of the attachment's content
	intent     blobs.Object // that is being written
	garbage    blobs.Object
	hold       store.Hold // on the attachment
}

func makeDamaged(t *testing.T, path string) damaged {
	t.Helper()
	at := time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC)
	d := damaged{user: store.User{ID: uuid.New(), FullName: "Ada"}}
	d.ticket = store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: "a", OwnerID: d.user.ID}
	comment := store.Comment{TicketID: d.ticket.ID, ID: uuid.New()}
	d.attachment = store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: d.ticket.Parent, FileName: "a.txt", Type: "text/plain",
		CommentID: uuid.NullUUID{UUID: comment.ID, Valid: true}, Size: 10, SHA256: [32]byte{1}, UploaderID: d.user.ID}
	d.key = store.Key{ID: uuid.New(), UserID: d.user.ID, Hash: [32]byte{2}, CreatedAt: at}
	d.session = store.Session{Hash: [32]byte{3}, KeyID: d.key.ID, ExpiresAt: at}
	b := open(t, path)
	_, err := b.Put(t.Context(), d.user, store.Space{Slug: "a"}, store.Member{Space: "a", UserID: d.user.ID, Role: store.Editor}, d.ticket, comment)
	err = errors.Join(err,
		b.CreateAttachment(t.Context(), d.attachment, nil, ""),
		b.CreateKey(t.Context(), d.key),
		b.CreateSession(t.Context(), d.session, at))
	b.TouchKey(d.key.ID, at)
	d.hold = store.Hold{ID: uuid.Must(uuid.NewV7()), On: store.Held{Attachment: d.attachment.ID}, Reason: "case 4711", ByID: d.user.ID}
	if err == nil {
		_, err = b.SetHold(t.Context(), d.hold)
	}
	if err := errors.Join(err, d.inTrash(t, b, at), d.inObjects(t, b), b.Close()); err != nil {
		t.Fatal(err)
	}
	return d
}

// inTrash leaves something of every kind in the trash.
func (d *damaged) inTrash(t *testing.T, b *Store, at time.Time) error {
	d.trashed, d.inMeeting = d.attachment, d.attachment
	d.trashed.ID, d.trashed.SHA256 = uuid.Must(uuid.NewV7()), [32]byte{8}
	d.meeting = store.Entity{Parent: store.Parent{Kind: store.Meeting, ID: uuid.New()}, Space: "a", Name: "Meeting"}
	d.inMeeting.ID, d.inMeeting.SHA256, d.inMeeting.Parent, d.inMeeting.CommentID = uuid.Must(uuid.NewV7()), [32]byte{9}, d.meeting.Parent, uuid.NullUUID{}
	deletion := store.Deletion{At: at, Until: at.AddDate(0, 0, 7), ByID: d.user.ID}
	_, err := b.Put(t.Context(), d.meeting)
	err = errors.Join(err, b.CreateAttachment(t.Context(), d.trashed, nil, ""), b.CreateAttachment(t.Context(), d.inMeeting, nil, ""))
	if err == nil {
		_, err = b.TrashAttachment(t.Context(), d.trashed.ID, deletion)
	}
	return errors.Join(err, b.TrashEntity(t.Context(), d.meeting.Parent, true, deletion))
}

// inObjects makes the database one whose contents are in an object store, with an object of
// every kind. The content of the attachment is in one, and marked.
func (d *damaged) inObjects(t *testing.T, b *Store) error {
	c, err := b.Catalog(t.Context())
	if err != nil {
		return err
	}
	d.place = blobs.Place{Object: blobs.NewObject(d.attachment.SHA256), Size: d.attachment.Size, Stored: time.Unix(1_700_000_000, 0)}
	d.intent, d.garbage = blobs.NewObject([32]byte{4}), blobs.NewObject([32]byte{5})
	return errors.Join(
		c.Intend(t.Context(), []blobs.Object{d.place.Object, d.intent, d.garbage}),
		c.Settle(t.Context(), []blobs.Place{d.place}),
		c.Mark(t.Context(), d.place.Object, true),
		c.Discard(t.Context(), []blobs.Object{d.garbage}))
}

// faultsOf opens the database and checks it.
func faultsOf(t *testing.T, path string) string {
	t.Helper()
	b := open(t, path)
	defer b.Close()
	faults, err := b.Check(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(faults, "\n")
}

func TestCheckFindsWhatDoesNotFit(t *testing.T) {
	other := uuid.New()
	deleteFirst := func(bucket []byte) func(*bbolt.Tx, damaged) error {
		return func(tx *bbolt.Tx, _ damaged) error {
			key, _ := tx.Bucket(bucket).Cursor().First()
			return tx.Bucket(bucket).Delete(key)
		}
	}
	add := func(bucket, value []byte, parts ...[]byte) func(*bbolt.Tx, damaged) error {
		return func(tx *bbolt.Tx, _ damaged) error {
			return tx.Bucket(bucket).Put(schema.Join(parts...), pages.Seal(bucket, schema.Join(parts...), value))
		}
	}
	overwriteFirst := func(bucket, value []byte) func(*bbolt.Tx, damaged) error {
		return func(tx *bbolt.Tx, _ damaged) error {
			key, _ := tx.Bucket(bucket).Cursor().First()
			return tx.Bucket(bucket).Put(key, pages.Seal(bucket, key, value))
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(*bbolt.Tx, damaged) error
		says  []string
	}{
		{"a record is gone", deleteFirst(schema.Attachments), []string{"The hold <hold> is on the attachment <attachment>, which is not there.", "The index of ids has attachment <attachment>, of which there is no record.",
			"The index of contents says that attachment <attachment> has the content", `Space "a" is counted as using 10 bytes in 1 files, but its files are 0 bytes in 0.`}},
		{"a record is damaged", overwriteFirst(schema.Attachments, []byte{9}), []string{`In the bucket "attachments", the entry`}},
		{"an id is gone", deleteFirst(schema.AttachmentIDs), []string{"Attachment <attachment> cannot be found by its id."}},
		{"an id too many", add(schema.AttachmentIDs, d17(other), other[:]), []string{"The index of ids has attachment " + other.String()}},
		{"an id leads elsewhere", overwriteFirst(schema.AttachmentIDs, d17(other)), []string{"Attachment <attachment> cannot be found by its id.", "The index of ids has attachment <attachment>, of which"}},
		{"a content is gone", deleteFirst(schema.Contents), []string{"Attachment <attachment> cannot be found by its content 01"}},
		{"a content too many", add(schema.Contents, schema.Nothing, make([]byte, 32), other[:]), []string{"says that attachment " + other.String() + " has the content 00"}},
		{"checksums of nothing", add(schema.Checksums, []byte("sums"), make([]byte, 32)), []string{"Checksums are kept of the content 0000000000000000000000000000000000000000000000000000000000000000, which no attachment has."}},
		{"checksums under a damaged key", add(schema.Checksums, []byte("sums"), make([]byte, 33)), []string{`In the bucket "checksums", the entry 00`}},
		{"a content waits with nothing", add(schema.Staged, wal.Place{Length: 3}.Encode(), other[:]), []string{"A content of 3 bytes waits with attachment " + other.String() + ", which is not there"}},
		{"a content of another length waits", func(tx *bbolt.Tx, d damaged) error {
			return tx.Bucket(schema.Staged).Put(d.attachment.ID[:], pages.Seal(schema.Staged, d.attachment.ID[:], wal.Place{Length: 3}.Encode()))
		}, []string{"A content of 3 bytes waits with attachment <attachment>"}},
		{"a damaged key", add(schema.Contents, schema.Nothing, []byte("short")), []string{`In the bucket "contents", the entry 73686f7274 cannot be read: damaged key.`}},
		{"the usage is wrong", overwriteFirst(schema.Usage, schema.EncodeUsage(store.Usage{Bytes: 11, Files: 1})), []string{`Space "a" is counted as using 11 bytes in 1 files, but its files are 10 bytes in 1.`}},
		{"the usage is gone", deleteFirst(schema.Usage), []string{`Space "a" is counted as using 0 bytes in 0 files, but its files are 10 bytes in 1.`}},
		{"a usage too many", add(schema.Usage, schema.EncodeUsage(store.Usage{}), []byte("b")), []string{`Usage is counted of space "b", which is not there.`}},
		{"a user is gone", deleteFirst(schema.Users), []string{"Attachment <attachment> was uploaded by user <user>, who is not there.",
			`who is not there, is a member of space "a".`, "who is not there, has API key", "The ticket <ticket> belongs to user <user>, who is not there.",
			"The hold <hold> was set by user <user>, who is not there."}},
		{"a user is damaged", overwriteFirst(schema.Users, []byte("{")), []string{`In the bucket "users", the entry`}},
		{"a space is gone", deleteFirst(schema.Spaces), []string{`The ticket <ticket> is in space "a", which is not there.`, `is a member of space "a", which is not there.`, `Usage is counted of space "a", which is not there.`,
			`The hold <hold> is in the space "a", which is not there.`}},
		{"a space is damaged", overwriteFirst(schema.Spaces, []byte("[]")), []string{`In the bucket "spaces", the entry 61 cannot be read`}},
		{"a member is gone", deleteFirst(schema.Members), []string{`has space "a", whose members do not say so.`}},
		{"a member has another role", overwriteFirst(schema.Members, []byte{byte(store.Admin)}), []string{"which their own list does not say.", "whose members do not say so."}},
		{"a membership is gone", deleteFirst(schema.Memberships), []string{`is a member of space "a", which their own list does not say.`}},
		{"a ticket is gone", deleteFirst(schema.Entities), []string{"Attachment <attachment> belongs to ticket <ticket>, which is not there.",
			`The list of space "a" has the ticket <ticket>, which is not in it.`, "belongs to ticket <ticket>, which is not there.",
			`The hold <hold> is on the ticket <ticket>, which is not in the space "a".`}},
		{"a ticket is in no list", deleteFirst(schema.SpaceEntities), []string{`The ticket <ticket> is not in the list of its space "a".`}},
		{"a comment is gone", deleteFirst(schema.Comments), []string{"Attachment <attachment> belongs to comment "}},
		{"a comment too many", add(schema.Comments, schema.Nothing, other[:], other[:]), []string{"belongs to ticket " + other.String() + ", which is not there."}},
		{"an API key is gone", deleteFirst(schema.Keys), []string{"The index of hashes has API key", "which is not theirs.", "It is noted when API key", "is of API key <key>, which is not there."}},
		{"an API key has no hash", deleteFirst(schema.KeyHashes), []string{"cannot be found by its hash."}},
		{"an API key is in no list", deleteFirst(schema.UserKeys), []string{"is not in the list of its user <user>."}},
		{"a session is gone", deleteFirst(schema.Sessions), []string{"which is not its own.", "which does not end then."}},
		{"a session is in no list", deleteFirst(schema.KeySessions), []string{"is not in the list of its API key <key>."}},
		{"a place is gone", deleteFirst(schema.Places), []string{"The content 01<zeros> is marked as damaged in the object <place>, in which it is not."}},
		{"a place is damaged", overwriteFirst(schema.Places, []byte("short")), []string{`In the bucket "places", the entry 01`}},
		{"a place under a damaged key", add(schema.Places, make([]byte, 24), make([]byte, 33)), []string{`In the bucket "places", the entry 00`}},
		{"a place is to be deleted", func(tx *bbolt.Tx, d damaged) error {
			since := schema.EncodeSeconds(1_700_000_000)
			return errors.Join(add(schema.GarbageObject, since, schema.ObjectKey(d.place.Object))(tx, d), add(schema.Garbage, schema.Nothing, since, schema.ObjectKey(d.place.Object))(tx, d))
		}, []string{"The content 01<zeros> is in the object <place>, which is to be deleted."}},
		{"a place is being written", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.Intents, schema.EncodeSeconds(1), schema.ObjectKey(d.place.Object))(tx, d)
		}, []string{"The content 01<zeros> is in the object <place>, which is noted as one that is being written."}},
		{"a mark is of another object", overwriteFirst(schema.Marks, []byte("anything")), []string{"The content 01<zeros> is marked as damaged in the object 616e797468696e67, in which it is not."}},
		{"a mark of nothing", add(schema.Marks, []byte("anything"), make([]byte, 32)), []string{"The content 00<zeros> is marked as damaged in the object 616e797468696e67, in which it is not."}},
		{"a mark under a damaged key", add(schema.Marks, []byte("anything"), []byte("short")), []string{`In the bucket "marks", the entry 73686f7274 cannot be read: damaged key.`}},
		{"an intent is damaged", overwriteFirst(schema.Intents, []byte("when?")), []string{`In the bucket "intents", the entry 04`}},
		{"an intent under a damaged key", add(schema.Intents, schema.EncodeSeconds(1), []byte("short")), []string{`In the bucket "intents", the entry 73686f7274 cannot be read: damaged key.`}},
		{"an intent is to be deleted", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.Intents, schema.EncodeSeconds(1), schema.ObjectKey(d.garbage))(tx, d)
		}, []string{"The object <garbage> of the content 05<zeros> is being written, and is to be deleted."}},
		{"garbage is in no list", deleteFirst(schema.Garbage), []string{"The object <garbage> of the content 05<zeros> is not in the list of those that are to be deleted."}},
		{"garbage without a name", deleteFirst(schema.GarbageObject), []string{"The object <garbage> of the content 05<zeros> is to be deleted, but cannot be found by its name."}},
		{"garbage of another time", overwriteFirst(schema.GarbageObject, schema.EncodeSeconds(7)), []string{"is to be deleted, but cannot be found by its name.", "is not in the list of those that are to be deleted."}},
		{"garbage under a damaged key", add(schema.Garbage, schema.Nothing, []byte("short")), []string{`In the bucket "garbage", the entry 73686f7274 cannot be read: damaged key.`}},
		{"garbage with a damaged name", add(schema.GarbageObject, schema.EncodeSeconds(1), []byte("short")), []string{`In the bucket "garbage_objects", the entry 73686f7274 cannot be read: damaged key.`}},
		{"garbage of no time", overwriteFirst(schema.GarbageObject, []byte("when?")), []string{`In the bucket "garbage_objects", the entry 05`}},
		{"a record in the trash is gone", deleteFirst(schema.Trash), []string{"The index of ids has attachment <trashed>, of which there is no record.",
			"The index of contents says that attachment <trashed> has the content 08", "The index of times has 00", `The trash of space "a" has 00`,
			"The trash is counted as 20 bytes in 2 files, but its files are 10 bytes in 1."}},
		{"a record in the trash is damaged", overwriteFirst(schema.Trash, []byte{9}), []string{`In the bucket "trash", the entry 02`, "The index of times has 00"}},
		{"a record in the trash is short", overwriteFirst(schema.Trash, []byte{1}), []string{`In the bucket "trash", the entry 02`}},
		{"a record in the trash has an id as if it were not", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.AttachmentIDs, schema.ParentKey(d.ticket.Parent), d.trashed.ID[:])(tx, d)
		}, []string{"Attachment <trashed> in the trash cannot be found by its id.", "The index of ids has attachment <trashed>, of which there is no record."}},
		{"a record in the trash has a content as if it were not", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.Contents, schema.Nothing, d.trashed.SHA256[:], d.trashed.ID[:])(tx, d)
		}, []string{"Attachment <trashed> in the trash cannot be found by its content 08", "do not agree on whether attachment <trashed> is in the trash."}},
		{"a record has a content as if it were in the trash", overwriteFirst(schema.Contents, schema.InTrash), []string{"Attachment <attachment> cannot be found by its content", "do not agree on whether attachment <attachment> is in the trash."}},
		{"something in the trash has no end", deleteFirst(schema.TrashUntil), []string{"cannot be found by the time when it ends."}},
		{"an end too many in the trash", add(schema.TrashUntil, schema.Nothing, make([]byte, 8), schema.SpaceRemoval("none")), []string{"The index of times has 026e6f6e65 in the trash, which does not end then."}},
		{"an end under a damaged key", add(schema.TrashUntil, schema.Nothing, []byte("short")), []string{`In the bucket "trash_until", the entry 73686f7274 cannot be read: damaged key.`}},
		{"something in the trash is in no list", deleteFirst(schema.TrashSpaces), []string{"is not in the list of its space."}},
		{"the trash of a space has too much", add(schema.TrashSpaces, schema.Nothing, schema.Slug0("b"), make([]byte, 8), schema.SpaceRemoval("none")), []string{`The trash of space "b" has 026e6f6e65, which is not in it, or was not deleted then.`}},
		{"a list of the trash under a damaged key", add(schema.TrashSpaces, schema.Nothing, []byte("without a zero byte")), []string{`In the bucket "trash_spaces", the entry`}},
		{"a meeting in the trash is gone", deleteFirst(schema.TrashObjects), []string{"Attachment <inMeeting> belongs to meeting <meeting>, which is not there.", "The index of times has 01", `The trash of space "a" has 01`}},
		{"a meeting in the trash is damaged", overwriteFirst(schema.TrashObjects, []byte("{")), []string{`In the bucket "trash_objects", the entry 01`}},
		{"a meeting in the trash is nothing", overwriteFirst(schema.TrashObjects, []byte("{}")), []string{`In the bucket "trash_objects", the entry 01`, "is counted as 0 bytes in 0 files, but its files are 10 bytes in 1."}},
		{"a meeting in the trash is there", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.Entities, []byte(`{"space":"a"}`), schema.ParentKey(d.meeting.Parent))(tx, d)
		}, []string{"is in the trash, but it is there."}},
		{"the trash is counted wrongly", func(tx *bbolt.Tx, d damaged) error {
			return add(schema.Meta, schema.EncodeUsage(store.Usage{Bytes: 1, Files: 1}), schema.TrashSum)(tx, d)
		}, []string{"The trash is counted as 1 bytes in 1 files, but its files are 20 bytes in 2."}},
		{"a hold is gone", deleteFirst(schema.Holds), []string{"The index of what is held has the hold <hold>, which is not there, or on something else."}},
		{"a hold is damaged", overwriteFirst(schema.Holds, []byte("{")), []string{`In the bucket "holds", the entry`}},
		{"a hold is in no index", deleteFirst(schema.Held), []string{"The hold <hold> is not in the index of what is held."}},
		{"a hold under a damaged key", add(schema.Held, schema.Nothing, []byte("short")), []string{`In the bucket "held", the entry 73686f7274 cannot be read: damaged key.`}},
		{"a session has no end", deleteFirst(schema.SessionExpiry), []string{"cannot be found by the time when it ends."}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			d := makeDamaged(t, path)
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(func(tx *bbolt.Tx) error { return c.spoil(tx, d) }), db.Close()); err != nil {
				t.Fatal(err)
			}
			got := faultsOf(t, path)
			names := strings.NewReplacer("<attachment>", d.attachment.ID.String(), "<trashed>", d.trashed.ID.String(),
				"<meeting>", d.meeting.ID.String(), "<inMeeting>", d.inMeeting.ID.String(), "<user>", d.user.ID.String(),
				"<ticket>", d.ticket.ID.String(), "<key>", d.key.ID.String(), "<hold>", d.hold.ID.String(),
				"<zeros>", strings.Repeat("00", 31), "<place>", d.place.Key.String(), "<garbage>", d.garbage.Key.String())
			for _, says := range c.says {
				if says = names.Replace(says); !strings.Contains(got, says) {
					t.Errorf("nothing says\n%s\nbut only\n%s", says, got)
				}
			}
		})
	}
}

func d17(id uuid.UUID) []byte { return schema.ParentKey(store.Parent{Kind: store.Product, ID: id}) }

func TestCheckBoundsWhatItTells(t *testing.T) {
	path := filepath.Join(t.TempDir(), "attachd.db")
	makeDamaged(t, path)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for range backend.MaxFaults + 7 {
			id := uuid.New()
			if err := tx.Bucket(schema.AttachmentIDs).Put(id[:], pages.Seal(schema.AttachmentIDs, id[:], d17(id))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	got := faultsOf(t, path)
	if n := strings.Count(got, "\n"); n != backend.MaxFaults || !strings.HasSuffix(got, "\nThere are 7 more such faults in the database.") {
		t.Errorf("%d lines, the end is %q", n+1, got[max(0, len(got)-100):])
	}
}

// The file itself is damaged without bbolt.
func TestCheckFindsDamagedPages(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, file []byte) []byte
		says  string
	}{
		{"a page is in no list", func(t *testing.T, file []byte) []byte {
			_, free := pagesOf(file)
			count := file[free+10:]
			if binary.LittleEndian.Uint16(count) == 0 {
				t.Fatal("no page is free")
			}
			binary.LittleEndian.PutUint16(count, binary.LittleEndian.Uint16(count)-1)
			return file
		}, "is neither in use nor free"},
		{"a page is of no type", func(t *testing.T, file []byte) []byte {
			root, _ := pagesOf(file)
			// The bucket of attachments is large enough to have separate pages.
			for at := 2 * os.Getpagesize(); at < len(file); at += os.Getpagesize() {
				if at != root && binary.LittleEndian.Uint16(file[at+8:]) == 2 && strings.Contains(string(file[at:at+os.Getpagesize()]), "a long name") {
					binary.LittleEndian.PutUint16(file[at+8:], 0)
				}
			}
			return file
		}, "is not what it should be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "attachd.db")
			d := makeDamaged(t, path)
			b := open(t, path)
			for range 50 {
				a := d.attachment
				a.ID, a.FileName = uuid.Must(uuid.NewV7()), strings.Repeat("a long name", 20)
				if err := b.CreateAttachment(t.Context(), a, nil, ""); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.spoil(t, raw), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := faultsOf(t, path); !strings.Contains(got, c.says) {
				t.Errorf("nothing says\n%s\nbut only\n%s", c.says, got)
			}
		})
	}
}

// pagesOf returns, by the newer of the two meta pages, the first pages of the root
// bucket and of the free list.
func pagesOf(file []byte) (root, free int) {
	size := os.Getpagesize()
	const txid = 16 + 48
	meta := file
	if binary.LittleEndian.Uint64(file[size+txid:]) > binary.LittleEndian.Uint64(file[txid:]) {
		meta = file[size:]
	}
	return int(binary.LittleEndian.Uint64(meta[16+16:])) * size, int(binary.LittleEndian.Uint64(meta[16+32:])) * size
}
