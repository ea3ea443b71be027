package store

import "golang.org/x/sys/windows"

// roomToGrow is none: here the file itself would be made as large at once.
const roomToGrow = 0

// fullErrors are the ways to say that a disk has no room.
var fullErrors = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL}

// replacesOpen says whether a file that is open can be replaced by another.
const replacesOpen = false

// syncDir does nothing: Windows cannot sync a directory.
func syncDir(string) error { return nil }
