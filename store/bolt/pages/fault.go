package pages

import "fmt"

// Fault is a damaged part of the file.
type Fault struct {
	Bucket   string // empty: the file as a whole
	Entry    bool   // one entry; otherwise the tree of the bucket's pages
	KeyHolds bool   // of an entry: its key is intact
	What     string // a sentence
}

// EntryFault is the fault of an entry that does not match its checksum.
func EntryFault(bucket, key []byte, keyHolds bool) Fault {
	// Strings, so that the names that callers verify need not be allocated on the
	// heap.
	return Fault{Bucket: string(bucket), Entry: true, KeyHolds: keyHolds,
		What: fmt.Sprintf("In the bucket %q, the entry %x is not what was written.", string(bucket), string(key))}
}

// Values of Fault.Bucket that are not names of buckets.
var (
	Free = []byte("\x00free") // pages that are both free and in use: a change could destroy intact data
	Lost = []byte("\x00lost") // pages that are neither free nor in use: if they are missing somewhere, another fault says so
)
