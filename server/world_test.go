package server_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/blobstest"
	"attachd/blobs/disk"
	"attachd/blobs/disk/disktest"
	"attachd/blobs/s3/s3test"
	"attachd/server"
	"attachd/server/content"
	"attachd/server/contents"
	"attachd/server/e2e/nginx"
	"attachd/server/ops"
	"attachd/server/preview"
	"attachd/server/token"
	"attachd/server/upkeep"
	"attachd/store"
	"attachd/store/bolt"
	"attachd/store/postgres"
	"attachd/store/postgres/postgrestest"
)

// patience is how long a test waits for asynchronous work. A busy machine may need
// seconds for what otherwise takes a millisecond.
const patience = time.Minute

// TestMain checks that no goroutine of a server is left when all tests are done.
func TestMain(m *testing.M) {
	flag.Parse()
	blobstest.Short("TestAFileIsUploadedListedDownloadedAndDeleted", "TestAListIsPaged", "TestABadFormIsRefused", "TestFileNames", "TestRanges", "TestConditions", "TestEveryRouteIsUnderARule", "TestEveryRouteSaysAllThatTheCorridorHasToKnow", "TestOpenAPI.*", "TestEveryKindHasLinks", "TestAChangedLinkIsRefused", "TestTheQuotaOfASpaceHolds", "TestASignInLinkWorksOnce", "TestADamagedFileCanBeDeleted")
	blobstest.TempInMemory()
	*withPostgres = *withPostgres || *withReplicas
	if *withPostgres {
		os.Setenv(postgrestest.Required, "1")
	}
	stopGateway := startGateway()
	code := m.Run()
	stopGateway()
	if err := postgrestest.End(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	closeBrowser()
	if left := goroutinesLeft(); code == 0 && left != "" {
		os.Stderr.WriteString("goroutines of servers that were shut down go on:\n\n" + left + "\n")
		code = 1
	}
	os.Exit(code)
}

// goroutinesLeft waits for goroutines that run attachd's code to end, and returns the
// stacks of those that do not.
func goroutinesLeft() string {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []string
		for _, stack := range strings.Split(string(stacks), "\n\n") {
			if strings.Contains(stack, "attachd/") && !strings.Contains(stack, "goroutinesLeft") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

// world is a server on its own port, over its own data directory, with people and
// places in it:
//
//	space a    admin, editor and viewer are members with these roles
//	space ab   its slug begins like the other's; stranger is its admin
//	both       a product, a ticket with a comment, a meeting
//	root       is a superadmin
//	owner      owns the ticket of a and is a member of nothing
//	nobody     has no key
type world struct {
	t       *testing.T
	server  *server.Server
	store   records
	blobs   *disk.Store
	kept    keeper // blobs, or the bucket for which they are spooled there
	disk    *testDisk
	ballast ballast
	clock   *clock
	log     *logBuffer
	fault   atomic.Pointer[fault] // injected failure; nil is none
	dir     string                // the data directory
	prefix  string                // of its objects in the bucket, with -s3 or -postgres
	dsn     string                // of its database, with -postgres
	objects *s3test.Memory        // the bucket, with -postgres and without -s3
	twin    *world                // a second server, with -replicas
	url     string                // http://host:port
	client  *http.Client

	mu       sync.Mutex
	names    map[string]string // what {name} stands for in a step
	keys     map[string]string // whose key is which
	expected []string          // allowed parts of lines of the log at level ERROR

	signingKeys []token.SigningKey // as the next start finds them, once they were changed
	keepFails   error              // error of keeping them

	stopCounting func() // stops counting in the running server
}

// people are the users, with their roles.
var people = []struct {
	name       string
	id         uuid.UUID
	roles      map[string]store.Role
	superadmin bool
}{
	{"root", anID(1), nil, true},
	{"admin", anID(2), map[string]store.Role{"a": store.Admin}, false},
	{"editor", anID(3), map[string]store.Role{"a": store.Editor}, false},
	{"viewer", anID(4), map[string]store.Role{"a": store.Viewer}, false},
	{"stranger", anID(5), map[string]store.Role{"ab": store.Admin}, false},
	{"owner", anID(6), nil, false},
}

// The places in the space a and in the space ab.
var (
	productOf = map[string]store.Parent{"a": {Kind: store.Product, ID: anID(0x11)}, "ab": {Kind: store.Product, ID: anID(0x21)}}
	ticketOf  = map[string]store.Parent{"a": {Kind: store.Ticket, ID: anID(0x12)}, "ab": {Kind: store.Ticket, ID: anID(0x22)}}
	meetingOf = map[string]store.Parent{"a": {Kind: store.Meeting, ID: anID(0x13)}, "ab": {Kind: store.Meeting, ID: anID(0x23)}}
	commentOf = map[string]uuid.UUID{"a": anID(0x14), "ab": anID(0x24)}
	ownerOf   = map[string]string{"a": "owner", "ab": "stranger"} // of the ticket
)

// anID returns an id that is easy to recognise.
func anID(n byte) uuid.UUID {
	id := uuid.MustParse("00000000-0000-4000-8000-000000000000")
	id[15] = n
	return id
}

func personID(name string) uuid.UUID {
	for _, p := range people {
		if p.name == name {
			return p.id
		}
	}
	panic("nobody is called " + name)
}

// newWorld starts a server; options change its configuration. At the end of the test,
// both stores must be consistent.
func newWorld(t *testing.T, options ...func(*server.Config)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{now: startOfTime}, log: &logBuffer{}, names: map[string]string{}}
	w.open()
	w.start(options)
	if *withReplicas {
		w.startTwin(options)
	}
	return w
}

// start starts a server over the world's stores.
func (w *world) start(options []func(*server.Config)) {
	policy, err := content.NewPolicy(nil, false)
	w.must(err)
	cfg := server.Config{
		Storage:              upkeep.StorageStatus{Backend: "disk"},
		Store:                w.store,
		Blobs:                w.kept,
		Abilities:            w.abilities(),
		Ballast:              &w.ballast,
		Policy:               policy,
		SigningKeys:          []token.SigningKey{{Secret: []byte("a secret of at least sixteen bytes")}},
		KeepSigningKeys:      w.keepSigningKeys,
		Now:                  w.clock.Now,
		Elapsed:              w.clock.Elapsed,
		Log:                  slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Scratch:              w.scratch,
		Thumbnails:           preview.NewCache(filepath.Join(w.dir, "thumbnails"), filepath.Join(w.dir, "tmp"), func(*os.File) error { return nil }),
		Version:              "test",
		MaxFileSize:          50 << 20,
		LogBelow:             64 << 10,
		MaxConcurrentUploads: 256,
		MinUploadRate:        1 << 10,
		MinDownloadRate:      1 << 10,
		DiskReserve:          1 << 20,
		URLTTL:               time.Hour,
		AuditDownloads:       true,
		VerifyReads:          true,
	}
	w.shareSigningKeys(&cfg)
	for _, option := range options {
		option(&cfg)
	}
	w.server, err = server.New(cfg)
	w.must(err)
	w.server.SetPatience(patience, patience)
	w.serve(w.server)
}

// startTwin starts a second server over the world's database and bucket. From then on nginx
// sends each request to the other one than the request before.
func (w *world) startTwin(options []func(*server.Config)) {
	w.twin = &world{t: w.t, dir: w.t.TempDir(), clock: w.clock, log: w.log, dsn: w.dsn, objects: w.objects, prefix: w.prefix}
	w.twin.openStores()
	w.t.Cleanup(func() {
		if err := errors.Join(w.twin.store.Close(), w.twin.kept.Close()); err != nil {
			w.t.Errorf("closing the stores of the second server: %v", err)
		}
	})
	w.twin.start(options)
	// nginx ends a connection whose request was answered before its end: nothing follows on it.
	w.client.Transport.(*http.Transport).DisableKeepAlives = true
	w.url = "http://" + nginx.Before(w.t, strings.TrimPrefix(w.url, "http://"), strings.TrimPrefix(w.twin.url, "http://"))
}

// filesAtOnce disables staging.
func filesAtOnce(c *server.Config) { c.LogBelow = 0 }

// scratch makes a temporary file.
func (w *world) scratch() (file *os.File, done func() error, err error) {
	file, err = os.CreateTemp(filepath.Join(w.dir, "tmp"), "")
	return file, func() error { return errors.Join(file.Close(), os.Remove(file.Name())) }, err
}

func (w *world) keepSigningKeys(keys []token.SigningKey) error {
	if w.keepFails == nil {
		w.signingKeys = keys
	}
	return w.keepFails
}

// shareSigningKeys has a server take the signing keys that are in its database, and put its own
// there where there are none.
func (w *world) shareSigningKeys(cfg *server.Config) {
	if *withPostgres {
		keys, err := ops.SharedSigningKeys(context.Background(), cfg.Shared, cfg.SigningKeys)
		w.must(err)
		cfg.SigningKeys = keys
	}
}

func (w *world) open() {
	w.nameEverything()
	if *withPostgres {
		w.dsn, w.objects = postgrestest.Database(w.t), new(s3test.Memory)
		w.openStores()
		w.t.Cleanup(w.checkStorage)
		made := made{keys: map[string]string{}}
		w.must(made.populate(w.store))
		w.keys = made.keys
		return
	}
	made := fixture()
	w.keys = maps.Clone(made.keys)
	w.must(made.err)
	w.must(os.WriteFile(filepath.Join(w.dir, "attachd.db"), made.database, 0o600))
	w.openStores()
	w.t.Cleanup(w.checkStorage)
}

func (w *world) openStores() {
	w.openRecords()
	var err error
	w.blobs, err = disk.Open(w.dir, disk.Options{Wrap: func(real disk.FileSystem) disk.FileSystem {
		w.disk = &testDisk{FileSystem: real}
		return disktest.Faults{Before: w.strike}.Wrap(w.disk)
	}})
	w.must(err)
	if w.kept = w.blobs; *withVersitygw || *withPostgres {
		w.kept = w.openBucket()
	}
}

// openRecords opens the world's database.
func (w *world) openRecords() {
	if *withPostgres {
		db, err := postgres.Open(context.Background(), postgres.Options{DSN: w.dsn, MaxConnections: 4})
		w.must(err)
		w.store = db
		return
	}
	db, err := bolt.Open(filepath.Join(w.dir, "attachd.db"), bolt.Options{Log: filepath.Join(w.dir, "wal"), Commit: w.commit, MakeRoom: w.ballast.giveUp,
		Compacting: func(step string) error { return w.strike("compact: " + step) }})
	w.must(err)
	w.store = db
}

// bolt is the world's database in a file, which a test asks for what only that has.
func (w *world) bolt() *bolt.Store { return w.store.(*bolt.Store) }

// restart stops the server without a shutdown, and starts another over the same files.
func (w *world) restart() {
	w.stopCounting()
	_ = w.store.Close() // one that has failed says so
	w.must(w.kept.Close())
	w.openStores()
	cfg := w.server.Config
	cfg.Store, cfg.Blobs, cfg.Abilities = w.store, w.kept, w.abilities()
	if w.signingKeys != nil {
		cfg.SigningKeys = w.signingKeys
	}
	w.shareSigningKeys(&cfg)
	var err error
	w.server, err = server.New(cfg)
	w.must(err)
	w.server.SetPatience(patience, patience)
	w.serve(w.server)
}

// nameEverything gives the people and places the names that steps use.
func (w *world) nameEverything() {
	for _, p := range people {
		w.names[p.name] = p.id.String()
	}
	for slug, suffix := range map[string]string{"a": "", "ab": ".ab"} {
		product, ticket, meeting := productOf[slug].ID.String(), ticketOf[slug].ID.String(), meetingOf[slug].ID.String()
		w.names["product"+suffix], w.names["product"+suffix+".id"] = "/catalog/spaces/"+slug+"/products/"+product, product
		w.names["ticket"+suffix], w.names["ticket"+suffix+".id"] = "/issues/tickets/"+ticket, ticket
		w.names["meeting"+suffix], w.names["meeting"+suffix+".id"] = "/meetings/"+meeting, meeting
		w.names["comment"+suffix] = commentOf[slug].String()
	}
}

// made is a database with the people and places in it, of which every world has a copy:
// making one takes a while.
type made struct {
	database []byte
	keys     map[string]string
	err      error
}

var fixture = sync.OnceValue(func() made {
	m := made{keys: map[string]string{}}
	dir, err := os.MkdirTemp("", "fixture")
	if err != nil {
		return made{err: err}
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "attachd.db")
	db, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return made{err: err}
	}
	m.err = errors.Join(m.populate(db), db.Close())
	if m.err == nil {
		m.database, m.err = os.ReadFile(path)
	}
	return m
})

func (m made) populate(db store.Store) error {
	var objects, members []store.Object
	for _, p := range people {
		objects = append(objects, store.User{ID: p.id, FullName: fullName(p.name), IsSuperadmin: p.superadmin})
		for slug, role := range p.roles {
			members = append(members, store.Member{Space: slug, UserID: p.id, Role: role})
		}
	}
	for _, slug := range []string{"a", "ab"} {
		objects = append(objects,
			store.Space{Slug: slug, Name: "The space " + slug},
			store.Entity{Parent: productOf[slug], Space: slug, Name: "A product"},
			store.Entity{Parent: ticketOf[slug], Space: slug, Name: "A ticket", OwnerID: personID(ownerOf[slug])},
			store.Entity{Parent: meetingOf[slug], Space: slug, Name: "A meeting"},
			store.Comment{TicketID: ticketOf[slug].ID, ID: commentOf[slug]})
	}
	if _, err := db.Put(context.Background(), append(objects, members...)...); err != nil {
		return err
	}
	for _, p := range people {
		var err error
		if m.keys[p.name], err = newKey(db, p.id); err != nil {
			return err
		}
	}
	return nil
}

// newKey makes a key that never expires.
func newKey(keys store.Keys, user uuid.UUID) (secret string, err error) {
	secret, prefix := token.NewKey()
	return secret, keys.CreateKey(context.Background(), store.Key{
		ID: new(store.IDs).New(startOfTime.Add(-time.Hour)), UserID: user, Name: "fixture", Prefix: prefix, Hash: token.Hash(secret), CreatedAt: startOfTime})
}

// fullName is the full name of a person of the fixture.
func fullName(name string) string { return strings.ToUpper(name[:1]) + name[1:] + " Person" }

// serve serves a handler as the command does. An earlier server keeps running, but
// steps do not reach it any more.
func (w *world) serve(handler http.Handler) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	httpServer := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(w.server.Log.Handler(), slog.LevelError),

		// The general handler of OPTIONS * would answer without the server's headers.
		DisableGeneralOptionsHandler: true,
	}
	done := make(chan error, 1)
	go func() { done <- httpServer.Serve(listener) }()
	counting, stopCounting := context.WithCancel(context.Background())
	counted, server := make(chan struct{}), w.server
	go func() { server.RunJob(counting, "count attachments", 0); close(counted) }()
	stop := func() { stopCounting(); <-counted }
	w.stopCounting = stop
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	w.url = "http://" + listener.Addr().String()
	w.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	w.t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := httpServer.Shutdown(ctx); err != nil {
			w.t.Errorf("shutting the server down: %v", err)
			httpServer.Close()
		}
		if err := server.AwaitReadinessProbe(ctx); err != nil {
			w.t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			w.t.Errorf("serving ended: %v", err)
		}
	})
}

// flushContents writes what is staged to blobs. In a world that happens only by this
// call.
func (w *world) flushContents() {
	ended, end := context.WithCancel(context.Background())
	end()
	w.server.RunJob(ended, "flush staged contents", 0)
}

// contents returns the store of blobs and staged contents.
func (w *world) contents() blobs.Store {
	return contents.New(w.store, w.kept, contents.Options{Stager: w.server.Abilities.Stager, Batcher: w.kept, Marker: w.kept, Log: w.server.Log})
}

// checkStorage runs after every test, when the server is down: both stores must agree
// and nothing be left over.
func (w *world) checkStorage() {
	ctx := context.Background()
	if w.server != nil {
		w.flushContents()
	}
	var stored blobs.Store = w.kept
	if w.server != nil {
		stored = w.server.Blobs // which an option may have replaced
	}
	report, err := upkeep.Check(ctx, w.store, stored, upkeep.CheckOptions{})
	if err != nil {
		w.t.Errorf("checking the stores: %v", err)
	}
	for _, fault := range report.Faults {
		w.t.Errorf("after the test: %v", fault)
	}
	if report.Orphans > 0 {
		w.t.Errorf("after the test: nothing refers to %d blobs", report.Orphans)
	}
	if left := w.temporaryFiles(); len(left) > 0 {
		w.t.Errorf("after the test: temporary files are left: %v", left)
	}
	if err := errors.Join(w.store.Close(), w.kept.Close()); err != nil {
		w.t.Errorf("closing the stores: %v", err)
	}
	w.checkModes()
	w.checkLog()
}

// checkModes checks that no other user can read what is stored.
func (w *world) checkModes() {
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil && runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			w.t.Errorf("after the test: %s has mode %v", entry.Name(), info.Mode())
		}
		return err
	})
	if err != nil {
		w.t.Errorf("after the test: %v", err)
	}
}

// checkLog checks that the log has no error that the test did not expect.
func (w *world) checkLog() {
	for _, line := range w.log.lines() {
		if !strings.Contains(line, `"level":"ERROR"`) {
			continue
		}
		if !slices.ContainsFunc(w.expected, func(s string) bool { return strings.Contains(line, s) }) {
			w.t.Errorf("the log has an error: %s", line)
		}
	}
	if w.t.Failed() {
		lines := w.log.lines()
		w.t.Logf("the end of the log:\n%s", strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// expectLog allows lines of the log at level ERROR with this part.
func (w *world) expectLog(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expected = append(w.expected, part)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// temporaryFiles lists the files of uploads under way.
func (w *world) temporaryFiles() []string {
	entries, err := os.ReadDir(filepath.Join(w.dir, "tmp"))
	w.must(err)
	var names []string
	if w.twin != nil {
		names = w.twin.temporaryFiles()
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// records counts all attachments.
func (w *world) records() int {
	n := 0
	for after := uuid.Nil; ; {
		page, err := w.store.AllAttachments(context.Background(), after, 1000)
		w.must(err)
		if n += len(page); len(page) < 1000 {
			return n
		}
		after = page[len(page)-1].ID
	}
}

// storedContents counts the blobs.
func (w *world) storedContents() (n int) {
	w.flushContents()
	for _, err := range w.kept.All(context.Background(), blobs.Ref{}) {
		w.must(err)
		n++
	}
	return n
}

// blobFile returns the path of an attachment's content.
func (w *world) blobFile(t *testing.T, name string) string {
	t.Helper()
	if *withVersitygw || *withPostgres {
		t.Skip("looks at the file of a content")
	}
	w.flushContents()
	a, err := w.store.Attachment(context.Background(), uuid.MustParse(w.fill(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	ref := blobs.Ref(a.SHA256).String()
	return filepath.Join(w.dir, "blobs", "sha256", ref[:2], ref)
}

// eventually waits for asynchronous work.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// clock is a clock that stands still until it is advanced.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	elapsed time.Duration
}

// startOfTime is the time at which every world begins.
var startOfTime = time.Date(2026, 1, 15, 10, 30, 0, 0, time.UTC)

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now, c.elapsed = c.now.Add(d), c.elapsed+d
}

// set sets the clock ahead or back, without time passing.
func (c *clock) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func (c *clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsed
}

// testDisk is the real disk with the capacity that a test sets. It does not sync
// folders: what a power cut leaves is tested in package blobs, and these tests are
// many.
type testDisk struct {
	disk.FileSystem
	free atomic.Int64           // 0 is the real one
	gain atomic.Int64           // how much of it each content makes that is removed
	rots atomic.Bool            // reads return capitals, although no file was changed
	asks atomic.Pointer[func()] // called before each read
}

func (d *testDisk) Open(name string) (disk.File, error) {
	file, err := d.FileSystem.Open(name)
	if err == nil && d.rots.Load() {
		file = rotten{file}
	}
	if ask := d.asks.Load(); err == nil && ask != nil {
		file = askedFirst{file, *ask}
	}
	return file, err
}

type askedFirst struct {
	disk.File
	ask func()
}

func (a askedFirst) Read(p []byte) (int, error) {
	a.ask()
	return a.File.Read(p)
}

type rotten struct{ disk.File }

func (r rotten) Read(p []byte) (int, error) {
	n, err := r.File.Read(p)
	copy(p, bytes.ToUpper(p[:n]))
	return n, err
}

func (d *testDisk) Capacity() (blobs.Capacity, error) {
	space, err := d.FileSystem.Capacity()
	if free := d.free.Load(); free != 0 {
		space.Free = free
	}
	return space, err
}

func (d *testDisk) Remove(name string) error {
	err := d.FileSystem.Remove(name)
	if err == nil && strings.Contains(name, "sha256") {
		d.free.Add(d.gain.Load())
	}
	return err
}

func (d *testDisk) SyncDir(string) error { return nil }

func (d *testDisk) SyncsAll() bool { return true }

func (d *testDisk) SyncAll() error { return nil }

// ballast is a ballast in memory, of the size that a test sets.
type ballast struct{ want, held atomic.Int64 }

func (b *ballast) giveUp() bool { return b.held.Swap(0) > 0 }

func (b *ballast) Missing(int64) int64 { return b.want.Load() - b.held.Load() }

func (b *ballast) Refill(int64) error {
	b.held.Store(b.want.Load())
	return nil
}

// logBuffer collects what the server logs.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.buf.String()), "\n")
}

// request returns the log's line about an answered request. It is written after the
// answer was sent.
func (b *logBuffer) request(t *testing.T, id string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, "the log line of request "+id, func() bool {
		for _, line := range b.lines() {
			var entry map[string]any
			if json.Unmarshal([]byte(line), &entry) == nil && entry["msg"] == "request" && entry["request_id"] == id {
				found = entry
				return true
			}
		}
		return false
	})
	return found
}

// answer is a response, read as far as possible.
type answer struct {
	status int
	header http.Header
	body   []byte
	cut    error // why the body ended early
}

// result returns the body, or of several lines the last: long work reports its progress
// in those before, each half second.
func (a answer) result() []byte {
	if a.header.Get("Content-Type") != "application/x-ndjson" {
		return a.body
	}
	lines := bytes.TrimSpace(a.body)
	return lines[bytes.LastIndexByte(lines, '\n')+1:]
}

func (a answer) object(t *testing.T) map[string]any {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal(a.body, &object); err != nil {
		t.Fatalf("not a JSON object: %v: %s", err, a.body)
	}
	return object
}

func (a answer) list(t *testing.T) []map[string]any {
	t.Helper()
	var list []map[string]any
	if err := json.Unmarshal(a.body, &list); err != nil || list == nil {
		t.Fatalf("not a JSON array: %v: %s", err, a.body)
	}
	return list
}

// strings returns a member of each object of a list.
func (a answer) strings(t *testing.T, member string) []string {
	t.Helper()
	values := []string{}
	for _, object := range a.list(t) {
		value, _ := object[member].(string)
		values = append(values, value)
	}
	return values
}

func readAnswer(response *http.Response) answer {
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	return answer{status: response.StatusCode, header: response.Header, body: body, cut: err}
}

// checkPromises checks what holds for every answer.
func (w *world) checkPromises(t *testing.T, method, path string, a answer) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Request-Id":                 "",
		"X-Content-Type-Options":       "nosniff",
		"Content-Security-Policy":      "",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "",
		"Cache-Control":                "",
	} {
		values := a.header.Values(name)
		if len(values) != 1 || values[0] == "" || want != "" && values[0] != want {
			t.Errorf("%s is %q, want %s", name, values, cmp.Or(want, "one"))
		}
	}
	if a.header.Get("Content-Security-Policy") != "" && !strings.Contains(a.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("Content-Security-Policy is %q", a.header.Get("Content-Security-Policy"))
	}
	if len(a.body) > 0 && a.header.Get("Content-Type") == "" {
		t.Errorf("a body without a Content-Type: %.200s", a.body)
	}
	if a.header.Get("Server") != "" && !*withReplicas { // nginx names itself
		t.Errorf("the server names itself: %q", a.header.Get("Server"))
	}
	for _, secret := range []string{w.dir, "goroutine ", ".go:", "attachd.db"} {
		if a.status >= 500 && bytes.Contains(a.body, []byte(secret)) {
			t.Errorf("the answer shows internals (%q): %s", secret, a.body)
		}
	}
	w.checkDocument(t, method, path, a)
	if a.status < 400 || method == "HEAD" {
		return
	}
	w.checkRefusal(t, path, a)
}

// checkRefusal checks the form of a refusal. Readiness has a different one.
func (w *world) checkRefusal(t *testing.T, path string, a answer) {
	t.Helper()
	if strings.HasSuffix(path, "/health/ready") {
		return
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("a refusal of type %q: %.200s", got, a.body)
		return
	}
	object := a.object(t)
	members := []string{"code", "detail", "request_id"}
	if _, has := object["line"]; has && strings.HasSuffix(path, "/directory/import") {
		members = append(members, "line")
	}
	for _, member := range members {
		value, has := object[member]
		if !has || value == "" {
			t.Errorf("a refusal without %s: %s", member, a.body)
		}
		if value == "Not found." {
			t.Errorf("a refusal that does not say what is not there: %s", a.body)
		}
		delete(object, member)
	}
	if len(object) > 0 {
		t.Errorf("a refusal with more than it should have: %s", a.body)
	}
	if !bytes.Contains(a.body, []byte(`"request_id":"`+a.header.Get("X-Request-Id")+`"`)) {
		t.Errorf("the request id of the body is not %s: %s", a.header.Get("X-Request-Id"), a.body)
	}
	if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("a 401 with WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
	}
	if (a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable) && a.header.Get("Retry-After") == "" {
		t.Errorf("a %d without Retry-After", a.status)
	}
	if a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
		t.Error("a 405 without Allow")
	}
}

// copyRecord makes n more attachments like an existing one.
func (w *world) copyRecord(t *testing.T, name string, n int) {
	t.Helper()
	w.flushContents() // the records to come have no content of their own
	a, err := w.store.Attachment(context.Background(), uuid.MustParse(w.fill(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range n / 10 {
				w.createRecord(t, a)
			}
		})
	}
	for range n % 10 {
		w.createRecord(t, a)
	}
	wait.Wait()
}

// createRecord records an attachment under a new id.
func (w *world) createRecord(t *testing.T, a store.Attachment) uuid.UUID {
	a.ID = uuid.Must(uuid.NewV7())
	if err := w.store.CreateAttachment(context.Background(), a, nil, ""); err != nil {
		t.Error(err)
	}
	return a.ID
}

// publicURL sets the server's public URL.
func publicURL(address string) func(*server.Config) {
	return func(c *server.Config) { c.PublicURL = address }
}
