package cli

import (
	"net"
	"testing"
)

// ASVS 3.4.1, 4.1.2, 12.1.1, 12.2.1
func TestPlainHTTPIsWarnedOfWhereOthersReachIt(t *testing.T) {
	t.Parallel()
	for address, others := range map[string]bool{
		"127.0.0.1:8080": false, "127.8.9.1:80": false, "[::1]:8080": false, "[::ffff:127.0.0.1]:8080": false,
		"0.0.0.0:8080": true, "[::]:8080": true, "192.0.2.1:8080": true, "[2001:db8::1]:80": true,
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if othersReach(tcp) != others {
			t.Errorf("others reach %s: %t", address, !others)
		}
	}
}
