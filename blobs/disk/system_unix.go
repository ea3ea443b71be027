//go:build unix

package disk

import (
	"os"
	"syscall"
)

func openNoFollow(root *os.Root, name string) (*os.File, error) {
	return os.OpenFile(path(root, name), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
}
