package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"attachd/server/config"
	"attachd/server/jobs"
)

// ASVS 3.4.1, 4.1.2, 12.1.1, 12.2.1
func TestPlainHTTPIsWarnedOfWhereOthersReachIt(t *testing.T) {
	t.Parallel()
	for address, others := range map[string]bool{
		"127.0.0.1:8080": false, "127.8.9.1:80": false, "[::1]:8080": false, "[::ffff:127.0.0.1]:8080": false,
		"0.0.0.0:8080": true, "[::]:8080": true, "192.0.2.1:8080": true, "[2001:db8::1]:80": true,
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if othersReach(tcp) != others {
			t.Errorf("others reach %s: %t", address, !others)
		}
	}
}

// A reload reads the files at once: this clock stands still.
func TestAReloadLooksAtTheCertificateAtOnce(t *testing.T) {
	t.Parallel()
	source := httptest.NewTLSServer(nil)
	pair := source.TLS.Certificates[0]
	source.Close()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var cfg config.Config
	cfg.TLS.CertFile, cfg.TLS.KeyFile = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	write := func(path, kind string, der []byte) {
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(cfg.TLS.CertFile, "CERTIFICATE", pair.Certificate[0])
	write(cfg.TLS.KeyFile, "PRIVATE KEY", key)
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		c, err := loadCertificate(cfg, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go jobs.Run(ctx, t.Context(), t.Context(), c.log, jobs.NewLeases(nil, c.log), c.job())
		synctest.Wait()
		write(cfg.TLS.CertFile, "CERTIFICATE", nil)
		c.reloadNow()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if !strings.Contains(said.String(), "the certificate in use stays") {
			t.Errorf("the log holds %s", said.String())
		}
	})
}
