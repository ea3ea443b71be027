package doctor

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"attachd/blobs"
	"attachd/blobs/s3"
	"attachd/blobs/s3/s3test"
	"attachd/server/upkeep"
	"attachd/store/bolt"
)

// objects is an object store over HTTP with a bucket "files", as a doctor meets it.
type objects struct {
	s3test.Memory
	server    string                                            // its Server header
	ahead     time.Duration                                     // of its clock
	gullible  bool                                              // it checks no digests
	configs   map[string]string                                 // answers to questions about the bucket, by the question
	otherwise func(w http.ResponseWriter, r *http.Request) bool // answers in place of the store, or returns false
}

func (o *objects) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", o.server)
	w.Header().Set("Date", time.Now().Add(o.ahead).UTC().Format(http.TimeFormat))
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	signed := r.Header.Get("Authorization") != "" || r.URL.Query().Has("X-Amz-Signature")
	switch {
	case o.otherwise != nil && o.otherwise(w, r):
	case !signed:
		refuses(w, 403, "AccessDenied")
	case bucket != "files":
		refuses(w, 404, "NoSuchBucket")
	case name == "" && r.URL.Query().Has("list-type"):
		o.list(w, r)
	case name == "":
		o.config(w, r)
	case r.Method == "PUT":
		o.put(w, r, name)
	case r.Method == "DELETE":
		_ = o.Delete(r.Context(), name)
		w.WriteHeader(204)
	default:
		o.get(w, r, name)
	}
}

func refuses(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (o *objects) list(w http.ResponseWriter, r *http.Request) {
	page, _, _ := o.List(r.Context(), r.URL.Query().Get("prefix"), "")
	fmt.Fprint(w, "<ListBucketResult>")
	for _, one := range page {
		fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>", one.Name, one.Size, one.Modified.UTC().Format(time.RFC3339))
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func (o *objects) config(w http.ResponseWriter, r *http.Request) {
	for question, answer := range o.configs {
		if r.URL.Query().Has(question) {
			if status, code, is := strings.Cut(answer, " "); is && len(status) == 3 {
				n, _ := strconv.Atoi(status)
				refuses(w, n, code)
				return
			}
			fmt.Fprint(w, answer)
			return
		}
	}
	refuses(w, 501, "NotImplemented")
}

func (o *objects) put(w http.ResponseWriter, r *http.Request, name string) {
	raw, _ := io.ReadAll(r.Body)
	if sum := blobs.RefOf(raw); r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]) && !o.gullible {
		refuses(w, 400, "XAmzContentSHA256Mismatch")
		return
	}
	o.Change(name, raw)
}

func (o *objects) get(w http.ResponseWriter, r *http.Request, name string) {
	body, _, err := o.Get(r.Context(), name, 0, 0)
	if err != nil {
		refuses(w, 404, "NoSuchKey")
		return
	}
	raw, _ := io.ReadAll(body)
	w.Header().Set("Content-Type", "text/plain")
	http.ServeContent(w, r, "", time.Now(), strings.NewReader(string(raw)))
}

// withBucket is a healthy installation whose contents are in a store.
func withBucket(t *testing.T, o *objects) *Case {
	t.Helper()
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	return withStore(t, server.URL)
}

func withStore(t *testing.T, endpoint string) *Case {
	t.Helper()
	c := healthy(t)
	c.Config.Storage.Backend, c.Config.Storage.S3Prefix = "s3", "attachd/"
	c.Account = s3.Account{Endpoint: endpoint, Bucket: "files", AccessKey: "key", SecretKey: "secret", Timeout: 2 * time.Second, PathStyle: "true"}
	return c
}

func TestABucketThatWorksIsOK(t *testing.T) {
	o := &objects{server: "AmazonS3"}
	c := withBucket(t, o)
	id := uuid.New()
	o.Change("attachd/attachd.json", fmt.Appendf(nil, `{"installation":%q,"layout":1}`, id))
	c.Status = func(context.Context) (upkeep.Status, error) { return upkeep.Status{Installation: id}, nil }
	findings := found(t, c, "object store")
	for _, f := range findings {
		if f.Level != OK {
			t.Errorf("%+v", f)
		}
	}
	if len(findings) < 5 {
		t.Errorf("%+v", findings)
	}
	if left := o.Left(); len(left) != 1 {
		t.Errorf("the doctor has left %q", left)
	}
}

func TestWhatIsWrongWithABucketIsFound(t *testing.T) {
	instead := func(when func(r *http.Request) bool, status int, code string) *objects {
		return &objects{otherwise: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" || !when(r) {
				return false
			}
			refuses(w, status, code)
			return true
		}}
	}
	always := func(*http.Request) bool { return true }
	of := func(method string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.Method == method && !strings.HasSuffix(r.URL.Path, ".json") }
	}
	const rule = "<LifecycleConfiguration><Rule><ID>clean</ID><Status>%s</Status><Filter>%s</Filter>%s</Rule></LifecycleConfiguration>"
	lifecycle := func(status, filter, does string) *objects {
		return &objects{configs: map[string]string{"lifecycle": fmt.Sprintf(rule, status, filter, does)}}
	}
	const expires = "<Expiration><Days>30</Days></Expiration>"
	const versions = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
	for name, c := range map[string]struct {
		store *objects
		level Level
		says  string // empty: nothing
	}{
		"a key that nobody knows":          {instead(always, 403, "InvalidAccessKeyId"), Problem, "does not know the access key"},
		"a wrong secret":                   {instead(always, 403, "SignatureDoesNotMatch"), Problem, "the secret does not belong to the access key"},
		"a key without rights":             {instead(of("PUT"), 403, "AccessDenied"), Problem, "An object cannot be written: the key may not do this"},
		"a key that may not delete":        {instead(of("DELETE"), 403, "AccessDenied"), Problem, "An object cannot be deleted: the key may not do this"},
		"a key that may not read":          {instead(of("GET"), 403, "AccessDenied"), Problem, "cannot be read from byte 0 on: the key may not do this"},
		"a refusal without a code":         {instead(always, 403, ""), Problem, "the key may not do this"},
		"no bucket":                        {instead(always, 404, "NoSuchBucket"), Problem, "there is no such bucket"},
		"another region":                   {instead(always, 400, "AuthorizationHeaderMalformed"), Problem, "for another region"},
		"another address":                  {instead(always, 301, "PermanentRedirect"), Problem, "at another address"},
		"a clock that is wrong, says it":   {instead(always, 403, "RequestTimeTooSkewed"), Problem, "clocks are too far apart"},
		"credentials that have expired":    {instead(always, 400, "ExpiredToken"), Problem, "have expired"},
		"a store that is busy":             {instead(always, 503, "SlowDown"), Problem, "too much to do"},
		"a store that fails":               {instead(always, 500, "InternalError"), Problem, "the store has failed"},
		"something else":                   {instead(always, 405, "MethodNotAllowed"), Problem, "does not speak the protocol"},
		"a clock that is 20 minutes ahead": {&objects{ahead: 20 * time.Minute}, Problem, "apart from that of the object store, which refuses requests"},
		"a clock that is behind":           {&objects{ahead: -3 * time.Minute}, Warning, "apart from that of the object store; from 15 minutes on"},
		"a clock that is right":            {&objects{ahead: 20 * time.Second}, OK, ""},
		"no digests":                       {&objects{gullible: true}, Warning, "does not check digests"},
		"an unknown store":                 {&objects{server: "Acme"}, Warning, "this object store (Acme) confirms a file is unknown to attachd"},
		"a store without a name":           {&objects{}, Warning, "it gives no name"},
		"a store that does not sync":       {&objects{server: "VERSITYGW"}, Warning, "it does not sync"},
		"a list that is refused":           {instead(func(r *http.Request) bool { return r.URL.Query().Has("list-type") }, 403, "AccessDenied"), Warning, "Objects cannot be listed"},
		"links that are refused": {&objects{otherwise: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("X-Amz-Signature") {
				refuses(w, 403, "SignatureDoesNotMatch")
			}
			return r.URL.Query().Has("X-Amz-Signature")
		}}, Warning, "A signed link to a file, as clients get it, does not work"},
		"links that lead elsewhere": {&objects{otherwise: func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Has("X-Amz-Signature") {
				fmt.Fprint(w, "welcome")
			}
			return r.URL.Query().Has("X-Amz-Signature")
		}}, Warning, "the answer is not the object"},
		"a rule that deletes files":           {lifecycle("Enabled", "<Prefix>attachd/</Prefix>", expires), Problem, `deletes or archives files of attachd: "clean"`},
		"a rule that deletes everything":      {lifecycle("Enabled", "", expires), Problem, "deletes or archives"},
		"a rule that deletes some files":      {lifecycle("Enabled", "<Prefix>attachd/blobs/sha256/ab</Prefix>", expires), Problem, "deletes or archives"},
		"a rule that archives":                {lifecycle("Enabled", "", "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>"), Problem, "deletes or archives"},
		"a rule that is off":                  {lifecycle("Disabled", "", expires), Problem, ""},
		"a rule of another prefix":            {lifecycle("Enabled", "<Prefix>logs/</Prefix>", expires), Problem, ""},
		"a rule of objects with a tag":        {lifecycle("Enabled", "<Tag><Key>a</Key><Value>b</Value></Tag>", expires), Problem, ""},
		"a rule of unfinished uploads":        {lifecycle("Enabled", "", "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"), Problem, ""},
		"versions that stay":                  {&objects{configs: map[string]string{"versioning": versions}}, Warning, "The bucket keeps versions, and no rule deletes them"},
		"versions that go":                    {&objects{configs: map[string]string{"versioning": versions, "lifecycle": fmt.Sprintf(rule, "Enabled", "", "<NoncurrentVersionExpiration><NoncurrentDays>7</NoncurrentDays></NoncurrentVersionExpiration>")}}, OK, "keeps versions of deleted files for some days"},
		"locks":                               {&objects{configs: map[string]string{"object-lock": "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>14</Days></DefaultRetention></Rule></ObjectLockConfiguration>"}}, Warning, "locked for 14 days"},
		"questions that the key may not ask":  {&objects{configs: map[string]string{"versioning": "403 AccessDenied", "lifecycle": "403 AccessDenied", "object-lock": "403 AccessDenied"}}, OK, "may not ask for the versions, locks, lifecycle rules"},
		"nothing that was set for the bucket": {&objects{configs: map[string]string{"lifecycle": "404 NoSuchLifecycleConfiguration", "object-lock": "404 ObjectLockConfigurationNotFoundError"}}, Problem, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.store.server == "" && c.says != "it gives no name" {
				c.store.server = "AmazonS3"
			}
			findings := found(t, withBucket(t, c.store), "object store")
			said := false
			for _, f := range findings {
				if strings.HasPrefix(f.Says, "Files are kept") && c.says == "there is no such bucket" {
					t.Errorf("said of no bucket: %+v", f)
				}
				said = said || f.Level == c.level && c.says != "" && strings.Contains(f.Says, c.says)
				if c.says == "" && f.Level != OK && !strings.Contains(f.Says, "Nothing is below") {
					t.Errorf("%+v", f)
				}
			}
			if c.says != "" && !said {
				t.Errorf("%+v", findings)
			}
			if left := c.store.Left(); len(left) > 0 && !strings.Contains(name, "may not") && !strings.Contains(name, "read") {
				t.Errorf("the doctor has left %q", left)
			}
		})
	}
}

// Where this server sends all files, clients need not reach the store.
func TestLinksThatNobodyGetsAreNotTried(t *testing.T) {
	c := withBucket(t, &objects{server: "AmazonS3", otherwise: func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Has("X-Amz-Signature") {
			t.Error("a link was followed")
		}
		return false
	}})
	c.Config.Downloads.Mode = "content"
	for _, f := range found(t, c, "object store") {
		if strings.Contains(f.Says, "link") {
			t.Errorf("%+v", f)
		}
	}
}

func TestAStoreThatCannotBeReachedIsExplained(t *testing.T) {
	secure := httptest.NewTLSServer(&objects{})
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(&objects{})
	t.Cleanup(plain.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { silent.Close() })
	for endpoint, want := range map[string]struct{ says, do string }{
		secure.URL:                                  {"signed by an authority that this machine does not know", "storage.s3_ca_file"},
		"http://" + closed.Addr().String():          {"nothing listens there", "storage.s3_endpoint"},
		"http://" + silent.Addr().String():          {"it does not answer in time", "storage.s3_endpoint"},
		"https://" + plain.Listener.Addr().String(): {"it speaks http and not https", "http"},
	} {
		c := withStore(t, endpoint)
		if strings.HasSuffix(endpoint, silent.Addr().String()) { // the others answer, on a busy machine in a while
			c.Account.Timeout = 300 * time.Millisecond
		}
		findings := found(t, c, "object store")
		if len(findings) != 1 || findings[0].Level != Problem || !strings.Contains(findings[0].Says, want.says) || !strings.Contains(findings[0].Do, want.do) {
			t.Errorf("%s: %+v, not %q", endpoint, findings, want.says)
		}
	}
}

// The server would refuse such a prefix, and the doctor leaves nothing in it.
func TestAPrefixThatTheServerWouldRefuseIsAProblem(t *testing.T) {
	t.Parallel()
	us, tenant := uuid.New(), uuid.New()
	marker := func(installation, tenant any, layout int) string {
		return fmt.Sprintf(`{"installation":"%v","tenant":"%v","layout":%d}`, installation, tenant, layout)
	}
	for name, c := range map[string]struct {
		marker string // empty: none
		none   bool   // there is no database
		err    error  // of the database
		level  Level
		says   string
	}{
		"nothing there":             {"", false, nil, Problem, "The files are not below \"attachd/\" in the bucket files"},
		"another installation":      {marker(uuid.Nil, tenant, 1), false, nil, Problem, "belong to another installation"},
		"a restored copy":           {marker(us, uuid.New(), 1), false, nil, Problem, "a copy of"},
		"a newer layout":            {marker(us, tenant, 2), false, nil, Problem, "a newer attachd"},
		"two copies at work":        {strings.Replace(marker(us, tenant, 1), "}", `,"contested":true}`, 1), false, nil, Problem, "neither deletes"},
		"no database":               {marker(us, tenant, 1), true, nil, Problem, "whose database is not here"},
		"a database that is in use": {marker(us, tenant, 1), false, bolt.ErrLocked, Warning, "cannot be told"},
		"nothing and no database":   {"", true, nil, Warning, "Nothing is below"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &objects{server: "AmazonS3"}
			writes := 0
			o.otherwise = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == "PUT" {
					writes++
				}
				return false
			}
			house := withBucket(t, o)
			if c.marker != "" {
				o.Change("attachd/attachd.json", []byte(c.marker))
			}
			if c.none {
				must(t, os.Remove(house.Dir.Join("attachd.db")))
			}
			house.Status = func(context.Context) (upkeep.Status, error) {
				return upkeep.Status{Installation: us, Home: upkeep.HomeStatus{Backend: "s3", Fixed: true, Tenant: tenant, Objects: true}}, c.err
			}
			findings, said := found(t, house, "object store"), false
			for _, f := range findings {
				said = said || f.Level == c.level && strings.Contains(f.Says, c.says)
			}
			if mayWrite := c.none && c.marker == "" || name == "two copies at work"; !said || (writes > 0) != mayWrite {
				t.Errorf("%d writes, %+v", writes, findings)
			}
		})
	}
}

func TestFilesThatAreElsewhereAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		home       upkeep.HomeStatus
		server     string // empty: none runs
		configured string
		level      Level // empty: nothing is found
		says, do   string
	}{
		"moved, and not restarted":     {upkeep.HomeStatus{Backend: "s3", Fixed: true}, "disk", "s3", Problem, "it refuses uploads and deletions", "Restart the server"},
		"perhaps moved":                {upkeep.HomeStatus{Backend: "s3", Fixed: true, Unknown: true}, "s3", "s3", Problem, "It is not known", "Restart the server"},
		"moved, and not configured":    {upkeep.HomeStatus{Backend: "disk", Fixed: true}, "s3", "s3", Problem, "it refuses uploads and deletions", "\"disk\""},
		"another configuration":        {upkeep.HomeStatus{Backend: "s3", Fixed: true}, "", "disk", Problem, "does not start", "\"s3\""},
		"a disk, and a bucket is set":  {upkeep.HomeStatus{Backend: "disk", Fixed: true}, "", "s3", Problem, "does not start", "\"disk\""},
		"a bucket without attachments": {upkeep.HomeStatus{Backend: "s3"}, "", "disk", Problem, "does not start", "\"s3\""},
		"a look before they are moved": {upkeep.HomeStatus{Backend: "disk", Fixed: true}, "disk", "s3", Warning, "it does not start", "before the server is restarted"},
		"nothing was stored yet":       {upkeep.HomeStatus{Backend: "disk"}, "", "s3", "", "", ""},
		"as configured":                {upkeep.HomeStatus{Backend: "s3", Fixed: true}, "s3", "s3", "", "", ""},
		"as configured, on the disk":   {upkeep.HomeStatus{Backend: "disk", Fixed: true}, "", "disk", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			house := healthy(t)
			house.Config.Storage.Backend, house.Running = c.configured, c.server != ""
			house.Status = func(context.Context) (upkeep.Status, error) {
				return upkeep.Status{Home: c.home, Storage: upkeep.StorageStatus{Backend: c.server}}, nil
			}
			findings := found(t, house, "storage")
			if c.level == "" && len(findings) > 0 || c.level != "" && (len(findings) != 1 || findings[0].Level != c.level ||
				!strings.Contains(findings[0].Says, c.says) || !strings.Contains(findings[0].Do, c.do)) {
				t.Errorf("%+v", findings)
			}
		})
	}
}

func TestAPrivateAddressForLinksIsTold(t *testing.T) {
	c := withBucket(t, &objects{server: "AmazonS3"})
	c.Config.PublicURL = "https://files.example.com"
	told := false
	for _, f := range found(t, c, "object store") {
		told = told || f.Level == Warning && strings.Contains(f.Says, "looks like a name of a private network")
	}
	if !told {
		t.Error("links to a loopback address are OK")
	}
	for host, want := range map[string]bool{
		"localhost": true, "minio": true, "10.0.0.7": true, "192.168.1.2": true, "fd00::1": true, "store.svc": true, "minio.storage.svc.cluster.local": true, "nas.lan": true, "nas.lan.": true,
		"8.8.8.8": false, "2001:4860:4860::8888": false, "s3.amazonaws.com": false, "files.example.com.": false, "internal.example.com": false,
	} {
		if private(host) != want {
			t.Errorf("%s: private %t", host, !want)
		}
	}
}

// The store of which the rest of the tests is an image.
func TestADoctorWithAnObjectStoreThatChecksEverything(t *testing.T) {
	g := s3test.Versitygw(t)
	c := withStore(t, "http://"+g.Host("127.0.0.1"))
	c.Account.Bucket, c.Account.AccessKey, c.Account.SecretKey = "bucket", s3test.GatewayKey, s3test.GatewaySecret
	for _, f := range found(t, c, "object store") {
		if f.Level != OK && !strings.Contains(f.Says, "it does not sync") && !strings.Contains(f.Says, "Nothing is below") {
			t.Errorf("%+v", f)
		}
	}
	for change, want := range map[string]func(){
		"the secret does not belong to the access key": func() { c.Account.SecretKey = "another" },
		"does not know the access key":                 func() { c.Account.AccessKey = "another" },
	} {
		account := c.Account
		want()
		findings := found(t, c, "object store")
		if last := findings[len(findings)-1]; last.Level != Problem || !strings.Contains(last.Says, change) {
			t.Errorf("%+v", findings)
		}
		c.Account = account
	}
	c.Account.Bucket = "others"
	if findings := found(t, c, "object store"); !strings.Contains(findings[len(findings)-1].Says, "there is no such bucket") {
		t.Errorf("%+v", findings)
	}
}
