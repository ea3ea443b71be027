package memory

import (
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// Available is how many bytes this process and its children may use: the least of what
// GOMEMLIMIT, its control groups and the machine allow; 0 where none of them is known.
func Available() int64 {
	available := int64(math.MaxInt64)
	for _, limit := range []int64{goLimit(), groupLimit(), total()} {
		if limit > 0 {
			available = min(available, limit)
		}
	}
	if available == math.MaxInt64 {
		return 0
	}
	return available
}

// goLimit is GOMEMLIMIT, 0 where it is not set. The limit that a Watch sets does not
// count.
func goLimit() int64 {
	if !limitFromEnvironment {
		return 0
	}
	return debug.SetMemoryLimit(-1)
}

// cgroupLimit is the least memory limit, in bytes, of the control groups of the
// process, of either version; 0 for none. A container may see its own group as the
// root, and read the path that the group has on the host.
func cgroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		groups = []byte("0::/\n")
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var mounts, files []string
		switch {
		case parts[0] == "0":
			mounts, files = []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"}, []string{"memory.max", "memory.high"}
		case parts[1] == "memory":
			mounts, files = []string{"sys/fs/cgroup/memory"}, []string{"memory.limit_in_bytes"}
		}
		for _, mount := range mounts {
			for _, file := range files {
				least = min(least, leastUpwards(root, mount, parts[2], file))
			}
		}
	}
	if least > 1<<60 { // version 1 writes "no limit" as a huge number
		return 0
	}
	return least
}

// leastUpwards is the least number in the files of one name in a group and its
// ancestors.
func leastUpwards(root fs.FS, mount, group, file string) int64 {
	least := int64(math.MaxInt64)
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		text, err := fs.ReadFile(root, path.Join(mount, group, file))
		if err == nil {
			// "max" is no number.
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
		}
		if group == "/" {
			return least
		}
	}
}
