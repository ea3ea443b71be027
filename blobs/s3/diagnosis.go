package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"attachd/blobs"
)

// Diagnosis is a Bucket with what only whoever sets it up wants to know of it.
type Diagnosis struct{ *client }

// Diagnose returns the diagnosis of an account. It calls nobody.
func Diagnose(account Account) (*Diagnosis, error) {
	c, err := connect(account)
	return &Diagnosis{c}, err
}

// Greeting is what a store says to anybody.
type Greeting struct {
	Server string        // its name, as it gives it; may be empty
	Ahead  time.Duration // how far its clock is ahead of this machine's; 0 where it does not say
}

// Greet asks the store for an answer, without credentials.
func (d *Diagnosis) Greet(ctx context.Context) (g Greeting, err error) {
	began := time.Now()
	response, err := d.get(ctx, d.Endpoint)
	if err != nil {
		return g, err
	}
	g.Server = response.Header.Get("Server")
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		half := time.Since(began) / 2
		g.Ahead = date.Sub(began.Add(half)).Round(time.Second)
	}
	return g, response.Body.Close()
}

// get asks for a URL, without credentials.
func (d *Diagnosis) get(ctx context.Context, url string) (*http.Response, error) {
	_, options, err := d.options(d.Endpoint)
	if err != nil {
		return nil, err
	}
	rq, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return nil, err
	}
	return (&http.Client{Transport: options.Transport, Timeout: d.Timeout}).Do(rq)
}

// Follow reads what is at a URL that Link has returned, as a client does.
func (d *Diagnosis) Follow(ctx context.Context, url string) (content []byte, err error) {
	response, err := d.get(ctx, url)
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err = errors.Join(err, response.Body.Close()); err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", response.Status)
	}
	return content, err
}

// Credentials says where the credentials come from, and when they expire; source is empty
// where there are none, and expires zero where they do not.
func (d *Diagnosis) Credentials() (source string, expires time.Time) {
	if d.AccessKey != "" {
		return "the configuration", time.Time{}
	}
	for _, p := range providers(d.Region) {
		value, err := p.RetrieveWithCredContext(d.core.CredContext())
		if err != nil || value.AccessKeyID == "" {
			continue
		}
		switch p.(type) {
		case *credentials.EnvAWS:
			source = "the environment"
		case *credentials.FileAWSCredentials:
			source = "the shared file of the AWS tools"
		default:
			source = "the identity of the machine or the pod"
		}
		return source, value.Expiration
	}
	return "", time.Time{}
}

// Owner is whose a prefix is.
type Owner struct {
	Installation, Tenant string
	Newer                bool // a newer attachd has written it
	Contested            bool // two processes with copies of one database have claimed it
}

// Owner returns whose marker is below a prefix, or ErrNotFound.
func (d *Diagnosis) Owner(ctx context.Context, prefix string) (Owner, error) {
	found, err := readMarker(ctx, d, prefix)
	return Owner{found.Installation, found.Tenant, found.Layout > layout, found.Contested}, err
}

// Policy is what a bucket does with objects by itself, as far as it says so.
type Policy struct {
	Versions bool     // it keeps deleted objects, as versions
	Locked   string   // for how long new objects cannot be deleted, as in "30 DAYS"
	Expires  []string // the rules that delete objects below a prefix, or archive them
	Cleans   bool     // a rule deletes old versions
}

// Policy asks what the bucket does with objects below a prefix. What the store does not
// implement, the bucket does not have; unknown are the parts that the key may not ask for.
func (d *Diagnosis) Policy(ctx context.Context, prefix string) (p Policy, unknown []string, err error) {
	ctx, w := watch(ctx, d.Timeout)
	defer w.stop()
	versions, err := d.core.GetBucketVersioning(ctx, d.Bucket)
	asked, err := d.answered(ctx, err)
	if err != nil {
		return p, nil, err
	}
	if !asked {
		unknown = append(unknown, "versions")
	}
	p.Versions = versions.Status == minio.Enabled
	w.alive()
	_, mode, count, unit, err := d.core.GetObjectLockConfig(ctx, d.Bucket)
	if asked, err = d.answered(ctx, err); err != nil {
		return p, nil, err
	}
	if !asked {
		unknown = append(unknown, "locks")
	}
	if mode != nil && count != nil && unit != nil {
		p.Locked = fmt.Sprintf("%d %s", *count, *unit)
	}
	w.alive()
	if asked, err = d.lifecycle(ctx, prefix, &p); err != nil {
		return p, nil, err
	}
	if !asked {
		unknown = append(unknown, "lifecycle rules")
	}
	return p, unknown, nil
}

func (d *Diagnosis) lifecycle(ctx context.Context, prefix string, p *Policy) (asked bool, err error) {
	config, err := d.core.GetBucketLifecycle(ctx, d.Bucket)
	if asked, err = d.answered(ctx, err); err != nil || config == nil {
		return asked, err
	}
	for _, rule := range config.Rules {
		of := rule.Prefix + rule.RuleFilter.Prefix + rule.RuleFilter.And.Prefix // one of them at most
		tagged := !rule.RuleFilter.Tag.IsEmpty() || len(rule.RuleFilter.And.Tags) > 0
		if rule.Status != minio.Enabled || tagged || !strings.HasPrefix(of, prefix) && !strings.HasPrefix(prefix, of) {
			continue
		}
		p.Cleans = p.Cleans || !rule.NoncurrentVersionExpiration.IsDaysNull()
		if !rule.Expiration.IsDaysNull() || !rule.Expiration.IsDateNull() || !rule.Transition.IsDaysNull() || !rule.Transition.IsDateNull() {
			p.Expires = append(p.Expires, fmt.Sprintf("%q", rule.ID))
		}
	}
	return asked, nil
}

// answered reports whether the store has answered a question about the bucket. That it does
// not implement the question is an answer, too; that the key may not ask it is none.
func (d *Diagnosis) answered(ctx context.Context, err error) (bool, error) {
	err = d.explain(ctx, "such configuration", err)
	var answer *StoreError
	switch {
	case err == nil, errors.Is(err, blobs.ErrNotFound): // no such configuration
		return true, nil
	case !errors.As(err, &answer):
		return false, err
	}
	return answer.Status != http.StatusForbidden && answer.Status < 500 || answer.Status == http.StatusNotImplemented, nil
}
