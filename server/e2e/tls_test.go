//go:build unix

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// certified is a self-signed certificate for 127.0.0.1, in files as an operator has
// them.
type certified struct{ cert, key string }

func newCertificate(t *testing.T, dir, name string) certified {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	c := certified{filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	write(t, c.cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, c.key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey})))
	chmod(t, c.key, 0o600)
	return c
}

func (c certified) env() []string {
	return []string{"ATTACHD_TLS_CERT_FILE=" + c.cert, "ATTACHD_TLS_KEY_FILE=" + c.key}
}

// trusting is a client that uses HTTP/2 where it can.
func trusting(t *testing.T, certs ...certified) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	for _, c := range certs {
		if !pool.AppendCertsFromPEM([]byte(read(t, c.cert))) {
			t.Fatal("the certificate cannot be read")
		}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ASVS 3.4.1, 4.1.2, 12.1.1, 12.2.1
func TestServeSpeaksTLS(t *testing.T) {
	t.Parallel()
	cert := newCertificate(t, t.TempDir(), "first.example")
	server := start(t, dataDir(t), append(cert.env(), autoCreate)...)
	if !strings.HasPrefix(server.url, "https://") {
		t.Fatalf("it says that it listens at %s", server.url)
	}
	server.http = trusting(t, cert)
	saved := server.upload(product, "a.txt", "over TLS").want(t, 201)
	for path, want := range map[string]int{saved.download(): 200, "/nothing": 404, "/health": 200, "/": 200} {
		a := server.get(path).want(t, want)
		if got := a.header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("%s: Strict-Transport-Security is %q", path, got)
		}
	}
	server.key = "wrong"
	if server.get(saved.download()).want(t, 401).header.Get("Strict-Transport-Security") == "" {
		t.Error("a refusal has no Strict-Transport-Security")
	}
	response, err := server.http.Get(server.url + "/health")
	check(t, err)
	response.Body.Close()
	if response.Proto != "HTTP/2.0" {
		t.Errorf("it speaks %s", response.Proto)
	}
	for range 2 { // a body without a length does not close the connection, as it does in HTTP/1.1
		request, err := http.NewRequest("POST", server.url+"/session", struct{ io.Reader }{strings.NewReader("{}")})
		check(t, err)
		trace := &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) {
			if !c.Reused {
				t.Error("the connection was closed")
			}
		}}
		response, err := server.http.Do(request.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		check(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		check(t, errors.Join(err, response.Body.Close()))
	}

	address := strings.TrimPrefix(server.url, "https://")
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", address, &tls.Config{MinVersion: version, MaxVersion: version, InsecureSkipVerify: true})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if suite.SupportedVersions[0] == tls.VersionTLS13 {
			continue // a client cannot choose one of these
		}
		conn, err := tls.Dial("tcp", address, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}, InsecureSkipVerify: true})
		good := strings.HasPrefix(suite.Name, "TLS_ECDHE_ECDSA_") && (strings.Contains(suite.Name, "_GCM_") || strings.Contains(suite.Name, "_POLY1305_"))
		if (err == nil) != good {
			t.Errorf("%s: %v", suite.Name, err)
		}
		if err == nil {
			conn.Close()
		}
	}
	answer := speak(t, address, "GET /health HTTP/1.1\r\nHost: attachd\r\n\r\n")
	if status, _, _ := strings.Cut(answer, "\r\n"); status != "HTTP/1.0 400 Bad Request" || strings.Contains(answer, "Location") {
		t.Errorf("plain HTTP is answered %q", answer)
	}
}

// speak writes to a connection and reads until its end.
func speak(t *testing.T, address, text string) string {
	t.Helper()
	answer, _ := speakTimed(t, address, text)
	return answer
}

// speakTimed is speak, and returns how long it took to write everything.
func speakTimed(t *testing.T, address, text string) (answer string, sent time.Duration) {
	t.Helper()
	begun := time.Now()
	conn, err := net.Dial("tcp", address)
	check(t, err)
	defer conn.Close()
	check(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, text)
	check(t, err)
	sent = time.Since(begun)
	all, _ := io.ReadAll(conn) // a reset ends it too
	return string(all), sent
}

// ASVS 3.4.1, 4.1.2, 12.1.1, 12.2.1
func TestWithoutTLSThereIsNeitherHSTSNorHTTP2(t *testing.T) {
	t.Parallel()
	server := start(t, dataDir(t))
	if got := server.get("/health").header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("Strict-Transport-Security is %q", got)
	}
	answer := speak(t, strings.TrimPrefix(server.url, "http://"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	if !strings.HasPrefix(answer, "HTTP/1.") {
		t.Errorf("HTTP/2 without TLS is answered %q", answer)
	}
	if strings.Contains(server.stderr(), "plain HTTP") {
		t.Error("plain HTTP on a loopback address is warned of")
	}
}

// ASVS 3.4.1, 4.1.2, 12.1.1, 12.2.1
func TestACertificateIsRenewedWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	used, next, other := newCertificate(t, dir, "used.example"), newCertificate(t, dir, "next.example"), newCertificate(t, dir, "other.example")
	server := start(t, dataDir(t), used.env()...)
	address := strings.TrimPrefix(server.url, "https://")
	served := func() string {
		conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
		check(t, err)
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "used.example" {
		t.Fatalf("the certificate is that of %s", got)
	}

	write(t, used.cert, read(t, other.cert)) // does not match the key
	server.logged("the certificate in use stays")
	if got := served(); got != "used.example" {
		t.Errorf("with a broken replacement the certificate is that of %s", got)
	}
	write(t, used.key, read(t, next.key))
	write(t, used.cert, read(t, next.cert))
	server.logged("took up a new certificate")
	if got := served(); got != "next.example" {
		t.Errorf("after the replacement the certificate is that of %s", got)
	}
}

func TestServeRefusesAnEdgeThatIsNotWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good, other := newCertificate(t, dir, "good"), newCertificate(t, dir, "other")
	open := newCertificate(t, dir, "open")
	chmod(t, open.key, 0o644)
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"a key that others can read":   {open.env(), "tls.key_file: DIR/open.key can be read by others (mode 0644). Close it: chmod 600 DIR/open.key"},
		"no key":                       {good.env()[:1], "ATTACHD_TLS_CERT_FILE: needs tls.key_file too"},
		"no certificate":               {good.env()[1:], "ATTACHD_TLS_KEY_FILE: needs tls.cert_file too"},
		"another's key":                {certified{good.cert, other.key}.env(), "tls.cert_file DIR/good.pem, tls.key_file DIR/other.key: tls: private key does not match public key"},
		"no host of its own for files": {[]string{"ATTACHD_PUBLIC_URL=https://a.example", "ATTACHD_DOWNLOADS_CONTENT_URL=https://a.example:444"}, "ATTACHD_DOWNLOADS_CONTENT_URL: must have another host name than public_url"},
		"a missing certificate":        {certified{filepath.Join(dir, "none"), good.key}.env(), "tls.cert_file: open DIR/none: no such file"},
		"a missing key":                {certified{good.cert, filepath.Join(dir, "none")}.env(), "tls.key_file: stat DIR/none: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := dataDir(t)
			said := refused(t, 1, append(slices.Clone(c.env), "serve", "--listen", "127.0.0.1:0", "--data-dir", data)...)
			if said = strings.ReplaceAll(said, dir, "DIR"); !strings.Contains(said, c.says) {
				t.Errorf("it says %q, not %q", said, c.says)
			}
			if left := names(t, data); len(left) > 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}
