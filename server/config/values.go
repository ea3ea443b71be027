package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Size is a number of bytes. It is written as a whole number and one of B, KB, MB, GB
// and TB, each 1024 times the one before it, in either case; only 0 needs no unit.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}, {"B", 1}}

// String writes s in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && int64(s)%u.bytes == 0 {
			return fmt.Sprintf("%d%s", int64(s)/u.bytes, u.name)
		}
	}
	return "0"
}

// MarshalText writes s as String does.
func (s Size) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}

// ParseSize reads a size as the configuration has it.
func ParseSize(text string) (Size, error) { return size(text) }

func size(value any) (Size, error) {
	if value == int64(0) || value == "0" {
		return 0, nil
	}
	text, ok := value.(string)
	if !ok {
		return 0, expected(`a size like "50MB"`, value)
	}
	unit := strings.TrimLeft(text, "0123456789")
	for _, u := range units {
		if !strings.EqualFold(strings.TrimSpace(unit), u.name) {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange) || n > math.MaxInt64/u.bytes:
			return 0, fmt.Errorf("%s is too large", found(value))
		case err == nil:
			return Size(n * u.bytes), nil
		}
	}
	return 0, expected(`a size like "50MB" (a whole number and B, KB, MB, GB or TB)`, value)
}

// Duration is a span of time in Go's notation: "90s", "1h30m". It always has a unit.
type Duration time.Duration

// String writes d without the zero minutes and seconds that Go would add.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) {
	return []byte(d.String()), nil
}

func duration(value any) (Duration, error) {
	text, ok := value.(string)
	if !ok {
		return 0, expected(`a duration like "1h"`, value)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, expected(`a duration like "1h" (numbers with h, m or s)`, value)
	}
	return Duration(d), nil
}

func wholeNumber(value any) (int, error) {
	n, err := as[int64](value, "a whole number")
	if err == nil && int64(int(n)) != n {
		return 0, fmt.Errorf("%s is too large", found(value))
	}
	return int(n), err
}

func list[T any](value any, item func(any) (T, error)) ([]T, error) {
	values, err := as[[]any](value, "a list of strings")
	if err != nil {
		return nil, err
	}
	items := make([]T, len(values))
	for i, v := range values {
		if items[i], err = item(v); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func as[T any](value any, what string) (T, error) {
	v, ok := value.(T)
	if !ok {
		return v, expected(what, value)
	}
	return v, nil
}

func expected(what string, value any) error {
	return fmt.Errorf("expected %s, found %s", what, found(value))
}

// found describes a value that go-toml decoded, for a fault.
func found(value any) string {
	switch v := value.(type) {
	case string:
		return fmt.Sprintf("%.60q", v)
	case bool:
		return "a boolean"
	case int64, float64:
		return fmt.Sprintf("the number %v", v)
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}

// network parses an address or a CIDR. One that matches no address, or more than it
// seems to, is refused.
func network(value any) (netip.Prefix, error) {
	const what = `an address or network like "10.0.0.0/8"`
	text, err := as[string](value, what)
	if err != nil {
		return netip.Prefix{}, err
	}
	prefix, err := netip.ParsePrefix(text)
	if addr, bare := netip.ParseAddr(text); bare == nil && addr.Zone() == "" {
		prefix, err = addr.Prefix(addr.BitLen())
	}
	switch {
	case err != nil:
		return netip.Prefix{}, expected(what, value)
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q must be written as an IPv4 address", text)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%q is an address inside a network, write %q or %q", text, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// forms maps the values of the tag form to functions that validate a string and return
// the one to store.
var forms = map[string]func(string) (string, error){
	"address":  address,
	"origin":   origin,
	"path":     path,
	"file":     filePath,
	"entry":    entry,
	"url":      publicURL,
	"endpoint": endpoint,
	"prefix":   prefix,
	"dsn":      ParseDSN,
}

var prefixChars = regexp.MustCompile(`^[A-Za-z0-9._/-]*$`)

// prefix accepts characters that no client of an object store escapes, and puts a slash
// behind them.
func prefix(s string) (string, error) {
	if !prefixChars.MatchString(s) || strings.HasPrefix(s, "/") || strings.Contains(s, "//") || slices.Contains(strings.Split(s, "/"), "..") || slices.Contains(strings.Split(s, "/"), ".") {
		return "", expected(`a prefix like "attachd/", of letters, digits, dots, dashes, underlines and slashes`, s)
	}
	if s == "" {
		return "", nil
	}
	return strings.TrimSuffix(s, "/") + "/", nil
}

// UnixPrefix begins the address of a unix socket, before its path.
const UnixPrefix = "unix:"

func address(s string) (string, error) {
	if socket, ok := strings.CutPrefix(s, UnixPrefix); ok {
		if !strings.HasPrefix(socket, "/") || strings.ContainsRune(socket, 0) {
			return "", expected(`the whole path of a socket, like "unix:/run/attachd/http.sock"`, s)
		}
		return s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host != "" && !isHost(host) || !isPort(port) {
		return "", expected(`host:port like "127.0.0.1:8080" or ":8080"`, s)
	}
	return s, nil
}

func path(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", expected("the path of a folder", s)
	}
	return s, nil
}

func filePath(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", expected("the path of a file", s)
	}
	return s, nil
}

// entry validates one of content.allowed by its form alone. Which types exist, a Check
// knows.
func entry(s string) (string, error) {
	if s == "" || strings.ContainsFunc(s, unicode.IsSpace) {
		return "", expected(`a type like "application/pdf", "image/*" or ".csv"`, s)
	}
	return strings.ToLower(s), nil
}

func publicURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isAuthority(u) || strings.ContainsAny(s, "?#") {
		return "", expected(`an address like "https://files.example.com" or "https://example.com/files", without a query`, s)
	}
	return strings.TrimRight(u.String(), "/"), nil
}

// endpoint accepts the address of a store itself. A bucket in its path would be one in that
// of each request, too.
func endpoint(s string) (string, error) {
	base, err := publicURL(s)
	if err == nil && strings.Count(base, "/") > 2 {
		err = errors.New("a path")
	}
	if err != nil {
		return "", expected(`the address of an object store like "https://s3.eu-central-1.amazonaws.com" or "https://store.example.com:9000", without a bucket or a path`, s)
	}
	return base, nil
}

// origin accepts an origin exactly as a browser sends it: the header is compared byte
// by byte, so any other spelling would never match, and a * would match more than one
// origin.
func origin(s string) (string, error) {
	if strings.Contains(s, "*") {
		return "", fmt.Errorf("%.60q would let in pages that nobody named, list each origin", s)
	}
	u, err := url.Parse(s)
	if err != nil || !isAuthority(u) {
		return "", expected(`an origin like "https://app.example.com"`, s)
	}
	exact := strings.ToLower(u.Scheme + "://" + u.Host)
	if u.Scheme == "https" {
		exact = strings.TrimSuffix(exact, ":443")
	}
	if u.Scheme == "http" {
		exact = strings.TrimSuffix(exact, ":80")
	}
	if s != exact {
		return "", fmt.Errorf("%.60q is not what a browser sends, write %.60q", s, exact)
	}
	return exact, nil
}

// isAuthority reports whether the authority of u is a host and, at most, a port.
func isAuthority(u *url.URL) bool {
	return u.User == nil && isHost(u.Hostname()) && (u.Port() == "" || isPort(u.Port())) && !strings.HasSuffix(u.Host, ":")
}

var hostNames = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)

// isHost reports whether s is an address or a DNS name: names in other scripts are
// written in their xn-- form.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || hostNames.MatchString(s)
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}
