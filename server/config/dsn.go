package config

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// ParseDSN accepts the two forms in which PostgreSQL's own programs take the name of a database.
// Which keywords and hosts are good, the driver knows. The fault is told without the text,
// which may have a password in it.
func ParseDSN(s string) (string, error) {
	s = strings.TrimSpace(s)
	if _, ok := WithoutPasswords(s); !ok {
		return "", errors.New(`must name a database, like "postgres://attachd:PASSWORD@db.example.com/attachd" or "host=db.example.com user=attachd dbname=attachd". In a URL, characters of a password other than letters and digits are written as % and two digits, such as %40 for @; a value with spaces is put in single quotes`)
	}
	return s, nil
}

// setting matches a keyword with its value, which may be in single quotes.
var setting = regexp.MustCompile(`^([A-Za-z_]+)\s*=\s*(?:'(?:\\.|[^'\\])*'|(?:\\.|[^\s'\\])(?:\\.|[^\s\\])*)?(?:\s+|$)`)

func isSecret(keyword string) bool {
	return strings.EqualFold(keyword, "password") || strings.EqualFold(keyword, "sslpassword")
}

// WithoutPasswords returns the name of a database without its passwords; empty and false
// where it cannot be told which part of it is one.
func WithoutPasswords(s string) (without string, ok bool) {
	scheme, rest, isURL := strings.Cut(s, "://")
	if isURL && scheme == strings.ToLower(scheme) && !strings.ContainsAny(scheme, "= ") {
		return urlWithoutPasswords(scheme, rest)
	}
	var kept strings.Builder
	for rest = strings.TrimSpace(s); rest != ""; {
		found := setting.FindStringSubmatch(rest)
		if found == nil {
			return "", false
		}
		if !isSecret(found[1]) {
			kept.WriteString(found[0])
		}
		rest = rest[len(found[0]):]
	}
	return strings.TrimSpace(kept.String()), true
}

// urlWithoutPasswords reads a URL as the driver does, which takes several hosts.
func urlWithoutPasswords(scheme, rest string) (without string, ok bool) {
	if scheme != "postgres" && scheme != "postgresql" {
		return "", false
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	user, at := "", ""
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		user, _, _ = strings.Cut(rest[:i], ":")
		rest, at = rest[i+1:], "@"
	}
	if strings.ContainsAny(rest, "@#") || strings.Contains(query, "@") { // of a password, which they cut short
		return "", false
	}
	without = scheme + "://" + user + at + rest
	if !hasQuery {
		return without, true
	}
	var kept []string
	for item := range strings.SplitSeq(query, "&") {
		keyword, _, _ := strings.Cut(item, "=")
		keyword, err := url.QueryUnescape(keyword)
		if err != nil {
			return "", false
		}
		if !isSecret(keyword) {
			kept = append(kept, item)
		}
	}
	if len(kept) > 0 {
		without += "?" + strings.Join(kept, "&")
	}
	return without, true
}
