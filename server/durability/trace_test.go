//go:build linux

package durability

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var traced = flag.Bool("strace", false, "look at the system calls of the process, which takes strace and the right to trace")

// needStrace skips a test where strace does not work.
func needStrace(t *testing.T) {
	t.Helper()
	if !*traced {
		t.Skip("takes minutes and strace: go test ./server/durability -run 'PowerCut|Syscall|AStop' -strace")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("cannot trace here: %v", err)
	}
	if out, err := exec.Command("strace", "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("cannot trace here: %v\n%s", err, out)
	}
}

// changingCalls are the calls by which a process can change what is on a disk, in
// all their variants, so that one that the model of the disk does not know is
// detected. mmap is one of them: a file that is mapped for writing changes without
// a call.
const changingCalls = "open,openat,openat2,creat,close,write,pwrite64,writev,pwritev,pwritev2,lseek,fsync,fdatasync,sync,syncfs," +
	"sync_file_range,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,truncate," +
	"ftruncate,fallocate,copy_file_range,sendfile,splice,mmap,mknod,mknodat"

// straced is `attachd serve` under strace with these options. attachd is the child,
// not strace: signals and exit codes are those of attachd. The process counts as
// ended only when strace has written the last line.
func straced(dir string, options ...string) *exec.Cmd {
	words := slices.Concat([]string{"-D", "-f", "-q", "-y"}, options, []string{binary(), "serve", "--data-dir", dir, "--listen", "127.0.0.1:0"})
	return exec.Command("strace", words...)
}

// tracedCall is one line of a trace, or the two lines of a call that was
// interrupted by a line of another thread.
type tracedCall struct {
	name   string
	args   []string
	result int64
	failed bool
	made   bool // the failure was injected: the kernel was not called
	began  int  // the number of its line
	ended  int
}

func (c tracedCall) String() string {
	var words []string
	for _, arg := range c.args {
		if path, _ := pathOf(arg); path != "" {
			arg = path
		} else if s, err := stringOf(arg); err == nil {
			arg = strconv.Quote(s[:min(len(s), 40)])
		}
		words = append(words, arg)
	}
	return fmt.Sprintf("%s(%s)", c.name, strings.Join(words, ", "))
}

var (
	callLine    = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>(.*)$`)
	callEnd     = regexp.MustCompile(`^(.*)\) += (-?\d+|0x[0-9a-f]+)(?:<.*>)?(?: (E[A-Z0-9]+) .*)?$`)
)

const unfinished = " <unfinished ...>"

// readTrace reads the output of strace -f -y -xx. Calls that did not return are
// left out: their effect is unknown.
func readTrace(r io.Reader) (calls []tracedCall, err error) {
	begun := map[string]tracedCall{} // by thread; args holds the beginning of the line
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if m := resumedLine.FindStringSubmatch(line); m != nil {
			c, ok := begun[m[1]]
			if !ok {
				return nil, fmt.Errorf("line %d: no beginning of %.200s", n, line)
			}
			delete(begun, m[1])
			calls = appendCall(calls, c, c.args[0]+m[2], n)
			continue
		}
		m := callLine.FindStringSubmatch(line)
		if m == nil {
			continue // a signal, or the end of a thread
		}
		c := tracedCall{name: m[2], began: n}
		if head, cut := strings.CutSuffix(m[3], unfinished); cut {
			c.args = []string{head}
			begun[m[1]] = c
			continue
		}
		calls = appendCall(calls, c, m[3], n)
	}
	// Calls take effect when they end.
	slices.SortStableFunc(calls, func(a, b tracedCall) int { return cmp.Compare(a.ended, b.ended) })
	return calls, lines.Err()
}

func appendCall(calls []tracedCall, c tracedCall, rest string, line int) []tracedCall {
	m := callEnd.FindStringSubmatch(rest)
	if m == nil {
		return calls
	}
	c.args = strings.Split(m[1], ", ") // strings are hexadecimal, so they have no comma
	c.result, _ = strconv.ParseInt(m[2], 0, 64)
	c.failed = m[3] != ""
	c.made = strings.HasSuffix(rest, "(INJECTED)")
	c.ended = line
	return append(calls, c)
}

var errCutString = errors.New("strace has cut a string short")

// stringOf reads a string as strace -xx writes it.
func stringOf(arg string) (string, error) {
	inside, ok := strings.CutPrefix(arg, `"`)
	if !ok {
		return "", fmt.Errorf("no string: %.40s", arg)
	}
	inside, ok = strings.CutSuffix(inside, `"`)
	if !ok {
		return "", errCutString
	}
	return unhex(inside)
}

func unhex(s string) (string, error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, `\x`, ""))
	return string(raw), err
}

// pathOf reads the path of a descriptor as strace -y writes it, and whether its
// name was removed.
func pathOf(arg string) (path string, gone bool) {
	_, rest, ok := strings.Cut(arg, "<")
	inside, after, closed := strings.Cut(rest, ">")
	if !ok || !closed {
		return "", false
	}
	path, err := unhex(inside)
	if err != nil || !filepath.IsAbs(path) {
		return "", false
	}
	return path, strings.Contains(after, "deleted")
}

// descriptor is the number before the path.
func descriptor(arg string) int64 {
	number, _, _ := strings.Cut(arg, "<")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// at joins the two arguments by which the calls whose names end in -at name a file.
func at(folder, name string) (string, error) {
	name, err := stringOf(name)
	if err != nil || filepath.IsAbs(name) {
		return filepath.Clean(name), err
	}
	path, _ := pathOf(folder)
	if path == "" {
		return "", fmt.Errorf("no folder: %s", folder)
	}
	return filepath.Join(path, name), nil
}
