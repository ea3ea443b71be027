//go:build unix

package e2e

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// Where cryptography may be that of FIPS 140-3 only, everything works: the demo with its
// files and keys, TLS, uploads with their digests, lists, links, downloads, the audit log,
// backups and webhooks.
func TestEverythingWorksWithTheCryptographyOfFIPSOnly(t *testing.T) {
	t.Parallel()
	const only = "GODEBUG=fips140=only"
	dir := dataDir(t)
	cert := newCertificate(t, t.TempDir(), "fips.example")
	server := start(t, dir, append(cert.env(), only, "--demo")...)
	server.http = trusting(t, cert)
	// The same is asked of the client, which has no curve that FIPS does not know.
	server.http.Transport.(*http.Transport).TLSClientConfig.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.CurveP384}

	key := demoKeys(t, dir)["editor"]
	saved := server.call(key, "POST", product+"/attachments", formOf("a.txt", strings.NewReader("a")), append(formHeaders,
		"Repr-Digest", "sha-256=:ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=:")...).want(t, 201)
	if list := server.call(key, "GET", product+"/attachments", nil).want(t, 200); !strings.Contains(list.body, `"a.txt"`) {
		t.Errorf("the list is %s", list)
	}
	if got := server.call(key, "GET", saved.download(), nil).want(t, 200); got.body != "a" {
		t.Errorf("downloaded is %q", got.body)
	}
	var link struct {
		DownloadURL string `json:"download_url"`
	}
	at := strings.TrimSuffix(saved.download(), "/download")
	check(t, json.Unmarshal([]byte(server.call(key, "POST", at+"/links", nil).want(t, 201).body), &link))
	if got := server.call("", "GET", strings.TrimPrefix(link.DownloadURL, server.url), nil).want(t, 200); got.body != "a" {
		t.Errorf("by its link, downloaded is %q", got.body)
	}

	backup := filepath.Join(t.TempDir(), "backup")
	for _, typed := range []string{"audit verify", "key rotate-signing", "check --deep", "backup " + backup, "backup verify " + backup} {
		ok(t, append([]string{only, "ATTACHD_LISTEN=127.0.0.1:0"}, append(strings.Fields(typed), "--data-dir", dir)...)...)
	}
	if said := ok(t, only, "version"); !strings.Contains(said, " with FIPS 140-3 only, module ") {
		t.Errorf("it calls itself %q", said)
	}
	if said := ok(t, "version"); strings.Contains(said, "FIPS") {
		t.Errorf("without FIPS, it calls itself %q", said)
	}
}
