package daemon

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"attachd/blobs/s3"
	"attachd/server/config"
	"attachd/server/datadir"
)

// CheckAccount returns the error with which the object store of a configuration, if it has
// one, keeps a server from starting.
func CheckAccount(cfg config.Config) error {
	if cfg.Storage.Backend != "s3" {
		return nil
	}
	account, err := Account(cfg)
	if err == nil {
		_, err = s3.Connect(account)
	}
	return err
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
		if err := datadir.Private(c.S3SecretKeyFile); err != nil {
			return account, fmt.Errorf("storage.s3_secret_key_file: %w", err)
		}
		raw, err := os.ReadFile(c.S3SecretKeyFile)
		if err != nil {
			return account, fmt.Errorf("storage.s3_secret_key_file: %w", err)
		}
		account.SecretKey = strings.TrimSpace(string(raw))
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
