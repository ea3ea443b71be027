package bolt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/bbolt"

	"attachd/store"
	"attachd/store/bolt"
)

var (
	flips = flag.Int("flips", 150, "how many bits the test of flipped bits turns, one after the other")
	seed  = flag.Uint64("seed", 0, "of which they are; 0 takes another each time")
)

// filled is a database with every kind of record, and the calls that read it.
type filled struct {
	path      string
	questions map[string]func(s *bolt.Store) (any, error)
}

// fillAll creates one. The database has several pages of each larger bucket.
func fillAll(t *testing.T) *filled {
	t.Helper()
	f := &filled{path: filepath.Join(t.TempDir(), "attachd.db"), questions: map[string]func(*bolt.Store) (any, error){}}
	s, err := bolt.Open(f.path, bolt.Options{Log: f.path + ".log"})
	must(t, err)
	ctx := store.WithOutbox(t.Context(), store.Origin{Time: start})
	space := store.Space{Slug: "a", Name: "Space", QuotaFiles: 10_000}
	objects := []store.Object{space, store.Space{Slug: "b"}}
	var users []store.User
	for i := range 60 {
		u := store.User{ID: uuid.New(), FullName: fmt.Sprintf("User %d", i), IsSuperadmin: i == 0}
		users = append(users, u)
		objects = append(objects, u, store.Member{Space: "a", UserID: u.ID, Role: store.Viewer + store.Role(i%3)})
	}
	product := store.Entity{Parent: store.Parent{Kind: store.Product, ID: uuid.New()}, Space: "a", Name: "Product"}
	ticket := store.Entity{Parent: store.Parent{Kind: store.Ticket, ID: uuid.New()}, Space: "a", Name: "Ticket", OwnerID: users[1].ID}
	comment := store.Comment{TicketID: ticket.ID, ID: uuid.New()}
	objects = append(objects, product, ticket, store.Entity{Parent: store.Parent{Kind: store.Meeting, ID: uuid.New()}, Space: "b", Name: "Meeting"}, comment)
	_, err = s.Put(t.Context(), objects...)
	must(t, err)
	var ids []uuid.UUID
	for i := range 150 {
		of := []store.Parent{product.Parent, ticket.Parent}[i%2]
		a := store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: of, FileName: fmt.Sprintf("file number %d.pdf", i), Size: 3, Type: "text/plain", SHA256: [32]byte{byte(i % 40)}, UploaderID: users[i%len(users)].ID}
		if of == ticket.Parent {
			a.CommentID = uuid.NullUUID{UUID: comment.ID, Valid: true}
		}
		ctx := store.WithEntry(ctx, &store.Entry{Time: start, Action: "attachment.create", ID: a.ID.String(), Outcome: "done"})
		if i%10 == 0 {
			err = s.CreateStaged(ctx, a, []byte("abc"), []byte("checksums"), "")
		} else {
			err = s.CreateAttachment(ctx, a, []byte("checksums"), "")
		}
		must(t, err)
		ids = append(ids, a.ID)
	}
	f.trash(t, s, ids, users[2].ID)
	first, err := s.Events(t.Context(), 0, 1)
	must(t, err)
	must(t, s.AckEvents(t.Context(), nil, store.DeadLetter{Event: first[0], Time: start, Reason: "refused"}))
	for i, u := range users {
		key := store.Key{ID: uuid.New(), UserID: u.ID, Name: "key", Prefix: "abc", Hash: [32]byte{byte(i), 1}, CreatedAt: start, LastUsedAt: start}
		session := store.Session{Hash: [32]byte{byte(i), 2}, KeyID: key.ID, ExpiresAt: start.Add(time.Hour)}
		must(t, errors.Join(s.CreateKey(t.Context(), key), s.CreateSession(t.Context(), session, start)))
		f.ask("key", i, func(s *bolt.Store) (any, error) {
			k, u, err := s.KeyByHash(context.Background(), key.Hash)
			return fmt.Sprint(k, u), err
		})
		f.ask("session", i, func(s *bolt.Store) (any, error) { return s.Session(context.Background(), session.Hash) })
		f.ask("role", i, func(s *bolt.Store) (any, error) { return s.Role(context.Background(), "a", u.ID) })
		f.ask("role elsewhere", i, func(s *bolt.Store) (any, error) { return s.Role(context.Background(), "b", u.ID) })
		f.ask("memberships", i, func(s *bolt.Store) (any, error) { return s.Memberships(context.Background(), u.ID) })
		f.ask("keys", i, func(s *bolt.Store) (any, error) { return s.KeysOf(context.Background(), u.ID, uuid.Nil, 10) })
	}
	must(t, s.SetNote(t.Context(), "note", []byte("noted")))
	for i, id := range ids {
		f.ask("attachment", i, func(s *bolt.Store) (any, error) { return orNone(s.Attachment(context.Background(), id)) })
	}
	for i := range 40 {
		f.ask("with", i, func(s *bolt.Store) (any, error) {
			return s.AttachmentsWith(context.Background(), [32]byte{byte(i)}, 100)
		})
		f.ask("checksums", i, func(s *bolt.Store) (any, error) { return s.Checksums(context.Background(), [32]byte{byte(i)}) })
	}
	for name, ask := range map[string]func(s *bolt.Store) (any, error){
		"of product": func(s *bolt.Store) (any, error) {
			return s.AttachmentsOf(context.Background(), product.Parent, uuid.Nil, 1000)
		},
		"of ticket": func(s *bolt.Store) (any, error) {
			return s.AttachmentsOf(context.Background(), ticket.Parent, uuid.Nil, 1000)
		},
		"all":     func(s *bolt.Store) (any, error) { return s.AllAttachments(context.Background(), uuid.Nil, 1000) },
		"users":   func(s *bolt.Store) (any, error) { return s.Users(context.Background(), uuid.Nil, 1000) },
		"spaces":  func(s *bolt.Store) (any, error) { return s.Spaces(context.Background(), "", 1000) },
		"members": func(s *bolt.Store) (any, error) { return s.Members(context.Background(), "a", uuid.Nil, 1000) },
		"space": func(s *bolt.Store) (any, error) {
			space, usage, err := s.Space(context.Background(), "a")
			return fmt.Sprint(space, usage), err
		},
		"products": func(s *bolt.Store) (any, error) {
			return s.Entities(context.Background(), "a", store.Product, uuid.Nil, 1000)
		},
		"ticket":       func(s *bolt.Store) (any, error) { return s.Entity(context.Background(), ticket.Parent) },
		"comments":     func(s *bolt.Store) (any, error) { return s.Comments(context.Background(), ticket.ID, uuid.Nil, 10) },
		"comment":      func(s *bolt.Store) (any, error) { return s.Comment(context.Background(), comment.TicketID, comment.ID) },
		"events":       func(s *bolt.Store) (any, error) { return s.Events(context.Background(), 0, 1000) },
		"dead letters": func(s *bolt.Store) (any, error) { return s.DeadLetters(context.Background(), 0, 10) },
		"audit log": func(s *bolt.Store) (any, error) {
			n, head, faults, err := store.VerifyAudit(context.Background(), s, nil)
			if len(faults) > 0 {
				err = fmt.Errorf("%w: %q", store.ErrDamaged, faults)
			}
			return fmt.Sprint(n, head), err
		},
		"pending": func(s *bolt.Store) (any, error) {
			list, err := s.StagedAfter(context.Background(), uuid.Nil, 100, 1<<20)
			if errors.Is(err, store.ErrUnreadable) { // the others are returned
				err = store.ErrDamaged
			}
			return list, err
		},
		"note": func(s *bolt.Store) (any, error) { return s.Note(context.Background(), "note") },
	} {
		f.ask(name, 0, ask)
	}
	must(t, s.Close())
	return f
}

// trash leaves attachments in the trash, some with their parent or space.
func (f *filled) trash(t *testing.T, s *bolt.Store, ids []uuid.UUID, by uuid.UUID) {
	t.Helper()
	at := start.UTC().Truncate(time.Second)
	in := func(i int) store.Deletion {
		return store.Deletion{At: at.Add(time.Duration(i) * time.Minute), Until: at.AddDate(0, 0, i+1), ByID: by}
	}
	var of store.Parent
	for i, id := range ids {
		if i%3 == 0 {
			a, err := s.TrashAttachment(t.Context(), id, in(i))
			must(t, err)
			of = a.Parent
		}
		f.ask("trashed", i, func(s *bolt.Store) (any, error) { return orNone(s.TrashedAttachment(context.Background(), id)) })
	}
	must2 := func(_ any, err error) { must(t, err) }
	for i := range 30 {
		p := store.Parent{Kind: store.Product, ID: uuid.New()}
		space := fmt.Sprint("trashed-", i%5)
		must2(s.Put(t.Context(), store.Space{Slug: space, Name: "In the trash"}, store.Entity{Parent: p, Space: space, Name: "A product"}))
		must(t, s.CreateAttachment(t.Context(), store.Attachment{ID: uuid.Must(uuid.NewV7()), Parent: p, FileName: "with its parent", Size: 3, SHA256: [32]byte{byte(i)}, UploaderID: by}, nil, ""))
		if i%2 == 0 {
			must(t, s.TrashEntity(t.Context(), p, true, in(i)))
		}
		f.ask("trashed product", i, func(s *bolt.Store) (any, error) { return orNone(s.TrashedEntity(context.Background(), p)) })
	}
	for i := range 5 {
		slug := fmt.Sprint("trashed-", i)
		if i > 1 {
			must(t, s.TrashSpace(t.Context(), slug, true, in(i)))
		}
		f.ask("trashed space", i, func(s *bolt.Store) (any, error) { return orNone(s.TrashedSpace(context.Background(), slug)) })
		f.ask("trash of space", i, func(s *bolt.Store) (any, error) { return s.TrashIn(context.Background(), slug, nil, 1000) })
	}
	for i, space := range []string{"", "a"} {
		f.ask("trash in", i, func(s *bolt.Store) (any, error) { return s.TrashIn(context.Background(), space, nil, 1000) })
	}
	f.ask("trash of product", 0, func(s *bolt.Store) (any, error) { return s.TrashOf(context.Background(), of, uuid.Nil, 1000) })
	f.ask("trash", 0, func(s *bolt.Store) (any, error) {
		size, earliest, err := s.TrashSize(context.Background())
		return fmt.Sprint(size, earliest), err
	})
}

// orNone makes an answer of what is not there.
func orNone[T any](found T, err error) (any, error) {
	if errors.Is(err, store.ErrNotFound) {
		return "none", nil
	}
	return found, err
}

func (f *filled) ask(what string, i int, question func(s *bolt.Store) (any, error)) {
	f.questions[fmt.Sprint(what, " ", i)] = question
}

// answers returns the results of all calls, and of those that are refused.
func (f *filled) answers(t *testing.T, s *bolt.Store, readDespite func(what string, err error)) (all map[string]string) {
	t.Helper()
	all = map[string]string{}
	for what, question := range f.questions {
		answer, err := question(s)
		if err != nil {
			readDespite(what, err)
			continue
		}
		all[what] = fmt.Sprint(answer)
	}
	return all
}

// TestAFlippedBitIsNeverAnAnswer flips single bits all over the file: each result
// must be what it was, nothing that exists may be reported as missing, and a check
// must list what is refused.
func TestAFlippedBitIsNeverAnAnswer(t *testing.T) {
	t.Parallel()
	f := fillAll(t)
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("%d bits, -seed %d", *flips, *seed)
	random := rand.New(rand.NewPCG(*seed, 0))
	whole, err := os.ReadFile(f.path)
	must(t, err)
	s, err := bolt.Open(f.path, bolt.Options{ReadOnly: true})
	must(t, err)
	truth := f.answers(t, s, func(what string, err error) { t.Fatalf("%s: %v", what, err) })
	must(t, s.Close())
	refused, found := 0, 0
	for range *flips {
		bit := random.IntN(8 * len(whole))
		for whole[bit/8] == 0 && random.IntN(8) > 0 { // most of the file is zeros
			bit = random.IntN(8 * len(whole))
		}
		spoiled := append([]byte{}, whole...)
		spoiled[bit/8] ^= 1 << (bit % 8)
		path := filepath.Join(t.TempDir(), "attachd.db")
		must(t, os.WriteFile(path, spoiled, 0o600))
		s, err := bolt.Open(path, bolt.Options{ReadOnly: bit%2 == 0})
		if err != nil {
			if refused++; !errors.Is(err, store.ErrDamaged) {
				t.Errorf("bit %d: open: %v", bit, err)
			}
			continue
		}
		silent := 0
		got := f.answers(t, s, func(what string, err error) {
			if silent++; !errors.Is(err, store.ErrDamaged) {
				t.Errorf("bit %d: %s: %v", bit, what, err)
			}
		})
		for what, answer := range got {
			if answer != truth[what] {
				t.Errorf("bit %d: %s is answered with\n%.300s\nand was\n%.300s", bit, what, answer, truth[what])
			}
		}
		faults, err := s.Check(t.Context(), nil)
		if err != nil {
			t.Errorf("bit %d: check: %v", bit, err)
		}
		if len(faults) > 0 {
			found++
		}
		if silent > 0 && len(faults) == 0 {
			t.Errorf("bit %d: %d questions are refused, and a check finds nothing", bit, silent)
		}
		if len(faults) > 0 && len(s.Damage()) == 0 {
			t.Errorf("bit %d: a check lists %q, and nobody remembers", bit, faults)
		}
		if err := s.Close(); err != nil && !errors.Is(err, store.ErrDamaged) { // the times when keys were used cannot be stored any more
			t.Errorf("bit %d: close: %v", bit, err)
		}
	}
	t.Logf("%d of the files were refused, and in %d a check found faults", refused, found)
}

// TestALostWayIsNeverAnAnswer flips bits of references from page to page, so that
// they lead to another valid page: one that the bucket had in an earlier commit, or
// a part of what it has.
func TestALostWayIsNeverAnAnswer(t *testing.T) {
	t.Parallel()
	f := fillAll(t)
	maps.DeleteFunc(f.questions, func(what string, _ func(*bolt.Store) (any, error)) bool { return !strings.HasSuffix(what, " 0") })
	whole, err := os.ReadFile(f.path)
	must(t, err)
	truth := f.answersNow(t)
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	must(t, err)
	tried := 0
	for at, bit := range waysToWholePages(whole, os.Getpagesize(), topOf(t, f.path)) {
		tried++
		_, err := file.WriteAt([]byte{whole[at] ^ bit}, int64(at))
		must(t, err)
		for what, answer := range f.answersNow(t) {
			if answer != truth[what] {
				t.Errorf("bit %d of byte %d: %s is answered with\n%.300s\nand was\n%.300s", bit, at, what, answer, truth[what])
			}
		}
		_, err = file.WriteAt(whole[at:at+1], int64(at))
		must(t, err)
	}
	must(t, file.Close())
	if tried < 20 {
		t.Errorf("only %d ways were tried", tried)
	}
	t.Logf("%d ways", tried)
}

// TestAKeyThatRotsInUseIsNeverAnAnswer flips bits of keys while the database is
// open, and has not been verified since.
func TestAKeyThatRotsInUseIsNeverAnAnswer(t *testing.T) {
	t.Parallel()
	f := fillAll(t)
	whole, err := os.ReadFile(f.path)
	must(t, err)
	truth := f.answersNow(t)
	file, err := os.OpenFile(f.path, os.O_WRONLY, 0)
	must(t, err)
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	refused := 0
	for range 60 {
		at := someKey(whole, random)
		s, err := bolt.Open(f.path, bolt.Options{ReadOnly: true})
		must(t, err)
		_, err = file.WriteAt([]byte{whole[at] ^ 1<<random.IntN(8)}, int64(at))
		must(t, err)
		for what, answer := range f.answers(t, s, func(what string, err error) {
			if refused++; !errors.Is(err, store.ErrDamaged) {
				t.Errorf("byte %d: %s: %v", at, what, err)
			}
		}) {
			if answer != truth[what] {
				t.Errorf("byte %d: %s is answered with\n%.300s\nand was\n%.300s", at, what, answer, truth[what])
			}
		}
		must(t, s.Close())
		_, err = file.WriteAt(whole[at:at+1], int64(at))
		must(t, err)
	}
	must(t, file.Close())
	t.Logf("%d questions were refused", refused)
}

// someKey returns the offset of a byte of a key, in any leaf.
func someKey(raw []byte, random *rand.Rand) (at int) {
	size := os.Getpagesize()
	half := func(at int) int { return int(binary.NativeEndian.Uint32(raw[at:])) }
	for {
		page := 2 + random.IntN(len(raw)/size-2)
		n := int(binary.NativeEndian.Uint16(raw[page*size+10:]))
		if raw[page*size+8] != 2 || n == 0 || binary.NativeEndian.Uint64(raw[page*size:]) != uint64(page) {
			continue
		}
		element := page*size + 16 + 16*random.IntN(n)
		if half(element) == 0 { // not a bucket
			return element + half(element+4) + random.IntN(half(element+8))
		}
	}
}

// TestABucketIsNotTakenForAnEmptyOne changes entries of the tree of buckets: the
// buckets have entries with valid checksums.
func TestABucketIsNotTakenForAnEmptyOne(t *testing.T) {
	t.Parallel()
	f := fillAll(t)
	whole, err := os.ReadFile(f.path)
	must(t, err)
	for what, spoil := range map[string]func(of []byte){
		"its name":        func(of []byte) { of[2] ^= 4 },
		"its last number": func(of []byte) { binary.NativeEndian.PutUint64(of[len("outbox")+8:], 2) },
	} {
		spoiled := bytes.Clone(whole)
		for at := range spoiled {
			if bytes.HasPrefix(spoiled[at:], []byte("outbox")) {
				spoil(spoiled[at:])
			}
		}
		for _, readOnly := range []bool{true, false} {
			must(t, os.WriteFile(f.path, spoiled, 0o600))
			s, err := bolt.Open(f.path, bolt.Options{ReadOnly: readOnly})
			if err == nil {
				_, err = s.Events(t.Context(), 0, 10)
				must(t, s.Close())
			}
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s, read only %t: %v", what, readOnly, err)
			}
		}
	}
}

// topOf returns the root page of the tree of buckets.
func topOf(t *testing.T, path string) (id uint64) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	must(t, err)
	must(t, db.View(func(tx *bbolt.Tx) error {
		id = uint64(tx.Cursor().Bucket().RootPage())
		return nil
	}))
	must(t, db.Close())
	return id
}

// answersNow returns the results for the file, none when it is refused.
func (f *filled) answersNow(t *testing.T) map[string]string {
	t.Helper()
	s, err := bolt.Open(f.path, bolt.Options{ReadOnly: true})
	if errors.Is(err, store.ErrDamaged) {
		return nil
	}
	must(t, err)
	all := f.answers(t, s, func(what string, err error) {
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	})
	must(t, s.Close())
	return all
}

// waysToWholePages returns the bits of page ids, in branches and in the roots of
// buckets, that lead to another branch or leaf when they are flipped.
func waysToWholePages(raw []byte, size int, from uint64) iter.Seq2[int, byte] {
	number := func(at int) uint64 { return binary.NativeEndian.Uint64(raw[at:]) }
	half := func(at int) int { return int(binary.NativeEndian.Uint32(raw[at:])) }
	isWhole := func(id uint64) bool {
		return id >= 2 && id < uint64(len(raw)/size) && number(int(id)*size) == id && raw[int(id)*size+8] <= 2
	}
	var below func(id uint64, yield func(int, byte) bool) bool
	below = func(id uint64, yield func(int, byte) bool) bool {
		page := int(id) * size
		for i := range int(binary.NativeEndian.Uint16(raw[page+10:])) {
			element := page + 16 + 16*i
			at := element + 8
			if raw[page+8] == 2 { // a leaf
				at = element + half(element+4) + half(element+8)
				if half(element) != 1 || number(at) == 0 { // not a bucket, or one within the page
					continue
				}
			}
			for bit := range 16 {
				if isWhole(number(at)^1<<bit) && !yield(at+bit/8, 1<<(bit%8)) {
					return false
				}
			}
			if !below(number(at), yield) {
				return false
			}
		}
		return true
	}
	return func(yield func(int, byte) bool) { below(from, yield) }
}
