package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const example = "../../config.example.toml"

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// load loads text as a file, and shortens the file's name in the result.
func load(t *testing.T, text string, environ []string, flags map[string]string) (Config, []string, string) {
	t.Helper()
	name := write(t, text)
	cfg, warnings, err := Load(name, environ, flags)
	if err == nil {
		return cfg, warnings, ""
	}
	return cfg, warnings, strings.ReplaceAll(err.Error(), name, "config.toml")
}

func changed(change func(*Config)) Config {
	cfg := Default()
	change(&cfg)
	return cfg
}

func TestDefaultsAreThoseOfTheContract(t *testing.T) {
	var want Config
	want.Listen = "127.0.0.1:8080"
	want.DataDir = "data"
	want.CORSOrigins = []string{}
	want.TrustedProxies = []netip.Prefix{}
	want.Limits.MaxFileSize = 52_428_800
	want.Limits.MaxConnections = 8192
	want.Limits.IdleTimeout = Duration(25 * time.Second)
	want.Limits.MaxConcurrentUploads = 256
	want.Limits.FailedKeysPerMinute = 600
	want.Limits.MinUploadRate = 1024
	want.Limits.MinDownloadRate = 1024
	want.Limits.DiskReserve = 256 << 20
	want.Content.Allowed = []string{}
	want.Scan.OnError = "reject"
	want.Scan.Timeout = Duration(time.Minute)
	want.Downloads.Mode = "auto"
	want.Downloads.URLTTL = Duration(time.Hour)
	want.Downloads.StorageURLTTL = Duration(5 * time.Minute)
	want.Downloads.Verify = true
	want.Trash.Keep = Duration(168 * time.Hour)
	want.Audit.Downloads, want.Audit.Retention = true, Duration(8760*time.Hour)
	want.Webhooks.Timeout, want.Webhooks.RetryFor = Duration(15*time.Second), Duration(72*time.Hour)
	want.Storage.LogBelow, want.Storage.LogSize = 64<<10, 256<<20
	want.Storage.Backend, want.Storage.S3Prefix, want.Storage.S3Region, want.Storage.S3PathStyle = "disk", "attachd/", "us-east-1", "auto"
	want.Storage.S3Timeout, want.Storage.KeepDeleted = Duration(8*time.Second), Duration(24*time.Hour)
	want.Metadata.Backend, want.Metadata.MaxConnections = "bolt", 20
	want.Scrub.Rate = 20 << 20
	want.Scrub.Period = Duration(720 * time.Hour)
	want.Log.Level = "info"
	want.Log.Format = "auto"
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestWithoutFileEnvironmentAndFlagsLoadGivesTheDefaults(t *testing.T) {
	got, warnings, err := Load("", []string{"HOME=/root", "=C:=x", "junk"}, nil)
	if err != nil || len(warnings) != 0 || !reflect.DeepEqual(got, Default()) {
		t.Errorf("got %+v, %q, %v", got, warnings, err)
	}
}

func TestExampleIsTheDefaults(t *testing.T) {
	got, _, err := Load(example, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, Default()) {
		t.Errorf("got %+v\nwant %+v", got, Default())
	}
}

func TestExampleListsEveryKeyInOrderEachWithOneLineWhy(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	section := ""
	lines := strings.Split(string(text), "\n")
	comment := func(i int) bool { return i >= 0 && strings.HasPrefix(lines[i], "# ") }
	for i, line := range lines {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]") + "."
		} else if key, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
			listed = append(listed, section+key)
			if !comment(i-1) || comment(i-2) {
				t.Errorf("line %d: %s wants one line of comment above it", i+1, key)
			}
		}
	}
	if want := keyNames(); !slices.Equal(listed, want) {
		t.Errorf("example lists\n%q\nwant\n%q", listed, want)
	}
}

func TestVariablesInTheExampleExist(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	var environ []string
	for _, name := range regexp.MustCompile(`ATTACHD_\w+`).FindAllString(string(text), -1) {
		environ = append(environ, name+"=1MB")
	}
	if _, warnings, err := Load("", environ, nil); len(environ) == 0 || len(warnings) != 0 || err != nil {
		t.Errorf("%q: %q, %v", environ, warnings, err)
	}
}

func TestNamesOfVariablesAreDistinct(t *testing.T) {
	seen := map[string]string{EnvConfig: "the file"}
	for _, name := range keyNames() {
		if other, ok := seen[envName(name)]; ok {
			t.Errorf("%s sets both %s and %s", envName(name), name, other)
		}
		seen[envName(name)] = name
	}
}

func TestEveryKeyIsSetByFileEnvironmentAndFlag(t *testing.T) {
	cases := map[string]struct{ file, text string }{
		"listen":                        {`":9090"`, ":9090"},
		"public_url":                    {`"https://a.example/x/"`, "https://a.example/x/"},
		"data_dir":                      {`"/srv/a b"`, "/srv/a b"},
		"cors_origins":                  {`["https://a.example", "http://b.example:81"]`, "https://a.example, http://b.example:81"},
		"require_existing":              {`true`, "true"},
		"trusted_proxies":               {`["10.0.0.0/8", "::1"]`, "10.0.0.0/8,::1"},
		"tls.cert_file":                 {`"/etc/attachd/cert.pem"`, "/etc/attachd/cert.pem"},
		"tls.key_file":                  {`"key.pem"`, "key.pem"},
		"limits.max_file_size":          {`"1gb"`, "1gb"},
		"limits.max_connections":        {`100`, "100"},
		"limits.idle_timeout":           {`"75s"`, "1m15s"},
		"limits.max_concurrent_uploads": {`0x10`, "16"},
		"limits.requests_per_minute":    {`1_000`, "1000"},
		"limits.failed_keys_per_minute": {`0`, "0"},
		"limits.min_upload_rate":        {`"0"`, "0"},
		"limits.min_download_rate":      {`"2KB"`, "2KB"},
		"limits.disk_reserve":           {`0`, "0"},
		"content.allowed":               {`["Application/PDF", "*"]`, "application/pdf,*"},
		"content.allow_executables":     {`true`, "true"},
		"scan.clamd":                    {`"tcp:127.0.0.1:3310"`, "tcp:127.0.0.1:3310"},
		"scan.on_error":                 {`"accept"`, "accept"},
		"scan.timeout":                  {`"90s"`, "1m30s"},
		"downloads.mode":                {`"url"`, "url"},
		"downloads.url_ttl":             {`"168h"`, "10080m"},
		"downloads.storage_url_ttl":     {`"1m"`, "60s"},
		"downloads.content_url":         {`"https://files.example/x/"`, "https://files.example/x"},
		"downloads.verify":              {`false`, "0"},
		"tickets.admins_may_delete":     {`true`, "1"},
		"directory.auto_create":         {`true`, "TRUE"},
		"trash.keep":                    {`"0s"`, "0"},
		"audit.downloads":               {`false`, "0"},
		"audit.retention":               {`"0s"`, "0s"},
		"webhooks.url":                  {`"https://a.example/x/"`, "https://a.example/x/"},
		"webhooks.secret_file":          {`"/etc/attachd/webhooks.key"`, "/etc/attachd/webhooks.key"},
		"webhooks.allow_private":        {`true`, "true"},
		"webhooks.timeout":              {`"30s"`, "30s"},
		"webhooks.retry_for":            {`"1h"`, "60m"},
		"storage.log_below":             {`"0"`, "0"},
		"storage.log_size":              {`"1GB"`, "1GB"},
		"storage.backend":               {`"s3"`, "s3"},
		"storage.s3_endpoint":           {`"https://s3.example.com/"`, "https://s3.example.com/"},
		"storage.s3_public_endpoint":    {`"http://files.example:9000"`, "http://files.example:9000"},
		"storage.s3_bucket":             {`"files"`, "files"},
		"storage.s3_prefix":             {`"a.b-c_d/e"`, "a.b-c_d/e/"},
		"storage.s3_region":             {`"eu-central-1"`, "eu-central-1"},
		"storage.s3_path_style":         {`"true"`, "true"},
		"storage.s3_access_key":         {`"key"`, "key"},
		"storage.s3_secret_key":         {`"secret"`, "secret"},
		"storage.s3_secret_key_file":    {`"/etc/attachd/s3.key"`, "/etc/attachd/s3.key"},
		"storage.s3_ca_file":            {`"ca.pem"`, "ca.pem"},
		"storage.s3_timeout":            {`"1m"`, "60s"},
		"storage.keep_deleted":          {`"0s"`, "0"},
		"metadata.backend":              {`"postgres"`, "postgres"},
		"metadata.dsn":                  {`" host=db user=attachd "`, "host=db user=attachd"},
		"metadata.dsn_file":             {`"/etc/attachd/dsn"`, "/etc/attachd/dsn"},
		"metadata.max_connections":      {`50`, "50"},
		"metadata.pooler":               {`true`, "true"},
		"scrub.rate":                    {`"0"`, "0"},
		"scrub.period":                  {`"48h"`, "2880m"},
		"log.level":                     {`"debug"`, "debug"},
		"log.format":                    {`'json'`, "json"},
		"metrics.public":                {`true`, "true"},
	}
	for _, name := range keyNames() {
		t.Run(name, func(t *testing.T) {
			c, ok := cases[name]
			if !ok {
				t.Fatal("this table has no case for the key")
			}
			fromFile, _, fault := load(t, name+" = "+c.file, nil, nil)
			if fault != "" {
				t.Fatal(fault)
			}
			fromEnv, _, err := Load("", []string{envName(name) + "=" + c.text}, nil)
			if err != nil {
				t.Fatal(err)
			}
			fromFlag, _, err := Load("", nil, map[string]string{name: c.text})
			if err != nil {
				t.Fatal(err)
			}
			if reflect.DeepEqual(fromFile, Default()) {
				t.Error("the file changed nothing")
			}
			if !reflect.DeepEqual(fromEnv, fromFile) || !reflect.DeepEqual(fromFlag, fromFile) {
				t.Errorf("file %+v\nenvironment %+v\nflag %+v", fromFile, fromEnv, fromFlag)
			}
		})
	}
}

func TestFlagWinsOverEnvironmentOverFileOverDefault(t *testing.T) {
	file := `data_dir = "file"`
	environ := []string{"ATTACHD_DATA_DIR=environment"}
	flags := map[string]string{"data_dir": "flag"}
	for _, c := range []struct {
		want, file string
		environ    []string
		flags      map[string]string
	}{
		{"data", "", nil, nil},
		{"file", file, nil, nil},
		{"environment", file, environ, nil},
		{"flag", file, environ, flags},
		{"flag", "", nil, flags},
	} {
		if got, _, fault := load(t, c.file, c.environ, c.flags); fault != "" || got.DataDir != c.want {
			t.Errorf("got %q (%s), want %q", got.DataDir, fault, c.want)
		}
	}
}

func TestTheFileMayBeNamedByTheEnvironmentUnlessTheCallerNamesOne(t *testing.T) {
	first, second := write(t, `data_dir = "first"`), write(t, `data_dir = "second"`)
	environ := []string{"ATTACHD_CONFIG=" + first}
	got, warnings, err := Load("", environ, nil)
	if err != nil || len(warnings) != 0 || got.DataDir != "first" {
		t.Errorf("got %q, %q, %v", got.DataDir, warnings, err)
	}
	if got, _, err = Load(second, environ, nil); err != nil || got.DataDir != "second" {
		t.Errorf("got %q, %v", got.DataDir, err)
	}
}

func TestMissingFileIsAnError(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.toml")
	for _, environ := range [][]string{nil, {"ATTACHD_CONFIG=" + missing}} {
		path := missing
		if environ != nil {
			path = ""
		}
		_, _, err := Load(path, environ, nil)
		if !errors.Is(err, fs.ErrNotExist) || !strings.HasPrefix(err.Error(), "cannot read the configuration: ") || !strings.Contains(err.Error(), missing) {
			t.Errorf("got %v", err)
		}
	}
}

func TestEveryFormOfTOMLIsTaken(t *testing.T) {
	small := changed(func(c *Config) { c.Limits.MaxFileSize = 1 << 20 })
	debug := changed(func(c *Config) { c.Log.Level = "debug" })
	origins := changed(func(c *Config) { c.CORSOrigins = []string{"https://a.example", "https://b.example"} })
	for name, c := range map[string]struct {
		text string
		want Config
	}{
		"empty file":             {"", Default()},
		"comments only":          {"# nothing\n\n", Default()},
		"empty known table":      {"[limits]", Default()},
		"table":                  {"[limits]\nmax_file_size = \"1MB\"", small},
		"dotted key":             {`limits.max_file_size = "1MB"`, small},
		"quoted key parts":       {`"limits".'max_file_size' = "1MB"`, small},
		"inline table":           {`limits = {max_file_size="1MB"}`, small},
		"inline table of lines":  {"limits = {\n  max_file_size = \"1MB\", # why\n}", small},
		"byte order mark":        {"\ufeff[limits]\nmax_file_size = \"1MB\"", small},
		"CRLF":                   {"[limits]\r\nmax_file_size = \"1MB\"\r\n", small},
		"spaces":                 {"[ limits ]\n  max_file_size\t=\t\"1 MB\"", small},
		"escapes":                {`log.level = "d\u0065bug"`, debug},
		"multi-line string":      {"log.level = \"\"\"\ndebug\"\"\"", debug},
		"multi-line array":       {"cors_origins = [ # who\n \"https://a.example\",\n 'https://b.example',\n]", origins},
		"tables in any order":    {"[log]\n[limits]\nmax_file_size = \"1MB\"", small},
		"bare zero for a size":   {"limits.min_upload_rate = 0", changed(func(c *Config) { c.Limits.MinUploadRate = 0 })},
		"empty listen host":      {`listen = ":0"`, changed(func(c *Config) { c.Listen = ":0" })},
		"IPv6 listen":            {`listen = "[::1]:80"`, changed(func(c *Config) { c.Listen = "[::1]:80" })},
		"named listen host":      {`listen = "localhost:80"`, changed(func(c *Config) { c.Listen = "localhost:80" })},
		"public_url with slash":  {`public_url = "https://a.example//"`, changed(func(c *Config) { c.PublicURL = "https://a.example" })},
		"public_url with a path": {`public_url = "http://a.example:81/x/y/"`, changed(func(c *Config) { c.PublicURL = "http://a.example:81/x/y" })},
		"origins of apps":        {`cors_origins = ["capacitor://localhost", "http://[::1]:81"]`, changed(func(c *Config) { c.CORSOrigins = []string{"capacitor://localhost", "http://[::1]:81"} })},
		"data_dir stays as is":   {`data_dir = "../x/./y"`, changed(func(c *Config) { c.DataDir = "../x/./y" })},
		"addresses and networks": {`trusted_proxies = ["192.0.2.1", "2001:db8::/32"]`, changed(func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32")}
		})},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _, fault := load(t, c.text, nil, nil); fault != "" || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v\n%s\nwant %+v", got, fault, c.want)
			}
		})
	}
}

func TestFaultsInTheFileNameLineColumnAndKey(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		// Names.
		{"unknown key", "\nlisen = \":80\"", `2:1: lisen: unknown key, did you mean listen?`},
		{"key in the wrong place", `max_file_size = "1MB"`, `1:1: max_file_size: unknown key, did you mean limits.max_file_size?`},
		{"key in the wrong section", "[limits]\nmode = \"url\"", `2:1: limits.mode: unknown key, did you mean downloads.mode?`},
		{"misspelt in its section", "[limits]\n  max_flie_size = \"1MB\"", `2:3: limits.max_flie_size: unknown key, did you mean limits.max_file_size?`},
		{"capitals", `Listen = ":80"`, `1:1: Listen: unknown key, did you mean listen?`},
		{"like nothing", `xyzzy = 1`, `1:1: xyzzy: unknown key`},
		{"unknown table, once", "[limit]\nmax_file_size = 1\nother = 2", `1:2: limit: unknown key, did you mean limits?`},
		{"unknown nested table", "[a.b]\nc = {d = {e = 1}}", `1:2: a.b: unknown key`},
		{"table within a section", "[log.level.x]", `1:2: log.level.x: unknown key, did you mean log.level?`},
		{"unknown array of tables", "[[x]]\na=1\n[[x]]\na=2", "1:3: x: unknown key\nconfig.toml:3:3: x: unknown key"},
		{"unknown in an inline table", `limits = { max_size = "1MB" }`, `1:12: limits.max_size: unknown key, did you mean limits.max_file_size?`},
		{"dotted name in quotes", `"limits.max_file_size" = "1MB"`, `1:1: "limits.max_file_size": unknown key, did you mean limits.max_file_size?`},
		{"unicode key", `"größe" = 1`, `1:1: "größe": unknown key`},
		{"empty key", `"" = 1`, `1:1: "": unknown key`},
		{"control character in a key", `"a\n\u001b[31m" = 1`, `1:1: "a\n\x1b[31m": unknown key`},
		{"below a key", `listen.host = "x"`, `1:1: listen.host: unknown key`},

		// Types.
		{"boolean for a size", "\n[limits]\nmax_file_size = true", `3:17: limits.max_file_size: expected a size like "50MB", found a boolean`},
		{"number for a size", `limits.max_file_size = 5`, `1:24: limits.max_file_size: expected a size like "50MB", found the number 5`},
		{"number for a duration", `downloads.url_ttl = 5`, `1:21: downloads.url_ttl: expected a duration like "1h", found the number 5`},
		{"float for a duration", `downloads.url_ttl = 1.5`, `1:21: downloads.url_ttl: expected a duration like "1h", found the number 1.5`},
		{"string for a boolean", `downloads.verify = "true"`, `1:20: downloads.verify: expected true or false, found "true"`},
		{"number for a boolean", `downloads.verify = 1`, `1:20: downloads.verify: expected true or false, found the number 1`},
		{"string for a number", `limits.requests_per_minute = "5"`, `1:30: limits.requests_per_minute: expected a whole number, found "5"`},
		{"float for a number", `limits.requests_per_minute = 5.0`, `1:30: limits.requests_per_minute: expected a whole number, found the number 5`},
		{"nan for a number", `limits.requests_per_minute = nan`, `1:30: limits.requests_per_minute: expected a whole number, found the number NaN`},
		{"string for a list", `cors_origins = "https://a.example"`, `1:16: cors_origins: expected a list of strings, found "https://a.example"`},
		{"list of numbers", `cors_origins = [1]`, `1:16: cors_origins: expected a string, found the number 1`},
		{"list of lists", "trusted_proxies = [\n[\"::1\"]]", `1:19: trusted_proxies: expected an address or network like "10.0.0.0/8", found a list`},
		{"list for a string", `listen = []`, `1:10: listen: expected a string, found a list`},
		{"date for a string", `listen = 2026-01-15`, `1:10: listen: expected a string, found a date or time`},
		{"inline table for a string", `listen = {}`, `1:10: listen: expected a string, found a table`},
		{"table for a string", "[listen]\nx = 1", `1:2: listen: expected a string, found a table`},
		{"array of tables for a list", "[[content.allowed]]\nx = 1", `1:3: content.allowed: expected a string, found a table`},
		{"number for a section", `limits = 5`, `1:10: limits: expected a table, found the number 5`},
		{"array of tables for a section", "[[limits]]\nmax_file_size = 5", `1:3: limits: expected a table, found a list`},

		// Values.
		{"size without unit", `limits.max_file_size = "5"`, `1:24: limits.max_file_size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "5"`},
		{"size below zero", `limits.max_file_size = "-1MB"`, `1:24: limits.max_file_size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "-1MB"`},
		{"size with a fraction", `limits.max_file_size = "1.5GB"`, `1:24: limits.max_file_size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "1.5GB"`},
		{"size with an exponent", `limits.max_file_size = "1e9MB"`, `1:24: limits.max_file_size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "1e9MB"`},
		{"size without number", `limits.max_file_size = "MB"`, `1:24: limits.max_file_size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "MB"`},
		{"size one past the largest", `limits.max_file_size = "8388608TB"`, `1:24: limits.max_file_size: "8388608TB" is too large`},
		{"size past any number", `limits.max_file_size = "99999999999999999999B"`, `1:24: limits.max_file_size: "99999999999999999999B" is too large`},
		{"size of nothing", `limits.max_file_size = "0"`, `1:24: limits.max_file_size: must be at least 1B, found "0"`},
		{"no uploads at all", `limits.max_concurrent_uploads = 0`, `1:33: limits.max_concurrent_uploads: must be at least 1, found the number 0`},
		{"number below zero", `limits.requests_per_minute = -1`, `1:30: limits.requests_per_minute: must be at least 0, found the number -1`},
		{"duration without unit", `downloads.url_ttl = "5"`, `1:21: downloads.url_ttl: expected a duration like "1h" (numbers with h, m or s), found "5"`},
		{"duration in days", `downloads.url_ttl = "7d"`, `1:21: downloads.url_ttl: expected a duration like "1h" (numbers with h, m or s), found "7d"`},
		{"duration of nothing", `downloads.url_ttl = "0"`, `1:21: downloads.url_ttl: must be at least 1s, found "0"`},
		{"duration below zero", `downloads.url_ttl = "-1h"`, `1:21: downloads.url_ttl: must be at least 1s, found "-1h"`},
		{"duration too short", `scrub.period = "59m"`, `1:16: scrub.period: must be at least 1h, found "59m"`},
		{"duration too long", `downloads.url_ttl = "168h1s"`, `1:21: downloads.url_ttl: must be at most 168h, found "168h1s"`},
		{"duration past any number", `downloads.url_ttl = "9999999999h"`, `1:21: downloads.url_ttl: expected a duration like "1h" (numbers with h, m or s), found "9999999999h"`},
		{"unknown mode", "[downloads]\nmode = \"fast\"", `2:8: downloads.mode: expected one of auto, content, url, found "fast"`},
		{"level in capitals", `log.level = "DEBUG"`, `1:13: log.level: expected one of debug, info, warn, error, found "DEBUG"`},
		{"listen without port", `listen = "localhost"`, `1:10: listen: expected host:port like "127.0.0.1:8080" or ":8080", found "localhost"`},
		{"listen on a port that cannot be", `listen = ":65536"`, `1:10: listen: expected host:port like "127.0.0.1:8080" or ":8080", found ":65536"`},
		{"listen on a URL", `listen = "http://127.0.0.1:80"`, `1:10: listen: expected host:port like "127.0.0.1:8080" or ":8080", found "http://127.0.0.1:80"`},
		{"listen on nothing", `listen = ""`, `1:10: listen: expected host:port like "127.0.0.1:8080" or ":8080", found ""`},
		{"empty data_dir", `data_dir = ""`, `1:12: data_dir: expected the path of a folder, found ""`},
		{"NUL in a file's path", `tls.key_file = "a\u0000b"`, `1:16: tls.key_file: expected the path of a file, found "a\x00b"`},
		{"NUL in data_dir", `data_dir = "a\u0000b"`, `1:12: data_dir: expected the path of a folder, found "a\x00b"`},
		{"any origin", `cors_origins = ["*"]`, `1:16: cors_origins: "*" would let in pages that nobody named, list each origin`},
		{"pattern of origins", `cors_origins = ["https://*.a.example"]`, `1:16: cors_origins: "https://*.a.example" would let in pages that nobody named, list each origin`},
		{"origin null", `cors_origins = ["null"]`, `1:16: cors_origins: expected an origin like "https://app.example.com", found "null"`},
		{"origin without scheme", `cors_origins = ["a.example"]`, `1:16: cors_origins: expected an origin like "https://app.example.com", found "a.example"`},
		{"origin with a slash", `cors_origins = ["https://a.example/"]`, `1:16: cors_origins: "https://a.example/" is not what a browser sends, write "https://a.example"`},
		{"origin in capitals", `cors_origins = ["https://A.example"]`, `1:16: cors_origins: "https://A.example" is not what a browser sends, write "https://a.example"`},
		{"origin with its usual port", `cors_origins = ["https://a.example:443"]`, `1:16: cors_origins: "https://a.example:443" is not what a browser sends, write "https://a.example"`},
		{"origin in another script", `cors_origins = ["https://bücher.example"]`, `1:16: cors_origins: expected an origin like "https://app.example.com", found "https://bücher.example"`},
		{"proxy by name", `trusted_proxies = ["proxy"]`, `1:19: trusted_proxies: expected an address or network like "10.0.0.0/8", found "proxy"`},
		{"proxy inside a network", `trusted_proxies = ["10.1.2.3/8"]`, `1:19: trusted_proxies: "10.1.2.3/8" is an address inside a network, write "10.0.0.0/8" or "10.1.2.3"`},
		{"proxy as mapped IPv4", `trusted_proxies = ["::ffff:10.0.0.1"]`, `1:19: trusted_proxies: "::ffff:10.0.0.1" must be written as an IPv4 address`},
		{"proxy with a zone", `trusted_proxies = ["fe80::1%eth0"]`, `1:19: trusted_proxies: expected an address or network like "10.0.0.0/8", found "fe80::1%eth0"`},
		{"type with a space", `content.allowed = ["application / pdf"]`, `1:19: content.allowed: expected a type like "application/pdf", "image/*" or ".csv", found "application / pdf"`},

		// Syntax.
		{"no value", "listen =\n", "1:9: unexpected character U+000A at start of value"},
		{"same key twice", "listen = \":1\"\nlisten = \":2\"", "2:1: key listen is already defined"},
		{"same table twice", "[log]\n[log]", "2:2: table log already exists"},
		{"huge number", "limits.requests_per_minute = 99999999999999999999", "1:30: decimal number is too large to fit in a 64-bit signed integer"},
		{"broken UTF-8", "listen = \"\xff\"", "1:11: invalid UTF-8 character in basic string"},
		{"a YAML file", "listen: \":80\"", "1:7: expected '=' after key"},
		{"after a byte order mark", "\ufefflisten x", "1:8: expected '=' after key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, _, fault := load(t, c.text, nil, nil)
			if want := "config.toml:" + c.want; fault != want {
				t.Errorf("got  %s\nwant %s", fault, want)
			}
			if fault != "" && !reflect.DeepEqual(cfg, Config{}) {
				t.Errorf("a faulty file gave %+v", cfg)
			}
		})
	}
}

func TestAddressesThatNoClientCouldUseAreNoPublicURL(t *testing.T) {
	for _, url := range []string{
		"files.example.com", "//files.example.com", "ftp://files.example.com", "https://", "https:files", "https:///x",
		"https://a.example?x=1", "https://a.example/?", "https://a.example/#", "https://u:p@a.example", "https://a.example:",
		"https://a.example:99999", "https://a b.example", "https://bücher.example", "https://a.example/%zz",
	} {
		_, _, fault := load(t, "public_url = '"+url+"'", nil, nil)
		if !strings.HasPrefix(fault, "config.toml:1:14: public_url: expected an address like ") {
			t.Errorf("%s: got %q", url, fault)
		}
	}
}

func TestEveryFaultIsReportedInOrder(t *testing.T) {
	_, _, fault := load(t, "listen = 1\n[log]\nlevel = 2\nformt = 3\n[limits]\nmax_file_size = 4",
		[]string{"ATTACHD_LOG_LEVEL=loud", "ATTACHD_LIMITS_MAX_FILE_SIZE=5", "ATTACHD_DOWNLOADS_VERIFY="},
		map[string]string{"listen": "here", "limits.max_file_size": "6", "data-dir": "x"})
	want := `config.toml:1:10: listen: expected a string, found the number 1
config.toml:3:9: log.level: expected a string, found the number 2
config.toml:4:1: log.formt: unknown key, did you mean log.format?
config.toml:6:17: limits.max_file_size: expected a size like "50MB", found the number 4
ATTACHD_LIMITS_MAX_FILE_SIZE: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "5"
ATTACHD_DOWNLOADS_VERIFY: expected true or false, found ""
ATTACHD_LOG_LEVEL: expected one of debug, info, warn, error, found "loud"
--data-dir: unknown key, did you mean data_dir?
--limits-max-file-size: expected a size like "50MB" (a whole number and B, KB, MB, GB or TB), found "6"
--listen: expected host:port like "127.0.0.1:8080" or ":8080", found "here"`
	if fault != want {
		t.Errorf("got\n%s\nwant\n%s", fault, want)
	}
}

func TestFaultInTheFileStandsEvenWhenAFlagOverridesTheKey(t *testing.T) {
	if _, _, fault := load(t, "listen = 1", nil, map[string]string{"listen": ":80"}); fault == "" {
		t.Error("the file was taken")
	}
}

func TestEmptyVariableEmptiesAStringOrAList(t *testing.T) {
	got, warnings, fault := load(t, "public_url = 'https://a.example'\ncors_origins = ['https://a.example']",
		[]string{"ATTACHD_PUBLIC_URL=", "ATTACHD_CORS_ORIGINS= "}, nil)
	if fault != "" || len(warnings) != 0 || !reflect.DeepEqual(got, Default()) {
		t.Errorf("got %+v, %q, %s", got, warnings, fault)
	}
}

func TestUnknownVariablesAreWarnedOfWithTheNearest(t *testing.T) {
	_, warnings, err := Load("", []string{
		"ATTACHD_LISTEN=:80", "ATTACHD_LISEN=x", "ATTACHD_MAX_FILE_SIZE=x", "ATTACHD_LIMITS_MAX_FLIE_SIZE=x",
		"ATTACHD_listen=x", "ATTACHD_LIMITS=x", "ATTACHD_=x", "ATTACHD_XYZZY", "ATTACHDX=x",
	}, nil)
	want := []string{
		"ATTACHD_: unknown variable",
		"ATTACHD_LIMITS: unknown variable",
		"ATTACHD_LIMITS_MAX_FLIE_SIZE: unknown variable, did you mean ATTACHD_LIMITS_MAX_FILE_SIZE?",
		"ATTACHD_LISEN: unknown variable, did you mean ATTACHD_LISTEN?",
		"ATTACHD_MAX_FILE_SIZE: unknown variable, did you mean ATTACHD_LIMITS_MAX_FILE_SIZE?",
		"ATTACHD_XYZZY: unknown variable",
		"ATTACHD_listen: unknown variable, did you mean ATTACHD_LISTEN?",
	}
	if err != nil || !slices.Equal(warnings, want) {
		t.Errorf("got %v\n%s\nwant\n%s", err, strings.Join(warnings, "\n"), strings.Join(want, "\n"))
	}
}

func TestShownConfigurationLoadsAsTheSame(t *testing.T) {
	odd := changed(func(c *Config) {
		c.DataDir = "it's \"a\"\n\\dir"
		c.CORSOrigins = []string{"https://a.example"}
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
		c.Limits.DiskReserve = 1536
		c.Limits.MinUploadRate = 0
		c.Downloads.URLTTL = Duration(90*time.Minute + 1500*time.Millisecond)
	})
	for _, want := range []Config{Default(), odd} {
		var shown bytes.Buffer
		if err := want.Show(&shown); err != nil {
			t.Fatal(err)
		}
		if got, _, fault := load(t, shown.String(), nil, nil); fault != "" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n%s\ngot %+v\nwant %+v", shown.String(), fault, got, want)
		}
	}
}

func TestSizesAreShownInTheLargestUnitThatFits(t *testing.T) {
	for size, want := range map[Size]string{
		0: "0", 1: "1B", 1023: "1023B", 1024: "1KB", 1536: "1536B", 50 << 20: "50MB", 1 << 30: "1GB", 3 << 40: "3TB", 1<<63 - 1: "9223372036854775807B",
	} {
		if got := size.String(); got != want {
			t.Errorf("%d: got %s, want %s", size, got, want)
		}
	}
}

func TestDurationsAreShownAsAPersonWritesThem(t *testing.T) {
	for text, want := range map[string]string{
		"1h": "1h", "60m": "1h", "10m": "10m", "90m": "1h30m", "90s": "1m30s", "10s": "10s", "1h10s": "1h0m10s", "0": "0s", "20h10m": "20h10m",
	} {
		d, err := duration(text)
		if err != nil || d.String() != want {
			t.Errorf("%s: got %s, %v, want %s", text, d, err, want)
		}
	}
}

// FuzzLoad tests that a file is either refused with a position or results in a
// configuration that can be written and loaded again.
// ASVS 2.2.1, 2.2.2
func FuzzLoad(f *testing.F) {
	text, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	for _, seed := range []string{
		"", "\ufeff[limits]\r\nmax_file_size = \"1MB\"", `limits = {max_file_size="1MB", x.y=[{}]}`, "limits.max_file_size = 5",
		"[[limits]]\na=1\n[limits.b]", "[[content.allowed]]", "\"limits.max_file_size\"=1", "[a.b.c]\n\"\"=1", "x={y={z=[[[]]]}}",
		`public_url="http://[::1]:80/a%20b/"`, `public_url='http://a/ü;;'`, `cors_origins=["http://a:81"]`, "listen = '''\n:80'''",
		`trusted_proxies=["::/0","1.2.3.4/32"]`, "downloads.url_ttl='1h1ns'", "data_dir=\"\\u00e9\\n\"", "x=2026-01-15T10:30:00Z", "x=1e999",
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	position := regexp.MustCompile(`:\d+:\d+: .`)
	f.Fuzz(func(t *testing.T, text []byte) {
		name := filepath.Join(dir, "config.toml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, _, err := Load(name, nil, nil)
		if err != nil {
			if !position.MatchString(err.Error()) {
				t.Fatalf("no position: %v", err)
			}
			return
		}
		var shown bytes.Buffer
		if err := cfg.Show(&shown); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, shown.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		again, _, err := Load(name, nil, nil)
		if err != nil || !reflect.DeepEqual(again, cfg) {
			t.Fatalf("%s\n%v\ngot %+v\nwant %+v", shown.String(), err, again, cfg)
		}
	})
}

func TestACheckIsToldWithThePlaceOfTheValue(t *testing.T) {
	check := Check{Key: "listen", Of: func(c Config) error {
		if c.Listen == ":1" {
			return errors.New("is not for us")
		}
		return nil
	}}
	path := filepath.Join(t.TempDir(), "a.toml")
	if err := os.WriteFile(path, []byte("listen = \":1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environ []string
		flags   map[string]string
		want    string
	}{
		{nil, nil, path + ":1:10: listen: is not for us"},
		{[]string{"ATTACHD_LISTEN=:1"}, nil, "ATTACHD_LISTEN: is not for us"},
		{nil, map[string]string{"listen": ":1"}, "--listen: is not for us"},
		{nil, map[string]string{"listen": ":2"}, ""},
	} {
		_, _, err := Load(path, c.environ, c.flags, check)
		if got := fmt.Sprint(err); got != c.want && !(err == nil && c.want == "") {
			t.Errorf("%v %v: %v, want %s", c.environ, c.flags, err, c.want)
		}
	}
}

// A bucket in it would be twice in the path of requests.
func TestTheAddressOfAnObjectStoreHasNoPath(t *testing.T) {
	for _, key := range []string{"s3_endpoint", "s3_public_endpoint"} {
		for address, good := range map[string]bool{
			"https://s3.example.com": true, "https://s3.example.com/": true, "http://[::1]:9000": true,
			"https://s3.example.com/files": false, "https://s3.example.com:9000/files/": false, "https://s3.example.com?a=b": false, "s3.example.com": false,
		} {
			_, _, fault := load(t, fmt.Sprintf("[storage]\n%s = %q", key, address), nil, nil)
			if (fault == "") != good || !good && !strings.Contains(fault, "without a bucket or a path") {
				t.Errorf("%s = %q: %q", key, address, fault)
			}
		}
	}
}

// ASVS 13.3.1
func TestANameOfADatabaseIsShownWithoutItsPasswords(t *testing.T) {
	for given, want := range map[string]string{
		"postgres://me:s3cret@db.example.com/files":                                  "postgres://me@db.example.com/files",
		"postgresql://me:s3c%40ret@a:5432,[::1]:5433/files?sslmode=require":          "postgresql://me@a:5432,[::1]:5433/files?sslmode=require",
		"postgres://db/files?user=me&password=s3cret&pass%77ord=s3cret&sslmode=true": "postgres://db/files?user=me&sslmode=true",
		"postgres://db/files?sslpassword=s3cret":                                     "postgres://db/files",
		"postgres:///files?host=/run/postgresql":                                     "postgres:///files?host=/run/postgresql",
		"postgres://me@db/files":                                                     "postgres://me@db/files",
		"host=db user=me password=s3cret dbname=files":                               "host=db user=me dbname=files",
		`host = db  PASSWORD = 's3cret \'s3cret\\' dbname='a file'`:                  `host = db  dbname='a file'`,
		`password=s3cret\ s3cret user=me`:                                            "user=me",
		`password=http://s3cret user=me`:                                             "user=me",
		"password= s3cret user=me":                                                   "user=me",
	} {
		cfg, _, fault := load(t, fmt.Sprintf("[metadata]\ndsn = %q", given), nil, nil)
		var shown bytes.Buffer
		if err := cfg.Show(&shown); err != nil || fault != "" {
			t.Fatal(given, err, fault)
		}
		again, _, fault := load(t, shown.String(), nil, nil)
		if cfg.Metadata.DSN != given || fault != "" || again.Metadata.DSN != want || strings.Contains(shown.String(), "s3cret") {
			t.Errorf("%s is shown as %s, want %s (%s)", given, again.Metadata.DSN, want, fault)
		}
	}
	for _, given := range []string{
		"postgres://me:s3@cret@db/files", "postgres://me:s3/cret@db/files", "postgres://me:s3?cret@db/files", "postgres://me:s3#c/ret@db/files",
		"mysql://me:s3cret@db/files", "host=db password='s3cret", "me:s3cret@db", "host=db s3cret", "postgres://db/files?user=me&password=s3@cret",
	} {
		_, _, fault := load(t, fmt.Sprintf("[metadata]\ndsn = %q", given), nil, nil)
		if !strings.Contains(fault, "must name a database") || strings.Contains(fault, "cret") {
			t.Errorf("%s: %q", given, fault)
		}
	}
}
