package daemon

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"attachd/blobs/s3"
	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/doctor"
	"attachd/server/upkeep"
)

// CheckServices returns the error with which what a configuration says of an object store and
// of a database, if it has any, keeps a server from starting.
func CheckServices(cfg config.Config) error {
	if cfg.Metadata.Backend == "postgres" {
		if _, err := DSN(cfg); err != nil {
			return err
		}
	}
	if cfg.Storage.Backend != "s3" {
		return nil
	}
	account, err := Account(cfg)
	if err == nil {
		_, err = s3.Connect(account)
	}
	return err
}

// tryBucket logs what is wrong with the object store of the configuration, if there is one:
// otherwise the first upload would be the first to say so. It ends with ctx, also where
// looking for credentials takes longer.
func (d *daemon) tryBucket(ctx context.Context) {
	if d.Config.Storage.Backend != "s3" {
		return
	}
	account, err := Account(d.Config)
	if err != nil {
		d.log.Warn("the object store could not be tried", "error", err)
		return
	}
	tried := make(chan struct{})
	var problems []doctor.Finding
	go func() {
		defer close(tried)
		problems, err = doctor.AtStart(ctx, &doctor.Case{
			Config: d.Config, Dir: d.storage.Dir, Running: true, Account: account, Now: time.Now(),
			Status: func(ctx context.Context) (status upkeep.Status, err error) {
				if ctx.Err() != nil {
					return status, ctx.Err()
				}
				return upkeep.ReadStatus(ctx, d.storage.Store, time.Now())
			},
		})
	}()
	select {
	case <-ctx.Done():
		return
	case <-tried:
	}
	if err != nil {
		d.log.Warn("the object store could not be tried", "error", err)
	}
	for _, p := range problems {
		d.log.Warn("the object store cannot be used", "problem", p.Says, "do", p.Do)
	}
}

// Account returns the account of the object store of a configuration. It reads the files
// that the configuration names.
func Account(cfg config.Config) (s3.Account, error) {
	c := cfg.Storage
	account := s3.Account{
		Endpoint: c.S3Endpoint, PublicEndpoint: c.S3PublicEndpoint, Bucket: c.S3Bucket, Region: c.S3Region, PathStyle: c.S3PathStyle,
		AccessKey: c.S3AccessKey, SecretKey: c.S3SecretKey, Timeout: time.Duration(c.S3Timeout),
	}
	if c.S3SecretKeyFile != "" {
		secret, err := readSecret(c.S3SecretKeyFile)
		if err != nil {
			return account, fmt.Errorf("storage.s3_secret_key_file: %w", err)
		}
		account.SecretKey = secret
	}
	if c.S3CAFile == "" {
		return account, nil
	}
	raw, err := os.ReadFile(c.S3CAFile)
	if err != nil {
		return account, fmt.Errorf("storage.s3_ca_file: %w", err)
	}
	if account.Roots, err = x509.SystemCertPool(); err != nil {
		account.Roots = x509.NewCertPool() // a machine without any
	}
	if !account.Roots.AppendCertsFromPEM(raw) {
		return account, fmt.Errorf("storage.s3_ca_file: %s has no certificate in PEM form", c.S3CAFile)
	}
	return account, nil
}

// readSecret reads a file that nobody else may read.
func readSecret(path string) (string, error) {
	if err := datadir.Private(path); err != nil {
		return "", err
	}
	raw, err := os.ReadFile(path)
	return strings.TrimSpace(string(raw)), err
}
