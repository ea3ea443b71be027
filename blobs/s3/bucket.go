package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"attachd/blobs"
)

// Bucket is what the backend needs of an object store. A call is made once: whether it may
// be repeated is for the backend to decide. The names are whole, with the prefix.
type Bucket interface {
	// Put writes an object of size bytes, whose SHA-256 it sends, so that the store can
	// refuse other bytes.
	Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error
	// Get reads an object from the byte from up to the byte end, which is not part of it, or
	// to its end where end is 0, and returns how long the whole object is. ErrNotFound when
	// there is none.
	Get(ctx context.Context, name string, from, end int64) (content io.ReadCloser, size int64, err error)
	// Stat returns the length of an object, and the SHA-256 that the store has checked it
	// with, or the zero Ref where it does not say. ErrNotFound when there is none.
	Stat(ctx context.Context, name string) (size int64, sum blobs.Ref, err error)
	// Delete deletes an object. One that is not there is not an error.
	Delete(ctx context.Context, name string) error
	// List lists objects whose names begin with prefix, in the order of the store: those
	// after the page that has returned next, or the first ones. An empty next says that
	// there are no more.
	List(ctx context.Context, prefix, after string) (page []Listed, next string, err error)
	// Link returns a URL at which anybody can read an object until it expires.
	Link(ctx context.Context, name string, how blobs.LinkOptions) (string, time.Time, error)
}

// Listed is an object in a bucket.
type Listed struct {
	Name     string
	Size     int64
	Modified time.Time
}

// Account says which bucket to use, and how to reach it.
type Account struct {
	Endpoint       string // URL
	PublicEndpoint string // URL for which links are signed; empty: Endpoint
	Bucket         string
	Region         string // empty: us-east-1
	// PathStyle is whether the bucket is in the path of URLs ("true") or in the host
	// ("false"); "auto" is the host for Amazon's and Google's hosts and Alibaba's.
	PathStyle string
	// AccessKey and SecretKey; empty: those of the environment, the shared file, or the
	// identity of the machine or the pod.
	AccessKey, SecretKey string
	Roots                *x509.CertPool // trusted beside nobody else; nil: the system's
	// Timeout is how long a call may make no progress.
	Timeout time.Duration
}

// ErrStalled is the cause of a call that was given up.
var ErrStalled = errors.New("the object store has made no progress for too long")

// dialTimeout is how long a connection may take to be made.
const dialTimeout = 3 * time.Second

// client is a Bucket of an S3-compatible store.
type client struct {
	Account
	core   *minio.Core
	public *minio.Client
	creds  *credentials.Credentials
}

// Connect returns the bucket of an account. It calls nobody.
func Connect(account Account) (Bucket, error) { return connect(account) }

// providers are where credentials are looked for that are not configured, in this order.
func providers(region string) []credentials.Provider {
	return []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Region: region}}
}

func connect(account Account) (*client, error) {
	c := &client{Account: account}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.AccessKey != "" {
		c.creds = credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	} else {
		c.creds = credentials.NewChainCredentials(providers(c.Region))
	}
	endpoint, options, err := c.options(c.Endpoint)
	if err != nil {
		return nil, err
	}
	if c.core, err = minio.NewCore(endpoint, options); err != nil {
		return nil, fmt.Errorf("the object store at %s: %w", c.Endpoint, err)
	}
	c.core.SetAppInfo("attachd", "1")
	if c.PublicEndpoint == "" {
		c.public = c.core.Client
		return c, nil
	}
	if endpoint, options, err = c.options(c.PublicEndpoint); err != nil {
		return nil, err
	}
	if c.public, err = minio.New(endpoint, options); err != nil {
		return nil, fmt.Errorf("the public URL %s of the object store: %w", c.PublicEndpoint, err)
	}
	return c, nil
}

// options are the client's for a URL. Without a region it would ask the store, which
// policies forbid; and it would repeat calls that must not be.
func (c *client) options(endpoint string) (host string, o *minio.Options, err error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", nil, err
	}
	lookup := map[string]minio.BucketLookupType{"true": minio.BucketLookupPath, "false": minio.BucketLookupDNS}[c.PathStyle]
	return u.Host, &minio.Options{
		Creds: c.creds, Secure: u.Scheme == "https", Region: c.Region, BucketLookup: lookup, MaxRetries: 1,
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: c.Timeout,
			MaxIdleConns:          256,
			MaxIdleConnsPerHost:   256,
			IdleConnTimeout:       30 * time.Second,
			DisableCompression:    true,
			TLSClientConfig:       &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		},
	}, nil
}

// Put implements Bucket. It sends the plain bytes with their length: what every store
// takes.
func (c *client) Put(ctx context.Context, name string, content io.Reader, size int64, sum blobs.Ref) error {
	ctx, w := watch(ctx, c.Timeout)
	defer w.stop()
	_, err := c.core.PutObject(ctx, c.Bucket, name, &watched{reader: content, watchdog: w}, size, "", sum.String(), minio.PutObjectOptions{
		DisableContentSha256: true, // it is known already
		UserMetadata:         map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(sum[:])},
	})
	return c.explain(ctx, name, err)
}

// Get implements Bucket.
func (c *client) Get(ctx context.Context, name string, from, end int64) (io.ReadCloser, int64, error) {
	ctx, w := watch(ctx, c.Timeout)
	var o minio.GetObjectOptions
	if from > 0 || end > 0 {
		if err := o.SetRange(from, max(0, end-1)); err != nil {
			w.stop()
			return nil, 0, err
		}
	}
	body, info, header, err := c.core.GetObject(ctx, c.Bucket, name, o)
	if err != nil {
		w.stop()
		return nil, 0, c.explain(ctx, name, err)
	}
	size := info.Size
	if size < 0 {
		w.stop()
		return nil, 0, errors.Join(errors.New("the object store does not say how long the object is"), body.Close())
	}
	if part := header.Get("Content-Range"); from > 0 || part != "" { // else it has sent all of it
		var first, last int64
		if _, err := fmt.Sscanf(part, "bytes %d-%d/%d", &first, &last, &size); err != nil || first != from {
			w.stop()
			return nil, 0, errors.Join(fmt.Errorf("the object store has sent another part than the one from byte %d: %q", from, part), body.Close())
		}
	}
	w.rest()
	return &watched{reader: body, watchdog: w, close: body.Close}, size, nil
}

// Stat implements Bucket.
func (c *client) Stat(ctx context.Context, name string) (size int64, sum blobs.Ref, err error) {
	ctx, w := watch(ctx, c.Timeout)
	defer w.stop()
	info, err := c.core.StatObject(ctx, c.Bucket, name, minio.StatObjectOptions{Checksum: true})
	if err != nil {
		return 0, sum, c.explain(ctx, name, err)
	}
	if digest, err := base64.StdEncoding.DecodeString(info.ChecksumSHA256); err == nil && len(digest) == len(sum) {
		sum = blobs.Ref(digest)
	}
	return info.Size, sum, nil
}

// Delete implements Bucket.
func (c *client) Delete(ctx context.Context, name string) error {
	ctx, w := watch(ctx, c.Timeout)
	defer w.stop()
	err := c.explain(ctx, name, c.core.RemoveObject(ctx, c.Bucket, name, minio.RemoveObjectOptions{}))
	if errors.Is(err, blobs.ErrNotFound) {
		return nil
	}
	return err
}

// listPatience is how long a store may take to list a page.
const listPatience = time.Minute

// pageObjects is how many objects a page of a listing has.
const pageObjects = 1000

// List implements Bucket. A page that is given up goes on in the background: the library
// takes no context for it.
func (c *client) List(ctx context.Context, prefix, after string) (page []Listed, next string, err error) {
	ctx, w := watch(ctx, listPatience)
	defer w.stop()
	type answer struct {
		minio.ListBucketV2Result
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		result, err := c.core.ListObjectsV2(c.Bucket, prefix, "", after, "", pageObjects)
		answered <- answer{result, err}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	if a.err != nil {
		return nil, "", c.explain(ctx, prefix, a.err)
	}
	for _, o := range a.Contents {
		page = append(page, Listed{Name: o.Key, Size: o.Size, Modified: o.LastModified})
	}
	if a.IsTruncated {
		next = a.NextContinuationToken // the library refuses an empty one
	}
	return page, next, nil
}

// maxLinkTTL is the longest validity that a signed URL may have.
const maxLinkTTL = 7 * 24 * time.Hour

// Link implements Bucket.
func (c *client) Link(ctx context.Context, name string, how blobs.LinkOptions) (string, time.Time, error) {
	value, err := c.creds.GetWithContext(c.public.CredContext())
	if err != nil {
		return "", time.Time{}, c.explain(ctx, name, err)
	}
	now := time.Now().Truncate(time.Second) // signatures have whole seconds
	ttl := min(how.TTL, maxLinkTTL)
	if !value.Expiration.IsZero() { // a link dies with the credentials that sign it
		ttl = min(ttl, value.Expiration.Sub(now)-time.Minute)
	}
	if ttl = ttl.Truncate(time.Second); ttl < time.Second {
		return "", time.Time{}, errors.New("the credentials of the object store expire too soon to sign a link with them")
	}
	u, err := c.public.PresignedGetObject(ctx, c.Bucket, name, ttl, url.Values{
		"response-content-type":        {how.Type},
		"response-content-disposition": {how.Disposition},
		"response-cache-control":       {"private, no-store"},
	})
	if err != nil {
		return "", time.Time{}, c.explain(ctx, name, err)
	}
	return u.String(), now.Add(ttl), nil
}

// StoreError is an answer of the object store that is an error.
type StoreError struct {
	Status int    // of HTTP
	Code   string // as in "SlowDown"
	err    error
}

func (e *StoreError) Error() string {
	return fmt.Sprintf("the object store answers %d %s: %v", e.Status, e.Code, e.err)
}
func (e *StoreError) Unwrap() error { return e.err }

// explain turns the error of a call into one of package blobs, or says why it was given
// up.
func (c *client) explain(ctx context.Context, name string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrStalled) {
		return fmt.Errorf("%w: %v", cause, err) // which is that of a caller who has gone
	}
	answer := minio.ToErrorResponse(err)
	if answer.StatusCode == 0 {
		return err
	}
	// An answer to a HEAD has no body, and so no code but the one of its status. A bucket or a
	// key of access that is not known is 404 with some stores, too.
	if answer.StatusCode == http.StatusNotFound && slices.Contains([]string{"NoSuchKey", "NoSuchVersion", "NotFound", ""}, answer.Code) {
		return fmt.Errorf("%w: the object store has no %s", blobs.ErrNotFound, name)
	}
	return &StoreError{answer.StatusCode, answer.Code, err}
}

// watchdog ends a call that makes no progress.
type watchdog struct {
	after  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func watch(ctx context.Context, after time.Duration) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{after, time.AfterFunc(after, func() { cancel(ErrStalled) }), cancel}
}

// alive is called when there is progress.
func (w *watchdog) alive() { w.timer.Reset(w.after) }

// rest suspends the watchdog while the caller is busy with something else.
func (w *watchdog) rest() { w.timer.Stop() }

func (w *watchdog) stop() {
	w.timer.Stop()
	w.cancel(nil)
}

// watched is a content on its way, whose reads are watched.
type watched struct {
	reader io.Reader
	*watchdog
	close func() error
}

func (w *watched) Read(p []byte) (int, error) {
	w.alive()
	n, err := w.reader.Read(p)
	if w.close != nil {
		w.rest() // whoever reads a download may take time between reads
	} else {
		w.alive()
	}
	return n, err
}

func (w *watched) Close() error {
	err := w.close()
	w.stop()
	return err
}
