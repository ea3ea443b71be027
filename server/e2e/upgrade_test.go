//go:build unix

package e2e

import (
	"archive/tar"
	"compress/gzip"
	le "encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"attachd/server/datadir"
)

// unpackFormat creates a data directory from testdata/formats.
func unpackFormat(t *testing.T, format int) string {
	t.Helper()
	packed, err := os.Open(fmt.Sprintf("testdata/formats/%d.tar.gz", format))
	check(t, err)
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	check(t, err)
	dir := dataDir(t)
	for archive := tar.NewReader(plain); ; {
		entry, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		check(t, err)
		path := filepath.Join(dir, filepath.FromSlash(entry.Name))
		if entry.Typeflag == tar.TypeDir {
			check(t, os.MkdirAll(path, 0o700))
			continue
		}
		raw, err := io.ReadAll(archive)
		check(t, err)
		check(t, os.WriteFile(path, raw, 0o600))
	}
}

func TestDataOfEveryFormatIsTakenOver(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	for i := range 40000 {
		fmt.Fprintf(&lines, "line %d\n", i+1)
	}
	kept := map[string]string{"kept.txt": "kept", "twice.txt": "kept", "lines.txt": lines.String()}
	for format := 1; format <= datadir.Format; format++ {
		t.Run(fmt.Sprint("format ", format), func(t *testing.T) {
			t.Parallel()
			dir := unpackFormat(t, format)
			everything := func(server *process) {
				t.Helper()
				var list []struct {
					ID       string `json:"id"`
					FileName string `json:"file_name"`
				}
				server.get(product+"/attachments").want(t, 200).into(t, &list)
				found := map[string]string{}
				for _, a := range list {
					content := server.call(server.key, "GET", "/catalog/attachments/"+a.ID+"/download", nil, "Accept", "application/octet-stream").want(t, 200).body
					if want, ours := kept[a.FileName]; ours && content != want {
						t.Errorf("%s is %.40q now", a.FileName, content)
					}
					found[a.FileName] = a.ID
				}
				for name := range kept {
					if found[name] == "" {
						t.Errorf("%s is gone", name)
					}
				}
				if found["gone.txt"] != "" {
					t.Error("gone.txt is back")
				}
			}
			server := start(t, dir)
			everything(server)
			server.remove(server.upload(product, "new.txt", "new").want(t, 201).download()).want(t, 200)
			ok(t, "check", "--deep", "--data-dir", dir)
			ok(t, "audit", "verify", "--data-dir", dir)
			if held := ok(t, "hold", "list", "--data-dir", dir); (format >= 8) != strings.Contains(held, "Case 4711") {
				t.Errorf("the holds are %s", held)
			}
			server.stop()
			if now := strings.TrimSpace(read(t, filepath.Join(dir, "FORMAT"))); now != fmt.Sprint(datadir.Format) {
				t.Errorf("it is format %s now, not %d", now, datadir.Format)
			}
			everything(start(t, dir))
		})
	}
}

// A page that nothing uses contains no data, and the older of the two meta pages is
// overwritten next.
func TestLostPagesKeepNoDatabaseFromBeingTakenOver(t *testing.T) {
	t.Parallel()
	const header, pageSize, freeList, commit = 16, 8, 32, 48 // of a meta page
	for format := 1; format <= datadir.Format; format++ {
		for what, spoil := range map[string]func(file, older, newer []byte) bool{
			"the older commit": func(_, older, _ []byte) bool {
				older[commit-20] ^= 4
				return true
			},
			"a lost page": func(file, _, newer []byte) bool {
				at := le.LittleEndian.Uint64(newer[freeList:]) * uint64(le.LittleEndian.Uint32(file[header+pageSize:]))
				count := le.LittleEndian.Uint16(file[at+10:])
				le.LittleEndian.PutUint16(file[at+10:], count-1)
				return count > 0
			},
		} {
			t.Run(fmt.Sprint(what, " in format ", format), func(t *testing.T) {
				t.Parallel()
				dir := unpackFormat(t, format)
				path := filepath.Join(dir, "attachd.db")
				file := []byte(read(t, path))
				older, newer := file[header:], file[header+le.LittleEndian.Uint32(file[header+pageSize:]):]
				if le.LittleEndian.Uint64(older[commit:]) > le.LittleEndian.Uint64(newer[commit:]) {
					older, newer = newer, older
				}
				if !spoil(file, older, newer) {
					t.Skip("no page is free")
				}
				write(t, path, string(file))
				server := start(t, dir)
				server.upload(product, "new.txt", "new").want(t, 201)
				server.stop()
				if found := attachd(t, "check", "--data-dir", dir); what == "a lost page" && (found.code != 3 || !strings.Contains(found.stderr, "To mend it, run `attachd compact`")) {
					t.Errorf("check ends with %d and says %s", found.code, found.stderr)
				}
				ok(t, "compact", "--data-dir", dir)
				ok(t, "check", "--deep", "--data-dir", dir)
			})
		}
	}
}

// A running server of an earlier version would find a format that it does not know
// when it is restarted.
func TestADirectoryInUseIsNotUpgraded(t *testing.T) {
	t.Parallel()
	dir := unpackFormat(t, datadir.Format)
	start(t, dir)
	write(t, filepath.Join(dir, "FORMAT"), "1\n")
	refused(t, 1, "serve", "--data-dir", dir, "--listen", "127.0.0.1:0")
	if now := read(t, filepath.Join(dir, "FORMAT")); now != "1\n" {
		t.Errorf("it is format %s now", now)
	}
}
