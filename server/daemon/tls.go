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

// certificate is what the server proves with who it is. It follows its files;
// a replacement that is of no use leaves the one before in place.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	asked             chan struct{} // to read the files at once
	current           atomic.Pointer[tls.Certificate]

	// What the files held when current was made of them.
	certPEM, keyPEM []byte
}

// loadCertificate gives nil when none is configured.
func loadCertificate(cfg config.Config, log *slog.Logger) (*certificate, error) {
	if cfg.TLS.CertFile == "" {
		return nil, nil
	}
	c := &certificate{certFile: cfg.TLS.CertFile, keyFile: cfg.TLS.KeyFile, log: log, asked: make(chan struct{}, 1)}
	_, err := c.read()
	return c, err
}

// read takes up what the files hold, and says whether that is new.
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

// reloadNow wakes the job that follows the files.
func (c *certificate) reloadNow() {
	select {
	case c.asked <- struct{}{}:
	default: // it is about to
	}
}

// announce logs what the server begins with.
func (c *certificate) announce() {
	c.describe("serving TLS")
	if datadir.Exposed(c.keyFile) {
		c.log.Warn("every user of this machine can read tls.key_file: close it, unless nobody else is there, as in a container", "key_file", c.keyFile)
	}
}

// job takes up the files when they were replaced.
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

// suites are those of TLS 1.2 that hide and vouch for the same bytes (AEAD), which
// every client of the last ten years knows: none with CBC, whose padding was
// attacked again and again. Those of TLS 1.3 are all so.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// config is TLS as the server speaks it.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
}
