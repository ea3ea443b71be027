package memory

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// memoryStatus is the structure MEMORYSTATUSEX.
type memoryStatus struct {
	length, load                                           uint32
	total, free, totalPage, freePage, virtual, freeVirtual uint64
	extended                                               uint64
}

var globalMemoryStatus = windows.NewLazySystemDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")

func groupLimit() int64 { return 0 }

// total is the memory of the machine, in bytes.
func total() int64 {
	status := memoryStatus{length: uint32(unsafe.Sizeof(memoryStatus{}))}
	if ok, _, _ := globalMemoryStatus.Call(uintptr(unsafe.Pointer(&status))); ok == 0 {
		return 0
	}
	return int64(status.total)
}
