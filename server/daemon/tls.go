package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/doctor"
	"attachd/server/jobs"
)

// certificateInterval is how often the certificate is read again.
const certificateInterval = 2 * time.Second

// certificate is the server's TLS certificate. It is reloaded when its files change; an
// unusable replacement leaves the previous one in use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	asked             chan struct{} // signals that the files are to be read at once
	current           atomic.Pointer[tls.Certificate]

	// The files' content when current was made.
	certPEM, keyPEM []byte
}

// loadCertificate loads the configured certificate; nil when none is configured.
func loadCertificate(cfg config.Config, log *slog.Logger) (*certificate, error) {
	if cfg.TLS.CertFile == "" {
		return nil, nil
	}
	c := &certificate{certFile: cfg.TLS.CertFile, keyFile: cfg.TLS.KeyFile, log: log, asked: make(chan struct{}, 1)}
	_, err := c.read()
	return c, err
}

// read reloads the files, and reports whether the certificate changed.
func (c *certificate) read() (changed bool, err error) {
	certPEM, err := os.ReadFile(c.certFile)
	if err != nil {
		return false, fmt.Errorf("tls.cert_file: %w", err)
	}
	if err := datadir.Private(c.keyFile); err != nil {
		return false, fmt.Errorf("tls.key_file: %w", err)
	}
	keyPEM, err := os.ReadFile(c.keyFile)
	if err != nil {
		return false, fmt.Errorf("tls.key_file: %w", err)
	}
	if c.current.Load() != nil && bytes.Equal(certPEM, c.certPEM) && bytes.Equal(keyPEM, c.keyPEM) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return false, fmt.Errorf("tls.cert_file %s, tls.key_file %s: %w", c.certFile, c.keyFile, err)
	}
	c.certPEM, c.keyPEM = certPEM, keyPEM
	c.current.Store(&pair)
	return true, nil
}

// reloadNow wakes the job that reloads the files.
func (c *certificate) reloadNow() {
	select {
	case c.asked <- struct{}{}:
	default: // it will run anyway
	}
}

// announce logs the certificate in use at start.
func (c *certificate) announce() {
	c.describe("serving TLS")
	if datadir.Exposed(c.keyFile) {
		c.log.Warn("every user of this machine can read tls.key_file: close it, unless nobody else is there, as in a container", "key_file", c.keyFile)
	}
}

// job returns the job that reloads the files when they were replaced.
func (c *certificate) job() jobs.Job {
	failed := ""
	run := func(context.Context) error {
		changed, err := c.read()
		switch {
		case changed:
			c.describe("took up a new certificate")
			failed = ""
		case err == nil:
			failed = ""
		case err.Error() != failed: // once, not each time
			failed = err.Error()
			c.log.Error("the certificate in use stays, since its files hold none that can be used", "error", err)
		}
		return nil
	}
	return jobs.Job{Name: "follow certificate", Every: certificateInterval, Wake: c.asked, ThroughDrain: true, Run: run}
}

func (c *certificate) describe(message string) {
	leaf := c.current.Load().Leaf
	level := slog.LevelInfo
	if time.Until(leaf.NotAfter) < doctor.CertificateNotice {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, message, "names", leaf.DNSNames, "expires", leaf.NotAfter)
}

// suites are the TLS 1.2 cipher suites with authenticated encryption (AEAD), which
// every client of the last ten years supports: none with CBC, whose padding was
// attacked repeatedly. All suites of TLS 1.3 are of this kind.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config returns the server's TLS configuration.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
