package memory

import (
	"os"

	"golang.org/x/sys/unix"
)

func groupLimit() int64 { return cgroupLimit(os.DirFS("/")) }

// total is the memory of the machine, in bytes.
func total() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(info.Totalram) * int64(info.Unit)
}
