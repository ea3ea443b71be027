package cli

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"attachd/server/cli/command"
)

const (
	sumsFile = "SHA256SUMS"
	// sigNamespace says what a signature of a release is for, so that none that the key made
	// for something else passes for one. packaging/release.sh signs with the same.
	sigNamespace = "attachd-release"
	// maxSums is how many bytes SHA256SUMS and its signature may have each.
	maxSums = 1 << 20
)

// VerifyRelease is the command that verifies files of a release before they are installed.
func (a *App) VerifyRelease() *cobra.Command {
	var keyFile string
	cmd := command.WithoutInstallation(&cobra.Command{
		Use:   "verify-release DIR",
		Short: "verify the files of a release with the signature of its SHA256SUMS",
		Long: `Verify the files of a release with the signature of its SHA256SUMS.

DIR has SHA256SUMS, SHA256SUMS.sig and those files of the release that you
downloaded. The public key is not one to take from DIR: it comes from whoever
makes the releases, on another way.`,
		Example: "  attachd verify-release downloads --key attachd-release.pub",
		Args:    command.Exactly("a folder"),
		PreRunE: func(*cobra.Command, []string) error {
			if keyFile == "" {
				return command.Usage("--key must name the file with the public key that releases are signed with")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return a.verifyRelease(args[0], keyFile) },
	})
	cmd.Flags().StringVar(&keyFile, "key", "", "the `file` with the public key, a line as in OpenSSH's .pub files")
	return cmd
}

func (a *App) verifyRelease(dir, keyFile string) error {
	sums, err := readShort(filepath.Join(dir, sumsFile))
	if err != nil {
		return err
	}
	signature, err := readShort(filepath.Join(dir, sumsFile+".sig"))
	if err != nil {
		return err
	}
	keys, err := readShort(keyFile)
	if err != nil {
		return err
	}
	key, err := signedBy(sums, signature, keys)
	if err != nil {
		return command.Fault(fmt.Errorf("%s.sig: %w", sumsFile, err))
	}
	fmt.Fprintf(a.Out, "%s is signed with the key %s\n", sumsFile, ssh.FingerprintSHA256(key))
	return a.compareSums(dir, sums)
}

// compareSums compares the files that are in the folder with the list of a release.
func (a *App) compareSums(dir string, sums []byte) error {
	same, missing := 0, 0
	var faults []error
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		want, name, ok := strings.Cut(lines.Text(), "  ")
		if !ok || len(want) != hex.EncodedLen(sha256.Size) || name == "" || name != filepath.Base(name) || strings.ContainsAny(name, `/\`) {
			return command.Fault(fmt.Errorf("%s has the line %q, which is not one of sha256sum", sumsFile, lines.Text()))
		}
		got, err := command.SHA256Of(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing++
		case err != nil:
			return err
		case got != want:
			faults = append(faults, fmt.Errorf("%s is not the file of this release: its SHA-256 is %s", name, got))
		default:
			same++
			fmt.Fprintf(a.Out, "%s is right\n", name)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if len(faults) > 0 {
		return command.Fault(errors.Join(faults...))
	}
	if same == 0 {
		return fmt.Errorf("%s has none of the files that %s lists", dir, sumsFile)
	}
	if missing > 0 {
		fmt.Fprintf(a.Out, "not here, of the same release: %d\n", missing)
	}
	return nil
}

// sshSignature is a signature by ssh-keygen -Y sign, after its magic bytes
// (PROTOCOL.sshsig of OpenSSH).
type sshSignature struct {
	Version       uint32
	PublicKey     []byte
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     []byte
}

const sshMagic = "SSHSIG"

// signedBy returns which of the keys, which are lines as in authorized_keys, signed the
// message for a release.
func signedBy(message, armored, keys []byte) (ssh.PublicKey, error) {
	block, _ := pem.Decode(armored)
	if block == nil || block.Type != "SSH SIGNATURE" {
		return nil, errors.New("this is not a signature by ssh-keygen")
	}
	raw, hasMagic := bytes.CutPrefix(block.Bytes, []byte(sshMagic))
	var s sshSignature
	if err := ssh.Unmarshal(raw, &s); err != nil || !hasMagic || s.Version != 1 {
		return nil, errors.New("this is not a signature of a known version")
	}
	if s.Namespace != sigNamespace {
		return nil, fmt.Errorf("this is a signature for %.50q, not for a release of attachd", s.Namespace)
	}
	var sum []byte
	switch s.HashAlgorithm {
	case "sha256":
		h := sha256.Sum256(message)
		sum = h[:]
	case "sha512":
		h := sha512.Sum512(message)
		sum = h[:]
	default:
		return nil, fmt.Errorf("the hash %.20q of this signature is not one of SSH's", s.HashAlgorithm)
	}
	var made ssh.Signature
	if err := ssh.Unmarshal(s.Signature, &made); err != nil {
		return nil, errors.New("this signature is damaged")
	}
	key, err := keyIn(keys, s.PublicKey)
	if err != nil {
		return nil, err
	}
	signed := append([]byte(sshMagic), ssh.Marshal(struct {
		Namespace, Reserved, HashAlgorithm string
		Hash                               []byte
	}{s.Namespace, s.Reserved, s.HashAlgorithm, sum})...)
	if made.Format == ssh.KeyAlgoRSA || key.Verify(signed, &made) != nil { // that of RSA is over SHA-1
		return nil, fmt.Errorf("the signature is not one of this %s: do not install these files", sumsFile)
	}
	return key, nil
}

// keyIn returns the key, if it is one of those in lines as in authorized_keys.
func keyIn(keys, wanted []byte) (ssh.PublicKey, error) {
	var found []string
	for {
		key, _, _, rest, err := ssh.ParseAuthorizedKey(keys)
		switch {
		case err != nil && len(found) == 0:
			return nil, errors.New("the file of --key has no public key as in OpenSSH's .pub files")
		case err != nil:
			return nil, fmt.Errorf("the signature is by another key than %s: do not install these files", strings.Join(found, " or "))
		case bytes.Equal(key.Marshal(), wanted):
			return key, nil
		}
		found, keys = append(found, ssh.FingerprintSHA256(key)), rest
	}
}

// readShort reads a file that cannot be as long as others of a release.
func readShort(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	raw, err := io.ReadAll(io.LimitReader(f, maxSums+1))
	if err == nil && len(raw) > maxSums {
		err = fmt.Errorf("%s has more than %d bytes", path, maxSums)
	}
	return raw, err
}
