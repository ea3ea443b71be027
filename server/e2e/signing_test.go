//go:build unix

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// A damaged digit of a key file leaves a key that signs, and links that are
// invalid.
func TestSigningKeysThatRottedAreTold(t *testing.T) {
	t.Parallel()
	const says = "secret.key is not what it was"
	dir := dataDir(t)
	secret := filepath.Join(dir, "secret.key")
	start(t, dir).stop()
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	server := start(t, dir)
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	server.stop()
	server = start(t, dir)
	if strings.Contains(server.stderr(), says) {
		t.Errorf("after rotations by itself it says: %s", server.stderr())
	}
	server.stop()
	whole := read(t, secret)
	for what, rot := range map[string]int{"the key that signs": 5, "an earlier one": 70} {
		digit := whole[rot] ^ 1 // of 0 to f, another one, but for "a" and "f"
		if digit == '`' || digit == 'g' {
			digit = '0'
		}
		write(t, secret, whole[:rot]+string(digit)+whole[rot+1:])
		server = start(t, dir)
		if !strings.Contains(server.stderr(), says) {
			t.Errorf("%s: it says only: %s", what, server.stderr())
		}
		server.stop()
		write(t, secret, whole)
		start(t, dir).stop() // it treats the key as replaced, and records it
	}
}

// Links become invalid when the grace period of their signing key is over, in a
// running server and in the next one.
// ASVS 9.2.3, 13.3.1, 13.3.4
func TestLinksEndWithTheirSigningKey(t *testing.T) {
	t.Parallel()
	dir := dataDir(t)
	server := start(t, dir, autoCreate)
	saved := server.upload(product, "a.txt", "a").want(t, 201)
	link := func() string {
		var document struct {
			DownloadURL string `json:"download_url"`
		}
		server.call(server.key, "GET", saved.download(), nil, "Accept", "application/json").into(t, &document)
		_, path, _ := strings.Cut(document.DownloadURL, "/files/")
		return "/files/" + path
	}
	get := func(path string, status int) {
		t.Helper()
		server.call("", "GET", path, nil).want(t, status)
	}
	first := link()
	ok(t, "key", "rotate-signing", "--data-dir", dir)
	second := link()
	get(first, 200)
	get(second, 200)
	server.stop()
	server = start(t, dir)
	get(first, 200)
	get(second, 200)
	ok(t, "key", "rotate-signing", "--grace", "0", "--data-dir", dir)
	third := link()
	get(first, 403)
	get(second, 403)
	get(third, 200)
	server.stop()
	ok(t, "key", "rotate-signing", "--grace", "0", "--data-dir", dir)
	server = start(t, dir)
	get(first, 403)
	get(third, 403)
	get(link(), 200)
}
