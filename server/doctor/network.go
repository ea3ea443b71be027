package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/scan"
	"attachd/server/webhooks"
)

// scanner checks that clamd scans the largest file that is accepted, which clamd itself
// does not report.
func scanner(ctx context.Context, c *Case) []Finding {
	if c.Clamd == nil {
		return ok("Files are not scanned for malware (scan.clamd).")
	}
	if err := c.Clamd.Ping(ctx); err != nil {
		do := "Start it (systemctl start clamav-daemon), and see that scan.clamd is its LocalSocket or TCPSocket and that the server's user may use it."
		if c.Config.Scan.OnError == "accept" {
			return problem(do, "clamd cannot be reached: %v. Files are taken without a scan (scan.on_error).", err)
		}
		return problem(do, "clamd cannot be reached: %v. Uploads are refused (scan.on_error).", err)
	}
	if seen, err := c.Clamd.Probe(ctx, 0); err != nil || !seen {
		return problem("Run freshclam, and see that ScanArchive is on in clamd.conf.", "clamd does not find the test file that every scanner finds: %s.", outcome(err))
	}
	size := int64(c.Config.Limits.MaxFileSize)
	megabytes := (size + 1<<20 - 1) >> 20
	raise := fmt.Sprintf("In clamd.conf, set StreamMaxLength %dM, MaxFileSize %dM, MaxScanSize %dM and AlertExceedsMax yes, then restart clamd; or lower limits.max_file_size.", 2*megabytes, 2*megabytes, 8*megabytes)
	switch seen, err := c.Clamd.Probe(ctx, size); {
	case errors.Is(err, scan.ErrLimit) && c.Config.Scan.OnError == "reject":
		return problem(raise, "clamd does not look at files as large as limits.max_file_size, which are refused therefore: %v.", err)
	case errors.Is(err, scan.ErrLimit):
		return problem(raise, "clamd does not look at files as large as limits.max_file_size, which are taken without a scan: %v.", err)
	case err != nil:
		return problem("See whether clamd is too slow (scan.timeout), and what its log says.", "clamd fails at a file as large as limits.max_file_size: %v.", err)
	case !seen:
		return problem(raise, "clamd calls files as large as limits.max_file_size clean without looking at them.")
	}
	return ok("clamd finds malware in files as large as limits.max_file_size, %d MB.", megabytes)
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "it calls it clean"
}

// receiver checks that the receiver of webhooks answers. It sends no event.
func receiver(ctx context.Context, c *Case) []Finding {
	switch {
	case c.NoReceiver != nil:
		return problem("Make one: (printf whsec_; openssl rand -base64 32) > FILE; chmod 600 FILE", "webhooks.secret_file is of no use, so the server does not start: %v.", c.NoReceiver)
	case c.Receiver == nil:
		return ok("Webhooks are off (webhooks.url is not set).")
	}
	sender := webhooks.NewSender(*c.Receiver, time.Now, "attachd doctor")
	defer sender.Close()
	if err := sender.Reach(ctx); err != nil {
		return problem("See that webhooks.url is right and that the receiver runs, then: attachd webhooks ping", "The receiver of webhooks cannot be reached: %v. Events wait in the outbox.", err)
	}
	return ok("The receiver of webhooks can be reached; `attachd webhooks ping` sends it an event.")
}

// onLoopback reports whether an address of the form host:port, or a host alone, is
// reachable only from this machine.
func onLoopback(host string) bool {
	if strings.HasPrefix(host, config.UnixPrefix) {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}

// listen checks the addresses of the running server, which its command line or a
// service manager may have set, or else tries the configured one.
func listen(ctx context.Context, c *Case) []Finding {
	if c.Running {
		status, err := c.Status(ctx)
		if err != nil {
			return problem("See what its log says.", "The server that runs does not say where it listens: %v.", err)
		}
		var found []Finding
		for _, address := range status.Addresses {
			found = append(found, c.listening("listens", address)...)
		}
		if found == nil { // the server is of an earlier version
			found = c.listening("is set up to listen", c.Config.Listen)
		}
		return found
	}
	address := c.Config.Listen
	if !strings.HasPrefix(address, config.UnixPrefix) {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return problem("Stop what listens there, or set another address with listen.", "The server could not listen: %v.", err)
		}
		address = listener.Addr().String()
		if err := listener.Close(); err != nil {
			return problem("Run this again.", "%v.", err)
		}
	}
	return c.listening("can listen", address)
}

// listening checks an address: a URL, host:port or a socket.
func (c *Case) listening(does, address string) []Finding {
	_, host, isURL := strings.Cut(address, "://")
	if !isURL {
		host = address
	}
	switch {
	case onLoopback(host):
		return ok("The server %s on %s, for this machine only.", does, address)
	case c.Config.TLS.CertFile != "":
		return ok("The server %s on %s, with TLS.", does, address)
	case len(c.Config.TrustedProxies) > 0:
		return ok("The server %s on %s, for its proxies; nobody else should reach it there.", does, address)
	}
	return warning("Listen on 127.0.0.1 and put a proxy with TLS in front, named in trusted_proxies.",
		"The server %s on %s without TLS: keys and files cross the network for everyone to read.", does, address)
}

// CertificateNotice is the remaining validity of a certificate below which the doctor
// and the server warn.
const CertificateNotice = 14 * 24 * time.Hour

// certificate checks that the server can use its certificate, and that clients can.
func certificate(_ context.Context, c *Case) []Finding {
	certFile, keyFile := c.Config.TLS.CertFile, c.Config.TLS.KeyFile
	if certFile == "" {
		return nil
	}
	const do = "Correct tls.cert_file and tls.key_file; the server takes replaced files up by itself."
	if err := datadir.Private(keyFile); err != nil {
		return problem("Close it to others.", "tls.key_file is of no use, so the server does not start: %v.", err)
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return problem(do, "The certificate cannot be used, so the server does not start: %v.", err)
	}
	leaf := pair.Leaf
	switch {
	case datadir.Exposed(keyFile):
		return warning("Close it (chmod 400), unless nobody else is there, as in a container.", "Every user of this machine can read tls.key_file, %s.", keyFile)
	case c.Now.Before(leaf.NotBefore):
		return problem("Set the clock, or wait.", "The certificate is good only from %s on.", leaf.NotBefore.UTC().Format(time.RFC3339))
	case c.Now.After(leaf.NotAfter):
		return problem("Renew it.", "The certificate has expired on %s: clients refuse it.", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.NotAfter.Sub(c.Now) < CertificateNotice:
		return warning("Renew it.", "The certificate expires on %s.", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if u, err := url.Parse(c.Config.PublicURL); err == nil && u.Scheme == "https" && len(c.Config.TrustedProxies) == 0 {
		if err := leaf.VerifyHostname(u.Hostname()); err != nil {
			return problem("Get a certificate for the name in public_url, or correct that.", "The certificate is not for public_url: %v.", err)
		}
	}
	return ok("The certificate is good until %s.", leaf.NotAfter.UTC().Format(time.RFC3339))
}

// publicTimeout is how long the server may take to answer at its public address.
const publicTimeout = 10 * time.Second

func publicURL(ctx context.Context, c *Case) []Finding {
	address := c.Config.PublicURL
	if address == "" {
		if onLoopback(c.Config.Listen) && len(c.Config.TrustedProxies) == 0 {
			return ok("Links begin with the address that a request came to.")
		}
		return warning("Set public_url to the address that people use.", "public_url is not set: links begin with whatever address a request names.")
	}
	u, err := url.Parse(address)
	if err != nil {
		return problem("Correct public_url.", "public_url is no address: %v.", err)
	}
	var found []Finding
	if u.Scheme == "http" && !onLoopback(u.Host) {
		found = warning("Put a proxy with TLS in front, and begin public_url with https.", "public_url is %s: keys and files cross the network for everyone to read.", address)
	}
	if !c.Running {
		return append(found, ok("public_url is %s; whether it leads to the server shows while that runs.", address)...)
	}
	if err := reachable(ctx, address); err != nil {
		return append(found, problem("See that the proxy passes what is below this address on to the server, and that this machine knows the name. Where it cannot know it, try from another: curl "+address+"/health",
			"public_url, %s, does not lead to the server: %v.", address, err)...)
	}
	return append(found, ok("public_url, %s, leads to a server.", address)...)
}

// reachable returns an error unless an attachd server answers at an address.
func reachable(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, publicTimeout)
	defer cancel()
	rq, err := http.NewRequestWithContext(ctx, "GET", address+"/health", nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(rq)
	if err != nil {
		return err
	}
	defer response.Body.Close() // it is only read
	var health struct{ Status string }
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<10)).Decode(&health); err != nil || health.Status != "ok" || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/health is answered %s, and not as attachd does", address, response.Status)
	}
	return nil
}

func trustedProxies(_ context.Context, c *Case) []Finding {
	for _, network := range c.Config.TrustedProxies {
		if bits := network.Bits(); bits < 8 {
			return problem("Name the addresses of the proxies in trusted_proxies, and nothing else.",
				"trusted_proxies has %s: almost anyone may claim to be somebody else there, and links follow what they say.", network)
		}
	}
	behind := strings.HasPrefix(c.Config.PublicURL, "https://") && c.Config.TLS.CertFile == ""
	switch {
	case behind && len(c.Config.TrustedProxies) == 0:
		return warning(`Name the proxy, such as trusted_proxies = ["127.0.0.1"].`, "public_url is https, so a proxy is in front, but trusted_proxies names none: the log has the proxy's address for everyone.")
	case len(c.Config.TrustedProxies) == 0:
		return ok("No proxy is trusted.")
	}
	return ok("trusted_proxies names %d.", len(c.Config.TrustedProxies))
}

func autoCreate(_ context.Context, c *Case) []Finding {
	if c.Config.Directory.AutoCreate && !onLoopback(c.Config.Listen) {
		return warning("Set directory.auto_create to false, and import the directory.", "Whoever has a key can create products, tickets and meetings, and is the admin of what they create (directory.auto_create).")
	}
	return nil
}
