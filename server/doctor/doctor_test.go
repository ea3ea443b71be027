package doctor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"attachd/blobs"
	"attachd/blobs/durable"
	"attachd/server/config"
	"attachd/server/datadir"
	"attachd/server/scan"
	"attachd/server/upkeep"
	"attachd/server/webhooks"
	"attachd/store"
	"attachd/store/bolt"
)

// healthy is an installation whose findings are all ok, apart from those about the
// machine.
func healthy(t *testing.T) *Case {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	must(t, os.MkdirAll(filepath.Join(path, "snapshots"), 0o700))
	for name, content := range map[string]string{
		"attachd.db": "a database", "FORMAT": "1\n", "secret.key": strings.Repeat("0", 64) + "\n", "ballast": strings.Repeat("x", 8<<20),
		"snapshots/" + time.Now().UTC().Add(time.Hour).Format("2006-01-02T15-04-05Z") + ".db": "a snapshot",
	} {
		must(t, os.WriteFile(filepath.Join(path, name), []byte(content), 0o600))
	}
	dir, err := datadir.Find(path)
	must(t, err)
	c := &Case{Config: config.Default(), Dir: dir, Now: time.Now(), Built: time.Now().Add(-time.Hour), Status: func(context.Context) (upkeep.Status, error) {
		return upkeep.Status{LastBackup: time.Now().Add(-time.Hour), LastCheck: time.Now().Add(-time.Hour)}, nil
	}}
	c.Config.Listen = "127.0.0.1:0"
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// found returns the findings of the examination of that name.
func found(t *testing.T, c *Case, name string) (list []Finding) {
	t.Helper()
	all, err := Examine(t.Context(), c)
	must(t, err)
	for _, finding := range all {
		if (finding.Do == "") != (finding.Level == OK) || finding.Says == "" {
			t.Errorf("a finding without advice, or with too much: %+v", finding)
		}
		if finding.Look == name {
			list = append(list, finding)
		}
	}
	return list
}

// ofTheMachine are the examinations that depend on the machine which runs the tests: it
// may have any disk and any limits.
var ofTheMachine = map[string]bool{"file system": true, "sync": true, "disk": true, "ballast": true, "open files": true}

func TestOfAHealthyInstallationEveryLookIsOK(t *testing.T) {
	t.Parallel()
	all, err := Examine(t.Context(), healthy(t))
	must(t, err)
	for _, finding := range all {
		if finding.Level != OK && !ofTheMachine[finding.Look] {
			t.Errorf("%+v", finding)
		}
	}
	if len(all) < 15 {
		t.Errorf("only %d looks: %+v", len(all), all)
	}
}

func TestTheTrashIsToldAndNamedWhereTheDiskIsFull(t *testing.T) {
	t.Parallel()
	c := healthy(t)
	c.Status = func(context.Context) (upkeep.Status, error) {
		return upkeep.Status{Trash: store.Usage{Files: 3, Bytes: 5 << 20}}, nil
	}
	c.Config.Limits.DiskReserve = 1 << 60
	if list := found(t, c, "trash"); len(list) != 1 || list[0].Level != OK || !strings.Contains(list[0].Says, "3 files with 5 MB") {
		t.Errorf("of the trash it says %+v", list)
	}
	if list := found(t, c, "disk"); len(list) != 1 || list[0].Level != Problem || !strings.Contains(list[0].Do, "5 MB are in the trash") {
		t.Errorf("of the disk it says %+v", list)
	}
}

func TestWhatIsBrokenIsFound(t *testing.T) {
	t.Parallel()
	const needsUnix = "unix"
	for _, c := range []struct {
		look  string
		name  string
		spoil func(t *testing.T, c *Case)
		level Level
		says  string
		do    string
		on    string
	}{
		{"configuration", "a variable that means nothing", func(_ *testing.T, c *Case) { c.Warnings = []string{"ATTACHD_X: unknown variable"} }, Warning, "ATTACHD_X", "variable", ""},
		{"data directory", "it is not there", func(t *testing.T, c *Case) { must(t, os.RemoveAll(c.Dir.Path())) }, Warning, "not there yet", "serve", ""},
		{"data directory", "it is a file", func(t *testing.T, c *Case) {
			must(t, os.RemoveAll(c.Dir.Path()))
			must(t, os.WriteFile(c.Dir.Path(), nil, 0o600))
		}, Problem, "not a folder", "data_dir", ""},
		{"data directory", "others may enter", func(t *testing.T, c *Case) { must(t, os.Chmod(c.Dir.Path(), 0o755)) }, Problem, "0755", "chmod 700 ", needsUnix},
		{"data directory", "it is everybody's", func(t *testing.T, c *Case) { must(t, os.Chmod(c.Dir.Path(), os.ModeSticky|0o777)) }, Problem, "others too", "data_dir", needsUnix},
		{"format", "a newer one", func(t *testing.T, c *Case) { must(t, os.WriteFile(c.Dir.Join("FORMAT"), []byte("99\n"), 0o600)) }, Problem, "format 99", "version", ""},
		{"format", "none", func(t *testing.T, c *Case) { must(t, os.Remove(c.Dir.Join("FORMAT"))) }, Problem, "FORMAT", "version", ""},
		{"format", "a restore that was cut off", func(t *testing.T, c *Case) {
			must(t, os.WriteFile(c.Dir.RestoringFile(), []byte("A backup is being restored here.\n"), 0o600))
		}, Problem, "not finished", "attachd restore", ""},
		{"owner", "a file of somebody else", func(t *testing.T, c *Case) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			must(t, os.Lchown(c.Dir.Join("attachd.db"), 12345, 12345))
		}, Problem, "belongs to 12345", "chown -R ", needsUnix},
		{"owner", "a snapshot of somebody else", func(t *testing.T, c *Case) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			path := c.Dir.Join("snapshots/x")
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, os.Lchown(path, 12345, 12345))
		}, Problem, "belongs to 12345", "chown -R ", needsUnix},
		{"secrets", "others may read the secret", func(t *testing.T, c *Case) { must(t, os.Chmod(c.Dir.Join("secret.key"), 0o644)) }, Problem, "mode 0644", "chmod 600 ", needsUnix},
		{"secrets", "others may read the log", func(t *testing.T, c *Case) {
			path := c.Dir.Join("wal/0000000000000001")
			must(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o640)))
		}, Problem, "mode 0640", "chmod 600 ", needsUnix},
		{"secrets", "others may read the database", func(t *testing.T, c *Case) { must(t, os.Chmod(c.Dir.Join("attachd.db"), 0o640)) }, Problem, "mode 0640", "chmod 600 ", needsUnix},
		{"first keys", "the first key", func(t *testing.T, c *Case) { must(t, os.WriteFile(c.Dir.Join("admin.key"), nil, 0o600)) }, Warning, "admin.key", "rm ", ""},
		{"first keys", "the demo's keys", func(t *testing.T, c *Case) { must(t, os.WriteFile(c.Dir.Join("demo-keys.json"), nil, 0o600)) }, Warning, "demo-keys.json", "rm ", ""},
		{"sync", "a directory that cannot be written", func(t *testing.T, c *Case) {
			if os.Geteuid() == 0 {
				t.Skip("root can write everywhere")
			}
			must(t, os.Chmod(c.Dir.Path(), 0o500))
		}, Problem, "cannot be written", "rights", needsUnix},
		{"disk", "less than the reserve is free", func(_ *testing.T, c *Case) { c.Config.Limits.DiskReserve = 1 << 60 }, Problem, "less than the reserve", "Make room", ""},
		{"ballast", "none", func(t *testing.T, c *Case) { must(t, os.Remove(c.Dir.Join("ballast"))) }, Warning, "not there", "Make room", ""},
		{"open files", "more uploads than files", func(_ *testing.T, c *Case) { c.Config.Limits.MaxConcurrentUploads = 1 << 30 }, Warning, "uploads at once need", "LimitNOFILE=", needsUnix},
		{"clock", "before the program was made", func(_ *testing.T, c *Case) { c.Now = c.Built.Add(-time.Second) }, Problem, "was made on", "NTP", ""},
		{"database", "an attachment of tomorrow", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Ahead: c.Now.Add(time.Hour)}, nil)
		}, Problem, "set back", "NTP", ""},
		{"database", "a clock that jumped", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, ClockJump: upkeep.ClockJump{From: c.Now, To: c.Now.AddDate(12, 0, 0)}, SinceJump: 5 * time.Hour}, nil)
		}, Warning, "5 hours of running ago", "NTP", ""},
		{"database", "a backup of tomorrow", func(_ *testing.T, c *Case) { c.status(upkeep.Status{LastBackup: c.Now.Add(24 * time.Hour)}, nil) }, Warning, "not yet", "attachd backup", ""},
		{"database", "no backup", func(_ *testing.T, c *Case) { c.status(upkeep.Status{}, nil) }, Warning, "no record of a backup", "attachd backup", ""},
		{"database", "no check was ever made", func(_ *testing.T, c *Case) { c.status(upkeep.Status{LastBackup: c.Now}, nil) }, Warning, "no record of a check", "attachd check --deep", ""},
		{"database", "an old check", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, LastCheck: c.Now.Add(-40 * 24 * time.Hour)}, nil)
		}, Warning, "40 days ago", "attachd check --deep", ""},
		{"database", "the last check found faults", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, LastCheck: c.Now, LastFound: 3}, nil)
		}, Problem, "found faults, 3 in all", "restore them", ""},
		{"database", "damage that was found otherwise", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, LastCheck: c.Now, Faulty: 2}, nil)
		}, Problem, "missing or damaged, 2 in all", "attachd check", ""},
		{"database", "an old backup", func(_ *testing.T, c *Case) { c.status(upkeep.Status{LastBackup: c.Now.Add(-10 * 24 * time.Hour)}, nil) }, Warning, "10 days ago", "attachd backup", ""},
		{"database", "events wait", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Events: 3, OldestEvent: c.Now.Add(-5 * time.Hour)}, nil)
		}, Warning, "3 of them, the first for 5 hours", "attachd webhooks status", ""},
		{"database", "events were given up", func(_ *testing.T, c *Case) { c.status(upkeep.Status{LastBackup: c.Now, DeadLetters: 2}, nil) }, Warning, "2 of them", "attachd webhooks redeliver", ""},
		{"database", "flushes fail", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Log: upkeep.LogStatus{Contents: 7, Bytes: 64 << 20, MaxBytes: 256 << 20, FailingSince: c.Now.Add(-time.Hour)}}, nil)
		}, Problem, "(7 of them; the write-ahead log is 25 % full)", "make room on the disk", ""},
		{"database", "flushes into a bucket fail", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Storage: upkeep.StorageStatus{Backend: "s3"}, Log: upkeep.LogStatus{Contents: 7, Bytes: 64 << 20, MaxBytes: 256 << 20, FailingSince: c.Now.Add(-time.Hour)}}, nil)
		}, Problem, "cannot be written into the bucket (7 of them", "the object store", ""},
		{"secrets", "others may read a configuration with a secret", func(t *testing.T, c *Case) {
			c.SecretConfig = c.Dir.Join("attachd.toml")
			must(t, os.WriteFile(c.SecretConfig, nil, 0o600))
			must(t, os.Chmod(c.SecretConfig, 0o644))
		}, Warning, "contains storage.s3_secret_key", "storage.s3_secret_key_file", needsUnix},
		{"database", "the log is full", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Log: upkeep.LogStatus{Bytes: 250 << 20, MaxBytes: 256 << 20}}, nil)
		}, Warning, "97 % full", "storage.log_size", ""},
		{"database", "most of it is free", func(_ *testing.T, c *Case) {
			c.status(upkeep.Status{LastBackup: c.Now, Database: store.Size{Bytes: 100 << 20, Free: 60 << 20}}, nil)
		}, Warning, "100 MB, 60 are of no use", "attachd compact", ""},
		{"webhooks", "the receiver cannot be reached", func(_ *testing.T, c *Case) {
			c.Receiver = &webhooks.Receiver{URL: "https://localhost:1/", Timeout: time.Second}
		}, Problem, "not on the public internet", "attachd webhooks ping", ""},
		{"webhooks", "the secret is none", func(_ *testing.T, c *Case) { c.NoReceiver = errors.New("it is empty") }, Problem, "it is empty", "openssl rand", ""},
		{"database", "it cannot be read", func(_ *testing.T, c *Case) { c.status(upkeep.Status{}, errors.New("it is broken")) }, Problem, "it is broken", "newest snapshot", ""},
		{"database", "another process has it", func(_ *testing.T, c *Case) { c.status(upkeep.Status{}, bolt.ErrLocked) }, Warning, "in use", "again", ""},
		{"database", "it is gone, and contents are there", func(t *testing.T, c *Case) {
			must(t, os.Remove(c.Dir.Join("attachd.db")))
			must(t, os.MkdirAll(c.Dir.Join("blobs/sha256/ab"), 0o700))
			must(t, os.WriteFile(c.Dir.Join("blobs/sha256/ab/x"), nil, 0o600))
		}, Problem, "attachd.db is missing", "attachd restore", ""},
		{"certificate", "there is none", func(_ *testing.T, c *Case) { c.Config.TLS.CertFile, c.Config.TLS.KeyFile = "nothing", "nothing" }, Problem, "nothing", "Close", ""},
		{"certificate", "others may read its key", func(t *testing.T, c *Case) {
			c.certificate(t, "files.example", time.Hour)
			must(t, os.Chmod(c.Config.TLS.KeyFile, 0o644))
		}, Problem, "mode 0644", "Close", needsUnix},
		{"certificate", "everybody may read its key, as in a container", func(t *testing.T, c *Case) {
			if os.Geteuid() != 0 {
				t.Skip("only a file of root is taken for a mounted secret")
			}
			c.certificate(t, "files.example", time.Hour)
			must(t, os.Chmod(c.Config.TLS.KeyFile, 0o444))
			if !datadir.Exposed(c.Config.TLS.KeyFile) {
				t.Skip("temporary files are in memory, as mounted secrets are")
			}
		}, Warning, "Every user", "chmod 400", needsUnix},
		{"data directory", "a folder of somebody else", func(t *testing.T, c *Case) {
			must(t, os.Remove(c.Dir.Join("FORMAT")))
			must(t, os.WriteFile(c.Dir.Join("thesis.txt"), nil, 0o600))
		}, Problem, "thesis.txt", "data_dir", ""},
		{"data directory", "one that is to be there, and is empty", func(t *testing.T, c *Case) {
			c.Config.RequireExisting = true
			must(t, os.RemoveAll(c.Dir.Path()))
			must(t, os.Mkdir(c.Dir.Path(), 0o700))
		}, Problem, "missing or empty", "Mount the disk", ""},
		{"certificate", "it has expired", func(t *testing.T, c *Case) { c.certificate(t, "files.example", -time.Hour) }, Problem, "has expired", "Renew", ""},
		{"certificate", "it expires soon", func(t *testing.T, c *Case) { c.certificate(t, "files.example", 24*time.Hour) }, Warning, "expires on", "Renew", ""},
		{"certificate", "it is for another name", func(t *testing.T, c *Case) {
			c.certificate(t, "other.example", 1000*time.Hour)
			c.Config.PublicURL = "https://files.example"
		}, Problem, "not for public_url", "name in public_url", ""},
		{"snapshots", "none", func(t *testing.T, c *Case) { must(t, os.RemoveAll(c.Dir.Join("snapshots"))) }, Warning, "no snapshot", "log", ""},
		{"snapshots", "an old one", func(t *testing.T, c *Case) {
			must(t, os.RemoveAll(c.Dir.Join("snapshots")))
			must(t, os.Mkdir(c.Dir.Join("snapshots"), 0o700))
			old := c.Dir.Join("snapshots/2020-01-01T00-00-00Z.db")
			must(t, os.WriteFile(old, nil, 0o600))
			must(t, os.Chtimes(old, time.Time{}, c.Now.Add(-time.Hour))) // the modification time of the database when it was taken
		}, Warning, "2020-01-01", "log", ""},
		{"listen", "every address", func(_ *testing.T, c *Case) { c.Config.Listen = ":0" }, Warning, "without TLS", "127.0.0.1", ""},
		{"listen", "the port is taken", func(t *testing.T, c *Case) {
			other, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			t.Cleanup(func() { other.Close() })
			c.Config.Listen = other.Addr().String()
		}, Problem, "could not listen", "listen", ""},
		{"listen", "another address than the configured one, for everybody", func(_ *testing.T, c *Case) {
			c.Running = true
			c.Status = func(context.Context) (upkeep.Status, error) {
				return upkeep.Status{Addresses: []string{"unix:/run/attachd.sock", "http://[::]:8792"}}, nil
			}
		}, Warning, "http://[::]:8792 without TLS", "127.0.0.1", ""},
		{"listen", "a server that does not say where", func(_ *testing.T, c *Case) {
			c.Running = true
			c.Status = func(context.Context) (upkeep.Status, error) { return upkeep.Status{}, errors.New("broken") }
		}, Problem, "does not say where", "log", ""},
		{"public_url", "none, and people come from elsewhere", func(_ *testing.T, c *Case) { c.Config.Listen = ":0" }, Warning, "not set", "Set public_url", ""},
		{"public_url", "without TLS", func(_ *testing.T, c *Case) { c.Config.PublicURL = "http://files.example" }, Warning, "read", "https", ""},
		{"public_url", "nobody there", func(_ *testing.T, c *Case) { c.Config.PublicURL, c.Running = "http://127.0.0.1:1", true }, Problem, "does not lead", "proxy", ""},
		{"public_url", "somebody else there", func(t *testing.T, c *Case) {
			c.Config.PublicURL, c.Running = answering(t, 200, "<h1>It works!</h1>"), true
		}, Problem, "not as attachd does", "proxy", ""},
		{"public_url", "the path is not passed on", func(t *testing.T, c *Case) {
			c.Config.PublicURL, c.Running = answering(t, 200, `{"status":"ok"}`)+"/elsewhere", true
		}, Problem, "404", "proxy", ""},
		{"trusted_proxies", "everybody", func(_ *testing.T, c *Case) {
			c.Config.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		}, Problem, "0.0.0.0/0", "Name the addresses", ""},
		{"trusted_proxies", "none behind TLS", func(_ *testing.T, c *Case) { c.Config.PublicURL = "https://files.example" }, Warning, "names none", "Name the proxy", ""},
		{"auto_create", "on a network", func(_ *testing.T, c *Case) { c.Config.Listen, c.Config.Directory.AutoCreate = ":0", true }, Warning, "auto_create", "false", ""},
		{"scanner", "it is not there", func(t *testing.T, c *Case) { c.clamd(t, "unix:"+c.Dir.Join("nothing")) }, Problem, "Uploads are refused", "Start it", ""},
		{"scanner", "it is not there, and files are taken", func(t *testing.T, c *Case) {
			c.clamd(t, "unix:"+c.Dir.Join("nothing"))
			c.Config.Scan.OnError = "accept"
		}, Problem, "without a scan", "Start it", ""},
		{"scanner", "it finds nothing", func(t *testing.T, c *Case) { c.clamd(t, fakeClamd(t, 0, "stream: OK")) }, Problem, "does not find the test file", "freshclam", ""},
		{"scanner", "it calls clean what it does not look at", func(t *testing.T, c *Case) { c.clamd(t, fakeClamd(t, 1<<20, "stream: OK")) }, Problem, "clean without looking", "MaxFileSize 100M", ""},
		{"scanner", "it has limits and says so", func(t *testing.T, c *Case) {
			c.clamd(t, fakeClamd(t, 1<<20, "stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND"))
		}, Problem, "refused therefore", "MaxFileSize 100M", ""},
		{"scanner", "it has limits, and files are taken", func(t *testing.T, c *Case) {
			c.clamd(t, fakeClamd(t, 1<<20, "INSTREAM size limit exceeded. ERROR"))
			c.Config.Scan.OnError = "accept"
		}, Problem, "taken without a scan", "MaxFileSize 100M", ""},
		{"scanner", "it fails", func(t *testing.T, c *Case) { c.clamd(t, fakeClamd(t, 1<<20, "stream: Can't allocate memory ERROR")) }, Problem, "allocate", "log", ""},
	} {
		t.Run(c.look+": "+c.name, func(t *testing.T) {
			t.Parallel()
			if c.on == needsUnix && runtime.GOOS == "windows" {
				t.Skip("Windows has no such thing")
			}
			sick := healthy(t)
			c.spoil(t, sick)
			var all []string
			for _, f := range found(t, sick, c.look) {
				if f.Level == c.level && strings.Contains(f.Says, c.says) && strings.Contains(f.Do, c.do) {
					return
				}
				all = append(all, fmt.Sprintf("%+v", f))
			}
			t.Errorf("found %s\nwant a %s with %q, and %q to do", all, c.level, c.says, c.do)
		})
	}
}

func (c *Case) status(status upkeep.Status, err error) {
	c.Status = func(context.Context) (upkeep.Status, error) { return status, err }
}

func (c *Case) clamd(t *testing.T, address string) {
	t.Helper()
	var err error
	c.Clamd, err = scan.New(address, time.Minute)
	must(t, err)
}

// fakeClamd finds malware in contents of up to most bytes, and replies larger to all
// others.
func fakeClamd(t *testing.T, most int64, larger string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			switch command, _ := r.ReadString(0); command {
			case "zPING\x00":
				io.WriteString(conn, "PONG\x00")
			case "zINSTREAM\x00":
				reply := "stream: Eicar FOUND"
				if streamed(r) > most {
					reply = larger
				}
				io.WriteString(conn, reply+"\x00")
			}
			conn.Close()
		}
	}()
	return "tcp:" + listener.Addr().String()
}

func streamed(r io.Reader) (n int64) {
	for head := make([]byte, 4); ; {
		if _, err := io.ReadFull(r, head); err != nil || string(head) == "\x00\x00\x00\x00" {
			return n
		}
		length := int64(head[0])<<24 | int64(head[1])<<16 | int64(head[2])<<8 | int64(head[3])
		m, _ := io.CopyN(io.Discard, r, length)
		n += m
	}
}

// answering is a server of /health alone.
func answering(t *testing.T, status int, body string) (address string) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

func TestAServerAtItsPublicAddressIsOK(t *testing.T) {
	t.Parallel()
	c := healthy(t)
	c.Config.PublicURL, c.Running = answering(t, 200, `{"status":"ok"}`), true
	if f := found(t, c, "public_url"); len(f) != 1 || f[0].Level != OK {
		t.Errorf("found %+v", f)
	}
}

func TestAScannerThatLooksAtTheLargestFileIsOK(t *testing.T) {
	t.Parallel()
	c := healthy(t)
	c.clamd(t, fakeClamd(t, int64(c.Config.Limits.MaxFileSize), "stream: OK"))
	if f := found(t, c, "scanner"); len(f) != 1 || f[0].Level != OK || !strings.Contains(f[0].Says, "50 MB") {
		t.Errorf("found %+v", f)
	}
}

func TestFileSystemsThatKeepNoPromises(t *testing.T) {
	t.Parallel()
	for name, level := range map[string]Level{
		"ext4": OK, "xfs": OK, "zfs": OK, "btrfs": OK, "apfs": OK,
		"overlay": Warning, "tmpfs": Warning, "ramfs": Warning, "fuse": Warning,
		"nfs": Problem, "cifs": Problem, "smb": Problem, "9p": Problem, "vfat": Problem, "exfat": Problem,
	} {
		if f := judgeFileSystem("/data", name); len(f) != 1 || f[0].Level != level {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if runtime.GOOS != "linux" {
		return
	}
	if name, err := durable.FileSystem("/proc"); err != nil || name != "" {
		t.Errorf("the file system of /proc is %q: %v", name, err)
	}
}

func TestHowLongASyncMayTake(t *testing.T) {
	t.Parallel()
	for took, level := range map[time.Duration]Level{time.Microsecond: Warning, 50 * time.Microsecond: OK, 20 * time.Millisecond: OK, time.Second: Warning} {
		if f := judgeSync(took); len(f) != 1 || f[0].Level != level {
			t.Errorf("%v: %+v", took, f)
		}
	}
}

func TestTheDoctorLeavesEverythingAsItIs(t *testing.T) {
	t.Parallel()
	c := healthy(t)
	must(t, os.Chmod(c.Dir.Path(), 0o755))
	before := listing(t, c.Dir.Path())
	found(t, c, "")
	if after := listing(t, c.Dir.Path()); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size())
		}
		return err
	}))
	return b.String()
}

// certificate gives the server a certificate for a name, which expires after left.
func (c *Case) certificate(t *testing.T, name string, left time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: c.Now.Add(-2000 * time.Hour), NotAfter: c.Now.Add(left)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	dir := t.TempDir()
	c.Config.TLS.CertFile, c.Config.TLS.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(c.Config.TLS.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600))
	must(t, os.WriteFile(c.Config.TLS.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

func TestWithACertificateTheServerNeedsNoProxy(t *testing.T) {
	c := healthy(t)
	c.certificate(t, "files.example", 1000*time.Hour)
	c.Config.Listen, c.Config.PublicURL = ":0", "https://files.example"
	for _, look := range []string{"listen", "trusted_proxies", "certificate"} {
		for _, finding := range found(t, c, look) {
			if finding.Level != OK {
				t.Errorf("%+v", finding)
			}
		}
	}
}

func TestInodes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		room  blobs.Capacity
		level Level
	}{
		"there is no limit": {blobs.Capacity{}, ""},
		"many are left":     {blobs.Capacity{Files: 1_000_000, FreeFiles: 900_000}, OK},
		"few are left":      {blobs.Capacity{Files: 1_000_000, FreeFiles: 40_000}, Warning},
		"hardly any":        {blobs.Capacity{Files: 1_000_000, FreeFiles: 10}, Problem},
		"none":              {blobs.Capacity{Files: 400}, Problem},
	} {
		found := judgeInodes(c.room)
		if (len(found) == 0) != (c.level == "") || len(found) > 0 && found[0].Level != c.level {
			t.Errorf("%s: found %v, want %q", name, found, c.level)
		}
	}
}
