//go:build unix

package e2e

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const releaseFiles = "testdata/release/"

// publicKey is the path of a key that signs releases, or of something else beside it.
func publicKey(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(releaseFiles + name)
	check(t, err)
	return path
}

// aRelease is a folder with a release as ssh-keygen signed it, of which one file was not
// downloaded.
func aRelease(t *testing.T, signature string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"SHA256SUMS", "attachd-linux-amd64", "attachd_1.0.0_amd64.deb"} {
		write(t, filepath.Join(dir, name), read(t, releaseFiles+name))
	}
	write(t, filepath.Join(dir, "SHA256SUMS.sig"), read(t, releaseFiles+signature+".sig"))
	return dir
}

func TestAReleaseIsVerified(t *testing.T) {
	t.Parallel()
	for _, signature := range []string{"ed25519-sha512", "ed25519-sha256", "ecdsa-sha512", "ecdsa-sha256", "rsa-sha512", "rsa-sha256"} {
		kind, _, _ := strings.Cut(signature, "-")
		said := ok(t, "verify-release", aRelease(t, signature), "--key", publicKey(t, kind+".pub"))
		for _, want := range []string{"SHA256SUMS is signed with the key SHA256:", "attachd-linux-amd64 is right\n", "attachd_1.0.0_amd64.deb is right\n", "not here, of the same release: 1\n"} {
			if !strings.Contains(said, want) {
				t.Errorf("%s: it says %q, without %q", signature, said, want)
			}
		}
	}
	both := filepath.Join(t.TempDir(), "keys")
	write(t, both, "# of last year\n"+read(t, releaseFiles+"rsa.pub")+"\n"+read(t, releaseFiles+"ed25519.pub"))
	ok(t, "verify-release", aRelease(t, "ed25519-sha512"), "--key", both)
}

// Whatever was changed, the command fails, and says what it found.
func TestAReleaseThatIsNotTheOneSignedIsRefused(t *testing.T) {
	t.Parallel()
	key := publicKey(t, "ed25519.pub")
	flip := func(dir, name string, at int) {
		raw := []byte(read(t, filepath.Join(dir, name)))
		raw[at] ^= 1
		write(t, filepath.Join(dir, name), string(raw))
	}
	for what, c := range map[string]struct {
		code      int
		signature string
		key       string
		change    func(dir string)
		says      string
	}{
		"a program":               {3, "", key, func(dir string) { flip(dir, "attachd-linux-amd64", 3) }, "attachd-linux-amd64 is not the file of this release"},
		"a digest in the list":    {3, "", key, func(dir string) { flip(dir, "SHA256SUMS", 0) }, "the signature is not one of this SHA256SUMS"},
		"a name in the list":      {3, "", key, func(dir string) { flip(dir, "SHA256SUMS", 70) }, "the signature is not one of this SHA256SUMS"},
		"the signature":           {3, "", key, func(dir string) { flip(dir, "SHA256SUMS.sig", 240) }, "SHA256SUMS.sig: "},
		"no signature":            {1, "", key, func(dir string) { remove(t, filepath.Join(dir, "SHA256SUMS.sig")) }, "SHA256SUMS.sig"},
		"something else":          {3, "", key, func(dir string) { write(t, filepath.Join(dir, "SHA256SUMS.sig"), "-----BEGIN PGP SIGNATURE-----\n") }, "not a signature by ssh-keygen"},
		"another key":             {3, "", publicKey(t, "rsa.pub"), nil, "the signature is by another key than SHA256:"},
		"no key":                  {3, "", publicKey(t, "SHA256SUMS"), nil, "has no public key"},
		"for another purpose":     {3, "namespace", key, nil, `a signature for "file"`},
		"of another message":      {3, "message", key, nil, "the signature is not one of this SHA256SUMS"},
		"a list that is too long": {1, "", key, func(dir string) { write(t, filepath.Join(dir, "SHA256SUMS"), strings.Repeat("x", 1<<20+1)) }, "more than"},
		"no file of it": {1, "", key, func(dir string) {
			remove(t, filepath.Join(dir, "attachd-linux-amd64"))
			remove(t, filepath.Join(dir, "attachd_1.0.0_amd64.deb"))
		}, "has none of the files"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			signature := c.signature
			if signature == "" {
				signature = "ed25519-sha512"
			}
			dir := aRelease(t, signature)
			if c.change != nil {
				c.change(dir)
			}
			if said := refused(t, c.code, "verify-release", dir, "--key", c.key); !strings.Contains(said, c.says) {
				t.Errorf("it says %q, without %q", said, c.says)
			}
		})
	}
}

// What the program says it is made of is what was linked into it, for the program itself
// and for another file.
func TestTheProgramSaysWhatItIsMadeOf(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(binary())
	check(t, err)
	other := filepath.Join(t.TempDir(), "other")
	write(t, other, string(raw))
	info, err := buildinfo.Read(bytes.NewReader(raw))
	check(t, err)
	sum := sha256.Sum256(raw)
	for _, typed := range [][]string{{"sbom"}, {"sbom", other}} {
		var bom struct {
			BOMFormat, SpecVersion string
			Metadata               struct {
				Component struct {
					Name   string
					PURL   string
					Hashes []struct{ Alg, Content string }
				}
			}
			Components   []struct{ Type, Name, Version, PURL string }
			Dependencies []struct {
				Ref       string
				DependsOn []string
			}
		}
		check(t, json.Unmarshal([]byte(ok(t, typed...)), &bom))
		main := bom.Metadata.Component
		if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || main.Name != "attachd" || len(main.Hashes) != 1 || main.Hashes[0].Content != hex.EncodeToString(sum[:]) {
			t.Errorf("%q prints %+v", typed, bom)
		}
		want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, m := range info.Deps {
			want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
		}
		var got []string
		for _, c := range bom.Components {
			got = append(got, c.PURL)
		}
		all := bom.Dependencies[len(bom.Dependencies)-1]
		if !slices.Equal(got, want) || all.Ref != main.PURL || !slices.Equal(all.DependsOn, want) {
			t.Errorf("%q has %v, linked are %v", typed, got, want)
		}
	}
	if said := refused(t, 1, "sbom", publicKey(t, "SHA256SUMS")); !strings.Contains(said, "SHA256SUMS: ") {
		t.Errorf("of a file that is no program it says %q", said)
	}
}
