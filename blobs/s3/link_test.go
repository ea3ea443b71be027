package s3_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/s3"
)

// linked signs a link, with the store out of reach, and returns the time for which it says
// that it is valid.
func linked(t *testing.T, account s3.Account, ttl time.Duration) (link *url.URL, lives time.Duration, err error) {
	t.Helper()
	account.Endpoint, account.Bucket = "http://127.0.0.1:1", "bucket"
	bucket, err := s3.Connect(account)
	if err != nil {
		t.Fatal(err)
	}
	address, expires, err := bucket.Link(t.Context(), "p/name", blobs.LinkOptions{TTL: ttl, Type: "text/plain", Disposition: `attachment; filename="a+b & (c).txt"`})
	if err != nil {
		return nil, 0, err
	}
	if link, err = url.Parse(address); err != nil {
		t.Fatal(err)
	}
	signed, err := time.Parse("20060102T150405Z", link.Query().Get("X-Amz-Date"))
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(link.Query().Get("X-Amz-Expires"))
	if err != nil {
		t.Fatal(err)
	}
	lives = time.Duration(seconds) * time.Second
	if really := signed.Add(lives); expires.After(really) {
		t.Errorf("it is said to expire at %v, and does at %v", expires, really)
	}
	return link, lives, nil
}

func TestALinkIsForThePublicEndpoint(t *testing.T) {
	link, lives, err := linked(t, s3.Account{PublicEndpoint: "https://files.example:9000", AccessKey: "key", SecretKey: "secret"}, 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	query := link.Query()
	if link.Scheme+"://"+link.Host+link.Path != "https://files.example:9000/bucket/p/name" || lives != 90*time.Second {
		t.Errorf("%v, valid for %v", link, lives)
	}
	for name, want := range map[string]string{
		"response-content-type": "text/plain", "response-content-disposition": `attachment; filename="a+b & (c).txt"`, "response-cache-control": "private, no-store",
	} {
		if got := query.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(link.RawQuery, "+") {
		t.Errorf("a + in %s means a space to some stores, and itself to others", link.RawQuery)
	}
}

// A link would die with the credentials that signed it, whatever it says.
func TestALinkEndsBeforeItsCredentials(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the credentials are handed over by cat")
	}
	for name, c := range map[string]struct {
		credentials, ttl, want time.Duration // 0: none can be made
	}{
		"soon":           {3*time.Minute + 500*time.Millisecond, 5 * time.Minute, 2 * time.Minute},
		"later":          {time.Hour, 5 * time.Minute, 5 * time.Minute},
		"at once":        {30 * time.Second, 5 * time.Minute, 0},
		"after too long": {30 * 24 * time.Hour, 30 * 24 * time.Hour, 7 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			temporary, shared := filepath.Join(dir, "temporary"), filepath.Join(dir, "shared")
			text := fmt.Sprintf(`{"Version":1,"AccessKeyId":"key","SecretAccessKey":"secret","SessionToken":"token","Expiration":%q}`, time.Now().Add(c.credentials).Format(time.RFC3339Nano))
			for path, text := range map[string]string{temporary: text, shared: "[default]\ncredential_process = cat " + temporary + "\n"} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for variable, value := range map[string]string{"AWS_SHARED_CREDENTIALS_FILE": shared, "AWS_PROFILE": "", "AWS_ACCESS_KEY_ID": "", "AWS_ACCESS_KEY": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SECRET_KEY": ""} {
				t.Setenv(variable, value)
			}
			link, lives, err := linked(t, s3.Account{}, c.ttl)
			if c.want == 0 {
				if err == nil {
					t.Errorf("a link of %v was made", lives)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			// A signature has whole seconds: the link begins up to one before it was made.
			if late := c.want - lives; late < -time.Second || late > 20*time.Second || link.Query().Get("X-Amz-Security-Token") != "token" {
				t.Errorf("%v, valid for %v, want %v", link, lives, c.want)
			}
		})
	}
}
