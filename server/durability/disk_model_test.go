//go:build linux

package durability

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A model that does not detect losses proves nothing. These traces are written by
// hand.
func TestTheModelOfADiskSeesWhatAPowerCutTakes(t *testing.T) {
	const (
		create  = "openat(AT_FDCWD</>, \"/d/a\", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</d/a>\n"
		put     = "write(3</d/a>, \"first\", 5) = 5\n"
		sync    = "fsync(3</d/a>) = 0\n"
		syncTop = "fsync(9</d>) = 0\n"
		folders = "mkdirat(9</d>, \"tmp\", 0700) = 0\nmkdirat(9</d>, \"b\", 0700) = 0\n" + syncTop
	)
	for _, c := range []struct {
		name     string
		trace    string
		left     string // at worst
		unsynced string
	}{
		{"all is synced", create + put + sync + syncTop, "a=first", ""},
		{"no sync of the file", create + put + syncTop, "a=", "a: 5 bytes at 0"},
		{"no sync of the folder", create + put + sync, "", "a: its name"},
		{"no sync at all", create + put, "", "a: its name; a: 5 bytes at 0"},
		{"a sync before the write", create + sync + put + syncTop, "a=", "a: 5 bytes at 0"},
		{"a sync that failed", create + put + "fsync(3</d/a>) = -1 EIO (Input/output error)\n" + syncTop, "a=", "a: 5 bytes at 0"},
		{"fdatasync", create + put + "fdatasync(3</d/a>) = 0\n" + syncTop, "a=first", ""},
		{"fdatasync of a length", create + put + "ftruncate(3</d/a>, 2) = 0\nfdatasync(3</d/a>) = 0\n" + syncTop, "a=first", "a: the length 2"},
		{"fsync of a length", create + put + "ftruncate(3</d/a>, 2) = 0\n" + sync + syncTop, "a=fi", ""},
		{"syncfs", create + put + "syncfs(9</d>) = 0\n", "a=first", ""},
		{"syncfs before the write", create + "syncfs(9</d>) = 0\n" + put, "a=", "a: 5 bytes at 0"},
		{"syncfs elsewhere", create + put + "syncfs(9</e>) = 0\n", "", "a: its name; a: 5 bytes at 0"},
		{"blocks for what has none", create + "fallocate(3</d/a>, FALLOC_FL_KEEP_SIZE, 0, 1048576) = 0\n" + put + sync + syncTop, "a=first", ""},
		{"a download", create + put + sync + syncTop + "sendfile(5<TCP:[1]>, 3</d/a>, NULL, 5) = 5\n", "a=first", ""},
		{"two writes", create + put + "write(3</d/a>, \", last\", 6) = 6\n" + sync + syncTop, "a=first, last", ""},
		{"a short write", create + "write(3</d/a>, \"first\", 5) = 2\n" + sync + syncTop, "a=fi", ""},
		{"a write that failed", create + "write(3</d/a>, \"first\", 5) = -1 ENOSPC (No space left on device)\n" + sync + syncTop, "a=", ""},
		{"a write elsewhere", create + put + "pwrite64(3</d/a>, \"F\", 1, 0) = 1\n" + sync + syncTop, "a=First", ""},
		{"a write by another thread while the sync went on",
			create + "fsync(3</d/a> <unfinished ...>\n2 write(3</d/a>, \"first\", 5) = 5\n<... fsync resumed>) = 0\n" + syncTop, "a=", "a: 5 bytes at 0"},
		{"a move without a sync of where it went",
			folders + "openat(8</d/tmp>, \"x\", O_RDWR|O_CREAT, 0600) = 3</d/tmp/x>\nwrite(3</d/tmp/x>, \"first\", 5) = 5\nfsync(3</d/tmp/x>) = 0\n" +
				"renameat(8</d/tmp>, \"x\", 7</d/b>, \"y\") = 0\nfsync(8</d/tmp>) = 0\n", "b/ tmp/", "b/y: its name"},
		{"a move with it",
			folders + "openat(8</d/tmp>, \"x\", O_RDWR|O_CREAT, 0600) = 3</d/tmp/x>\nwrite(3</d/tmp/x>, \"first\", 5) = 5\nfsync(3</d/tmp/x>) = 0\n" +
				"renameat(8</d/tmp>, \"x\", 7</d/b>, \"y\") = 0\nfsync(7</d/b>) = 0\n", "b/ b/y=first tmp/", "tmp/x: its name; tmp/x: that it is gone"},
		{"one file in the place of another",
			create + put + sync + syncTop + "openat(9</d>, \"n\", O_RDWR|O_CREAT, 0600) = 4</d/n>\nwrite(4</d/n>, \"new\", 3) = 3\nfsync(4</d/n>) = 0\n" +
				"renameat(9</d>, \"n\", 9</d>, \"a\") = 0\n", "a=first", "n: its name; a: its name; n: that it is gone"},
		{"a removal", create + put + sync + syncTop + "unlinkat(9</d>, \"a\", 0) = 0\n", "a=first", "a: that it is gone"},
		{"a removal, synced", create + put + sync + syncTop + "unlinkat(9</d>, \"a\", 0) = 0\n" + syncTop, "", ""},
		{"a second name",
			create + put + sync + "linkat(AT_FDCWD</>, \"/d/a\", AT_FDCWD</>, \"/d/b\", 0) = 0\nunlinkat(AT_FDCWD</>, \"/d/a\", 0) = 0\n" + syncTop, "b=first", ""},
		{"a file elsewhere", "openat(AT_FDCWD</>, \"/e/a\", O_RDWR|O_CREAT, 0600) = 3</e/a>\nwrite(3</e/a>, \"first\", 5) = 5\n", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk("/d")
			for _, call := range traceOf(t, c.trace) {
				_, err := d.apply(call)
				must(t, err)
			}
			if left := describe(d.after(noneArrive)); left != c.left {
				t.Errorf("at worst there is %q, not %q", left, c.left)
			}
			if unsynced := strings.Join(d.unsynced(), "; "); unsynced != c.unsynced {
				t.Errorf("not synced: %q, not %q", unsynced, c.unsynced)
			}
		})
	}
}

func TestTheModelOfADiskRefusesWhatItDoesNotKnow(t *testing.T) {
	const create = "openat(AT_FDCWD</>, \"/d/a\", O_RDWR|O_CREAT|O_EXCL, 0600) = 3</d/a>\n"
	for _, trace := range []string{
		"write(3</d/unknown>, \"x\", 1) = 1\n",
		create + "fallocate(3</d/a>, 0, 0, 4096) = 0\n",
		create + "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 3</d/a>, 0) = 0x7f0000000000\n",
		create + "openat(AT_FDCWD</>, \"/d/a\", O_RDWR|O_TRUNC) = 4</d/a>\n",
		create + "symlinkat(\"/d/a\", AT_FDCWD</>, \"/d/b\") = 0\n",
		create + "write(3</d/a>, \"x\"..., 4096) = 4096\n",
	} {
		d := newDisk("/d")
		var err error
		for _, call := range traceOf(t, trace) {
			_, err = d.apply(call)
		}
		if err == nil {
			t.Errorf("taken as if it were known: %s", trace)
		}
	}
}

func TestATornWriteLeavesSomeSectors(t *testing.T) {
	whole := strings.Repeat("x", 8*sector)
	kinds := map[string]bool{}
	for seed := range uint64(64) {
		arrived := content(nil, someArrive(seed, 0)([]change{{kind: write, data: []byte(whole)}}))
		switch n := strings.Count(string(arrived), "x"); {
		case n == 0:
			kinds["none"] = true
		case n == len(whole):
			kinds["all"] = true
		case n%sector == 0:
			kinds["some"] = true
		}
	}
	if len(kinds) != 3 {
		t.Errorf("of 64 torn writes there were only these kinds: %v", kinds)
	}
}

var readable = regexp.MustCompile(`"[^"]*"|<[a-z/][^>.]*>`)

// traceOf converts readable lines to the format of strace.
func traceOf(t *testing.T, text string) []tracedCall {
	t.Helper()
	text = readable.ReplaceAllStringFunc(text, func(s string) string {
		inside := s[1 : len(s)-1]
		var coded strings.Builder
		for _, b := range []byte(inside) {
			coded.WriteString(`\x` + string("0123456789abcdef"[b>>4]) + string("0123456789abcdef"[b&15]))
		}
		return s[:1] + coded.String() + s[len(s)-1:]
	})
	var numbered strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "2 ") {
			line = "1 " + line
		}
		numbered.WriteString(line)
	}
	calls, err := readTrace(strings.NewReader(numbered.String()))
	must(t, err)
	return calls
}

func describe(left image) string {
	var all []string
	for _, path := range slices.Sorted(maps.Keys(left)) {
		switch bytes := left[path]; {
		case path == ".":
		case bytes == nil:
			all = append(all, path+"/")
		default:
			all = append(all, path+"="+string(bytes))
		}
	}
	return strings.Join(all, " ")
}
