// Package config turns the configuration file, the environment and the command
// line into one checked value.
//
// A flag wins over the environment, the environment over the file, and the file
// over the default. The key max_file_size of the section limits is
// ATTACHD_LIMITS_MAX_FILE_SIZE in the environment, where the items of a list are
// separated by commas. A variable that is set but empty counts as set: it
// empties a string or a list and is an error for anything else. ATTACHD_CONFIG
// names the file when the caller names none.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Config is the whole configuration. Each key is declared here and nowhere else: the
// toml tag is its name, default its default value in the form of the environment, and
// oneof, form (a name in the table forms), min and max restrict its values.
type Config struct {
	// Listen is the host:port to listen on.
	Listen string `toml:"listen" default:"127.0.0.1:8080" form:"address"`
	// PublicURL is the base of links, without a slash at its end; empty: the URL of the
	// request.
	PublicURL string `toml:"public_url" default:"" form:"url"`
	// DataDir is the data directory, relative to the working directory.
	DataDir string `toml:"data_dir" default:"data" form:"path"`
	// RequireExisting makes a missing installation an error, instead of making a new
	// one.
	RequireExisting bool `toml:"require_existing" default:"false"`
	// CORSOrigins are the origins of pages that may call the server.
	CORSOrigins []string `toml:"cors_origins" default:"" form:"origin"`
	// TrustedProxies are the peers whose header for the client's address is trusted.
	TrustedProxies []netip.Prefix `toml:"trusted_proxies" default:""`

	// TLS is the server's certificate; without one, it speaks plain HTTP.
	TLS struct {
		// CertFile is a PEM file: the certificate, then the intermediate certificates
		// up to the root.
		CertFile string `toml:"cert_file" default:"" form:"file"`
		// KeyFile is a PEM file with the certificate's private key.
		KeyFile string `toml:"key_file" default:"" form:"file"`
	} `toml:"tls"`

	// Limits bound the resources that clients can use.
	Limits struct {
		// MaxFileSize is the size of the largest file that is accepted.
		MaxFileSize Size `toml:"max_file_size" default:"50MB" min:"1B"`
		// MaxConnections is how many connections may be open at once.
		MaxConnections int `toml:"max_connections" default:"8192" min:"1"`
		// IdleTimeout is how long a connection may wait for its next request.
		IdleTimeout Duration `toml:"idle_timeout" default:"25s" min:"1s"`
		// MaxConcurrentUploads is how many uploads may run at once.
		MaxConcurrentUploads int `toml:"max_concurrent_uploads" default:"256" min:"1"`
		// RequestsPerMinute is how many requests per minute a user may make with all
		// their keys together; 0: no limit.
		RequestsPerMinute int `toml:"requests_per_minute" default:"0" min:"0"`
		// FailedKeysPerMinute is how many wrong keys per minute an address may send
		// before it is told to wait; 0: no limit.
		FailedKeysPerMinute int `toml:"failed_keys_per_minute" default:"600" min:"0"`
		// MinUploadRate is the slowest upload that is tolerated, in bytes per second;
		// 0: no limit.
		MinUploadRate Size `toml:"min_upload_rate" default:"1KB"`
		// MinDownloadRate is the slowest download that is tolerated, in bytes per
		// second; 0: no limit.
		MinDownloadRate Size `toml:"min_download_rate" default:"1KB"`
		// DiskReserve is how much free disk space uploads must leave.
		DiskReserve Size `toml:"disk_reserve" default:"256MB"`
	} `toml:"limits"`

	// Content says which types of files are accepted.
	Content struct {
		// Allowed are the accepted types, "*" being any; empty: the usual ones.
		Allowed []string `toml:"allowed" default:"" form:"entry"`
		// AllowExecutables accepts executables and scripts too.
		AllowExecutables bool `toml:"allow_executables" default:"false"`
	} `toml:"content"`

	// Scan says how files are scanned for malware.
	Scan struct {
		// Clamd is the address of a clamd; empty: nothing is scanned. It is validated
		// by a Check.
		Clamd string `toml:"clamd" default:""`
		// OnError is what happens to a file that could not be scanned.
		OnError string `toml:"on_error" default:"reject" oneof:"reject accept"`
		// Timeout is how long a scan may take, and as long again the wait for it.
		Timeout Duration `toml:"timeout" default:"1m" min:"1s"`
	} `toml:"scan"`

	// Downloads says how files are served.
	Downloads struct {
		// Mode is what the download route responds with: the file, or a link to it.
		Mode string `toml:"mode" default:"auto" oneof:"auto content url"`
		// URLTTL is how long a signed link is valid.
		URLTTL Duration `toml:"url_ttl" default:"1h" min:"1s" max:"168h"`
		// StorageURLTTL is how long one of the object store is valid, if that is less.
		StorageURLTTL Duration `toml:"storage_url_ttl" default:"5m" min:"1s" max:"168h"`
		// ContentURL is the base of links to files, on a separate host, without a slash
		// at its end; empty: the base of other links.
		ContentURL string `toml:"content_url" default:"" form:"url"`
		// Verify hashes whole downloads and aborts a damaged one.
		Verify bool `toml:"verify" default:"true"`
	} `toml:"downloads"`

	// Tickets holds the rules for attachments of tickets.
	Tickets struct {
		// AdminsMayDelete lets space admins delete attachments of tickets.
		AdminsMayDelete bool `toml:"admins_may_delete" default:"false"`
	} `toml:"tickets"`

	// Directory holds the rules for products, tickets and meetings.
	Directory struct {
		// AutoCreate makes an unknown product, ticket or meeting on its first upload.
		AutoCreate bool `toml:"auto_create" default:"false"`
	} `toml:"directory"`

	// Trash holds what was deleted, so that it can be restored.
	Trash struct {
		// Keep is how long what was deleted can be restored; 0: it is removed at once.
		Keep Duration `toml:"keep" default:"168h" min:"0s"`
	} `toml:"trash"`

	// Audit says what is recorded in the audit log.
	Audit struct {
		// Downloads records who downloaded what.
		Downloads bool `toml:"downloads" default:"true"`
		// Retention is how long entries are kept; 0: for ever.
		Retention Duration `toml:"retention" default:"8760h" min:"0s"`
	} `toml:"audit"`

	// Webhooks say where events about attachments are sent.
	Webhooks struct {
		// URL is the receiver of events; empty: none are sent. It is validated by a
		// Check.
		URL string `toml:"url" default:""`
		// SecretFile is a file with the secrets that sign events, one per line.
		SecretFile string `toml:"secret_file" default:"" form:"file"`
		// AllowPrivate allows a receiver in a private network, without TLS.
		AllowPrivate bool `toml:"allow_private" default:"false"`
		// Timeout is how long the receiver may take to answer.
		Timeout Duration `toml:"timeout" default:"15s" min:"1s" max:"5m"`
		// RetryFor is the age at which an event that fails is given up.
		RetryFor Duration `toml:"retry_for" default:"72h" min:"1m"`
	} `toml:"webhooks"`

	// Storage says how contents are stored.
	Storage struct {
		// LogBelow is the size below which a content is acknowledged once it is in the
		// write-ahead log, before it has a file; 0: none.
		LogBelow Size `toml:"log_below" default:"64KB" max:"1MB"`
		// LogSize is how many bytes the write-ahead log may have.
		LogSize Size `toml:"log_size" default:"256MB" min:"16MB" max:"16GB"`
		// Backend is where contents are kept.
		Backend string `toml:"backend" default:"disk" oneof:"disk s3"`
		// S3Endpoint is the URL of the object store.
		S3Endpoint string `toml:"s3_endpoint" default:"" form:"endpoint"`
		// S3PublicEndpoint is its URL for clients; empty: S3Endpoint.
		S3PublicEndpoint string `toml:"s3_public_endpoint" default:"" form:"endpoint"`
		// S3Bucket is the bucket, which must exist.
		S3Bucket string `toml:"s3_bucket" default:""`
		// S3Prefix begins the names of all objects: letters, digits, ".", "_", "-" and
		// "/".
		S3Prefix string `toml:"s3_prefix" default:"attachd/" form:"prefix"`
		// S3Region is the region that requests are signed for.
		S3Region string `toml:"s3_region" default:"us-east-1"`
		// S3PathStyle is whether the bucket is in the path of URLs, or in the host.
		S3PathStyle string `toml:"s3_path_style" default:"auto" oneof:"auto true false"`
		// S3AccessKey is the name of the key; empty: as the AWS tools find theirs.
		S3AccessKey string `toml:"s3_access_key" default:""`
		// S3SecretKey is the key's secret. Show leaves it out.
		S3SecretKey string `toml:"s3_secret_key" default:""`
		// S3SecretKeyFile is a file with the secret instead.
		S3SecretKeyFile string `toml:"s3_secret_key_file" default:"" form:"file"`
		// S3CAFile is a PEM file with certificates that are trusted beside the system's.
		S3CAFile string `toml:"s3_ca_file" default:"" form:"file"`
		// S3Timeout is how long a call may make no progress.
		S3Timeout Duration `toml:"s3_timeout" default:"8s" min:"1s" max:"5m"`
		// KeepDeleted is how long objects stay after their content was deleted.
		KeepDeleted Duration `toml:"keep_deleted" default:"24h" min:"0s"`
	} `toml:"storage"`

	// Metadata says where the records are kept.
	Metadata struct {
		// Backend is what keeps them: a file in the data directory, or a PostgreSQL
		// database that several servers share.
		Backend string `toml:"backend" default:"bolt" oneof:"bolt postgres"`
		// DSN names the database, as a URL or as libpq's keywords and values. Show leaves
		// its passwords out.
		DSN string `toml:"dsn" default:"" form:"dsn"`
		// DSNFile is a file with the DSN instead.
		DSNFile string `toml:"dsn_file" default:"" form:"file"`
		// MaxConnections is how many connections to the database a server opens at most.
		MaxConnections int `toml:"max_connections" default:"20" min:"4" max:"10000"`
		// Pooler says that a pooler in transaction mode is between.
		Pooler bool `toml:"pooler" default:"false"`
	} `toml:"metadata"`

	// Scrub says how stored contents are reread to find damage.
	Scrub struct {
		// Rate is how many bytes per second are read at most; 0: none.
		Rate Size `toml:"rate" default:"20MB"`
		// Period is the time within which every content is to be read once.
		Period Duration `toml:"period" default:"720h" min:"1h"`
	} `toml:"scrub"`

	// Log says what is logged and how.
	Log struct {
		// Level is the lowest level that is logged.
		Level string `toml:"level" default:"info" oneof:"debug info warn error"`
		// Format is the format of the log; auto is text on a terminal, else json.
		Format string `toml:"format" default:"auto" oneof:"auto text json"`
	} `toml:"log"`

	// Metrics says who may read the metrics.
	Metrics struct {
		// Public lets everyone read the metrics.
		Public bool `toml:"public" default:"false"`
	} `toml:"metrics"`
}

const envPrefix = "ATTACHD_"

// Environment variables that name the installation on this machine.
const (
	EnvConfig  = envPrefix + "CONFIG"   // its configuration file
	EnvDataDir = envPrefix + "DATA_DIR" // the data directory, as any key of the file
)

// Environment variables of the client commands. The server ignores them, but may be
// started where they are set.
const (
	EnvServer = envPrefix + "SERVER" // the server's URL
	EnvKey    = envPrefix + "KEY"    // the caller's API key
)

// Default returns the configuration of a server without any settings.
func Default() Config {
	var c Config
	for _, k := range keys {
		if err := k.setText(&c, k.tag.Get("default")); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", k.name, err))
		}
	}
	return c
}

// Check validates a key's value by the rules of another package.
type Check struct {
	Key string // as in "content.allowed"
	Of  func(Config) error
}

// Load reads the file at path (none when path and ATTACHD_CONFIG are empty), then
// environ, which has the form of os.Environ, then flags, which maps keys as in
// "data_dir" to values as in the environment. The warnings name variables that have no
// meaning. The error lists all faults, one per line; checks run only when there are no
// others.
func Load(path string, environ []string, flags map[string]string, checks ...Check) (cfg Config, warnings []string, err error) {
	cfg = Default()
	where := make(map[string]string) // the source of each key's value, to be named in a fault
	env := variables(environ)
	if path == "" {
		path = env[EnvConfig]
	}

	var faults []error
	if path != "" {
		faults = cfg.readFile(path, where)
	}
	for _, k := range keys {
		if text, ok := env[envName(k.name)]; ok {
			where[k.name] = envName(k.name)
			if err := k.setText(&cfg, text); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", where[k.name], err))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		where[name] = "--" + strings.NewReplacer("_", "-", ".", "-").Replace(name)
		if err := setFlag(&cfg, name, flags[name]); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", where[name], err))
		}
	}
	if len(faults) == 0 {
		for _, check := range checks {
			if err := check.Of(cfg); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", cmp.Or(where[check.Key], check.Key), err))
			}
		}
	}
	warnings = unknownVariables(env)
	if len(faults) > 0 {
		return Config{}, warnings, errors.Join(faults...)
	}
	return cfg, warnings, nil
}

// Show writes the configuration as a file that Load reads back to the same value, except
// for secrets, which it leaves out.
func (c Config) Show(w io.Writer) error {
	c.Storage.S3SecretKey = ""
	c.Metadata.DSN, _ = WithoutPasswords(c.Metadata.DSN)
	return toml.NewEncoder(w).Encode(c)
}

func setFlag(cfg *Config, name, text string) error {
	k, ok := keyNamed(name)
	if !ok {
		return unknown("key", name, keyNames())
	}
	return k.setText(cfg, text)
}

// variables returns attachd's variables in environ, by name.
func variables(environ []string) map[string]string {
	env := map[string]string{}
	for _, entry := range environ {
		if name, value, _ := strings.Cut(entry, "="); strings.HasPrefix(name, envPrefix) {
			env[name] = value
		}
	}
	return env
}

func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// unknownVariables returns a warning for each variable in env that sets no key.
func unknownVariables(env map[string]string) []string {
	known := map[string]bool{EnvConfig: true, EnvServer: true, EnvKey: true}
	for _, name := range keyNames() {
		known[envName(name)] = true
	}
	var warnings []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if known[name] {
			continue
		}
		warning := name + ": unknown variable"
		if near, ok := nearest(strings.TrimPrefix(name, envPrefix), keyNames()); ok {
			warning += ", did you mean " + envName(near) + "?"
		}
		warnings = append(warnings, warning)
	}
	return warnings
}
