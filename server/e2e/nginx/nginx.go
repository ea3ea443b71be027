// Package nginx runs nginx in front of servers that are tested.
package nginx

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience is how long a test waits for nginx to listen.
const patience = time.Minute

// FreePort returns a port of this machine at which nothing listens now.
func FreePort(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
}

// Start starts nginx, which must be installed, with servers, of which one listens at an
// address. It ends with the test.
func Start(t testing.TB, address, servers string) {
	t.Helper()
	dir := t.TempDir()
	config := `daemon off; master_process off; pid nginx.pid; error_log stderr;
events {}
http {
	access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
` + servers + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	serve := exec.Command("nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	var said bytes.Buffer
	serve.Stdout, serve.Stderr = &said, &said
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait()
		if t.Failed() {
			t.Logf("nginx said\n%s", &said)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx does not listen: %v", err)
		}
	}
}

// Before starts nginx before servers, to which it sends one request after the other in turn,
// and returns its address.
func Before(t testing.TB, servers ...string) (address string) {
	t.Helper()
	address = "127.0.0.1:" + FreePort(t)
	Start(t, address, `upstream attachd {
	server `+strings.Join(servers, " max_fails=0;\n\tserver ")+` max_fails=0;
}
server {
	listen `+address+`;
	client_max_body_size 0;
	large_client_header_buffers 4 64k;
	ignore_invalid_headers off;
	underscores_in_headers on;
	merge_slashes off;
	location / {
		proxy_pass http://attachd;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_set_header Host $http_host;
		proxy_request_buffering off;
		proxy_next_upstream error timeout http_503;
	}
}
`)
	return address
}
