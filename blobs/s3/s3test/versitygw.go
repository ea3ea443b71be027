package s3test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Required is the environment variable with which tests fail that need an object store which
// is not installed; without it they are skipped.
const Required = "VERSITYGW_REQUIRED"

// The credentials of a Gateway.
const (
	GatewayKey    = "key"
	GatewaySecret = "a-secret-of-the-tests"
)

// patience is how long a test waits for the store to listen.
const patience = time.Minute

// Gateway is an object store on this machine that checks signatures and digests: a
// versitygw. Its bucket, "bucket", is a folder.
type Gateway struct {
	Dir string

	t    testing.TB // of which it is; nil for all
	port string
	cmd  *exec.Cmd
}

// Versitygw starts an object store with an empty bucket, and stops it at the end of the
// test.
func Versitygw(t testing.TB) *Gateway {
	t.Helper()
	g, err := StartVersitygw(t.TempDir())
	switch {
	case errors.Is(err, exec.ErrNotFound) && os.Getenv(Required) == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	g.t = t
	return g
}

// StartVersitygw starts an object store with an empty bucket in a folder. Call Kill at the
// end. exec.ErrNotFound when it is not installed.
func StartVersitygw(dir string) (*Gateway, error) {
	if _, err := exec.LookPath("versitygw"); err != nil {
		return nil, fmt.Errorf("needs versitygw, an object store: go install github.com/versity/versitygw/cmd/versitygw@v1.8.0: %w", err)
	}
	g := &Gateway{Dir: dir}
	if err := os.Mkdir(filepath.Join(dir, "bucket"), 0o700); err != nil {
		return nil, err
	}
	var err error
	if g.port, err = freePort(); err != nil {
		return nil, err
	}
	return g, g.start()
}

// freePort returns a port at which nobody listens.
func freePort() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	return port, errors.Join(err, listener.Close())
}

// Start starts the store of a test again, after a Kill.
func (g *Gateway) Start() {
	g.t.Helper()
	if err := g.start(); err != nil {
		g.t.Fatal(err)
	}
}

// start starts the store, and waits until it listens.
func (g *Gateway) start() error {
	var said bytes.Buffer
	g.cmd = exec.Command("versitygw", "--port", g.Host("127.0.0.1"), "--quiet", "posix", g.Dir)
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+GatewayKey, "ROOT_SECRET_KEY="+GatewaySecret)
	g.cmd.Stdout, g.cmd.Stderr = &said, &said
	if err := g.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", g.Host("127.0.0.1"))
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			g.Kill()
			return fmt.Errorf("versitygw does not listen: %s", &said)
		}
	}
}

// Kill ends the store at once.
func (g *Gateway) Kill() {
	_ = g.cmd.Process.Kill() // it may have ended
	_ = g.cmd.Wait()         // reports that it was killed
}

// Host is the store's address, by one of the names of this machine.
func (g *Gateway) Host(name string) string { return net.JoinHostPort(name, g.port) }

// Env is the configuration of a server that keeps its contents in the store at a host.
func Env(host string) []string {
	return []string{
		"ATTACHD_STORAGE_BACKEND=s3", "ATTACHD_STORAGE_S3_ENDPOINT=http://" + host, "ATTACHD_STORAGE_S3_BUCKET=bucket",
		"ATTACHD_STORAGE_S3_ACCESS_KEY=" + GatewayKey, "ATTACHD_STORAGE_S3_SECRET_KEY=" + GatewaySecret,
	}
}

// Objects lists the objects of contents in the bucket. The server may delete some meanwhile.
func (g *Gateway) Objects() (names []string) {
	root := filepath.Join(g.Dir, "bucket")
	_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.Contains(path, "/blobs/sha256/") {
			names = append(names, strings.TrimPrefix(path, root+"/"))
		}
		return nil
	})
	return names
}
