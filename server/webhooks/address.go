package webhooks

import (
	"fmt"
	"net/netip"
	"syscall"
)

// special are the prefixes in the global unicast ranges that are not on the public
// internet, or lead to another address: from the registries of RFC 6890 and their later
// additions. Of IPv6, only 2000::/3 is public at all.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)

var global6 = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// isPublic reports whether an address is on the public internet.
func isPublic(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.Is6() && !global6.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return a.IsValid()
}

// refusePrivate is a net.Dialer's Control. It checks the resolved address immediately
// before the connection, so a name that resolves to another address the next time (DNS
// rebinding) gains nothing.
func refusePrivate(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the receiver's address %q: %w", address, err)
	}
	if !isPublic(to.Addr()) {
		return fmt.Errorf("the receiver is at %s, which is not on the public internet; webhooks.allow_private allows it", to.Addr())
	}
	return nil
}
