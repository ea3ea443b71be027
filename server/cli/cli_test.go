package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"attachd/blobs/disk"
	"attachd/server"
	"attachd/server/cli/command"
	"attachd/server/config"
	"attachd/server/daemon"
	"attachd/server/datadir"
	"attachd/store/bolt"
)

func TestRefusedSaysWhatTheServerSaid(t *testing.T) {
	for body, says := range map[string]string{
		`{"detail":"There is no user 7.","code":"not_found"}`: "There is no user 7",
		`{"detail":"It has no id.","line":3}`:                 "line 3: It has no id; nothing was changed",
		`{"code":"internal"}`:                                 "the server answered 500 Internal Server Error",
		`<html>`:                                              "the server answered 500 Internal Server Error",
		``:                                                    "the server answered 500 Internal Server Error",
	} {
		if err := refused("500 Internal Server Error", []byte(body)); err.Error() != says {
			t.Errorf("%s is told as %q, not %q", body, err, says)
		}
	}
}

// A server that ends in the middle of an answer is reported in one sentence, by whatever
// error the connection ends.
func TestACutConnectionIsToldInOneSentence(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":         "",
		"half a header":   "HTTP/1.1 200 OK\r\nContent-",
		"half an answer":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
		"half a chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
		"half a progress": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n",
	} {
		c := newClient(func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if _, err := http.ReadRequest(bufio.NewReader(there)); err == nil {
					_, _ = io.WriteString(there, answer)
				}
			}()
			return here, nil
		})
		app := New(nil, nil, nil, command.Streams{Out: io.Discard, Err: io.Discard})
		for how, err := range map[string]error{
			"call": c.call(t.Context(), "DELETE", "/x", nil, nil),
			"work": app.work(t.Context(), c, "/x", nil, nil),
		} {
			if err == nil || err.Error() != "the server ended before its answer was whole: see in its log why, then run this again" {
				t.Errorf("after %s, %s says %v", name, how, err)
			}
		}
	}
}

// A command that needs a feature that the storage lacks reports that, as the server
// does.
func TestACommandSaysWhatTheStorageCannotDo(t *testing.T) {
	for words, says := range map[string]string{
		"compact":       "Compacting the database is not possible with the storage that this server uses",
		"backup copies": "A snapshot of the metadata is not possible with the storage that this server uses",
	} {
		t.Chdir(t.TempDir())
		open := func(_ context.Context, cfg config.Config, _ daemon.Opening) (daemon.Storage, error) {
			storage, err := openStorage(cfg.DataDir)
			storage.Abilities = server.Abilities{}
			return storage, err
		}
		made, err := openStorage("data") // a backup is of what is there
		if err != nil {
			t.Fatal(err)
		}
		made.Close()
		app := New(open, nil, nil, command.Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard})
		root := app.Root(app.Compact(), app.Backup())
		root.SetArgs(append([]string{"--data-dir", "data"}, strings.Fields(words)...))
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

func openStorage(path string) (daemon.Storage, error) {
	dir, err := datadir.Open(path)
	if err != nil {
		return daemon.Storage{}, err
	}
	ballast, none := dir.Ballast()
	db, noStore := bolt.Open(dir.Join("attachd.db"), bolt.Options{})
	disk, noBlobs := disk.Open(path, disk.Options{})
	return daemon.Storage{Dir: dir, Ballast: ballast, Store: db, Blobs: disk}, errors.Join(none, noStore, noBlobs)
}
