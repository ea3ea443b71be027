package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/server/upkeep"
	"attachd/store/bolt"
)

const (
	// skewRefused is how far the clocks may be apart before stores refuse requests, and
	// skewTold how far before it is worth a warning.
	skewRefused = 15 * time.Minute
	skewTold    = time.Minute
	// soonExpired is how long before credentials expire that is worth a warning: those
	// of machines and pods are replaced earlier.
	soonExpired = time.Minute
)

// bucketCase is what the examination of the object store has to do with.
type bucketCase struct {
	*Case
	*s3.Diagnosis
	name    string // of the object that the doctor writes
	content []byte // of it
	found   []Finding
}

// objectStore examines the bucket, if contents are in one. It writes an object of a few bytes
// below the prefix, and deletes it. It stops at the first thing without which the next ones
// make no sense.
func objectStore(ctx context.Context, c *Case) []Finding {
	if c.Config.Storage.Backend != "s3" {
		return nil
	}
	if c.NoAccount != nil {
		return problem("Correct what is set for storage.s3_*.", "The object store cannot be used, so the server does not start: %v.", c.NoAccount)
	}
	b, err := newBucketCase(c)
	if err != nil {
		return problem("Correct what is set for storage.s3_*.", "The object store cannot be used, so the server does not start: %v.", err)
	}
	b.look(ctx, b.greets, b.hasCredentials, b.isOurs, b.writes, b.links, b.refusesOthers, b.deletes, b.policy)
	return b.found
}

func newBucketCase(c *Case) (*bucketCase, error) {
	diagnosis, err := s3.Diagnose(c.Account)
	key := blobs.NewKey().String()
	return &bucketCase{Case: c, Diagnosis: diagnosis, name: c.Config.Storage.S3Prefix + "probe/" + key, content: []byte("attachd doctor " + key)}, err
}

// look examines the store until an examination says that the next ones make no sense.
func (b *bucketCase) look(ctx context.Context, examinations ...func(context.Context) bool) {
	for _, examination := range examinations {
		if !examination(ctx) {
			return
		}
	}
}

// AtStart returns what keeps a server that starts from using the object store, as far as that
// is seen without writing there.
func AtStart(ctx context.Context, c *Case) (problems []Finding, err error) {
	b, err := newBucketCase(c)
	if err != nil {
		return nil, err
	}
	b.look(ctx, b.greets, b.hasCredentials, b.isOurs)
	for _, f := range b.found {
		if f.Level == Problem {
			problems = append(problems, f)
		}
	}
	return problems, ctx.Err()
}

// Marked counts the contents that a database says are damaged in the object store.
func Marked(ctx context.Context, records any) (int, error) {
	db, is := records.(*bolt.Store)
	if !is {
		return 0, nil
	}
	catalog, err := db.Catalog(ctx)
	if err != nil {
		return 0, err
	}
	return catalog.Damaged(), nil
}

func (b *bucketCase) add(found []Finding) { b.found = append(b.found, found...) }

// fails adds the explanation of an error, and returns whether there was none.
func (b *bucketCase) fails(doing string, err error) (ok bool) {
	if err == nil {
		return true
	}
	says, do := b.explain(err)
	b.add(problem(do, "%s: %s (%v).", doing, says, err))
	return false
}

// greets checks that the store answers at all, whether its clock is the machine's, and what
// its confirmations are known to mean.
func (b *bucketCase) greets(ctx context.Context) bool {
	greeting, err := b.Greet(ctx)
	if !b.fails("The object store cannot be reached at "+b.Endpoint, err) {
		return false
	}
	const set = "Set the clock, and keep it right with NTP (timedatectl set-ntp true), here or where the object store runs."
	switch apart := greeting.Ahead.Abs(); {
	case apart > skewRefused:
		b.add(problem(set, "The clock is %s apart from that of the object store, which refuses requests for it.", apart))
	case apart > skewTold:
		b.add(warning(set, "The clock is %s apart from that of the object store; from 15 minutes on it refuses requests.", apart))
	}
	switch name, means, lasting := s3.Confirmation(greeting.Server); {
	case means == "":
		b.add(warning("Ask its maker whether a 200 means that the bytes survive a power cut, and how many machines have them then.",
			"What it means when this object store (%s) confirms a file is unknown to attachd.", cmp.Or(name, "it gives no name")))
	case !lasting:
		b.add(warning("Have it sync, if it can; or see that a power cut does not end all machines that have a file. What was uploaded last can be uploaded again.", "The object store says that it is %s: %s.", name, means))
	default:
		b.add(ok("The object store says that it is %s: %s.", name, means))
	}
	return true
}

func (b *bucketCase) hasCredentials(context.Context) bool {
	source, expires := b.Credentials()
	switch left := expires.Sub(b.Now); {
	case source == "":
		b.add(problem("Set storage.s3_access_key and storage.s3_secret_key_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for the server, or give the machine or the pod an identity.",
			"There are no credentials for the object store: neither in the configuration nor in the environment, the shared file, or an identity of the machine."))
		return false
	case expires.IsZero():
		b.add(ok("The credentials come from %s.", source))
	case left < soonExpired:
		b.add(problem("See why nothing renews them.", "The credentials come from %s, and expire at %s.", source, expires.UTC().Format(time.RFC3339)))
	default:
		b.add(ok("The credentials come from %s, and expire at %s unless they are renewed before; links to files expire with them.", source, expires.UTC().Format(time.RFC3339)))
	}
	return true
}

// home checks that files are where the configuration says, and where the server looks for
// them.
func home(ctx context.Context, c *Case) []Finding {
	if !c.hasDatabase() || c.unusable() != nil {
		return nil
	}
	status, err := c.Status(ctx)
	if err != nil {
		return nil // the examination of the database reports it
	}
	at, configured := status.Home, c.Config.Storage.Backend
	switch {
	case at.Unknown:
		return problem("Restart the server: the start says with which storage.backend it works.",
			"It is not known whether the files were moved, since noting it failed: the server refuses uploads and deletions.")
	case at.Backend == "" || !at.Fixed && at.Backend == "disk":
		return nil // the next start may choose
	case c.Running && status.Storage.Backend != at.Backend:
		return problem(fmt.Sprintf("Restart the server with the new configuration, in which storage.backend is %q.", at.Backend),
			"The files were moved to storage.backend = %q while the server runs with %q: it refuses uploads and deletions.", at.Backend, status.Storage.Backend)
	case at.Backend == configured:
		return nil
	case c.Running:
		return warning(fmt.Sprintf("Set storage.backend to %q, or move the files with `attachd migrate`, before the server is restarted.", at.Backend),
			"The server keeps files in storage.backend = %q, and with this configuration, which says %q, it does not start.", at.Backend, configured)
	}
	return problem(fmt.Sprintf("Set storage.backend to %q; `attachd migrate` moves the files.", at.Backend),
		"The server does not start: the files are in storage.backend = %q, and the configuration says %q.", at.Backend, configured)
}

// isOurs checks whose the prefix is, before anything is written there.
func (b *bucketCase) isOurs(ctx context.Context) bool {
	prefix := b.Config.Storage.S3Prefix
	owner, err := b.Owner(ctx, prefix)
	isNobodys := errors.Is(err, blobs.ErrNotFound)
	if !isNobodys && !b.fails("The bucket cannot be read", err) {
		return false
	}
	var status upkeep.Status
	if b.hasDatabase() && b.unusable() == nil {
		if status, err = b.Status(ctx); err != nil {
			b.add(warning("Do what is said of the database, then run this again.", "Whether the files below %q in the bucket are those of this installation cannot be told: the database cannot be read (%v).", prefix, err))
			return false
		}
	}
	if isNobodys && status.Home.Objects { // once more, since the server may have taken it meanwhile
		owner, err = b.Owner(ctx, prefix)
		isNobodys = errors.Is(err, blobs.ErrNotFound)
		if !isNobodys && !b.fails("The bucket cannot be read", err) {
			return false
		}
	}
	if found := b.foreign(owner, isNobodys, status); found != nil {
		b.add(found)
		return false
	}
	if owner.Contested {
		b.add(problem("Stop the one that is not needed for good, restart the other one, then run `attachd gc` there.",
			"Two copies of this database, such as a machine and its clone, were started with the prefix %q: neither deletes anything there.", prefix))
	}
	b.add(ok("Files are kept in the bucket %s, below %q, of the object store at %s.", b.Bucket, prefix, b.Endpoint))
	if isNobodys {
		b.add(warning("Where files were uploaded before, see that storage.s3_bucket and storage.s3_prefix are the right ones.", "Nothing is below %q in the bucket yet.", prefix))
	}
	return true
}

// foreign returns why the server would not use the prefix; nil if it would.
func (b *bucketCase) foreign(owner s3.Owner, isNobodys bool, status upkeep.Status) []Finding {
	prefix, tenant := b.Config.Storage.S3Prefix, ""
	if status.Home.Tenant != uuid.Nil {
		tenant = status.Home.Tenant.String()
	}
	const another = "Give this installation another storage.s3_prefix, or restore the database that belongs to the bucket. Two on one prefix would delete each other's files."
	switch {
	case isNobodys && status.Home.Objects:
		return problem("See that storage.s3_endpoint, s3_bucket and s3_prefix are those with which the files were uploaded, and that nothing else deletes objects there.",
			"The files are not below %q in the bucket %s: there is no attachd.json.", prefix, b.Bucket)
	case isNobodys:
		return nil
	case owner.Newer:
		return problem("Update this attachd.", "The files below %q in the bucket were written by a newer attachd.", prefix)
	case status.Installation == uuid.Nil:
		return problem(another, "The files below %q in the bucket belong to an installation, %s, whose database is not here.", prefix, owner.Installation)
	case status.Installation.String() != owner.Installation:
		return problem(another, "The files below %q in the bucket belong to another installation, %s.", prefix, owner.Installation)
	case tenant != owner.Tenant:
		return problem("Give this one another storage.s3_prefix.",
			"The files below %q in the bucket belong to the database that this one is a copy of, restored from a backup.", prefix)
	}
	return nil
}

// writes checks that objects can be written, read, listed and found.
func (b *bucketCase) writes(ctx context.Context) bool {
	size := int64(len(b.content))
	if err := b.Put(ctx, b.name, bytes.NewReader(b.content), size, blobs.RefOf(b.content)); !b.fails("An object cannot be written", err) {
		return false
	}
	for _, part := range [][2]int64{{0, size}, {5, size}, {2, 6}} {
		body, whole, err := b.Get(ctx, b.name, part[0], part[1])
		var got []byte
		if err == nil {
			got, err = io.ReadAll(io.LimitReader(body, size+1))
			err = errors.Join(err, body.Close())
		}
		if err == nil && (whole != size || !bytes.Equal(got, b.content[part[0]:part[1]])) {
			err = fmt.Errorf("it returns %d bytes other than those that were written", len(got))
		}
		if !b.fails(fmt.Sprintf("An object that was just written cannot be read from byte %d on", part[0]), err) {
			return false
		}
	}
	got, _, err := b.Stat(ctx, b.name)
	if err == nil && got != size {
		err = fmt.Errorf("it says that %d bytes are there", got)
	}
	if !b.fails("An object that was just written is not described as it is", err) {
		return false
	}
	page, _, err := b.List(ctx, b.name, "")
	if err == nil && (len(page) != 1 || page[0].Name != b.name || page[0].Size != size) {
		err = fmt.Errorf("it lists %d", len(page))
	}
	if err != nil {
		says, do := b.explain(err)
		b.add(warning(do, "Objects cannot be listed: %s (%v). Uploads and downloads work without; `attachd check` and `attachd gc` do not.", says, err))
	}
	return true
}

// refusesOthers checks that the store refuses bytes that are not those of the digest.
func (b *bucketCase) refusesOthers(ctx context.Context) bool {
	name, other := b.name[:len(b.name)-16]+blobs.NewKey().String(), bytes.ToUpper(b.content)
	err := b.Put(ctx, name, bytes.NewReader(other), int64(len(other)), blobs.RefOf(b.content))
	var refused *s3.StoreError
	switch {
	case errors.As(err, &refused) && refused.Status < 500:
		b.add(ok("Objects can be written and read, and the object store refuses bytes that have changed on their way."))
		return true
	case err != nil:
		return b.fails("An object with a wrong digest is not answered as it should be", err)
	}
	b.add(warning("Nothing need be done; but use https, and let the scrub run (scrub.rate), which finds such files later.",
		"This object store does not check digests: bytes that change on their way there are not refused."))
	return b.fails("An object cannot be deleted", b.Delete(ctx, name))
}

func (b *bucketCase) deletes(ctx context.Context) bool {
	err := b.Delete(ctx, b.name)
	if err == nil {
		if _, _, err = b.Stat(ctx, b.name); err == nil {
			err = errors.New("it is still there")
		} else if errors.Is(err, blobs.ErrNotFound) {
			return true
		}
	}
	return b.fails("An object cannot be deleted", err)
}

// links checks that clients can read from the store themselves.
func (b *bucketCase) links(ctx context.Context) bool {
	if b.Config.Downloads.Mode == "content" {
		return true // nobody gets such a link
	}
	endpoint := cmp.Or(b.PublicEndpoint, b.Endpoint)
	const do = "Set storage.s3_public_endpoint to the address at which clients reach the object store, without a proxy that changes the host; or set downloads.mode to \"content\"."
	link, _, err := b.Link(ctx, b.name, blobs.LinkOptions{TTL: time.Minute, Type: "text/plain", Disposition: "attachment"})
	var got []byte
	if err == nil {
		got, err = b.Follow(ctx, link)
	}
	if err == nil && !bytes.Equal(got, b.content) {
		err = errors.New("the answer is not the object")
	}
	switch u, _ := url.Parse(b.Config.PublicURL); {
	case err != nil:
		says, _ := b.explain(err)
		b.add(warning(do, "A signed link to a file, as clients get it, does not work at %s: %s (%v).", endpoint, says, err))
	case u != nil && u.Host != "" && !private(u.Hostname()) && private(hostOf(endpoint)):
		b.add(warning(do, "Links to files lead clients to %s, which looks like a name of a private network, while public_url is %s.", endpoint, b.Config.PublicURL))
	default:
		b.add(ok("Signed links to files work at %s.", endpoint))
	}
	return true
}

func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Hostname()
}

// private reports whether a host is one that only its own network knows.
func private(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.IsPrivate() || address.IsLoopback() || address.IsLinkLocalUnicast()
	}
	if !strings.Contains(strings.TrimSuffix(host, "."), ".") {
		return true
	}
	for _, end := range []string{".local", ".internal", ".lan", ".home.arpa", ".svc", ".localhost", ".intranet", ".corp", ".consul"} {
		if strings.HasSuffix(strings.TrimSuffix(host, "."), end) {
			return true
		}
	}
	return false
}

// policy checks what the bucket does with objects by itself.
func (b *bucketCase) policy(ctx context.Context) bool {
	p, unknown, err := b.Policy(ctx, b.Config.Storage.S3Prefix+"blobs/")
	if err != nil {
		says, do := b.explain(err)
		b.add(warning(do, "What the bucket does with objects by itself cannot be asked: %s (%v).", says, err))
		return true
	}
	if len(p.Expires) > 0 {
		b.add(problem("Remove the rule, or have it leave this prefix alone: attachd deletes what is not needed by itself.",
			"A lifecycle rule of the bucket deletes or archives files of attachd: %s.", strings.Join(p.Expires, ", ")))
	}
	if p.Locked != "" {
		b.add(warning("Where that is not wanted, remove the default retention of the bucket.", "New objects are locked for %s: deleted files stay in the bucket for so long.", strings.ToLower(p.Locked)))
	}
	switch {
	case p.Versions && !p.Cleans:
		b.add(warning("Add a lifecycle rule to the bucket that deletes noncurrent versions after some days, and expired delete markers.",
			"The bucket keeps versions, and no rule deletes them: deleted files stay there for ever."))
	case p.Versions:
		b.add(ok("The bucket keeps versions of deleted files for some days."))
	}
	if len(unknown) > 0 {
		b.add(ok("The key may not ask for the %s of the bucket; nothing that matters should be set there.", strings.Join(unknown, ", ")))
	}
	return true
}

// codes are the errors of object stores, by their code, with what to do about each.
var codes = map[string]struct{ says, do string }{
	"InvalidAccessKeyId":           {"the store does not know the access key", "Correct storage.s3_access_key, or where the credentials come from."},
	"SignatureDoesNotMatch":        {"the secret does not belong to the access key, or a proxy has changed the request", "Correct storage.s3_secret_key_file; where that is right, have proxies pass the host and the path on as they are."},
	"AccessDenied":                 {"the key may not do this", "Give it s3:GetObject, s3:PutObject and s3:DeleteObject for the prefix, and s3:ListBucket for the bucket."},
	"NoSuchBucket":                 {"there is no such bucket", "Make the bucket, or correct storage.s3_bucket; where the bucket belongs into the host or the path of URLs, set storage.s3_path_style."},
	"AuthorizationHeaderMalformed": {"requests are signed for another region than the bucket's", "Set storage.s3_region to the bucket's region."},
	"PermanentRedirect":            {"the bucket is at another address", "Set storage.s3_region and storage.s3_endpoint to those of the bucket."},
	"RequestTimeTooSkewed":         {"the clocks are too far apart", "Set the clock, and keep it right with NTP (timedatectl set-ntp true)."},
	"ExpiredToken":                 {"the credentials have expired", "See why nothing renews them."},
	"InvalidToken":                 {"the session token of the credentials is wrong", "See that AWS_SESSION_TOKEN belongs to the other credentials."},
	"SlowDown":                     {"the store has too much to do", "Run this again later."},
	"NotImplemented":               {"the store cannot do this", "Use a store that speaks the protocol of S3."},
	"MethodNotAllowed":             {"what answers there does not speak the protocol of S3 under this address", "Correct storage.s3_endpoint, which is the store itself, without a bucket or a path."},
}

// explain says what an error of the object store means, and what to do about it.
func (b *bucketCase) explain(err error) (says, do string) {
	var answer *s3.StoreError
	if !errors.As(err, &answer) {
		return explainNoAnswer(err)
	}
	code := answer.Code
	switch {
	case code == "InvalidRegion" || code == "IllegalLocationConstraintException" || code == "AuthorizationQueryParametersError":
		code = "AuthorizationHeaderMalformed"
	case code == "AllAccessDisabled" || code == "AccountProblem":
		code = "AccessDenied"
	case code == "XAdminUserNotFound" || answer.Status == http.StatusUnauthorized:
		code = "InvalidAccessKeyId"
	}
	if known, is := codes[code]; is {
		return known.says, known.do
	}
	switch {
	case answer.Status == http.StatusForbidden:
		return codes["AccessDenied"].says, codes["AccessDenied"].do
	case answer.Status == http.StatusMovedPermanently || answer.Status == http.StatusTemporaryRedirect:
		return codes["PermanentRedirect"].says, codes["PermanentRedirect"].do
	case answer.Status >= 500:
		return "the store has failed", "See what its log says, and run this again."
	}
	return "the store refuses the request", "See storage.s3_* in the configuration, and what the store's log says."
}

// explainNoAnswer is explain where the store was not reached.
func explainNoAnswer(err error) (says, do string) {
	var (
		unknown   x509.UnknownAuthorityError
		other     x509.HostnameError
		invalid   x509.CertificateInvalidError
		nameError *net.DNSError
		slow      net.Error
	)
	const reach = "See that storage.s3_endpoint is right, that the store runs, and that no firewall is between."
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by an authority that this machine does not know", "Name a PEM file with the authority's certificate in storage.s3_ca_file."
	case errors.As(err, &other):
		return "its certificate is for another name", "Use the name in the certificate in storage.s3_endpoint; where the bucket is in the host, set storage.s3_path_style to \"true\"."
	case errors.As(err, &invalid):
		return "its certificate is not valid", "Renew it where the store runs; or set the clock of this machine."
	case errors.As(err, &nameError):
		return "its name is not known", "Correct storage.s3_endpoint, or the name server of this machine; where the bucket is in the host, set storage.s3_path_style to \"true\"."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there", reach
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to it", reach
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it speaks http and not https", "Begin storage.s3_endpoint with http, or turn on TLS where the store runs."
	case errors.As(err, &slow) && slow.Timeout():
		return "it does not answer in time", reach
	case errors.Is(err, blobs.ErrNotFound):
		return "it is not there", "See that storage.s3_endpoint leads to the store itself, and that nothing else deletes objects in the bucket."
	}
	return "it fails", reach
}
