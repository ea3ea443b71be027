package daemon

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"unicode"

	"attachd/server/access"
	"attachd/server/config"
)

// attended reports whether standard error is a terminal at which a person reads it. That
// of the first process of a container, or of what its init starts, is kept as its log,
// which must not have sign-in links.
func (d *daemon) attended() bool {
	return d.Config.Log.Format != "json" && isTerminal(d.Stderr) && os.Getpid() != 1 && os.Getppid() != 1
}

// greet tells a person at a terminal where the server is, how to sign in, and what to do
// next. The lines go past the log's levels and fields, to the same terminal.
func (d *daemon) greet(first bool) {
	dir := d.storage.Dir
	fmt.Fprintf(d.lines, "attachd listens on %s and keeps everything in %s. Ctrl-C stops it.\n", strings.Join(d.srv.Addresses, " and "), dir.Path())
	fmt.Fprintln(d.lines, d.signInLine())
	switch {
	case d.Demo != nil:
		fmt.Fprintf(d.lines, "Next: choose the product Customer 360 there and drop a file on it. Keys of people who see less are in %s.\n", dir.Join(d.Demo.KeysFile))
	case first:
		fmt.Fprintf(d.lines, "Next: in another terminal, make a space and a product for files: %s space add SLUG%s, then %[1]s product add SLUG NAME%[2]s.\n", program(), d.dataDirFlag())
	default:
		fmt.Fprintf(d.lines, "Next: `%s --help` lists the commands, and `%[1]s doctor%s` looks whether all is well here.\n", program(), d.dataDirFlag())
	}
}

// signInLine says how to sign in. The file with the first operator's key may be deleted.
func (d *daemon) signInLine() string {
	page, keyFile := d.pageURL(), d.storage.Dir.Join(AdminKeyFile)
	key, err := os.ReadFile(keyFile)
	switch {
	case page == "":
		return "Browsers reach it through a proxy: set public_url to its address."
	case err != nil:
		return fmt.Sprintf("Open %s/ and sign in with a key: `%s key create USER%s` makes one.", page, program(), d.dataDirFlag())
	}
	return fmt.Sprintf("To sign in, open %s (once, within %d minutes; later with the operator's key in %s).",
		page+d.srv.NewSignInLink(strings.TrimSpace(string(key))), int(access.SignInTTL.Minutes()), keyFile)
}

// pageURL returns the URL at which a browser on this machine reaches the page, without a
// slash at the end; empty if there is none.
func (d *daemon) pageURL() string {
	if d.Config.PublicURL != "" {
		return d.Config.PublicURL
	}
	for i, l := range d.listeners {
		address, ok := l.Addr().(*net.TCPAddr)
		switch {
		case ok && address.IP.IsUnspecified():
			scheme, _, _ := strings.Cut(d.srv.Addresses[i], ":")
			return fmt.Sprintf("%s://localhost:%d", scheme, address.Port)
		case ok:
			return d.srv.Addresses[i]
		}
	}
	return ""
}

// dataDirFlag is what commands need to find this data directory.
func (d *daemon) dataDirFlag() string {
	if d.Config.DataDir == config.Default().DataDir {
		return ""
	}
	dir := d.storage.Dir.Path() // absolute: another terminal may be in another folder
	if strings.ContainsFunc(dir, func(r rune) bool {
		return !strings.ContainsRune("/\\:._-", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		dir = strconv.Quote(dir)
	}
	return " --data-dir " + dir
}

// program is how this program was called, where that is short enough to repeat.
func program() string {
	if os.Args[0] == "./attachd" {
		return os.Args[0]
	}
	return "attachd"
}
